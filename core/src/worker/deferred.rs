//! Acknowledgements that wait for the store: nothing is promised before it is kept.

use std::sync::Arc;

use hookline_mqtt::packet::{Ack, AckKind, ConnAck, SubAck, UnsubAck};
use hookline_mqtt::{QoS, ReasonCode, Version};
use hookline_schemas::Message;
use hookline_schemas::event::DropReason;

use super::Worker;
use crate::metrics::Counters;
use crate::router::Targets;
use crate::slab::Key;
use crate::store::{Committed, Position, RecordHandle, Ticket};

/// What is to happen once the commit is durable.
#[derive(Debug)]
pub(super) enum Deferred {
    /// Deliver a message and acknowledge it to its publisher, where it has one.
    Publish {
        publisher: Option<Publisher>,
        message: Arc<Message>,
        targets: Arc<Targets>,
        record: Option<RecordHandle>,
        /// It takes the place of the topic's retained message.
        retained: bool,
    },
    /// Acknowledge what needed no store, in its order behind what does.
    Ack {
        connection: Key,
        ack: Ack,
    },
    SubAck {
        connection: Key,
        ack: SubAck,
        session: Key,
        /// Filters that are new: taken back where they cannot be kept.
        added: Vec<String>,
        retained: Vec<(Arc<Message>, u8)>,
    },
    UnsubAck {
        connection: Key,
        ack: UnsubAck,
    },
    /// Let a client in.
    ConnAck {
        connection: Key,
        session: Key,
        ack: ConnAck,
    },
}

/// Whom to acknowledge.
#[derive(Debug, Clone, Copy)]
pub(super) struct Publisher {
    pub(super) connection: Key,
    pub(super) packet_id: u16,
    pub(super) qos: QoS,
    pub(super) reason: ReasonCode,
}

/// A deferred step with the commit that it waits for.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    position: Option<Position>,
    deferred: Deferred,
}

impl Publisher {
    pub(super) fn ack(self) -> Ack {
        let kind = if self.qos == QoS::ExactlyOnce { AckKind::PubRec } else { AckKind::PubAck };
        Ack::new(kind, self.packet_id, self.reason)
    }
}

impl Worker {
    /// Puts off a step until the commit of this turn is durable.
    pub(super) fn defer(&mut self, deferred: Deferred) {
        if let Some(connection) = deferred.connection().and_then(|key| self.connections.get_mut(key)) {
            connection.deferred += 1;
        }
        self.turn.push(deferred);
    }

    /// Writes what this turn has gathered.
    pub(super) fn commit(&mut self) {
        let result = if self.batch.is_empty() { None } else { Some(self.shared.store.commit(&mut self.batch)) };
        let turn = std::mem::take(&mut self.turn);
        match result {
            Some(Err(error)) => {
                if !turn.is_empty() {
                    tracing::error!(%error, refused = turn.len(), "commit failed");
                }
                for deferred in turn {
                    self.refuse(deferred);
                }
            }
            Some(Ok(committed)) => self.await_commit(turn, committed.ticket, Some(committed)),
            // Nothing new to write: only the order behind earlier commits is kept.
            None => {
                let ticket = self.pending.back().map_or(Ticket::default(), |pending| pending.ticket);
                self.await_commit(turn, ticket, None);
            }
        }
    }

    fn await_commit(&mut self, turn: Vec<Deferred>, ticket: Ticket, committed: Option<Committed>) {
        let wrap = |deferred| {
            let record = match &deferred {
                Deferred::Publish { record, .. } => *record,
                _ => None,
            };
            Pending { ticket, position: committed.zip(record).map(|(committed, record)| committed.position(record)), deferred }
        };
        self.pending.extend(turn.into_iter().map(wrap));
    }

    /// Does what has waited for commits that are durable now.
    pub(super) fn release_durable(&mut self) {
        if self.pending.is_empty() {
            return;
        }
        let durable = self.shared.store.durable();
        while self.pending.front().is_some_and(|pending| pending.ticket <= durable) {
            let Some(pending) = self.pending.pop_front() else { return };
            self.release(pending.deferred, pending.position);
        }
    }

