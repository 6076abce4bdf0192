//! Where clients connect.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Listeners by transport and name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listeners {
    /// MQTT over TCP.
    pub tcp: BTreeMap<String, Listener>,
}

impl Default for Listeners {
    fn default() -> Self {
        Self { tcp: BTreeMap::from([("default".to_owned(), Listener::default())]) }
    }
}

/// One listener.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Listener {
    /// Whether it is opened.
    pub enable: bool,
    /// Address and port. Port 0 takes a free one, which the log names.
    #[schemars(with = "String")]
    pub bind: SocketAddr,
    /// Connections at a time; more are closed on arrival, and counted.
    pub connections_max: usize,
    /// Connections at a time that have not sent their CONNECT yet; more are closed on arrival, and counted.
    pub half_open_max: usize,
}

impl Default for Listener {
    fn default() -> Self {
        Self { enable: true, bind: SocketAddr::from(([0, 0, 0, 0], 1883)), connections_max: 1_000_000, half_open_max: 10_000 }
    }
}
