//! The in-flight window of messages to a client.
//!
//! A message's packet identifier follows from its sequence number: `sequence % 65535 + 1`. So a message that is sent
//! again after a crash has the identifier it had before, though nothing was stored about it.

use std::collections::VecDeque;
use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_schemas::{Message, MessageId};

use crate::router::Lease;

/// Packet identifiers run from 1 to this.
const PACKET_IDS: u64 = 65_535;
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

/// The window: entries in the order of their sequence, acknowledged in any order.
#[derive(Debug)]
pub(crate) struct Inflight {
    front: u64,
    entries: VecDeque<Entry>,
    active: usize,
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
        Inflight { front, entries: VecDeque::new(), active: 0 }
    }

    /// The sequence of the next message.
    pub(crate) fn next(&self) -> u64 {
        self.front + self.entries.len() as u64
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
        self.active
    }

    /// Whether another message may be sent, where `window` may be on their way.
    pub(crate) fn has_room(&self, window: u16) -> bool {
        self.active < usize::from(window) && self.entries.len() < SPAN_MAX
    }

    /// Adds the next message; its packet identifier.
    pub(crate) fn push(&mut self, entry: Entry) -> u16 {
        let packet_id = packet_id(self.next());
        match entry {
            Entry::Done if self.entries.is_empty() => self.front += 1,
            Entry::Done => self.entries.push_back(Entry::Done),
            active => {
                self.active += 1;
                self.entries.push_back(active);
            }
        }
        packet_id
    }

    /// PUBACK: the sequence, size and message that it settles.
    pub(crate) fn acknowledge(&mut self, packet_id: u16) -> Option<(u64, u64, Arc<Message>)> {
        let index = self.index(packet_id)?;
        let Entry::Sent { qos: QoS::AtLeastOnce, bytes, message, .. } = &self.entries[index] else { return None };
        let result = (self.front + index as u64, *bytes, Arc::clone(message));
        self.finish(index);
        Some(result)
    }

    /// PUBREC without an error.
    pub(crate) fn release(&mut self, packet_id: u16, at_ms: u64) -> PubRec {
        let Some(index) = self.index(packet_id) else { return PubRec::Unknown };
        match &self.entries[index] {
            Entry::Sent { qos: QoS::ExactlyOnce, message, bytes, .. } => {
                let message = Arc::clone(message);
                self.entries[index] = Entry::Released { bytes: *bytes, at_ms };
                PubRec::Released { sequence: self.front + index as u64, message }
            }
            Entry::Released { .. } => PubRec::Again,
            _ => PubRec::Unknown,
        }
    }

    /// The sequence of the message that has this packet identifier.
    pub(crate) fn sequence(&self, packet_id: u16) -> Option<u64> {
        self.index(packet_id).map(|index| self.front + index as u64)
    }

    /// PUBCOMP, or PUBREC with an error: the sequence and size that it settles.
    pub(crate) fn complete(&mut self, packet_id: u16) -> Option<(u64, u64)> {
        let index = self.index(packet_id)?;
        let bytes = match &self.entries[index] {
            Entry::Released { bytes, .. } | Entry::Sent { qos: QoS::ExactlyOnce, bytes, .. } => *bytes,
            _ => return None,
        };
        let result = (self.front + index as u64, bytes);
        self.finish(index);
        Some(result)
    }

    /// Messages that were sent before `before_ms` and are not acknowledged, oldest first, with their packet identifiers; their
    /// time is set to `now_ms`.
    pub(crate) fn overdue(&mut self, before_ms: u64, now_ms: u64) -> Vec<(u16, Overdue)> {
        let mut overdue = Vec::new();
        for (sequence, entry) in (self.front..).zip(&mut self.entries) {
            match entry {
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

    fn index(&self, packet_id: u16) -> Option<usize> {
        let id = u64::from(packet_id.checked_sub(1)?);
        let index = ((id + PACKET_IDS - self.front % PACKET_IDS) % PACKET_IDS) as usize;
        (index < self.entries.len()).then_some(index)
    }

    fn finish(&mut self, index: usize) {
        self.entries[index] = Entry::Done;
        self.active -= 1;
        while matches!(self.entries.front(), Some(Entry::Done)) {
            self.entries.pop_front();
            self.front += 1;
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
        let numbered = (window.front..).zip(&window.entries);
        numbered.filter(|(_, entry)| !matches!(entry, Entry::Done)).map(|(sequence, _)| packet_id(sequence)).collect()
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
