//! The router against a naive matcher.

use proptest::prelude::*;

use hookline_schemas::QueueId;

use super::*;
use crate::store::QueueKind;

fn subscriber(index: u32) -> Subscriber {
    Subscriber {
        address: Address { worker: (index % 3) as u16, session: Key { index, generation: 0 } },
        options: SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() },
        identifier: 0,
        queue: index.is_multiple_of(2).then(|| Arc::new(Queue::new(QueueId(u64::from(index) + 1), QueueKind::Session, "c"))),
        upgrade: false,
    }
}

fn found(router: &Router, topic: &str) -> Vec<u32> {
    let targets = router.targets(topic);
    let mut found: Vec<u32> = targets.workers.iter().flat_map(|(_, t)| t.iter().map(|t| t.session.index)).collect();
    found.sort_unstable();
    found
}

proptest! {
    #[test]
    fn the_same_subscribers_as_a_naive_matcher(
        filters in proptest::collection::vec("(\\$S|a|b|\\+|)(/(a|b|\\+|)){0,3}(/#)?", 1..40),
        topics in proptest::collection::vec("(\\$S|a|b|)(/(a|b|)){0,4}", 1..20),
        gone in proptest::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        let mut filters: Vec<_> = filters.into_iter().filter(|f| topic::filter_is_valid(f, 128)).enumerate().map(|(i, f)| (i as u32, f)).collect();
        let router = Router::default();
        for (index, filter) in &filters {
            router.subscribe(filter, subscriber(*index));
        }
        for index in gone {
            if !filters.is_empty() {
                let (subscriber_index, filter) = filters.swap_remove(index.index(filters.len()));
                router.unsubscribe(&filter, subscriber(subscriber_index).address);
            }
        }
        for name in topics.iter().filter(|t| topic::name_is_valid(t, 128)) {
            let mut expect: Vec<u32> = filters.iter().filter(|(_, f)| topic::matches(f, name)).map(|(i, _)| *i).collect();
            expect.sort_unstable();
            prop_assert_eq!(found(&router, name), expect, "{}", name);
        }
    }
}

#[test]
fn overlapping_subscriptions_of_a_session_become_one_delivery() {
    let router = Router::default();
    let mut one = subscriber(2);
    one.identifier = 7;
    router.subscribe("a/#", one.clone());
    let mut two = one;
    two.identifier = 9;
    two.options.qos = QoS::ExactlyOnce;
    router.subscribe("a/b", two);
    let targets = router.targets("a/b");
    assert_eq!((targets.workers.len(), targets.queues.len()), (1, 1));
    let target = &targets.workers[0].1[0];
    assert_eq!(target.qos, QoS::ExactlyOnce);
    let mut identifiers = target.identifiers.to_vec();
    identifiers.sort_unstable();
    assert_eq!(identifiers, [7, 9]);
    assert_eq!(targets.queues[0].flags & flags::QOS, 2);
}

#[test]
fn ended_subscriptions_leave_no_nodes_behind() {
    let router = Router::default();
    for index in 0..100 {
        router.subscribe(&format!("a/{index}/+/c/#"), subscriber(index));
    }
    for index in 0..100 {
        router.unsubscribe(&format!("a/{index}/+/c/#"), subscriber(index).address);
    }
    assert_eq!(format!("{:?}", router.wildcard.read()), format!("{:?}", Trie::default()));
}

#[test]
fn topics_and_routes_are_counted_and_come_down_to_nothing() {
    let router = Router::default();
    for filter in ["a/+", "b"] {
        (0..3).for_each(|index| router.subscribe(filter, subscriber(index)));
        ["g", "h", "g"].iter().zip(3..).for_each(|(group, index)| drop(router.join(filter, group, subscriber(index))));
    }
    assert_eq!((router.topics(), router.routes()), (2, 6));
    for filter in ["a/+", "b"] {
        (0..3).for_each(|index| router.unsubscribe(filter, subscriber(index).address));
        router.leave(filter, "h", subscriber(4).address);
    }
    assert_eq!((router.topics(), router.routes()), (2, 2), "one group each is left");
    for filter in ["a/+", "b"] {
        [3, 5].iter().for_each(|index| router.leave(filter, "g", subscriber(*index).address));
        router.unsubscribe(filter, subscriber(9).address);
    }
    assert_eq!((router.topics(), router.routes()), (0, 0));
}

#[test]
fn a_cached_answer_is_not_used_after_a_change() {
    let (router, mut cache) = (Router::default(), RouteCache::default());
    assert!(cache.targets(&router, "a").1.is_empty());
    router.subscribe("+", subscriber(1));
    assert!(!cache.targets(&router, "a").1.is_empty());
    router.unsubscribe("+", subscriber(1).address);
    assert!(cache.targets(&router, "a").1.is_empty());
}

#[test]
fn filters_are_listed_part_by_part_and_found_one_by_one() {
    let router = Router::default();
    let mut all: Vec<String> = (0..50).map(|n| format!("exact/{n}")).collect();
    all.extend((0..50).map(|n| format!("wild/{n}/+")));
    all.extend(["#", "+", "+/a", "a/#", "a/+/b/#", "/+"].map(str::to_owned));
    all.iter().for_each(|filter| router.subscribe(filter, subscriber(1)));
    for part in [1, 7, 1000] {
        let mut found = Vec::new();
        for skip in (0..).step_by(part) {
            let here = router.filters(skip, part);
            found.extend(here.iter().cloned());
            if here.len() < part {
                break;
            }
        }
        found.sort_unstable();
        let mut expect = all.clone();
        expect.sort_unstable();
        assert_eq!(found, expect, "{part}");
    }
    assert!(all.iter().all(|filter| router.has_filter(filter)));
    assert!(["exact", "exact/50", "wild/1", "a", "a/+", "+/+", "wild/1/#"].iter().all(|filter| !router.has_filter(filter)));
}
