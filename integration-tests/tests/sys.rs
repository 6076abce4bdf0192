//! What the broker tells about itself: counts by the names that EMQX has, alarms, and workers whose turn took long.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::eventually;
use hookline_integration_tests::faults::{Call, Fault, Faults, Names, Problem};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::{AckKind, Publish};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};
use serde_json::json;

const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
/// Counts every second.
const TELLS: &str = "[sys]\ninterval_secs = 1\n[node]\nname = \"n\"\n";
/// What all topics of the broker begin with.
const PREFIX: &str = "$SYS/brokers/n/";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn subscribe(client: &mut Client, filter: &str, qos: QoS) {
    let codes = client.subscribe(&[(filter, qos)]).expect("answered");
    assert!(!codes[0].is_error(), "{filter}: {codes:?}");
}

/// Who listens to the broker: the last that it has said of each thing.
struct Watcher {
    client: Client,
    seen: BTreeMap<String, String>,
}

impl Watcher {
    /// Listens to what `filter` matches below the node.
    fn new(broker: &Broker, filter: &str) -> Watcher {
        let mut client = broker.connect(&v5("watcher"));
        subscribe(&mut client, &format!("{PREFIX}{filter}"), QoS::AtMostOnce);
        Watcher { client, seen: BTreeMap::new() }
    }

    /// Takes the next thing that is said, where something is in that time.
    fn look(&mut self, wait: Duration) {
        if let Some(message) = self.client.receive(wait).expect("holds") {
            let name = message.topic.strip_prefix(PREFIX).expect("below the node").to_owned();
            self.seen.insert(name, String::from_utf8(message.payload).expect("text"));
        }
    }

    /// Listens until it is so.
    fn until(&mut self, what: &str, is_so: impl Fn(&BTreeMap<String, String>) -> bool) {
        let deadline = Instant::now() + LONG;
        while !is_so(&self.seen) {
            assert!(Instant::now() < deadline, "{what}: {:#?}", self.seen);
            self.look(Duration::from_secs(1));
        }
    }

    /// Listens until these counts are what they should be.
    fn until_counted(&mut self, counts: &[(&str, u64)]) {
        self.until(&format!("{counts:?}"), |seen| counts.iter().all(|(name, count)| seen.get(*name) == Some(&count.to_string())));
    }

    /// Listens until all of these were said: one report is many messages.
    fn until_said(&mut self, names: &[String]) {
        self.until(&format!("{names:?}"), |seen| names.iter().all(|name| seen.contains_key(name)));
    }

    /// Something that was said as JSON.
    fn json(&self, name: &str) -> serde_json::Value {
        serde_json::from_str(&self.seen[name]).expect("JSON")
    }
}

/// Whether an alarm was raised (`activate`) or ended (`deactivate`) last.
fn is_alarm(seen: &BTreeMap<String, String>, change: &str, name: &str) -> bool {
    seen.get(&format!("alarms/{change}")).is_some_and(|alarm| alarm.contains(&format!("\"name\":\"{name}\"")))
}

/// EMQX's stats, each with a count and a maximum.
const STATS: [&str; 13] = [
    "connections",
    "live_connections",
    "channels",
    "sessions",
    "topics",
    "routes",
    "suboptions",
    "subscribers",
    "subscriptions",
    "subscriptions.shared",
    "durable_subscriptions",
    "retained",
    "delayed",
];

