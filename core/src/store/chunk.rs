//! The form of a chunk: a directory of fixed width, then record bodies, then a checksum. Pure.
//!
//! ```text
//! version u8 | codec u8 | records u16 | sets u16 | queues u16 | time ms u64      header, 16 bytes
//! queues  x (queue u64, sequence of its first record here u64)
//! sets    x (end of the set, in entries, u32)
//! records x (end of the body, in bytes, u32; set u16)
//! entries x (index of the queue u16, flags u8)
//! bodies
//! CRC-32C of all before, u32
//! ```

use bytes::Bytes;
use hookline_schemas::QueueId;

use super::directory::DirectoryBuilder;
use crate::HashMap;

const VERSION: u8 = 1;
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
}

/// Gathers records for one chunk.
#[derive(Debug, Default)]
pub(super) struct ChunkBuilder {
    bodies: Vec<u8>,
    records: Vec<(u32, u16)>,
    set_ends: Vec<u32>,
    entries: Vec<(u16, u8)>,
    queues: Vec<QueueId>,
    queue_index: HashMap<QueueId, u16>,
}

/// Where one chunk ends and the next begins: scattered reads of larger ones cost more than they save.
const CHUNK_BYTES: usize = 16 << 10;
const RECORDS_MAX: usize = 4096;

