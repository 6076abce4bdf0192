//! Records messages and events, so that statements can be tried on what has happened.
//!
//! In: events, as a hook. Out: batches of rows in the store, written by a thread beside the publish path. What is too much for it
//! is dropped and counted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use hookline_mqtt::topic;
use hookline_schemas::config::Recorder as Settings;
use hookline_schemas::ports::{Hook, Outcome};
use hookline_schemas::record::encode_row;
use hookline_schemas::{Event, HookPoint, HookSet};
use parking_lot::Mutex;

use crate::clock;
use crate::store::{Sample, SampleBounds, Store};

/// A recorder at work.
#[derive(Debug)]
pub struct Recorder {
    hook: Arc<RecorderHook>,
    thread: Option<JoinHandle<()>>,
}

/// The part of it that is told of events.
#[derive(Debug)]
struct RecorderHook {
    filters: Vec<String>,
    points: HookSet,
    one_in: u64,
    sender: SyncSender<Sample>,
    shared: Arc<Shared>,
}

/// What hook and thread share.
#[derive(Debug, Default)]
struct Shared {
    /// Events that were selected.
    seen: AtomicU64,
    recorded: AtomicU64,
    dropped: AtomicU64,
    /// What waits for the thread, bytes.
    waiting_bytes: AtomicUsize,
    stopping: AtomicBool,
    /// Why the last batch was not written.
    problem: Mutex<Option<String>>,
}

/// What a recorder has done so far: `seen = recorded + dropped + passed over`, but for what waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RecorderStats {
    /// Events that were selected, also those that `one_in` passes over.
    pub seen: u64,
    /// Events that are in the store, or were once.
    pub recorded: u64,
    /// Events that came too fast, or that the store did not take.
    pub dropped: u64,
}

/// How often what waits is written. With the two bounds it says how much the store is burdened at most: 40 MB a second.
const INTERVAL: Duration = Duration::from_millis(100);
/// Records that may wait.
const WAITING_MAX: usize = 8192;
/// Bytes that may wait, and so the largest record.
const WAITING_BYTES_MAX: usize = 4 << 20;
/// What one write to the store has at most, but for one record: others wait for it.
const BATCH_BYTES: usize = 256 << 10;
/// How often it is looked whether something is too old.
const TRIM_INTERVAL: Duration = Duration::from_secs(1);

impl Recorder {
    /// Starts a recorder; `None`: nothing is to be recorded.
    ///
    /// # Errors
    /// The thread cannot be started. What is wrong with the settings, `hookline check` tells.
    pub fn start(settings: &Settings, store: &Arc<Store>) -> std::io::Result<Option<Recorder>> {
        let mut points: HookSet = settings.events.iter().flat_map(|event| HookPoint::select(event)).collect();
        if !settings.topics.is_empty() {
            points = points.with(HookPoint::MessagePublish);
        }
        if points == HookSet::EMPTY {
            return Ok(None);
        }
        let (sender, receiver) = sync_channel(WAITING_MAX);
        let shared = Arc::<Shared>::default();
        let bounds = SampleBounds {
            records_max: settings.records_max,
            bytes_max: settings.bytes_max,
            keep_ms: settings.keep_secs.saturating_mul(1000),
        };
        let writer = Writer { store: Arc::clone(store), receiver, shared: Arc::clone(&shared), bounds, told_dropped: 0 };
        let thread = std::thread::Builder::new().name("recorder".into()).spawn(move || writer.run())?;
        let hook = RecorderHook { filters: settings.topics.clone(), points, one_in: settings.one_in.max(1), sender, shared };
        Ok(Some(Recorder { hook: Arc::new(hook), thread: Some(thread) }))
    }

    /// The hook, to be registered with the broker's.
    pub fn hook(&self) -> Arc<dyn Hook> {
        Arc::<RecorderHook>::clone(&self.hook)
    }

    /// What it has done so far.
    pub fn stats(&self) -> RecorderStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let shared = &self.hook.shared;
        RecorderStats { seen: load(&shared.seen), recorded: load(&shared.recorded), dropped: load(&shared.dropped) }
    }

    /// Writes what waits, and ends. Events that come later are dropped.
    pub fn stop(mut self) -> RecorderStats {
        self.hook.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            if thread.join().is_err() {
                tracing::error!("the recorder panicked");
            }
        }
        self.stats()
    }
}

