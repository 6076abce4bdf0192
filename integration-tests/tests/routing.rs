//! Shared, exclusive, automatic and rewritten subscriptions, delayed and retained messages, zones, `$SYS`: what the broker does
//! with topics.

use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Client, Options, Received};
use hookline_mqtt::packet::{AckKind, SubscribeFilter, SubscriptionOptions};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(5);
const NOT: Duration = Duration::from_millis(500);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn next(client: &mut Client) -> Received {
    client.receive(SOON).expect("holds").expect("arrives")
}

fn nothing(client: &mut Client) {
    assert_eq!(client.receive(NOT).expect("holds"), None);
}

fn subscribe(client: &mut Client, filter: &str, qos: QoS) {
    let codes = client.subscribe(&[(filter, qos)]).expect("answered");
    assert!(!codes[0].is_error(), "{filter}: {codes:?}");
}

fn publish(client: &mut Client, topic: &str, payload: &[u8]) {
    let reason = client.publish(topic, payload, QoS::AtLeastOnce, false).expect("answered");
    assert!(!reason.is_error(), "{topic}: {reason:?}");
}

/// Receives until nothing comes any more; acknowledges all.
fn drain(client: &mut Client) -> Vec<Vec<u8>> {
    std::iter::from_fn(|| client.receive(NOT).expect("holds")).map(|message| message.payload).collect()
}

#[test]
fn what_a_member_had_goes_to_the_others_when_it_is_gone() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let mut publisher = broker.connect(&v5("p"));
    let mut stuck = broker.connect(&v5("stuck"));
    subscribe(&mut stuck, "$share/g/t", QoS::AtLeastOnce);
    for n in 0..60u8 {
        publish(&mut publisher, "t", &[n]);
    }
    let mut other = broker.connect(&v5("other"));
    subscribe(&mut other, "$share/g/t", QoS::AtLeastOnce);
    let had = std::iter::from_fn(|| stuck.receive_unacknowledged(NOT).expect("holds")).count();
    assert_eq!(had, 32, "its window");
    let mut live = Vec::new();
    for n in 60..100u8 {
        publish(&mut publisher, "t", &[n]);
        live.push(next(&mut other).payload);
    }
    assert_eq!(live, (60..100u8).map(|n| vec![n]).collect::<Vec<_>>(), "who is stuck is passed over");
    drop(stuck);
    let mut got: Vec<Received> = std::iter::from_fn(|| other.receive(NOT).expect("holds")).collect();
    assert!(got.iter().filter(|message| message.dup).count() >= 32, "what may have arrived there is marked");
    got.sort_by_key(|message| message.payload[0]);
    assert_eq!(got.into_iter().map(|message| message.payload[0]).collect::<Vec<_>>(), (0..60).collect::<Vec<_>>(), "nothing is lost");
}

#[test]
fn what_waits_for_a_durable_member_goes_to_the_others_when_its_session_ends() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let mut publisher = broker.connect(&v5("p"));
    let mut member = broker.connect(&v5("member").persistent(2));
    subscribe(&mut member, "$share/g/t", QoS::AtLeastOnce);
    drop(member);
    std::thread::sleep(Duration::from_millis(100));
    for n in 0..20u8 {
        publish(&mut publisher, "t", &[n]);
    }
    let mut other = broker.connect(&v5("other"));
    subscribe(&mut other, "$share/g/t", QoS::AtLeastOnce);
    publish(&mut publisher, "t", &[99]);
    assert_eq!(next(&mut other).payload, [99], "who has a connection comes first");
    let mut got: Vec<u8> = (0..20).map(|_| next(&mut other).payload[0]).collect();
    got.sort_unstable();
    assert_eq!(got, (0..20).collect::<Vec<_>>());
}

#[test]
fn shared_subscriptions_of_durable_members_survive_a_restart() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    for n in 0..4 {
        let mut member = broker.connect(&v5(&format!("m{n}")).persistent(1000));
        subscribe(&mut member, "$share/g/t/#", QoS::AtLeastOnce);
        subscribe(&mut member, "$queue/q", QoS::AtLeastOnce);
    }
    broker.kill();
    let broker = Broker::start(folder.path(), "");
    let mut publisher = broker.connect(&v5("p"));
    for n in 0..40u8 {
        publish(&mut publisher, "t/x", &[n]);
    }
    publish(&mut publisher, "q", b"one");
    let mut all = Vec::new();
    for n in 0..4 {
        let mut member = broker.connect(&v5(&format!("m{n}")).persistent(1000));
        let got = drain(&mut member);
        assert!((10..=11).contains(&got.len()), "a fair share: {}", got.len());
        all.extend(got);
    }
    assert_eq!(all.len(), 41, "each message once");
}