impl ChunkBuilder {
    /// Whether the next record belongs into a new chunk.
    pub(super) fn is_full(&self) -> bool {
        self.bodies.len() >= CHUNK_BYTES || self.records.len() >= RECORDS_MAX || self.entries.len() >= 1 << 20
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

    /// The queues of this chunk, each with how many of its records here.
    pub(super) fn appends(&self) -> impl Iterator<Item = (u16, QueueId, usize)> {
        let sets = (0..self.records.len()).flat_map(|ordinal| {
            let (start, end) = self.body_range(ordinal);
            self.set_entries(self.records[ordinal].1).iter().map(move |(queue, _)| (ordinal as u16, *queue, end - start))
        });
        sets.map(|(ordinal, queue, bytes)| (ordinal, self.queues[usize::from(queue)], bytes))
    }

    pub(super) fn queues(&self) -> &[QueueId] {
        &self.queues
    }

    fn body_range(&self, ordinal: usize) -> (usize, usize) {
        let start = if ordinal == 0 { 0 } else { self.records[ordinal - 1].0 as usize };
        (start, self.records[ordinal].0 as usize)
    }

    fn set_entries(&self, set: u16) -> &[(u16, u8)] {
        let set = usize::from(set);
        let start = if set == 0 { 0 } else { self.set_ends[set - 1] as usize };
        &self.entries[start..self.set_ends[set] as usize]
    }

    /// The number of the set; a run of records with the same targets shares one.
    fn set(&mut self, targets: &[Target]) -> u16 {
        if let Some(last) = self.set_ends.len().checked_sub(1) {
            let entries = self.set_entries(last as u16);
            let same =
                |(entry, target): (&(u16, u8), &Target)| self.queues[usize::from(entry.0)] == target.queue && entry.1 == target.flags;
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
            self.entries.push((index, target.flags));
        }
        self.set_ends.push(self.entries.len() as u32);
        (self.set_ends.len() - 1) as u16
    }

    /// The directory once more, for the family that is read when the store is opened. `bases` as for [`Self::encode`].
    pub(super) fn directory(&self, bases: &[u64]) -> Vec<u8> {
        let mut directory = DirectoryBuilder::default();
        let mut last = None;
        for (ordinal, (_, set)) in self.records.iter().enumerate() {
            let (start, end) = self.body_range(ordinal);
            let is_new = last.replace(*set) != Some(*set);
            directory.record(end - start, is_new.then(|| self.set_entries(*set).iter().map(|(queue, _)| *queue)));
        }
        directory.encode(self.records.len(), self.queues.iter().copied().zip(bases.iter().copied()))
    }

    /// The bytes of the chunk. `bases` are the sequences of each queue's first record here, in the order of [`Self::queues`].
    pub(super) fn encode(&self, bases: &[u64], now_ms: u64) -> Vec<u8> {
        let directory = self.queues.len() * 16 + self.set_ends.len() * 4 + self.records.len() * 6 + self.entries.len() * 3;
        let mut out = Vec::with_capacity(HEADER + directory + self.bodies.len() + 4);
        out.extend_from_slice(&[VERSION, 0]);
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
        for (queue, flags) in &self.entries {
            out.extend_from_slice(&queue.to_le_bytes());
            out.push(*flags);
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
}

impl Chunk {
    /// Checks the checksum and the directory's bounds.
    pub(super) fn parse(bytes: Bytes) -> Result<Chunk, &'static str> {
        let content = bytes.len().checked_sub(4).filter(|len| *len >= HEADER).ok_or("too short")?;
        let crc = u32::from_le_bytes(bytes[content..].try_into().map_err(|_| "too short")?);
        if crc32c::crc32c(&bytes[..content]) != crc {
            return Err("checksum is wrong");
        }
        if bytes[0] != VERSION || bytes[1] != 0 {
            return Err("unknown version");
        }
        let count = |at: usize| usize::from(u16::from_le_bytes([bytes[at], bytes[at + 1]]));
        let chunk = Chunk { records: count(2), sets: count(4), queues: count(6), bytes: bytes.slice(..content) };
        let entries = if chunk.sets == 0 { 0 } else { chunk.u32(chunk.sets_at() + 4 * (chunk.sets - 1)) as usize };
        let bodies = if chunk.records == 0 { 0 } else { chunk.u32(chunk.records_at() + 6 * (chunk.records - 1)) as usize };
        // The checksum holds, so the directory is as it was written: one check of the whole is enough.
        if chunk.entries_at() + 3 * entries + bodies != content { Err("directory and length differ") } else { Ok(chunk) }
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
        let mut directory = DirectoryBuilder::default();
        for ordinal in 0..self.records as u16 {
            let queues: Vec<u16> = self.targets(ordinal).map(|(index, _)| index as u16).collect();
            directory.record(self.body(ordinal).map_or(0, |body| body.len()), Some(queues.into_iter()));
        }
        let queues: Vec<_> = self.queues().collect();
        directory.encode(self.records, queues.into_iter())
    }

    /// The queues of a record, with its flags for each.
    pub(super) fn targets(&self, ordinal: u16) -> impl Iterator<Item = (usize, u8)> {
        let set = usize::from(self.u16(self.records_at() + 6 * usize::from(ordinal) + 4));
        let start = if set == 0 { 0 } else { self.u32(self.sets_at() + 4 * (set - 1)) as usize };
        let end = self.u32(self.sets_at() + 4 * set) as usize;
        (start..end).map(|entry| {
            let at = self.entries_at() + 3 * entry;
            (usize::from(self.u16(at)), self.bytes[at + 2])
        })
    }

    /// The flags that a record has for a queue.
    pub(super) fn flags(&self, ordinal: u16, queue: QueueId) -> Option<u8> {
        self.targets(ordinal).find(|(index, _)| self.queue(*index).0 == queue).map(|(_, flags)| flags)
    }

    /// The body of a record; it shares the chunk's memory.
    pub(super) fn body(&self, ordinal: u16) -> Option<Bytes> {
        let ordinal = usize::from(ordinal);
        if ordinal >= self.records {
            return None;
        }
        let end_of = |ordinal: usize| self.u32(self.records_at() + 6 * ordinal) as usize;
        let bodies = self.bytes.len() - end_of(self.records - 1);
        let start = if ordinal == 0 { 0 } else { end_of(ordinal - 1) };
        Some(self.bytes.slice(bodies + start..bodies + end_of(ordinal)))
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
        Target { queue: QueueId(queue), flags }
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
        assert_eq!(chunk.body(0).as_deref(), Some(&b"one"[..]));
        assert_eq!(chunk.body(1).as_deref(), Some(&b"two"[..]));
        assert_eq!(chunk.body(2).as_deref(), Some(&b""[..]));
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
