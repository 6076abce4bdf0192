//! Acknowledgements that wait for the store: nothing is promised before it is kept.

use std::sync::Arc;

use hookline_mqtt::packet::{Ack, AckKind, ConnAck, SubAck, UnsubAck};
use hookline_mqtt::{QoS, ReasonCode, Version};
use hookline_schemas::Message;
use hookline_schemas::config::DurabilityLevel;
use hookline_schemas::event::DropReason;

use smallvec::SmallVec;

use super::awaiting::Delivered;
use super::connection::Connection;
use super::retained::Scan;
use super::{Outbox, Worker};
use crate::clock;
use crate::metrics::Counters;
use crate::router::{Member, Targets};
use crate::slab::Key;
use crate::store::{Committed, DelayedKey, Position, RecordHandle, Ticket, Watched};

/// What is to happen once the commit is durable.
#[derive(Debug)]
pub(super) enum Deferred {
    /// Deliver a message and acknowledge it to its publisher, where it has one.
    Publish {
        publisher: Option<Publisher>,
        message: Arc<Message>,
        targets: Arc<Targets>,
        members: SmallVec<[Arc<Member>; 1]>,
        record: Option<RecordHandle>,
        /// Records of actions that a sink has to have first.
        delivered: Option<Box<Delivered>>,
    },
    /// Refuse a publish, in its order behind what is acknowledged.
    Refuse {
        publisher: Publisher,
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
        scans: Vec<Scan>,
    },
    /// Send what retained messages have come into the queue.
    Pump {
        session: Key,
    },
    /// A message waits for its time, and is acknowledged to its publisher.
    Delay {
        publisher: Option<Publisher>,
        key: DelayedKey,
    },
    UnsubAck {
        connection: Key,
        ack: UnsubAck,
    },
    /// What was to be done waits elsewhere.
    Nothing,
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
    /// What its acknowledgement waits for in the store.
    pub(super) level: DurabilityLevel,
}

/// A deferred step with the commit that it waits for.
#[derive(Debug)]
pub(super) struct Pending {
    ticket: Ticket,
    position: Option<Position>,
    /// What a sink has to have first.
    watched: Vec<Watched>,
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
    pub(super) fn defer(&mut self, mut deferred: Deferred) {
        if let Some(connection) = deferred.connection().and_then(|key| self.connections.get_mut(key)) {
            let waits_for_sink = matches!(deferred, Deferred::Publish { delivered: Some(_), .. });
            if let Some(publisher) = deferred.publisher_mut() {
                // Nothing overtakes what waits for a sink.
                if waits_for_sink {
                    publisher.level = DurabilityLevel::Disk;
                }
                // What is behind a stronger promise waits with it: acknowledgements keep their order.
                let behind = if connection.deferred > 0 { connection.deferred_level } else { DurabilityLevel::Memory };
                publisher.level = publisher.level.strongest(behind);
                connection.deferred_level = publisher.level;
            }
            connection.deferred += 1;
            connection.unacknowledged += u32::from(deferred.is_publish());
        }
        self.turn.push(deferred);
    }

    /// Writes what this turn has gathered.
    pub(super) fn commit(&mut self) {
        let result = if self.batch.is_empty() { None } else { Some(self.shared.store.commit(&mut self.batch)) };
        let turn = std::mem::take(&mut self.turn);
        match result {
            Some(Err(error)) => {
                self.take_back_due();
                if !turn.is_empty() {
                    tracing::error!(%error, refused = turn.len(), "commit failed");
                }
                for deferred in turn {
                    self.refuse(deferred);
                }
            }
            Some(Ok(committed)) => {
                self.due.clear();
                let turn = self.acknowledge_written(turn);
                self.await_commit(turn, committed.ticket, Some(&committed));
            }
            // Nothing new to write: only the order behind earlier commits is kept.
            None => {
                let turn = self.acknowledge_written(turn);
                let ticket = self.pending.back().map_or(Ticket::default(), |pending| pending.ticket);
                self.await_commit(turn, ticket, None);
            }
        }
    }

    /// Acknowledges those publishes of a commit that wait for its being written, and not for the sync that the store does.
    fn acknowledge_written(&mut self, mut turn: Vec<Deferred>) -> Vec<Deferred> {
        let level = self.shared.store.level();
        turn.retain_mut(|deferred| {
            let publisher = match deferred {
                Deferred::Publish { publisher, delivered: None, .. } | Deferred::Delay { publisher, .. } => *publisher,
                Deferred::Refuse { publisher } => Some(*publisher),
                _ => None,
            };
            let Some(publisher) = publisher.filter(|publisher| publisher.level as u8 > level as u8) else { return true };
            // Its acknowledgements keep their order.
            if self.connections.get(publisher.connection).is_some_and(Connection::is_awaiting) {
                return true;
            }
            self.step_done(publisher.connection, true);
            match deferred {
                Deferred::Publish { publisher, .. } | Deferred::Delay { publisher, .. } => {
                    if let Some(publisher) = publisher.take() {
                        self.send_ack(publisher.connection, &publisher.ack());
                    }
                    true
                }
                Deferred::Refuse { publisher } => {
                    self.answer_refusal(*publisher);
                    false
                }
                _ => true,
            }
        });
        turn
    }

    fn await_commit(&mut self, turn: Vec<Deferred>, ticket: Ticket, committed: Option<&Committed>) {
        let wrap = |deferred| {
            let (record, delivered) = match &deferred {
                Deferred::Publish { record, delivered, .. } => (*record, delivered.as_deref()),
                _ => (None, None),
            };
            let position = committed.zip(record).map(|(committed, record)| committed.position(record));
            let records = delivered.map_or(&[][..], |delivered| &delivered.records);
            let watched = records.iter().filter_map(|record| committed?.watched(*record)).collect();
            Pending { ticket, position, watched, deferred }
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
            let Some(Pending { position, watched, deferred, .. }) = self.pending.pop_front() else { return };
            let deferred = self.await_delivery(deferred, watched);
            self.release(deferred, position);
        }
    }

