//! From the first byte of a connection to its CONNECT, all within one deadline; and the login.

use std::collections::BTreeMap;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hookline_mqtt::packet::{Auth, ConnAck, Connect, Packet};
use hookline_mqtt::{DecodeError, Properties, PropertyId, ReasonCode, Version, decode};
use hookline_schemas::access::{Decision, Granted, Login, Request};
use hookline_schemas::config::{PeerCert, TransportKind, WhenFull};
use hookline_schemas::event::{About, Access, HookPoint};
use hookline_schemas::ports::{Outcome, SOURCE_CLIENT};
use hookline_schemas::{Certificate, Client};
use hookline_wire::websocket::Forwarded;
use rustls::{ServerConnection, StreamOwned};
use tokio::time::{Instant, timeout, timeout_at};

use super::{HalfOpenPermit, Listener, worker_of};
use crate::authentication::Step;
use crate::clock;
use crate::mailbox::{ConnectionPermit, Mail, NewConnection, Proof};
use crate::metrics::Turned;
use crate::store::{Batch, Queue};
use crate::transport::{Socket, Transport, Wire, proxy, tls, websocket};

/// How long an answer to a stranger may take to be written, and the stranger to close after it.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// Steps of an authentication at the most.
const STEPS_MAX: usize = 8;
/// What a stranger may still send after it was refused, bytes: reading it keeps the answer from being lost.
const LAST_BYTES_MAX: usize = 64 << 10;

/// A connection whose transport is ready.
struct Arrived {
    transport: Transport,
    peer: SocketAddr,
    sock: SocketAddr,
    certificate: Option<Certificate>,
}

/// A connection that is turned away, with what is said about it.
struct TurnedAway(Turned, String);

/// A CONNECT that is refused: with a reason, and properties for those who can read them.
struct Refusal {
    reason: ReasonCode,
    properties: Properties,
}

impl From<ReasonCode> for Refusal {
    fn from(reason: ReasonCode) -> Refusal {
        Refusal { reason, properties: Properties::default() }
    }
}

impl Listener {
    /// Serves a stranger until it is a client, or gone.
    pub(super) async fn handshake(&self, stream: TcpStream, peer: SocketAddr, permit: ConnectionPermit, half_open: HalfOpenPermit) {
        let deadline = Instant::now() + Duration::from_secs(self.zone.limits.idle_timeout_secs);
        let mut arrived = match timeout_at(deadline, self.open_transport(stream, peer)).await {
            Ok(Ok(arrived)) => arrived,
            Ok(Err(TurnedAway(turned, detail))) => return self.turned(turned, peer, &detail),
            Err(_) => return self.turned(Turned::Timeout, peer, "nothing that leads to a CONNECT came in time"),
        };
        let (mut connect, mut input) = match timeout_at(deadline, self.read_connect(&mut arrived.transport)).await {
            Ok(Ok(read)) => read,
            Ok(Err((error, version))) => {
                self.turned(Turned::NoConnect, arrived.peer, error.detail);
                return self.answer(&mut arrived.transport, version, error.reason.into()).await;
            }
            Err(_) => return self.turned(Turned::Timeout, arrived.peer, "no whole CONNECT came in time"),
        };
        let proof = match timeout_at(deadline, self.authenticate(&mut arrived.transport, &mut connect, &mut input)).await {
            Ok(Ok(proof)) => proof,
            Ok(Err(refusal)) => {
                self.turned(Turned::Refused, arrived.peer, refusal.reason.name());
                return self.answer(&mut arrived.transport, Some(connect.version), refusal).await;
            }
            Err(_) => return self.turned(Turned::Timeout, arrived.peer, "the authentication was not completed in time"),
        };
        drop(half_open);
        let (mut client, assigned) = match self.client(&connect, &arrived) {
            Ok(client) => client,
            Err(refusal) => {
                self.turned(Turned::Refused, arrived.peer, refusal.reason.name());
                return self.answer(&mut arrived.transport, Some(connect.version), refusal).await;
            }
        };
        let mut outcome = Outcome::default();
        let allowed = match self.log_in(&client, &mut outcome) {
            Ok(()) => self.prove(&mut client, &connect, proof.is_some()).await,
            Err(reason) => Err(reason),
        };
        let login = About::Login {
            reason: allowed.as_ref().err().copied().unwrap_or(ReasonCode::Success),
            is_superuser: allowed.as_ref().is_ok_and(|granted| granted.is_superuser),
            is_anonymous: allowed.as_ref().map_or(proof.is_none() && client.certificate.is_none(), |granted| granted.is_anonymous),
        };
        self.shared.hooks.tell(HookPoint::ClientLogin, &client, login, &mut outcome);
        let granted = match allowed {
            Ok(granted) => granted,
            Err(reason) => {
                if reason != ReasonCode::Banned {
                    self.turned(Turned::Refused, client.peer, reason.name());
                }
                self.shared.hooks.tell(HookPoint::ClientConnack, &client, About::Answer(reason), &mut outcome);
                self.record(&outcome);
                return self.answer(&mut arrived.transport, Some(connect.version), reason.into()).await;
            }
        };
        let transport = match arrived.transport.into_bare() {
            Ok(transport) => transport,
            Err(error) => return tracing::error!(%error, "cannot hand a connection over"),
        };
        let home = worker_of(&client.client_id, self.shared.mailboxes.len());
        let new = NewConnection {
            transport,
            connect,
            client: Arc::new(client),
            zone: Arc::clone(&self.zone),
            throttle: self.throttle.clone(),
            assigned,
            rights: granted.rights,
            is_superuser: granted.is_superuser,
            expires_at_ms: granted.expires_at_ms,
            subscriptions: granted.subscriptions,
            proof,
            input,
            outcome,
            permit,
        };
        self.shared.mailboxes[home].post(Mail::Connection(Box::new(new)));
    }

