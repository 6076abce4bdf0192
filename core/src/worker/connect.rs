//! Clients that arrive: takeover, sessions made and resumed, the CONNACK.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hookline_mqtt::packet::{ConnAck, Will};
use hookline_mqtt::{Properties, PropertyId, ReasonCode, Version};
use hookline_schemas::Client;
use hookline_schemas::config::{Mqtt, WhenFull};
use hookline_schemas::event::{About, HookPoint};
use rustix::event::epoll::EventFlags;

use super::connection::{Connection, End};
use super::deferred::Deferred;
use super::publish::Admission;
use super::timers::Due;
use super::{Outbox, Resident, Takeovers, Worker};
use crate::clock;
use crate::mailbox::NewConnection;
use crate::metrics::Counters;
use crate::seldom::Seldom;
use crate::session::{Inflight, Mqueue, Session, StoredState};
use crate::slab::Key;
use crate::store::{Bounds, Queue};
use crate::zone::Zone;

impl Worker {
    /// A client has said CONNECT, and may come in.
    pub(super) fn arrive(&mut self, mut new: NewConnection) {
        drop(self.take_outcome(&mut new.outcome, Admission::Open));
        self.counters.count_received(0x10);
        let client = Arc::clone(&new.client);
        // It may have been banned while it logged in.
        if self.shared.bans.has(&client) {
            return self.refuse_arrival(new, ReasonCode::Banned);
        }
        if !self.may_take_over(&client.client_id, &new.zone.limits) {
            return self.refuse_arrival(new, ReasonCode::ConnectionRateExceeded);
        }
        if let Err(error) = self.awaken(&client.client_id) {
            tracing::error!(client = %client.client_id, %error, "a stored session cannot be read; its client is refused");
            return self.refuse_arrival(new, ReasonCode::ServerUnavailable);
        }
        let is_new = self.session_of(&client.client_id).is_none();
        if is_new && self.shared.sessions.load(Ordering::Relaxed) >= new.zone.limits.sessions_max {
            return self.refuse_arrival(new, ReasonCode::QuotaExceeded);
        }
        // A new durable session needs room; one that goes on works off what waits.
        if is_new && new.client.session_expiry_secs > 0 && self.shared.store.is_full() {
            return self.refuse_arrival(new, ReasonCode::QuotaExceeded);
        }
        let older = self.session_of(&client.client_id).and_then(|session| self.sessions.get_mut(session));
        let takeovers = older.map(|resident| std::mem::take(&mut resident.takeovers)).unwrap_or_default();
        self.end_older_connection(&client.client_id, new.connect.clean_start);
        let kept = self.session_of(&client.client_id);
        let (session, session_present) = match kept {
            Some(session) if !new.connect.clean_start && self.has_same_mountpoint(session, &client) => {
                self.resume(session, &new);
                (session, true)
            }
            Some(session) => {
                Counters::count(&self.counters.sessions_discarded);
                self.tell(HookPoint::SessionDiscarded, &client, About::Client);
                // Section 3.1.2.5: a delayed will is due when the session ends.
                self.publish_will(session);
                self.forget_session(session);
                (self.create(&new), false)
            }
            None => (self.create(&new), false),
        };
        let ack = ConnAck { session_present, reason: ReasonCode::Success, properties: self.connack_properties(&new) };
        let now = self.now;
        let key = self.connections.insert_with(|_| Connection::new(new, session, now));
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.takeovers = takeovers;
        resident.arriving = Some(key);
        // A session that is to survive is stored before its client hears of it.
        if matches!(resident.outbox, Outbox::Durable { .. }) {
            self.defer(Deferred::ConnAck { connection: key, session, ack });
        } else {
            self.let_in(key, session, ack);
        }
    }

    /// What a session subscribes to is bound to its mountpoint: with another one it cannot go on.
    fn has_same_mountpoint(&self, session: Key, client: &Client) -> bool {
        self.sessions.get(session).is_some_and(|resident| resident.session.client.mountpoint == client.mountpoint)
    }

    /// Whether a client may take over its session once more in this second: two clients of one name would do it for ever.
    fn may_take_over(&mut self, client_id: &str, limits: &Mqtt) -> bool {
        let now = self.now;
        let Some(resident) = self.session_of(client_id).and_then(|session| self.sessions.get_mut(session)) else { return true };
        if resident.connection.is_none() && resident.arriving.is_none() || limits.takeovers_per_sec == 0 {
            return true;
        }
        let takeovers = resident.takeovers.make();
        if takeovers.began.is_none_or(|began| now.saturating_duration_since(began) >= Duration::from_secs(1)) {
            *takeovers = Takeovers { began: Some(now), count: 0 };
        }
        takeovers.count += 1;
        takeovers.count <= limits.takeovers_per_sec
    }

    /// Refuses a client that has no session here.
    fn refuse_arrival(&mut self, new: NewConnection, reason: ReasonCode) {
        let (now, nowhere) = (self.now, Key { index: u32::MAX, generation: u32::MAX });
        let key = self.connections.insert_with(|_| Connection::new(new, nowhere, now));
        self.turn_away(key, reason);
    }

