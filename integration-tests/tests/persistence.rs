//! What is kept in databases for clients, one story for each kind: state, subscriptions, messages for who is away, acknowledgements, retained messages.
//! The databases are read by their own clients.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account, run};
use hookline_integration_tests::proxy::{Proxy, Weather};
use hookline_integration_tests::{eventually, mongo, mysql, postgres, redis, services, unique};
use hookline_mqtt::client::{Client, Options, Received};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};
use mongodb::bson::doc;

const SOON: Duration = Duration::from_secs(40);
/// What has not come by then does not come.
const QUIET: Duration = Duration::from_millis(700);

/// A database, as its own clients see it.
struct Database {
    connector: String,
    /// The state of a client, where it has one.
    state: fn(&str) -> Option<i64>,
    /// How many subscriptions a client has.
    subscriptions: fn(&str) -> usize,
    /// How many messages are kept of topics that begin so.
    messages: fn(&str) -> usize,
    /// Writes a message for a topic, as somebody else would; its payload is `by hand`.
    write: fn(&str),
    /// Writes a subscription at QoS 1.
    subscribe: fn(client: &str, topic: &str),
}

fn postgres() -> Database {
    Database {
        connector: format!("type = \"postgres\"\nurl = \"{}\"", postgres::url()),
        state: |client| {
            let rows = postgres::query(&format!("SELECT state::bigint FROM mqtt_client WHERE clientid = '{client}'"));
            rows.first().map(|row| row.get(0))
        },
        subscriptions: |client| postgres::query(&format!("SELECT topic FROM mqtt_sub WHERE clientid = '{client}'")).len(),
        messages: |prefix| postgres::query(&format!("SELECT id FROM mqtt_msg WHERE topic LIKE '{prefix}%'")).len(),
        write: |topic| postgres::execute(&format!("INSERT INTO mqtt_msg (topic, payload) VALUES ('{topic}', 'by hand')")),
        subscribe: |client, topic| postgres::execute(&format!("INSERT INTO mqtt_sub (clientid, topic) VALUES ('{client}', '{topic}')")),
    }
}

fn mysql() -> Database {
    Database {
        connector: format!("type = \"mysql\"\nurl = \"{}\"", mysql::url()),
        state: |client| mysql::value(&format!("SELECT state FROM mqtt_client WHERE clientid = '{client}'")).parse().ok(),
        subscriptions: |client| mysql::query(&format!("SELECT topic FROM mqtt_sub WHERE clientid = '{client}'")).len(),
        messages: |prefix| mysql::query(&format!("SELECT id FROM mqtt_msg WHERE topic LIKE '{prefix}%'")).len(),
        write: |topic| mysql::feed(&format!("INSERT INTO mqtt_msg (topic, payload) VALUES ('{topic}', 'by hand');")),
        subscribe: |client, topic| mysql::feed(&format!("INSERT INTO mqtt_sub (clientid, topic) VALUES ('{client}', '{topic}');")),
    }
}

fn mongodb() -> Database {
    fn with(collection: &str, field: &str, prefix: &str) -> Vec<mongodb::bson::Document> {
        let begins = |document: &mongodb::bson::Document| document.get_str(field).is_ok_and(|text| text.starts_with(prefix));
        mongo::documents(collection).into_iter().filter(begins).collect()
    }
    Database {
        connector: format!("type = \"mongodb\"\nurl = \"{}\"", mongo::url()),
        state: |client| with("mqtt_client", "clientid", client).first().and_then(|document| document.get_i64("state").ok()),
        subscriptions: |client| with("mqtt_sub", "clientid", client).len(),
        messages: |prefix| with("mqtt_msg", "topic", prefix).len(),
        write: |topic| {
            let id = "0123456789ABCDEF0123456789ABCDEF";
            let message = doc! { "_id": id, "msgid": id, "topic": topic, "qos": 1, "payload": "by hand", "arrived": 4_000_000_000_i64 };
            mongo::command(&doc! { "delete": "mqtt_msg", "deletes": [{ "q": { "_id": id }, "limit": 0 }] });
            mongo::command(&doc! { "insert": "mqtt_msg", "documents": [message] });
        },
        subscribe: |client, topic| {
            mongo::command(&doc! { "insert": "mqtt_sub", "documents": [{ "clientid": client, "topic": topic, "qos": 1 }] });
        },
    }
}

