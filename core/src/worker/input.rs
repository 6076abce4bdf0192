//! Packets from clients, each to the place that handles it.

use std::sync::Arc;

use hookline_mqtt::packet::{Ack, AckKind, Auth, Disconnect, Packet};
use hookline_mqtt::{DecodeError, PropertyId, QoS, ReasonCode, Version};
use hookline_schemas::Message;
use hookline_schemas::event::{About, HookPoint};

use super::connection::End;
use super::deferred::Deferred;
use super::{Outbox, Worker};
use crate::authentication::Step;
use crate::metrics::Counters;
use crate::session::PubRec;
use crate::slab::Key;
use crate::slow::SlowDelivery;
use crate::store::Settlement;

impl Worker {
    /// Handles one packet of an established connection.
    pub(super) fn handle_packet(&mut self, key: Key, packet: Packet<'_>) -> Result<(), DecodeError> {
        // An acknowledgement makes room for others to go: mostly several come together.
        if !matches!(packet, Packet::Ack(_)) {
            self.refill();
        }
        match packet {
            Packet::Publish(publish) => self.on_publish(key, &publish),
            Packet::Ack(ack) => {
                self.on_ack(key, &ack);
                Ok(())
            }
            Packet::Subscribe(subscribe) => self.on_subscribe(key, subscribe),
            Packet::Unsubscribe(unsubscribe) => {
                self.on_unsubscribe(key, &unsubscribe);
                Ok(())
            }
            Packet::PingReq => {
                if self.shared.hooks.wants(HookPoint::ClientPing)
                    && let Some(client) = self.connections.get(key).map(|connection| Arc::clone(&connection.client))
                {
                    self.tell(HookPoint::ClientPing, &client, About::Client);
                }
                self.send_with(key, |out, _| out.extend_from_slice(&hookline_mqtt::packet::PINGRESP));
                Ok(())
            }
            Packet::Disconnect(disconnect) => self.on_disconnect(key, disconnect),
            // [MQTT-3.1.0-2]
            Packet::Connect(_) => Err(DecodeError::protocol("second CONNECT")),
            Packet::Auth(auth) => self.on_auth(key, &auth),
            Packet::ConnAck(_) | Packet::SubAck(_) | Packet::UnsubAck(_) | Packet::PingResp => {
                Err(DecodeError::protocol("a packet that only servers send"))
            }
        }
    }

    fn on_ack(&mut self, key: Key, ack: &Ack) {
        let Some(session) = self.connections.get(key).map(|connection| connection.session) else { return };
        match ack.kind {
            AckKind::PubAck => self.on_puback(session, ack),
            AckKind::PubRec => self.on_pubrec(key, session, ack),
            AckKind::PubRel => self.on_pubrel(key, session, ack),
            AckKind::PubComp => self.on_pubcomp(session, ack),
        }
    }

