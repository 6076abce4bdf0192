//! Rows and what takes them: FOREACH, conditions of actions, republish and its bound, fallback actions, values that are missing.

use hookline_integration_tests::broker::{self, Broker, run};
use hookline_mqtt::{Properties, PropertyId, QoS};
use serde_json::json;

use super::{NOT, SOON, folder, has_rows, next, publish, subscribe, table, table_with, v5};

#[test]
fn foreach_makes_a_row_of_each_item_in_their_order() {
    let folder = folder();
    let rule = r#"
        [rules.split]
        sql = '''
        FOREACH payload.sensors AS s
        DO clientid, s.name AS name, s.value AS value
        INCASE s.value > 10
        FROM "batch/+" WHERE qos > 0
        '''
        actions = ["readings"]
    "#;
    let broker = Broker::start(folder.path(), &[&table("readings", &["clientid", "name", "value"]), rule].concat());
    let mut client = broker.connect(&v5("gateway"));
    let batch = r#"{"sensors": [{"name": "a", "value": 1}, {"name": "b", "value": 20}, {"name": "c", "value": 30.5}]}"#;
    client.send("batch/1", batch.as_bytes(), QoS::AtMostOnce, false, &Properties::default()).expect("sent");
    // What gives no rows is no reason to refuse a message.
    for payload in [r#"{"sensors": []}"#, r#"{"sensors": 7}"#, "{}", "no JSON", batch, r#"{"sensors": [{"name": "d", "value": 11}]}"#] {
        publish(&mut client, "batch/1", payload);
    }
    has_rows(folder.path(), "readings", &json!([["gateway", "b", 20], ["gateway", "c", 30.5], ["gateway", "d", 11]]));
}

#[test]
fn each_action_takes_the_rows_for_which_its_condition_holds() {
    let folder = folder();
    let rule = r#"
        [rules.sort]
        sql = 'SELECT payload.n AS n FROM "n"'
        actions = [
            { action = "small", when = "n < 10" },
            { action = "large", when = "n >= 10" },
            "all",
            { function = "republish", topic = "huge", payload = "${n}", when = "n > 100" },
        ]
    "#;
    let tables = ["small", "large", "all"].map(|name| table(name, &["n"])).concat();
    let broker = Broker::start(folder.path(), &[&tables, rule].concat());
    let mut client = broker.connect(&v5("c"));
    subscribe(&mut client, "huge");
    // A condition that cannot be computed is the problem of its action alone.
    for payload in [r#"{"n": 5}"#, r#"{"n": 50}"#, r#"{"n": "many"}"#, r#"{"n": 500}"#] {
        publish(&mut client, "n", payload);
    }
    assert_eq!(next(&mut client).payload, b"500");
    has_rows(folder.path(), "all", &json!([[5], [50], ["many"], [500]]));
    has_rows(folder.path(), "large", &json!([[50], [500]]));
    has_rows(folder.path(), "small", &json!([[5]]));
    assert_eq!(client.receive(NOT).expect("holds"), None);
}

