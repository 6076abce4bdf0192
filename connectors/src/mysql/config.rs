//! Settings.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::Tls;

/// A MySQL or MariaDB database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// The connection, as `mysql://user:password@host:port/database`.
    pub(crate) url: String,
    /// TLS; without it the connection is not encrypted.
    pub(crate) tls: Option<Tls>,
}

/// What is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The statement; every `${…}` becomes a parameter. `${hookline_id}` identifies the record: with a unique column and
    /// `ON DUPLICATE KEY UPDATE hookline_id = hookline_id` a repeated delivery is harmless. Maps and arrays are JSON, what is
    /// missing is NULL. A time in milliseconds becomes a DATETIME by `FROM_UNIXTIME(${timestamp} / 1000)`, in UTC.
    #[serde(default = "audit_sql")]
    pub(crate) sql: String,
    /// Statements to run at each connection, such as CREATE TABLE IF NOT EXISTS.
    #[serde(default = "audit_setup")]
    pub(crate) setup: String,
}

fn audit_setup() -> String {
    hookline_schemas::sql::AUDIT_MYSQL.into()
}

fn audit_sql() -> String {
    "INSERT INTO hookline_events (hookline_id, at, event, clientid, username, peername, topic, qos, payload, message_id, from_clientid, reason, details) \
     VALUES (${hookline_id}, FROM_UNIXTIME(${timestamp} / 1000), ${event}, ${clientid}, ${username}, ${peername}, ${topic}, ${qos}, ${payload}, ${id}, \
     ${from_clientid}, ${reason}, ${.}) ON DUPLICATE KEY UPDATE hookline_id = hookline_id"
        .into()
}
