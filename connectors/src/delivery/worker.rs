//! The loop of one worker: take what the dispatcher hands out, deliver, settle; and what to do when that fails.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use hookline_schemas::Record;
use hookline_schemas::config::Delivery as Settings;
use hookline_schemas::ports::{BoxFuture, QueueReader, Settled, SettledAs};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;
use super::dispatcher::Handed;
use super::report::Report;
use super::{ActionState, Command, Special, bury};
use crate::connector::{Failure, Sink};

/// How often an idle sink is asked whether it is well.
const CHECK_INTERVAL: Duration = Duration::from_secs(15);
/// How long the end waits for a batch that is under way, and for the sink to close.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct Worker {
    /// Its place among the workers of its action.
    pub(super) place: usize,
    pub(super) queue: Arc<dyn QueueReader>,
    pub(super) sink: Box<dyn Sink>,
    pub(super) settings: Settings,
    pub(super) special: Arc<Special>,
    pub(super) report: Arc<Report>,
    /// What it is to deliver. It is bounded by what the dispatcher has given out and not got back.
    pub(super) work: UnboundedReceiver<Handed>,
    pub(super) command: watch::Receiver<Command>,
    pub(super) connected: bool,
    pub(super) backoff: Backoff,
}

impl Worker {
    pub(super) async fn run(mut self) {
        let mut command = self.command.clone();
        let stopped = async move {
            // An error means that the handle is gone, which is a stop, too.
            drop(command.wait_for(|command| *command == Command::Stop).await);
            sleep(STOP_TIMEOUT).await;
        };
        tokio::select! {
            () = stopped => tracing::warn!(action = self.report.name(), "the sink did not answer in time; what was under way will be delivered again"),
            () = self.serve() => {}
        }
        if timeout(STOP_TIMEOUT, self.sink.close()).await.is_err() {
            tracing::warn!(action = self.report.name(), "the sink did not close in time");
        }
    }

    fn is_stopping(&self) -> bool {
        *self.command.borrow() == Command::Stop
    }

    /// Waits while the action is paused.
    async fn while_paused(&mut self) {
        // An error means that the handle is gone, which is a stop.
        drop(self.command.wait_for(|command| *command != Command::Pause).await);
    }

    async fn serve(&mut self) {
        // Bounded by what the dispatcher gives out before it gets something back.
        let mut waiting = VecDeque::new();
        loop {
            self.while_paused().await;
            if self.is_stopping() && (waiting.is_empty() || !self.sink.has_begun()) {
                return;
            }
            if !self.connected {
                self.connect().await;
                continue;
            }
            if waiting.is_empty() {
                tokio::select! {
                    handed = self.work.recv() => match handed {
                        Some(handed) => waiting.push_back(handed),
                        // The dispatcher has ended.
                        None => return,
                    },
                    _ = self.command.changed() => continue,
                    () = sleep(CHECK_INTERVAL) => {
                        self.check().await;
                        continue;
                    }
                }
            }
            // At the end what it has begun with is finished, and nothing new begun: it would come again at the next start.
            let ends = self.is_stopping();
            while let Some(handed) = self.work.try_recv().ok().filter(|_| !ends) {
                waiting.push_back(handed);
            }
            let Some(batch) = self.gather(&mut waiting) else { continue };
            if !ends {
                self.sink.announce(&batch.records);
                waiting.iter().for_each(|handed| self.sink.announce(&handed.records));
            }
            if !self.settle(&batch.records).await {
                return;
            }
        }
    }

