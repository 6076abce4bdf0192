//! What hostile and broken clients do, while two honest ones go on talking. Each attack says what it cost the broker in memory
//! and the honest ones in latency; memory has a bound, and the honest ones must be served. (How fast is for the benches.)

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::certificates::Certificates;
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::{Connect, Packet, Publish, SubscribeFilter, SubscriptionOptions, Will};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version, decode};

const SOON: Duration = Duration::from_secs(10);
const MIB: u64 = 1 << 20;

/// A broker and two honest clients.
struct Scene {
    name: &'static str,
    broker: Broker,
    folder: tempfile::TempDir,
    honest: Option<JoinHandle<Vec<Duration>>>,
    stop: Arc<AtomicBool>,
    memory_before: u64,
}

impl Scene {
    fn new(name: &'static str, config: &str) -> Scene {
        let folder = tempfile::tempdir().expect("a folder");
        let broker = Broker::start(folder.path(), config);
        let stop = Arc::new(AtomicBool::new(false));
        let (address, stopped) = (broker.address(), Arc::clone(&stop));
        let honest = std::thread::spawn(move || talk(address, &stopped));
        std::thread::sleep(Duration::from_millis(300));
        let memory_before = memory(broker.pid());
        Scene { name, broker, folder, honest: Some(honest), stop, memory_before }
    }

    fn address(&self) -> SocketAddr {
        self.broker.address()
    }

    fn tcp(&self) -> TcpStream {
        connect_tcp(self.address())
    }

    /// A TCP connection that has said CONNECT and heard that it may.
    fn served(&self, connect: &Connect) -> TcpStream {
        let mut stream = self.tcp();
        let mut out = Vec::new();
        connect.encode(&mut out);
        stream.write_all(&out).expect("written");
        assert_eq!(reason_of_connack(&mut stream), Some(ReasonCode::Success));
        stream
    }

    /// Ends the talk of the honest, and holds what was seen against the bounds.
    fn end(mut self, memory_max: u64) {
        let memory_after = memory(self.broker.pid());
        self.stop.store(true, Ordering::Relaxed);
        let honest = self.honest.take().expect("they talk");
        let mut latencies = honest.join().expect("the honest clients are served");
        latencies.sort_unstable();
        assert!(latencies.len() > 10, "{}: only {} messages of the honest came through", self.name, latencies.len());
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        let grown = memory_after.saturating_sub(self.memory_before);
        println!(
            "{}: memory +{:.1} MiB, honest clients: {} messages, p50 {:?}, p99 {:?}, max {:?}",
            self.name,
            grown as f64 / MIB as f64,
            latencies.len(),
            at(0.5),
            at(0.99),
            at(1.0)
        );
        assert!(grown <= memory_max, "{}: memory grew by {grown} bytes", self.name);
        let mut last = self.broker.connect(&Options::new("last"));
        last.ping().expect("it serves new clients");
        drop(last);
        assert!(!self.broker.log().contains("panicked"), "{}", self.broker.log());
        assert!(self.broker.stop().success());
        drop(self.folder);
    }
}

/// Publishes to itself at QoS 1 until it is told to stop; how long each took.
fn talk(address: SocketAddr, stop: &AtomicBool) -> Vec<Duration> {
    let mut options = Options::new("honest");
    options.timeout = Duration::from_secs(20);
    let mut client = Client::connect(address, &options).expect("connects");
    client.subscribe(&[("honest", QoS::AtLeastOnce)]).expect("subscribed");
    let mut latencies = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let begun = Instant::now();
        client.publish("honest", b"x", QoS::AtLeastOnce, false).expect("published");
        client.receive(Duration::from_secs(20)).expect("holds").expect("arrives");
        latencies.push(begun.elapsed());
        std::thread::sleep(Duration::from_millis(2));
    }
    latencies
}

/// Resident memory of a process, bytes.
fn memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
    line.split_whitespace().next().and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
}

/// CPU time of a process, in hundredths of a second.
fn cpu(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields: Vec<&str> = stat.rsplit(')').next().expect("fields").split_whitespace().collect();
    fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
}

fn connect_tcp(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(SOON)).expect("set");
    stream.set_write_timeout(Some(SOON)).expect("set");
    stream
}

