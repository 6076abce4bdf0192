//! A message comes in: hooks, retained store, routing, and the acknowledgement, now or after the commit.

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use hookline_mqtt::packet::{Ack, AckKind, Publish};
use hookline_mqtt::{DecodeError, Properties, PropertyId, QoS, ReasonCode, Version, topic};
use hookline_schemas::access::Request;
use hookline_schemas::config::{DurabilityLevel, Mqtt, RewriteAction, WhenFull};
use hookline_schemas::event::{About, Access, DropReason, HookPoint};
use hookline_schemas::gate::Verdict;
use hookline_schemas::ports::{AckMode, Outcome};
use hookline_schemas::{Client, Message, MessageId};
use smallvec::SmallVec;

use super::awaiting::Delivered;
use super::deferred::{Deferred, Publisher};
use super::sys::SYS;
use super::{Outbox, Worker, delayed};
use crate::mailbox::Mail;
use crate::metrics::Counters;
use crate::router::{Member, Targets, effective_qos};
use crate::seldom::Seldom;
use crate::slab::Key;
use crate::store::{Position, Queue, QueueTarget, RecordHandle};
use crate::zone::Zone;

/// Durable sessions that one record serves.
const QUEUES_OF_A_RECORD: usize = 60_000;

impl Worker {
    pub(super) fn on_publish(&mut self, key: Key, publish: &Publish<'_>) -> Result<(), DecodeError> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let by_qos = [&self.counters.received_qos0, &self.counters.received_qos1, &self.counters.received_qos2];
        Counters::count(by_qos[publish.qos as usize]);
        Counters::count(&self.counters.received);
        // Copies, because a count of references to the zone would be everybody's bottleneck.
        let limits = &connection.zone.limits;
        let (levels_max, expiry_secs_max) = (limits.topic_levels_max, limits.message_expiry_secs_max);
        let (awaiting_rel_max, await_rel_timeout_secs) = (limits.awaiting_rel_max, limits.await_rel_timeout_secs);
        let checks_payload = limits.check_payload_format;
        let aliased = resolve_alias(&mut connection.aliases, publish, limits.topic_alias_max)?;
        let name = aliased.as_deref().unwrap_or(publish.topic);
        check_publish(publish, name, limits)?;
        // Section 3.3.4: who has been told how many may be on their way keeps to it.
        let counts = publish.qos > QoS::AtMostOnce && connection.version == Version::V5;
        if counts && connection.unacknowledged >= u32::from(awaiting_rel_max) {
            return Err(DecodeError::with(ReasonCode::ReceiveMaximumExceeded, "more messages on their way than the receive maximum"));
        }
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let publisher = (publish.qos > QoS::AtMostOnce).then_some(Publisher {
            connection: key,
            packet_id: publish.packet_id,
            qos: publish.qos,
            reason: ReasonCode::Success,
            level: connection.zone.level,
        });
        if let Some(publisher) = publisher.filter(|publisher| publisher.qos == QoS::ExactlyOnce)
            && self.is_repeated(session, publisher, awaiting_rel_max, await_rel_timeout_secs)?
        {
            Counters::count(&self.counters.publish_in_use);
            self.acknowledge(publisher);
            return Ok(());
        }
        // What is delayed is allowed, changed and mounted by its real topic.
        let (delay, name) = if self.shared.delayed.enable { delayed::split(name) } else { ("", name) };
        let refused = if checks_payload && !payload_is_what_it_says(publish) {
            Some(ReasonCode::PayloadFormatInvalid)
        } else if name.starts_with(SYS) {
            Some(ReasonCode::NotAuthorized)
        } else {
            self.authorize(key, &client, &Request { action: Access::Publish, topic: name, qos: publish.qos, retain: publish.retain })
        };
        let mut name = self.shared.rewrites.apply(RewriteAction::Publish, name, &client);
        if !client.mountpoint.is_empty() || !delay.is_empty() {
            name = format!("{delay}{}{name}", client.mountpoint).into();
        }
        // What a rule has made of a topic may be none any more.
        let is_changed = matches!(name, Cow::Owned(_)) && !topic::name_is_valid(&name, levels_max);
        let refused = refused.or(is_changed.then_some(ReasonCode::TopicNameInvalid));
        if let Some(reason) = refused {
            match publisher {
                Some(publisher) => self.refuse_publish(Publisher { reason, ..publisher }),
                None => self.counters.count_drop(DropReason::Refused),
            }
            return Ok(());
        }
        let (topic, targets) = self.routes.targets(&self.shared.router, &name);
        let mut properties = Properties::default();
        if !publish.properties.is_empty() {
            properties = publish.properties.clone();
            properties.retain(|property| property.id != PropertyId::TopicAlias);
        }
        limit_expiry(&mut properties, expiry_secs_max);
        let message = Message {
            id: self.message_id(),
            received_at_ms: self.now_ms,
            from: client,
            topic,
            payload: Bytes::copy_from_slice(publish.payload),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            properties,
            hops: 0,
            trace: None,
        };
        self.route(message, targets, publisher, Some(session));
        Ok(())
    }

