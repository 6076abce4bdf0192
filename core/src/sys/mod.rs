//! What the broker tells about itself below `$SYS/brokers/NODE/`, and its look at its own memory, store and workers.

/// EMQX's names of what follows from our counters.
mod aliases;
/// The memory of this process, and its bound.
mod memory;
/// What there is now.
mod stats;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookline_schemas::Message;
use hookline_schemas::config::Config;
use serde_json::json;
use tokio::sync::watch;

use crate::alarms::{MEMORY_HIGH, STORE_DAMAGED, STORE_FULL, STORE_LOST};
use crate::clock;
use crate::mailbox::Mail;
use crate::metrics::{Counters, Totals, Turned};
use crate::worker::Shared;
pub(crate) use aliases::ALIASES;
use memory::Memory;
pub(crate) use memory::resident_bytes;
use parking_lot::Mutex;
pub(crate) use stats::{Highest, STATS, Seen};

/// The task that reports.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    started: Instant,
    interval: Duration,
    heartbeat: Duration,
    memory: Memory,
    max: Arc<Mutex<Highest>>,
}

/// How often memory, store and workers are looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Retained messages whose time is over that are removed in a second.
const EXPIRED_AT_ONCE: usize = 5000;

impl Reporter {
    pub(crate) fn new(config: &Config, shared: Arc<Shared>, counters: Vec<Arc<Counters>>, highest: Arc<Mutex<Highest>>) -> Reporter {
        Reporter {
            interval: Duration::from_secs(config.sys.interval_secs.into()),
            heartbeat: Duration::from_secs(config.sys.heartbeat_secs.into()),
            started: Instant::now(),
            memory: Memory::new(config.node.memory_high_bytes),
            max: highest,
            shared,
            counters,
        }
    }

