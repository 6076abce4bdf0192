//! Sends what waits, batch by batch, as long as it takes within its bounds; and tells the log once when that fails.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use super::target::Trouble;
use super::{Account, Reason, Shared};

/// What one request has at the most.
const BATCH_MAX: usize = 512;
/// How long the first of a batch waits for others.
const INTERVAL: Duration = Duration::from_secs(1);
/// How long it is tried to send a batch.
const TRY_FOR: Duration = Duration::from_secs(30);
/// The pause between two attempts: it doubles up to the second one.
const PAUSES: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(4));

/// Makes a message of protobuf for the collector.
pub(super) type Request<T> = fn(Resource, Vec<T>) -> Vec<u8>;

/// What sends one kind of signal.
pub(super) struct Exporter {
    path: &'static str,
    pub(super) shared: Arc<Shared>,
    /// Set at the end: until when it may still send.
    pub(super) stop: watch::Receiver<Option<Instant>>,
    /// The last request has failed, and the log says so.
    is_away: bool,
}

/// Sends what comes, until the end.
pub(super) async fn run<T>(mut exporter: Exporter, mut waiting: mpsc::Receiver<T>, request: Request<T>, account: fn(&Shared) -> &Account) {
    let shared = Arc::clone(&exporter.shared);
    let mut batch = Vec::with_capacity(BATCH_MAX);
    loop {
        tokio::select! {
            _ = waiting.recv_many(&mut batch, BATCH_MAX) => {}
            () = exporter.stopped() => break,
        }
        let full = Instant::now() + INTERVAL;
        while batch.len() < BATCH_MAX {
            let room = BATCH_MAX - batch.len();
            tokio::select! {
                more = timeout_at(full, waiting.recv_many(&mut batch, room)) => if more.is_err() { break },
                () = exporter.stopped() => break,
            }
        }
        exporter.send_batch(std::mem::take(&mut batch), request, account(&shared)).await;
    }
    while let Ok(first) = waiting.try_recv() {
        batch.push(first);
        while let Some(next) = waiting.try_recv().ok().filter(|_| batch.len() < BATCH_MAX) {
            batch.push(next);
        }
        exporter.send_batch(std::mem::take(&mut batch), request, account(&shared)).await;
    }
}

impl Exporter {
    pub(super) fn new(path: &'static str, shared: Arc<Shared>, stop: watch::Receiver<Option<Instant>>) -> Exporter {
        Exporter { path, shared, stop, is_away: false }
    }

    /// Completes when it is to end.
    pub(super) async fn stopped(&self) {
        // An error means that the handle is gone, which is a stop, too.
        drop(self.stop.clone().wait_for(Option::is_some).await);
    }

    /// Completes when nothing may be sent any more.
    async fn ended(&self) {
        self.stopped().await;
        let end = *self.stop.borrow();
        sleep_until(end.unwrap_or_else(Instant::now)).await;
    }

    async fn send_batch<T>(&mut self, batch: Vec<T>, request: Request<T>, account: &Account) {
        let Some(resource) = self.shared.target.load().as_ref().map(|target| target.resource.clone()) else {
            return account.drop(Reason::Stopped, batch.len());
        };
        let count = batch.len();
        self.send(&request(resource, batch), count, account).await;
    }

    /// Sends a message that holds so many, and keeps the account.
    pub(super) async fn send(&mut self, message: &[u8], count: usize, account: &Account) {
        let give_up = Instant::now() + TRY_FOR;
        let mut pause = PAUSES.0;
        loop {
            let Some(target) = self.shared.target.load_full() else { return account.drop(Reason::Stopped, count) };
            let attempt = timeout_at(give_up, target.post(self.path, message.to_vec()));
            let answered = tokio::select! {
                answered = attempt => answered.ok(),
                () = self.ended() => None,
            };
            let trouble = match answered {
                Some(Ok(answer)) => return self.sent(&answer, count, account),
                Some(Err(Trouble::Lasting(problem))) => {
                    self.tell(&problem, account);
                    return account.drop(Reason::Refused, count);
                }
                Some(Err(Trouble::Passing(problem))) => problem,
                None => "no answer in time".to_owned(),
            };
            self.tell(&trouble, account);
            // It may have come meanwhile.
            let end = *self.stop.borrow();
            if Instant::now() + pause >= end.map_or(give_up, |end| end.min(give_up)) {
                return account.drop(if end.is_some() { Reason::Stopped } else { Reason::Unreachable }, count);
            }
            tokio::select! {
                () = sleep(pause) => {}
                // At the end once more, at once.
                () = self.stopped(), if end.is_none() => {}
            }
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    fn sent(&mut self, answer: &[u8], count: usize, account: &Account) {
        let (refused, why) = refused(answer);
        let refused = refused.min(count);
        account.sent.fetch_add((count - refused) as u64, Ordering::Relaxed);
        if refused > 0 {
            self.tell(&why, account);
            return account.drop(Reason::Refused, refused);
        }
        if std::mem::take(&mut self.is_away) {
            tracing::info!(path = self.path, dropped = dropped(account), "the collector takes telemetry again");
        }
    }

    /// The first time only, until it goes well again: the log must not fill with it.
    fn tell(&mut self, problem: &str, account: &Account) {
        if !std::mem::replace(&mut self.is_away, true) {
            tracing::warn!(path = self.path, problem, dropped = dropped(account), "the collector does not take telemetry; will try again");
        }
    }
}

fn dropped(account: &Account) -> u64 {
    Reason::ALL.iter().map(|reason| account.dropped(*reason)).sum()
}

/// What of a request the collector did not want, and why. The answers for all signals have one form.
fn refused(answer: &[u8]) -> (usize, String) {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceResponse;
    use prost::Message;
    let partial = ExportTraceServiceResponse::decode(answer).ok().and_then(|answer| answer.partial_success);
    partial.map_or((0, String::new()), |partial| (usize::try_from(partial.rejected_spans).unwrap_or(0), partial.error_message))
}
