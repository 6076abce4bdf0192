//! Settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// A database file.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// The file; relative paths are below the data folder. It is made where it is missing.
    pub(crate) path: PathBuf,
}

/// What is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The statement; every `${…}` becomes a parameter. `${hookline_id}` identifies the record: with a unique column and
    /// `ON CONFLICT DO NOTHING` a repeated delivery is harmless.
    #[serde(default = "audit_sql")]
    pub(crate) sql: String,
    /// Statements to run when the file is opened, such as CREATE TABLE IF NOT EXISTS.
    #[serde(default = "audit_setup")]
    pub(crate) setup: String,
}

fn audit_setup() -> String {
    hookline_schemas::sql::AUDIT_SQLITE.into()
}

fn audit_sql() -> String {
    "INSERT INTO events (hookline_id, at, event, clientid, username, peername, topic, qos, payload, message_id, from_clientid, reason, details) \
     VALUES (${hookline_id}, strftime('%Y-%m-%dT%H:%M:%fZ', ${timestamp} / 1000.0, 'unixepoch'), ${event}, ${clientid}, ${username}, ${peername}, \
     ${topic}, ${qos}, ${payload}, ${id}, ${from_clientid}, ${reason}, ${.}) ON CONFLICT (hookline_id) DO NOTHING"
        .into()
}
