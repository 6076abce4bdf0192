//! The promise: SIGKILL at random moments under load. What was acknowledged is in the durable subscriber's hands and in
//! Kafka; duplicates say that they are; the ledger balances.
//!
//! `HOOKLINE_KILLS` sets the number of kills, `HOOKLINE_SEED` the moments.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::{kafka, unique};
use hookline_mqtt::QoS;
use hookline_mqtt::client::{Client, Options};

const PUBLISHERS: usize = 8;
const PARTITIONS: i32 = 2;
const SUBSCRIBER: &str = "durable-subscriber";
const WINDOW: usize = 16;

/// What one publisher knows: the messages that it sent, and those that were acknowledged.
#[derive(Debug, Default)]
struct Account {
    next: u64,
    acknowledged: BTreeSet<u64>,
}

#[test]
fn nothing_acknowledged_is_lost() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let kills = number("HOOKLINE_KILLS", 20);
    let mut random = number("HOOKLINE_SEED", 7);
    let topic = unique("kill9");
    kafka::create_topic(&topic, PARTITIONS);
    let folder = tempfile::tempdir().expect("a folder");
    let config = config(&topic);
    let accounts: Vec<Mutex<Account>> = (0..PUBLISHERS).map(|_| Mutex::default()).collect();
    let mut received: Received = Received::default();
    subscribe(&Broker::start(folder.path(), &config));

    for kill in 0..kills {
        let broker = Broker::start(folder.path(), &config);
        // Some rounds the subscriber is there, some it is away: both queues must hold.
        let reader = (kill % 3 != 0).then(|| broker.connect(&subscriber()));
        let killing = AtomicBool::new(false);
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let moment = Duration::from_millis(100 + (random >> 33) % 400);
        std::thread::scope(|scope| {
            for (publisher, account) in accounts.iter().enumerate() {
                let (broker, killing) = (&broker, &killing);
                scope.spawn(move || publish(broker, publisher, account, killing));
            }
            if let Some(mut client) = reader {
                let (received, killing) = (&mut received, &killing);
                scope.spawn(
                    move || {
                        while !killing.load(Ordering::Relaxed) && receive(&mut client, received, Duration::from_millis(20)).is_ok() {}
                    },
                );
            }
            scope.spawn(|| {
                std::thread::sleep(moment);
                kill_process(&broker);
                killing.store(true, Ordering::Relaxed);
            });
        });
        broker.kill();
    }

    let broker = Broker::start(folder.path(), &config);
    let acknowledged: BTreeSet<(usize, u64)> = accounts
        .iter()
        .enumerate()
        .flat_map(|(publisher, account)| account.lock().expect("lock").acknowledged.iter().map(|seq| (publisher, *seq)).collect::<Vec<_>>())
        .collect();
    let mut client = broker.connect(&subscriber());
    assert!(client.session_present(), "the session has survived");
    // What was not acknowledged may be there as well: everything is taken, so that the account can be closed.
    let deadline = Instant::now() + Duration::from_secs(120);
    while receive(&mut client, &mut received, Duration::from_secs(3)).expect("the connection holds") && Instant::now() < deadline {}
    let missing: Vec<_> = acknowledged.iter().filter(|message| !received.counts.contains_key(*message)).collect();
    assert!(
        missing.is_empty(),
        "{} acknowledged messages did not reach the subscriber: {:?}",
        missing.len(),
        &missing[..missing.len().min(10)]
    );
    client.disconnect().expect("leaves");

    let distinct = |consumed: &[kafka::Consumed]| consumed.iter().map(message_of).collect::<BTreeSet<_>>();
    let mut compared = Instant::now();
    let consumed = kafka::consume(&topic, PARTITIONS, Duration::from_secs(60), |consumed| {
        // Comparing the sets is dear, so it is done now and then.
        if consumed.len() < acknowledged.len() || compared.elapsed() < Duration::from_millis(500) {
            return false;
        }
        compared = Instant::now();
        distinct(consumed).is_superset(&acknowledged)
    });
    let missing: Vec<_> = acknowledged.difference(&distinct(&consumed)).copied().collect();
    assert!(missing.is_empty(), "{} acknowledged messages are not in Kafka: {:?}", missing.len(), &missing[..missing.len().min(10)]);
    let mut ids: HashMap<(usize, u64), &str> = HashMap::new();
    let mut last: HashMap<usize, u64> = HashMap::new();
    for record in &consumed {
        let message = message_of(record);
        match ids.get(&message) {
            Some(id) => assert_eq!(*id, record.hookline_id, "a duplicate of {message:?} has another identifier"),
            None => {
                ids.insert(message, &record.hookline_id);
                let before = last.insert(message.0, message.1);
                assert!(before.is_none_or(|before| before < message.1), "{message:?} came behind {before:?}");
            }
        }
    }
    assert!(received.out_of_order.is_empty(), "the subscriber got out of order: {:?}", received.out_of_order);
    assert!(broker.stop().success());
    let ledgers = broker::ledgers(folder.path());
    let of =
        |name: &str| ledgers.iter().find(|ledger| ledger["name"] == name).unwrap_or_else(|| panic!("{name} has an account: {ledgers:?}"));
    assert_eq!(of(SUBSCRIBER)["pending"], 0, "{ledgers:?}");
    assert_eq!((&of("pipeline")["pending"], &of("pipeline")["dropped"], &of(SUBSCRIBER)["dropped"]), (&0.into(), &0.into(), &0.into()));
    println!(
        "kills {kills}, acknowledged {}, lost 0, duplicates: subscriber {}, kafka {}",
        acknowledged.len(),
        received.counts.values().map(|count| count - 1).sum::<u64>(),
        consumed.len() - ids.len()
    );
    assert!(acknowledged.len() as u64 > kills * 20, "there was hardly any load: {}", acknowledged.len());
}

