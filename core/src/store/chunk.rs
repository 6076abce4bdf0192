//! The form of a chunk: a directory of fixed width, then record bodies, then a checksum. Pure.
//!
//! ```text
//! version u8 | codec u8 | records u16 | sets u16 | queues u16 | time ms u64      header, 16 bytes
//! queues  x (queue u64, sequence of its first record here u64)
//! sets    x (end of the set, in entries, u32)
//! records x (end of the body, in bytes, u32; set u16)
//! entries x (index of the queue u16, flags u8, in version 2 rank u32)
//! bodies
//! CRC-32C of all before, u32
//! ```
//! Version 2 is for chunks whose records have ranks; others are written as ever.

use bytes::Bytes;
use hookline_schemas::QueueId;

use super::directory::DirectoryBuilder;
use super::rank::Rank;
use crate::HashMap;

const VERSION: u8 = 1;
const VERSION_WITH_RANKS: u8 = 2;
const HEADER: usize = 16;

/// Where a record lies: chunk number and ordinal in it. Sorts by age; zero is no position.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position(pub(super) u64);

impl Position {
    pub(super) fn new(chunk: u64, ordinal: u16) -> Position {
        Position(chunk << 16 | u64::from(ordinal))
    }

    pub(super) fn chunk(self) -> u64 {
        self.0 >> 16
    }

    pub(super) fn ordinal(self) -> u16 {
        self.0 as u16
    }
}

/// A queue that is to get a record, with eight bits for the reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) queue: QueueId,
    pub(crate) flags: u8,
    pub(crate) rank: Rank,
}

impl Target {
    /// For a queue that keeps the order of arrival.
    pub(crate) fn plain(queue: QueueId) -> Target {
        Target { queue, flags: 0, rank: Rank::NONE }
    }
}

/// Gathers records for one chunk.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    bodies: Vec<u8>,
    records: Vec<(u32, u16)>,
    set_ends: Vec<u32>,
    entries: Vec<Entry>,
    has_ranks: bool,
    queues: Vec<QueueId>,
    queue_index: HashMap<QueueId, u16>,
}

/// A target, its queue by its index.
#[derive(Debug, Clone, Copy)]
struct Entry {
    queue: u16,
    flags: u8,
    rank: Rank,
}

/// Where one chunk ends and the next begins: scattered reads of larger ones cost more than they save.
const CHUNK_BYTES: usize = 16 << 10;
const RECORDS_MAX: usize = 4096;

impl ChunkBuilder {
    /// Whether the next record belongs into a new chunk.
    pub(super) fn is_full(&self) -> bool {
        self.bodies.len() >= CHUNK_BYTES || self.records.len() >= RECORDS_MAX || self.entries.len() >= 1 << 20
    }

    /// Empties it, so that its memory can be used again; `false` where it has too much.
    pub(super) fn clear(&mut self) -> bool {
        let ChunkBuilder { bodies, records, set_ends, entries, has_ranks, queues, queue_index } = self;
        bodies.clear();
        records.clear();
        set_ends.clear();
        entries.clear();
        *has_ranks = false;
        queues.clear();
        queue_index.clear();
        bodies.capacity() <= 4 * CHUNK_BYTES && entries.capacity() <= RECORDS_MAX && queue_index.capacity() <= RECORDS_MAX
    }

    /// Adds a record whose body `write` appends; its ordinal. `targets` are at most 65,535 distinct queues in a chunk:
    /// `false` from `fits` says that a new chunk is needed.
    pub(super) fn push(&mut self, targets: &[Target], write: impl FnOnce(&mut Vec<u8>)) -> u16 {
        write(&mut self.bodies);
        let set = self.set(targets);
        self.records.push((self.bodies.len() as u32, set));
        (self.records.len() - 1) as u16
    }

    /// Whether so many more queues can be named.
    pub(super) fn fits(&self, targets: usize) -> bool {
        self.queues.len() + targets <= usize::from(u16::MAX)
    }

    /// The records of this chunk for each of their queues: ordinal, target, bytes.
    pub(super) fn appends(&self) -> impl Iterator<Item = (u16, Target, usize)> {
        let sets = (0..self.records.len()).flat_map(|ordinal| {
            let (start, end) = self.body_range(ordinal);
            self.set_entries(self.records[ordinal].1).iter().map(move |entry| (ordinal as u16, *entry, end - start))
        });
        sets.map(|(ordinal, Entry { queue, flags, rank }, bytes)| {
            (ordinal, Target { queue: self.queues[usize::from(queue)], flags, rank }, bytes)
        })
    }

