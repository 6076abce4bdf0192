//! A durable queue in memory: eight bytes for each record that waits, and the account of all that ever came.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};

use hookline_schemas::QueueId;
use hookline_schemas::config::WhenFull;
use hookline_schemas::ports::Ledger;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::chunk::Position;
use super::cursor::Cursor;
use super::index::Index;

/// Whose queue it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum QueueKind {
    /// A durable session's, named by its client identifier.
    Session = 1,
    /// An action's, named by the action.
    Action = 2,
}

impl QueueKind {
    pub(super) fn from_byte(byte: u8) -> Option<QueueKind> {
        match byte {
            1 => Some(QueueKind::Session),
            2 => Some(QueueKind::Action),
            _ => None,
        }
    }
}

/// The bounds of a queue.
#[derive(Debug, Clone, Copy)]
pub struct Bounds {
    pub records_max: u64,
    pub bytes_max: u64,
    pub when_full: WhenFull,
}

/// What a chunk's record is to its queue when the store is opened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Restored {
    Waits,
    /// It takes the place of one whose write had failed.
    Replaces(Position),
    Settled,
}

/// How many of them are remembered: those whose own delivery may still be under way.
const GIVEN_MAX: usize = 4096;

/// What became of a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Settlement {
    Delivered,
    DeadLettered,
    Dropped,
    Expired,
}

/// A durable, ordered, bounded queue. Records are appended by commits only; its one reader settles them.
#[derive(Debug)]
pub struct Queue {
    id: QueueId,
    kind: QueueKind,
    name: String,
    records_max: AtomicU64,
    bytes_max: AtomicU64,
    policy: AtomicU8,
    state: Mutex<State>,
    /// Copies of `State`'s, for the publish path.
    pending: AtomicU64,
    pending_bytes: AtomicU64,
    /// It is in the store's list of queues whose cursor is to be written.
    pub(super) dirty: AtomicBool,
    /// Told when records become visible.
    pub(super) ready: Notify,
    /// Somebody waits for the end of a record.
    pub(super) watched: AtomicBool,
    /// Messages of QoS 0 are to be kept, too: its session is away and wants them.
    keeps_qos0: AtomicBool,
}

#[derive(Debug, Default)]
struct State {
    /// The sequence of `index[0]`.
    front: u64,
    /// Where they lie; what is settled is never at the front.
    index: Index,
    released: BTreeSet<u64>,
    /// The last records that needed no acknowledgement and were sent from here.
    given: VecDeque<Position>,
    /// Its `accepted` counts only what never came into the index; the rest follows from the sequence.
    ledger: Ledger,
}

impl Queue {
    pub(crate) fn new(id: QueueId, kind: QueueKind, name: &str) -> Queue {
        Queue {
            id,
            kind,
            name: name.to_owned(),
            records_max: AtomicU64::new(u64::MAX),
            bytes_max: AtomicU64::new(u64::MAX),
            policy: AtomicU8::new(0),
            state: Mutex::default(),
            pending: AtomicU64::new(0),
            pending_bytes: AtomicU64::new(0),
            dirty: AtomicBool::new(false),
            ready: Notify::new(),
            watched: AtomicBool::new(false),
            keeps_qos0: AtomicBool::new(false),
        }
    }

    /// The number of the queue.
    pub fn id(&self) -> QueueId {
        self.id
    }

    /// Whose queue it is.
    pub fn kind(&self) -> QueueKind {
        self.kind
    }

    /// The client identifier, or the name of the action.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Records that wait.
    pub fn pending(&self) -> u64 {
        self.pending.load(Ordering::Relaxed)
    }

    pub(crate) fn set_keeps_qos0(&self, keeps: bool) {
        self.keeps_qos0.store(keeps, Ordering::Relaxed);
    }

    /// Whether messages of QoS 0 are to be kept.
    pub(crate) fn keeps_qos0(&self) -> bool {
        self.keeps_qos0.load(Ordering::Relaxed)
    }

    /// Remembers that a record was sent that needs no acknowledgement.
    pub(crate) fn note_given(&self, sequence: u64) {
        let mut state = self.state.lock();
        let position = sequence.checked_sub(state.front).and_then(|offset| state.index.get(usize::try_from(offset).ok()?));
        if state.given.len() == GIVEN_MAX {
            state.given.pop_front();
        }
        state.given.extend(position);
    }

    /// Whether the record at that place was put into this queue: it waits there, or was sent from there just now. Recent ones
    /// are found at once.
    pub(crate) fn holds(&self, position: Position) -> bool {
        let state = self.state.lock();
        // They were sent in the order of the queue.
        if state.given.binary_search(&position).is_ok() {
            return true;
        }
        let recent = state.index.newest_first().take_while(|other| *other >= position);
        recent.last() == Some(position)
    }

    /// Sets the bounds.
    pub fn set_bounds(&self, bounds: Bounds) {
        self.records_max.store(bounds.records_max, Ordering::Relaxed);
        self.bytes_max.store(bounds.bytes_max, Ordering::Relaxed);
        self.policy.store(bounds.when_full as u8, Ordering::Relaxed);
    }

