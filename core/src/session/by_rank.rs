//! The window of a session whose messages go by rank: what goes next, and under which sequence each has gone.

use std::collections::VecDeque;

use crate::store::Rank;

/// How far each rank has gone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Reached {
    /// Sequences below it have gone, whatever their rank.
    floor: u64,
    ranks: Vec<(Rank, u64)>,
}

impl Reached {
    /// The sequence behind the last one of that rank that has gone.
    pub(crate) fn of(&self, rank: Rank) -> u64 {
        self.ranks.iter().find(|(other, _)| *other == rank).map_or(self.floor, |(_, behind)| *behind)
    }

    fn set(&mut self, rank: Rank, behind: u64) {
        match self.ranks.iter_mut().find(|(other, _)| *other == rank) {
            Some((_, reached)) => *reached = behind,
            None => self.ranks.push((rank, behind)),
        }
    }
}

/// The next message, before it goes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Chosen {
    sequence: u64,
    /// `None`: it is one of those that go again.
    rank: Option<Rank>,
}

/// What a window needs to know where messages do not go in the order of their sequences.
#[derive(Debug, Default)]
pub(super) struct ByRank {
    /// Of each place of the window, in the order of sending.
    sequences: VecDeque<u64>,
    chosen: Chosen,
    reached: Reached,
    /// What was on its way before, and is not settled: it goes first, in its order.
    again: VecDeque<u64>,
}

impl ByRank {
    /// For the next connection of the session.
    pub(super) fn resumed(&mut self) -> ByRank {
        ByRank { reached: std::mem::take(&mut self.reached), ..ByRank::default() }
    }

    /// For the next connection of a session that has gone by arrival so far, up to `next`.
    pub(super) fn of_arrival(next: u64) -> ByRank {
        ByRank { reached: Reached { floor: next, ranks: Vec::new() }, ..ByRank::default() }
    }

    /// What is still to go again.
    pub(super) fn take_again(&mut self) -> VecDeque<u64> {
        std::mem::take(&mut self.again)
    }

    pub(super) fn send_again(&mut self, sequences: VecDeque<u64>) {
        self.again = sequences;
    }

    /// Chooses the next message. `turn` says whose turn it is among those that have not gone.
    pub(super) fn choose(&mut self, turn: impl FnOnce(&Reached) -> Option<(Rank, u64)>) -> Option<u64> {
        self.chosen = match self.again.front() {
            Some(sequence) => Chosen { sequence: *sequence, rank: None },
            None => turn(&self.reached).map(|(rank, sequence)| Chosen { sequence, rank: Some(rank) })?,
        };
        Some(self.chosen.sequence)
    }

    /// The sequence of the message that was chosen.
    pub(super) fn next(&self) -> u64 {
        self.chosen.sequence
    }

    /// Whether the chosen one has gone before.
    pub(super) fn is_repeated(&self) -> bool {
        self.chosen.rank.is_none()
    }

    /// What has gone and may not be settled.
    pub(super) fn gone(&self) -> impl Iterator<Item = u64> {
        self.sequences.iter().chain(&self.again).copied()
    }

    // What follows is called where a window without ranks has a line or two: it stays out of their way.

    /// The chosen one goes and takes the next place, or is settled without going; its sequence.
    #[cold]
    pub(super) fn advance(&mut self, goes: bool) -> u64 {
        let Chosen { sequence, rank } = self.chosen;
        self.sequences.extend(goes.then_some(sequence));
        match rank {
            Some(rank) => self.reached.set(rank, sequence + 1),
            None => drop(self.again.pop_front()),
        }
        sequence
    }

    /// The first places are free.
    #[cold]
    pub(super) fn forget(&mut self, count: usize) {
        drop(self.sequences.drain(..count));
    }

    /// The sequence that has a place.
    #[cold]
    pub(super) fn sequence_at(&self, index: usize) -> u64 {
        self.sequences[index]
    }

    /// The first place that `is_it` says yes to. Mostly it is the first.
    #[cold]
    pub(super) fn find(&self, is_it: impl Fn(usize, u64) -> bool) -> Option<(usize, u64)> {
        self.sequences.iter().copied().enumerate().find(|(index, sequence)| is_it(*index, *sequence))
    }
}
