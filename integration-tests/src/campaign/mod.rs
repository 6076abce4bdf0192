//! What the campaigns share: mixed load on a broker that ends in the middle of it, round after round, and at the end the account:
//! what was acknowledged against what has arrived. How the broker ends is the test's to say.

mod load;
mod verdict;

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookline_mqtt::QoS;
use hookline_mqtt::client::{Client, Error, Options};

use crate::broker::Broker;
use crate::{kafka, unique};

pub use verdict::Verdict;

/// Publishers; each fourth one publishes at QoS 2.
const PUBLISHERS: usize = 8;
/// Members of the shared subscription.
const MEMBERS: usize = 3;
const PARTITIONS: i32 = 2;
const SUBSCRIBER: &str = "durable-subscriber";
/// The action that writes to Kafka.
const PIPELINE: &str = "pipeline";
/// The action that writes to SQLite, and its file in the data folder.
const TABLE: (&str, &str) = ("table", "load.db");
/// The topic of the retained message.
const KEPT: &str = "kept";

/// A message of the load: its publisher, and its number there.
type Name = (usize, u64);

/// A campaign under way.
#[derive(Debug)]
pub struct Campaign {
    folder: PathBuf,
    /// Of Kafka.
    topic: String,
    random: u64,
    round: u64,
    publishers: Vec<Account>,
    keeper: Account,
    subscriber: Received,
    members: Vec<Received>,
}

/// What one publisher knows: what it has sent, and what was acknowledged, with the round.
#[derive(Debug, Default)]
struct Account {
    next: u64,
    acknowledged: BTreeMap<u64, u64>,
}

/// What one subscriber has got: how often, and what came in a wrong order.
#[derive(Debug, Default)]
struct Received {
    counts: BTreeMap<Name, u64>,
    last: HashMap<usize, u64>,
    disorder: Vec<Name>,
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    let Ok(text) = std::env::var(name) else { return default };
    text.parse().unwrap_or_else(|error| panic!("{name}: {text:?} is no number: {error}"))
}

impl Campaign {
    /// A campaign in that folder. It makes a topic in Kafka.
    pub fn new(folder: &Path, seed: u64) -> Campaign {
        let topic = unique("campaign");
        kafka::create_topic(&topic, PARTITIONS);
        Campaign {
            folder: folder.to_owned(),
            topic,
            random: seed,
            round: 0,
            publishers: (0..PUBLISHERS).map(|_| Account::default()).collect(),
            keeper: Account::default(),
            subscriber: Received::default(),
            members: (0..MEMBERS).map(|_| Received::default()).collect(),
        }
    }

    /// The broker's configuration: every message of the load goes to a durable subscriber, to one member of a group, to Kafka and
    /// to SQLite.
    pub fn config(&self) -> String {
        let (hosts, topic, (table, file)) = (kafka::hosts(), &self.topic, TABLE);
        format!(
            r#"
            [mqtt]
            session_expiry_secs = 86400
            [store]
            level = "disk"
            [connectors.kafka]
            type = "kafka"
            bootstrap_hosts = "{hosts}"
            [connectors.sqlite]
            type = "sqlite"
            path = "{file}"
            [actions.{PIPELINE}]
            connector = "kafka"
            parameters = {{ topic = "{topic}", key = "${{publisher}}" }}
            [actions.{table}]
            connector = "sqlite"
            [actions.{table}.parameters]
            setup = "CREATE TABLE IF NOT EXISTS load (place INTEGER PRIMARY KEY, hookline_id TEXT UNIQUE, publisher INTEGER, seq INTEGER)"
            sql = "INSERT INTO load (hookline_id, publisher, seq) VALUES (${{hookline_id}}, ${{publisher}}, ${{seq}}) ON CONFLICT (hookline_id) DO NOTHING"
            [rules.load]
            sql = 'SELECT payload.publisher AS publisher, payload.seq AS seq FROM "load/#"'
            actions = ["{PIPELINE}", "{table}"]
            "#
        )
    }

    /// Makes the durable sessions.
    pub fn prepare(&self, broker: &Broker) {
        let subscribe = |id: &str, filter: &str| {
            let mut client = broker.connect(&durable(id));
            let codes = client.subscribe(&[(filter, QoS::AtLeastOnce)]).expect("answered");
            assert!(!codes[0].is_error(), "{filter}: {codes:?}");
            // No DISCONNECT: the broker ends with the connection open.
        };
        subscribe(SUBSCRIBER, "load/+");
        (0..MEMBERS).for_each(|member| subscribe(&member_id(member), "$share/group/load/+"));
    }

