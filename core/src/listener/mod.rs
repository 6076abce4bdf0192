//! Listeners: accept, and hand each connection to a handshake of its own.
//!
//! In: TCP connections.
//! Out: [`NewConnection`](crate::mailbox::NewConnection)s in the mailbox of the worker that the client identifier hashes to.
//!
//! Strangers are served here, beside the workers: what they send slowly, or not at all, holds up nobody.

/// From the first byte to the CONNECT, and the login.
mod handshake;

pub(crate) use handshake::auth;

use std::io;
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookline_schemas::config::{ClientAuth, Listener as Settings, Tls, TransportKind, WebSocket};
use ipnet::IpNet;
use parking_lot::Mutex;
use rustix::net::{SocketFlags, acceptfrom_with};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::HashMap;
use crate::bans::{AccessRules, network};
use crate::limiter::{Bucket, SharedThrottle};
use crate::mailbox::ConnectionPermit;
use crate::metrics::Turned;
use crate::observer::ListenerView;
use crate::transport::tls::TlsServer;
use crate::worker::Shared;
use crate::zone::Zone;

/// An open listener.
pub(crate) struct Listener {
    socket: AsyncFd<TcpListener>,
    /// Where it listens.
    address: SocketAddr,
    /// Such as `tcp:default`.
    name: Arc<str>,
    kind: TransportKind,
    settings: Settings,
    zone: Arc<Zone>,
    tls: Option<TlsServer>,
    access: AccessRules,
    proxies: Vec<IpNet>,
    forwarders: Vec<IpNet>,
    throttle: Option<Arc<SharedThrottle>>,
    shared: Arc<Shared>,
    places: Arc<AtomicUsize>,
    half_open: Arc<AtomicUsize>,
    half_open_of: Arc<HalfOpen>,
}

/// Connections without CONNECT, by the address of the peer.
type HalfOpen = Mutex<HashMap<IpAddr, usize>>;

/// A place among the connections without CONNECT; given back when it is dropped.
struct HalfOpenPermit {
    of_address: Option<(Arc<HalfOpen>, IpAddr)>,
    _of_listener: ConnectionPermit,
}

/// How long to wait after an accept that failed, such as for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// How often certificate files are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// Connections that the system completes and keeps until they are accepted.
const BACKLOG: i32 = 4096;

impl Listener {
    /// Opens the listener.
    pub(crate) fn open(kind: TransportKind, name: &str, settings: &Settings, shared: Arc<Shared>) -> io::Result<Listener> {
        let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidInput, problem);
        let rules = Rules::new(kind, settings).map_err(|errors| invalid(errors.join("; ")))?;
        let wanted = settings.address(kind);
        let domain = if wanted.is_ipv6() { socket2::Domain::IPV6 } else { socket2::Domain::IPV4 };
        let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
        socket.set_reuse_address(true)?;
        if wanted.is_ipv6() {
            // "[::]" means IPv6 and, where the system can, IPv4 as well.
            socket.set_only_v6(false)?;
        }
        // Inherited by every connection.
        socket.set_tcp_nodelay(true)?;
        socket.set_nonblocking(true)?;
        socket.bind(&wanted.into())?;
        socket.listen(BACKLOG)?;
        let zone = settings.zone.as_deref().map_or_else(|| Arc::clone(&shared.zones.default), |zone| shared.zones.get(zone));
        let socket = TcpListener::from(socket);
        let address = socket.local_addr()?;
        #[expect(deprecated, reason = "what its replacement asks for by being unsafe holds for a listener of std: it keeps its descriptor")]
        let socket = AsyncFd::with_interest(socket, Interest::READABLE)?;
        Ok(Listener {
            socket,
            address,
            name: format!("{}:{name}", kind.name()).into(),
            kind,
            throttle: SharedThrottle::new(settings.messages_per_sec.into(), settings.bytes_per_sec).map(Arc::new),
            settings: settings.clone(),
            zone,
            tls: rules.tls,
            access: rules.access,
            proxies: rules.proxies,
            forwarders: rules.forwarders,
            shared,
            places: Arc::default(),
            half_open: Arc::default(),
            half_open_of: Arc::default(),
        })
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The next connection, not blocking, with its peer.
    async fn accept(&self) -> io::Result<(TcpStream, SocketAddr)> {
        let accept = |socket: &TcpListener| Ok(acceptfrom_with(socket, SocketFlags::NONBLOCK | SocketFlags::CLOEXEC)?);
        let (socket, peer) = self.socket.async_io(Interest::READABLE, accept).await?;
        let peer = peer.ok_or(io::ErrorKind::NotConnected)?;
        Ok((socket.into(), SocketAddr::try_from(peer)?))
    }

    /// The address that a client has connected to.
    fn address_of(&self, stream: &TcpStream) -> SocketAddr {
        // Mostly there is nothing to ask.
        if self.address.ip().is_unspecified() { stream.local_addr().unwrap_or(self.address) } else { self.address }
    }

