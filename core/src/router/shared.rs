//! Shared subscriptions: groups whose members take turns.
//!
//! A group is found with the filter, like a subscriber; which member gets a message is decided for each message anew, by
//! the publisher's worker. Members that have a connection and room in their window come first, so that one that is stuck
//! holds up nothing but what it has already.

use std::hash::BuildHasher;
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Weak};

use hookline_schemas::config::{SharedStrategy, WhenFull};
use parking_lot::RwLock;

use super::{Address, Subscriber, Target};
use crate::HashMap;

/// A group of one filter.
#[derive(Debug)]
pub(crate) struct Group {
    /// Tells groups apart for as long as the process runs.
    id: u64,
    pub(crate) name: Box<str>,
    members: RwLock<Members>,
    next: AtomicUsize,
    hasher: foldhash::fast::FixedState,
}

#[derive(Debug, Default)]
struct Members {
    list: Vec<Arc<Member>>,
    places: HashMap<Address, usize>,
}

/// A session in a group.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) subscriber: Subscriber,
    pub(crate) group: Weak<Group>,
    /// What its worker is handed; one target.
    pub(crate) target: Arc<[Target]>,
    online: AtomicBool,
    /// Messages of QoS 1 and 2 that may be on their way to it.
    window: AtomicU16,
    /// Those that it has and has not acknowledged; of a session in memory.
    load: AtomicU32,
}

/// A message that a member has and has not acknowledged: counts until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease(Arc<Member>);

impl Lease {
    pub(crate) fn member(&self) -> &Arc<Member> {
        &self.0
    }
}

impl Clone for Lease {
    fn clone(&self) -> Lease {
        Member::lease(&self.0)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.0.load.fetch_sub(1, Ordering::Relaxed);
    }
}

/// How a publisher has chosen in a group so far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Turn {
    group: u64,
    /// Who is next, by place: so that members who come and go change nothing for the others.
    next: usize,
    last: Option<Address>,
}

/// Members that are looked at for one that is free; then the first one that is there must do.
const LOOK_MAX: usize = 64;
/// Groups whose turn a publisher remembers.
const TURNS_MAX: usize = 64;

/// What a choice depends on.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) strategy: SharedStrategy,
    pub(crate) publisher: &'a str,
    pub(crate) topic: &'a str,
    /// The member that must not get it (again).
    pub(crate) exclude: Option<Address>,
    pub(crate) random: u64,
}

impl Group {
    pub(super) fn new(name: &str) -> Group {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Group {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            name: name.into(),
            members: RwLock::default(),
            next: AtomicUsize::new(0),
            hasher: foldhash::fast::FixedState::default(),
        }
    }

    /// Adds a member, or takes the place of what the session was in it.
    pub(super) fn join(self: &Arc<Self>, subscriber: Subscriber) -> Arc<Member> {
        let mut members = self.members.write();
        let address = subscriber.address;
        let member = Arc::new_cyclic(|own: &Weak<Member>| {
            let mut target = Target::new(&subscriber);
            target.member = Some(own.clone());
            Member {
                target: [target].into(),
                group: Arc::downgrade(self),
                online: AtomicBool::new(true),
                window: AtomicU16::new(u16::MAX),
                load: AtomicU32::new(0),
                subscriber,
            }
        });
        match members.places.get(&address).copied() {
            Some(place) => members.list[place] = Arc::clone(&member),
            None => {
                let place = members.list.len();
                members.places.insert(address, place);
                members.list.push(Arc::clone(&member));
            }
        }
        member
    }

    /// Removes a member; whether the group is empty now.
    pub(super) fn leave(&self, address: Address) -> bool {
        let mut members = self.members.write();
        if let Some(place) = members.places.remove(&address) {
            members.list.swap_remove(place);
            if let Some(moved) = members.list.get(place).map(|member| member.subscriber.address) {
                members.places.insert(moved, place);
            }
        }
        members.list.is_empty()
    }

    /// Chooses a member. Its own turn is the publisher's; `None` where nobody is there (any more).
    pub(crate) fn choose(&self, choice: &Choice<'_>, turns: &mut Vec<Turn>) -> Option<Arc<Member>> {
        let members = self.members.read();
        let count = members.list.len();
        if count == 0 {
            return None;
        }
        let start = match choice.strategy {
            SharedStrategy::RoundRobin => self.turn(turns, choice.random, count).take(count),
            SharedStrategy::RoundRobinPerGroup => {
                let after = |next: usize| Some(if next + 1 < count { next + 1 } else { 0 });
                self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, after).unwrap_or(0)
            }
            SharedStrategy::Random => choice.random as usize,
            SharedStrategy::HashClientid => self.hasher.hash_one(choice.publisher) as usize,
            SharedStrategy::HashTopic => self.hasher.hash_one(choice.topic) as usize,
            SharedStrategy::Sticky => match self.turn(turns, choice.random, count).last.and_then(|last| members.places.get(&last)) {
                Some(place) => *place,
                None => choice.random as usize,
            },
        };
        let candidates = || {
            let around = (0..count.min(LOOK_MAX)).map(|step| &members.list[(start % count + step) % count]);
            around.filter(|member| Some(member.subscriber.address) != choice.exclude)
        };
        let is_online = |member: &&Arc<Member>| member.online.load(Ordering::Relaxed);
        let found = candidates()
            .find(|member| is_online(member) && member.has_room())
            .or_else(|| candidates().find(|member| is_online(member) && !member.is_full()))
            // A durable session that is away keeps it; one that is full would only refuse it.
            .or_else(|| candidates().find(|member| !member.is_full()))
            .or_else(|| candidates().next());
        let found = found.cloned();
        if choice.strategy == SharedStrategy::Sticky {
            self.turn(turns, choice.random, count).last = found.as_ref().map(|member| member.subscriber.address);
        }
        found
    }

    /// The turn of a publisher, which begins anywhere: many publish once only.
    fn turn<'a>(&self, turns: &'a mut Vec<Turn>, random: u64, count: usize) -> &'a mut Turn {
        let place = turns.iter().position(|turn| turn.group == self.id).unwrap_or_else(|| {
            if turns.len() >= TURNS_MAX {
                turns.clear();
            }
            turns.push(Turn { group: self.id, next: random as usize % count, last: None });
            turns.len() - 1
        });
        &mut turns[place]
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.members.read().list.len()
    }
}

