//! Dead letters: records that a sink refused for good, kept with its error until somebody replays or purges them.

use bytes::Bytes;
use hookline_schemas::record::{decode_record, encode_record};
use hookline_schemas::{Map, QueueId, Value};
use serde::{Deserialize, Serialize};

use super::database::pairs;
use super::queue::Queue;
use super::{Batch, Error, QueueTarget, Store, keys};
use crate::HashMap;

/// A record that the sink refused for good.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub queue: QueueId,
    pub sequence: u64,
    pub error: String,
    /// When it came here, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// The row as it was stored; `None`: it cannot be decoded.
    pub row: Option<Value>,
}

/// What a replay of all letters has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct Replayed {
    pub replayed: u64,
    /// Letters that could not be replayed, and are still there.
    pub kept: u64,
    /// Why, for the first of them.
    pub problem: Option<String>,
}

/// A letter in the form that it is stored in.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Letter {
    at_ms: u64,
    error: String,
    body: Bytes,
}

/// Letters that are read together.
const PAGE: usize = 64;

impl Letter {
    pub(super) fn encode(at_ms: u64, error: &str, body: &[u8]) -> Vec<u8> {
        [&at_ms.to_be_bytes()[..], &(error.len() as u32).to_be_bytes(), error.as_bytes(), body].concat()
    }

    pub(super) fn decode(value: &Bytes) -> Option<Letter> {
        let at_ms = keys::number(value)?;
        let length = u32::from_be_bytes(*value.get(8..)?.first_chunk::<4>()?);
        let end = usize::try_from(length).ok()?.checked_add(12)?;
        let error = String::from_utf8_lossy(value.get(12..end)?).into_owned();
        Some(Letter { at_ms, error, body: value.slice(end..) })
    }

    fn shown(self, queue: QueueId, sequence: u64) -> DeadLetter {
        DeadLetter { queue, sequence, error: self.error, at_ms: self.at_ms, row: decode_record(&self.body).ok().map(|(_, row)| row) }
    }
}