    /// Takes over from the connection that the client had, if any. [MQTT-3.1.4-3]
    fn end_older_connection(&mut self, client_id: &str, clean_start: bool) {
        let Some(session) = self.session_of(client_id) else { return };
        let Some(resident) = self.sessions.get(session) else { return };
        let Some(older) = resident.connection.or(resident.arriving) else { return };
        let client = Arc::clone(&resident.session.client);
        let reason = if clean_start { "discarded" } else { "takenover" };
        if !clean_start {
            Counters::count(&self.counters.sessions_taken_over);
            self.tell(HookPoint::SessionTakenOver, &client, About::Client);
        }
        self.close(older, ReasonCode::SessionTakenOver, reason);
    }

    fn create(&mut self, new: &NewConnection) -> Key {
        let client = &new.client;
        let outbox = if client.session_expiry_secs > 0 {
            let queue = self.shared.store.new_queue(&mut self.batch, crate::store::QueueKind::Session, &client.client_id);
            govern(&queue, &new.zone);
            let state = StoredState {
                queue: queue.id(),
                created_at_ms: clock::now_ms(),
                disconnected_at_ms: 0,
                expiry_secs: client.session_expiry_secs,
            };
            self.batch.put_session(&client.client_id, state.encode(client, mounted_will(new).as_ref()));
            Outbox::Durable { queue, state: Box::new(state), ahead: Seldom::default(), cache: Seldom::default(), maybe_sent_below: 0 }
        } else {
            Outbox::Memory(Mqueue::default())
        };
        let mut session = Session::new(Arc::clone(client));
        if new.zone.ranking > 0 && matches!(outbox, Outbox::Durable { .. }) {
            session.inflight = Inflight::by_rank(Vec::new());
        }
        let resident = Resident {
            session,
            connection: None,
            arriving: None,
            outbox,
            zone: Arc::clone(&new.zone),
            memberships: Seldom::default(),
            scans: Seldom::default(),
            checks_deliveries: false,
            takeovers: Seldom::default(),
            will: mounted_will(new).map(Box::new),
            away: Seldom::default(),
        };
        let key = self.sessions.insert_with(|_| resident);
        self.by_client.insert(&self.sessions, key);
        Counters::count(&self.counters.sessions_created);
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        self.tell(HookPoint::SessionCreated, client, About::Client);
        key
    }

