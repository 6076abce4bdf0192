//! `hookline store` and `hookline dlq`: the same while the broker runs and while it does not.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use hookline_integration_tests::broker::{self, Broker, run};
use hookline_integration_tests::eventually;
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(30);

fn durable(id: &str) -> Options {
    Options::new(id).version(Version::V5).persistent(3600)
}

/// Leaves a durable session behind that subscribes to a filter.
fn leave_session(broker: &Broker, id: &str, filter: &str) {
    let mut client = broker.connect(&durable(id));
    client.subscribe(&[(filter, QoS::AtLeastOnce)]).expect("subscribed");
    client.disconnect().expect("leaves");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path in UTF-8")
}

/// Runs a command on a data folder.
fn command(data: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    run(&[arguments, &["--data", text(data)]].concat())
}

/// Runs a command that is to succeed; what it prints as JSON.
fn ask(data: &Path, arguments: &[&str]) -> Value {
    let (code, out, error) = command(data, &[arguments, &["--json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {out}{error}");
    serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{arguments:?}: {problem}: {out}"))
}

#[test]
fn figures_and_check_are_the_same_with_the_broker_and_without_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, socket) = (folder.path().join("data"), folder.path().join("data/hookline.sock"));
    let look = || {
        let stats = ask(&data, &["store", "stats"]);
        assert_eq!((&stats["sessions"], &stats["retained"], &stats["unbalanced"]), (&json!(1), &json!(3), &json!(0)), "{stats}");
        let queue = &stats["queues"][0];
        let expect = (&json!("session"), &json!("away"), &json!(20), &json!(20));
        assert_eq!((&queue["kind"], &queue["name"], &queue["pending"], &queue["accepted"]), expect, "{stats}");
        assert!(queue["oldest_secs"].is_u64(), "{queue}");
        let report = ask(&data, &["store", "check"]);
        assert_eq!((&report["complete"], &report["problem_count"], &report["pending"]), (&json!(true), &json!(0), &json!(20)), "{report}");
        assert_eq!((&report["entries"]["session"], &report["entries"]["retained"]), (&json!(1), &json!(3)), "{report}");
        let (code, out, error) = command(&data, &["store", "check"]);
        assert!(code == Some(0) && out.contains("all of it fits together"), "{out}{error}");
        let (code, out, error) = command(&data, &["store", "stats"]);
        assert!(code == Some(0) && out.contains("away"), "{out}{error}");
    };
    let broker = Broker::start(folder.path(), "");
    leave_session(&broker, "away", "t/#");
    let mut client = broker.connect(&Options::new("p"));
    for number in 0..20 {
        client.publish(&format!("t/{number}"), b"x", QoS::AtLeastOnce, number < 3).expect("published");
    }
    let mode = std::fs::metadata(&socket).expect("the broker has a socket").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "it is for its user only");
    look();
    let done = ask(&data, &["store", "compact"]);
    assert!(done["bytes_before"].is_u64() && done["bytes_after"].is_u64(), "{done}");
    broker.kill();
    assert!(socket.exists(), "a killed broker removes nothing");
    look();
    let broker = Broker::start(folder.path(), "");
    look();
    assert!(broker.stop().success());
    assert!(!socket.exists());
    look();
}

#[test]
fn what_a_command_cannot_do_it_says_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let refuse = |data: &Path, arguments: &[&str], expect: &str| {
        let (code, out, error) = command(data, arguments);
        assert!(code == Some(2) && error.contains(expect), "{arguments:?}: {code:?}, {expect} is not in {out}{error}");
    };
    refuse(&data, &["store", "check"], "there is no store in");
    refuse(&data, &["store", "restore", text(folder.path())], "it is no backup");
    // A path that no socket can have.
    let deep = folder.path().join("x".repeat(110));
    std::fs::create_dir(&deep).expect("made");
    let broker = Broker::start(&deep, "");
    assert!(broker.log().contains("it has no socket"), "{}", broker.log());
    refuse(&deep.join("data"), &["store", "stats"], "shorter path");
    assert!(broker.stop().success());
    ask(&deep.join("data"), &["store", "stats"]);
}

/// Ends the publisher of a test, however the test ends.
struct Done<'a>(&'a AtomicBool);

impl Drop for Done<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

