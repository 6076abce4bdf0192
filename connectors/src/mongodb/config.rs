//! Settings.

use schemars::JsonSchema;
use serde::Deserialize;

/// A MongoDB server, replica set or cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// The connection string: `mongodb://user:password@host:port,host:port/database?replicaSet=name&tls=true&tlsCAFile=ca.pem`, or
    /// `mongodb+srv://…`. All of MongoDB's options are there: `authSource`, `authMechanism`, `tlsCertificateKeyFile`,
    /// `w`, `journal`, `wTimeoutMS` and so on. Without `w` a write counts when the majority of the replica set has it. Without
    /// `tlsCAFile` Mozilla's authorities are trusted.
    pub(crate) url: String,
    /// The database, in place of the one in the URL.
    #[serde(default)]
    pub(crate) database: Option<String>,
}

/// What is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Template of the collection.
    pub(crate) collection: String,
    /// What is done with the document.
    #[serde(default)]
    pub(crate) operation: Operation,
    /// Template of the document, as JSON: `{"device": "${clientid}", "at": "${at}"}`. A placeholder that is a whole value keeps its type,
    /// with or without quotes; `${.}` is the row. Integers are stored with 64 bits, what is missing as null, and
    /// `{"$date": …}` as a date, from RFC 3339, from milliseconds, or from `mongo_date()`. Without `_id` in it, what is inserted
    /// has `${hookline_id}`. An `_id` of your own makes a repeated delivery an error; use `upsert` with it.
    #[serde(default = "whole_row")]
    pub(crate) document: String,
    /// Template of the filter that finds the document to change: for `update`, `upsert` and `delete`; an `upsert` has `{"_id": "${hookline_id}"}`
    /// where there is none. A placeholder stands for a value: a record that lacks it, or that brings an operator such as
    /// `$ne`, is refused.
    #[serde(default)]
    pub(crate) filter: Option<String>,
    /// Template of the change, with operators: `{"$set": {"last": "${value}"}, "$inc": {"count": 1}}`. For `update`, and for `upsert`,
    /// which replaces the whole document without it. What a repeated delivery must not do twice, such as `$inc`, may
    /// happen twice after an outage.
    #[serde(default)]
    pub(crate) update: Option<String>,
    /// How bytes are stored, such as a payload that the rule selects as it is.
    #[serde(default)]
    pub(crate) bytes: Bytes,
}

/// What is done with a document.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Operation {
    /// It is added.
    #[default]
    Insert,
    /// It is added, unless there is one with the `_id` that it has: a text of your own, by which a repeated delivery is known.
    Ensure,
    /// It takes the place of the one that the filter finds, or is added.
    Upsert,
    /// The one that the filter finds is changed; where there is none, nothing happens.
    Update,
    /// All that the filter finds are deleted.
    Delete,
}

/// How bytes are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Bytes {
    /// As binary data, whatever is in them.
    #[default]
    Binary,
    /// As text where they are UTF-8, else as binary data.
    Text,
}

fn whole_row() -> String {
    "${.}".into()
}
