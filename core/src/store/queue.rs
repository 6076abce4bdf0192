//! A durable queue in memory: eight bytes for each record that waits, and the account of all that ever came.

use std::collections::{BTreeSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU64, Ordering};

use hookline_schemas::QueueId;
use hookline_schemas::config::WhenFull;
use hookline_schemas::ports::Ledger;
use parking_lot::{Mutex, MutexGuard};
use tokio::sync::Notify;

use super::chunk::Position;
use super::cursor::Cursor;
use super::places::Places;
use super::rank::Rank;
use crate::session::Reached;

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
pub(super) struct Restored {
    /// It is not settled.
    pub(super) waits: bool,
    /// It takes the place of one whose write had failed.
    pub(super) replaces: Option<Position>,
}

/// How many of them are remembered: those whose own delivery may still be under way.
const GIVEN_MAX: usize = 4096;

/// What a queue has at a sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Slot {
    /// Nothing yet.
    Ahead,
    /// A record that is settled.
    Settled,
    /// A record whose receiver has answered PUBREC.
    Released,
    /// A record that waits there.
    Waits(Position),
}

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
    /// Whose priorities order its messages; 0: there are none.
    ranking: AtomicU16,
}

#[derive(Debug, Default)]
struct State {
    places: Places,
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
            ranking: AtomicU16::new(0),
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

    pub(crate) fn set_ranking(&self, ranking: u16) {
        self.ranking.store(ranking, Ordering::Relaxed);
    }

    /// Whose priorities order its messages; 0: there are none.
    pub(crate) fn ranking(&self) -> u16 {
        self.ranking.load(Ordering::Relaxed)
    }

    /// Remembers that a record was sent that needs no acknowledgement.
    pub(crate) fn note_given(&self, sequence: u64) {
        let mut state = self.state.lock();
        let Some(position) = state.places.get(sequence) else { return };
        if state.given.len() == GIVEN_MAX {
            state.given.pop_front();
        }
        // Mostly the last.
        let at = state.given.partition_point(|other| *other < position);
        state.given.insert(at, position);
    }

    /// Whether the record at that place was put into this queue: it waits there, or was sent from there just now. Recent ones
    /// are found at once.
    pub(crate) fn holds(&self, position: Position) -> bool {
        let state = self.state.lock();
        state.given.binary_search(&position).is_ok() || state.places.holds(position)
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
        self.state.lock().places.front()
    }

    /// The sequence that the next record will get.
    pub fn next(&self) -> u64 {
        self.state.lock().places.next()
    }

    /// The account.
    pub fn ledger(&self) -> Ledger {
        let state = self.state.lock();
        Ledger { accepted: state.places.next() + state.ledger.accepted, ..state.ledger }
    }

    /// Counts a record that found the queue at its bound and did not come in.
    pub(crate) fn count_overflow(&self) {
        let mut state = self.state.lock();
        state.ledger.accepted += 1;
        state.ledger.dropped += 1;
    }

    /// What there is at a sequence.
    pub(crate) fn look(&self, sequence: u64) -> Slot {
        let state = self.state.lock();
        match state.places.get(sequence) {
            Some(_) if state.released.contains(&sequence) => Slot::Released,
            Some(position) => Slot::Waits(position),
            None if sequence >= state.places.next() => Slot::Ahead,
            None => Slot::Settled,
        }
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
        self.state.lock().places.get(sequence)
    }

    /// The positions from `sequence` on, without the settled ones, with their sequences, in the order of arrival.
    pub(super) fn positions(&self, sequence: u64, count: usize) -> Vec<(u64, Position)> {
        self.state.lock().places.oldest(sequence, count)
    }

    /// Whose turn it is by rank, with its rank, where each rank was reached so far. `is_visible` says what may be read.
    pub(crate) fn turn(&self, reached: &Reached, is_visible: impl Fn(Position) -> bool) -> Option<(Rank, u64)> {
        let state = self.state.lock();
        // Of what is released only the PUBREL is to go.
        let may_go = |sequence, position| is_visible(position).then(|| !state.released.contains(&sequence));
        state.places.turn(reached, &may_go)
    }

    /// Whether what waits has ranks.
    pub(crate) fn is_ranked(&self) -> bool {
        matches!(self.state.lock().places, Places::Ranked(_))
    }

    /// Records whose receiver has answered PUBREC.
    pub(crate) fn released(&self) -> Vec<u64> {
        self.state.lock().released.iter().copied().collect()
    }

    /// What may wait from `sequence` on, in the order in which it goes: the highest rank first where there are any.
    pub(crate) fn sequences(&self, sequence: u64) -> Box<dyn Iterator<Item = u64>> {
        let state = self.state.lock();
        match state.places.by_rank() {
            Some(sequences) => Box::new(sequences.into_iter().filter(move |other| *other >= sequence)),
            None => Box::new(sequence.max(state.places.front())..state.places.next()),
        }
    }

    /// Appends a record; its sequence. Only commits call it.
    pub(super) fn append(&self, position: Position, rank: Rank, bytes: u64) -> u64 {
        let mut state = self.state.lock();
        let sequence = state.places.next();
        state.places.push(rank, position);
        state.ledger.pending += 1;
        state.ledger.pending_bytes += bytes;
        self.publish_counts(&state);
        sequence
    }

