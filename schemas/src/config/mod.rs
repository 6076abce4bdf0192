//! The configuration file. The doc comments here are the manual: the JSON Schema is made from them.

mod access;
mod action;
mod api;
mod listener;
mod mqtt;
mod persistence;
mod recorder;
mod routing;
mod schema;
mod store;
mod telemetry;

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

pub use access::{
    AccessRule, Algorithm, Authenticator, AuthenticatorType, Authorization, AuthorizationSource, Backend, DenyAction, Jwks, Jwt, MacFun,
    OnFailure, PasswordHash, Permission, RuleAccess, SaltPosition, SourceType, TokenPlace, UserFields,
};
pub use action::{
    Action, BuiltIn, ConditionalAction, Connector, Delivery, FlagOrTemplate, NumberOrTemplate, QueueBounds, Rule, RuleAction, RuleEngine,
    RuleWindow, Source, WhenFull,
};
pub use api::{Api, ApiKey, Role};
pub use listener::{CertificateFiles, ClientAuth, Listener, Listeners, Tls, TlsVersion, TransportKind, WebSocket};
pub use mqtt::{DefaultPriority, Mqtt, PeerCert, SharedStrategy, Zone};
pub use persistence::{Acks, Persistence, SubscriptionUse};
pub use recorder::Recorder;
pub use routing::{AutoSubscribe, Ban, Delayed, Rewrite, RewriteAction, Scram, SlowSubscribers, Sys};
pub use schema::{Check, FailureAction, FailureLog, Operation, PayloadCodec, Schema, SchemaKind, Strategy, Transformation, Validation};
pub use store::{DurabilityLevel, Store};
pub use telemetry::{Telemetry, TelemetryTls};

/// The whole configuration.
#[derive(Debug, Clone, Default, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// This node.
    pub node: Node,
    /// The log, which goes to standard error.
    pub log: Log,
    /// The API over the network.
    pub api: Api,
    /// Where clients connect.
    pub listeners: Listeners,
    /// Limits and session behaviour.
    pub mqtt: Mqtt,
    /// Other limits and session behaviour for the listeners that choose them, by name.
    pub zones: BTreeMap<String, Zone>,
    /// Changes of topics, in their order.
    pub rewrite: Vec<Rewrite>,
    /// Subscriptions that every client gets.
    pub auto_subscribe: Vec<AutoSubscribe>,
    /// Who may not connect.
    pub banned: Vec<Ban>,
    /// What is known of clients beside their names, by name: expressions of rule SQL over `clientid`, `username`, `peerhost`, `cert_common_name`,
    /// `cert_subject`, `zone` and `listener`, such as `nth(1, tokens(clientid, '-'))`, and over the `claims` of a token that has let the client in, such as
    /// `lower(claims.org.site)`. Permissions, mountpoints and rules see them as `client_attrs`.
    pub client_attributes: BTreeMap<String, String>,
    /// Ways to prove who a client is, in their order.
    pub authentication: Vec<Authenticator>,
    /// What clients may do.
    pub authorization: Authorization,
    /// Enhanced authentication.
    pub scram: Scram,
    /// Delayed messages.
    pub delayed: Delayed,
    /// What the broker publishes about itself.
    pub sys: Sys,
    /// Slow subscribers.
    pub slow_subscribers: SlowSubscribers,
    /// The store and what an acknowledgement waits for.
    pub store: Store,
    /// What is recorded of messages and events, for trying rules on it.
    pub recorder: Recorder,
    /// Traces, metrics and logs for an OpenTelemetry collector.
    pub telemetry: Telemetry,
    /// Connections to outside systems, by name. `type` says which; `hookline check` lists the settings of a type.
    pub connectors: BTreeMap<String, Connector>,
    /// What to write into an outside system, by name.
    pub actions: BTreeMap<String, Action>,
    /// What to take from outside systems and publish here, by name.
    pub sources: BTreeMap<String, Source>,
    /// What is kept in databases for clients, by name: their state, subscriptions and messages.
    pub persistence: BTreeMap<String, Persistence>,
    /// Rules that select from messages and events, by name.
    pub rules: BTreeMap<String, Rule>,
    /// What all rules share.
    pub rule_engine: RuleEngine,
    /// Schemas of payloads, by name.
    pub schemas: BTreeMap<String, Schema>,
    /// What messages must be like to be taken, by name.
    pub validations: BTreeMap<String, Validation>,
    /// Changes of messages before anybody hears of them, by name.
    pub transformations: BTreeMap<String, Transformation>,
}

/// This node.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// The name of the node: the column `node` of events, and the first part of every `hookline_id`. Keep it for the life of
    /// the store.
    pub name: String,
    /// The folder for everything that is kept. Relative paths are relative to the current folder.
    pub data_dir: PathBuf,
    /// Worker threads that serve clients; 0 is one for each processor.
    pub workers: usize,
    /// Resident memory, bytes, from which on new connections are refused and messages of QoS 0 are dropped; 0 is 80 % of what
    /// the machine or the container has.
    pub memory_high_bytes: u64,
    /// Seconds that a clean stop may take; what is not done by then is left to the next start.
    pub stop_timeout_secs: u64,
}

impl Default for Node {
    fn default() -> Self {
        Self { name: "hookline@127.0.0.1".into(), data_dir: "data".into(), workers: 0, memory_high_bytes: 0, stop_timeout_secs: 15 }
    }
}

/// The log.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// `error`, `warn`, `info`, `debug` or `trace`; also for parts of the broker, as in `info,hookline_core=debug`.
    pub level: String,
    /// The form of a line.
    pub format: LogFormat,
}

impl Default for Log {
    fn default() -> Self {
        Self { level: "info".into(), format: LogFormat::Text }
    }
}

/// The form of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}
