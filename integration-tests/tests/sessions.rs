//! What a client may expect of its session, told with Hookline's own client and with mosquitto's.

use std::time::Duration;

use hookline_integration_tests::broker::Broker;
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::{AckKind, RetainHandling, SubscribeFilter, SubscriptionOptions, Will};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(5);
const NOT: Duration = Duration::from_millis(300);

fn broker(folder: &tempfile::TempDir) -> Broker {
    Broker::start(folder.path(), "")
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn payload(client: &mut Client) -> Option<Vec<u8>> {
    client.receive(SOON).expect("the connection holds").map(|message| message.payload)
}

#[test]
fn every_qos_arrives_at_the_lower_of_both() {
    let folder = folder();
    let broker = broker(&folder);
    for version in [Version::V31, Version::V311, Version::V5] {
        let mut subscriber = broker.connect(&Options::new("s").version(version));
        let mut publisher = broker.connect(&Options::new("p").version(version));
        for (granted, qos) in [(0, QoS::AtMostOnce), (1, QoS::AtLeastOnce), (2, QoS::ExactlyOnce)] {
            let topic = format!("q/{granted}");
            subscriber.subscribe(&[(&topic, qos)]).expect("subscribed");
            for published in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
                publisher.publish(&topic, b"x", published, false).expect("published");
                let message = subscriber.receive(SOON).expect("holds").expect("arrives");
                assert_eq!(message.qos, published.min(qos));
            }
        }
    }
}

#[test]
fn a_persistent_session_keeps_its_messages_over_a_restart_of_the_broker() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let options = v5("keeper").persistent(3600);
    let mut client = broker.connect(&options);
    assert!(!client.session_present());
    client.subscribe(&[("k/#", QoS::ExactlyOnce)]).expect("subscribed");
    client.disconnect().expect("leaves");
    let mut publisher = broker.connect(&v5("p"));
    for n in 0..100 {
        let qos = if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        assert_eq!(publisher.publish("k/x", format!("{n}").as_bytes(), qos, false).expect("published"), ReasonCode::Success);
    }
    assert!(broker.stop().success());

    let broker = Broker::start(folder.path(), "");
    let mut client = broker.connect(&options);
    assert!(client.session_present());
    for n in 0..100 {
        assert_eq!(payload(&mut client), Some(format!("{n}").into_bytes()));
    }
    broker.connect(&v5("p")).publish("k/y", b"live", QoS::AtLeastOnce, false).expect("published");
    assert_eq!(payload(&mut client), Some(b"live".to_vec()), "the subscription is there, too");
    client.ping().expect("answers");
    drop(client);
    let mut client = broker.connect(&v5("keeper"));
    assert!(!client.session_present(), "a clean start ends the session");
    assert_eq!(client.receive(NOT).expect("holds"), None);
}

#[test]
fn what_was_not_acknowledged_comes_again_under_its_packet_identifier() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let options = Options::new("c").persistent(0);
    let mut client = broker.connect(&options);
    client.subscribe(&[("r", QoS::ExactlyOnce)]).expect("subscribed");
    let mut publisher = broker.connect(&v5("p"));
    publisher.publish("r", b"one", QoS::AtLeastOnce, false).expect("published");
    publisher.publish("r", b"two", QoS::ExactlyOnce, false).expect("published");
    let first = client.receive_unacknowledged(SOON).expect("holds").expect("arrives");
    let second = client.receive_unacknowledged(SOON).expect("holds").expect("arrives");
    assert!(!first.dup && !second.dup);
    // The receiver has taken the second one: only its PUBREL is due from now on.
    client.send_ack(AckKind::PubRec, second.packet_id).expect("sent");
    client.ping().expect("answers");
    drop(client);
    for restart in [false, true] {
        if restart {
            std::thread::sleep(Duration::from_millis(200));
        }
        let mut client = broker.connect(&options);
        assert!(client.session_present());
        let again = client.receive_unacknowledged(SOON).expect("holds").expect("comes again");
        assert_eq!((again.payload.as_slice(), again.packet_id, again.dup), (&b"one"[..], first.packet_id, true));
        assert_eq!(client.receive_unacknowledged(NOT).expect("holds"), None, "the second is not sent again");
    }
    // The same over the end of the process, though nothing but the queue and its cursor is stored.
    std::thread::sleep(Duration::from_millis(200));
    broker.kill();
    let broker = Broker::start(folder.path(), "");
    let mut client = broker.connect(&options);
    let again = client.receive(SOON).expect("holds").expect("comes again");
    assert_eq!((again.payload.as_slice(), again.packet_id, again.dup), (&b"one"[..], first.packet_id, true));
    assert_eq!(client.receive_unacknowledged(NOT).expect("holds"), None);
}

