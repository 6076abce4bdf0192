//! The in-flight window of messages to a client.
//!
//! A message's packet identifier follows from its sequence number: `sequence % 65535 + 1`. So a message that is sent
//! again after a crash has the identifier it had before, though nothing was stored about it. Mostly messages go in the order of their
//! sequences; where they have ranks, [`ByRank`] knows the order.

use std::collections::VecDeque;
use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_schemas::{Message, MessageId};

use super::by_rank::{ByRank, Reached};
use crate::router::Lease;
use crate::store::Rank;

/// Packet identifiers run from 1 to this.
pub(crate) const PACKET_IDS: u64 = 65_535;
/// How far the oldest unacknowledged message may be behind the newest: identifiers must stay unique.
const SPAN_MAX: usize = 60_000;

/// A place in the window.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    /// Sent, not acknowledged.
    Sent {
        message: Arc<Message>,
        qos: QoS,
        bytes: u64,
        flags: u8,
        /// When, in milliseconds of the caller's clock.
        at_ms: u64,
        /// It came by a shared subscription.
        lease: Option<Lease>,
    },
    /// QoS 2: PUBREC has come, PUBREL was sent.
    Released { bytes: u64, at_ms: u64 },
    /// Nothing is to be done any more.
    Done,
}

/// The window: entries in the order of sending, acknowledged in any order.
#[derive(Debug)]
pub(crate) struct Inflight {
    order: Order,
    entries: VecDeque<Entry>,
}

/// How entries are numbered. Both say how many of them are on their way, which so takes no memory of its own.
#[derive(Debug)]
enum Order {
    /// From `front` on, without a gap.
    Arrival { active: u32, front: u64 },
    /// As ranks have it.
    Rank { active: u32, by_rank: Box<ByRank> },
}

/// What is to be sent again.
#[derive(Debug)]
pub(crate) enum Overdue {
    Message(Arc<Message>, QoS, u8),
    /// The PUBREL.
    Release,
}

/// What a PUBREC means.
#[derive(Debug)]
pub(crate) enum PubRec {
    /// The message has arrived; PUBREL is due.
    Released { sequence: u64, message: Arc<Message> },
    /// It had come before; PUBREL again.
    Again,
    /// There is no such packet identifier.
    Unknown,
}

impl Inflight {
    /// An empty window whose first message has that sequence.
    pub(crate) fn starting_at(front: u64) -> Inflight {
        Inflight { order: Order::Arrival { active: 0, front }, entries: VecDeque::new() }
    }

    /// An empty window whose messages go by rank. Of what is `released` the PUBREL is still to go.
    pub(crate) fn by_rank(released: Vec<u64>) -> Inflight {
        let mut by_rank = ByRank::default();
        by_rank.send_again(released.into());
        Inflight::ranked(by_rank)
    }

    /// The window of the session's next connection, by rank: what is on its way here goes again first, and what is `released` and has
    /// not been looked at yet.
    pub(crate) fn resumed_by_rank(&mut self, released: Vec<u64>) -> Inflight {
        let active = (0..self.entries.len()).filter(|index| !matches!(self.entries[*index], Entry::Done));
        let mut again: Vec<u64> = active.map(|index| self.sequence_at(index)).collect();
        let next = self.next();
        let mut by_rank = match &mut self.order {
            Order::Arrival { .. } => ByRank::of_arrival(next),
            Order::Rank { by_rank, .. } => {
                again.extend(by_rank.take_again());
                by_rank.resumed()
            }
        };
        let released = released.into_iter().filter(|sequence| !again.contains(sequence));
        by_rank.send_again(released.chain(again.iter().copied()).collect());
        Inflight::ranked(by_rank)
    }

    fn ranked(by_rank: ByRank) -> Inflight {
        Inflight { order: Order::Rank { active: 0, by_rank: Box::new(by_rank) }, entries: VecDeque::new() }
    }

    /// Whether messages go by rank.
    pub(crate) fn is_by_rank(&self) -> bool {
        matches!(self.order, Order::Rank { .. })
    }

    /// Chooses the next message where they go by rank: `turn` says whose turn it is. It stays the next one until it is pushed.
    pub(crate) fn choose(&mut self, turn: impl FnOnce(&Reached) -> Option<(Rank, u64)>) -> Option<u64> {
        match &mut self.order {
            Order::Arrival { .. } => Some(self.next()),
            Order::Rank { by_rank, .. } => by_rank.choose(turn),
        }
    }

