//! A pipeline into MongoDB: documents arrive in order and with their types, across a restart of the server, and what the
//! collection refuses is a dead letter.

use std::collections::HashSet;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account, dead_letters};
use hookline_integration_tests::services::service;
use hookline_integration_tests::{eventually, mongo, unique};
use hookline_mqtt::QoS;
use hookline_mqtt::client::{Client, Options};
use mongodb::bson::{Bson, DateTime, Document, doc};

/// Long enough for a server that another test restarts.
const SOON: Duration = Duration::from_secs(90);

/// A connector, an action with these parameters, and its rule.
fn config(action: &str, parameters: &str, sql: &str) -> String {
    format!(
        r#"
        [connectors.mongo_{action}]
        type = "mongodb"
        url = "{}"
        [actions.{action}]
        connector = "mongo_{action}"
        delivery = {{ retry_initial_ms = 50, retry_max_ms = 500 }}
        [actions.{action}.parameters]
        {parameters}
        [rules.{action}]
        sql = '''{sql}'''
        actions = ["{action}"]
        "#,
        mongo::url()
    )
}

fn publish(client: &mut Client, topic: &str, payload: &str) {
    assert!(!client.publish(topic, payload.as_bytes(), QoS::AtLeastOnce, false).expect("answered").is_error());
}

/// A field that is a text; empty where it is none.
fn text<'a>(document: &'a Document, key: &str) -> &'a str {
    document.get_str(key).unwrap_or_default()
}

#[test]
fn documents_have_the_types_of_the_row() {
    let collection = unique("types");
    let folder = tempfile::tempdir().expect("a folder");
    let sql = r#"SELECT payload.n AS n, payload.f AS f, payload.t AS t, payload.ok AS ok, payload.none AS none,
        payload.list AS list, payload.deep AS deep, payload AS raw, mongo_date(1700000000123) AS at, timestamp FROM "types""#;
    let broker = Broker::start(folder.path(), &config("typed", &format!("collection = \"{collection}\""), sql));
    let payload = r#"{"n": 5, "f": 5.5, "t": "x", "ok": true, "none": null, "list": [1, 2.5], "deep": {"a": 1}}"#;
    publish(&mut broker.connect(&Options::new("c")), "types", payload);
    let found = eventually("the document is there", SOON, || mongo::documents(&collection).pop());
    assert!(text(&found, "_id").matches(':').count() == 2, "the record's identifier: {found}");
    assert!(matches!(found.get("timestamp"), Some(Bson::Int64(ms)) if *ms > 1_700_000_000_000), "{found}");
    let expect: [(&str, Bson); 8] = [
        ("n", Bson::Int64(5)),
        ("f", Bson::Double(5.5)),
        ("t", "x".into()),
        ("ok", true.into()),
        ("none", Bson::Null),
        ("list", vec![Bson::Int64(1), Bson::Double(2.5)].into()),
        ("deep", doc! {"a": 1_i64}.into()),
        ("at", DateTime::from_millis(1_700_000_000_123).into()),
    ];
    for (key, value) in expect {
        assert_eq!(found.get(key), Some(&value), "{key} in {found}");
    }
    assert!(matches!(found.get("raw"), Some(Bson::Binary(binary)) if binary.bytes == payload.as_bytes()), "{found}");
}

