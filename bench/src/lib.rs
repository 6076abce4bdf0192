//! A load generator for MQTT brokers: what `hookline bench` does, and what the comparison with other brokers measures with.
//!
//! The yardstick is the broker's CPU time for each delivered message, user and system, as the operating system accounts
//! for it: it is steadier than throughput where cores are shared.

/// What waited, and what was retained.
pub mod backlog;
/// A connection.
mod link;
/// Traffic.
pub mod load;
/// What the operating system says of the broker.
mod process;
/// Clients that come, stay and go.
pub mod sessions;

pub use process::{cpu_time, raise_file_limit, resident_bytes};
