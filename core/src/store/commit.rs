//! Group commit: workers write their batches to the log, one thread syncs it, and everything up to then is durable.
//! While one sync runs, the next group gathers: a lone publisher waits for one sync, a thousand share it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookline_schemas::QueueId;
use hookline_schemas::config::DurabilityLevel;
use parking_lot::MutexGuard;
use rocksdb::WriteBatch;

use super::batch::{Batch, Change, RecordHandle};
use super::chunk::Position;
use super::database::family;
use super::queue::{Queue, Settlement};
use super::{Error, Store, keys};
use crate::clock;

/// The number of a commit. Commits become durable in the order of their tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub(super) u64);

/// A commit that was written.
#[derive(Debug)]
pub struct Committed {
    pub ticket: Ticket,
    first_chunk: u64,
    watched: Vec<(RecordHandle, Watched)>,
}

/// A record whose end somebody waits for.
#[derive(Debug, Clone)]
pub(crate) struct Watched {
    queue: Arc<Queue>,
    sequence: u64,
}

impl Watched {
    /// Whether it has left its queue. While it has not, whoever waits is told of the next one that does.
    pub(crate) fn is_settled(&self) -> bool {
        self.queue.watched.store(true, Ordering::SeqCst);
        self.queue.position(self.sequence).is_none()
    }
}

impl Committed {
    /// Where a record of the batch has come to lie.
    pub fn position(&self, record: RecordHandle) -> Position {
        Position::new(self.first_chunk + u64::from(record.chunk), record.ordinal)
    }

    /// A record that the batch asked to watch.
    pub(crate) fn watched(&self, record: RecordHandle) -> Option<Watched> {
        self.watched.iter().find(|(other, _)| *other == record).map(|(_, watched)| watched.clone())
    }
}

/// What only the holder of the writer's lock may change.
#[derive(Debug)]
pub(super) struct Writer {
    pub(super) next_chunk: u64,
    pub(super) chunk_limit: u64,
    pub(super) last_commit: u64,
    /// Queues of actions with records that are not visible yet.
    touched: Vec<Arc<Queue>>,
    cursors_written: Instant,
}

/// Chunk numbers are reserved in blocks, so that none is ever used twice, whatever a crash has lost.
pub(super) const CHUNK_BLOCK: u64 = 1 << 20;
/// More chunks than a broker writes in a second.
pub(super) const CHUNKS_PER_SEC: u64 = 100_000;
/// How old cursors in the database may become: what a crash repeats.
const CURSOR_INTERVAL: Duration = Duration::from_millis(20);
/// Cursors that ride in one commit.
const CURSORS_PER_COMMIT: usize = 256;
/// How often the store's thread looks after cursors and free space when nothing is committed.
const TICK: Duration = Duration::from_millis(50);

impl Writer {
    pub(super) fn new(next_chunk: u64, chunk_limit: u64) -> Writer {
        Writer { next_chunk, chunk_limit, last_commit: 0, touched: Vec::new(), cursors_written: clock::now() }
    }
}

impl Store {
    /// Writes a batch to the log, without waiting for the disk. The batch is empty afterwards.
    ///
    /// # Errors
    /// Nothing of the batch is written then, and every acknowledgement that it stood for must be refused.
    pub fn commit(&self, batch: &mut Batch) -> Result<Committed, Error> {
        let mut writer = self.writer.lock();
        let mut write = WriteBatch::default();
        let first_chunk = writer.next_chunk;
        let appended = self.append(batch, first_chunk, &mut write);
        writer.next_chunk += batch.chunks.len() as u64;
        let reserved = self.reserve_chunks(&mut writer, &mut write);
        self.add_changes(batch, &mut write);
        let retained = self.add_retained(batch, &mut write);
        for queue in &batch.cursors {
            if self.queues.read().contains_key(&queue.id()) {
                write.put_cf(family(&self.db.get(), keys::CURSOR), keys::queue(queue.id()), queue.cursor().encode());
            }
        }
        let mut cursors = Vec::new();
        let now = clock::now();
        if now.saturating_duration_since(writer.cursors_written) >= CURSOR_INTERVAL {
            writer.cursors_written = now;
            cursors = self.add_cursors(&mut write, CURSORS_PER_COMMIT);
        }
        if let Err(error) = self.db.write(write) {
            self.end_if_damaged(&error);
            self.take_back(appended, batch.chunks.len(), first_chunk);
            if reserved {
                writer.chunk_limit -= CHUNK_BLOCK;
            }
            self.mark_all_dirty(&cursors);
            batch.clear();
            return Err(error);
        }
        self.count_retained(retained);
        for queue in std::mem::take(&mut batch.removed) {
            self.forget_queue(queue);
        }
        let watched = batch.watched.iter().filter_map(|record| {
            let position = Position::new(first_chunk + u64::from(record.chunk), record.ordinal);
            let found = appended.iter().find(|appended| appended.position == position)?;
            Some((*record, Watched { queue: Arc::clone(&found.queue), sequence: found.sequence }))
        });
        let watched = watched.collect();
        for Appended { queue, .. } in appended {
            self.stay_within_bounds(&queue);
            if queue.kind() == super::QueueKind::Action && !writer.touched.iter().any(|other| other.id() == queue.id()) {
                writer.touched.push(queue);
            }
        }
        batch.clear();
        writer.last_commit += 1;
        let ticket = Ticket(writer.last_commit);
        match self.level {
            DurabilityLevel::Disk => {
                self.sync_wanted.notify_one();
            }
            DurabilityLevel::Process | DurabilityLevel::Memory => self.make_visible(&mut writer),
        }
        Ok(Committed { ticket, first_chunk, watched })
    }

