//! The cursor record: how far a queue is, and its account.

use hookline_schemas::ports::Ledger;

/// How a queue is, in the form of its cursor record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// The sequence of the first record that is not settled.
    pub(super) front: u64,
    /// The sequence that the next record gets.
    pub(super) next: u64,
    pub(super) ledger: Ledger,
    /// Records behind the front that are settled already.
    pub(super) settled: Vec<u64>,
    /// Records whose receiver has answered PUBREC: only the PUBREL is still to go.
    pub(super) released: Vec<u64>,
}

impl Cursor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let ledger = [self.ledger.accepted, self.ledger.delivered, self.ledger.dead_lettered, self.ledger.dropped, self.ledger.expired];
        let head = [self.front, self.next].into_iter().chain(ledger);
        let lists = [self.settled.len() as u64, self.released.len() as u64];
        let numbers = head.chain(lists).chain(self.settled.iter().copied()).chain(self.released.iter().copied());
        numbers.flat_map(u64::to_le_bytes).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Cursor> {
        let numbers: Vec<u64> = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect();
        let [front, next, accepted, delivered, dead_lettered, dropped, expired, settled, released] = *numbers.first_chunk::<9>()?;
        let lists = &numbers[9..];
        let (settled, rest) = lists.split_at_checked(usize::try_from(settled).ok()?)?;
        let released = rest.get(..usize::try_from(released).ok()?)?;
        let ledger = Ledger { accepted, delivered, dead_lettered, dropped, expired, pending: 0, pending_bytes: 0 };
        Some(Cursor { front, next, ledger, settled: settled.to_vec(), released: released.to_vec() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let ledger = Ledger { accepted: 9, delivered: 3, dead_lettered: 1, dropped: 2, expired: 0, pending: 0, pending_bytes: 0 };
        let cursor = Cursor { front: 5, next: 9, ledger, settled: vec![7], released: vec![5, 6] };
        let bytes = cursor.encode();
        assert_eq!(Cursor::decode(&bytes), Some(cursor));
        assert_eq!(Cursor::decode(&bytes[..bytes.len() - 1]), None);
    }
}