fn redis_database() -> Database {
    Database {
        connector: format!("type = \"redis\"\nservers = \"{}\"", redis::server()),
        state: |client| redis::lines(&["HGET", &format!("mqtt:client:{client}"), "state"]).first()?.parse().ok(),
        subscriptions: |client| redis::lines(&["HLEN", &format!("mqtt:sub:{client}")])[0].parse().expect("a number"),
        messages: |prefix| {
            let topics = redis::lines(&["ZRANGE", "mqtt:topics", "0", "-1"]);
            let count = |topic: &String| redis::lines(&["ZCARD", &format!("mqtt:msg:{topic}")])[0].parse::<usize>().expect("a number");
            topics.iter().filter(|topic| topic.starts_with(prefix)).map(count).sum()
        },
        write: |topic| {
            let id = "0123456789ABCDEF0123456789ABCDEF";
            redis::ask(&["HSET", &format!("mqtt:msg:{id}"), "topic", topic, "qos", "1", "payload", "by hand", "ts", "4000000000"]);
            redis::ask(&["ZADD", &format!("mqtt:msg:{topic}"), "4000000000", id]);
            redis::ask(&["ZADD", "mqtt:topics", "0", topic]);
        },
        subscribe: |client, topic| drop(redis::ask(&["HSET", &format!("mqtt:sub:{client}"), topic, "1"])),
    }
}

fn cluster() -> Database {
    Database {
        connector: format!("type = \"redis\"\nmode = \"cluster\"\nservers = \"{}\"", redis::cluster()),
        state: |client| redis::cluster_lines(&["HGET", &format!("{{mqtt}}:client:{client}"), "state"]).first()?.parse().ok(),
        subscriptions: |client| redis::cluster_lines(&["HLEN", &format!("{{mqtt}}:sub:{client}")])[0].parse().expect("a number"),
        messages: |prefix| {
            let topics = redis::cluster_lines(&["ZRANGE", "{mqtt}:topics", "0", "-1"]);
            let count =
                |topic: &String| redis::cluster_lines(&["ZCARD", &format!("{{mqtt}}:msg:{topic}")])[0].parse::<usize>().expect("a number");
            topics.iter().filter(|topic| topic.starts_with(prefix)).map(count).sum()
        },
        write: |topic| {
            let id = "0123456789ABCDEF0123456789ABCDEF";
            redis::cluster_lines(&[
                "HSET",
                &format!("{{mqtt}}:msg:{id}"),
                "topic",
                topic,
                "qos",
                "1",
                "payload",
                "by hand",
                "ts",
                "4000000000",
            ]);
            redis::cluster_lines(&["ZADD", &format!("{{mqtt}}:msg:{topic}"), "4000000000", id]);
            redis::cluster_lines(&["ZADD", "{mqtt}:topics", "0", topic]);
        },
        subscribe: |client, topic| drop(redis::cluster_lines(&["HSET", &format!("{{mqtt}}:sub:{client}"), topic, "1"])),
    }
}