#[test]
fn a_resumed_session_keeps_to_what_the_client_can_take_now() {
    let folder = folder();
    let broker = broker(&folder);
    let options = v5("c").persistent(100);
    let mut client = broker.connect(&options);
    client.subscribe(&[("w", QoS::AtLeastOnce)]).expect("subscribed");
    let mut publisher = broker.connect(&v5("p"));
    for n in 0..20u8 {
        let payload = if n == 3 { vec![n; 5000] } else { vec![n] };
        publisher.publish("w", &payload, QoS::AtLeastOnce, false).expect("published");
    }
    while client.receive_unacknowledged(NOT).expect("holds").is_some() {}
    drop(client);
    let mut smaller = options.clone();
    smaller.connect.properties.push_number(PropertyId::ReceiveMaximum, 2);
    smaller.connect.properties.push_number(PropertyId::MaximumPacketSize, 1000);
    let mut client = broker.connect(&smaller);
    let mut waiting = Vec::new();
    while let Some(message) = client.receive_unacknowledged(NOT).expect("holds") {
        waiting.push(message);
    }
    assert_eq!(waiting.len(), 2, "two may be on their way");
    let mut got = Vec::new();
    while let Some(message) = waiting.pop() {
        client.send_ack(AckKind::PubAck, message.packet_id).expect("sent");
        got.push(message.payload[0]);
        waiting.extend(client.receive_unacknowledged(NOT).expect("holds"));
    }
    got.sort_unstable();
    assert_eq!(got, (0..20).filter(|n| *n != 3).collect::<Vec<u8>>(), "all but the one that is too large");
}

#[test]
fn a_will_survives_the_end_of_the_broker_and_is_published_once() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let mut watcher = broker.connect(&v5("watcher").persistent(1000));
    watcher.subscribe(&[("wills/#", QoS::AtLeastOnce)]).expect("subscribed");
    drop(watcher);
    let with_will = |id: &str, delay_secs: u32| {
        let mut options = v5(id).persistent(1000);
        let mut properties = Properties::default();
        properties.push_number(PropertyId::WillDelayInterval, delay_secs);
        let topic = format!("wills/{id}");
        options.connect.will = Some(Will { topic, payload: b"w".to_vec(), qos: QoS::AtLeastOnce, retain: false, properties });
        options
    };
    // One that is gone before the broker is, one that is there, one that leaves in good order, one whose time is not near.
    drop(broker.connect(&with_will("gone", 1)));
    let there = broker.connect(&with_will("there", 0));
    broker.connect(&with_will("left", 0)).disconnect().expect("leaves");
    drop(broker.connect(&with_will("later", 1000)));
    std::thread::sleep(Duration::from_millis(200));
    broker.kill();
    drop(there);
    let broker = Broker::start(folder.path(), "");
    let mut watcher = broker.connect(&v5("watcher").persistent(1000));
    let mut topics: Vec<String> = (0..2).map(|_| watcher.receive(SOON).expect("holds").expect("published").topic).collect();
    topics.sort();
    assert_eq!(topics, ["wills/gone", "wills/there"]);
    assert_eq!(watcher.receive(NOT).expect("holds"), None);
    watcher.ping().expect("answers");
    std::thread::sleep(Duration::from_millis(200));
    broker.kill();
    let broker = Broker::start(folder.path(), "");
    let mut watcher = broker.connect(&v5("watcher").persistent(1000));
    assert_eq!(watcher.receive(Duration::from_millis(1500)).expect("holds"), None, "once");
}

