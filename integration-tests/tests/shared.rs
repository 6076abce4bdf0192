//! Shared subscriptions: who of a group gets a message by each strategy, what becomes of it when a member goes, and groups with
//! thousands of members that come and go. `routing.rs` has what a stuck member holds up, and what a restart leaves.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Client, Options, Received};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(10);
const LONG: Duration = Duration::from_secs(60);
/// Between two looks for messages.
const MOMENT: Duration = Duration::from_millis(5);
/// Counts every second.
const TELLS: &str = "[sys]\ninterval_secs = 1\n[node]\nname = \"n\"\n";

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn subscribe(client: &mut Client, filter: &str, qos: QoS) {
    let codes = client.subscribe(&[(filter, qos)]).expect("answered");
    assert!(!codes[0].is_error(), "{filter}: {codes:?}");
}

fn next(client: &mut Client) -> Received {
    client.receive(SOON).expect("holds").expect("arrives")
}

/// A member of a group, such as `$share/g/t`.
fn join(broker: &Broker, options: &Options, filter: &str) -> Client {
    let mut member = broker.connect(options);
    subscribe(&mut member, filter, QoS::AtLeastOnce);
    member
}

/// The number that a message carries.
fn number(message: &Received) -> u32 {
    u32::from_be_bytes(message.payload[..].try_into().expect("four bytes"))
}

/// Publishes numbers at QoS 0, and waits until the broker has taken the last.
fn flood(publisher: &mut Client, topic: &str, numbers: impl IntoIterator<Item = u32>) {
    for number in numbers {
        publisher.send(topic, &number.to_be_bytes(), QoS::AtMostOnce, false, &Properties::default()).expect("sent");
    }
    publisher.ping().expect("answers behind the last");
}

/// Publishes numbers at QoS 1, many on their way at once, and waits until all are taken.
fn publish_all(publisher: &mut Client, topic: &str, numbers: Range<u32>) {
    for first in numbers.clone().step_by(50) {
        let window = first..numbers.end.min(first + 50);
        for number in window.clone() {
            publisher.send(topic, &number.to_be_bytes(), QoS::AtLeastOnce, false, &Properties::default()).expect("sent");
        }
        for _ in window {
            let (_, reason) = publisher.next_ack(LONG).expect("holds").expect("acknowledged");
            assert_eq!(reason, ReasonCode::Success);
        }
    }
}

/// Members, each a connection.
struct Members(Vec<Client>);

impl Members {
    fn join(broker: &Broker, count: usize, filter: &str) -> Members {
        Members((0..count).map(|n| join(broker, &v5(&format!("member-{n}")), filter)).collect())
    }

    /// Receives until there are so many; what each has got, in its order.
    fn collect(&mut self, total: usize) -> Vec<Vec<Received>> {
        let deadline = Instant::now() + LONG;
        let mut got: Vec<Vec<Received>> = vec![Vec::new(); self.0.len()];
        loop {
            for (member, got) in self.0.iter_mut().zip(&mut got) {
                got.extend(std::iter::from_fn(|| member.receive(MOMENT).expect("holds")));
            }
            let count: usize = got.iter().map(Vec::len).sum();
            if count >= total {
                assert_eq!(count, total, "each message goes to one member");
                return got;
            }
            assert!(Instant::now() < deadline, "{count} of {total} messages have come");
        }
    }
}

/// A broker whose listeners are called as the strategies: who publishes there has that one.
fn broker_with_strategies(folder: &tempfile::TempDir) -> Broker {
    let strategies = ["round_robin", "round_robin_per_group", "random", "sticky", "hash_clientid", "hash_topic"];
    let zone = |name: &str| format!("[zones.{name}.mqtt]\nshared_strategy = \"{name}\"\n");
    let listener = |name: &str| format!("[listeners.tcp.{name}]\nbind = \"127.0.0.1:0\"\nzone = \"{name}\"\n");
    let config: String = strategies.iter().map(|name| zone(name) + &listener(name)).collect();
    Broker::start(folder.path(), &config)
}

fn publisher(broker: &Broker, strategy: &str, id: &str) -> Client {
    Client::connect(broker.address_of(&format!("tcp.{strategy}")), &v5(id)).expect("connects")
}

