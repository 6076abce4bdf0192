//! What is to be written together: records for queues, and changes to everything else that is durable.

use std::sync::Arc;

use hookline_schemas::ports::PendingRecord;
use hookline_schemas::{Message, QueueId};

use super::chunk::{ChunkBuilder, Target};
use super::keys;
use super::message::{Origin, encode_from};
use super::queue::{Queue, QueueKind};
use super::retained::Kept;

/// One atomic write in the making. It is emptied by the commit and keeps its memory.
#[derive(Debug, Default)]
pub struct Batch {
    pub(super) chunks: Vec<ChunkBuilder>,
    pub(super) changes: Vec<Change>,
    pub(super) removed: Vec<QueueId>,
    /// Queues whose cursor is to be written with it.
    pub(super) cursors: Vec<Arc<Queue>>,
    /// Records whose queue and sequence the commit is to tell.
    pub(super) watched: Vec<RecordHandle>,
    /// Chunks of earlier commits, empty: their memory is used again.
    spare: Vec<ChunkBuilder>,
    origin: Origin,
}

/// Chunks that are kept for the next commit.
const SPARE_MAX: usize = 4;

/// A record of a batch, before its position is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHandle {
    pub(super) chunk: u32,
    pub(super) ordinal: u16,
}

#[derive(Debug)]
pub(super) enum Change {
    Put {
        family: &'static str,
        key: Vec<u8>,
        value: Vec<u8>,
    },
    Delete {
        family: &'static str,
        key: Vec<u8>,
    },
    DeleteRange {
        family: &'static str,
        from: Vec<u8>,
        to: Vec<u8>,
    },
    /// The retained message of a topic, or that it has none any more.
    Retained {
        topic: Vec<u8>,
        value: Option<(Vec<u8>, Kept)>,
    },
}

impl Batch {
    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.chunks.is_empty() && self.changes.is_empty() && self.removed.is_empty() && self.cursors.is_empty()
    }

    /// Adds the records that hooks want written.
    pub fn records_of<'a>(&mut self, records: impl Iterator<Item = (PendingRecord, &'a [u8])>) {
        for (record, row) in records {
            self.record(&[Target::plain(record.queue)], |out| out.extend_from_slice(row));
        }
    }

    /// Adds a message for the sessions of `targets`.
    pub(crate) fn message(&mut self, targets: &[Target], message: &Message) -> RecordHandle {
        let mut origin = std::mem::take(&mut self.origin);
        let record = self.record(targets, |out| encode_from(out, message, &mut origin));
        self.origin = origin;
        record
    }

    /// Adds a record for `targets`; `write` appends its body.
    pub(crate) fn record(&mut self, targets: &[Target], write: impl FnOnce(&mut Vec<u8>)) -> RecordHandle {
        if self.chunks.last().is_none_or(|chunk| chunk.is_full() || !chunk.fits(targets.len())) {
            self.chunks.push(self.spare.pop().unwrap_or_default());
        }
        let index = self.chunks.len() - 1;
        let ordinal = self.chunks[index].push(targets, write);
        RecordHandle { chunk: index as u32, ordinal }
    }

    pub(super) fn put(&mut self, family: &'static str, key: Vec<u8>, value: Vec<u8>) {
        self.changes.push(Change::Put { family, key, value });
    }

    pub(super) fn delete(&mut self, family: &'static str, key: Vec<u8>) {
        self.changes.push(Change::Delete { family, key });
    }

    /// Stores what is kept of a session.
    pub(crate) fn put_session(&mut self, client_id: &str, value: Vec<u8>) {
        self.put(keys::SESSION, client_id.as_bytes().to_vec(), value);
    }

    /// Ends a session: itself, its subscriptions, its queue and all that waits in it.
    pub(crate) fn delete_session(&mut self, client_id: &str, queue: QueueId) {
        self.delete(keys::SESSION, client_id.as_bytes().to_vec());
        self.delete_queue(queue);
    }

    /// Ends a queue with all that belongs to it.
    pub(super) fn delete_queue(&mut self, queue: QueueId) {
        for family in [keys::SUBSCRIPTION, keys::RECEIVED] {
            let (from, to) = (keys::queue(queue).to_vec(), keys::behind_queue(queue).to_vec());
            self.changes.push(Change::DeleteRange { family, from, to });
        }
        self.delete(keys::QUEUE, keys::queue(queue).to_vec());
        self.delete(keys::CURSOR, keys::queue(queue).to_vec());
        self.removed.push(queue);
    }

    /// Stores a subscription of a durable session.
    pub(crate) fn put_subscription(&mut self, queue: QueueId, filter: &str, value: Vec<u8>) {
        self.put(keys::SUBSCRIPTION, keys::in_queue(queue, filter.as_bytes()), value);
    }

    /// Ends a subscription of a durable session.
    pub(crate) fn delete_subscription(&mut self, queue: QueueId, filter: &str) {
        self.delete(keys::SUBSCRIPTION, keys::in_queue(queue, filter.as_bytes()));
    }

    /// Remembers that a QoS 2 message of a durable session has been taken.
    pub(crate) fn put_received(&mut self, queue: QueueId, packet_id: u16) {
        self.put(keys::RECEIVED, keys::in_queue(queue, &packet_id.to_be_bytes()), Vec::new());
    }

    /// Forgets it, at its PUBREL.
    pub(crate) fn delete_received(&mut self, queue: QueueId, packet_id: u16) {
        self.delete(keys::RECEIVED, keys::in_queue(queue, &packet_id.to_be_bytes()));
    }

    /// Makes a queue known.
    pub(super) fn put_queue(&mut self, id: QueueId, kind: QueueKind, name: &str) {
        self.put(keys::QUEUE, keys::queue(id).to_vec(), [&[kind as u8], name.as_bytes()].concat());
    }

    /// Stores how far a queue is.
    pub(super) fn put_cursor(&mut self, id: QueueId, cursor: Vec<u8>) {
        self.put(keys::CURSOR, keys::queue(id).to_vec(), cursor);
    }

    /// Writes how far a queue is, as of the commit.
    pub(crate) fn put_cursor_of(&mut self, queue: &Arc<Queue>) {
        if !self.cursors.iter().any(|other| other.id() == queue.id()) {
            self.cursors.push(Arc::clone(queue));
        }
    }

    /// Asks the commit where a record, which has one queue, comes to be.
    pub(crate) fn watch(&mut self, record: RecordHandle) {
        self.watched.push(record);
    }

    pub(super) fn clear(&mut self) {
        self.watched.clear();
        self.cursors.clear();
        for mut chunk in self.chunks.drain(..) {
            if self.spare.len() < SPARE_MAX && chunk.clear() {
                self.spare.push(chunk);
            }
        }
        self.changes.clear();
        self.removed.clear();
    }
}
