//! Connectors, actions and rules.

use std::collections::BTreeMap;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::DurabilityLevel;
use crate::ports::{AckMode, Promise};

/// A connection to an outside system. The settings beside `type` are the connector's own.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub struct Connector {
    /// Which kind: `file`, `http`, `kafka`, `ldap`, `mongodb`, `mqtt`, `mysql`, `postgres`, `redis` or `sqlite`.
    #[serde(rename = "type")]
    pub kind: String,
    /// The settings of that kind.
    #[serde(flatten)]
    pub settings: serde_json::Map<String, serde_json::Value>,
}

/// What to write into an outside system.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Action {
    /// The name of the connector.
    pub connector: String,
    /// What the publisher's acknowledgement waits for.
    #[serde(default)]
    pub ack: AckMode,
    /// What an acknowledgement waits for in the store, in place of what the publisher's zone says.
    #[serde(default)]
    pub level: Option<DurabilityLevel>,
    /// With `ack = "delivered"`: seconds that the publisher's acknowledgement waits for the sink; then it is refused.
    #[serde(default = "ack_timeout_secs")]
    pub ack_timeout_secs: u32,
    /// Actions that get a record which the sink refuses for good, in place of the dead letters.
    #[serde(default)]
    pub fallback_actions: Vec<String>,
    /// Whether a missing value is written as the text `undefined`, as EMQX writes it, and not as NULL or nothing.
    #[serde(default)]
    pub undefined_as_text: bool,
    /// The bounds of the queue.
    #[serde(default)]
    pub queue: QueueBounds,
    /// Batches and attempts.
    #[serde(default)]
    pub delivery: Delivery,
    /// What is written: the settings of the connector's kind. `${…}` in templates is filled from the row.
    #[serde(default)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
}

fn ack_timeout_secs() -> u32 {
    30
}

impl Action {
    /// What it promises to publishers.
    pub fn promise(&self) -> Promise {
        Promise { ack: self.ack, level: self.level, deadline: Duration::from_secs(self.ack_timeout_secs.into()) }
    }
}

/// What to take from an outside system and publish here.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Source {
    /// The name of the connector.
    pub connector: String,
    /// Whether it is taken.
    #[serde(default = "yes")]
    pub enable: bool,
    /// What is taken: the settings of the connector's kind.
    #[serde(default)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
}

/// The bounds of an action's queue.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct QueueBounds {
    /// Records that may wait.
    pub records_max: u64,
    /// Bytes that may wait.
    pub bytes_max: u64,
    /// What to do at a bound.
    pub when_full: WhenFull,
}

/// What to do when a queue is at its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum WhenFull {
    /// Refuse the publisher: nothing is lost without its knowing. An event that has no publisher is dropped and counted.
    #[default]
    Refuse,
    /// Drop the oldest record that waits, and count it.
    DropOldest,
    /// Drop the new record, and count it.
    DropNewest,
}

impl Default for QueueBounds {
    fn default() -> Self {
        Self { records_max: 10_000_000, bytes_max: 4 << 30, when_full: WhenFull::Refuse }
    }
}

/// Batches and attempts.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Delivery {
    /// Records that are delivered together.
    pub batch_records_max: usize,
    /// Bytes that are delivered together.
    pub batch_bytes_max: usize,
    /// Milliseconds that a batch waits to become full. Records that wait behind a batch under way are delivered together anyway.
    pub batch_wait_ms: u64,
    /// Connections that deliver at the same time, 1 to 64.
    pub workers: usize,
    /// With several workers: the template of what decides on the worker. Records of one key keep their order. It is filled from the row,
    /// so the rule must select what it names.
    pub order_key: String,
    /// Records that are delivered in a second at the most; 0: no bound.
    pub records_per_sec_max: u64,
    /// Seconds for one attempt to connect or to deliver; then it counts as failed and is tried again.
    pub attempt_timeout_secs: u64,
    /// Milliseconds to the second attempt; doubles with each further one.
    pub retry_initial_ms: u64,
    /// The longest pause between attempts, milliseconds.
    pub retry_max_ms: u64,
}

