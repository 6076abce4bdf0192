//! What the broker does with topics and clients by itself: rewrite, subscribe, ban, tell about itself.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A rule that changes topics. The first whose filter matches decides; where its expression does not match, nothing changes.
/// Permissions are asked for the topic as the client has it.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rewrite {
    /// What it applies to.
    #[serde(default)]
    pub action: RewriteAction,
    /// The topics that it looks at: a filter.
    pub source_topic: String,
    /// A regular expression over the topic (the syntax of the Rust crate `regex`; linear time, no look-around).
    pub re: String,
    /// The new topic: `$1` to `$9` are groups of the expression, `${clientid}` and `${username}` the client's.
    pub dest_topic: String,
}

/// What a rewrite applies to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RewriteAction {
    /// Both.
    #[default]
    All,
    /// Topics that are published to.
    Publish,
    /// Filters that are subscribed to, and unsubscribed from.
    Subscribe,
}

/// A subscription that the broker makes for every client that connects.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AutoSubscribe {
    /// The filter; `${clientid}`, `${username}`, `${host}` and `${port}` are filled in. One without the value it asks for is left out.
    pub topic: String,
    /// 0, 1 or 2.
    #[serde(default)]
    pub qos: u8,
    /// Do not send what the client published itself.
    #[serde(default)]
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published.
    #[serde(default)]
    pub retain_as_published: bool,
    /// 0: send retained messages; 1: only for a new subscription; 2: do not.
    #[serde(default)]
    pub retain_handling: u8,
}

/// Somebody who may not connect. One of the three names them.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Ban {
    /// A client identifier.
    pub clientid: Option<String>,
    /// A user name.
    pub username: Option<String>,
    /// An address or a network, such as `10.1.2.3` or `2001:db8::/32`.
    pub address: Option<String>,
    /// Until when, as in `2026-12-31T00:00:00Z`; for ever where it is not set.
    pub until: Option<String>,
    /// For people and for the log.
    pub reason: String,
}

/// Enhanced authentication by SCRAM (MQTT 5, methods `SCRAM-SHA-256` and `SCRAM-SHA-512`). A client that asks for it must prove its
/// password; who does not ask is not affected.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Scram {
    /// Users, each with what `hookline scram` makes of the password: `SCRAM-SHA-256$4096:salt$stored:server`, as PostgreSQL keeps it.
    pub users: std::collections::BTreeMap<String, String>,
}

/// Messages to a topic `$delayed/SECONDS/TOPIC`, which are published to TOPIC later. They are kept in the store.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delayed {
    /// Whether there are any.
    pub enable: bool,
    /// Messages that wait; further ones are refused.
    pub messages_max: usize,
}

impl Default for Delayed {
    fn default() -> Self {
        Self { enable: true, messages_max: 1_000_000 }
    }
}

/// What the broker publishes about itself, below `$SYS/brokers/NODE/`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Sys {
    /// Seconds between two publications of `version`, `stats/…` and `metrics/…`; 0 switches them off.
    pub interval_secs: u32,
    /// Seconds between two publications of `uptime` and `datetime`; 0 switches them off.
    pub heartbeat_secs: u32,
    /// Publish `clients/ID/connected` and `clients/ID/disconnected`.
    pub connect_events: bool,
    /// Publish `clients/ID/subscribed` and `clients/ID/unsubscribed`.
    pub subscribe_events: bool,
}

impl Default for Sys {
    fn default() -> Self {
        Self { interval_secs: 60, heartbeat_secs: 30, connect_events: true, subscribe_events: false }
    }
}

/// Subscribers that are slow: by the time from a message's arrival to its acknowledgement by the subscriber, without that in which
/// the subscriber was away. The list is published to `$SYS/brokers/NODE/slow_subscriptions`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SlowSubscribers {
    /// Whether they are looked for.
    pub enable: bool,
    /// Milliseconds from which on a delivery is slow.
    pub threshold_ms: u64,
    /// How many are kept: the slowest.
    pub count_max: usize,
    /// Seconds after which an entry is forgotten.
    pub expire_secs: u64,
}

impl Default for SlowSubscribers {
    fn default() -> Self {
        Self { enable: true, threshold_ms: 500, count_max: 10, expire_secs: 300 }
    }
}