/// Each has its share, within 10 %.
fn assert_fair(counts: &[usize]) {
    let share = counts.iter().sum::<usize>() as f64 / counts.len() as f64;
    assert!(counts.iter().all(|count| (*count as f64 - share).abs() <= share / 10.0), "{counts:?}, where {share} is fair");
}

/// The numbers went to the members in turns: the first to one, the second to another, and so on.
fn assert_in_turns(got: &[Vec<Received>], numbers: &Range<u32>) {
    let members = got.len() as u32;
    let turns: BTreeSet<u32> = got
        .iter()
        .map(|messages| {
            let mine: Vec<u32> = messages.iter().map(number).filter(|number| numbers.contains(number)).collect();
            assert!(mine.windows(2).all(|pair| pair[1] == pair[0] + members), "each of its turns, and in their order: {mine:?}");
            mine.first().expect("it has its share") % members
        })
        .collect();
    assert_eq!(turns.len(), got.len());
}

/// Which member has got all messages of a number; no number went to two.
fn owners(got: &[Vec<Received>]) -> BTreeMap<u32, usize> {
    let mut owners = BTreeMap::new();
    for (member, messages) in got.iter().enumerate() {
        for message in messages {
            let owner = *owners.entry(number(message)).or_insert(member);
            assert_eq!(owner, member, "{} went to two members", number(message));
        }
    }
    owners
}

#[test]
fn round_robin_takes_turns_for_each_publisher() {
    let folder = folder();
    let broker = broker_with_strategies(&folder);
    let mut members = Members::join(&broker, 4, "$share/g/t");
    let ranges = [0..5000, 5000..10_000];
    std::thread::scope(|scope| {
        for numbers in ranges.clone() {
            let broker = &broker;
            scope.spawn(move || flood(&mut publisher(broker, "round_robin", &format!("p-{}", numbers.start)), "t", numbers));
        }
    });
    let got = members.collect(10_000);
    assert_fair(&got.iter().map(Vec::len).collect::<Vec<_>>());
    ranges.iter().for_each(|numbers| assert_in_turns(&got, numbers));
}

#[test]
fn round_robin_per_group_takes_turns_over_all_publishers() {
    let folder = folder();
    let broker = broker_with_strategies(&folder);
    let mut members = Members::join(&broker, 4, "$share/g/t");
    let mut publishers = ["p", "q"].map(|id| publisher(&broker, "round_robin_per_group", id));
    // Each ends in the middle of a round, and the other goes on there.
    for (turn, numbers) in [0..3333, 3333..6667, 6667..10_000].into_iter().enumerate() {
        flood(&mut publishers[turn % 2], "t", numbers);
    }
    let got = members.collect(10_000);
    assert_fair(&got.iter().map(Vec::len).collect::<Vec<_>>());
    assert_in_turns(&got, &(0..10_000));
}

#[test]
fn random_is_fair_and_keeps_no_turns() {
    let folder = folder();
    let broker = broker_with_strategies(&folder);
    let mut members = Members::join(&broker, 4, "$share/g/t");
    flood(&mut publisher(&broker, "random", "p"), "t", 0..10_000);
    let got = members.collect(10_000);
    assert_fair(&got.iter().map(Vec::len).collect::<Vec<_>>());
    let in_a_row = got[0].windows(2).filter(|pair| number(&pair[1]) == number(&pair[0]) + 1).count();
    assert!(in_a_row > 100, "a quarter of its messages is followed by the next: {in_a_row}");
}

#[test]
fn sticky_stays_with_a_member_as_long_as_it_is_there() {
    let folder = folder();
    let broker = broker_with_strategies(&folder);
    let mut members = Members::join(&broker, 4, "$share/g/t");
    let mut publishers: Vec<Client> = (0..12).map(|n| publisher(&broker, "sticky", &format!("p-{n}"))).collect();
    let mut round = |members: &mut Members| {
        publishers.iter_mut().zip(0..).for_each(|(publisher, n)| flood(publisher, "t", [n; 50]));
        owners(&members.collect(12 * 50))
    };
    let first = round(&mut members);
    assert!(first.values().collect::<BTreeSet<_>>().len() > 1, "each has chosen for itself: {first:?}");
    assert_eq!(round(&mut members), first);
    let gone = first[&0];
    members.0[gone].unsubscribe(&["$share/g/t"]).expect("unsubscribed");
    let second = round(&mut members);
    assert!(second.values().all(|member| *member != gone));
    let stays = |(publisher, member): (&u32, &usize)| *member == gone || second[publisher] == *member;
    assert!(first.iter().all(stays), "the others stay: {first:?} {second:?}");
    members.0.push(join(&broker, &v5("new"), "$share/g/t"));
    assert_eq!(round(&mut members), second, "nobody moves to a new member");
}

