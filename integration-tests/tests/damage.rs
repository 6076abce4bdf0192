//! Start-up always succeeds: whatever is damaged in the data folder, the broker listens, delivers what can be read, says what is
//! lost, and keeps the damaged files aside.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{self, Broker};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, Version};

/// Messages in the tables, and with those that are only in the log.
const IN_TABLES: u64 = 200;
const ALL: u64 = 300;
const SESSIONS: usize = 3;
const RETAINED: usize = 20;
/// Damages that are tried at the same time.
const THREADS: usize = 4;
const SOON: Duration = Duration::from_secs(10);
/// After so long nothing more comes.
const REST: Duration = Duration::from_millis(1200);

const CONFIG: &str = r#"
    [store]
    reserve_bytes = 0
    free_bytes_min = 1048576
    write_buffer_bytes = 4194304
    [connectors.away]
    type = "sqlite"
    path = "sink/x.db"
    [actions.rows]
    connector = "away"
    delivery = { retry_initial_ms = 50, retry_max_ms = 200 }
    [actions.rows.parameters]
    setup = "CREATE TABLE IF NOT EXISTS t (hookline_id TEXT PRIMARY KEY, n INTEGER NOT NULL)"
    sql = "INSERT INTO t (hookline_id, n) VALUES (${hookline_id}, ${n}) ON CONFLICT (hookline_id) DO NOTHING"
    [rules.rows]
    sql = 'SELECT payload.n AS n FROM "t/#"'
    actions = ["rows"]
"#;

/// What must still be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Data {
    /// Everything.
    Whole,
    /// What the tables hold, and of the rest the beginning, the same for all. What is missing is told.
    Beginning,
    /// What is missing is told.
    Told,
}

/// Whether a copy of the store is kept beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Aside {
    Yes,
    No,
    Either,
}

struct Damage {
    name: String,
    data: Data,
    aside: Aside,
    /// A word that the log must have, as an error.
    told: Option<String>,
    apply: Apply,
}

/// Does damage to a data folder.
type Apply = Box<dyn Fn(&Path) + Send + Sync>;

