//! What is listed for those who look from outside: subscriptions, what waits for a client, and whom a ban is about. What may be much is looked at
//! part by part, so that no turn becomes long.

use std::sync::Arc;

use hookline_mqtt::{QoS, ReasonCode};
use hookline_schemas::Message;
use hookline_schemas::ports::SOURCE_CLIENT;

use super::connection::Connection;
use super::{Outbox, Worker};
use crate::bans::Banned;
use crate::observer::SubscriptionFilter;
use crate::router::effective_qos;
use crate::session::Held;
use crate::store::{DelayedKey, Error, Queue};

/// Places of a table that are looked at in one turn.
const PART: usize = 1000;

/// Subscriptions from which on a turn looks at no further session.
const FOUND_MAX: usize = 10_000;

/// A subscription, and whose it is.
#[derive(Debug)]
pub(crate) struct Subscribed {
    pub(crate) client_id: Arc<str>,
    pub(crate) filter: Box<str>,
    pub(crate) held: Held,
}

/// A filter, and how it is subscribed to.
pub(crate) type HeldFilter = (Box<str>, Held);
/// A message on its way, its QoS, and when it was sent, milliseconds since the Unix epoch.
pub(crate) type Sent = (Arc<Message>, QoS, u64);

/// Messages for a client: in memory, or from a place of its queue on.
#[derive(Debug)]
pub(crate) enum Waiting {
    Memory(Vec<(Arc<Message>, QoS)>),
    /// In the store: what waits from a sequence on, without what has gone.
    Stored {
        queue: Arc<Queue>,
        from: u64,
        gone: Vec<u64>,
    },
}

impl Worker {
    /// Subscriptions of sessions that are only in memory, from a place of the table on; and where the next part begins.
    pub(crate) fn find_subscriptions(&self, wanted: &SubscriptionFilter, from: usize) -> (Vec<Subscribed>, Option<usize>) {
        let mut found: Vec<Subscribed> = Vec::new();
        for (key, resident) in self.sessions.part(from, PART) {
            if found.len() >= FOUND_MAX {
                return (found, Some(key.index as usize));
            }
            if matches!(resident.outbox, Outbox::Durable { .. }) {
                continue;
            }
            let here = found.len();
            let subscriptions = resident.session.subscriptions.iter().filter(|(filter, held)| wanted.wants(filter, *held));
            found.extend(subscriptions.map(|(filter, held)| Subscribed {
                client_id: Arc::clone(&resident.session.client.client_id),
                filter: filter.into(),
                held,
            }));
            found[here..].sort_unstable_by(|a, b| a.filter.cmp(&b.filter));
        }
        let next = from + PART;
        (found, (next < self.sessions.places()).then_some(next))
    }

    /// The subscriptions of a client.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn subscriptions_of(&self, client_id: &str) -> Result<Option<Vec<HeldFilter>>, Error> {
        let mut held: Vec<HeldFilter> = match self.session_of(client_id).and_then(|key| self.sessions.get(key)) {
            Some(resident) => resident.session.subscriptions.iter().map(|(filter, held)| (filter.into(), held)).collect(),
            None => match self.resting_client(client_id)? {
                Some(understood) => understood.subscriptions,
                None => return Ok(None),
            },
        };
        held.sort_unstable_by(|(a, _), (b, _)| a.cmp(b));
        Ok(Some(held))
    }

    /// What waits for a client and is not on its way: in memory `count` messages behind `skip` of them.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn waiting_for(&self, client_id: &str, skip: usize, count: usize) -> Result<Option<Waiting>, Error> {
        let Some(resident) = self.session_of(client_id).and_then(|key| self.sessions.get(key)) else {
            let resting = self.resting_client(client_id)?;
            return Ok(resting.map(|understood| Waiting::Stored { queue: understood.queue, from: 0, gone: Vec::new() }));
        };
        Ok(Some(match &resident.outbox {
            Outbox::Memory(waiting) => {
                let waiting = waiting.iter().skip(skip).take(count);
                Waiting::Memory(waiting.map(|one| (Arc::clone(&one.message), effective_qos(one.message.qos, one.flags))).collect())
            }
            Outbox::Durable { queue, .. } => {
                let (from, gone) = resident.session.inflight.gone();
                Waiting::Stored { queue: Arc::clone(queue), from, gone }
            }
        }))
    }

    /// What is on its way to a client.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn on_the_way_to(&self, client_id: &str) -> Result<Option<Vec<Sent>>, Error> {
        match self.session_of(client_id).and_then(|key| self.sessions.get(key)) {
            Some(resident) => {
                let sent = resident.session.inflight.messages();
                Ok(Some(sent.map(|(message, qos, at_ms)| (Arc::clone(message), qos, at_ms)).collect()))
            }
            None => Ok(self.resting_client(client_id)?.map(|_| Vec::new())),
        }
    }

    /// Takes back a message that waits for its time, where it waits here.
    pub(crate) fn cancel_delayed(&mut self, key: DelayedKey) -> bool {
        let is_here = self.delayed.remove(&key);
        if is_here {
            self.batch.delete_delayed(key);
            // Where the commit fails, it waits again.
            self.due.push(key);
            self.forget_delayed();
        }
        is_here
    }

    /// Whether a message waits for its time here.
    pub(crate) fn has_delayed(&self, key: DelayedKey) -> bool {
        self.delayed.contains(&key)
    }

    /// Ends connections that a ban is about, from a place of the table on: how many, and where the next part begins. Their sessions stay.
    pub(crate) fn end_banned(&mut self, banned: &Banned, from: usize) -> (usize, Option<usize>) {
        let is_meant = |connection: &Connection| {
            let client = &connection.client;
            connection.ending.is_none() && banned.is(client) && !client.client_id.starts_with(SOURCE_CLIENT)
        };
        let part = self.connections.part(from, PART);
        let meant: Vec<_> = part.filter(|(_, connection)| is_meant(connection)).map(|(key, _)| key).collect();
        for key in &meant {
            self.close(*key, ReasonCode::Banned, "banned");
        }
        let next = from + PART;
        (meant.len(), (next < self.connections.places()).then_some(next))
    }
}