    /// Whether this QoS 2 message has come before, and not been released yet. Remembers it where not.
    fn is_repeated(&mut self, session: Key, publisher: Publisher, count_max: u16, timeout_secs: u32) -> Result<bool, DecodeError> {
        let Some(resident) = self.sessions.get_mut(session) else { return Ok(false) };
        let received = resident.session.received.make();
        let (now_ms, timeout_ms) = (self.now_ms, u64::from(timeout_secs) * 1000);
        let is_over = |since: u64| timeout_ms > 0 && now_ms.saturating_sub(since) >= timeout_ms;
        match received.get(&publisher.packet_id) {
            Some(since) if !is_over(*since) => return Ok(true),
            Some(_) => {}
            None if received.len() >= usize::from(count_max) => {
                received.retain(|_, since| !is_over(*since));
                if received.len() >= usize::from(count_max) {
                    return Err(DecodeError::with(ReasonCode::ReceiveMaximumExceeded, "too many messages wait for their PUBREL"));
                }
            }
            None => {}
        }
        received.insert(publisher.packet_id, now_ms);
        Ok(false)
    }

    /// Sends a message on its way. `session` is the publisher's.
    fn route(&mut self, message: Message, targets: Arc<Targets>, publisher: Option<Publisher>, session: Option<Key>) {
        Counters::count(&self.counters.published);
        let passed =
            if self.shared.hooks.gate().is_some() { self.pass_gate(message, targets, publisher) } else { Some((message, targets)) };
        let Some((message, targets)) = passed else { return };
        let mut outcome = std::mem::take(&mut self.outcome);
        self.shared.hooks.tell(HookPoint::MessagePublish, &message.from, About::Message(&message), &mut outcome);
        let delay = if message.topic.starts_with(delayed::PREFIX) { self.delay_of(&message) } else { Ok(None) };
        let members = if matches!(delay, Ok(None)) { self.choose_members(&message, &targets, session) } else { SmallVec::new() };
        let refused = outcome
            .refused()
            .or(delay.as_ref().err().copied())
            // Without a publisher there is nobody to refuse: what has no room is left out, and counted.
            .or_else(|| publisher.and_then(|_| self.is_at_a_bound(&message, &outcome, &targets, &members)));
        let admission = if publisher.is_some() { Admission::Decided } else { Admission::Open };
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
        if message.qos == QoS::AtMostOnce && self.shared.overload.load(Ordering::Relaxed) {
            outcome.clear();
            self.outcome = outcome;
            return self.drop_message(&message, DropReason::Overload);
        }
        if let Ok(Some(delay)) = delay {
            drop(self.take_outcome(&mut outcome, admission));
            self.outcome = outcome;
            return self.delay(message, delay, publisher, session);
        }
        let zone_level = publisher.map_or(DurabilityLevel::Memory, |publisher| publisher.level);
        let awaited = outcome.records().map(|(record, _)| record.promise).filter(|promise| promise.ack != AckMode::Accepted);
        let of_actions = awaited.map(|promise| promise.level.unwrap_or(zone_level)).reduce(DurabilityLevel::strongest);
        let nobody = targets.is_empty() && outcome.is_empty();
        let delivered = self.take_outcome(&mut outcome, admission);
        self.outcome = outcome;
        if targets.is_empty() {
            self.drop_message(&message, DropReason::NoSubscribers);
        }
        let message = Arc::new(message);
        if message.retain {
            self.store_retained(&message, publisher.is_some());
        }
        let record = self.enqueue(&message, &targets, &members, publisher.is_none());
        // What waits for a sink is new when it comes again: only the sink's word makes its acknowledgement true.
        let received = delivered.is_none() && publisher.is_some_and(|publisher| self.store_received(session, publisher));
        let of_sessions = (message.retain || record.is_some() || received).then_some(zone_level);
        let reason = if nobody { ReasonCode::NoMatchingSubscribers } else { ReasonCode::Success };
        // The strongest of what it has come to.
        let level = of_sessions.into_iter().chain(of_actions).reduce(DurabilityLevel::strongest).unwrap_or(DurabilityLevel::Memory);
        let publisher = publisher.map(|publisher| Publisher { reason, level, ..publisher });
        let connection = publisher.and_then(|publisher| self.connections.get(publisher.connection));
        let behind_others = connection.is_some_and(|connection| connection.deferred > 0);
        // At level memory nobody waits for the store. But a message for durable sessions is sent to them once it has its place.
        let waits = level != DurabilityLevel::Memory || delivered.is_some();
        let acknowledged = publisher.filter(|_| !waits && !behind_others);
        if let Some(publisher) = acknowledged {
            self.send_ack(publisher.connection, &publisher.ack());
        }
        let publisher = publisher.filter(|_| acknowledged.is_none());
        if publisher.is_some() || record.is_some() {
            self.defer(Deferred::Publish { publisher, message, targets, members, record, delivered });
        } else {
            self.dispatch(&message, &targets, &members, None);
        }
    }