#[test]
fn hash_clientid_finds_the_same_member_for_a_publisher_that_comes_back() {
    let folder = folder();
    let broker = broker_with_strategies(&folder);
    let mut members = Members::join(&broker, 4, "$share/g/s/+");
    let mut round = || {
        for n in 0..40u32 {
            let mut publisher = publisher(&broker, "hash_clientid", &format!("device-{n}"));
            (0..3).for_each(|topic| flood(&mut publisher, &format!("s/{topic}"), [n]));
        }
        owners(&members.collect(40 * 3))
    };
    let first = round();
    assert!(first.values().collect::<BTreeSet<_>>().len() > 1, "they do not all go to one: {first:?}");
    assert_eq!(round(), first);
}

#[test]
fn hash_topic_finds_the_same_member_for_a_topic_whoever_publishes() {
    let folder = folder();
    let broker = broker_with_strategies(&folder);
    let mut members = Members::join(&broker, 4, "$share/g/s/+");
    let mut publishers = ["p", "q"].map(|id| publisher(&broker, "hash_topic", id));
    let mut round = |members: &mut Members| {
        for publisher in &mut publishers {
            (0..200).for_each(|n| flood(publisher, &format!("s/{n}"), [n]));
        }
        owners(&members.collect(2 * 200))
    };
    let first = round(&mut members);
    assert_eq!(first.values().collect::<BTreeSet<_>>().len(), 4, "everybody has some");
    assert_eq!(round(&mut members), first);
    members.0[first[&0]].unsubscribe(&["$share/g/s/+"]).expect("unsubscribed");
    let second = round(&mut members);
    assert!(second.values().all(|member| *member != first[&0]), "its topics have others now");
    assert_eq!(round(&mut members), second);
}

#[test]
fn queues_other_groups_and_other_filters_get_each_message_too() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let filters = ["$queue/t", "$queue/t", "$share/g/t", "$share/g/t", "$share/h/t", "$share/g/+", "$queue/#", "t"];
    let members = filters.iter().zip(0..).map(|(filter, n): (_, u32)| join(&broker, &v5(&format!("member-{n}")), filter));
    let mut members = Members(members.collect());
    flood(&mut broker.connect(&v5("p")), "t", 0..100);
    let got = members.collect(6 * 100);
    for group in [0..2, 2..4, 4..5, 5..6, 6..7, 7..8] {
        let mut numbers: Vec<u32> = got[group.clone()].iter().flatten().map(number).collect();
        numbers.sort_unstable();
        assert_eq!(numbers, (0..100).collect::<Vec<_>>(), "{:?}", &filters[group]);
    }
    assert_fair(&got[..4].iter().map(Vec::len).collect::<Vec<_>>());
}

/// Says that it is over when it goes, also when the test fails: threads that wait for it end.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn nothing_is_lost_when_members_go_with_messages_in_flight() {
    const ROUNDS: u32 = 8;
    const EACH: u32 = 600;
    let folder = folder();
    let broker = Broker::start(folder.path(), "[mqtt]\nmqueue_max = 100000\n");
    let mut publisher = broker.connect(&v5("p"));
    let over = AtomicBool::new(false);
    let (tell, told) = mpsc::channel();
    std::thread::scope(|scope| {
        let end = Over(&over);
        for n in 0..2 {
            let mut member = join(&broker, &v5(&format!("stays-{n}")), "$share/g/t");
            let (tell, over) = (tell.clone(), &over);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    if let Some(message) = member.receive(MOMENT).expect("holds") {
                        // A test that has failed does not listen any more.
                        drop(tell.send(message));
                    }
                }
            });
        }
        let mut had = BTreeSet::new();
        for round in 0..ROUNDS {
            let mut member = join(&broker, &v5(&format!("goes-{round}")), "$share/g/t");
            let (first, half) = (round * EACH, round * EACH + EACH / 2);
            publish_all(&mut publisher, "t", first..half);
            for _ in 0..20 {
                let message = member.receive_unacknowledged(SOON).expect("holds").expect("it has its share");
                assert!(message.dup || !had.contains(&number(&message)));
                had.insert(number(&message));
            }
            if round % 2 == 0 {
                drop(member);
            } else {
                member.disconnect().expect("leaves");
            }
            publish_all(&mut publisher, "t", half..first + EACH);
        }
        let mut got: BTreeMap<u32, Received> = BTreeMap::new();
        while got.len() < (ROUNDS * EACH) as usize {
            let message = told.recv_timeout(LONG).unwrap_or_else(|_| panic!("{} of {} have come", got.len(), ROUNDS * EACH));
            assert!(message.dup || !had.contains(&number(&message)), "{} was with another member before", number(&message));
            assert!(got.insert(number(&message), message).is_none(), "those who stay get each once");
        }
        drop(end);
    });
}

