//! A connection: a transport and the bytes on their way in and out. An idle one owns no buffer.

use std::collections::VecDeque;
use std::io;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_mqtt::packet::Ack;
use hookline_mqtt::{DecodeError, Properties, PropertyId, ReasonCode, Version, decode};
use hookline_schemas::Client;
use hookline_schemas::access::Rights;
use hookline_schemas::config::{AutoSubscribe, DurabilityLevel};
use rustix::event::epoll::{self, EventFlags};

use super::Worker;
use super::awaiting::Awaiting;
use super::timers::Due;
use crate::HashMap;
use crate::authentication::Exchange;
use crate::limiter::{Bucket, SharedThrottle, Throttle};
use crate::mailbox::{ConnectionPermit, NewConnection};
use crate::metrics::Counters;
use crate::seldom::Seldom;
use crate::slab::Key;
use crate::transport::Transport;
use crate::zone::Zone;

/// A connection of a session.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) transport: Transport,
    pub(super) session: Key,
    pub(super) client: Arc<Client>,
    pub(super) zone: Arc<Zone>,
    pub(super) version: Version,
    /// The beginning of a packet whose end has not come yet.
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written already.
    written: usize,
    /// The socket takes no more for now: epoll says when it does.
    blocked: bool,
    /// It has sent too much, and is not read from until the timer says so.
    paused: bool,
    /// What epoll watches.
    watching: EventFlags,
    /// Messages wait because `output` is long.
    pub(super) held_back: bool,
    dirty: bool,
    /// The largest packet that the client takes, bytes.
    pub(super) packet_bytes_max: u32,
    /// Messages of QoS 1 and 2 that may be on their way.
    pub(super) window: u16,
    /// Topic aliases that the client has set.
    pub(super) aliases: Seldom<HashMap<u16, Arc<str>>>,
    /// Topic aliases that the broker may set, and those that it has set.
    pub(super) aliases_out_max: u16,
    pub(super) aliases_out: Seldom<HashMap<Arc<str>, u16>>,
    /// Steps that wait for the store: what is acknowledged later must not overtake them.
    pub(super) deferred: u32,
    /// What the last publish among them waits for.
    pub(super) deferred_level: DurabilityLevel,
    /// Publishes among them: what the client has on its way.
    pub(super) unacknowledged: u32,
    /// Answers to publishes that wait for a sink, or for those before them.
    pub(super) awaiting: Seldom<VecDeque<Awaiting>>,
    pub(super) last_heard: Instant,
    /// What the client may do; `None`: everything.
    pub(super) rights: Option<Arc<dyn Rights>>,
    /// It may everything, whatever is configured: its rights are never asked for.
    pub(super) is_superuser: bool,
    pub(super) terms: Seldom<Terms>,
    /// What its next packet asks for has been decided as far as anybody could.
    pub(super) is_decided: bool,
    /// A re-authentication under way.
    pub(super) exchange: Option<Box<Exchange>>,
    limits: Option<Box<Limits>>,
    /// Why it ends, once what is in `output` has been written.
    pub(super) ending: Option<Box<End>>,
    pub(super) _permit: ConnectionPermit,
}

/// On which terms a client was let in, where there are any.
#[derive(Debug, Default)]
pub(super) struct Terms {
    /// When its rights are to be asked for anew.
    pub(super) rights_due: Option<Instant>,
    /// The timer that looks after that.
    pub(super) rights_timer: Option<Instant>,
    /// When it has to go, milliseconds since the Unix epoch.
    pub(super) expires_at_ms: Option<u64>,
    /// What the broker subscribes it to, beside what all are.
    pub(super) subscriptions: Box<[AutoSubscribe]>,
    /// The name that it has proven in steps.
    pub(super) proven: Option<Box<str>>,
}

/// What a connection may send, where that is limited.
#[derive(Debug)]
struct Limits {
    own: Option<Throttle>,
    listener: Option<Arc<SharedThrottle>>,
    subscribes: Option<Bucket>,
}

/// Why a connection ends.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) reason: &'static str,
    /// The client left in good order: no will.
    pub(super) graceful: bool,
    /// The broker ends it, and the client is to read why.
    pub(super) by_broker: bool,
    pub(super) properties: Properties,
}

