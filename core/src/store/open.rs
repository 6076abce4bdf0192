//! Opening: the database, and from it the queues. Sessions are read one by one, when the broker asks for them.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use bytes::Bytes;
use hookline_schemas::QueueId;
use hookline_schemas::config::Store as Settings;
use parking_lot::{Condvar, Mutex, RwLock};
use rocksdb::{IteratorMode, WriteBatch};

use super::chunk::{Chunk, Position};
use super::commit::{CHUNK_BLOCK, CHUNKS_PER_SEC, Writer};
use super::cursor::Cursor;
use super::database::{Database, family, pairs, read_error};
use super::directory::Directory;
use super::queue::{Bounds, Queue, QueueKind, Restored};
use super::reclaim::Live;
use super::repair::{self, Findings};
use super::space::Space;
use super::synced::Synced;
use super::{Batch, DelayedKey, Error, Store, keys};
use crate::HashMap;

/// A store that was opened.
#[derive(Debug)]
pub struct Opened {
    pub store: Arc<Store>,
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

/// How often a database is mended before that counts as of no use.
const MENDS_MAX: usize = 3;

/// A number that no chunk of this node has had, whatever store it was in: fewer than that were written since 2026. Sinks that know an identifier take a
/// record with the same for a repetition, also where the one that they know came from a store that was removed since.
fn unused_chunk() -> u64 {
    const YEAR_2026_MS: u64 = 1_767_225_600_000;
    crate::clock::now_ms().saturating_sub(YEAR_2026_MS) * (CHUNKS_PER_SEC / 1000)
}

impl Store {
    /// Opens the store in `data_dir`, or makes it, and starts its thread. Damage is no error: what cannot be read is set aside,
    /// named in the log and in [`Store::findings`].
    ///
    /// # Errors
    /// The folder cannot be written, another process holds it, or a newer version has written it.
    pub fn open(data_dir: &Path, node: &str, settings: &Settings) -> Result<Opened, Error> {
        let opened = Store::open_stepped(data_dir, node, settings)?;
        let thread = std::thread::Builder::new().name("store".into()).spawn({
            let store = Arc::clone(&opened.store);
            move || store.run()
        });
        let path = Store::folder(data_dir);
        *opened.store.thread.lock() = Some(thread.map_err(|error| Error::Open { path, problem: error.to_string() })?);
        Ok(opened)
    }

    /// As [`Store::open`], without the thread: whoever calls it syncs.
    pub(crate) fn open_stepped(data_dir: &Path, node: &str, settings: &Settings) -> Result<Opened, Error> {
        let started = Instant::now();
        let path = Store::folder(data_dir);
        let fail = |problem: String| Error::Open { path: path.clone(), problem };
        let space = Space::new(data_dir, settings);
        if let Err(error) = std::fs::create_dir_all(&path) {
            return Err(fail(format!("{error}; choose another folder with --data, or make this one writable")));
        }
        let (synced, noted) = Synced::open(data_dir);
        // RocksDB syncs its own folder; that it and the note are there is ours to keep.
        std::fs::File::open(data_dir).and_then(|folder| folder.sync_all()).map_err(|error| fail(error.to_string()))?;
        let mut findings = Findings::default();
        let mut database = repair::open(&path, settings, &space, &mut findings).map_err(&fail)?;
        let mut parts = (space, synced);
        let (store, delayed) = loop {
            let failed = match Store::restore(database, node, settings, parts, findings) {
                Ok(restored) => break restored,
                Err(failed) => *failed,
            };
            let Error::DamagedFile(problem) = &failed.error else { return Err(fail(failed.error.to_string())) };
            if failed.findings.set_aside.len() >= MENDS_MAX {
                return Err(fail(failed.error.to_string()));
            }
            (parts, findings) = (failed.parts, failed.findings);
            database = repair::mend(&path, settings, problem, &mut findings).map_err(&fail)?;
        };
        store.find_lost_writes(noted);
        store.look_at_space(false);
        tracing::info!(
            queues = store.queues.read().len(),
            retained = store.retained_count(),
            delayed = delayed.len(),
            pending = store.queues.read().values().map(|queue| queue.pending()).sum::<u64>(),
            elapsed_ms = started.elapsed().as_millis() as u64,
            level = ?settings.level,
            "store is open"
        );
        Ok(Opened { store, delayed })
    }