    /// Lets a message through the gate, where there is one: it may come out changed, or not at all.
    fn pass_gate(&mut self, mut message: Message, targets: Arc<Targets>, publisher: Option<Publisher>) -> Option<(Message, Arc<Targets>)> {
        let shared = Arc::clone(&self.shared);
        let Some(gate) = shared.hooks.gate() else { return Some((message, targets)) };
        let mut outcome = std::mem::take(&mut self.outcome);
        let topic = Arc::clone(&message.topic);
        let verdict = gate.on_publish(&mut message, &mut |point, name, message| {
            shared.hooks.tell(point, &message.from, About::Failed { message, name }, &mut outcome);
        });
        drop(self.take_outcome(&mut outcome, Admission::Open));
        self.outcome = outcome;
        let levels_max = self.zone_of(&message).limits.topic_levels_max;
        let is_routable = topic::name_is_valid(&message.topic, levels_max) && !message.topic.starts_with(SYS);
        match verdict {
            Verdict::Pass if message.topic == topic => Some((message, targets)),
            Verdict::Pass if is_routable => {
                let (topic, targets) = self.routes.targets(&self.shared.router, &message.topic);
                message.topic = topic;
                Some((message, targets))
            }
            Verdict::Pass => self.stop_at_gate(&message, publisher, ReasonCode::TopicNameInvalid),
            Verdict::Reject { reason, .. } => self.stop_at_gate(&message, publisher, reason),
            Verdict::Drop { .. } => {
                self.drop_message(&message, DropReason::Refused);
                if let Some(publisher) = publisher {
                    self.acknowledge_dropped(publisher);
                }
                None
            }
        }
    }