    /// Joins what waits to one batch, as far as it fits.
    fn gather(&self, waiting: &mut VecDeque<Handed>) -> Option<Handed> {
        let records_max = self.settings.batch_records_max.min(self.sink.records_max()).max(1);
        let bytes = |handed: &Handed| handed.records.iter().map(|record| record.bytes as usize).sum::<usize>();
        let mut batch = waiting.pop_front()?;
        let mut batch_bytes = bytes(&batch);
        while let Some(next) = waiting.pop_front() {
            let next_bytes = bytes(&next);
            if batch.records.len() + next.records.len() > records_max || batch_bytes + next_bytes > self.settings.batch_bytes_max {
                waiting.push_front(next);
                break;
            }
            batch_bytes += next_bytes;
            batch.join(next);
        }
        Some(batch)
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

    /// Delivers records until every one is confirmed or a dead letter. `false`: the worker stops.
    async fn settle(&mut self, batch: &[Record]) -> bool {
        // Parts that are still to go, the next one last: a part that is rejected is split in halves.
        // With each, how often it was tried.
        let mut parts: Vec<(&[Record], u32)> = batch.chunks(self.sink.records_max().max(1)).rev().map(|part| (part, 0)).collect();
        let began_ns = now_ns();
        while let Some((part, attempts)) = parts.last_mut() {
            let part = *part;
            self.while_paused().await;
            if self.is_stopping() && !self.sink.has_begun() {
                return false;
            }
            if !self.connected {
                self.connect().await;
                continue;
            }
            *attempts += 1;
            let attempts = *attempts;
            let began = Instant::now();
            let delivered = limited(self.settings.attempt_timeout_secs, self.sink.deliver(part)).await;
            self.report.attempted(part.len(), began.elapsed(), delivered.is_ok());
            match delivered {
                Ok(()) => {
                    parts.pop();
                    self.queue.delivered(part);
                    self.trace(part, Settled { began_ns, batch: part.len(), attempts, outcome: SettledAs::Delivered });
                    self.is_well();
                }
                Err(Failure::Reject(error)) => match part {
                    [record] => match self.put_away(record, &error) {
                        Ok(()) => {
                            let outcome = self.special.put_away_as(&error);
                            self.trace(part, Settled { began_ns, batch: 1, attempts, outcome });
                            parts.pop();
                        }
                        Err(failure) => self.pause(&failure).await,
                    },
                    _ => {
                        parts.pop();
                        let (first, second) = part.split_at(part.len() / 2);
                        parts.extend([(second, attempts), (first, attempts)]);
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

    /// Puts a record that the sink refuses for good away: to the actions that take it then, else to the dead letters.
    fn put_away(&self, record: &Record, error: &str) -> Result<(), Failure> {
        if self.special.fallback.is_empty() {
            return bury(&*self.queue, self.report.name(), record.sequence, record.bytes, &record.hookline_id, error);
        }
        self.queue
            .hand_over(record, &self.special.fallback)
            .map_err(|error| Failure::Retry(format!("cannot hand a record over: {error}")))?;
        let hookline_id = &record.hookline_id;
        tracing::warn!(action = self.report.name(), hookline_id, error, "record was rejected; the fallback actions have it");
        Ok(())
    }

    /// Tells of the traced ones of these records.
    fn trace(&self, records: &[Record], settled: Settled<'_>) {
        let Some(tracer) = &self.special.tracer else { return };
        for record in records {
            if let Some(context) = record.trace.as_ref().filter(|context| context.parent.is_some()) {
                tracer.settled(record, context, &settled);
            }
        }
    }

    fn is_well(&mut self) {
        self.report.tell(self.place, ActionState::Connected);
        self.backoff.reset();
    }

    /// Says what failed, and waits before the next attempt.
    async fn pause(&mut self, failure: &Failure) {
        let pause = self.backoff.next();
        let attempts = self.backoff.attempts();
        // The first failure, and then ever more rarely.
        if attempts.is_power_of_two() {
            let pending = self.queue.ledger().pending;
            tracing::warn!(
                action = self.report.name(),
                worker = self.place,
                error = %failure,
                attempts,
                pending,
                "not delivered; will try again"
            );
        }
        let error = failure.to_string();
        let state = if self.connected { ActionState::Retrying { error, attempts } } else { ActionState::Disconnected { error, attempts } };
        self.report.tell(self.place, state);
        let mut command = self.command.clone();
        tokio::select! {
            () = sleep(pause) => {}
            _ = command.wait_for(|command| *command == Command::Stop) => {}
        }
    }
}

/// Nanoseconds since the Unix epoch.
fn now_ns() -> u64 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
}

/// A call with its deadline. What takes too long leaves the connection in doubt.
async fn limited(secs: u64, call: BoxFuture<'_, Result<(), Failure>>) -> Result<(), Failure> {
    match timeout(Duration::from_secs(secs), call).await {
        Ok(result) => result,
        Err(_) => Err(Failure::Reconnect(format!("no answer within {secs} s"))),
    }
}