    /// What to do with a further record, where the queue is at a bound.
    pub fn when_full(&self) -> Option<WhenFull> {
        let full = self.pending.load(Ordering::Relaxed) >= self.records_max.load(Ordering::Relaxed)
            || self.pending_bytes.load(Ordering::Relaxed) >= self.bytes_max.load(Ordering::Relaxed);
        let policies = [WhenFull::Refuse, WhenFull::DropOldest, WhenFull::DropNewest];
        full.then(|| policies[usize::from(self.policy.load(Ordering::Relaxed))])
    }

    /// Whether more waits than its bounds allow, and the oldest is to make room.
    pub(super) fn must_drop_oldest(&self) -> bool {
        let over = self.pending.load(Ordering::Relaxed) > self.records_max.load(Ordering::Relaxed)
            || self.pending_bytes.load(Ordering::Relaxed) > self.bytes_max.load(Ordering::Relaxed);
        over && self.policy.load(Ordering::Relaxed) == WhenFull::DropOldest as u8
    }

    /// The sequence of the first record that is not settled.
    pub fn front(&self) -> u64 {
        self.state.lock().front
    }

    /// The sequence that the next record will get.
    pub fn next(&self) -> u64 {
        self.state.lock().next()
    }

    /// The account.
    pub fn ledger(&self) -> Ledger {
        let state = self.state.lock();
        Ledger { accepted: state.next() + state.ledger.accepted, ..state.ledger }
    }

    /// Counts a record that found the queue at its bound and did not come in.
    pub(crate) fn count_overflow(&self) {
        let mut state = self.state.lock();
        state.ledger.accepted += 1;
        state.ledger.dropped += 1;
    }

    /// Whether the receiver of this record has answered PUBREC.
    pub(crate) fn is_released(&self, sequence: u64) -> bool {
        self.state.lock().released.contains(&sequence)
    }

    /// Remembers a PUBREC.
    pub(crate) fn release(&self, sequence: u64) {
        self.state.lock().released.insert(sequence);
    }

    /// Takes a PUBREC back that could not be kept.
    pub(crate) fn unrelease(&self, sequence: u64) {
        self.state.lock().released.remove(&sequence);
    }

    /// Where the record lies; `None`: it is settled, or not there yet.
    pub(crate) fn position(&self, sequence: u64) -> Option<Position> {
        let state = self.state.lock();
        let offset = sequence.checked_sub(state.front)?;
        state.index.get(usize::try_from(offset).ok()?)
    }

    /// The positions from `sequence` on, without the settled ones, with their sequences.
    pub(super) fn positions(&self, sequence: u64, count: usize) -> Vec<(u64, Position)> {
        let state = self.state.lock();
        let skip = sequence.saturating_sub(state.front) as usize;
        let numbered = (state.front + skip as u64..).zip(state.index.iter_from(skip));
        numbered.filter_map(|(sequence, position)| position.map(|position| (sequence, position))).take(count).collect()
    }

    /// Appends a record; its sequence. Only commits call it.
    pub(super) fn append(&self, position: Position, bytes: u64) -> u64 {
        let mut state = self.state.lock();
        let sequence = state.next();
        state.index.push(Some(position));
        state.ledger.pending += 1;
        state.ledger.pending_bytes += bytes;
        self.publish_counts(&state);
        sequence
    }