    /// Who the client really is, and what it may do. What is known of it then goes into `client`.
    async fn prove(&self, client: &mut Client, connect: &Connect, is_proven: bool) -> Result<Granted, ReasonCode> {
        // A name that can be proven cannot just be said.
        if !is_proven && connect.username.as_deref().is_some_and(|name| self.shared.methods.know(name)) {
            return Err(ReasonCode::NotAuthorized);
        }
        let Some(access) = self.shared.hooks.access() else {
            let is_anonymous = !is_proven && client.certificate.is_none();
            if is_anonymous && !self.zone.limits.allow_anonymous {
                return Err(ReasonCode::NotAuthorized);
            }
            client.mountpoint = self.mountpoint(client)?.into();
            return Ok(Granted { is_anonymous, ..Granted::default() });
        };
        let granted = access
            .log_in(Login {
                client,
                password: connect.password.as_deref(),
                is_proven,
                allow_anonymous: self.zone.limits.allow_anonymous,
                chain: self.settings.authentication.as_deref(),
            })
            .await?;
        client.attributes.clone_from(&granted.attributes);
        if let Some(client_id) = &granted.client_id {
            let is_too_long = client_id.len() > self.zone.limits.client_id_bytes_max;
            if client_id.is_empty() || is_too_long || client_id.starts_with(SOURCE_CLIENT) {
                return Err(ReasonCode::ClientIdentifierNotValid);
            }
            client.client_id = client_id.as_str().into();
            if self.shared.bans.has_client(&client.client_id, client.username.as_deref()) {
                self.turned(Turned::Banned, client.peer, &client.client_id);
                return Err(ReasonCode::Banned);
            }
        }
        client.mountpoint = self.mountpoint(client)?.into();
        if let (Some(will), Some(rights)) = (&connect.will, &granted.rights) {
            let topic = if self.shared.delayed.enable { crate::worker::split_delayed(&will.topic).1 } else { &will.topic };
            let request = Request { action: Access::Publish, topic, qos: will.qos, retain: will.retain };
            if !rights.is_decided(&request) {
                access.ask(client, rights, request).await;
            }
            if rights.decide(&request).0 != Decision::Allow {
                return Err(ReasonCode::NotAuthorized);
            }
        }
        Ok(granted)
    }

    /// What stands before all topics of a client.
    fn mountpoint(&self, client: &Client) -> Result<String, ReasonCode> {
        let mut mountpoint = self.settings.mountpoint.clone();
        if !mountpoint.contains("${") {
            return Ok(mountpoint);
        }
        let names = [
            ("${clientid}".to_owned(), Some(&*client.client_id), ReasonCode::ClientIdentifierNotValid),
            ("${username}".to_owned(), client.username.as_deref(), ReasonCode::BadUserNameOrPassword),
        ];
        let attributes =
            client.attributes.iter().map(|(name, value)| (format!("${{client_attrs.{name}}}"), Some(&**value), ReasonCode::NotAuthorized));
        for (place, name, reason) in names.into_iter().chain(attributes) {
            if mountpoint.contains(&place) {
                // A name with a wildcard, or with levels of its own, would lead into what is others'.
                let name = name.filter(|name| !name.is_empty() && !name.contains(['+', '#', '/', '$'])).ok_or(reason)?;
                mountpoint = mountpoint.replace(&place, name);
            }
        }
        // An attribute that this client does not have.
        if mountpoint.contains("${") { Err(ReasonCode::NotAuthorized) } else { Ok(mountpoint) }
    }

