//! Where clients connect, and by what.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Listeners by transport and name. An event names its listener as `tcp:default`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listeners {
    /// MQTT over TCP; the port is 1883 where `bind` does not say.
    pub tcp: BTreeMap<String, Listener>,
    /// MQTT over TLS; the port is 8883 where `bind` does not say.
    pub tls: BTreeMap<String, Listener>,
    /// MQTT over WebSocket; the port is 8083 where `bind` does not say.
    pub ws: BTreeMap<String, Listener>,
    /// MQTT over secure WebSocket; the port is 8084 where `bind` does not say.
    pub wss: BTreeMap<String, Listener>,
}

impl Default for Listeners {
    fn default() -> Self {
        let tcp = BTreeMap::from([("default".to_owned(), Listener::default())]);
        Self { tcp, tls: BTreeMap::new(), ws: BTreeMap::new(), wss: BTreeMap::new() }
    }
}

/// What carries the bytes of MQTT.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransportKind {
    Tcp,
    Tls,
    Ws,
    Wss,
}

impl TransportKind {
    /// The word in configuration, events and logs.
    pub const fn name(self) -> &'static str {
        match self {
            TransportKind::Tcp => "tcp",
            TransportKind::Tls => "tls",
            TransportKind::Ws => "ws",
            TransportKind::Wss => "wss",
        }
    }

    /// The port that this transport usually has.
    pub const fn port(self) -> u16 {
        match self {
            TransportKind::Tcp => 1883,
            TransportKind::Tls => 8883,
            TransportKind::Ws => 8083,
            TransportKind::Wss => 8084,
        }
    }

    /// Whether TLS is below it.
    pub const fn is_encrypted(self) -> bool {
        matches!(self, TransportKind::Tls | TransportKind::Wss)
    }

    /// Whether MQTT comes in WebSocket frames.
    pub const fn is_websocket(self) -> bool {
        matches!(self, TransportKind::Ws | TransportKind::Wss)
    }
}

impl Listeners {
    /// Every listener that is to be opened, with its transport and name.
    pub fn enabled(&self) -> impl Iterator<Item = (TransportKind, &str, &Listener)> {
        let kinds = [
            (TransportKind::Tcp, &self.tcp),
            (TransportKind::Tls, &self.tls),
            (TransportKind::Ws, &self.ws),
            (TransportKind::Wss, &self.wss),
        ];
        let all =
            kinds.into_iter().flat_map(|(kind, listeners)| listeners.iter().map(move |(name, listener)| (kind, name.as_str(), listener)));
        all.filter(|(.., listener)| listener.enable)
    }
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Whether it is opened.
    pub enable: bool,
    /// Address and port, IPv4 or IPv6 (`[::]:1883`). Port 0 takes a free one, which the log names. Where it is not set: all IPv4
    /// addresses, and the usual port of the transport.
    #[schemars(with = "Option<String>")]
    pub bind: Option<SocketAddr>,
    /// The zone of its clients: a name in `[zones]`. What the zone does not set is as in `[mqtt]`.
    pub zone: Option<String>,
    /// Connections at a time; more are closed on arrival, and counted.
    pub connections_max: usize,
    /// Connections at a time that have not sent their CONNECT yet; more are closed on arrival, and counted.
    pub half_open_max: usize,
    /// Of those, from one address; not with the PROXY protocol, where all come from the proxy.
    pub half_open_per_address_max: usize,
    /// Connections accepted in a second; further ones wait in the system's backlog. 0 is no limit.
    pub connects_per_sec: u32,
    /// Messages that all clients of the listener together may publish in a second; beyond it their connections are read more
    /// slowly. 0 is no limit.
    pub messages_per_sec: u32,
    /// Bytes that all clients of the listener together may send in a second, in the same way. 0 is no limit.
    pub bytes_per_sec: u64,
    /// The names of the authenticators that its clients are asked by, in this order; without it, all of `[[authentication]]`.
    pub authentication: Option<Vec<String>>,
    /// Stands before every topic that a client of this listener publishes or subscribes to, and is cut off what it is sent.
    /// `${clientid}`, `${username}` and `${client_attrs.NAME}` are filled in; a client whose name is empty or has a wildcard or slash is refused then.
    pub mountpoint: String,
    /// Who may connect, by address: rules such as `allow 10.0.0.0/8`, `deny 192.168.7.1` and `deny all`; the first that matches
    /// counts, and where none does, the client may.
    pub access: Vec<String>,
    /// The PROXY protocol, version 1 or 2, comes first on every connection: what a load balancer says about its client.
    pub proxy_protocol: bool,
    /// The proxies, by address or network. Others are closed; empty means that every peer is trusted.
    pub proxy_protocol_from: Vec<String>,
    /// TLS; of `tls` and `wss` listeners.
    pub tls: Tls,
    /// WebSocket; of `ws` and `wss` listeners.
    pub websocket: WebSocket,
}