/// What is wrong with the settings, each with its path.
pub(crate) fn check(settings: &Settings) -> Vec<String> {
    let mut errors = Vec::new();
    for filter in settings.topics.iter().filter(|filter| !topic::filter_is_valid(filter, usize::MAX)) {
        errors.push(format!("recorder.topics: \"{filter}\" is no topic filter"));
    }
    for event in settings.events.iter().filter(|event| HookPoint::select(event).is_empty()) {
        errors.push(format!("recorder.events: there is no event \"{event}\"; \"hookline rule events\" lists them"));
    }
    let numbers = [
        ("one_in", settings.one_in),
        ("records_max", settings.records_max),
        ("bytes_max", settings.bytes_max),
        ("keep_secs", settings.keep_secs),
    ];
    errors.extend(numbers.iter().filter(|(_, number)| *number == 0).map(|(key, _)| format!("recorder.{key}: must be 1 or more")));
    errors
}

impl RecorderHook {
    fn selects(&self, event: &Event<'_>) -> bool {
        match (event.point, event.message()) {
            (HookPoint::MessagePublish, Some(message)) => self.filters.iter().any(|filter| topic::matches(filter, &message.topic)),
            _ => true,
        }
    }

    /// Hands the columns of an event to the thread; `false`: there is no room.
    fn record(&self, event: &Event<'_>) -> bool {
        let waiting_bytes = &self.shared.waiting_bytes;
        let payload = event.message().map_or(0, |message| message.payload.len());
        // Before the work, not after it: what comes too fast must cost next to nothing.
        if waiting_bytes.load(Ordering::Relaxed).saturating_add(payload) >= WAITING_BYTES_MAX {
            return false;
        }
        let mut row = Vec::with_capacity(512 + payload);
        encode_row(&mut row, &event.to_row());
        let bytes = row.len();
        waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
        let is_sent = self.sender.try_send(Sample { at_ms: event.timestamp_ms, row }).is_ok();
        if !is_sent {
            waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_sent
    }
}

impl Hook for RecorderHook {
    fn points(&self) -> HookSet {
        self.points
    }

    fn on(&self, event: &Event<'_>, _outcome: &mut Outcome) {
        if !self.selects(event) {
            return;
        }
        let number = self.shared.seen.fetch_add(1, Ordering::Relaxed);
        if number.is_multiple_of(self.one_in) && !self.record(event) {
            self.shared.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// The thread that writes.
struct Writer {
    store: Arc<Store>,
    receiver: Receiver<Sample>,
    shared: Arc<Shared>,
    bounds: SampleBounds,
    /// How many dropped events the log has told of.
    told_dropped: u64,
}

impl Writer {
    fn run(mut self) {
        let mut trimmed: Option<Instant> = None;
        loop {
            // Asked first, so that what came before the word is written.
            let is_last = self.shared.stopping.load(Ordering::Acquire);
            let is_beyond = self.write_waiting();
            if is_beyond || is_last || trimmed.is_none_or(|at| at.elapsed() >= TRIM_INTERVAL) {
                trimmed = Some(Instant::now());
                self.trim();
            }
            self.tell_of_dropped();
            if is_last {
                return;
            }
            std::thread::park_timeout(INTERVAL);
        }
    }

    /// Writes what waits, in batches, and no more than may wait at a time; whether there is more in the store than is to be kept.
    fn write_waiting(&self) -> bool {
        let (mut taken, mut is_beyond) = (0, false);
        while taken < WAITING_BYTES_MAX {
            let (mut batch, mut bytes) = (Vec::new(), 0);
            while bytes < BATCH_BYTES {
                let Ok(sample) = self.receiver.try_recv() else { break };
                bytes += sample.row.len();
                batch.push(sample);
            }
            if batch.is_empty() {
                break;
            }
            taken += bytes;
            is_beyond |= self.write(&batch);
            self.shared.waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
        }
        is_beyond
    }

    fn write(&self, batch: &[Sample]) -> bool {
        let (counter, is_beyond) = match self.store.record_sample(batch) {
            Ok(totals) => (&self.shared.recorded, totals.is_beyond(self.bounds)),
            Err(error) => {
                *self.shared.problem.lock() = Some(error.to_string());
                (&self.shared.dropped, false)
            }
        };
        counter.fetch_add(batch.len() as u64, Ordering::Relaxed);
        is_beyond
    }

    fn trim(&self) {
        if let Err(error) = self.store.trim_samples(self.bounds, clock::now_ms()) {
            *self.shared.problem.lock() = Some(error.to_string());
        }
    }

    /// The first time, and then each time that they are twice as many: the log must not fill with it.
    fn tell_of_dropped(&mut self) {
        let dropped = self.shared.dropped.load(Ordering::Relaxed);
        if dropped > 0 && dropped >= self.told_dropped.saturating_mul(2) {
            self.told_dropped = dropped;
            let problem = self.shared.problem.lock().take();
            let problem = problem.as_deref().unwrap_or("they came too fast; record fewer topics, or one of so many with recorder.one_in");
            tracing::warn!(dropped, problem, "events were not recorded");
        }
    }
}
