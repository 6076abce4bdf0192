//! Messages that wait for their time.

use std::sync::atomic::Ordering;

use hookline_schemas::Message;

use super::{Batch, Error, Store, decode_message, keys};

/// When a message is due, and a number that makes it one of its kind. Keys sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DelayedKey {
    due_ms: u64,
    number: u64,
}

impl DelayedKey {
    /// Milliseconds since the Unix epoch.
    pub(crate) fn due_ms(self) -> u64 {
        self.due_ms
    }

    pub(crate) fn number(self) -> u64 {
        self.number
    }

    /// As a text of 32 hexadecimal digits, by which it is named outside.
    pub(crate) fn text(self) -> String {
        format!("{:016X}{:016X}", self.due_ms, self.number)
    }

    /// Reads [`DelayedKey::text`].
    pub(crate) fn parse(text: &str) -> Option<DelayedKey> {
        let both = u128::from_str_radix(text, 16).ok().filter(|_| text.len() == 32)?;
        Some(DelayedKey { due_ms: (both >> 64) as u64, number: both as u64 })
    }

    fn to_bytes(self) -> Vec<u8> {
        [self.due_ms.to_be_bytes(), self.number.to_be_bytes()].concat()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<DelayedKey> {
        Some(DelayedKey { due_ms: keys::number(bytes)?, number: keys::number(bytes.get(8..)?)? })
    }
}

impl Batch {
    /// Stores a message until its time.
    pub(crate) fn put_delayed(&mut self, key: DelayedKey, message: Vec<u8>) {
        self.put(keys::DELAYED, key.to_bytes(), message);
    }

    /// Takes a message from where it waited.
    pub(crate) fn delete_delayed(&mut self, key: DelayedKey) {
        self.delete(keys::DELAYED, key.to_bytes());
    }
}

impl Store {
    /// A new key for that time. It counts as waiting from now on.
    pub(crate) fn new_delayed(&self, due_ms: u64) -> DelayedKey {
        self.delayed_count.fetch_add(1, Ordering::Relaxed);
        DelayedKey { due_ms, number: self.next_delayed.fetch_add(1, Ordering::Relaxed) }
    }

    /// One waits no more.
    pub(crate) fn forget_delayed(&self) {
        self.delayed_count.fetch_sub(1, Ordering::Relaxed);
    }

    /// One waits again.
    pub(crate) fn remember_delayed(&self) {
        self.delayed_count.fetch_add(1, Ordering::Relaxed);
    }

    /// Messages that wait.
    pub fn delayed_count(&self) -> usize {
        self.delayed_count.load(Ordering::Relaxed)
    }

    /// Reads a message; `None`: it is not there, or damaged.
    pub(crate) fn delayed(&self, key: DelayedKey) -> Result<Option<Message>, Error> {
        Ok(self.db.value(keys::DELAYED, key.to_bytes())?.and_then(|bytes| decode_message(&bytes.into())))
    }

    /// All that wait, when the store is opened.
    pub(super) fn stored_delayed(&self) -> Result<Vec<DelayedKey>, Error> {
        let mut found = Vec::new();
        for pair in super::database::pairs(&self.db.get(), keys::DELAYED, &[]) {
            match DelayedKey::from_bytes(&pair?.0) {
                Some(key) => found.push(key),
                None => tracing::error!("a delayed message in the store has no valid key"),
            }
        }
        let next = found.iter().map(|key| key.number + 1).max().unwrap_or(0);
        self.next_delayed.store(next, Ordering::Relaxed);
        self.delayed_count.store(found.len(), Ordering::Relaxed);
        Ok(found)
    }
}