fn reason_of_connack(stream: &mut TcpStream) -> Option<ReasonCode> {
    let (mut input, mut bytes) = (Vec::new(), [0u8; 512]);
    loop {
        if let Ok(Some((Packet::ConnAck(ack), _))) = decode(&input, Version::V5, 1 << 20) {
            return Some(ack.reason);
        }
        match stream.read(&mut bytes) {
            Ok(count) if count > 0 => input.extend_from_slice(&bytes[..count]),
            _ => return None,
        }
    }
}

/// Whether the peer ends the connection, whatever it says before.
fn closes(stream: &mut TcpStream) -> bool {
    let mut bytes = [0u8; 4096];
    loop {
        match stream.read(&mut bytes) {
            Ok(0) => return true,
            Ok(_) => {}
            Err(error) => return !matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut),
        }
    }
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn publish(topic: &str, qos: QoS, packet_id: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    Publish { dup: false, qos, retain: false, topic, packet_id, properties: Properties::default(), payload }.encode(&mut out, Version::V5);
    out
}

#[test]
fn row_1_and_2_lengths_that_promise_too_much() {
    let scene = Scene::new("row 1, 2", "[mqtt]\nidle_timeout_secs = 1\n");
    let mut all: Vec<TcpStream> = (0..300).map(|_| scene.tcp()).collect();
    for (n, stream) in all.iter_mut().enumerate() {
        let bytes: &[u8] = if n % 2 == 0 { &[0x10, 0xFF, 0xFF, 0xFF, 0x7F, 0] } else { &[0x10, 0xFF, 0xFF, 0xFF, 0xFF, 0x7F] };
        stream.write_all(bytes).expect("written");
    }
    assert!(all.iter_mut().all(closes));
    scene.end(16 * MIB);
}

#[test]
fn row_3_other_protocols_on_this_port() {
    let scene = Scene::new("row 3", "");
    for _ in 0..300 {
        for bytes in [&b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"[..], &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC], b"SSH-2.0-x\r\n"] {
            let mut stream = scene.tcp();
            stream.write_all(bytes).expect("written");
            assert!(closes(&mut stream));
        }
    }
    assert!(scene.broker.log().matches("turned away").count() < 20, "the log is not flooded");
    scene.end(16 * MIB);
}

#[test]
fn row_4_connects_one_byte_at_a_time() {
    let scene = Scene::new("row 4", "[mqtt]\nidle_timeout_secs = 2\n[listeners.tcp.default]\nhalf_open_per_address_max = 800\n");
    let mut connect = Vec::new();
    v5("slow").connect.encode(&mut connect);
    let begun = Instant::now();
    let mut all: Vec<TcpStream> = (0..1000).map(|_| scene.tcp()).collect();
    for byte in connect.iter().take(5) {
        all.iter_mut().for_each(|stream| drop(stream.write_all(&[*byte])));
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(all.iter_mut().all(closes));
    assert!(begun.elapsed() < Duration::from_secs(15), "the deadline is for the whole CONNECT");
    scene.end(32 * MIB);
}

#[test]
fn row_5_handshakes_that_go_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let tls = Certificates::make(folder.path()).toml();
    let config =
        format!("[mqtt]\nidle_timeout_secs = 2\n[listeners.tls.default]\nbind = \"127.0.0.1:0\"\n[listeners.tls.default.tls]\n{tls}");
    let scene = Scene::new("row 5", &config);
    let address = scene.broker.address_of("tls.default");
    let mut all: Vec<TcpStream> = (0..500).map(|_| connect_tcp(address)).collect();
    for (n, stream) in all.iter_mut().enumerate() {
        // Garbage, half a hello, nothing.
        match n % 3 {
            0 => drop(stream.write_all(&[0xAB; 600])),
            1 => drop(stream.write_all(&[0x16, 3, 1, 2, 0, 1, 0, 1, 0xFC, 3, 3])),
            _ => {}
        }
    }
    assert!(all.iter_mut().all(closes));
    scene.end(48 * MIB);
}

