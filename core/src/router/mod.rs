//! Which sessions want a topic.
//!
//! In: subscriptions of sessions, each with the address of its home; a topic name.
//! Out: [`Targets`], grouped by worker and with the durable queues apart, ready to be posted and committed.
//!
//! Exact filters lie in sharded maps, wildcard filters in a trie. Workers cache the answers; version numbers say when
//! an answer is old.

mod cache;
mod shared;
mod trie;

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use hookline_mqtt::packet::SubscriptionOptions;
use hookline_mqtt::{QoS, topic};
use hookline_schemas::{Message, QueueId};
use parking_lot::RwLock;
use smallvec::SmallVec;

pub(crate) use cache::RouteCache;
pub(crate) use shared::{Choice, Group, Lease, Member, Turn};

use crate::HashMap;
use crate::seldom::Seldom;
use crate::slab::Key;
use crate::store::Queue;
use trie::Trie;

/// Where a session lives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Address {
    pub(crate) worker: u16,
    pub(crate) session: Key,
}

/// A subscription, as the router keeps it.
#[derive(Debug, Clone)]
pub(crate) struct Subscriber {
    pub(crate) address: Address,
    pub(crate) options: SubscriptionOptions,
    /// The subscription identifier; 0: none.
    pub(crate) identifier: u32,
    /// The queue of a durable session.
    pub(crate) queue: Option<Arc<Queue>>,
    /// Messages go at the higher of both QoS.
    pub(crate) upgrade: bool,
}

/// Who subscribes to one filter.
#[derive(Debug, Default)]
pub(crate) struct Interest {
    subscribers: Vec<Subscriber>,
    /// Where a session is in the list; only where they are many.
    places: Option<Box<HashMap<Address, u32>>>,
    groups: Seldom<Vec<Arc<Group>>>,
}

/// Subscribers of one filter that are found by looking at each.
const LOOKED_AT: usize = 32;

/// A session that gets a message, with how: all its matching subscriptions become one delivery.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) session: Key,
    /// The highest of its subscriptions.
    pub(crate) qos: QoS,
    /// Every matching subscription asks not to get its own messages.
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) upgrade: bool,
    pub(crate) identifiers: SmallVec<[u32; 2]>,
    /// It gets the message as a member of a group.
    pub(crate) member: Option<Weak<Member>>,
}

/// Everybody who wants a topic.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// The targets of each worker that has any.
    pub(crate) workers: Vec<(u16, Arc<[Target]>)>,
    /// The durable sessions among them.
    pub(crate) queues: Vec<DurableTarget>,
    /// Groups, of each of which one member gets it.
    pub(crate) groups: Vec<Arc<Group>>,
}

/// A durable session that gets a message.
#[derive(Debug)]
pub(crate) struct DurableTarget {
    pub(crate) queue: Arc<Queue>,
    pub(crate) flags: u8,
    no_local: bool,
}

impl DurableTarget {
    /// Whether the session does not want this message, because its client has published it.
    pub(crate) fn is_own(&self, message: &Message) -> bool {
        self.no_local && *self.queue.name() == *message.from.client_id
    }
}

impl Targets {
    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_empty() && self.groups.is_empty()
    }
}

/// The eight bits of a session's record in the store.
pub(crate) mod flags {
    /// The QoS of the subscription.
    pub(crate) const QOS: u8 = 0b11;
    /// Keep the RETAIN flag as published.
    pub(crate) const RETAIN_AS_PUBLISHED: u8 = 1 << 2;
    /// Sent because of a new subscription: RETAIN is set.
    pub(crate) const RETAINED: u8 = 1 << 3;
    /// It came by a shared subscription.
    pub(crate) const SHARED: u8 = 1 << 4;
    /// Another member of the group may have had it.
    pub(crate) const REPEATED: u8 = 1 << 5;
    /// The higher of both QoS holds.
    pub(crate) const UPGRADE: u8 = 1 << 6;
}

