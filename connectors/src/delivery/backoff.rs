//! The pauses between attempts: doubling up to a bound, with jitter, so that many workers do not come back together.

use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

/// Pauses for one row of attempts.
#[derive(Debug)]
pub(crate) struct Backoff {
    initial: Duration,
    max: Duration,
    attempts: u32,
    seed: RandomState,
}

impl Backoff {
    pub(crate) fn new(initial: Duration, max: Duration) -> Backoff {
        Backoff { initial, max, attempts: 0, seed: RandomState::new() }
    }

    /// Something has succeeded: the next failure starts afresh.
    pub(crate) fn reset(&mut self) {
        self.attempts = 0;
    }

    /// How many attempts have failed in a row.
    pub(crate) fn attempts(&self) -> u64 {
        self.attempts.into()
    }

    /// The pause before the next attempt: between half and all of what is due.
    pub(crate) fn next(&mut self) -> Duration {
        let due = self.initial.saturating_mul(1 << self.attempts.min(20)).min(self.max);
        self.attempts = self.attempts.saturating_add(1);
        let jitter = (self.seed.hash_one(self.attempts) % 1024) as f64 / 1024.0;
        due.mul_f64(0.5 + jitter / 2.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_bound() {
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(1));
        for due in [100, 200, 400, 800, 1000, 1000] {
            let pause = backoff.next().as_millis();
            assert!((due / 2..=due).contains(&pause), "{pause} for {due}");
        }
        backoff.reset();
        assert!(backoff.next() <= Duration::from_millis(100));
    }
}
