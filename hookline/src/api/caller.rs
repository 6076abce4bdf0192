//! Who has sent a request, and from where.

use std::net::{IpAddr, SocketAddr};

use axum::extract::connect_info::Connected;
use axum::serve::IncomingStream;
use hookline_schemas::config::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::login::Person;
use super::network::Bounded;

/// By which way a request has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Way {
    /// Over the network.
    Api,
    /// By the socket in the data folder.
    Socket,
}

/// Somebody who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    pub(super) name: String,
    pub(super) role: Role,
    pub(super) way: Way,
    pub(super) address: Option<IpAddr>,
}

/// Where a connection comes from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Peer(pub(super) SocketAddr);

impl Connected<IncomingStream<'_, Bounded>> for Peer {
    fn connect_info(stream: IncomingStream<'_, Bounded>) -> Peer {
        Peer(*stream.remote_addr())
    }
}

impl Caller {
    /// Who has access to the socket has it to everything.
    pub(super) fn by_socket() -> Caller {
        Caller { name: "socket".into(), role: Role::Administrator, way: Way::Socket, address: None }
    }

    pub(super) fn by_network(person: Person, peer: Option<Peer>) -> Caller {
        let address = peer.map(|Peer(address)| address.ip().to_canonical());
        Caller { name: person.name, role: person.role, way: Way::Api, address }
    }
}