#[test]
fn row_6_to_8_packets_that_clients_must_not_send() {
    let scene = Scene::new("row 6 to 8", "");
    let mut second = Vec::new();
    v5("x").connect.encode(&mut second);
    let packets: [&[u8]; 8] = [
        &second,
        &[0x20, 3, 0, 0, 0],
        &[0x90, 4, 0, 1, 0, 0],
        &[0xD0, 0],
        &[0x36, 5, 0, 1, b't', 0, 1],
        &[0x38, 4, 0, 1, b't', 0],
        &[0x30, 5, 0, 2, 0xC3, 0x28, 0],
        &[0x30, 4, 0, 1, 0, 0],
    ];
    for n in 0..400 {
        let mut stream = scene.served(&v5(&format!("row6-{n}")).connect);
        stream.write_all(packets[n % packets.len()]).expect("written");
        assert!(closes(&mut stream));
    }
    scene.end(16 * MIB);
}

#[test]
fn row_9_topics_of_65_thousand_levels() {
    let scene = Scene::new("row 9", "");
    let deep = "/".repeat(65_535);
    for n in 0..100 {
        let mut client = scene.broker.connect(&v5(&format!("deep-{n}")));
        assert_eq!(client.subscribe(&[(&deep, QoS::AtMostOnce)]).expect("answered"), [ReasonCode::TopicFilterInvalid]);
        let refused = client.publish(&deep, b"x", QoS::AtLeastOnce, false);
        assert!(matches!(refused, Err(Error::Closed(ReasonCode::TopicNameInvalid))), "{refused:?}");
    }
    scene.end(16 * MIB);
}

#[test]
fn row_10_thousands_of_plus_filters_against_deep_topics() {
    let scene = Scene::new("row 10", "");
    let mut client = scene.broker.connect(&v5("plus"));
    for chunk in 0..10 {
        let filters: Vec<String> = (0..500).map(|n| format!("{}/{chunk}-{n}", ["+"; 8].join("/"))).collect();
        let filters: Vec<(&str, QoS)> = filters.iter().map(|filter| (filter.as_str(), QoS::AtMostOnce)).collect();
        assert!(client.subscribe(&filters).expect("answered").iter().all(|code| !code.is_error()));
    }
    let mut publisher = scene.broker.connect(&v5("deep"));
    for n in 0..2000 {
        publisher.publish(&format!("a/b/c/d/e/f/g/{n}/x"), b"x", QoS::AtLeastOnce, false).expect("published");
    }
    scene.end(64 * MIB);
}

#[test]
fn row_11_and_12_floods_of_subscriptions_are_bounded() {
    let scene = Scene::new("row 11, 12", "[mqtt]\nsubscriptions_max = 2000\n");
    let filter = |name: String| SubscribeFilter { filter: name, options: SubscriptionOptions::default() };
    let mut client = scene.broker.connect(&v5("many"));
    let codes = client.subscribe_with((0..50_000).map(|n| filter(format!("m/{n}"))).collect(), Properties::default()).expect("answered");
    assert_eq!(codes.len(), 50_000, "each filter has its code");
    assert_eq!(codes.iter().filter(|code| !code.is_error()).count(), 1000, "filters_per_subscribe_max");
    assert!(codes[1000..].iter().all(|code| *code == ReasonCode::QuotaExceeded));
    let mut flood: Vec<Client> = (0..20).map(|n| scene.broker.connect(&v5(&format!("flood-{n}")))).collect();
    for round in 0..20 {
        for client in &mut flood {
            client.subscribe_with((0..500).map(|n| filter(format!("f/{round}/{n}/+"))).collect(), Properties::default()).expect("answered");
        }
    }
    scene.end(128 * MIB);
}

#[test]
fn row_13_subscribing_and_unsubscribing_leaves_nothing() {
    let scene = Scene::new("row 13", "");
    let mut client = scene.broker.connect(&v5("churn"));
    let mut round = |from: usize| {
        for n in from..from + 5000 {
            let filter = format!("churn/{n}/+/#");
            client.subscribe(&[(&filter, QoS::AtLeastOnce)]).expect("answered");
            client.unsubscribe(&[&filter]).expect("answered");
        }
    };
    round(0);
    let once = memory(scene.broker.pid());
    round(5000);
    let twice = memory(scene.broker.pid());
    assert!(twice < once + 4 * MIB, "{once} {twice}");
    scene.end(24 * MIB);
}

