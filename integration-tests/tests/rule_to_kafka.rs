//! A pipeline engineer's rule: 50 devices, a condition, a partition key, and Kafka away for a while in the middle.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::proxy::{Proxy, Weather};
use hookline_integration_tests::services::{self, service};
use hookline_integration_tests::{kafka, publish_all, unique};
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;

const DEVICES: u64 = 50;
const MESSAGES: u64 = 400;
const PARTITIONS: i32 = 4;
/// Messages that a device has on their way at a time.
const WINDOW: usize = 20;

#[test]
fn exactly_the_selected_messages_arrive_in_order_across_an_outage() {
    let _alone = services::may_stop();
    let topic = unique("rule");
    kafka::create_topic(&topic, PARTITIONS);
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        r#"
        [connectors.kafka]
        type = "kafka"
        bootstrap_hosts = "{}"
        [actions.pipeline]
        connector = "kafka"
        delivery = {{ attempt_timeout_secs = 15 }}
        [actions.pipeline.parameters]
        topic = "{topic}"
        key = "${{device}}"
        value = "${{.}}"
        headers = {{ origin = "${{topic}}" }}
        [rules.selected]
        sql = 'SELECT clientid AS device, topic, payload.seq AS seq, payload.seq div 2 AS half FROM "devices/+/data" WHERE payload.seq mod 2 = 0 AND payload.keep = true'
        actions = ["pipeline"]
        "#,
        kafka::hosts()
    );
    let broker = Broker::start(folder.path(), &config);
    let outage = std::thread::spawn(|| {
        std::thread::sleep(Duration::from_millis(300));
        let stopped = service("stop", "kafka");
        if stopped {
            std::thread::sleep(Duration::from_secs(3));
            service("start", "kafka");
        }
    });
    std::thread::scope(|scope| {
        for device in 0..DEVICES {
            let broker = &broker;
            scope.spawn(move || publish(broker, device));
        }
    });
    outage.join().expect("kafka is back");

    let expected: HashSet<(String, u64)> = (0..DEVICES)
        .flat_map(|device| (0..MESSAGES).filter(|seq| selected(*seq)).map(move |seq| (format!("device-{device}"), seq)))
        .collect();
    let consumed = kafka::consume(&topic, PARTITIONS, Duration::from_secs(90), |consumed| {
        consumed.len() >= expected.len() && distinct(consumed).len() >= expected.len()
    });
    assert_eq!(distinct(&consumed), expected, "exactly the selected ones, all");
    let mut last: HashMap<String, (i32, u64)> = HashMap::new();
    let mut seen: HashMap<(String, u64), String> = HashMap::new();
    for record in &consumed {
        let seq = record.value["seq"].as_u64().expect("a number");
        let device = record.value["device"].as_str().expect("a device").to_owned();
        assert_eq!((record.key.as_str(), record.value["half"].as_u64()), (device.as_str(), Some(seq / 2)));
        match seen.get(&(device.clone(), seq)) {
            Some(id) => assert_eq!(id, &record.hookline_id, "a duplicate has the same identifier"),
            None => {
                if let Some((partition, before)) = last.insert(device.clone(), (record.partition, seq)) {
                    assert_eq!(partition, record.partition, "one key, one partition");
                    assert!(before < seq, "{device}: {seq} came behind {before}");
                }
                seen.insert((device, seq), record.hookline_id.clone());
            }
        }
    }
    println!("{} records, {} of them duplicates", consumed.len(), consumed.len() - expected.len());
    assert!(broker.stop().success());
    let ledgers = broker::ledgers(folder.path());
    let ledger = ledgers.iter().find(|ledger| ledger["name"] == "pipeline").expect("the action has an account");
    assert_eq!((ledger["delivered"].as_u64(), ledger["pending"].as_u64()), (Some(expected.len() as u64), Some(0)));
}

