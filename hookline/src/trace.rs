//! Traces: everything that happens to a client, on a topic or from an address, written to a file for a while.
//!
//! A hook copies events into a bounded channel; a thread writes them. What comes too fast is dropped and counted: no client waits for it. Where no trace
//! runs, the hook wants to hear of nothing, and costs nothing.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::net::IpAddr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::Duration;

use arc_swap::ArcSwap;
use hookline_core::Hooks;
use hookline_mqtt::topic;
use hookline_schemas::ports::{Hook, Outcome};
use hookline_schemas::{Event, HookPoint, HookSet};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::backtest::{now_ms, time};

/// Where the files are, in the data folder.
const FOLDER: &str = "traces";
/// Traces at a time, those that have ended included.
pub(crate) const TRACES_MAX: usize = 30;
/// Bytes of a trace; then it ends.
const FILE_MAX: u64 = 64 << 20;
/// Lines, and bytes of them, that may wait for the thread.
const WAITING_MAX: usize = 8192;
const WAITING_BYTES_MAX: usize = 4 << 20;
/// Lines that are written between two looks at the clock.
const BATCH: usize = 1024;
/// How often it is looked which traces begin and end.
const INTERVAL: Duration = Duration::from_millis(200);
/// What a trace is told of: the whole line, but for what others decide on the way.
const POINTS: [HookPoint; 20] = [
    HookPoint::ClientConnect,
    HookPoint::ClientConnack,
    HookPoint::ClientConnected,
    HookPoint::ClientDisconnected,
    HookPoint::ClientLogin,
    HookPoint::ClientPing,
    HookPoint::SessionCreated,
    HookPoint::SessionResumed,
    HookPoint::SessionSubscribed,
    HookPoint::SessionUnsubscribed,
    HookPoint::SessionTakenOver,
    HookPoint::SessionDiscarded,
    HookPoint::SessionTerminated,
    HookPoint::MessagePublish,
    HookPoint::MessageDelivered,
    HookPoint::MessageAcked,
    HookPoint::MessageDropped,
    HookPoint::DeliveryDropped,
    HookPoint::SchemaValidationFailed,
    HookPoint::MessageTransformationFailed,
];

/// Whom or what a trace is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Target {
    ClientId(String),
    /// A filter, perhaps with wildcards.
    Topic(String),
    Address(IpAddr),
}

/// How payloads are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum PayloadEncode {
    /// As they are.
    #[default]
    Text,
    /// In hexadecimal digits.
    Hex,
    /// Not at all.
    Hidden,
}

/// Where a trace stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// Its time has not come.
    Waiting,
    Running,
    /// Its time is over, its file is full, or somebody has ended it.
    Stopped,
}

/// A trace.
#[derive(Debug)]
pub(crate) struct Trace {
    pub(crate) name: String,
    pub(crate) target: Target,
    pub(crate) encode: PayloadEncode,
    /// Milliseconds since the Unix epoch.
    pub(crate) start_ms: u64,
    pub(crate) end_ms: u64,
    file: PathBuf,
    stopped: AtomicBool,
    bytes: AtomicU64,
    dropped: AtomicU64,
}

/// Why a trace was not made.
#[derive(Debug)]
pub(crate) enum TraceError {
    Exists,
    Full,
    File(io::Error),
}

/// All traces.
#[derive(Debug)]
pub(crate) struct Traces {
    folder: PathBuf,
    shared: Arc<Shared>,
    hooks: Hooks,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What hook, thread and API share.
#[derive(Debug, Default)]
struct Shared {
    list: Mutex<BTreeMap<String, Arc<Trace>>>,
    /// Those that run.
    active: ArcSwap<Vec<Arc<Trace>>>,
    waiting_bytes: AtomicUsize,
    stopping: AtomicBool,
}

/// The part that is told of events.
#[derive(Debug)]
pub(crate) struct TraceHook {
    shared: Arc<Shared>,
    sender: SyncSender<Line>,
}

/// A hook whose traces have nobody yet to write them.
#[derive(Debug)]
pub(crate) struct TraceSource {
    hook: Arc<TraceHook>,
    receiver: Receiver<Line>,
}

#[derive(Debug)]
struct Line {
    trace: Arc<Trace>,
    text: String,
}

impl TraceSource {
    pub(crate) fn new() -> TraceSource {
        let (sender, receiver) = sync_channel(WAITING_MAX);
        TraceSource { hook: Arc::new(TraceHook { shared: Arc::default(), sender }), receiver }
    }

