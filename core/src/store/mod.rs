//! The durable store: one RocksDB in which one write holds every consequence of one turn of a worker.
//!
//! In: a [`Batch`] of records for queues and of changes to sessions, subscriptions and retained messages.
//! Out: a [`Ticket`], and later the word that everything up to it is durable; records, to whoever reads a [`Queue`].
//!
//! Records of one commit lie together in a chunk; a queue is a list of positions in memory, rebuilt from the chunks at start.

mod audit;
mod backup;
mod batch;
mod check;
mod chunk;
mod commit;
mod cursor;
mod database;
mod dead_letter;
mod delayed;
mod directory;
mod glance;
mod index;
mod keys;
mod listing;
mod message;
mod open;
mod places;
mod queue;
mod rank;
mod ranked;
mod reader;
mod reclaim;
mod repair;
mod retained;
mod samples;
mod space;
mod state;
mod stats;
#[cfg(test)]
mod stepped;
mod synced;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;

use hookline_schemas::QueueId;
use hookline_schemas::config::DurabilityLevel;
use parking_lot::{Condvar, Mutex, RwLock};

pub use backup::{BackedUp, Backup, Restored, restore_backup};
pub use batch::{Batch, RecordHandle};
pub use check::{CheckReport, Problem, SetAside, Tell};
pub use chunk::Position;
pub(crate) use chunk::Target as QueueTarget;
pub(crate) use commit::Watched;
pub use commit::{Committed, Ticket};
pub use dead_letter::{DeadLetter, Replayed};
pub use delayed::DelayedKey;
pub use glance::{Glance, glance};
use message::decode_message;
pub(crate) use message::{encode_message, encoded_len};
pub use open::Opened;
pub use open::StoredSession;
pub use queue::{Bounds, Queue, QueueKind};
pub(crate) use queue::{Settlement, Slot};
pub(crate) use rank::Rank;
pub use reader::ActionQueue;
pub(crate) use reader::ChunkCache;
pub use repair::{Findings, set_aside_folders};
pub(crate) use retained::Page as RetainedPage;
pub use samples::{Recorded, Sample, SampleBounds, SampleKey, SamplePage, SampleTotals};
pub use stats::{Compacted, FamilyStats, QueueStats, Stats};
#[cfg(test)]
pub(crate) use stepped::SyncedLogs;

use crate::HashMap;
use batch::Change;
use commit::Writer;
use database::Database;
use reclaim::Live;
use space::Space;
use synced::Synced;

/// Why the store could not do it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum Error {
    #[error("cannot open the store in {path}: {problem}")]
    Open { path: PathBuf, problem: String },
    #[error("cannot write to the store: {0}")]
    Write(String),
    #[error("cannot read from the store: {0}")]
    Read(String),
    #[error("the store is damaged: {0}")]
    DamagedFile(String),
    #[error("there is no dead letter {0}")]
    NoLetter(u64),
    #[error("{0}")]
    Refused(String),
    #[error("{folder}: {problem}")]
    Folder { folder: PathBuf, problem: String },
    #[error("chunk {chunk} is damaged: {problem}")]
    Damaged { chunk: u64, problem: &'static str },
}

impl Error {
    /// Whether trying again is of no use.
    pub(crate) fn is_final(&self) -> bool {
        matches!(self, Error::Damaged { .. } | Error::DamagedFile(_))
    }
}

/// Somebody who waits for tickets: called from the store's thread after each sync.
pub type Waker = Arc<dyn Fn() + Send + Sync>;

/// The store. Shared by all workers.
pub struct Store {
    db: Database,
    node: String,
    level: DurabilityLevel,
    writer: Mutex<Writer>,
    queues: RwLock<HashMap<QueueId, Arc<Queue>>>,
    next_queue: AtomicU64,
    next_delayed: AtomicU64,
    delayed_count: AtomicUsize,
    retained: retained::Totals,
    /// What was recorded, once it was counted.
    samples: Mutex<Option<samples::Known>>,
    /// The number of the next entry about the API, once it is known.
    next_audit: Mutex<Option<u64>>,
    live: Mutex<Live>,
    /// Queues whose cursor in memory is ahead of the one in the database.
    dirty: Mutex<Vec<Arc<Queue>>>,
    /// Held while a dead letter is replayed or purged.
    letters: Mutex<()>,
    /// The last commit that is durable at the level in force.
    durable: AtomicU64,
    /// The last chunk that readers may see.
    visible: AtomicU64,
    wakers: RwLock<Vec<Waker>>,
    sync_wanted: Condvar,
    stopping: AtomicBool,
    thread: Mutex<Option<JoinHandle<()>>>,
    findings: Mutex<Findings>,
    space: Space,
    synced: Synced,
    /// How many syncs there were, and how long they took together, microseconds.
    syncs: (AtomicU64, AtomicU64),
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("node", &self.node).field("level", &self.level).finish_non_exhaustive()
    }
}

impl Store {
    /// The folder of the store inside the data folder.
    pub fn folder(data_dir: &Path) -> PathBuf {
        data_dir.join("store")
    }

    /// What an acknowledgement waits for.
    pub fn level(&self) -> DurabilityLevel {
        self.level
    }

    /// How many syncs there were since the start, and how long they took together, microseconds.
    pub fn syncs(&self) -> (u64, u64) {
        (self.syncs.0.load(Ordering::Relaxed), self.syncs.1.load(Ordering::Relaxed))
    }

    /// The name of the node, as in every `hookline_id`.
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Everything up to this ticket is durable.
    pub fn durable(&self) -> Ticket {
        Ticket(self.durable.load(Ordering::Acquire))
    }

    /// The queue with that number.
    pub fn queue(&self, id: QueueId) -> Option<Arc<Queue>> {
        self.queues.read().get(&id).cloned()
    }

    /// All queues, for accounts and reports.
    pub fn queues(&self) -> Vec<Arc<Queue>> {
        self.queues.read().values().cloned().collect()
    }

    /// Calls `waker` after each sync from now on.
    pub fn add_waker(&self, waker: Waker) {
        self.wakers.write().push(waker);
    }

    /// Whether a chunk may be read: everything before it is durable.
    pub(crate) fn is_visible(&self, position: Position) -> bool {
        position.chunk() <= self.visible.load(Ordering::Acquire)
    }

    /// Writes what is pending, syncs, and ends the store's thread. Tickets that were given out are durable after it.
    pub fn close(&self) {
        {
            let _writer = self.writer.lock();
            self.stopping.store(true, Ordering::Release);
            self.sync_wanted.notify_all();
        }
        let thread = self.thread.lock().take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the store's thread panicked");
        }
        self.db.end_background_work();
    }
}