    fn on_puback(&mut self, session: Key, ack: &Ack) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        // An unknown identifier is ignored: there is nothing to do.
        let Some((sequence, bytes, message)) = resident.session.inflight.acknowledge(ack.packet_id) else {
            return Counters::count(&self.counters.puback_missed);
        };
        self.settle(session, sequence, bytes);
        Counters::count(&self.counters.acked);
        self.note_latency(session, &message);
        self.tell_acked(session, &message, QoS::AtLeastOnce);
        self.acknowledged = Some(session);
    }

    /// Sends what the acknowledgements have made room for that were read last.
    pub(super) fn refill(&mut self) {
        if let Some(session) = self.acknowledged.take() {
            self.pump(session);
        }
    }

    fn on_pubrec(&mut self, key: Key, session: Key, ack: &Ack) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        if ack.reason.is_error() {
            if let Some((sequence, bytes)) = resident.session.inflight.complete(ack.packet_id) {
                self.settle(session, sequence, bytes);
                self.acknowledged = Some(session);
            }
            return;
        }
        let mut is_stored = false;
        let reason = match resident.session.inflight.release(ack.packet_id, self.now_ms) {
            PubRec::Released { sequence, message } => {
                if let Outbox::Durable { queue, .. } = &resident.outbox {
                    queue.release(sequence);
                    // Once the client has the PUBREL it knows the message no more: it must never come again.
                    self.batch.put_cursor_of(queue);
                    is_stored = true;
                }
                Counters::count(&self.counters.acked);
                self.note_latency(session, &message);
                self.tell_acked(session, &message, QoS::ExactlyOnce);
                ReasonCode::Success
            }
            PubRec::Again => ReasonCode::Success,
            PubRec::Unknown => {
                Counters::count(&self.counters.pubrec_missed);
                ReasonCode::PacketIdentifierNotFound
            }
        };
        let ack = Ack::new(AckKind::PubRel, ack.packet_id, reason);
        if is_stored || self.connections.get(key).is_some_and(|connection| connection.deferred > 0) {
            self.defer(Deferred::Ack { connection: key, ack });
        } else {
            self.send_ack(key, &ack);
        }
    }

    fn on_pubcomp(&mut self, session: Key, ack: &Ack) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        match resident.session.inflight.complete(ack.packet_id) {
            Some((sequence, bytes)) => {
                self.settle(session, sequence, bytes);
                self.acknowledged = Some(session);
            }
            None => Counters::count(&self.counters.pubcomp_missed),
        }
    }

    /// The last step of a QoS 2 message from the client.
    fn on_pubrel(&mut self, key: Key, session: Key, ack: &Ack) {
        let Some(resident) = self.sessions.get_mut(session) else { return };
        let mut forgotten_in_store = false;
        let reason = if resident.session.received.get_mut().and_then(|received| received.remove(&ack.packet_id)).is_some() {
            if let Outbox::Durable { queue, .. } = &resident.outbox {
                self.batch.delete_received(queue.id(), ack.packet_id);
                forgotten_in_store = true;
            }
            ReasonCode::Success
        } else {
            Counters::count(&self.counters.pubrel_missed);
            ReasonCode::PacketIdentifierNotFound
        };
        let ack = Ack::new(AckKind::PubComp, ack.packet_id, reason);
        // The identifier is free for another message with the PUBCOMP: the store must not take that one for a repetition.
        if forgotten_in_store || self.connections.get(key).is_some_and(|connection| connection.deferred > 0) {
            self.defer(Deferred::Ack { connection: key, ack });
        } else {
            self.send_ack(key, &ack);
        }
    }

    /// A message of a durable session is done with.
    fn settle(&mut self, session: Key, sequence: u64, bytes: u64) {
        if let Some(Outbox::Durable { queue, .. }) = self.sessions.get(session).map(|resident| &resident.outbox) {
            self.shared.store.settle(queue, [(sequence, bytes)], Settlement::Delivered);
        }
    }

    /// Remembers a subscriber that took long.
    fn note_latency(&mut self, session: Key, message: &Message) {
        if !self.shared.slow.enable {
            return;
        }
        let Some(resident) = self.sessions.get(session) else { return };
        let client = &resident.session.client;
        let now_ms = self.now_ms;
        // The time that the client was away is not its slowness.
        let latency_ms = now_ms.saturating_sub(message.received_at_ms.max(client.connected_at_ms));
        if latency_ms >= self.shared.slow.threshold_ms {
            let (client_id, topic) = (Arc::clone(&client.client_id), Arc::clone(&message.topic));
            self.shared.slowest.lock().note(SlowDelivery { client_id, topic, latency_ms, at_ms: now_ms }, &self.shared.slow);
        }
    }

    /// `qos` is what it was delivered at.
    fn tell_acked(&mut self, session: Key, message: &Message, qos: QoS) {
        if self.shared.hooks.wants(HookPoint::MessageAcked)
            && let Some(resident) = self.sessions.get(session)
        {
            let client = Arc::clone(&resident.session.client);
            let acked = Message { qos, ..message.clone() };
            self.tell(HookPoint::MessageAcked, &client, About::Message(&acked));
        }
    }

    /// A client that has authenticated in steps does so again, while all else goes on.
    fn on_auth(&mut self, key: Key, auth: &Auth) -> Result<(), DecodeError> {
        let Some(connection) = self.connections.get_mut(key) else { return Ok(()) };
        let (client, proven) = (Arc::clone(&connection.client), connection.terms.get().and_then(|terms| terms.proven.clone()));
        let method = client.properties.text(PropertyId::AuthenticationMethod);
        let Some(method) = method else { return Err(DecodeError::protocol("AUTH without an authentication method")) };
        // [MQTT-4.12.1-1]
        if auth.properties.text(PropertyId::AuthenticationMethod) != Some(method) {
            return Err(DecodeError::protocol("another authentication method than in the CONNECT"));
        }
        let exchange = match (auth.reason, connection.exchange.take()) {
            (ReasonCode::ReAuthenticate, _) => self.shared.methods.begin(method).map(Box::new),
            (ReasonCode::ContinueAuthentication, exchange) => exchange,
            _ => None,
        };
        let Some(mut exchange) = exchange else { return Err(DecodeError::protocol("AUTH that belongs to no authentication")) };
        let step = exchange.step(auth.properties.binary(PropertyId::AuthenticationData).unwrap_or_default());
        let (reason, data, goes_on) = match step {
            Step::Continue(data) => (ReasonCode::ContinueAuthentication, data, true),
            Step::Accept { username, data } if proven.as_deref() == Some(&*username) => (ReasonCode::Success, data, false),
            // [MQTT-4.12.1-2]
            Step::Accept { .. } => return Err(DecodeError::with(ReasonCode::NotAuthorized, "another user than before")),
            Step::Refuse(reason) => return Err(DecodeError::with(reason, "the authentication failed")),
        };
        let answer = crate::listener::auth(reason, method, &data);
        self.send_with(key, |out, _| answer.encode(out));
        if goes_on && let Some(connection) = self.connections.get_mut(key) {
            connection.exchange = Some(exchange);
        }
        Ok(())
    }

    fn on_disconnect(&mut self, key: Key, disconnect: Disconnect) -> Result<(), DecodeError> {
        let Some(connection) = self.connections.get(key) else { return Ok(()) };
        let expiry = disconnect.properties.number(PropertyId::SessionExpiryInterval);
        if let Some(resident) = self.sessions.get_mut(connection.session)
            && let Some(expiry_secs) = expiry.filter(|_| connection.version == Version::V5)
        {
            match &mut resident.outbox {
                Outbox::Durable { state, .. } => state.expiry_secs = expiry_secs.min(connection.zone.limits.session_expiry_secs_max),
                // [MQTT-3.14.2-2] What began without an expiry cannot get one now.
                Outbox::Memory(_) if expiry_secs > 0 => return Err(DecodeError::protocol("session expiry of a session that had none")),
                Outbox::Memory(_) => {}
            }
        }
        let with_will = disconnect.reason == ReasonCode::DisconnectWithWill;
        self.end(key, End { graceful: !with_will, properties: disconnect.properties, ..End::abnormal("normal") });
        Ok(())
    }
}
