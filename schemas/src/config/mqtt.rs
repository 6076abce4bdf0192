//! Limits and session behaviour: of the broker, and overridden by zones.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DurabilityLevel;

/// Limits and session behaviour. A zone may override each key: see `[zones]`.
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
    /// Whether clients may come in that have proven nothing. Where there are authenticators (`[[authentication]]`), that are clients which
    /// say no user name. Where not, clients must prove who they are: by an authenticator, by SCRAM, or by a certificate where there are no
    /// authenticators; others are refused (0x87).
    pub allow_anonymous: bool,
    /// Take the user name, where there is one, as the client identifier.
    pub username_as_client_id: bool,
    /// Take the user name from the client's certificate.
    pub peer_cert_as_username: PeerCert,
    /// Take the client identifier from the client's certificate.
    pub peer_cert_as_client_id: PeerCert,
    /// Levels of a topic name or filter.
    pub topic_levels_max: usize,
    /// The highest QoS: 0, 1 or 2. Clients before MQTT 5 that publish at a higher one are closed.
    pub qos_max: u8,
    /// Whether messages may be retained.
    pub retain_available: bool,
    /// Whether filters may have wildcards.
    pub wildcard_subscriptions: bool,
    /// Whether `$share/group/filter` and `$queue/filter` may be subscribed to.
    pub shared_subscriptions: bool,
    /// Which member of a shared subscription gets a message.
    pub shared_strategy: SharedStrategy,
    /// Whether `$exclusive/filter` may be subscribed to: by one client at a time.
    pub exclusive_subscriptions: bool,
    /// Messages of QoS 1 and 2 on their way to one client at a time; the client's receive maximum may lower it.
    pub inflight_max: u16,
    /// Seconds after which an unacknowledged message is sent again on the same connection, to clients before MQTT 5 (which
    /// forbids it); 0 is never. It is always sent again after a reconnect.
    pub retry_interval_secs: u32,
    /// Messages of QoS 2 of one client that wait for their PUBREL: the receive maximum that it is told.
    pub awaiting_rel_max: u16,
    /// Seconds after which a message of QoS 2 no longer waits for its PUBREL; 0 is never.
    pub await_rel_timeout_secs: u32,
    /// Messages that wait for a session kept in memory only, for each priority, beside those in flight. At the bound the oldest
    /// is dropped.
    pub mqueue_max: usize,
    /// Bytes of payload and topic that wait for such a session. At the bound the oldest is dropped.
    pub mqueue_bytes_max: usize,
    /// Priorities of topics, 1 to 255, higher first, among the messages that wait for a session. Where they change, what waits for
    /// a durable session leaves first, by those that it came with.
    pub mqueue_priorities: BTreeMap<String, u8>,
    /// Where topics without a priority stand.
    pub mqueue_default_priority: DefaultPriority,
    /// Whether messages of QoS 0 are kept for a durable session that is away.
    pub mqueue_store_qos0: bool,
    /// Messages that wait for a durable session. At the bound the publisher is refused.
    pub durable_queue_max: u64,
    /// Bytes that wait for a durable session. At the bound the publisher is refused.
    pub durable_queue_bytes_max: u64,
    /// What an acknowledgement to a client waits for; where it is not set, as `store.level` says.
    pub durability: Option<DurabilityLevel>,
    /// Bytes that wait for a client whose connection does not take them; beyond it QoS 0 messages are dropped.
    pub output_bytes_max: usize,
    /// Subscriptions of one session.
    pub subscriptions_max: usize,
    /// Topic filters of one SUBSCRIBE; the ones beyond are refused.
    pub filters_per_subscribe_max: usize,
    /// Topic aliases that a client may set for what it publishes.
    pub topic_alias_max: u16,
    /// Topic aliases that the broker sets for what it sends, where the client allows it.
    pub topic_alias_out_max: u16,
    /// Sessions of all clients, with and without a connection; a further client is refused (0x97).
    pub sessions_max: usize,
    /// Seconds that a session of MQTT 3.1.1 with clean session 0 outlives its connection.
    pub session_expiry_secs: u32,
    /// The longest session expiry that a client of MQTT 5 gets, seconds; 4294967295 is for ever.
    pub session_expiry_secs_max: u32,
    /// The longest time that a message waits for a subscriber, seconds; 4294967295 is for ever.
    pub message_expiry_secs_max: u32,
    /// The keep-alive that clients are told to use, seconds; 0 leaves it to them.
    pub server_keep_alive_secs: u16,
    /// A client is gone when nothing was heard from it for this many times its keep-alive.
    pub keep_alive_multiplier: f64,
    /// Send at the higher of both QoS, the subscription's and the message's, instead of the lower. Not as the specification has it.
    pub upgrade_qos: bool,
    /// Do not send clients before MQTT 5 what they published themselves.
    pub ignore_loop_deliver: bool,
    /// Refuse payloads that say to be UTF-8 text and are not (MQTT 5, payload format indicator).
    pub check_payload_format: bool,
    /// Told to clients that ask for response information: usually the beginning of topics for responses.
    pub response_information: String,
    /// Where it is not empty: clients of MQTT 5 that connect are told to use this other server (0x9C), others are refused as
    /// unavailable. For moving clients away.
    pub server_reference: String,
    /// Messages that one client may publish in a second; beyond it its connection is read more slowly. 0 is no limit.
    pub messages_per_sec: u32,
    /// Bytes that one client may send in a second, in the same way. 0 is no limit.
    pub bytes_per_sec: u64,
    /// Topic filters that one client may subscribe to in a second; further ones are refused (0x97). 0 is no limit.
    pub subscribes_per_sec: u32,
    /// Connections that all listeners of the zone together accept in a second; further ones wait. 0 is no limit.
    pub zone_connects_per_sec: u32,
    /// Messages that all clients of the zone together may publish in a second. 0 is no limit.
    pub zone_messages_per_sec: u32,
    /// Bytes that all clients of the zone together may send in a second. 0 is no limit.
    pub zone_bytes_per_sec: u64,
    /// A client that connects more often than this in `flapping_window_secs` is banned; 0 switches it off.
    pub flapping_max: u32,
    /// Seconds.
    pub flapping_window_secs: u32,
    /// Seconds that it is banned.
    pub flapping_ban_secs: u32,
    /// Takeovers of one session in a second; further ones are refused. 0 is no limit.
    pub takeovers_per_sec: u32,
    /// How many rules may republish a message in a row; then it is dropped, so that loops end.
    pub republish_hops_max: u8,
    /// Retained messages; a further topic's is refused.
    pub retained_max: usize,
    /// Bytes of all retained messages; what does not fit is refused.
    pub retained_bytes_max: usize,
    /// The largest payload that is retained, bytes; a larger one is refused.
    pub retained_payload_bytes_max: usize,
    /// Seconds that a message without an expiry of its own is retained; 0 is for ever.
    pub retained_expiry_secs: u32,
}

