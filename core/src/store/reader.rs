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
use super::queue::{Queue, Settlement};
use super::{Batch, Error, Store, decode_message, keys};

/// The chunk that was read last: the next record is mostly in it, too.
#[derive(Debug, Default)]
pub(crate) struct ChunkCache(Option<(u64, Chunk)>);

impl Store {
    /// The bytes of a record. They share the chunk's memory.
    fn body(&self, position: Position, cache: &mut ChunkCache) -> Result<Bytes, Error> {
        let number = position.chunk();
        let damaged = |problem| Error::Damaged { chunk: number, problem };
        if cache.0.as_ref().is_none_or(|(cached, _)| *cached != number) {
            let bytes = self.db.value(keys::CHUNK, number.to_be_bytes())?;
            let chunk = Chunk::parse(bytes.ok_or(damaged("it is missing"))?.into()).map_err(damaged)?;
            cache.0 = Some((number, chunk));
        }
        let body = cache.0.as_ref().and_then(|(_, chunk)| chunk.body(position.ordinal()));
        body.ok_or(damaged("it has fewer records"))
    }

    /// What a record takes in the store, bytes; 0 where it cannot be read.
    pub(super) fn record_bytes(&self, queue: &Queue, sequence: u64) -> u64 {
        let position = queue.position(sequence);
        position.and_then(|position| self.body(position, &mut ChunkCache::default()).ok()).map_or(0, |body| body.len() as u64)
    }

    /// A message of a session's queue. `None`: it is settled, or not durable yet.
    pub(crate) fn message(&self, queue: &Queue, sequence: u64, cache: &mut ChunkCache) -> Result<Option<StoredMessage>, Error> {
        let Some(position) = queue.position(sequence).filter(|position| self.is_visible(*position)) else { return Ok(None) };
        let body = self.body(position, cache)?;
        let flags = cache.0.as_ref().and_then(|(_, chunk)| chunk.flags(position.ordinal(), queue.id())).unwrap_or_default();
        let damaged = Error::Damaged { chunk: position.chunk(), problem: "a message cannot be decoded" };
        let message = decode_message(&body).ok_or(damaged)?;
        Ok(Some(StoredMessage { message, bytes: body.len() as u64, flags }))
    }
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
}

impl ActionQueue {
    /// The reading end of a queue. There must be only one.
    pub fn new(store: Arc<Store>, queue: Arc<Queue>) -> ActionQueue {
        ActionQueue { store, queue, cache: Mutex::default() }
    }

    fn hookline_id(&self, position: Position) -> String {
        format!("{}:{}:{:016x}", self.store.node, self.queue.id().0, position.0)
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