#[test]
fn a_member_that_unsubscribes_or_begins_anew_gives_back_what_it_had() {
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let mut publisher = broker.connect(&v5("p"));
    for (id, unsubscribes) in [("unsubscribes", true), ("anew", false)] {
        let filter = format!("$share/{id}/t");
        let mut member = join(&broker, &v5(id), &filter);
        publish_all(&mut publisher, "t", 0..10);
        for expect in 0..10 {
            let message = member.receive_unacknowledged(SOON).expect("holds").expect("arrives");
            assert_eq!((number(&message), message.dup), (expect, false));
        }
        let mut other = join(&broker, &v5("other"), &filter);
        let anew = if unsubscribes {
            member.unsubscribe(&[&filter]).expect("unsubscribed");
            drop(member);
            None
        } else {
            Some(broker.connect(&v5(id)))
        };
        let mut got: Vec<u32> = Vec::new();
        for _ in 0..10 {
            let message = next(&mut other);
            assert!(message.dup, "{id} may have it");
            got.push(number(&message));
        }
        got.sort_unstable();
        assert_eq!(got, (0..10).collect::<Vec<_>>(), "{id}");
        drop(anew);
    }
}

/// Listens to a count of the broker until it is that.
fn until_counted(broker: &Broker, name: &str, expect: u64) {
    let mut watcher = broker.connect(&v5("watcher"));
    subscribe(&mut watcher, &format!("$SYS/brokers/n/metrics/{name}"), QoS::AtMostOnce);
    let deadline = Instant::now() + LONG;
    loop {
        let told = String::from_utf8(next(&mut watcher).payload).expect("text");
        if told == expect.to_string() {
            return;
        }
        assert!(Instant::now() < deadline, "{name} is {told}, not {expect}");
    }
}

#[test]
fn row_27_what_waits_for_the_only_member_goes_to_another_that_is_away_when_its_session_ends() {
    let folder = folder();
    let broker = Broker::start(folder.path(), TELLS);
    let mut publisher = broker.connect(&v5("p"));
    join(&broker, &v5("only").persistent(1000), "$share/g/t").disconnect().expect("leaves");
    publish_all(&mut publisher, "t", 0..10);
    let mut only = broker.connect(&v5("only").persistent(6));
    let kept: Vec<u32> = (0..10).map(|_| number(&next(&mut only))).collect();
    assert_eq!(kept, (0..10).collect::<Vec<_>>(), "a group whose only member is away keeps its messages");
    only.disconnect().expect("leaves");
    publish_all(&mut publisher, "t", 10..20);
    let other = v5("other").persistent(1000);
    join(&broker, &other, "$share/g/t").disconnect().expect("leaves");
    until_counted(&broker, "messages/redispatched", 10);
    // They are the other one's now, in the store.
    broker.kill();
    let broker = Broker::start(folder.path(), TELLS);
    let mut other = broker.connect(&other);
    let mut got: Vec<u32> = (0..10).map(|_| number(&next(&mut other))).collect();
    got.sort_unstable();
    assert_eq!(got, (10..20).collect::<Vec<_>>());
}