    /// What comes before MQTT: the proxy's word, TLS, WebSocket.
    async fn open_transport(&self, stream: TcpStream, peer: SocketAddr) -> Result<Arrived, TurnedAway> {
        let (mut peer, mut sock) = (peer, self.address_of(&stream));
        let mut socket = Socket::Bare(stream);
        if self.settings.proxy_protocol {
            if !self.proxies.is_empty() && !self.proxies.iter().any(|network| network.contains(&peer.ip().to_canonical())) {
                return Err(TurnedAway(Turned::Proxy, "the peer is not in proxy_protocol_from".into()));
            }
            let said = proxy::take(&mut socket).await.map_err(|error| TurnedAway(Turned::Proxy, error.to_string()))?;
            (peer, sock) = said.addresses.unwrap_or((peer, sock));
            if !self.is_welcome(peer.ip()) {
                return Err(TurnedAway(Turned::Address, "the address may not connect".into()));
            }
        }
        let mut wire = Wire::Tcp(socket);
        let mut certificate = None;
        if let Some(tls) = &self.tls {
            let refuse = |error: &dyn std::fmt::Display| TurnedAway(Turned::Tls, error.to_string());
            let connection = ServerConnection::new(tls.config()).map_err(|error| refuse(&error))?;
            let Wire::Tcp(socket) = wire else { unreachable!("it was made so above") };
            wire = Wire::Tls(Box::new(StreamOwned::new(connection, socket)));
            wire.drive(Wire::shake_hands).await.map_err(|error| refuse(&error))?;
            certificate = wire.peer_certificate().and_then(tls::peer_certificate);
        }
        let transport = match self.kind {
            TransportKind::Tcp | TransportKind::Tls => Transport::Plain(wire),
            TransportKind::Ws | TransportKind::Wss => {
                let accepted = websocket::accept(wire, &self.settings.websocket, &self.forwarders).await;
                let (framed, forwarded) = accepted.map_err(|error| TurnedAway(Turned::WebSocket, error.to_string()))?;
                let trusted = self.forwarders.iter().any(|network| network.contains(&peer.ip().to_canonical()));
                match forwarded {
                    Forwarded::Client(address) if trusted => {
                        peer.set_ip(address);
                        if !self.is_welcome(address) {
                            return Err(TurnedAway(Turned::Address, "the address may not connect".into()));
                        }
                    }
                    Forwarded::Broken if trusted => return Err(TurnedAway(Turned::Address, "X-Forwarded-For is no address".into())),
                    _ => {}
                }
                Transport::WebSocket(Box::new(framed))
            }
        };
        Ok(Arrived { transport, peer, sock, certificate })
    }

    /// Lets a client that asks for it authenticate in steps. Its name is the one that it has proven.
    async fn authenticate(&self, transport: &mut Transport, connect: &mut Connect, input: &mut Vec<u8>) -> Result<Option<Proof>, Refusal> {
        let given = connect.properties.binary(PropertyId::AuthenticationData).map(<[u8]>::to_vec);
        let Some(method) = connect.properties.text(PropertyId::AuthenticationMethod) else {
            // Section 3.1.2.11.10: data without a method.
            return if given.is_some() { Err(ReasonCode::ProtocolError.into()) } else { Ok(None) };
        };
        // [MQTT-4.12.0-1]
        let mut exchange = self.shared.methods.begin(method).ok_or(ReasonCode::BadAuthenticationMethod)?;
        let mut data = given.unwrap_or_default();
        for _ in 0..STEPS_MAX {
            match exchange.step(&data) {
                Step::Accept { username, data } => {
                    connect.username = Some(username.clone());
                    return Ok(Some(Proof { username, data }));
                }
                Step::Refuse(reason) => return Err(reason.into()),
                Step::Continue(challenge) => {
                    let mut out = Vec::new();
                    auth(ReasonCode::ContinueAuthentication, exchange.method(), &challenge).encode(&mut out);
                    transport.write_waiting(&out).await.map_err(|_| ReasonCode::UnspecifiedError)?;
                    data = self.next_auth(transport, input, exchange.method()).await?;
                }
            }
        }
        Err(ReasonCode::NotAuthorized.into())
    }

