//! Settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

/// A folder of files.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// The folder; relative paths are below the data folder. It is made where it is missing.
    pub(crate) folder: PathBuf,
}

/// What is written. An action of this kind has one worker.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// The name of the file that is written to, such as `events.ndjson`. Finished ones have the time of their end before the dot.
    pub(crate) name: String,
    /// Template of a line: a JSON object. The record's `hookline_id` comes first, whatever it says.
    #[serde(default = "whole_row")]
    pub(crate) line: String,
    /// Bytes from which on a new file is begun.
    #[serde(default = "rotate_bytes")]
    pub(crate) rotate_bytes: u64,
    /// Seconds after which a new file is begun; 0 is never.
    #[serde(default)]
    pub(crate) rotate_secs: u64,
    /// Finished files that are kept; the oldest go. 0 is all.
    #[serde(default)]
    pub(crate) files_max: usize,
}

fn whole_row() -> String {
    "${.}".into()
}

fn rotate_bytes() -> u64 {
    100_000_000
}