/// The QoS at which a message goes to a subscription with those flags.
pub(crate) fn effective_qos(published: QoS, flags: u8) -> QoS {
    let granted = QoS::from_bits(flags & flags::QOS).unwrap_or_default();
    if flags & flags::UPGRADE != 0 { granted.max(published) } else { granted.min(published) }
}

const SHARDS: usize = 64;

/// The table of subscriptions. Shared by all workers; each changes only those of its own sessions.
#[derive(Debug)]
pub(crate) struct Router {
    hasher: foldhash::fast::RandomState,
    exact: Vec<RwLock<HashMap<Box<str>, Interest>>>,
    exact_versions: Vec<AtomicU64>,
    wildcard: RwLock<Trie>,
    wildcard_version: AtomicU64,
    topics: AtomicU64,
    routes: AtomicU64,
}

/// Says whether an answer is still right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Version {
    exact: u64,
    wildcard: u64,
}

impl Default for Router {
    fn default() -> Self {
        Self {
            hasher: foldhash::fast::RandomState::default(),
            exact: (0..SHARDS).map(|_| RwLock::default()).collect(),
            exact_versions: (0..SHARDS).map(|_| AtomicU64::new(0)).collect(),
            wildcard: RwLock::default(),
            wildcard_version: AtomicU64::new(0),
            topics: AtomicU64::new(0),
            routes: AtomicU64::new(0),
        }
    }
}

impl Router {
    fn shard(&self, topic: &str) -> usize {
        self.hasher.hash_one(topic) as usize % SHARDS
    }

    /// Adds a subscription, or takes the place of the session's earlier one with the same filter.
    pub(crate) fn subscribe(&self, filter: &str, subscriber: Subscriber) {
        self.change(filter, |interest| {
            interest.put(subscriber);
            ((), Change::Answers)
        });
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, filter: &str, address: Address) {
        self.change(filter, |interest| {
            interest.remove(address);
            ((), Change::Answers)
        });
    }

    /// Makes a session a member of a group, which begins with its first one.
    pub(crate) fn join(&self, filter: &str, group: &str, subscriber: Subscriber) -> Arc<Member> {
        self.change(filter, |interest| match interest.groups().iter().find(|other| *other.name == *group) {
            // Answers name the group: who is in it is seen when it is asked.
            Some(known) => (known.join(subscriber), Change::Members),
            None => {
                let new = Arc::new(Group::new(group));
                let member = new.join(subscriber);
                interest.groups.make().push(new);
                (member, Change::Answers)
            }
        })
    }

    /// Takes a session from a group, which ends with its last one.
    pub(crate) fn leave(&self, filter: &str, group: &str, address: Address) {
        self.change(filter, |interest| {
            let Some(groups) = interest.groups.get_mut() else { return ((), Change::Members) };
            let before = groups.len();
            groups.retain(|other| *other.name != *group || !other.leave(address));
            let has_ended = groups.len() < before;
            if groups.is_empty() {
                interest.groups.clear();
            }
            ((), if has_ended { Change::Answers } else { Change::Members })
        });
    }

    /// Changes who is interested in a filter. What nobody is interested in any more leaves nothing behind.
    fn change<T>(&self, filter: &str, change: impl FnOnce(&mut Interest) -> (T, Change)) -> T {
        if topic::has_wildcard(filter) {
            let mut trie = self.wildcard.write();
            let interest = trie.entry(filter);
            let before = interest.routes();
            let (result, changed) = change(interest);
            self.count(before, interest.routes());
            if interest.is_empty() {
                trie.prune(filter);
            }
            if changed == Change::Answers {
                self.wildcard_version.fetch_add(1, Ordering::Release);
            }
            result
        } else {
            let shard = self.shard(filter);
            let mut map = self.exact[shard].write();
            let interest = map.entry(filter.into()).or_default();
            let before = interest.routes();
            let (result, changed) = change(interest);
            self.count(before, interest.routes());
            if interest.is_empty() {
                map.remove(filter);
            }
            if changed == Change::Answers {
                self.exact_versions[shard].fetch_add(1, Ordering::Release);
            }
            result
        }
    }