    /// Gives the records of the batch their places in the queues, and encodes the chunks.
    fn append(&self, batch: &Batch, first_chunk: u64, write: &mut WriteBatch) -> Vec<Appended> {
        let db = self.db.get();
        let (chunks, directories) = (family(&db, keys::CHUNK), family(&db, keys::DIRECTORY));
        let mut appended = Vec::new();
        let queues = self.queues.read();
        let mut live = self.live.lock();
        for (number, chunk) in (first_chunk..).zip(&batch.chunks) {
            let bases: Vec<u64> = chunk.queues().iter().map(|id| queues.get(id).map_or(0, |queue| queue.next())).collect();
            let mut references = 0;
            for (ordinal, target, bytes) in chunk.appends() {
                // A session may have ended since the message was routed.
                let Some(queue) = queues.get(&target.queue) else { continue };
                let position = Position::new(number, ordinal);
                let sequence = queue.append(position, target.rank, bytes as u64);
                appended.push(Appended { queue: Arc::clone(queue), position, sequence, bytes: bytes as u64 });
                references += 1;
            }
            live.add(number, references);
            write.put_cf(chunks, number.to_be_bytes(), chunk.encode(&bases, clock::now_ms()));
            write.put_cf(directories, number.to_be_bytes(), chunk.directory(&bases));
        }
        appended
    }

    fn take_back(&self, appended: Vec<Appended>, chunks: usize, first_chunk: u64) {
        for Appended { queue, bytes, .. } in appended.into_iter().rev() {
            queue.take_back(bytes);
        }
        self.live.lock().forget(first_chunk, chunks);
    }

    /// Reserves the next block well before it is needed, so that the reservation is durable by then. Whether it did.
    fn reserve_chunks(&self, writer: &mut Writer, write: &mut WriteBatch) -> bool {
        let due = writer.next_chunk + CHUNK_BLOCK / 2 > writer.chunk_limit;
        if due {
            writer.chunk_limit += CHUNK_BLOCK;
            write.put_cf(family(&self.db.get(), keys::META), keys::CHUNK_LIMIT, writer.chunk_limit.to_be_bytes());
        }
        due
    }

    fn add_changes(&self, batch: &Batch, write: &mut WriteBatch) {
        let db = self.db.get();
        for change in &batch.changes {
            match change {
                Change::Put { family: name, key, value } => write.put_cf(family(&db, name), key, value),
                Change::Delete { family: name, key } => write.delete_cf(family(&db, name), key),
                Change::DeleteRange { family: name, from, to } => write.delete_range_cf(family(&db, name), from, to),
                // It needs to know what the topic has.
                Change::Retained { .. } => {}
            }
        }
    }

    /// Adds up to `count` cursors that have moved, the longest waiting first; whose they are.
    pub(super) fn add_cursors(&self, write: &mut WriteBatch, count: usize) -> Vec<Arc<Queue>> {
        let queues: Vec<_> = {
            let mut dirty = self.dirty.lock();
            let count = count.min(dirty.len());
            dirty.drain(..count).collect()
        };
        let db = self.db.get();
        let cursors = family(&db, keys::CURSOR);
        for queue in &queues {
            queue.dirty.store(false, Ordering::Release);
            // The session may have ended: its cursor must not come back.
            if self.queues.read().contains_key(&queue.id()) {
                write.put_cf(cursors, keys::queue(queue.id()), queue.cursor().encode());
            }
        }
        queues
    }

