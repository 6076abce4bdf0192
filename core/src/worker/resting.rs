//! Sessions that the store has kept. Those that need nothing but their queue rest: the router knows them, and all else is read
//! when their client comes back, or their time is over.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use hookline_mqtt::topic::Subscription;
use hookline_mqtt::{PropertyId, QoS};
use hookline_schemas::event::{About, DropReason, HookPoint};
use hookline_schemas::{Client, Message, QueueId};

use super::connect::govern;
use super::timers::Due;
use super::{Away, Outbox, Resident, Worker};
use crate::clock;
use crate::metrics::Counters;
use crate::router::{Address, Subscriber, effective_qos};
use crate::seldom::Seldom;
use crate::session::{Held, Inflight, Session, StoredPlace, StoredState, decode_subscription};
use crate::slab::Key;
use crate::store::{Error, Queue, StoredSession};
use crate::zone::Zone;

/// The bit of a key's index that no place in a table of sessions reaches.
const RESTING: u32 = 1 << 31;

impl Key {
    /// Stands for a session that rests: it follows from its queue.
    fn of_resting(queue: QueueId) -> Key {
        Key { index: RESTING | queue.0 as u32 & !RESTING, generation: (queue.0 >> 31) as u32 }
    }

    /// The queue of a session that rests.
    fn resting_queue(self) -> Option<QueueId> {
        (self.index & RESTING != 0).then(|| QueueId(u64::from(self.generation) << 31 | u64::from(self.index & !RESTING)))
    }
}

/// A stored session with its parts understood.
pub(super) struct Understood {
    pub(super) client: Client,
    pub(super) state: StoredState,
    place: StoredPlace,
    pub(super) queue: Arc<Queue>,
    pub(super) zone: Arc<Zone>,
    pub(super) subscriptions: Vec<(Box<str>, Held)>,
    received: Vec<u16>,
}

impl Worker {
    /// Takes in a session that the store has kept. Before the worker runs.
    pub(crate) fn adopt(&mut self, stored: StoredSession) {
        let Some(understood) = self.understand(stored) else { return };
        Counters::count(&self.counters.sessions_created);
        self.shared.sessions.fetch_add(1, Ordering::Relaxed);
        let is_plain = |(filter, _): &(Box<str>, Held)| matches!(Subscription::parse(filter), Some(Subscription::Own(_)));
        if understood.place.will.is_none() && understood.subscriptions.iter().all(is_plain) {
            self.lay_to_rest(&understood);
        } else {
            self.settle_in(understood);
        }
    }

    fn understand(&self, stored: StoredSession) -> Option<Understood> {
        let StoredSession { client_id, value, subscriptions, received } = stored;
        let Some((state, place)) = StoredState::decode(&value) else {
            tracing::error!(client = client_id, "a stored session is damaged");
            return None;
        };
        let Some(queue) = self.shared.store.queue(state.queue) else {
            tracing::error!(client = client_id, "a stored session has lost its queue");
            return None;
        };
        let zone = self.shared.zones.get(&place.zone);
        let mut client = Client::internal(&client_id);
        client.zone = Arc::clone(&zone.name);
        client.mountpoint = place.mountpoint.as_str().into();
        client.session_expiry_secs = state.expiry_secs;
        let mut held = Vec::with_capacity(subscriptions.len());
        for (filter, value) in subscriptions {
            match decode_subscription(&value) {
                Some(subscription) => held.push((filter.into(), subscription)),
                None => tracing::error!(client = client_id, filter, "a stored subscription is damaged"),
            }
        }
        Some(Understood { client, state, place, queue, zone, subscriptions: held, received })
    }

    fn lay_to_rest(&mut self, understood: &Understood) {
        let Understood { queue, zone, state, place, subscriptions, .. } = understood;
        govern(queue, zone);
        queue.set_keeps_qos0(zone.limits.mqueue_store_qos0);
        let address = Address { worker: self.number, session: Key::of_resting(queue.id()) };
        for (filter, held) in subscriptions {
            let (queue, upgrade) = (Some(Arc::clone(queue)), zone.limits.upgrade_qos);
            let subscriber = Subscriber { address, options: held.options, identifier: held.identifier, queue, upgrade };
            self.shared.router.subscribe(&format!("{}{filter}", place.mountpoint), subscriber);
        }
        Counters::add(&self.counters.subscribed, subscriptions.len() as u64);
        Counters::add(&self.counters.durable_subscribed, subscriptions.len() as u64);
        self.resting.insert(queue.id());
        if let Some(at) = self.expires_at(*state) {
            self.timers.set(at, Due::Resting(queue.id()));
        }
    }

