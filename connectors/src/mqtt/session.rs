//! An MQTT session seen from the client, over any stream: for bridges, and for what comes into the broker of this process.

use std::collections::VecDeque;
use std::time::Duration;

use hookline_mqtt::packet::{Ack, AckKind, ConnAck, Connect, PINGREQ, Packet, Publish, Subscribe, SubscribeFilter};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version, decode};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::time::{Instant, timeout};

use crate::connector::Failure;

/// The largest packet that is taken: the wire's own maximum.
const PACKET_BYTES_MAX: usize = 268_435_460;
/// Messages on their way at the most, whatever the server takes.
const WINDOW_MAX: u16 = 1000;
/// How long a server may take to answer a CONNECT or SUBSCRIBE.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// What carries a session.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// A message that arrived.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Arrived {
    pub(crate) topic: String,
    pub(crate) payload: Vec<u8>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    pub(crate) packet_id: u16,
    pub(crate) properties: Properties,
}

/// What arrives.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    Message(Arrived),
    Ack(Ack),
    Subscribed(Vec<ReasonCode>),
    Pong,
}

/// A message that goes out.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties,
}

/// What the server takes.
#[derive(Debug, Clone, Copy)]
struct Limits {
    packet_bytes_max: usize,
    qos_max: QoS,
    retain: bool,
}

/// A session. All its waits may be given up: what was not written yet goes first at the next one.
pub(crate) struct Session {
    stream: Box<dyn Stream>,
    version: Version,
    input: Vec<u8>,
    /// What was not written yet.
    output: Vec<u8>,
    limits: Limits,
    next_packet_id: u16,
    /// Messages of QoS 1 and 2 that may be on their way.
    window: u16,
    on_their_way: u16,
    /// What came while something else was waited for.
    waiting: VecDeque<Incoming>,
    last_sent: Instant,
    last_heard: Instant,
    keep_alive: Duration,
}

fn lost(problem: impl std::fmt::Display) -> Failure {
    Failure::Reconnect(format!("mqtt: {problem}"))
}

impl Session {
    fn new(stream: Box<dyn Stream>, version: Version, keep_alive_secs: u16) -> Session {
        Session {
            stream,
            version,
            input: Vec::new(),
            output: Vec::new(),
            limits: Limits { packet_bytes_max: PACKET_BYTES_MAX, qos_max: QoS::ExactlyOnce, retain: true },
            next_packet_id: 0,
            window: WINDOW_MAX,
            on_their_way: 0,
            waiting: VecDeque::new(),
            last_sent: Instant::now(),
            last_heard: Instant::now(),
            keep_alive: Duration::from_secs(keep_alive_secs.into()),
        }
    }

    /// Says CONNECT, and waits for the answer.
    pub(crate) async fn connect(stream: Box<dyn Stream>, connect: &Connect) -> Result<Session, Failure> {
        let mut session = Session::new(stream, connect.version, connect.keep_alive_secs);
        let mut out = Vec::new();
        connect.encode(&mut out);
        session.write(&out).await?;
        session.accepted().await?;
        Ok(session)
    }

    /// A session that the other end has already let in: its CONNACK is on its way.
    pub(crate) async fn let_in(stream: Box<dyn Stream>) -> Result<Session, Failure> {
        let mut session = Session::new(stream, Version::V5, 0);
        session.accepted().await?;
        Ok(session)
    }

    async fn accepted(&mut self) -> Result<(), Failure> {
        let answered = timeout(ANSWER_TIMEOUT, async {
            loop {
                if let Some(connack) = self.take_connack()? {
                    return Ok(connack);
                }
                self.fill().await?;
            }
        });
        let connack: ConnAck = answered.await.map_err(|_| lost("no answer to CONNECT"))??;
        if connack.reason.is_error() {
            return Err(lost(format!("the server refuses the connection: {}", connack.reason.name())));
        }
        if let Some(maximum) = connack.properties.number(PropertyId::ReceiveMaximum) {
            self.window = self.window.min(u16::try_from(maximum).unwrap_or(u16::MAX)).max(1);
        }
        if let Some(bytes) = connack.properties.number(PropertyId::MaximumPacketSize) {
            self.limits.packet_bytes_max = bytes as usize;
        }
        if let Some(qos) = connack.properties.number(PropertyId::MaximumQoS).and_then(|qos| QoS::from_bits(u8::try_from(qos).ok()?)) {
            self.limits.qos_max = qos;
        }
        self.limits.retain = connack.properties.number(PropertyId::RetainAvailable) != Some(0);
        if let Some(secs) = connack.properties.number(PropertyId::ServerKeepAlive) {
            self.keep_alive = Duration::from_secs(secs.into());
        }
        Ok(())
    }

