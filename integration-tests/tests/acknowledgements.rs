//! What an acknowledgement waits for: nothing, the log, the disk, or the sink; for each zone and each action.

use std::path::Path;
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::faults::{Call, Faults, Names};
use hookline_integration_tests::{eventually, kafka, unique};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(10);
/// Long enough for what must not come.
const NOT: Duration = Duration::from_millis(400);
/// What a sync takes where it is slowed.
const SYNC: Duration = Duration::from_millis(1200);

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn publish(client: &mut Client, topic: &str, payload: &str) -> ReasonCode {
    client.publish(topic, payload.as_bytes(), QoS::AtLeastOnce, false).expect("answered")
}

fn send(client: &mut Client, topic: &str, payload: &str) -> u16 {
    client.send(topic, payload.as_bytes(), QoS::AtLeastOnce, false, &Properties::default()).expect("sent")
}

/// The next acknowledgement must be this one's, and a success.
fn acknowledged(client: &mut Client, packet_id: u16) {
    let (found, reason) = client.next_ack(SOON).expect("the connection holds").expect("acknowledged");
    assert!(found == packet_id && !reason.is_error(), "{packet_id} was next, and {found} came with {reason:?}");
}

/// MQTT 3.1.1 has no word for a refusal: the connection ends.
fn refused_by_the_end(result: Result<ReasonCode, Error>) {
    assert!(matches!(result, Err(Error::Io(_))), "{result:?}");
}

fn one_ledger(folder: &Path, name: &str) -> serde_json::Value {
    let ledgers = broker::ledgers(folder);
    ledgers.iter().find(|ledger| ledger["name"] == name).cloned().unwrap_or_else(|| panic!("{name} has an account: {ledgers:?}"))
}

/// A connector, an action and a rule: what is published below `{name}/` goes to SQLite. It takes numbers only, and in the folder
/// `sink` of the data folder where that is there.
fn action(name: &str, settings: &str) -> String {
    format!(
        r#"
        [connectors.{name}]
        type = "sqlite"
        path = "sink/{name}.db"
        [actions.{name}]
        connector = "{name}"
        delivery = {{ retry_initial_ms = 50, retry_max_ms = 200 }}
        {settings}
        [actions.{name}.parameters]
        setup = "CREATE TABLE IF NOT EXISTS t (hookline_id TEXT PRIMARY KEY, n INTEGER NOT NULL)"
        sql = "INSERT INTO t (hookline_id, n) VALUES (${{hookline_id}}, ${{n}}) ON CONFLICT (hookline_id) DO NOTHING"
        [rules.{name}]
        sql = 'SELECT payload.n AS n FROM "{name}/#"'
        actions = ["{name}"]
        "#
    )
}

/// Lets the sinks of [`action`] be there.
fn bring_sinks(folder: &Path) {
    std::fs::create_dir_all(folder.join("data/sink")).expect("made");
}

fn open_sink(folder: &Path, name: &str) -> rusqlite::Connection {
    let flags = rusqlite::OpenFlags::SQLITE_OPEN_READ_WRITE;
    let open = || rusqlite::Connection::open_with_flags(folder.join(format!("data/sink/{name}.db")), flags).ok();
    let has_table = |file: &rusqlite::Connection| file.query_row("SELECT count(*) FROM t", [], |row| row.get::<_, i64>(0)).is_ok();
    eventually("the sink is connected", SOON, || open().filter(has_table))
}

fn rows(file: &rusqlite::Connection) -> Vec<i64> {
    let mut statement = file.prepare("SELECT n FROM t ORDER BY n").expect("prepared");
    let rows = statement.query_map([], |row| row.get(0)).expect("asked");
    rows.collect::<rusqlite::Result<_>>().expect("read")
}

