//! Lists for those who look from outside, straight from the database and beside the workers; and what they change there.

use std::ops::ControlFlow;
use std::time::{Duration, Instant};

use hookline_schemas::{Message, QueueId};

use super::delayed::DelayedKey;
use super::{Batch, Error, Store, Ticket, database, decode_message, keys};

/// How long a change may take to become durable.
const DURABLE_TIMEOUT: Duration = Duration::from_secs(10);
/// How often it is looked whether it is.
const DURABLE_LOOK: Duration = Duration::from_millis(1);

impl Store {
    /// The subscriptions of durable sessions, by their queues and filters, until `visit` has enough of them: queue, filter, and the value as bytes.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn each_subscription(&self, mut visit: impl FnMut(QueueId, &str, &[u8]) -> ControlFlow<()>) -> Result<(), Error> {
        for pair in database::pairs(&self.db.get(), keys::SUBSCRIPTION, &[]) {
            let (key, value) = pair?;
            let filter = key.get(8..).and_then(|filter| std::str::from_utf8(filter).ok());
            let (Some(queue), Some(filter)) = (keys::number(&key), filter) else { continue };
            if visit(QueueId(queue), filter, &value).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// The messages that wait for their time, by it, until `visit` has enough of them. What is damaged comes as `None`.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn each_delayed(&self, mut visit: impl FnMut(DelayedKey, Option<Message>) -> ControlFlow<()>) -> Result<(), Error> {
        for pair in database::pairs(&self.db.get(), keys::DELAYED, &[]) {
            let (key, value) = pair?;
            let Some(key) = DelayedKey::from_bytes(&key) else { continue };
            if visit(key, decode_message(&value.into_vec().into())).is_break() {
                break;
            }
        }
        Ok(())
    }

    /// Writes a batch, and waits until it is durable at the level in force. It blocks: not for workers.
    ///
    /// # Errors
    /// It cannot be written, or was not synced in time.
    pub(crate) fn commit_durably(&self, batch: &mut Batch) -> Result<(), Error> {
        let ticket = self.commit(batch)?.ticket;
        self.wait_until_durable(ticket)
    }

    /// Waits until a commit is durable at the level in force. It blocks: not for workers.
    ///
    /// # Errors
    /// It was not synced in time.
    pub(crate) fn wait_until_durable(&self, ticket: Ticket) -> Result<(), Error> {
        let deadline = Instant::now() + DURABLE_TIMEOUT;
        while self.durable() < ticket {
            if Instant::now() > deadline {
                return Err(Error::Write("the disk takes long; whether it was done will be seen".into()));
            }
            std::thread::sleep(DURABLE_LOOK);
        }
        Ok(())
    }

    /// Has everything on the disk that was written so far, also what no commit tells of. It blocks: not for workers.
    pub fn sync(&self) {
        self.sync_or_die();
    }
}

impl Batch {
    /// Sets a small value that is kept over a restart; without one the key is removed.
    pub(crate) fn put_state(&mut self, key: Vec<u8>, value: Option<Vec<u8>>) {
        match value {
            Some(value) => self.put(keys::STATE, key, value),
            None => self.delete(keys::STATE, key),
        }
    }
}
