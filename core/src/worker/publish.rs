//! A message comes in: hooks, retained store, routing, and the acknowledgement, now or after the commit.

use std::sync::Arc;

use bytes::Bytes;
use hookline_mqtt::packet::{Ack, AckKind, Publish};
use hookline_mqtt::{DecodeError, PropertyId, QoS, ReasonCode, topic};
use hookline_schemas::config::{DurabilityLevel, WhenFull};
use hookline_schemas::event::{About, Access, DropReason, HookPoint};
use hookline_schemas::ports::{AckMode, Outcome};
use hookline_schemas::{Client, Message, MessageId};
use smallvec::SmallVec;

use super::deferred::{Deferred, Publisher};
use super::{Outbox, Worker};
use crate::clock;
use crate::mailbox::Mail;
use crate::metrics::Counters;
use crate::router::{Address, Targets};
use crate::slab::Key;
use crate::store::{Position, QueueTarget, RecordHandle, encode_message};

/// Durable sessions that one record serves.
const QUEUES_OF_A_RECORD: usize = 60_000;

impl Worker {
    pub(super) fn on_publish(&mut self, key: Key, publish: &Publish<'_>) -> Result<(), DecodeError> {
        Counters::count(&self.counters.received);
        let limits = &self.shared.limits;
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let aliased = resolve_alias(&mut connection.aliases, publish, limits.topic_alias_max)?;
        let name = aliased.as_deref().unwrap_or(publish.topic);
        if !topic::name_is_valid(name, limits.topic_levels_max) {
            return Err(DecodeError::with(ReasonCode::TopicNameInvalid, "topic name has too many levels"));
        }
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let publisher = (publish.qos > QoS::AtMostOnce).then_some(Publisher {
            connection: key,
            packet_id: publish.packet_id,
            qos: publish.qos,
            reason: ReasonCode::Success,
        });
        if let Some(publisher) = publisher.filter(|publisher| publisher.qos == QoS::ExactlyOnce)
            && self.is_repeated(session, publisher)?
        {
            self.acknowledge(publisher);
            return Ok(());
        }
        let access = About::Access { action: Access::Publish, topic: name };
        if let Some(reason) = self.ask(HookPoint::ClientAuthorize, &client, access) {
            if let Some(publisher) = publisher {
                self.refuse_publish(Publisher { reason, ..publisher });
            }
            return Ok(());
        }
        let (topic, targets) = self.routes.targets(&self.shared.router, name);
        let mut properties = publish.properties.clone();
        properties.retain(|property| !matches!(property.id, PropertyId::TopicAlias | PropertyId::SubscriptionIdentifier));
        let message = Message {
            id: self.message_id(),
            received_at_ms: clock::now_ms(),
            from: client,
            topic,
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties,
            hops: 0,
        };
        self.route(message, targets, publisher, Some(session));
        Ok(())
    }

    /// Whether this QoS 2 message has come before, and not been released yet. Remembers it where not.
    fn is_repeated(&mut self, session: Key, publisher: Publisher) -> Result<bool, DecodeError> {
        let Some(resident) = self.sessions.get_mut(session) else { return Ok(false) };
        let received = &mut resident.session.received;
        if received.contains(&publisher.packet_id) {
            return Ok(true);
        }
        if received.len() >= usize::from(self.shared.limits.awaiting_rel_max) {
            return Err(DecodeError::with(ReasonCode::ReceiveMaximumExceeded, "too many messages wait for their PUBREL"));
        }
        received.insert(publisher.packet_id);
        Ok(false)
    }

