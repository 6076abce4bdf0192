//! Checking: the store is read from end to end, and what does not fit together is told. It may run while the broker serves: what
//! comes or goes meanwhile is no finding. Nothing is mended here; that is for the next start.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;

use bytes::Bytes;
use hookline_schemas::record::decode_row;
use rocksdb::{DB, DBIteratorWithThreadMode, IteratorMode, ReadOptions, Snapshot};
use serde::{Deserialize, Serialize};

use super::chunk::Chunk;
use super::cursor::Cursor;
use super::database::{Family, READAHEAD, family, pairs};
use super::dead_letter::Letter;
use super::directory::Directory;
use super::queue::QueueKind;
use super::{DelayedKey, SampleKey, Store, decode_message, keys, set_aside_folders};
use crate::session::{StoredState, decode_subscription};

/// What a check has looked at, and what it has found.
#[derive(Debug, Clone, Default, Serialize, Deserialize, schemars::JsonSchema)]
pub struct CheckReport {
    /// It has come to its end, and was not stopped before.
    pub complete: bool,
    pub chunks: u64,
    pub chunk_bytes: u64,
    /// Records in the chunks.
    pub records: u64,
    pub queues: u64,
    /// Records that wait in them.
    pub pending: u64,
    /// Entries of everything else, by family.
    pub entries: BTreeMap<String, u64>,
    /// Writes that had been synced, and were not there when the store was opened.
    pub lost_writes: u64,
    /// Records of queues that were not there when the store was opened.
    pub lost_records: u64,
    /// Entries that made no sense when the store was opened.
    pub damaged_entries: u64,
    /// Damaged stores that an opening has set aside, now or earlier.
    pub set_aside: Vec<SetAside>,
    /// How much does not fit together.
    pub problem_count: u64,
    /// What it is: the first hundred.
    pub problems: Vec<Problem>,
}

/// A folder with a damaged store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct SetAside {
    pub folder: String,
    pub why: String,
}

/// Something that does not fit together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "StoreProblem")]
pub struct Problem {
    pub family: String,
    pub problem: String,
}

/// Hears how far a check is, and may end it.
pub type Tell<'a> = &'a mut dyn FnMut(&CheckReport) -> ControlFlow<()>;

/// What is wrong with a damaged store is mostly wrong with much of it.
const PROBLEMS_MAX: usize = 100;
/// Chunks that are read together, and the bytes of their directories: nobody waits for longer, and memory stays bounded.
const SLICE_CHUNKS: usize = 256;
const SLICE_BYTES: usize = 4 << 20;
/// Chunk numbers to go on by where directories cannot be read.
const STRIDE: u64 = 4096;
/// Other entries that are read together.
const PAGE: usize = 1024;

impl CheckReport {
    /// Whether nothing was found, and everything looked at.
    pub fn is_clean(&self) -> bool {
        let at_start = self.lost_writes + self.lost_records + self.damaged_entries;
        self.complete && self.problem_count == 0 && at_start == 0 && self.set_aside.is_empty()
    }

    fn add(&mut self, family: &str, problem: String) {
        self.problem_count += 1;
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(Problem { family: family.to_owned(), problem });
        }
    }
}

/// Whether an entry is whole: its key and value.
type IsWhole = fn(&[u8], Bytes) -> bool;

/// Families of single entries, with what makes one whole.
const WHOLE: &[(&str, IsWhole)] = &[
    (keys::QUEUE, |key, value| key.len() == 8 && value.first().copied().and_then(QueueKind::from_byte).is_some()),
    (keys::CURSOR, |key, value| key.len() == 8 && Cursor::decode(&value).is_some()),
    (keys::SESSION, |key, value| is_text(key) && StoredState::decode(&value).is_some()),
    (keys::SUBSCRIPTION, |key, value| key.get(8..).is_some_and(is_text) && decode_subscription(&value).is_some()),
    (keys::RECEIVED, |key, _| key.len() == 10),
    (keys::RETAINED, |key, value| is_text(key) && decode_message(&value).is_some()),
    (keys::RETAINED_EXPIRY, |key, _| key.get(8..).is_some_and(is_text)),
    (keys::DELAYED, |key, value| DelayedKey::from_bytes(key).is_some() && decode_message(&value).is_some()),
    (keys::SAMPLE, |key, value| key.len() == 16 && SampleKey::from_bytes(key).is_some() && decode_row(&value).is_ok()),
    (keys::STATE, |key, _| !key.is_empty()),
    (keys::AUDIT, |key, value| key.len() == 8 && value.first() == Some(&b'{')),
    (keys::DEAD, |key, value| key.len() == 16 && Letter::decode(&value).is_some()),
];

