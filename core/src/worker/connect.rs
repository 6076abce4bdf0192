//! Clients that arrive: takeover, sessions made and resumed, the CONNACK.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hookline_mqtt::packet::ConnAck;
use hookline_mqtt::{Properties, PropertyId, ReasonCode, Version};
use hookline_schemas::config::WhenFull;
use hookline_schemas::event::{About, HookPoint};
use rustix::event::epoll::EventFlags;

use super::connection::{Connection, End};
use super::deferred::Deferred;
use super::publish::Admission;
use super::timers::Due;
use super::{Outbox, Resident, Worker};
use crate::clock;
use crate::mailbox::NewConnection;
use crate::metrics::Counters;
use crate::router::{Address, Subscriber};
use crate::session::{Inflight, Session, StoredState, decode_subscription};
use crate::slab::Key;
use crate::store::{Bounds, ChunkCache, StoredSession};

impl Worker {
    /// A client has said CONNECT, and may come in.
    pub(super) fn arrive(&mut self, mut new: NewConnection) {
        self.take_outcome(&mut new.outcome, Admission::Open);
        let client = Arc::clone(&new.client);
        self.end_older_connection(&client.client_id, new.connect.clean_start);
        let kept = self.by_client.get(&client.client_id).copied();
        let (session, session_present) = match kept {
            Some(session) if !new.connect.clean_start => {
                self.resume(session, &new);
                (session, true)
            }
            Some(session) => {
                self.tell(HookPoint::SessionDiscarded, &client, About::Client);
                self.forget_session(session);
                (self.create(&new), false)
            }
            None => (self.create(&new), false),
        };
        let ack = ConnAck { session_present, reason: ReasonCode::Success, properties: self.connack_properties(&new) };
        let properties = &new.connect.properties;
        let number = |id| properties.number(id).map(|number| number as usize);
        let packet_bytes_max = number(PropertyId::MaximumPacketSize).unwrap_or(usize::MAX);
        let window = self.shared.limits.inflight_max.min(client.receive_maximum);
        let now = self.now;
        let key = self.connections.insert_with(|_| {
            let mut connection = Connection::new(new.socket, session, client, new.input, new.permit, now);
            connection.packet_bytes_max = packet_bytes_max;
            connection.window = window;
            connection
        });
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.arriving = Some(key);
        // A session that is to survive is stored before its client hears of it.
        if matches!(resident.outbox, Outbox::Durable { .. }) {
            self.defer(Deferred::ConnAck { connection: key, session, ack });
        } else {
            self.let_in(key, session, ack);
        }
    }

    /// Takes over from the connection that the client had, if any. [MQTT-3.1.4-3]
    fn end_older_connection(&mut self, client_id: &str, clean_start: bool) {
        let Some(session) = self.by_client.get(client_id).copied() else { return };
        let Some(resident) = self.sessions.get(session) else { return };
        let Some(older) = resident.connection.or(resident.arriving) else { return };
        let client = Arc::clone(&resident.session.client);
        let reason = if clean_start { "discarded" } else { "takenover" };
        if !clean_start {
            self.tell(HookPoint::SessionTakenOver, &client, About::Client);
        }
        self.close(older, ReasonCode::SessionTakenOver, reason);
    }

    fn create(&mut self, new: &NewConnection) -> Key {
        let client = &new.client;
        let outbox = if client.session_expiry_secs > 0 {
            let queue = self.shared.store.new_queue(&mut self.batch, crate::store::QueueKind::Session, &client.client_id);
            queue.set_bounds(self.session_bounds());
            let state = StoredState {
                queue: queue.id(),
                created_at_ms: clock::now_ms(),
                disconnected_at_ms: 0,
                expiry_secs: client.session_expiry_secs,
            };
            self.batch.put_session(&client.client_id, state.encode());
            Outbox::Durable { queue, state, ahead: VecDeque::new(), cache: Box::default(), maybe_sent_below: 0 }
        } else {
            Outbox::Memory(VecDeque::new())
        };
        let resident = Resident {
            session: Session::new(Arc::clone(client)),
            connection: None,
            arriving: None,
            outbox,
            will: new.connect.will.clone(),
            will_at: None,
            expires_at: None,
        };
        let key = self.sessions.insert_with(|_| resident);
        self.by_client.insert(Arc::clone(&client.client_id), key);
        self.tell(HookPoint::SessionCreated, client, About::Client);
        key
    }