    /// The data of the AUTH that must come next.
    async fn next_auth(&self, transport: &mut Transport, input: &mut Vec<u8>, method: &str) -> Result<Vec<u8>, Refusal> {
        let mut bytes = [0u8; 2048];
        loop {
            match decode(input, Version::V5, self.zone.limits.connect_bytes_max).map_err(|error| error.reason)? {
                Some((Packet::Auth(auth), length)) => {
                    // [MQTT-4.12.0-3] and [MQTT-4.12.0-5]: it goes on, by the same method.
                    let goes_on = auth.reason == ReasonCode::ContinueAuthentication;
                    if !goes_on || auth.properties.text(PropertyId::AuthenticationMethod) != Some(method) {
                        return Err(ReasonCode::ProtocolError.into());
                    }
                    let data = auth.properties.binary(PropertyId::AuthenticationData).unwrap_or_default().to_vec();
                    input.drain(..length);
                    return Ok(data);
                }
                // [MQTT-3.1.2-30] Nothing else may come before the CONNACK.
                Some(_) => return Err(ReasonCode::ProtocolError.into()),
                None => match transport.read_waiting(&mut bytes).await {
                    Ok(0) | Err(_) => return Err(ReasonCode::UnspecifiedError.into()),
                    Ok(count) => input.extend_from_slice(&bytes[..count]),
                },
            }
        }
    }

    /// Reads up to the end of the CONNECT; what came behind it comes with it.
    async fn read_connect(&self, transport: &mut Transport) -> Result<(Connect, Vec<u8>), (DecodeError, Option<Version>)> {
        let mut input = Vec::new();
        let mut bytes = [0u8; 2048];
        loop {
            match transport.read_waiting(&mut bytes).await {
                Ok(0) | Err(_) => return Err((DecodeError::protocol("the peer closed before its CONNECT was whole"), None)),
                Ok(count) => input.extend_from_slice(&bytes[..count]),
            }
            // Anything else on this port, such as HTTP or TLS, is told by its first byte.
            if input.first().is_some_and(|first| *first != 0x10) {
                return Err((DecodeError::protocol("the first packet is no CONNECT"), None));
            }
            match decode(&input, Version::V311, self.zone.limits.connect_bytes_max) {
                Ok(Some((Packet::Connect(connect), length))) => {
                    input.drain(..length);
                    return Ok((*connect, input));
                }
                Ok(Some(_)) => return Err((DecodeError::protocol("the first packet is no CONNECT"), None)),
                Ok(None) => {}
                Err(error) => return Err((error, announced_version(&input))),
            }
        }
    }

    /// Who the client is, and whether its identifier was assigned.
    fn client(&self, connect: &Connect, arrived: &Arrived) -> Result<(Client, bool), Refusal> {
        let limits = &self.zone.limits;
        if !limits.server_reference.is_empty() {
            let mut properties = Properties::default();
            properties.push_text(PropertyId::ServerReference, &limits.server_reference);
            return Err(Refusal { reason: ReasonCode::UseAnotherServer, properties });
        }
        if let Some(will) = &connect.will {
            // [MQTT-3.2.2-12] and [MQTT-3.2.2-13]
            if will.qos as u8 > limits.qos_max {
                return Err(ReasonCode::QoSNotSupported.into());
            }
            if will.retain && !limits.retain_available {
                return Err(ReasonCode::RetainNotSupported.into());
            }
            // Below $SYS only the broker itself speaks.
            if will.topic.starts_with("$SYS/") {
                return Err(ReasonCode::NotAuthorized.into());
            }
            if !hookline_mqtt::topic::name_is_valid(&will.topic, limits.topic_levels_max) {
                return Err(ReasonCode::TopicNameInvalid.into());
            }
        }
        let of_certificate = |what: PeerCert| {
            let certificate = arrived.certificate.as_ref()?;
            match what {
                PeerCert::Disabled => None,
                PeerCert::Cn => certificate.common_name.clone(),
                PeerCert::Dn => Some(certificate.subject.clone()),
                PeerCert::San => certificate.alt_name.clone(),
            }
        };
        let username = of_certificate(limits.peer_cert_as_username).or_else(|| connect.username.clone());
        let wanted = of_certificate(limits.peer_cert_as_client_id)
            .or_else(|| username.clone().filter(|name| limits.username_as_client_id && !name.is_empty()))
            .unwrap_or_else(|| connect.client_id.clone());
        if wanted.len() > limits.client_id_bytes_max || wanted.starts_with(SOURCE_CLIENT) {
            return Err(ReasonCode::ClientIdentifierNotValid.into());
        }
        let assigned = wanted.is_empty();
        // [MQTT-3.1.3-8] Before 5.0 a client without an identifier cannot have a session to come back to; 3.1 demands one.
        if assigned && (connect.version == Version::V31 || (connect.version == Version::V311 && !connect.clean_start)) {
            return Err(ReasonCode::ClientIdentifierNotValid.into());
        }
        let client_id = if assigned { assigned_client_id() } else { wanted };
        let session_expiry_secs = match (connect.version, connect.clean_start) {
            (Version::V5, _) => connect.properties.number(PropertyId::SessionExpiryInterval).unwrap_or(0),
            (_, true) => 0,
            (_, false) => limits.session_expiry_secs,
        };
        let receive_maximum = connect.properties.number(PropertyId::ReceiveMaximum).unwrap_or(u32::from(u16::MAX));
        let keep_alive_secs = match (connect.version, limits.server_keep_alive_secs) {
            (Version::V5, told) if told > 0 => told,
            _ => connect.keep_alive_secs,
        };
        let client = Client {
            client_id: client_id.into(),
            username: username.map(Into::into),
            peer: arrived.peer,
            sock: arrived.sock,
            listener: Arc::clone(&self.name),
            version: connect.version,
            clean_start: connect.clean_start,
            keep_alive_secs,
            session_expiry_secs: session_expiry_secs.min(limits.session_expiry_secs_max),
            receive_maximum: receive_maximum as u16,
            is_bridge: connect.is_bridge,
            zone: Arc::clone(&self.zone.name),
            // It may depend on what the login tells.
            mountpoint: "".into(),
            attributes: BTreeMap::new(),
            certificate: arrived.certificate.clone().map(Box::new),
            properties: connect.properties.clone(),
            connected_at_ms: clock::now_ms(),
        };
        Ok((client, assigned))
    }

