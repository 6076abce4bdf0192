//! A message goes out: to a session's window where it has room, else to where its messages wait.

use std::sync::{Arc, Weak};
use std::time::Duration;

use hookline_mqtt::packet::{Ack, AckKind, PublishHeader, encode_publish, publish_len};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};
use hookline_schemas::event::{About, DropReason, HookPoint};
use hookline_schemas::{Message, MessageId};
use smallvec::SmallVec;

use super::connection::Connection;
use super::timers::Due;
use super::{Outbox, Worker};
use crate::clock;
use crate::metrics::Counters;
use crate::router::{Lease, Member, Target, effective_qos, flags};
use crate::session::{Entry, Overdue, Waiting};
use crate::slab::Key;
use crate::store::{Position, Settlement, Slot, encoded_len};

/// Messages that a durable session remembers, so that they need not be read back from the store.
const AHEAD_MAX: usize = 256;

/// What a look for the next message has found.
enum Next {
    /// This one.
    Message(Ready),
    /// One whose PUBREC came before the broker's last end: only its PUBREL is to go.
    Released,
    /// One that is settled already, or cannot be read.
    Skip,
    /// None.
    Empty,
}

/// A message that is to be sent.
struct Ready {
    message: Arc<Message>,
    flags: u8,
    /// What its record counts in the queue.
    bytes: u64,
    dup: bool,
    /// Where they are not known, the session knows them.
    identifiers: Option<SmallVec<[u32; 2]>>,
    lease: Option<Lease>,
}

impl Worker {
    /// Delivers a message to one session.
    pub(super) fn deliver(&mut self, target: &Target, message: &Arc<Message>, position: Option<Position>) {
        self.deliver_with(target, message, position, target.flags());
    }

    /// As [`Worker::deliver`], with flags of the moment.
    pub(super) fn deliver_with(&mut self, target: &Target, message: &Arc<Message>, position: Option<Position>, flags: u8) {
        let Some(resident) = self.sessions.get_mut(target.session) else {
            return self.deliver_to_resting(target.session, message, flags);
        };
        let is_shared = target.member.is_some();
        if target.no_local && !is_shared && message.from.client_id == resident.session.client.client_id {
            return self.drop_delivery(target.session, message, DropReason::NoLocal);
        }
        if effective_qos(message.qos, flags) == QoS::AtMostOnce {
            // What was kept for a session that was away goes in the order of its queue.
            let kept = matches!((&resident.outbox, position), (Outbox::Durable { queue, .. }, Some(position)) if queue.holds(position));
            if !kept {
                return self.deliver_qos0(target.session, message, flags, &target.identifiers);
            }
            return self.pump(target.session);
        }
        match &mut resident.outbox {
            Outbox::Memory(waiting) => {
                let limits = &resident.zone.limits;
                let lease = target.member.as_ref().and_then(Weak::upgrade).map(|member| Member::lease(&member));
                let new = Waiting { message: Arc::clone(message), flags, identifiers: target.identifiers.clone(), lease };
                let dropped = waiting.push(new, resident.zone.priority(&message.topic), limits.mqueue_max, limits.mqueue_bytes_max);
                for dropped in dropped {
                    self.drop_delivery(target.session, &dropped.message, DropReason::QueueFull);
                }
            }
            Outbox::Durable { ahead, .. } => {
                let ahead = ahead.make();
                if let Some(position) = position.filter(|_| resident.connection.is_some() && ahead.len() < AHEAD_MAX) {
                    ahead.push_back((position, Arc::clone(message), flags));
                }
            }
        }
        self.pump(target.session);
    }

    /// QoS 0: now, or never.
    pub(super) fn deliver_qos0(&mut self, session: Key, message: &Arc<Message>, flags: u8, identifiers: &[u32]) {
        let connection = self.sessions.get(session).and_then(|resident| resident.connection);
        let takes = |key: &Key| self.connections.get(*key).is_some_and(|c| c.backlog() < c.zone.limits.output_bytes_max);
        let Some(key) = connection.filter(takes) else { return self.drop_delivery(session, message, DropReason::QoS0) };
        if is_expired(message) {
            return self.drop_delivery(session, message, DropReason::Expired);
        }
        let header = header(message, QoS::AtMostOnce, flags, 0, false);
        if !self.send_publish(key, session, message, header, Some(identifiers)) {
            self.drop_delivery(session, message, DropReason::TooLarge);
        }
    }

