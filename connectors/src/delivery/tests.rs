//! The worker against a queue in memory and a sink that fails on command, in virtual time.

use std::collections::VecDeque;
use std::sync::Mutex;

use hookline_schemas::ports::{BoxFuture, QueueError, Unreadable};
use hookline_schemas::{Record, Value};
use tokio::sync::Notify;

use super::*;
use crate::connector::Failure;

#[derive(Default)]
struct MemoryQueue {
    records: Mutex<(u64, VecDeque<u64>)>,
    settled: Mutex<Ledger>,
    dead: Mutex<Vec<u64>>,
    ready: Notify,
}

impl MemoryQueue {
    fn of(count: u64) -> Arc<MemoryQueue> {
        let queue = MemoryQueue::default();
        queue.records.lock().expect("lock").1.extend(0..count);
        queue.settled.lock().expect("lock").accepted = count;
        Arc::new(queue)
    }

    fn pop_through(&self, sequence: u64) -> u64 {
        let mut records = self.records.lock().expect("lock");
        let before = records.1.len();
        records.1.retain(|other| *other > sequence);
        records.0 = sequence + 1;
        (before - records.1.len()) as u64
    }
}

impl QueueReader for MemoryQueue {
    fn front(&self) -> u64 {
        self.records.lock().expect("lock").0
    }

    fn read(&self, records_max: usize, _: usize) -> Result<Vec<Result<Record, Unreadable>>, QueueError> {
        let records = self.records.lock().expect("lock");
        let record =
            |sequence: &u64| Ok(Record { sequence: *sequence, hookline_id: format!("n:1:{sequence}"), bytes: 1, row: Value::Null });
        Ok(records.1.iter().take(records_max).map(record).collect())
    }

    fn wait(&self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            while self.records.lock().expect("lock").1.is_empty() {
                self.ready.notified().await;
            }
        })
    }

    fn delivered(&self, sequence: u64, _: u64) {
        self.settled.lock().expect("lock").delivered += self.pop_through(sequence);
    }

    fn hand_over(&self, sequence: u64, _: u64, _: &Value, _: &[QueueId]) -> Result<(), QueueError> {
        self.settled.lock().expect("lock").dead_lettered += self.pop_through(sequence);
        Ok(())
    }

    fn dead_letter(&self, sequence: u64, _: u64, _: &str) -> Result<(), QueueError> {
        self.dead.lock().expect("lock").push(sequence);
        self.settled.lock().expect("lock").dead_lettered += self.pop_through(sequence);
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        let pending = self.records.lock().expect("lock").1.len() as u64;
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

async fn deliver(count: u64, poison: &[u64], failures: Vec<Failure>) -> (Arc<MemoryQueue>, Vec<u64>) {
    let queue = MemoryQueue::of(count);
    let arrived = Arc::new(Mutex::new(Vec::new()));
    let sink = ScriptedSink { poison: poison.to_vec(), failures: failures.into(), arrived: Arc::clone(&arrived) };
    let handle = Delivery::start("a", Arc::<MemoryQueue>::clone(&queue), Box::new(sink), Settings::default(), Special::default());
    while queue.ledger().pending > 0 {
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    handle.stop().await;
    assert!(queue.ledger().balances(), "{:?}", queue.ledger());
    let arrived = arrived.lock().expect("lock").clone();
    (queue, arrived)
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