impl Turn {
    /// The place whose turn it is, of so many.
    fn take(&mut self, count: usize) -> usize {
        let place = if self.next < count { self.next } else { 0 };
        self.next = place + 1;
        place
    }
}

impl Member {
    /// Counts a message that it gets.
    pub(crate) fn lease(member: &Arc<Member>) -> Lease {
        member.load.fetch_add(1, Ordering::Relaxed);
        Lease(Arc::clone(member))
    }

    /// The session has a connection with that window, or none.
    pub(crate) fn set_online(&self, window: Option<u16>) {
        self.online.store(window.is_some(), Ordering::Relaxed);
        self.window.store(window.unwrap_or(0), Ordering::Relaxed);
    }

    /// Whether it still is the session's place in its group.
    pub(crate) fn is_in(&self, address: Address) -> bool {
        self.group.upgrade().is_some_and(|group| group.members.read().places.contains_key(&address))
    }

    fn has_room(&self) -> bool {
        let window = u64::from(self.window.load(Ordering::Relaxed));
        match &self.subscriber.queue {
            Some(queue) => queue.pending() < window,
            None => u64::from(self.load.load(Ordering::Relaxed)) < window,
        }
    }

    fn is_full(&self) -> bool {
        self.subscriber.queue.as_ref().is_some_and(|queue| queue.when_full() == Some(WhenFull::Refuse))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::slab::Key;

    fn subscriber(index: u32) -> Subscriber {
        Subscriber {
            address: Address { worker: 0, session: Key { index, generation: 0 } },
            options: hookline_mqtt::packet::SubscriptionOptions::default(),
            identifier: 0,
            queue: None,
            upgrade: false,
        }
    }

    fn choice(strategy: SharedStrategy, random: u64) -> Choice<'static> {
        Choice { strategy, publisher: "p", topic: "t", exclude: None, random }
    }

    fn share(strategy: SharedStrategy, members: u32, messages: u64) -> Vec<u64> {
        let group = Arc::new(Group::new("g"));
        (0..members).for_each(|index| drop(group.join(subscriber(index))));
        let mut turns = Vec::new();
        let mut counts = vec![0u64; members as usize];
        for message in 0..messages {
            let random = message.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 7;
            let member = group.choose(&choice(strategy, random), &mut turns).expect("there are members");
            counts[member.subscriber.address.session.index as usize] += 1;
        }
        counts
    }

    #[test]
    fn every_strategy_does_what_it_says() {
        for strategy in [SharedStrategy::RoundRobin, SharedStrategy::RoundRobinPerGroup] {
            assert!(share(strategy, 7, 700).iter().all(|count| *count == 100), "{strategy:?}");
        }
        assert!(share(SharedStrategy::Random, 5, 5000).iter().all(|count| (800..1200).contains(count)));
        for strategy in [SharedStrategy::Sticky, SharedStrategy::HashClientid, SharedStrategy::HashTopic] {
            assert_eq!(share(strategy, 5, 100).iter().filter(|count| **count > 0).count(), 1, "{strategy:?}");
        }
    }

    #[test]
    fn who_is_stuck_or_away_is_passed_over() {
        let group = Arc::new(Group::new("g"));
        let members: Vec<_> = (0..3).map(|index| group.join(subscriber(index))).collect();
        members.iter().for_each(|member| member.set_online(Some(2)));
        let mut turns = Vec::new();
        let mut chosen = |exclude| {
            let choice = Choice { exclude, ..choice(SharedStrategy::RoundRobin, 0) };
            group.choose(&choice, &mut turns).expect("there are members").subscriber.address.session.index
        };
        let leases: Vec<Lease> = (0..2).map(|_| Member::lease(&members[0])).collect();
        assert!((0..10).all(|_| chosen(None) != 0), "its window is full");
        members[1].set_online(None);
        assert!((0..10).all(|_| chosen(None) == 2));
        assert_eq!(chosen(Some(members[2].subscriber.address)), 0, "better one that is full than none");
        drop(leases);
        assert!((0..10).map(|_| chosen(None)).any(|index| index == 0));
    }

    #[test]
    fn a_hundred_thousand_members_come_and_go_fairly() {
        let group = Arc::new(Group::new("g"));
        for index in 0..100_000 {
            drop(group.join(subscriber(index)));
        }
        for index in (0..100_000).filter(|index| index % 10 != 0) {
            assert!(!group.leave(subscriber(index).address));
        }
        assert_eq!(group.len(), 10_000);
        let mut counts: HashMap<u32, u32> = HashMap::default();
        let mut turns = Vec::new();
        for _ in 0..100_000 {
            let member = group.choose(&choice(SharedStrategy::RoundRobin, 0), &mut turns).expect("there are members");
            *counts.entry(member.subscriber.address.session.index).or_default() += 1;
        }
        assert!(counts.len() == 10_000 && counts.values().all(|count| *count == 10));
        (0..100_000).filter(|index| index % 10 == 0).for_each(|index| assert_eq!(group.leave(subscriber(index).address), index == 99_990));
        assert_eq!(group.len(), 0);
    }
}