    /// Makes a store of an open database.
    fn restore(
        db: Database,
        node: &str,
        settings: &Settings,
        (space, synced): (Space, Synced),
        findings: Findings,
    ) -> Result<(Arc<Store>, Vec<DelayedKey>), Box<Failed>> {
        let mut store = Store {
            node: node.to_owned(),
            level: settings.level,
            writer: Mutex::new(Writer::new(1, 1)),
            queues: RwLock::default(),
            next_queue: AtomicU64::new(1),
            next_delayed: AtomicU64::new(0),
            delayed_count: AtomicUsize::new(0),
            retained: super::retained::Totals::default(),
            samples: Mutex::default(),
            next_audit: Mutex::default(),
            live: Mutex::default(),
            dirty: Mutex::default(),
            letters: Mutex::default(),
            durable: AtomicU64::new(0),
            visible: AtomicU64::new(0),
            wakers: RwLock::default(),
            sync_wanted: Condvar::new(),
            stopping: AtomicBool::new(false),
            thread: Mutex::default(),
            findings: Mutex::new(findings),
            space,
            synced,
            syncs: Default::default(),
            db,
        };
        match store.restore_all() {
            Ok(delayed) => Ok((Arc::new(store), delayed)),
            Err(error) => {
                let Store { space, synced, findings, .. } = store;
                Err(Box::new(Failed { error, parts: (space, synced), findings: findings.into_inner() }))
            }
        }
    }

    fn restore_all(&mut self) -> Result<Vec<DelayedKey>, Error> {
        let format = self.check_format()?;
        if format < keys::FORMAT_WITH_DIRECTORIES || self.findings.lock().rebuild {
            self.rebuild(format)?;
        } else if format < keys::FORMAT_VERSION {
            // What is there can be read as it is.
            let mut write = WriteBatch::default();
            write.put_cf(family(&self.db.get(), keys::META), keys::FORMAT, keys::FORMAT_VERSION.to_be_bytes());
            self.db.write(write)?;
        }
        self.restore_retained()?;
        self.restore_queues()?;
        self.end_ownerless_queues()?;
        self.stored_delayed()
    }

    /// Checks the version of the formats, and reserves chunk numbers. The version that was found.
    fn check_format(&self) -> Result<u64, Error> {
        let found = self.meta(keys::FORMAT)?;
        if let Some(version) = found.filter(|version| *version > keys::FORMAT_VERSION) {
            let known = keys::FORMAT_VERSION;
            return Err(Error::Refused(format!(
                "it is in format {version}, and this version of Hookline knows formats up to {known}; use a newer one"
            )));
        }
        // Where the limit was lost the chunks themselves say what was used. Zero is no chunk.
        let mut next_chunk = self.meta(keys::CHUNK_LIMIT)?.unwrap_or(1).max(self.last_chunk()? + 1);
        // Numbers that were used before may be lost, or this is a new store in the place of another.
        if found.is_none() || self.findings.lock().rebuild {
            next_chunk = next_chunk.max(unused_chunk());
        }
        *self.writer.lock() = Writer::new(next_chunk, next_chunk + CHUNK_BLOCK);
        self.visible.store(next_chunk - 1, Ordering::Release);
        let mut write = WriteBatch::default();
        {
            let db = self.db.get();
            write.put_cf(family(&db, keys::META), keys::CHUNK_LIMIT, (next_chunk + CHUNK_BLOCK).to_be_bytes());
            if found.is_none() {
                // An entry and a table in each family, so that a repair knows the families by their tables.
                keys::FAMILIES.iter().for_each(|name| write.put_cf(family(&db, name), [], []));
                write.put_cf(family(&db, keys::META), keys::FORMAT, keys::FORMAT_VERSION.to_be_bytes());
            }
        }
        self.db.write(write)?;
        self.db.sync().map_err(|error| Error::Write(error.to_string()))?;
        if found.is_none() {
            self.db.flush()?;
        }
        Ok(found.unwrap_or(keys::FORMAT_VERSION))
    }

    fn last_chunk(&self) -> Result<u64, Error> {
        let db = self.db.get();
        let last = |name| -> Result<u64, Error> {
            let pair = db.iterator_cf(family(&db, name), IteratorMode::End).next().transpose().map_err(|error| read_error(&error))?;
            Ok(pair.and_then(|(key, _)| keys::number(&key)).unwrap_or(0))
        };
        Ok(last(keys::CHUNK)?.max(last(keys::DIRECTORY)?))
    }

