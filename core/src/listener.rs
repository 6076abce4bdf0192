//! Listeners: accept, read the CONNECT within its time, decide the login, hand the connection to its worker.
//!
//! In: TCP connections.
//! Out: [`NewConnection`]s in the mailbox of the worker that the client identifier hashes to.
//!
//! Strangers are served here, beside the workers: what they send slowly, or not at all, holds up nobody.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookline_mqtt::packet::{ConnAck, Connect, Packet};
use hookline_mqtt::{DecodeError, Properties, PropertyId, ReasonCode, Version, decode};
use hookline_schemas::Client;
use hookline_schemas::config::{Listener as Settings, WhenFull};
use hookline_schemas::event::{About, HookPoint};
use hookline_schemas::ports::Outcome;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::clock;
use crate::mailbox::{ConnectionPermit, Mail, NewConnection};
use crate::store::{Batch, Queue};
use crate::worker::Shared;

/// An open listener.
pub(crate) struct Listener {
    socket: TcpListener,
    name: Arc<str>,
    settings: Settings,
    shared: Arc<Shared>,
    places: Arc<AtomicUsize>,
    half_open: Arc<AtomicUsize>,
}

/// How long to wait after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How long an answer to a stranger may take to be written.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

impl Listener {
    /// Opens the listener.
    pub(crate) fn open(name: &str, settings: &Settings, shared: Arc<Shared>) -> io::Result<Listener> {
        let domain = if settings.bind.is_ipv6() { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        // Inherited by every connection.
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&settings.bind.into())?;
        socket.listen(1024)?;
        let (places, half_open) = (Arc::default(), Arc::default());
        Ok(Listener {
            socket: TcpListener::from_std(socket.into())?,
            name: name.into(),
            settings: settings.clone(),
            shared,
            places,
            half_open,
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Accepts until it is told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let listener = Arc::new(self);
        let mut handshakes = JoinSet::new();
        loop {
            tokio::select! {
                _ = stop.changed() => break,
                Some(joined) = handshakes.join_next(), if !handshakes.is_empty() => {
                    if let Err(error) = joined {
                        tracing::error!(%error, "a handshake panicked");
                    }
                }
                accepted = listener.socket.accept() => match accepted {
                    Ok((stream, peer)) => listener.admit(stream, peer, &mut handshakes),
                    Err(error) => {
                        tracing::warn!(%error, listener = %listener.name, "cannot accept connections");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                    }
                },
            }
        }
        handshakes.shutdown().await;
    }

    /// Starts the handshake of a connection, within the bounds.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, handshakes: &mut JoinSet<()>) {
        let Some(permit) = ConnectionPermit::take(&self.places, self.settings.connections_max) else {
            return tracing::warn!(%peer, listener = %self.name, max = self.settings.connections_max, "too many connections");
        };
        let Some(half_open) = ConnectionPermit::take(&self.half_open, self.settings.half_open_max) else {
            return tracing::warn!(%peer, listener = %self.name, max = self.settings.half_open_max, "too many connections without CONNECT");
        };
        let listener = Arc::clone(self);
        handshakes.spawn(async move {
            let _half_open = half_open;
            listener.handshake(stream, peer, permit).await;
        });
    }

    async fn handshake(&self, mut stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit) {
        let limit = Duration::from_secs(self.shared.limits.idle_timeout_secs);
        let (connect, input) = match timeout(limit, self.read_connect(&mut stream)).await {
            Ok(Ok(read)) => read,
            Ok(Err(refusal)) => {
                tracing::debug!(%peer, listener = %self.name, reason = refusal.0.detail, "no valid CONNECT");
                return self.answer(&mut stream, refusal.1, refusal.0.reason).await;
            }
            Err(_) => return tracing::debug!(%peer, listener = %self.name, "no CONNECT in time"),
        };
        let sock = stream.local_addr().unwrap_or(self.settings.bind);
        let (client, assigned) = match self.client(&connect, peer, sock) {
            Ok(client) => client,
            Err(reason) => return self.answer(&mut stream, Some(connect.version), reason).await,
        };
        let mut outcome = Outcome::default();
        for point in [HookPoint::ClientConnect, HookPoint::ClientAuthenticate] {
            self.shared.hooks.tell(point, &client, About::Client, &mut outcome);
            if let Some(reason) = outcome.refused() {
                self.shared.hooks.tell(HookPoint::ClientConnack, &client, About::Answer(reason), &mut outcome);
                self.record(&outcome);
                return self.answer(&mut stream, Some(connect.version), reason).await;
            }
        }
        let socket = match stream.into_std() {
            Ok(socket) => socket,
            Err(error) => return tracing::error!(%error, "cannot hand a connection over"),
        };
        let home = worker_of(&client.client_id, self.shared.mailboxes.len());
        let new = NewConnection { socket, connect, client: Arc::new(client), assigned, input, outcome, permit };
        self.shared.mailboxes[home].post(Mail::Connection(Box::new(new)));
    }

    /// Reads up to the end of the CONNECT; what came behind it comes with it.
    async fn read_connect(&self, stream: &mut TcpStream) -> Result<(Connect, Vec<u8>), (DecodeError, Option<Version>)> {
        let mut input = Vec::new();
        loop {
            // Anything else on this port, such as HTTP or TLS, is told by its first byte.
            if input.first().is_some_and(|first| *first != 0x10) {
                return Err((DecodeError::protocol("the first packet is no CONNECT"), None));
            }
            match decode(&input, Version::V311, self.shared.limits.connect_bytes_max) {
                Ok(Some((Packet::Connect(connect), length))) => {
                    input.drain(..length);
                    return Ok((*connect, input));
                }
                Ok(Some(_)) => return Err((DecodeError::protocol("the first packet is no CONNECT"), None)),
                Ok(None) => {}
                Err(error) => return Err((error, announced_version(&input))),
            }
            match stream.read_buf(&mut input).await {
                Ok(0) | Err(_) => return Err((DecodeError::protocol("the peer closed before its CONNECT was whole"), None)),
                Ok(_) => {}
            }
        }
    }

    /// Who the client is, and whether its identifier was assigned.
    fn client(&self, connect: &Connect, peer: SocketAddr, sock: SocketAddr) -> Result<(Client, bool), ReasonCode> {
        let limits = &self.shared.limits;
        if connect.client_id.len() > limits.client_id_bytes_max {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        if connect.properties.text(PropertyId::AuthenticationMethod).is_some() {
            return Err(ReasonCode::BadAuthenticationMethod);
        }
        let assigned = connect.client_id.is_empty();
        // [MQTT-3.1.3-8] Before 5.0 a client without an identifier cannot have a session to come back to.
        if assigned && !connect.clean_start && connect.version != Version::V5 {
            return Err(ReasonCode::ClientIdentifierNotValid);
        }
        let client_id = if assigned { assigned_client_id() } else { connect.client_id.clone() };
        let session_expiry_secs = match (connect.version, connect.clean_start) {
            (Version::V5, _) => connect.properties.number(PropertyId::SessionExpiryInterval).unwrap_or(0),
            (_, true) => 0,
            (_, false) => limits.session_expiry_secs,
        };
        let receive_maximum = connect.properties.number(PropertyId::ReceiveMaximum).unwrap_or(u32::from(u16::MAX));
        let client = Client {
            client_id: client_id.into(),
            username: connect.username.as_deref().map(Into::into),
            peer,
            sock,
            listener: Arc::clone(&self.name),
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive_secs: connect.keep_alive_secs,
            session_expiry_secs: session_expiry_secs.min(limits.session_expiry_secs_max),
            receive_maximum: receive_maximum as u16,
            is_bridge: connect.is_bridge,
            properties: connect.properties.clone(),
            connected_at_ms: clock::now_ms(),
        };
        Ok((client, assigned))
    }

    /// Answers a CONNECT that is refused, where the version has a word for it.
    async fn answer(&self, stream: &mut TcpStream, version: Option<Version>, reason: ReasonCode) {
        let Some(version) = version else { return };
        let mut out = Vec::new();
        ConnAck { session_present: false, reason, properties: Properties::default() }.encode(&mut out, version);
        // The peer is a stranger that is being turned away: if it does not take the answer, so be it.
        let _written = timeout(ANSWER_TIMEOUT, async { stream.write_all(&out).await.and(stream.shutdown().await) }).await;
    }

    /// Writes what hooks want written about a client that does not come in.
    fn record(&self, outcome: &Outcome) {
        let mut batch = Batch::default();
        // Strangers must not fill a queue beyond its bound.
        let store = &self.shared.store;
        let has_room = |queue: &Queue| {
            let full = matches!(queue.when_full(), Some(WhenFull::Refuse | WhenFull::DropNewest));
            if full {
                queue.count_overflow();
            }
            !full
        };
        batch.records_of(outcome.records().filter(|(record, _)| store.queue(record.queue).is_some_and(|queue| has_room(&queue))));
        if !batch.is_empty()
            && let Err(error) = self.shared.store.commit(&mut batch)
        {
            tracing::error!(%error, "cannot record that a client was refused");
        }
    }
}

/// The version that a CONNECT names which cannot be read otherwise, so that the answer has its form.
fn announced_version(input: &[u8]) -> Option<Version> {
    let body = input.get(2..)?;
    match body.get(..7)? {
        [0, 4, b'M', b'Q', b'T', b'T', level] if *level >= 5 => Some(Version::V5),
        [0, 4, b'M', b'Q', b'T', b'T', _] => Some(Version::V311),
        _ => None,
    }
}

/// The home of a client's session.
pub(crate) fn worker_of(client_id: &str, workers: usize) -> usize {
    // Any spread will do; this one is the same in every process.
    let hash = client_id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    ((hash >> 32) as usize) % workers
}

/// An identifier for a client that has none.
fn assigned_client_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("hookline-{:x}-{:x}-{number:x}", clock::now_ms(), std::process::id())
}
