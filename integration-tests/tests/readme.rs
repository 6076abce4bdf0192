//! The README's examples of connectors, all in one broker, against every server.

use std::collections::BTreeSet;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, ledgers};
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_integration_tests::{eventually, kafka, mongo, mysql, parquet, postgres, redis, services, unique};
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};
use mongodb::bson::doc;
use rdkafka::ClientConfig;
use rdkafka::producer::{BaseRecord, Producer, ThreadedProducer};

const LIMIT: Duration = Duration::from_secs(60);

/// The examples, as they stand there.
fn examples() -> String {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("## One example for each connector").expect("the section is there");
    let (section, _) = section.split_once("\n## ").expect("another follows");
    section.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_example_of_a_connector_does_what_it_says() {
    let _servers = services::stay();
    let (name, orders, device, cloud) = (unique("readings"), unique("orders"), unique("pump"), unique("cloud"));
    let ops = Webhook::start(|_| Reply::Answer(204, "", String::new()));
    let away = tempfile::tempdir().expect("a folder");
    let central = Broker::start(away.path(), "");
    kafka::create_topic(&name, 1);
    kafka::create_topic(&orders, 1);
    kafka::create_topic(&cloud, 1);
    // Another Kafka than the tests' own may take no tokens: the records wait then.
    let takes_tokens = std::env::var("HOOKLINE_TEST_KAFKA_TOKEN").ok();
    let login = Webhook::start(|request| kafka::grant_token(request, 3600));
    let secret = away.path().join("secret");
    std::fs::write(&secret, kafka::CLIENT_SECRET).expect("written");
    let mut config = examples();
    let kinds: BTreeSet<&str> = config.lines().filter_map(|line| line.strip_prefix("type = \"")?.strip_suffix('"')).collect();
    let expect = ["file", "http", "kafka", "mongodb", "mqtt", "mysql", "postgres", "redis", "sqlite"];
    assert_eq!(kinds.into_iter().collect::<Vec<_>>(), expect, "LDAP has a section of its own");
    for (there, here) in [
        ("\"127.0.0.1:9092\"", format!("\"{}\"", kafka::hosts())),
        ("postgres://hookline:secret@127.0.0.1:5432/plant", postgres::url()),
        ("mysql://hookline:secret@127.0.0.1:3306/plant", mysql::url()),
        ("mongodb://hookline:secret@127.0.0.1:27017/plant", format!("{}?directConnection=true", mongo::url())),
        ("\"127.0.0.1:6379\"", format!("\"{}\"", redis::server())),
        ("https://ops.example.com/mqtt", format!("http://{}/mqtt", ops.address())),
        ("central.example.com:1883", central.address().to_string()),
        ("kafka.example.com:9093", takes_tokens.clone().unwrap_or_else(kafka::hosts)),
        ("https://login.example.com/oauth2/token", format!("http://{}/token", login.address())),
        ("file:///run/secrets/kafka", format!("file://{}", secret.display())),
        // Nobody waits for ten minutes.
        ("rotate_secs = 600", "rotate_secs = 2".into()),
        // What others use as well gets names of its own.
        ("\"orders\"", format!("\"{orders}\"")),
        ("EXISTS readings", format!("EXISTS {name}")),
        ("INTO readings", format!("INTO {name}")),
        ("EXISTS history", format!("EXISTS {name}_history")),
        ("INTO history", format!("INTO {name}_history")),
        ("\"cloud-readings\"", format!("\"{cloud}\"")),
        ("\"readings\"", format!("\"{name}\"")),
        ("readings_$", format!("{name}_$")),
    ] {
        assert!(config.contains(there), "{there} is in the README");
        config = config.replace(there, &here);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config);
    let v5 = |id: &str| Options::new(id).version(Version::V5);
    let mut publisher = broker.connect(&v5(&device));
    let payload = br#"{"site": "north", "temperature": 71.5}"#;
    publisher.publish(&format!("devices/{device}/data"), payload, QoS::AtLeastOnce, false).expect("acknowledged");

    let consumed = kafka::consume(&name, 1, LIMIT, |consumed| !consumed.is_empty());
    assert_eq!(consumed[0].key, device, "{consumed:?}");
    let row = &consumed[0].value;
    assert!(row["celsius"] == 71.5 && row["site"] == "north" && row["device"] == *device, "{row}");
    let rows = eventually("the row in PostgreSQL", LIMIT, || {
        let sql = format!("SELECT device, celsius, at > now() - interval '1 hour' FROM {name}");
        Some(postgres::query(&sql)).filter(|rows| !rows.is_empty())
    });
    assert_eq!((rows[0].get::<_, String>(0), rows[0].get::<_, f64>(1), rows[0].get::<_, bool>(2)), (device.clone(), 71.5, true));
    if takes_tokens.is_some() {
        let consumed = kafka::consume(&cloud, 1, LIMIT, |consumed| !consumed.is_empty());
        assert!(consumed[0].key == device && consumed[0].value["celsius"] == 71.5, "{consumed:?}");
        assert!(!login.requests().is_empty(), "by a token");
    }
    let rows = eventually("the row that was copied", LIMIT, || {
        let sql = format!("SELECT device, celsius, to_timestamp(at_ms / 1000.0) > now() - interval '1 hour' FROM {name}_history");
        Some(postgres::query(&sql)).filter(|rows| !rows.is_empty())
    });
    assert_eq!((rows[0].get::<_, String>(0), rows[0].get::<_, f64>(1), rows[0].get::<_, bool>(2)), (device.clone(), 71.5, true));
    let rows = eventually("the row in MariaDB", LIMIT, || {
        Some(mysql::query(&format!("SELECT device, celsius FROM {name}"))).filter(|rows| !rows.is_empty())
    });
    assert_eq!(rows, [[device.clone(), "71.5".to_owned()]]);
    let local = rusqlite::Connection::open(folder.path().join("data/plant.db")).expect("opens");
    eventually("the row in SQLite", LIMIT, || {
        let row = local.query_row(&format!("SELECT device, celsius FROM {name}"), [], |row| Ok((row.get(0)?, row.get(1)?)));
        row.ok().filter(|row: &(String, f64)| *row == (device.clone(), 71.5))
    });
    let last = format!("device:{device}");
    eventually("the hash in Redis", LIMIT, || (redis::lines(&["HGET", &last, "celsius"]) == ["71.5"]).then_some(()));
    eventually("the stream in Redis", LIMIT, || (redis::lines(&["XLEN", &name]) == ["1"]).then_some(()));
    let line =
        eventually("the line in the file", LIMIT, || std::fs::read_to_string(folder.path().join("data/records/readings.ndjson")).ok());
    let line: serde_json::Value = serde_json::from_str(line.trim_end()).expect("one line of JSON");
    assert!(line["device"] == *device && line["celsius"] == 71.5 && line["hookline_id"].is_string(), "{line}");
    let row = eventually("the Parquet file is complete", LIMIT, || parquet::rows(&folder.path().join("data/records")).pop());
    let is_right = row["device"] == *device && row["celsius"] == 71.5 && row["timestamp"].as_str().is_some_and(|at| at.ends_with("+00:00"));
    assert!(is_right && row["hookline_id"].is_string(), "{row}");
    let collection = format!("{name}_north");
    let documents = eventually("the document in MongoDB", LIMIT, || Some(mongo::documents(&collection)).filter(|found| !found.is_empty()));
    let is_right =
        documents[0].get_str("device").is_ok_and(|is| is == device) && documents[0].get_f64("celsius").is_ok_and(|is| is == 71.5);
    assert!(is_right, "{:?}", documents[0]);
    assert!(documents[0].get_datetime("at").is_ok(), "{:?}", documents[0]);

    // The bridge, both ways.
    let mut far = central.connect(&v5("far"));
    far.subscribe(&[("sites/7/#", QoS::AtLeastOnce)]).expect("subscribed");
    publisher.publish("alarms/fire", b"hot", QoS::AtLeastOnce, false).expect("acknowledged");
    let message = far.receive(LIMIT).expect("connected").expect("it comes up");
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("sites/7/alarms/fire", &b"hot"[..]));
    publisher.subscribe(&[("commands/7/#", QoS::AtLeastOnce), ("orders/#", QoS::AtLeastOnce)]).expect("subscribed");
    far.publish("commands/7/stop", b"now", QoS::AtLeastOnce, false).expect("acknowledged");
    let message = publisher.receive(LIMIT).expect("connected").expect("it comes down");
    assert_eq!(message.topic, "commands/7/stop");
    // From Kafka.
    let producer: ThreadedProducer<_> = ClientConfig::new().set("bootstrap.servers", kafka::hosts()).create().expect("a producer");
    producer.send(BaseRecord::to(&orders).key("a-1").payload("two pumps")).map_err(|(error, _)| error).expect("sent");
    producer.flush(LIMIT).expect("arrived");
    let message = publisher.receive(LIMIT).expect("connected").expect("it comes in");
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("orders/a-1", &b"two pumps"[..]));

    // A device that goes without a good-bye, and nothing that waits.
    drop(publisher);
    let gone = eventually("the webhook hears of it", LIMIT, || ops.requests().first().cloned());
    assert_eq!(gone.target, format!("/mqtt/devices/{device}"));
    assert!(gone.header("x-hookline-signature").starts_with("sha256=") && !gone.header("idempotency-key").is_empty());
    assert!(broker.stop().success());
    let is_reached = |ledger: &&serde_json::Value| ledger["kind"] == "action" && (ledger["name"] != "cloud" || takes_tokens.is_some());
    for ledger in ledgers(folder.path()).iter().filter(is_reached) {
        assert!(ledger["pending"] == 0 && ledger["dead_lettered"] == 0 && ledger["delivered"].as_u64() > Some(0), "{ledger}");
    }
    postgres::execute(&format!("DROP TABLE {name}, {name}_history"));
    mysql::query(&format!("DROP TABLE {name}"));
    mongo::command(&doc! {"drop": &collection});
    redis::ask(&["DEL", &name, &last]);
}
