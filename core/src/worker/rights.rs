//! What clients may do: asked for each message and subscription, renewed while they are connected, ended with their proof.

use std::sync::Arc;
use std::time::Duration;

use hookline_mqtt::packet::Packet;
use hookline_mqtt::topic::Subscription;
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode};
use hookline_schemas::Client;
use hookline_schemas::access::{Decision, Request, Rights};
use hookline_schemas::event::{About, Access, HookPoint};

use super::timers::Due;
use super::{Worker, delayed};
use crate::metrics::Counters;
use crate::renewal::{Asked, Renewal};
use crate::slab::Key;

/// When to ask again where too many questions wait.
const LATER: Duration = Duration::from_secs(1);

impl Worker {
    /// Asks hooks and the client's rights whether it may do that, and tells hooks what came of it: the reason, where it may not.
    pub(super) fn authorize(&mut self, key: Key, client: &Client, request: &Request<'_>) -> Option<ReasonCode> {
        let (action, topic) = (request.action, request.topic);
        let refused = self.ask(HookPoint::ClientAuthorize, client, About::Access { action, topic });
        let rights = self.connections.get(key).and_then(|connection| connection.rights.clone());
        let (decision, source) = match (refused, &rights) {
            (Some(_), _) => (Decision::Deny, "hook"),
            (None, Some(rights)) => rights.decide(request),
            (None, None) => (Decision::Allow, "default"),
        };
        let is_allowed = decision == Decision::Allow;
        Counters::count(if is_allowed { &self.counters.allowed } else { &self.counters.denied });
        self.tell(HookPoint::ClientDecided, client, About::Decided { action, topic, is_allowed, source });
        if decision == Decision::Disconnect {
            self.close(key, ReasonCode::NotAuthorized, "not_authorized");
        }
        refused.or_else(|| (!is_allowed).then_some(ReasonCode::NotAuthorized))
    }

    /// Whether a packet has to wait until somebody has decided what is in it. Then that is asked, and the connection held back.
    pub(super) fn waits_for_decision(&mut self, key: Key, packet: &Packet<'_>) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let Some(rights) = connection.rights.clone() else { return false };
        let undecided = |request: Request<'_>| {
            let asked = || Asked { action: request.action, topic: request.topic.to_owned(), qos: request.qos, retain: request.retain };
            (!rights.is_decided(&request)).then(asked)
        };
        let request = match packet {
            Packet::Publish(publish) => {
                let alias = publish.properties.number(PropertyId::TopicAlias).and_then(|alias| u16::try_from(alias).ok());
                let known = alias.filter(|_| publish.topic.is_empty()).and_then(|alias| connection.aliases.get(&alias));
                let name = known.map_or(publish.topic, |known| known);
                let name = if self.shared.delayed.enable { delayed::split(name).1 } else { name };
                undecided(Request { action: Access::Publish, topic: name, qos: publish.qos, retain: publish.retain })
            }
            Packet::Subscribe(subscribe) => subscribe.filters.iter().find_map(|asked| {
                let filter = self.rewritten(&connection.client, asked.filter.clone());
                let topic = Subscription::parse(&filter)?.filter();
                undecided(Request { action: Access::Subscribe, topic, qos: asked.options.qos, retain: false })
            }),
            _ => None,
        };
        let Some(asked) = request else { return false };
        let client = Arc::clone(&connection.client);
        self.hold_back(key);
        let question = Renewal { worker: self.number, connection: key, client, rights, request: Some(asked) };
        if self.shared.renewals.try_send(question).is_err() {
            self.timers.set(self.now + LATER, Due::Resume(key));
        }
        true
    }

    /// Sets the timers of what a connection may do, and for how long.
    pub(super) fn watch_rights(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(secs) = connection.rights.as_ref().map(|rights| rights.valid_secs()).filter(|secs| *secs > 0) {
            // Clients that came together are not asked about together again.
            let jitter_ms = self.next_random() % 1000;
            self.timers.set(self.now + Duration::from_secs(secs.into()) + Duration::from_millis(jitter_ms), Due::Rights(key));
        }
        if let Some(at_ms) = self.connections.get(key).and_then(|connection| connection.expires_at_ms) {
            self.timers.set(self.now + Duration::from_millis(at_ms.saturating_sub(self.now_ms)), Due::Expiry(key));
        }
    }

    /// The proof of a client has run out.
    pub(super) fn end_expired(&mut self, key: Key) {
        let Some(at_ms) = self.connections.get(key).and_then(|connection| connection.expires_at_ms) else { return };
        let left_ms = at_ms.saturating_sub(crate::clock::now_ms());
        if left_ms > 0 {
            // The wall clock was set, or the timer came a little early.
            return self.timers.set(self.now + Duration::from_millis(left_ms), Due::Expiry(key));
        }
        self.close(key, ReasonCode::NotAuthorized, "expired");
    }

    /// Has the rights of a connection asked for anew.
    pub(super) fn renew_rights(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        let Some(rights) = connection.rights.clone() else { return };
        let question = Renewal { worker: self.number, connection: key, client: Arc::clone(&connection.client), rights, request: None };
        if self.shared.renewals.try_send(question).is_err() {
            self.timers.set(self.now + LATER, Due::Rights(key));
        }
    }

    /// Has the rights of all connections asked for anew.
    pub(super) fn renew_all_rights(&mut self) {
        self.connections.keys().into_iter().for_each(|key| self.renew_rights(key));
    }

    /// Takes over what a client may do from now on: what it subscribes to and may not any more ends.
    pub(super) fn set_rights(&mut self, key: Key, rights: Arc<dyn Rights>) {
        let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.ending.is_none()) else { return };
        connection.rights = Some(rights);
        self.watch_rights(key);
        self.end_forbidden_subscriptions(key);
    }

    /// Ends what a session subscribes to and its client may not.
    pub(super) fn end_forbidden_subscriptions(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let Some((rights, resident)) = connection.rights.clone().zip(self.sessions.get(session)) else { return };
        let is_forbidden = |filter: &str, qos| {
            let topic = Subscription::parse(filter).map_or(filter, Subscription::filter);
            let request = Request { action: Access::Subscribe, topic, qos, retain: false };
            rights.is_decided(&request) && rights.decide(&request).0 != Decision::Allow
        };
        let held = resident.session.subscriptions.iter();
        let forbidden: Vec<String> =
            held.filter(|(filter, held)| is_forbidden(filter, held.options.qos)).map(|(filter, _)| filter.to_string()).collect();
        if let Some(connection) = self.connections.get_mut(key).filter(|_| !forbidden.is_empty()) {
            connection.checks_deliveries = true;
        }
        for filter in forbidden {
            tracing::info!(client = %client.client_id, filter, "the client may not subscribe to this any more");
            self.unsubscribe_as_held(&client, session, &filter, &Properties::default());
        }
    }

    /// Whether a message that waits may not go to its client any more.
    pub(super) fn is_withheld(&self, key: Key, topic: &str) -> bool {
        let Some(connection) = self.connections.get(key).filter(|connection| connection.checks_deliveries) else { return false };
        let topic = topic.strip_prefix(&*connection.client.mountpoint).unwrap_or(topic);
        let request = Request { action: Access::Subscribe, topic, qos: QoS::AtMostOnce, retain: false };
        connection.rights.as_ref().is_some_and(|rights| rights.is_decided(&request) && rights.decide(&request).0 != Decision::Allow)
    }
}
