//! Sources: Kafka's topics and other MQTT servers, whose messages come in at least once, and are given back to nobody before the broker has them.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::services::{self, service};
use hookline_integration_tests::{eventually, kafka, unique};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::SubscribeFilter;
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};
use rdkafka::ClientConfig;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

/// How long messages may take to come in.
const LIMIT: Duration = Duration::from_secs(60);

/// Takes what comes until there are so many different payloads; all of them, in their order.
fn receive(client: &mut Client, different: usize) -> Vec<String> {
    let mut seen = BTreeSet::new();
    let mut all = Vec::new();
    while seen.len() < different {
        let message = client.receive(LIMIT).expect("connected").unwrap_or_else(|| panic!("{} of {different} have come", seen.len()));
        let text = String::from_utf8(message.payload).expect("text");
        seen.insert(text.clone());
        all.push(text);
    }
    all
}

fn produce(topic: &str, numbers: std::ops::Range<usize>) {
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", kafka::hosts()).create().expect("a producer");
    for number in numbers {
        let (key, value) = (format!("k{}", number % 7), number.to_string());
        let headers = OwnedHeaders::new().insert(Header { key: "trace", value: Some("t-1") });
        producer.send(BaseRecord::to(topic).key(&key).payload(&value).headers(headers)).expect("queued");
    }
    producer.flush(LIMIT).expect("sent");
}

fn kafka_config(topic: &str, group: &str) -> String {
    format!(
        r#"
        [connectors.k]
        type = "kafka"
        bootstrap_hosts = "{}"
        [sources.orders]
        connector = "k"
        parameters = {{ topics = ["{topic}"], group_id = "{group}", offset_reset = "earliest", topic = "kafka/${{topic}}/${{key}}" }}
        "#,
        kafka::hosts()
    )
}

fn subscriber(broker: &Broker) -> Client {
    let mut client = broker.connect(&Options::new("reader").version(Version::V5).persistent(3600));
    client.subscribe(&[("kafka/#", QoS::AtLeastOnce)]).expect("subscribed");
    client
}

#[test]
fn what_is_in_kafka_comes_in_through_kills_and_restarts_on_both_sides() {
    const MESSAGES: usize = 3000;
    let _alone = services::may_stop();
    let (topic, group) = (unique("orders"), unique("group"));
    kafka::create_topic(&topic, 4);
    let folder = tempfile::tempdir().expect("a folder");
    let config = kafka_config(&topic, &group);
    let broker = Broker::start(folder.path(), &config);
    let mut client = subscriber(&broker);
    produce(&topic, 0..MESSAGES / 3);
    let first = client.receive(LIMIT).expect("connected").expect("a message");
    assert!(first.topic.starts_with(&format!("kafka/{topic}/k")), "{}", first.topic);
    assert!(first.properties.user().any(|pair| pair == ("trace", "t-1")), "headers are user properties");
    // Killed in the middle: what was not acknowledged comes again.
    drop(client);
    broker.kill();
    produce(&topic, MESSAGES / 3..2 * MESSAGES / 3);
    let broker = Broker::start(folder.path(), &config);
    let mut client = subscriber(&broker);
    if service("stop", "kafka") {
        service("start", "kafka");
    }
    produce(&topic, 2 * MESSAGES / 3..MESSAGES);
    // The very first one was acknowledged to this session already, or comes again.
    let first = String::from_utf8(first.payload).expect("text");
    let mut came = BTreeSet::from([first]);
    while came.len() < MESSAGES {
        let message = client.receive(LIMIT).expect("connected").unwrap_or_else(|| panic!("{} of {MESSAGES}\n{}", came.len(), broker.log()));
        came.insert(String::from_utf8(message.payload).expect("text"));
    }
    assert!(broker.stop().success());
    // Nothing was committed early, and what was acknowledged is committed by a clean end: a new start brings nothing again.
    let broker = Broker::start(folder.path(), &config);
    let mut client = subscriber(&broker);
    assert!(client.receive(Duration::from_secs(4)).expect("connected").is_none(), "everything is committed");
    assert!(broker.stop().success());
}

