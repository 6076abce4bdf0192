//! Settings.

use hookline_mqtt::Version;
use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::Tls;

/// Another MQTT server.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// Its address, `host:port`.
    pub(crate) server: String,
    /// The protocol: `v5`, or `v3` (3.1.1).
    #[serde(default)]
    pub(crate) proto_ver: Protocol,
    /// The beginning of the client identifiers that it sees; `-in-` and the name follow for a source, `-out-`, the process and a
    /// number for a worker of an action. Brokers that share a server need different ones: of two clients with one identifier the server keeps the last.
    #[serde(default = "client_id_prefix")]
    pub(crate) client_id_prefix: String,
    pub(crate) username: Option<String>,
    pub(crate) password: Option<String>,
    /// TLS towards the server.
    pub(crate) tls: Option<Tls>,
    /// Seconds between two signs of life.
    #[serde(default = "keep_alive_secs")]
    pub(crate) keep_alive_secs: u16,
}

/// Versions of the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Protocol {
    #[default]
    V5,
    V3,
}

impl Protocol {
    pub(crate) fn version(self) -> Version {
        match self {
            Protocol::V5 => Version::V5,
            Protocol::V3 => Version::V311,
        }
    }
}

/// What is published there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Template of the topic.
    #[serde(default = "topic")]
    pub(crate) topic: String,
    /// Template of the payload; `${.}` is the row as JSON.
    #[serde(default = "payload")]
    pub(crate) payload: String,
    /// 0, 1 or 2, or a template such as `${qos}`. At QoS 0 nothing is confirmed: a record counts as delivered when it is written.
    #[serde(default = "qos")]
    pub(crate) qos: String,
    /// Whether it is retained: `true`, `false`, or a template such as `${flags.retain}`.
    #[serde(default = "never")]
    pub(crate) retain: String,
    /// A placeholder of a map whose entries become user properties (MQTT 5).
    #[serde(default = "user_properties")]
    pub(crate) user_properties: String,
}

/// What is taken from there.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intake {
    /// The filters that are subscribed to. `$share/group/filter` shares the load among several nodes.
    pub(crate) topics: Vec<String>,
    /// At which QoS.
    #[serde(default = "intake_qos")]
    pub(crate) qos: u8,
    /// Template of the topic here; it sees `topic`, `qos` and `retain`.
    #[serde(default = "topic")]
    pub(crate) topic: String,
    /// Whether what is retained there is retained here.
    #[serde(default)]
    pub(crate) retain: bool,
    /// Seconds that the server keeps the session while we are away (MQTT 5).
    #[serde(default = "session_expiry_secs")]
    pub(crate) session_expiry_secs: u32,
}

fn client_id_prefix() -> String {
    "hookline".into()
}

fn keep_alive_secs() -> u16 {
    60
}

fn topic() -> String {
    "${topic}".into()
}

fn payload() -> String {
    "${payload}".into()
}

fn qos() -> String {
    "1".into()
}

fn never() -> String {
    "false".into()
}

fn user_properties() -> String {
    "${pub_props.User-Property}".into()
}

fn intake_qos() -> u8 {
    1
}

fn session_expiry_secs() -> u32 {
    86_400
}
