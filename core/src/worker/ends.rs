//! Ends: of connections, with their wills, and of sessions.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hookline_mqtt::packet::Will;
use hookline_mqtt::{PropertyId, ReasonCode};
use hookline_schemas::event::{About, HookPoint};
use hookline_schemas::{Client, Message};

use super::connection::End;
use super::timers::Due;
use super::{Away, Outbox, Worker};
use crate::clock;
use crate::metrics::Counters;
use crate::slab::Key;

impl Worker {
    /// Ends a connection: its session goes on without it, or ends, too. The socket is closed once its output is written.
    pub(super) fn end(&mut self, key: Key, end: End) {
        let Some(connection) = self.connections.get_mut(key).filter(|connection| connection.ending.is_none()) else { return };
        connection.ending = Some(Box::new(end.clone()));
        let client = Arc::clone(&connection.client);
        let session = connection.session;
        self.forget_awaiting(key);
        self.mark_dirty(key);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let was_in = resident.connection == Some(key);
        if was_in {
            Counters::count(&self.counters.disconnected);
            self.publish_client_event(&client, "disconnected", Some(end.reason));
            self.tell(HookPoint::ClientDisconnected, &client, About::End { reason: end.reason, properties: &end.properties });
        }
        self.detach(session, key, &client, end.graceful);
    }

    /// Takes a connection from its session.
    fn detach(&mut self, session: Key, key: Key, client: &Arc<Client>, graceful: bool) {
        let now = self.now;
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if resident.connection != Some(key) && resident.arriving != Some(key) {
            return;
        }
        resident.connection = None;
        resident.arriving = None;
        resident.scans.clear();
        if graceful {
            resident.will = None;
        }
        let expiry_secs = match &mut resident.outbox {
            Outbox::Memory(_) => 0,
            Outbox::Durable { state, ahead, .. } => {
                state.disconnected_at_ms = clock::now_ms();
                ahead.clear();
                state.expiry_secs
            }
        };
        if expiry_secs == 0 {
            self.publish_will(session);
            return self.terminate(session, "normal");
        }
        if let Outbox::Durable { state, .. } = &resident.outbox {
            self.batch.put_session(&client.client_id, state.encode(client, resident.will.as_deref()));
        }
        let expires_at = (expiry_secs != u32::MAX).then(|| now + Duration::from_secs(expiry_secs.into()));
        let delay_secs = resident.will.as_ref().and_then(|will| will.properties.number(PropertyId::WillDelayInterval)).unwrap_or(0);
        // [MQTT-3.1.2-8] The will is due when its delay is over or the session ends, whichever is first.
        let will_at = resident.will.as_ref().map(|_| now + Duration::from_secs(delay_secs.min(expiry_secs).into()));
        let away = Away { will_at, expires_at };
        if let Some(at) = away.next() {
            *resident.away.make() = away;
            self.timers.set(at, Due::Session(session));
        }
        self.set_presence(session, None);
        if delay_secs == 0 {
            self.publish_will(session);
        }
    }

    /// Publishes the will of a session, once.
    pub(super) fn publish_will(&mut self, session: Key) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if let Some(away) = resident.away.get_mut() {
            away.will_at = None;
        }
        let Some(will) = resident.will.take() else { return };
        // In the commit that has the message: never twice.
        if let Outbox::Durable { state, .. } = &resident.outbox {
            let client = &resident.session.client;
            self.batch.put_session(&client.client_id, state.encode(client, None));
        }
        let message = self.will_message(session, *will);
        self.internal.extend(message);
    }

    fn will_message(&mut self, session: Key, will: Will) -> Option<Message> {
        let from = Arc::clone(&self.sessions.get(session)?.session.client);
        let mut properties = will.properties;
        properties.retain(|property| property.id != PropertyId::WillDelayInterval);
        Some(Message {
            id: self.message_id(),
            received_at_ms: clock::now_ms(),
            from,
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
            dup: false,
            properties,
            hops: 0,
            trace: None,
        })
    }

    /// A session without a connection may have something due.
    pub(super) fn check_session(&mut self, session: Key) {
        let Some(resident) = self.sessions.get(session) else { return };
        if resident.connection.is_some() || resident.arriving.is_some() {
            return;
        }
        let is_due = |at: Option<std::time::Instant>| at.is_some_and(|at| at <= self.now);
        let Some(away) = resident.away.get() else { return };
        let (will, expired) = (is_due(away.will_at), is_due(away.expires_at));
        if will || expired {
            self.publish_will(session);
        }
        if expired {
            return self.terminate(session, "expired");
        }
        let next = self.sessions.get(session).and_then(|resident| resident.away.get()?.next());
        if let Some(at) = next {
            self.timers.set(at, Due::Session(session));
        }
    }

    /// Ends a session and says so.
    pub(super) fn terminate(&mut self, session: Key, reason: &'static str) {
        let Some(resident) = self.sessions.get(session) else { return };
        let client = Arc::clone(&resident.session.client);
        let properties = hookline_mqtt::Properties::default();
        self.tell(HookPoint::SessionTerminated, &client, About::End { reason, properties: &properties });
        self.forget_session(session);
    }

    /// Removes a session with all it has. What it had by shared subscriptions goes to other members.
    pub(super) fn forget_session(&mut self, session: Key) {
        let Some(mut resident) = self.sessions.remove(session) else { return };
        let client_id = Arc::clone(&resident.session.client.client_id);
        self.by_client.remove(&client_id, session);
        Counters::count(&self.counters.sessions_ended);
        self.shared.sessions.fetch_sub(1, Ordering::Relaxed);
        // A group that ends with this member is still there to be asked for another one, so that what goes to nobody is counted.
        let groups: Vec<_> = resident.memberships.get().into_iter().flatten().filter_map(|member| member.group.upgrade()).collect();
        let filters: Vec<Box<str>> = resident.session.subscriptions.filters().map(Into::into).collect();
        for filter in &filters {
            self.leave_routes(&resident.session, session, filter);
        }
        self.count_unsubscribed(&resident.outbox, filters.len());
        self.redispatch_all(&mut resident, session);
        drop(groups);
        if let Outbox::Durable { queue, .. } = &resident.outbox {
            self.batch.delete_session(&client_id, queue.id());
        }
    }

    /// A connection may have been silent for too long, or may be over and still hold its socket.
    pub(super) fn check_keep_alive(&mut self, key: Key) {
        let Some(connection) = self.connections.get(key) else { return };
        if connection.ending.is_some() {
            return self.remove(key);
        }
        let (last_heard, paused) = (connection.last_heard, connection.is_paused());
        let Some(limit) = self.keep_alive_limit(key) else { return };
        let due = if paused { self.now + limit } else { last_heard + limit };
        if due <= self.now {
            // [MQTT-3.1.2-22]
            self.close(key, ReasonCode::KeepAliveTimeout, "keepalive_timeout");
        } else {
            self.timers.set(due, Due::KeepAlive(key));
        }
    }

    /// Closes the socket.
    pub(super) fn remove(&mut self, key: Key) {
        self.connections.remove(key);
    }

    /// Takes all connections down: each is told, where its version can be, and durable sessions are kept.
    pub(super) fn stop(&mut self) {
        self.stopping = true;
        for key in self.connections.keys() {
            self.close(key, ReasonCode::ServerShuttingDown, "server_shutting_down");
        }
    }
}
