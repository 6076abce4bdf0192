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
    /// The most that the store may take on the disk, bytes; at it publishers are refused. 0: what the disk has.
    pub bytes_max: u64,
    /// The least that stays free on the disk, bytes; below it publishers are refused, and what waits is still delivered.
    pub free_bytes_min: u64,
    /// A file of that size is kept beside the store, bytes, and given up when the disk is full: to start and to work off what
    /// waits. 0: none.
    pub reserve_bytes: u64,
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

impl DurabilityLevel {
    /// The one of both that promises more.
    #[must_use]
    pub fn strongest(self, other: DurabilityLevel) -> DurabilityLevel {
        if (self as u8) < other as u8 { self } else { other }
    }
}

impl Default for Store {
    fn default() -> Self {
        Self {
            level: DurabilityLevel::Disk,
            block_cache_bytes: 32 << 20,
            write_buffer_bytes: 64 << 20,
            bytes_max: 0,
            free_bytes_min: 128 << 20,
            reserve_bytes: 64 << 20,
        }
    }
}
