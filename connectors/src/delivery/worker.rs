//! The loop of one action: read, deliver, settle; and what to do when that fails.

use std::sync::Arc;
use std::time::Duration;

use hookline_schemas::Record;
use hookline_schemas::config::Delivery as Settings;
use hookline_schemas::ports::{BoxFuture, QueueReader, Unreadable};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::{ActionState, Special, compatible};
use crate::connector::{Failure, Sink};

/// How often an idle sink is asked whether it is well.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// How long the end waits for a batch that is under way, and for the sink to close.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    name: String,
    queue: Arc<dyn QueueReader>,
    sink: Box<dyn Sink>,
    settings: Settings,
    special: Special,
    state: watch::Sender<ActionState>,
    stop: watch::Receiver<bool>,
    connected: bool,
    backoff: Backoff,
}

impl Worker {
    pub(super) fn new(
        name: &str,
        queue: Arc<dyn QueueReader>,
        sink: Box<dyn Sink>,
        settings: Settings,
        special: Special,
        state: watch::Sender<ActionState>,
        stop: watch::Receiver<bool>,
    ) -> Worker {
        let backoff = Backoff::new(Duration::from_millis(settings.retry_initial_ms), Duration::from_millis(settings.retry_max_ms));
        Worker { name: name.to_owned(), queue, sink, settings, special, state, stop, connected: false, backoff }
    }

    pub(super) async fn run(mut self) {
        let mut stop = self.stop.clone();
        let stopped = async move {
            // An error means that the handle is gone, which is a stop, too.
            drop(stop.wait_for(|stop| *stop).await);
            sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            () = stopped => tracing::warn!(action = self.name, "the sink did not answer in time; what was under way will be delivered again"),
            () = self.serve() => {}
        }
        if timeout(STOP_TIMEOUT, self.sink.close()).await.is_err() {
            tracing::warn!(action = self.name, "the sink did not close in time");
        }
    }

    fn is_stopping(&self) -> bool {
        *self.stop.borrow()
    }

    async fn serve(&mut self) {
        while !self.is_stopping() {
            if !self.connected {
                self.connect().await;
                continue;
            }
            let waited = {
                let (queue, mut stop) = (Arc::clone(&self.queue), self.stop.clone());
                tokio::select! {
                    () = queue.wait() => true,
                    _ = stop.changed() => continue,
                    () = sleep(CHECK_INTERVAL) => false,
                }
            };
            if waited {
                self.deliver_batch().await;
            } else {
                self.check().await;
            }
        }
    }

    async fn connect(&mut self) {
        match limited(self.settings.attempt_timeout_secs, self.sink.connect()).await {
            Ok(()) => {
                self.connected = true;
                // A connection that delivers nothing does not end a row of failures: only a delivery does.
                if self.backoff.attempts() == 0 {
                    self.is_well();
                }
            }
            Err(failure) => self.pause(&failure).await,
        }
    }

    async fn check(&mut self) {
        if let Err(failure) = limited(self.settings.attempt_timeout_secs, self.sink.check()).await {
            self.connected = false;
            self.pause(&failure).await;
        }
    }

    /// Delivers what is at the front of the queue, until it is settled or the worker stops.
    async fn deliver_batch(&mut self) {
        let records_max = self.settings.batch_records_max.min(self.sink.records_max());
        let read = self.queue.read(records_max, self.settings.batch_bytes_max);
        let records = match read {
            Ok(records) => records,
            Err(error) => return self.pause(&Failure::Retry(error.to_string())).await,
        };
        let mut batch = Vec::with_capacity(records.len());
        for record in records {
            match record {
                Ok(mut record) => {
                    if let Some(paths) = &self.special.undefined_as_text {
                        compatible::fill(&mut record.row, paths);
                    }
                    batch.push(record);
                }
                Err(unreadable) => {
                    // What comes before it is settled first: the front only moves forward.
                    if self.settle(&batch).await {
                        let Unreadable { sequence, bytes, problem } = unreadable;
                        if let Err(failure) = self.bury(sequence, bytes, "", &problem) {
                            self.pause(&failure).await;
                        }
                    }
                    return;
                }
            }
        }
        self.settle(&batch).await;
    }