/// The broker is killed and the network is cut, again and again, while batches are under way: with transactions nothing is there twice.
#[test]
fn transactions_bring_every_record_exactly_once() {
    const KILLS: u64 = 6;
    const EACH: u64 = 3000;
    let _stay = services::stay();
    let topic = unique("once");
    kafka::create_topic(&topic, PARTITIONS);
    let (server, advertised) = kafka::proxied();
    let mut proxy = Proxy::start_at(advertised, server);
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        r#"
        [connectors.kafka]
        type = "kafka"
        bootstrap_hosts = "{advertised}"
        authentication = {{ mechanism = "scram_sha_256", username = "hookline", password = "hookline" }}
        [actions.pipeline]
        connector = "kafka"
        delivery = {{ attempt_timeout_secs = 30, batch_records_max = 50, retry_initial_ms = 50, retry_max_ms = 500 }}
        [actions.pipeline.parameters]
        topic = "{topic}"
        transactional_id = "{topic}-pipeline"
        [rules.all]
        sql = 'SELECT clientid, payload.seq AS seq FROM "numbers"'
        actions = ["pipeline"]
        "#
    );
    let send = |broker: &Broker, from: u64| {
        let mut client = broker.connect(&Options::new("c"));
        publish_all(&mut client, "numbers", (from..from + EACH).map(|seq| format!(r#"{{"seq": {seq}}}"#)));
    };
    for round in 0..KILLS {
        let broker = Broker::start(folder.path(), &config);
        send(&broker, round * EACH);
        // In the middle of what it delivers, and every other time the network goes first.
        std::thread::sleep(Duration::from_millis(150 * round));
        if round % 2 == 1 {
            proxy.set(Weather::Cut(3000));
            std::thread::sleep(Duration::from_millis(400));
            proxy.set(Weather::Fair);
            std::thread::sleep(Duration::from_millis(400));
        }
        broker.kill();
    }
    let broker = Broker::start(folder.path(), &config);
    let total = KILLS * EACH;
    let consumed = kafka::consume(&topic, PARTITIONS, Duration::from_secs(60), |consumed| consumed.len() as u64 >= total);
    let found = distinct(&consumed).len() as u64;
    assert_eq!((consumed.len() as u64, found), (total, total), "every record is there, and none twice");
    let more = kafka::consume(&topic, PARTITIONS, Duration::from_secs(3), |_| false);
    assert_eq!(more.len() as u64, total, "and nothing came behind them");
    assert!(broker.stop().success());
    let ledgers = broker::ledgers(folder.path());
    let ledger = ledgers.iter().find(|ledger| ledger["name"] == "pipeline").expect("the action has an account");
    assert_eq!((ledger["dead_lettered"].as_u64(), ledger["pending"].as_u64()), (Some(0), Some(0)));
}

fn selected(seq: u64) -> bool {
    seq.is_multiple_of(2) && !seq.is_multiple_of(3)
}

fn publish(broker: &Broker, device: u64) {
    let mut client = broker.connect(&Options::new(&format!("device-{device}")));
    let topic = format!("devices/{device}/data");
    let mut waiting = HashSet::new();
    for seq in 0..MESSAGES {
        let payload = format!(r#"{{"seq": {seq}, "keep": {}}}"#, seq % 3 != 0);
        waiting.insert(client.send(&topic, payload.as_bytes(), QoS::AtLeastOnce, false, &Default::default()).expect("sent"));
        let room = if seq + 1 == MESSAGES { 0 } else { WINDOW };
        while waiting.len() > room {
            let (id, reason) = client.next_ack(Duration::from_secs(30)).expect("the connection holds").expect("acknowledged in time");
            assert!(!reason.is_error() && waiting.remove(&id));
        }
    }
    client.disconnect().expect("leaves");
}

fn distinct(consumed: &[kafka::Consumed]) -> HashSet<(String, u64)> {
    consumed.iter().map(|record| (record.key.clone(), record.value["seq"].as_u64().unwrap_or(u64::MAX))).collect()
}