    /// Cursors whose write has failed are still to be written.
    pub(super) fn mark_all_dirty(&self, queues: &[Arc<Queue>]) {
        queues.iter().for_each(|queue| self.mark_dirty(queue));
    }

    /// Settles records of a queue and sets their space free.
    pub(crate) fn settle(&self, queue: &Arc<Queue>, records: impl IntoIterator<Item = (u64, u64)>, how: Settlement) -> usize {
        let positions: Vec<_> = records.into_iter().filter_map(|(sequence, bytes)| queue.settle(sequence, bytes, how)).collect();
        let count = positions.len();
        // First the cursor: a chunk counts as free only when the cursors that say so are on their way.
        self.mark_dirty(queue);
        self.live.lock().release(positions);
        if queue.watched.swap(false, Ordering::SeqCst) {
            self.wake();
        }
        count
    }

    pub(crate) fn mark_dirty(&self, queue: &Arc<Queue>) {
        if !queue.dirty.swap(true, Ordering::AcqRel) {
            self.dirty.lock().push(Arc::clone(queue));
        }
    }

    /// Drops the oldest records where that is the queue's policy.
    fn stay_within_bounds(&self, queue: &Arc<Queue>) {
        while queue.must_drop_oldest() && queue.ledger().pending > 1 {
            let front = queue.front();
            let bytes = self.record_bytes(queue, front);
            if self.settle(queue, [(front, bytes)], Settlement::Dropped) == 0 {
                break;
            }
        }
    }

    pub(super) fn forget_queue(&self, id: QueueId) {
        let removed = self.queues.write().remove(&id);
        if let Some(queue) = removed {
            self.live.lock().release(queue.drain());
        }
    }

    /// Everything written so far is durable at the level in force: lets readers and waiters go on.
    fn make_visible(&self, writer: &mut MutexGuard<'_, Writer>) {
        let touched = std::mem::take(&mut writer.touched);
        self.visible.store(writer.next_chunk - 1, Ordering::Release);
        self.durable.store(writer.last_commit, Ordering::Release);
        for queue in touched {
            queue.ready.notify_one();
        }
    }

    /// The store's thread: syncs, and looks after cursors, free space and failures.
    pub(super) fn run(&self) {
        let mut looked = Instant::now();
        loop {
            let group = {
                let mut writer = self.writer.lock();
                if !self.has_group(&writer) && !self.stopping.load(Ordering::Acquire) {
                    let _timed_out = self.sync_wanted.wait_for(&mut writer, TICK);
                }
                self.next_group(&mut writer)
            };
            if self.db.has_failed() && self.mend().is_err() {
                // Nothing can be written for now: what waits is refused by the commits themselves.
                if let Some(group) = group {
                    self.put_back(group);
                }
                if self.stopping.load(Ordering::Acquire) {
                    return self.finish();
                }
                std::thread::sleep(TICK);
                continue;
            }
            match group {
                Some(group) => {
                    self.sync_or_die();
                    self.release_group(group);
                    self.reclaim_if_worthwhile();
                }
                None => {
                    self.look_after();
                    if self.stopping.load(Ordering::Acquire) {
                        return self.finish();
                    }
                }
            }
            if looked.elapsed() >= LOOK_INTERVAL {
                looked = Instant::now();
                self.look_at_space(true);
            }
        }
    }

    fn has_group(&self, writer: &Writer) -> bool {
        writer.last_commit > self.durable.load(Ordering::Acquire)
    }

    /// What has been written since the last sync.
    pub(super) fn next_group(&self, writer: &mut Writer) -> Option<Group> {
        self.has_group(writer).then(|| Group {
            commit: writer.last_commit,
            chunk: writer.next_chunk - 1,
            touched: std::mem::take(&mut writer.touched),
        })
    }

    fn put_back(&self, group: Group) {
        self.writer.lock().touched.extend(group.touched);
    }

    /// A group is on the disk: readers and waiters go on.
    pub(super) fn release_group(&self, group: Group) {
        self.visible.store(group.chunk, Ordering::Release);
        self.durable.store(group.commit, Ordering::Release);
        for queue in group.touched {
            queue.ready.notify_one();
        }
        self.wake();
    }

