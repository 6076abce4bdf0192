//! Opening: the database, and from it the queues, sessions and retained messages.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hookline_schemas::config::{DurabilityLevel, Store as Settings};
use hookline_schemas::{Message, QueueId};
use parking_lot::{Condvar, Mutex, RwLock};
use rocksdb::{BlockBasedOptions, Cache, ColumnFamily, ColumnFamilyDescriptor, DB, DBRecoveryMode, IteratorMode, Options, WriteBatch};

use super::chunk::{Chunk, Position};
use super::commit::{CHUNK_BLOCK, Writer};
use super::cursor::Cursor;
use super::queue::{Bounds, Queue, QueueKind};
use super::reclaim::Live;
use super::{Batch, DelayedKey, Error, Store, keys};
use crate::retained::expires_at_ms;
use crate::{HashMap, clock};

/// A store that was opened, and what it held.
#[derive(Debug)]
pub struct Opened {
    pub store: Arc<Store>,
    pub sessions: Vec<StoredSession>,
    pub retained: Vec<Message>,
    pub delayed: Vec<DelayedKey>,
}

/// A durable session as the database has it; the session itself knows what its bytes mean.
#[derive(Debug)]
pub struct StoredSession {
    pub client_id: String,
    pub value: Vec<u8>,
    pub subscriptions: Subscriptions,
    /// QoS 2 packet identifiers that wait for their PUBREL.
    pub received: Vec<u16>,
}

/// Topic filters, each with its subscription as bytes.
type Subscriptions = Vec<(String, Vec<u8>)>;
/// A key and its value.
type Pair = (Box<[u8]>, Box<[u8]>);

impl Store {
    /// Opens the store in `data_dir`, or makes it, and starts its thread.
    ///
    /// # Errors
    /// The folder cannot be written, another process holds it, or a newer version has written it.
    pub fn open(data_dir: &Path, node: &str, settings: &Settings) -> Result<Opened, Error> {
        let started = Instant::now();
        let path = Store::folder(data_dir);
        let fail = |problem: String| Error::Open { path: path.clone(), problem };
        std::fs::create_dir_all(&path)
            .map_err(|error| fail(format!("{error}; choose another folder with --data, or make this one writable")))?;
        let db = open_database(&path, settings).map_err(|error| fail(explain(&error)))?;
        let next_chunk = check_format(&db).map_err(&fail)?;
        let store = Arc::new(Store {
            node: node.to_owned(),
            level: settings.level,
            writer: Mutex::new(Writer::new(next_chunk, next_chunk + CHUNK_BLOCK)),
            queues: RwLock::default(),
            next_queue: AtomicU64::new(1),
            next_delayed: AtomicU64::new(0),
            delayed_count: AtomicUsize::new(0),
            live: Mutex::default(),
            dirty: Mutex::default(),
            durable: AtomicU64::new(0),
            visible: AtomicU64::new(next_chunk - 1),
            wakers: RwLock::default(),
            sync_wanted: Condvar::new(),
            stopping: AtomicBool::new(false),
            thread: Mutex::default(),
            db,
        });
        let pending = store.restore_queues().map_err(|error| fail(error.to_string()))?;
        let sessions = store.stored_sessions().map_err(|error| fail(error.to_string()))?;
        store.end_ownerless_queues(&sessions).map_err(|error| fail(error.to_string()))?;
        let retained = store.stored_retained();
        let delayed = store.stored_delayed();
        let thread = std::thread::Builder::new().name("store".into()).spawn({
            let store = Arc::clone(&store);
            move || store.run()
        });
        *store.thread.lock() = Some(thread.map_err(|error| fail(error.to_string()))?);
        tracing::info!(
            sessions = sessions.len(),
            retained = retained.len(),
            delayed = delayed.len(),
            pending,
            elapsed_ms = started.elapsed().as_millis() as u64,
            level = ?settings.level,
            "store is open"
        );
        Ok(Opened { store, sessions, retained, delayed })
    }

