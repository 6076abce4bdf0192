//! One look at a broker.

use std::fmt;
use std::time::Instant;

use hookline_core::store::{QueueKind, QueueStats};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::api::Page;
use crate::command::report::{one_line, size};
use crate::control::Control;

/// Queues that are looked at: those in which most waits.
const QUEUES: usize = 50;

/// What was counted at a moment.
pub(super) struct Counted {
    at: Instant,
    counters: Map<String, Value>,
    cpu_seconds: f64,
}

/// What there is, and the rates since the look before.
#[derive(Debug, Serialize)]
pub(super) struct Snapshot {
    pub(super) node: String,
    pub(super) version: String,
    pub(super) uptime_secs: u64,
    pub(super) connections: u64,
    pub(super) sessions: u64,
    pub(super) subscriptions: u64,
    pub(super) retained: u64,
    /// A second.
    pub(super) received_rate: f64,
    pub(super) sent_rate: f64,
    pub(super) dropped_rate: f64,
    /// How long a commit takes to reach the disk; `None`: there was none.
    pub(super) commit_latency_us: Option<f64>,
    pub(super) memory_bytes: u64,
    /// Of one processor.
    pub(super) cpu_percent: f64,
    /// Counters of drops that have counted anything.
    pub(super) drops: Vec<Drops>,
    pub(super) queues: Vec<QueueStats>,
    pub(super) connectors: Vec<ConnectorState>,
    /// Names and messages of those that are active.
    pub(super) alarms: Vec<String>,
}

/// Messages that went nowhere, by their reason.
#[derive(Debug, Serialize)]
pub(super) struct Drops {
    pub(super) reason: String,
    pub(super) count: u64,
    /// A second.
    pub(super) rate: f64,
}

/// Whether a connector reaches its system.
#[derive(Debug, Serialize)]
pub(super) struct ConnectorState {
    pub(super) name: String,
    pub(super) kind: String,
    /// `None`: nothing that uses it runs.
    pub(super) status: Option<String>,
    pub(super) reason: Option<String>,
}

impl Counted {
    pub(super) fn now(control: &Control) -> anyhow::Result<Counted> {
        let current: Value = control.get("/monitor_current")?;
        Counted::with(control, &current)
    }

    fn with(control: &Control, current: &Value) -> anyhow::Result<Counted> {
        let mut metrics: Vec<Map<String, Value>> = control.get("/metrics")?;
        let counters = metrics.pop().unwrap_or_default();
        Ok(Counted { at: Instant::now(), counters, cpu_seconds: current["cpu_seconds"].as_f64().unwrap_or_default() })
    }

    fn of(&self, name: &str) -> u64 {
        self.counters.get(name).and_then(Value::as_u64).unwrap_or_default()
    }
}

