//! How an action is, put together from its workers; and what they have done.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::ActionState;

/// What an action's workers have done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Activity {
    /// Batches that were tried.
    pub attempts: u64,
    /// Those of them that failed.
    pub attempts_failed: u64,
    /// Records in batches that failed: they were tried again, or rejected.
    pub records_failed: u64,
    /// The time that sinks took for all attempts, microseconds.
    pub busy_us: u64,
    /// The longest attempt, microseconds.
    pub longest_us: u64,
}

pub(super) struct Report {
    name: String,
    states: Mutex<Vec<ActionState>>,
    out: watch::Sender<ActionState>,
    attempts: AtomicU64,
    attempts_failed: AtomicU64,
    records_failed: AtomicU64,
    busy_us: AtomicU64,
    longest_us: AtomicU64,
}

impl Report {
    pub(super) fn new(name: &str, workers: usize, out: watch::Sender<ActionState>) -> Report {
        let states = Mutex::new(vec![ActionState::Connecting; workers]);
        let [attempts, attempts_failed, records_failed, busy_us, longest_us] = std::array::from_fn(|_| AtomicU64::new(0));
        Report { name: name.to_owned(), states, out, attempts, attempts_failed, records_failed, busy_us, longest_us }
    }

    /// The name of the action.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// How a worker is.
    pub(super) fn tell(&self, worker: usize, state: ActionState) {
        let mut states = self.states.lock();
        if states[worker] == state {
            return;
        }
        states[worker] = state;
        let worst = states.iter().max_by_key(|state| state.rank()).cloned().unwrap_or(ActionState::Connecting);
        // While the lock is held, so that the last word is the newest.
        let was = self.out.send_replace(worst.clone());
        if worst == ActionState::Connected && was != ActionState::Connected {
            tracing::info!(action = self.name, "connected");
        }
    }

    /// A batch was tried.
    pub(super) fn attempted(&self, records: usize, took: Duration, succeeded: bool) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.attempts.fetch_add(1, Ordering::Relaxed);
        self.busy_us.fetch_add(us, Ordering::Relaxed);
        self.longest_us.fetch_max(us, Ordering::Relaxed);
        if !succeeded {
            self.attempts_failed.fetch_add(1, Ordering::Relaxed);
            self.records_failed.fetch_add(records as u64, Ordering::Relaxed);
        }
    }

    pub(super) fn activity(&self) -> Activity {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Activity {
            attempts: read(&self.attempts),
            attempts_failed: read(&self.attempts_failed),
            records_failed: read(&self.records_failed),
            busy_us: read(&self.busy_us),
            longest_us: read(&self.longest_us),
        }
    }
}