#[test]
fn row_14_and_15_retained_messages_by_the_thousand() {
    let scene = Scene::new("row 14, 15", "[mqtt]\nretained_max = 20000\n[store]\nlevel = \"process\"\n");
    let mut publisher = scene.broker.connect(&v5("bomb"));
    let mut refused = 0;
    for n in 0..21_000 {
        publisher.send(&format!("bomb/{n}"), &[b'x'; 100], QoS::AtLeastOnce, true, &Properties::default()).expect("sent");
        if n % 50 == 49 {
            for _ in 0..50 {
                let (_, reason) = publisher.next_ack(SOON).expect("holds").expect("answered");
                refused += u32::from(reason == ReasonCode::QuotaExceeded);
            }
        }
    }
    assert_eq!(refused, 1000, "at the bound it is said, and nothing is cut off silently");
    // Subscribers that take nothing, and one that takes all.
    let lazy: Vec<TcpStream> = (0..30)
        .map(|n| {
            let mut stream = scene.served(&v5(&format!("lazy-{n}")).connect);
            let mut out = Vec::new();
            let filters = vec![SubscribeFilter { filter: "#".into(), options: SubscriptionOptions::default() }];
            hookline_mqtt::packet::Subscribe { packet_id: 1, properties: Properties::default(), filters }.encode(&mut out, Version::V5);
            stream.write_all(&out).expect("written");
            stream
        })
        .collect();
    let mut eager = scene.broker.connect(&v5("eager"));
    eager.subscribe(&[("bomb/#", QoS::AtMostOnce)]).expect("answered");
    for _ in 0..20_000 {
        eager.receive(SOON).expect("holds").expect("all of them");
    }
    for n in 0..20_000 {
        publisher.send(&format!("bomb/{n}"), b"", QoS::AtMostOnce, true, &Properties::default()).expect("sent");
    }
    publisher.ping().expect("answers");
    drop(lazy);
    scene.end(160 * MIB);
}

#[test]
fn row_16_and_17_acknowledgements_that_make_no_sense() {
    let scene = Scene::new("row 16, 17", "");
    let mut never = scene.served(&v5("never").connect);
    for id in 1..=101u16 {
        never.write_all(&publish("t", QoS::ExactlyOnce, id, b"x")).expect("written");
    }
    assert!(closes(&mut never), "the receive maximum holds");
    let mut same = scene.served(&v5("same").connect);
    for _ in 0..5000 {
        same.write_all(&publish("t", QoS::ExactlyOnce, 7, b"x")).expect("written");
        let mut answer = [0u8; 5];
        same.read_exact(&mut answer[..4]).expect("PUBREC each time");
        if answer[1] == 3 {
            same.read_exact(&mut answer[4..]).expect("with its reason");
        }
        assert_eq!(answer[0], 0x50);
    }
    let mut unknown = scene.served(&v5("unknown").connect);
    let mut reader = unknown.try_clone().expect("cloned");
    let reading = std::thread::spawn(move || closes(&mut reader));
    for id in 1..20_000u16 {
        let id = id.to_be_bytes();
        unknown.write_all(&[0x62, 2, id[0], id[1], 0x40, 2, id[0], id[1], 0x50, 2, id[0], id[1]]).expect("written");
    }
    unknown.write_all(&[0xE0, 0]).expect("written");
    assert!(reading.join().expect("read"));
    scene.end(16 * MIB);
}

#[test]
fn row_19_and_20_properties_and_wills_without_end() {
    let scene = Scene::new("row 19, 20", "");
    for n in 0..100 {
        let mut properties = Properties::default();
        (0..65_000).for_each(|_| properties.push_user("", ""));
        let mut out = Vec::new();
        Publish { dup: false, qos: QoS::AtMostOnce, retain: false, topic: "t", packet_id: 0, properties, payload: b"" }
            .encode(&mut out, Version::V5);
        let mut stream = scene.served(&v5(&format!("properties-{n}")).connect);
        stream.write_all(&out).expect("written");
        assert!(closes(&mut stream));
    }
    let mut will_properties = Properties::default();
    will_properties.push_number(PropertyId::WillDelayInterval, u32::MAX);
    let will = |bytes| Will {
        topic: "w".into(),
        payload: vec![0; bytes],
        qos: QoS::AtLeastOnce,
        retain: true,
        properties: will_properties.clone(),
    };
    for n in 0..100 {
        let options = v5(&format!("will-{n}")).persistent(u32::MAX).connect;
        drop(scene.served(&Connect { will: Some(will(50_000)), ..options.clone() }));
        let mut stream = scene.tcp();
        let mut out = Vec::new();
        Connect { will: Some(will(65_000)), ..options }.encode(&mut out);
        out.extend(std::iter::repeat_n(0, 10_000));
        // It may be closed before all is written.
        drop(stream.write_all(&out));
        assert!(closes(&mut stream), "larger than connect_bytes_max");
    }
    scene.end(48 * MIB);
}