    /// What the store has of a client whose session rests.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn resting_client(&self, client_id: &str) -> Result<Option<Understood>, Error> {
        if self.resting.is_empty() || self.session_of(client_id).is_some() {
            return Ok(None);
        }
        let stored = self.shared.store.session(client_id)?;
        Ok(stored.and_then(|stored| self.understand(stored)).filter(|understood| self.resting.contains(&understood.queue.id())))
    }

    /// Reads the session of a client, where it rests.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(super) fn awaken(&mut self, client_id: &str) -> Result<(), Error> {
        let Some(understood) = self.resting_client(client_id)? else { return Ok(()) };
        self.resting.remove(&understood.queue.id());
        let rested = Address { worker: self.number, session: Key::of_resting(understood.queue.id()) };
        let filters = understood.subscriptions.iter().map(|(filter, _)| format!("{}{filter}", understood.place.mountpoint));
        let filters: Vec<String> = filters.collect();
        Counters::add(&self.counters.unsubscribed, filters.len() as u64);
        Counters::add(&self.counters.durable_unsubscribed, filters.len() as u64);
        // It is known by both addresses for a moment, and never by none: the router sees that the queue is one.
        self.settle_in(understood);
        filters.iter().for_each(|filter| self.shared.router.unsubscribe(filter, rested));
        Ok(())
    }

    /// The time of a session that rests may be over.
    pub(super) fn check_resting(&mut self, queue: QueueId) {
        let Some(queue) = self.shared.store.queue(queue).filter(|queue| self.resting.contains(&queue.id())) else { return };
        if let Err(error) = self.awaken(queue.name()) {
            tracing::error!(client = queue.name(), %error, "a stored session cannot be read; it is tried again");
            return self.timers.set(self.now + Duration::from_secs(60), Due::Resting(queue.id()));
        }
        if let Some(session) = self.session_of(queue.name()) {
            self.check_session(session);
        }
    }

    /// A message for a session that rests: what was not stored for it goes to nobody.
    pub(super) fn deliver_to_resting(&mut self, session: Key, message: &Message, flags: u8) {
        let Some(queue) = session.resting_queue().and_then(|queue| self.shared.store.queue(queue)) else { return };
        // It may have come back since the message was routed.
        if let Some(awake) = self.session_of(queue.name()) {
            return self.pump(awake);
        }
        if effective_qos(message.qos, flags) > QoS::AtMostOnce || queue.keeps_qos0() {
            return;
        }
        self.counters.count_drop(DropReason::QoS0);
        if self.shared.hooks.wants(HookPoint::DeliveryDropped) {
            let client = Client::internal(queue.name());
            self.tell(HookPoint::DeliveryDropped, &client, About::Dropped { message, reason: DropReason::QoS0 });
        }
    }

    /// Makes a stored session one of this worker's.
    fn settle_in(&mut self, understood: Understood) {
        let Understood { client, state, place, queue, zone, subscriptions, received } = understood;
        govern(&queue, &zone);
        queue.set_keeps_qos0(zone.limits.mqueue_store_qos0);
        let client = Arc::new(client);
        let mut session = Session::new(Arc::clone(&client));
        let is_by_rank = zone.ranking > 0 || queue.is_ranked();
        session.inflight = if is_by_rank { Inflight::by_rank(queue.released()) } else { Inflight::starting_at(queue.front()) };
        let now_ms = clock::now_ms();
        if !received.is_empty() {
            session.received.make().extend(received.into_iter().map(|packet_id| (packet_id, now_ms)));
        }
        // By rank, anything may have been.
        let maybe_sent_below = if is_by_rank { queue.next() } else { queue.front() + u64::from(zone.limits.inflight_max) };
        let expires_at = self.expires_at(state);
        // The broker's end was the end of its connection, where it had one.
        let will_at = place.will.as_ref().map(|will| {
            let delay_secs = will.properties.number(PropertyId::WillDelayInterval).unwrap_or(0).min(state.expiry_secs);
            self.now + Duration::from_secs(delay_secs.into()).saturating_sub(away(state))
        });
        let outbox =
            Outbox::Durable { queue, state: Box::new(state), ahead: Seldom::default(), cache: Seldom::default(), maybe_sent_below };
        let resident = Resident {
            session,
            connection: None,
            arriving: None,
            outbox,
            zone,
            memberships: Seldom::default(),
            scans: Seldom::default(),
            checks_deliveries: false,
            takeovers: Seldom::default(),
            will: place.will.map(Box::new),
            away: Seldom::default(),
        };
        let key = self.sessions.insert_with(|_| resident);
        self.by_client.insert(&self.sessions, key);
        for (filter, held) in subscriptions {
            // An exclusive one was its before, so it is free.
            let _granted = self.enter_routes(key, &filter, held);
            if let Some(resident) = self.sessions.get_mut(key) {
                resident.session.subscriptions.insert(&filter, held);
            }
        }
        self.set_presence(key, None);
        let away = Away { will_at, expires_at };
        if let Some(at) = away.next() {
            if let Some(resident) = self.sessions.get_mut(key) {
                *resident.away.make() = away;
            }
            self.timers.set(at, Due::Session(key));
        }
    }

    /// When a stored session ends; `None`: never.
    fn expires_at(&self, state: StoredState) -> Option<Instant> {
        let expiry = Duration::from_secs(state.expiry_secs.into());
        (state.expiry_secs != u32::MAX).then(|| self.now + expiry.saturating_sub(away(state)))
    }
}

/// How long its client has been away.
fn away(state: StoredState) -> Duration {
    if state.disconnected_at_ms == 0 {
        return Duration::ZERO;
    }
    Duration::from_millis(clock::now_ms().saturating_sub(state.disconnected_at_ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_of_a_resting_session_names_its_queue_and_no_place() {
        for queue in [1, 7, u64::from(u32::MAX), 1 << 40] {
            let key = Key::of_resting(QueueId(queue));
            assert_eq!(key.resting_queue(), Some(QueueId(queue)));
        }
        assert_eq!(Key { index: 7, generation: 9 }.resting_queue(), None);
    }
}
