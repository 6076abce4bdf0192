//! Messages for shared subscriptions: which member gets one, and what becomes of it when that member goes.

use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_mqtt::topic::{self, Subscription};
use hookline_schemas::Message;
use hookline_schemas::event::DropReason;
use smallvec::SmallVec;

use super::deferred::Deferred;
use super::{Outbox, Resident, Worker};
use crate::mailbox::Mail;
use crate::metrics::Counters;
use crate::router::{Address, Choice, Group, Member, Targets, effective_qos, flags};
use crate::slab::Key;
use crate::store::{Position, QueueTarget, Slot};

/// Stored messages of one session that are given to others when it ends; the rest is counted as dropped.
const REDISPATCH_MAX: usize = 20_000;

impl Worker {
    /// One member of each group that wants the message. `session` is the publisher's.
    pub(super) fn choose_members(&mut self, message: &Message, targets: &Targets, session: Option<Key>) -> SmallVec<[Arc<Member>; 1]> {
        if targets.groups.is_empty() {
            return SmallVec::new();
        }
        let random = self.next_random();
        let strategy = self.shared.zones.get(&message.from.zone).limits.shared_strategy;
        let mut none = Vec::new();
        let publisher = session.and_then(|session| self.sessions.get_mut(session));
        let turns = publisher.map_or(&mut none, |resident| resident.session.turns.make());
        let choice = Choice { strategy, publisher: &message.from.client_id, topic: &message.topic, exclude: None, random };
        targets.groups.iter().filter_map(|group| group.choose(&choice, turns)).collect()
    }

    /// Hands a message to a member's worker.
    pub(super) fn send_to_member(&mut self, member: &Arc<Member>, message: &Arc<Message>, position: Option<Position>, repeated: bool) {
        let home = member.subscriber.address.worker;
        if home == self.number {
            self.deliver_shared(member, message, position, repeated);
        } else {
            let mail = Mail::DeliverShared { message: Arc::clone(message), member: Arc::clone(member), position, repeated };
            self.outgoing[usize::from(home)].push(mail);
        }
    }

    /// Delivers a message to a member that lives here; to another one where it is gone.
    pub(super) fn deliver_shared(&mut self, member: &Arc<Member>, message: &Arc<Message>, position: Option<Position>, repeated: bool) {
        let target = &member.target[0];
        // What the store has for it may be given to others with its queue, too: rather twice than not at all.
        if self.sessions.get(target.session).is_none() {
            return self.redispatch(member, message, repeated);
        }
        let repeated = if repeated { flags::REPEATED } else { 0 };
        self.deliver_with(target, message, position, target.flags() | repeated);
    }

    /// Gives a message that was a member's to another one of its group.
    fn redispatch(&mut self, from: &Arc<Member>, message: &Arc<Message>, repeated: bool) {
        let group = from.group.upgrade();
        let found = group.and_then(|group| self.choose_other(&group, message, from.subscriber.address));
        let Some(member) = found else { return self.drop_message(message, DropReason::NoSubscribers) };
        Counters::count(&self.counters.redispatched);
        let qos = effective_qos(message.qos, member.target[0].flags());
        let queue = member.subscriber.queue.as_ref().filter(|queue| qos > QoS::AtMostOnce || queue.keeps_qos0());
        let Some(queue) = queue else { return self.send_to_member(&member, message, None, repeated) };
        let repeated = if repeated { flags::REPEATED } else { 0 };
        let rank = self.shared.zones.rank(queue.ranking(), &message.topic);
        let target = QueueTarget { queue: queue.id(), flags: member.target[0].flags() | repeated, rank };
        let record = Some(self.batch.message(&[target], message));
        let members = SmallVec::from_iter([Arc::clone(&member)]);
        let (message, targets) = (Arc::clone(message), Arc::default());
        self.defer(Deferred::Publish { publisher: None, message, targets, members, record, delivered: None });
    }

    fn choose_other(&mut self, group: &Arc<Group>, message: &Message, exclude: Address) -> Option<Arc<Member>> {
        let random = self.next_random();
        let strategy = hookline_schemas::config::SharedStrategy::Random;
        let choice = Choice { strategy, publisher: &message.from.client_id, topic: &message.topic, exclude: Some(exclude), random };
        group.choose(&choice, &mut Vec::new())
    }

    /// Gives away what a session that ends has by shared subscriptions. It has left its groups already.
    pub(super) fn redispatch_all(&mut self, resident: &mut Resident, session: Key) {
        for (message, _, lease) in resident.session.inflight.take_shared() {
            self.redispatch(lease.member(), &message, true);
        }
        match &mut resident.outbox {
            Outbox::Memory(waiting) => {
                let waiting: Vec<_> = std::iter::from_fn(|| waiting.pop()).collect();
                for waiting in waiting {
                    if let Some(lease) = &waiting.lease {
                        self.redispatch(lease.member(), &waiting.message, false);
                    }
                }
            }
            Outbox::Durable { .. } => self.redispatch_stored(resident, session),
        }
    }

    /// As [`Worker::redispatch_all`], for what waits in the store.
    fn redispatch_stored(&mut self, resident: &mut Resident, session: Key) {
        let memberships = resident.memberships.take();
        if memberships.is_empty() {
            return;
        }
        let Outbox::Durable { queue, cache, .. } = &mut resident.outbox else { return };
        let mut left = REDISPATCH_MAX;
        let mut sequences = queue.sequences(0);
        while let Some(sequence) = sequences.next() {
            let Slot::Waits(position) = queue.look(sequence) else { continue };
            if left == 0 {
                let rest = sequences.count() + 1;
                tracing::error!(client = queue.name(), rest, "a session of a group has ended with more messages than are given to others");
                return;
            }
            left -= 1;
            let Ok(Some(stored)) = self.shared.store.message(queue.id(), position, cache.make()) else { continue };
            let repeated = resident.session.inflight.has_gone(sequence);
            // [MQTT-4.8.2-5] What was sent at QoS 2 is this client's.
            let kept = repeated && effective_qos(stored.message.qos, stored.flags) == QoS::ExactlyOnce;
            if stored.flags & flags::SHARED == 0 || kept {
                continue;
            }
            let message = Arc::new(stored.message);
            let member = memberships.iter().find(|member| resident.session.shared_matches(member, &message.topic));
            if let Some(member) = member.filter(|member| member.subscriber.address == Address { worker: self.number, session }) {
                self.redispatch(member, &message, repeated);
            }
        }
    }
}

impl crate::session::Session {
    /// Whether a topic can have come by this membership.
    fn shared_matches(&self, member: &Member, topic: &str) -> bool {
        let Some(group) = member.group.upgrade() else { return false };
        self.subscriptions.filters().any(|filter| match Subscription::parse(filter) {
            Some(Subscription::Shared { group: name, .. }) => *name == *group.name && topic::matches(&self.routed(filter), topic),
            _ => false,
        })
    }
}
