//! Settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

/// A Kafka cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// Brokers to begin with, as `host:port,host:port`.
    pub(crate) bootstrap_hosts: String,
    /// Further settings of the client library (librdkafka), by its own names, such as `security.protocol`.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, String>,
}

/// What is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Template of the topic.
    pub(crate) topic: String,
    /// Template of the key, which decides on the partition: records of one key keep their order.
    #[serde(default = "client_id")]
    pub(crate) key: String,
    /// Template of the value; `${.}` is the row as JSON.
    #[serde(default = "whole_row")]
    pub(crate) value: String,
    /// Templates of headers, by name.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// How batches are compressed.
    #[serde(default)]
    pub(crate) compression: Compression,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

fn client_id() -> String {
    "${clientid}".into()
}

fn whole_row() -> String {
    "${.}".into()
}