#[test]
fn what_there_is_has_the_names_of_emqx_and_a_maximum_that_stays() {
    let folder = folder();
    let broker = Broker::start(folder.path(), TELLS);
    let mut watcher = Watcher::new(&broker, "stats/#");
    let mut device = broker.connect(&v5("device"));
    subscribe(&mut device, "a/+", QoS::AtMostOnce);
    subscribe(&mut device, "$share/g/a/+", QoS::AtMostOnce);
    let mut keeper = broker.connect(&v5("keeper").persistent(1000));
    subscribe(&mut keeper, "b", QoS::AtLeastOnce);
    keeper.disconnect().expect("leaves");
    device.publish("kept", b"x", QoS::AtLeastOnce, true).expect("published");
    device.publish("$delayed/1000/later", b"x", QoS::AtLeastOnce, false).expect("published");
    watcher.until_counted(&[
        ("stats/connections/count", 2),
        ("stats/live_connections/count", 2),
        ("stats/channels/count", 3),
        ("stats/sessions/count", 3),
        ("stats/topics/count", 3),
        ("stats/routes/count", 4),
        ("stats/subscribers/count", 4),
        ("stats/suboptions/count", 4),
        ("stats/subscriptions/count", 4),
        ("stats/subscriptions/shared/count", 1),
        ("stats/durable_subscriptions/count", 1),
        ("stats/retained/count", 1),
        ("stats/delayed/count", 1),
    ]);
    let both = |name: &str| ["count", "max"].map(|what| format!("stats/{}/{what}", name.replace('.', "/")));
    watcher.until_said(&STATS.iter().flat_map(|name| both(name)).collect::<Vec<_>>());
    device.unsubscribe(&["a/+", "$share/g/a/+"]).expect("unsubscribed");
    // Its session ends with a clean start, and its subscription with it.
    drop(broker.connect(&v5("keeper")));
    watcher.until_counted(&[
        ("stats/sessions/count", 2),
        ("stats/topics/count", 1),
        ("stats/routes/count", 1),
        ("stats/subscriptions/count", 1),
        ("stats/subscriptions/shared/count", 0),
        ("stats/durable_subscriptions/count", 0),
        ("stats/topics/max", 3),
        ("stats/routes/max", 4),
        ("stats/subscriptions/max", 4),
        ("stats/subscriptions/shared/max", 1),
        ("stats/durable_subscriptions/max", 1),
    ]);
}

/// EMQX's metrics that mean the same here.
const METRICS: &str = "bytes.received bytes.sent packets.received packets.sent packets.connect.received packets.connack.sent \
    packets.connack.error packets.connack.auth_error packets.publish.received packets.publish.sent packets.publish.inuse \
    packets.publish.error packets.publish.auth_error packets.puback.received packets.puback.sent packets.puback.missed \
    packets.pubrec.received packets.pubrec.sent packets.pubrec.missed packets.pubrel.received packets.pubrel.sent packets.pubrel.missed \
    packets.pubcomp.received packets.pubcomp.sent packets.pubcomp.missed packets.subscribe.received packets.subscribe.error \
    packets.subscribe.auth_error packets.suback.sent packets.unsubscribe.received packets.unsuback.sent packets.pingreq.received \
    packets.pingresp.sent packets.disconnect.received packets.disconnect.sent packets.auth.received packets.auth.sent \
    messages.received messages.sent messages.qos0.received messages.qos0.sent messages.qos1.received messages.qos1.sent \
    messages.qos2.received messages.qos2.sent messages.publish messages.dropped messages.dropped.no_subscribers messages.delayed \
    messages.delivered messages.acked messages.retained delivery.dropped delivery.dropped.no_local delivery.dropped.too_large \
    delivery.dropped.qos0_msg delivery.dropped.queue_full delivery.dropped.expired client.connect client.connack client.connected \
    client.authorize client.subscribe client.unsubscribe client.disconnected session.created session.resumed session.takenover \
    session.discarded session.terminated authorization.allow authorization.deny overload_protection.new_conn";