    fn take_connack(&mut self) -> Result<Option<ConnAck>, Failure> {
        match decode(&self.input, self.version, PACKET_BYTES_MAX).map_err(lost)? {
            Some((Packet::ConnAck(connack), length)) => {
                self.input.drain(..length);
                Ok(Some(connack))
            }
            Some(_) => Err(lost("the server answers CONNECT with something else")),
            None => Ok(None),
        }
    }

    /// Reads what there is; may be given up at any time.
    async fn fill(&mut self) -> Result<(), Failure> {
        let mut bytes = [0; 16 << 10];
        match self.stream.read(&mut bytes).await.map_err(lost)? {
            0 => Err(lost("the server has closed the connection")),
            count => {
                self.last_heard = Instant::now();
                self.input.extend_from_slice(&bytes[..count]);
                Ok(())
            }
        }
    }

    async fn write(&mut self, bytes: &[u8]) -> Result<(), Failure> {
        self.last_sent = Instant::now();
        self.output.extend_from_slice(bytes);
        self.flush().await
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        while !self.output.is_empty() {
            match self.stream.write(&self.output).await.map_err(lost)? {
                0 => return Err(lost("the server takes nothing more")),
                written => drop(self.output.drain(..written)),
            }
        }
        self.stream.flush().await.map_err(lost)
    }

    /// When the server has to hear something; `None`: never.
    pub(crate) fn ping_at(&self) -> Option<Instant> {
        (!self.keep_alive.is_zero()).then(|| self.last_sent + self.keep_alive / 2)
    }

    /// Lets the server hear something. It has to have said something itself meanwhile, unless nobody has listened.
    pub(crate) async fn ping(&mut self, listened: bool) -> Result<(), Failure> {
        if !listened {
            self.last_heard = Instant::now();
        } else if !self.keep_alive.is_zero() && self.last_heard.elapsed() >= self.keep_alive * 3 / 2 {
            return Err(lost("the server has not answered a PINGREQ"));
        }
        self.write(&PINGREQ).await
    }