    /// The sequence of the next message.
    pub(crate) fn next(&self) -> u64 {
        match &self.order {
            Order::Arrival { front, .. } => front + self.entries.len() as u64,
            Order::Rank { by_rank, .. } => by_rank.next(),
        }
    }

    /// Whether the next message is one that goes by rank, and has gone before.
    pub(crate) fn is_repeated(&self) -> bool {
        matches!(&self.order, Order::Rank { by_rank, .. } if by_rank.is_repeated())
    }

    /// The sequence behind all that have gone and are not settled.
    pub(crate) fn behind_all(&self) -> u64 {
        match &self.order {
            Order::Arrival { .. } => self.next(),
            Order::Rank { by_rank, .. } => by_rank.gone().max().map_or(0, |last| last + 1),
        }
    }

    /// What has gone: all below a sequence, and these.
    pub(crate) fn gone(&self) -> (u64, Vec<u64>) {
        match &self.order {
            Order::Arrival { .. } => (self.next(), Vec::new()),
            Order::Rank { by_rank, .. } => (0, by_rank.gone().collect()),
        }
    }

    /// Whether a message that is not settled has gone.
    pub(crate) fn has_gone(&self, sequence: u64) -> bool {
        match &self.order {
            Order::Arrival { .. } => sequence < self.next(),
            Order::Rank { by_rank, .. } => by_rank.gone().any(|other| other == sequence),
        }
    }

    /// Whether that message is on its way.
    pub(crate) fn has(&self, id: MessageId) -> bool {
        self.entries.iter().any(|entry| matches!(entry, Entry::Sent { message, .. } if message.id == id))
    }

    /// The packet identifier of the next message.
    pub(crate) fn next_packet_id(&self) -> u16 {
        packet_id(self.next())
    }

    /// How many messages are on their way.
    pub(crate) fn active(&self) -> usize {
        let (Order::Arrival { active, .. } | Order::Rank { active, .. }) = &self.order;
        *active as usize
    }

    /// Whether another message may be sent, where `window` may be on their way.
    pub(crate) fn has_room(&self, window: u16) -> bool {
        self.active() < usize::from(window) && self.entries.len() < SPAN_MAX
    }

    /// Adds the next message; its packet identifier.
    pub(crate) fn push(&mut self, entry: Entry) -> u16 {
        let is_done = matches!(entry, Entry::Done);
        let sequence = match &mut self.order {
            Order::Arrival { active, front } => {
                let sequence = *front + self.entries.len() as u64;
                if is_done && self.entries.is_empty() {
                    *front += 1;
                    return packet_id(sequence);
                }
                *active += u32::from(!is_done);
                sequence
            }
            Order::Rank { active, by_rank } => {
                let sequence = by_rank.advance(!is_done);
                if is_done {
                    return packet_id(sequence);
                }
                *active += 1;
                sequence
            }
        };
        self.entries.push_back(entry);
        packet_id(sequence)
    }

    /// PUBACK: the sequence, size and message that it settles.
    pub(crate) fn acknowledge(&mut self, packet_id: u16) -> Option<(u64, u64, Arc<Message>)> {
        let (index, sequence) = self.find(packet_id)?;
        let Entry::Sent { qos: QoS::AtLeastOnce, bytes, message, .. } = &self.entries[index] else { return None };
        let result = (sequence, *bytes, Arc::clone(message));
        self.finish(index);
        Some(result)
    }

    /// PUBREC without an error.
    pub(crate) fn release(&mut self, packet_id: u16, at_ms: u64) -> PubRec {
        let Some((index, sequence)) = self.find(packet_id) else { return PubRec::Unknown };
        match &self.entries[index] {
            Entry::Sent { qos: QoS::ExactlyOnce, message, bytes, .. } => {
                let message = Arc::clone(message);
                self.entries[index] = Entry::Released { bytes: *bytes, at_ms };
                PubRec::Released { sequence, message }
            }
            Entry::Released { .. } => PubRec::Again,
            _ => PubRec::Unknown,
        }
    }

    /// The sequence of the message that has this packet identifier.
    pub(crate) fn sequence(&self, packet_id: u16) -> Option<u64> {
        self.find(packet_id).map(|(_, sequence)| sequence)
    }

