//! Retained messages that are carried out of this broker, and into it. It blocks: not for workers, nor for the runtime's own threads.

use hookline_schemas::Message;

use super::Observer;
use crate::clock;
use crate::retained::expires_at_ms;
use crate::store::{Batch, Error};

/// Messages, and their bytes, that are carried at a time.
const PART: usize = 256;
const PART_BYTES: usize = 4 << 20;

/// What became of a retained message that was carried in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CarriedIn {
    Kept,
    /// Its time is over.
    Expired,
    /// `retained_max`, `retained_bytes_max` or `retained_payload_bytes_max` are reached.
    NoRoom,
}

impl Observer {
    /// Retained messages of clients, by their topics from `from` on, and where the next part begins; `None`: there is none.
    ///
    /// # Errors
    /// They cannot be read.
    pub fn carry_retained_out(&self, from: Option<&str>) -> Result<(Vec<Message>, Option<Box<str>>), Error> {
        let page = self.shared.store.all_retained(from, PART, PART_BYTES, clock::now_ms())?;
        Ok((page.messages, page.next))
    }

    /// Keeps retained messages, durably, each in the place of the one that its topic has. Subscribers are not told.
    ///
    /// # Errors
    /// They cannot be written; those before may have been.
    pub fn carry_retained_in(&self, messages: &[Message]) -> Result<Vec<CarriedIn>, Error> {
        let (store, zone, now_ms) = (&self.shared.store, self.shared.zones.get("default"), clock::now_ms());
        if store.is_full() {
            return Err(Error::Write("the disk is full, or nearly so".into()));
        }
        let (mut outcomes, mut ticket) = (Vec::with_capacity(messages.len()), None);
        for message in messages {
            let outcome = if expires_at_ms(message) <= now_ms {
                CarriedIn::Expired
            } else if self.shared.retained.has_room(message, &zone.limits) {
                CarriedIn::Kept
            } else {
                CarriedIn::NoRoom
            };
            if outcome == CarriedIn::Kept {
                // One by one, so that the room of the next one is known.
                let mut batch = Batch::default();
                batch.put_retained(message);
                ticket = Some(store.commit(&mut batch)?.ticket);
            }
            outcomes.push(outcome);
        }
        ticket.map_or(Ok(()), |ticket| store.wait_until_durable(ticket))?;
        Ok(outcomes)
    }
}