impl Snapshot {
    /// Looks, and remembers what was counted for the next look.
    pub(super) fn take(control: &Control, before: &mut Counted) -> anyhow::Result<Snapshot> {
        let current: Value = control.get("/monitor_current")?;
        let now = Counted::with(control, &current)?;
        let secs = now.at.saturating_duration_since(before.at).as_secs_f64().max(0.001);
        // A broker that was started anew counts from zero.
        let rate = |name: &str| (now.of(name).saturating_sub(before.of(name)) as f64 / secs * 10.0).round() / 10.0;
        let drops = now.counters.keys().filter(|name| is_drop(name) && now.of(name) > 0);
        let drops = drops.map(|name| Drops { reason: name.clone(), count: now.of(name), rate: rate(name) }).collect();
        let nodes: Vec<Value> = control.get("/nodes")?;
        let node = nodes.into_iter().next().unwrap_or_default();
        let number = |value: &Value, key: &str| value[key].as_u64().unwrap_or_default();
        let text = |value: &Value, key: &str| value[key].as_str().map(str::to_owned);
        let connectors: Vec<Value> = control.get("/connectors")?;
        let Page::<Value> { data: alarms, .. } = control.get("/alarms?activated=true&limit=20")?;
        let snapshot = Snapshot {
            node: text(&node, "node").unwrap_or_default(),
            version: text(&node, "version").unwrap_or_default(),
            uptime_secs: number(&node, "uptime") / 1000,
            connections: number(&current, "connections"),
            sessions: number(&node, "sessions"),
            subscriptions: number(&current, "subscriptions"),
            retained: number(&current, "retained_msg_count"),
            received_rate: rate("messages.received"),
            sent_rate: rate("messages.sent"),
            dropped_rate: rate("messages.dropped"),
            commit_latency_us: current["commit_latency_us"].as_f64(),
            memory_bytes: number(&current, "memory_bytes"),
            cpu_percent: ((now.cpu_seconds - before.cpu_seconds).max(0.0) / secs * 1000.0).round() / 10.0,
            drops,
            queues: control.get(&format!("/store/queues?limit={QUEUES}"))?,
            connectors: connectors
                .iter()
                .map(|one| ConnectorState {
                    name: text(one, "name").unwrap_or_default(),
                    kind: text(one, "type").unwrap_or_default(),
                    status: text(one, "status"),
                    reason: text(one, "status_reason"),
                })
                .collect(),
            alarms: alarms
                .iter()
                .map(|alarm| format!("{}: {}", alarm["name"].as_str().unwrap_or_default(), alarm["message"].as_str().unwrap_or_default()))
                .collect(),
        };
        *before = now;
        Ok(snapshot)
    }

    /// How long it has been running, for people.
    pub(super) fn uptime(&self) -> String {
        let (days, hours, minutes, secs) =
            (self.uptime_secs / 86_400, self.uptime_secs / 3600 % 24, self.uptime_secs / 60 % 60, self.uptime_secs % 60);
        if days > 0 { format!("{days} d {hours:02}:{minutes:02}:{secs:02}") } else { format!("{hours:02}:{minutes:02}:{secs:02}") }
    }

    /// How long a commit takes, for people.
    pub(super) fn commit(&self) -> String {
        self.commit_latency_us.map_or_else(|| "none".to_owned(), |us| format!("{:.2} ms", us / 1000.0))
    }
}

/// Whether a counter counts what one reason has cost.
fn is_drop(name: &str) -> bool {
    ["messages.dropped.", "delivery.dropped.", "client.turned_away."].iter().any(|prefix| name.starts_with(prefix))
}

/// Whose queue it is.
pub(super) const fn owner(kind: QueueKind) -> &'static str {
    match kind {
        QueueKind::Session => "session",
        QueueKind::Action => "action",
    }
}

impl fmt::Display for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} {} up {}", self.node, self.version, self.uptime())?;
        let Snapshot { connections, sessions, subscriptions, retained, .. } = self;
        writeln!(f, "{connections} connections, {sessions} sessions, {subscriptions} subscriptions, {retained} retained")?;
        writeln!(f, "messages/s: {} received, {} sent, {} dropped", self.received_rate, self.sent_rate, self.dropped_rate)?;
        writeln!(f, "commit {}, memory {}, CPU {} %", self.commit(), size(self.memory_bytes), self.cpu_percent)?;
        self.alarms.iter().try_for_each(|alarm| writeln!(f, "ALARM {alarm}"))?;
        for Drops { reason, count, rate } in &self.drops {
            writeln!(f, "dropped  {reason:44} {count:>12} {rate:>10}/s")?;
        }
        for queue in &self.queues {
            let oldest = queue.oldest_secs.map_or_else(String::new, |secs| format!("the oldest for {secs} s"));
            writeln!(f, "queue    {:8} {:35} {:>12} {oldest}", owner(queue.kind), one_line(&queue.name, 35), queue.ledger.pending)?;
        }
        for ConnectorState { name, kind, status, reason } in &self.connectors {
            let status = status.as_deref().unwrap_or("not used");
            writeln!(f, "connector {name} ({kind}): {status} {}", one_line(reason.as_deref().unwrap_or_default(), 100))?;
        }
        Ok(())
    }
}
