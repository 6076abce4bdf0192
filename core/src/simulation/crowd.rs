//! A million sessions at once, each with its connection and a subscription: what they weigh, and that each still gets what is its own.
//! Their peers are in memory, because a process may open only so many sockets.
//!
//! `HOOKLINE_SESSIONS` says how many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use hookline_mqtt::packet::{Connect, Subscribe, SubscribeFilter, SubscriptionOptions};
use hookline_mqtt::{Properties, QoS, Version};
use hookline_schemas::Message;

use super::{Broker, WORKERS, World};
use crate::clock::simulated;
use crate::listener::worker_of;
use crate::mailbox::{Mail, NewConnection};
use crate::transport::Socket;

/// Sessions that come between two turns of the workers.
const WAVE: usize = 1000;
/// What one may weigh, bytes, with its part of all tables, when these have just grown to double size.
const BYTES_MAX: u64 = 1700;
/// CONNACK and SUBACK of MQTT 3.1.1.
const GREETING_BYTES: u64 = 4 + 5;

/// Memory of this process that is resident, bytes.
fn resident_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("a process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it says what is resident");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") << 10
}

impl Broker {
    fn step(&mut self) {
        for worker in &mut self.workers {
            worker.step(&mut self.scratch).expect("a turn");
        }
    }

    /// A client that has sent its CONNECT, and a SUBSCRIBE to its own topic behind it.
    fn arrive(&self, number: usize, like: &hookline_schemas::Client, peer: &Arc<AtomicU64>) {
        let client_id = format!("crowd-{number}");
        let client = hookline_schemas::Client { client_id: client_id.as_str().into(), ..like.clone() };
        let connect = Connect {
            version: Version::V311,
            clean_start: true,
            keep_alive_secs: client.keep_alive_secs,
            client_id: client_id.clone(),
            username: None,
            password: None,
            will: None,
            properties: Properties::default(),
            is_bridge: false,
        };
        let filter = SubscribeFilter { filter: format!("crowd/{number}"), options: SubscriptionOptions::default() };
        let subscribe = Subscribe { packet_id: 1, properties: Properties::default(), filters: vec![filter] };
        let mut new = NewConnection::within(Socket::Silent(Arc::clone(peer)), connect, client, &self.shared.zones.default);
        subscribe.encode(&mut new.input, Version::V311);
        new.input.shrink_to_fit();
        self.shared.mailboxes[worker_of(&client_id, WORKERS)].post(Mail::Connection(Box::new(new)));
    }
}

#[test]
fn a_million_sessions_fit() {
    rustix::thread::disable_transparent_huge_pages(true).expect("as the binary does");
    let sessions = std::env::var("HOOKLINE_SESSIONS").ok().and_then(|text| text.parse().ok()).unwrap_or(1_000_000);
    simulated::begin();
    let mut world = World::new(0);
    let broker = world.broker.as_mut().expect("it runs");
    let like = hookline_schemas::Client { version: Version::V311, keep_alive_secs: 60, ..hookline_schemas::Client::internal("") };
    let peer = Arc::new(AtomicU64::new(0));

    let before = resident_bytes();
    for first in (0..sessions).step_by(WAVE) {
        for number in first..(first + WAVE).min(sessions) {
            broker.arrive(number, &like, &peer);
        }
        broker.step();
    }
    broker.step();
    let each = resident_bytes().saturating_sub(before) / sessions as u64;
    println!("{sessions} connections, each with a session and a subscription: {each} bytes each");
    assert_eq!(peer.swap(0, Ordering::Relaxed), sessions as u64 * GREETING_BYTES, "each is let in and subscribed");
    assert!(each < BYTES_MAX, "{each} bytes each");

    let wanted: Vec<usize> = (0..sessions).step_by(sessions / 1000 + 1).collect();
    for number in &wanted {
        let message =
            Message { qos: QoS::AtMostOnce, payload: Bytes::from_static(b"hello"), ..Message::internal(&format!("crowd/{number}"), "") };
        broker.shared.mailboxes[number % WORKERS].post(Mail::Publish(Box::new(message)));
    }
    for _ in 0..3 {
        broker.step();
    }
    // A PUBLISH of QoS 0: header, length, topic with its own length, payload.
    let expected: usize = wanted.iter().map(|number| 2 + 2 + format!("crowd/{number}").len() + 5).sum();
    assert_eq!(peer.load(Ordering::Relaxed), expected as u64, "each gets its own");
}
