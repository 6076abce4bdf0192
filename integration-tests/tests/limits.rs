//! Rates: who sends more than it may is read more slowly, loses nothing, and holds up nobody else. And the clean end.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::Will;
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(10);

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

/// Publishes `count` messages of so many bytes as fast as may be, and waits until all are taken; how long it took.
fn flood(client: &mut Client, count: usize, bytes: usize) -> Duration {
    let begun = Instant::now();
    for _ in 0..count {
        client.send("flood", &vec![1; bytes], QoS::AtMostOnce, false, &Properties::default()).expect("sent");
    }
    client.ping().expect("answers behind the last");
    begun.elapsed()
}

#[test]
fn clients_listeners_and_zones_are_held_to_their_rates_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let listener =
        |name: &str, zone: &str, more: &str| format!("[listeners.tcp.{name}]\nbind = \"127.0.0.1:0\"\nzone = \"{zone}\"\n{more}");
    let config = [
        listener("client", "client", ""),
        listener("bytes", "bytes", ""),
        listener("together", "plain", "messages_per_sec = 500\n"),
        listener("zone", "zone", ""),
        "[zones.plain.mqtt]\n[zones.client.mqtt]\nmessages_per_sec = 500\n[zones.bytes.mqtt]\nbytes_per_sec = 100000\n[zones.zone.mqtt]\nzone_messages_per_sec = 500\n".to_owned(),
    ];
    let broker = Broker::start(folder.path(), &config.concat());
    let connect = |listener: &str, id: &str| Client::connect(broker.address_of(listener), &v5(id)).expect("connects");
    let mut subscriber = broker.connect(&v5("s"));
    subscriber.subscribe(&[("flood", QoS::AtMostOnce)]).expect("subscribed");
    let mut received = |expect: usize| (0..expect).for_each(|_| drop(subscriber.receive(SOON).expect("holds").expect("nothing is lost")));
    // Without a limit 1,500 messages take no time; 500 a second, after the first 500, take two seconds.
    assert!(flood(&mut broker.connect(&v5("free")), 1500, 10) < Duration::from_secs(1));
    received(1500);
    // Nor do they come in bursts: of 1,500 sent at once the first second sees what it may and not much more.
    let mut sender = connect("tcp.client", "burst");
    for _ in 0..1500 {
        sender.send("flood", b"x", QoS::AtMostOnce, false, &Properties::default()).expect("sent");
    }
    std::thread::sleep(Duration::from_millis(500));
    let mut watcher = broker.connect(&v5("w"));
    watcher.subscribe(&[("flood", QoS::AtMostOnce)]).expect("subscribed");
    let rest = std::iter::from_fn(|| watcher.receive(Duration::from_millis(700)).expect("holds")).count();
    assert!((200..1100).contains(&rest), "{rest} came later than half a second");
    received(1500);
    for (listener, count, bytes) in [("tcp.client", 1500, 10), ("tcp.bytes", 30, 10_000)] {
        let mut client = connect(listener, listener);
        let took = flood(&mut client, count, bytes);
        assert!((Duration::from_millis(1500)..Duration::from_secs(6)).contains(&took), "{listener}: {took:?}");
        received(count);
        // Another client of the same kind has its own share.
        assert!(flood(&mut connect(listener, "other"), 5, 10) < Duration::from_secs(1), "{listener}");
        received(5);
    }
    for listener in ["tcp.together", "tcp.zone"] {
        let mut clients: Vec<Client> = (0..3).map(|n| connect(listener, &format!("{listener}-{n}"))).collect();
        let begun = Instant::now();
        for client in &mut clients {
            for _ in 0..500 {
                client.send("flood", b"x", QoS::AtMostOnce, false, &Properties::default()).expect("sent");
            }
        }
        clients.iter_mut().for_each(|client| client.ping().expect("answers"));
        assert!(begun.elapsed() > Duration::from_millis(700), "{listener}: {:?}", begun.elapsed());
        received(1500);
    }
}