#[test]
fn a_backup_made_under_load_has_every_message_that_was_acknowledged_before() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, backup) = (folder.path().join("data"), folder.path().join("backup"));
    let broker = Broker::start(folder.path(), "");
    leave_session(&broker, "away", "t");
    let (acknowledged, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let before = std::thread::scope(|scope| {
        let _done = Done(&done);
        scope.spawn(|| {
            let mut client = broker.connect(&Options::new("p"));
            for number in 0u64.. {
                if done.load(Ordering::SeqCst) {
                    break;
                }
                client.publish("t", number.to_string().as_bytes(), QoS::AtLeastOnce, false).expect("acknowledged");
                acknowledged.store(number + 1, Ordering::SeqCst);
            }
        });
        eventually("some are acknowledged", SOON, || (acknowledged.load(Ordering::SeqCst) >= 200).then_some(()));
        let before = acknowledged.load(Ordering::SeqCst);
        let made = ask(&data, &["store", "backup", text(&backup)]);
        assert!(made["bytes"].as_u64().is_some_and(|bytes| bytes > 0) && made["node"].is_string(), "{made}");
        eventually("the broker goes on", SOON, || (acknowledged.load(Ordering::SeqCst) > before).then_some(()));
        before
    });
    let (code, _, error) = command(&data, &["store", "backup", text(&backup)]);
    assert!(code == Some(2) && error.contains("exists already"), "{error}");
    let (code, _, error) = command(&data, &["store", "restore", text(&backup)]);
    assert!(code == Some(2) && error.contains("a broker runs on"), "{error}");
    assert!(broker.stop().success());

    // Elsewhere, where nothing was before.
    let other = tempfile::tempdir().expect("a folder");
    let there = other.path().join("data");
    let restored = ask(&there, &["store", "restore", text(&backup)]);
    assert_eq!((&restored["before"], &restored["check"]["problem_count"]), (&Value::Null, &json!(0)), "{restored}");
    let broker = Broker::start(other.path(), "");
    let mut client = broker.connect(&durable("away"));
    assert!(client.session_present(), "the session is in the backup");
    let mut missing: BTreeSet<u64> = (0..before).collect();
    while !missing.is_empty() {
        let message = client.receive(SOON).expect("the connection holds");
        let message = message.unwrap_or_else(|| panic!("{} of {before} are not in the backup: {missing:?}", missing.len()));
        let number = std::str::from_utf8(&message.payload).ok().and_then(|text| text.parse().ok()).expect("a number");
        missing.remove(&number);
    }
    client.disconnect().expect("leaves");
    assert!(broker.stop().success());

    // Once more: what was there before is kept, and is a data folder by itself.
    let restored = ask(&there, &["store", "restore", text(&backup)]);
    let aside = PathBuf::from(restored["before"].as_str().expect("there was a store"));
    assert_eq!(ask(&aside, &["store", "stats"])["sessions"], 1);
    let queue = ask(&there, &["store", "stats"])["queues"][0]["pending"].as_u64();
    assert!(queue.is_some_and(|pending| pending >= before), "everything waits again: {queue:?} of {before}");
}

/// Bytes that no compression changes.
fn noise(mut seed: u64) -> Vec<u8> {
    let mut next = || {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (seed >> 56) as u8
    };
    (0..3000).map(|_| next()).collect()
}

/// Changes a byte in the table file that has `wanted`.
fn flip_a_byte(store: &Path, wanted: &[u8]) {
    for entry in std::fs::read_dir(store).expect("a store").flatten() {
        let path = entry.path();
        if path.extension().is_none_or(|ending| ending != "sst") {
            continue;
        }
        let mut bytes = std::fs::read(&path).expect("readable");
        if let Some(at) = bytes.windows(wanted.len()).position(|window| window == wanted) {
            bytes[at] ^= 1;
            return std::fs::write(&path, bytes).expect("written");
        }
    }
    panic!("the message is in no table");
}

#[test]
fn a_check_finds_a_byte_that_was_flipped() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let broker = Broker::start(folder.path(), "");
    leave_session(&broker, "away", "t");
    let mut client = broker.connect(&Options::new("p"));
    for number in 0..100 {
        client.publish("t", &noise(number), QoS::AtLeastOnce, false).expect("published");
    }
    // Out of the log and into a table.
    ask(&data, &["store", "compact"]);
    ask(&data, &["store", "check"]);
    assert!(broker.stop().success());
    flip_a_byte(&data.join("store"), &noise(50)[1000..1064]);
    let (code, out, error) = command(&data, &["store", "check", "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{problem}: {out}{error}"));
    assert_eq!((code, &report["complete"]), (Some(1), &json!(true)), "{report}");
    let problems = report["problems"].as_array().expect("a list");
    // Chunks of one block are lost together, and no others.
    assert!((1..=4).contains(&problems.len()), "{report}");
    for problem in problems {
        let problem = problem["problem"].as_str().unwrap_or_default();
        assert!(problem.contains("cannot be read") && problem.contains("records of queues wait in it"), "{problem}");
    }
    let (code, out, error) = command(&data, &["store", "check"]);
    assert!(code == Some(1) && out.contains("not all is well") && out.contains("hookline store restore"), "{out}{error}");
}

const NUMBERS: &str = r#"
    [connectors.db]
    type = "sqlite"
    path = "t.db"
    [actions.numbers]
    connector = "db"
    [actions.numbers.parameters]
    setup = "CREATE TABLE IF NOT EXISTS n (id TEXT PRIMARY KEY, v INTEGER CHECK (v < 10))"
    sql = "INSERT INTO n VALUES (${hookline_id}, ${v}) ON CONFLICT (id) DO NOTHING"
    [rules.numbers]
    sql = 'SELECT payload.v AS v FROM "n"'
    actions = ["numbers"]
"#;

fn open(data: &Path) -> rusqlite::Connection {
    let file = rusqlite::Connection::open(data.join("t.db")).expect("opens");
    file.busy_timeout(SOON).expect("set");
    file
}