    /// As it is seen from outside.
    pub(crate) fn view(&self) -> io::Result<ListenerView> {
        Ok(ListenerView {
            name: Arc::clone(&self.name),
            kind: self.kind,
            address: self.address(),
            zone: Arc::clone(&self.zone.name),
            connections_max: self.settings.connections_max,
            connections: Arc::clone(&self.places),
        })
    }

    /// Accepts until it is told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let listener = Arc::new(self);
        let mut handshakes = JoinSet::new();
        let mut rate = Bucket::new(listener.settings.connects_per_sec.into(), Instant::now());
        let mut reload = tokio::time::interval(RELOAD_INTERVAL);
        let mut accept_at: Option<tokio::time::Instant> = None;
        loop {
            tokio::select! {
                _ = stop.changed() => break,
                Some(joined) = handshakes.join_next(), if !handshakes.is_empty() => {
                    if let Err(error) = joined {
                        tracing::error!(%error, "a handshake panicked");
                    }
                }
                _ = reload.tick(), if listener.tls.is_some() => listener.reload(),
                // Above the rate connections wait in the system's backlog.
                () = tokio::time::sleep_until(accept_at.unwrap_or_else(tokio::time::Instant::now)), if accept_at.is_some() => accept_at = None,
                accepted = listener.accept(), if accept_at.is_none() => match accepted {
                    Ok((stream, peer)) => {
                        listener.admit(stream, peer, &mut handshakes);
                        let now = Instant::now();
                        let own = rate.as_mut().map_or(Duration::ZERO, |rate| rate.take(1, now));
                        let of_zone = listener.zone.connects.as_ref().map_or(Duration::ZERO, |rate| rate.take(1, 0, now));
                        let wait = own.max(of_zone);
                        accept_at = (!wait.is_zero()).then(|| tokio::time::Instant::now() + wait);
                    }
                    Err(error) => {
                        if listener.shared.strangers.count(Turned::TooMany) {
                            tracing::warn!(%error, listener = %listener.name, "cannot accept connections");
                        }
                        accept_at = Some(tokio::time::Instant::now() + ACCEPT_PAUSE);
                    }
                },
            }
        }
        handshakes.shutdown().await;
    }

    fn reload(&self) {
        match self.tls.as_ref().and_then(TlsServer::reload) {
            Some(Ok(())) => tracing::info!(listener = %self.name, "new certificates are in use"),
            Some(Err(problem)) => {
                tracing::error!(listener = %self.name, problem, "the changed certificates cannot be used; the ones before stay in use")
            }
            None => {}
        }
    }

    /// Starts the handshake of a connection, within the bounds.
    fn admit(self: &Arc<Self>, stream: TcpStream, peer: SocketAddr, handshakes: &mut JoinSet<()>) {
        // With a proxy in front the address is known only later.
        if !self.settings.proxy_protocol && !self.is_welcome(peer.ip()) {
            return self.turned(Turned::Address, peer, "the address may not connect");
        }
        if self.shared.overload.load(Ordering::Relaxed) {
            return self.turned(Turned::Memory, peer, "memory is at its bound");
        }
        let Some(permit) = ConnectionPermit::take(&self.places, self.settings.connections_max) else {
            return self.turned(Turned::TooMany, peer, "connections_max is reached");
        };
        let Some(of_listener) = ConnectionPermit::take(&self.half_open, self.settings.half_open_max) else {
            return self.turned(Turned::HalfOpen, peer, "half_open_max is reached");
        };
        let of_address = (!self.settings.proxy_protocol).then(|| (Arc::clone(&self.half_open_of), peer.ip()));
        let half_open = HalfOpenPermit { of_address, _of_listener: of_listener };
        if let Some((open, address)) = &half_open.of_address {
            let mut open = open.lock();
            let count = open.entry(*address).or_default();
            *count += 1;
            if *count > self.settings.half_open_per_address_max {
                drop(open);
                return self.turned(Turned::HalfOpenOfAddress, peer, "half_open_per_address_max is reached");
            }
        }
        let listener = Arc::clone(self);
        handshakes.spawn(async move { listener.handshake(stream, peer, permit, half_open).await });
    }

    /// Whether rules and bans let the address in.
    fn is_welcome(&self, address: IpAddr) -> bool {
        self.access.allow(address) && !self.shared.bans.has_address(address)
    }

    /// Counts a connection that comes to nothing, and logs it where that does not flood the log.
    fn turned(&self, turned: Turned, peer: SocketAddr, detail: &str) {
        if self.shared.strangers.count(turned) {
            tracing::warn!(%peer, listener = %self.name, reason = turned.name(), detail, "connection turned away; others like it are only counted");
        }
    }
}

impl Drop for HalfOpenPermit {
    fn drop(&mut self) {
        let Some((open, address)) = self.of_address.take() else { return };
        let mut open = open.lock();
        if let Some(count) = open.get_mut(&address) {
            *count -= 1;
            if *count == 0 {
                open.remove(&address);
            }
        }
    }
}

