//! Where the records of a queue lie, by their sequences: in the order of arrival, or by rank where the queue has more than one.

use super::chunk::Position;
use super::cursor::Fronts;
use super::index::Index;
use super::rank::Rank;
use super::ranked::Ranked;
use crate::session::{PACKET_IDS, Reached};

/// The records that are not settled.
#[derive(Debug)]
pub(super) enum Places {
    /// None has a rank: eight bytes each. `front` is the sequence of the first; what is settled is never there.
    Arrival { front: u64, index: Index },
    /// There are others.
    Ranked(Box<Ranked>),
}

impl Default for Places {
    fn default() -> Places {
        Places::empty(0)
    }
}

impl Places {
    fn empty(front: u64) -> Places {
        Places::Arrival { front, index: Index::default() }
    }

    /// The sequence that the next record gets.
    pub(super) fn next(&self) -> u64 {
        match self {
            Places::Arrival { front, index } => front + index.len() as u64,
            Places::Ranked(ranked) => ranked.next(),
        }
    }

    /// The sequence of the first that is not settled.
    pub(super) fn front(&self) -> u64 {
        match self {
            Places::Arrival { front, .. } => *front,
            Places::Ranked(ranked) => ranked.front(),
        }
    }

    pub(super) fn get(&self, sequence: u64) -> Option<Position> {
        match self {
            Places::Arrival { front, index } => index.get(usize::try_from(sequence.checked_sub(*front)?).ok()?),
            Places::Ranked(ranked) => ranked.get(sequence),
        }
    }

    pub(super) fn push(&mut self, rank: Rank, position: Position) {
        match self.for_rank(rank) {
            Places::Arrival { index, .. } => index.push(Some(position)),
            Places::Ranked(ranked) => ranked.push(rank, position),
        }
    }

    /// Takes the last one back.
    pub(super) fn pop(&mut self) -> Option<Position> {
        let popped = match self {
            Places::Arrival { index, .. } => index.pop(),
            Places::Ranked(ranked) => ranked.pop(),
        };
        self.tidy();
        popped
    }

    /// Settles a record; where it lies, unless it was settled before.
    pub(super) fn settle(&mut self, sequence: u64) -> Option<Position> {
        match self {
            Places::Arrival { front, index } => {
                let position = index.set(usize::try_from(sequence.checked_sub(*front)?).ok()?, None)?;
                *front += index.trim();
                Some(position)
            }
            Places::Ranked(ranked) => {
                let position = ranked.settle(sequence);
                self.tidy();
                position
            }
        }
    }

    /// All positions; nothing waits any more.
    pub(super) fn drain(&mut self) -> Vec<Position> {
        let (positions, front) = match self {
            Places::Arrival { front, index } => (index.newest_first().collect(), *front),
            Places::Ranked(ranked) => (ranked.iter().map(|(_, position)| position).collect(), ranked.next()),
        };
        *self = Places::empty(front);
        positions
    }

    /// The first that wait from `sequence` on, in the order of arrival.
    pub(super) fn oldest(&self, sequence: u64, count: usize) -> Vec<(u64, Position)> {
        match self {
            Places::Arrival { front, index } => {
                let skip = sequence.saturating_sub(*front) as usize;
                let numbered = (front + skip as u64..).zip(index.iter_from(skip));
                numbered.filter_map(|(sequence, position)| position.map(|position| (sequence, position))).take(count).collect()
            }
            Places::Ranked(ranked) => ranked.oldest(sequence, count),
        }
    }

    /// Whether a record that waits lies there. Recent ones are found at once.
    pub(super) fn holds(&self, position: Position) -> bool {
        match self {
            Places::Arrival { index, .. } => index.newest_first().take_while(|other| *other >= position).last() == Some(position),
            Places::Ranked(ranked) => ranked.holds(position),
        }
    }

    /// Sequences behind the front, or behind that of their rank, that are settled.
    pub(super) fn holes(&self) -> Vec<u64> {
        match self {
            Places::Arrival { front, index } => index.holes().map(|place| front + place as u64).collect(),
            Places::Ranked(ranked) => ranked.holes(),
        }
    }

    /// Where there are ranks, how far they are.
    pub(super) fn fronts(&self) -> Option<Fronts> {
        match self {
            Places::Arrival { .. } => None,
            Places::Ranked(ranked) => Some(ranked.fronts()),
        }
    }

    /// Whose turn it is among those that have not gone, with its rank; `may_go` says of a record whether it may, and `None` where
    /// nothing that came later may.
    pub(super) fn turn(&self, reached: &Reached, may_go: &impl Fn(u64, Position) -> Option<bool>) -> Option<(Rank, u64)> {
        let (front, index) = match self {
            Places::Arrival { front, index } => (*front, index),
            Places::Ranked(ranked) => return ranked.turn(reached, may_go),
        };
        let from = reached.of(Rank::NONE).saturating_sub(front) as usize;
        let numbered = (front + from as u64..).zip(index.iter_from(from));
        for (sequence, position) in numbered.filter_map(|(sequence, position)| Some((sequence, position?))) {
            if may_go(sequence, position)? {
                // All before it have gone: one that has its packet identifier is to be acknowledged first.
                let turns = (sequence - front) / PACKET_IDS;
                let is_free = (1..=turns).all(|turns| self.get(sequence - turns * PACKET_IDS).is_none());
                return is_free.then_some((Rank::NONE, sequence));
            }
        }
        None
    }

    /// All that wait, in the order in which they go; `None`: there are no ranks.
    pub(super) fn by_rank(&self) -> Option<Vec<u64>> {
        match self {
            Places::Arrival { .. } => None,
            Places::Ranked(ranked) => Some(ranked.iter().map(|(sequence, _)| sequence).collect()),
        }
    }

    /// Begins the recovery: what comes before `front` is settled, and what the ranks say.
    pub(super) fn to_restore(front: u64, ranks: Option<&Fronts>) -> Places {
        match ranks {
            None => Places::empty(front),
            Some(ranks) => Places::Ranked(Box::new(Ranked::to_restore(front, ranks.clone()))),
        }
    }

    /// Takes over a record that a chunk holds: whether it waits, and what it replaces.
    pub(super) fn restore(&mut self, sequence: u64, rank: Rank, position: Position) -> (bool, Option<Position>) {
        // The cursor is lost: the queue begins with the first record that a chunk holds.
        if let Places::Arrival { front, .. } = self
            && *front == u64::MAX
        {
            *front = sequence;
        }
        match self.for_rank(rank) {
            Places::Arrival { front, index } => {
                let Some(offset) = sequence.checked_sub(*front).and_then(|offset| usize::try_from(offset).ok()) else {
                    return (false, None);
                };
                while index.len() <= offset {
                    index.push(None);
                }
                (true, index.set(offset, Some(position)))
            }
            Places::Ranked(ranked) => ranked.restore(sequence, rank, position),
        }
    }

    /// Makes room for records of that rank.
    fn for_rank(&mut self, rank: Rank) -> &mut Places {
        if rank != Rank::NONE
            && let Places::Arrival { front, index } = self
        {
            *self = Places::Ranked(Box::new(Ranked::of(*front, index)));
        }
        self
    }

    /// What has nothing of another rank needs no ranks.
    pub(super) fn tidy(&mut self) {
        if let Places::Ranked(ranked) = self
            && ranked.is_empty()
        {
            *self = Places::empty(ranked.next());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_cost_nothing_where_there_are_none() {
        assert_eq!(size_of::<Places>(), size_of::<(u64, Index)>());
    }
}