impl Store {
    /// Reads everything. `tell` is called now and then, and ends the check with `Break`.
    pub fn check(&self, tell: Tell<'_>) -> CheckReport {
        let findings = self.findings();
        let folders = self.db.path().parent().map(set_aside_folders).unwrap_or_default();
        let mut report = CheckReport {
            lost_writes: findings.lost_writes,
            lost_records: findings.lost_records,
            damaged_entries: findings.damaged_entries,
            set_aside: folders.into_iter().map(|(folder, why)| SetAside { folder: folder.display().to_string(), why }).collect(),
            ..CheckReport::default()
        };
        report.complete = self.check_all(&mut report, tell).is_continue();
        report
    }

    fn check_all(&self, report: &mut CheckReport, tell: Tell<'_>) -> ControlFlow<()> {
        match self.meta(keys::FORMAT) {
            Ok(Some(keys::FORMAT_VERSION)) => {}
            Ok(found) => report.add(keys::META, format!("the version of the formats is {found:?} instead of {}", keys::FORMAT_VERSION)),
            Err(error) => report.add(keys::META, error.to_string()),
        }
        self.check_accounts(report);
        for (name, is_whole) in WHOLE {
            self.check_family(name, *is_whole, report, tell)?;
        }
        // Only chunks that are there when it begins: so it ends, however fast more come.
        let end = self.writer.lock().next_chunk;
        let mut from = self.floor();
        while from < end {
            from = self.check_slice(from, end, report);
            tell(report)?;
        }
        ControlFlow::Continue(())
    }

    fn check_accounts(&self, report: &mut CheckReport) {
        for queue in self.queues() {
            let ledger = queue.ledger();
            report.queues += 1;
            report.pending += ledger.pending;
            if !ledger.balances() {
                report.add(keys::CURSOR, format!("the account of \"{}\" does not balance: {ledger:?}", queue.name()));
            }
        }
    }

    fn check_family(&self, name: &str, is_whole: fn(&[u8], Bytes) -> bool, report: &mut CheckReport, tell: Tell<'_>) -> ControlFlow<()> {
        let (mut from, mut count) = (Vec::new(), 0);
        loop {
            let mut last = None;
            for pair in pairs(&self.db.get(), name, &from).take(PAGE) {
                match pair {
                    Ok((key, value)) => {
                        count += 1;
                        if !is_whole(&key, value.into()) {
                            report.add(name, format!("entry {} is damaged", show(name, &key)));
                        }
                        last = Some(key);
                    }
                    Err(error) => {
                        let behind = last.as_deref().map_or_else(|| show(name, &from), |key| show(name, key));
                        report.add(name, format!("what comes behind {behind} cannot be read, and was not looked at: {error}"));
                        last = None;
                        break;
                    }
                }
            }
            report.entries.insert(name.to_owned(), count);
            tell(report)?;
            let Some(key) = last else { return ControlFlow::Continue(()) };
            // The first key behind it.
            from = [&key[..], &[0]].concat();
        }
    }

    /// Chunks below it are not needed, and may be half deleted.
    fn floor(&self) -> u64 {
        self.meta(keys::FLOOR).ok().flatten().unwrap_or(0)
    }

