//! What is recorded of messages and events.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A recording of messages and events in the store, for trying statements on it: `hookline rule test --recorded`. Nothing is recorded
/// unless topics or events are named. It is written beside the publish path, and never holds it up: what comes too fast is dropped
/// and counted. Payloads are in it as they were published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Recorder {
    /// Topics whose messages are recorded: filters.
    pub topics: Vec<String>,
    /// Events that are recorded, as in FROM: such as `$events/client/connected`; wildcards are allowed.
    pub events: Vec<String>,
    /// One of so many is recorded, where all would be too much.
    pub one_in: u64,
    /// The most records that are kept; the oldest go first.
    pub records_max: u64,
    /// The most that they may take, bytes; the oldest go first.
    pub bytes_max: u64,
    /// Seconds that a record is kept.
    pub keep_secs: u64,
}

impl Default for Recorder {
    fn default() -> Self {
        Self { topics: Vec::new(), events: Vec::new(), one_in: 1, records_max: 100_000, bytes_max: 64 << 20, keep_secs: 86_400 }
    }
}
