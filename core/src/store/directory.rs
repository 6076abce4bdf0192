//! The directory of a chunk once more, without the bodies: what opening the store reads, so that its time does not depend on
//! what the messages weigh. Pure.
//!
//! ```text
//! records, queues                       varints
//! queues  x (queue, sequence of its first record here)
//! records x (bytes of the body; 0: as the record before, else entries + 1, then so many indices of queues)
//! ```

use hookline_schemas::QueueId;

/// A directory as it is built: record by record.
#[derive(Debug, Default)]
pub(super) struct DirectoryBuilder {
    records: Vec<u8>,
}

impl DirectoryBuilder {
    /// Adds a record with its queues, by their index; `None`: the same as of the record before.
    pub(super) fn record(&mut self, bytes: usize, queues: Option<impl ExactSizeIterator<Item = u16>>) {
        varint(&mut self.records, bytes as u64);
        let Some(queues) = queues else { return self.records.push(0) };
        varint(&mut self.records, queues.len() as u64 + 1);
        queues.for_each(|queue| varint(&mut self.records, queue.into()));
    }

    /// The bytes of the directory. `queues` come with the sequence of their first record.
    pub(super) fn encode(&self, count: usize, queues: impl ExactSizeIterator<Item = (QueueId, u64)>) -> Vec<u8> {
        let mut out = Vec::with_capacity(16 + 8 * queues.len() + self.records.len());
        varint(&mut out, count as u64);
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
    rest: &'a [u8],
}

impl<'a> Directory<'a> {
    /// `None`: it is damaged.
    pub(super) fn parse(mut bytes: &'a [u8]) -> Option<Directory<'a>> {
        let (records, count) = (take(&mut bytes)?, take(&mut bytes)?);
        if count > bytes.len() as u64 || records > 1 << 16 {
            return None;
        }
        let queues = (0..count).map(|_| Some((QueueId(take(&mut bytes)?), take(&mut bytes)?))).collect::<Option<Vec<_>>>()?;
        Some(Directory { queues, records, rest: bytes })
    }

    /// Calls `each` with every record's ordinal, bytes and queues, by their index. `None`: it is damaged.
    pub(super) fn records(&self, mut each: impl FnMut(u16, u64, &[u16])) -> Option<()> {
        let mut rest = self.rest;
        let mut set: Vec<u16> = Vec::new();
        for ordinal in 0..self.records {
            let bytes = take(&mut rest)?;
            if let Some(length) = take(&mut rest)?.checked_sub(1) {
                set.clear();
                for _ in 0..length {
                    let queue = take(&mut rest)?;
                    set.push(u16::try_from(queue).ok().filter(|queue| usize::from(*queue) < self.queues.len())?);
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
        let mut builder = DirectoryBuilder::default();
        builder.record(300, Some([0u16].into_iter()));
        builder.record(5, None::<std::iter::Empty<u16>>);
        builder.record(0, Some([1u16, 0].into_iter()));
        builder.record(7, Some(std::iter::empty()));
        let bytes = builder.encode(4, [(QueueId(900), 40), (QueueId(7), 1 << 40)].into_iter());
        let directory = Directory::parse(&bytes).expect("valid");
        assert_eq!(directory.queues, [(QueueId(900), 40), (QueueId(7), 1 << 40)]);
        let mut found = Vec::new();
        directory.records(|ordinal, bytes, queues| found.push((ordinal, bytes, queues.to_vec()))).expect("valid");
        assert_eq!(found, [(0, 300, vec![0]), (1, 5, vec![0]), (2, 0, vec![1, 0]), (3, 7, vec![])]);
        for cut in 0..bytes.len() {
            assert!(Directory::parse(&bytes[..cut]).is_none_or(|directory| directory.records(|_, _, _| {}).is_none()), "cut at {cut}");
        }
    }
}
