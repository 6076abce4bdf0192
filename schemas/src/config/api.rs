//! The API over the network.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Tls;

/// The API over the network: for monitoring, tools and people. Commands on the same machine reach the broker by the socket in its data folder, with or
/// without this.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Api {
    /// Where it listens, such as `127.0.0.1:18083`; without it, nowhere. Without `tls` it speaks plain HTTP, which is for this
    /// machine only.
    pub bind: Option<SocketAddr>,
    /// HTTPS at the same address, for the API and the dashboard. Clients that must show a certificate log in all the same.
    pub tls: Option<Tls>,
    /// A directory whose people may come in, beside those in the store.
    pub ldap: Option<ApiLdap>,
    /// Whether `/metrics` and `/api/v5/prometheus/stats` are answered without a login.
    pub metrics_open: bool,
    /// Keys of programs, which come with HTTP basic authentication.
    pub keys: Vec<ApiKey>,
}

impl Default for Api {
    fn default() -> Self {
        Self { bind: None, tls: None, ldap: None, metrics_open: true, keys: Vec::new() }
    }
}

/// People whom a directory knows. Who is in the store is not asked for there.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiLdap {
    /// A connector of type `ldap`.
    pub connector: String,
    /// How somebody's entry is found, as for logins of clients: `base_dn`, `filter` with `${username}`, `scope`. The password is checked by a bind.
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// What the members of groups may, by the names (DN) of the groups. Who is in several may what the strongest may; who is in none does not come in.
    pub roles: BTreeMap<String, Role>,
    /// Milliseconds for the answers about one login.
    #[serde(default = "ldap_timeout")]
    pub timeout_ms: u64,
}

fn ldap_timeout() -> u64 {
    5000
}

/// A key of a program.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ApiKey {
    /// The key, which stands for the user name.
    pub key: String,
    /// What proves it; `file:///path` reads it from a file.
    pub secret: String,
    /// What it may do.
    #[serde(default)]
    pub role: Role,
}

/// What somebody may do by the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Everything.
    Administrator,
    /// Look at everything; run what is there: pause actions, replay dead letters, end connections. Not users, permissions or the configuration.
    Operator,
    /// Look.
    #[default]
    Viewer,
}
