//! A client: publishes and subscribes by the rules of MQTT 5.0, keeps its session, and tells the model what it sees.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

use hookline_mqtt::packet::{Ack, AckKind, Disconnect, Packet, Publish, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version, decode};

use super::model::{Model, Number};
use super::random::Random;

/// A message on its way from the client.
#[derive(Debug, Clone)]
struct Sent {
    number: Number,
    topic: usize,
    qos: QoS,
    /// Its PUBREC has come: only the PUBREL is still to go.
    released: bool,
}

/// A subscription that is asked for or to be ended.
#[derive(Debug, Clone, Copy)]
enum Asked {
    Subscribe { topic: usize, qos: u8 },
    Unsubscribe,
}

/// The client, with what outlives its connections.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) index: usize,
    stream: Option<UnixStream>,
    input: Vec<u8>,
    /// The CONNACK has come.
    pub(super) is_in: bool,
    /// A CONNACK has come once: the session must be there from then on.
    has_session: bool,
    next_packet_id: u16,
    sent: BTreeMap<u16, Sent>,
    asked: BTreeMap<u16, Asked>,
    /// QoS 2 messages that came and wait for their PUBREL.
    received: BTreeSet<u16>,
    /// Acknowledgements that it has not sent yet.
    owed: VecDeque<Ack>,
}

/// Messages on their way at the same time.
const WINDOW: usize = 8;

pub(super) fn topic_name(topic: usize) -> String {
    format!("sim/{topic}")
}

impl Client {
    pub(super) fn new(index: usize) -> Client {
        Client {
            index,
            stream: None,
            input: Vec::new(),
            is_in: false,
            has_session: false,
            next_packet_id: 0,
            sent: BTreeMap::new(),
            asked: BTreeMap::new(),
            received: BTreeSet::new(),
            owed: VecDeque::new(),
        }
    }

    pub(super) fn id(&self) -> String {
        format!("client-{}", self.index)
    }

    pub(super) fn has_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// For the report.
    pub(super) fn state(&self) -> String {
        format!("{}: in {}, sent {:?}, owes {:?}, has {:?}", self.index, self.is_in, self.sent, self.owed, self.received)
    }

    /// Nothing of it is on its way.
    pub(super) fn is_done(&self) -> bool {
        self.is_in && self.sent.is_empty() && self.owed.is_empty()
    }

    /// Takes a new connection, whose CONNECT is on its way.
    pub(super) fn connect(&mut self, stream: UnixStream) {
        self.lose();
        self.stream = Some(stream);
    }

    /// The connection is gone. What was asked for was not granted.
    pub(super) fn lose(&mut self) {
        self.stream = None;
        self.is_in = false;
        self.input.clear();
        self.owed.clear();
        self.asked.clear();
    }

    pub(super) fn disconnect(&mut self) {
        self.send(|out| Disconnect::new(ReasonCode::Success).encode(out, Version::V5));
        self.lose();
    }

    fn send(&mut self, encode: impl FnOnce(&mut Vec<u8>)) {
        let mut out = Vec::new();
        encode(&mut out);
        // A broker that is gone is seen at the next read.
        let _written = self.stream.as_mut().map(|stream| stream.write_all(&out));
    }

    fn packet_id(&mut self) -> u16 {
        loop {
            self.next_packet_id = self.next_packet_id % 200 + 1;
            let id = self.next_packet_id;
            if !self.sent.contains_key(&id) && !self.asked.contains_key(&id) {
                return id;
            }
        }
    }

    pub(super) fn publish(&mut self, number: Number, topic: usize, qos: QoS, model: &mut Model) {
        if !self.is_in || self.sent.len() >= WINDOW {
            return;
        }
        model.publish(number, self.index, topic, qos as u8);
        if qos == QoS::AtMostOnce {
            return self.send_publish(0, &Sent { number, topic, qos, released: false }, false);
        }
        let packet_id = self.packet_id();
        let sent = Sent { number, topic, qos, released: false };
        self.send_publish(packet_id, &sent, false);
        self.sent.insert(packet_id, sent);
    }

    fn send_publish(&mut self, packet_id: u16, sent: &Sent, dup: bool) {
        let (topic, payload) = (topic_name(sent.topic), sent.number.to_string());
        let properties = Properties::default();
        let publish = Publish { dup, qos: sent.qos, retain: false, topic: &topic, packet_id, properties, payload: payload.as_bytes() };
        self.send(|out| publish.encode(out, Version::V5));
    }

    pub(super) fn subscribe(&mut self, topic: usize, qos: u8) {
        if !self.is_in {
            return;
        }
        let packet_id = self.packet_id();
        let options = SubscriptionOptions { qos: QoS::from_bits(qos).unwrap_or_default(), ..SubscriptionOptions::default() };
        let filters = vec![SubscribeFilter { filter: topic_name(topic), options }];
        self.send(|out| Subscribe { packet_id, properties: Properties::default(), filters }.encode(out, Version::V5));
        self.asked.insert(packet_id, Asked::Subscribe { topic, qos });
    }

    pub(super) fn unsubscribe(&mut self, topic: usize, model: &mut Model) {
        if !self.is_in {
            return;
        }
        model.unsubscribe(self.index, topic);
        let packet_id = self.packet_id();
        let filters = vec![topic_name(topic)];
        self.send(|out| Unsubscribe { packet_id, properties: Properties::default(), filters }.encode(out, Version::V5));
        self.asked.insert(packet_id, Asked::Unsubscribe);
    }