impl Default for Mqtt {
    fn default() -> Self {
        Self {
            idle_timeout_secs: 15,
            packet_bytes_max: 1 << 20,
            connect_bytes_max: 64 << 10,
            client_id_bytes_max: 65_535,
            allow_anonymous: true,
            username_as_client_id: false,
            peer_cert_as_username: PeerCert::Disabled,
            peer_cert_as_client_id: PeerCert::Disabled,
            topic_levels_max: 128,
            qos_max: 2,
            retain_available: true,
            wildcard_subscriptions: true,
            shared_subscriptions: true,
            shared_strategy: SharedStrategy::RoundRobin,
            exclusive_subscriptions: false,
            inflight_max: 32,
            retry_interval_secs: 0,
            awaiting_rel_max: 100,
            await_rel_timeout_secs: 300,
            mqueue_max: 1000,
            mqueue_bytes_max: 64 << 20,
            mqueue_priorities: BTreeMap::new(),
            mqueue_default_priority: DefaultPriority::Lowest,
            mqueue_store_qos0: true,
            durable_queue_max: 1_000_000,
            durable_queue_bytes_max: 4 << 30,
            durability: None,
            output_bytes_max: 1 << 20,
            subscriptions_max: 10_000,
            filters_per_subscribe_max: 1000,
            topic_alias_max: 64,
            topic_alias_out_max: 16,
            sessions_max: 5_000_000,
            session_expiry_secs: 7200,
            session_expiry_secs_max: u32::MAX,
            message_expiry_secs_max: u32::MAX,
            server_keep_alive_secs: 0,
            keep_alive_multiplier: 1.5,
            upgrade_qos: false,
            ignore_loop_deliver: false,
            check_payload_format: true,
            response_information: String::new(),
            server_reference: String::new(),
            messages_per_sec: 0,
            bytes_per_sec: 0,
            subscribes_per_sec: 0,
            zone_connects_per_sec: 0,
            zone_messages_per_sec: 0,
            zone_bytes_per_sec: 0,
            flapping_max: 0,
            flapping_window_secs: 60,
            flapping_ban_secs: 300,
            takeovers_per_sec: 50,
            republish_hops_max: 8,
            retained_max: 1_000_000,
            retained_bytes_max: 1 << 30,
            retained_payload_bytes_max: 1 << 20,
            retained_expiry_secs: 0,
        }
    }
}

