//! What clients may do: asked for each message and subscription, renewed while they are connected, ended with their proof.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_mqtt::packet::Packet;
use hookline_mqtt::topic::{self, Subscription};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode};
use hookline_schemas::Client;
use hookline_schemas::access::{Decision, Request, Rights};
use hookline_schemas::event::{About, Access, HookPoint};

use super::subscribe::fill_filter;
use super::timers::Due;
use super::{Worker, delayed};
use crate::metrics::Counters;
use crate::renewal::{Asked, Renewal, Wanted};
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
        let asks_each = |rights: &Arc<dyn Rights>| rights.asks_each();
        let Some(connection) = self.connections.get_mut(key).filter(|one| one.rights.as_ref().is_some_and(asks_each)) else { return false };
        if std::mem::take(&mut connection.is_decided) {
            // What nobody has answered is refused; it is not asked for ever.
            return false;
        }
        let Some(connection) = self.connections.get(key) else { return false };
        let Some(rights) = &connection.rights else { return false };
        let undecided = |request: Request<'_>| (!rights.is_decided(&request)).then(|| Asked::new(&request));
        let requests: Vec<Asked> = match packet {
            Packet::Publish(publish) => {
                let alias = publish.properties.number(PropertyId::TopicAlias).and_then(|alias| u16::try_from(alias).ok());
                let known = alias.filter(|_| publish.topic.is_empty()).and_then(|alias| connection.aliases.get()?.get(&alias));
                let name = known.map_or(publish.topic, |known| known);
                let name = if self.shared.delayed.enable { delayed::split(name).1 } else { name };
                undecided(Request { action: Access::Publish, topic: name, qos: publish.qos, retain: publish.retain }).into_iter().collect()
            }
            Packet::Subscribe(subscribe) => {
                let qos_max = connection.zone.limits.qos_max;
                let each = subscribe.filters.iter().filter_map(|asked| {
                    let filter = self.rewritten(&connection.client, asked.filter.clone());
                    let topic = Subscription::parse(&filter)?.filter();
                    let qos = asked.options.qos.min(QoS::from_bits(qos_max).unwrap_or(QoS::ExactlyOnce));
                    undecided(Request { action: Access::Subscribe, topic, qos, retain: false })
                });
                each.collect()
            }
            _ => return false,
        };
        if requests.is_empty() {
            return false;
        }
        let (client, rights) = (Arc::clone(&connection.client), Arc::clone(rights));
        self.hold_back(key);
        let question = Renewal { worker: self.number, connection: key, client, wanted: Wanted::Decisions { rights, requests } };
        if self.shared.renewals.try_send(question).is_err() {
            self.timers.set(self.now + LATER, Due::Resume(key));
        }
        true
    }

    /// Goes on with the packet that waited for its decision. Where the rights are others by now, those are asked.
    pub(super) fn go_on_decided(&mut self, key: Key, rights: &Arc<dyn Rights>) {
        if let Some(connection) = self.connections.get_mut(key) {
            connection.is_decided = connection.rights.as_ref().is_some_and(|now| Arc::ptr_eq(now, rights));
        }
        self.resume_reading(key);
    }

    /// Sets the timer of what a connection may do.
    pub(super) fn watch_rights(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        if let Some(secs) = connection.rights.as_ref().map(|rights| rights.valid_secs()).filter(|secs| *secs > 0) {
            // Clients that came together are not asked about together again.
            let jitter_ms = self.next_random() % 1000;
            self.renew_rights_at(key, self.now + Duration::from_secs(secs.into()) + Duration::from_millis(jitter_ms));
        }
        // They were asked for while something changed. Where they cannot be had now, it is not tried again at once.
        if self.connections.get(key).and_then(|connection| connection.rights.as_ref()).is_some_and(|rights| !rights.is_current()) {
            self.renew_rights_at(key, self.now + LATER);
        }
    }

    /// Sets the timer of how long the client's proof holds.
    pub(super) fn watch_expiry(&mut self, key: Key) {
        if let Some(at_ms) = self.connections.get(key).and_then(|connection| connection.terms.get()?.expires_at_ms) {
            self.timers.set(self.now + Duration::from_millis(at_ms.saturating_sub(self.now_ms)), Due::Expiry(key));
        }
    }

    /// The proof of a client has run out.
    pub(super) fn end_expired(&mut self, key: Key) {
        let Some(at_ms) = self.connections.get(key).and_then(|connection| connection.terms.get()?.expires_at_ms) else { return };
        let left_ms = at_ms.saturating_sub(crate::clock::now_ms());
        if left_ms > 0 {
            // The wall clock was set, or the timer came a little early.
            return self.timers.set(self.now + Duration::from_millis(left_ms), Due::Expiry(key));
        }
        self.close(key, ReasonCode::NotAuthorized, "expired");
    }

    fn renew_rights_at(&mut self, key: Key, at: Instant) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let terms = connection.terms.make();
        terms.rights_due = Some(at);
        if terms.rights_timer.is_none_or(|timer| at < timer) {
            terms.rights_timer = Some(at);
            self.timers.set(at, Due::Rights(key));
        }
    }

    /// The timer of a connection's rights: has them asked for anew, unless that has been put off.
    pub(super) fn renew_due_rights(&mut self, key: Key) {
        let Some(terms) = self.connections.get_mut(key).and_then(|connection| connection.terms.get_mut()) else { return };
        if terms.rights_timer.is_none_or(|timer| self.now < timer) {
            // An earlier one came before it.
            return;
        }
        terms.rights_timer = None;
        match terms.rights_due {
            Some(due) if self.now < due => self.renew_rights_at(key, due),
            _ => self.renew_rights(key),
        }
    }

    /// Has the rights of a connection asked for anew.
    pub(super) fn renew_rights(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.is_superuser {
            return;
        }
        let (worker, client, rights) = (self.number, Arc::clone(&connection.client), connection.rights.clone());
        let renewals = self.shared.renewals.clone();
        let Ok(place) = renewals.try_reserve() else { return self.renew_rights_at(key, self.now + LATER) };
        let held = self.held(key).into_iter().map(|(_, asked)| asked).collect();
        place.send(Renewal { worker, connection: key, client, wanted: Wanted::Anew { rights, held } });
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

    /// What a client subscribes to, and what it had to be allowed for that. What every client gets was not asked for.
    fn held(&self, key: Key) -> Vec<(String, Asked)> {
        let Some(connection) = self.connections.get(key) else { return Vec::new() };
        let Some(resident) = self.sessions.get(connection.session) else { return Vec::new() };
        let auto = self
            .shared
            .auto_subscribe
            .iter()
            .chain(connection.terms.get().map(|terms| &terms.subscriptions).into_iter().flatten())
            .filter_map(|auto| fill_filter(&auto.topic, &connection.client));
        let auto: Vec<String> = auto.collect();
        let held = resident.session.subscriptions.iter().filter(|(filter, _)| auto.iter().all(|auto| auto != filter));
        let held = held.map(|(filter, held)| {
            let topic = Subscription::parse(filter).map_or(filter, Subscription::filter);
            let request = Request { action: Access::Subscribe, topic, qos: held.options.qos, retain: false };
            (filter.to_owned(), Asked::new(&request))
        });
        held.collect()
    }

    /// Ends what a session has kept and its client may not have any more; where nobody knows that yet, it is asked.
    pub(super) fn end_forbidden_of_before(&mut self, key: Key) {
        if self.end_forbidden_subscriptions(key) {
            self.renew_rights(key);
        }
    }

    /// Ends what a session subscribes to and its client may not. Whether of some that is not known yet.
    fn end_forbidden_subscriptions(&mut self, key: Key) -> bool {
        let Some(connection) = self.connections.get(key) else { return false };
        let (client, session) = (Arc::clone(&connection.client), connection.session);
        let Some(rights) = connection.rights.clone() else { return false };
        let (known, unknown): (Vec<_>, Vec<_>) = self.held(key).into_iter().partition(|(_, asked)| rights.is_decided(&asked.request()));
        for (filter, _) in known.into_iter().filter(|(_, asked)| rights.decide(&asked.request()).0 != Decision::Allow) {
            tracing::info!(client = %client.client_id, filter, "the client may not subscribe to this any more");
            self.unsubscribe_as_held(&client, session, &filter, &Properties::default());
            if let Some(resident) = self.sessions.get_mut(session) {
                resident.checks_deliveries = true;
            }
        }
        !unknown.is_empty()
    }

    /// Whether a message that waits may not go to its client any more: the subscription that brought it has been taken away, and no other would.
    pub(super) fn is_withheld(&self, session: Key, topic: &str) -> bool {
        let Some(resident) = self.sessions.get(session).filter(|resident| resident.checks_deliveries) else { return false };
        !resident.session.subscriptions.filters().any(|filter| topic::matches(&resident.session.routed(filter), topic))
    }
}
