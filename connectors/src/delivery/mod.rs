//! Delivery: what moves records from a durable queue to a sink.
//!
//! In: records of a queue, from its front on.
//! Out: batches to a sink; settled records; dead letters.
//!
//! One worker for each action. The front moves only when the sink has confirmed; whatever happens before that is tried
//! again, in the same order, for as long as it takes. Only a record that the sink will never take leaves the line: alone,
//! into the dead-letter queue.

mod backoff;
mod compatible;
mod worker;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use hookline_schemas::QueueId;
use hookline_schemas::config::Delivery as Settings;
use hookline_schemas::ports::{Ledger, QueueReader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::connector::Sink;
use worker::Worker;

/// How an action is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ActionState {
    /// It has not reached its sink yet.
    Connecting,
    /// Its sink takes what comes.
    Connected,
    /// Its sink does not take anything for now; the records wait.
    Disconnected { error: String, attempts: u64 },
}

/// What an action wants beside batches and attempts.
#[derive(Debug, Clone, Default)]
pub struct Special {
    /// The queues of other actions that get what the sink refuses for good, in place of the dead letters.
    pub fallback: Vec<QueueId>,
    /// Missing values of these placeholders, and of the whole row, are the text `undefined`.
    pub undefined_as_text: Option<Vec<Vec<String>>>,
}

/// Starts deliveries.
#[derive(Debug)]
pub struct Delivery;

/// A running delivery.
pub struct DeliveryHandle {
    name: String,
    queue: Arc<dyn QueueReader>,
    state: watch::Receiver<ActionState>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl std::fmt::Debug for DeliveryHandle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("DeliveryHandle").field("name", &self.name).field("state", &*self.state.borrow()).finish_non_exhaustive()
    }
}

impl Delivery {
    /// Delivers from `queue` to `sink` until it is stopped.
    pub fn start(name: &str, queue: Arc<dyn QueueReader>, sink: Box<dyn Sink>, settings: Settings, special: Special) -> DeliveryHandle {
        let (state_out, state) = watch::channel(ActionState::Connecting);
        let (stop, stop_in) = watch::channel(false);
        let worker = Worker::new(name, Arc::clone(&queue), sink, settings, special, state_out, stop_in);
        DeliveryHandle { name: name.to_owned(), queue, state, stop, task: tokio::spawn(worker.run()) }
    }
}

impl DeliveryHandle {
    /// The name of the action.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How the action is.
    pub fn state(&self) -> ActionState {
        self.state.borrow().clone()
    }

    /// How the action is, for who looks now and then and does not hold the delivery.
    pub fn watch(&self) -> watch::Receiver<ActionState> {
        self.state.clone()
    }

    /// The account of its queue.
    pub fn ledger(&self) -> Ledger {
        self.queue.ledger()
    }

    /// Stops after the batch that is under way, or at once where its sink does not answer. What was not confirmed stays
    /// in the queue.
    pub async fn stop(self) {
        self.stop.send_replace(true);
        if let Err(error) = self.task.await {
            tracing::error!(action = self.name, %error, "delivery panicked");
        }
    }
}