/// How long the acknowledgement of one message takes.
fn took(client: &mut Client, topic: &str) -> Duration {
    let begun = Instant::now();
    let reason = publish(client, topic, r#"{"n": 1}"#);
    assert!(!reason.is_error(), "{topic}: {reason:?}");
    begun.elapsed()
}

fn keeper(broker: &Broker, filter: &str) -> Client {
    let mut keeper = broker.connect(&v5("keeper").persistent(1000));
    assert!(!keeper.subscribe(&[(filter, QoS::AtLeastOnce)]).expect("answered")[0].is_error());
    keeper
}

/// Listeners named after their zones, each with a durability.
fn zones(zones: &[&str]) -> String {
    let zone = |name: &&str| {
        format!("[zones.{name}.mqtt]\ndurability = \"{name}\"\n[listeners.tcp.{name}]\nbind = \"127.0.0.1:0\"\nzone = \"{name}\"\n")
    };
    zones.iter().map(zone).collect()
}

#[test]
fn each_zone_and_each_action_has_its_own_level() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let actions = ["process", "memory", "disk"].map(|level| action(level, &format!("level = \"{level}\""))).concat();
    let broker = faults.start(&[zones(&["process", "memory"]), actions, action("inherits", "")].concat());
    let connect = |listener: &str| Client::connect(broker.address_of(listener), &v5(listener)).expect("connects");
    let (mut strict, mut process, mut memory) = (connect("tcp.default"), connect("tcp.process"), connect("tcp.memory"));
    drop(keeper(&broker, "kept/#"));
    faults.slow(Call::Fsync, "store/", SYNC);
    let waits = |client: &mut Client, topic: &str| assert!(took(client, topic) >= SYNC, "{topic} waits for the sync");
    let goes_on = |client: &mut Client, topic: &str| {
        let took = took(client, topic);
        assert!(took < SYNC / 2, "{topic} does not wait for the sync: {took:?}");
    };
    // Of the zone: for a durable session, and for an action that says nothing.
    waits(&mut strict, "kept/1");
    waits(&mut strict, "inherits/1");
    for topic in ["kept/1", "inherits/1"] {
        goes_on(&mut process, topic);
        goes_on(&mut memory, topic);
    }
    // Of the action, in either direction.
    goes_on(&mut strict, "process/1");
    goes_on(&mut strict, "memory/1");
    waits(&mut strict, "disk/1");
    waits(&mut process, "disk/1");
    waits(&mut memory, "disk/1");
    // What nobody keeps waits for nothing.
    goes_on(&mut strict, "nobody/1");
    // Acknowledgements keep their order: behind a stronger promise the weaker one waits, before it it does not.
    let begun = Instant::now();
    let ids = ["process/1", "disk/1", "process/2", "nobody/1"].map(|topic| send(&mut strict, topic, r#"{"n": 2}"#));
    acknowledged(&mut strict, ids[0]);
    assert!(begun.elapsed() < SYNC / 2, "{:?}", begun.elapsed());
    ids[1..].iter().for_each(|id| acknowledged(&mut strict, *id));
    assert!(begun.elapsed() >= SYNC, "{:?}", begun.elapsed());
}

#[test]
fn one_strict_zone_makes_the_store_sync_and_the_others_do_not_wait_for_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let broker = faults.start(&format!("[store]\nlevel = \"process\"\n{}", zones(&["disk"])));
    let mut strict = Client::connect(broker.address_of("tcp.disk"), &v5("strict")).expect("connects");
    let mut other = broker.connect(&v5("other"));
    drop(keeper(&broker, "kept/#"));
    faults.slow(Call::Fsync, "store/", SYNC);
    assert!(took(&mut strict, "kept/1") >= SYNC);
    assert!(took(&mut other, "kept/2") < SYNC / 2);
}

#[test]
fn what_is_acknowledged_at_level_process_survives_the_end_of_the_process() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let config = format!("{}{}", zones(&["process"]), action("process", "level = \"process\""));
    let broker = faults.start(&config);
    drop(keeper(&broker, "kept/#"));
    let mut client = Client::connect(broker.address_of("tcp.process"), &v5("c")).expect("connects");
    // Nothing is synced any more in this test.
    faults.slow(Call::Fsync, "store/", Duration::from_secs(600));
    let count = 50i64;
    for n in 0..count {
        for topic in ["kept/x", "process/x"] {
            assert!(!publish(&mut client, topic, &format!(r#"{{"n": {n}}}"#)).is_error());
        }
    }
    broker.kill();
    bring_sinks(folder.path());
    let broker = Broker::start(folder.path(), &config);
    let mut keeper = broker.connect(&v5("keeper").persistent(1000));
    for n in 0..count {
        let message = keeper.receive(SOON).expect("holds").expect("was kept");
        assert_eq!(message.payload, format!(r#"{{"n": {n}}}"#).as_bytes());
    }
    let sink = open_sink(folder.path(), "process");
    eventually("the sink has all", SOON, || (rows(&sink) == (0..count).collect::<Vec<_>>()).then_some(()));
}

#[test]
fn accepted_promises_nothing_and_so_never_refuses() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let broker = faults.start(&action("accepted", "ack = \"accepted\"\nqueue = { records_max = 3 }"));
    let mut client = broker.connect(&v5("c"));
    faults.slow(Call::Fsync, "store/", SYNC);
    for _ in 0..5 {
        assert!(took(&mut client, "accepted/1") < SYNC / 2);
    }
    faults.clear();
    assert!(broker.stop().success());
    let ledger = one_ledger(folder.path(), "accepted");
    assert_eq!((&ledger["accepted"], &ledger["pending"], &ledger["dropped"]), (&5.into(), &3.into(), &2.into()), "{ledger}");
}

#[test]
fn delivered_means_that_the_row_is_there() {
    let folder = tempfile::tempdir().expect("a folder");
    bring_sinks(folder.path());
    let broker = Broker::start(folder.path(), &action("d", "ack = \"delivered\""));
    let sink = open_sink(folder.path(), "d");
    let (mut newer, mut older) = (broker.connect(&v5("newer")), broker.connect(&Options::new("older")));
    let mut expect: Vec<i64> = Vec::new();
    for n in 0..10 {
        for (client, qos) in [(&mut newer, QoS::AtLeastOnce), (&mut older, QoS::ExactlyOnce)] {
            let reason = client.publish("d/x", format!(r#"{{"n": {n}}}"#).as_bytes(), qos, false).expect("answered");
            assert_eq!(reason, ReasonCode::Success);
            expect.push(n);
            assert_eq!(rows(&sink), expect, "it is there with the acknowledgement, and not after it");
        }
    }
    // What the sink refuses for good is a dead letter, and that is an end, too.
    assert_eq!(publish(&mut newer, "d/x", r#"{"n": null}"#), ReasonCode::Success);
    assert!(broker.stop().success());
    let ledger = one_ledger(folder.path(), "d");
    assert_eq!((&ledger["delivered"], &ledger["dead_lettered"], &ledger["pending"]), (&20.into(), &1.into(), &0.into()), "{ledger}");
}

/// While another program holds the file of the sink, acknowledgements wait; then they come in the order of their messages.
fn check_order(level: &str) {
    let folder = tempfile::tempdir().expect("a folder");
    bring_sinks(folder.path());
    let config = [action("d", &format!("ack = \"delivered\"\nlevel = \"{level}\"")), action("stored", "")].concat();
    let broker = Broker::start(folder.path(), &config);
    let sink = open_sink(folder.path(), "d");
    let (mut client, mut other, mut gone) = (broker.connect(&v5("c")), broker.connect(&v5("other")), broker.connect(&v5("gone")));
    drop(keeper(&broker, "kept/#"));
    sink.execute_batch("BEGIN IMMEDIATE").expect("locked");
    let topics = ["nobody/0", "d/1", "nobody/1", "stored/1", "kept/1", "d/2", "nobody/2"];
    let ids = topics.map(|topic| send(&mut client, topic, r#"{"n": 1}"#));
    acknowledged(&mut client, ids[0]);
    // Nobody is left to be told: that disturbs nobody.
    send(&mut gone, "d/3", r#"{"n": 3}"#);
    drop(gone);
    let found = client.next_ack(NOT).expect("holds");
    assert!(found.is_none(), "{found:?} came before that of {}", ids[1]);
    // Others do not wait.
    assert!(!publish(&mut other, "kept/1", "x").is_error());
    client.ping().expect("answers");
    sink.execute_batch("ROLLBACK").expect("unlocked");
    ids[1..].iter().for_each(|id| acknowledged(&mut client, *id));
    assert!(rows(&sink).len() >= 2);
    assert!(broker.stop().success());
    assert_eq!(one_ledger(folder.path(), "d")["delivered"], 3);
}

#[test]
fn acknowledgements_that_wait_for_the_sink_keep_their_order() {
    check_order("disk");
}

#[test]
fn acknowledgements_that_wait_for_the_sink_and_not_for_the_disk_keep_their_order() {
    check_order("process");
}

#[test]
fn a_sink_that_is_away_for_too_long_is_a_refusal_and_its_records_stay() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = action("d", "ack = \"delivered\"\nack_timeout_secs = 1");
    let broker = Broker::start(folder.path(), &config);
    let (mut newer, mut older) = (broker.connect(&v5("newer")), broker.connect(&Options::new("older")));
    let begun = Instant::now();
    let ids = [1, 2].map(|n| send(&mut newer, "d/x", &format!(r#"{{"n": {n}}}"#)));
    let third = newer.send("d/x", br#"{"n": 3}"#, QoS::ExactlyOnce, false, &Properties::default()).expect("sent");
    refused_by_the_end(older.publish("d/x", br#"{"n": 4}"#, QoS::AtLeastOnce, false));
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    for id in [ids[0], ids[1], third] {
        let answer = newer.next_ack(SOON).expect("holds");
        assert_eq!(answer, Some((id, ReasonCode::UnspecifiedError)), "in the order of the messages");
    }
    newer.ping().expect("the connection goes on");
    // An acknowledgement that still waits does not hold up the end of the broker.
    send(&mut newer, "d/x", r#"{"n": 5}"#);
    newer.ping().expect("answers");
    assert!(broker.stop().success());
    // The sink comes back: what was refused or never answered arrives nevertheless, and the next one is acknowledged.
    bring_sinks(folder.path());
    let broker = Broker::start(folder.path(), &config);
    let sink = open_sink(folder.path(), "d");
    assert_eq!(publish(&mut broker.connect(&v5("newer")), "d/x", r#"{"n": 6}"#), ReasonCode::Success);
    assert_eq!(rows(&sink), [1i64, 2, 3, 4, 5, 6]);
    assert!(broker.stop().success());
    let ledger = one_ledger(folder.path(), "d");
    assert_eq!((&ledger["accepted"], &ledger["delivered"]), (&6.into(), &6.into()), "{ledger}");
}

#[test]
fn delivered_to_kafka_means_that_it_is_there_and_away_that_it_is_refused() {
    let topic = unique("delivered");
    kafka::create_topic(&topic, 1);
    let folder = tempfile::tempdir().expect("a folder");
    let kafka_action = |name: &str, hosts: &str| {
        format!(
            "[connectors.{name}]\ntype = \"kafka\"\nbootstrap_hosts = \"{hosts}\"\n[actions.{name}]\nconnector = \"{name}\"\nack = \"delivered\"\n\
             ack_timeout_secs = 2\nparameters = {{ topic = \"{topic}\" }}\n[rules.{name}]\nsql = 'SELECT payload.n AS n FROM \"{name}/#\"'\nactions = [\"{name}\"]\n"
        )
    };
    let config = [kafka_action("there", &kafka::hosts()), kafka_action("away", "127.0.0.1:1")].concat();
    let broker = Broker::start(folder.path(), &config);
    let mut client = broker.connect(&v5("c"));
    // The first one may find the connection still to be made.
    eventually("kafka takes records", Duration::from_secs(60), || {
        (!publish(&mut client, "there/x", r#"{"n": 0}"#).is_error()).then_some(())
    });
    for n in 1..4 {
        assert_eq!(publish(&mut client, "there/x", &format!(r#"{{"n": {n}}}"#)), ReasonCode::Success);
        let has = |consumed: &[kafka::Consumed]| consumed.iter().any(|record| record.value["n"] == n);
        assert!(has(&kafka::consume(&topic, 1, SOON, has)), "{n} was acknowledged");
    }
    assert_eq!(publish(&mut client, "away/x", r#"{"n": 1}"#), ReasonCode::UnspecifiedError);
    refused_by_the_end(broker.connect(&Options::new("older")).publish("away/x", br#"{"n": 1}"#, QoS::AtLeastOnce, false));
}