    /// Takes note that a filter led to `before` routes, and leads to `after` now.
    fn count(&self, before: u64, after: u64) {
        if before != after {
            // A difference below zero wraps, and so does the sum.
            self.routes.fetch_add(after.wrapping_sub(before), Ordering::Relaxed);
            self.topics.fetch_add(u64::from(after > 0).wrapping_sub(u64::from(before > 0)), Ordering::Relaxed);
        }
    }

    /// Filters that somebody subscribes to.
    pub(crate) fn topics(&self) -> u64 {
        self.topics.load(Ordering::Relaxed)
    }

    /// The same, once for all who subscribe alone and once for each group.
    pub(crate) fn routes(&self) -> u64 {
        self.routes.load(Ordering::Relaxed)
    }

    /// Filters that somebody subscribes to, in the order of the tables: `count` of them behind `skip` others.
    pub(crate) fn filters(&self, mut skip: usize, count: usize) -> Vec<String> {
        let mut found = Vec::new();
        for shard in &self.exact {
            let shard = shard.read();
            if skip >= shard.len() {
                skip -= shard.len();
                continue;
            }
            found.extend(shard.keys().skip(skip).take(count - found.len()).map(|filter| filter.to_string()));
            skip = 0;
            if found.len() == count {
                return found;
            }
        }
        self.wildcard.read().each_filter(&mut String::new(), &mut |filter| {
            if skip > 0 {
                skip -= 1;
            } else {
                found.push(filter.to_owned());
            }
            found.len() < count
        });
        found
    }

    /// Whether somebody subscribes to exactly this filter.
    pub(crate) fn has_filter(&self, filter: &str) -> bool {
        if topic::has_wildcard(filter) {
            let trie = self.wildcard.read();
            return trie.get(filter).is_some_and(|interest| !interest.is_empty());
        }
        self.exact[self.shard(filter)].read().contains_key(filter)
    }

    /// The version that an answer for `topic` would have now.
    fn version(&self, shard: usize) -> Version {
        Version { exact: self.exact_versions[shard].load(Ordering::Acquire), wildcard: self.wildcard_version.load(Ordering::Acquire) }
    }

    /// Whether anybody wants that topic.
    pub(crate) fn is_wanted(&self, topic: &str) -> bool {
        let (subscribers, groups) = self.interested(topic);
        !subscribers.is_empty() || !groups.is_empty()
    }

    /// Every subscription and group that matches.
    fn interested(&self, topic: &str) -> (Vec<Subscriber>, Vec<Arc<Group>>) {
        let (mut subscribers, mut groups) = (Vec::new(), Vec::new());
        let mut add = |interest: &Interest| {
            subscribers.extend_from_slice(&interest.subscribers);
            groups.extend_from_slice(interest.groups());
        };
        if let Some(interest) = self.exact[self.shard(topic)].read().get(topic) {
            add(interest);
        }
        self.wildcard.read().matching(topic, &mut add);
        (subscribers, groups)
    }

    /// Everybody who wants `topic`.
    pub(crate) fn targets(&self, topic: &str) -> Targets {
        let mut by_worker: Vec<(u16, Vec<Target>)> = Vec::new();
        // A durable session is its queue, under whatever address.
        let identity = |subscriber: &Subscriber| subscriber.queue.as_ref().map_or(Err(subscriber.address), |queue| Ok(queue.id()));
        let mut places: HashMap<Result<QueueId, Address>, (usize, usize)> = HashMap::default();
        let mut durable: Vec<(Result<QueueId, Address>, Arc<Queue>)> = Vec::new();
        let (subscribers, groups) = self.interested(topic);
        for subscriber in subscribers {
            let worker = subscriber.address.worker;
            let group = by_worker.iter().position(|(w, _)| *w == worker).unwrap_or_else(|| {
                by_worker.push((worker, Vec::new()));
                by_worker.len() - 1
            });
            let targets = &mut by_worker[group].1;
            match places.get(&identity(&subscriber)) {
                Some((_, place)) => targets[*place].merge(&subscriber),
                None => {
                    let identity = identity(&subscriber);
                    places.insert(identity, (group, targets.len()));
                    targets.push(Target::new(&subscriber));
                    durable.extend(subscriber.queue.map(|queue| (identity, queue)));
                }
            }
        }
        let mut result = Targets { groups, ..Targets::default() };
        for (identity, queue) in durable {
            let (group, place) = places[&identity];
            let target = &by_worker[group].1[place];
            result.queues.push(DurableTarget { queue, flags: target.flags(), no_local: target.no_local });
        }
        result.workers = by_worker.into_iter().map(|(worker, targets)| (worker, targets.into())).collect();
        result
    }
}