    /// Sends some of the acknowledgements that it owes, in their order.
    pub(super) fn acknowledge(&mut self, count: usize) {
        for _ in 0..count {
            let Some(ack) = self.owed.pop_front() else { return };
            self.send(|out| ack.encode(out, Version::V5));
        }
    }

    /// Reads what has come.
    pub(super) fn read(&mut self, model: &mut Model) {
        let mut buffer = [0; 4096];
        loop {
            let Some(stream) = &mut self.stream else { return };
            match stream.read(&mut buffer) {
                Ok(0) => {
                    self.handle_all(model);
                    return self.lose();
                }
                Ok(count) => self.input.extend_from_slice(&buffer[..count]),
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return self.handle_all(model),
                Err(_) => return self.lose(),
            }
        }
    }

    fn handle_all(&mut self, model: &mut Model) {
        let input = std::mem::take(&mut self.input);
        let mut at = 0;
        while let Some((packet, length)) = decode(&input[at..], Version::V5, 1 << 20).expect("the broker speaks MQTT") {
            at += length;
            self.handle(packet, model);
            if self.stream.is_none() {
                return;
            }
        }
        self.input = input[at..].to_vec();
    }

    fn handle(&mut self, packet: Packet<'_>, model: &mut Model) {
        match packet {
            Packet::ConnAck(ack) if ack.reason == ReasonCode::Success => {
                if self.has_session && !ack.session_present {
                    model.violations.push(format!("the session of {} is gone", self.id()));
                }
                self.has_session = true;
                self.is_in = true;
                self.go_on(model);
            }
            Packet::ConnAck(_) | Packet::Disconnect(_) => self.lose(),
            Packet::Publish(publish) => {
                let number = std::str::from_utf8(publish.payload).ok().and_then(|text| text.parse().ok()).expect("a number");
                let is_new = publish.qos != QoS::ExactlyOnce || self.received.insert(publish.packet_id);
                if is_new {
                    model.deliver(self.index, number, publish.qos as u8, publish.dup);
                }
                match publish.qos {
                    QoS::AtMostOnce => {}
                    QoS::AtLeastOnce => self.owed.push_back(Ack::new(AckKind::PubAck, publish.packet_id, ReasonCode::Success)),
                    QoS::ExactlyOnce => self.owed.push_back(Ack::new(AckKind::PubRec, publish.packet_id, ReasonCode::Success)),
                }
            }
            Packet::Ack(ack) => self.on_ack(&ack, model),
            Packet::SubAck(ack) => {
                if let Some(Asked::Subscribe { topic, qos }) = self.asked.remove(&ack.packet_id)
                    && ack.reasons.iter().all(|reason| !reason.is_error())
                {
                    model.subscribe(self.index, topic, qos);
                }
            }
            Packet::UnsubAck(ack) => {
                self.asked.remove(&ack.packet_id);
            }
            _ => {}
        }
    }

    fn on_ack(&mut self, ack: &Ack, model: &mut Model) {
        match ack.kind {
            AckKind::PubAck => {
                let Some(sent) = self.sent.remove(&ack.packet_id) else { return };
                if ack.reason.is_error() { model.refuse(sent.number) } else { model.acknowledge(sent.number) }
            }
            AckKind::PubRec if ack.reason.is_error() => {
                if let Some(sent) = self.sent.remove(&ack.packet_id) {
                    model.refuse(sent.number);
                }
            }
            AckKind::PubRec => {
                if let Some(sent) = self.sent.get_mut(&ack.packet_id).filter(|sent| !sent.released) {
                    sent.released = true;
                    model.acknowledge(sent.number);
                }
                self.owed.push_back(Ack::new(AckKind::PubRel, ack.packet_id, ReasonCode::Success));
            }
            AckKind::PubRel => {
                self.received.remove(&ack.packet_id);
                self.owed.push_back(Ack::new(AckKind::PubComp, ack.packet_id, ReasonCode::Success));
            }
            AckKind::PubComp => {
                self.sent.remove(&ack.packet_id);
            }
        }
    }

    /// [MQTT-4.4.0-1] What was not acknowledged is sent again, in its order.
    fn go_on(&mut self, model: &mut Model) {
        let mut sent: Vec<(u16, Sent)> = self.sent.iter().map(|(packet_id, sent)| (*packet_id, sent.clone())).collect();
        sent.sort_by_key(|(_, sent)| sent.number);
        for (packet_id, sent) in sent {
            if sent.released {
                self.send(|out| Ack::new(AckKind::PubRel, packet_id, ReasonCode::Success).encode(out, Version::V5));
            } else {
                model.publish(sent.number, self.index, sent.topic, sent.qos as u8);
                self.send_publish(packet_id, &sent, true);
            }
        }
    }

    /// Something that a client does of its own.
    pub(super) fn act(&mut self, random: &mut Random, number: &mut Number, topics: usize, model: &mut Model) {
        let topic = random.below(topics);
        match random.below(10) {
            0 if !model.has(self.index, topic) => self.subscribe(topic, 1 + random.below(2) as u8),
            1 if random.chance(20) && model.qos(self.index, topic).is_some() => self.unsubscribe(topic, model),
            _ => {
                for _ in 0..=random.below(4) {
                    *number += 1;
                    self.publish(*number, topic, QoS::from_bits(random.below(3) as u8).unwrap_or_default(), model);
                }
            }
        }
    }
}
