//! Slow subscribers: the deliveries that took longest, from a message's arrival to its acknowledgement.

use std::sync::Arc;

use hookline_schemas::config::SlowSubscribers as Settings;

/// One subscriber and topic, with its slowest delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowDelivery {
    pub(crate) client_id: Arc<str>,
    pub(crate) topic: Arc<str>,
    pub(crate) latency_ms: u64,
    /// When it was seen, milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
}

impl SlowDelivery {
    fn is_remembered(&self, now_ms: u64, settings: &Settings) -> bool {
        now_ms.saturating_sub(self.at_ms) < settings.expire_secs.saturating_mul(1000)
    }
}

/// The slowest deliveries, slowest first.
#[derive(Debug, Default)]
pub(crate) struct Slow(Vec<SlowDelivery>);

impl Slow {
    /// Looks at a delivery that took `latency_ms`, which is above the threshold.
    pub(crate) fn note(&mut self, seen: SlowDelivery, settings: &Settings) {
        match self.0.iter_mut().find(|other| other.client_id == seen.client_id && other.topic == seen.topic) {
            // Where many are slow they mostly are of one subscriber: no more than this is done for each.
            Some(known) if known.latency_ms >= seen.latency_ms && known.is_remembered(seen.at_ms, settings) => {
                known.at_ms = seen.at_ms;
                return;
            }
            Some(known) => *known = seen,
            None => {
                self.forget(seen.at_ms, settings);
                self.0.push(seen);
            }
        }
        self.0.sort_by_key(|delivery| std::cmp::Reverse(delivery.latency_ms));
        self.0.truncate(settings.count_max);
    }

    /// The list now, slowest first.
    pub(crate) fn list(&mut self, now_ms: u64, settings: &Settings) -> &[SlowDelivery] {
        self.forget(now_ms, settings);
        &self.0
    }

    /// Forgets all of them.
    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    fn forget(&mut self, now_ms: u64, settings: &Settings) {
        self.0.retain(|delivery| delivery.is_remembered(now_ms, settings));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_stay_and_the_old_go() {
        let settings = Settings { count_max: 2, expire_secs: 10, ..Settings::default() };
        let mut slow = Slow::default();
        let seen = |client: &str, latency_ms, at_ms| SlowDelivery { client_id: client.into(), topic: "t".into(), latency_ms, at_ms };
        for delivery in [seen("a", 700, 0), seen("b", 900, 1), seen("a", 600, 2), seen("c", 800, 3), seen("d", 501, 4)] {
            slow.note(delivery, &settings);
        }
        let names = |list: &[SlowDelivery]| list.iter().map(|delivery| delivery.client_id.to_string()).collect::<Vec<_>>();
        assert_eq!(names(slow.list(5, &settings)), ["b", "c"]);
        assert_eq!(names(slow.list(10_002, &settings)), ["c"]);
    }
}
