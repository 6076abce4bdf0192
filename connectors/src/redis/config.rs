//! Settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::Tls;

/// A Redis server, or several. Its user needs MULTI, EXEC and PING beside the commands of the actions.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// As `host:port,host:port`: the server; some nodes of the cluster; or the sentinels. Without a port it is 6379, for sentinels
    /// 26379.
    pub(crate) servers: String,
    /// What the servers are.
    #[serde(default)]
    pub(crate) mode: Mode,
    /// With sentinels: the name of the master that they watch.
    pub(crate) master: Option<String>,
    /// The user; without it the one that Redis calls `default`.
    pub(crate) username: Option<String>,
    /// The password.
    pub(crate) password: Option<String>,
    /// The user for the sentinels.
    pub(crate) sentinel_username: Option<String>,
    /// The password for the sentinels.
    pub(crate) sentinel_password: Option<String>,
    /// The number of the database. A cluster of Redis has 0 only.
    #[serde(default)]
    pub(crate) database: u16,
    /// TLS, to all of the servers.
    pub(crate) tls: Option<Tls>,
}

/// What the servers are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// One server.
    #[default]
    Single,
    /// Nodes of a cluster; the others are found through them.
    Cluster,
    /// Sentinels, which are asked for the master.
    Sentinel,
}

/// What is written: either a command or an entry of a stream.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// A command, argument by argument, such as `["HSET", "device:${clientid}", "celsius", "${celsius}"]`. Behind the name each is
    /// a template; bytes go in as they are, and a missing value is the empty text. `${hookline_id}` identifies the record.
    pub(crate) command: Option<Vec<String>>,
    /// An entry of a stream.
    pub(crate) stream: Option<Stream>,
}

/// An entry of a stream (XADD). Its first field is `hookline_id`: a reader that drops what it has seen gets every record once.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Stream {
    /// Template of the key.
    pub(crate) key: String,
    /// About how many entries the stream keeps; older ones are dropped. Without it all are kept.
    pub(crate) maxlen: Option<u64>,
    /// Templates of the fields, by name. Without them there is one, `value`, the row as JSON.
    #[serde(default = "whole_row")]
    pub(crate) fields: BTreeMap<String, String>,
}

fn whole_row() -> BTreeMap<String, String> {
    BTreeMap::from([("value".to_owned(), "${.}".to_owned())])
}
