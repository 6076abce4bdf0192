//! Retained messages in the store: the last one of each topic. Nothing of them is in memory but how many there are.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hookline_mqtt::topic;
use hookline_schemas::Message;
use rocksdb::{Direction, IteratorMode, ReadOptions, WriteBatch};

use super::database::{family, read_error};
use super::{Batch, Change, Error, Store, decode_message, encode_message, keys};
use crate::retained::expires_at_ms;

/// How many there are, and what their keys and values take, bytes.
#[derive(Debug, Default)]
pub(super) struct Totals {
    count: AtomicU64,
    bytes: AtomicU64,
}

/// What a commit makes of the totals.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Difference {
    count: i64,
    bytes: i64,
}

/// What is to be known of a retained message beside its value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kept {
    size: u64,
    /// Milliseconds since the Unix epoch; `u64::MAX` is never.
    expires_at_ms: u64,
}

/// A part of what a filter matches.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) messages: Vec<Message>,
    /// Where the next page begins; `None`: there is none.
    pub(crate) next: Option<Box<str>>,
}

/// Topics that are looked at for one page: what a filter that matches little may cost at a time.
const LOOK_MAX: usize = 2048;

impl Totals {
    fn add(&self, difference: Difference) {
        self.count.fetch_add(difference.count as u64, Ordering::Relaxed);
        self.bytes.fetch_add(difference.bytes as u64, Ordering::Relaxed);
    }

    fn encode(&self, difference: Difference) -> Vec<u8> {
        let numbers = [(&self.count, difference.count), (&self.bytes, difference.bytes)];
        numbers.into_iter().flat_map(|(number, change)| number.load(Ordering::Relaxed).wrapping_add(change as u64).to_be_bytes()).collect()
    }
}

impl Batch {
    /// Stores a retained message.
    pub(crate) fn put_retained(&mut self, message: &Message) {
        let mut value = Vec::with_capacity(message.payload.len() + 128);
        encode_message(&mut value, message);
        let kept = Kept { size: size(message.topic.as_bytes(), &value), expires_at_ms: expires_at_ms(message) };
        self.changes.push(Change::Retained { topic: message.topic.as_bytes().to_vec(), value: Some((value, kept)) });
    }

    /// Clears a retained message.
    pub(crate) fn delete_retained(&mut self, topic: &str) {
        self.changes.push(Change::Retained { topic: topic.as_bytes().to_vec(), value: None });
    }
}

impl Store {
    /// How many retained messages there are.
    pub(crate) fn retained_count(&self) -> u64 {
        self.retained.count.load(Ordering::Relaxed)
    }

    /// What they take, bytes.
    pub(crate) fn retained_bytes(&self) -> u64 {
        self.retained.bytes.load(Ordering::Relaxed)
    }

    /// What the retained message of a topic takes, bytes; `None`: it has none.
    pub(crate) fn retained_size(&self, topic: &str) -> Result<Option<u64>, Error> {
        let db = self.db.get();
        let value = db.get_pinned_cf(family(&db, keys::RETAINED), topic).map_err(|error| read_error(&error))?;
        Ok(value.map(|value| size(topic.as_bytes(), &value)))
    }

    /// Those that a filter matches, in the order of their topics, from `from` on: at most `count`, and no more when they have
    /// `bytes_max`. Only topics with the filter's beginning are looked at, and of them a bounded number. What is damaged is left
    /// out, and said in the log.
    pub(crate) fn retained_page(
        &self,
        filter: &str,
        from: Option<&str>,
        count: usize,
        bytes_max: usize,
        now_ms: u64,
    ) -> Result<Page, Error> {
        let Some(wildcard) = filter.find(['+', '#']) else {
            let db = self.db.get();
            let value = db.get_cf(family(&db, keys::RETAINED), filter).map_err(|error| read_error(&error))?;
            return Ok(Page { messages: value.and_then(|value| readable(filter, value.into(), now_ms)).into_iter().collect(), next: None });
        };
        // "a/#" matches "a", too, so the slash before the wildcard does not belong to the common beginning.
        let beginning = filter[..wildcard].trim_end_matches('/');
        self.retained_behind(beginning, |name| topic::matches(filter, name), from, count, bytes_max, now_ms)
    }

