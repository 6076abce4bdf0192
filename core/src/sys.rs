//! What the broker tells about itself below `$SYS/brokers/NODE/`, and its look at its own memory.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookline_schemas::Message;
use hookline_schemas::config::Config;
use serde_json::json;
use tokio::sync::watch;

use crate::clock;
use crate::mailbox::Mail;
use crate::metrics::{Counters, Totals};
use crate::worker::Shared;

/// The task that reports.
pub(crate) struct Reporter {
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    started: Instant,
    interval: Duration,
    heartbeat: Duration,
    memory_high_bytes: u64,
    max: Highest,
}

/// The highest that some counts have been.
#[derive(Debug, Default)]
struct Highest {
    connections: u64,
    sessions: u64,
    subscriptions: u64,
    shared: u64,
    retained: u64,
}

/// How often memory is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Retained messages whose time is over that are removed in a second.
const EXPIRED_AT_ONCE: usize = 5000;
/// Of the machine's memory, where nothing else is said, in percent.
const MEMORY_PERCENT: u64 = 80;

impl Reporter {
    pub(crate) fn new(config: &Config, shared: Arc<Shared>, counters: Vec<Arc<Counters>>) -> Reporter {
        let memory_high_bytes = match config.node.memory_high_bytes {
            0 => memory_limit().map_or(u64::MAX, |limit| limit / 100 * MEMORY_PERCENT),
            bytes => bytes,
        };
        Reporter {
            interval: Duration::from_secs(config.sys.interval_secs.into()),
            heartbeat: Duration::from_secs(config.sys.heartbeat_secs.into()),
            started: Instant::now(),
            max: Highest::default(),
            shared,
            counters,
            memory_high_bytes,
        }
    }

    /// Reports until it is told to stop.
    pub(crate) async fn run(mut self, mut stop: watch::Receiver<bool>) {
        let mut look = tokio::time::interval(LOOK_INTERVAL);
        let (mut reported, mut beaten): (Option<Instant>, Option<Instant>) = (None, None);
        let is_due = |last: Option<Instant>, interval: Duration| !interval.is_zero() && last.is_none_or(|last| last.elapsed() >= interval);
        loop {
            tokio::select! {
                _ = stop.changed() => return,
                _ = look.tick() => {}
            }
            self.look_at_memory();
            self.expire_retained();
            let totals = self.totals();
            if is_due(beaten, self.heartbeat) {
                beaten = Some(Instant::now());
                self.say("uptime", &uptime(self.started.elapsed()), false);
                self.say("datetime", &jiff::Timestamp::now().round(jiff::Unit::Second).unwrap_or_default().to_string(), false);
            }
            if is_due(reported, self.interval) {
                reported = Some(Instant::now());
                self.report(&totals);
            }
        }
    }

    fn totals(&mut self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        let max = &mut self.max;
        max.connections = max.connections.max(totals.connections());
        max.sessions = max.sessions.max(totals.sessions());
        max.subscriptions = max.subscriptions.max(totals.subscriptions());
        max.shared = max.shared.max(totals.shared_subscriptions());
        max.retained = max.retained.max(self.shared.retained.len());
        totals
    }

    fn report(&self, totals: &Totals) {
        self.publish("$SYS/brokers".to_owned(), &self.shared.node, true);
        self.say("version", env!("CARGO_PKG_VERSION"), true);
        self.say("sysdescr", "Hookline", true);
        let delayed = self.shared.store.delayed_count() as u64;
        let stats = [
            ("connections", totals.connections(), self.max.connections),
            ("live_connections", totals.connections(), self.max.connections),
            ("sessions", totals.sessions(), self.max.sessions),
            ("subscriptions", totals.subscriptions(), self.max.subscriptions),
            ("subscriptions/shared", totals.shared_subscriptions(), self.max.shared),
            ("retained", self.shared.retained.len(), self.max.retained),
            ("delayed", delayed, delayed),
        ];
        for (name, count, max) in stats {
            self.say(&format!("stats/{name}/count"), &count.to_string(), false);
            self.say(&format!("stats/{name}/max"), &max.to_string(), false);
        }
        for (name, count) in totals.metrics() {
            self.say(&format!("metrics/{name}"), &count.to_string(), false);
        }
        let now_ms = clock::now_ms();
        let slowest: Vec<_> = {
            let mut slowest = self.shared.slowest.lock();
            let list = slowest.list(now_ms, &self.shared.slow).iter();
            list.map(|slow| {
                json!({ "clientid": &*slow.client_id, "topic": &*slow.topic, "timespan": slow.latency_ms, "last_update_time": slow.at_ms })
            })
            .collect()
        };
        self.say("slow_subscriptions", &serde_json::Value::from(slowest).to_string(), false);
        for turned in crate::metrics::Turned::ALL {
            self.say(&format!("metrics/client/turned_away/{}", turned.name()), &self.shared.strangers.turned(*turned).to_string(), false);
        }
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

    /// Refuses and sheds while memory is at its bound; ends that with some room below it.
    fn look_at_memory(&self) {
        let Some(bytes) = resident_bytes() else { return };
        let overload = &self.shared.overload;
        let was = overload.load(Ordering::Relaxed);
        let bound = if was { self.memory_high_bytes / 100 * 95 } else { self.memory_high_bytes };
        let is = bytes > bound;
        if is != was {
            overload.store(is, Ordering::Relaxed);
            if is {
                tracing::error!(bytes, bound, "memory is at its bound: new connections are refused and messages of QoS 0 are dropped");
            } else {
                tracing::info!(bytes, "memory is below its bound again");
            }
        }
    }

    /// Removes some of the retained messages whose time is over.
    fn expire_retained(&mut self) {
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

/// The memory of this process, bytes.
fn resident_bytes() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

/// What the machine or the container has, bytes; the smaller of both.
fn memory_limit() -> Option<u64> {
    let container = std::fs::read_to_string("/sys/fs/cgroup/memory.max").ok().and_then(|text| text.trim().parse().ok());
    let info = std::fs::read_to_string("/proc/meminfo").ok();
    let machine = info.as_deref().and_then(|info| info.lines().find_map(|line| line.strip_prefix("MemTotal:")));
    let machine = machine.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok()).map(|kib| kib * 1024);
    [container, machine].into_iter().flatten().min()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uptime_reads_well_and_memory_is_known() {
        assert_eq!(uptime(Duration::from_secs(90_061)), "1 days, 1 hours, 1 minutes, 1 seconds");
        assert!(resident_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(memory_limit().is_some_and(|bytes| bytes > 1 << 20));
    }
}
