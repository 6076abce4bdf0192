//! The positions of the records that wait in a queue with priorities: those of each rank in their order of arrival, sixteen bytes each.
//!
//! Records that came one after the other by the same set of priorities are a segment. Segments leave one after the other, a segment when all
//! of the one before are settled; in a segment the highest priority leaves first. So records of one topic never change places.

use std::cmp::Reverse;
use std::collections::VecDeque;

use super::chunk::Position;
use super::cursor::Fronts;
use super::index::{Index, SETTLED};
use super::rank::Rank;
use crate::session::{PACKET_IDS, Reached};

/// The records of each rank.
#[derive(Debug, Default)]
pub(super) struct Ranked {
    /// The sequence that the next record gets.
    next: u64,
    /// Segment by segment, and in each the highest priority first; each has something that waits.
    classes: Vec<Class>,
    recovery: Recovery,
}

/// Records of one rank, of one segment.
#[derive(Debug)]
struct Class {
    /// Where the segment begins: a sequence, which is the segment's alone.
    segment: u64,
    rank: Rank,
    /// Sequence and position; what is settled leaves a hole, and is never at the front.
    places: VecDeque<(u64, u64)>,
    holes: usize,
}

/// What only opening the store needs to know.
#[derive(Debug, Default)]
struct Recovery {
    /// Records below it are settled, whatever their rank.
    first: u64,
    ranks: Option<Fronts>,
}

impl Ranked {
    /// Takes over the records of a queue that had no ranks.
    pub(super) fn of(front: u64, index: &Index) -> Ranked {
        let raw = |position: Option<Position>| position.map_or(SETTLED, |position| position.0);
        let places: VecDeque<_> = (front..).zip(index.iter_from(0).map(raw)).collect();
        let holes = index.holes().count();
        let mut ranked = Ranked { next: front + places.len() as u64, ..Ranked::default() };
        ranked.recovery.first = front;
        if !places.is_empty() {
            ranked.classes.push(Class { segment: front, rank: Rank::NONE, places, holes });
            ranked.tidy(0);
        }
        ranked
    }

    /// An empty one, before the records of the chunks are put into it.
    pub(super) fn to_restore(front: u64, ranks: Fronts) -> Ranked {
        Ranked { next: front, classes: Vec::new(), recovery: Recovery { first: front, ranks: Some(ranks) } }
    }

    pub(super) fn next(&self) -> u64 {
        self.next
    }

    pub(super) fn is_empty(&self) -> bool {
        self.classes.is_empty()
    }

    /// The sequence of the oldest that waits.
    pub(super) fn front(&self) -> u64 {
        self.classes.iter().filter_map(|class| class.places.front()).map(|(sequence, _)| *sequence).min().unwrap_or(self.next)
    }

    pub(super) fn get(&self, sequence: u64) -> Option<Position> {
        self.find(sequence).map(|(class, at)| Position(self.classes[class].places[at].1))
    }

    pub(super) fn push(&mut self, rank: Rank, position: Position) {
        let next = self.next;
        self.class(next, rank).places.push_back((next, position.0));
        self.next += 1;
    }

    /// Takes the last one back, unless it is settled.
    pub(super) fn pop(&mut self) -> Option<Position> {
        let last = self.next.checked_sub(1)?;
        self.next = last;
        let has_it = |class: &Class| class.places.back().is_some_and(|(sequence, _)| *sequence == last);
        let number = self.classes.iter().position(has_it)?;
        let (_, position) = self.classes[number].places.pop_back()?;
        self.classes[number].holes -= usize::from(position == SETTLED);
        self.tidy(number);
        (position != SETTLED).then_some(Position(position))
    }

    pub(super) fn settle(&mut self, sequence: u64) -> Option<Position> {
        let (number, at) = self.find(sequence)?;
        let class = &mut self.classes[number];
        let position = std::mem::replace(&mut class.places[at].1, SETTLED);
        class.holes += 1;
        self.tidy(number);
        Some(Position(position))
    }

    /// All that wait, in the order in which they go.
    pub(super) fn iter(&self) -> impl Iterator<Item = (u64, Position)> {
        let places = self.classes.iter().flat_map(|class| &class.places);
        places.filter(|(_, position)| *position != SETTLED).map(|(sequence, position)| (*sequence, Position(*position)))
    }