    /// Takes the last record back, when its write has failed.
    pub(super) fn take_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        if state.index.pop().is_some() {
            state.ledger.pending -= 1;
            state.ledger.pending_bytes = state.ledger.pending_bytes.saturating_sub(bytes);
        }
        self.publish_counts(&state);
    }

    /// Settles a record; its position, or `None` where it was settled already.
    pub(super) fn settle(&self, sequence: u64, bytes: u64, how: Settlement) -> Option<Position> {
        let mut state = self.state.lock();
        let offset = usize::try_from(sequence.checked_sub(state.front)?).ok()?;
        let position = state.index.set(offset, None)?;
        state.front += state.index.trim();
        state.released.remove(&sequence);
        state.ledger.pending -= 1;
        state.ledger.pending_bytes = if state.ledger.pending == 0 { 0 } else { state.ledger.pending_bytes.saturating_sub(bytes) };
        let counter = match how {
            Settlement::Delivered => &mut state.ledger.delivered,
            Settlement::DeadLettered => &mut state.ledger.dead_lettered,
            Settlement::Dropped => &mut state.ledger.dropped,
            Settlement::Expired => &mut state.ledger.expired,
        };
        *counter += 1;
        self.publish_counts(&state);
        Some(position)
    }

    /// All positions that are not settled: what the end of the queue sets free.
    pub(super) fn drain(&self) -> Vec<Position> {
        let mut state = self.state.lock();
        let positions = state.index.newest_first().collect();
        state.index.clear();
        state.ledger.pending = 0;
        state.ledger.pending_bytes = 0;
        self.publish_counts(&state);
        positions
    }

    /// The cursor as it is to be written.
    pub(super) fn cursor(&self) -> Cursor {
        let state = self.state.lock();
        let settled = state.index.holes().map(|place| state.front + place as u64);
        Cursor {
            front: state.front,
            next: state.next(),
            ledger: state.ledger,
            settled: settled.collect(),
            released: state.released.iter().copied().collect(),
        }
    }

    /// Takes over the cursor from the database, before the chunks are read.
    pub(super) fn restore(&self, cursor: &Cursor) {
        let mut state = self.state.lock();
        state.front = cursor.front;
        state.ledger = Ledger { pending: 0, pending_bytes: 0, ..cursor.ledger };
        state.released = cursor.released.iter().copied().collect();
    }

    /// The cursor is lost: the queue begins with the first record that a chunk holds.
    pub(super) fn restore_without_cursor(&self) {
        self.state.lock().front = u64::MAX;
    }

    /// Takes over a record that a chunk holds. Where two have the same sequence the later one counts, whose position comes back:
    /// the write of the other one failed, and nobody was told that it is kept.
    pub(super) fn restore_record(&self, sequence: u64, position: Position, bytes: u64) -> Restored {
        let mut state = self.state.lock();
        if state.front == u64::MAX {
            state.front = sequence;
        }
        let Some(offset) = sequence.checked_sub(state.front).and_then(|offset| usize::try_from(offset).ok()) else {
            return Restored::Settled;
        };
        while state.index.len() <= offset {
            state.index.push(None);
        }
        let before = state.index.set(offset, Some(position));
        if before.is_none() {
            state.ledger.pending += 1;
            state.ledger.pending_bytes += bytes;
        }
        self.publish_counts(&state);
        before.map_or(Restored::Waits, Restored::Replaces)
    }

    /// Ends the recovery: settles what the cursor says, and accounts for records that no chunk holds. Their number.
    pub(super) fn restored(&self, cursor: &Cursor) -> (Vec<Position>, u64) {
        let mut state = self.state.lock();
        if state.front == u64::MAX {
            state.front = 0;
        }
        let end = cursor.next.max(state.next());
        let missing_at_the_end = end - state.next();
        let mut settled = Vec::new();
        for sequence in &cursor.settled {
            let place = sequence.checked_sub(state.front).and_then(|offset| usize::try_from(offset).ok());
            if let Some(position) = place.and_then(|place| state.index.set(place, None)) {
                settled.push(position);
                state.ledger.pending -= 1;
            }
        }
        let settled_holes = cursor.settled.iter().filter(|sequence| **sequence < end).count() as u64;
        let holes = state.index.holes().count() as u64;
        let lost = (holes + missing_at_the_end).saturating_sub(settled_holes);
        // What is lost is accounted for as dropped, so that the account stays right and the loss visible.
        state.ledger.dropped += lost;
        state.front += state.index.trim();
        if state.index.is_empty() {
            state.front = end;
        } else {
            let length = (end - state.front) as usize;
            while state.index.len() < length {
                state.index.push(None);
            }
        }
        self.publish_counts(&state);
        (settled, lost)
    }

    fn publish_counts(&self, state: &MutexGuard<'_, State>) {
        self.pending.store(state.ledger.pending, Ordering::Relaxed);
        self.pending_bytes.store(state.ledger.pending_bytes, Ordering::Relaxed);
    }
}

impl State {
    fn next(&self) -> u64 {
        self.front + self.index.len() as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_settled_in_any_order_and_the_account_balances() {
        let queue = Queue::new(QueueId(1), QueueKind::Session, "c");
        for ordinal in 0..4 {
            assert_eq!(queue.append(Position::new(1, ordinal), 10), u64::from(ordinal));
        }
        assert!(queue.settle(1, 10, Settlement::Delivered).is_some());
        assert!(queue.settle(1, 10, Settlement::Delivered).is_none(), "only once");
        assert_eq!((queue.front(), queue.next()), (0, 4));
        assert!(queue.settle(0, 10, Settlement::Dropped).is_some());
        assert_eq!((queue.front(), queue.next()), (2, 4));
        let ledger = queue.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!((ledger.delivered, ledger.dropped, ledger.pending, ledger.pending_bytes), (1, 1, 2, 20));
    }

    #[test]
    fn a_restart_counts_what_no_chunk_holds() {
        let queue = Queue::new(QueueId(1), QueueKind::Action, "a");
        let ledger = Ledger { delivered: 3, ..Ledger::default() };
        let cursor = Cursor { front: 2, next: 8, ledger, settled: vec![4], released: vec![] };
        queue.restore(&cursor);
        queue.restore_record(3, Position::new(1, 0), 5);
        queue.restore_record(4, Position::new(1, 1), 5);
        let (settled, lost) = queue.restored(&cursor);
        assert_eq!((settled.len(), lost), (1, 4), "2, 5, 6 and 7 are lost");
        let ledger = queue.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!((queue.front(), queue.next()), (3, 8));
    }
}