    /// Sends what waits, as far as the window and the connection have room.
    pub(super) fn pump(&mut self, session: Key) {
        loop {
            let Some(resident) = self.sessions.get_mut(session) else { return };
            let Some(connection) = resident.connection.and_then(|key| self.connections.get_mut(key)) else { return };
            if !resident.session.inflight.has_room(connection.window) {
                return;
            }
            if connection.backlog() >= connection.zone.limits.output_bytes_max {
                connection.held_back = true;
                return;
            }
            match self.next_message(session) {
                Next::Message(next) => self.send_next(session, next),
                Next::Released => self.release_again(session),
                Next::Skip => self.skip(session),
                Next::Empty => return self.resume_scans(session),
            }
        }
    }

    /// The next message that waits for a session.
    fn next_message(&mut self, session: Key) -> Next {
        let Some(resident) = self.sessions.get_mut(session) else { return Next::Empty };
        let (queue, ahead, cache, maybe_sent_below) = match &mut resident.outbox {
            Outbox::Memory(waiting) => {
                return match waiting.pop() {
                    Some(Waiting { message, flags, identifiers, lease }) => {
                        Next::Message(Ready { message, flags, bytes: 0, dup: false, identifiers: Some(identifiers), lease })
                    }
                    None => Next::Empty,
                };
            }
            Outbox::Durable { queue, ahead, cache, maybe_sent_below, .. } => (queue, ahead.make(), cache, *maybe_sent_below),
        };
        let (inflight, store) = (&mut resident.session.inflight, &self.shared.store);
        let by_rank = inflight.is_by_rank();
        let Some(sequence) = inflight.choose(|reached| queue.turn(reached, |position| store.is_visible(position))) else {
            cache.clear();
            return Next::Empty;
        };
        let position = match queue.look(sequence) {
            Slot::Ahead => {
                ahead.clear();
                cache.clear();
                return Next::Empty;
            }
            Slot::Settled => return Next::Skip,
            Slot::Released => return Next::Released,
            Slot::Waits(position) => position,
        };
        // By rank, what lies before it may still have its turn.
        while !by_rank && ahead.front().is_some_and(|(other, ..)| *other < position) {
            ahead.pop_front();
        }
        let at = if by_rank { ahead.iter().position(|(other, ..)| *other == position) } else { Some(0) };
        let dup = sequence < maybe_sent_below || inflight.is_repeated();
        if let Some((other, message, flags)) = at.and_then(|at| ahead.get(at))
            && *other == position
        {
            let bytes = encoded_len(message) as u64;
            let ready = Ready { message: Arc::clone(message), flags: *flags, bytes, dup, identifiers: None, lease: None };
            if by_rank {
                ahead.remove(at.unwrap_or_default());
            }
            return Next::Message(ready);
        }
        match self.shared.store.message(queue.id(), position, cache.make()) {
            Ok(Some(stored)) => {
                let message = Arc::new(stored.message);
                Next::Message(Ready { message, flags: stored.flags, bytes: stored.bytes, dup, identifiers: None, lease: None })
            }
            Ok(None) => Next::Empty,
            Err(error) if !error.is_final() => {
                // It stays in the queue, and is tried again with the next occasion.
                tracing::error!(client = %resident.session.client.client_id, %error, "a message of a durable session cannot be read");
                Next::Empty
            }
            Err(error) => {
                tracing::error!(client = %resident.session.client.client_id, %error, "a message of a durable session is lost");
                self.shared.store.settle(queue, [(sequence, 0)], Settlement::Dropped);
                Next::Skip
            }
        }
    }