impl Store {
    /// The dead letters of a queue, oldest first, at most `count`.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dead_letters(&self, queue: QueueId, count: usize) -> Result<Vec<DeadLetter>, Error> {
        self.dead_letters_from(queue, 0, count)
    }

    /// As [`Store::dead_letters`], from a sequence on.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn dead_letters_from(&self, queue: QueueId, from: u64, count: usize) -> Result<Vec<DeadLetter>, Error> {
        let first = keys::in_queue(queue, &from.to_be_bytes());
        let mut letters = Vec::new();
        for pair in pairs(&self.db.get(), keys::DEAD, &first).take(count) {
            let (key, value) = pair?;
            if keys::number(&key) != Some(queue.0) {
                break;
            }
            let sequence = key.get(8..).and_then(keys::number).unwrap_or_default();
            letters.push(Letter::decode(&value.into()).unwrap_or_else(damaged).shown(queue, sequence));
        }
        Ok(letters)
    }

    /// One dead letter.
    ///
    /// # Errors
    /// There is no such letter, or the store cannot be read.
    pub fn dead_letter(&self, queue: QueueId, sequence: u64) -> Result<DeadLetter, Error> {
        let value = self.letter(queue, sequence)?;
        Ok(Letter::decode(&value).unwrap_or_else(damaged).shown(queue, sequence))
    }

    /// Puts the record of a letter into its queue again, at the end, and takes the letter away: both in one commit. The record
    /// counts as accepted once more, and has another `hookline_id`.
    ///
    /// # Errors
    /// There is no such letter, its record is damaged, the queue or the store is full, or the write has failed. The letter is
    /// still there then.
    pub fn replay_dead_letter(&self, queue: &Queue, sequence: u64) -> Result<(), Error> {
        // Two replays of one letter at a time would deliver it twice.
        let _one_at_a_time = self.letters.lock();
        let value = self.letter(queue.id(), sequence)?;
        let Some(letter) = Letter::decode(&value).filter(|letter| decode_record(&letter.body).is_ok()) else {
            return Err(Error::Refused(format!("the record of dead letter {sequence} is damaged, it can only be purged")));
        };
        if queue.when_full().is_some() {
            let name = queue.name();
            return Err(Error::Refused(format!(
                "the queue of \"{name}\" is full; wait until its sink has taken what waits, or raise its bounds"
            )));
        }
        if self.is_full() {
            return Err(Error::Refused("the store takes nothing new; make room on its disk".into()));
        }
        let mut batch = Batch::default();
        batch.record(&[QueueTarget::plain(queue.id())], |out| out.extend_from_slice(&letter.body));
        batch.delete(keys::DEAD, keys::in_queue(queue.id(), &sequence.to_be_bytes()));
        self.commit(&mut batch).map(drop)
    }

    /// Replays all letters of a queue that are there now, oldest first.
    ///
    /// # Errors
    /// The store cannot be read or written. What was replayed before is in its queue.
    pub fn replay_dead_letters(&self, queue: &Queue) -> Result<Replayed, Error> {
        let mut done = Replayed::default();
        self.each_letter(queue, |sequence| {
            match self.replay_dead_letter(queue, sequence) {
                Ok(()) => done.replayed += 1,
                // Somebody else was faster.
                Err(Error::NoLetter(_)) => {}
                Err(Error::Refused(problem)) => {
                    done.kept += 1;
                    done.problem.get_or_insert(problem);
                }
                Err(error) => return Err(error),
            }
            Ok(())
        })?;
        Ok(done)
    }

    /// Changes the row of a letter, which stays where it is; the row as it is then. Values that are not named keep their types.
    ///
    /// # Errors
    /// There is no such letter, its record is damaged, or the write has failed.
    pub fn edit_dead_letter(&self, queue: &Queue, sequence: u64, patch: &Value) -> Result<DeadLetter, Error> {
        let _one_at_a_time = self.letters.lock();
        let letter = Letter::decode(&self.letter(queue.id(), sequence)?).unwrap_or_else(damaged);
        let Ok((trace, mut row)) = decode_record(&letter.body) else {
            return Err(Error::Refused(format!("the record of dead letter {sequence} is damaged, it can only be purged")));
        };
        merge(&mut row, patch);
        let mut body = Vec::new();
        encode_record(&mut body, trace.as_deref(), &row);
        let mut batch = Batch::default();
        let value = Letter::encode(letter.at_ms, &letter.error, &body);
        batch.put(keys::DEAD, keys::in_queue(queue.id(), &sequence.to_be_bytes()), value);
        self.commit(&mut batch)?;
        Ok(Letter { body: body.into(), ..letter }.shown(queue.id(), sequence))
    }

    /// Takes a letter away, with its record.
    ///
    /// # Errors
    /// There is no such letter, or the write has failed.
    pub fn purge_dead_letter(&self, queue: &Queue, sequence: u64) -> Result<(), Error> {
        let _one_at_a_time = self.letters.lock();
        self.letter(queue.id(), sequence)?;
        let mut batch = Batch::default();
        batch.delete(keys::DEAD, keys::in_queue(queue.id(), &sequence.to_be_bytes()));
        self.commit(&mut batch).map(drop)
    }

    /// Takes all letters of a queue away that are there now; how many.
    ///
    /// # Errors
    /// The store cannot be read or written.
    pub fn purge_dead_letters(&self, queue: &Queue) -> Result<u64, Error> {
        let mut purged = 0;
        self.each_letter(queue, |sequence| match self.purge_dead_letter(queue, sequence) {
            Ok(()) => {
                purged += 1;
                Ok(())
            }
            Err(Error::NoLetter(_)) => Ok(()),
            Err(error) => Err(error),
        })?;
        Ok(purged)
    }

    /// How many letters each queue has. Reads them all.
    pub(super) fn dead_letter_counts(&self) -> Result<HashMap<QueueId, u64>, Error> {
        let mut counts = HashMap::default();
        for pair in pairs(&self.db.get(), keys::DEAD, &[]) {
            let queue = QueueId(keys::number(&pair?.0).unwrap_or_default());
            *counts.entry(queue).or_default() += 1;
        }
        Ok(counts)
    }

    /// Calls `each` with the sequence of every letter of a queue that is there now.
    fn each_letter(&self, queue: &Queue, mut each: impl FnMut(u64) -> Result<(), Error>) -> Result<(), Error> {
        // What fails again becomes a letter behind it, and is not for this call.
        let end = queue.next();
        let mut from = 0;
        while from < end {
            let page = self.dead_letters_from(queue.id(), from, PAGE)?;
            let Some(last) = page.last() else { break };
            from = last.sequence + 1;
            for letter in page.iter().take_while(|letter| letter.sequence < end) {
                each(letter.sequence)?;
            }
        }
        Ok(())
    }

    fn letter(&self, queue: QueueId, sequence: u64) -> Result<Bytes, Error> {
        let value = self.db.value(keys::DEAD, keys::in_queue(queue, &sequence.to_be_bytes()))?;
        value.map(Bytes::from).ok_or(Error::NoLetter(sequence))
    }
}

/// Changes a value as a merge patch says (RFC 7396): maps are merged, null takes a field away, everything else stands in the place of what was there.
fn merge(target: &mut Value, patch: &Value) {
    let Value::Map(patch) = patch else { return *target = patch.clone() };
    if !matches!(target, Value::Map(_)) {
        *target = Value::Map(Map::new());
    }
    let Value::Map(target) = target else { return };
    for (name, value) in patch.iter() {
        if value.is_null() {
            target.remove(name);
        } else {
            if target.get(name).is_none() {
                target.insert(name, Value::Null);
            }
            if let Some(place) = target.get_mut(name) {
                merge(place, value);
            }
        }
    }
}