    pub(super) fn queues(&self) -> &[QueueId] {
        &self.queues
    }

    fn body_range(&self, ordinal: usize) -> (usize, usize) {
        let start = if ordinal == 0 { 0 } else { self.records[ordinal - 1].0 as usize };
        (start, self.records[ordinal].0 as usize)
    }

    fn set_entries(&self, set: u16) -> &[Entry] {
        let set = usize::from(set);
        let start = if set == 0 { 0 } else { self.set_ends[set - 1] as usize };
        &self.entries[start..self.set_ends[set] as usize]
    }

    /// The number of the set; a run of records with the same targets shares one.
    fn set(&mut self, targets: &[Target]) -> u16 {
        if let Some(last) = self.set_ends.len().checked_sub(1) {
            let entries = self.set_entries(last as u16);
            let same = |(entry, target): (&Entry, &Target)| {
                self.queues[usize::from(entry.queue)] == target.queue && entry.flags == target.flags && entry.rank == target.rank
            };
            if entries.len() == targets.len() && entries.iter().zip(targets).all(same) {
                return last as u16;
            }
        }
        for target in targets {
            let next = self.queues.len() as u16;
            let index = *self.queue_index.entry(target.queue).or_insert(next);
            if index == next {
                self.queues.push(target.queue);
            }
            self.has_ranks |= target.rank != Rank::NONE;
            self.entries.push(Entry { queue: index, flags: target.flags, rank: target.rank });
        }
        self.set_ends.push(self.entries.len() as u32);
        (self.set_ends.len() - 1) as u16
    }

    /// The directory once more, for the family that is read when the store is opened. `bases` as for [`Self::encode`].
    pub(super) fn directory(&self, bases: &[u64]) -> Vec<u8> {
        let mut directory = DirectoryBuilder::new(self.has_ranks);
        let mut last = None;
        for (ordinal, (_, set)) in self.records.iter().enumerate() {
            let (start, end) = self.body_range(ordinal);
            let is_new = last.replace(*set) != Some(*set);
            directory.record(end - start, is_new.then(|| self.set_entries(*set).iter().map(|entry| (entry.queue, entry.rank))));
        }
        directory.encode(self.records.len(), self.queues.iter().copied().zip(bases.iter().copied()))
    }

    /// The bytes of the chunk. `bases` are the sequences of each queue's first record here, in the order of [`Self::queues`].
    pub(super) fn encode(&self, bases: &[u64], now_ms: u64) -> Vec<u8> {
        let directory = self.queues.len() * 16 + self.set_ends.len() * 4 + self.records.len() * 6 + self.entries.len() * 7;
        let mut out = Vec::with_capacity(HEADER + directory + self.bodies.len() + 4);
        out.extend_from_slice(&[if self.has_ranks { VERSION_WITH_RANKS } else { VERSION }, 0]);
        for count in [self.records.len(), self.set_ends.len(), self.queues.len()] {
            out.extend_from_slice(&(count as u16).to_le_bytes());
        }
        out.extend_from_slice(&now_ms.to_le_bytes());
        for (queue, base) in self.queues.iter().zip(bases) {
            out.extend_from_slice(&queue.0.to_le_bytes());
            out.extend_from_slice(&base.to_le_bytes());
        }
        for end in &self.set_ends {
            out.extend_from_slice(&end.to_le_bytes());
        }
        for (end, set) in &self.records {
            out.extend_from_slice(&end.to_le_bytes());
            out.extend_from_slice(&set.to_le_bytes());
        }
        for Entry { queue, flags, rank } in &self.entries {
            out.extend_from_slice(&queue.to_le_bytes());
            out.push(*flags);
            if self.has_ranks {
                out.extend_from_slice(&rank.0.to_le_bytes());
            }
        }
        out.extend_from_slice(&self.bodies);
        let crc = crc32c::crc32c(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }
}

/// A chunk as read from the database, checked.
#[derive(Debug, Clone)]
pub(super) struct Chunk {
    bytes: Bytes,
    records: usize,
    sets: usize,
    queues: usize,
    has_ranks: bool,
}

impl Chunk {
    /// Checks the checksum and the directory's bounds.
    pub(super) fn parse(bytes: Bytes) -> Result<Chunk, &'static str> {
        let content = bytes.len().checked_sub(4).filter(|len| *len >= HEADER).ok_or("too short")?;
        let crc = u32::from_le_bytes(bytes[content..].try_into().map_err(|_| "too short")?);
        if crc32c::crc32c(&bytes[..content]) != crc {
            return Err("checksum is wrong");
        }
        let has_ranks = match (bytes[0], bytes[1]) {
            (VERSION, 0) => false,
            (VERSION_WITH_RANKS, 0) => true,
            _ => return Err("unknown version"),
        };
        let count = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let chunk = Chunk { records: count(2), sets: count(4), queues: count(6), has_ranks, bytes: bytes.slice(..content) };
        let entries = if chunk.sets == 0 { 0 } else { chunk.u32(chunk.sets_at() + 4 * (chunk.sets - 1)) as usize };
        let bodies = if chunk.records == 0 { 0 } else { chunk.u32(chunk.records_at() + 6 * (chunk.records - 1)) as usize };
        // The checksum holds, so the directory is as it was written: one check of the whole is enough.
        if chunk.entries_at() + chunk.entry_bytes() * entries + bodies != content { Err("directory and length differ") } else { Ok(chunk) }
    }