    /// The first that wait from `sequence` on, in the order of arrival.
    pub(super) fn oldest(&self, sequence: u64, count: usize) -> Vec<(u64, Position)> {
        let mut oldest: Vec<_> = self.classes.iter().flat_map(|class| class.waiting_from(sequence).take(count)).collect();
        oldest.sort_unstable_by_key(|(sequence, _)| *sequence);
        oldest.truncate(count);
        oldest
    }

    /// Whether a record that waits lies there.
    pub(super) fn holds(&self, position: Position) -> bool {
        self.classes.iter().any(|class| {
            let newer = class.places.iter().rev().take_while(|(_, other)| *other == SETTLED || *other >= position.0);
            newer.filter(|(_, other)| *other != SETTLED).last().is_some_and(|(_, other)| *other == position.0)
        })
    }

    /// What is settled behind the front of its rank: little, because each rank goes in its order.
    pub(super) fn holes(&self) -> Vec<u64> {
        let of_class = |class: &Class| {
            let holes = class.places.iter().filter(|(_, position)| *position == SETTLED).take(class.holes);
            holes.map(|(sequence, _)| *sequence).collect::<Vec<_>>()
        };
        self.classes.iter().flat_map(of_class).collect()
    }

    /// How far the ranks of the first segment are. Of the others nothing has gone.
    pub(super) fn fronts(&self) -> Fronts {
        let fronts = self.first_segment().filter_map(|class| Some((class.rank, class.places.front()?.0)));
        let second = self.classes.get(self.first_segment().count());
        Fronts { fronts: fronts.collect(), end: second.map_or(self.next, |class| class.segment) }
    }

    /// Whose turn it is in the first segment: the highest rank, and in it the oldest that has not gone. Unless one waits that came before it
    /// and has the same packet identifier: its rank goes on until that one is acknowledged.
    pub(super) fn turn(&self, reached: &Reached, may_go: &impl Fn(u64, Position) -> Option<bool>) -> Option<(Rank, u64)> {
        let first = |class: &Class| Some((class.rank, class.first_that_may_go(reached, may_go)?));
        let mut turn = self.first_segment().find_map(first)?;
        while let Some((class, at)) = self.before_with_the_same_identifier(turn.1) {
            let class = &self.classes[class];
            // Where it has gone, nothing else goes before its acknowledgement.
            if class.places[at].0 < reached.of(class.rank) {
                return None;
            }
            turn = first(class).filter(|(_, sequence)| *sequence < turn.1)?;
        }
        Some(turn)
    }

    /// Takes over a record that a chunk holds: whether it waits, and what it replaces.
    pub(super) fn restore(&mut self, sequence: u64, rank: Rank, position: Position) -> (bool, Option<Position>) {
        if sequence < self.recovery.first {
            return (false, None);
        }
        let before = if sequence < self.next { self.find(sequence) } else { None };
        let replaced = before.and_then(|(class, at)| {
            let removed = self.classes[class].places.remove(at);
            self.tidy(class);
            removed.map(|(_, position)| Position(position))
        });
        self.next = self.next.max(sequence + 1);
        let is_settled = self.recovery.ranks.as_ref().is_some_and(|ranks| {
            let front = ranks.fronts.iter().find(|(other, _)| *other == rank);
            sequence < ranks.end && front.is_none_or(|(_, front)| sequence < *front)
        });
        if is_settled {
            return (false, replaced);
        }
        let places = &mut self.class(sequence, rank).places;
        let at = places.partition_point(|(other, _)| *other < sequence);
        places.insert(at, (sequence, position.0));
        (true, replaced)
    }

    /// Ends the recovery; how many records there could be at most.
    pub(super) fn restored(&mut self, end: u64) -> u64 {
        self.next = end;
        end - std::mem::take(&mut self.recovery).first.min(end)
    }

    fn first_segment(&self) -> impl Iterator<Item = &Class> {
        let first = self.classes.first().map(|class| class.segment);
        self.classes.iter().take_while(move |class| Some(class.segment) == first)
    }