    /// Whether the client may come in: bans, then hooks.
    fn log_in(&self, client: &Client, outcome: &mut Outcome) -> Result<(), ReasonCode> {
        let banned = self.shared.bans.has_client(&client.client_id, client.username.as_deref());
        if banned || self.shared.bans.is_flapping(&client.client_id, &self.zone.limits) {
            self.turned(Turned::Banned, client.peer, &client.client_id);
            return Err(ReasonCode::Banned);
        }
        for point in [HookPoint::ClientConnect, HookPoint::ClientAuthenticate] {
            self.shared.hooks.tell(point, client, About::Client, outcome);
            if let Some(reason) = outcome.refused() {
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Answers a CONNECT that is refused, where the version has a word for it.
    async fn answer(&self, transport: &mut Transport, version: Option<Version>, refusal: Refusal) {
        let Some(version) = version else { return };
        self.shared.strangers.count_connack_error(refusal.reason);
        let mut out = Vec::new();
        ConnAck { session_present: false, reason: refusal.reason, properties: refusal.properties }.encode(&mut out, version);
        let answer = async {
            transport.write_waiting(&out).await?;
            if transport.is_gone() {
                return Err(io::ErrorKind::NotConnected.into());
            }
            transport.say_goodbye();
            rustix::net::shutdown(&*transport, rustix::net::Shutdown::Write)?;
            // Closing on bytes that were not read would throw the answer away.
            let mut bytes = [0u8; 1024];
            let mut left = LAST_BYTES_MAX;
            while left > 0 {
                match transport.read_waiting(&mut bytes).await? {
                    0 => break,
                    count => left = left.saturating_sub(count),
                }
            }
            io::Result::Ok(())
        };
        // The peer is a stranger that is being turned away: if it does not take the answer, so be it.
        let _written = timeout(ANSWER_TIMEOUT, answer).await;
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

impl Wire {
    /// Goes on with the TLS handshake.
    fn shake_hands(&mut self) -> io::Result<()> {
        let Wire::Tls(tls) = self else { return Ok(()) };
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(())
    }

    /// The certificate that the client has shown.
    fn peer_certificate(&self) -> Option<&[u8]> {
        let Wire::Tls(tls) = self else { return None };
        tls.conn.peer_certificates()?.first().map(|certificate| &**certificate)
    }
}

/// A step of ours.
pub(crate) fn auth(reason: ReasonCode, method: &str, data: &[u8]) -> Auth {
    let mut properties = Properties::default();
    properties.push_text(PropertyId::AuthenticationMethod, method);
    properties.push_binary(PropertyId::AuthenticationData, data);
    Auth { reason, properties }
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

/// An identifier for a client that has none.
fn assigned_client_id() -> String {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    format!("hookline-{:x}-{:x}-{number:x}", clock::now_ms(), std::process::id())
}
