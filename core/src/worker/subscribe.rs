//! Subscriptions: made, stored, ended; and the retained messages that a new one gets.

use std::sync::Arc;

use hookline_mqtt::packet::{RetainHandling, SubAck, Subscribe, SubscribeFilter, UnsubAck, Unsubscribe};
use hookline_mqtt::{DecodeError, Properties, PropertyId, QoS, ReasonCode, topic};
use hookline_schemas::event::{About, Access, DropReason, HookPoint};
use hookline_schemas::{Client, Message};

use super::deferred::Deferred;
use super::{Outbox, Waiting, Worker};
use crate::router::{Address, Subscriber, flags};
use crate::session::{Held, encode_subscription};
use crate::slab::Key;
use crate::store::{QueueTarget, encode_message};

impl Worker {
    pub(super) fn on_subscribe(&mut self, key: Key, subscribe: Subscribe) -> Result<(), DecodeError> {
        let Some(connection) = self.connections.get(key) else { return Ok(()) };
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut retained = Vec::new();
        let mut added = Vec::new();
        let mut budget = self.shared.limits.retained_per_subscribe_max;
        for asked in &subscribe.filters {
            let reason = match self.check_filter(&client, session, asked, &subscribe.properties) {
                Some(refused) => refused,
                None => {
                    let held = self.sessions.get(session).map(|resident| &resident.session.subscriptions);
                    if held.is_some_and(|held| !held.contains_key(asked.filter.as_str())) {
                        added.push(asked.filter.clone());
                    }
                    self.subscribe(&client, session, asked, &subscribe.properties, &mut retained, &mut budget)
                }
            };
            reasons.push(reason);
        }
        let ack = SubAck { packet_id: subscribe.packet_id, properties: Properties::default(), reasons };
        let durable = self.sessions.get(session).is_some_and(|resident| matches!(resident.outbox, Outbox::Durable { .. }));
        let behind_others = self.connections.get(key).is_some_and(|connection| connection.deferred > 0);
        if durable || behind_others {
            self.defer(Deferred::SubAck { connection: key, ack, session, added, retained });
        } else {
            self.send_with(key, |out, version| ack.encode(out, version));
            self.send_retained(session, retained);
        }
        Ok(())
    }

    /// The refusal of a topic filter.
    fn check_filter(&mut self, client: &Client, session: Key, asked: &SubscribeFilter, properties: &Properties) -> Option<ReasonCode> {
        let limits = &self.shared.limits;
        if !topic::filter_is_valid(&asked.filter, limits.topic_levels_max) {
            return Some(ReasonCode::TopicFilterInvalid);
        }
        if asked.filter.starts_with("$share/") || asked.filter.starts_with("$queue/") {
            return Some(ReasonCode::SharedSubscriptionsNotSupported);
        }
        let held = &self.sessions.get(session)?.session.subscriptions;
        if held.len() >= limits.subscriptions_max && !held.contains_key(asked.filter.as_str()) {
            return Some(ReasonCode::QuotaExceeded);
        }
        let access = About::Access { action: Access::Subscribe, topic: &asked.filter };
        let about = About::Subscription { filter: &asked.filter, options: asked.options, properties };
        self.ask(HookPoint::ClientAuthorize, client, access).or_else(|| self.ask(HookPoint::ClientSubscribe, client, about))
    }