    /// Reports until it is told to stop.
    pub(crate) async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let (mut reported, mut beaten): (Option<Instant>, Option<Instant>) = (None, None);
        let is_due = |last: Option<Instant>, interval: Duration| !interval.is_zero() && last.is_none_or(|last| last.elapsed() >= interval);
        self.say_findings();
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                _ = look.tick() => {}
            }
            self.look_at_memory();
            self.look_at_store();
            self.look_at_workers();
            self.expire_retained();
            let totals = self.totals();
            let seen = Seen { totals: &totals, shared: &self.shared };
            self.max.lock().note(&seen);
            if is_due(beaten, self.heartbeat) {
                beaten = Some(Instant::now());
                self.say("uptime", &uptime(self.started.elapsed()), false);
                self.say("datetime", &jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(), false);
            }
            if is_due(reported, self.interval) {
                reported = Some(Instant::now());
                self.report(&seen);
            }
        }
    }

    fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals.add_strangers(&self.shared.strangers);
        totals
    }

    fn report(&self, seen: &Seen<'_>) {
        self.publish("$SYS/brokers".to_owned(), &self.shared.node, true);
        self.say("version", env!("CARGO_PKG_VERSION"), true);
        self.say("sysdescr", "Hookline", true);
        let max = *self.max.lock();
        for ((name, count), max) in STATS.iter().zip(max.counts()) {
            self.say(&format!("stats/{name}/count"), &count(seen).to_string(), false);
            self.say(&format!("stats/{name}/max"), &max.to_string(), false);
        }
        for (name, count) in seen.totals.metrics() {
            self.say(&format!("metrics/{name}"), &count.to_string(), false);
        }
        for (name, count) in ALIASES {
            self.say(&format!("metrics/{name}"), &count(seen).to_string(), false);
        }
        for turned in Turned::ALL {
            self.say(&format!("metrics/client/turned_away/{}", turned.name()), &self.shared.strangers.turned(*turned).to_string(), false);
        }
        self.say_slowest();
    }

    fn say_slowest(&self) {
        let slowest: Vec<_> = {
            let mut slowest = self.shared.slowest.lock();
            let list = slowest.list(clock::now_ms(), &self.shared.slow).iter();
            list.map(|slow| {
                json!({ "clientid": &*slow.client_id, "topic": &*slow.topic, "timespan": slow.latency_ms, "last_update_time": slow.at_ms })
            })
            .collect()
        };
        self.say("slow_subscriptions", &serde_json::Value::from(slowest).to_string(), false);
    }

    fn say(&self, name: &str, text: &str, retain: bool) {
        self.publish(format!("$SYS/brokers/{}/{name}", self.shared.node), text, retain);
    }

    fn publish(&self, topic: String, text: &str, retain: bool) {
        let wanted = retain || !self.shared.router.targets(&topic).is_empty();
        if wanted {
            let message = Message { retain, ..Message::internal(&topic, text) };
            self.shared.mailboxes[0].post(Mail::Publish(Box::new(message)));
        }
    }

    /// What was wrong with the store when it was opened.
    fn say_findings(&self) {
        let (findings, alarms) = (self.shared.store.findings(), &self.shared.alarms);
        if !findings.set_aside.is_empty() || findings.damaged_entries > 0 {
            let copies = findings.set_aside.iter();
            let copies: Vec<_> =
                copies.map(|(folder, problem)| json!({ "folder": folder.display().to_string(), "problem": problem })).collect();
            let details = json!({ "set_aside": copies, "damaged_entries": findings.damaged_entries });
            alarms.activate(STORE_DAMAGED, "the store was damaged when it was opened; what can be read of it serves", details);
        }
        if findings.lost_writes > 0 || findings.lost_records > 0 {
            let details = json!({ "lost_writes": findings.lost_writes, "lost_records": findings.lost_records });
            alarms.activate(STORE_LOST, "something that the store had once is not there any more", details);
        }
    }

    /// Refuses and sheds while memory is at its bound; ends that with some room below it.
    fn look_at_memory(&self) {
        let (overload, alarms) = (&self.shared.overload, &self.shared.alarms);
        let Some(look) = self.memory.look(overload.load(Ordering::Relaxed)) else { return };
        overload.store(look.is_high, Ordering::Relaxed);
        if look.is_high {
            let details = json!({ "bytes": look.bytes, "bytes_max": look.bytes_max });
            let message = "memory is at its bound: new connections are refused and messages of QoS 0 are dropped";
            alarms.activate(MEMORY_HIGH, message, details);
        } else {
            alarms.deactivate(MEMORY_HIGH);
        }
    }

    fn look_at_store(&self) {
        let (store, alarms) = (&self.shared.store, &self.shared.alarms);
        if store.is_full() {
            let details = json!({ "used_bytes": store.used_bytes(), "free_bytes": store.free_bytes() });
            let message = "the store takes nothing new: its disk is nearly full, it is at store.bytes_max, or a write has failed; what waits \
                is still delivered";
            alarms.activate(STORE_FULL, message, details);
        } else {
            alarms.deactivate(STORE_FULL);
        }
    }

    /// The clients of a worker wait for its turn to end: a long one is what EMQX calls a long schedule.
    fn look_at_workers(&self) {
        for (worker, counters) in self.counters.iter().enumerate() {
            if let Some(ms) = counters.take_long_turn() {
                tracing::warn!(worker, ms, "a turn of a worker took long: its clients had to wait");
                self.say("sysmon/long_schedule", &format!("long_schedule warning: worker = {worker}, ms = {ms}"), false);
            }
        }
    }

    /// Removes some of the retained messages whose time is over.
    fn expire_retained(&self) {
        if let Err(error) = self.shared.store.expire_retained(EXPIRED_AT_ONCE, clock::now_ms()) {
            tracing::warn!(%error, "retained messages whose time is over stay in the store for now; nobody gets them");
        }
    }
}

fn uptime(since: Duration) -> String {
    let secs = since.as_secs();
    let (days, hours, minutes, seconds) = (secs / 86_400, secs / 3600 % 24, secs / 60 % 60, secs % 60);
    format!("{days} days, {hours} hours, {minutes} minutes, {seconds} seconds")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_reads_well() {
        assert_eq!(uptime(Duration::from_secs(90_061)), "1 days, 1 hours, 1 minutes, 1 seconds");
    }

    #[test]
    fn nothing_is_said_under_a_name_that_something_else_has() {
        let own = Totals::default().metrics().into_iter().map(|(name, _)| format!("metrics/{name}"));
        let aliases = ALIASES.iter().map(|(name, _)| format!("metrics/{name}"));
        let turned = Turned::ALL.iter().map(|turned| format!("metrics/client/turned_away/{}", turned.name()));
        let stats = STATS.iter().flat_map(|(name, _)| ["count", "max"].map(|what| format!("stats/{name}/{what}")));
        let mut names: Vec<String> = own.chain(aliases).chain(turned).chain(stats).collect();
        names.sort_unstable();
        let twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| &pair[0]).collect();
        assert!(twice.is_empty(), "{twice:?}");
    }
}