    /// Where a record belongs: into the segment that it comes in, or into a new one.
    fn class(&mut self, sequence: u64, rank: Rank) -> &mut Class {
        let last = self.classes.iter().rev().find(|class| class.segment <= sequence);
        let segment = last.filter(|class| class.rank.ranking() == rank.ranking()).map_or(sequence, |class| class.segment);
        let place = |class: &Class| (class.segment, Reverse(class.rank.priority()));
        let at = self.classes.partition_point(|class| place(class) < (segment, Reverse(rank.priority())));
        if self.classes.get(at).is_none_or(|class| class.segment != segment || class.rank != rank) {
            self.classes.insert(at, Class { segment, rank, places: VecDeque::new(), holes: 0 });
        }
        &mut self.classes[at]
    }

    /// Where a record is that waits.
    fn find(&self, sequence: u64) -> Option<(usize, usize)> {
        self.classes.iter().enumerate().find_map(|(number, class)| {
            let at = class.places.binary_search_by_key(&sequence, |(sequence, _)| *sequence).ok()?;
            (class.places[at].1 != SETTLED).then_some((number, at))
        })
    }

    fn before_with_the_same_identifier(&self, sequence: u64) -> Option<(usize, usize)> {
        let turns = sequence.checked_sub(self.front())? / PACKET_IDS;
        (1..=turns).rev().find_map(|turns| self.find(sequence - turns * PACKET_IDS))
    }

    /// Removes what is settled at the front of a class, and a class that has nothing any more.
    fn tidy(&mut self, number: usize) {
        let class = &mut self.classes[number];
        while class.places.front().is_some_and(|(_, position)| *position == SETTLED) {
            class.places.pop_front();
            class.holes -= 1;
        }
        if class.places.is_empty() {
            self.classes.remove(number);
        } else if class.places.capacity() > 4 * class.places.len().max(64) {
            // What was long once gives its memory back.
            class.places.shrink_to(2 * class.places.len());
        }
    }
}

impl Class {
    fn waiting_from(&self, sequence: u64) -> impl Iterator<Item = (u64, Position)> {
        let from = self.places.partition_point(|(other, _)| *other < sequence);
        let waiting = self.places.range(from..).filter(|(_, position)| *position != SETTLED);
        waiting.map(|(sequence, position)| (*sequence, Position(*position)))
    }

