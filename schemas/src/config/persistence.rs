//! What is kept in databases for clients.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{Delivery, OnFailure, QueueBounds};
use crate::ports::AckMode;

/// What is kept in a database for clients, and brought to them from there. The tables, keys and collections are in `schemas/`.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Persistence {
    /// The name of the connector: of type `mongodb`, `mysql`, `postgres` or `redis`.
    pub connector: String,
    /// Whether it is kept which clients are connected, to which node and since when (`mqtt_client`).
    #[serde(default)]
    pub clients: bool,
    /// What becomes of the subscriptions in the database (`mqtt_sub`).
    #[serde(default)]
    pub subscriptions: SubscriptionUse,
    /// Topic filters of messages that are kept (`mqtt_msg`) until their subscribers have acknowledged them. Whoever makes a new subscription at QoS 1 or 2
    /// gets what matches it; also rows that others have written.
    #[serde(default)]
    pub messages: Vec<String>,
    /// Whether messages of QoS 0 are kept, too.
    #[serde(default)]
    pub qos0: bool,
    /// What an acknowledgement does to the message that is kept.
    #[serde(default)]
    pub acks: Acks,
    /// Topic filters of retained messages that are kept (`mqtt_retain`).
    #[serde(default)]
    pub retained: Vec<String>,
    /// Seconds that messages and acknowledgements are kept; older ones are deleted, and not brought to anybody. 0: for ever.
    #[serde(default = "a_week")]
    pub retention_secs: u64,
    /// What becomes of a client whose subscriptions cannot be read: `refuse` refuses it, so that it tries again; `ignore` lets it in without them.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What the publisher's acknowledgement waits for.
    #[serde(default)]
    pub ack: AckMode,
    /// The bounds of the queue to the database.
    #[serde(default)]
    pub queue: QueueBounds,
    /// Batches and attempts of what is written.
    #[serde(default)]
    pub delivery: Delivery,
    /// Statements of your own in place of those that `docs/persistence.md` lists, by their names: the parameters of an action, or of a question.
    #[serde(default)]
    pub statements: BTreeMap<String, serde_json::Map<String, serde_json::Value>>,
}

fn a_week() -> u64 {
    7 * 24 * 3600
}

/// What becomes of the subscriptions in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SubscriptionUse {
    /// Nothing.
    #[default]
    None,
    /// A client is subscribed to what stands there, each time that it connects.
    Load,
    /// That, and what clients subscribe to and unsubscribe from is written there.
    Keep,
}

/// What an acknowledgement does to a message that is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Acks {
    /// It is noted for the client (`mqtt_acked`): others still get the message.
    #[default]
    Note,
    /// The message is deleted: it was for one client.
    Delete,
}