    /// Whether another message may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.on_their_way < self.window
    }

    /// Sends a message; its identifier, or 0 at QoS 0. Who sends at QoS 1 or 2 asks [`Session::has_room`] first. A message that the server says it
    /// does not take, or that is none, is rejected: sent, it would end the session.
    pub(crate) async fn publish(&mut self, message: &Outgoing) -> Result<u16, Failure> {
        self.check(message).map_err(|problem| Failure::Reject(format!("mqtt: {problem}")))?;
        let packet_id = if message.qos == QoS::AtMostOnce { 0 } else { self.next_packet_id() };
        let publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: &message.topic,
            packet_id,
            properties: message.properties.clone(),
            payload: &message.payload,
        };
        let mut out = Vec::with_capacity(message.payload.len() + message.topic.len() + 64);
        publish.encode(&mut out, self.version);
        if out.len() > self.limits.packet_bytes_max {
            let (bytes, most) = (out.len(), self.limits.packet_bytes_max);
            return Err(Failure::Reject(format!("mqtt: a packet of {bytes} bytes, and the server takes {most}")));
        }
        self.on_their_way += u16::from(packet_id > 0);
        self.write(&out).await?;
        Ok(packet_id)
    }

    fn check(&self, message: &Outgoing) -> Result<(), &'static str> {
        let is_text = |text: &str| text.len() <= usize::from(u16::MAX) && !text.contains('\0');
        if !is_text(&message.topic) || !message.properties.user().all(|(name, value)| is_text(name) && is_text(value)) {
            return Err("a topic or a property that is longer than 65535 bytes, or has U+0000 in it");
        }
        if message.qos > self.limits.qos_max {
            return Err("a QoS that the server does not take");
        }
        if message.retain && !self.limits.retain {
            return Err("it is to be retained, which the server does not do");
        }
        Ok(())
    }

    fn next_packet_id(&mut self) -> u16 {
        self.next_packet_id = self.next_packet_id.checked_add(1).unwrap_or(1);
        self.next_packet_id
    }

    /// Waits for the answer to a message: its identifier, and whether the server has taken it. What else comes is kept for
    /// [`Session::next`]. May be given up at any time.
    pub(crate) async fn acknowledged(&mut self) -> Result<(u16, ReasonCode), Failure> {
        loop {
            match self.read_next().await? {
                Incoming::Ack(ack) => {
                    if let Some(answer) = self.take_ack(&ack).await? {
                        return Ok(answer);
                    }
                }
                Incoming::Pong => {}
                other => self.waiting.push_back(other),
            }
        }
    }

    /// Goes on with what an acknowledgement means; the answer where it is the last word.
    async fn take_ack(&mut self, ack: &Ack) -> Result<Option<(u16, ReasonCode)>, Failure> {
        let is_last = match ack.kind {
            AckKind::PubAck => true,
            AckKind::PubRec if ack.reason.is_error() => true,
            AckKind::PubRec => {
                self.answer(AckKind::PubRel, ack.packet_id).await?;
                false
            }
            AckKind::PubComp => true,
            AckKind::PubRel => {
                self.answer(AckKind::PubComp, ack.packet_id).await?;
                false
            }
        };
        if !is_last {
            return Ok(None);
        }
        self.on_their_way = self.on_their_way.saturating_sub(1);
        Ok(Some((ack.packet_id, ack.reason)))
    }

    /// Answers a message that arrived.
    pub(crate) async fn answer(&mut self, kind: AckKind, packet_id: u16) -> Result<(), Failure> {
        let mut out = Vec::new();
        Ack::new(kind, packet_id, ReasonCode::Success).encode(&mut out, self.version);
        self.write(&out).await
    }

    /// What comes next. A PUBREL is answered here. May be given up at any time.
    pub(crate) async fn next(&mut self) -> Result<Incoming, Failure> {
        loop {
            let next = match self.waiting.pop_front() {
                Some(kept) => kept,
                None => self.read_next().await?,
            };
            match next {
                Incoming::Ack(ack) if ack.kind == AckKind::PubRel => self.answer(AckKind::PubComp, ack.packet_id).await?,
                other => return Ok(other),
            }
        }
    }

    async fn read_next(&mut self) -> Result<Incoming, Failure> {
        loop {
            if let Some((packet, length)) = decode(&self.input, self.version, PACKET_BYTES_MAX).map_err(lost)? {
                let incoming = match packet {
                    Packet::Publish(publish) => Incoming::Message(Arrived {
                        topic: publish.topic.to_owned(),
                        payload: publish.payload.to_vec(),
                        qos: publish.qos,
                        retain: publish.retain,
                        packet_id: publish.packet_id,
                        properties: publish.properties,
                    }),
                    Packet::Ack(ack) => Incoming::Ack(ack),
                    Packet::SubAck(suback) => Incoming::Subscribed(suback.reasons),
                    Packet::PingResp | Packet::UnsubAck(_) => Incoming::Pong,
                    Packet::Disconnect(disconnect) => return Err(lost(format!("the server says goodbye: {}", disconnect.reason.name()))),
                    _ => return Err(lost("the server sends what only clients send")),
                };
                self.input.drain(..length);
                return Ok(incoming);
            }
            self.flush().await?;
            self.fill().await?;
        }
    }

    /// Subscribes, and waits for the answer.
    pub(crate) async fn subscribe(&mut self, filters: Vec<SubscribeFilter>) -> Result<(), Failure> {
        let names: Vec<String> = filters.iter().map(|asked| asked.filter.clone()).collect();
        let mut out = Vec::new();
        Subscribe { packet_id: self.next_packet_id(), properties: Properties::default(), filters }.encode(&mut out, self.version);
        self.write(&out).await?;
        let answered = timeout(ANSWER_TIMEOUT, async {
            loop {
                match self.read_next().await? {
                    Incoming::Subscribed(reasons) => return Ok(reasons),
                    other => self.waiting.push_back(other),
                }
            }
        });
        let reasons: Vec<ReasonCode> = answered.await.map_err(|_| lost("no answer to SUBSCRIBE"))??;
        match names.iter().zip(&reasons).find(|(_, reason)| reason.is_error()) {
            Some((name, reason)) => Err(lost(format!("the server refuses the subscription to \"{name}\": {}", reason.name()))),
            None => Ok(()),
        }
    }

    /// Says goodbye.
    pub(crate) async fn disconnect(mut self) {
        let mut out = Vec::new();
        hookline_mqtt::packet::Disconnect { reason: ReasonCode::Success, properties: Properties::default() }.encode(&mut out, self.version);
        // The other end learns it from the end of the connection otherwise.
        drop(self.write(&out).await);
        drop(self.stream.shutdown().await);
    }
}
