//! Subscriptions: made, stored, ended; and the retained messages that a new one gets.

use std::sync::{Arc, Weak};

use hookline_mqtt::packet::{RetainHandling, SubAck, Subscribe, SubscribeFilter, SubscriptionOptions, UnsubAck, Unsubscribe};
use hookline_mqtt::topic::{self, Subscription};
use hookline_mqtt::{DecodeError, Properties, PropertyId, QoS, ReasonCode, Version};
use hookline_schemas::Client;
use hookline_schemas::access::Request;
use hookline_schemas::config::{Mqtt, RewriteAction};
use hookline_schemas::event::{About, Access, HookPoint};
use hookline_schemas::ports::NewSubscription;

use super::deferred::Deferred;
use super::retained::Scan;
use super::{Outbox, Worker};
use crate::metrics::Counters;
use crate::router::{Address, Subscriber, flags};
use crate::session::{Held, Session, encode_subscription};
use crate::slab::Key;

impl Worker {
    pub(super) fn on_subscribe(&mut self, key: Key, subscribe: Subscribe) -> Result<(), DecodeError> {
        let Some(connection) = self.connections.get(key) else { return Ok(()) };
        let (client, session, zone) = (Arc::clone(&connection.client), connection.session, Arc::clone(&connection.zone));
        let mut reasons = Vec::with_capacity(subscribe.filters.len());
        let mut scans = Vec::new();
        let mut added = Vec::new();
        for (index, mut asked) in subscribe.filters.into_iter().enumerate() {
            asked.filter = self.rewritten(&client, asked.filter);
            let is_own = matches!(Subscription::parse(&asked.filter), Some(Subscription::Own(_)));
            asked.options.no_local |= is_own && zone.limits.ignore_loop_deliver && client.version != Version::V5;
            let refused = if index >= zone.limits.filters_per_subscribe_max {
                Some(ReasonCode::QuotaExceeded)
            } else {
                self.check_filter(key, &client, &zone.limits, &mut asked, &subscribe.properties)?
            };
            let reason = match refused {
                Some(refused) => refused,
                None => {
                    let held = self.sessions.get(session).map(|resident| &resident.session.subscriptions);
                    let is_new = held.is_some_and(|held| !held.contains(&asked.filter));
                    let reason = self.subscribe(&client, session, &asked, &subscribe.properties, &mut scans);
                    if is_new && !reason.is_error() {
                        added.push(asked.filter);
                    }
                    reason
                }
            };
            reasons.push(reason);
        }
        Counters::add(&self.counters.subscribe_errors, u64::from(reasons.iter().any(|reason| reason.is_error())));
        Counters::add(&self.counters.subscribe_auth_errors, u64::from(reasons.contains(&ReasonCode::NotAuthorized)));
        let ack = SubAck { packet_id: subscribe.packet_id, properties: Properties::default(), reasons };
        let durable = self.sessions.get(session).is_some_and(|resident| matches!(resident.outbox, Outbox::Durable { .. }));
        let behind_others = self.connections.get(key).is_some_and(|connection| connection.deferred > 0);
        if durable || behind_others {
            self.defer(Deferred::SubAck { connection: key, ack, session, added, scans });
        } else {
            self.send_with(key, |out, version| ack.encode(out, version));
            self.start_scans(session, scans);
        }
        Ok(())
    }

    /// The filter in place of the one that a client names.
    pub(super) fn rewritten(&self, client: &Client, filter: String) -> String {
        match Subscription::parse(&filter) {
            Some(subscription) => {
                let inner = subscription.filter();
                let new = self.shared.rewrites.apply(RewriteAction::Subscribe, inner, client);
                if new == inner { filter.clone() } else { format!("{}{new}", &filter[..filter.len() - inner.len()]) }
            }
            None => filter,
        }
    }

