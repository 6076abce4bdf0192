//! What every sink must stand, one after the other, each against its real server behind a proxy: whatever happens on the way, the
//! account balances and the server has every accepted record, exactly once where the sink can say which it has.

mod rates;
mod servers;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{Broker, binary};
use hookline_integration_tests::proxy::{Proxy, Weather};
use hookline_integration_tests::{eventually, services};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};
use servers::Server;

/// How long all may take to arrive once the way is free.
const LIMIT: Duration = Duration::from_secs(90);
/// Messages that are published in each fault.
const MESSAGES: u64 = 300;

/// A sink under test: its broker, and what was accepted until now.
struct Trial<'a> {
    server: &'a dyn Server,
    folder: tempfile::TempDir,
    broker: Option<Broker>,
    client: Client,
    proxy: Proxy,
    accepted: Vec<u64>,
    poisoned: u64,
    /// The next number to publish.
    next: u64,
}

/// An action, and how it is, as `hookline ctl actions` tells.
fn action(folder: &Path) -> serde_json::Value {
    let output = std::process::Command::new(binary())
        .args(["ctl", "actions", "sink", "-o", "json", "--data"])
        .arg(folder.join("data"))
        .output()
        .expect("the command runs");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn config(server: &dyn Server, proxy: &Proxy, password: bool, queue: &str) -> String {
    let (connector, parameters) = (server.connector(&proxy.address().to_string(), password), server.parameters());
    format!(
        r#"
        [connectors.server]
        {connector}
        [actions.sink]
        connector = "server"
        delivery = {{ retry_initial_ms = 20, retry_max_ms = 300, attempt_timeout_secs = 2, batch_records_max = 64 }}
        {queue}
        [actions.sink.parameters]
        {parameters}
        [rules.all]
        sql = '''SELECT payload.n AS n, payload.word AS word, clientid,
            CASE WHEN payload.word = 'poison' THEN 'poison' ELSE payload.n END AS same FROM "s/#"'''
        actions = ["sink"]
        "#
    )
}

fn client(broker: &Broker) -> Client {
    broker.connect(&Options::new("device").version(Version::V5))
}

impl<'a> Trial<'a> {
    fn new(server: &'a dyn Server) -> Trial<'a> {
        let folder = tempfile::tempdir().expect("a folder");
        let proxy = server.proxy();
        let broker = Broker::start(folder.path(), &config(server, &proxy, true, ""));
        let client = client(&broker);
        Trial { server, folder, client, broker: Some(broker), proxy, accepted: Vec::new(), poisoned: 0, next: 0 }
    }

    /// Ends the broker, and starts it with other settings on the same data.
    fn restart(&mut self, password: bool, queue: &str) {
        assert!(self.broker.take().expect("it runs").stop().success());
        let broker = Broker::start(self.folder.path(), &config(self.server, &self.proxy, password, queue));
        self.client = client(&broker);
        self.broker = Some(broker);
    }

    /// Publishes; what is acknowledged counts as accepted. How many were refused.
    fn publish(&mut self, count: u64, word: &str) -> usize {
        let numbers: Vec<u64> = (self.next..self.next + count).collect();
        self.next += count;
        let mut by_packet = BTreeMap::new();
        let mut refused = 0;
        for window in numbers.chunks(20) {
            for n in window {
                let payload = format!(r#"{{"n": {n}, "word": "{word}"}}"#);
                let packet = self.client.send("s/x", payload.as_bytes(), QoS::AtLeastOnce, false, &Properties::default()).expect("sent");
                by_packet.insert(packet, *n);
            }
            for _ in window {
                let (packet, reason) = self.client.next_ack(LIMIT).expect("the connection holds").expect("answered in time");
                let n = by_packet.remove(&packet).expect("its own");
                match reason {
                    ReasonCode::Success => self.accepted.push(n),
                    ReasonCode::QuotaExceeded => refused += 1,
                    other => panic!("{other:?}"),
                }
            }
        }
        refused
    }

    /// Waits until nothing waits any more, and compares.
    fn all_is_there(&self, fault: &str) {
        let what = format!("{}, {fault}: the queue is empty", self.server.name());
        eventually(&what, LIMIT, || (action(self.folder.path())["ledger"]["pending"] == 0).then_some(()));
        let shown = action(self.folder.path());
        assert_eq!(shown["balances"], true, "{fault}: {shown}");
        assert_eq!(shown["ledger"]["dead_lettered"], self.poisoned, "{fault}: {shown}");
        assert_eq!(shown["ledger"]["delivered"], self.accepted.len(), "{fault}: {shown}");
        let found = self.server.numbers(self.accepted.len());
        let mut seen = BTreeSet::new();
        let firsts: Vec<u64> = found.iter().copied().filter(|n| seen.insert(*n)).collect();
        let differs = firsts.iter().zip(&self.accepted).position(|(a, b)| a != b);
        let (of, name) = (self.accepted.len(), self.server.name());
        assert!(
            differs.is_none() && firsts.len() == of,
            "{name}, {fault}: {} of {of} are there; the order differs at {differs:?}",
            firsts.len()
        );
        if self.server.is_idempotent() {
            assert_eq!(found.len(), self.accepted.len(), "{}, {fault}: none twice", self.server.name());
        }
    }

    /// Bad weather while messages come, and fair weather after it.
    fn through(&mut self, fault: &str, weather: Weather, lasts: Duration) {
        let began = Instant::now();
        self.publish(MESSAGES / 3, "a");
        self.proxy.set(weather);
        self.publish(MESSAGES / 3, "b");
        std::thread::sleep(lasts.saturating_sub(began.elapsed()));
        self.proxy.set(Weather::Fair);
        self.publish(MESSAGES / 3, "c");
        self.all_is_there(fault);
    }

    /// Whether it says that it cannot deliver.
    fn is_down(&self) -> bool {
        let shown = action(self.folder.path());
        matches!(shown["status"].as_str(), Some("disconnected" | "retrying")) && shown["status_reason"].is_string()
    }
}

/// Everything, with one sink.
fn stands_everything(server: &dyn Server) {
    let mut trial = Trial::new(server);
    let secs = Duration::from_secs;
    trial.through("fair weather", Weather::Fair, secs(0));
    trial.through("refused", Weather::Refuse, secs(1));
    trial.through("reset in the middle of a batch", Weather::Cut(6000), secs(2));
    trial.through("hangs without a FIN, then accepts and does not answer", Weather::Hang, secs(5));
    trial.through("slow", Weather::Slow(60_000), secs(2));
    for _ in 0..3 {
        trial.through("comes and goes each second", Weather::Refuse, secs(1));
    }

    // One that the server will never take, in the middle of a batch.
    trial.proxy.set(Weather::Refuse);
    trial.publish(40, "x");
    if let Some(word) = server.poison() {
        assert_eq!(trial.publish(1, &word), 0);
        trial.accepted.pop();
        trial.poisoned += 1;
    }
    trial.publish(40, "y");
    trial.proxy.set(Weather::Fair);
    trial.all_is_there("a poison record");

    // The queue is full: refused is told, and what was accepted arrives.
    trial.proxy.set(Weather::Refuse);
    trial.restart(true, "queue = { records_max = 50 }");
    // What comes in one turn of a worker is counted when it is written.
    let refused = trial.publish(80, "f");
    assert!((1..=30).contains(&refused), "{refused} of 80 found no room among 50");
    eventually("it says that it cannot deliver", LIMIT, || trial.is_down().then_some(()));
    trial.proxy.set(Weather::Fair);
    trial.all_is_there("a full queue");

    // Paused, over a restart: nothing moves.
    let ctl = |trial: &Trial<'_>, verb: &str| {
        let mut command = std::process::Command::new(binary());
        let status =
            command.args(["ctl", verb, "sink", "--data"]).arg(trial.folder.path().join("data")).stdout(std::process::Stdio::null());
        assert!(status.status().expect("runs").success());
    };
    ctl(&trial, "pause");
    trial.publish(30, "p");
    trial.restart(true, "");
    trial.publish(10, "q");
    std::thread::sleep(Duration::from_millis(500));
    let shown = action(trial.folder.path());
    assert_eq!((shown["status"].as_str(), shown["ledger"]["pending"].as_u64()), (Some("paused"), Some(40)), "{shown}");
    ctl(&trial, "resume");
    trial.all_is_there("a pause over a restart");

    // The password is wrong: it is said, nothing is lost, and the right one mends it.
    if server.has_password() {
        trial.restart(false, "");
        trial.publish(30, "w");
        eventually("it says that it may not", LIMIT, || trial.is_down().then_some(()));
        trial.restart(true, "");
        trial.all_is_there("a wrong password");
    }

    // kill -9 in the middle of it.
    trial.proxy.set(Weather::Slow(30_000));
    trial.publish(200, "k");
    trial.broker.take().expect("it runs").kill();
    trial.proxy.set(Weather::Fair);
    trial.broker = Some(Broker::start(trial.folder.path(), &config(server, &trial.proxy, true, "")));
    trial.client = client(trial.broker.as_ref().expect("it runs"));
    let found = eventually("everything is there after a kill", LIMIT, || {
        let empty = action(trial.folder.path())["ledger"]["pending"] == 0;
        empty.then(|| server.numbers(trial.next as usize))
    });
    assert!(found.iter().all(|n| trial.accepted.contains(n)), "nothing that was not accepted");
    assert!(trial.accepted.iter().all(|n| found.contains(n)), "everything that was");
    assert!(trial.broker.take().expect("it runs").stop().success());
    trial.server.clean();
}

#[test]
fn http_stands_everything() {
    stands_everything(&servers::http());
}

#[test]
fn kafka_stands_everything() {
    let _server = services::stay();
    stands_everything(&servers::kafka());
}

#[test]
fn mongodb_stands_everything() {
    let _server = services::stay();
    stands_everything(&servers::mongodb());
}

#[test]
fn mqtt_stands_everything() {
    stands_everything(&servers::mqtt());
}

#[test]
fn mysql_stands_everything() {
    let _server = services::stay();
    stands_everything(&servers::mysql());
}

#[test]
fn postgres_stands_everything() {
    let _server = services::stay();
    stands_everything(&servers::postgres());
}

#[test]
fn postgres_stands_everything_by_copy() {
    let _server = services::stay();
    stands_everything(&servers::postgres_copy());
    stands_everything(&servers::postgres_copy_plain());
}

#[test]
fn redis_stands_everything() {
    let _server = services::stay();
    stands_everything(&servers::redis());
}
