//! A message goes out: to a session's window where it has room, else to where its messages wait.

use std::sync::Arc;

use hookline_mqtt::packet::{Ack, AckKind, PublishHeader, encode_publish, publish_len};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};
use hookline_schemas::Message;
use hookline_schemas::event::{About, DropReason, HookPoint};
use smallvec::SmallVec;

use super::{Outbox, Waiting, Worker};
use crate::clock;
use crate::metrics::Counters;
use crate::router::{Target, flags};
use crate::session::Entry;
use crate::slab::Key;
use crate::store::{Position, Settlement, encoded_len};

/// Messages that a durable session remembers, so that they need not be read back from the store.
const AHEAD_MAX: usize = 256;

/// What a look for the next message has found.
enum Next {
    /// This one.
    Message { message: Arc<Message>, flags: u8, bytes: u64, dup: bool, identifiers: Option<SmallVec<[u32; 2]>> },
    /// One whose PUBREC came before the broker's last end: only its PUBREL is to go.
    Released,
    /// One that is settled already, or cannot be read.
    Skip,
    /// None.
    Empty,
}

impl Worker {
    /// Delivers a message to one session.
    pub(super) fn deliver(&mut self, target: &Target, message: &Arc<Message>, position: Option<Position>) {
        let Some(resident) = self.sessions.get_mut(target.session) else { return };
        if target.no_local && message.from.client_id == resident.session.client.client_id {
            return self.drop_delivery(target.session, message, DropReason::NoLocal);
        }
        let qos = message.qos.min(target.qos);
        let rap = if target.retain_as_published { flags::RETAIN_AS_PUBLISHED } else { 0 };
        let flags = target.qos as u8 | rap;
        if qos == QoS::AtMostOnce {
            let identifiers = target.identifiers.clone();
            return self.deliver_qos0(target.session, message, flags, identifiers);
        }
        match &mut resident.outbox {
            Outbox::Memory(waiting) => {
                waiting.push_back(Waiting { message: Arc::clone(message), flags, identifiers: target.identifiers.clone() });
                let overflow = if waiting.len() > self.shared.limits.mqueue_max { waiting.pop_front() } else { None };
                if let Some(oldest) = overflow {
                    self.drop_delivery(target.session, &oldest.message, DropReason::QueueFull);
                }
            }
            Outbox::Durable { ahead, .. } => {
                if let Some(position) = position.filter(|_| resident.connection.is_some() && ahead.len() < AHEAD_MAX) {
                    ahead.push_back((position, Arc::clone(message), flags));
                }
            }
        }
        self.pump(target.session);
    }

    /// QoS 0: now, or never.
    pub(super) fn deliver_qos0(&mut self, session: Key, message: &Arc<Message>, flags: u8, identifiers: SmallVec<[u32; 2]>) {
        let connection = self.sessions.get(session).and_then(|resident| resident.connection);
        let backlog_max = self.shared.limits.output_bytes_max;
        let open = connection.filter(|key| self.connections.get(*key).is_some_and(|connection| connection.backlog() < backlog_max));
        let Some(key) = open else { return self.drop_delivery(session, message, DropReason::QoS0) };
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
            if connection.backlog() >= self.shared.limits.output_bytes_max {
                connection.held_back = true;
                return;
            }
            match self.next_message(session) {
                Next::Message { message, flags, bytes, dup, identifiers } => {
                    self.send_next(session, message, flags, bytes, dup, identifiers);
                }
                Next::Released => self.release_again(session),
                Next::Skip => self.skip(session),
                Next::Empty => return,
            }
        }
    }

    /// The next message that waits for a session.
    fn next_message(&mut self, session: Key) -> Next {
        let Some(resident) = self.sessions.get_mut(session) else { return Next::Empty };
        let (queue, ahead, cache, maybe_sent_below) = match &mut resident.outbox {
            Outbox::Memory(waiting) => {
                return match waiting.pop_front() {
                    Some(Waiting { message, flags, identifiers }) => {
                        Next::Message { message, flags, bytes: 0, dup: false, identifiers: Some(identifiers) }
                    }
                    None => Next::Empty,
                };
            }
            Outbox::Durable { queue, ahead, cache, maybe_sent_below, .. } => (queue, ahead, cache, *maybe_sent_below),
        };
        let sequence = resident.session.inflight.next();
        if sequence >= queue.next() {
            ahead.clear();
            return Next::Empty;
        }
        let Some(position) = queue.position(sequence) else { return Next::Skip };
        if queue.is_released(sequence) {
            return Next::Released;
        }
        while ahead.front().is_some_and(|(other, ..)| *other < position) {
            ahead.pop_front();
        }
        let dup = sequence < maybe_sent_below;
        if let Some((other, message, flags)) = ahead.front()
            && *other == position
        {
            let bytes = encoded_len(message) as u64;
            return Next::Message { message: Arc::clone(message), flags: *flags, bytes, dup, identifiers: None };
        }
        match self.shared.store.message(queue, sequence, cache) {
            Ok(Some(stored)) => {
                Next::Message { message: Arc::new(stored.message), flags: stored.flags, bytes: stored.bytes, dup, identifiers: None }
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

    fn send_next(
        &mut self,
        session: Key,
        message: Arc<Message>,
        flags: u8,
        bytes: u64,
        dup: bool,
        identifiers: Option<SmallVec<[u32; 2]>>,
    ) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let Some(key) = resident.connection else { return };
        let granted = QoS::from_bits(flags & flags::QOS).unwrap_or_default();
        let qos = message.qos.min(granted);
        if is_expired(&message) {
            return self.give_up(session, &message, bytes, DropReason::Expired);
        }
        let packet_id = resident.session.inflight.next_packet_id();
        let header = header(&message, qos, flags, packet_id, dup);
        if !self.send_publish(key, session, &message, header, identifiers) {
            return self.give_up(session, &message, bytes, DropReason::TooLarge);
        }
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if qos == QoS::AtMostOnce {
            // A retained message of QoS 0, or a subscription that was lowered: nothing will be acknowledged.
            if let Outbox::Durable { queue, .. } = &resident.outbox {
                self.shared.store.settle(queue, [(resident.session.inflight.next(), bytes)], Settlement::Delivered);
                resident.session.inflight.push(Entry::Done);
            }
            return;
        }
        resident.session.inflight.push(Entry::Sent { message, qos, bytes });
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
        let packet_id = resident.session.inflight.push(Entry::Released { bytes: 0 });
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
        identifiers: Option<SmallVec<[u32; 2]>>,
    ) -> bool {
        let Some(connection) = self.connections.get(key) else { return true };
        let mut properties = Vec::new();
        if connection.version == Version::V5 {
            let identifiers = identifiers.unwrap_or_else(|| match self.sessions.get(session) {
                Some(resident) => resident.session.identifiers(&message.topic).collect(),
                None => SmallVec::new(),
            });
            outgoing_properties(message, &identifiers).encode(&mut properties);
        }
        if publish_len(header, &message.topic, &properties, &message.payload) > connection.packet_bytes_max {
            return false;
        }
        Counters::count(&self.counters.sent);
        let client = self.shared.hooks.wants(HookPoint::MessageDelivered).then(|| Arc::clone(&connection.client));
        self.send_with(key, |out, _| encode_publish(out, header, &message.topic, &properties, &message.payload));
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