    /// Checks chunks from `from` on, at most a slice of them; where the next slice begins.
    fn check_slice(&self, from: u64, end: u64, report: &mut CheckReport) -> u64 {
        let db = self.db.get();
        // Chunk and directory are written together and deleted one after the other: both are looked at as of one moment.
        let snapshot = db.snapshot();
        let mut slice = Slice::read(&snapshot, family(&db, keys::DIRECTORY), from, end, report);
        slice.waiting = self.live.lock().waiting(from, slice.end);
        let mut is_readable = true;
        for pair in between(&snapshot, family(&db, keys::CHUNK), from, slice.end) {
            match pair {
                Ok((key, value)) => {
                    if let Some(number) = keys::number(&key) {
                        self.check_chunk(number, value.into(), &mut slice, report);
                    }
                }
                Err(error) => {
                    is_readable = false;
                    if !slice.has_directories {
                        report.add(keys::CHUNK, format!("chunks {from} to {} cannot all be read: {error}", slice.end - 1));
                    }
                    break;
                }
            }
        }
        // A table is damaged: every chunk by itself, so that only those are told that are lost.
        let left: Vec<u64> = if is_readable { Vec::new() } else { slice.left().into_iter().collect() };
        for number in left {
            match self.db.value(keys::CHUNK, number.to_be_bytes()) {
                Ok(Some(value)) => self.check_chunk(number, value.into(), &mut slice, report),
                Ok(None) => {}
                Err(error) => {
                    let waits = slice.take(number).1;
                    self.tell_chunk(number, &format!("cannot be read: {error}"), waits, report);
                }
            }
        }
        for number in slice.left() {
            let waits = slice.waiting.contains(&number);
            self.tell_chunk(number, "is missing", waits, report);
        }
        slice.end
    }

    fn check_chunk(&self, number: u64, bytes: Bytes, slice: &mut Slice, report: &mut CheckReport) {
        let (directory, waits) = slice.take(number);
        report.chunks += 1;
        report.chunk_bytes += bytes.len() as u64;
        match Chunk::parse(bytes) {
            Err(problem) => self.tell_chunk(number, &format!("is damaged: {problem}"), waits, report),
            Ok(chunk) => {
                report.records += chunk.len() as u64;
                match directory {
                    Some(directory) if !agrees(&chunk, &directory) => {
                        self.tell_chunk(number, "and its directory do not agree", waits, report);
                    }
                    None if slice.has_directories => {
                        self.tell_chunk(number, "has no directory: the next start would not find its records", waits, report);
                    }
                    _ => {}
                }
            }
        }
    }

    fn tell_chunk(&self, number: u64, problem: &str, waits: bool, report: &mut CheckReport) {
        // It may have become free since the look at it.
        if number >= self.floor() {
            let waits = if waits { "; records of queues wait in it" } else { "" };
            report.add(keys::CHUNK, format!("chunk {number} {problem}{waits}"));
        }
    }
}

/// What belongs to chunks that are checked together, and has not been looked at.
struct Slice {
    /// The first chunk behind it.
    end: u64,
    directories: BTreeMap<u64, Box<[u8]>>,
    /// Whether they could be read.
    has_directories: bool,
    /// Chunks that something waits in.
    waiting: BTreeSet<u64>,
}

impl Slice {
    /// Reads the directories from `from` on, and sees how far the slice goes.
    fn read(snapshot: &Snapshot<'_>, directories: Family<'_>, from: u64, end: u64, report: &mut CheckReport) -> Slice {
        let mut slice = Slice { end, directories: BTreeMap::new(), has_directories: true, waiting: BTreeSet::new() };
        let mut bytes = 0;
        for pair in between(snapshot, directories, from, end) {
            match pair {
                Ok((key, value)) => {
                    let Some(number) = keys::number(&key) else { continue };
                    bytes += value.len();
                    slice.directories.insert(number, value);
                    if slice.directories.len() == SLICE_CHUNKS || bytes >= SLICE_BYTES {
                        slice.end = number + 1;
                        break;
                    }
                }
                Err(error) => {
                    slice.end = end.min(from.saturating_add(STRIDE));
                    report.add(keys::DIRECTORY, format!("directories of chunks {from} to {} cannot be read: {error}", slice.end - 1));
                    slice.directories.clear();
                    slice.has_directories = false;
                    break;
                }
            }
        }
        slice
    }

    /// The directory of a chunk, and whether something waits in it.
    fn take(&mut self, number: u64) -> (Option<Box<[u8]>>, bool) {
        (self.directories.remove(&number), self.waiting.remove(&number))
    }

    /// Chunks that should be there and were not looked at.
    fn left(&self) -> BTreeSet<u64> {
        self.directories.keys().chain(&self.waiting).copied().collect()
    }
}

/// Pairs whose key is a number from `from` to before `to`.
fn between<'a>(snapshot: &'a Snapshot<'_>, family: Family<'_>, from: u64, to: u64) -> DBIteratorWithThreadMode<'a, DB> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_readahead_size(READAHEAD);
    options.set_iterate_range(from.to_be_bytes().to_vec()..to.to_be_bytes().to_vec());
    snapshot.iterator_cf_opt(family, options, IteratorMode::Start)
}