    fn resume(&mut self, session: Key, new: &NewConnection) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        resident.session.client = Arc::clone(&new.client);
        resident.will = new.connect.will.clone();
        resident.will_at = None;
        resident.expires_at = None;
        if let Outbox::Durable { state, queue, ahead, maybe_sent_below, .. } = &mut resident.outbox {
            // [MQTT-4.4.0-1] What was on its way is sent again: the window begins anew at the first message that is not settled.
            // The packet identifiers follow from the queue, so they are the original ones.
            *maybe_sent_below = (*maybe_sent_below).max(resident.session.inflight.next());
            resident.session.inflight = Inflight::starting_at(queue.front());
            ahead.clear();
            state.disconnected_at_ms = 0;
            state.expiry_secs = new.client.session_expiry_secs;
            self.batch.put_session(&new.client.client_id, state.encode());
        }
        self.tell(HookPoint::SessionResumed, &new.client, About::Client);
    }

    fn session_bounds(&self) -> Bounds {
        Bounds { records_max: self.shared.limits.durable_queue_max, bytes_max: u64::MAX, when_full: WhenFull::Refuse }
    }

    /// What the broker tells an MQTT 5 client about itself.
    fn connack_properties(&self, new: &NewConnection) -> Properties {
        let limits = &self.shared.limits;
        let mut properties = Properties::default();
        if new.client.version != Version::V5 {
            return properties;
        }
        let asked = new.connect.properties.number(PropertyId::SessionExpiryInterval).unwrap_or(0);
        if asked != new.client.session_expiry_secs {
            properties.push_number(PropertyId::SessionExpiryInterval, new.client.session_expiry_secs);
        }
        properties.push_number(PropertyId::ReceiveMaximum, limits.awaiting_rel_max.into());
        properties.push_number(PropertyId::MaximumPacketSize, limits.packet_bytes_max as u32);
        properties.push_number(PropertyId::TopicAliasMaximum, limits.topic_alias_max.into());
        properties.push_number(PropertyId::SharedSubscriptionAvailable, 0);
        if new.assigned {
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
        if self.watch(&connection.socket, key, EventFlags::IN).is_err() {
            return self.end(key, End::abnormal("internal_error"));
        }
        self.tell(HookPoint::ClientConnack, &client, About::Answer(ReasonCode::Success));
        self.tell(HookPoint::ClientConnected, &client, About::Client);
        if let Some(limit) = self.keep_alive_limit(client.keep_alive_secs) {
            self.timers.set(self.now + limit, Due::KeepAlive(key));
        }
        self.pump(session);
        self.handle_early_input(key);
    }

    /// Answers a CONNECT that could not be kept.
    pub(super) fn turn_away(&mut self, key: Key, reason: ReasonCode) {
        let ack = ConnAck { session_present: false, reason, properties: Properties::default() };
        self.send_with(key, |out, version| ack.encode(out, version));
        if let Some(connection) = self.connections.get(key) {
            let client = Arc::clone(&connection.client);
            self.tell(HookPoint::ClientConnack, &client, About::Answer(reason));
        }
        self.end(key, End { graceful: true, ..End::abnormal("store_failed") });
    }

    /// How long a client may be silent.
    pub(super) fn keep_alive_limit(&self, keep_alive_secs: u16) -> Option<Duration> {
        let multiplier = self.shared.limits.keep_alive_multiplier;
        (keep_alive_secs > 0).then(|| Duration::from_secs(keep_alive_secs.into()).mul_f64(multiplier))
    }

    /// Takes in a session that the store has kept. Before the worker runs.
    pub(crate) fn adopt(&mut self, stored: StoredSession) {
        let Some(state) = StoredState::decode(&stored.value) else {
            tracing::error!(client = stored.client_id, "a stored session is damaged");
            return;
        };
        let Some(queue) = self.shared.store.queue(state.queue) else {
            tracing::error!(client = stored.client_id, "a stored session has lost its queue");
            return;
        };
        queue.set_bounds(self.session_bounds());
        let mut client = hookline_schemas::Client::internal(&stored.client_id);
        client.session_expiry_secs = state.expiry_secs;
        let client = Arc::new(client);
        let mut session = Session::new(Arc::clone(&client));
        session.inflight = Inflight::starting_at(queue.front());
        session.received = stored.received.into_iter().collect();
        for (filter, value) in stored.subscriptions {
            match decode_subscription(&value) {
                Some(held) => drop(session.subscriptions.insert(filter.into(), held)),
                None => tracing::error!(client = %client.client_id, filter, "a stored subscription is damaged"),
            }
        }
        let maybe_sent_below = queue.front() + u64::from(self.shared.limits.inflight_max);
        let expiry = Duration::from_secs(state.expiry_secs.into());
        let away = if state.disconnected_at_ms == 0 {
            Duration::ZERO
        } else {
            Duration::from_millis(clock::now_ms().saturating_sub(state.disconnected_at_ms))
        };
        let expires_at = (state.expiry_secs != u32::MAX).then(|| self.now + expiry.saturating_sub(away));
        let outbox = Outbox::Durable {
            queue: Arc::clone(&queue),
            state,
            ahead: VecDeque::new(),
            cache: Box::<ChunkCache>::default(),
            maybe_sent_below,
        };
        let resident = Resident { session, connection: None, arriving: None, outbox, will: None, will_at: None, expires_at };
        let key = self.sessions.insert_with(|_| resident);
        self.by_client.insert(Arc::clone(&client.client_id), key);
        let address = Address { worker: self.number, session: key };
        let Some(resident) = self.sessions.get(key) else { return };
        for (filter, held) in &resident.session.subscriptions {
            let subscriber = Subscriber { address, options: held.options, identifier: held.identifier, queue: Some(Arc::clone(&queue)) };
            self.shared.router.subscribe(filter, subscriber);
        }
        if let Some(at) = expires_at {
            self.timers.set(at, Due::Session(key));
        }
    }
}