    fn stop_at_gate<T>(&mut self, message: &Message, publisher: Option<Publisher>, reason: ReasonCode) -> Option<T> {
        self.drop_message(message, DropReason::Refused);
        if let Some(publisher) = publisher {
            self.refuse_publish(Publisher { reason, ..publisher });
        }
        None
    }

    /// The message went nowhere, and its publisher goes on. Before version 5 there is no word for it.
    fn acknowledge_dropped(&mut self, publisher: Publisher) {
        let Some(connection) = self.connections.get(publisher.connection) else { return };
        let (session, is_behind) = (connection.session, connection.deferred > 0);
        let reason = if connection.version == Version::V5 { Verdict::DROPPED } else { ReasonCode::Success };
        if publisher.qos == QoS::ExactlyOnce
            && reason.is_error()
            && let Some(resident) = self.sessions.get_mut(session)
        {
            resident.session.forget_received(publisher.packet_id);
        }
        let ack = Publisher { reason, ..publisher }.ack();
        if is_behind {
            self.defer(Deferred::Ack { connection: publisher.connection, ack });
        } else {
            self.send_ack(publisher.connection, &ack);
        }
    }

    /// The refusal, where a queue that must take the message is at its bound.
    fn is_at_a_bound(&self, message: &Message, outcome: &Outcome, targets: &Targets, members: &[Arc<Member>]) -> Option<ReasonCode> {
        if outcome.is_empty() && targets.queues.is_empty() && members.is_empty() && !message.retain {
            return None;
        }
        let store = &self.shared.store;
        let full_action = outcome.records().any(|(record, _)| {
            record.promise.ack != AckMode::Accepted
                && store.queue(record.queue).is_some_and(|queue| queue.when_full() == Some(WhenFull::Refuse))
        });
        let is_full = |queue: &Queue| queue.when_full() == Some(WhenFull::Refuse);
        let full_session = targets
            .queues
            .iter()
            .any(|target| !target.is_own(message) && effective_qos(message.qos, target.flags) > QoS::AtMostOnce && is_full(&target.queue));
        let full_member = members.iter().any(|member| {
            let qos = effective_qos(message.qos, member.target[0].flags());
            qos > QoS::AtMostOnce && member.subscriber.queue.as_ref().is_some_and(|queue| is_full(queue))
        });
        let has_place = || self.shared.retained.has_room(message, &self.zone_of(message).limits);
        let no_place = message.retain && !message.payload.is_empty() && !has_place();
        let no_store = || {
            let is_stored = message.retain
                || outcome.records().any(|(record, _)| record.promise.ack != AckMode::Accepted)
                || targets.queues.iter().any(|target| !target.is_own(message))
                || members.iter().any(|member| member.subscriber.queue.is_some());
            is_stored && store.is_full()
        };
        (full_action || full_session || full_member || no_place || no_store()).then_some(ReasonCode::QuotaExceeded)
    }

    /// The zone of the client that a message is from.
    fn zone_of(&self, message: &Message) -> Arc<Zone> {
        self.shared.zones.get(&message.from.zone)
    }