    /// The refusal of a topic filter; an error where it ends the connection. Its options may be lowered to what is served.
    fn check_filter(
        &mut self,
        key: Key,
        client: &Client,
        limits: &Mqtt,
        asked: &mut SubscribeFilter,
        properties: &Properties,
    ) -> Result<Option<ReasonCode>, DecodeError> {
        if !topic::filter_is_valid(&asked.filter, limits.topic_levels_max) {
            return Ok(Some(ReasonCode::TopicFilterInvalid));
        }
        let Some(subscription) = Subscription::parse(&asked.filter) else { return Ok(Some(ReasonCode::TopicFilterInvalid)) };
        let refused = match subscription {
            Subscription::Shared { .. } if !limits.shared_subscriptions => Some(ReasonCode::SharedSubscriptionsNotSupported),
            // [MQTT-3.8.3-4] Before version 5 nobody can ask for it; the zone may have.
            Subscription::Shared { .. } if asked.options.no_local && client.version == Version::V5 => {
                return Err(DecodeError::protocol("no local on a shared subscription"));
            }
            Subscription::Exclusive(_) if !limits.exclusive_subscriptions => Some(ReasonCode::TopicFilterInvalid),
            _ if !limits.wildcard_subscriptions && topic::has_wildcard(subscription.filter()) => {
                Some(ReasonCode::WildcardSubscriptionsNotSupported)
            }
            _ => None,
        };
        if refused.is_some() {
            return Ok(refused);
        }
        asked.options.qos = asked.options.qos.min(QoS::from_bits(limits.qos_max).unwrap_or(QoS::ExactlyOnce));
        let now = self.now;
        let Some(connection) = self.connections.get_mut(key) else { return Ok(Some(ReasonCode::UnspecifiedError)) };
        let session = connection.session;
        if !connection.may_subscribe(now) {
            return Ok(Some(ReasonCode::QuotaExceeded));
        }
        let resident = self.sessions.get(session);
        if self.shared.store.is_full() && resident.is_some_and(|resident| matches!(resident.outbox, Outbox::Durable { .. })) {
            return Ok(Some(ReasonCode::QuotaExceeded));
        }
        let held = resident.map(|resident| &resident.session.subscriptions);
        if held.is_some_and(|held| held.len() >= limits.subscriptions_max && !held.contains(&asked.filter)) {
            return Ok(Some(ReasonCode::QuotaExceeded));
        }
        if self.shared.hooks.archive().is_some_and(|archive| archive.is_full()) {
            return Ok(Some(ReasonCode::QuotaExceeded));
        }
        let about = About::Subscription { filter: &asked.filter, options: asked.options, properties };
        let filter = subscription.filter();
        let request = Request { action: Access::Subscribe, topic: filter, qos: asked.options.qos, retain: false };
        Ok(self.authorize(key, client, &request).or_else(|| self.ask(HookPoint::ClientSubscribe, client, about)))
    }

    fn subscribe(
        &mut self,
        client: &Client,
        session: Key,
        asked: &SubscribeFilter,
        properties: &Properties,
        scans: &mut Vec<Scan>,
    ) -> ReasonCode {
        let held = Held { options: asked.options, identifier: properties.number(PropertyId::SubscriptionIdentifier).unwrap_or(0) };
        if let Err(reason) = self.enter_routes(session, &asked.filter, held) {
            return reason;
        }
        let Some(resident) = self.sessions.get_mut(session) else { return ReasonCode::UnspecifiedError };
        let is_new = resident.session.subscriptions.insert(&asked.filter, held);
        if let Outbox::Durable { queue, .. } = &resident.outbox {
            self.batch.put_subscription(queue.id(), &asked.filter, encode_subscription(held));
        }
        let filter = resident.session.routed(&asked.filter).into_owned();
        let is_shared = matches!(Subscription::parse(&asked.filter), Some(Subscription::Shared { .. }));
        let about = About::Subscription { filter: &asked.filter, options: asked.options, properties };
        self.tell(HookPoint::SessionSubscribed, client, about);
        self.publish_subscription_event(client, "subscribed", &asked.filter, Some(asked.options.qos as u8));
        let wants_retained = match asked.options.retain_handling {
            RetainHandling::Send => true,
            RetainHandling::SendIfNew => is_new,
            RetainHandling::DoNotSend => false,
        };
        if let Some(archive) = self.shared.hooks.archive().filter(|_| is_new && !is_shared) {
            archive.subscribed(&NewSubscription {
                client_id: &client.client_id,
                filter: &asked.filter,
                routed: &filter,
                qos: asked.options.qos,
                wants_retained,
            });
        }
        // Section 4.8.2: shared subscriptions get no retained messages.
        if wants_retained && !is_shared {
            let rap = if asked.options.retain_as_published { flags::RETAIN_AS_PUBLISHED } else { 0 };
            scans.push(Scan { filter: filter.into(), flags: asked.options.qos as u8 | rap | flags::RETAINED, from: None });
        }
        match asked.options.qos {
            QoS::AtMostOnce => ReasonCode::Success,
            QoS::AtLeastOnce => ReasonCode::GrantedQoS1,
            QoS::ExactlyOnce => ReasonCode::GrantedQoS2,
        }
    }

