//! When a record leaves a queue that is not in the order of arrival.

/// The priority of a record, and by which priorities it has it. What came by others before leaves before it: so the records of one topic
/// stay in their order also where somebody changes its priority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Rank(pub(super) u32);

impl Rank {
    /// Of a queue without priorities.
    pub(crate) const NONE: Rank = Rank(0);

    /// `ranking` distinguishes sets of priorities and is not 0.
    pub(crate) fn new(ranking: u16, priority: u16) -> Rank {
        Rank(u32::from(ranking) << 16 | u32::from(priority))
    }

    /// By which priorities it is; 0: by none.
    pub(super) fn ranking(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// Higher goes first.
    pub(super) fn priority(self) -> u16 {
        self.0 as u16
    }
}
