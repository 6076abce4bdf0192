//! Priorities of topics in the queue of a durable session: what matters most leaves first, whatever happens to the broker and to the client.

use std::collections::HashSet;
use std::path::Path;
use std::time::Duration;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use hookline_integration_tests::api::{ask, basic};
use hookline_integration_tests::broker::{Broker, ledgers, run};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::packet::AckKind;
use hookline_mqtt::{QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(10);
const TOPICS: [&str; 3] = ["low", "middle", "high"];
const CONFIG: &str = "[mqtt]\ninflight_max = 4\n[mqtt.mqueue_priorities]\n\"high\" = 9\n\"middle\" = 5\n";

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn reader() -> Options {
    v5("reader").persistent(3600)
}

/// Connects the reader to its session.
fn back(broker: &Broker) -> Client {
    let client = broker.connect(&reader());
    assert!(client.session_present());
    client
}

/// Makes the session of the reader, which goes away.
fn prepare(broker: &Broker) {
    let mut client = broker.connect(&reader());
    client.subscribe(&TOPICS.map(|topic| (topic, QoS::ExactlyOnce))).expect("subscribed");
    client.disconnect().expect("leaves");
}

/// Publishes numbers, in turns to each topic, at QoS 1 and 2.
fn publish(broker: &Broker, numbers: std::ops::Range<usize>) {
    let mut publisher = broker.connect(&v5("publisher"));
    for number in numbers {
        let qos = if number / 3 % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce };
        let answer = publisher.publish(TOPICS[number % 3], number.to_string().as_bytes(), qos, false).expect("answered");
        assert_eq!(answer, ReasonCode::Success);
    }
}

/// Those numbers as they are to come: by topic, and in each in their order.
fn by_priority(numbers: std::ops::Range<usize>) -> Vec<usize> {
    (0..3).rev().flat_map(|topic| numbers.clone().filter(move |number| number % 3 == topic)).collect()
}

/// Receives so many that have not come before, and puts them behind the others.
fn receive(client: &mut Client, came: &mut Vec<usize>, count: usize) {
    let (mut known, end): (HashSet<usize>, usize) = (came.iter().copied().collect(), came.len() + count);
    while came.len() < end {
        let message = client.receive(SOON).expect("connected").unwrap_or_else(|| panic!("only {} have come: {came:?}", came.len()));
        let number: usize = String::from_utf8(message.payload).expect("text").parse().expect("a number");
        assert_eq!(message.topic, TOPICS[number % 3]);
        if known.insert(number) {
            came.push(number);
        } else {
            assert!(message.dup, "{number} came twice without a word");
        }
    }
}

/// Nothing else comes, and the last PUBRELs are answered.
fn nothing_more(client: &mut Client) {
    assert_eq!(client.receive(Duration::from_millis(500)).expect("connected"), None);
}