    /// Makes the router know a subscription.
    pub(super) fn enter_routes(&mut self, session: Key, filter: &str, held: Held) -> Result<(), ReasonCode> {
        let address = Address { worker: self.number, session };
        let Some(resident) = self.sessions.get_mut(session) else { return Err(ReasonCode::UnspecifiedError) };
        let queue = match &resident.outbox {
            Outbox::Durable { queue, .. } => Some(Arc::clone(queue)),
            Outbox::Memory(_) => None,
        };
        let (upgrade, is_durable) = (resident.zone.limits.upgrade_qos, queue.is_some());
        let subscriber = Subscriber { address, options: held.options, identifier: held.identifier, queue, upgrade };
        let routed = resident.session.routed(filter);
        let is_new = !resident.session.subscriptions.contains(filter);
        let count_new = |counter| Counters::add(counter, u64::from(is_new));
        match Subscription::parse(filter) {
            Some(Subscription::Shared { group, .. }) => {
                let member = self.shared.router.join(&routed, group, subscriber);
                let window = resident.connection.and_then(|key| self.connections.get(key)).map(|connection| connection.window);
                member.set_online(window);
                let memberships = resident.memberships.make();
                memberships.retain(|other| !Weak::ptr_eq(&other.group, &member.group));
                memberships.push(member);
                count_new(&self.counters.shared_subscribed);
            }
            Some(Subscription::Exclusive(_)) => {
                let mut exclusive = self.shared.exclusive.lock();
                if exclusive.get(&*routed).is_some_and(|holder| *holder != address) {
                    return Err(ReasonCode::QuotaExceeded);
                }
                exclusive.insert(routed.as_ref().into(), address);
                drop(exclusive);
                self.shared.router.subscribe(&routed, subscriber);
            }
            _ => self.shared.router.subscribe(&routed, subscriber),
        }
        count_new(&self.counters.subscribed);
        if is_durable {
            count_new(&self.counters.durable_subscribed);
        }
        Ok(())
    }

    /// Counts subscriptions of a session that have ended.
    pub(super) fn count_unsubscribed(&self, outbox: &Outbox, count: usize) {
        Counters::add(&self.counters.unsubscribed, count as u64);
        if matches!(outbox, Outbox::Durable { .. }) {
            Counters::add(&self.counters.durable_unsubscribed, count as u64);
        }
    }

    /// Makes the router forget a subscription.
    pub(super) fn leave_routes(&self, of: &Session, session: Key, filter: &str) {
        let address = Address { worker: self.number, session };
        let routed = of.routed(filter);
        match Subscription::parse(filter) {
            Some(Subscription::Shared { group, .. }) => {
                self.shared.router.leave(&routed, group, address);
                Counters::count(&self.counters.shared_unsubscribed);
            }
            Some(Subscription::Exclusive(_)) => {
                let mut exclusive = self.shared.exclusive.lock();
                if exclusive.get(&*routed) == Some(&address) {
                    exclusive.remove(&*routed);
                }
                self.shared.router.unsubscribe(&routed, address);
            }
            _ => self.shared.router.unsubscribe(&routed, address),
        }
    }

    /// Makes the subscriptions that every client gets, and those that were found for this one.
    pub(super) fn subscribe_for(&mut self, client: &Client, session: Key) {
        let shared = Arc::clone(&self.shared);
        let mut scans = Vec::new();
        let connection = self.sessions.get(session).and_then(|resident| self.connections.get(resident.connection?));
        let own = connection.and_then(|connection| connection.terms.get()).map(|terms| terms.subscriptions.clone()).unwrap_or_default();
        for auto in shared.auto_subscribe.iter().chain(&own) {
            let Some(filter) = fill_filter(&auto.topic, client) else { continue };
            let options = SubscriptionOptions {
                qos: QoS::from_bits(auto.qos).unwrap_or_default(),
                no_local: auto.no_local,
                retain_as_published: auto.retain_as_published,
                retain_handling: match auto.retain_handling {
                    0 => RetainHandling::Send,
                    1 => RetainHandling::SendIfNew,
                    _ => RetainHandling::DoNotSend,
                },
            };
            let asked = SubscribeFilter { filter, options };
            let reason = self.subscribe(client, session, &asked, &Properties::default(), &mut scans);
            if reason.is_error() {
                tracing::warn!(client = %client.client_id, filter = asked.filter, reason = reason.name(), "the broker could not subscribe it");
            }
        }
        self.start_scans(session, scans);
    }