    fn resume(&mut self, session: Key, new: &NewConnection) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        Counters::count(&self.counters.sessions_resumed);
        resident.session.client = Arc::clone(&new.client);
        let changes_routes = resident.zone.limits.upgrade_qos != new.zone.limits.upgrade_qos;
        resident.zone = Arc::clone(&new.zone);
        let now_ms = clock::now_ms();
        // The time away does not count.
        resident.session.received.get_mut().into_iter().flatten().for_each(|(_, since)| *since = now_ms);
        resident.will = mounted_will(new).map(Box::new);
        resident.away.clear();
        if let Outbox::Durable { state, queue, ahead, maybe_sent_below, .. } = &mut resident.outbox {
            // [MQTT-4.4.0-1] What was on its way is sent again: the window begins anew at the first message that is not settled.
            // The packet identifiers follow from the queue, so they are the original ones.
            if new.zone.ranking > 0 || queue.is_ranked() {
                resident.session.inflight = resident.session.inflight.resumed_by_rank(queue.released());
            } else {
                *maybe_sent_below = (*maybe_sent_below).max(resident.session.inflight.behind_all());
                resident.session.inflight = Inflight::starting_at(queue.front());
            }
            ahead.clear();
            state.disconnected_at_ms = 0;
            state.expiry_secs = new.client.session_expiry_secs;
            govern(queue, &new.zone);
            self.batch.put_session(&new.client.client_id, state.encode(&new.client, resident.will.as_deref()));
        }
        if changes_routes {
            self.enter_all_routes(session);
        }
        self.tell(HookPoint::SessionResumed, &new.client, About::Client);
    }

    /// Makes the router know all subscriptions of a session (anew).
    fn enter_all_routes(&mut self, session: Key) {
        let held: Vec<_> = match self.sessions.get(session) {
            Some(resident) => resident.session.subscriptions.iter().map(|(filter, held)| (Box::<str>::from(filter), held)).collect(),
            None => return,
        };
        for (filter, held) in held {
            // An exclusive one was its before, so it is free.
            let _granted = self.enter_routes(session, &filter, held);
        }
    }

    /// What the broker tells an MQTT 5 client about itself.
    fn connack_properties(&self, new: &NewConnection) -> Properties {
        let limits = &new.zone.limits;
        let mut properties = Properties::default();
        if new.client.version != Version::V5 {
            return properties;
        }
        let asked = |id| new.connect.properties.number(id);
        if asked(PropertyId::SessionExpiryInterval).unwrap_or(0) != new.client.session_expiry_secs {
            properties.push_number(PropertyId::SessionExpiryInterval, new.client.session_expiry_secs);
        }
        properties.push_number(PropertyId::ReceiveMaximum, limits.awaiting_rel_max.into());
        properties.push_number(PropertyId::MaximumPacketSize, limits.packet_bytes_max as u32);
        properties.push_number(PropertyId::TopicAliasMaximum, limits.topic_alias_max.into());
        if limits.qos_max < 2 {
            properties.push_number(PropertyId::MaximumQoS, limits.qos_max.into());
        }
        // Where nothing is said, it is there.
        let available = [
            (PropertyId::RetainAvailable, limits.retain_available),
            (PropertyId::WildcardSubscriptionAvailable, limits.wildcard_subscriptions),
            (PropertyId::SharedSubscriptionAvailable, limits.shared_subscriptions),
        ];
        for (id, _) in available.iter().filter(|(_, available)| !available) {
            properties.push_number(*id, 0);
        }
        if limits.server_keep_alive_secs > 0 {
            properties.push_number(PropertyId::ServerKeepAlive, limits.server_keep_alive_secs.into());
        }
        if asked(PropertyId::RequestResponseInformation) == Some(1) && !limits.response_information.is_empty() {
            properties.push_text(PropertyId::ResponseInformation, &limits.response_information);
        }
        // [MQTT-4.12.0-5]
        if let (Some(proof), Some(method)) = (&new.proof, new.connect.properties.text(PropertyId::AuthenticationMethod)) {
            properties.push_text(PropertyId::AuthenticationMethod, method);
            properties.push_binary(PropertyId::AuthenticationData, &proof.data);
        }
        // [MQTT-3.1.3-6] The identifier that the broker has chosen, also where it chose another than the client's.
        if new.assigned || *new.client.client_id != *new.connect.client_id {
            properties.push_text(PropertyId::AssignedClientIdentifier, &new.client.client_id);
        }
        properties
    }

    /// Sends the CONNACK and begins to serve.
    pub(super) fn let_in(&mut self, key: Key, session: Key, ack: ConnAck) {
        let Some(resident) = self.sessions.get_mut(session).filter(|resident| resident.arriving == Some(key)) else { return };
        resident.arriving = None;
        resident.connection = Some(key);
        Counters::count(&self.counters.connected);
        self.send_with(key, |out, version| ack.encode(out, version));
        let Some(connection) = self.connections.get(key) else { return };
        let client = Arc::clone(&connection.client);
        let window = connection.window;
        if self.watch(connection, key, EventFlags::IN).is_err() {
            return self.end(key, End::abnormal("internal_error"));
        }
        self.tell(HookPoint::ClientConnack, &client, About::Answer(ReasonCode::Success));
        self.tell(HookPoint::ClientConnected, &client, About::Client);
        self.set_presence(session, Some(window));
        self.publish_client_event(&client, "connected", None);
        if let Some(limit) = self.keep_alive_limit(key) {
            self.timers.set(self.now + limit, Due::KeepAlive(key));
        }
        self.start_retries(key);
        self.watch_rights(key);
        self.watch_expiry(key);
        self.end_forbidden_of_before(key);
        self.subscribe_for(&client, session);
        self.pump(session);
        self.handle_early_input(key);
    }

    /// Answers a CONNECT that could not be kept.
    pub(super) fn turn_away(&mut self, key: Key, reason: ReasonCode) {
        let ack = ConnAck { session_present: false, reason, properties: Properties::default() };
        self.counters.count_connack_error(reason);
        self.send_with(key, |out, version| ack.encode(out, version));
        if let Some(connection) = self.connections.get(key) {
            let client = Arc::clone(&connection.client);
            self.tell(HookPoint::ClientConnack, &client, About::Answer(reason));
        }
        self.end(key, End { graceful: true, by_broker: true, ..End::abnormal(reason.name()) });
    }

    /// Tells publishers whether a session is there, and what it can take.
    pub(super) fn set_presence(&mut self, session: Key, window: Option<u16>) {
        let Some(resident) = self.sessions.get(session) else { return };
        if let Outbox::Durable { queue, .. } = &resident.outbox {
            queue.set_keeps_qos0(window.is_none() && resident.zone.limits.mqueue_store_qos0);
        }
        resident.memberships.get().into_iter().flatten().for_each(|member| member.set_online(window));
    }

    /// How long a client may be silent.
    pub(super) fn keep_alive_limit(&self, key: Key) -> Option<Duration> {
        let connection = self.connections.get(key)?;
        let secs = connection.client.keep_alive_secs;
        (secs > 0).then(|| Duration::from_secs(secs.into()).mul_f64(connection.zone.limits.keep_alive_multiplier))
    }
}

/// Makes the limits and priorities of a zone those of a session's queue.
pub(super) fn govern(queue: &Queue, zone: &Zone) {
    let Mqtt { durable_queue_max: records_max, durable_queue_bytes_max: bytes_max, .. } = zone.limits;
    queue.set_bounds(Bounds { records_max, bytes_max, when_full: WhenFull::Refuse });
    queue.set_ranking(zone.ranking);
}

/// The will of a client, with its topic as the router knows it.
fn mounted_will(new: &NewConnection) -> Option<Will> {
    let will = new.connect.will.clone()?;
    Some(Will { topic: format!("{}{}", new.client.mountpoint, will.topic), ..will })
}