impl Target {
    fn new(subscriber: &Subscriber) -> Target {
        Target {
            session: subscriber.address.session,
            qos: subscriber.options.qos,
            no_local: subscriber.options.no_local,
            retain_as_published: subscriber.options.retain_as_published,
            upgrade: subscriber.upgrade,
            member: None,
            identifiers: Some(subscriber.identifier).filter(|id| *id != 0).into_iter().collect(),
        }
    }

    fn merge(&mut self, subscriber: &Subscriber) {
        self.qos = self.qos.max(subscriber.options.qos);
        self.no_local &= subscriber.options.no_local;
        self.retain_as_published |= subscriber.options.retain_as_published;
        self.upgrade |= subscriber.upgrade;
        self.identifiers.extend(Some(subscriber.identifier).filter(|id| *id != 0));
    }
}

impl Target {
    /// As the store keeps it.
    pub(crate) fn flags(&self) -> u8 {
        let when = |condition: bool, flag: u8| if condition { flag } else { 0 };
        self.qos as u8
            | when(self.retain_as_published, flags::RETAIN_AS_PUBLISHED)
            | when(self.upgrade, flags::UPGRADE)
            | when(self.member.is_some(), flags::SHARED)
    }
}

impl Interest {
    fn is_empty(&self) -> bool {
        self.subscribers.is_empty() && self.groups().is_empty()
    }

    fn groups(&self) -> &[Arc<Group>] {
        self.groups.get().map_or(&[], Vec::as_slice)
    }

    /// Those who subscribe alone are one, each group is another.
    fn routes(&self) -> u64 {
        u64::from(!self.subscribers.is_empty()) + self.groups().len() as u64
    }

    fn place(&self, address: Address) -> Option<usize> {
        match &self.places {
            Some(places) => places.get(&address).map(|place| *place as usize),
            None => self.subscribers.iter().position(|subscriber| subscriber.address == address),
        }
    }

    fn put(&mut self, subscriber: Subscriber) {
        if let Some(place) = self.place(subscriber.address) {
            self.subscribers[place] = subscriber;
            return;
        }
        if let Some(places) = &mut self.places {
            places.insert(subscriber.address, self.subscribers.len() as u32);
        }
        if self.subscribers.is_empty() {
            // Most filters have one subscriber only.
            self.subscribers.reserve_exact(1);
        }
        self.subscribers.push(subscriber);
        if self.places.is_none() && self.subscribers.len() > LOOKED_AT {
            let numbered = self.subscribers.iter().zip(0..);
            self.places = Some(Box::new(numbered.map(|(subscriber, place)| (subscriber.address, place)).collect()));
        }
    }

    fn remove(&mut self, address: Address) {
        let Some(place) = self.place(address) else { return };
        self.subscribers.swap_remove(place);
        if let Some(places) = &mut self.places {
            places.remove(&address);
            if let Some(moved) = self.subscribers.get(place) {
                places.insert(moved.address, place as u32);
            }
        }
        if self.subscribers.len() <= LOOKED_AT / 2 {
            self.places = None;
        }
    }
}

/// What a change means for answers that were given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Change {
    /// They are old.
    Answers,
    /// Only who is in a group: they hold.
    Members,
}

#[cfg(test)]
mod tests;