#[test]
fn a_message_that_the_broker_does_not_take_is_left_out_and_those_behind_it_come() {
    let _server = services::stay();
    let (topic, group) = (unique("orders"), unique("group"));
    kafka::create_topic(&topic, 1);
    let producer: ThreadedProducer<_> =
        ClientConfig::new().set("bootstrap.servers", kafka::hosts()).set("message.max.bytes", "3000000").create().expect("a producer");
    let (deep, large, long) = ("x/".repeat(300), "x".repeat(900_000), "x".repeat(70_000));
    let header = |value: &str| OwnedHeaders::new().insert(Header { key: "trace", value: Some(value) });
    for (key, value, value_of_header) in
        [("first", "1", "t"), (&*deep, "2", "t"), ("large", &*large, "t"), ("nul", "4", "a\0b"), ("long", "5", &*long), ("last", "6", "t")]
    {
        producer.send(BaseRecord::to(&topic).key(key).payload(value).headers(header(value_of_header))).expect("queued");
    }
    producer.flush(LIMIT).expect("sent");
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &format!("{}\n[mqtt]\npacket_bytes_max = 500000", kafka_config(&topic, &group)));
    let mut client = subscriber(&broker);
    assert_eq!(receive(&mut client, 2), ["1", "6"]);
    let stranger = Client::connect(broker.address(), &Options::new("$source/orders").version(Version::V5));
    assert!(matches!(stranger, Err(Error::Refused(ReasonCode::ClientIdentifierNotValid))), "nobody takes a source's session over");
    let (_, out, _) = run(&["ctl", "sources", "-o", "json", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
    assert!(out.contains("\"rejected\":4") || out.contains("\"rejected\": 4"), "{out}");
    assert!(broker.stop().success());
}

#[test]
fn a_group_of_two_brokers_shares_the_partitions_and_a_rebalance_loses_nothing() {
    const MESSAGES: usize = 2000;
    let _server = services::stay();
    let (topic, group) = (unique("orders"), unique("group"));
    kafka::create_topic(&topic, 4);
    let (one, two) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let config = kafka_config(&topic, &group);
    let first = Broker::start(one.path(), &config);
    let mut at_first = subscriber(&first);
    produce(&topic, 0..MESSAGES / 2);
    assert!(at_first.receive(LIMIT).expect("connected").is_some());
    let second = Broker::start(two.path(), &config);
    let mut at_second = subscriber(&second);
    produce(&topic, MESSAGES / 2..MESSAGES);
    let mut came = BTreeSet::new();
    eventually("all have come, to one or the other", LIMIT, || {
        for client in [&mut at_first, &mut at_second] {
            while let Some(message) = client.receive(Duration::from_millis(100)).expect("connected") {
                came.insert(String::from_utf8(message.payload).expect("text"));
            }
        }
        // One was taken above.
        (came.len() >= MESSAGES - 1).then_some(())
    });
    assert!(first.stop().success() && second.stop().success());
}

/// A broker that others bridge to.
fn other(folder: &std::path::Path) -> Broker {
    Broker::start(folder, "[node]\nname = \"other@127.0.0.1\"")
}

#[test]
fn a_bridge_goes_both_ways_keeps_what_is_to_be_kept_and_makes_no_loop() {
    for proto_ver in ["v5", "v3"] {
        let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
        let remote = other(there.path());
        // Version 3 has no place for the node's name: its topics must not meet.
        let back = if proto_ver == "v5" { "both/#" } else { "back/#" };
        let config = format!(
            r#"
            [connectors.remote]
            type = "mqtt"
            server = "{}"
            proto_ver = "{proto_ver}"
            [actions.out]
            connector = "remote"
            parameters = {{ qos = "${{qos}}", retain = "${{flags.retain}}" }}
            [rules.out]
            sql = 'SELECT topic, payload, qos, flags, pub_props FROM "both/#"'
            actions = ["out"]
            [sources.back]
            connector = "remote"
            parameters = {{ topics = ["{back}"], qos = 2, topic = "from-there/${{topic}}" }}
            "#,
            remote.address()
        );
        let broker = Broker::start(here.path(), &config);
        let options = |id: &str| Options::new(id).version(Version::V5);
        let mut at_remote = remote.connect(&options("r"));
        at_remote.subscribe(&[("both/#", QoS::ExactlyOnce)]).expect("subscribed");
        let mut at_home = broker.connect(&options("h"));
        at_home.subscribe(&[("from-there/#", QoS::ExactlyOnce)]).expect("subscribed");
        let mut properties = Properties::default();
        properties.push_user("colour", "blue");
        for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            let payload = number.to_string();
            at_home.publish_with("both/out", payload.as_bytes(), qos, false, &properties).expect("published");
            let message = at_remote.receive(LIMIT).expect("connected").unwrap_or_else(|| panic!("{proto_ver} {qos:?}\n{}", broker.log()));
            assert_eq!((message.topic.as_str(), message.payload, message.qos), ("both/out", payload.into_bytes(), qos), "{proto_ver}");
            if proto_ver == "v5" {
                assert!(message.properties.user().any(|pair| pair == ("colour", "blue")));
            }
        }
        let in_topic = back.replace('#', "in");
        eventually("the source subscribes", LIMIT, || broker.log().contains("\"source\":\"back\"").then_some(()));
        for (number, qos) in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce].into_iter().enumerate() {
            let payload = format!("b{number}");
            at_remote.publish_with(&in_topic, payload.as_bytes(), qos, false, &properties).expect("published");
            let message = at_home.receive(LIMIT).expect("connected").unwrap_or_else(|| panic!("{proto_ver} {qos:?}\n{}", broker.log()));
            assert_eq!(
                (message.topic, message.payload),
                (format!("from-there/{in_topic}"), payload.into_bytes()),
                "{proto_ver}: what went out does not come back"
            );
        }
        // Away: what is published waits in the queue, and what happens there waits in the session.
        let address = remote.address();
        assert!(remote.stop().success());
        for number in 0..50 {
            assert!(!at_home.publish("both/out", format!("w{number}").as_bytes(), QoS::AtLeastOnce, false).expect("answered").is_error());
        }
        let remote =
            Broker::start(there.path(), &format!("[node]\nname = \"other@127.0.0.1\"\n[listeners.tcp.again]\nbind = \"{address}\""));
        let mut at_remote = remote.connect(&options("r2"));
        at_remote
            .subscribe_with(
                vec![SubscribeFilter {
                    filter: "both/#".into(),
                    options: hookline_mqtt::packet::SubscriptionOptions { qos: QoS::AtLeastOnce, ..Default::default() },
                }],
                Properties::default(),
            )
            .expect("subscribed");
        // Those that arrived before the subscription went to nobody; a last one comes for sure.
        eventually("the bridge is back", LIMIT, || {
            at_home.publish("both/out", b"last", QoS::AtLeastOnce, false).expect("answered");
            at_remote.receive(Duration::from_millis(300)).expect("connected")
        });
        assert!(broker.stop().success() && remote.stop().success());
    }
}