#[test]
fn an_exclusive_subscription_has_one_holder() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "[mqtt]\nexclusive_subscriptions = true\n");
    let (mut one, mut two) = (broker.connect(&v5("one")), broker.connect(&v5("two")));
    let ask = |client: &mut Client| client.subscribe(&[("$exclusive/door", QoS::AtLeastOnce)]).expect("answered")[0];
    assert_eq!(ask(&mut one), ReasonCode::GrantedQoS1);
    assert_eq!(ask(&mut one), ReasonCode::GrantedQoS1, "its own again");
    assert_eq!(ask(&mut two), ReasonCode::QuotaExceeded);
    publish(&mut two, "door", b"x");
    assert_eq!(next(&mut one).topic, "door");
    one.unsubscribe(&["$exclusive/door"]).expect("unsubscribed");
    assert_eq!(ask(&mut two), ReasonCode::GrantedQoS1);
    drop(two);
    eventually("the holder is gone", SOON, || (ask(&mut one) == ReasonCode::GrantedQoS1).then_some(()));
}

#[test]
fn delayed_messages_come_in_time_also_after_a_crash() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "[delayed]\nmessages_max = 5\n");
    let mut publisher = broker.connect(&v5("p"));
    let mut subscriber = broker.connect(&v5("s").persistent(100));
    subscribe(&mut subscriber, "later/#", QoS::AtLeastOnce);
    let begun = Instant::now();
    publish(&mut publisher, "$delayed/1/later/a", b"one");
    let message = next(&mut subscriber);
    assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("later/a", &b"one"[..]));
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());
    publish(&mut publisher, "$delayed/2/later/b", b"two");
    for n in 0..4 {
        publish(&mut publisher, &format!("$delayed/1000/later/{n}"), b"much later");
    }
    let more = |client: &mut Client, topic: &str| client.publish(topic, b"x", QoS::AtLeastOnce, false).expect("answered");
    assert_eq!(more(&mut publisher, "$delayed/1000/later/5"), ReasonCode::QuotaExceeded, "at the bound");
    assert_eq!(more(&mut publisher, "$delayed/soon/later/5"), ReasonCode::TopicNameInvalid);
    broker.kill();
    let broker = Broker::start(folder.path(), "");
    let mut subscriber = broker.connect(&v5("s").persistent(100));
    let mut message = next(&mut subscriber);
    if message.dup {
        // That the first was acknowledged may not have been on disk yet.
        message = next(&mut subscriber);
    }
    assert_eq!((message.topic.as_str(), message.payload.as_slice()), ("later/b", &b"two"[..]));
    nothing(&mut subscriber);
}

#[test]
fn topics_are_rewritten_and_clients_subscribed() {
    let folder = folder();
    let config = "[[rewrite]]\naction = \"publish\"\nsource_topic = \"old/#\"\nre = \"^old/(.+)/(.+)$\"\ndest_topic = \"new/$2/$1\"\n\
        [[rewrite]]\naction = \"subscribe\"\nsource_topic = \"mine/#\"\nre = \"^mine/(.+)$\"\ndest_topic = \"clients/${clientid}/$1\"\n\
        [[auto_subscribe]]\ntopic = \"inbox/${clientid}\"\nqos = 1\n[[auto_subscribe]]\ntopic = \"users/${username}\"\nqos = 1\n";
    let broker = Broker::start(folder.path(), config);
    let mut publisher = broker.connect(&v5("p"));
    let mut client = broker.connect(&v5("c").persistent(100));
    subscribe(&mut client, "new/#", QoS::AtLeastOnce);
    subscribe(&mut client, "$share/g/mine/+", QoS::AtLeastOnce);
    publish(&mut publisher, "old/a/b", b"");
    assert_eq!(next(&mut client).topic, "new/b/a");
    publish(&mut publisher, "old/alone", b"");
    publish(&mut publisher, "clients/c/x", b"");
    assert_eq!(next(&mut client).topic, "clients/c/x", "the one that the expression does not match is left alone");
    publish(&mut publisher, "inbox/c", b"");
    assert_eq!(next(&mut client).topic, "inbox/c", "without asking for it");
    client.disconnect().expect("leaves");
    publish(&mut publisher, "inbox/c", b"away");
    let mut client = broker.connect(&v5("c").persistent(100));
    assert_eq!(next(&mut client).payload, b"away", "it is a subscription like others");
}

