//! Acknowledgements that wait for a sink, in the order of their messages.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use hookline_mqtt::packet::{Ack, AckKind};
use hookline_mqtt::{QoS, ReasonCode};

use super::connection::Connection;
use super::deferred::{Deferred, Publisher};
use super::timers::Due;
use super::{Outbox, Worker};
use crate::metrics::Counters;
use crate::slab::Key;
use crate::store::{RecordHandle, Watched};

/// What of a message a sink has to have before its publisher is acknowledged.
#[derive(Debug, Default)]
pub(super) struct Delivered {
    pub(super) records: Vec<RecordHandle>,
    /// How long the acknowledgement may wait.
    pub(super) deadline: Duration,
}

/// An answer to a publisher that waits: for a sink, or for those before it.
#[derive(Debug)]
pub(super) struct Awaiting {
    watched: Vec<Watched>,
    deadline: Instant,
    answer: Answer,
}

#[derive(Debug)]
enum Answer {
    Acknowledge(Publisher),
    Refuse(Publisher),
    /// Of a message that came before.
    Again(Ack),
}

impl Connection {
    /// Whether answers to its publishes wait for a sink.
    pub(super) fn is_awaiting(&self) -> bool {
        self.awaiting.get().is_some_and(|awaiting| !awaiting.is_empty())
    }
}

impl Worker {
    /// Takes the answer to the publisher out of a step whose commit is durable, where it has still to wait. The rest goes on.
    pub(super) fn await_delivery(&mut self, mut deferred: Deferred, watched: Vec<Watched>) -> Deferred {
        let (key, answer, wait) = match &mut deferred {
            Deferred::Publish { publisher, delivered, .. } => {
                let wait = delivered.take().map(|delivered| delivered.deadline);
                let Some(publisher) = publisher.take() else { return deferred };
                (publisher.connection, Answer::Acknowledge(publisher), wait)
            }
            Deferred::Delay { publisher, .. } => {
                let Some(publisher) = publisher.take() else { return deferred };
                (publisher.connection, Answer::Acknowledge(publisher), None)
            }
            Deferred::Refuse { publisher } => (publisher.connection, Answer::Refuse(*publisher), None),
            Deferred::Ack { connection, ack } if matches!(ack.kind, AckKind::PubAck | AckKind::PubRec) => {
                (*connection, Answer::Again(ack.clone()), None)
            }
            _ => return deferred,
        };
        let is_behind = self.connections.get(key).is_some_and(Connection::is_awaiting);
        if wait.is_none() && !is_behind {
            if let (Deferred::Publish { publisher, .. } | Deferred::Delay { publisher, .. }, Answer::Acknowledge(waiting)) =
                (&mut deferred, answer)
            {
                *publisher = Some(waiting);
            }
            return deferred;
        }
        let deadline = self.now + wait.unwrap_or_default();
        let Some(connection) = self.connections.get_mut(key) else { return deferred };
        connection.awaiting.make().push_back(Awaiting { watched, deadline, answer });
        if !is_behind {
            if !self.awaiting.contains(&key) {
                self.awaiting.push(key);
            }
            self.timers.set(deadline, Due::Delivery(key));
        }
        match deferred {
            Deferred::Publish { .. } | Deferred::Delay { .. } => deferred,
            // Nothing of it is left to do now.
            _ => Deferred::Nothing,
        }
    }

    /// Answers those whose records sinks have taken.
    pub(super) fn release_delivered(&mut self) {
        for key in std::mem::take(&mut self.awaiting) {
            self.answer_awaiting(key);
            if self.connections.get(key).is_some_and(Connection::is_awaiting) {
                self.awaiting.push(key);
            }
        }
    }

    /// The connection is over: at QoS 2 what waits for a sink is no repetition when it comes again.
    pub(super) fn forget_awaiting(&mut self, key: Key) {
        let Some(connection) = self.connections.get_mut(key) else { return };
        let (awaiting, session) = (connection.awaiting.take(), connection.session);
        let Some(resident) = self.sessions.get_mut(session) else { return };
        for Awaiting { answer, watched, .. } in awaiting {
            if let Answer::Acknowledge(publisher) = answer
                && publisher.qos == QoS::ExactlyOnce
                && !watched.is_empty()
            {
                resident.session.forget_received(publisher.packet_id);
            }
        }
    }

    /// Time may be over for the first of them; then for the next one.
    pub(super) fn check_deadline(&mut self, key: Key) {
        self.answer_awaiting(key);
        if let Some(first) = self.connections.get(key).and_then(|connection| connection.awaiting.get()?.front()) {
            self.timers.set(first.deadline.max(self.now), Due::Delivery(key));
        }
    }

    /// Answers a publisher in the order of its messages, as far as that can be.
    pub(super) fn answer_awaiting(&mut self, key: Key) {
        while let Some(first) = self.connections.get(key).and_then(|connection| connection.awaiting.get()?.front()) {
            let is_delivered = first.watched.iter().all(Watched::is_settled);
            let is_over = first.deadline <= self.now;
            if !is_delivered && !is_over {
                return;
            }
            let awaiting = self.connections.get_mut(key).and_then(|connection| connection.awaiting.get_mut());
            let Some(Awaiting { answer, .. }) = awaiting.and_then(VecDeque::pop_front) else { return };
            let is_publish = !matches!(answer, Answer::Again(_));
            self.step_done(key, is_publish);
            match answer {
                Answer::Acknowledge(publisher) if is_delivered => {
                    Counters::count(&self.counters.committed);
                    self.send_ack(key, &publisher.ack());
                }
                Answer::Acknowledge(publisher) => self.refuse_undelivered(publisher),
                Answer::Refuse(publisher) => self.answer_refusal(publisher),
                Answer::Again(ack) => self.send_ack(key, &ack),
            }
        }
    }

    /// The sink did not take it in time. It stays in its queue: what the publisher sends again may arrive twice.
    fn refuse_undelivered(&mut self, publisher: Publisher) {
        Counters::count(&self.counters.refused);
        Counters::count(&self.counters.undelivered);
        let session = self.connections.get(publisher.connection).map(|connection| connection.session);
        if publisher.qos == QoS::ExactlyOnce
            && let Some(resident) = session.and_then(|session| self.sessions.get_mut(session))
        {
            resident.session.forget_received(publisher.packet_id);
            if let Outbox::Durable { queue, .. } = &resident.outbox {
                self.batch.delete_received(queue.id(), publisher.packet_id);
            }
        }
        self.answer_refusal(Publisher { reason: ReasonCode::UnspecifiedError, ..publisher });
    }
}