    /// As [`Store::retained_page`], of all topics.
    pub(crate) fn all_retained(&self, from: Option<&str>, count: usize, bytes_max: usize, now_ms: u64) -> Result<Page, Error> {
        self.retained_behind("", |_| true, from, count, bytes_max, now_ms)
    }

    fn retained_behind(
        &self,
        beginning: &str,
        is_wanted: impl Fn(&str) -> bool,
        from: Option<&str>,
        count: usize,
        bytes_max: usize,
        now_ms: u64,
    ) -> Result<Page, Error> {
        let db = self.db.get();
        let mut page = Page::default();
        let mut options = ReadOptions::default();
        options.set_iterate_range(rocksdb::PrefixRange(beginning.as_bytes()));
        let mode = IteratorMode::From(from.unwrap_or(beginning).as_bytes(), Direction::Forward);
        let mut bytes = 0;
        for (looked, pair) in db.iterator_cf_opt(family(&db, keys::RETAINED), options, mode).enumerate() {
            let (key, value) = pair.map_err(|error| read_error(&error))?;
            let Some(name) = std::str::from_utf8(&key).ok().filter(|name| !name.is_empty()) else { continue };
            if looked == LOOK_MAX || page.messages.len() == count || bytes >= bytes_max {
                page.next = Some(name.into());
                break;
            }
            if is_wanted(name) {
                bytes += value.len();
                page.messages.extend(readable(name, value.into(), now_ms));
            }
        }
        Ok(page)
    }

    /// Removes those whose time is over, at most `count`; how many there were.
    pub(crate) fn expire_retained(&self, count: usize, now_ms: u64) -> Result<usize, Error> {
        let over = self.expired(count, now_ms)?;
        if over.is_empty() {
            return Ok(0);
        }
        // Nothing is written between the look and the deletion.
        let _writer = self.writer.lock();
        let (mut write, mut difference) = (WriteBatch::default(), Difference::default());
        {
            let db = self.db.get();
            for key in &over {
                let topic = key.get(8..).unwrap_or_default();
                let stored = db.get_cf(family(&db, keys::RETAINED), topic).map_err(|error| read_error(&error))?;
                // The topic may have a newer message, with an end of its own.
                if let Some(value) = stored {
                    let value_size = size(topic, &value);
                    if decode_message(&value.into()).is_none_or(|message| expires_at_ms(&message) <= now_ms) {
                        write.delete_cf(family(&db, keys::RETAINED), topic);
                        difference.count -= 1;
                        difference.bytes -= value_size as i64;
                    }
                }
                write.delete_cf(family(&db, keys::RETAINED_EXPIRY), key);
            }
            write.put_cf(family(&db, keys::META), keys::RETAINED_TOTALS, self.retained.encode(difference));
        }
        self.db.write(write)?;
        self.retained.add(difference);
        Ok(over.len())
    }

    fn expired(&self, count: usize, now_ms: u64) -> Result<Vec<Box<[u8]>>, Error> {
        let db = self.db.get();
        let first = IteratorMode::From(&[0], Direction::Forward);
        let mut over = Vec::new();
        for pair in db.iterator_cf(family(&db, keys::RETAINED_EXPIRY), first).take(count) {
            let (key, _) = pair.map_err(|error| read_error(&error))?;
            if keys::number(&key).is_none_or(|at_ms| at_ms > now_ms) {
                break;
            }
            over.push(key);
        }
        Ok(over)
    }