#[test]
fn a_repeated_qos_2_publish_is_taken_once_also_after_a_crash() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let mut subscriber = broker.connect(&Options::new("s").persistent(0));
    subscriber.subscribe(&[("x", QoS::AtLeastOnce)]).expect("subscribed");
    drop(subscriber);
    let options = Options::new("p").persistent(0);
    let mut publisher = broker.connect(&options);
    let id = publisher.send("x", b"once", QoS::ExactlyOnce, false, &Properties::default()).expect("sent");
    assert_eq!(publisher.next_ack(SOON).expect("holds"), Some((id, ReasonCode::Success)));
    broker.kill();
    let broker = Broker::start(folder.path(), "");
    let mut publisher = broker.connect(&options);
    assert!(publisher.session_present());
    // The client's packet identifiers begin anew, so this is the same one.
    assert_eq!(publisher.send("x", b"once", QoS::ExactlyOnce, false, &Properties::default()).expect("sent"), id);
    assert_eq!(publisher.next_ack(SOON).expect("holds"), Some((id, ReasonCode::Success)));
    publisher.send_ack(AckKind::PubRel, id).expect("sent");
    assert_eq!(publisher.next_ack(SOON).expect("holds"), Some((id, ReasonCode::Success)));
    let mut subscriber = broker.connect(&Options::new("s").persistent(0));
    assert_eq!(payload(&mut subscriber), Some(b"once".to_vec()));
    assert_eq!(subscriber.receive(NOT).expect("holds"), None, "once");
}

#[test]
fn retained_messages_reach_new_subscribers_and_survive_a_restart() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let mut publisher = broker.connect(&v5("p"));
    for (topic, text) in [("ret/a", "old"), ("ret/a", "new"), ("ret/b/c", "deep"), ("other", "no"), ("ret/gone", "x"), ("ret/gone", "")] {
        publisher.publish(topic, text.as_bytes(), QoS::AtLeastOnce, true).expect("published");
    }
    broker.kill();
    let broker = Broker::start(folder.path(), "");
    let mut subscriber = broker.connect(&v5("s"));
    subscriber.subscribe(&[("ret/#", QoS::AtLeastOnce)]).expect("subscribed");
    let mut got: Vec<_> =
        (0..2).map(|_| subscriber.receive(SOON).expect("holds").expect("arrives")).map(|m| (m.topic, m.payload, m.retain)).collect();
    got.sort();
    assert_eq!(got, [("ret/a".into(), b"new".to_vec(), true), ("ret/b/c".into(), b"deep".to_vec(), true)]);
    assert_eq!(subscriber.receive(NOT).expect("holds"), None);
    broker.connect(&v5("p")).publish("ret/a", b"live", QoS::AtMostOnce, true).expect("published");
    let live = subscriber.receive(SOON).expect("holds").expect("arrives");
    assert!(!live.retain, "to an established subscription RETAIN is 0");
    let filter = |retain_handling| SubscribeFilter {
        filter: "ret/a".into(),
        options: SubscriptionOptions { retain_handling, ..Default::default() },
    };
    subscriber.subscribe_with(vec![filter(RetainHandling::DoNotSend)], Properties::default()).expect("subscribed");
    assert_eq!(subscriber.receive(NOT).expect("holds"), None);
}