    /// Makes anew what follows from the rest: for a store of an older format, and for one that was mended.
    fn rebuild(&self, format: u64) -> Result<(), Error> {
        let started = Instant::now();
        let mut said = started;
        let (mut chunks, mut damaged) = (0u64, 0u64);
        {
            let db = self.db.get();
            let directories = family(&db, keys::DIRECTORY);
            let mut write = WriteBatch::default();
            write.delete_range_cf(directories, 0u64.to_be_bytes(), u64::MAX.to_be_bytes());
            // Whoever is stopped in the middle begins anew.
            write.put_cf(family(&db, keys::META), keys::FORMAT, (keys::FORMAT_WITH_DIRECTORIES - 1).to_be_bytes());
            for pair in pairs(&db, keys::CHUNK, &[]) {
                let (key, value) = pair?;
                match Chunk::parse(Bytes::from(value)) {
                    Ok(chunk) => write.put_cf(directories, &key, chunk.directory()),
                    Err(problem) => {
                        damaged += 1;
                        tracing::error!(chunk = keys::number(&key), problem, "a chunk of the store is damaged; its records are lost");
                    }
                }
                chunks += 1;
                if write.size_in_bytes() > 1 << 20 {
                    self.db.write(std::mem::take(&mut write))?;
                }
                if said.elapsed().as_secs() >= 5 {
                    said = Instant::now();
                    tracing::info!(chunks, "bringing the store up to date");
                }
            }
            keys::FAMILIES.iter().for_each(|name| write.put_cf(family(&db, name), [], []));
            self.db.write(write)?;
        }
        self.recount_retained()?;
        let mut write = WriteBatch::default();
        write.put_cf(family(&self.db.get(), keys::META), keys::FORMAT, keys::FORMAT_VERSION.to_be_bytes());
        self.db.write(write)?;
        self.db.flush()?;
        self.findings.lock().damaged_entries += damaged;
        tracing::info!(
            from_format = format,
            to_format = keys::FORMAT_VERSION,
            chunks,
            damaged,
            elapsed_ms = started.elapsed().as_millis() as u64,
            "the store was brought up to date"
        );
        Ok(())
    }

    /// What was synced once is there, or its loss is said.
    fn find_lost_writes(&self, noted: Option<u64>) {
        let lost = noted.map_or(0, |noted| noted.saturating_sub(self.db.found_sequence()));
        if lost > 0 {
            self.findings.lock().lost_writes = lost;
            tracing::error!(
                lost_writes = lost,
                "the store has lost writes that were on the disk once: its log is damaged, or files are missing or older ones were put in"
            );
        }
        self.synced.note(self.db.sequence());
    }

