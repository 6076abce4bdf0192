//! The way in for parts of the broker's own process: a session of MQTT 5 without a network, a login or a CONNECT to read.

use std::io;
use std::os::unix::net::UnixStream;
use std::sync::Arc;

use hookline_mqtt::Version;
use hookline_mqtt::packet::Connect;
use hookline_schemas::Client;
use hookline_schemas::ports::{Door as Port, SOURCE_CLIENT};

use crate::clock;
use crate::listener::worker_of;
use crate::mailbox::{Mail, NewConnection};
use crate::worker::Shared;

/// Lets parts of the process in.
#[derive(Clone)]
pub(crate) struct Door(pub(crate) Arc<Shared>);

impl Port for Door {
    fn open(&self, source: &str) -> io::Result<UnixStream> {
        let client_id = &*format!("{SOURCE_CLIENT}{source}");
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
        let new = NewConnection::within(theirs.into(), connect, client, &self.0.zones.default);
        self.0.mailboxes[worker_of(client_id, self.0.mailboxes.len())].post(Mail::Connection(Box::new(new)));
        Ok(ours)
    }

    fn topic_levels_max(&self) -> usize {
        self.0.zones.default.limits.topic_levels_max
    }
}
