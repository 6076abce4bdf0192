//! What is due when: one heap for a worker. Entries are checked when they come up, not removed when they change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use hookline_schemas::QueueId;

use super::Worker;
use super::publish::Admission;
use crate::slab::Key;

/// What may be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A connection may have been silent for too long.
    KeepAlive(Key),
    /// A session may have a will to publish, or be at its end.
    Session(Key),
    /// A connection that has sent too much may be read from again.
    Resume(Key),
    /// Messages may have to be sent again.
    Retry(Key),
    /// An acknowledgement may have waited too long for a sink.
    Delivery(Key),
    /// A session that rests may be at its end.
    Resting(QueueId),
    /// What a client may do is to be asked for anew.
    Rights(Key),
    /// The proof of a client may have run out.
    Expiry(Key),
    /// Hooks want to be told the time.
    Tick,
}

#[derive(Debug, PartialEq, Eq)]
struct Timer {
    at: Instant,
    due: Due,
}

impl Ord for Timer {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.at.cmp(&other.at)
    }
}

impl PartialOrd for Timer {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// The timers of a worker.
#[derive(Debug, Default)]
pub(super) struct Timers {
    heap: BinaryHeap<Reverse<Timer>>,
}

impl Timers {
    pub(super) fn set(&mut self, at: Instant, due: Due) {
        self.heap.push(Reverse(Timer { at, due }));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Instant> {
        self.heap.peek().map(|Reverse(timer)| timer.at)
    }

    fn pop(&mut self, now: Instant) -> Option<Due> {
        self.heap.peek().filter(|Reverse(timer)| timer.at <= now)?;
        self.heap.pop().map(|Reverse(timer)| timer.due)
    }
}

/// Timers that may be there beside those that connections and sessions need.
const SPARE_TIMERS: usize = 1024;

/// How often hooks are told the time.
const TICK: Duration = Duration::from_millis(100);
/// How often it is looked whether one wants to be.
const SLOW_TICK: Duration = Duration::from_secs(1);

impl Worker {
    /// Tells hooks the time, and takes what follows.
    pub(super) fn tick(&mut self) {
        let mut outcome = std::mem::take(&mut self.outcome);
        self.shared.hooks.tick(self.now_ms, &mut outcome);
        drop(self.take_outcome(&mut outcome, Admission::Open));
        self.outcome = outcome;
        // Whether somebody wants to be told may change.
        let pause = if self.shared.hooks.has_clock() { TICK } else { SLOW_TICK };
        self.timers.set(self.now + pause, Due::Tick);
    }

    pub(super) fn run_timers(&mut self) {
        // Timers are not removed when their connection goes: now and then those that nothing needs are swept out.
        if self.timers.heap.len() > 4 * (self.connections.len() + self.sessions.len() + self.resting.len()) + SPARE_TIMERS {
            let mut seen = crate::HashSet::default();
            let (connections, sessions) = (&self.connections, &self.sessions);
            // Sorted is the latest first here. The earliest of each is enough: it sets the next one where that is needed.
            let sorted = std::mem::take(&mut self.timers.heap).into_sorted_vec();
            let needed = sorted.into_iter().rev().filter(|Reverse(timer)| match timer.due {
                Due::KeepAlive(key) => connections.get(key).is_some() && seen.insert((0, key)),
                Due::Resume(key) => connections.get(key).is_some() && seen.insert((1, key)),
                Due::Retry(key) => connections.get(key).is_some() && seen.insert((2, key)),
                Due::Session(key) => sessions.get(key).is_some() && seen.insert((3, key)),
                Due::Delivery(key) => connections.get(key).is_some() && seen.insert((4, key)),
                // An early one does not set the next: its connection knows which counts.
                Due::Rights(key) => connections.get(key).is_some(),
                Due::Expiry(key) => connections.get(key).is_some() && seen.insert((6, key)),
                Due::Resting(queue) => self.resting.contains(&queue),
                Due::Tick => true,
            });
            self.timers.heap = needed.collect();
        }
        while let Some(due) = self.timers.pop(self.now) {
            match due {
                Due::KeepAlive(connection) => self.check_keep_alive(connection),
                Due::Session(session) => self.check_session(session),
                Due::Resume(connection) => self.resume_reading(connection),
                Due::Retry(connection) => self.retry(connection),
                Due::Resting(queue) => self.check_resting(queue),
                Due::Rights(connection) => self.renew_due_rights(connection),
                Due::Expiry(connection) => self.end_expired(connection),
                Due::Tick => self.tick(),
                Due::Delivery(connection) => self.check_deadline(connection),
            }
        }
    }
}