    /// What opening has found beside the usual.
    pub fn findings(&self) -> Findings {
        self.findings.lock().clone()
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

    /// Rebuilds the queues from their cursors and the directories of the chunks.
    fn restore_queues(&self) -> Result<(), Error> {
        let db = self.db.get();
        let mut queues = HashMap::default();
        for pair in pairs(&db, keys::QUEUE, &[]) {
            let (key, value) = pair?;
            let Some(id) = keys::number(&key).map(QueueId) else { continue };
            let Some((kind, name)) = value.split_first().and_then(|(kind, name)| Some((QueueKind::from_byte(*kind)?, name))) else {
                self.findings.lock().damaged_entries += 1;
                continue;
            };
            queues.insert(id, Arc::new(Queue::new(id, kind, &String::from_utf8_lossy(name))));
            self.next_queue.fetch_max(id.0 + 1, Ordering::Relaxed);
        }
        // Those that have settled records behind their front, or more that no chunk has: few.
        let mut unusual: HashMap<QueueId, Cursor> = HashMap::default();
        let mut known = crate::HashSet::default();
        for pair in pairs(&db, keys::CURSOR, &[]) {
            let (key, value) = pair?;
            let Some(id) = keys::number(&key).map(QueueId) else { continue };
            self.next_queue.fetch_max(id.0 + 1, Ordering::Relaxed);
            let Some(cursor) = Cursor::decode(&value) else {
                self.findings.lock().damaged_entries += 1;
                tracing::error!(queue = id.0, "the cursor of a queue is damaged: its records come again");
                continue;
            };
            if let Some(queue) = queues.get(&id) {
                queue.restore(&cursor);
                known.insert(id);
                if cursor.next > cursor.front || !cursor.settled.is_empty() {
                    unusual.insert(id, cursor);
                }
            }
        }
        for (id, queue) in &queues {
            if !known.contains(id) {
                queue.restore_without_cursor();
            }
        }
        *self.queues.write() = queues;
        let floor = self.meta(keys::FLOOR)?.unwrap_or(0);
        let mut live = Live::starting_at(floor);
        for pair in pairs(&db, keys::DIRECTORY, &floor.to_be_bytes()) {
            let (key, value) = pair?;
            let Some(number) = keys::number(&key) else { continue };
            if self.restore_chunk(number, &value, &mut live).is_none() {
                self.findings.lock().damaged_entries += 1;
                tracing::error!(chunk = number, "the directory of a chunk is damaged; its records are lost");
            }
        }
        let mut lost_records = 0;
        for queue in self.queues.read().values() {
            let cursor = unusual.remove(&queue.id()).unwrap_or_default();
            let (settled, lost) = queue.restored(&cursor);
            live.release(settled);
            if lost > 0 {
                lost_records += lost;
                tracing::error!(queue = queue.name(), lost, "records of this queue are missing in the store");
            }
        }
        self.findings.lock().lost_records = lost_records;
        *self.live.lock() = live;
        Ok(())
    }

    /// Puts the records of a chunk into their queues. `None`: its directory is damaged.
    fn restore_chunk(&self, number: u64, directory: &[u8], live: &mut Live) -> Option<()> {
        let directory = Directory::parse(directory)?;
        let queues = self.queues.read();
        // Also of queues that are gone: their numbers must not come again while a chunk still names them.
        let last = directory.queues.iter().map(|(id, _)| id.0).max().unwrap_or_default();
        self.next_queue.fetch_max(last + 1, Ordering::Relaxed);
        let mut members: Vec<_> = directory.queues.iter().map(|(id, base)| (queues.get(id), *base)).collect();
        let (mut waiting, mut replaced) = (0, Vec::new());
        let whole = directory.records(|ordinal, bytes, indices| {
            for (index, rank) in indices {
                let (queue, next) = &mut members[usize::from(*index)];
                let sequence = *next;
                *next += 1;
                let Some(queue) = queue else { continue };
                let Restored { waits, replaces } = queue.restore_record(sequence, Position::new(number, ordinal), *rank, bytes);
                waiting += u32::from(waits);
                replaced.extend(replaces);
            }
        });
        live.add(number, waiting);
        live.release(replaced);
        whole
    }

    /// Calls `each` with every durable session.
    pub fn each_session(&self, mut each: impl FnMut(StoredSession)) -> Result<(), Error> {
        let db = self.db.get();
        for pair in pairs(&db, keys::SESSION, &[]) {
            let (key, value) = pair?;
            each(self.assemble_session(String::from_utf8_lossy(&key).into_owned(), value.into_vec())?);
        }
        Ok(())
    }

    /// Reads one session.
    pub(crate) fn session(&self, client_id: &str) -> Result<Option<StoredSession>, Error> {
        let value = self.db.value(keys::SESSION, client_id)?;
        value.map(|value| self.assemble_session(client_id.to_owned(), value)).transpose()
    }

    fn assemble_session(&self, client_id: String, value: Vec<u8>) -> Result<StoredSession, Error> {
        // The value begins with the number of the session's queue.
        let queue = QueueId(keys::number(&value).unwrap_or_default());
        let (mut subscriptions, mut received) = (Vec::new(), Vec::new());
        self.each_of_queue(keys::SUBSCRIPTION, queue, |rest, value| {
            subscriptions.push((String::from_utf8_lossy(rest).into_owned(), value.to_vec()));
        })?;
        self.each_of_queue(keys::RECEIVED, queue, |rest, _| received.extend(rest.first_chunk().map(|id| u16::from_be_bytes(*id))))?;
        Ok(StoredSession { client_id, value, subscriptions, received })
    }

    /// Calls `each` with all that a family has of a queue: the rest of the key, and the value.
    fn each_of_queue(&self, name: &str, queue: QueueId, mut each: impl FnMut(&[u8], &[u8])) -> Result<(), Error> {
        let db = self.db.get();
        let mut options = rocksdb::ReadOptions::default();
        options.set_iterate_range(keys::queue(queue).to_vec()..keys::behind_queue(queue).to_vec());
        for pair in db.iterator_cf_opt(family(&db, name), options, IteratorMode::Start) {
            let (key, value) = pair.map_err(|error| read_error(&error))?;
            each(key.get(8..).unwrap_or_default(), &value);
        }
        Ok(())
    }

    /// Ends queues of sessions that are gone, such as by a write that failed: they would hold their space for ever.
    fn end_ownerless_queues(&self) -> Result<(), Error> {
        let mut owned = crate::HashSet::default();
        for pair in pairs(&self.db.get(), keys::SESSION, &[]) {
            owned.extend(keys::number(&pair?.1).map(QueueId));
        }
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

    pub(super) fn meta(&self, key: &[u8]) -> Result<Option<u64>, Error> {
        Ok(self.db.value(keys::META, key)?.as_deref().and_then(keys::number))
    }
}

/// A database that cannot be made a store of, and what can be used for the next attempt.
struct Failed {
    error: Error,
    parts: (Space, Synced),
    findings: Findings,
}