    /// PUBCOMP, or PUBREC with an error: the sequence and size that it settles.
    pub(crate) fn complete(&mut self, packet_id: u16) -> Option<(u64, u64)> {
        let (index, sequence) = self.find(packet_id)?;
        let bytes = match &self.entries[index] {
            Entry::Released { bytes, .. } | Entry::Sent { qos: QoS::ExactlyOnce, bytes, .. } => *bytes,
            _ => return None,
        };
        self.finish(index);
        Some((sequence, bytes))
    }

    /// Messages that were sent before `before_ms` and are not acknowledged, oldest first, with their packet identifiers; their
    /// time is set to `now_ms`.
    pub(crate) fn overdue(&mut self, before_ms: u64, now_ms: u64) -> Vec<(u16, Overdue)> {
        let mut overdue = Vec::new();
        for index in 0..self.entries.len() {
            let sequence = self.sequence_at(index);
            match &mut self.entries[index] {
                Entry::Sent { message, qos, flags, at_ms, .. } if *at_ms < before_ms => {
                    *at_ms = now_ms;
                    overdue.push((packet_id(sequence), Overdue::Message(Arc::clone(message), *qos, *flags)));
                }
                Entry::Released { at_ms, .. } if *at_ms < before_ms => {
                    *at_ms = now_ms;
                    overdue.push((packet_id(sequence), Overdue::Release));
                }
                _ => {}
            }
        }
        overdue
    }

    /// Messages that are on their way, oldest first, each with its QoS and when it was sent. Those of which only the PUBREL is open are none.
    pub(crate) fn messages(&self) -> impl Iterator<Item = (&Arc<Message>, QoS, u64)> {
        self.entries.iter().filter_map(|entry| match entry {
            Entry::Sent { message, qos, at_ms, .. } => Some((message, *qos, *at_ms)),
            Entry::Released { .. } | Entry::Done => None,
        })
    }

    /// Takes out the messages of QoS 1 that came by shared subscriptions: what other members may get when this one is gone.
    /// [MQTT-4.8.2-5] Those of QoS 2 stay with the member that has them.
    pub(crate) fn take_shared(&mut self) -> Vec<(Arc<Message>, u8, Lease)> {
        let taken = self.entries.iter_mut().filter_map(|entry| match entry {
            Entry::Sent { message, qos: QoS::AtLeastOnce, flags, lease, .. } => Some((Arc::clone(message), *flags, lease.take()?)),
            _ => None,
        });
        taken.collect()
    }

    /// The place that has a packet identifier, and its sequence.
    fn find(&self, packet_id: u16) -> Option<(usize, u64)> {
        let id = u64::from(packet_id.checked_sub(1)?);
        match &self.order {
            Order::Arrival { front, .. } => {
                let index = ((id + PACKET_IDS - front % PACKET_IDS) % PACKET_IDS) as usize;
                (index < self.entries.len()).then_some((index, front + index as u64))
            }
            // What is done may have had the identifier of one behind it.
            Order::Rank { by_rank, .. } => {
                by_rank.find(|index, sequence| sequence % PACKET_IDS == id && !matches!(self.entries[index], Entry::Done))
            }
        }
    }

    fn sequence_at(&self, index: usize) -> u64 {
        match &self.order {
            Order::Arrival { front, .. } => front + index as u64,
            Order::Rank { by_rank, .. } => by_rank.sequence_at(index),
        }
    }

    fn finish(&mut self, index: usize) {
        let mut gone = 0;
        if index > 0 {
            self.entries[index] = Entry::Done;
        } else {
            // The first is never done.
            while gone == 0 || matches!(self.entries.front(), Some(Entry::Done)) {
                self.entries.pop_front();
                gone += 1;
            }
        }
        match &mut self.order {
            Order::Arrival { active, front } => (*active, *front) = (*active - 1, *front + gone as u64),
            Order::Rank { active, by_rank } => {
                *active -= 1;
                by_rank.forget(gone);
            }
        }
    }
}