    fn release(&mut self, deferred: Deferred, position: Option<Position>) {
        if let Some(key) = deferred.connection() {
            self.step_done(key, deferred.is_publish());
        }
        match deferred {
            Deferred::Publish { publisher, message, targets, members, .. } => {
                if let Some(publisher) = publisher {
                    Counters::count(&self.counters.committed);
                    self.send_ack(publisher.connection, &publisher.ack());
                }
                self.dispatch(&message, &targets, &members, position);
            }
            Deferred::Nothing => {}
            Deferred::Ack { connection, ack } => self.send_ack(connection, &ack),
            Deferred::SubAck { connection, ack, session, scans, .. } => {
                self.send_with(connection, |out, version| ack.encode(out, version));
                self.start_scans(session, scans);
                self.pump(session);
            }
            Deferred::Pump { session } => self.pump(session),
            Deferred::Refuse { publisher } => self.answer_refusal(publisher),
            Deferred::Delay { publisher, key } => {
                if let Some(publisher) = publisher {
                    Counters::count(&self.counters.committed);
                    self.send_ack(publisher.connection, &publisher.ack());
                }
                self.delayed.insert(key);
            }
            Deferred::UnsubAck { connection, ack } => self.send_with(connection, |out, version| ack.encode(out, version)),
            Deferred::ConnAck { connection, session, ack } => self.let_in(connection, session, ack),
        }
    }

    /// Refuses what could not be stored: MQTT 5 has a word for it, before that the connection ends without an ack.
    fn refuse(&mut self, deferred: Deferred) {
        if let Some(key) = deferred.connection() {
            self.step_done(key, deferred.is_publish());
        }
        let reason = ReasonCode::QuotaExceeded;
        match deferred {
            Deferred::Publish { publisher, message, .. } => {
                self.drop_message(&message, DropReason::StoreFailed);
                if let Some(publisher) = publisher {
                    self.refuse_publish(Publisher { reason, ..publisher });
                }
            }
            Deferred::Delay { publisher, .. } => {
                self.forget_delayed();
                if let Some(publisher) = publisher {
                    self.refuse_publish(Publisher { reason, ..publisher });
                }
            }
            Deferred::Pump { .. } | Deferred::Nothing => {}
            Deferred::Refuse { publisher } => self.refuse_in_order(publisher),
            Deferred::Ack { connection, ack } => {
                // It rested on what was not written. A PUBREL or PUBREC that was not kept comes again.
                if let Some(session) = self.connections.get(connection).map(|connection| connection.session)
                    && let Some(resident) = self.sessions.get_mut(session)
                {
                    match (ack.kind, &resident.outbox) {
                        (AckKind::PubComp, _) => drop(resident.session.received.make().insert(ack.packet_id, clock::now_ms())),
                        (AckKind::PubRel, Outbox::Durable { queue, .. }) => {
                            resident.session.inflight.sequence(ack.packet_id).into_iter().for_each(|sequence| queue.unrelease(sequence));
                        }
                        _ => {}
                    }
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
        Counters::add(&self.counters.publish_auth_errors, u64::from(publisher.reason == ReasonCode::NotAuthorized));
        let Some(connection) = self.connections.get(publisher.connection) else { return };
        if publisher.qos == QoS::ExactlyOnce
            && let Some(resident) = self.sessions.get_mut(connection.session)
        {
            resident.session.forget_received(publisher.packet_id);
        }
        self.refuse_in_order(publisher);
    }

    /// [MQTT-4.6.0-2] and [MQTT-4.6.0-3]: in the order of the messages.
    fn refuse_in_order(&mut self, publisher: Publisher) {
        if self.connections.get(publisher.connection).is_some_and(|connection| connection.deferred > 0) {
            self.defer(Deferred::Refuse { publisher });
        } else {
            self.answer_refusal(publisher);
        }
    }

    pub(super) fn answer_refusal(&mut self, publisher: Publisher) {
        let Some(connection) = self.connections.get(publisher.connection) else { return };
        if connection.version == Version::V5 {
            self.send_ack(publisher.connection, &publisher.ack());
        } else {
            self.close(publisher.connection, publisher.reason, "refused");
        }
    }
}

impl Deferred {
    fn publisher_mut(&mut self) -> Option<&mut Publisher> {
        match self {
            Deferred::Publish { publisher, .. } | Deferred::Delay { publisher, .. } => publisher.as_mut(),
            Deferred::Refuse { publisher } => Some(publisher),
            _ => None,
        }
    }

    fn connection(&self) -> Option<Key> {
        match self {
            Deferred::Publish { publisher, .. } | Deferred::Delay { publisher, .. } => publisher.map(|publisher| publisher.connection),
            Deferred::Refuse { publisher } => Some(publisher.connection),
            Deferred::Pump { .. } | Deferred::Nothing => None,
            Deferred::Ack { connection, .. }
            | Deferred::SubAck { connection, .. }
            | Deferred::UnsubAck { connection, .. }
            | Deferred::ConnAck { connection, .. } => Some(*connection),
        }
    }

    /// Whether a publisher waits for its acknowledgement with it.
    fn is_publish(&self) -> bool {
        let waits = matches!(self, Deferred::Publish { publisher: Some(_), .. } | Deferred::Delay { publisher: Some(_), .. });
        waits || matches!(self, Deferred::Refuse { .. })
    }
}