/// What stands for a letter that cannot be decoded.
fn damaged() -> Letter {
    Letter { at_ms: 0, error: "the letter is damaged".into(), body: Bytes::new() }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hookline_schemas::config::{Store as Settings, WhenFull};
    use hookline_schemas::ports::QueueReader;

    use super::super::{ActionQueue, Bounds};
    use super::*;

    const BOUNDS: Bounds = Bounds { records_max: 8, bytes_max: u64::MAX, when_full: WhenFull::Refuse };

    /// A record of each number from 0.
    fn numbers(queue: &Queue, count: i64) -> Batch {
        let mut batch = Batch::default();
        for number in 0..count {
            batch.record(&[QueueTarget::plain(queue.id())], |out| encode_record(out, None, &Value::Int(number)));
        }
        batch
    }

    #[test]
    fn a_letter_comes_back_as_it_was_and_a_cut_one_does_not() {
        let bytes = Bytes::from(Letter::encode(7, "no such table", b"row"));
        let letter = Letter { at_ms: 7, error: "no such table".into(), body: Bytes::from_static(b"row") };
        assert_eq!(Letter::decode(&bytes), Some(letter));
        assert!((0..12 + "no such table".len()).all(|cut| Letter::decode(&bytes.slice(..cut)).is_none()));
    }

    #[test]
    fn a_patch_changes_what_it_names_and_nothing_else() {
        // The examples of RFC 7396, appendix A, that begin with an object.
        for (target, patch, expect) in [
            (r#"{"a":"b"}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":"b"}"#, r#"{"b":"c"}"#, r#"{"a":"b","b":"c"}"#),
            (r#"{"a":"b","b":"c"}"#, r#"{"a":null}"#, r#"{"b":"c"}"#),
            (r#"{"a":["b"]}"#, r#"{"a":"c"}"#, r#"{"a":"c"}"#),
            (r#"{"a":{"b":"c"}}"#, r#"{"a":{"b":"d","c":null}}"#, r#"{"a":{"b":"d"}}"#),
            (r#"{"a":[{"b":"c"}]}"#, r#"{"a":[1]}"#, r#"{"a":[1]}"#),
            (r#"{"a":"foo"}"#, r#"{"a":{"bb":{"ccc":null}}}"#, r#"{"a":{"bb":{}}}"#),
        ] {
            let read = |text: &str| Value::from_json(serde_json::from_str(text).expect("JSON"));
            let mut changed = read(target);
            merge(&mut changed, &read(patch));
            assert_eq!(changed, read(expect), "{target} with {patch}");
        }
    }

    #[test]
    fn replay_gives_each_record_a_new_place_once_and_the_account_balances() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings { reserve_bytes: 0, ..Settings::default() };
        let store = Store::open(folder.path(), "n", &settings).expect("opens").store;
        let queue = store.action_queue("a", BOUNDS).expect("a queue");
        let reader = ActionQueue::new(Arc::clone(&store), Arc::clone(&queue));
        let mut batch = numbers(&queue, 6);
        let ticket = store.commit(&mut batch).expect("written").ticket;
        while store.durable() < ticket {
            std::thread::yield_now();
        }
        for sequence in 0..6 {
            reader.dead_letter(sequence, 2, "refused").expect("stored");
        }
        assert!(matches!(store.replay_dead_letter(&queue, 6), Err(Error::NoLetter(6))));
        store.purge_dead_letter(&queue, 0).expect("purged");
        store.replay_dead_letter(&queue, 3).expect("replayed");
        assert!(matches!(store.replay_dead_letter(&queue, 3), Err(Error::NoLetter(3))));
        assert_eq!(store.replay_dead_letters(&queue).expect("works"), Replayed { replayed: 4, kept: 0, problem: None });
        assert!(store.dead_letters(queue.id(), 10).expect("reads").is_empty());
        store.close();
        let rows = reader.read(0, 10, usize::MAX).expect("reads").into_iter().map(|record| record.expect("readable"));
        let rows: Vec<_> = rows.map(|record| (record.sequence, record.row)).collect();
        assert_eq!(rows, [(6, 3), (7, 1), (8, 2), (9, 4), (10, 5)].map(|(sequence, row)| (sequence, Value::Int(row))));
        let ledger = queue.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!((ledger.accepted, ledger.dead_lettered, ledger.pending), (11, 6, 5));
    }

    #[test]
    fn a_full_queue_keeps_its_letters_and_says_why() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = Settings { reserve_bytes: 0, ..Settings::default() };
        let store = Store::open(folder.path(), "n", &settings).expect("opens").store;
        let queue = store.action_queue("a", BOUNDS).expect("a queue");
        let reader = ActionQueue::new(Arc::clone(&store), Arc::clone(&queue));
        let mut batch = numbers(&queue, 8);
        store.commit(&mut batch).expect("written");
        for sequence in 0..3 {
            reader.dead_letter(sequence, 2, "refused").expect("stored");
        }
        queue.set_bounds(Bounds { records_max: 7, ..BOUNDS });
        let done = store.replay_dead_letters(&queue).expect("works");
        assert_eq!((done.replayed, done.kept), (2, 1));
        assert!(done.problem.is_some_and(|problem| problem.contains("is full")));
        assert_eq!(store.purge_dead_letters(&queue).expect("works"), 1);
        store.close();
    }
}