impl Default for Listener {
    fn default() -> Self {
        Self {
            enable: true,
            bind: None,
            zone: None,
            connections_max: 1_000_000,
            half_open_max: 10_000,
            half_open_per_address_max: 2_000,
            connects_per_sec: 0,
            messages_per_sec: 0,
            bytes_per_sec: 0,
            authentication: None,
            mountpoint: String::new(),
            access: Vec::new(),
            proxy_protocol: false,
            proxy_protocol_from: Vec::new(),
            tls: Tls::default(),
            websocket: WebSocket::default(),
        }
    }
}

impl Listener {
    /// Where it listens.
    pub fn address(&self, kind: TransportKind) -> SocketAddr {
        self.bind.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], kind.port())))
    }
}

/// TLS of a listener. Files are looked at again every ten seconds: new certificates are used without a restart, and where they
/// are broken or expired, the ones before stay in use.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Tls {
    /// The server's certificate and those between it and the root, PEM.
    pub cert: PathBuf,
    /// The private key of the certificate, PEM.
    pub key: PathBuf,
    /// Further certificates: the one whose names fit what the client asks for (SNI) is used, else the first.
    pub more: Vec<CertificateFiles>,
    /// Certificates of the authorities that client certificates must come from, PEM.
    pub client_ca: Option<PathBuf>,
    /// Whether clients must show a certificate.
    pub client_auth: ClientAuth,
    /// The lowest version that is spoken.
    pub version_min: TlsVersion,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFiles {
    /// The certificate and those between it and the root, PEM.
    pub cert: PathBuf,
    /// Its private key, PEM.
    pub key: PathBuf,
}

/// Whether clients must show a certificate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ClientAuth {
    /// They are not asked.
    #[default]
    None,
    /// They are asked; one that is shown must be valid.
    Optional,
    /// They must show a valid one.
    Required,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
pub enum TlsVersion {
    /// TLS 1.2.
    #[default]
    #[serde(rename = "1.2")]
    V12,
    /// TLS 1.3.
    #[serde(rename = "1.3")]
    V13,
}

/// WebSocket of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct WebSocket {
    /// The path of the upgrade request.
    pub path: String,
    /// Whether a client must offer one of the subprotocols `mqtt`, `mqttv3.1`, `mqttv3.1.1` or `mqttv5`.
    pub require_subprotocol: bool,
    /// Origins that pages may come from, such as `https://shop.example.com`; empty allows all. Clients that are no browsers send
    /// none, and may come in.
    pub origins: Vec<String>,
    /// The largest WebSocket message, bytes.
    pub message_bytes_max: usize,
    /// Take the client's address from the header `X-Forwarded-For`, where the peer is one of these addresses or networks.
    pub forwarded_from: Vec<String>,
}

impl Default for WebSocket {
    fn default() -> Self {
        Self {
            path: "/mqtt".into(),
            require_subprotocol: true,
            origins: Vec::new(),
            message_bytes_max: 2 << 20,
            forwarded_from: Vec::new(),
        }
    }
}