    /// The oldest that has not gone; `may_go` says `None` where nothing from there on may.
    fn first_that_may_go(&self, reached: &Reached, may_go: &impl Fn(u64, Position) -> Option<bool>) -> Option<u64> {
        for (sequence, position) in self.waiting_from(reached.of(self.rank)) {
            if may_go(sequence, position)? {
                return Some(sequence);
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::QueueId;

    use super::super::cursor::Cursor;
    use super::super::queue::{Queue, QueueKind, Settlement};
    use super::*;
    use crate::session::{Entry, Inflight};

    fn position(sequence: u64) -> Position {
        Position::new(sequence / 7 + 1, (sequence % 7) as u16)
    }

    /// A queue with the window that reads it, as one session has them.
    struct Session {
        queue: Queue,
        window: Inflight,
    }

    impl Session {
        fn new() -> Session {
            Session { queue: Queue::new(QueueId(1), QueueKind::Session, "c"), window: Inflight::by_rank(Vec::new()) }
        }

        fn append(&self, rank: Rank) {
            self.queue.append(position(self.queue.next()), rank, 10);
        }

        /// Sends the next message; its sequence.
        fn send(&mut self) -> Option<u64> {
            let queue = &self.queue;
            let sequence = self.window.choose(|reached| queue.turn(reached, |_| true))?;
            assert!(queue.position(sequence).is_some(), "{sequence} waits");
            self.window.push(Entry::Released { bytes: 10, at_ms: 0 });
            Some(sequence)
        }

        fn acknowledge(&mut self, sequence: u64) {
            let id = (sequence % PACKET_IDS + 1) as u16;
            assert_eq!(self.window.complete(id), Some((sequence, 10)), "it has the identifier of its sequence");
            assert!(self.queue.settle(sequence, 10, Settlement::Delivered).is_some());
        }

        /// What opening the store makes of a cursor and of all records that came since its queue began.
        fn restart(cursor: &Cursor, ranks: &[Rank]) -> Session {
            let mut session = Session::new();
            let cursor = Cursor::decode(&cursor.encode()).expect("valid");
            session.queue.restore(&cursor);
            for (sequence, rank) in (0..).zip(ranks) {
                session.queue.restore_record(sequence, position(sequence), *rank, 10);
            }
            let (_, lost) = session.queue.restored(&cursor);
            assert_eq!(lost, 0);
            session.window = Inflight::by_rank(session.queue.released());
            session
        }
    }

    #[test]
    fn each_rank_goes_in_its_order_also_after_a_restart() {
        const WINDOW: usize = 5;
        for seed in 0..300u64 {
            let mut random = seed;
            let mut below = |bound: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (random >> 33) % bound
            };
            let mut session = Session::new();
            let mut ranks: Vec<Rank> = Vec::new();
            // By sequence: in which segment it came, and that it waits; and what is on its way, in its order.
            let (mut segments, mut waits, mut on_its_way): (Vec<usize>, Vec<bool>, Vec<u64>) = (Vec::new(), Vec::new(), Vec::new());
            let mut kept = (session.queue.cursor(), waits.clone());
            let mut ranking = 1;
            for _ in 0..400 {
                match below(81) {
                    0..=31 => {
                        let rank = if ranking == 0 { Rank::NONE } else { Rank::new(ranking, [0, 0, 5, 256][below(4) as usize]) };
                        session.append(rank);
                        let is_other = ranks.last().is_some_and(|last| last.ranking() != ranking);
                        segments.push(segments.last().map_or(0, |last| last + usize::from(is_other)));
                        ranks.push(rank);
                        waits.push(true);
                    }
                    32..=55 if on_its_way.len() < WINDOW => {
                        let waiting = (0..ranks.len()).filter(|n| waits[*n]);
                        let segment = waiting.clone().map(|n| segments[n]).min();
                        let open = waiting.filter(|n| Some(segments[*n]) == segment && !on_its_way.contains(&(*n as u64)));
                        let expect = open.max_by_key(|n| (ranks[*n].priority(), Reverse(*n))).map(|n| n as u64);
                        assert_eq!(session.send(), expect, "seed {seed}");
                        on_its_way.extend(expect);
                    }
                    56..=67 if !on_its_way.is_empty() => {
                        let sequence = on_its_way.remove(below(on_its_way.len() as u64) as usize);
                        session.acknowledge(sequence);
                        waits[sequence as usize] = false;
                    }
                    68..=71 => kept = (session.queue.cursor(), waits.clone()),
                    72..=75 => {
                        session.window = session.window.resumed_by_rank(Vec::new());
                        for sequence in &on_its_way {
                            assert_eq!(session.send(), Some(*sequence), "again, in their order");
                        }
                    }
                    76..=79 => {
                        // What was settled since the cursor was kept comes again.
                        session = Session::restart(&kept.0, &ranks);
                        let length = kept.1.len();
                        waits[..length].copy_from_slice(&kept.1);
                        waits[length..].fill(true);
                        on_its_way.clear();
                    }
                    80 => ranking = below(3) as u16,
                    _ => {}
                }
                let ledger = session.queue.ledger();
                let waiting: Vec<u64> = (0..ranks.len() as u64).filter(|n| waits[*n as usize]).collect();
                assert!(ledger.balances() && ledger.pending == waiting.len() as u64, "seed {seed}: {ledger:?}");
                assert_eq!(session.queue.front(), waiting.first().copied().unwrap_or(ranks.len() as u64));
                assert!(session.queue.positions(0, usize::MAX).iter().map(|(sequence, _)| *sequence).eq(waiting), "seed {seed}");
            }
        }
    }

    #[test]
    fn what_came_without_ranks_goes_before_and_is_not_forgotten_to_be_settled() {
        let mut session = Session::new();
        let ranks = [Rank::NONE, Rank::NONE, Rank::NONE, Rank::new(1, 9), Rank::new(1, 256), Rank::new(2, 0)];
        ranks[..3].iter().for_each(|rank| session.append(*rank));
        assert_eq!([session.send(), session.send()], [Some(0), Some(1)]);
        session.acknowledge(1);
        ranks[3..].iter().for_each(|rank| session.append(*rank));
        assert_eq!([session.send(), session.send()], [Some(2), None], "the others wait for the acknowledgement");
        let cursor = session.queue.cursor();
        assert_eq!((&cursor.settled[..], &cursor.ranks), (&[1][..], &Some(Fronts { fronts: vec![(Rank::NONE, 0)], end: 3 })));
        let mut session = Session::restart(&cursor, &ranks);
        for expect in [0, 2, 4, 3, 5] {
            assert_eq!(session.send(), Some(expect));
            session.acknowledge(expect);
        }
        assert_eq!(session.queue.pending(), 0);
    }

    #[test]
    fn no_identifier_is_used_twice_and_nothing_is_overtaken_for_ever() {
        let mut session = Session::new();
        let mut ranks: Vec<Rank> = vec![Rank::new(1, 0); 10];
        ranks.extend(std::iter::repeat_n(Rank::new(1, 9), 65_600));
        ranks.iter().for_each(|rank| session.append(*rank));
        let mut came = Vec::new();
        for _ in 10..65_535 {
            let sequence = session.send().expect("it waits");
            session.acknowledge(sequence);
            came.push(sequence);
        }
        assert!(came.iter().copied().eq(10..65_535), "the high ones");
        assert!(session.queue.cursor().encode().len() < 150, "what is settled takes no room");
        // The next has the identifier of the oldest, which so goes first; and again after a restart, before which it may have gone.
        assert_eq!(session.send(), Some(0));
        assert_eq!(session.send(), None, "its identifier is in use");
        let mut session = Session::restart(&session.queue.cursor(), &ranks);
        for low in 0..10 {
            assert_eq!(session.send(), Some(low));
            session.acknowledge(low);
            assert_eq!(session.send(), Some(low + 65_535));
            session.acknowledge(low + 65_535);
        }
        while let Some(sequence) = session.send() {
            session.acknowledge(sequence);
        }
        assert_eq!((session.queue.pending(), session.queue.is_ranked()), (0, false), "it needs no ranks any more");
    }

    #[test]
    fn a_failed_write_and_lost_chunks_are_accounted_for() {
        let session = Session::new();
        let (low, high, higher) = (Rank::new(1, 0), Rank::new(1, 9), Rank::new(1, 256));
        [low, high, low, high].into_iter().for_each(|rank| session.append(rank));
        session.queue.take_back(10);
        session.append(low);
        assert_eq!(session.queue.turn(&Reached::default(), |_| true), Some((high, 1)));
        assert_eq!(session.queue.turn(&Reached::default(), |position| position != self::position(1)), Some((low, 0)), "not durable");
        assert!(session.queue.holds(position(2)) && !session.queue.holds(position(7)));
        session.queue.settle(1, 10, Settlement::Delivered);
        let cursor = session.queue.cursor();
        assert_eq!((cursor.front, cursor.next), (0, 4));
        assert_eq!(cursor.ranks, Some(Fronts { fronts: vec![(low, 0)], end: 4 }));
        // The chunk with 2 is lost, and the log has the record whose write failed.
        let queue = Queue::new(QueueId(1), QueueKind::Session, "c");
        queue.restore(&cursor);
        let restored = [(0, low), (1, high), (3, high), (3, low), (4, higher)].map(|(sequence, rank)| {
            let restored = queue.restore_record(sequence, position(sequence + 10 * u64::from(rank == high)), rank, 10);
            (restored.waits, restored.replaces.is_some())
        });
        assert_eq!(restored, [(true, false), (false, false), (false, false), (true, false), (true, false)]);
        assert_eq!(queue.restored(&cursor), (vec![], 1));
        let ledger = queue.ledger();
        assert!(ledger.balances() && ledger.pending == 3 && ledger.dropped == 1, "{ledger:?}");
        assert!(queue.sequences(0).eq([4, 0, 3]), "by rank");
        assert_eq!((queue.drain().len(), queue.pending(), queue.next()), (3, 0, 5));
    }
}