    /// Takes the last record back, when its write has failed.
    pub(super) fn take_back(&self, bytes: u64) {
        let mut state = self.state.lock();
        if state.places.pop().is_some() {
            state.ledger.pending -= 1;
            state.ledger.pending_bytes = state.ledger.pending_bytes.saturating_sub(bytes);
        }
        self.publish_counts(&state);
    }

    /// Settles a record; its position, or `None` where it was settled already.
    pub(super) fn settle(&self, sequence: u64, bytes: u64, how: Settlement) -> Option<Position> {
        let mut state = self.state.lock();
        let position = state.places.settle(sequence)?;
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
        let positions = state.places.drain();
        state.ledger.pending = 0;
        state.ledger.pending_bytes = 0;
        self.publish_counts(&state);
        positions
    }

    /// The cursor as it is to be written.
    pub(super) fn cursor(&self) -> Cursor {
        let state = self.state.lock();
        Cursor {
            front: state.places.front(),
            next: state.places.next(),
            ledger: state.ledger,
            settled: state.places.holes(),
            released: state.released.iter().copied().collect(),
            ranks: state.places.fronts(),
        }
    }

    /// Takes over the cursor from the database, before the chunks are read.
    pub(super) fn restore(&self, cursor: &Cursor) {
        let mut state = self.state.lock();
        state.places = Places::to_restore(cursor.front, cursor.ranks.as_ref());
        state.ledger = Ledger { pending: 0, pending_bytes: 0, ..cursor.ledger };
        state.released = cursor.released.iter().copied().collect();
    }

    /// The cursor is lost: the queue begins with the first record that a chunk holds.
    pub(super) fn restore_without_cursor(&self) {
        self.state.lock().places = Places::to_restore(u64::MAX, None);
    }

    /// Takes over a record that a chunk holds. Where two have the same sequence the later one counts, and the position of the other
    /// one comes back: its write failed, and nobody was told that it is kept.
    pub(super) fn restore_record(&self, sequence: u64, position: Position, rank: Rank, bytes: u64) -> Restored {
        let mut state = self.state.lock();
        let (waits, replaces) = state.places.restore(sequence, rank, position);
        match (waits, replaces) {
            (true, None) => {
                state.ledger.pending += 1;
                state.ledger.pending_bytes += bytes;
            }
            (false, Some(_)) => state.ledger.pending -= 1,
            _ => {}
        }
        self.publish_counts(&state);
        Restored { waits, replaces }
    }

    /// Ends the recovery: settles what the cursor says, and accounts for records that no chunk holds. Their number.
    pub(super) fn restored(&self, cursor: &Cursor) -> (Vec<Position>, u64) {
        let mut state = self.state.lock();
        let State { places, ledger, .. } = &mut *state;
        let (settled, lost) = match places {
            Places::Arrival { front, index } => {
                if *front == u64::MAX {
                    *front = 0;
                }
                let found = *front + index.len() as u64;
                let end = cursor.next.max(found);
                let places = cursor.settled.iter().filter_map(|sequence| usize::try_from(sequence.checked_sub(*front)?).ok());
                let settled: Vec<_> = places.filter_map(|place| index.set(place, None)).collect();
                let settled_holes = cursor.settled.iter().filter(|sequence| **sequence < end).count() as u64;
                let lost = (index.holes().count() as u64 + end - found).saturating_sub(settled_holes);
                *front += index.trim();
                if index.is_empty() {
                    *front = end;
                }
                while !index.is_empty() && (index.len() as u64) < end - *front {
                    index.push(None);
                }
                (settled, lost)
            }
            Places::Ranked(ranked) => {
                let settled: Vec<_> = cursor.settled.iter().filter_map(|sequence| ranked.settle(*sequence)).collect();
                let end = cursor.next.max(ranked.next());
                let most = ranked.restored(end);
                // All that ever came, without what is accounted for: of each rank something else may be settled.
                let Ledger { accepted, delivered, dead_lettered, dropped, expired, .. } = *ledger;
                let open = (end + accepted).saturating_sub(delivered + dead_lettered + dropped + expired).min(most);
                let lost = open.saturating_sub(ledger.pending - settled.len() as u64);
                (settled, lost)
            }
        };
        places.tidy();
        ledger.pending -= settled.len() as u64;
        // What is lost is accounted for as dropped, so that the account stays right and the loss visible.
        ledger.dropped += lost;
        self.publish_counts(&state);
        (settled, lost)
    }

    fn publish_counts(&self, state: &MutexGuard<'_, State>) {
        self.pending.store(state.ledger.pending, Ordering::Relaxed);
        self.pending_bytes.store(state.ledger.pending_bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_settled_in_any_order_and_the_account_balances() {
        let queue = Queue::new(QueueId(1), QueueKind::Session, "c");
        for ordinal in 0..4 {
            assert_eq!(queue.append(Position::new(1, ordinal), Rank::NONE, 10), u64::from(ordinal));
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
        let cursor = Cursor { front: 2, next: 8, ledger, settled: vec![4], ..Cursor::default() };
        queue.restore(&cursor);
        queue.restore_record(3, Position::new(1, 0), Rank::NONE, 5);
        queue.restore_record(4, Position::new(1, 1), Rank::NONE, 5);
        let (settled, lost) = queue.restored(&cursor);
        assert_eq!((settled.len(), lost), (1, 4), "2, 5, 6 and 7 are lost");
        let ledger = queue.ledger();
        assert!(ledger.balances(), "{ledger:?}");
        assert_eq!((queue.front(), queue.next()), (3, 8));
    }
}