    /// The queue of an action: the one of that name, or a new one. Its records survive changes of the configuration.
    pub fn action_queue(&self, name: &str, bounds: Bounds) -> Result<Arc<Queue>, Error> {
        let known = self.queues.read().values().find(|queue| queue.kind() == QueueKind::Action && queue.name() == name).cloned();
        let queue = match known {
            Some(queue) => queue,
            None => {
                let mut batch = Batch::default();
                let queue = self.new_queue(&mut batch, QueueKind::Action, name);
                self.commit(&mut batch)?;
                queue
            }
        };
        queue.set_bounds(bounds);
        Ok(queue)
    }

    /// Makes a queue that exists from now on in memory, and in the database with the commit of `batch`.
    pub(crate) fn new_queue(&self, batch: &mut Batch, kind: QueueKind, name: &str) -> Arc<Queue> {
        let id = QueueId(self.next_queue.fetch_add(1, Ordering::Relaxed));
        batch.put_queue(id, kind, name);
        batch.put_cursor(id, Cursor::default().encode());
        let queue = Arc::new(Queue::new(id, kind, name));
        self.queues.write().insert(id, Arc::clone(&queue));
        queue
    }

    pub(super) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family is made when the database is opened")
    }

    /// All pairs of a family. What cannot be read ends the iteration with an error.
    pub(super) fn pairs(&self, family: &str) -> impl Iterator<Item = Result<Pair, Error>> {
        self.db.iterator_cf(self.family(family), IteratorMode::Start).map(|pair| pair.map_err(|error| Error::Read(error.to_string())))
    }

    /// Rebuilds the queues from their cursors and the chunks; how many records wait.
    fn restore_queues(&self) -> Result<u64, Error> {
        let mut queues = HashMap::default();
        let mut cursors: HashMap<QueueId, Cursor> = HashMap::default();
        for pair in self.pairs(keys::QUEUE) {
            let (key, value) = pair?;
            let Some(id) = keys::number(&key).map(QueueId) else { continue };
            let Some((kind, name)) = value.split_first().and_then(|(kind, name)| Some((QueueKind::from_byte(*kind)?, name))) else {
                continue;
            };
            queues.insert(id, Arc::new(Queue::new(id, kind, &String::from_utf8_lossy(name))));
            self.next_queue.fetch_max(id.0 + 1, Ordering::Relaxed);
        }
        for pair in self.pairs(keys::CURSOR) {
            let (key, value) = pair?;
            let Some((id, cursor)) = keys::number(&key).map(QueueId).zip(Cursor::decode(&value)) else { continue };
            if let Some(queue) = queues.get(&id) {
                queue.restore(&cursor);
                cursors.insert(id, cursor);
            }
            self.next_queue.fetch_max(id.0 + 1, Ordering::Relaxed);
        }
        *self.queues.write() = queues;
        let floor = self.meta(keys::FLOOR)?.unwrap_or(0);
        let mut live = Live::starting_at(floor);
        let from = floor.to_be_bytes();
        let mode = IteratorMode::From(&from, rocksdb::Direction::Forward);
        for pair in self.db.iterator_cf(self.family(keys::CHUNK), mode) {
            let (key, value) = pair.map_err(|error| Error::Read(error.to_string()))?;
            let Some(number) = keys::number(&key) else { continue };
            match Chunk::parse(Bytes::from(value)) {
                Ok(chunk) => live.add(number, self.restore_chunk(number, &chunk)),
                Err(problem) => tracing::error!(chunk = number, problem, "a chunk of the store is damaged; its records are lost"),
            }
        }
        let mut pending = 0;
        for queue in self.queues.read().values() {
            let cursor = cursors.remove(&queue.id()).unwrap_or_default();
            let (settled, lost) = queue.restored(&cursor);
            live.release(settled);
            if lost > 0 {
                tracing::error!(queue = queue.name(), lost, "records of this queue are missing in the store");
            }
            pending += queue.ledger().pending;
        }
        *self.live.lock() = live;
        Ok(pending)
    }

    /// Puts the records of a chunk into their queues; how many wait.
    fn restore_chunk(&self, number: u64, chunk: &Chunk) -> u32 {
        let queues = self.queues.read();
        // Also of queues that are gone: their numbers must not come again while a chunk still names them.
        let last = chunk.queues().map(|(id, _)| id.0).max().unwrap_or_default();
        self.next_queue.fetch_max(last + 1, Ordering::Relaxed);
        let mut members: Vec<_> = chunk.queues().map(|(id, base)| (queues.get(&id), base)).collect();
        let mut waiting = 0;
        for ordinal in 0..chunk.len() as u16 {
            let bytes = chunk.body(ordinal).map_or(0, |body| body.len() as u64);
            for (index, _) in chunk.targets(ordinal) {
                let (queue, next) = &mut members[index];
                let sequence = *next;
                *next += 1;
                let Some(queue) = queue else { continue };
                if queue.restore_record(sequence, Position::new(number, ordinal), bytes).is_some() {
                    waiting += 1;
                }
            }
        }
        waiting
    }

    fn stored_sessions(&self) -> Result<Vec<StoredSession>, Error> {
        let mut by_queue: HashMap<u64, (Subscriptions, Vec<u16>)> = HashMap::default();
        for pair in self.pairs(keys::SUBSCRIPTION) {
            let (key, value) = pair?;
            let Some((queue, filter)) = keys::number(&key).zip(key.get(8..)) else { continue };
            let filter = String::from_utf8_lossy(filter).into_owned();
            by_queue.entry(queue).or_default().0.push((filter, value.into_vec()));
        }
        for pair in self.pairs(keys::RECEIVED) {
            let (key, _) = pair?;
            let packet_id = key.get(8..10).map(|id| u16::from_be_bytes([id[0], id[1]]));
            let Some((queue, packet_id)) = keys::number(&key).zip(packet_id) else { continue };
            by_queue.entry(queue).or_default().1.push(packet_id);
        }
        let mut sessions = Vec::new();
        for pair in self.pairs(keys::SESSION) {
            let (key, value) = pair?;
            let client_id = String::from_utf8_lossy(&key).into_owned();
            // The value begins with the number of the session's queue.
            let queue = keys::number(&value).unwrap_or_default();
            let (subscriptions, received) = by_queue.remove(&queue).unwrap_or_default();
            sessions.push(StoredSession { client_id, value: value.into_vec(), subscriptions, received });
        }
        Ok(sessions)
    }

    /// Ends queues of sessions that are gone, such as by a write that failed: they would hold their space for ever.
    fn end_ownerless_queues(&self, sessions: &[StoredSession]) -> Result<(), Error> {
        let owned: crate::HashSet<QueueId> = sessions.iter().filter_map(|session| keys::number(&session.value)).map(QueueId).collect();
        let mut batch = Batch::default();
        for queue in self.queues().iter().filter(|queue| queue.kind() == QueueKind::Session && !owned.contains(&queue.id())) {
            tracing::warn!(client = queue.name(), "a queue has no session any more; it is ended");
            batch.delete_queue(queue.id());
        }
        if !batch.is_empty() {
            self.commit(&mut batch)?;
        }
        Ok(())
    }

    /// Removes retained messages of these topics, where what the store has is over: a worker may just have stored the next one.
    pub(crate) fn delete_expired_retained(&self, topics: &[Arc<str>]) -> Result<(), Error> {
        if topics.is_empty() {
            return Ok(());
        }
        let (family, now_ms) = (self.family(keys::RETAINED), clock::now_ms());
        // Nothing is written between the look and the deletion.
        let _writer = self.writer.lock();
        let mut write = WriteBatch::default();
        for topic in topics {
            let stored = self.db.get_cf(family, topic.as_bytes()).map_err(|error| Error::Read(error.to_string()))?;
            let message = stored.and_then(|bytes| super::decode_message(&bytes.into()));
            if message.is_some_and(|message| expires_at_ms(&message) <= now_ms) {
                write.delete_cf(family, topic.as_bytes());
            }
        }
        self.db.write(write).map_err(|error| Error::Write(error.to_string()))
    }

    fn stored_retained(&self) -> Vec<Message> {
        let (mut retained, mut over, now_ms) = (Vec::new(), Batch::default(), clock::now_ms());
        for pair in self.pairs(keys::RETAINED) {
            match pair.map(|(_, value)| super::decode_message(&value.into())) {
                Ok(Some(message)) if expires_at_ms(&message) <= now_ms => over.delete_retained(&message.topic),
                Ok(Some(message)) => retained.push(message),
                Ok(None) => tracing::error!("a retained message in the store is damaged"),
                Err(error) => tracing::error!(%error, "cannot read all retained messages"),
            }
        }
        if !over.is_empty()
            && let Err(error) = self.commit(&mut over)
        {
            tracing::warn!(%error, "retained messages whose time is over stay in the store until the next start");
        }
        retained
    }

    fn meta(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        let value = self.db.get_cf(self.family(keys::META), key).map_err(|error| Error::Read(error.to_string()))?;
        Ok(value.as_deref().and_then(keys::number))
    }
}