    /// Delivers records until every one is confirmed or a dead letter. `false`: the worker stops.
    async fn settle(&mut self, batch: &[Record]) -> bool {
        // Parts that are still to go, the next one last: a part that is rejected is split in halves.
        let mut parts = if batch.is_empty() { Vec::new() } else { vec![batch] };
        while let Some(part) = parts.last().copied() {
            if self.is_stopping() {
                return false;
            }
            if !self.connected {
                self.connect().await;
                continue;
            }
            match limited(self.settings.attempt_timeout_secs, self.sink.deliver(part)).await {
                Ok(()) => {
                    parts.pop();
                    self.confirm(part);
                    self.is_well();
                }
                Err(Failure::Reject(error)) => match part {
                    [record] => match self.put_away(record, &error) {
                        Ok(()) => drop(parts.pop()),
                        Err(failure) => self.pause(&failure).await,
                    },
                    _ => {
                        parts.pop();
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([second, first]);
                    }
                },
                Err(failure) => {
                    self.connected &= matches!(failure, Failure::Retry(_));
                    self.pause(&failure).await;
                }
            }
        }
        true
    }

    fn confirm(&self, records: &[Record]) {
        if let Some(last) = records.last() {
            let bytes = records.iter().map(|record| u64::from(record.bytes)).sum();
            self.queue.delivered(last.sequence, bytes);
        }
    }

    /// Puts a record that the sink refuses for good away: to the actions that take it then, else to the dead letters.
    fn put_away(&self, record: &Record, error: &str) -> Result<(), Failure> {
        if self.special.fallback.is_empty() {
            return self.bury(record.sequence, record.bytes, &record.hookline_id, error);
        }
        self.queue
            .hand_over(record.sequence, record.bytes.into(), &record.row, &self.special.fallback)
            .map_err(|error| Failure::Retry(format!("cannot hand a record over: {error}")))?;
        let hookline_id = &record.hookline_id;
        tracing::warn!(action = self.name, hookline_id, error, "record was rejected; the fallback actions have it");
        Ok(())
    }

    /// Puts the record at the front away, into the dead-letter queue.
    fn bury(&self, sequence: u64, bytes: u32, hookline_id: &str, error: &str) -> Result<(), Failure> {
        self.queue
            .dead_letter(sequence, bytes.into(), error)
            .map_err(|error| Failure::Retry(format!("cannot store a dead letter: {error}")))?;
        tracing::error!(action = self.name, sequence, hookline_id, error, "record was rejected; it is in the dead-letter queue");
        Ok(())
    }

    fn is_well(&mut self) {
        let was = self.state.send_replace(ActionState::Connected);
        if was != ActionState::Connected {
            tracing::info!(action = self.name, attempts = self.backoff.attempts(), "connected");
        }
        self.backoff.reset();
    }

    /// Says what failed, and waits before the next attempt.
    async fn pause(&mut self, failure: &Failure) {
        let pause = self.backoff.next();
        let attempts = self.backoff.attempts();
        let state = ActionState::Disconnected { error: failure.to_string(), attempts };
        // The first failure, and then ever more rarely.
        if attempts.is_power_of_two() {
            let pending = self.queue.ledger().pending;
            tracing::warn!(action = self.name, error = %failure, attempts, pending, "not delivered; will try again");
        }
        self.state.send_replace(state);
        let mut stop = self.stop.clone();
        tokio::select! {
            () = sleep(pause) => {}
            _ = stop.changed() => {}
        }
    }
}

/// A call with its deadline. What takes too long leaves the connection in doubt.
async fn limited(secs: u64, call: BoxFuture<'_, Result<(), Failure>>) -> Result<(), Failure> {
    match timeout(Duration::from_secs(secs), call).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Reconnect(format!("no answer within {secs} s"))),
    }
}
