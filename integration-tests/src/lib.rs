//! What the stories share: a broker process, and the servers around it.

/// The API over the network.
pub mod api;
/// The broker, as a process.
pub mod broker;
/// Rounds of load on a broker that ends in the middle of it, and the account.
pub mod campaign;
/// Certificates, as files.
pub mod certificates;
/// An OpenTelemetry collector, as a process.
pub mod collector;
/// Power cuts and failing file calls.
pub mod faults;
/// Kafka, read independently.
pub mod kafka;
/// MongoDB, read independently.
pub mod mongo;
/// MySQL or MariaDB, read independently.
pub mod mysql;
/// Parquet files, read independently.
pub mod parquet;
/// PostgreSQL, read independently.
pub mod postgres;
/// A TCP proxy with faults.
pub mod proxy;
/// Redis, read independently.
pub mod redis;
/// The servers themselves, stopped and started.
pub mod services;
/// An HTTP server.
pub mod webhook;

use std::time::{Duration, Instant};

use hookline_mqtt::client::Client;
use hookline_mqtt::{Properties, QoS};

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

/// Publishes at QoS 1, with some messages on their way at a time, and waits until each is acknowledged.
pub fn publish_all(client: &mut Client, topic: &str, payloads: impl IntoIterator<Item = String>) {
    const WINDOW: usize = 50;
    const LIMIT: Duration = Duration::from_secs(60);
    let mut waiting = 0usize;
    let acknowledged = |client: &mut Client| {
        let (_, reason) = client.next_ack(LIMIT).expect("the connection holds").expect("acknowledged in time");
        assert!(!reason.is_error(), "{reason:?}");
    };
    for payload in payloads {
        client.send(topic, payload.as_bytes(), QoS::AtLeastOnce, false, &Properties::default()).expect("sent");
        waiting += 1;
        if waiting > WINDOW {
            acknowledged(client);
            waiting -= 1;
        }
    }
    (0..waiting).for_each(|_| acknowledged(client));
}