    fn send_next(&mut self, session: Key, next: Ready) {
        let Ready { message, flags, bytes, dup, identifiers, lease } = next;
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let Some(key) = resident.connection else { return };
        let qos = effective_qos(message.qos, flags);
        if is_expired(&message) {
            return self.give_up(session, &message, bytes, DropReason::Expired);
        }
        if self.is_withheld(session, &message.topic) {
            return self.give_up(session, &message, bytes, DropReason::Refused);
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let packet_id = resident.session.inflight.next_packet_id();
        let header = header(&message, qos, flags, packet_id, dup || flags & flags::REPEATED != 0);
        if !self.send_publish(key, session, &message, header, identifiers.as_deref()) {
            return self.give_up(session, &message, bytes, DropReason::TooLarge);
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if qos == QoS::AtMostOnce {
            // A retained message of QoS 0, or a subscription that was lowered: nothing will be acknowledged.
            if let Outbox::Durable { queue, .. } = &resident.outbox {
                let sequence = resident.session.inflight.next();
                queue.note_given(sequence);
                self.shared.store.settle(queue, [(sequence, bytes)], Settlement::Delivered);
                resident.session.inflight.push(Entry::Done);
            }
            return;
        }
        resident.session.inflight.push(Entry::Sent { message, qos, bytes, flags, at_ms: self.now_ms, lease });
    }

    /// Settles the next message without sending it.
    fn give_up(&mut self, session: Key, message: &Message, bytes: u64, reason: DropReason) {
        if let Some(resident) = self.sessions.get_mut(session)
            && let Outbox::Durable { queue, .. } = &resident.outbox
        {
            let how = if reason == DropReason::Expired { Settlement::Expired } else { Settlement::Dropped };
            self.shared.store.settle(queue, [(resident.session.inflight.next(), bytes)], how);
            resident.session.inflight.push(Entry::Done);
        }
        self.drop_delivery(session, message, reason);
    }

    fn release_again(&mut self, session: Key) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let packet_id = resident.session.inflight.push(Entry::Released { bytes: 0, at_ms: self.now_ms });
        if let Some(key) = resident.connection {
            self.send_ack(key, &Ack::new(AckKind::PubRel, packet_id, ReasonCode::Success));
        }
    }

    fn skip(&mut self, session: Key) {
        if let Some(resident) = self.sessions.get_mut(session) {
            resident.session.inflight.push(Entry::Done);
        }
    }

    /// Writes a PUBLISH to a connection; `false` where the client does not take one so large.
    pub(super) fn send_publish(
        &mut self,
        key: Key,
        session: Key,
        message: &Arc<Message>,
        header: PublishHeader,
        identifiers: Option<&[u32]>,
    ) -> bool {
        let Some(connection) = self.connections.get_mut(key) else { return true };
        // The client knows its topics without the mountpoint.
        let name = without_mountpoint(&message.topic, &connection.client.mountpoint);
        let mut topic = name;
        let mut properties = Vec::new();
        if connection.version == Version::V5 {
            let resident = self.sessions.get(session).filter(|_| identifiers.is_none());
            let known = resident.map(|resident| resident.session.identifiers(&message.topic).collect::<SmallVec<[u32; 2]>>());
            let mut outgoing = outgoing_properties(message, identifiers.or(known.as_deref()).unwrap_or_default());
            let alias = connection.alias_out(name);
            if let Alias::Known(alias) | Alias::New(alias) = alias {
                outgoing.push_number(PropertyId::TopicAlias, alias.into());
            }
            if matches!(alias, Alias::Known(_)) {
                topic = "";
            }
            outgoing.encode(&mut properties);
            if publish_len(header, topic, &properties, &message.payload) > connection.packet_bytes_max as usize {
                return false;
            }
            if let Alias::New(alias) = alias {
                connection.aliases_out.make().insert(name.into(), alias);
            }
        }
        let by_qos = [&self.counters.sent_qos0, &self.counters.sent_qos1, &self.counters.sent_qos2];
        Counters::count(by_qos[header.qos as usize]);
        Counters::count(&self.counters.sent);
        let client = self.shared.hooks.wants(HookPoint::MessageDelivered).then(|| Arc::clone(&connection.client));
        // What has no properties and no mountpoint is the same for all.
        if properties.is_empty() && name.len() == message.topic.len() {
            let mut encoded = std::mem::take(&mut self.encoded);
            self.send_with(key, |out, _| encoded.write(out, message, header));
            self.encoded = encoded;
        } else {
            self.send_with(key, |out, _| encode_publish(out, header, topic, &properties, &message.payload));
        }
        if let Some(client) = client {
            let mut delivered = (**message).clone();
            delivered.qos = header.qos;
            delivered.retain = header.retain;
            delivered.dup = header.dup;
            self.tell(HookPoint::MessageDelivered, &client, About::Message(&delivered));
        }
        true
    }

    /// A message does not reach one of its subscribers.
    pub(super) fn drop_delivery(&mut self, session: Key, message: &Message, reason: DropReason) {
        self.counters.count_drop(reason);
        if self.shared.hooks.wants(HookPoint::DeliveryDropped)
            && let Some(resident) = self.sessions.get(session)
        {
            let client = Arc::clone(&resident.session.client);
            self.tell(HookPoint::DeliveryDropped, &client, About::Dropped { message, reason });
        }
    }
}

impl Worker {
    /// Sets the timer for messages that are not acknowledged, where the zone wants them sent again on the same connection.
    pub(super) fn start_retries(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        let secs = connection.zone.limits.retry_interval_secs;
        // [MQTT-4.4.0-1] Since version 5 that is not allowed.
        if secs > 0 && connection.version != Version::V5 {
            self.timers.set(self.now + Duration::from_secs(secs.into()), Due::Retry(key));
        }
    }