    /// Adds the retained messages of a batch to a write, and what follows for the totals. Only the holder of the writer's lock
    /// may call it.
    pub(super) fn add_retained(&self, batch: &Batch, write: &mut WriteBatch) -> Difference {
        let mut difference = Difference::default();
        let db = self.db.get();
        let (retained, expiry) = (family(&db, keys::RETAINED), family(&db, keys::RETAINED_EXPIRY));
        let stored = |topic: &[u8]| {
            let value = db.get_cf(retained, topic).ok().flatten()?;
            let size = size(topic, &value);
            Some(Kept { size, expires_at_ms: decode_message(&value.into()).map_or(u64::MAX, |message| expires_at_ms(&message)) })
        };
        // What earlier changes of this batch have made of a topic.
        let mut before: HashMap<&[u8], Option<Kept>> = HashMap::new();
        for change in &batch.changes {
            let Change::Retained { topic, value } = change else { continue };
            let old = before.get(topic.as_slice()).copied().unwrap_or_else(|| stored(topic));
            if let Some(old) = old.filter(|old| old.expires_at_ms < u64::MAX) {
                write.delete_cf(expiry, expiry_key(old.expires_at_ms, topic));
            }
            let new = value.as_ref().map(|(_, kept)| *kept);
            match value {
                Some((value, _)) => write.put_cf(retained, topic, value),
                None => write.delete_cf(retained, topic),
            }
            if let Some(new) = new.filter(|new| new.expires_at_ms < u64::MAX) {
                write.put_cf(expiry, expiry_key(new.expires_at_ms, topic), []);
            }
            difference.count += i64::from(new.is_some()) - i64::from(old.is_some());
            difference.bytes += new.map_or(0, |new| new.size as i64) - old.map_or(0, |old| old.size as i64);
            before.insert(topic, new);
        }
        if !before.is_empty() {
            write.put_cf(family(&db, keys::META), keys::RETAINED_TOTALS, self.retained.encode(difference));
        }
        difference
    }

    /// The write of [`Store::add_retained`] has been made.
    pub(super) fn count_retained(&self, difference: Difference) {
        if difference != Difference::default() {
            self.retained.add(difference);
        }
    }

    /// Takes the totals over when the store is opened.
    pub(super) fn restore_retained(&self) -> Result<(), Error> {
        let totals = self.db.value(keys::META, keys::RETAINED_TOTALS)?.unwrap_or_default();
        let number = |at: usize| totals.get(at..).and_then(keys::number).unwrap_or(0);
        self.retained.count.store(number(0), Ordering::Relaxed);
        self.retained.bytes.store(number(8), Ordering::Relaxed);
        Ok(())
    }

    /// Counts them anew, and when they end: for a store of an older format, and one that was mended.
    pub(super) fn recount_retained(&self) -> Result<(), Error> {
        let db = self.db.get();
        let (mut count, mut bytes) = (0, 0);
        let mut write = WriteBatch::default();
        for pair in super::database::pairs(&db, keys::RETAINED, &[]) {
            let (topic, value) = pair?;
            count += 1;
            bytes += size(&topic, &value);
            let expires_at_ms = decode_message(&value.into()).map_or(u64::MAX, |message| expires_at_ms(&message));
            if expires_at_ms < u64::MAX {
                write.put_cf(family(&db, keys::RETAINED_EXPIRY), expiry_key(expires_at_ms, &topic), []);
            }
            if write.len() >= 10_000 {
                self.db.write(std::mem::take(&mut write))?;
            }
        }
        let totals = Totals { count: count.into(), bytes: bytes.into() };
        write.put_cf(family(&db, keys::META), keys::RETAINED_TOTALS, totals.encode(Difference::default()));
        self.db.write(write)
    }
}

/// A message that is not damaged, and whose time is not over.
fn readable(topic: &str, value: bytes::Bytes, now_ms: u64) -> Option<Message> {
    let message = decode_message(&value);
    if message.is_none() {
        tracing::error!(topic, "a retained message in the store is damaged");
    }
    message.filter(|message| expires_at_ms(message) > now_ms)
}

fn expiry_key(expires_at_ms: u64, topic: &[u8]) -> Vec<u8> {
    [&expires_at_ms.to_be_bytes()[..], topic].concat()
}

fn size(topic: &[u8], value: &[u8]) -> u64 {
    (topic.len() + value.len()) as u64
}
