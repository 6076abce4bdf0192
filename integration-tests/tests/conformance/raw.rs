//! A client that says exactly what it is told, and hears everything.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_mqtt::packet::{
    Ack, AckKind, ConnAck, Connect, Packet, Publish, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Will,
};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version, decode};

/// One broker for all tests: what they do must not meet.
pub(crate) static BROKER: LazyLock<Broker> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    // "hookline scram" makes it of the password "pencil"; this is the example of RFC 7677.
    let (code, verifier) = hookline_integration_tests::broker::run_with_input(&["scram"], "pencil\n");
    assert_eq!(code, Some(0));
    let config = format!("[scram.users]\nuser = \"{}\"\n{CONFIG}", verifier.trim());
    Broker::start(folder.path(), &config).shared(folder)
});

/// Zones that serve less, and a listener whose clients are to go elsewhere.
const CONFIG: &str = "[mqtt]\nresponse_information = \"answers/\"\nretry_interval_secs = 0\n[listeners.ws.default]\nbind = \"127.0.0.1:0\"\n\
        [listeners.tcp.poor]\nbind = \"127.0.0.1:0\"\nzone = \"poor\"\n\
        [zones.poor.mqtt]\nqos_max = 1\nretain_available = false\nwildcard_subscriptions = false\nshared_subscriptions = false\nserver_keep_alive_secs = 1\n\
        [listeners.tcp.moved]\nbind = \"127.0.0.1:0\"\nzone = \"moved\"\n[zones.moved.mqtt]\nserver_reference = \"other.example:1883\"\n";

/// How long something that must come may take.
pub(crate) const SOON: Duration = Duration::from_secs(5);
/// How long to wait for what must not come.
pub(crate) const NOT: Duration = Duration::from_millis(300);

/// What a server can say.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Got {
    ConnAck(ConnAck),
    Publish(Message),
    Ack(Ack),
    SubAck(SubAck),
    UnsubAck(UnsubAck),
    PingResp,
    Disconnect(ReasonCode, Properties),
    Auth(ReasonCode, Properties),
    /// The connection is over.
    Closed,
    /// Nothing for the time.
    Silence,
}

/// A PUBLISH from the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Message {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) dup: bool,
    pub(crate) retain: bool,
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties,
}

/// A connection, byte by byte.
pub(crate) struct Raw {
    stream: TcpStream,
    version: Version,
    input: Vec<u8>,
}