/// What the subscriber has got: how often, and what came in a wrong order.
#[derive(Debug, Default)]
struct Received {
    counts: BTreeMap<(usize, u64), u64>,
    last: HashMap<usize, u64>,
    out_of_order: Vec<(usize, u64)>,
}

fn config(topic: &str) -> String {
    format!(
        r#"
        [mqtt]
        session_expiry_secs = 86400
        [connectors.kafka]
        type = "kafka"
        bootstrap_hosts = "{}"
        [actions.pipeline]
        connector = "kafka"
        parameters = {{ topic = "{topic}", key = "${{publisher}}" }}
        [rules.pipeline]
        sql = 'SELECT payload.publisher AS publisher, payload.seq AS seq FROM "load/#"'
        actions = ["pipeline"]
        "#,
        kafka::hosts()
    )
}

fn subscriber() -> Options {
    Options::new(SUBSCRIBER).persistent(0)
}

fn subscribe(broker: &Broker) {
    let mut client = broker.connect(&subscriber());
    client.subscribe(&[("load/+", QoS::AtLeastOnce)]).expect("subscribed");
    // No DISCONNECT: the broker is killed with the connection open.
}

/// SIGKILL, while the clients still hold their connections.
fn kill_process(broker: &Broker) {
    let pid = broker.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("kill runs").success());
}

/// Publishes with a window until the broker is gone. What was not acknowledged is not sent again: its number is not
/// used twice, so that a duplicate can only be the broker's.
fn publish(broker: &Broker, publisher: usize, account: &Mutex<Account>, killing: &AtomicBool) {
    let mut account = account.lock().expect("lock");
    let Ok(mut client) = Client::connect(broker.address(), &Options::new(&format!("publisher-{publisher}"))) else { return };
    let topic = format!("load/{publisher}");
    let qos = if publisher % 4 == 3 { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
    let mut waiting: HashMap<u16, u64> = HashMap::new();
    // Enough to be in the middle of something at any moment, and not more than can be checked in a test.
    let pace = Duration::from_micros(300);
    while !killing.load(Ordering::Relaxed) {
        std::thread::sleep(pace);
        let seq = account.next;
        account.next += 1;
        let payload = format!(r#"{{"publisher": {publisher}, "seq": {seq}}}"#);
        if qos == QoS::ExactlyOnce {
            match client.publish(&topic, payload.as_bytes(), qos, false) {
                Ok(reason) if !reason.is_error() => drop(account.acknowledged.insert(seq)),
                _ => return,
            }
            continue;
        }
        let Ok(id) = client.send(&topic, payload.as_bytes(), qos, false, &Default::default()) else { return };
        waiting.insert(id, seq);
        while waiting.len() >= WINDOW {
            match client.next_ack(Duration::from_secs(10)) {
                Ok(Some((id, reason))) if !reason.is_error() => account.acknowledged.extend(waiting.remove(&id)),
                _ => return,
            }
        }
    }
}

/// Takes one message; whether there was one.
fn receive(client: &mut Client, received: &mut Received, wait: Duration) -> Result<bool, hookline_mqtt::client::Error> {
    let Some(message) = client.receive(wait)? else { return Ok(false) };
    let value: serde_json::Value = serde_json::from_slice(&message.payload).expect("the payload is as it was sent");
    let key = (value["publisher"].as_u64().expect("a publisher") as usize, value["seq"].as_u64().expect("a number"));
    let count = received.counts.entry(key).or_default();
    *count += 1;
    if *count == 1 {
        let before = received.last.insert(key.0, key.1);
        if before.is_some_and(|before| before > key.1) {
            received.out_of_order.push(key);
        }
    }
    Ok(true)
}

fn message_of(record: &kafka::Consumed) -> (usize, u64) {
    (record.value["publisher"].as_u64().expect("a publisher") as usize, record.value["seq"].as_u64().expect("a number"))
}
