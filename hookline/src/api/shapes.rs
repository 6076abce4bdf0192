//! What answers look like that the core makes as JSON: for the document of the API only. Nothing is ever made of these types; the integration test
//! `openapi` sees to it that they are right.
#![expect(dead_code, reason = "only their schemas are used")]

use std::collections::BTreeMap;

use hookline_core::BanOrigin;
use schemars::JsonSchema;
use serde_json::Value;

/// A node.
#[derive(JsonSchema)]
pub(super) struct Node {
    node: String,
    node_status: String,
    version: String,
    /// Milliseconds.
    uptime: u64,
    connections: u64,
    live_connections: u64,
    sessions: u64,
}

/// Numbers by their names.
#[derive(JsonSchema)]
pub(super) struct Counts {
    node: String,
    #[serde(flatten)]
    counts: BTreeMap<String, u64>,
}

/// A client with a session. Of one that is away, and of which only the store knows, some things are not told.
#[derive(JsonSchema)]
pub(super) struct Client {
    clientid: String,
    node: String,
    connected: bool,
    is_persistent: bool,
    /// Whether its messages are on the disk.
    durable: bool,
    mqueue_len: u64,
    username: Option<String>,
    ip_address: Option<String>,
    port: Option<u16>,
    listener: Option<String>,
    zone: Option<String>,
    mountpoint: Option<String>,
    proto_name: Option<String>,
    proto_ver: Option<u8>,
    /// Seconds.
    keepalive: Option<u16>,
    clean_start: Option<bool>,
    /// Seconds.
    expiry_interval: Option<u32>,
    is_bridge: Option<bool>,
    created_at: Option<String>,
    connected_at: Option<String>,
    disconnected_at: Option<String>,
    subscriptions_cnt: Option<u64>,
    subscriptions_max: Option<u64>,
    mqueue_max: Option<u64>,
    inflight_cnt: Option<u64>,
    inflight_max: Option<u64>,
    awaiting_rel_cnt: Option<u64>,
    client_attrs: Option<BTreeMap<String, Value>>,
}

/// A subscription, with the options of MQTT 5 as numbers.
#[derive(JsonSchema)]
pub(super) struct Subscription {
    clientid: String,
    node: String,
    topic: String,
    qos: u8,
    nl: u8,
    rap: u8,
    rh: u8,
    shared: bool,
}

/// A filter that somebody subscribes to.
#[derive(JsonSchema)]
pub(super) struct Topic {
    topic: String,
    node: String,
}

/// A message.
#[derive(JsonSchema)]
pub(super) struct Message {
    msgid: String,
    topic: String,
    qos: u8,
    publish_at: String,
    from_clientid: String,
    from_username: Option<String>,
    /// In base64.
    payload: Option<String>,
    /// When it was sent to the client.
    inflight_insert_at: Option<String>,
}

/// A message that waits for its time.
#[derive(JsonSchema)]
pub(super) struct DelayedMessage {
    node: String,
    /// Seconds.
    delayed_interval: u64,
    /// Seconds.
    delayed_remaining: u64,
    expected_at: String,
    #[serde(flatten)]
    message: Message,
}

/// A listener.
#[derive(JsonSchema)]
pub(super) struct Listener {
    id: String,
    r#type: String,
    name: Option<String>,
    bind: String,
    running: bool,
    current_connections: u64,
    max_connections: u64,
    zone: String,
}

/// A slow delivery.
#[derive(JsonSchema)]
pub(super) struct Slow {
    clientid: String,
    node: String,
    topic: String,
    /// Milliseconds.
    timespan: u64,
    last_update_time: String,
}

/// An alarm.
#[derive(JsonSchema)]
pub(super) struct Alarm {
    name: String,
    message: String,
    details: Value,
    /// Microseconds since the Unix epoch.
    activate_at: u64,
    /// The same, or `infinity`.
    deactivate_at: Value,
    activated: bool,
}

/// A ban.
#[derive(JsonSchema)]
pub(super) struct Ban {
    r#as: String,
    who: String,
    by: String,
    reason: String,
    at: Option<String>,
    /// A time, or `infinity`.
    until: String,
    origin: BanOrigin,
}

/// What there was at a moment, and messages a second up to it.
#[derive(JsonSchema)]
pub(super) struct MonitorPoint {
    /// Milliseconds since the Unix epoch.
    time_stamp: u64,
    #[serde(flatten)]
    levels: Levels,
}

/// What there is, and what was counted since the start.
#[derive(JsonSchema)]
pub(super) struct MonitorNow {
    node: String,
    received: u64,
    sent: u64,
    dropped: u64,
    memory_bytes: Option<u64>,
    cpu_seconds: Option<f64>,
    #[serde(flatten)]
    levels: Levels,
}

#[derive(JsonSchema)]
struct Levels {
    connections: u64,
    live_connections: u64,
    subscriptions: u64,
    topics: u64,
    retained_msg_count: u64,
    received_msg_rate: f64,
    sent_msg_rate: f64,
    dropped_msg_rate: f64,
    /// How long a commit took to reach the disk, on average.
    commit_latency_us: Option<f64>,
}
