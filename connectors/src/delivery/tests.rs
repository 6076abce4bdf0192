//! The worker against a queue in memory and a sink that fails on command, in virtual time.

use std::collections::VecDeque;
use std::sync::Mutex;

use hookline_schemas::ports::{BoxFuture, QueueError, Unreadable};
use hookline_schemas::{Record, Value};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::*;
use crate::connector::Failure;

#[derive(Default)]
struct MemoryQueue {
    records: Mutex<VecDeque<u64>>,
    settled: Mutex<Ledger>,
    dead: Mutex<Vec<u64>>,
    ready: Notify,
}

impl MemoryQueue {
    fn of(count: u64) -> Arc<MemoryQueue> {
        let queue = MemoryQueue::default();
        queue.records.lock().expect("lock").extend(0..count);
        queue.settled.lock().expect("lock").accepted = count;
        Arc::new(queue)
    }

    /// Takes a record out; 1, or 0 where it was gone.
    fn take(&self, sequence: u64) -> u64 {
        let mut records = self.records.lock().expect("lock");
        let before = records.len();
        records.retain(|other| *other != sequence);
        (before - records.len()) as u64
    }
}

/// Which of three keys a record has.
fn key(sequence: u64) -> u64 {
    sequence * 7 % 3
}

impl QueueReader for MemoryQueue {
    fn front(&self) -> u64 {
        self.records.lock().expect("lock").front().copied().unwrap_or_else(|| self.settled.lock().expect("lock").accepted)
    }

    fn read(&self, from: u64, records_max: usize, _: usize) -> Result<Vec<Result<Record, Unreadable>>, QueueError> {
        let records = self.records.lock().expect("lock");
        let record = |sequence: &u64| {
            let row = Value::from_json(serde_json::json!({"clientid": key(*sequence).to_string()}));
            Ok(Record { sequence: *sequence, hookline_id: format!("n:1:{sequence}"), bytes: 1, row, trace: None })
        };
        Ok(records.iter().filter(|sequence| **sequence >= from).take(records_max).map(record).collect())
    }

    fn wait(&self, from: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            while self.records.lock().expect("lock").back().is_none_or(|last| *last < from) {
                self.ready.notified().await;
            }
        })
    }

    fn delivered(&self, records: &[Record]) {
        let count: u64 = records.iter().map(|record| self.take(record.sequence)).sum();
        self.settled.lock().expect("lock").delivered += count;
    }

    fn hand_over(&self, record: &Record, _: &[QueueId]) -> Result<(), QueueError> {
        self.settled.lock().expect("lock").dead_lettered += self.take(record.sequence);
        Ok(())
    }

    fn dead_letter(&self, sequence: u64, _: u64, _: &str) -> Result<(), QueueError> {
        self.dead.lock().expect("lock").push(sequence);
        self.settled.lock().expect("lock").dead_lettered += self.take(sequence);
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        let pending = self.records.lock().expect("lock").len() as u64;
        Ledger { pending, ..*self.settled.lock().expect("lock") }
    }
}

/// Rejects what is in `poison`, and fails as the script says before that.
struct ScriptedSink {
    poison: Vec<u64>,
    failures: VecDeque<Failure>,
    arrived: Arc<Mutex<Vec<u64>>>,
}

impl Sink for ScriptedSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async {
            if let Some(failure) = self.failures.pop_front() {
                return Err(failure);
            }
            if records.iter().any(|record| self.poison.contains(&record.sequence)) {
                return Err(Failure::Reject("poison".into()));
            }
            self.arrived.lock().expect("lock").extend(records.iter().map(|record| record.sequence));
            Ok(())
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {})
    }
}

/// Delivers `count` records, and what is in `poison` nowhere. Each worker's sink fails as `failures` say before it takes anything.
async fn deliver_with(count: u64, poison: &[u64], failures: Vec<Failure>, settings: Settings) -> (Arc<MemoryQueue>, Vec<u64>) {
    let queue = MemoryQueue::of(count);
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let sink = || -> Box<dyn Sink> {
        Box::new(ScriptedSink { poison: poison.to_vec(), failures: failures.clone().into(), arrived: Arc::clone(&arrived) })
    };
    let sinks = (0..settings.workers).map(|_| sink()).collect();
    let handle = Delivery::start("a", Arc::<MemoryQueue>::clone(&queue), sinks, settings, Special::default());
    while queue.ledger().pending > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    handle.stop().await;
    assert!(queue.ledger().balances(), "{:?}", queue.ledger());
    let arrived = arrived.lock().expect("lock").clone();
    (queue, arrived)
}

