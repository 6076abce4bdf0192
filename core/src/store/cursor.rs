//! The cursor record: how far a queue is, and its account.

use hookline_schemas::ports::Ledger;

use super::rank::Rank;

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
    pub(super) ranks: Option<Fronts>,
}

/// How far the ranks are that are being sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Fronts {
    /// Of each that something waits of, the sequence of the first.
    pub(super) fronts: Vec<(Rank, u64)>,
    /// All others below it are settled.
    pub(super) end: u64,
}

impl Cursor {
    pub(super) fn encode(&self) -> Vec<u8> {
        let ledger = [self.ledger.accepted, self.ledger.delivered, self.ledger.dead_lettered, self.ledger.dropped, self.ledger.expired];
        let head = [self.front, self.next].into_iter().chain(ledger);
        let lists = [self.settled.len() as u64, self.released.len() as u64];
        let numbers = head.chain(lists).chain(self.settled.iter().copied()).chain(self.released.iter().copied());
        // Mostly there are none, and nothing is written.
        let ranks = self.ranks.iter().flat_map(|Fronts { fronts, end }| {
            let pairs = fronts.iter().flat_map(|(rank, front)| [u64::from(rank.0), *front]);
            [*end, fronts.len() as u64].into_iter().chain(pairs)
        });
        numbers.chain(ranks).flat_map(u64::to_le_bytes).collect()
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Cursor> {
        let numbers: Vec<u64> = bytes.chunks_exact(8).map(|c| u64::from_le_bytes(c.try_into().expect("eight bytes"))).collect();
        let [front, next, accepted, delivered, dead_lettered, dropped, expired, settled, released] = *numbers.first_chunk::<9>()?;
        let lists = &numbers[9..];
        let (settled, rest) = lists.split_at_checked(usize::try_from(settled).ok()?)?;
        let (released, rest) = rest.split_at_checked(usize::try_from(released).ok()?)?;
        let ranks = match rest {
            [] => None,
            [end, count, pairs @ ..] => {
                let pairs = pairs.get(..usize::try_from(count.checked_mul(2)?).ok()?)?;
                let fronts = pairs.chunks_exact(2).map(|pair| Some((Rank(u32::try_from(pair[0]).ok()?), pair[1])));
                Some(Fronts { fronts: fronts.collect::<Option<_>>()?, end: *end })
            }
            _ => return None,
        };
        let ledger = Ledger { accepted, delivered, dead_lettered, dropped, expired, pending: 0, pending_bytes: 0 };
        let (settled, released) = (settled.to_vec(), released.to_vec());
        Some(Cursor { front, next, ledger, settled, released, ranks })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_comes_back_as_it_was() {
        let ledger = Ledger { accepted: 9, delivered: 3, dead_lettered: 1, dropped: 2, expired: 0, pending: 0, pending_bytes: 0 };
        let fronts = Fronts { fronts: vec![(Rank::new(7, 256), 8), (Rank::NONE, 5)], end: 9 };
        for ranks in [None, Some(fronts)] {
            let cursor = Cursor { front: 5, next: 9, ledger, settled: vec![7], released: vec![5, 6], ranks };
            let bytes = cursor.encode();
            assert_eq!(Cursor::decode(&bytes), Some(cursor));
            assert_eq!(Cursor::decode(&bytes[..bytes.len() - 1]), None);
        }
    }
}