impl End {
    pub(super) fn abnormal(reason: &'static str) -> End {
        End { reason, graceful: false, by_broker: false, properties: Properties::default() }
    }
}

/// How long a peer may keep a connection that is over.
const LINGER: Duration = Duration::from_secs(5);
/// Memory that a connection keeps for its next packets; what is larger goes back.
const BUFFER_KEPT: usize = 4 << 10;
/// A buffer that has become larger is not used by others.
const BUFFER_POOLED: usize = 64 << 10;
/// Buffers that wait to be used.
const BUFFERS_MAX: usize = 256;
/// Written bytes that stay in front of those that wait, until it is worthwhile to move these.
const WRITTEN_KEPT: usize = 64 << 10;
/// The type of a PUBLISH packet.
const PUBLISH: u8 = 3;
/// What is read at once where a rate holds: so much may wait here.
const LIMITED_READ: usize = 4 << 10;
/// Steps of one connection that may wait for the store.
const DEFERRED_MAX: u32 = 10_000;
/// What a DISCONNECT takes beside its reason string, at most.
const DISCONNECT_BYTES: usize = 12;
/// Reads of one connection in a row, where its transport reads ahead; then the others have their turn.
const READS_MAX: usize = 8;

impl Connection {
    pub(super) fn new(new: NewConnection, session: Key, now: Instant) -> Connection {
        let NewConnection { transport, connect, client, zone, throttle, input, permit, proof, rights, is_superuser, .. } = new;
        let limits = &zone.limits;
        let number = |id| connect.properties.number(id);
        let aliases_out_max = number(PropertyId::TopicAliasMaximum).unwrap_or(0).min(limits.topic_alias_out_max.into()) as u16;
        let rates = Limits {
            own: Throttle::new(limits.messages_per_sec.into(), limits.bytes_per_sec, now),
            subscribes: Bucket::new(limits.subscribes_per_sec.into(), now),
            listener: throttle,
        };
        let mut terms = Seldom::<Terms>::default();
        if new.expires_at_ms.is_some() || proof.is_some() || !new.subscriptions.is_empty() {
            let proven = proof.map(|proof| proof.username.into());
            *terms.make() = Terms { expires_at_ms: new.expires_at_ms, subscriptions: new.subscriptions.into(), proven, ..Terms::default() };
        }
        let is_limited = rates.own.is_some() || rates.listener.is_some() || rates.subscribes.is_some();
        Connection {
            transport,
            session,
            version: client.version,
            packet_bytes_max: number(PropertyId::MaximumPacketSize).unwrap_or(u32::MAX),
            window: limits.inflight_max.min(client.receive_maximum),
            client,
            input,
            output: Vec::new(),
            written: 0,
            blocked: false,
            paused: false,
            watching: EventFlags::IN,
            held_back: false,
            dirty: false,
            aliases: Seldom::default(),
            aliases_out_max,
            aliases_out: Seldom::default(),
            deferred: 0,
            deferred_level: DurabilityLevel::Memory,
            unacknowledged: 0,
            awaiting: Seldom::default(),
            last_heard: now,
            rights,
            is_superuser,
            terms,
            is_decided: false,
            exchange: None,
            limits: is_limited.then(|| Box::new(rates)),
            zone,
            ending: None,
            _permit: permit,
        }
    }

    /// Bytes that the socket has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Whether another topic filter may be subscribed to in this second.
    pub(super) fn may_subscribe(&mut self, now: Instant) -> bool {
        let bucket = self.limits.as_mut().and_then(|limits| limits.subscribes.as_mut());
        bucket.is_none_or(|bucket| bucket.try_take(now))
    }

    /// Who does not take its acknowledgements is not read from either: they would pile up here. Nor is one that has much waiting
    /// for the store.
    fn may_read(&self) -> bool {
        let takes = !self.blocked || self.backlog() < self.zone.limits.output_bytes_max;
        takes && self.deferred < DEFERRED_MAX
    }

    /// Whether a rate holds for it.
    fn is_limited(&self) -> bool {
        self.limits.is_some() || self.zone.throttle.is_some()
    }

    /// Whether nothing is read from it for now.
    pub(super) fn is_paused(&self) -> bool {
        self.paused
    }