    /// Sends again what was not acknowledged in time.
    pub(super) fn retry(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key).filter(|connection| connection.ending.is_none()) else { return };
        let (session, secs) = (connection.session, u64::from(connection.zone.limits.retry_interval_secs));
        let has_room = connection.backlog() < connection.zone.limits.output_bytes_max;
        let now_ms = clock::now_ms();
        let overdue = match self.sessions.get_mut(session) {
            Some(resident) if has_room => resident.session.inflight.overdue(now_ms.saturating_sub(secs * 1000), now_ms),
            _ => Vec::new(),
        };
        for (packet_id, overdue) in overdue {
            Counters::count(&self.counters.resent);
            match overdue {
                Overdue::Message(message, qos, flags) => {
                    let header = header(&message, qos, flags, packet_id, true);
                    self.send_publish(key, session, &message, header, None);
                }
                Overdue::Release => self.send_ack(key, &Ack::new(AckKind::PubRel, packet_id, ReasonCode::Success)),
            }
        }
        self.start_retries(key);
    }
}

/// A PUBLISH before version 5, as it was written last: a message for many is encoded once.
#[derive(Debug, Default)]
pub(super) struct Encoded {
    /// The message, and how it was sent, without the packet identifier.
    of: Option<(MessageId, PublishHeader)>,
    /// Empty until the second time: most messages go to one subscriber.
    packet: Vec<u8>,
}

/// The longest payload that is kept encoded, bytes.
const ENCODED_KEPT: usize = 16 << 10;

impl Encoded {
    fn write(&mut self, out: &mut Vec<u8>, message: &Message, header: PublishHeader) {
        let of = Some((message.id, PublishHeader { packet_id: 0, ..header }));
        // What is long is mostly copying, and is not to stay here.
        if self.of != of || message.payload.len() > ENCODED_KEPT {
            self.of = of;
            self.packet.clear();
            return encode_publish(out, header, &message.topic, &[], &message.payload);
        }
        if self.packet.is_empty() {
            encode_publish(&mut self.packet, header, &message.topic, &[], &message.payload);
        }
        let start = out.len();
        out.extend_from_slice(&self.packet);
        if header.qos > QoS::AtMostOnce {
            let at = start + self.packet.len() - message.payload.len() - 2;
            out[at..at + 2].copy_from_slice(&header.packet_id.to_be_bytes());
        }
    }
}

/// What stands for a topic in a PUBLISH to a client.
#[derive(Clone, Copy)]
enum Alias {
    None,
    /// The client knows it.
    Known(u16),
    /// The client learns it now.
    New(u16),
}

impl Connection {
    fn alias_out(&self, topic: &str) -> Alias {
        if self.aliases_out_max == 0 {
            return Alias::None;
        }
        let known = self.aliases_out.get();
        let count = known.map_or(0, crate::HashMap::len) as u16;
        match known.and_then(|known| known.get(topic)) {
            Some(alias) => Alias::Known(*alias),
            None if count < self.aliases_out_max => Alias::New(count + 1),
            None => Alias::None,
        }
    }
}

/// Mostly there is none. An empty one is not compared: where it points is no memory, and looking there is slow.
fn without_mountpoint<'a>(topic: &'a str, mountpoint: &str) -> &'a str {
    if mountpoint.is_empty() {
        return topic;
    }
    topic.strip_prefix(mountpoint).unwrap_or(topic)
}

/// The header of a message for a subscription with those flags.
pub(super) fn header(message: &Message, qos: QoS, flags: u8, packet_id: u16, dup: bool) -> PublishHeader {
    // [MQTT-3.3.1-8] and [MQTT-3.3.1-9]: RETAIN says that the message is from the retained store, unless it is kept as published.
    let as_published = flags & flags::RETAIN_AS_PUBLISHED != 0 && message.retain;
    let retain = flags & flags::RETAINED != 0 || as_published;
    PublishHeader { dup: dup && qos > QoS::AtMostOnce, qos, retain, packet_id }
}

fn expiry_secs(message: &Message) -> Option<u32> {
    message.properties.number(PropertyId::MessageExpiryInterval)
}

fn is_expired(message: &Message) -> bool {
    let age_ms = || clock::now_ms().saturating_sub(message.received_at_ms);
    expiry_secs(message).is_some_and(|secs| age_ms() >= u64::from(secs) * 1000)
}

/// The properties for a subscriber: what is left of the expiry ([MQTT-3.3.2-6]), and its subscription identifiers.
fn outgoing_properties(message: &Message, identifiers: &[u32]) -> Properties {
    let mut properties = message.properties.clone();
    if let Some(secs) = expiry_secs(message) {
        let waited_secs = clock::now_ms().saturating_sub(message.received_at_ms) / 1000;
        properties.retain(|property| property.id != PropertyId::MessageExpiryInterval);
        properties.push_number(PropertyId::MessageExpiryInterval, secs.saturating_sub(waited_secs as u32));
    }
    for identifier in identifiers {
        properties.push_number(PropertyId::SubscriptionIdentifier, *identifier);
    }
    properties
}