#[test]
fn row_27_a_group_ends_with_its_last_member_and_what_waited_is_counted() {
    for restarts in [false, true] {
        let folder = folder();
        let mut broker = Broker::start(folder.path(), TELLS);
        join(&broker, &v5("only").persistent(5), "$share/g/t").disconnect().expect("leaves");
        publish_all(&mut broker.connect(&v5("p")), "t", 0..5);
        if restarts {
            // Nobody has the group in mind then but its member.
            broker.kill();
            broker = Broker::start(folder.path(), TELLS);
        }
        until_counted(&broker, "messages/dropped/no_subscribers", 5);
        let reason = broker.connect(&v5("p")).publish("t", b"x", QoS::AtLeastOnce, false).expect("answered");
        assert_eq!(reason, ReasonCode::NoMatchingSubscribers, "the group is gone");
        until_counted(&broker, "messages/dropped/no_subscribers", 6);
        assert!(!broker.connect(&v5("only").persistent(5)).session_present());
    }
}

const CROWD: &str = "$share/crowd/t";

/// Counts the numbers that a member of the crowd has got until it is told that a part is over.
fn share_of(member: &mut Client) -> usize {
    std::iter::from_fn(|| Some(next(member))).take_while(|message| message.topic != "over").count()
}

#[test]
fn row_28_two_thousand_members_come_and_go_while_messages_flow() {
    const BATCHES: usize = 80;
    const CHANGES: usize = 100;
    let folder = folder();
    let broker = Broker::start(folder.path(), "");
    let enter = |member: &mut Client| subscribe(member, CROWD, QoS::AtMostOnce);
    let join = |n: u32| {
        let mut options = v5(&format!("crowd-{n}"));
        options.connect.keep_alive_secs = 0;
        let mut member = broker.connect(&options);
        enter(&mut member);
        member
    };
    let mut stay: Vec<Client> = (0..1000).map(join).collect();
    stay.iter_mut().for_each(|member| subscribe(member, "over", QoS::AtMostOnce));
    let mut publisher = broker.connect(&v5("p"));
    let (over, changes) = (AtomicBool::new(false), AtomicUsize::new(0));
    let goes_on = || {
        changes.fetch_add(1, Ordering::Relaxed);
        !over.load(Ordering::Relaxed)
    };
    let gone_and_back = std::thread::scope(|scope| {
        let end = Over(&over);
        // Half of those who come and go keep their connection, the others begin anew. In the end all are there.
        let subscribing = scope.spawn(|| {
            let mut members: Vec<Client> = (1000..1500).map(join).collect();
            while !over.load(Ordering::Relaxed) {
                let mut left = 0;
                for member in members.iter_mut().take_while(|_| goes_on()) {
                    member.unsubscribe(&[CROWD]).expect("unsubscribed");
                    left += 1;
                }
                for member in &mut members[..left] {
                    goes_on();
                    enter(member);
                }
            }
            members
        });
        let connecting = scope.spawn(|| {
            let mut members: Vec<Client> = (1500..2000).map(join).collect();
            while !over.load(Ordering::Relaxed) {
                for (member, n) in members.iter_mut().zip(1500..).take_while(|_| goes_on()) {
                    *member = join(n);
                }
            }
            members
        });
        for batch in 1..=BATCHES {
            flood(&mut publisher, "t", 0..1000);
            eventually("they come and go", LONG, || (changes.load(Ordering::Relaxed) >= batch * CHANGES).then_some(()));
        }
        drop(end);
        (subscribing.join().expect("they came and went"), connecting.join().expect("they came and went"))
    });
    flood(&mut publisher, "over", [0]);
    let shares: Vec<usize> = stay.iter_mut().map(share_of).collect();
    // Who stays is passed once in each round, however many come and go. What was meant for one that went is chosen for anew, which is chance.
    assert!(shares.iter().all(|share| *share >= BATCHES * 1000 / 2100), "nobody is left out: {shares:?}");
    assert_fair(&shares.chunks(100).map(|shares| shares.iter().sum::<usize>()).collect::<Vec<_>>());
    println!("row 28: {} changes while {} messages came", changes.load(Ordering::Relaxed), BATCHES * 1000);
    // Now that nobody moves, each gets what is fair.
    for _ in 0..40 {
        flood(&mut publisher, "t", 0..1000);
    }
    flood(&mut publisher, "over", [0]);
    let shares: Vec<usize> = stay.iter_mut().map(share_of).collect();
    assert!(shares.iter().all(|share| (18..=22).contains(share)), "20 are fair: {shares:?}");
    drop(gone_and_back);
}
