//! Settings.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::Tls;

/// A PostgreSQL database.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// The connection, as `postgres://user:password@host:port/database`.
    pub(crate) url: String,
    /// TLS towards the server.
    pub(crate) tls: Option<Tls>,
}

/// What is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The statement; every `${…}` becomes a parameter. `${hookline_id}` identifies the record: with a unique column and
    /// `ON CONFLICT DO NOTHING` a repeated delivery is harmless.
    #[serde(default = "audit_sql")]
    pub(crate) sql: String,
    /// How records get there.
    #[serde(default)]
    pub(crate) method: Method,
    /// Statements to run at each connection, such as CREATE TABLE IF NOT EXISTS.
    #[serde(default = "audit_setup")]
    pub(crate) setup: String,
}

/// How records get there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// By the statement.
    #[default]
    Insert,
    /// By COPY, a whole batch at once. The statement is an INSERT with one row of VALUES. Where that has nothing but placeholders and nothing stands
    /// behind it, the batch goes into the table itself, which is the fast way: a record that comes again is there twice. With ON CONFLICT or whatever
    /// else, it goes into a table of the session, and from there by the statement, in one transaction.
    Copy,
}

fn audit_setup() -> String {
    hookline_schemas::sql::AUDIT_POSTGRES.into()
}

fn audit_sql() -> String {
    "INSERT INTO hookline_events (hookline_id, at, event, clientid, username, peername, topic, qos, payload, message_id, from_clientid, reason, details) \
     VALUES (${hookline_id}, ${timestamp}, ${event}, ${clientid}, ${username}, ${peername}, ${topic}, ${qos}, ${payload}, ${id}, ${from_clientid}, ${reason}, ${.}) \
     ON CONFLICT (hookline_id) DO NOTHING"
        .into()
}
