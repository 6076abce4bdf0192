//! What was recorded of messages and events: encoded rows by time and number. It is part of no commit, and bounded: the oldest go
//! first. It is synced along with the commits, so that a crash may take the last of it.

use bytes::Bytes;
use hookline_schemas::Value;
use hookline_schemas::record::decode_row;
use rocksdb::{Direction, IteratorMode, WriteBatch};

use super::database::{family, pairs, read_error};
use super::{Error, Store, keys};

/// An event that is to be recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sample {
    /// When it happened, milliseconds since the Unix epoch.
    pub at_ms: u64,
    /// Its columns, as `encode_row` writes them.
    pub row: Vec<u8>,
}

/// How much is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SampleBounds {
    pub records_max: u64,
    pub bytes_max: u64,
    pub keep_ms: u64,
}

/// How much there is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SampleTotals {
    pub records: u64,
    /// Keys and values.
    pub bytes: u64,
}

/// The time of a recorded event, and a number that makes it one of its kind. Keys sort by time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct SampleKey {
    at_ms: u64,
    number: u64,
}

/// An event that was recorded.
#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub key: SampleKey,
    /// Its columns.
    pub columns: Value,
}

/// A part of what was recorded.
#[derive(Debug, Default)]
pub struct SamplePage {
    pub events: Vec<Recorded>,
    /// Events that were looked at.
    pub looked: u64,
    /// Those of them whose bytes make no sense.
    pub damaged: u64,
    /// Where the next page begins; `None`: there is none.
    pub next: Option<SampleKey>,
}

/// What is known of all that was recorded, once it was counted.
#[derive(Debug, Default)]
pub(super) struct Known {
    totals: SampleTotals,
    next_number: u64,
}

/// The length of a key.
const KEY_BYTES: usize = 16;
/// Before all keys but the empty one, which is the store's.
const FIRST: [u8; 8] = [0; 8];
/// Events that are looked at for one page, and the most bytes of it: what a reader may hold up, and keep in memory.
const PAGE_RECORDS: u64 = 1024;
const PAGE_BYTES: usize = 4 << 20;
/// What is dropped beyond a bound, as a part of it, so that not every batch has to drop something: one of so many.
const SLACK: u64 = 20;

impl SampleKey {
    /// The key before all events of that time.
    pub fn at(at_ms: u64) -> SampleKey {
        SampleKey { at_ms, number: 0 }
    }

    /// Milliseconds since the Unix epoch.
    pub fn at_ms(self) -> u64 {
        self.at_ms
    }

    fn to_bytes(self) -> [u8; KEY_BYTES] {
        (u128::from(self.at_ms) << 64 | u128::from(self.number)).to_be_bytes()
    }

    pub(super) fn from_bytes(bytes: &[u8]) -> Option<SampleKey> {
        Some(SampleKey { at_ms: keys::number(bytes)?, number: keys::number(bytes.get(8..)?)? })
    }
}

impl SampleTotals {
    fn add(&mut self, key: &[u8], value: &[u8]) {
        self.records += 1;
        self.bytes += (key.len() + value.len()) as u64;
    }

    fn without(self, other: SampleTotals) -> SampleTotals {
        SampleTotals { records: self.records.saturating_sub(other.records), bytes: self.bytes.saturating_sub(other.bytes) }
    }

    /// Whether it is more than is to be kept.
    pub fn is_beyond(self, bounds: SampleBounds) -> bool {
        self.records > bounds.records_max || self.bytes > bounds.bytes_max
    }
}

impl Store {
    /// Records events, without waiting for the disk; how much there is now. Nobody waits for it: it is part of no commit.
    ///
    /// # Errors
    /// Nothing of it is recorded then.
    pub fn record_sample(&self, samples: &[Sample]) -> Result<SampleTotals, Error> {
        if self.is_full() {
            return Err(Error::Write("it takes nothing new; its disk is nearly full, or it is at store.bytes_max".into()));
        }
        let mut known = self.samples.lock();
        let known = self.counted(&mut known)?;
        let (mut totals, mut write) = (known.totals, WriteBatch::default());
        {
            let db = self.db.get();
            let family = family(&db, keys::SAMPLE);
            for (number, sample) in (known.next_number..).zip(samples) {
                let key = SampleKey { at_ms: sample.at_ms, number }.to_bytes();
                totals.add(&key, &sample.row);
                write.put_cf(family, key, &sample.row);
            }
        }
        self.db.write(write)?;
        known.next_number += samples.len() as u64;
        known.totals = totals;
        Ok(totals)
    }

