//! Settings.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::parquet::Column;

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
    /// What the files are.
    #[serde(default)]
    pub(crate) format: Format,
    /// The columns of a Parquet file, beside `hookline_id`; each takes the value of its name from the line. Without any there is one, `row`, with the
    /// line as JSON.
    #[serde(default)]
    pub(crate) columns: Vec<Column>,
    /// Template of a line: a JSON object. The record's `hookline_id` comes first, whatever it says.
    #[serde(default = "whole_row")]
    pub(crate) line: String,
    /// Bytes from which on a new file is begun; those of lines, also for Parquet, whose files are smaller.
    #[serde(default = "rotate_bytes")]
    pub(crate) rotate_bytes: u64,
    /// Seconds after which a new file is begun; 0 is never. Without it: never for lines, 3600 for Parquet.
    pub(crate) rotate_secs: Option<u64>,
    /// Finished files that are kept; the oldest go. 0 is all.
    #[serde(default)]
    pub(crate) files_max: usize,
}

/// What files are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Format {
    /// Lines of JSON, which can be read while they are written.
    #[default]
    Ndjson,
    /// Parquet, compressed by Snappy. A file appears when it is complete; until then its rows wait, synced, in a hidden file beside it.
    Parquet,
}

fn whole_row() -> String {
    "${.}".into()
}

fn rotate_bytes() -> u64 {
    100_000_000
}