    fn subscribe(
        &mut self,
        client: &Client,
        session: Key,
        asked: &SubscribeFilter,
        properties: &Properties,
        retained: &mut Vec<(Arc<Message>, u8)>,
        budget: &mut usize,
    ) -> ReasonCode {
        let held = Held { options: asked.options, identifier: properties.number(PropertyId::SubscriptionIdentifier).unwrap_or(0) };
        let Some(resident) = self.sessions.get_mut(session) else { return ReasonCode::UnspecifiedError };
        let is_new = resident.session.subscriptions.insert(asked.filter.as_str().into(), held).is_none();
        let queue = match &resident.outbox {
            Outbox::Durable { queue, .. } => {
                self.batch.put_subscription(queue.id(), &asked.filter, encode_subscription(held));
                Some(Arc::clone(queue))
            }
            Outbox::Memory(_) => None,
        };
        let address = Address { worker: self.number, session };
        let subscriber = Subscriber { address, options: held.options, identifier: held.identifier, queue: queue.clone() };
        self.shared.router.subscribe(&asked.filter, subscriber);
        let about = About::Subscription { filter: &asked.filter, options: asked.options, properties };
        self.tell(HookPoint::SessionSubscribed, client, about);
        let wants_retained = match asked.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if wants_retained {
            let rap = if asked.options.retain_as_published { flags::RETAIN_AS_PUBLISHED } else { 0 };
            let flags = asked.options.qos as u8 | rap | flags::RETAINED;
            for message in self.shared.retained.matching(&asked.filter) {
                // One SUBSCRIBE, and the queue behind it, get so many and not more.
                if *budget == 0 || queue.as_ref().is_some_and(|queue| queue.when_full().is_some()) {
                    self.drop_delivery(session, &message, DropReason::QueueFull);
                    continue;
                }
                *budget -= 1;
                // What must arrive goes through the queue, in the commit of the subscription.
                match queue.as_ref().filter(|_| message.qos.min(asked.options.qos) > QoS::AtMostOnce) {
                    Some(queue) => {
                        self.batch.record(&[QueueTarget { queue: queue.id(), flags }], |out| encode_message(out, &message));
                    }
                    None => retained.push((message, flags)),
                }
            }
        }
        match asked.options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Sends the retained messages of a new subscription, behind its SUBACK.
    pub(super) fn send_retained(&mut self, session: Key, retained: Vec<(Arc<Message>, u8)>) {
        for (message, flags) in retained {
            let Some(resident) = self.sessions.get_mut(session) else { return };
            let granted = QoS::from_bits(flags & flags::QOS).unwrap_or_default();
            let waits = message.qos.min(granted) > QoS::AtMostOnce;
            let identifiers = resident.session.identifiers(&message.topic).collect();
            match &mut resident.outbox {
                Outbox::Memory(waiting) if waits && waiting.len() >= self.shared.limits.retained_per_subscribe_max => {
                    self.drop_delivery(session, &message, DropReason::QueueFull);
                }
                Outbox::Memory(waiting) if waits => waiting.push_back(Waiting { message, flags, identifiers }),
                _ => self.deliver_qos0(session, &message, flags, identifiers),
            }
        }
        self.pump(session);
    }

    /// Ends subscriptions that could not be stored.
    pub(super) fn take_back_subscriptions(&mut self, session: Key, filters: &[String]) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        for filter in filters {
            resident.session.subscriptions.remove(filter.as_str());
            self.shared.router.unsubscribe(filter, Address { worker: self.number, session });
        }
    }

    pub(super) fn on_unsubscribe(&mut self, key: Key, unsubscribe: &Unsubscribe) {
        let Some(connection) = self.connections.get(key) else { return };
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let reasons =
            unsubscribe.filters.iter().map(|filter| self.unsubscribe(&client, session, filter, &unsubscribe.properties)).collect();
        let ack = UnsubAck { packet_id: unsubscribe.packet_id, properties: Properties::default(), reasons };
        let durable = self.sessions.get(session).is_some_and(|resident| matches!(resident.outbox, Outbox::Durable { .. }));
        let behind_others = self.connections.get(key).is_some_and(|connection| connection.deferred > 0);
        if durable || behind_others {
            self.defer(Deferred::UnsubAck { connection: key, ack });
        } else {
            self.send_with(key, |out, version| ack.encode(out, version));
        }
    }

    fn unsubscribe(&mut self, client: &Client, session: Key, filter: &str, properties: &Properties) -> ReasonCode {
        let options = self.sessions.get(session).and_then(|resident| resident.session.subscriptions.get(filter)).map(|held| held.options);
        let about = About::Subscription { filter, options: options.unwrap_or_default(), properties };
        self.tell(HookPoint::ClientUnsubscribe, client, about);
        let Some(resident) = self.sessions.get_mut(session) else { return ReasonCode::UnspecifiedError };
        if resident.session.subscriptions.remove(filter).is_none() {
            return ReasonCode::NoSubscriptionExisted;
        }
        if let Outbox::Durable { queue, .. } = &resident.outbox {
            self.batch.delete_subscription(queue.id(), filter);
        }
        self.shared.router.unsubscribe(filter, Address { worker: self.number, session });
        self.tell(HookPoint::SessionUnsubscribed, client, about);
        ReasonCode::Success
    }
}