    /// Writes what it can; `Ok(true)` when everything has left.
    fn write(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match self.transport.write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    // A link that is never idle must not keep all that was ever written.
                    if self.written > WRITTEN_KEPT && 2 * self.written > self.output.len() {
                        self.output.drain(..self.written);
                        self.written = 0;
                    }
                    return Ok(false);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        self.output.clear();
        match self.transport.flush() {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// How long to read nothing, after so much was read.
    fn throttle(&mut self, messages: u64, bytes: u64, now: Instant) -> Duration {
        let zone = self.zone.throttle.as_ref().map_or(Duration::ZERO, |throttle| throttle.take(messages, bytes, now));
        let Some(limits) = &mut self.limits else { return zone };
        let own = limits.own.as_mut().map_or(Duration::ZERO, |throttle| throttle.take(messages, bytes, now));
        let listener = limits.listener.as_ref().map_or(Duration::ZERO, |throttle| throttle.take(messages, bytes, now));
        zone.max(own).max(listener)
    }
}

impl Worker {
    /// A socket has something to tell.
    pub(super) fn ready(&mut self, key: Key, flags: EventFlags, buffer: &mut [u8]) {
        if flags.contains(EventFlags::OUT)
            && let Some(connection) = self.connections.get_mut(key)
        {
            connection.blocked = false;
            self.mark_dirty(key);
        }
        // A connection that is gone is told of again and again, also where nothing is to be read for now.
        if flags.intersects(EventFlags::HUP | EventFlags::ERR)
            && let Some(connection) = self.connections.get_mut(key)
        {
            (connection.paused, connection.blocked) = (false, false);
        }
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
            self.read(key, buffer);
        }
    }

    /// Reads and handles the packets. Level-triggered: what is left comes up in the next turn, and what a transport has read
    /// ahead is asked for here.
    fn read(&mut self, key: Key, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(connection) = self.connections.get_mut(key) else { return };
            if connection.ending.is_some() {
                return self.read_to_the_end(key, buffer);
            }
            if connection.paused || !connection.may_read() {
                return;
            }
            let most = if connection.is_limited() { LIMITED_READ } else { buffer.len() };
            match connection.transport.read(&mut buffer[..most]) {
                Ok(0) => return self.end(key, End::abnormal("tcp_closed")),
                Ok(count) => {
                    connection.last_heard = self.now;
                    Counters::add(&self.counters.bytes_received, count as u64);
                    let reads_ahead = connection.transport.reads_ahead();
                    self.handle_bytes(key, &buffer[..count]);
                    if self.connections.get(key).is_some_and(|connection| connection.deferred >= DEFERRED_MAX) {
                        self.update_interest(key);
                    }
                    if !reads_ahead {
                        return;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                // Nothing for us in much that came; the others first.
                Err(error) if error.kind() == io::ErrorKind::Interrupted => break,
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return self.close(key, ReasonCode::MalformedPacket, "malformed_packet");
                }
                Err(_) => return self.end(key, End::abnormal("tcp_closed")),
            }
        }
        self.more.push(key);
    }

    /// Accounts for a packet, and holds the connection back where that was more than it may send.
    fn throttle(&mut self, key: Key, is_publish: bool, bytes: usize) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        let wait = connection.throttle(u64::from(is_publish), bytes as u64, now);
        if !wait.is_zero() {
            connection.paused = true;
            Counters::count(&self.counters.throttled);
            self.timers.set(now + wait, Due::Resume(key));
            self.update_interest(key);
        }
    }