fn config(connector: &str, settings: &str) -> String {
    format!("[connectors.db]\n{connector}\n[persistence.main]\nconnector = \"db\"\n{settings}\n")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn publish(client: &mut Client, topic: &str, payload: &[u8]) {
    assert_eq!(client.publish(topic, payload, QoS::AtLeastOnce, false).expect("answered"), ReasonCode::Success);
}

/// So many messages, acknowledged; nothing comes behind them.
fn receive(client: &mut Client, count: usize) -> Vec<Received> {
    let got: Vec<Received> =
        (0..count).map(|n| client.receive(SOON).expect("holds").unwrap_or_else(|| panic!("{n} of {count} have come"))).collect();
    let more = client.receive(QUIET).expect("holds");
    assert!(more.is_none(), "{more:?} came beside what was expected");
    got
}

fn topics(received: &[Received]) -> BTreeSet<&str> {
    received.iter().map(|message| &*message.topic).collect()
}

/// The whole life of what is kept.
fn story(database: &Database) {
    let _stay = services::stay();
    let u = unique("kept");
    let device = format!("{u}-device");
    let folder = tempfile::tempdir().expect("a folder");
    let settings = format!("clients = true\nsubscriptions = \"keep\"\nmessages = [\"{u}/#\"]\nretained = [\"{u}-state/#\"]");
    let broker = Broker::start(folder.path(), &config(&database.connector, &settings));
    // The state of a client, and what it subscribes to.
    let mut client = broker.connect(&v5(&device));
    client.subscribe(&[(&format!("{u}/cmd/one"), QoS::AtLeastOnce), (&format!("{u}/all/#"), QoS::ExactlyOnce)]).expect("subscribed");
    eventually("it is connected", SOON, || ((database.state)(&device) == Some(1)).then_some(()));
    eventually("its subscriptions are kept", SOON, || ((database.subscriptions)(&device) == 2).then_some(()));
    client.disconnect().expect("gone");
    eventually("it is gone", SOON, || ((database.state)(&device) == Some(0)).then_some(()));
    // Messages while it is away, binary ones among them, more than one page of them.
    let mut publisher = broker.connect(&v5(&format!("{u}-publisher")));
    let payload = |n: u32| [&n.to_be_bytes()[..], &[0xFF, 0, 0xC3]].concat();
    (0..600).for_each(|n| publish(&mut publisher, &format!("{u}/cmd/one"), &payload(n)));
    (0..20).for_each(|n| publish(&mut publisher, &format!("{u}/all/{n}/x"), b"wild"));
    publish(&mut publisher, &format!("{u}/cmd/two"), b"for nobody here");
    // It comes back without a session and without asking for anything.
    let mut client = broker.connect(&v5(&device));
    let got = receive(&mut client, 620);
    let commands: Vec<&Received> = got.iter().filter(|message| message.topic.ends_with("cmd/one")).collect();
    let in_order = commands.iter().zip(0..).all(|(message, n)| message.payload == payload(n) && message.qos == QoS::AtLeastOnce);
    assert!(commands.len() == 600 && in_order, "{} commands, in their order: {in_order}", commands.len());
    client.disconnect().expect("gone");
    // What it has acknowledged does not come again, what is new does.
    publish(&mut publisher, &format!("{u}/cmd/one"), b"new");
    let mut client = broker.connect(&v5(&device));
    assert_eq!(receive(&mut client, 1)[0].payload, b"new");
    // Another one gets the same by wildcards of its own, and nothing twice that is brought and published.
    let mut other = broker.connect(&v5(&format!("{u}-other")));
    other.subscribe(&[(&format!("{u}/all/+/x"), QoS::AtLeastOnce)]).expect("subscribed");
    assert_eq!(topics(&receive(&mut other, 20)).len(), 20);
    other.unsubscribe(&[&format!("{u}/all/+/x")]).expect("unsubscribed");
    eventually("its subscription is gone", SOON, || ((database.subscriptions)(&format!("{u}-other")) == 0).then_some(()));
    // What somebody else writes.
    (database.write)(&format!("{u}/hand/written"));
    (database.subscribe)(&format!("{u}-third"), &format!("{u}/hand/+"));
    let mut third = broker.connect(&v5(&format!("{u}-third")));
    assert_eq!(receive(&mut third, 1)[0].payload, b"by hand");
    // Retained messages outlive the broker's own store.
    for place in ["a", "b"] {
        publisher.publish(&format!("{u}-state/{place}"), place.as_bytes(), QoS::AtLeastOnce, true).expect("answered");
    }
    publisher.publish(&format!("{u}-state/b"), b"", QoS::AtLeastOnce, true).expect("answered");
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "persistence.main")[1..], [0, 0], "nothing waits and nothing was refused");
    let fresh = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(fresh.path(), &config(&database.connector, &settings));
    let mut reader = broker.connect(&v5(&format!("{u}-reader")));
    reader.subscribe(&[(&format!("{u}-state/+"), QoS::AtMostOnce), (&format!("{u}-state/a"), QoS::AtLeastOnce)]).expect("subscribed");
    let got = receive(&mut reader, 2);
    assert!(got.iter().all(|message| message.topic == format!("{u}-state/a") && message.payload == b"a" && message.retain), "{got:?}");
    assert!((database.messages)(&u) >= 622);
}

#[test]
fn postgres_keeps_everything_for_clients() {
    story(&postgres());
}

#[test]
fn mysql_keeps_everything_for_clients() {
    story(&mysql());
}

#[test]
fn mongodb_keeps_everything_for_clients() {
    story(&mongodb());
}

#[test]
fn redis_keeps_everything_for_clients() {
    story(&redis_database());
}

#[test]
fn a_cluster_of_redis_keeps_everything_for_clients() {
    story(&cluster());
}

/// A message for one client is deleted when that has acknowledged it; one that has expired comes to nobody.
fn deletes(database: &Database) {
    let _stay = services::stay();
    let u = unique("once");
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&database.connector, &format!("messages = [\"{u}/#\"]\nacks = \"delete\"")));
    let mut publisher = broker.connect(&v5("publisher"));
    (0..50).for_each(|n| publish(&mut publisher, &format!("{u}/one"), n.to_string().as_bytes()));
    let mut expiring = Properties::default();
    expiring.push_number(PropertyId::MessageExpiryInterval, 1);
    publisher.publish_with(&format!("{u}/one"), b"late", QoS::AtLeastOnce, false, &expiring).expect("answered");
    eventually("they are kept", SOON, || ((database.messages)(&u) == 51).then_some(()));
    std::thread::sleep(Duration::from_millis(2100));
    let mut client = broker.connect(&v5("client"));
    client.subscribe(&[(&format!("{u}/one"), QoS::AtLeastOnce)]).expect("subscribed");
    receive(&mut client, 50);
    eventually("only the one is left that nobody got", SOON, || ((database.messages)(&u) == 1).then_some(()));
    // What is published to who is there is not left behind either, however fast it goes.
    (0..100).for_each(|n| publish(&mut publisher, &format!("{u}/one"), n.to_string().as_bytes()));
    receive(&mut client, 100);
    eventually("all are gone", SOON, || ((database.messages)(&u) == 1).then_some(()));
}