    /// Puts the message into the queues of durable sessions; with `skip_full` not into those at their bound.
    fn enqueue(&mut self, message: &Message, targets: &Targets, members: &[Arc<Member>], skip_full: bool) -> Option<RecordHandle> {
        if targets.queues.is_empty() && members.is_empty() {
            return None;
        }
        let counters = &self.counters;
        let no_store = self.shared.store.is_full();
        let wants = |queue: &Queue, flags: u8| match effective_qos(message.qos, flags) {
            // What may be lost is kept only for who is away and wants it, and never in place of what may not.
            QoS::AtMostOnce => queue.keeps_qos0() && queue.when_full().is_none() && !no_store,
            _ if skip_full && (no_store || queue.when_full() == Some(WhenFull::Refuse)) => {
                counters.count_drop(DropReason::QueueFull);
                false
            }
            _ => true,
        };
        let own = targets.queues.iter().filter(|target| !target.is_own(message));
        let own = own.map(|target| (&target.queue, target.flags));
        let shared = members.iter().filter_map(|member| Some((member.subscriber.queue.as_ref()?, member.target[0].flags())));
        let wanted = own.chain(shared).filter(|(queue, flags)| wants(queue, *flags));
        let zones = &self.shared.zones;
        let target = |queue: &Queue, flags| QueueTarget { queue: queue.id(), flags, rank: zones.rank(queue.ranking(), &message.topic) };
        let queues: SmallVec<[QueueTarget; 8]> = wanted.map(|(queue, flags)| target(queue, flags)).collect();
        // A chunk can name so many queues; one record for each group is still one commit.
        let mut groups = queues.chunks(QUEUES_OF_A_RECORD).map(|queues| self.batch.message(queues, message));
        let first = groups.next();
        groups.for_each(drop);
        first
    }

    /// Stores a retained message, or that the topic has none any more. Where there is no room and nobody to refuse, the topic has
    /// none (section 3.3.1.3).
    fn store_retained(&mut self, message: &Message, is_admitted: bool) {
        let zone = self.zone_of(message);
        let has_room = is_admitted
            || message.payload.is_empty()
            || self.shared.retained.has_room(message, &zone.limits) && !self.shared.store.is_full();
        if !has_room {
            Counters::count(&self.counters.retained_refused);
        }
        if message.payload.is_empty() || !has_room {
            return self.batch.delete_retained(&message.topic);
        }
        let secs = zone.limits.retained_expiry_secs;
        if secs > 0 && message.properties.number(PropertyId::MessageExpiryInterval).is_none() {
            let mut limited = message.clone();
            limited.properties.push_number(PropertyId::MessageExpiryInterval, secs);
            return self.batch.put_retained(&limited);
        }
        self.batch.put_retained(message);
    }