#[test]
fn what_happens_is_counted_by_the_names_of_emqx() {
    let folder = folder();
    let verifier = "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU=";
    let config = format!("{TELLS}[[banned]]\nclientid = \"broken\"\n[scram.users]\nalice = \"{verifier}\"\n");
    let broker = Broker::start(folder.path(), &config);
    let mut watcher = Watcher::new(&broker, "metrics/#");
    // Two that do not come in: one that is banned, one that does not prove its name.
    let refused = |options: &Options| match Client::connect(broker.address(), options) {
        Err(Error::Refused(reason)) => reason,
        other => panic!("it is refused: {other:?}"),
    };
    assert_eq!(refused(&v5("broken")), ReasonCode::Banned);
    let mut alice = v5("alice");
    alice.connect.username = Some("alice".into());
    assert_eq!(refused(&alice), ReasonCode::NotAuthorized);
    // One that acknowledges what it never got, may not publish below $SYS, and is heard by nobody.
    let mut device = broker.connect(&v5("device"));
    for kind in [AckKind::PubAck, AckKind::PubRec, AckKind::PubRel] {
        device.send_ack(kind, 4242).expect("sent");
    }
    // The PUBREL that answers its PUBREC is answered by it, too.
    device.ping().expect("answers");
    assert_eq!(device.publish("$SYS/mine", b"x", QoS::AtLeastOnce, false).expect("answered"), ReasonCode::NotAuthorized);
    assert_eq!(device.publish("nobody", b"x", QoS::AtLeastOnce, false).expect("answered"), ReasonCode::NoMatchingSubscribers);
    assert!(device.subscribe(&[("$exclusive/x", QoS::AtMostOnce)]).expect("answered")[0].is_error());
    // One that publishes twice under the same identifier.
    let mut raw = TcpStream::connect(broker.address()).expect("connects");
    let mut out = Vec::new();
    v5("raw").connect.encode(&mut out);
    for dup in [false, true] {
        let (qos, properties) = (QoS::ExactlyOnce, Properties::default());
        Publish { dup, qos, retain: false, topic: "nobody", packet_id: 7, properties, payload: b"x" }.encode(&mut out, Version::V5);
    }
    raw.write_all(&out).expect("written");
    watcher.until_counted(&[
        ("metrics/client/connect", 5),
        ("metrics/client/connack", 5),
        ("metrics/client/connected", 3),
        ("metrics/packets/connect/received", 5),
        ("metrics/packets/connack/sent", 5),
        ("metrics/packets/connack/error", 2),
        ("metrics/packets/connack/auth_error", 1),
        ("metrics/packets/puback/missed", 1),
        ("metrics/packets/pubrec/missed", 1),
        ("metrics/packets/pubrel/missed", 1),
        ("metrics/packets/pubcomp/missed", 1),
        ("metrics/packets/publish/inuse", 1),
        ("metrics/packets/publish/error", 1),
        ("metrics/packets/publish/auth_error", 1),
        ("metrics/packets/subscribe/error", 1),
        ("metrics/messages/publish", 2),
        ("metrics/messages/dropped", 2),
        ("metrics/messages/dropped/no_subscribers", 2),
    ]);
    let topics = METRICS.split_whitespace().map(|name| format!("metrics/{}", name.replace('.', "/")));
    watcher.until_said(&topics.collect::<Vec<_>>());
    for name in METRICS.split_whitespace() {
        let topic = format!("metrics/{}", name.replace('.', "/"));
        let count = watcher.seen.get(&topic).unwrap_or_else(|| panic!("{topic} is missing from {:?}", watcher.seen.keys()));
        assert!(count.parse::<u64>().is_ok(), "{topic}: {count}");
    }
}

#[test]
fn an_alarm_says_that_the_store_takes_nothing_and_ends_when_it_does() {
    let folder = folder();
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let broker = faults.start(TELLS);
    let mut watcher = Watcher::new(&broker, "alarms/#");
    watcher.until("nothing is wrong, and that is retained", |seen| seen.get("alarms/active").is_some_and(|list| list == "[]"));
    let mut keeper = broker.connect(&v5("keeper").persistent(1000));
    subscribe(&mut keeper, "k", QoS::AtLeastOnce);
    let mut publisher = broker.connect(&v5("p"));
    faults.fail(&Fault::new(Call::Write, "store/", Problem::NoSpace).until_cleared());
    let mut publish = || publisher.publish("k", b"x", QoS::AtLeastOnce, false).expect("answered");
    assert_eq!(publish(), ReasonCode::QuotaExceeded, "the write fails, and the publisher hears of it");
    watcher.until("the alarm", |seen| is_alarm(seen, "activate", "store_full"));
    let alarm = watcher.json("alarms/activate");
    assert_eq!((&alarm["activated"], &alarm["deactivate_at"]), (&json!(true), &json!("infinity")));
    assert!(alarm["details"]["free_bytes"].is_u64() && alarm["message"].as_str().is_some_and(|text| text.contains("takes nothing new")));
    watcher.until("it is in the list", |seen| seen["alarms/active"].contains("store_full"));
    assert_eq!(publish(), ReasonCode::QuotaExceeded);
    faults.clear();
    watcher.until("its end", |seen| is_alarm(seen, "deactivate", "store_full") && seen["alarms/active"] == "[]");
    let over = watcher.json("alarms/deactivate");
    assert_eq!((&over["activated"], &over["activate_at"]), (&json!(false), &alarm["activate_at"]));
    assert!(over["deactivate_at"].as_u64() >= over["activate_at"].as_u64());
    assert_eq!(publish(), ReasonCode::Success);
    let logged = |text: &str| broker.log().matches(text).count();
    eventually("its end is logged", SOON, || (logged("an alarm is over") > 0).then_some(()));
    assert_eq!((logged("an alarm is active"), logged("an alarm is over")), (1, 1), "each once: {}", broker.log());
}

