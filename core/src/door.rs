//! The way in for parts of the broker's own process: a session of MQTT 5 without a network, a login or a CONNECT to read.

use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

use hookline_mqtt::Version;
use hookline_mqtt::packet::Connect;
use hookline_schemas::Client;
use hookline_schemas::ports::{Door as Port, Outcome};

use crate::clock;
use crate::listener::worker_of;
use crate::mailbox::{ConnectionPermit, Mail, NewConnection};
use crate::transport::{Socket, Transport, Wire};
use crate::worker::Shared;

/// Lets parts of the process in.
#[derive(Clone)]
pub(crate) struct Door(pub(crate) Arc<Shared>);

impl Port for Door {
    fn open(&self, client_id: &str) -> io::Result<UnixStream> {
        let (ours, theirs) = UnixStream::pair()?;
        ours.set_nonblocking(true)?;
        theirs.set_nonblocking(true)?;
        let connect = Connect {
            version: Version::V5,
            clean_start: true,
            keep_alive_secs: 0,
            client_id: client_id.to_owned(),
            username: None,
            password: None,
            will: None,
            properties: hookline_mqtt::Properties::default(),
            is_bridge: false,
        };
        let client = Client { connected_at_ms: clock::now_ms(), ..Client::internal(client_id) };
        let places = Arc::new(AtomicUsize::new(0));
        let permit = ConnectionPermit::take(&places, usize::MAX).ok_or(io::ErrorKind::QuotaExceeded)?;
        let new = NewConnection {
            // The worker only reads, writes and waits: any socket will do.
            transport: Transport::Plain(Wire::Tcp(Socket::Bare(std::net::TcpStream::from(OwnedFd::from(theirs))))),
            connect,
            client: Arc::new(client),
            zone: Arc::clone(&self.0.zones.default),
            throttle: None,
            assigned: false,
            rights: None,
            expires_at_ms: None,
            proof: None,
            input: Vec::new(),
            outcome: Outcome::default(),
            permit,
        };
        self.0.mailboxes[worker_of(client_id, self.0.mailboxes.len())].post(Mail::Connection(Box::new(new)));
        Ok(ours)
    }

    fn topic_levels_max(&self) -> usize {
        self.0.zones.default.limits.topic_levels_max
    }
}
