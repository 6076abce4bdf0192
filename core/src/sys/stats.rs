//! What there is now, by the names that EMQX has, and the most that there has been.

use crate::metrics::Totals;
use crate::worker::Shared;

/// What counts are taken from.
pub(crate) struct Seen<'a> {
    pub(crate) totals: &'a Totals,
    pub(crate) shared: &'a Shared,
}

/// How something is counted.
pub(crate) type Count = fn(&Seen<'_>) -> u64;

/// Below `stats/`, each with `/count` and `/max`.
///
/// EMQX counts entries of its tables; on one node some of them are the same number. Its channel is what a session is here; its
/// routes are filters, once for those who subscribe alone and once for each group.
pub(crate) const STATS: &[(&str, Count)] = &[
    ("connections", |seen| seen.totals.connections()),
    ("live_connections", |seen| seen.totals.connections()),
    ("channels", |seen| seen.totals.sessions()),
    ("sessions", |seen| seen.totals.sessions()),
    ("topics", |seen| seen.shared.router.topics()),
    ("routes", |seen| seen.shared.router.routes()),
    ("subscribers", |seen| seen.totals.subscriptions()),
    ("suboptions", |seen| seen.totals.subscriptions()),
    ("subscriptions", |seen| seen.totals.subscriptions()),
    ("subscriptions/shared", |seen| seen.totals.shared_subscriptions()),
    ("durable_subscriptions", |seen| seen.totals.durable_subscriptions()),
    ("retained", |seen| seen.shared.retained.len()),
    ("delayed", |seen| seen.shared.store.delayed_count() as u64),
];

/// The most that there has been of each, in the order of [`STATS`].
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Highest([u64; STATS.len()]);

impl Highest {
    /// Takes note of what there is now.
    pub(crate) fn note(&mut self, seen: &Seen<'_>) {
        for (max, (_, count)) in self.0.iter_mut().zip(STATS) {
            *max = (*max).max(count(seen));
        }
    }

    pub(crate) fn counts(&self) -> &[u64] {
        &self.0
    }
}