/// Checks the version of the formats, and reserves chunk numbers; the first one.
fn check_format(db: &DB) -> Result<u64, String> {
    let meta = db.cf_handle(keys::META).ok_or("the database has no family \"meta\"")?;
    let number = |key: &[u8]| db.get_cf(meta, key).map(|value| value.as_deref().and_then(keys::number)).map_err(|error| error.to_string());
    if let Some(version) = number(keys::FORMAT)?.filter(|version| *version > keys::FORMAT_VERSION) {
        let known = keys::FORMAT_VERSION;
        return Err(format!("it is in format {version}, and this version of Hookline knows formats up to {known}; use a newer one"));
    }
    // Zero is no chunk.
    let next_chunk = number(keys::CHUNK_LIMIT)?.unwrap_or(1);
    let mut write = WriteBatch::default();
    write.put_cf(meta, keys::FORMAT, keys::FORMAT_VERSION.to_be_bytes());
    write.put_cf(meta, keys::CHUNK_LIMIT, (next_chunk + CHUNK_BLOCK).to_be_bytes());
    db.write(write).and_then(|()| db.flush_wal(true)).map_err(|error| error.to_string())?;
    Ok(next_chunk)
}

fn open_database(path: &Path, settings: &Settings) -> Result<DB, rocksdb::Error> {
    let mut options = Options::default();
    options.create_if_missing(true);
    options.create_missing_column_families(true);
    // A torn tail is cut; everything before it is kept.
    options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
    // Idle families would pin old logs for ever.
    options.set_max_total_wal_size(4 * settings.write_buffer_bytes as u64);
    // Reused log files need no new metadata at each sync: nearly twice the syncs a second.
    options.set_recycle_log_file_num(if settings.level == DurabilityLevel::Disk { 2 } else { 0 });
    options.set_allow_concurrent_memtable_write(false);
    options.set_max_open_files(256);
    options.set_max_background_jobs(2);
    options.set_keep_log_file_num(4);
    let cache = Cache::new_lru_cache(settings.block_cache_bytes);
    let families = keys::FAMILIES.iter().map(|name| {
        let mut options = Options::default();
        let mut table = BlockBasedOptions::default();
        table.set_block_cache(&cache);
        options.set_block_based_table_factory(&table);
        options.set_write_buffer_size(if *name == keys::CHUNK { settings.write_buffer_bytes } else { 4 << 20 });
        options.set_max_write_buffer_number(2);
        ColumnFamilyDescriptor::new(*name, options)
    });
    DB::open_cf_descriptors(&options, path, families)
}

/// What a failure to open means for whoever has to mend it.
fn explain(error: &rocksdb::Error) -> String {
    let text = error.to_string();
    if text.contains("lock") {
        return "another process is using it; stop that one, or choose another folder with --data".into();
    }
    text
}
