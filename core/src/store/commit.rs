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
use super::queue::{Queue, Settlement};
use super::{Error, Store, keys};
use crate::clock;

/// The number of a commit. Commits become durable in the order of their tickets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Ticket(pub(super) u64);

/// A commit that was written.
#[derive(Debug, Clone, Copy)]
pub struct Committed {
    pub ticket: Ticket,
    first_chunk: u64,
}

impl Committed {
    /// Where a record of the batch has come to lie.
    pub fn position(&self, record: RecordHandle) -> Position {
        Position::new(self.first_chunk + u64::from(record.chunk), record.ordinal)
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
/// How old cursors in the database may become: what a crash repeats.
const CURSOR_INTERVAL: Duration = Duration::from_millis(20);
/// Cursors that ride in one commit.
const CURSORS_PER_COMMIT: usize = 256;
/// How often the store's thread looks after cursors and free space when nothing is committed.
const TICK: Duration = Duration::from_millis(50);

impl Writer {
    pub(super) fn new(next_chunk: u64, chunk_limit: u64) -> Writer {
        Writer { next_chunk, chunk_limit, last_commit: 0, touched: Vec::new(), cursors_written: Instant::now() }
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
        let mut cursors = Vec::new();
        if writer.cursors_written.elapsed() >= CURSOR_INTERVAL {
            writer.cursors_written = Instant::now();
            cursors = self.add_cursors(&mut write, CURSORS_PER_COMMIT);
        }
        let written = self.db.write(write);
        if let Err(error) = written {
            self.take_back(appended, batch.chunks.len(), first_chunk);
            if reserved {
                writer.chunk_limit -= CHUNK_BLOCK;
            }
            self.mark_all_dirty(&cursors);
            batch.clear();
            return Err(Error::Write(error.to_string()));
        }
        for queue in std::mem::take(&mut batch.removed) {
            self.forget_queue(queue);
        }
        for (queue, ..) in appended {
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
        Ok(Committed { ticket, first_chunk })
    }

    /// Gives the records of the batch their places in the queues, and encodes the chunks.
    fn append(&self, batch: &Batch, first_chunk: u64, write: &mut WriteBatch) -> Vec<(Arc<Queue>, u64)> {
        let family = self.family(keys::CHUNK);
        let mut appended = Vec::new();
        let queues = self.queues.read();
        let mut live = self.live.lock();
        for (number, chunk) in (first_chunk..).zip(&batch.chunks) {
            let bases: Vec<u64> = chunk.queues().iter().map(|id| queues.get(id).map_or(0, |queue| queue.next())).collect();
            let mut references = 0;
            for (ordinal, id, bytes) in chunk.appends() {
                // A session may have ended since the message was routed.
                let Some(queue) = queues.get(&id) else { continue };
                queue.append(Position::new(number, ordinal), bytes as u64);
                appended.push((Arc::clone(queue), bytes as u64));
                references += 1;
            }
            live.add(number, references);
            write.put_cf(family, number.to_be_bytes(), chunk.encode(&bases, clock::now_ms()));
        }
        appended
    }

    fn take_back(&self, appended: Vec<(Arc<Queue>, u64)>, chunks: usize, first_chunk: u64) {
        for (queue, bytes) in appended.into_iter().rev() {
            queue.take_back(bytes);
        }
        self.live.lock().forget(first_chunk, chunks);
    }

    /// Reserves the next block well before it is needed, so that the reservation is durable by then. Whether it did.
    fn reserve_chunks(&self, writer: &mut Writer, write: &mut WriteBatch) -> bool {
        let due = writer.next_chunk + CHUNK_BLOCK / 2 > writer.chunk_limit;
        if due {
            writer.chunk_limit += CHUNK_BLOCK;
            write.put_cf(self.family(keys::META), keys::CHUNK_LIMIT, writer.chunk_limit.to_be_bytes());
        }
        due
    }

    fn add_changes(&self, batch: &Batch, write: &mut WriteBatch) {
        for change in &batch.changes {
            match change {
                Change::Put { family, key, value } => write.put_cf(self.family(family), key, value),
                Change::Delete { family, key } => write.delete_cf(self.family(family), key),
                Change::DeleteRange { family, from, to } => write.delete_range_cf(self.family(family), from, to),
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
        let family = self.family(keys::CURSOR);
        for queue in &queues {
            queue.dirty.store(false, Ordering::Release);
            // The session may have ended: its cursor must not come back.
            if self.queues.read().contains_key(&queue.id()) {
                write.put_cf(family, keys::queue(queue.id()), queue.cursor().encode());
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

    /// The store's thread: syncs, and looks after cursors and free space.
    pub(super) fn run(&self) {
        loop {
            let (commit, chunk, touched) = {
                let mut writer = self.writer.lock();
                let pending = |writer: &Writer| writer.last_commit > self.durable.load(Ordering::Acquire);
                if !pending(&writer) && !self.stopping.load(Ordering::Acquire) {
                    let _timed_out = self.sync_wanted.wait_for(&mut writer, TICK);
                }
                if !pending(&writer) {
                    drop(writer);
                    self.look_after();
                    if self.stopping.load(Ordering::Acquire) {
                        return self.finish();
                    }
                    continue;
                }
                (writer.last_commit, writer.next_chunk - 1, std::mem::take(&mut writer.touched))
            };
            self.sync_or_die();
            self.visible.store(chunk, Ordering::Release);
            self.durable.store(commit, Ordering::Release);
            for queue in touched {
                queue.ready.notify_one();
            }
            for waker in self.wakers.read().iter() {
                waker();
            }
            self.reclaim_if_worthwhile();
        }
    }

    /// Cursors that no commit has taken along, and space that has become free.
    fn look_after(&self) {
        let mut write = WriteBatch::default();
        let cursors = self.add_cursors(&mut write, usize::MAX);
        if !write.is_empty()
            && let Err(error) = self.db.write(write)
        {
            tracing::error!(%error, "cannot write cursors: after a crash their records come again");
            self.mark_all_dirty(&cursors);
        }
        self.reclaim_if_worthwhile();
    }

    fn finish(&self) {
        let mut write = WriteBatch::default();
        drop(self.add_cursors(&mut write, usize::MAX));
        let result = self.db.write(write).and_then(|()| self.db.flush_wal(true));
        if let Err(error) = result {
            tracing::error!(%error, "cannot write the last cursors: their records come again after the start");
        }
    }

    /// After a failed sync nobody knows what the disk holds: the page cache may claim to be clean. The process stops, and
    /// the next start reads what is really there.
    pub(super) fn sync_or_die(&self) {
        if let Err(error) = self.db.flush_wal(true) {
            tracing::error!(%error, "sync of the store failed; stopping, because nothing after it could be trusted");
            std::process::exit(74);
        }
    }
}