#[test]
fn every_document_arrives_once_and_in_order_across_a_restart_and_around_a_poison_record() {
    const MESSAGES: i64 = 300;
    const POISON: i64 = 150;
    let collection = unique("ordered");
    mongo::command(&doc! {
        "createIndexes": &collection,
        "indexes": [{"key": {"seq": 1}, "name": "seq", "unique": true}],
    });
    let folder = tempfile::tempdir().expect("a folder");
    let parameters = format!(
        "collection = \"{collection}\"\ndocument = '{{\"device\": \"${{device}}\", \"seq\": ${{seq}}, \"note\": \"no ${{seq}}\"}}'"
    );
    let sql = r#"SELECT clientid AS device, payload.seq AS seq FROM "ordered""#;
    let broker = Broker::start(folder.path(), &config("ordered", &parameters, sql));
    let mut client = broker.connect(&Options::new("device-1"));
    // The index has the first one's number already when the poison comes.
    let number = |n: i64| if n == POISON { 0 } else { n };
    for n in 0..MESSAGES / 3 {
        publish(&mut client, "ordered", &format!(r#"{{"seq": {}}}"#, number(n)));
    }
    eventually("the first ones arrive", SOON, || (!mongo::documents(&collection).is_empty()).then_some(()));
    let is_ours = service("stop", "mongodb");
    for n in MESSAGES / 3..MESSAGES {
        publish(&mut client, "ordered", &format!(r#"{{"seq": {}}}"#, number(n)));
    }
    if is_ours {
        eventually("the broker sees that the server is away", SOON, || {
            broker.log().contains("not delivered; will try again").then_some(())
        });
        service("start", "mongodb");
    }
    eventually("all but one are there", SOON, || (mongo::documents(&collection).len() as i64 == MESSAGES - 1).then_some(()));
    // Behind it nothing waits: the poison is a dead letter by now.
    publish(&mut client, "ordered", &format!(r#"{{"seq": {MESSAGES}}}"#));
    eventually("the last one is there", SOON, || (mongo::documents(&collection).len() as i64 == MESSAGES).then_some(()));
    assert!(broker.stop().success());

    let found = mongo::documents(&collection);
    let numbers: Vec<i64> = found.iter().map(|document| document.get_i64("seq").expect("an integer")).collect();
    assert_eq!(numbers, (0..=MESSAGES).filter(|n| *n != POISON).collect::<Vec<i64>>());
    let ids: HashSet<&str> = found.iter().map(|document| text(document, "_id")).collect();
    assert_eq!(ids.len(), found.len());
    assert!(found.iter().all(|document| text(document, "device") == "device-1"));
    assert_eq!(text(&found[7], "note"), "no 7");
    assert_eq!(account(folder.path(), "ordered"), [MESSAGES as u64, 1, 0]);
    let letters = dead_letters(folder.path(), "ordered");
    assert!(letters.len() == 1 && letters[0]["error"].as_str().is_some_and(|error| error.contains("E11000")), "{letters:?}");
}

#[test]
fn devices_have_one_document_each_that_is_replaced_and_changed() {
    let collection = unique("devices");
    let folder = tempfile::tempdir().expect("a folder");
    let state = format!(
        r#"
        collection = "{collection}"
        operation = "upsert"
        filter = '{{"device": "${{device}}"}}'
        document = '{{"device": "${{device}}", "value": "${{value}}"}}'"#
    );
    let alarm = format!(
        r#"
        collection = "{collection}"
        operation = "update"
        filter = '{{"device": "${{device}}"}}'
        update = '{{"$set": {{"alarm": "${{text}}"}}}}'"#
    );
    let both = config("state", &state, r#"SELECT payload.device AS device, payload.value AS value FROM "state""#)
        + &config("alarm", &alarm, r#"SELECT payload.device AS device, payload.text AS text FROM "alarm""#);
    let broker = Broker::start(folder.path(), &both);
    let mut client = broker.connect(&Options::new("c"));
    for n in 0..30 {
        publish(&mut client, "state", &format!(r#"{{"device": "d{}", "value": {n}}}"#, n % 3));
    }
    // Neither an operator nor nothing may find the documents of others.
    publish(&mut client, "state", r#"{"device": {"$ne": null}, "value": -1}"#);
    publish(&mut client, "state", r#"{"value": -1}"#);
    publish(&mut client, "state", r#"{"device": "d0", "value": 100}"#);
    let value_of = |device: &str| {
        let found = mongo::documents(&collection).into_iter().find(|document| text(document, "device") == device);
        found.and_then(|document| document.get_i64("value").ok())
    };
    eventually("the last state is there", SOON, || (value_of("d0") == Some(100)).then_some(()));
    assert_eq!((value_of("d1"), value_of("d2")), (Some(28), Some(29)));
    assert_eq!(mongo::documents(&collection).len(), 3);
    publish(&mut client, "alarm", r#"{"device": "d1", "text": "hot"}"#);
    publish(&mut client, "alarm", r#"{"device": "nobody", "text": "hot"}"#);
    let alarmed = || mongo::documents(&collection).iter().filter(|document| text(document, "alarm") == "hot").count();
    eventually("the alarm is there", SOON, || (alarmed() == 1).then_some(()));
    // The delivery of what finds nothing is confirmed, too.
    assert!(broker.stop().success());
    assert_eq!(mongo::documents(&collection).len(), 3);
    assert_eq!((account(folder.path(), "state"), account(folder.path(), "alarm")), ([31, 2, 0], [2, 0, 0]));
}