/// The parts of a listener's settings that have to be read.
struct Rules {
    tls: Option<TlsServer>,
    access: AccessRules,
    proxies: Vec<IpNet>,
    forwarders: Vec<IpNet>,
}

impl Rules {
    fn new(kind: TransportKind, settings: &Settings) -> Result<Rules, Vec<String>> {
        let mut errors = Vec::new();
        // Browsers ask for HTTP by ALPN; others that ask for anything are not refused for it.
        let alpn: &[&[u8]] = if kind.is_websocket() { &[b"http/1.1"] } else { &[] };
        let tls = kind.is_encrypted().then(|| TlsServer::open(&settings.tls, alpn)).transpose();
        let tls = tls.unwrap_or_else(|problem| {
            errors.push(problem);
            None
        });
        let access = AccessRules::new(&settings.access).unwrap_or_else(|problem| {
            errors.push(format!("access: {problem}"));
            AccessRules::default()
        });
        let mut networks = |key: &str, texts: &[String]| {
            let parsed: Result<Vec<IpNet>, String> = texts.iter().map(|text| network(text)).collect();
            parsed.unwrap_or_else(|problem| {
                errors.push(format!("{key}: {problem}"));
                Vec::new()
            })
        };
        let proxies = networks("proxy_protocol_from", &settings.proxy_protocol_from);
        let forwarders = networks("websocket.forwarded_from", &settings.websocket.forwarded_from);
        let plain = without_attributes(&settings.mountpoint).replace("${clientid}", "x").replace("${username}", "x");
        if !plain.is_empty() && (plain.contains("${") || plain.starts_with('$') || !hookline_mqtt::topic::name_is_valid(&plain, usize::MAX))
        {
            let problem =
                "must be the beginning of a topic, without wildcards; ${clientid}, ${username} and ${client_attrs.NAME} are filled in";
            errors.push(format!("mountpoint: \"{}\" {problem}", settings.mountpoint));
        }
        let mut misplaced = |is_wrong: bool, problem: &str| {
            if is_wrong {
                errors.push(problem.to_owned());
            }
        };
        misplaced(!kind.is_encrypted() && settings.tls != Tls::default(), "tls: only listeners in listeners.tls and listeners.wss have it");
        let has_websocket = settings.websocket != WebSocket::default();
        misplaced(!kind.is_websocket() && has_websocket, "websocket: only listeners in listeners.ws and listeners.wss have it");
        misplaced(!settings.websocket.path.starts_with('/'), "websocket.path: must begin with \"/\"");
        misplaced(settings.websocket.message_bytes_max < 64, "websocket.message_bytes_max: must be 64 or more");
        let unused = settings.tls.client_ca.is_some() && settings.tls.client_auth == ClientAuth::None;
        misplaced(unused, "tls.client_ca: has no effect without client_auth = \"optional\" or \"required\"");
        let unused = !settings.proxy_protocol && !settings.proxy_protocol_from.is_empty();
        misplaced(unused, "proxy_protocol_from: has no effect without proxy_protocol = true");
        if errors.is_empty() { Ok(Rules { tls, access, proxies, forwarders }) } else { Err(errors) }
    }
}

/// A mountpoint as if every client had every attribute.
fn without_attributes(mountpoint: &str) -> String {
    let mut plain = mountpoint.to_owned();
    while let Some((before, after)) = plain.split_once("${client_attrs.") {
        let Some((_, rest)) = after.split_once('}') else { break };
        plain = format!("{before}x{rest}");
    }
    plain
}

/// What is wrong with the settings of a listener, each with its key.
pub fn check(kind: TransportKind, settings: &Settings) -> Vec<String> {
    Rules::new(kind, settings).err().unwrap_or_default()
}

/// The home of a client's session.
pub(crate) fn worker_of(client_id: &str, workers: usize) -> usize {
    // FNV-1a, the same in every process. By itself its upper bits know nothing of the last characters, and its lower ones little of the
    // first: a step of MurmurHash3's finish mixes them.
    let hash = client_id.bytes().fold(0xcbf2_9ce4_8422_2325u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let hash = (hash ^ hash >> 33).wrapping_mul(0xff51_afd7_ed55_8ccd);
    ((hash >> 32) as usize) % workers
}

#[cfg(test)]
mod tests {
    use super::worker_of;

    #[test]
    fn clients_with_similar_names_are_spread() {
        for workers in [2, 3, 4, 8] {
            for pattern in ["device-{}", "{}", "{}-sensor", "plant/7/line/{}/press"] {
                let mut clients = vec![0; workers];
                (0..1000).for_each(|number| clients[worker_of(&pattern.replace("{}", &number.to_string()), workers)] += 1);
                let fair = 1000 / workers;
                assert!(clients.iter().all(|count| (fair * 3 / 4..fair * 5 / 4).contains(count)), "{pattern}: {clients:?}");
            }
        }
    }
}
