//! What the stories share: a broker process, and the servers around it.

/// The broker, as a process.
pub mod broker;
/// Rounds of load on a broker that ends in the middle of it, and the account.
pub mod campaign;
/// Certificates, as files.
pub mod certificates;
/// Power cuts and failing file calls.
pub mod faults;
/// Kafka, read independently.
pub mod kafka;
/// MongoDB, read independently.
pub mod mongo;
/// MySQL or MariaDB, read independently.
pub mod mysql;
/// PostgreSQL, read independently.
pub mod postgres;
/// Redis, read independently.
pub mod redis;
/// The servers themselves, stopped and started.
pub mod services;
/// An HTTP server.
pub mod webhook;

use std::time::{Duration, Instant};

/// Asks until it is so; fails with `what` when it takes too long.
pub fn eventually<T>(what: &str, limit: Duration, mut ask: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(Instant::now() < deadline, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// A name that no other test and no earlier run has.
pub fn unique(prefix: &str) -> String {
    let nanos = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |d| d.as_nanos());
    format!("{prefix}_{}_{nanos}", std::process::id())
}