    /// Reads nothing from a connection until something is decided.
    pub(super) fn hold_back(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.paused = true;
            self.update_interest(key);
        }
    }

    /// Reads from a connection again that was held back.
    pub(super) fn resume_reading(&mut self, key: Key) {
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.paused = false;
        // Nothing could be heard from it in the meantime.
        connection.last_heard = now;
        // First what was left when it had to wait.
        self.handle_bytes(key, &[]);
        if self.connections.get(key).is_some_and(|connection| !connection.paused) {
            self.more.push(key);
            self.update_interest(key);
        }
    }

    /// A connection that is ending only drains: until the peer is gone, too.
    fn read_to_the_end(&mut self, key: Key, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let gone = match connection.transport.read(buffer) {
            Ok(count) => count == 0,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
        };
        if gone {
            self.remove(key);
        }
    }

    /// Handles bytes of a connection, with those that were left from before.
    pub(super) fn handle_bytes(&mut self, key: Key, bytes: &[u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.input.is_empty() {
            let used = self.handle_packets(key, bytes);
            if let Some(connection) = self.connections.get_mut(key) {
                connection.input.extend_from_slice(&bytes[used..]);
            }
        } else {
            let mut input = std::mem::take(&mut connection.input);
            input.extend_from_slice(bytes);
            let used = self.handle_packets(key, &input);
            input.drain(..used);
            if input.is_empty() && input.capacity() > BUFFER_KEPT {
                input = Vec::new();
            }
            if let Some(connection) = self.connections.get_mut(key) {
                connection.input = input;
            }
        }
        self.refill();
    }

    /// Takes what came behind the CONNECT, and what the transport may have of it.
    pub(super) fn handle_early_input(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.transport.reads_ahead() {
            self.more.push(key);
        }
        let Some(connection) = self.connections.get_mut(key) else { return };
        let input = std::mem::take(&mut connection.input);
        self.handle_bytes(key, &input);
    }

    /// Handles whole packets; how many bytes they took.
    fn handle_packets(&mut self, key: Key, bytes: &[u8]) -> usize {
        let mut used = 0;
        while let Some(connection) = self.connections.get(key).filter(|connection| connection.ending.is_none()) {
            if connection.paused {
                return used;
            }
            let is_limited = connection.is_limited();
            match decode(&bytes[used..], connection.version, connection.zone.limits.packet_bytes_max) {
                Ok(Some((packet, length))) => {
                    // It comes again when it is decided.
                    if self.waits_for_decision(key, &packet) {
                        return used;
                    }
                    let first = bytes[used];
                    self.counters.count_received(first);
                    used += length;
                    if let Err(error) = self.handle_packet(key, packet) {
                        self.fail(key, error);
                    }
                    if is_limited {
                        self.throttle(key, first >> 4 == PUBLISH, length);
                    }
                }
                Ok(None) => return used,
                Err(error) => self.fail(key, error),
            }
        }
        // The rest of a connection that ends is nobody's business.
        bytes.len()
    }

    /// Ends a connection whose client broke the protocol.
    pub(super) fn fail(&mut self, key: Key, error: DecodeError) {
        Counters::count(&self.counters.protocol_errors);
        let mut properties = Properties::default();
        if let Some(connection) = self.connections.get(key) {
            tracing::debug!(client = %connection.client.client_id, peer = %connection.client.peer, %error, "protocol error");
            // [MQTT-3.1.2-29] The client may have asked for no more than the code; [MQTT-3.14.2-3] or have no room for it.
            let wants = connection.client.properties.number(PropertyId::RequestProblemInformation) != Some(0);
            if wants && connection.packet_bytes_max as usize >= error.detail.len() + DISCONNECT_BYTES {
                properties.push_text(PropertyId::ReasonString, error.detail);
            }
        }
        self.close_with(key, error.reason, properties, error.reason.name());
    }

    /// Says goodbye where the version can, and ends the connection once that is written.
    pub(super) fn close(&mut self, key: Key, code: ReasonCode, reason: &'static str) {
        self.close_with(key, code, Properties::default(), reason);
    }

    fn close_with(&mut self, key: Key, code: ReasonCode, properties: Properties, reason: &'static str) {
        self.send_with(key, |out, version| {
            if version == Version::V5 {
                hookline_mqtt::packet::Disconnect { reason: code, properties }.encode(out, version);
            }
        });
        self.end(key, End { by_broker: true, ..End::abnormal(reason) });
    }

    /// Appends a packet to the output of a connection.
    pub(super) fn send_with(&mut self, key: Key, encode: impl FnOnce(&mut Vec<u8>, Version)) {
        if let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.ending.is_none()) {
            if connection.output.capacity() == 0 {
                connection.output = self.buffers.pop().unwrap_or_default();
            }
            let (version, before) = (connection.version, connection.output.len());
            encode(&mut connection.output, version);
            if let Some(first) = connection.output.get(before) {
                self.counters.count_sent(*first);
                Counters::add(&self.counters.bytes_sent, (connection.output.len() - before) as u64);
                self.mark_dirty(key);
            }
        }
    }

    /// One step less waits for the store: reads again, where that was the last one too many.
    pub(super) fn step_done(&mut self, key: Key, is_publish: bool) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        connection.deferred -= 1;
        connection.unacknowledged -= u32::from(is_publish);
        if connection.deferred == DEFERRED_MAX / 2 {
            self.update_interest(key);
        }
    }

    pub(super) fn send_ack(&mut self, key: Key, ack: &Ack) {
        self.send_with(key, |out, version| ack.encode(out, version));
    }

    pub(super) fn mark_dirty(&mut self, key: Key) {
        if let Some(connection) = self.connections.get_mut(key).filter(|connection| !connection.dirty) {
            connection.dirty = true;
            self.dirty.push(key);
        }
    }

    /// One write for each connection that has something to say.
    pub(super) fn write_dirty(&mut self) {
        let mut dirty = std::mem::take(&mut self.dirty);
        // The last first: a turn acknowledges a message before it delivers it, and what somebody waits for most is the delivery.
        while let Some(key) = dirty.pop() {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.dirty = false;
            if connection.blocked {
                self.update_interest(key);
                self.linger(key);
                continue;
            }
            let (was_read, before) = (connection.watching.contains(EventFlags::IN), connection.backlog());
            let result = connection.write();
            // Who is not read from is heard by what it takes.
            if !was_read && connection.backlog() < before {
                connection.last_heard = self.now;
            }
            match result {
                Ok(true) if connection.ending.is_some() => self.hang_up(key),
                Ok(true) => {
                    let buffer = std::mem::take(&mut connection.output);
                    if (1..=BUFFER_POOLED).contains(&buffer.capacity()) && self.buffers.len() < BUFFERS_MAX {
                        self.buffers.push(buffer);
                    }
                    let session = std::mem::take(&mut connection.held_back).then_some(connection.session);
                    self.update_interest(key);
                    if let Some(session) = session {
                        self.pump(session);
                    }
                }
                Ok(false) => {
                    connection.blocked = true;
                    self.update_interest(key);
                    self.linger(key);
                }
                Err(_) => {
                    self.end(key, End::abnormal("tcp_closed"));
                    self.remove(key);
                }
            }
        }
        // Pumping may have made connections dirty again: their turn is the next one.
        dirty.append(&mut self.dirty);
        self.dirty = dirty;
    }

    /// Closes a connection that is over and has nothing left to write. Where the broker has ended it, the client gets the time
    /// to read why: closing on bytes that were not read would throw away what was written.
    fn hang_up(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let by_broker = connection.ending.as_ref().is_some_and(|end| end.by_broker);
        connection.transport.say_goodbye();
        if !by_broker || rustix::net::shutdown(&connection.transport, rustix::net::Shutdown::Write).is_err() {
            return self.remove(key);
        }
        connection.paused = false;
        self.update_interest(key);
        self.linger(key);
    }

    /// A peer that reads nothing may keep a connection that is over only for a while.
    fn linger(&mut self, key: Key) {
        if self.connections.get(key).is_some_and(|connection| connection.ending.is_some()) {
            self.timers.set(self.now + LINGER, Due::KeepAlive(key));
        }
    }

    /// Changes what epoll watches, where it is not that already.
    fn update_interest(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let reads = !connection.paused && connection.may_read();
        // What the transport has read ahead no event will tell of.
        let resumes = reads && !connection.watching.contains(EventFlags::IN) && connection.transport.reads_ahead();
        let mut flags = if reads { EventFlags::IN } else { EventFlags::empty() };
        flags.set(EventFlags::OUT, connection.blocked);
        if connection.watching == flags {
            return;
        }
        connection.watching = flags;
        if epoll::modify(&self.poll, connection.transport.as_fd(), epoll::EventData::new_u64(key.to_u64()), flags).is_err() {
            return self.end(key, End::abnormal("internal_error"));
        }
        if resumes {
            self.more.push(key);
        }
    }
}
