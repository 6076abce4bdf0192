//! A small blocking MQTT client on this codec: enough for the command line, the tests and the load generator.
//! Acknowledgements are sent by [`Client::receive`]; every wait has a deadline.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use crate::packet::{
    Ack, AckKind, ConnAck, Connect, Disconnect, Packet, Publish, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, Unsubscribe,
};
use crate::{DecodeError, Properties, PropertyId, QoS, ReasonCode, Version, decode};

/// The largest packet that the client accepts, in bytes: the wire's own maximum.
const PACKET_BYTES_MAX: usize = 268_435_460;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{0}")]
    Io(#[from] io::Error),
    #[error("the server sent what is no valid MQTT: {0}")]
    Decode(#[from] DecodeError),
    #[error("the server refused the connection: {}", .0.name())]
    Refused(ReasonCode),
    #[error("the server closed the connection: {}", .0.name())]
    Closed(ReasonCode),
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
    pub properties: Properties,
}

/// What arrives besides messages.
#[derive(Debug, Clone, PartialEq)]
enum Event {
    Message(Received),
    Ack(Ack),
    SubAck(SubAck),
    UnsubAck,
    PingResp,
}

/// How to connect; [`Options::new`] has the defaults.
#[derive(Debug, Clone)]
pub struct Options {
    pub connect: Connect,
    /// The longest wait for any answer.
    pub timeout: Duration,
}

impl Options {
    /// MQTT 3.1.1, clean, keep-alive 60 s, 10 s for every answer.
    pub fn new(client_id: &str) -> Options {
        Options {
            connect: Connect {
                version: Version::V311,
                clean_start: true,
                keep_alive_secs: 60,
                client_id: client_id.to_owned(),
                username: None,
                password: None,
                will: None,
                properties: Properties::default(),
                is_bridge: false,
            },
            timeout: Duration::from_secs(10),
        }
    }

    /// The protocol version.
    #[must_use]
    pub fn version(mut self, version: Version) -> Options {
        self.connect.version = version;
        self
    }

    /// Keeps the session after the connection for `expiry_secs` (5.0), or as long as the server does (before).
    #[must_use]
    pub fn persistent(mut self, expiry_secs: u32) -> Options {
        self.connect.clean_start = false;
        if self.connect.version == Version::V5 {
            self.connect.properties.push_number(PropertyId::SessionExpiryInterval, expiry_secs);
        }
        self
    }
}

/// A connection.
#[derive(Debug)]
pub struct Client {
    stream: TcpStream,
    version: Version,
    timeout: Duration,
    input: Vec<u8>,
    events: VecDeque<Event>,
    next_packet_id: u16,
    session_present: bool,
}

impl Client {
    /// Connects and waits for the CONNACK.
    pub fn connect(address: impl ToSocketAddrs, options: &Options) -> Result<Client, Error> {
        let mut last = io::Error::new(io::ErrorKind::InvalidInput, "the address has no host");
        for address in address.to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, options.timeout) {
                Ok(stream) => return Client::over(stream, options),
                Err(error) => last = error,
            }
        }
        Err(last.into())
    }

    fn over(stream: TcpStream, options: &Options) -> Result<Client, Error> {
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(options.timeout))?;
        let version = options.connect.version;
        let timeout = options.timeout;
        let mut client =
            Client { stream, version, timeout, input: Vec::new(), events: VecDeque::new(), next_packet_id: 0, session_present: false };
        let mut out = Vec::new();
        options.connect.encode(&mut out);
        client.stream.write_all(&out)?;
        let deadline = Instant::now() + timeout;
        loop {
            if let Some((Packet::ConnAck(ConnAck { session_present, reason, .. }), length)) =
                decode(&client.input, version, PACKET_BYTES_MAX)?
            {
                if reason != ReasonCode::Success {
                    return Err(Error::Refused(reason));
                }
                client.session_present = session_present;
                client.input.drain(..length);
                return Ok(client);
            }
            if !client.read_more(deadline)? {
                return Err(Error::Timeout(timeout));
            }
        }
    }

    /// Whether the server still had the session.
    pub fn session_present(&self) -> bool {
        self.session_present
    }

    /// The next packet identifier, from 1 to 65,535 and round again.
    pub fn next_packet_id(&mut self) -> u16 {
        self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
        self.next_packet_id
    }

    /// Sends a message and does not wait; its packet identifier comes back (0 at QoS 0).
    pub fn send(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool, properties: &Properties) -> Result<u16, Error> {
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.next_packet_id() };
        let publish = Publish { dup: false, qos, retain, topic, packet_id, properties: properties.clone(), payload };
        let mut out = Vec::new();
        publish.encode(&mut out, self.version);
        self.stream.write_all(&out)?;
        Ok(packet_id)
    }

    /// Sends a message and waits until the server has taken it at its QoS; the reason code says how.
    pub fn publish(&mut self, topic: &str, payload: &[u8], qos: QoS, retain: bool) -> Result<ReasonCode, Error> {
        self.publish_with(topic, payload, qos, retain, &Properties::default())
    }

    /// As [`Client::publish`], with properties.
    pub fn publish_with(
        &mut self,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: &Properties,
    ) -> Result<ReasonCode, Error> {
        let packet_id = self.send(topic, payload, qos, retain, properties)?;
        if qos == QoS::AtMostOnce {
            return Ok(ReasonCode::Success);
        }
        let first = self.wait_ack(packet_id)?;
        if qos == QoS::AtLeastOnce || first.reason.is_error() {
            return Ok(first.reason);
        }
        self.send_ack(AckKind::PubRel, packet_id)?;
        self.wait_ack(packet_id)?;
        Ok(first.reason)
    }

    /// Waits for the next PUBACK, PUBREC or PUBCOMP of any message: its packet identifier and reason; `None` at the deadline.
    pub fn next_ack(&mut self, wait: Duration) -> Result<Option<(u16, ReasonCode)>, Error> {
        let found = self.wait_for(wait, |event| matches!(event, Event::Ack(_)))?;
        Ok(match found {
            Some(Event::Ack(ack)) => Some((ack.packet_id, ack.reason)),
            _ => None,
        })
    }

    /// Subscribes and waits for the codes, one for each filter.
    pub fn subscribe(&mut self, filters: &[(&str, QoS)]) -> Result<Vec<ReasonCode>, Error> {
        let filters = filters
            .iter()
            .map(|(filter, qos)| SubscribeFilter {
                filter: (*filter).to_owned(),
                options: SubscriptionOptions { qos: *qos, ..SubscriptionOptions::default() },
            })
            .collect();
        self.subscribe_with(filters, Properties::default())
    }

    /// As [`Client::subscribe`], with all options and properties.
    pub fn subscribe_with(&mut self, filters: Vec<SubscribeFilter>, properties: Properties) -> Result<Vec<ReasonCode>, Error> {
        let packet_id = self.next_packet_id();
        let mut out = Vec::new();
        Subscribe { packet_id, properties, filters }.encode(&mut out, self.version);
        self.stream.write_all(&out)?;
        match self.wait_for(self.timeout, |event| matches!(event, Event::SubAck(ack) if ack.packet_id == packet_id))? {
            Some(Event::SubAck(ack)) => Ok(ack.reasons),
            _ => Err(Error::Timeout(self.timeout)),
        }
    }

    /// Ends subscriptions and waits for the answer.
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Result<(), Error> {
        let packet_id = self.next_packet_id();
        let filters = filters.iter().map(|filter| (*filter).to_owned()).collect();
        let mut out = Vec::new();
        Unsubscribe { packet_id, properties: Properties::default(), filters }.encode(&mut out, self.version);
        self.stream.write_all(&out)?;
        match self.wait_for(self.timeout, |event| *event == Event::UnsubAck)? {
            Some(_) => Ok(()),
            None => Err(Error::Timeout(self.timeout)),
        }
    }

    /// The next message, acknowledged; `None` where none came within `wait`.
    pub fn receive(&mut self, wait: Duration) -> Result<Option<Received>, Error> {
        let Some(received) = self.receive_unacknowledged(wait)? else { return Ok(None) };
        match received.qos {
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.send_ack(AckKind::PubAck, received.packet_id)?,
            QoS::ExactlyOnce => self.send_ack(AckKind::PubRec, received.packet_id)?,
        }
        Ok(Some(received))
    }

    /// The next message, not acknowledged.
    pub fn receive_unacknowledged(&mut self, wait: Duration) -> Result<Option<Received>, Error> {
        Ok(match self.wait_for(wait, |event| matches!(event, Event::Message(_)))? {
            Some(Event::Message(received)) => Some(received),
            _ => None,
        })
    }

    /// Sends a PINGREQ and waits for its answer.
    pub fn ping(&mut self) -> Result<(), Error> {
        self.stream.write_all(&crate::packet::PINGREQ)?;
        match self.wait_for(self.timeout, |event| *event == Event::PingResp)? {
            Some(_) => Ok(()),
            None => Err(Error::Timeout(self.timeout)),
        }
    }

    /// Sends a PINGREQ; its answer is taken by a later call.
    pub fn send_ping(&mut self) -> Result<(), Error> {
        Ok(self.stream.write_all(&crate::packet::PINGREQ)?)
    }

    /// Sends one of the four acknowledgements.
    pub fn send_ack(&mut self, kind: AckKind, packet_id: u16) -> Result<(), Error> {
        let mut out = Vec::with_capacity(4);
        Ack::new(kind, packet_id, ReasonCode::Success).encode(&mut out, self.version);
        Ok(self.stream.write_all(&out)?)
    }

    /// Leaves in good order: the will is not published.
    pub fn disconnect(mut self) -> Result<(), Error> {
        let mut out = Vec::new();
        Disconnect::new(ReasonCode::Success).encode(&mut out, self.version);
        Ok(self.stream.write_all(&out)?)
    }

    fn wait_ack(&mut self, packet_id: u16) -> Result<Ack, Error> {
        match self.wait_for(self.timeout, |event| matches!(event, Event::Ack(ack) if ack.packet_id == packet_id))? {
            Some(Event::Ack(ack)) => Ok(ack),
            _ => Err(Error::Timeout(self.timeout)),
        }
    }

    /// Takes the first event that `wanted` accepts; the others stay in their order.
    fn wait_for(&mut self, wait: Duration, wanted: impl Fn(&Event) -> bool) -> Result<Option<Event>, Error> {
        let deadline = Instant::now() + wait;
        let mut seen = 0;
        loop {
            if let Some(offset) = self.events.iter().skip(seen).position(&wanted) {
                return Ok(self.events.remove(seen + offset));
            }
            seen = self.events.len();
            if self.decode_input()? {
                continue;
            }
            if !self.read_more(deadline)? {
                return Ok(None);
            }
        }
    }

    /// Turns the bytes that are there into events; whether there was one.
    fn decode_input(&mut self) -> Result<bool, Error> {
        let mut used = 0;
        let mut replies = Vec::new();
        let before = self.events.len();
        while let Some((packet, length)) = decode(&self.input[used..], self.version, PACKET_BYTES_MAX)? {
            used += length;
            let event = match packet {
                Packet::Publish(p) => Event::Message(Received {
                    topic: p.topic.to_owned(),
                    payload: p.payload.to_vec(),
                    qos: p.qos,
                    retain: p.retain,
                    dup: p.dup,
                    packet_id: p.packet_id,
                    properties: p.properties,
                }),
                Packet::Ack(ack) if ack.kind == AckKind::PubRel => {
                    Ack::new(AckKind::PubComp, ack.packet_id, ReasonCode::Success).encode(&mut replies, self.version);
                    continue;
                }
                Packet::Ack(ack) => Event::Ack(ack),
                Packet::SubAck(ack) => Event::SubAck(ack),
                Packet::UnsubAck(_) => Event::UnsubAck,
                Packet::PingResp => Event::PingResp,
                Packet::Disconnect(d) => return Err(Error::Closed(d.reason)),
                _ => return Err(DecodeError::protocol("a packet that only clients send").into()),
            };
            self.events.push_back(event);
        }
        self.input.drain(..used);
        if !replies.is_empty() {
            self.stream.write_all(&replies)?;
        }
        Ok(self.events.len() > before)
    }

    /// Reads once; `false` at the deadline.
    fn read_more(&mut self, deadline: Instant) -> Result<bool, Error> {
        let left = deadline.saturating_duration_since(Instant::now());
        // A timeout of zero would mean none at all.
        self.stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let mut buffer = [0u8; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => Err(io::Error::from(io::ErrorKind::UnexpectedEof).into()),
            Ok(count) => {
                self.input.extend_from_slice(&buffer[..count]);
                Ok(true)
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => Ok(true),
            Err(error) => Err(error.into()),
        }
    }
}