    /// Ends subscriptions that could not be stored.
    pub(super) fn take_back_subscriptions(&mut self, session: Key, filters: &[String]) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        for filter in filters {
            resident.session.subscriptions.remove(filter);
        }
        let Some(resident) = self.sessions.get(session) else { return };
        for filter in filters {
            self.leave_routes(&resident.session, session, filter);
        }
        self.count_unsubscribed(&resident.outbox, filters.len());
    }

    pub(super) fn on_unsubscribe(&mut self, key: Key, unsubscribe: &Unsubscribe) {
        let Some(connection) = self.connections.get(key) else { return };
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let reasons =
            unsubscribe.filters.iter().map(|filter| self.unsubscribe(&client, session, filter.clone(), &unsubscribe.properties)).collect();
        let ack = UnsubAck { packet_id: unsubscribe.packet_id, properties: Properties::default(), reasons };
        let durable = self.sessions.get(session).is_some_and(|resident| matches!(resident.outbox, Outbox::Durable { .. }));
        let behind_others = self.connections.get(key).is_some_and(|connection| connection.deferred > 0);
        if durable || behind_others {
            self.defer(Deferred::UnsubAck { connection: key, ack });
        } else {
            self.send_with(key, |out, version| ack.encode(out, version));
        }
    }

    fn unsubscribe(&mut self, client: &Client, session: Key, filter: String, properties: &Properties) -> ReasonCode {
        let filter = self.rewritten(client, filter);
        self.unsubscribe_as_held(client, session, &filter, properties)
    }

    /// Ends a subscription, by the filter that the session has.
    pub(super) fn unsubscribe_as_held(&mut self, client: &Client, session: Key, filter: &str, properties: &Properties) -> ReasonCode {
        let options = self.sessions.get(session).and_then(|resident| resident.session.subscriptions.get(filter)).map(|held| held.options);
        let about = About::Subscription { filter, options: options.unwrap_or_default(), properties };
        self.tell(HookPoint::ClientUnsubscribe, client, about);
        let Some(resident) = self.sessions.get_mut(session) else { return ReasonCode::UnspecifiedError };
        if !resident.session.subscriptions.remove(filter) {
            return ReasonCode::NoSubscriptionExisted;
        }
        if let Outbox::Durable { queue, .. } = &resident.outbox {
            self.batch.delete_subscription(queue.id(), filter);
        }
        let Some(resident) = self.sessions.get(session) else { return ReasonCode::UnspecifiedError };
        self.leave_routes(&resident.session, session, filter);
        if let Some(memberships) = self.sessions.get_mut(session).and_then(|resident| resident.memberships.get_mut()) {
            // Of a group that has ended with this member nothing is left to upgrade; others are told apart by their own.
            memberships.retain(|member| member.is_in(Address { worker: self.number, session }));
        }
        if let Some(resident) = self.sessions.get(session) {
            self.count_unsubscribed(&resident.outbox, 1);
        }
        self.tell(HookPoint::SessionUnsubscribed, client, about);
        self.publish_subscription_event(client, "unsubscribed", filter, None);
        ReasonCode::Success
    }
}

/// The filter for one client; `None` where it asks for something that the client does not have, or would become invalid.
pub(super) fn fill_filter(template: &str, client: &Client) -> Option<String> {
    let (host, port) = (client.peer.ip().to_string(), client.peer.port().to_string());
    let values = [
        ("${clientid}", Some(&*client.client_id)),
        ("${username}", client.username.as_deref()),
        ("${host}", Some(&*host)),
        ("${port}", Some(&*port)),
    ];
    let mut filter = template.to_owned();
    for (place, value) in values.iter().filter(|(place, _)| template.contains(place)) {
        // A name with wildcards or levels would widen the filter.
        let value = value.filter(|value| !value.contains(['+', '#', '/']))?;
        filter = filter.replace(place, value);
    }
    topic::filter_is_valid(&filter, usize::MAX).then_some(filter)
}