#[test]
fn retained_messages_come_page_by_page_and_all() {
    let folder = folder();
    let config = "[mqtt]\nretained_max = 3001\nretained_payload_bytes_max = 100\n[mqtt.mqueue_priorities]\n";
    let broker = Broker::start(folder.path(), config);
    let mut publisher = broker.connect(&v5("p"));
    let none = Properties::default();
    for n in 0..3000 {
        publisher.send(&format!("r/{n:04}"), b"x", QoS::AtLeastOnce, true, &none).expect("sent");
        if n % 50 == 49 {
            (0..50).for_each(|_| {
                assert_eq!(publisher.next_ack(SOON).expect("holds").expect("acknowledged").1, ReasonCode::NoMatchingSubscribers)
            });
        }
    }
    for (id, options) in [("memory", v5("memory")), ("durable", v5("durable").persistent(100))] {
        for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
            let mut client = broker.connect(&options);
            subscribe(&mut client, "r/#", qos);
            let topics: Vec<String> = (0..3000).map(|_| next(&mut client).topic).collect();
            assert!(topics.iter().enumerate().all(|(n, topic)| *topic == format!("r/{n:04}")), "{id} at {qos:?}");
            nothing(&mut client);
        }
    }
    // Who takes nothing gets no more than it can hold, and the others are served.
    let mut lazy = broker.connect(&v5("lazy"));
    lazy.subscribe(&[("r/#", QoS::AtLeastOnce)]).expect("subscribed");
    publish(&mut publisher, "other", b"x");
    assert_eq!(std::iter::from_fn(|| lazy.receive_unacknowledged(NOT).expect("holds")).count(), 32);
    let retain =
        |client: &mut Client, topic: &str, payload: &[u8]| client.publish(topic, payload, QoS::AtLeastOnce, true).expect("answered");
    retain(&mut publisher, "r/one-more", b"x");
    assert_eq!(retain(&mut publisher, "r/too-many", b"x"), ReasonCode::QuotaExceeded);
    assert_eq!(retain(&mut publisher, "r/0000", &[0; 200]), ReasonCode::QuotaExceeded);
    assert!(!retain(&mut publisher, "r/0000", b"").is_error());
}

#[test]
fn retained_messages_expire() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "[mqtt]\nretained_expiry_secs = 1\n");
    let mut publisher = broker.connect(&v5("p"));
    publisher.publish("r/short", b"x", QoS::AtLeastOnce, true).expect("published");
    let mut long = Properties::default();
    long.push_number(PropertyId::MessageExpiryInterval, 100);
    publisher.publish_with("r/long", b"x", QoS::AtLeastOnce, true, &long).expect("published");
    std::thread::sleep(Duration::from_millis(2500));
    let get = |broker: &Broker| {
        let mut client = broker.connect(&v5("s"));
        subscribe(&mut client, "r/#", QoS::AtMostOnce);
        std::iter::from_fn(|| client.receive(NOT).expect("holds")).map(|message| message.topic).collect::<Vec<_>>()
    };
    assert_eq!(get(&broker), ["r/long"]);
    broker.kill();
    assert_eq!(get(&Broker::start(folder.path(), "")), ["r/long"]);
}