impl Default for Delivery {
    fn default() -> Self {
        Self {
            batch_records_max: 1000,
            batch_bytes_max: 1 << 20,
            batch_wait_ms: 0,
            workers: 1,
            order_key: "${clientid}".into(),
            records_per_sec_max: 0,
            attempt_timeout_secs: 60,
            retry_initial_ms: 100,
            retry_max_ms: 10_000,
        }
    }
}

/// A rule: SQL that selects, and the actions that take what it selected.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The statement, such as `SELECT payload.t AS t FROM "sensors/#" WHERE payload.t > 30`.
    pub sql: String,
    /// What takes the rows.
    pub actions: Vec<RuleAction>,
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enable: bool,
    /// For people.
    #[serde(default)]
    pub description: String,
    /// For a statement with a window.
    #[serde(default)]
    pub window: RuleWindow,
}

/// What a rule keeps for its windows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleWindow {
    /// Groups at the same time; events of further ones are refused and counted.
    pub groups_max: usize,
    /// Whether open windows are kept in the store, and go on after a restart. They are written once a second.
    pub durable: bool,
}

impl Default for RuleWindow {
    fn default() -> Self {
        Self { groups_max: 10_000, durable: false }
    }
}

/// What all rules share.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RuleEngine {
    /// Whether what `kv_store_put` remembers is kept in the store.
    pub kv_store_durable: bool,
}

fn yes() -> bool {
    true
}

/// An action of a rule: the name of a configured one, or one that is built in.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(
    untagged,
    expecting = "an action's name, or a table with `action = \"NAME\"`, `function = \"republish\"` or `function = \"console\"`"
)]
pub enum RuleAction {
    /// The name of an action in `actions`.
    Named(String),
    /// An action in `actions`, for some of the rows.
    Conditional(ConditionalAction),
    /// An action that needs no connector.
    BuiltIn(BuiltIn),
}

/// An action that takes some of the rows.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ConditionalAction {
    /// The name of an action in `actions`.
    pub action: String,
    /// A condition as in WHERE, over the fields of the selected row.
    #[serde(default)]
    pub when: Option<String>,
}

/// An action that needs no connector.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "function", rename_all = "snake_case", deny_unknown_fields)]
pub enum BuiltIn {
    /// Publishes a message.
    Republish {
        /// Template of the topic.
        topic: String,
        /// Template of the payload.
        #[serde(default = "whole_row")]
        payload: String,
        /// 0, 1 or 2, or a template such as `${qos}`.
        #[serde(default)]
        qos: NumberOrTemplate,
        /// Whether it is retained, or a template such as `${flags.retain}`.
        #[serde(default)]
        retain: FlagOrTemplate,
        /// Templates of MQTT 5 properties: `Payload-Format-Indicator`, `Message-Expiry-Interval`, `Content-Type`, `Response-Topic`
        /// and `Correlation-Data`.
        #[serde(default)]
        mqtt_properties: BTreeMap<String, String>,
        /// The user properties: one placeholder of a map, such as `${pub_props.'User-Property'}`.
        #[serde(default)]
        user_properties: Option<String>,
        /// A condition as in WHERE, over the fields of the selected row.
        #[serde(default)]
        when: Option<String>,
    },
    /// Writes the row to the log.
    Console {
        /// A condition as in WHERE, over the fields of the selected row.
        #[serde(default)]
        when: Option<String>,
    },
}

/// A number, or the template of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NumberOrTemplate {
    Number(u8),
    Template(String),
}

impl Default for NumberOrTemplate {
    fn default() -> Self {
        NumberOrTemplate::Number(0)
    }
}

/// A truth value, or the template of one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum FlagOrTemplate {
    Flag(bool),
    Template(String),
}

impl Default for FlagOrTemplate {
    fn default() -> Self {
        FlagOrTemplate::Flag(false)
    }
}

fn whole_row() -> String {
    "${.}".into()
}