fn packet_id(sequence: u64) -> u16 {
    (sequence % PACKET_IDS + 1) as u16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn unfinished(window: &Inflight) -> Vec<u16> {
        let active = window.entries.iter().enumerate().filter(|(_, entry)| !matches!(entry, Entry::Done));
        active.map(|(index, _)| packet_id(window.sequence_at(index))).collect()
    }

    #[test]
    fn ranks_cost_nothing_where_there_are_none() {
        assert_eq!(size_of::<Inflight>(), size_of::<(u64, VecDeque<Entry>, usize)>());
    }

    #[test]
    fn what_was_on_its_way_goes_again_before_what_has_a_higher_rank() {
        let (low, high) = (Rank::new(1, 0), Rank::new(1, 9));
        let mut window = Inflight::by_rank(vec![]);
        // 2 and 4 have the low rank, 5 and 6 the high one.
        for (rank, sequence) in [(low, 2), (low, 4), (high, 5)] {
            assert_eq!(window.choose(|reached| (reached.of(rank) <= sequence).then_some((rank, sequence))), Some(sequence));
            assert_eq!((window.next(), window.is_repeated()), (sequence, false));
            assert_eq!(u64::from(window.push(sent(QoS::AtLeastOnce))), sequence + 1);
        }
        assert!(window.acknowledge(5).is_some());
        assert_eq!((unfinished(&window), window.active()), (vec![3, 6], 2));
        let mut next = window.resumed_by_rank(vec![2]);
        assert!(next.has_gone(2) && next.has_gone(5) && !next.has_gone(6));
        for sequence in [2, 5] {
            assert_eq!(next.choose(|_| None), Some(sequence));
            assert!(next.is_repeated());
            next.push(sent(QoS::AtLeastOnce));
        }
        let reached = |reached: &Reached| [low, high, Rank::NONE].map(|rank| reached.of(rank));
        assert_eq!(next.choose(|at| (reached(at) == [5, 6, 0]).then_some((high, 6))), Some(6));
        assert!(!next.is_repeated());
        next.push(Entry::Done);
        assert_eq!(unfinished(&next), [3, 6]);
    }

    fn sent(qos: QoS) -> Entry {
        let message = Arc::new(Message::internal("t", ""));
        Entry::Sent { message, qos, bytes: 1, flags: 0, at_ms: 5, lease: None }
    }

    #[test]
    fn acknowledgements_settle_in_any_order() {
        let mut window = Inflight::starting_at(65_534);
        let ids: Vec<u16> = (0..3).map(|_| window.push(sent(QoS::AtLeastOnce))).collect();
        assert_eq!(ids, [65_535, 1, 2], "identifiers wrap and skip zero");
        assert!(!window.has_room(3));
        assert_eq!(window.acknowledge(1).map(|(sequence, ..)| sequence), Some(65_535));
        assert!(window.acknowledge(1).is_none(), "only once");
        assert!(window.has_room(3));
        assert_eq!(unfinished(&window), [65_535, 2]);
        assert_eq!(window.acknowledge(65_535).map(|(sequence, ..)| sequence), Some(65_534));
        assert_eq!(window.next(), 65_537);
        assert_eq!(window.push(sent(QoS::AtLeastOnce)), 3);
    }

    #[test]
    fn qos_2_takes_both_steps() {
        let mut window = Inflight::starting_at(0);
        let id = window.push(sent(QoS::ExactlyOnce));
        assert!(window.acknowledge(id).is_none(), "PUBACK does not settle QoS 2");
        assert!(matches!(window.release(id, 7), PubRec::Released { sequence: 0, .. }));
        assert!(matches!(window.release(id, 7), PubRec::Again));
        assert_eq!(window.complete(id), Some((0, 1)));
        assert!(matches!(window.release(id, 7), PubRec::Unknown));
        assert!(window.complete(id).is_none());
    }

    #[test]
    fn what_is_overdue_comes_up_once_in_its_order() {
        let mut window = Inflight::starting_at(0);
        window.push(sent(QoS::AtLeastOnce));
        let second = window.push(sent(QoS::ExactlyOnce));
        window.release(second, 6);
        assert!(window.overdue(5, 50).is_empty(), "sent at 5");
        let overdue = window.overdue(10, 50);
        assert!(matches!(overdue[..], [(1, Overdue::Message(_, QoS::AtLeastOnce, 0)), (2, Overdue::Release)]), "{overdue:?}");
        assert!(window.overdue(50, 60).is_empty(), "their time is set anew");
    }

    #[test]
    fn settled_places_are_skipped() {
        let mut window = Inflight::starting_at(5);
        window.push(Entry::Done);
        assert_eq!(window.push(sent(QoS::AtLeastOnce)), 7);
        window.push(Entry::Done);
        assert_eq!(window.push(sent(QoS::AtLeastOnce)), 9);
        assert!(window.acknowledge(8).is_none());
        assert!(window.acknowledge(7).is_some());
        assert_eq!(unfinished(&window), [9]);
    }
}