    /// Stores a QoS 2 identifier of a durable session with its message.
    pub(super) fn store_received(&mut self, session: Option<Key>, publisher: Publisher) -> bool {
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
    pub(super) fn dispatch(&mut self, message: &Arc<Message>, targets: &Targets, members: &[Arc<Member>], position: Option<Position>) {
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
        for member in members {
            self.send_to_member(member, message, position, false);
        }
    }

    /// Takes what hooks want into the batch, and what they want published into the line.
    /// Records whose delivery the publisher waits for come back.
    pub(super) fn take_outcome(&mut self, outcome: &mut Outcome, admission: Admission) -> Option<Box<Delivered>> {
        if outcome.is_empty() {
            return None;
        }
        let mut delivered: Option<Box<Delivered>> = None;
        let no_store = self.shared.store.is_full();
        for (record, row) in outcome.records() {
            let Some(queue) = self.shared.store.queue(record.queue) else { continue };
            let decided = admission == Admission::Decided && record.promise.ack != AckMode::Accepted;
            let is_taken = match queue.when_full() {
                // Another worker has filled it since this message was admitted: it goes over the bound rather than be lost.
                Some(WhenFull::Refuse) => decided,
                Some(WhenFull::DropNewest) => false,
                None | Some(WhenFull::DropOldest) => decided || !no_store,
            };
            if !is_taken {
                queue.count_overflow();
                self.shared.store.mark_dirty(&queue);
                continue;
            }
            let handle = self.batch.record(&[QueueTarget::plain(record.queue)], |out| out.extend_from_slice(row));
            if decided && record.promise.ack == AckMode::Delivered {
                self.batch.watch(handle);
                let delivered = delivered.get_or_insert_default();
                delivered.records.push(handle);
                delivered.deadline = delivered.deadline.max(record.promise.deadline);
            }
        }
        for republish in outcome.take_republish() {
            let hops = republish.hops;
            let message = Message {
                id: self.message_id(),
                received_at_ms: self.now_ms,
                from: Arc::new(Client::internal(&republish.from)),
                topic: (*republish.topic).into(),
                payload: republish.payload,
                qos: republish.qos,
                retain: republish.retain,
                dup: false,
                properties: republish.properties,
                hops,
                trace: republish.trace,
            };
            self.internal.push_back(message);
        }
        outcome.clear();
        delivered
    }

    /// Publishes what hooks and ended clients want published. In the same commit as what caused it.
    pub(super) fn publish_internal(&mut self) {
        while let Some(message) = self.own.pop_front() {
            self.publish_sys(message);
        }
        while let Some(message) = self.internal.pop_front() {
            if message.hops > self.shared.zones.default.limits.republish_hops_max {
                self.drop_message(&message, DropReason::HopLimit);
                continue;
            }
            let is_valid = topic::name_is_valid(&message.topic, self.zone_of(&message).limits.topic_levels_max);
            if !is_valid || message.topic.starts_with(SYS) {
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
        let parts = [u128::from(self.now_ms), self.shared.boot.into(), self.number.into(), self.next_message.into()];
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

/// What of a PUBLISH a zone does not serve, or the specification forbids.
fn check_publish(publish: &Publish<'_>, name: &str, limits: &Mqtt) -> Result<(), DecodeError> {
    if !topic::name_is_valid(name, limits.topic_levels_max) {
        return Err(DecodeError::with(ReasonCode::TopicNameInvalid, "topic name has too many levels"));
    }
    // [MQTT-3.3.4-6]
    if publish.properties.number(PropertyId::SubscriptionIdentifier).is_some() {
        return Err(DecodeError::protocol("subscription identifier from a client"));
    }
    // [MQTT-3.2.2-11]
    if publish.qos as u8 > limits.qos_max {
        return Err(DecodeError::with(ReasonCode::QoSNotSupported, "QoS is above the maximum"));
    }
    // [MQTT-3.2.2-14]
    if publish.retain && !limits.retain_available {
        return Err(DecodeError::with(ReasonCode::RetainNotSupported, "messages cannot be retained here"));
    }
    Ok(())
}

/// Whether a payload that says to be UTF-8 text is that (section 3.3.2.3.2).
fn payload_is_what_it_says(publish: &Publish<'_>) -> bool {
    publish.properties.number(PropertyId::PayloadFormatIndicator) != Some(1) || std::str::from_utf8(publish.payload).is_ok()
}

/// Lets a message live no longer than the zone allows.
fn limit_expiry(properties: &mut Properties, secs_max: u32) {
    if secs_max == u32::MAX {
        return;
    }
    let secs = properties.number(PropertyId::MessageExpiryInterval).unwrap_or(u32::MAX).min(secs_max);
    properties.retain(|property| property.id != PropertyId::MessageExpiryInterval);
    properties.push_number(PropertyId::MessageExpiryInterval, secs);
}

/// The topic that an alias stands for; sets it where the packet has both.
fn resolve_alias(
    aliases: &mut Seldom<crate::HashMap<u16, Arc<str>>>,
    publish: &Publish<'_>,
    alias_max: u16,
) -> Result<Option<Arc<str>>, DecodeError> {
    let Some(alias) = publish.properties.number(PropertyId::TopicAlias) else { return Ok(None) };
    let alias = u16::try_from(alias).ok().filter(|alias| *alias <= alias_max);
    let alias = alias.ok_or(DecodeError::with(ReasonCode::TopicAliasInvalid, "topic alias is above the maximum"))?;
    if publish.topic.is_empty() {
        let known = aliases.get().and_then(|aliases| aliases.get(&alias)).cloned();
        return known.map(Some).ok_or(DecodeError::with(ReasonCode::TopicAliasInvalid, "topic alias was never set"));
    }
    aliases.make().insert(alias, publish.topic.into());
    Ok(None)
}