#[test]
fn the_broker_starts_on_every_damage_and_says_what_is_lost() {
    let template = tempfile::tempdir().expect("a folder");
    build(template.path());
    let damages = damages(template.path());
    println!("{} damages", damages.len());
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                while let Some(damage) = damages.get(next.fetch_add(1, Ordering::Relaxed)) {
                    if catch_unwind(AssertUnwindSafe(|| check(template.path(), damage))).is_err() {
                        failed.lock().expect("no panic under the lock").push(damage.name.as_str());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().expect("no panic under the lock");
    assert!(failed.is_empty(), "not as it should be, with the reasons above: {failed:#?}");
}

/// Makes a store with sessions, retained messages and the backlog of an action, partly in tables and partly in the log. What it was
/// before the last start is beside it.
fn build(folder: &Path) {
    let broker = Broker::start(folder, CONFIG);
    for session in 0..SESSIONS {
        let mut client = broker.connect(&session_options(session));
        assert!(!client.subscribe(&[("t/#", QoS::AtLeastOnce)]).expect("answered")[0].is_error());
        client.disconnect().expect("leaves");
    }
    let mut publisher = broker.connect(&Options::new("publisher"));
    for n in 0..RETAINED {
        publisher.publish(&format!("kept/{n}"), &[7; 500], QoS::AtLeastOnce, true).expect("acknowledged");
    }
    publish(&mut publisher, 0..IN_TABLES);
    assert!(broker.stop().success());
    copy(&folder.join("data/store"), &folder.join("older"));
    // The start writes what is in the log into tables.
    let broker = Broker::start(folder, CONFIG);
    publish(&mut broker.connect(&Options::new("publisher")), IN_TABLES..ALL);
    broker.kill();
    assert!(fs::metadata(newest_log(&folder.join("data/store"))).expect("is there").len() > 20_000, "the rest is in the newest log");
}

fn publish(client: &mut Client, numbers: std::ops::Range<u64>) {
    for n in numbers {
        let payload = format!(r#"{{"n": {n}, "filled": "{}"}}"#, "x".repeat(300));
        client.publish("t/x", payload.as_bytes(), QoS::AtLeastOnce, false).expect("acknowledged");
    }
}

fn session_options(session: usize) -> Options {
    Options::new(&format!("session-{session}")).version(Version::V5).persistent(100_000)
}

/// All damages, and none.
fn damages(template: &Path) -> Vec<Damage> {
    let mut all: Vec<Damage> = Vec::new();
    let mut add = |name: &str, data: Data, aside: Aside, told: Option<&str>, apply: Apply| {
        all.push(Damage { name: name.to_owned(), data, aside, told: told.map(str::to_owned), apply });
    };
    add("nothing", Data::Whole, Aside::No, None, Box::new(|_: &Path| {}));
    // The log.
    for cut in [1, 7, 100, 5000] {
        let apply = move |data: &Path| change(&newest_log(&store(data)), |bytes| bytes.truncate(bytes.len() - cut));
        add(&format!("{cut} bytes torn off the log"), Data::Beginning, Aside::No, None, Box::new(apply));
    }
    for percent in [20, 45, 70, 95] {
        let apply = move |data: &Path| change(&newest_log(&store(data)), |bytes| flip(bytes, percent));
        add(&format!("a flipped byte at {percent} % of the log"), Data::Beginning, Aside::Either, None, Box::new(apply));
    }
    let hole = |data: &Path| {
        change(&newest_log(&store(data)), |bytes| {
            let middle = bytes.len() / 2;
            bytes[middle..middle + 4096].fill(0);
        });
    };
    add("zeros in the middle of the log", Data::Beginning, Aside::Either, Some("lost writes"), Box::new(hole));
    let missing = |data: &Path| fs::remove_file(newest_log(&store(data))).expect("removed");
    add("the log is missing", Data::Beginning, Aside::Either, Some("lost writes"), Box::new(missing));
    let empty = |data: &Path| change(&newest_log(&store(data)), Vec::clear);
    add("the log is empty", Data::Beginning, Aside::Either, Some("lost writes"), Box::new(empty));
    // Tables, the largest first.
    let tables = tables(&store(&template.join("data")));
    assert!(tables.len() >= 6, "{tables:?}");
    for (place, table) in tables.iter().take(6).enumerate() {
        let percent = 10 + 15 * place;
        let name = table.clone();
        let apply = move |data: &Path| change(&store(data).join(&name), |bytes| flip(bytes, percent));
        add(&format!("a flipped byte at {percent} % of the table {table}"), Data::Told, Aside::Either, None, Box::new(apply));
    }
    let (largest, smallest) = (tables[0].clone(), tables[tables.len() - 1].clone());
    for (place, percent) in [("beginning", 0), ("end", 100)] {
        let name = largest.clone();
        let apply = move |data: &Path| change(&store(data).join(&name), |bytes| flip(bytes, percent));
        add(&format!("a flipped byte at the {place} of the largest table"), Data::Told, Aside::Either, None, Box::new(apply));
    }
    let every = tables.clone();
    let apply = move |data: &Path| every.iter().for_each(|table| change(&store(data).join(table), |bytes| flip(bytes, 40)));
    add("a flipped byte in every table", Data::Told, Aside::Either, None, Box::new(apply));
    for (what, table) in [("largest", &largest), ("smallest", &smallest)] {
        let (missing, empty) = (table.clone(), table.clone());
        let stem = table.trim_end_matches(".sst").to_owned();
        let apply = move |data: &Path| fs::remove_file(store(data).join(&missing)).expect("removed");
        add(&format!("the {what} table is missing"), Data::Told, Aside::Yes, Some(stem.as_str()), Box::new(apply));
        let apply = move |data: &Path| change(&store(data).join(&empty), Vec::clear);
        add(&format!("the {what} table is empty"), Data::Told, Aside::Yes, Some(stem.as_str()), Box::new(apply));
    }
    // What leads to them: tables and logs have everything, so it can be made anew.
    let missing = |data: &Path| fs::remove_file(manifest(&store(data))).expect("removed");
    add("MANIFEST is missing", Data::Whole, Aside::Yes, Some("MANIFEST"), Box::new(missing));
    let flipped = |data: &Path| change(&manifest(&store(data)), |bytes| flip(bytes, 50));
    add("a flipped byte in MANIFEST", Data::Whole, Aside::Yes, None, Box::new(flipped));
    let halved = |data: &Path| change(&manifest(&store(data)), |bytes| bytes.truncate(bytes.len() / 2));
    add("the half of MANIFEST", Data::Told, Aside::Either, None, Box::new(halved));
    let missing = |data: &Path| fs::remove_file(store(data).join("CURRENT")).expect("removed");
    add("CURRENT is missing", Data::Whole, Aside::Yes, Some("CURRENT"), Box::new(missing));
    let garbage = |data: &Path| fs::write(store(data).join("CURRENT"), "garbage").expect("written");
    add("garbage in CURRENT", Data::Whole, Aside::Yes, None, Box::new(garbage));
    // What nothing depends on.
    let garbage = |data: &Path| {
        let options = files(&store(data)).into_iter().filter(|name| name.starts_with("OPTIONS"));
        options.for_each(|name| fs::write(store(data).join(name), "garbage").expect("written"));
    };
    add("garbage in OPTIONS", Data::Whole, Aside::No, None, Box::new(garbage));
    let missing = |data: &Path| fs::remove_file(store(data).join("IDENTITY")).expect("removed");
    add("IDENTITY is missing", Data::Whole, Aside::No, None, Box::new(missing));
    // The note of what was synced.
    let missing = |data: &Path| fs::remove_file(data.join("store.synced")).expect("removed");
    add("store.synced is missing", Data::Whole, Aside::No, None, Box::new(missing));
    let garbage = |data: &Path| fs::write(data.join("store.synced"), "garbage that is long enough").expect("written");
    add("garbage in store.synced", Data::Whole, Aside::No, None, Box::new(garbage));
    let ahead = |data: &Path| {
        let number = u64::from_le_bytes(fs::read(data.join("store.synced")).expect("is there")[..8].try_into().expect("eight bytes"));
        let ahead = (number + 1_000_000).to_le_bytes();
        fs::write(data.join("store.synced"), [&ahead[..], &crc32c(&ahead).to_le_bytes()].concat()).expect("written");
    };
    add("store.synced is ahead of the log", Data::Whole, Aside::No, Some("lost writes"), Box::new(ahead));
    let older = template.join("older");
    let apply = move |data: &Path| {
        fs::remove_dir_all(store(data)).expect("removed");
        copy(&older, &store(data));
    };
    add("an older store was put in its place", Data::Beginning, Aside::No, Some("lost writes"), Box::new(apply));
    all
}

/// Starts a broker on a damaged copy and looks at what it has.
fn check(template: &Path, damage: &Damage) {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    copy(&template.join("data"), &data);
    copy(&store(&template.join("data")), &store(&data));
    (damage.apply)(&data);
    let broker = Broker::start(folder.path(), CONFIG);
    let sessions: Vec<Vec<u64>> = (0..SESSIONS).map(|session| of_session(&broker, session)).collect();
    let retained = retained(&broker);
    // The sink comes back.
    fs::create_dir_all(data.join("sink")).expect("made");
    let rows = rows(&data);
    serves(&broker);
    let log = broker.log();
    assert!(broker.stop().success(), "{}", damage.name);
    broker::ledgers(folder.path());

    let aside: Vec<PathBuf> =
        files(&data).into_iter().filter(|name| name.starts_with("store.damaged-")).map(|name| data.join(name)).collect();
    let errors: Vec<&str> = log.lines().filter(|line| line.contains(r#""level":"ERROR""#)).collect();
    let found = format!(
        "{}: sessions {:?}, retained {retained}, rows {}, kept aside {aside:?}, errors {errors:#?}",
        damage.name,
        sessions.iter().map(Vec::len).collect::<Vec<_>>(),
        rows.len()
    );
    println!("{found}");
    for numbers in sessions.iter().chain([&rows]) {
        assert!(numbers.is_sorted_by(|a, b| a < b), "in their order: {found}");
    }
    let is_whole = |numbers: &Vec<u64>| numbers.iter().copied().eq(0..ALL);
    let all_there = sessions.iter().all(is_whole) && is_whole(&rows) && retained == RETAINED;
    match damage.data {
        Data::Whole => assert!(all_there, "{found}"),
        Data::Beginning => {
            // One commit has all consequences of a message: they are there together or not at all.
            assert!(rows.len() as u64 >= IN_TABLES && rows.iter().copied().eq(0..rows.len() as u64), "{found}");
            assert!(sessions.iter().all(|numbers| *numbers == rows) && retained == RETAINED, "{found}");
        }
        Data::Told => {}
    }
    assert!(all_there || !errors.is_empty(), "a loss is told: {found}");
    if damage.data == Data::Whole && damage.aside == Aside::No && damage.told.is_none() {
        assert!(errors.is_empty(), "nothing is told where nothing is wrong: {found}");
    }
    if let Some(told) = &damage.told {
        assert!(errors.iter().any(|line| line.contains(told)), "{told:?} is not told: {found}");
    }
    assert!(damage.aside == Aside::Either || aside.is_empty() == (damage.aside == Aside::No), "{found}");
    for kept in aside {
        let name = kept.file_name().and_then(|name| name.to_str()).expect("a name in UTF-8");
        assert!(errors.iter().any(|line| line.contains(name)), "{name} is named in the log: {found}");
        let why = fs::read_to_string(kept.join("WHY.txt")).expect("it says why");
        assert!(!why.trim().is_empty(), "{found}");
    }
}

/// The numbers that wait for a session, each once. A session that cannot be read has none.
fn of_session(broker: &Broker, session: usize) -> Vec<u64> {
    let Ok(mut client) = Client::connect(broker.address(), &session_options(session)) else { return Vec::new() };
    let mut numbers: Vec<u64> = Vec::new();
    while (numbers.len() as u64) < ALL
        && let Some(message) = client.receive(REST).expect("holds")
    {
        let value: serde_json::Value = serde_json::from_slice(&message.payload).expect("the payload is as it was sent");
        let number = value["n"].as_u64().expect("a number");
        if !numbers.contains(&number) {
            numbers.push(number);
        }
    }
    client.disconnect().expect("leaves");
    numbers
}

fn retained(broker: &Broker) -> usize {
    let mut client = broker.connect(&Options::new("looks-at-retained"));
    client.subscribe(&[("kept/#", QoS::AtLeastOnce)]).expect("answered");
    (0..RETAINED).map_while(|_| client.receive(REST).expect("holds")).filter(|message| message.payload == [7; 500]).count()
}

/// The rows of the action, once no more come.
fn rows(data: &Path) -> Vec<u64> {
    let read = || -> rusqlite::Result<Vec<u64>> {
        let file = rusqlite::Connection::open_with_flags(data.join("sink/x.db"), rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        let mut statement = file.prepare("SELECT n FROM t ORDER BY rowid")?;
        let rows = statement.query_map([], |row| row.get::<_, i64>(0).map(|n| n as u64))?;
        rows.collect()
    };
    let (mut rows, mut changed, end) = (Vec::new(), Instant::now(), Instant::now() + SOON / 2);
    // While it is not there yet, the sink is still to be connected.
    while rows.len() as u64 != ALL && Instant::now() < end && (rows.is_empty() || changed.elapsed() < REST) {
        let now = read().unwrap_or_default();
        if now.len() != rows.len() {
            (rows, changed) = (now, Instant::now());
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    rows
}

/// What comes now is served as ever.
fn serves(broker: &Broker) {
    let mut subscriber = broker.connect(&Options::new("newcomer").version(Version::V5).persistent(1000));
    assert!(!subscriber.subscribe(&[("new", QoS::AtLeastOnce)]).expect("answered")[0].is_error());
    broker.connect(&Options::new("publisher")).publish("new", b"x", QoS::AtLeastOnce, false).expect("acknowledged");
    assert_eq!(subscriber.receive(SOON).expect("holds").expect("arrives").payload, b"x");
}

fn store(data: &Path) -> PathBuf {
    data.join("store")
}

/// Copies the files of a folder, without what is below it.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("made");
    for name in files(from) {
        fs::copy(from.join(&name), to.join(&name)).expect("copied");
    }
}

/// The names of what is in a folder; of its folders only those that keep a damaged store.
fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).expect("is read").map(|entry| entry.expect("is read"));
    let names = entries.filter(|entry| entry.path().is_file() || entry.file_name().to_string_lossy().starts_with("store.damaged-"));
    names.map(|entry| entry.file_name().into_string().expect("a name in UTF-8")).collect()
}

/// The log with the highest number: it is written to.
fn newest_log(store: &Path) -> PathBuf {
    store.join(files(store).into_iter().filter(|name| name.ends_with(".log")).max().expect("there is a log"))
}

fn manifest(store: &Path) -> PathBuf {
    store.join(fs::read_to_string(store.join("CURRENT")).expect("is read").trim())
}

/// The tables, the largest first.
fn tables(store: &Path) -> Vec<String> {
    let bytes = |name: &String| fs::metadata(store.join(name)).expect("is there").len();
    let mut tables: Vec<String> = files(store).into_iter().filter(|name| name.ends_with(".sst")).collect();
    tables.sort_by_key(|name| (std::cmp::Reverse(bytes(name)), name.clone()));
    tables
}

fn change(file: &Path, how: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = fs::read(file).expect("is read");
    how(&mut bytes);
    fs::write(file, bytes).expect("is written");
}

/// Flips the byte at that place.
fn flip(bytes: &mut [u8], percent: usize) {
    let place = (bytes.len() * percent / 100).min(bytes.len() - 1);
    bytes[place] ^= 0xFF;
}

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, _| if crc & 1 == 1 { crc >> 1 ^ 0x82F6_3B78 } else { crc >> 1 };
    !bytes.iter().fold(u32::MAX, |crc, byte| (0..8).fold(crc ^ u32::from(*byte), step))
}