#[test]
fn a_zone_overrides_and_what_it_does_not_name_is_as_for_all() {
    let folder = folder();
    let config = "[mqtt]\ninflight_max = 5\nmqueue_max = 7\n[zones.small.mqtt]\ninflight_max = 2\nupgrade_qos = true\n\
        [zones.quick.mqtt]\ndurability = \"memory\"\n[zones.careful.mqtt]\ndurability = \"disk\"\n[store]\nlevel = \"process\"\n\
        [listeners.tcp.small]\nbind = \"127.0.0.1:0\"\nzone = \"small\"\n[listeners.tcp.quick]\nbind = \"127.0.0.1:0\"\nzone = \"quick\"\n\
        [listeners.tcp.careful]\nbind = \"127.0.0.1:0\"\nzone = \"careful\"\n";
    let broker = Broker::start(folder.path(), config);
    let at = |listener: &str, options: &Options| Client::connect(broker.address_of(listener), options).expect("connects");
    let mut publisher = broker.connect(&v5("p"));
    for (listener, window) in [("tcp.default", 5), ("tcp.small", 2)] {
        let mut client = at(listener, &v5("c"));
        subscribe(&mut client, "w", QoS::AtLeastOnce);
        (0..20).for_each(|_| publish(&mut publisher, "w", b"x"));
        let mut waiting: Vec<_> = std::iter::from_fn(|| client.receive_unacknowledged(NOT).expect("holds")).collect();
        assert_eq!(waiting.len(), window);
        let mut got = 0;
        while let Some(message) = waiting.pop() {
            got += 1;
            client.send_ack(AckKind::PubAck, message.packet_id).expect("sent");
            waiting.extend(client.receive_unacknowledged(NOT).expect("holds"));
        }
        assert_eq!(got, window + 7, "mqueue_max is everybody's");
        publisher.publish("w", b"low", QoS::AtMostOnce, false).expect("published");
        let expect = if listener == "tcp.small" { QoS::AtLeastOnce } else { QoS::AtMostOnce };
        assert_eq!(next(&mut client).qos, expect, "upgrade_qos");
    }
    // What was acknowledged at any level is there after a crash of the process, but for level memory.
    let mut keeper = broker.connect(&v5("keeper").persistent(100));
    subscribe(&mut keeper, "k/#", QoS::AtLeastOnce);
    drop(keeper);
    for listener in ["tcp.default", "tcp.careful", "tcp.quick"] {
        let mut client = at(listener, &v5("q"));
        for n in 0..50u8 {
            publish(&mut client, &format!("k/{listener}"), &[n]);
        }
    }
    broker.kill();
    let broker = Broker::start(folder.path(), config);
    let mut keeper = broker.connect(&v5("keeper").persistent(100));
    let got: Vec<Received> = std::iter::from_fn(|| keeper.receive(NOT).expect("holds")).collect();
    for listener in ["tcp.default", "tcp.careful"] {
        assert_eq!(got.iter().filter(|message| message.topic == format!("k/{listener}")).count(), 50, "{listener}");
    }
}

#[test]
fn qos_0_messages_wait_for_a_durable_session_unless_the_zone_says_no() {
    let folder = folder();
    let config = "[zones.drop.mqtt]\nmqueue_store_qos0 = false\n[listeners.tcp.drop]\nbind = \"127.0.0.1:0\"\nzone = \"drop\"\n";
    let broker = Broker::start(folder.path(), config);
    let mut publisher = broker.connect(&v5("p"));
    for (listener, expect) in [("tcp.default", &[b"0", b"1", b"2"][..]), ("tcp.drop", &[b"1"])] {
        let options = v5(listener).persistent(100);
        let connect = || Client::connect(broker.address_of(listener), &options).expect("connects");
        let mut client = connect();
        subscribe(&mut client, &format!("{listener}/1"), QoS::AtLeastOnce);
        subscribe(&mut client, &format!("{listener}/0"), QoS::AtMostOnce);
        client.disconnect().expect("leaves");
        std::thread::sleep(Duration::from_millis(100));
        publisher.publish(&format!("{listener}/1"), b"0", QoS::AtMostOnce, false).expect("published");
        publish(&mut publisher, &format!("{listener}/1"), b"1");
        publish(&mut publisher, &format!("{listener}/0"), b"2");
        let mut client = connect();
        let got = drain(&mut client);
        assert_eq!(got, expect.iter().map(|payload| payload.to_vec()).collect::<Vec<_>>(), "{listener}");
        publisher.publish(&format!("{listener}/1"), b"live", QoS::AtMostOnce, false).expect("published");
        assert_eq!(drain(&mut client), [b"live"], "once");
    }
}

