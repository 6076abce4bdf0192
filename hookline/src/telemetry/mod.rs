//! Traces, metrics and logs for an OpenTelemetry collector, by OTLP over HTTP.
//!
//! In: publishes and what rules make of them, as hooks; records that leave their queues; log records; the metrics, at an interval.
//! Out: requests to the collector. Everything waits in bounded queues beside the line; what finds no room is dropped and counted.

mod attribute;
mod exporter;
mod logs;
mod metrics;
mod spans;
mod target;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwapOption;
use hookline_schemas::config::Config;
use hookline_schemas::ports::{DeliveryTracer, Hook};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::api::Family;
use exporter::Exporter;
pub(crate) use logs::LogLayer;
use target::{LOGS, METRICS, TRACES};
pub(crate) use target::{Target, Trouble, check};

/// Spans, and log records, that may wait: what a busy second may bring.
const WAITING_MAX: usize = 8192;
/// How long the end waits for the collector to take what is left.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Where the metrics come from.
pub(crate) type Metrics = Arc<dyn Fn() -> Vec<Family> + Send + Sync>;

/// Why something was not sent. Each reason has its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Too much waited.
    QueueFull,
    /// The collector did not answer, or had no time, for too long.
    Unreachable,
    /// The collector does not want it.
    Refused,
    /// The broker has ended, or telemetry was turned off, before it was sent.
    Stopped,
}

impl Reason {
    pub(crate) const ALL: [Reason; 4] = [Reason::QueueFull, Reason::Unreachable, Reason::Refused, Reason::Stopped];

    /// The word in metrics.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Reason::QueueFull => "queue_full",
            Reason::Unreachable => "unreachable",
            Reason::Refused => "refused",
            Reason::Stopped => "stopped",
        }
    }
}

/// What became of the spans, data points or log records.
#[derive(Debug, Default)]
pub(crate) struct Account {
    sent: AtomicU64,
    dropped: [AtomicU64; Reason::ALL.len()],
}

impl Account {
    fn drop(&self, reason: Reason, count: usize) {
        self.dropped[reason as usize].fetch_add(count as u64, Ordering::Relaxed);
    }

    /// What the collector has taken.
    pub(crate) fn sent(&self) -> u64 {
        self.sent.load(Ordering::Relaxed)
    }

    /// What was not sent for that reason.
    pub(crate) fn dropped(&self, reason: Reason) -> u64 {
        self.dropped[reason as usize].load(Ordering::Relaxed)
    }
}

/// What is sent to the collector, if it is to be.
#[derive(Debug)]
pub(crate) struct Telemetry {
    shared: Arc<Shared>,
    waiting: Mutex<Option<Waiting>>,
    stop: watch::Sender<Option<Instant>>,
    tasks: Mutex<Vec<JoinHandle<()>>>,
}

/// What hooks, deliveries, log and exporters share.
#[derive(Debug)]
struct Shared {
    /// `None`: nothing is sent.
    target: ArcSwapOption<Target>,
    spans: Queue<Span>,
    logs: Queue<LogRecord>,
    metrics: Account,
}

/// The writing end of what waits.
#[derive(Debug)]
struct Queue<T> {
    sender: mpsc::Sender<T>,
    account: Account,
}

/// The reading ends.
#[derive(Debug)]
struct Waiting {
    spans: mpsc::Receiver<Span>,
    logs: mpsc::Receiver<LogRecord>,
}

impl<T> Queue<T> {
    fn new() -> (Queue<T>, mpsc::Receiver<T>) {
        let (sender, receiver) = mpsc::channel(WAITING_MAX);
        (Queue { sender, account: Account::default() }, receiver)
    }

    /// Never waits.
    fn push(&self, one: T) {
        if self.sender.try_send(one).is_err() {
            self.account.drop(Reason::QueueFull, 1);
        }
    }
}

impl Telemetry {
    /// Takes what comes from now on; [`Telemetry::start`] sends it.
    ///
    /// # Errors
    /// What is wrong with the settings, with its path.
    pub(crate) fn new(config: &Config) -> Result<Telemetry, String> {
        let target = ArcSwapOption::new(Target::new(config)?.map(Arc::new));
        let ((spans, spans_waiting), (logs, logs_waiting)) = (Queue::new(), Queue::new());
        Ok(Telemetry {
            shared: Arc::new(Shared { target, spans, logs, metrics: Account::default() }),
            waiting: Mutex::new(Some(Waiting { spans: spans_waiting, logs: logs_waiting })),
            stop: watch::Sender::new(None),
            tasks: Mutex::default(),
        })
    }

    /// Sends what comes elsewhere from now on, or nowhere. The hooks must be asked anew.
    pub(crate) fn change(&self, target: Option<Target>) {
        self.shared.target.store(target.map(Arc::new));
    }

    /// The hook that begins traces. It must be told before all whose work belongs to them.
    pub(crate) fn first_hook(&self) -> Arc<dyn Hook> {
        Arc::new(spans::Begin(Arc::clone(&self.shared)))
    }

    /// The hook that ends traces. It must be told last.
    pub(crate) fn last_hook(&self) -> Arc<dyn Hook> {
        Arc::new(spans::End(Arc::clone(&self.shared)))
    }

    /// Who is told of the deliveries of an action.
    pub(crate) fn of_action(&self, action: &str, connector: &str, kind: &str) -> Arc<dyn DeliveryTracer> {
        Arc::new(spans::OfAction::new(Arc::clone(&self.shared), action, connector, kind))
    }

    /// The part of the log that sends.
    pub(crate) fn log_layer(&self) -> LogLayer {
        LogLayer::new(Arc::clone(&self.shared))
    }

    /// What became of each signal, by name.
    pub(crate) fn accounts(&self) -> [(&'static str, &Account); 3] {
        let shared = &self.shared;
        [("traces", &shared.spans.account), ("metrics", &shared.metrics), ("logs", &shared.logs.account)]
    }

    /// Begins to send, on the runtime of the caller.
    pub(crate) fn start(&self, metrics: Metrics) {
        let Some(Waiting { spans, logs }) = self.waiting.lock().take() else { return };
        let exporter = |path| Exporter::new(path, Arc::clone(&self.shared), self.stop.subscribe());
        *self.tasks.lock() = vec![
            tokio::spawn(exporter::run(exporter(TRACES), spans, spans::request, |shared| &shared.spans.account)),
            tokio::spawn(exporter::run(exporter(LOGS), logs, logs::request, |shared| &shared.logs.account)),
            tokio::spawn(metrics::run(exporter(METRICS), metrics)),
        ];
    }

    /// Sends what waits, for a short while, and ends. What comes later is dropped.
    pub(crate) async fn stop(&self) {
        self.stop.send_replace(Some(Instant::now() + FLUSH_TIMEOUT));
        let tasks = std::mem::take(&mut *self.tasks.lock());
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "telemetry panicked");
            }
        }
    }
}

/// Nanoseconds since the Unix epoch.
fn now_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}