#[test]
fn a_zone_may_demand_proof_and_has_a_rate_for_its_listeners_together() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[zones.closed.mqtt]\nallow_anonymous = false\n[zones.slow.mqtt]\nzone_connects_per_sec = 10\n\
        [listeners.tcp.closed]\nbind = \"127.0.0.1:0\"\nzone = \"closed\"\n[listeners.tcp.one]\nbind = \"127.0.0.1:0\"\nzone = \"slow\"\n\
        [listeners.tcp.two]\nbind = \"127.0.0.1:0\"\nzone = \"slow\"\n";
    let broker = Broker::start(folder.path(), config);
    let connect = |listener: &str, id: &str| Client::connect(broker.address_of(listener), &v5(id));
    assert!(matches!(connect("tcp.closed", "x"), Err(Error::Refused(ReasonCode::NotAuthorized))));
    assert!(connect("tcp.default", "x").is_ok());
    let begun = Instant::now();
    for n in 0..20 {
        connect(if n % 2 == 0 { "tcp.one" } else { "tcp.two" }, &format!("c{n}")).expect("connects, later");
    }
    assert!(begun.elapsed() > Duration::from_millis(700), "{:?}", begun.elapsed());
}

#[test]
fn subscriptions_have_a_rate() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[mqtt]\nsubscribes_per_sec = 5\n");
    let mut client = broker.connect(&v5("c"));
    let filters: Vec<String> = (0..8).map(|n| format!("t/{n}")).collect();
    let filters: Vec<(&str, QoS)> = filters.iter().map(|filter| (filter.as_str(), QoS::AtMostOnce)).collect();
    let codes = client.subscribe(&filters).expect("answered");
    assert_eq!(codes.iter().filter(|code| **code == ReasonCode::QuotaExceeded).count(), 3);
    std::thread::sleep(Duration::from_millis(700));
    assert!(!client.subscribe(&[("later", QoS::AtMostOnce)]).expect("answered")[0].is_error());
}

#[test]
fn the_end_is_told_and_what_was_promised_is_kept() {
    let folder = tempfile::tempdir().expect("a folder");
    let ready = folder.path().join("ready");
    let socket = folder.path().join("notify");
    let systemd = UnixDatagram::bind(&socket).expect("bound");
    systemd.set_read_timeout(Some(SOON)).expect("set");
    let file = folder.path().join("hookline.toml");
    std::fs::write(&file, "").expect("written");
    let arguments = ["--config", file.to_str().expect("a path"), "--ready-file", ready.to_str().expect("a path")];
    let broker = Broker::start_in(folder.path(), &arguments, &[("NOTIFY_SOCKET", socket.to_str().expect("a path"))]);
    eventually("the ready file is there", SOON, || ready.exists().then_some(()));
    let told = || {
        let mut bytes = [0u8; 256];
        let count = systemd.recv(&mut bytes).expect("systemd is told");
        String::from_utf8_lossy(&bytes[..count]).into_owned()
    };
    assert!(told().contains("READY=1"));
    let mut keeper = broker.connect(&v5("keeper").persistent(100));
    keeper.subscribe(&[("wills", QoS::AtLeastOnce)]).expect("subscribed");
    keeper.disconnect().expect("leaves");
    let mut options = v5("dying");
    options.connect.will = Some(Will {
        topic: "wills".into(),
        payload: b"w".to_vec(),
        qos: QoS::AtLeastOnce,
        retain: false,
        properties: Properties::default(),
    });
    let mut client = broker.connect(&options);
    let old = broker.connect(&Options::new("old"));
    assert!(broker.stop().success());
    assert!(matches!(client.receive(SOON), Err(Error::Closed(ReasonCode::ServerShuttingDown))), "clients of MQTT 5 are told");
    drop(old);
    assert!(!ready.exists());
    assert!(told().contains("STOPPING=1"));
    let broker = Broker::start(folder.path(), "");
    let mut keeper = broker.connect(&v5("keeper").persistent(100));
    assert_eq!(keeper.receive(SOON).expect("holds").expect("the will was kept").payload, b"w");
}