#[test]
fn republish_fills_everything_of_a_message_from_templates() {
    let folder = folder();
    let rule = r#"
        [rules.copy]
        sql = '''
        SELECT payload, qos, flags.retain AS keep, topic(2) AS device, pub_props, pub_props.'Content-Type' AS kind FROM "in/+"
        '''
        [[rules.copy.actions]]
        function = "republish"
        topic = "out/${device}"
        payload = "<${payload}>"
        qos = "${qos}"
        retain = "${keep}"
        user_properties = "${pub_props.'User-Property'}"
        [rules.copy.actions.mqtt_properties]
        Content-Type = "${kind}"
        Message-Expiry-Interval = "3600"
        Response-Topic = "answers/${device}"
        Correlation-Data = "${pub_props.'Correlation-Data'}"
        Payload-Format-Indicator = "1"
    "#;
    let broker = Broker::start(folder.path(), rule);
    let (mut reader, mut device) = (broker.connect(&v5("reader")), broker.connect(&v5("device")));
    subscribe(&mut reader, "out/#");
    let mut properties = Properties::default();
    properties.push_text(PropertyId::ContentType, "text/plain");
    properties.push_binary(PropertyId::CorrelationData, &[1, 0, 255]);
    properties.push_user("site", "south");
    properties.push_user("site", "north");
    let reason = device.publish_with("in/7", b"21", QoS::ExactlyOnce, true, &properties).expect("answered");
    assert!(!reason.is_error(), "{reason:?}");
    device.send("in/8", b"22", QoS::AtMostOnce, false, &Properties::default()).expect("sent");

    let full = next(&mut reader);
    assert_eq!((full.topic.as_str(), full.payload.as_slice(), full.qos), ("out/7", b"<21>".as_slice(), QoS::ExactlyOnce));
    let texts = [PropertyId::ContentType, PropertyId::ResponseTopic].map(|id| full.properties.text(id));
    assert_eq!(texts, [Some("text/plain"), Some("answers/7")]);
    assert_eq!(full.properties.binary(PropertyId::CorrelationData), Some([1, 0, 255].as_slice()));
    assert_eq!(full.properties.number(PropertyId::PayloadFormatIndicator), Some(1));
    let expiry = full.properties.number(PropertyId::MessageExpiryInterval);
    assert!(expiry.is_some_and(|secs| (3500..=3600).contains(&secs)), "{expiry:?}");
    // As a map, so the last of one name.
    assert_eq!(full.properties.user().collect::<Vec<_>>(), [("site", "north")]);

    let bare = next(&mut reader);
    assert_eq!((bare.topic.as_str(), bare.payload.as_slice(), bare.qos), ("out/8", b"<22>".as_slice(), QoS::AtMostOnce));
    let nothing = (bare.properties.text(PropertyId::ContentType), bare.properties.binary(PropertyId::CorrelationData));
    assert_eq!((nothing, bare.properties.user().count()), ((None, None), 0), "a template that gives nothing leaves its property out");

    let mut later = broker.connect(&v5("later"));
    subscribe(&mut later, "out/#");
    let kept = next(&mut later);
    assert_eq!((kept.topic.as_str(), kept.retain), ("out/7", true));
    assert_eq!(later.receive(NOT).expect("holds"), None, "the other one is not retained");
}

#[test]
fn rules_that_feed_each_other_end_at_the_hop_limit_and_that_is_counted() {
    let folder = folder();
    let rules = r#"
        [node]
        name = "n"
        [sys]
        interval_secs = 1
        [mqtt]
        republish_hops_max = 3
        [rules.there]
        sql = 'SELECT payload FROM "ping"'
        actions = [{ function = "republish", topic = "pong", payload = "${payload}", qos = 1 }]
        [rules.back]
        sql = 'SELECT payload FROM "pong"'
        actions = [{ function = "republish", topic = "ping", payload = "${payload}", qos = 1 }]
        [rules.dropped]
        sql = '''SELECT topic, payload, reason FROM "$events/message/dropped" WHERE reason = 'hop_limit' '''
        actions = ["dropped"]
    "#;
    let broker = Broker::start(folder.path(), &[&table("dropped", &["topic", "payload", "reason"]), rules].concat());
    let (mut player, mut watcher) = (broker.connect(&v5("player")), broker.connect(&v5("watcher")));
    subscribe(&mut player, "ping");
    subscribe(&mut player, "pong");
    publish(&mut player, "ping", "ball");
    has_rows(folder.path(), "dropped", &json!([["ping", "ball", "hop_limit"]]));
    let topics: Vec<String> = (0..4).map(|_| next(&mut player).topic).collect();
    assert_eq!(topics, ["ping", "pong", "ping", "pong"]);
    assert_eq!(player.receive(NOT).expect("holds"), None);
    let counter = "$SYS/brokers/n/metrics/messages/dropped/hop_limit";
    subscribe(&mut watcher, counter);
    let counted = watcher.receive(SOON).expect("holds").expect("said every second");
    assert_eq!((counted.topic.as_str(), counted.payload.as_slice()), (counter, b"1".as_slice()));
}

