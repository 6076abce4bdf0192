//! What is due when: one heap for a worker. Entries are checked when they come up, not removed when they change.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Instant;

use super::Worker;
use crate::slab::Key;

/// What may be due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Due {
    /// A connection may have been silent for too long.
    KeepAlive(Key),
    /// A session may have a will to publish, or be at its end.
    Session(Key),
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

impl Worker {
    pub(super) fn run_timers(&mut self) {
        while let Some(due) = self.timers.pop(self.now) {
            match due {
                Due::KeepAlive(connection) => self.check_keep_alive(connection),
                Due::Session(session) => self.check_session(session),
            }
        }
    }
}
