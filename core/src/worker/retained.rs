//! Retained messages for new subscriptions: page by page, each when the client has taken the one before.

use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_schemas::event::DropReason;
use hookline_schemas::{Message, MessageId};
use smallvec::SmallVec;

use super::deferred::Deferred;
use super::{Outbox, Worker};
use crate::HashSet;
use crate::router::{effective_qos, flags};
use crate::session::Waiting;
use crate::slab::Key;
use crate::store::QueueTarget;

/// What a new subscription has still to get.
#[derive(Debug)]
pub(super) struct Scan {
    /// As the router knows it.
    pub(super) filter: Box<str>,
    pub(super) flags: u8,
    pub(super) from: Option<Box<str>>,
}

/// What became of messages from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Supplied {
    /// The first so many are the session's now; the others have to come again later.
    Taken(usize),
    /// The client or its subscription is not there any more.
    Gone,
}

/// Messages of one page.
const PAGE: usize = 64;
/// Pages of one turn, of all sessions together.
const PAGES_MAX: usize = 16;

impl Worker {
    /// Begins to send what new subscriptions get.
    pub(super) fn start_scans(&mut self, session: Key, scans: Vec<Scan>) {
        if let Some(resident) = self.sessions.get_mut(session).filter(|_| !scans.is_empty()) {
            resident.scans.make().extend(scans);
            self.scanning.push_back(session);
        }
    }

    /// Goes on where a client has taken what it got.
    pub(super) fn resume_scans(&mut self, session: Key) {
        let waits = self.sessions.get(session).is_some_and(|resident| resident.scans.get().is_some());
        if waits && !self.scanning.contains(&session) {
            self.scanning.push_back(session);
        }
    }

    /// Sends the next pages.
    pub(super) fn scan_retained(&mut self) {
        for _ in 0..PAGES_MAX {
            let Some(session) = self.scanning.pop_front() else { return };
            if self.scan(session) {
                self.scanning.push_back(session);
            }
        }
    }

    /// Sends one page to a session; whether it can take another one at once.
    fn scan(&mut self, session: Key) -> bool {
        let Some(resident) = self.sessions.get_mut(session) else { return false };
        let Some(connection) = resident.connection.and_then(|key| self.connections.get_mut(key)) else {
            resident.scans.clear();
            return false;
        };
        let waiting = match &resident.outbox {
            Outbox::Memory(waiting) => waiting.len() as u64,
            Outbox::Durable { queue, .. } => queue.pending(),
        };
        // The end of what waits, and of what is being written, brings it back here.
        if waiting >= PAGE as u64 {
            return false;
        }
        let bytes_max = connection.zone.limits.output_bytes_max / 2;
        if connection.backlog() > bytes_max {
            connection.held_back = true;
            return false;
        }
        let Some(scans) = resident.scans.get_mut() else { return false };
        let Some(scan) = scans.front_mut() else { return false };
        let page = self.shared.retained.page(&scan.filter, scan.from.as_deref(), PAGE, bytes_max);
        let flags = scan.flags;
        scan.from = page.next;
        if scan.from.is_none() {
            scans.pop_front();
        }
        let more = !scans.is_empty();
        if !more {
            resident.scans.clear();
        }
        self.send_retained(session, page.messages, flags);
        more
    }

    /// Puts messages from outside into the session of a client, for one of its subscriptions, as far as there is room now.
    pub(crate) fn supply(&mut self, client_id: &str, filter: &str, messages: &[Arc<Message>], retained: bool) -> Supplied {
        let Some(session) = self.session_of(client_id) else { return Supplied::Gone };
        let Some(resident) = self.sessions.get(session) else { return Supplied::Gone };
        let Some(held) = resident.session.subscriptions.get(filter) else { return Supplied::Gone };
        if resident.connection.is_none() {
            return Supplied::Gone;
        }
        let there: HashSet<MessageId> = match &resident.outbox {
            Outbox::Memory(waiting) => waiting.iter().map(|waiting| waiting.message.id).collect(),
            Outbox::Durable { .. } => HashSet::default(),
        };
        let waiting = match &resident.outbox {
            Outbox::Memory(waiting) => waiting.len() as u64,
            Outbox::Durable { queue, .. } => queue.pending(),
        };
        let room = (PAGE as u64).saturating_sub(waiting) as usize;
        let taken = messages.len().min(room);
        // A retained message is sent for each subscription, but not beside the one that the broker has itself.
        let is_here = |message: &Arc<Message>| match retained {
            true => self.shared.retained.has(&message.topic),
            false => there.contains(&message.id) || resident.session.inflight.has(message.id),
        };
        let new: Vec<_> = messages[..taken].iter().filter(|message| !is_here(message)).cloned().collect();
        let rap = if held.options.retain_as_published { flags::RETAIN_AS_PUBLISHED } else { 0 };
        let retained = if retained { flags::RETAINED } else { 0 };
        self.send_retained(session, new, held.options.qos as u8 | rap | retained);
        Supplied::Taken(taken)
    }

    fn send_retained(&mut self, session: Key, messages: Vec<Arc<Message>>, flags: u8) {
        let mut stored = false;
        for message in messages {
            let Some(resident) = self.sessions.get_mut(session) else { return };
            let identifiers: SmallVec<[u32; 2]> = resident.session.identifiers(&message.topic).collect();
            if effective_qos(message.qos, flags) == QoS::AtMostOnce {
                self.deliver_qos0(session, &message, flags, &identifiers);
                continue;
            }
            match &mut resident.outbox {
                Outbox::Memory(waiting) => {
                    // A page comes only when there is room for it.
                    let limits = &resident.zone.limits;
                    let count_max = limits.mqueue_max.max(2 * PAGE);
                    let dropped = waiting.push(Waiting { message, flags, identifiers, lease: None }, 0, count_max, limits.mqueue_bytes_max);
                    for dropped in dropped {
                        self.drop_delivery(session, &dropped.message, DropReason::QueueFull);
                    }
                }
                // What must arrive goes through the queue.
                Outbox::Durable { queue, .. } => {
                    if queue.when_full().is_some() {
                        self.drop_delivery(session, &message, DropReason::QueueFull);
                        continue;
                    }
                    let target = QueueTarget { queue: queue.id(), flags, rank: resident.zone.rank(&message.topic) };
                    self.batch.message(&[target], &message);
                    stored = true;
                }
            }
        }
        if stored {
            self.defer(Deferred::Pump { session });
        }
        self.pump(session);
    }
}
