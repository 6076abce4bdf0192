//! Named schemas of payloads, and what is done with messages by them before anybody else hears of the message.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A schema that rules, validations and transformations can name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schema {
    /// What kind of schema it is.
    #[serde(rename = "type")]
    pub kind: SchemaKind,
    /// Its text. A protobuf schema may import other protobuf schemas: `import "NAME.proto"` is the one with that name.
    #[serde(default)]
    pub source: Option<String>,
    /// The file that has the text, in place of `source`. Relative paths are relative to the current folder.
    #[serde(default)]
    pub file: Option<PathBuf>,
    /// Its number in the registry that producers and consumers share: the one in front of tagged messages.
    #[serde(default)]
    pub id: Option<u32>,
}

/// Kinds of schemas.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SchemaKind {
    /// Apache Avro: binary, without names of fields.
    Avro,
    /// Protocol Buffers, the text of a `.proto` file.
    Protobuf,
    /// JSON Schema, drafts 4 to 2020-12. It refers to no other file; formats are checked.
    Json,
}

/// Messages that must be as a schema or a condition says. Validations of a topic run in the order of their names.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// The topics whose messages it is for: filters.
    pub topics: Vec<String>,
    /// What is asked.
    pub checks: Vec<Check>,
    /// How many of the checks must hold.
    #[serde(default)]
    pub strategy: Strategy,
    /// What happens to a message that does not pass.
    #[serde(default)]
    pub failure_action: FailureAction,
    /// How loudly a failure is logged.
    #[serde(default)]
    pub log_failure: FailureLog,
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enable: bool,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// How many checks must hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Strategy {
    /// All of them.
    #[default]
    AllPass,
    /// One of them.
    AnyPass,
}

/// One check of a validation.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Check {
    /// The payload is as the schema says.
    Schema {
        /// The name of the schema.
        schema: String,
        /// The message, where a protobuf schema has several.
        #[serde(default)]
        message_type: Option<String>,
    },
    /// The condition holds: `SELECT … WHERE …`, without FROM. A statement that cannot be computed does not hold.
    Sql {
        /// The statement.
        sql: String,
    },
}

/// What happens to a message that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureAction {
    /// It is refused: MQTT 5 clients get a reason code, the connection of others ends, as with every refusal.
    #[default]
    Reject,
    /// It goes nowhere, and the connection stays: MQTT 5 clients get a reason code, others their usual acknowledgement.
    Drop,
    /// It goes on as it came. The failure is counted, logged and told as an event.
    Ignore,
}

/// How loudly a failure is logged: the first, and then ever more rarely.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum FailureLog {
    /// As an error.
    Error,
    /// As a warning.
    #[default]
    Warning,
    /// As information.
    Info,
    /// For who looks for it.
    Debug,
    /// Not at all.
    None,
}

/// Changes of messages: the payload is decoded, parts are set, the payload is encoded. Transformations of a topic run in the
/// order of their names, each on what the one before has made; the topic as it came decides which they are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Transformation {
    /// The topics whose messages it is for: filters.
    pub topics: Vec<String>,
    /// How the payload is read.
    #[serde(default)]
    pub decoder: PayloadCodec,
    /// What is set, in this order.
    #[serde(default)]
    pub operations: Vec<Operation>,
    /// How the payload is written. The last transformation of a message must leave bytes or text.
    #[serde(default)]
    pub encoder: PayloadCodec,
    /// What happens to a message that cannot be transformed.
    #[serde(default)]
    pub failure_action: FailureAction,
    /// How loudly a failure is logged.
    #[serde(default)]
    pub log_failure: FailureLog,
    /// Whether it runs.
    #[serde(default = "yes")]
    pub enable: bool,
    /// For people.
    #[serde(default)]
    pub description: String,
}

/// A form of payloads.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum PayloadCodec {
    /// As it is.
    #[default]
    None,
    /// JSON; with a schema it must be as that says.
    Json {
        /// The name of a schema of type `json`.
        #[serde(default)]
        schema: Option<String>,
    },
    /// Avro.
    Avro {
        /// The name of the schema.
        schema: String,
    },
    /// Protocol Buffers.
    Protobuf {
        /// The name of the schema.
        schema: String,
        /// The message, where the schema has several.
        #[serde(default)]
        message_type: Option<String>,
    },
}

/// A part of a message that is set.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Operation {
    /// What is set: `payload`, `payload.a.b`, `topic`, `qos`, `retain` or `user_property.NAME`.
    pub key: String,
    /// The value: an expression of rule SQL, such as `concat(clientid, '/', topic)`. It sees the columns of `message.publish`,
    /// `retain` and `user_property`, as earlier operations have left them.
    pub value: String,
}

fn yes() -> bool {
    true
}