/// Resident memory of a process, bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

#[test]
fn an_alarm_says_that_memory_is_at_its_bound() {
    let (first, second) = (folder(), folder());
    let idle = memory(Broker::start(first.path(), TELLS).pid());
    let broker = Broker::start(second.path(), &format!("{TELLS}memory_high_bytes = {}\n", idle + (32 << 20)));
    let mut watcher = Watcher::new(&broker, "alarms/#");
    let mut stuck = broker.connect(&v5("stuck"));
    subscribe(&mut stuck, "fill", QoS::AtLeastOnce);
    let mut publisher = broker.connect(&v5("p"));
    for _ in 0..1000 {
        publisher.publish("fill", &[7; 64_000], QoS::AtLeastOnce, false).expect("published");
    }
    watcher.until("the alarm", |seen| is_alarm(seen, "activate", "memory_high"));
    let alarm = watcher.json("alarms/activate");
    assert!(alarm["details"]["bytes"].as_u64() > alarm["details"]["bytes_max"].as_u64(), "{alarm}");
    assert!(Client::connect(broker.address(), &v5("new")).is_err(), "new connections are refused");
}

#[test]
fn who_comes_later_hears_that_the_store_was_damaged() {
    let folder = folder();
    assert!(Broker::start(folder.path(), TELLS).stop().success());
    let current: &Path = &folder.path().join("data/store/CURRENT");
    std::fs::remove_file(current).expect("it is there");
    let broker = Broker::start(folder.path(), TELLS);
    let mut watcher = Watcher::new(&broker, "alarms/active");
    watcher.until("the alarm", |seen| seen.get("alarms/active").is_some_and(|list| list.contains("store_damaged")));
    let list = watcher.json("alarms/active");
    let alarm = list.as_array().expect("a list").iter().find(|alarm| alarm["name"] == "store_damaged").expect("in the list");
    assert!(alarm["details"]["set_aside"][0]["problem"].as_str().is_some_and(|problem| problem.contains("CURRENT")), "{alarm}");
    assert!(Path::new(alarm["details"]["set_aside"][0]["folder"].as_str().expect("text")).is_dir(), "the copy is where it says");
}

fn signal(broker: &Broker, name: &str) {
    assert!(Command::new("kill").args([name, &broker.pid().to_string()]).status().expect("kill runs").success());
}

#[test]
fn a_turn_of_a_worker_that_took_long_is_said() {
    let folder = folder();
    let broker = Broker::start(folder.path(), &format!("{TELLS}workers = 1\n"));
    let mut watcher = Watcher::new(&broker, "sysmon/#");
    let (over, deadline) = (AtomicBool::new(false), Instant::now() + LONG);
    std::thread::scope(|scope| {
        for n in 0..2 {
            let (broker, over) = (&broker, &over);
            scope.spawn(move || {
                let mut client = broker.connect(&v5(&format!("busy-{n}")));
                while !over.load(Ordering::Relaxed) && Instant::now() < deadline {
                    client.send("busy", &[1; 4096], QoS::AtMostOnce, false, &Properties::default()).expect("sent");
                }
            });
        }
        // The process is halted; now and then that is in the middle of a turn.
        eventually("a long turn is said", LONG, || {
            signal(&broker, "-STOP");
            std::thread::sleep(Duration::from_millis(400));
            signal(&broker, "-CONT");
            watcher.look(Duration::from_millis(1500));
            watcher.seen.contains_key("sysmon/long_schedule").then_some(())
        });
        over.store(true, Ordering::Relaxed);
    });
    let text = &watcher.seen["sysmon/long_schedule"];
    assert!(text.starts_with("long_schedule warning: worker = 0, ms = "), "{text}");
    eventually("it is logged", SOON, || broker.log().contains("a turn of a worker took long").then_some(()));
}
