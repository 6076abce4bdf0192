//! Delivery: what moves records from a durable queue to a sink.
//!
//! In: records of a queue, from its front on.
//! Out: batches to sinks; settled records; dead letters.
//!
//! A dispatcher reads ahead; each worker has a sink of its own, and records of one key always go to the same worker, in their
//! order. A record is settled when its sink has confirmed it; whatever happens before that is tried again, in the same order, for
//! as long as it takes. Only a record that the sink will never take leaves the line: alone, into the dead-letter queue.

mod backoff;
mod compatible;
mod dispatcher;
mod report;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use hookline_schemas::QueueId;
use hookline_schemas::config::Delivery as Settings;
use hookline_schemas::ports::{DeliveryTracer, Ledger, QueueReader, SettledAs};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::connector::{Failure, Sink};
pub(crate) use backoff::Backoff;
use dispatcher::Dispatcher;
pub use report::Activity;
use report::Report;
use worker::Worker;

/// How an action is: as the worst of its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionState {
    /// It has not reached its sink yet.
    Connecting,
    /// Its sink takes what comes.
    Connected,
    /// Its sink is there, and has not taken the batch at hand; it is tried again.
    Retrying { error: String, attempts: u64 },
    /// Its sink cannot be reached; the records wait.
    Disconnected { error: String, attempts: u64 },
}

impl ActionState {
    /// Higher is worse.
    fn rank(&self) -> u8 {
        match self {
            ActionState::Connected => 0,
            ActionState::Connecting => 1,
            ActionState::Retrying { .. } => 2,
            ActionState::Disconnected { .. } => 3,
        }
    }
}

/// What an action wants beside batches and attempts.
#[derive(Clone, Default)]
pub struct Special {
    /// The queues of other actions that get what the sink refuses for good, in place of the dead letters.
    pub fallback: Vec<QueueId>,
    /// Missing values of these placeholders, and of the whole row, are the text `undefined`.
    pub undefined_as_text: Option<Vec<Vec<String>>>,
    /// It begins paused.
    pub paused: bool,
    /// Who is told of traced records.
    pub tracer: Option<Arc<dyn DeliveryTracer>>,
}

impl Special {
    /// Where a record goes that the sink refuses for this reason.
    fn put_away_as<'a>(&self, error: &'a str) -> SettledAs<'a> {
        if self.fallback.is_empty() { SettledAs::DeadLettered(error) } else { SettledAs::HandedOver(error) }
    }
}

/// What the workers and the dispatcher of an action are to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Command {
    Run,
    /// Finish the batch under way, and wait.
    Pause,
    Stop,
}

/// Starts deliveries.
#[derive(Debug)]
pub struct Delivery;

/// A running delivery.
pub struct DeliveryHandle {
    control: DeliveryControl,
    tasks: Vec<JoinHandle<()>>,
}

/// What can be seen of a delivery and said to it by who does not own it.
#[derive(Clone)]
pub struct DeliveryControl {
    queue: Arc<dyn QueueReader>,
    report: Arc<Report>,
    state: watch::Receiver<ActionState>,
    command: watch::Sender<Command>,
}

impl std::fmt::Debug for DeliveryControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryControl").field("name", &self.name()).field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl std::fmt::Debug for DeliveryHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.control.fmt(f)
    }
}

impl Delivery {
    /// Delivers from `queue` until it is stopped: one worker for each sink.
    pub fn start(
        name: &str,
        queue: Arc<dyn QueueReader>,
        sinks: Vec<Box<dyn Sink>>,
        settings: Settings,
        special: Special,
    ) -> DeliveryHandle {
        let (state_out, state) = watch::channel(ActionState::Connecting);
        let (command, command_in) = watch::channel(if special.paused { Command::Pause } else { Command::Run });
        let report = Arc::new(Report::new(name, sinks.len(), state_out));
        let special = Arc::new(special);
        let mut tasks = Vec::with_capacity(sinks.len() + 1);
        let mut workers = Vec::with_capacity(sinks.len());
        for (place, sink) in sinks.into_iter().enumerate() {
            let (hand, work) = mpsc::unbounded_channel();
            workers.push(hand);
            let worker = Worker {
                place,
                queue: Arc::clone(&queue),
                sink,
                settings: settings.clone(),
                special: Arc::clone(&special),
                report: Arc::clone(&report),
                work,
                command: command_in.clone(),
                connected: false,
                backoff: Backoff::new(Duration::from_millis(settings.retry_initial_ms), Duration::from_millis(settings.retry_max_ms)),
            };
            tasks.push(tokio::spawn(worker.run()));
        }
        let dispatcher = Dispatcher::new(Arc::clone(&queue), settings, special, Arc::clone(&report), command_in, workers);
        tasks.push(tokio::spawn(dispatcher.run()));
        DeliveryHandle { control: DeliveryControl { queue, report, state, command }, tasks }
    }
}

impl DeliveryHandle {
    /// For who looks now and then, and does not hold the delivery.
    pub fn control(&self) -> DeliveryControl {
        self.control.clone()
    }

    /// Stops after the batches that are under way, or at once where a sink does not answer. What was not confirmed stays
    /// in the queue.
    pub async fn stop(self) {
        self.control.command.send_replace(Command::Stop);
        for task in self.tasks {
            if let Err(error) = task.await {
                tracing::error!(action = self.control.name(), %error, "delivery panicked");
            }
        }
    }
}

impl std::ops::Deref for DeliveryHandle {
    type Target = DeliveryControl;

    fn deref(&self) -> &DeliveryControl {
        &self.control
    }
}

impl DeliveryControl {
    /// The name of the action.
    pub fn name(&self) -> &str {
        self.report.name()
    }

    /// How the action is.
    pub fn state(&self) -> ActionState {
        self.state.borrow().clone()
    }

    /// Whether it is paused.
    pub fn is_paused(&self) -> bool {
        *self.command.borrow() == Command::Pause
    }

    /// Finishes the batches under way and lets the rest wait, or goes on.
    pub fn set_paused(&self, paused: bool) {
        self.command.send_if_modified(|command| {
            let to = if paused { Command::Pause } else { Command::Run };
            let changes = *command != Command::Stop && *command != to;
            if changes {
                *command = to;
            }
            changes
        });
    }

    /// What its workers have done since the start.
    pub fn activity(&self) -> Activity {
        self.report.activity()
    }

    /// The account of its queue.
    pub fn ledger(&self) -> Ledger {
        self.queue.ledger()
    }
}

/// Puts a record away, into the dead-letter queue.
fn bury(queue: &dyn QueueReader, action: &str, sequence: u64, bytes: u32, hookline_id: &str, error: &str) -> Result<(), Failure> {
    queue.dead_letter(sequence, bytes.into(), error).map_err(|error| Failure::Retry(format!("cannot store a dead letter: {error}")))?;
    tracing::error!(action, sequence, hookline_id, error, "record was rejected; it is in the dead-letter queue");
    Ok(())
}
