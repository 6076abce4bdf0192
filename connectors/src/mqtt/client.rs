//! Connections to another server.

use std::time::Duration;

use hookline_mqtt::packet::Connect;
use hookline_mqtt::{Properties, PropertyId, Version};
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::config::Connector;
use super::session::{Session, Stream};
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};

/// How long a connection may take, from the look at its name to the other's CONNACK.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// What a message carries that has come from this node: where it would come in again, it is left out.
pub(super) const FROM: &str = "hookline-from";

/// How another server is reached.
pub(super) struct Server {
    connector: Connector,
    tls: Option<(TlsConnector, ServerName<'static>)>,
}

impl Server {
    /// Reads the settings; nothing is connected yet.
    pub(super) fn new(connector: Connector) -> Result<Server, Vec<SettingsError>> {
        let wrong = |problem: &str| vec![SettingsError { path: format!("{CONNECTOR}.server"), problem: problem.to_owned() }];
        let (host, port) = connector.server.rsplit_once(':').ok_or_else(|| wrong("must be host:port"))?;
        if port.parse::<u16>().is_err() {
            return Err(wrong("must be host:port"));
        }
        let tls = match &connector.tls {
            None => None,
            Some(tls) => {
                let name = ServerName::try_from(host.trim_matches(['[', ']']).to_owned())
                    .map_err(|_| wrong("is no name that a certificate can have"))?;
                Some((TlsConnector::from(std::sync::Arc::new(tls.client()?)), name))
            }
        };
        Ok(Server { connector, tls })
    }

    pub(super) fn version(&self) -> Version {
        self.connector.proto_ver.version()
    }

    /// The beginning of client identifiers.
    pub(super) fn prefix(&self) -> &str {
        &self.connector.client_id_prefix
    }

    /// Connects. With `expiry_secs` the server keeps the session after the connection.
    pub(super) async fn connect(&self, client_id: &str, expiry_secs: Option<u32>) -> Result<Session, Failure> {
        let connected = timeout(CONNECT_TIMEOUT, self.connect_unbounded(client_id, expiry_secs)).await;
        connected.unwrap_or_else(|_| {
            Err(Failure::Reconnect(format!("mqtt: {}: no answer within {} s", self.connector.server, CONNECT_TIMEOUT.as_secs())))
        })
    }

    async fn connect_unbounded(&self, client_id: &str, expiry_secs: Option<u32>) -> Result<Session, Failure> {
        let failed = |error: std::io::Error| Failure::Reconnect(format!("mqtt: {}: {error}", self.connector.server));
        let stream = TcpStream::connect(&self.connector.server).await.map_err(failed)?;
        stream.set_nodelay(true).map_err(failed)?;
        let stream: Box<dyn Stream> = match &self.tls {
            None => Box::new(stream),
            Some((connector, name)) => Box::new(connector.connect(name.clone(), stream).await.map_err(failed)?),
        };
        let mut properties = Properties::default();
        if let (Version::V5, Some(secs)) = (self.version(), expiry_secs) {
            properties.push_number(PropertyId::SessionExpiryInterval, secs);
        }
        let connect = Connect {
            version: self.version(),
            clean_start: expiry_secs.is_none(),
            keep_alive_secs: self.connector.keep_alive_secs,
            client_id: client_id.to_owned(),
            username: self.connector.username.clone(),
            password: self.connector.password.clone().map(String::into_bytes),
            will: None,
            properties,
            is_bridge: false,
        };
        Session::connect(stream, &connect).await
    }
}