    pub(super) fn len(&self) -> usize {
        self.records
    }

    /// When it was written, milliseconds since the Unix epoch.
    pub(super) fn time_ms(&self) -> u64 {
        self.u64(8)
    }

    /// The queues with the sequence of their first record here.
    pub(super) fn queues(&self) -> impl Iterator<Item = (QueueId, u64)> {
        (0..self.queues).map(|index| self.queue(index))
    }

    /// The directory once more, as [`ChunkBuilder::directory`] makes it.
    pub(super) fn directory(&self) -> Vec<u8> {
        let mut directory = DirectoryBuilder::new(self.has_ranks);
        for ordinal in 0..self.records as u16 {
            let queues: Vec<(u16, Rank)> = self.ranks(ordinal).collect();
            directory.record(self.body(ordinal).map_or(0, |body| body.len()), Some(queues.into_iter()));
        }
        let queues: Vec<_> = self.queues().collect();
        directory.encode(self.records, queues.into_iter())
    }

    /// The queues of a record by their index, with their ranks.
    pub(super) fn ranks(&self, ordinal: u16) -> impl Iterator<Item = (u16, Rank)> {
        self.targets(ordinal).map(|entry| (entry.queue, entry.rank))
    }

    fn targets(&self, ordinal: u16) -> impl Iterator<Item = Entry> {
        let set = usize::from(self.u16(self.records_at() + 6 * usize::from(ordinal) + 4));
        let start = if set == 0 { 0 } else { self.u32(self.sets_at() + 4 * (set - 1)) as usize };
        let end = self.u32(self.sets_at() + 4 * set) as usize;
        (start..end).map(|entry| {
            let at = self.entries_at() + self.entry_bytes() * entry;
            Entry { queue: self.u16(at), flags: self.bytes[at + 2], rank: if self.has_ranks { Rank(self.u32(at + 3)) } else { Rank::NONE } }
        })
    }

    /// The flags that a record has for a queue.
    pub(super) fn flags(&self, ordinal: u16, queue: QueueId) -> Option<u8> {
        self.targets(ordinal).find(|entry| self.queue(entry.queue.into()).0 == queue).map(|entry| entry.flags)
    }

    /// What bodies are slices of.
    pub(super) fn memory(&self) -> &Bytes {
        &self.bytes
    }

    /// The body of a record.
    pub(super) fn body(&self, ordinal: u16) -> Option<&[u8]> {
        let ordinal = usize::from(ordinal);
        if ordinal >= self.records {
            return None;
        }
        let end_of = |ordinal: usize| self.u32(self.records_at() + 6 * ordinal) as usize;
        let bodies = self.bytes.len() - end_of(self.records - 1);
        let start = if ordinal == 0 { 0 } else { end_of(ordinal - 1) };
        self.bytes.get(bodies + start..bodies + end_of(ordinal))
    }

    fn queue(&self, index: usize) -> (QueueId, u64) {
        let at = HEADER + 16 * index;
        (QueueId(self.u64(at)), self.u64(at + 8))
    }