/// Whether a directory says what its chunk says.
fn agrees(chunk: &Chunk, directory: &[u8]) -> bool {
    let Some(directory) = Directory::parse(directory) else { return false };
    let (mut count, mut same) = (0, chunk.queues().eq(directory.queues.iter().copied()));
    let whole = directory.records(|ordinal, bytes, queues| {
        count += 1;
        same &= chunk.body(ordinal).is_some_and(|body| body.len() as u64 == bytes) && chunk.ranks(ordinal).eq(queues.iter().copied());
    });
    whole.is_some() && same && count == chunk.len()
}

fn is_text(bytes: &[u8]) -> bool {
    !bytes.is_empty() && std::str::from_utf8(bytes).is_ok()
}

/// A key as a person can read it.
fn show(name: &str, key: &[u8]) -> String {
    if [keys::SESSION, keys::RETAINED].contains(&name) {
        return format!("{:?}", String::from_utf8_lossy(key));
    }
    key.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use hookline_schemas::config::Store as Settings;
    use rocksdb::WriteBatch;

    use super::super::{Batch, QueueTarget};
    use super::*;

    /// A store with a queue, and 600 chunks that something waits in.
    fn store(folder: &std::path::Path) -> std::sync::Arc<Store> {
        let store = Store::open(folder, "n", &Settings { reserve_bytes: 0, ..Settings::default() }).expect("opens").store;
        let mut batch = Batch::default();
        let queue = store.new_queue(&mut batch, QueueKind::Action, "a");
        store.commit(&mut batch).expect("written");
        for number in 0..600u32 {
            batch.record(&[QueueTarget::plain(queue.id())], |out| out.extend_from_slice(&number.to_be_bytes()));
            store.commit(&mut batch).expect("written");
        }
        store
    }

    fn check(store: &Store) -> CheckReport {
        store.check(&mut |_| ControlFlow::Continue(()))
    }

    #[test]
    fn a_whole_store_has_no_findings_and_all_of_it_is_looked_at() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let report = check(&store);
        assert!(report.is_clean(), "{report:?}");
        assert_eq!((report.chunks, report.records, report.queues, report.pending), (600, 600, 1, 600));
        assert_eq!((report.entries["queue"], report.entries["cursor"]), (1, 1));
        let stopped = store.check(&mut |_| ControlFlow::Break(()));
        assert!(!stopped.complete && !stopped.is_clean());
        store.close();
    }

    #[test]
    fn every_kind_of_damage_is_told_once() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = store(folder.path());
        let first = store.writer.lock().next_chunk - 600;
        let key = |number: u64| (first + number).to_be_bytes();
        let mut write = WriteBatch::default();
        {
            let db = store.db.get();
            let (chunks, directories) = (family(&db, keys::CHUNK), family(&db, keys::DIRECTORY));
            let mut bytes = store.db.value(keys::CHUNK, key(10)).expect("reads").expect("is there");
            bytes[20] ^= 1;
            write.put_cf(chunks, key(10), bytes);
            write.delete_cf(chunks, key(300));
            write.delete_cf(directories, key(301));
            write.put_cf(directories, key(599), store.db.value(keys::DIRECTORY, key(598)).expect("reads").expect("is there"));
            write.delete_cf(chunks, key(400));
            write.delete_cf(directories, key(400));
            write.put_cf(family(&db, keys::CURSOR), 1u64.to_be_bytes(), b"short");
            write.put_cf(family(&db, keys::RETAINED), b"a/b", b"no message");
        }
        store.db.write(write).expect("written");
        let report = check(&store);
        let told: Vec<String> = report.problems.iter().map(|problem| format!("{}: {}", problem.family, problem.problem)).collect();
        let expect = |number: u64, what: &str| format!("chunk: chunk {} {what}; records of queues wait in it", first + number);
        for expect in [
            expect(10, "is damaged: checksum is wrong"),
            expect(300, "is missing"),
            expect(301, "has no directory: the next start would not find its records"),
            expect(400, "is missing"),
            expect(599, "and its directory do not agree"),
            "cursor: entry 0000000000000001 is damaged".to_owned(),
            "retained: entry \"a/b\" is damaged".to_owned(),
        ] {
            assert!(told.contains(&expect), "{expect} is not in {told:#?}");
        }
        assert_eq!((report.problem_count, report.is_clean()), (7, false), "{told:#?}");
        store.close();
    }
}
