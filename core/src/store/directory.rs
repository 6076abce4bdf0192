//! The directory of a chunk once more, without the bodies: what opening the store reads, so that its time does not depend on
//! what the messages weigh. Pure.
//!
//! ```text
//! records, queues                       varints; records with bit 17 set where there are ranks
//! queues  x (queue, sequence of its first record here)
//! records x (bytes of the body; 0: as the record before, else entries + 1, then so many indices of queues, each with its rank behind it)
//! ```

use hookline_schemas::QueueId;

use super::rank::Rank;

/// A directory as it is built: record by record.
#[derive(Debug)]
pub(super) struct DirectoryBuilder {
    records: Vec<u8>,
    has_ranks: bool,
}

/// In the number of records: there are ranks.
const RANKS: u64 = 1 << 17;

impl DirectoryBuilder {
    pub(super) fn new(has_ranks: bool) -> DirectoryBuilder {
        DirectoryBuilder { records: Vec::new(), has_ranks }
    }

    /// Adds a record with its queues, by their index, and their ranks; `None`: the same as of the record before.
    pub(super) fn record(&mut self, bytes: usize, queues: Option<impl ExactSizeIterator<Item = (u16, Rank)>>) {
        varint(&mut self.records, bytes as u64);
        let Some(queues) = queues else { return self.records.push(0) };
        varint(&mut self.records, queues.len() as u64 + 1);
        for (queue, rank) in queues {
            varint(&mut self.records, queue.into());
            if self.has_ranks {
                varint(&mut self.records, rank.0.into());
            }
        }
    }

    /// The bytes of the directory. `queues` come with the sequence of their first record.
    pub(super) fn encode(&self, count: usize, queues: impl ExactSizeIterator<Item = (QueueId, u64)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 8 * queues.len() + self.records.len());
        varint(&mut out, count as u64 | if self.has_ranks { RANKS } else { 0 });
        varint(&mut out, queues.len() as u64);
        for (queue, base) in queues {
            varint(&mut out, queue.0);
            varint(&mut out, base);
        }
        out.extend_from_slice(&self.records);
        out
    }
}

/// A directory as it is read.
#[derive(Debug)]
pub(super) struct Directory<'a> {
    pub(super) queues: Vec<(QueueId, u64)>,
    records: u64,
    has_ranks: bool,
    rest: &'a [u8],
}

impl<'a> Directory<'a> {
    /// `None`: it is damaged.
    pub(super) fn parse(mut bytes: &'a [u8]) -> Option<Directory<'a>> {
        let (records, count) = (take(&mut bytes)?, take(&mut bytes)?);
        let (records, has_ranks) = (records & !RANKS, records & RANKS != 0);
        if count > bytes.len() as u64 || records > 1 << 16 {
            return None;
        }
        let queues = (0..count).map(|_| Some((QueueId(take(&mut bytes)?), take(&mut bytes)?))).collect::<Option<Vec<_>>>()?;
        Some(Directory { queues, records, has_ranks, rest: bytes })
    }

    /// Calls `each` with every record's ordinal, bytes and queues, by their index, with their ranks. `None`: it is damaged.
    pub(super) fn records(&self, mut each: impl FnMut(u16, u64, &[(u16, Rank)])) -> Option<()> {
        let mut rest = self.rest;
        let mut set: Vec<(u16, Rank)> = Vec::new();
        for ordinal in 0..self.records {
            let bytes = take(&mut rest)?;
            if let Some(length) = take(&mut rest)?.checked_sub(1) {
                set.clear();
                for _ in 0..length {
                    let queue = u16::try_from(take(&mut rest)?).ok().filter(|queue| usize::from(*queue) < self.queues.len())?;
                    let rank = if self.has_ranks { Rank(u32::try_from(take(&mut rest)?).ok()?) } else { Rank::NONE };
                    set.push((queue, rank));
                }
            }
            each(ordinal as u16, bytes, &set);
        }
        Some(())
    }
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn take(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_directory_comes_back_as_it_was_and_damage_is_found() {
        for high in [Rank::NONE, Rank::new(u16::MAX, 256)] {
            let low = Rank::NONE;
            let mut builder = DirectoryBuilder::new(high != low);
            builder.record(300, Some([(0, high)].into_iter()));
            builder.record(5, None::<std::iter::Empty<_>>);
            builder.record(0, Some([(1, low), (0, high)].into_iter()));
            builder.record(7, Some(std::iter::empty()));
            let bytes = builder.encode(4, [(QueueId(900), 40), (QueueId(7), 1 << 40)].into_iter());
            let directory = Directory::parse(&bytes).expect("valid");
            assert_eq!(directory.queues, [(QueueId(900), 40), (QueueId(7), 1 << 40)]);
            let mut found = Vec::new();
            directory.records(|ordinal, bytes, queues| found.push((ordinal, bytes, queues.to_vec()))).expect("valid");
            assert_eq!(found, [(0, 300, vec![(0, high)]), (1, 5, vec![(0, high)]), (2, 0, vec![(1, low), (0, high)]), (3, 7, vec![])]);
            for cut in 0..bytes.len() {
                assert!(Directory::parse(&bytes[..cut]).is_none_or(|directory| directory.records(|_, _, _| {}).is_none()), "cut at {cut}");
            }
        }
    }
}