    fn sets_at(&self) -> usize {
        HEADER + 16 * self.queues
    }

    fn records_at(&self) -> usize {
        self.sets_at() + 4 * self.sets
    }

    fn entries_at(&self) -> usize {
        self.records_at() + 6 * self.records
    }

    fn entry_bytes(&self) -> usize {
        if self.has_ranks { 7 } else { 3 }
    }

    fn u16(&self, at: usize) -> u16 {
        u16::from_le_bytes([self.bytes[at], self.bytes[at + 1]])
    }

    fn u32(&self, at: usize) -> u32 {
        self.bytes.get(at..at + 4).map_or(0, |b| u32::from_le_bytes(b.try_into().expect("four bytes")))
    }

    fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(self.bytes[at..at + 8].try_into().expect("eight bytes"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(queue: u64, flags: u8) -> Target {
        Target { queue: QueueId(queue), flags, rank: Rank::NONE }
    }

    #[test]
    fn ranks_come_back_and_only_then_are_written() {
        let (high, middle) = (Rank::new(u16::MAX, 256), Rank::new(u16::MAX, 5));
        let mut builder = ChunkBuilder::default();
        builder.push(&[target(7, 1)], |out| out.extend_from_slice(b"low"));
        let plain = Chunk::parse(builder.encode(&[40], 1).into()).expect("valid");
        assert!(!plain.has_ranks);
        builder.push(&[Target { rank: high, ..target(7, 1) }], |out| out.extend_from_slice(b"high"));
        builder.push(&[target(9, 3), Target { rank: middle, ..target(7, 2) }], |_| {});
        let chunk = Chunk::parse(builder.encode(&[40, 50], 1).into()).expect("valid");
        let ranks = |ordinal| chunk.ranks(ordinal).collect::<Vec<_>>();
        assert_eq!([ranks(0), ranks(1), ranks(2)], [vec![(0, Rank::NONE)], vec![(0, high)], vec![(1, Rank::NONE), (0, middle)]]);
        assert_eq!((chunk.flags(2, QueueId(9)), chunk.flags(2, QueueId(7))), (Some(3), Some(2)));
        assert_eq!(chunk.body(1), Some(&b"high"[..]));
        assert_eq!(chunk.directory(), {
            let mut directory = DirectoryBuilder::new(true);
            directory.record(3, Some([(0, Rank::NONE)].into_iter()));
            directory.record(4, Some([(0, high)].into_iter()));
            directory.record(0, Some([(1, Rank::NONE), (0, middle)].into_iter()));
            directory.encode(3, [(QueueId(7), 40), (QueueId(9), 50)].into_iter())
        });
        assert_eq!(chunk.directory(), builder.directory(&[40, 50]));
    }

    #[test]
    fn records_come_back_with_their_queues_and_flags() {
        let mut builder = ChunkBuilder::default();
        builder.push(&[target(7, 1)], |out| out.extend_from_slice(b"one"));
        builder.push(&[target(7, 1)], |out| out.extend_from_slice(b"two"));
        builder.push(&[target(9, 0), target(7, 2)], |_| {});
        let bytes: Bytes = builder.encode(&[40, 50], 1).into();
        let chunk = Chunk::parse(bytes.clone()).expect("valid");
        assert_eq!(chunk.len(), 3);
        assert_eq!(chunk.queues().collect::<Vec<_>>(), [(QueueId(7), 40), (QueueId(9), 50)]);
        assert_eq!(chunk.body(0), Some(&b"one"[..]));
        assert_eq!(chunk.body(1), Some(&b"two"[..]));
        assert_eq!(chunk.body(2), Some(&b""[..]));
        assert_eq!(chunk.body(3), None);
        assert_eq!(chunk.flags(2, QueueId(7)), Some(2));
        assert_eq!(chunk.flags(1, QueueId(9)), None);
    }

    #[test]
    fn any_changed_byte_is_found() {
        let mut builder = ChunkBuilder::default();
        builder.push(&[target(7, 1)], |out| out.extend_from_slice(b"payload"));
        let bytes = builder.encode(&[0], 1);
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0x10;
            assert!(Chunk::parse(damaged.into()).is_err(), "byte {at}");
            assert!(Chunk::parse(bytes[..at].to_vec().into()).is_err(), "cut at {at}");
        }
    }
}
