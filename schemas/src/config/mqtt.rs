//! Limits and session behaviour.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Limits and session behaviour.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Mqtt {
    /// Seconds from the TCP connection to a whole CONNECT; then it is closed.
    pub idle_timeout_secs: u64,
    /// The largest packet that a client may send, bytes; at most 268435455.
    pub packet_bytes_max: usize,
    /// The largest CONNECT, bytes: what a stranger can make the broker keep.
    pub connect_bytes_max: usize,
    /// The longest client identifier, bytes.
    pub client_id_bytes_max: usize,
    /// Levels of a topic name or filter.
    pub topic_levels_max: usize,
    /// Messages of QoS 1 and 2 on their way to one client at a time; the client's receive maximum may lower it.
    pub inflight_max: u16,
    /// Messages of QoS 2 of one client that wait for their PUBREL: the receive maximum that it is told.
    pub awaiting_rel_max: u16,
    /// Messages that wait for a session kept in memory only, beside those in flight. At the bound the oldest is dropped.
    pub mqueue_max: usize,
    /// Messages that wait for a durable session. At the bound the publisher is refused.
    pub durable_queue_max: u64,
    /// Bytes that wait for a client whose connection does not take them; beyond it QoS 0 messages are dropped.
    pub output_bytes_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// Topic aliases that a client may set for what it publishes.
    pub topic_alias_max: u16,
    /// Seconds that a session of MQTT 3.1.1 with clean session 0 outlives its connection.
    pub session_expiry_secs: u32,
    /// The longest session expiry that a client of MQTT 5 gets, seconds; 4294967295 is for ever.
    pub session_expiry_secs_max: u32,
    /// A client is gone when nothing was heard from it for this many times its keep-alive.
    pub keep_alive_multiplier: f64,
    /// How many rules may republish a message in a row; then it is dropped, so that loops end.
    pub republish_hops_max: u8,
    /// Retained messages; a further topic's is not kept.
    pub retained_max: usize,
    /// Retained messages that one SUBSCRIBE is sent; further ones are dropped, and counted.
    pub retained_per_subscribe_max: usize,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            idle_timeout_secs: 15,
            packet_bytes_max: 1 << 20,
            connect_bytes_max: 64 << 10,
            client_id_bytes_max: 65_535,
            topic_levels_max: 128,
            inflight_max: 32,
            awaiting_rel_max: 100,
            mqueue_max: 1000,
            durable_queue_max: 1_000_000,
            output_bytes_max: 1 << 20,
            subscriptions_max: 10_000,
            topic_alias_max: 64,
            session_expiry_secs: 7200,
            session_expiry_secs_max: u32::MAX,
            keep_alive_multiplier: 1.5,
            republish_hops_max: 8,
            retained_max: 1_000_000,
            retained_per_subscribe_max: 100_000,
        }
    }
}
