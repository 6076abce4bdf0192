//! A connection: a socket and the bytes on their way in and out. An idle one owns no buffer.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_mqtt::packet::Ack;
use hookline_mqtt::{DecodeError, ReasonCode, Version, decode};
use hookline_schemas::Client;
use rustix::event::epoll::{self, EventFlags};

use super::Worker;
use super::timers::Due;
use crate::HashMap;
use crate::mailbox::ConnectionPermit;
use crate::metrics::Counters;
use crate::slab::Key;

/// A connection of a session.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) socket: TcpStream,
    pub(super) session: Key,
    pub(super) client: Arc<Client>,
    pub(super) version: Version,
    /// The beginning of a packet whose end has not come yet.
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written already.
    written: usize,
    /// The socket takes no more for now: epoll says when it does.
    blocked: bool,
    /// What epoll watches.
    watching: EventFlags,
    /// Messages wait because `output` is long.
    pub(super) held_back: bool,
    dirty: bool,
    /// The largest packet that the client takes, bytes.
    pub(super) packet_bytes_max: usize,
    /// Messages of QoS 1 and 2 that may be on their way.
    pub(super) window: u16,
    /// Topic aliases that the client has set.
    pub(super) aliases: HashMap<u16, Arc<str>>,
    /// Steps that wait for the store: what is acknowledged later must not overtake them.
    pub(super) deferred: u32,
    pub(super) last_heard: Instant,
    /// Why it ends, once what is in `output` has been written.
    pub(super) ending: Option<End>,
    pub(super) _permit: ConnectionPermit,
}

/// Why a connection ends.
#[derive(Debug, Clone)]
pub(super) struct End {
    pub(super) reason: &'static str,
    /// The client left in good order: no will.
    pub(super) graceful: bool,
    pub(super) properties: hookline_mqtt::Properties,
}

impl End {
    pub(super) fn abnormal(reason: &'static str) -> End {
        End { reason, graceful: false, properties: hookline_mqtt::Properties::default() }
    }
}

/// How long a peer that reads nothing may keep a connection that is over.
const LINGER: Duration = Duration::from_secs(5);
/// Memory that a connection keeps for its next packets; what is larger goes back.
const BUFFER_KEPT: usize = 4 << 10;

impl Connection {
    pub(super) fn new(
        socket: TcpStream,
        session: Key,
        client: Arc<Client>,
        input: Vec<u8>,
        permit: ConnectionPermit,
        now: Instant,
    ) -> Connection {
        Connection {
            socket,
            session,
            version: client.version,
            client,
            input,
            output: Vec::new(),
            written: 0,
            blocked: false,
            watching: EventFlags::IN,
            held_back: false,
            dirty: false,
            packet_bytes_max: usize::MAX,
            window: u16::MAX,
            aliases: HashMap::default(),
            deferred: 0,
            last_heard: now,
            ending: None,
            _permit: permit,
        }
    }

    /// Bytes that the socket has not taken yet.
    pub(super) fn backlog(&self) -> usize {
        self.output.len() - self.written
    }

    /// Writes what it can; `Ok(true)` when everything is written.
    fn write(&mut self) -> io::Result<bool> {
        while self.written < self.output.len() {
            match (&self.socket).write(&self.output[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        self.written = 0;
        self.output.clear();
        if self.output.capacity() > BUFFER_KEPT {
            self.output = Vec::new();
        }
        Ok(true)
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
        if flags.intersects(EventFlags::IN | EventFlags::HUP | EventFlags::ERR | EventFlags::RDHUP) {
            self.read(key, buffer);
        }
    }

    /// Reads once and handles the packets. Level-triggered: what is left comes up in the next turn.
    fn read(&mut self, key: Key, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.ending.is_some() {
            return self.read_to_the_end(key, buffer);
        }
        match (&connection.socket).read(buffer) {
            Ok(0) => self.end(key, End::abnormal("tcp_closed")),
            Ok(count) => {
                connection.last_heard = self.now;
                self.handle_bytes(key, &buffer[..count]);
            }
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            Err(_) => self.end(key, End::abnormal("tcp_closed")),
        }
    }

    /// A connection that is ending only drains: until the peer is gone, too.
    fn read_to_the_end(&mut self, key: Key, buffer: &mut [u8]) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let gone = match (&connection.socket).read(buffer) {
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
    }

    /// Takes what came behind the CONNECT.
    pub(super) fn handle_early_input(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let input = std::mem::take(&mut connection.input);
        self.handle_bytes(key, &input);
    }

    /// Handles whole packets; how many bytes they took.
    fn handle_packets(&mut self, key: Key, bytes: &[u8]) -> usize {
        let packet_bytes_max = self.shared.limits.packet_bytes_max;
        let mut used = 0;
        while let Some(connection) = self.connections.get(key).filter(|connection| connection.ending.is_none()) {
            match decode(&bytes[used..], connection.version, packet_bytes_max) {
                Ok(Some((packet, length))) => {
                    used += length;
                    if let Err(error) = self.handle_packet(key, packet) {
                        self.fail(key, error);
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
        if let Some(connection) = self.connections.get(key) {
            tracing::debug!(client = %connection.client.client_id, peer = %connection.client.peer, %error, "protocol error");
        }
        self.close(key, error.reason, error.reason.name());
    }

    /// Says goodbye where the version can, and ends the connection once that is written.
    pub(super) fn close(&mut self, key: Key, code: ReasonCode, reason: &'static str) {
        self.send_with(key, |out, version| {
            if version == Version::V5 {
                hookline_mqtt::packet::Disconnect::new(code).encode(out, version);
            }
        });
        self.end(key, End::abnormal(reason));
    }

    /// Appends to the output of a connection.
    pub(super) fn send_with(&mut self, key: Key, encode: impl FnOnce(&mut Vec<u8>, Version)) {
        if let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.ending.is_none()) {
            let version = connection.version;
            encode(&mut connection.output, version);
            self.mark_dirty(key);
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
        for key in dirty.drain(..) {
            let Some(connection) = self.connections.get_mut(key) else { continue };
            connection.dirty = false;
            if connection.blocked {
                self.linger(key);
                continue;
            }
            match connection.write() {
                Ok(true) if connection.ending.is_some() => self.remove(key),
                Ok(true) => {
                    let session = std::mem::take(&mut connection.held_back).then_some(connection.session);
                    self.interest(key, EventFlags::IN);
                    if let Some(session) = session {
                        self.pump(session);
                    }
                }
                Ok(false) => {
                    connection.blocked = true;
                    // Who does not take its acknowledgements is not read from either: they would pile up here.
                    let may_read = connection.backlog() < self.shared.limits.output_bytes_max;
                    self.interest(key, if may_read { EventFlags::IN | EventFlags::OUT } else { EventFlags::OUT });
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

    /// A peer that reads nothing may keep a connection that is over only for a while.
    fn linger(&mut self, key: Key) {
        if self.connections.get(key).is_some_and(|connection| connection.ending.is_some()) {
            self.timers.set(self.now + LINGER, Due::KeepAlive(key));
        }
    }

    /// Changes what epoll watches, where it is not that already.
    fn interest(&mut self, key: Key, flags: EventFlags) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        if connection.watching == flags {
            return;
        }
        connection.watching = flags;
        if epoll::modify(&self.poll, connection.socket.as_fd(), epoll::EventData::new_u64(key.to_u64()), flags).is_err() {
            self.end(key, End::abnormal("internal_error"));
        }
    }
}