    /// The hook, to be registered with the broker's.
    pub(crate) fn hook(&self) -> Arc<dyn Hook> {
        Arc::<TraceHook>::clone(&self.hook)
    }

    /// Begins to work. Files of an earlier start are removed.
    ///
    /// # Errors
    /// The folder cannot be made, or the thread cannot be started.
    pub(crate) fn start(self, data_dir: &Path, hooks: Hooks) -> io::Result<Traces> {
        let folder = data_dir.join(FOLDER);
        match fs::remove_dir_all(&folder) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::DirBuilder::new().mode(0o700).create(&folder)?,
        }
        let TraceSource { hook, receiver } = self;
        let (shared, told) = (Arc::clone(&hook.shared), hooks.clone());
        let writing = Arc::clone(&shared);
        let thread = std::thread::Builder::new().name("traces".into()).spawn(move || write(&writing, &receiver, &told))?;
        Ok(Traces { folder, shared, hooks, thread: Mutex::new(Some(thread)) })
    }
}

impl Traces {
    /// Makes one.
    ///
    /// # Errors
    /// There is one of that name, there are too many, or it has no file.
    pub(crate) fn add(
        &self,
        name: &str,
        target: Target,
        encode: PayloadEncode,
        (start_ms, end_ms): (u64, u64),
    ) -> Result<Arc<Trace>, TraceError> {
        let mut list = self.shared.list.lock();
        if list.contains_key(name) {
            return Err(TraceError::Exists);
        }
        if list.len() >= TRACES_MAX {
            return Err(TraceError::Full);
        }
        let file = self.folder.join(format!("{name}.log"));
        File::options().write(true).create(true).truncate(true).mode(0o600).open(&file).map_err(TraceError::File)?;
        let (stopped, bytes, dropped) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
        let trace = Arc::new(Trace { name: name.to_owned(), target, encode, start_ms, end_ms, file, stopped, bytes, dropped });
        list.insert(name.to_owned(), Arc::clone(&trace));
        drop(list);
        self.shared.settle(&self.hooks);
        Ok(trace)
    }

    /// All, by name.
    pub(crate) fn all(&self) -> Vec<Arc<Trace>> {
        self.shared.list.lock().values().cloned().collect()
    }

    /// One.
    pub(crate) fn get(&self, name: &str) -> Option<Arc<Trace>> {
        self.shared.list.lock().get(name).cloned()
    }

    /// Ends one; its file stays.
    pub(crate) fn stop_one(&self, trace: &Trace) {
        trace.stopped.store(true, Ordering::Relaxed);
        self.shared.settle(&self.hooks);
    }

    /// Takes one away with its file. `false`: there is none.
    ///
    /// # Errors
    /// The file cannot be removed; the trace has ended all the same.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        let Some(trace) = self.shared.list.lock().remove(name) else { return Ok(false) };
        self.stop_one(&trace);
        fs::remove_file(&trace.file).map(|()| true)
    }

    /// Writes what waits, and ends.
    pub(crate) fn stop(&self) {
        self.shared.stopping.store(true, Ordering::Release);
        if let Some(thread) = self.thread.lock().take()
            && thread.join().is_err()
        {
            tracing::error!("the traces panicked");
        }
    }
}

impl Trace {
    pub(crate) fn status(&self) -> Status {
        let now_ms = now_ms();
        if self.stopped.load(Ordering::Relaxed) || now_ms >= self.end_ms {
            Status::Stopped
        } else if now_ms < self.start_ms {
            Status::Waiting
        } else {
            Status::Running
        }
    }

    /// Bytes of its file.
    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Events that came too fast.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// A part of its file.
    ///
    /// # Errors
    /// It cannot be read.
    pub(crate) fn read(&self, position: u64, bytes: u64) -> io::Result<Vec<u8>> {
        let mut file = File::open(&self.file)?;
        file.seek(SeekFrom::Start(position.min(FILE_MAX * 2)))?;
        let mut part = Vec::new();
        file.take(bytes).read_to_end(&mut part)?;
        Ok(part)
    }

    fn selects(&self, event: &Event<'_>) -> bool {
        match &self.target {
            Target::ClientId(id) => {
                *event.client.client_id == **id || event.message().is_some_and(|message| *message.from.client_id == **id)
            }
            Target::Topic(filter) => match event.message() {
                Some(message) => topic::matches(filter, &message.topic),
                None => event.column("topic").is_some_and(|other| other.as_text().is_some_and(|other| topic::overlaps(filter, other))),
            },
            Target::Address(address) => event.client.peer.ip().to_canonical() == *address,
        }
    }