#[test]
fn a_newer_connection_takes_the_session_over_and_the_will_is_published() {
    let folder = folder();
    let broker = broker(&folder);
    let mut watcher = broker.connect(&v5("w"));
    watcher.subscribe(&[("will/#", QoS::AtLeastOnce)]).expect("subscribed");
    let mut options = v5("same");
    options.connect.will = Some(Will {
        topic: "will/same".into(),
        payload: b"gone".to_vec(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
    });
    let mut older = broker.connect(&options);
    let newer = broker.connect(&v5("same"));
    assert!(matches!(older.receive(SOON), Err(Error::Closed(ReasonCode::SessionTakenOver))));
    assert_eq!(payload(&mut watcher), Some(b"gone".to_vec()));
    newer.disconnect().expect("leaves");
    // Left in good order: no will. Vanished: will, after its delay.
    broker.connect(&options).disconnect().expect("leaves");
    assert_eq!(watcher.receive(NOT).expect("holds"), None);
    if let Some(will) = &mut options.connect.will {
        will.properties.push_number(PropertyId::WillDelayInterval, 1);
    }
    drop(broker.connect(&options.persistent(100)));
    assert_eq!(watcher.receive(Duration::from_millis(700)).expect("holds"), None, "not before its delay");
    assert_eq!(payload(&mut watcher), Some(b"gone".to_vec()));
}

#[test]
fn properties_travel_and_identifiers_tell_the_subscription() {
    let folder = folder();
    let broker = broker(&folder);
    let mut subscriber = broker.connect(&v5("s"));
    let mut properties = Properties::default();
    properties.push_number(PropertyId::SubscriptionIdentifier, 42);
    let filter = SubscribeFilter {
        filter: "p/+".into(),
        options: SubscriptionOptions { qos: QoS::AtLeastOnce, no_local: true, ..Default::default() },
    };
    assert_eq!(subscriber.subscribe_with(vec![filter], properties).expect("subscribed"), [ReasonCode::GrantedQoS1]);
    let mut properties = Properties::default();
    properties.push_user("k", "v");
    properties.push_text(PropertyId::ContentType, "text/plain");
    properties.push_number(PropertyId::MessageExpiryInterval, 60);
    subscriber.publish("p/own", b"own", QoS::AtLeastOnce, false).expect("published");
    broker.connect(&v5("p")).publish_with("p/a", b"x", QoS::AtLeastOnce, false, &properties).expect("published");
    let message = subscriber.receive(SOON).expect("holds").expect("arrives");
    assert_eq!(
        (message.topic.as_str(), message.properties.number(PropertyId::SubscriptionIdentifier)),
        ("p/a", Some(42)),
        "and not its own"
    );
    assert_eq!(message.properties.user().collect::<Vec<_>>(), [("k", "v")]);
    assert_eq!(message.properties.text(PropertyId::ContentType), Some("text/plain"));
    let nobody = broker.connect(&v5("n")).publish("nobody", b"", QoS::AtLeastOnce, false);
    assert_eq!(nobody.expect("published"), ReasonCode::NoMatchingSubscribers);
}

#[test]
fn a_hostile_packet_ends_its_own_connection_only() {
    use std::io::{Read, Write};
    let folder = folder();
    let broker = broker(&folder);
    let mut bystander = broker.connect(&v5("b"));
    let connect: &[u8] = b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x";
    let hostile: [&[u8]; 9] = [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"\x10\xff\xff\xff\x7f",
        b"\x10\x80\x80\x80\x80\x80",
        b"\x30\x03\x00\x01a",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x\x36\x05\x00\x01a\x00\x01",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x\x20\x02\x00\x00",
        b"\x10\x0d\x00\x04MQTT\x04\x02\x00\x3c\x00\x01x\x30\xff\xff\xff\x7f",
    ];
    for bytes in hostile {
        let mut stream = std::net::TcpStream::connect(broker.address()).expect("connects");
        stream.set_read_timeout(Some(SOON)).expect("set");
        stream.write_all(bytes).expect("written");
        let mut rest = Vec::new();
        // A reset is an end, too.
        let ended = stream.read_to_end(&mut rest).map_or_else(|error| error.kind() == std::io::ErrorKind::ConnectionReset, |_| true);
        assert!(ended, "{bytes:02x?} must end the connection");
    }
    let mut stream = std::net::TcpStream::connect(broker.address()).expect("connects");
    for byte in connect {
        stream.write_all(&[*byte]).expect("written");
    }
    let mut connack = [0; 4];
    stream.read_exact(&mut connack).expect("a CONNECT in single bytes is as good");
    assert_eq!(connack, [0x20, 2, 0, 0]);
    bystander.ping().expect("nobody else is hurt");
}