#[test]
fn priorities_loops_and_resends_are_as_the_zone_says() {
    let folder = folder();
    let config = "[mqtt]\ninflight_max = 1\nretry_interval_secs = 1\nignore_loop_deliver = true\n[mqtt.mqueue_priorities]\n\"high\" = 9\n\"middle\" = 5\n";
    let broker = Broker::start(folder.path(), config);
    let mut publisher = broker.connect(&v5("p"));
    let mut client = broker.connect(&Options::new("old"));
    for topic in ["low", "middle", "high"] {
        subscribe(&mut client, topic, QoS::AtLeastOnce);
    }
    for topic in ["low", "low", "middle", "high", "middle"] {
        publish(&mut publisher, topic, b"x");
    }
    let first = client.receive_unacknowledged(SOON).expect("holds").expect("arrives");
    let again = client.receive_unacknowledged(SOON).expect("holds").expect("is sent again");
    assert_eq!((first.dup, again.dup, first.packet_id), (false, true, again.packet_id));
    client.send_ack(AckKind::PubAck, first.packet_id).expect("sent");
    let order: Vec<String> = (0..4).map(|_| next(&mut client).topic).collect();
    assert_eq!(order, ["high", "middle", "middle", "low"]);
    publish(&mut client, "high", b"own");
    nothing(&mut client);
}

#[test]
fn the_broker_tells_about_itself() {
    let folder = folder();
    let config = "[sys]\ninterval_secs = 1\nheartbeat_secs = 1\nsubscribe_events = true\n[node]\nname = \"n@here\"\n[slow_subscribers]\nthreshold_ms = 100\n";
    let broker = Broker::start(folder.path(), config);
    let mut watcher = broker.connect(&v5("watcher"));
    subscribe(&mut watcher, "$SYS/brokers/n@here/#", QoS::AtMostOnce);
    subscribe(&mut watcher, "$SYS/brokers", QoS::AtMostOnce);
    let mut device = broker.connect(&v5("device"));
    subscribe(&mut device, "t", QoS::AtLeastOnce);
    publish(&mut device, "t", b"x");
    let message = device.receive_unacknowledged(SOON).expect("holds").expect("arrives");
    std::thread::sleep(Duration::from_millis(200));
    device.send_ack(AckKind::PubAck, message.packet_id).expect("sent");
    device.disconnect().expect("leaves");
    let mut seen = std::collections::BTreeMap::new();
    let wanted = [
        "$SYS/brokers",
        "$SYS/brokers/n@here/version",
        "$SYS/brokers/n@here/uptime",
        "$SYS/brokers/n@here/datetime",
        "$SYS/brokers/n@here/stats/connections/count",
        "$SYS/brokers/n@here/metrics/messages/received",
        "$SYS/brokers/n@here/metrics/packets/connect/received",
        "$SYS/brokers/n@here/clients/device/connected",
        "$SYS/brokers/n@here/clients/device/subscribed",
        "$SYS/brokers/n@here/clients/device/disconnected",
    ];
    let slow = "$SYS/brokers/n@here/slow_subscriptions";
    let deadline = Instant::now() + Duration::from_secs(10);
    let complete = |seen: &std::collections::BTreeMap<String, String>| {
        wanted.iter().all(|topic| seen.contains_key(*topic)) && seen.get(slow).is_some_and(|list| list.contains("device"))
    };
    while !complete(&seen) {
        assert!(Instant::now() < deadline, "missing from {:?}", seen.keys());
        let message = next(&mut watcher);
        seen.insert(message.topic, String::from_utf8_lossy(&message.payload).into_owned());
    }
    assert_eq!(seen["$SYS/brokers"], "n@here");
    assert!(seen["$SYS/brokers/n@here/clients/device/disconnected"].contains("\"reason\":\"normal\""));
    assert_eq!(watcher.publish("$SYS/brokers/x", b"mine", QoS::AtLeastOnce, false).expect("answered"), ReasonCode::NotAuthorized);
    let all = SubscribeFilter { filter: "#".into(), options: SubscriptionOptions::default() };
    let mut everything = broker.connect(&v5("everything"));
    everything.subscribe_with(vec![all], Properties::default()).expect("subscribed");
    assert_eq!(everything.receive(Duration::from_millis(1500)).expect("holds"), None, "not for \"#\"");
}