    fn release(&mut self, deferred: Deferred, position: Option<Position>) {
        if let Some(connection) = deferred.connection().and_then(|key| self.connections.get_mut(key)) {
            connection.deferred -= 1;
        }
        match deferred {
            Deferred::Publish { publisher, message, targets, retained, .. } => {
                if retained {
                    self.apply_retained(&message);
                }
                if let Some(publisher) = publisher {
                    Counters::count(&self.counters.committed);
                    self.send_ack(publisher.connection, &publisher.ack());
                }
                self.dispatch(&message, &targets, position);
            }
            Deferred::Ack { connection, ack } => self.send_ack(connection, &ack),
            Deferred::SubAck { connection, ack, session, retained, .. } => {
                self.send_with(connection, |out, version| ack.encode(out, version));
                self.send_retained(session, retained);
            }
            Deferred::UnsubAck { connection, ack } => self.send_with(connection, |out, version| ack.encode(out, version)),
            Deferred::ConnAck { connection, session, ack } => self.let_in(connection, session, ack),
        }
    }

    /// Refuses what could not be stored: MQTT 5 has a word for it, before that the connection ends without an ack.
    fn refuse(&mut self, deferred: Deferred) {
        if let Some(connection) = deferred.connection().and_then(|key| self.connections.get_mut(key)) {
            connection.deferred -= 1;
        }
        let reason = ReasonCode::QuotaExceeded;
        match deferred {
            Deferred::Publish { publisher, message, .. } => {
                self.drop_message(&message, DropReason::StoreFailed);
                if let Some(publisher) = publisher {
                    self.refuse_publish(Publisher { reason, ..publisher });
                }
            }
            Deferred::Ack { connection, ack } => {
                // It rested on what was not written. A PUBREL that was not kept comes again.
                if let Some(session) = self.connections.get(connection).map(|connection| connection.session)
                    && let Some(resident) = self.sessions.get_mut(session)
                    && ack.kind == AckKind::PubComp
                {
                    resident.session.received.insert(ack.packet_id);
                }
                self.close(connection, reason, "store_failed");
            }
            Deferred::SubAck { connection, mut ack, session, added, .. } => {
                self.take_back_subscriptions(session, &added);
                ack.reasons.iter_mut().for_each(|code| *code = reason);
                self.send_with(connection, |out, version| ack.encode(out, version));
            }
            Deferred::UnsubAck { connection, mut ack } => {
                ack.reasons.iter_mut().for_each(|code| *code = ReasonCode::UnspecifiedError);
                self.send_with(connection, |out, version| ack.encode(out, version));
            }
            Deferred::ConnAck { connection, session, ack } => {
                self.turn_away(connection, ReasonCode::QuotaExceeded);
                if !ack.session_present {
                    self.forget_session(session);
                }
            }
        }
    }

    /// Refuses a publish.
    pub(super) fn refuse_publish(&mut self, publisher: Publisher) {
        Counters::count(&self.counters.refused);
        let Some(connection) = self.connections.get(publisher.connection) else { return };
        if publisher.qos == QoS::ExactlyOnce
            && let Some(resident) = self.sessions.get_mut(connection.session)
        {
            resident.session.received.remove(&publisher.packet_id);
        }
        if connection.version == Version::V5 {
            self.send_ack(publisher.connection, &publisher.ack());
        } else {
            self.close(publisher.connection, publisher.reason, "refused");
        }
    }
}

impl Deferred {
    fn connection(&self) -> Option<Key> {
        match self {
            Deferred::Publish { publisher, .. } => publisher.map(|publisher| publisher.connection),
            Deferred::Ack { connection, .. }
            | Deferred::SubAck { connection, .. }
            | Deferred::UnsubAck { connection, .. }
            | Deferred::ConnAck { connection, .. } => Some(*connection),
        }
    }
}