    /// Tells everybody who waits for something of the store to look.
    pub(super) fn wake(&self) {
        for waker in self.wakers.read().iter() {
            waker();
        }
    }

    /// Cursors that no commit has taken along, and space that has become free.
    pub(super) fn look_after(&self) {
        {
            // Cursors are written in the order in which they were taken.
            let _writer = self.writer.lock();
            let mut write = WriteBatch::default();
            let cursors = self.add_cursors(&mut write, usize::MAX);
            if !write.is_empty()
                && let Err(error) = self.db.write(write)
            {
                tracing::error!(%error, "cannot write cursors: after a crash their records come again");
                self.mark_all_dirty(&cursors);
            }
        }
        self.reclaim_if_worthwhile();
    }

    fn finish(&self) {
        let mut write = WriteBatch::default();
        drop(self.add_cursors(&mut write, usize::MAX));
        let result = self.db.write(write).and_then(|()| self.db.sync().map_err(|error| Error::Write(error.to_string())));
        match result {
            Ok(()) => self.synced.note(self.db.sequence()),
            Err(error) => tracing::error!(%error, "cannot write the last cursors: their records come again after the start"),
        }
    }

    /// After a failed sync nobody knows what the disk holds: the page cache may claim to be clean. The process stops, and
    /// the next start reads what is really there. What a failed write says here, mending decides.
    pub(super) fn sync_or_die(&self) {
        let sequence = self.db.sequence();
        let began = Instant::now();
        match self.db.sync() {
            Ok(()) => {
                self.syncs.0.fetch_add(1, Ordering::Relaxed);
                self.syncs.1.fetch_add(u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX), Ordering::Relaxed);
                self.synced.note(sequence);
            }
            Err(error) if is_of_write(&error) => {
                // The log took a write no more, and this sync never was: opening the database again writes all that came before.
                while self.mend().is_err() {
                    std::thread::sleep(TICK);
                }
            }
            Err(error) => {
                tracing::error!(%error, "sync of the store failed; stopping, because nothing after it could be trusted");
                std::process::exit(STORE_FAILED);
            }
        }
    }

    /// A damaged table cannot be mended while it is served from: the next start does it.
    fn end_if_damaged(&self, error: &Error) {
        if let Error::DamagedFile(problem) = error {
            tracing::error!(problem, "the store is damaged; stopping, the next start sets it aside and mends it");
            super::repair::ask_for_mending(self.db.path(), problem);
            std::process::exit(STORE_FAILED);
        }
    }

    /// Opens the database again after a failed write, once its folder takes writes. Everything that was written before is in
    /// its log, and on the disk then.
    ///
    /// # Errors
    /// The folder takes no writes yet.
    pub(super) fn mend(&self) -> Result<(), Error> {
        self.space.make_room(self.db.path());
        self.space.probe(self.db.path())?;
        if let Err(error) = self.db.reopen(REOPENS_MAX) {
            tracing::error!(%error, "the store cannot be opened again; stopping, the next start mends it");
            std::process::exit(STORE_FAILED);
        }
        if !self.db.is_complete() {
            tracing::error!("the store came back with less than was written; stopping, because nothing after it could be trusted");
            std::process::exit(STORE_FAILED);
        }
        tracing::warn!("the store takes writes again");
        self.wake();
        Ok(())
    }
}

/// A record that has its place in a queue.
#[derive(Debug)]
struct Appended {
    queue: Arc<Queue>,
    position: Position,
    sequence: u64,
    bytes: u64,
}

/// What was written between two syncs.
#[derive(Debug)]
pub(super) struct Group {
    commit: u64,
    chunk: u64,
    touched: Vec<Arc<Queue>>,
}

/// The exit code when the store cannot be trusted: an error of input or output (sysexits.h).
pub(super) const STORE_FAILED: i32 = 74;
/// How often opening the database again is tried; nobody can read it meanwhile.
const REOPENS_MAX: u32 = 20;
/// How often free space is looked at.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);

/// Whether a sync reports an earlier write that failed, and not itself.
fn is_of_write(error: &rocksdb::Error) -> bool {
    let text = error.to_string();
    // A log that took a write no more says that it "has previous error".
    !text.contains("sync") && ["append", "No space", "write", "previous error"].iter().any(|part| text.contains(part))
}