    /// Drops what is older than is kept, and the oldest of what is beyond the bounds; how many there were.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn trim_samples(&self, bounds: SampleBounds, now_ms: u64) -> Result<u64, Error> {
        let mut known = self.samples.lock();
        let known = self.counted(&mut known)?;
        let target = if known.totals.is_beyond(bounds) {
            let (records, bytes) = (bounds.records_max, bounds.bytes_max);
            SampleBounds { records_max: records - records / SLACK, bytes_max: bytes - bytes / SLACK, ..bounds }
        } else {
            bounds
        };
        let oldest_ms = now_ms.saturating_sub(bounds.keep_ms);
        let mut dropped = SampleTotals::default();
        let mut last = None;
        let db = self.db.get();
        let family = family(&db, keys::SAMPLE);
        for pair in db.iterator_cf(family, IteratorMode::From(&FIRST, Direction::Forward)) {
            let (key, value) = pair.map_err(|error| read_error(&error))?;
            let is_old = keys::number(&key).is_none_or(|at_ms| at_ms < oldest_ms);
            if !is_old && !known.totals.without(dropped).is_beyond(target) {
                break;
            }
            dropped.add(&key, &value);
            last = Some(key);
        }
        let Some(last) = last else { return Ok(0) };
        // Whole tables first: what is left for the deletion of the range is little. The end of a file range belongs to it.
        db.delete_file_in_range_cf(family, &FIRST[..], &last[..]).map_err(|error| Error::Write(error.to_string()))?;
        let mut write = WriteBatch::default();
        write.delete_range_cf(family, FIRST.to_vec(), [&last[..], &[0]].concat());
        self.db.write(write)?;
        known.totals = known.totals.without(dropped);
        Ok(dropped.records)
    }

    /// A page of what was recorded, in the order of time, from `from` on and before `to_ms`: the events whose columns `wanted` says
    /// yes to.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn samples(&self, from: SampleKey, to_ms: u64, wanted: impl Fn(&Value) -> bool) -> Result<SamplePage, Error> {
        let db = self.db.get();
        let mut page = SamplePage::default();
        let mut bytes = 0;
        for pair in pairs(&db, keys::SAMPLE, &from.to_bytes()) {
            let (key, value) = pair?;
            let Some(key) = SampleKey::from_bytes(&key) else {
                page.damaged += 1;
                continue;
            };
            if key.at_ms >= to_ms {
                break;
            }
            if page.looked == PAGE_RECORDS || bytes >= PAGE_BYTES {
                page.next = Some(key);
                break;
            }
            page.looked += 1;
            bytes += value.len();
            match decode_row(&Bytes::from(value)) {
                Ok(columns) if wanted(&columns) => page.events.push(Recorded { key, columns }),
                Ok(_) => {}
                Err(_) => page.damaged += 1,
            }
        }
        Ok(page)
    }

    /// How much was recorded.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn sample_totals(&self) -> Result<SampleTotals, Error> {
        Ok(self.counted(&mut self.samples.lock())?.totals)
    }

    /// What is known. It is counted when somebody asks first, so that opening the store costs nothing.
    fn counted<'a>(&self, known: &'a mut Option<Known>) -> Result<&'a mut Known, Error> {
        let found = match known.take() {
            Some(found) => found,
            None => self.count_samples()?,
        };
        Ok(known.insert(found))
    }

    fn count_samples(&self) -> Result<Known, Error> {
        let mut known = Known::default();
        for pair in pairs(&self.db.get(), keys::SAMPLE, &FIRST) {
            let (key, value) = pair?;
            known.totals.add(&key, &value);
            known.next_number = SampleKey::from_bytes(&key).map_or(known.next_number, |key| known.next_number.max(key.number + 1));
        }
        Ok(known)
    }
}
