//! Free space: which chunks still hold something that waits, and the deletion of the oldest that do not.

use std::collections::{BTreeMap, BTreeSet};

use rocksdb::WriteBatch;

use super::chunk::Position;
use super::database::family;
use super::{Store, keys};

/// For each chunk how many records of queues wait in it.
#[derive(Debug, Default)]
pub(super) struct Live {
    chunks: BTreeMap<u64, u32>,
    /// Nothing waits in chunks below it.
    floor: u64,
    /// Chunks that became free since the last deletion.
    free: u64,
}

/// Chunks that are deleted together: each deletion of a range is a burden on later reads.
const CHUNKS_PER_RECLAIM: u64 = 2048;

impl Live {
    pub(super) fn starting_at(floor: u64) -> Live {
        Live { floor, ..Live::default() }
    }

    pub(super) fn add(&mut self, chunk: u64, references: u32) {
        *self.chunks.entry(chunk).or_default() += references;
    }

    pub(super) fn forget(&mut self, first: u64, count: usize) {
        for chunk in first..first + count as u64 {
            self.chunks.remove(&chunk);
        }
    }

    pub(super) fn release(&mut self, positions: impl IntoIterator<Item = Position>) {
        for position in positions {
            if let Some(count) = self.chunks.get_mut(&position.chunk()) {
                *count = count.saturating_sub(1);
            }
        }
    }

    /// Chunks from `from` to before `to` that something waits in.
    pub(super) fn waiting(&self, from: u64, to: u64) -> BTreeSet<u64> {
        self.chunks.range(from..to).filter(|(_, count)| **count > 0).map(|(number, _)| *number).collect()
    }

    /// Moves the floor up to the first chunk that something waits in, but not beyond `limit`; the floor, where at least so many chunks
    /// became free.
    fn advance(&mut self, limit: u64, least: u64) -> Option<u64> {
        while let Some(entry) = self.chunks.first_entry().filter(|entry| *entry.get() == 0 && *entry.key() < limit) {
            self.floor = entry.key() + 1;
            entry.remove();
            self.free += 1;
        }
        (self.free >= least).then(|| {
            self.free = 0;
            self.floor
        })
    }
}

impl Store {
    /// Deletes chunks that nothing waits in, once there are enough of them.
    ///
    /// The cursors go first, and are synced: a deleted chunk means that its records are settled.
    pub(super) fn reclaim_if_worthwhile(&self) {
        let limit = self.visible.load(std::sync::atomic::Ordering::Acquire);
        // A full store needs every chunk: the next write may wait for it.
        let is_full = self.space.is_full();
        let least = if is_full { 1 } else { CHUNKS_PER_RECLAIM };
        let Some(to) = self.live.lock().advance(limit, least) else { return };
        {
            // Cursors are written in the order in which they were taken.
            let _writer = self.writer.lock();
            let mut write = WriteBatch::default();
            let cursors = self.add_cursors(&mut write, usize::MAX);
            write.put_cf(family(&self.db.get(), keys::META), keys::FLOOR, to.to_be_bytes());
            if let Err(error) = self.db.write(write) {
                tracing::error!(%error, "cannot write the floor of the store; its space stays taken");
                return self.mark_all_dirty(&cursors);
            }
        }
        self.sync_or_die();
        // The end of a file range belongs to it, the end of a key range does not: the floor itself must stay.
        // From the beginning: what an earlier deletion has missed goes, too.
        let (from, to, last) = (0u64.to_be_bytes(), to.to_be_bytes(), to.saturating_sub(1).to_be_bytes());
        let db = self.db.get();
        for name in [keys::CHUNK, keys::DIRECTORY] {
            let family = family(&db, name);
            let deleted = db.delete_file_in_range_cf(family, from, last).and_then(|()| db.delete_range_cf(family, from, to));
            if let Err(error) = deleted {
                tracing::error!(%error, "cannot delete old chunks; their space stays taken");
            }
            if is_full {
                db.compact_range_cf(family, Some(from), Some(to));
            }
        }
    }
}