async fn deliver(count: u64, poison: &[u64], failures: Vec<Failure>) -> (Arc<MemoryQueue>, Vec<u64>) {
    deliver_with(count, poison, failures, Settings::default()).await
}

#[tokio::test(start_paused = true)]
async fn several_workers_keep_the_order_of_each_key_and_deliver_each_record_once() {
    let settings = Settings { workers: 4, batch_records_max: 16, batch_bytes_max: 1000, ..Settings::default() };
    let failures = vec![Failure::Retry("busy".into()), Failure::Reconnect("gone".into())];
    let (queue, arrived) = deliver_with(5000, &[11, 900], failures, settings).await;
    assert_eq!(queue.dead.lock().expect("lock").len(), 2);
    assert_eq!(arrived.len(), 4998);
    for wanted in 0..3 {
        let of_key: Vec<u64> = arrived.iter().copied().filter(|sequence| key(*sequence) == wanted).collect();
        assert!(of_key.is_sorted_by(|a, b| a < b), "key {wanted}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_bound_on_the_rate_holds() {
    let began = Instant::now();
    let (_, arrived) = deliver_with(500, &[], Vec::new(), Settings { records_per_sec_max: 100, ..Settings::default() }).await;
    assert_eq!(arrived.len(), 500);
    // A second's worth may go at once.
    assert!(began.elapsed() >= Duration::from_millis(3900) && began.elapsed() < Duration::from_secs(6), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn what_is_paused_waits_and_goes_on() {
    let (queue, arrived) = (MemoryQueue::of(10), Arc::new(Mutex::new(Vec::new())));
    let sink = ScriptedSink { poison: Vec::new(), failures: VecDeque::new(), arrived: Arc::clone(&arrived) };
    let special = Special { paused: true, ..Special::default() };
    let handle = Delivery::start("a", Arc::<MemoryQueue>::clone(&queue), vec![Box::new(sink)], Settings::default(), special);
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(handle.is_paused());
    assert_eq!(queue.ledger().pending, 10, "nothing is delivered while it is paused");
    handle.set_paused(false);
    while queue.ledger().pending > 0 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(handle.state(), ActionState::Connected);
    let activity = handle.activity();
    assert_eq!((activity.attempts, activity.attempts_failed), (1, 0));
    handle.set_paused(true);
    tokio::time::timeout(Duration::from_secs(20), handle.stop()).await.expect("a paused delivery stops, too");
}

#[tokio::test(start_paused = true)]
async fn a_poison_record_goes_alone_and_the_others_keep_their_order() {
    let (queue, arrived) = deliver(100, &[0, 37, 38, 99], Vec::new()).await;
    assert_eq!(*queue.dead.lock().expect("lock"), [0, 37, 38, 99]);
    let expect: Vec<u64> = (0..100).filter(|n| ![0, 37, 38, 99].contains(n)).collect();
    assert_eq!(arrived, expect);
}

#[tokio::test(start_paused = true)]
async fn pauses_grow_also_where_connecting_works_and_delivering_does_not() {
    let started = tokio::time::Instant::now();
    let (_, arrived) = deliver(1, &[], vec![Failure::Reconnect("no such table".into()); 10]).await;
    assert_eq!(arrived, [0]);
    // 100 ms doubling up to 10 s, each at least by half: 0.05 + 0.1 + 0.2 + 0.4 + 0.8 + 1.6 + 3.2 + 3 x 5 s.
    assert!(started.elapsed() > std::time::Duration::from_secs(20), "{:?}", started.elapsed());
}

#[tokio::test(start_paused = true)]
async fn failures_are_tried_again_until_they_end() {
    let mut failures = vec![Failure::Retry("busy".into()); 7];
    failures.extend(vec![Failure::Reconnect("gone".into()); 5]);
    let (queue, arrived) = deliver(5, &[], failures).await;
    assert!(queue.dead.lock().expect("lock").is_empty());
    assert_eq!(arrived, [0, 1, 2, 3, 4]);
}