    /// Sends a message on its way. `session` is the publisher's.
    fn route(&mut self, message: Message, targets: Arc<Targets>, publisher: Option<Publisher>, session: Option<Key>) {
        let mut outcome = std::mem::take(&mut self.outcome);
        self.shared.hooks.tell(HookPoint::MessagePublish, &message.from, About::Message(&message), &mut outcome);
        let from = session.map(|session| Address { worker: self.number, session });
        let refused = outcome.refused().or_else(|| self.is_at_a_bound(&message, &outcome, &targets, from));
        if let Some(reason) = refused {
            outcome.clear();
            self.outcome = outcome;
            let why = if reason == ReasonCode::QuotaExceeded { DropReason::QueueFull } else { DropReason::Refused };
            self.drop_message(&message, why);
            if let Some(publisher) = publisher {
                self.refuse_publish(Publisher { reason, ..publisher });
            }
            return;
        }
        let recorded = outcome.records().any(|(record, _)| record.ack == AckMode::Durable);
        let nobody = targets.is_empty() && outcome.is_empty();
        self.take_outcome(&mut outcome, Admission::Decided);
        self.outcome = outcome;
        if targets.is_empty() {
            self.drop_message(&message, DropReason::NoSubscribers);
        }
        let message = Arc::new(message);
        let retained = message.retain && self.store_retained(&message);
        let record = self.enqueue(&message, &targets, from);
        let received = publisher.is_some_and(|publisher| self.store_received(session, publisher));
        let kept = recorded || retained || record.is_some() || received;
        let reason = if nobody { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
        let publisher = publisher.map(|publisher| Publisher { reason, ..publisher });
        // A message for durable sessions is sent to them once it has its place in the store.
        let wait = match self.shared.store.level() {
            DurabilityLevel::Memory => record.is_some(),
            _ => (kept && publisher.is_some()) || record.is_some(),
        };
        let behind_others = publisher.and_then(|publisher| self.connections.get(publisher.connection)).is_some_and(|c| c.deferred > 0);
        if wait || behind_others {
            self.defer(Deferred::Publish { publisher, message, targets, record, retained });
        } else {
            if retained {
                self.apply_retained(&message);
            }
            if let Some(publisher) = publisher {
                self.send_ack(publisher.connection, &publisher.ack());
            }
            self.dispatch(&message, &targets, None);
        }
    }

    /// The refusal, where a queue that must take the message is at its bound.
    fn is_at_a_bound(&self, message: &Message, outcome: &Outcome, targets: &Targets, from: Option<Address>) -> Option<ReasonCode> {
        let store = &self.shared.store;
        let full_action = outcome.records().any(|(record, _)| {
            record.ack == AckMode::Durable && store.queue(record.queue).is_some_and(|queue| queue.when_full() == Some(WhenFull::Refuse))
        });
        let full_session = message.qos > QoS::AtMostOnce
            && targets.queues.iter().any(|target| {
                let wanted = !(target.no_local && from == Some(target.address));
                wanted && target.queue.when_full() == Some(WhenFull::Refuse)
            });
        (full_action || full_session).then_some(ReasonCode::QuotaExceeded)
    }

    /// Puts the message into the queues of durable sessions.
    fn enqueue(&mut self, message: &Message, targets: &Targets, from: Option<Address>) -> Option<RecordHandle> {
        if message.qos == QoS::AtMostOnce {
            return None;
        }
        let wanted = targets.queues.iter().filter(|target| !(target.no_local && from == Some(target.address)));
        let queues: SmallVec<[QueueTarget; 8]> =
            wanted.map(|target| QueueTarget { queue: target.queue.id(), flags: target.flags }).collect();
        // A chunk can name so many queues; one record for each group is still one commit.
        let mut groups = queues.chunks(QUEUES_OF_A_RECORD).map(|queues| self.batch.record(queues, |out| encode_message(out, message)));
        let first = groups.next();
        groups.for_each(drop);
        first
    }

    /// Stores a retained message, or that the topic has none any more; `false` where there is no room.
    fn store_retained(&mut self, message: &Message) -> bool {
        if message.payload.is_empty() {
            self.batch.delete_retained(&message.topic);
            return true;
        }
        let retained = &self.shared.retained;
        if retained.len() >= self.shared.limits.retained_max && !retained.contains(&message.topic) {
            tracing::warn!(topic = %message.topic, "retained messages are at their bound; this one is not kept");
            return false;
        }
        let mut bytes = Vec::with_capacity(message.payload.len() + 128);
        encode_message(&mut bytes, message);
        self.batch.put_retained(&message.topic, bytes);
        true
    }

    /// Shows new subscribers what was stored.
    pub(super) fn apply_retained(&self, message: &Arc<Message>) {
        if message.payload.is_empty() {
            self.shared.retained.clear(&message.topic);
        } else {
            self.shared.retained.set(Arc::clone(message));
        }
    }

    /// Stores a QoS 2 identifier of a durable session with its message.
    fn store_received(&mut self, session: Option<Key>, publisher: Publisher) -> bool {
        let resident = session.and_then(|session| self.sessions.get(session));
        match resident.map(|resident| &resident.outbox) {
            Some(Outbox::Durable { queue, .. }) if publisher.qos == QoS::ExactlyOnce => {
                self.batch.put_received(queue.id(), publisher.packet_id);
                true
            }
            _ => false,
        }
    }

    /// Acknowledges a message that was taken before, in its order.
    fn acknowledge(&mut self, publisher: Publisher) {
        let ack = Ack::new(AckKind::PubRec, publisher.packet_id, ReasonCode::Success);
        if self.connections.get(publisher.connection).is_some_and(|connection| connection.deferred > 0) {
            self.defer(Deferred::Ack { connection: publisher.connection, ack });
        } else {
            self.send_ack(publisher.connection, &ack);
        }
    }

    /// Hands a message to the workers of its subscribers.
    pub(super) fn dispatch(&mut self, message: &Arc<Message>, targets: &Targets, position: Option<Position>) {
        for (worker, targets) in &targets.workers {
            if *worker == self.number {
                for target in targets.iter() {
                    self.deliver(target, message, position);
                }
            } else {
                let mail = Mail::Deliver { message: Arc::clone(message), targets: Arc::clone(targets), position };
                self.outgoing[usize::from(*worker)].push(mail);
            }
        }
    }

    /// Takes what hooks want into the batch, and what they want published into the line.
    pub(super) fn take_outcome(&mut self, outcome: &mut Outcome, admission: Admission) {
        if outcome.is_empty() {
            return;
        }
        for (record, row) in outcome.records() {
            let Some(queue) = self.shared.store.queue(record.queue) else { continue };
            let decided = admission == Admission::Decided && record.ack == AckMode::Durable;
            match queue.when_full() {
                Some(WhenFull::Refuse) if decided => {
                    // Another worker has filled it since this message was admitted: it goes over the bound rather than be lost.
                    self.batch.record(&[QueueTarget { queue: record.queue, flags: 0 }], |out| out.extend_from_slice(row));
                }
                None | Some(WhenFull::DropOldest) => {
                    self.batch.record(&[QueueTarget { queue: record.queue, flags: 0 }], |out| out.extend_from_slice(row));
                }
                Some(WhenFull::Refuse | WhenFull::DropNewest) => {
                    queue.count_overflow();
                    self.shared.store.mark_dirty(&queue);
                }
            }
        }
        for republish in outcome.take_republish() {
            let hops = republish.hops;
            let message = Message {
                id: self.message_id(),
                received_at_ms: clock::now_ms(),
                from: Arc::new(Client::internal(&republish.from)),
                topic: (*republish.topic).into(),
                payload: republish.payload,
                qos: republish.qos,
                retain: republish.retain,
                dup: false,
                properties: hookline_mqtt::Properties::default(),
                hops,
            };
            self.internal.push_back(message);
        }
        outcome.clear();
    }

    /// Publishes what hooks and ended clients want published. In the same commit as what caused it.
    pub(super) fn publish_internal(&mut self) {
        while let Some(message) = self.internal.pop_front() {
            if message.hops > self.shared.limits.republish_hops_max {
                self.drop_message(&message, DropReason::HopLimit);
                continue;
            }
            if !topic::name_is_valid(&message.topic, self.shared.limits.topic_levels_max) {
                self.drop_message(&message, DropReason::Refused);
                continue;
            }
            let (_, targets) = self.routes.targets(&self.shared.router, &message.topic);
            self.route(message, targets, None, None);
        }
    }

    /// A message goes to nobody.
    pub(super) fn drop_message(&mut self, message: &Message, reason: DropReason) {
        self.counters.count_drop(reason);
        self.tell(HookPoint::MessageDropped, &message.from, About::Dropped { message, reason });
    }

    /// An identifier that no other message has: time, start, worker, counter.
    pub(super) fn message_id(&mut self) -> MessageId {
        self.next_message = self.next_message.wrapping_add(1);
        let parts = [clock::now_ms() as u128, self.shared.boot.into(), self.number.into(), self.next_message.into()];
        MessageId(parts[0] << 80 | parts[1] << 48 | parts[2] << 32 | parts[3])
    }
}

/// Whether the bounds of the queues have been asked already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    /// The publisher has not been refused, so its records must come in.
    Decided,
    /// There is no publisher to refuse: what has no room is dropped and counted.
    Open,
}

/// The topic that an alias stands for; sets it where the packet has both.
fn resolve_alias(
    aliases: &mut crate::HashMap<u16, Arc<str>>,
    publish: &Publish<'_>,
    alias_max: u16,
) -> Result<Option<Arc<str>>, DecodeError> {
    let Some(alias) = publish.properties.number(PropertyId::TopicAlias) else { return Ok(None) };
    let alias = u16::try_from(alias).ok().filter(|alias| *alias <= alias_max);
    let alias = alias.ok_or(DecodeError::with(ReasonCode::TopicAliasInvalid, "topic alias is above the maximum"))?;
    if publish.topic.is_empty() {
        let known = aliases.get(&alias).cloned();
        return known.map(Some).ok_or(DecodeError::with(ReasonCode::TopicAliasInvalid, "topic alias was never set"));
    }
    aliases.insert(alias, publish.topic.into());
    Ok(None)
}