/// Nothing of a session is left, its account balances, and the store is whole.
fn is_settled(folder: &Path, accepted: usize) {
    let ledgers = ledgers(folder);
    let ledger = ledgers.iter().find(|ledger| ledger["name"] == "reader").expect("the session has an account");
    assert!(ledger["accepted"] == accepted && ledger["delivered"] == accepted && ledger["pending"] == 0, "{ledger}");
    let (code, out, error) = run(&["store", "check", "--data", folder.join("data").to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{out}{error}");
}

#[test]
fn what_waits_leaves_by_priority_through_kills_and_takeovers() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    prepare(&broker);
    publish(&broker, 0..600);
    broker.kill();

    let broker = Broker::start(folder.path(), CONFIG);
    let mut client = back(&broker);
    let mut came = Vec::new();
    receive(&mut client, &mut came, 150);
    broker.kill();

    // In the middle of the highest, then in that of the middle; and the client without the broker.
    let broker = Broker::start(folder.path(), CONFIG);
    let mut client = back(&broker);
    receive(&mut client, &mut came, 130);
    let mut client = back(&broker);
    receive(&mut client, &mut came, 40);
    client.disconnect().expect("leaves");
    let mut client = back(&broker);
    receive(&mut client, &mut came, 180);
    assert_eq!(came, by_priority(0..600)[..500]);

    // What comes now goes before the low ones that wait, but not before those that are on their way.
    publish(&broker, 600..660);
    receive(&mut client, &mut came, 160);
    let on_their_way = came[500..].iter().take_while(|number| **number < 600).count();
    assert!(on_their_way <= 8, "{on_their_way} low ones came before the high ones");
    let mut expect: Vec<usize> = by_priority(0..600);
    let rest = expect.split_off(500 + on_their_way);
    expect.extend(by_priority(600..660).iter().filter(|number| **number % 3 > 0));
    expect.extend(rest);
    expect.extend((600..660).filter(|number| number % 3 == 0));
    assert_eq!(came, expect);
    nothing_more(&mut client);
    assert!(broker.stop().success());
    is_settled(folder.path(), 660);
}

#[test]
fn a_client_that_is_there_and_slow_gets_by_priority_what_waits_for_its_window() {
    let folder = tempfile::tempdir().expect("a folder");
    let api = "[api]\nbind = \"127.0.0.1:0\"\nkeys = [{ key = \"watcher\", secret = \"watching\", role = \"viewer\" }]\n";
    let broker = Broker::start(folder.path(), &format!("{CONFIG}{api}"));
    prepare(&broker);
    let mut client = back(&broker);
    // More than the broker remembers without reading.
    publish(&broker, 0..900);
    let first: Vec<_> = (0..4).map(|_| client.receive_unacknowledged(SOON).expect("connected").expect("the window is full")).collect();
    assert!(client.receive_unacknowledged(Duration::from_millis(300)).expect("connected").is_none());
    let numbers: Vec<usize> = first.iter().map(|message| String::from_utf8_lossy(&message.payload).parse().expect("a number")).collect();
    assert_eq!(numbers, [0, 1, 2, 3], "there was nothing else when they came");
    // What waits is shown as it will go, and what is on its way is not there.
    let shown = |list: &str| {
        let path = format!("/api/v5/clients/reader/{list}?limit=5");
        let shown = ask(&broker, "GET", &path, &basic("watcher", "watching"), "").json();
        let payloads = shown["data"].as_array().expect("a list").iter().map(|one| one["payload"].as_str().expect("text").to_owned());
        payloads.collect::<Vec<_>>()
    };
    let encoded = |numbers: [usize; 5]| numbers.map(|number| BASE64_STANDARD.encode(number.to_string()));
    assert_eq!(shown("mqueue_messages"), encoded([5, 8, 11, 14, 17]));
    assert_eq!(shown("inflight_messages"), encoded([0, 1, 2, 3, 0])[..4]);
    for message in &first {
        let kind = if message.qos == QoS::AtLeastOnce { AckKind::PubAck } else { AckKind::PubRec };
        client.send_ack(kind, message.packet_id).expect("sent");
    }
    let mut came = numbers;
    receive(&mut client, &mut came, 896);
    let expect: Vec<usize> = (0..4).chain(by_priority(0..900).into_iter().filter(|number| *number > 3)).collect();
    assert_eq!(came, expect);
    nothing_more(&mut client);
    assert!(broker.stop().success());
    is_settled(folder.path(), 900);
}

#[test]
fn where_priorities_change_what_waits_leaves_by_those_that_it_came_with() {
    let folder = tempfile::tempdir().expect("a folder");
    let without = "[mqtt]\ninflight_max = 4\n";
    let broker = Broker::start(folder.path(), without);
    prepare(&broker);
    publish(&broker, 0..30);
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), CONFIG);
    publish(&broker, 30..60);
    broker.kill();
    let highest = "mqueue_default_priority = \"highest\"\n";
    let broker = Broker::start(folder.path(), &CONFIG.replace("[mqtt]\n", &format!("[mqtt]\n{highest}")));
    publish(&broker, 60..90);
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), without);
    publish(&broker, 90..120);
    let mut client = back(&broker);
    let mut came = Vec::new();
    receive(&mut client, &mut came, 120);
    // A topic's messages never change places.
    let of = |topic: usize, numbers: std::ops::Range<usize>| numbers.filter(move |number| number % 3 == topic);
    let highest_first = of(0, 60..90).chain(of(2, 60..90)).chain(of(1, 60..90));
    let expect: Vec<usize> = (0..30).chain(by_priority(30..60)).chain(highest_first).chain(90..120).collect();
    assert_eq!(came, expect);
    nothing_more(&mut client);
    assert!(broker.stop().success());
    is_settled(folder.path(), 120);
}
