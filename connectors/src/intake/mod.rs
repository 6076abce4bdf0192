//! Intake: what takes messages from an outside system into the broker.
//!
//! In: messages of a source.
//! Out: messages published into the broker by a session of its own, whose acknowledgement is the broker's promise; only then the
//! source is told that it is rid of them.

mod inlet;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use hookline_schemas::ports::{BoxFuture, Door};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

use crate::connector::Failure;
use crate::delivery::{ActionState, Backoff};
pub use inlet::{Inlet, Message, Published};

/// How long the end waits for a source.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

/// Where messages come from.
pub trait Source: Send {
    /// Takes messages in until something fails. It calls [`Report::is_well`] when it has reached its system. Giving the call up at any time
    /// must leave what was not acknowledged with the outside system.
    fn run<'a>(&'a mut self, door: &'a dyn Door, report: &'a Report) -> BoxFuture<'a, Failure>;
}

/// What a source has done since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Taken {
    /// Messages that came.
    pub received: u64,
    /// Those that the broker has taken.
    pub published: u64,
    /// Those that cannot be published, such as to a topic that is none; they are logged and left out.
    pub rejected: u64,
}

/// What a source tells while it runs.
#[derive(Debug)]
pub struct Report {
    name: String,
    state: watch::Sender<ActionState>,
    received: AtomicU64,
    published: AtomicU64,
    rejected: AtomicU64,
}

impl Report {
    /// The name of the source.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// It has reached its system.
    pub fn is_well(&self) {
        if self.state.send_replace(ActionState::Connected) != ActionState::Connected {
            tracing::info!(source = self.name, "connected");
        }
    }

    pub(crate) fn received(&self) {
        self.received.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn published(&self) {
        self.published.fetch_add(1, Ordering::Relaxed);
    }

    /// A message cannot be published, and never will.
    pub(crate) fn rejected(&self, what: &str, problem: &str) {
        if self.rejected.fetch_add(1, Ordering::Relaxed).is_multiple_of(1000) {
            tracing::warn!(
                source = self.name,
                what,
                problem,
                "a message cannot be published, and is left out; others like it are mostly only counted"
            );
        }
    }
}

/// A source at work.
#[derive(Debug)]
pub struct IntakeHandle {
    report: Arc<Report>,
    state: watch::Receiver<ActionState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl IntakeHandle {
    /// Takes in from `source` until it is stopped.
    pub fn start(name: &str, source: Box<dyn Source>, door: Arc<dyn Door>) -> IntakeHandle {
        let (state_out, state) = watch::channel(ActionState::Connecting);
        let (stop, stopped) = watch::channel(false);
        let [received, published, rejected] = std::array::from_fn(|_| AtomicU64::new(0));
        let report = Arc::new(Report { name: name.to_owned(), state: state_out, received, published, rejected });
        let task = tokio::spawn(run(source, door, Arc::clone(&report), stopped));
        IntakeHandle { report, state, stop, task }
    }

    /// What can be seen of it by who does not own it.
    pub fn view(&self) -> IntakeView {
        IntakeView { report: Arc::clone(&self.report), state: self.state.clone() }
    }

    /// Stops it. What the broker has not acknowledged stays with the outside system.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        let ended = match timeout(STOP_TIMEOUT, &mut self.task).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(source = self.report.name, "a source did not end in time");
                self.task.abort();
                self.task.await
            }
        };
        if let Err(error) = ended.or_else(|error| if error.is_cancelled() { Ok(()) } else { Err(error) }) {
            tracing::error!(source = self.report.name, %error, "a source panicked");
        }
    }
}

/// A source, seen from outside.
#[derive(Debug, Clone)]
pub struct IntakeView {
    report: Arc<Report>,
    state: watch::Receiver<ActionState>,
}

impl IntakeView {
    /// How it is.
    pub fn state(&self) -> ActionState {
        self.state.borrow().clone()
    }

    /// What it has done.
    pub fn taken(&self) -> Taken {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Taken { received: read(&self.report.received), published: read(&self.report.published), rejected: read(&self.report.rejected) }
    }
}

async fn run(mut source: Box<dyn Source>, door: Arc<dyn Door>, report: Arc<Report>, mut stop: watch::Receiver<bool>) {
    let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10));
    loop {
        let before = report.published.load(Ordering::Relaxed);
        let failure = tokio::select! {
            failure = source.run(&*door, &report) => failure,
            // An error means that the handle is gone, which is a stop, too.
            _ = stop.wait_for(|stop| *stop) => return,
        };
        if report.published.load(Ordering::Relaxed) > before {
            backoff.reset();
        }
        let pause = backoff.next();
        let attempts = backoff.attempts();
        if attempts.is_power_of_two() {
            tracing::warn!(source = report.name, error = %failure, attempts, "nothing comes in; will try again");
        }
        report.state.send_replace(ActionState::Disconnected { error: failure.to_string(), attempts });
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.wait_for(|stop| *stop) => return,
        }
    }
}