#[test]
fn an_acknowledgement_deletes_in_each_database() {
    [postgres(), mysql(), mongodb(), redis_database()].iter().for_each(deletes);
}

#[test]
fn a_database_that_is_away_loses_nothing() {
    let _stay = services::stay();
    let u = unique("away");
    let url = postgres::url();
    let server =
        url.split(['@', '/', '?']).find(|part| part.contains(':') && part.contains(|c: char| c.is_ascii_digit())).expect("host:port");
    let mut proxy = Proxy::start(server.parse().expect("an address"));
    let connector = format!("type = \"postgres\"\nurl = \"{}\"", url.replace(server, &proxy.address().to_string()));
    let folder = tempfile::tempdir().expect("a folder");
    let delivery = "delivery = { retry_initial_ms = 50, retry_max_ms = 500 }";
    let settings = format!("clients = true\nmessages = [\"{u}/#\"]\n{delivery}");
    let broker = Broker::start(folder.path(), &config(&connector, &settings));
    let mut publisher = broker.connect(&v5(&format!("{u}-publisher")));
    (0..10).for_each(|n| publish(&mut publisher, &format!("{u}/t"), n.to_string().as_bytes()));
    proxy.set(Weather::Refuse);
    // Acknowledged, although the database cannot have them.
    (10..30).for_each(|n| publish(&mut publisher, &format!("{u}/t"), n.to_string().as_bytes()));
    let mut client = broker.connect(&v5(&format!("{u}-client")));
    client.subscribe(&[(&format!("{u}/t"), QoS::AtLeastOnce)]).expect("subscribed");
    assert!(client.receive(QUIET).expect("holds").is_none());
    // The broker itself may end meanwhile.
    broker.kill();
    let broker = Broker::start(folder.path(), &config(&connector, &settings));
    let mut client = broker.connect(&v5(&format!("{u}-client")));
    client.subscribe(&[(&format!("{u}/t"), QoS::AtLeastOnce)]).expect("subscribed");
    proxy.set(Weather::Fair);
    let got = receive(&mut client, 30);
    assert!(got.iter().zip(0..).all(|(message, n)| message.payload == n.to_string().as_bytes()), "{got:?}");
    // Who depends on the subscriptions in there is refused, unless that is not wanted.
    for (failure, expect) in [("refuse", ReasonCode::ServerUnavailable), ("ignore", ReasonCode::Success)] {
        let settings = format!("{settings}\nsubscriptions = \"load\"\non_failure = \"{failure}\"");
        std::fs::write(folder.path().join("hookline.toml"), config(&connector, &settings)).expect("written");
        let (code, _, error) = run(&["ctl", "reload", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
        assert_eq!(code, Some(0), "{error}");
        proxy.set(Weather::Refuse);
        let result = Client::connect(broker.address(), &v5(&format!("{u}-third")));
        let reason = result.map_or_else(|error| format!("{error:?}"), |_| "Success".to_owned());
        assert!(reason.contains(&format!("{expect:?}")), "{failure}: {reason}");
        proxy.set(Weather::Fair);
    }
}

#[test]
fn what_is_wrong_with_the_settings_is_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("t.toml");
    let text = "[connectors.k]\ntype = \"kafka\"\nbootstrap_hosts = \"h:1\"\n[connectors.p]\ntype = \"postgres\"\nurl = \"postgres://u@h/d\"\n\
                [persistence.a]\nconnector = \"k\"\n[persistence.b]\nconnector = \"p\"\nmessages = [\"a/#/b\"]\nstatements = { massage = { sql = \"x\" } }\n\
                [persistence.c]\nconnector = \"q\"\n";
    std::fs::write(&file, text).expect("written");
    let (code, out, error) = run(&["check", "--config", file.to_str().expect("UTF-8")]);
    let told = out + &error;
    assert_eq!(code, Some(2), "{told}");
    for expect in [
        "persistence.a.connector: \"k\" is of type kafka; clients are kept in mongodb, mysql, postgres or redis",
        "persistence.b.messages: \"a/#/b\" is no topic filter",
        "persistence.b.statements.massage: there is none of that name",
        "persistence.c.connector: there is no \"q\" in [connectors]",
    ] {
        assert!(told.contains(expect), "{expect} is not in {told}");
    }
}
