//! The store and what an acknowledgement waits for.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The store.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// What an acknowledgement waits for.
    pub level: DurabilityLevel,
    /// Memory for blocks read from disk, bytes.
    pub block_cache_bytes: usize,
    /// Memory for what is not in table files yet, bytes, for each of the two buffers.
    pub write_buffer_bytes: usize,
}

/// What an acknowledgement waits for. A message that no durable session and no action takes waits for nothing at any level.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DurabilityLevel {
    /// Written and synced: it survives a power cut.
    #[default]
    Disk,
    /// Written to the operating system: it survives the end of the process, not of the machine.
    Process,
    /// Nothing: it is written soon after.
    Memory,
}

impl Default for Store {
    fn default() -> Self {
        Self { level: DurabilityLevel::Disk, block_cache_bytes: 32 << 20, write_buffer_bytes: 64 << 20 }
    }
}