fn numbers(data: &Path) -> Vec<i64> {
    let file = open(data);
    let mut query = file.prepare("SELECT v FROM n ORDER BY v").expect("a table");
    query.query_map([], |row| row.get(0)).expect("reads").map(|value| value.expect("a number")).collect()
}

/// The dead letters: their sequences and numbers.
fn letters(data: &Path) -> Vec<(u64, i64)> {
    let (code, out, error) = command(data, &["dlq", "list", "numbers", "--json"]);
    assert_eq!(code, Some(0), "{error}");
    let letters = out.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_else(|problem| panic!("{problem}: {line}")));
    letters.map(|letter| (letter["sequence"].as_u64().expect("a number"), letter["row"]["v"].as_i64().expect("a number"))).collect()
}

#[test]
fn dead_letters_are_replayed_into_sqlite_when_the_table_is_mended() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let broker = Broker::start(folder.path(), NUMBERS);
    let mut client = broker.connect(&Options::new("p"));
    for number in [5, 99, 100, 101] {
        client.publish("n", format!(r#"{{"v": {number}}}"#).as_bytes(), QoS::AtLeastOnce, false).expect("published");
    }
    let found = eventually("three dead letters", SOON, || Some(letters(&data)).filter(|letters| letters.len() == 3));
    assert_eq!(found.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [99, 100, 101]);
    let sequences: Vec<String> = found.iter().map(|(sequence, _)| sequence.to_string()).collect();
    let shown = ask(&data, &["dlq", "show", "numbers", &sequences[0]]);
    assert!(shown["error"].as_str().is_some_and(|error| error.contains("CHECK")) && shown["row"]["v"] == 99, "{shown}");
    let (code, out, _) = command(&data, &["dlq", "list", "numbers", "-n", "2"]);
    assert!(code == Some(0) && out.lines().count() == 3 && out.contains("CHECK"), "a heading and two letters: {out}");

    // Before it is mended, the record comes back as another letter.
    assert_eq!(ask(&data, &["dlq", "replay", "numbers", &sequences[0]])["replayed"], 1);
    let found = eventually("it comes back", SOON, || {
        Some(letters(&data))
            .filter(|letters| letters.len() == 3 && letters.iter().all(|(sequence, _)| sequence.to_string() != sequences[0]))
    });
    assert_eq!(found.iter().map(|(_, number)| *number).collect::<Vec<_>>(), [100, 101, 99], "at the end");
    let mended = "BEGIN IMMEDIATE; ALTER TABLE n RENAME TO old; CREATE TABLE n (id TEXT PRIMARY KEY, v INTEGER); \
                  INSERT INTO n SELECT * FROM old; DROP TABLE old; COMMIT";
    open(&data).execute_batch(mended).expect("mended");
    assert_eq!(ask(&data, &["dlq", "replay", "numbers", &found[2].0.to_string()])["replayed"], 1);
    eventually("99 arrives", SOON, || (numbers(&data) == [5, 99]).then_some(()));
    assert_eq!(ask(&data, &["dlq", "purge", "numbers", &sequences[2]])["purged"], 1);
    for (arguments, expect) in [
        (["dlq", "replay", "numbers", sequences[2].as_str()], "there is no dead letter"),
        (["dlq", "show", "nobody", "1"], "there are numbers"),
        (["dlq", "purge", "numbers", "--limit"], "unexpected argument"),
    ] {
        let (code, _, error) = command(&data, &arguments);
        assert!(code == Some(2) && error.contains(expect), "{expect} is not in {error}");
    }
    assert!(broker.stop().success());

    // The last one without the broker, with another value; it is delivered when that runs again.
    assert_eq!(letters(&data).len(), 1);
    let sequence = letters(&data)[0].0.to_string();
    for (change, expect) in [("5", "must be a JSON object"), ("{v: 5}", "invalid value"), (r#"{"v": 98, "more": {"x": 1}}"#, "")] {
        let (code, _, error) = command(&data, &["dlq", "edit", "numbers", &sequence, change]);
        assert!(code == Some(if expect.is_empty() { 0 } else { 2 }) && error.contains(expect), "{change}: {error}");
    }
    assert_eq!(ask(&data, &["dlq", "show", "numbers", &sequence])["row"], json!({"v": 98, "more": {"x": 1}}));
    let done = ask(&data, &["dlq", "replay", "numbers", "--all"]);
    assert_eq!((&done["replayed"], &done["kept"]), (&json!(1), &json!(0)));
    assert!(letters(&data).is_empty());
    let broker = Broker::start(folder.path(), NUMBERS);
    eventually("it arrives as it was changed", SOON, || (numbers(&data) == [5, 98, 99]).then_some(()));
    assert!(broker.stop().success());
    let ledger = &broker::ledgers(folder.path())[0];
    let expect = (&json!(7), &json!(3), &json!(4), &json!(0), &json!(true));
    let of = |name: &str| &ledger[name];
    assert_eq!((of("accepted"), of("delivered"), of("dead_lettered"), of("pending"), of("balances")), expect, "{ledger}");
}
