//! Reads the queue ahead, and hands its records out to the workers: those of one key always to the same.

use std::hash::{DefaultHasher, Hasher};
use std::sync::Arc;
use std::time::Duration;

use hookline_schemas::config::Delivery as Settings;
use hookline_schemas::ports::{QueueReader, Unreadable};
use hookline_schemas::{Record, Template};
use tokio::sync::mpsc::UnboundedSender;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::report::Report;
use super::{Command, Special, bury, compatible};

/// What a record counts at least, bytes: it bounds how many are handed out.
const RECORD_BYTES_MIN: usize = 64;
/// The pause after a failure of the store.
const STORE_PAUSE: Duration = Duration::from_secs(1);

/// Records of one worker, in their order, and their part of what may be handed out.
pub(super) struct Handed {
    pub(super) records: Vec<Record>,
    /// Comes back when they are settled.
    held: OwnedSemaphorePermit,
}

impl Handed {
    /// Adds what follows.
    pub(super) fn join(&mut self, next: Handed) {
        self.records.extend(next.records);
        self.held.merge(next.held);
    }
}

pub(super) struct Dispatcher {
    queue: Arc<dyn QueueReader>,
    settings: Settings,
    special: Arc<Special>,
    report: Arc<Report>,
    command: watch::Receiver<Command>,
    workers: Vec<UnboundedSender<Handed>>,
    /// What records of one order have in common; without it one worker gets all.
    order_key: Option<Template>,
    /// Bytes that may still be handed out.
    room: Arc<Semaphore>,
    room_max: usize,
    /// The first record that was not handed out.
    next: u64,
    rate: Rate,
}

impl Dispatcher {
    pub(super) fn new(
        queue: Arc<dyn QueueReader>,
        settings: Settings,
        special: Arc<Special>,
        report: Arc<Report>,
        command: watch::Receiver<Command>,
        workers: Vec<UnboundedSender<Handed>>,
    ) -> Dispatcher {
        // Each worker has a batch under way and one that waits for it.
        let room_max = (settings.batch_bytes_max.max(RECORD_BYTES_MIN) * 2 * workers.len()).min(Semaphore::MAX_PERMITS);
        let order_key = Template::parse(&settings.order_key).ok().filter(|_| workers.len() > 1);
        let (next, rate) = (queue.front(), Rate::new(settings.records_per_sec_max));
        Dispatcher {
            queue,
            settings,
            special,
            report,
            command,
            workers,
            order_key,
            room: Arc::new(Semaphore::new(room_max)),
            room_max,
            next,
            rate,
        }
    }

    pub(super) async fn run(mut self) {
        loop {
            // An error means that the handle is gone, which is a stop, too.
            let command = self.command.wait_for(|command| *command != Command::Pause).await.map_or(Command::Stop, |command| *command);
            if command == Command::Stop {
                return;
            }
            let mut changed = self.command.clone();
            let ready = async {
                self.queue.wait(self.next).await;
                self.gather().await;
            };
            // Handing out is never given up half way: a record must not be handed out twice.
            tokio::select! {
                () = ready => {}
                _ = changed.changed() => continue,
            }
            if !self.hand_out().await {
                return;
            }
        }
    }

    /// Waits for a batch to become full, as long as the settings say.
    async fn gather(&self) {
        if self.settings.batch_wait_ms > 0 {
            let last = self.next + (self.settings.batch_records_max as u64).saturating_sub(1);
            // Time is up, or the batch is full: it goes in both cases.
            drop(timeout(Duration::from_millis(self.settings.batch_wait_ms), self.queue.wait(last)).await);
        }
    }

    /// Hands the next records out. `false`: nobody takes them any more.
    async fn hand_out(&mut self) -> bool {
        let records_max = self.rate.allowed().await.min(self.settings.batch_records_max);
        let read = match self.queue.read(self.next, records_max, self.settings.batch_bytes_max) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(action = self.report.name(), %error, "cannot read the queue; will try again");
                sleep(STORE_PAUSE).await;
                return true;
            }
        };
        let mut parts: Vec<Vec<Record>> = self.workers.iter().map(|_| Vec::new()).collect();
        let mut last = None;
        for record in read {
            match record {
                Ok(mut record) => {
                    last = Some(record.sequence);
                    if let (Some(tracer), Some(trace)) = (&self.special.tracer, &mut record.trace)
                        && let Some(delivery) = tracer.begin(trace)
                    {
                        // What its sink hands on is the span of the delivery.
                        **trace = delivery;
                    }
                    if let Some(paths) = &self.special.undefined_as_text {
                        compatible::fill(&mut record.row, paths);
                    }
                    parts[self.worker_of(&record)].push(record);
                }
                Err(unreadable) => {
                    last = Some(unreadable.sequence);
                    if !self.bury(unreadable).await {
                        return false;
                    }
                }
            }
        }
        for (worker, records) in self.workers.iter().zip(parts).filter(|(_, records)| !records.is_empty()) {
            self.rate.count(records.len());
            let bytes: usize = records.iter().map(|record| (record.bytes as usize).max(RECORD_BYTES_MIN)).sum();
            let bytes = u32::try_from(bytes.min(self.room_max)).unwrap_or(u32::MAX);
            // The semaphore is never closed.
            let Ok(held) = Arc::clone(&self.room).acquire_many_owned(bytes).await else { return false };
            if worker.send(Handed { records, held }).is_err() {
                return false;
            }
        }
        if let Some(last) = last {
            self.next = last + 1;
        }
        true
    }

    fn worker_of(&self, record: &Record) -> usize {
        let Some(order_key) = &self.order_key else { return 0 };
        let mut hasher = DefaultHasher::new();
        hasher.write(&order_key.render(&record.row));
        (hasher.finish() % self.workers.len() as u64) as usize
    }

    /// Puts a record away that nobody can read. `false`: the end has come before.
    async fn bury(&self, Unreadable { sequence, bytes, problem }: Unreadable) -> bool {
        let mut command = self.command.clone();
        while let Err(failure) = bury(&*self.queue, self.report.name(), sequence, bytes, "", &problem) {
            tracing::warn!(action = self.report.name(), error = %failure, "cannot put a damaged record away; will try again");
            // An error means that the handle is gone, which is a stop, too.
            if timeout(STORE_PAUSE, command.wait_for(|command| *command == Command::Stop)).await.is_ok() {
                return false;
            }
        }
        true
    }
}

/// The bound on records in a second: what was saved up for one second may go at once.
struct Rate {
    per_sec: u64,
    left: f64,
    at: Instant,
}

impl Rate {
    /// 0: there is none.
    fn new(per_sec: u64) -> Rate {
        Rate { per_sec, left: per_sec as f64, at: Instant::now() }
    }

    /// How many may go now; waits until it is one.
    async fn allowed(&mut self) -> usize {
        if self.per_sec == 0 {
            return usize::MAX;
        }
        loop {
            let now = Instant::now();
            let earned = now.duration_since(self.at).as_secs_f64() * self.per_sec as f64;
            (self.left, self.at) = ((self.left + earned).min(self.per_sec as f64), now);
            if self.left >= 1.0 {
                return self.left as usize;
            }
            sleep_until(now + Duration::from_secs_f64((1.0 - self.left) / self.per_sec as f64)).await;
        }
    }

    fn count(&mut self, records: usize) {
        if self.per_sec > 0 {
            self.left -= records as f64;
        }
    }
}
