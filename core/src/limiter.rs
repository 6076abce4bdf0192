//! Rates: a bucket of tokens that fills at a steady pace and holds one second's worth. A packet may overdraw it; the debt is paid
//! by going on later.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A bucket of tokens.
#[derive(Debug)]
pub(crate) struct Bucket {
    per_sec: f64,
    tokens: f64,
    filled_at: Instant,
}

impl Bucket {
    /// A full bucket; `None` where there is no limit.
    pub(crate) fn new(per_sec: u64, now: Instant) -> Option<Bucket> {
        (per_sec > 0).then_some(Bucket { per_sec: per_sec as f64, tokens: per_sec as f64, filled_at: now })
    }

    /// Takes tokens, also those that are not there yet; how long to wait until the debt is paid.
    pub(crate) fn take(&mut self, count: u64, now: Instant) -> Duration {
        self.fill(now);
        self.tokens -= count as f64;
        if self.tokens >= 0.0 { Duration::ZERO } else { Duration::from_secs_f64(-self.tokens / self.per_sec) }
    }

    /// Takes a token only where there is one.
    pub(crate) fn try_take(&mut self, now: Instant) -> bool {
        self.fill(now);
        let there = self.tokens >= 1.0;
        if there {
            self.tokens -= 1.0;
        }
        there
    }

    fn fill(&mut self, now: Instant) {
        let since = now.saturating_duration_since(self.filled_at);
        self.filled_at = now;
        self.tokens = (self.tokens + since.as_secs_f64() * self.per_sec).min(self.per_sec);
    }
}

/// Messages and bytes of one client.
#[derive(Debug)]
pub(crate) struct Throttle {
    messages: Option<Bucket>,
    bytes: Option<Bucket>,
}

impl Throttle {
    /// `None` where there is no limit.
    pub(crate) fn new(messages_per_sec: u64, bytes_per_sec: u64, now: Instant) -> Option<Throttle> {
        let (messages, bytes) = (Bucket::new(messages_per_sec, now), Bucket::new(bytes_per_sec, now));
        (messages.is_some() || bytes.is_some()).then_some(Throttle { messages, bytes })
    }

    /// Accounts for what was read; how long to read nothing more.
    pub(crate) fn take(&mut self, messages: u64, bytes: u64, now: Instant) -> Duration {
        let wait = |bucket: &mut Option<Bucket>, count| bucket.as_mut().map_or(Duration::ZERO, |bucket| bucket.take(count, now));
        wait(&mut self.messages, messages).max(wait(&mut self.bytes, bytes))
    }
}

/// Messages and bytes of many clients together.
#[derive(Debug)]
pub(crate) struct SharedThrottle(Mutex<Throttle>);

impl SharedThrottle {
    /// `None` where there is no limit.
    pub(crate) fn new(messages_per_sec: u64, bytes_per_sec: u64) -> Option<SharedThrottle> {
        Throttle::new(messages_per_sec, bytes_per_sec, crate::clock::now()).map(|throttle| SharedThrottle(Mutex::new(throttle)))
    }

    /// As [`Throttle::take`].
    pub(crate) fn take(&self, messages: u64, bytes: u64, now: Instant) -> Duration {
        self.0.lock().take(messages, bytes, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_debt_is_paid_by_waiting() {
        let start = Instant::now();
        let mut bucket = Bucket::new(10, start).expect("a limit");
        assert_eq!(bucket.take(10, start), Duration::ZERO, "one second's worth at once");
        assert_eq!(bucket.take(5, start), Duration::from_millis(500));
        assert!(!bucket.try_take(start + Duration::from_millis(500)));
        assert!(bucket.try_take(start + Duration::from_millis(700)));
        assert_eq!(bucket.take(10, start + Duration::from_secs(60)), Duration::ZERO, "it holds no more than a second's worth");
        assert!(bucket.take(1, start + Duration::from_secs(60)) > Duration::ZERO);
        assert!(Bucket::new(0, start).is_none());
    }
}
