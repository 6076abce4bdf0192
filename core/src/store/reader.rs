//! Reading: records of a queue by their sequence, for sessions and for the delivery to sinks.

use std::sync::Arc;

use bytes::Bytes;
use hookline_schemas::ports::{BoxFuture, Ledger, QueueError, QueueReader, Unreadable};
use hookline_schemas::record::{decode_record, encode_record};
use hookline_schemas::{Message, QueueId, Record};
use parking_lot::Mutex;
use rocksdb::WriteBatch;

use super::chunk::{Chunk, Position, Target};
use super::database::family;
use super::dead_letter::Letter;
use super::message::{Familiar, decode_familiar};
use super::queue::{Queue, Settlement};
use super::{Batch, Error, Store, keys};

/// The chunk that was read last: the next record is mostly in it, too.
#[derive(Debug, Default)]
pub(crate) struct ChunkCache {
    chunk: Option<(u64, Chunk)>,
    familiar: Familiar,
}

impl Store {
    /// The chunk with that number.
    fn chunk<'a>(&self, number: u64, kept: &'a mut Option<(u64, Chunk)>) -> Result<&'a Chunk, Error> {
        let known = kept.take_if(|(known, _)| *known == number);
        let chunk = match known {
            Some((_, chunk)) => chunk,
            None => {
                let damaged = |problem| Error::Damaged { chunk: number, problem };
                let bytes = self.db.value(keys::CHUNK, number.to_be_bytes())?;
                Chunk::parse(bytes.ok_or(damaged("it is missing"))?.into()).map_err(damaged)?
            }
        };
        Ok(&kept.insert((number, chunk)).1)
    }

    /// The bytes of a record. They share the chunk's memory.
    fn body(&self, position: Position, cache: &mut ChunkCache) -> Result<Bytes, Error> {
        let chunk = self.chunk(position.chunk(), &mut cache.chunk)?;
        chunk.body(position.ordinal()).map(|body| chunk.memory().slice_ref(body)).ok_or(too_few(position))
    }

    /// What a record takes in the store, bytes; 0 where it cannot be read.
    pub(super) fn record_bytes(&self, queue: &Queue, sequence: u64) -> u64 {
        let position = queue.position(sequence);
        position.and_then(|position| self.body(position, &mut ChunkCache::default()).ok()).map_or(0, |body| body.len() as u64)
    }

    /// A message of a session's queue, by where it lies. `None`: it is not durable yet.
    pub(crate) fn message(&self, queue: QueueId, position: Position, cache: &mut ChunkCache) -> Result<Option<StoredMessage>, Error> {
        if !self.is_visible(position) {
            return Ok(None);
        }
        let ChunkCache { chunk, familiar } = cache;
        let chunk = self.chunk(position.chunk(), chunk)?;
        let body = chunk.body(position.ordinal()).ok_or(too_few(position))?;
        let flags = chunk.flags(position.ordinal(), queue).unwrap_or_default();
        let damaged = Error::Damaged { chunk: position.chunk(), problem: "a message cannot be decoded" };
        let message = decode_familiar(body, chunk.memory(), familiar).ok_or(damaged)?;
        Ok(Some(StoredMessage { message, bytes: body.len() as u64, flags }))
    }
}

fn too_few(position: Position) -> Error {
    Error::Damaged { chunk: position.chunk(), problem: "it has fewer records" }
}

/// A message of a session's queue, as the store has it.
#[derive(Debug)]
pub(crate) struct StoredMessage {
    pub(crate) message: Message,
    pub(crate) bytes: u64,
    /// Of the subscription that it came by.
    pub(crate) flags: u8,
}

/// The queue of an action, for the worker that delivers from it.
#[derive(Debug)]
pub struct ActionQueue {
    store: Arc<Store>,
    queue: Arc<Queue>,
    cache: Mutex<ChunkCache>,
    /// What all identifiers of its records begin with.
    id_prefix: String,
}

impl ActionQueue {
    /// The reading end of a queue. There must be only one.
    pub fn new(store: Arc<Store>, queue: Arc<Queue>) -> ActionQueue {
        let id_prefix = format!("{}:{}:", store.node, queue.id().0);
        ActionQueue { store, queue, cache: Mutex::default(), id_prefix }
    }