/// A name that no other test uses.
pub(crate) fn unique() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    format!("u{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

/// A CONNECT with a new identifier, clean.
pub(crate) fn connect(version: Version) -> Connect {
    Connect {
        version,
        clean_start: true,
        keep_alive_secs: 60,
        client_id: unique(),
        username: None,
        password: None,
        will: None,
        properties: Properties::default(),
        is_bridge: false,
    }
}

/// A will of QoS 0.
pub(crate) fn will(topic: &str) -> Will {
    Will { topic: topic.into(), payload: b"will".to_vec(), qos: QoS::AtMostOnce, retain: false, properties: Properties::default() }
}

/// Properties from numbers.
pub(crate) fn numbers(list: &[(PropertyId, u32)]) -> Properties {
    let mut properties = Properties::default();
    list.iter().for_each(|(id, number)| properties.push_number(*id, *number));
    properties
}

impl Raw {
    /// A TCP connection, with nothing said.
    pub(crate) fn silent(version: Version) -> Raw {
        Raw::silent_at("tcp.default", version)
    }

    pub(crate) fn silent_at(listener: &str, version: Version) -> Raw {
        let stream = TcpStream::connect(BROKER.address_of(listener)).expect("connects");
        stream.set_nodelay(true).expect("set");
        Raw { stream, version, input: Vec::new() }
    }

    /// Sends a CONNECT; its answer is to be taken.
    pub(crate) fn open(connect: &Connect) -> Raw {
        Raw::open_at("tcp.default", connect)
    }

    pub(crate) fn open_at(listener: &str, connect: &Connect) -> Raw {
        let mut raw = Raw::silent_at(listener, connect.version);
        let mut out = Vec::new();
        connect.encode(&mut out);
        raw.send(&out);
        raw
    }

    /// Connects, and takes the CONNACK, which must accept.
    pub(crate) fn accepted(connect: &Connect) -> (Raw, ConnAck) {
        let mut raw = Raw::open(connect);
        let ack = raw.connack();
        assert_eq!(ack.reason, ReasonCode::Success);
        (raw, ack)
    }

    /// A new client.
    pub(crate) fn new(version: Version) -> Raw {
        Raw::accepted(&connect(version)).0
    }

    /// Sends bytes; that the server has closed already shows when it is asked.
    pub(crate) fn send(&mut self, bytes: &[u8]) {
        drop(self.stream.write_all(bytes));
    }

    pub(crate) fn send_ack(&mut self, kind: AckKind, packet_id: u16) {
        let mut out = Vec::new();
        Ack::new(kind, packet_id, ReasonCode::Success).encode(&mut out, self.version);
        self.send(&out);
    }

    /// The next that comes within `wait`.
    pub(crate) fn next(&mut self, wait: Duration) -> Got {
        let deadline = Instant::now() + wait;
        let mut bytes = [0u8; 16 << 10];
        loop {
            match decode(&self.input, self.version, 1 << 28) {
                Ok(Some((packet, length))) => {
                    let got = own(packet);
                    self.input.drain(..length);
                    return got;
                }
                Ok(None) => {}
                Err(error) => panic!("the server sent no MQTT: {error}: {:02x?}", self.input),
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Got::Silence;
            }
            self.stream.set_read_timeout(Some(left)).expect("set");
            match self.stream.read(&mut bytes) {
                Ok(0) => return Got::Closed,
                Ok(count) => self.input.extend_from_slice(&bytes[..count]),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => return Got::Silence,
                Err(_) => return Got::Closed,
            }
        }
    }

    pub(crate) fn connack(&mut self) -> ConnAck {
        match self.next(SOON) {
            Got::ConnAck(ack) => ack,
            other => panic!("no CONNACK: {other:?}"),
        }
    }

    pub(crate) fn message(&mut self) -> Message {
        match self.next(SOON) {
            Got::Publish(message) => message,
            other => panic!("no PUBLISH: {other:?}"),
        }
    }

    pub(crate) fn ack(&mut self) -> Ack {
        match self.next(SOON) {
            Got::Ack(ack) => ack,
            other => panic!("no acknowledgement: {other:?}"),
        }
    }

    /// Nothing may come.
    pub(crate) fn nothing(&mut self) {
        assert_eq!(self.next(NOT), Got::Silence);
    }

    /// The connection must end, after a DISCONNECT with that reason in 5.0.
    pub(crate) fn ends_with(&mut self, reason: ReasonCode) {
        if self.version == Version::V5 {
            match self.next(SOON) {
                Got::Disconnect(code, _) => assert_eq!(code, reason),
                other => panic!("no DISCONNECT: {other:?}"),
            }
        }
        self.closes();
    }

    /// The connection must end.
    pub(crate) fn closes(&mut self) {
        assert_eq!(self.next(SOON), Got::Closed);
    }

    /// It must still be served.
    pub(crate) fn lives(&mut self) {
        self.send(&hookline_mqtt::packet::PINGREQ);
        assert_eq!(self.next(SOON), Got::PingResp);
    }

    /// Publishes; at QoS 1 and 2 the answers are to be taken.
    pub(crate) fn publish(&mut self, publish: &Publish<'_>) {
        let mut out = Vec::new();
        publish.encode(&mut out, self.version);
        self.send(&out);
    }

    /// Publishes, and waits until it is done.
    pub(crate) fn say(&mut self, topic: &str, payload: &[u8], qos: QoS) {
        self.say_with(topic, payload, qos, false, Properties::default());
    }

    pub(crate) fn say_with(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool, properties: Properties) {
        self.publish(&Publish { dup: false, qos, retain, topic, packet_id: 77, properties, payload });
        match qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => assert_eq!(self.ack().kind, AckKind::PubAck),
            QoS::ExactlyOnce => {
                assert_eq!(self.ack().kind, AckKind::PubRec);
                self.send_ack(AckKind::PubRel, 77);
                assert_eq!(self.ack().kind, AckKind::PubComp);
            }
        }
    }

    /// Asks for a subscription with options; its codes.
    pub(crate) fn subscribe_with(&mut self, filters: &[(&str, SubscriptionOptions)], properties: Properties) -> Vec<ReasonCode> {
        let filters = filters.iter().map(|(filter, options)| SubscribeFilter { filter: (*filter).into(), options: *options }).collect();
        let mut out = Vec::new();
        Subscribe { packet_id: 9, properties, filters }.encode(&mut out, self.version);
        self.send(&out);
        match self.next(SOON) {
            Got::SubAck(ack) => {
                assert_eq!(ack.packet_id, 9);
                ack.reasons
            }
            other => panic!("no SUBACK: {other:?}"),
        }
    }

    pub(crate) fn subscribe(&mut self, filter: &str, qos: QoS) {
        let codes = self.subscribe_with(&[(filter, options(qos))], Properties::default());
        assert_eq!(codes.len(), 1);
        assert_eq!(codes[0] as u8, qos as u8);
    }

    /// Leaves in good order.
    pub(crate) fn leave(mut self) {
        self.send(&[0xE0, 0]);
        self.closes();
    }
}

pub(crate) fn options(qos: QoS) -> SubscriptionOptions {
    SubscriptionOptions { qos, ..SubscriptionOptions::default() }
}

/// A packet without a packet identifier's properties, as bytes: first byte, then the body.
pub(crate) fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    hookline_mqtt::write::framed(&mut out, first, |out| out.extend_from_slice(body));
    out
}

/// A text with its length.
pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    hookline_mqtt::write::string(&mut out, text);
    out
}

fn own(packet: Packet<'_>) -> Got {
    match packet {
        Packet::ConnAck(ack) => Got::ConnAck(ack),
        Packet::Publish(publish) => Got::Publish(Message {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            dup: publish.dup,
            retain: publish.retain,
            packet_id: publish.packet_id,
            properties: publish.properties,
        }),
        Packet::Ack(ack) => Got::Ack(ack),
        Packet::SubAck(ack) => Got::SubAck(ack),
        Packet::UnsubAck(ack) => Got::UnsubAck(ack),
        Packet::PingResp => Got::PingResp,
        Packet::Auth(auth) => Got::Auth(auth.reason, auth.properties),
        Packet::Disconnect(disconnect) => Got::Disconnect(disconnect.reason, disconnect.properties),
        other => panic!("a packet that servers do not send: {other:?}"),
    }
}