#[test]
fn what_a_table_refuses_goes_to_the_fallback_actions_and_the_accounts_balance() {
    let folder = folder();
    // The column's name stands in quotes in the definition of the table only.
    let checked = table_with("good", &["n"], "fallback_actions = [\"odd\"]").replace(", \"n\"", ", \"n\" CHECK (n < 10)");
    let rule = "[rules.all]\nsql = 'SELECT payload.n AS n FROM \"n\"'\nactions = [\"good\"]\n";
    let broker = Broker::start(folder.path(), &[&checked, &table("odd", &["n"]), rule].concat());
    let mut client = broker.connect(&v5("c"));
    for n in [1, 99, 2, 98, 3] {
        publish(&mut client, "n", format!("{{\"n\": {n}}}"));
    }
    has_rows(folder.path(), "odd", &json!([[99], [98]]));
    has_rows(folder.path(), "good", &json!([[1], [2], [3]]));
    assert!(broker.stop().success());
    let data = folder.path().join("data");
    let (code, letters, error) = run(&["dlq", "list", "good", "--json", "--data", data.to_str().expect("UTF-8")]);
    assert_eq!((code, letters.as_str()), (Some(0), ""), "no dead letters: {error}");
    let ledgers = broker::ledgers(folder.path());
    let account = |name: &str| {
        let ledger = ledgers.iter().find(|ledger| ledger["name"] == name).expect("has an account");
        ["accepted", "delivered", "dead_lettered", "pending", "dead_letters", "balances"].map(|field| ledger[field].clone())
    };
    // What was handed over counts as a dead letter of the first action, though none is there.
    assert_eq!(account("good"), [json!(5), json!(3), json!(2), json!(0), json!(0), json!(true)]);
    assert_eq!(account("odd"), [json!(2), json!(2), json!(0), json!(0), json!(0), json!(true)]);
}

#[test]
fn fallback_actions_that_lead_back_are_refused() {
    let folder = folder();
    let config = ["a", "b", "c"].iter().zip(["b", "c", "a"]);
    let config: String = config.map(|(name, next)| table_with(name, &["n"], &format!("fallback_actions = [\"{next}\"]"))).collect();
    let file = folder.path().join("round.toml");
    std::fs::write(&file, config).expect("written");
    let (code, _, error) = run(&["check", "--config", file.to_str().expect("UTF-8")]);
    assert!(code == Some(2) && error.contains("actions.a.fallback_actions: by them a record may come back to \"a\""), "{error}");
}

#[test]
fn what_is_missing_is_null_or_as_emqx_has_it_the_text_undefined() {
    let folder = folder();
    let rule = r#"
        [rules.both]
        sql = 'SELECT payload.a AS a, payload.b AS b FROM "t"'
        actions = ["plain", "emqx"]
    "#;
    // "c" is no field of the row at all.
    let fields = ["a", "b", "c"];
    let tables = [table("plain", &fields), table_with("emqx", &fields, "undefined_as_text = true")].concat();
    let broker = Broker::start(folder.path(), &[&tables, rule].concat());
    let mut client = broker.connect(&v5("c"));
    for payload in [r#"{"a": 1}"#, r#"{"b": null}"#, r#"{"a": "x", "b": "y"}"#] {
        publish(&mut client, "t", payload);
    }
    has_rows(folder.path(), "plain", &json!([[1, null, null], [null, null, null], ["x", "y", null]]));
    // A JSON null is not missing; and each record keeps an identifier of its own.
    let undefined = "undefined";
    has_rows(folder.path(), "emqx", &json!([[1, undefined, undefined], [undefined, null, undefined], ["x", "y", undefined]]));
}