#[test]
fn what_another_server_holds_for_us_comes_in_after_a_kill() {
    let (here, there) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let remote = other(there.path());
    let config = format!(
        "[connectors.remote]\ntype = \"mqtt\"\nserver = \"{}\"\n[sources.back]\nconnector = \"remote\"\nparameters = {{ topics = [\"t/#\"] }}",
        remote.address()
    );
    let broker = Broker::start(here.path(), &config);
    let options = Options::new("reader").version(Version::V5).persistent(3600);
    let mut reader = broker.connect(&options);
    reader.subscribe(&[("t/#", QoS::AtLeastOnce)]).expect("subscribed");
    eventually("the source subscribes", LIMIT, || broker.log().contains("\"source\":\"back\"").then_some(()));
    let mut at_remote = remote.connect(&Options::new("p").version(Version::V5));
    for number in 0..200 {
        at_remote.publish("t/x", format!("{number}").as_bytes(), QoS::AtLeastOnce, false).expect("published");
    }
    drop(reader);
    broker.kill();
    for number in 200..400 {
        at_remote.publish("t/x", format!("{number}").as_bytes(), QoS::AtLeastOnce, false).expect("published");
    }
    let broker = Broker::start(here.path(), &config);
    let mut reader = broker.connect(&options);
    let all = receive(&mut reader, 400);
    let firsts: Vec<&String> = {
        let mut seen = BTreeSet::new();
        all.iter().filter(|text| seen.insert((*text).clone())).collect()
    };
    let numbers: Vec<usize> = firsts.iter().map(|text| text.parse().expect("a number")).collect();
    assert!(numbers.is_sorted(), "in their order");
    assert!(broker.stop().success());
}