    fn describe(&self, event: &Event<'_>) -> String {
        let mut row = event.to_row().to_json();
        if let Some(row) = row.as_object_mut() {
            match (self.encode, event.message()) {
                (PayloadEncode::Hex, Some(message)) if row.contains_key("payload") => {
                    let digits: String = message.payload.iter().map(|byte| format!("{byte:02x}")).collect();
                    row.insert("payload".into(), Value::String(digits));
                }
                (PayloadEncode::Hidden, _) => drop(row.shift_remove("payload")),
                _ => {}
            }
            row.shift_insert(0, "time".into(), time(event.timestamp_ms).into());
        }
        format!("{row}\n")
    }
}

impl Shared {
    /// Looks which traces run now.
    fn settle(&self, hooks: &Hooks) {
        let list = self.list.lock();
        let running: Vec<Arc<Trace>> = list.values().filter(|trace| trace.status() == Status::Running).cloned().collect();
        let before = self.active.load();
        let is_same = before.len() == running.len() && before.iter().zip(&running).all(|(a, b)| Arc::ptr_eq(a, b));
        if !is_same {
            self.active.store(Arc::new(running));
            hooks.refresh();
        }
    }
}

impl Hook for TraceHook {
    fn points(&self) -> HookSet {
        if self.shared.active.load().is_empty() { HookSet::EMPTY } else { POINTS.into_iter().collect() }
    }

    fn on(&self, event: &Event<'_>, _outcome: &mut Outcome) {
        for trace in self.shared.active.load().iter().filter(|trace| trace.selects(event)) {
            let waiting_bytes = &self.shared.waiting_bytes;
            // Before the work, not after it: what comes too fast must cost next to nothing.
            let payload = event.message().map_or(0, |message| message.payload.len());
            if waiting_bytes.load(Ordering::Relaxed).saturating_add(payload) >= WAITING_BYTES_MAX {
                trace.dropped.fetch_add(1, Ordering::Relaxed);
                continue;
            }
            let text = trace.describe(event);
            let bytes = text.len();
            waiting_bytes.fetch_add(bytes, Ordering::Relaxed);
            if self.sender.try_send(Line { trace: Arc::clone(trace), text }).is_err() {
                waiting_bytes.fetch_sub(bytes, Ordering::Relaxed);
                trace.dropped.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
}

/// The thread that writes.
fn write(shared: &Shared, receiver: &Receiver<Line>, hooks: &Hooks) {
    loop {
        // Asked first, so that what came before the word is written.
        let is_last = shared.stopping.load(Ordering::Acquire);
        let first = if is_last {
            receiver.try_recv().ok()
        } else {
            match receiver.recv_timeout(INTERVAL) {
                Ok(line) => Some(line),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            }
        };
        if is_last && first.is_none() {
            return;
        }
        let mut files = HashMap::new();
        for line in first.into_iter().chain(receiver.try_iter()).take(BATCH) {
            shared.waiting_bytes.fetch_sub(line.text.len(), Ordering::Relaxed);
            append(&mut files, &line);
        }
        for (name, mut file) in files {
            if let Err(error) = file.flush() {
                tracing::warn!(trace = name, %error, "a part of a trace cannot be written");
            }
        }
        shared.settle(hooks);
    }
}

/// Writes a line. A trace that has no file any more was removed meanwhile.
fn append(files: &mut HashMap<String, BufWriter<File>>, line: &Line) {
    let Line { trace, text } = line;
    let is_full = trace.bytes().saturating_add(text.len() as u64) > FILE_MAX;
    if is_full {
        trace.stopped.store(true, Ordering::Relaxed);
        trace.dropped.fetch_add(1, Ordering::Relaxed);
        return;
    }
    if !files.contains_key(&trace.name) {
        let Ok(file) = File::options().append(true).open(&trace.file) else { return };
        files.insert(trace.name.clone(), BufWriter::new(file));
    }
    let written = files.get_mut(&trace.name).map(|file| file.write_all(text.as_bytes()));
    if let Some(Ok(())) = written {
        trace.bytes.fetch_add(text.len() as u64, Ordering::Relaxed);
    } else {
        // The file is not whole any more.
        trace.stopped.store(true, Ordering::Relaxed);
        trace.dropped.fetch_add(1, Ordering::Relaxed);
    }
}