/// What of a client's certificate stands for a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PeerCert {
    /// Nothing.
    #[default]
    Disabled,
    /// The common name of its subject.
    Cn,
    /// The whole subject.
    Dn,
    /// The first of its subject alternative names that is a host, a URI or an e-mail address.
    San,
}

/// Which member of a shared subscription gets a message. Members that have a connection and room in their window come first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SharedStrategy {
    /// One after the other, for each publisher.
    #[default]
    RoundRobin,
    /// One after the other, for all publishers together.
    RoundRobinPerGroup,
    /// Any.
    Random,
    /// For each publisher always the same one, as long as it is there.
    Sticky,
    /// By the publisher's client identifier.
    HashClientid,
    /// By the topic.
    HashTopic,
}

/// Where topics without a priority stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DefaultPriority {
    /// Behind all that have one.
    #[default]
    Lowest,
    /// Before all that have one.
    Highest,
}

/// A named set of overrides, which listeners choose with `zone`. Precedence: the zone's key, then `[mqtt]`, then the default.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Zone {
    /// The keys of `[mqtt]` that are different in this zone.
    #[schemars(with = "Mqtt")]
    pub mqtt: serde_json::Map<String, serde_json::Value>,
}

impl Mqtt {
    /// These settings with the overrides of a zone.
    ///
    /// # Errors
    /// A key that does not exist or has no valid value, with its path.
    pub fn overridden(&self, zone: &Zone) -> Result<Mqtt, String> {
        // Alone first, so that an error names the key and not the merged whole.
        for (key, value) in &zone.mqtt {
            let alone = serde_json::Map::from_iter([(key.clone(), value.clone())]);
            if let Err(error) = serde_json::from_value::<Mqtt>(alone.into()) {
                return Err(format!("{key}: {error}"));
            }
        }
        let mut merged = serde_json::to_value(self).map_err(|error| error.to_string())?;
        if let serde_json::Value::Object(table) = &mut merged {
            table.extend(zone.mqtt.clone());
        }
        serde_json::from_value(merged).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_overrides_what_it_names_and_nothing_else() {
        let base = Mqtt { inflight_max: 7, mqueue_max: 8, ..Mqtt::default() };
        let zone = |text: &str| Zone { mqtt: serde_json::from_str(text).expect("valid JSON") };
        let merged = base.overridden(&zone(r#"{"inflight_max": 9, "durability": "process"}"#)).expect("valid");
        assert_eq!((merged.inflight_max, merged.mqueue_max, merged.durability), (9, 8, Some(DurabilityLevel::Process)));
        assert!(base.overridden(&zone(r#"{"inflight_maxx": 9}"#)).expect_err("unknown").starts_with("inflight_maxx: unknown field"));
        assert!(base.overridden(&zone(r#"{"inflight_max": "many"}"#)).expect_err("no number").contains("inflight_max"));
    }
}