    /// The next number of the campaign's own (Knuth's MMIX generator; its high bits are the good ones).
    pub fn random(&mut self) -> u64 {
        self.random = self.random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.random >> 33
    }

    /// Looks whether the broker, which was just started, has what it promised; then one round of load, in the middle of which `end`
    /// ends it. Some rounds a subscriber is there, some it is away: both must hold.
    pub fn round(&mut self, broker: &Broker, end: impl FnOnce() + Send) {
        let (round, moment) = (self.round, Duration::from_millis(100 + self.random() % 400));
        self.round += 1;
        self.check_retained(broker);
        let ending = AtomicBool::new(false);
        let Campaign { publishers, keeper, subscriber, members, .. } = self;
        let subscriber = (round % 3 != 0).then(|| (resume(broker, SUBSCRIBER), subscriber));
        let members = members.iter_mut().enumerate().filter(|(member, _)| (round + *member as u64).is_multiple_of(2));
        let members = members.map(|(member, received)| (resume(broker, &member_id(member)), received));
        let readers: Vec<_> = subscriber.into_iter().chain(members).collect();
        std::thread::scope(|scope| {
            let ending = &ending;
            for (publisher, account) in publishers.iter_mut().enumerate() {
                scope.spawn(move || load::publish(broker, publisher, account, round, ending));
            }
            scope.spawn(move || load::retain(broker, keeper, round, ending));
            for (client, received) in readers {
                scope.spawn(move || received.take_until(client, ending));
            }
            scope.spawn(move || {
                // Also where it fails: otherwise the others would go on for ever.
                let _ending = Ending(ending);
                std::thread::sleep(moment);
                end();
            });
        });
    }

    /// The retained message is the last acknowledged one, or one that was sent after it.
    fn check_retained(&self, broker: &Broker) {
        let mut client = broker.connect(&Options::new("looks-at-retained"));
        client.subscribe(&[(KEPT, QoS::AtLeastOnce)]).expect("subscribed");
        let acknowledged = self.keeper.acknowledged.last_key_value();
        // Where nothing was acknowledged there may be none.
        let wait = Duration::from_millis(if acknowledged.is_some() { 10_000 } else { 200 });
        let found = client.receive(wait).expect("the connection holds");
        let found = found.map(|message| serde_json::from_slice::<u64>(&message.payload).expect("the payload is as it was sent"));
        if let Some((last, round)) = acknowledged {
            let fits = found.is_some_and(|found| (*last..self.keeper.next).contains(&found));
            assert!(fits, "retained is {found:?}, and {last} was acknowledged in round {round}; now is round {}", self.round);
        }
    }
}

impl Received {
    /// Takes what comes, until the round ends.
    fn take_until(&mut self, mut client: Client, ending: &AtomicBool) {
        while !ending.load(Ordering::Relaxed) && self.take(&mut client, Duration::from_millis(20)).is_ok() {}
    }

    /// Takes one message; whether there was one.
    fn take(&mut self, client: &mut Client, wait: Duration) -> Result<bool, Error> {
        let Some(message) = client.receive(wait)? else { return Ok(false) };
        let value: serde_json::Value = serde_json::from_slice(&message.payload).expect("the payload is as it was sent");
        self.count(name_of(&value));
        Ok(true)
    }

    fn count(&mut self, name: Name) {
        let count = self.counts.entry(name).or_default();
        *count += 1;
        if *count == 1 && self.last.insert(name.0, name.1).is_some_and(|before| before > name.1) {
            self.disorder.push(name);
        }
    }
}

/// Says that the round ends.
struct Ending<'a>(&'a AtomicBool);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

fn durable(id: &str) -> Options {
    Options::new(id).persistent(0)
}

/// Comes back to a session that must still be there.
fn resume(broker: &Broker, id: &str) -> Client {
    let client = broker.connect(&durable(id));
    assert!(client.session_present(), "the session of {id} has survived");
    client
}

fn member_id(member: usize) -> String {
    format!("member-{member}")
}

fn name_of(value: &serde_json::Value) -> Name {
    (value["publisher"].as_u64().expect("a publisher") as usize, value["seq"].as_u64().expect("a number"))
}
