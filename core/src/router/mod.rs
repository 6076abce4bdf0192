//! Which sessions want a topic.
//!
//! In: subscriptions of sessions, each with the address of its home; a topic name.
//! Out: [`Targets`], grouped by worker and with the durable queues apart, ready to be posted and committed.
//!
//! Exact filters lie in sharded maps, wildcard filters in a trie. Workers cache the answers; version numbers say when
//! an answer is old.

mod cache;
mod trie;

use std::hash::BuildHasher;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hookline_mqtt::packet::SubscriptionOptions;
use hookline_mqtt::{QoS, topic};
use parking_lot::RwLock;
use smallvec::SmallVec;

pub(crate) use cache::RouteCache;

use crate::HashMap;
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
}

/// A session that gets a message, with how: all its matching subscriptions become one delivery.
#[derive(Debug, Clone)]
pub(crate) struct Target {
    pub(crate) session: Key,
    /// The highest of its subscriptions.
    pub(crate) qos: QoS,
    /// Every matching subscription asks not to get its own messages.
    pub(crate) no_local: bool,
    pub(crate) retain_as_published: bool,
    pub(crate) identifiers: SmallVec<[u32; 2]>,
}

/// Everybody who wants a topic.
#[derive(Debug, Default)]
pub(crate) struct Targets {
    /// The targets of each worker that has any.
    pub(crate) workers: Vec<(u16, Arc<[Target]>)>,
    /// The durable sessions that want it at QoS 1 or 2.
    pub(crate) queues: Vec<DurableTarget>,
}

/// A durable session that gets a message at QoS 1 or 2.
#[derive(Debug)]
pub(crate) struct DurableTarget {
    pub(crate) address: Address,
    pub(crate) queue: Arc<Queue>,
    pub(crate) flags: u8,
    pub(crate) no_local: bool,
}

impl Targets {
    pub(crate) fn is_empty(&self) -> bool {
        self.workers.is_empty()
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
}

const SHARDS: usize = 64;

/// The table of subscriptions. Shared by all workers; each changes only those of its own sessions.
#[derive(Debug)]
pub(crate) struct Router {
    hasher: foldhash::fast::RandomState,
    exact: Vec<RwLock<HashMap<Box<str>, Vec<Subscriber>>>>,
    exact_versions: Vec<AtomicU64>,
    wildcard: RwLock<Trie>,
    wildcard_version: AtomicU64,
}

/// Says whether an answer is still right.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Version {
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
        }
    }
}

impl Router {
    fn shard(&self, topic: &str) -> usize {
        self.hasher.hash_one(topic) as usize % SHARDS
    }

    /// Adds a subscription, or takes the place of the session's earlier one with the same filter.
    pub(crate) fn subscribe(&self, filter: &str, subscriber: Subscriber) {
        if topic::has_wildcard(filter) {
            put(self.wildcard.write().entry(filter), subscriber);
            self.wildcard_version.fetch_add(1, Ordering::Release);
        } else {
            let shard = self.shard(filter);
            put(self.exact[shard].write().entry(filter.into()).or_default(), subscriber);
            self.exact_versions[shard].fetch_add(1, Ordering::Release);
        }
    }

    /// Ends a subscription.
    pub(crate) fn unsubscribe(&self, filter: &str, address: Address) {
        if topic::has_wildcard(filter) {
            self.wildcard.write().remove(filter, address);
            self.wildcard_version.fetch_add(1, Ordering::Release);
        } else {
            let shard = self.shard(filter);
            let mut map = self.exact[shard].write();
            if let Some(subscribers) = map.get_mut(filter) {
                subscribers.retain(|subscriber| subscriber.address != address);
                if subscribers.is_empty() {
                    map.remove(filter);
                }
            }
            self.exact_versions[shard].fetch_add(1, Ordering::Release);
        }
    }

    /// The version that an answer for `topic` would have now.
    pub(crate) fn version(&self, topic: &str) -> Version {
        Version {
            exact: self.exact_versions[self.shard(topic)].load(Ordering::Acquire),
            wildcard: self.wildcard_version.load(Ordering::Acquire),
        }
    }

    /// Every subscription that matches.
    fn subscribers(&self, topic: &str) -> Vec<Subscriber> {
        let mut found = Vec::new();
        if let Some(subscribers) = self.exact[self.shard(topic)].read().get(topic) {
            found.extend_from_slice(subscribers);
        }
        self.wildcard.read().matching(topic, &mut |subscribers| found.extend_from_slice(subscribers));
        found
    }

    /// Everybody who wants `topic`.
    pub(crate) fn targets(&self, topic: &str) -> Targets {
        let mut by_worker: Vec<(u16, Vec<Target>)> = Vec::new();
        let mut places: HashMap<Address, (usize, usize)> = HashMap::default();
        let mut durable: Vec<(Address, Arc<Queue>)> = Vec::new();
        for subscriber in self.subscribers(topic) {
            let worker = subscriber.address.worker;
            let group = by_worker.iter().position(|(w, _)| *w == worker).unwrap_or_else(|| {
                by_worker.push((worker, Vec::new()));
                by_worker.len() - 1
            });
            let targets = &mut by_worker[group].1;
            match places.get(&subscriber.address) {
                Some((_, place)) => targets[*place].merge(&subscriber),
                None => {
                    places.insert(subscriber.address, (group, targets.len()));
                    targets.push(Target::new(&subscriber));
                    durable.extend(subscriber.queue.map(|queue| (subscriber.address, queue)));
                }
            }
        }
        let mut result = Targets::default();
        for (address, queue) in durable {
            let (group, place) = places[&address];
            let target = &by_worker[group].1[place];
            if target.qos > QoS::AtMostOnce {
                let rap = if target.retain_as_published { flags::RETAIN_AS_PUBLISHED } else { 0 };
                result.queues.push(DurableTarget { address, queue, flags: target.qos as u8 | rap, no_local: target.no_local });
            }
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
            identifiers: Some(subscriber.identifier).filter(|id| *id != 0).into_iter().collect(),
        }
    }

    fn merge(&mut self, subscriber: &Subscriber) {
        self.qos = self.qos.max(subscriber.options.qos);
        self.no_local &= subscriber.options.no_local;
        self.retain_as_published |= subscriber.options.retain_as_published;
        self.identifiers.extend(Some(subscriber.identifier).filter(|id| *id != 0));
    }
}

fn put(subscribers: &mut Vec<Subscriber>, subscriber: Subscriber) {
    match subscribers.iter_mut().find(|other| other.address == subscriber.address) {
        Some(place) => *place = subscriber,
        None => subscribers.push(subscriber),
    }
}

#[cfg(test)]
mod tests;