#[test]
fn row_21_a_thousand_clients_with_wills_vanish_at_once() {
    let config = "[connectors.db]\ntype = \"sqlite\"\npath = \"a.db\"\n[actions.a]\nconnector = \"db\"\n[rules.r]\nsql = 'SELECT * FROM \"$events/client/disconnected\", \"wills/#\"'\nactions = [\"a\"]\n";
    let scene = Scene::new("row 21", config);
    let mut watcher = scene.broker.connect(&v5("watcher"));
    watcher.subscribe(&[("wills/#", QoS::AtMostOnce)]).expect("subscribed");
    let all: Vec<TcpStream> = (0..1000)
        .map(|n| {
            let will = Will {
                topic: format!("wills/{n}"),
                payload: vec![1; 100],
                qos: QoS::AtLeastOnce,
                retain: false,
                properties: Properties::default(),
            };
            scene.served(&Connect { will: Some(will), ..v5(&format!("dying-{n}")).connect })
        })
        .collect();
    drop(all);
    for _ in 0..1000 {
        watcher.receive(SOON).expect("holds").expect("every will");
    }
    scene.end(64 * MIB);
}

#[test]
fn row_22_and_23_sessions_that_are_fought_for_and_made_without_end() {
    let scene = Scene::new("row 22, 23", "[mqtt]\nsessions_max = 200\n[store]\nlevel = \"process\"\n");
    let mut refused = 0;
    let mut last = None;
    for _ in 0..300 {
        match Client::connect(scene.address(), &v5("ping-pong").persistent(1000)) {
            Ok(client) => last = Some(client),
            Err(Error::Refused(ReasonCode::ConnectionRateExceeded)) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    println!("row 22: {refused} of 300 takeovers were refused");
    last.expect("one has it").ping().expect("who has it is served");
    let mut quota = 0;
    for n in 0..300 {
        match Client::connect(scene.address(), &v5(&format!("forever-{n}")).persistent(u32::MAX)) {
            Ok(client) => drop(client),
            Err(Error::Refused(ReasonCode::QuotaExceeded)) => quota += 1,
            Err(error) => panic!("{error}"),
        }
    }
    // The honest one and the one that was fought for have theirs.
    assert_eq!(quota, 102);
    let known = Client::connect(scene.address(), &v5("forever-0").persistent(u32::MAX)).expect("who has a session comes in");
    assert!(known.session_present());
    drop(known);
    // Room for the last look.
    drop(Client::connect(scene.address(), &v5("forever-1")).expect("ends its session"));
    scene.end(48 * MIB);
}

#[test]
fn row_24_and_25_subscribers_that_take_nothing() {
    let scene = Scene::new("row 24, 25", "[mqtt]\ndurable_queue_max = 2000\n[store]\nlevel = \"process\"\n");
    let subscribe = |options: &Options, filter: &str| {
        let mut stream = scene.served(&options.connect);
        let mut out = Vec::new();
        let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
        let filters = vec![SubscribeFilter { filter: filter.into(), options }];
        hookline_mqtt::packet::Subscribe { packet_id: 1, properties: Properties::default(), filters }.encode(&mut out, Version::V5);
        stream.write_all(&out).expect("written");
        stream
    };
    let never_reads: Vec<TcpStream> = (0..5).map(|n| subscribe(&v5(&format!("never-{n}")), "flood/0")).collect();
    let never_acks = subscribe(&v5("no-acks").persistent(1000), "flood/1");
    let mut publisher = scene.broker.connect(&v5("flood"));
    std::thread::sleep(Duration::from_millis(200));
    let payload = vec![7u8; 4096];
    for _ in 0..20_000 {
        publisher.send("flood/0", &payload, QoS::AtMostOnce, false, &Properties::default()).expect("the publisher is not held up");
    }
    publisher.ping().expect("answers");
    let mut refused = 0;
    for _ in 0..2500 {
        refused +=
            u32::from(publisher.publish("flood/1", &payload, QoS::AtLeastOnce, false).expect("answered") == ReasonCode::QuotaExceeded);
    }
    assert_eq!(refused, 500, "the queue is full, and the publisher is told");
    drop((never_reads, never_acks));
    scene.end(96 * MIB);
}

#[test]
fn row_29_everybody_comes_at_once() {
    let scene = Scene::new("row 29", "");
    let address = scene.address();
    let begun = Instant::now();
    let threads: Vec<_> = (0..4)
        .map(|thread| {
            std::thread::spawn(move || {
                let connect = |n: usize| Client::connect(address, &v5(&format!("herd-{thread}-{n}"))).expect("is let in");
                (0..1000).map(connect).collect::<Vec<_>>()
            })
        })
        .collect();
    let all: Vec<Vec<Client>> = threads.into_iter().map(|thread| thread.join().expect("all come in")).collect();
    println!("row 29: 4000 clients in {:?}", begun.elapsed());
    for mut client in all.into_iter().flatten().step_by(100) {
        client.ping().expect("is served");
    }
    scene.end(64 * MIB);
}

#[test]
fn row_34_proxies_and_websockets_that_talk_nonsense() {
    let config = "[mqtt]\nidle_timeout_secs = 1\n[listeners.tcp.proxied]\nbind = \"127.0.0.1:0\"\nproxy_protocol = true\n[listeners.ws.default]\nbind = \"127.0.0.1:0\"\n";
    let scene = Scene::new("row 34", config);
    let (proxied, ws) = (scene.broker.address_of("tcp.proxied"), scene.broker.address_of("ws.default"));
    let upgrade = b"GET /mqtt HTTP/1.1\r\nHost: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Protocol: mqtt\r\n\r\n";
    let frames: [&[u8]; 7] = [
        &[0x82, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0],
        &[0x82, 0x05, 1, 2, 3, 4, 5],
        &[0x09, 0x80, 0, 0, 0, 0],
        &[0x80, 0x80, 0, 0, 0, 0],
        &[0x89, 0xFE, 0x01, 0x00, 0, 0, 0, 0],
        &[0xF2, 0x80, 0, 0, 0, 0],
        &[0x8B, 0x80, 0, 0, 0, 0],
    ];
    for n in 0..21 {
        let mut stream = connect_tcp(ws);
        stream.write_all(upgrade).expect("written");
        let mut head = [0u8; 1024];
        assert!(stream.read(&mut head).expect("answered") > 12 && &head[9..12] == b"101");
        drop(stream.write_all(frames[n % frames.len()]));
        assert!(closes(&mut stream), "frame {}", n % frames.len());
    }
    let headers: [&[u8]; 5] = [
        b"PROXY ",
        b"PROXY TCP4 1.2.3.4\r\n",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff",
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x02ab",
        b"PROXY UNKNOWN x",
    ];
    for n in 0..15 {
        let mut stream = connect_tcp(proxied);
        stream.write_all(headers[n % headers.len()]).expect("written");
        assert!(closes(&mut stream), "header {}", n % headers.len());
    }
    scene.end(24 * MIB);
}

#[test]
fn row_40_memory_at_its_bound_and_no_more_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[node]\nmemory_high_bytes = 1000000\n");
    eventually("the bound is noticed", SOON, || broker.log().contains("memory is at its bound").then_some(()));
    assert!(Client::connect(broker.address(), &v5("new")).is_err(), "new connections are refused");
    assert!(broker.stop().success());
    let scene = Scene::new("row 40", "");
    let limit = std::process::Command::new("prlimit").args(["--pid", &scene.broker.pid().to_string(), "--nofile=150:150"]).status();
    assert!(limit.expect("prlimit runs").success());
    let all: Vec<TcpStream> = (0..400).map(|_| scene.tcp()).collect();
    std::thread::sleep(Duration::from_millis(300));
    let before = cpu(scene.broker.pid());
    std::thread::sleep(Duration::from_secs(2));
    let used = cpu(scene.broker.pid()) - before;
    println!("row 40: without file descriptors accepting takes {used} hundredths of a second of CPU in two seconds");
    assert!(used < 120, "accepting does not spin");
    drop(all);
    eventually("places are free again", SOON, || Client::connect(scene.address(), &v5("later")).ok().map(drop));
    scene.end(24 * MIB);
}