    /// Sixteen hexadecimal digits behind the prefix. By hand, because every record of every sink has one.
    fn hookline_id(&self, position: Position) -> String {
        let mut id = String::with_capacity(self.id_prefix.len() + 16);
        id.push_str(&self.id_prefix);
        id.extend((0..16).rev().map(|digit| char::from(b"0123456789abcdef"[(position.0 >> (4 * digit) & 15) as usize])));
        id
    }

    fn record(&self, sequence: u64, position: Position, cache: &mut ChunkCache) -> Result<Result<Record, Unreadable>, Error> {
        let body = match self.store.body(position, cache) {
            Ok(body) => body,
            Err(error) if error.is_final() => return Ok(Err(Unreadable { sequence, bytes: 0, problem: error.to_string() })),
            Err(error) => return Err(error),
        };
        let bytes = body.len() as u32;
        Ok(match decode_record(&body) {
            Ok((trace, row)) => Ok(Record { sequence, hookline_id: self.hookline_id(position), bytes, row, trace }),
            Err(error) => Err(Unreadable { sequence, bytes, problem: error.to_string() }),
        })
    }
}

impl QueueReader for ActionQueue {
    fn front(&self) -> u64 {
        self.queue.front()
    }

    fn read(&self, from: u64, records_max: usize, bytes_max: usize) -> Result<Vec<Result<Record, Unreadable>>, QueueError> {
        let mut cache = self.cache.lock();
        let mut records = Vec::new();
        let mut bytes = 0;
        for (sequence, position) in self.queue.positions(from, records_max) {
            if bytes >= bytes_max || !self.store.is_visible(position) {
                break;
            }
            let record = self.record(sequence, position, &mut cache).map_err(|error| QueueError(error.to_string()))?;
            bytes += record.as_ref().map_or_else(|unreadable| unreadable.bytes, |record| record.bytes) as usize;
            records.push(record);
        }
        Ok(records)
    }

    fn wait(&self, from: u64) -> BoxFuture<'_, ()> {
        Box::pin(async move {
            loop {
                let notified = self.queue.ready.notified();
                let first = self.queue.positions(from, 1);
                if first.first().is_some_and(|(_, position)| self.store.is_visible(*position)) {
                    return;
                }
                notified.await;
            }
        })
    }

    fn delivered(&self, records: &[Record]) {
        let settled = records.iter().map(|record| (record.sequence, u64::from(record.bytes)));
        self.store.settle(&self.queue, settled, Settlement::Delivered);
    }

    fn dead_letter(&self, sequence: u64, bytes: u64, error: &str) -> Result<(), QueueError> {
        let position = self.queue.position(sequence);
        let body = match position.map(|position| self.store.body(position, &mut self.cache.lock())) {
            Some(Ok(body)) => body,
            Some(Err(error)) if !error.is_final() => return Err(QueueError(error.to_string())),
            // What is damaged has no body to keep; its letter says so.
            Some(Err(_)) | None => Bytes::new(),
        };
        let value = Letter::encode(crate::clock::now_ms(), error, &body);
        // The letter first: a crash in between repeats the record, and its letter takes the same place again.
        let key = keys::in_queue(self.queue.id(), &sequence.to_be_bytes());
        let mut write = WriteBatch::default();
        write.put_cf(family(&self.store.db.get(), keys::DEAD), key, value);
        self.store.db.write(write).map_err(|error| QueueError(error.to_string()))?;
        self.store.settle(&self.queue, [(sequence, bytes)], Settlement::DeadLettered);
        Ok(())
    }

    fn hand_over(&self, record: &Record, queues: &[QueueId]) -> Result<(), QueueError> {
        let mut batch = Batch::default();
        let targets: Vec<Target> = queues.iter().copied().map(Target::plain).collect();
        batch.record(&targets, |out| encode_record(out, record.trace.as_deref(), &record.row));
        // There first: a crash in between hands it over again.
        self.store.commit(&mut batch).map_err(|error| QueueError(error.to_string()))?;
        self.store.settle(&self.queue, [(record.sequence, u64::from(record.bytes))], Settlement::DeadLettered);
        Ok(())
    }

    fn ledger(&self) -> Ledger {
        self.queue.ledger()
    }
}
