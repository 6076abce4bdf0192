//! Validations, transformations and schemas: what messages must be like, what is made of them, and how rules read what is no JSON.

use hookline_integration_tests::broker::Broker;
use hookline_mqtt::client::{Error, Options};
use hookline_mqtt::{QoS, ReasonCode};
use serde_json::{Value, json};

use super::{NOT, folder, has_rows, next, publish, subscribe, table, v5};

#[test]
fn a_message_that_fails_a_validation_is_refused_dropped_or_let_through_and_each_failure_is_an_event() {
    let folder = folder();
    let rules = r#"
        [schemas.order]
        type = "json"
        source = '{"type": "object", "required": ["item"], "properties": {"item": {"type": "string"}}}'
        [validations.refuse]
        topics = ["refuse/#"]
        checks = [{ type = "schema", schema = "order" }]
        [validations.drop]
        topics = ["drop/#"]
        checks = [{ type = "schema", schema = "order" }]
        failure_action = "drop"
        [validations.note]
        topics = ["note/#"]
        checks = [{ type = "sql", sql = "SELECT * WHERE payload.item != ''" }]
        failure_action = "ignore"
        [rules.taken]
        sql = 'SELECT topic FROM "+/orders"'
        actions = ["taken"]
        [rules.failed]
        sql = 'SELECT validation, clientid, topic, payload FROM "$events/schema_validation/failed"'
        actions = ["failed"]
    "#;
    let tables = [table("taken", &["topic"]), table("failed", &["validation", "clientid", "topic", "payload"])].concat();
    let broker = Broker::start(folder.path(), &[&tables, rules].concat());
    let (mut reader, mut new) = (broker.connect(&v5("reader")), broker.connect(&v5("new")));
    subscribe(&mut reader, "+/orders");
    for topic in ["refuse/orders", "drop/orders", "note/orders"] {
        publish(&mut new, topic, r#"{"item": "tea"}"#);
        assert_eq!(next(&mut reader).topic, topic, "what is as it should be passes");
    }

    for qos in [QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let reason = new.publish("refuse/orders", b"{}", qos, false).expect("answered");
        assert_eq!(reason, ReasonCode::PayloadFormatInvalid);
    }
    let older = Options::new("old");
    let mut old = broker.connect(&older);
    let answer = old.publish("refuse/orders", b"{}", QoS::AtLeastOnce, false);
    assert!(matches!(answer, Err(Error::Io(_))), "MQTT 3.1.1 has no word for it, so the connection ends: {answer:?}");

    let mut old = broker.connect(&older);
    let answers = [&mut new, &mut old].map(|client| client.publish("drop/orders", b"{}", QoS::AtLeastOnce, false).expect("answered"));
    assert_eq!(answers, [ReasonCode::ImplementationSpecificError, ReasonCode::Success]);
    for client in [&mut new, &mut old] {
        client.ping().expect("the connection stays");
    }

    publish(&mut new, "note/orders", r#"{"item": ""}"#);
    let noted = next(&mut reader);
    assert_eq!((noted.topic.as_str(), noted.payload.as_slice()), ("note/orders", br#"{"item": ""}"#.as_slice()));
    assert_eq!(reader.receive(NOT).expect("holds"), None, "nothing of what was refused or dropped");

    has_rows(folder.path(), "taken", &json!([["refuse/orders"], ["drop/orders"], ["note/orders"], ["note/orders"]]));
    let expect = json!([
        ["refuse", "new", "refuse/orders", "{}"],
        ["refuse", "new", "refuse/orders", "{}"],
        ["refuse", "old", "refuse/orders", "{}"],
        ["drop", "new", "drop/orders", "{}"],
        ["drop", "old", "drop/orders", "{}"],
        ["note", "new", "note/orders", r#"{"item": ""}"#],
    ]);
    has_rows(folder.path(), "failed", &expect);
}

#[test]
fn a_transformation_changes_topic_and_payload_before_anybody_hears_of_the_message() {
    let folder = folder();
    let rules = r#"
        [transformations.raw]
        topics = ["raw/+"]
        decoder = { type = "json" }
        encoder = { type = "json" }
        operations = [
            { key = "payload.by", value = "clientid" },
            { key = "payload.twice", value = "payload.t * 2" },
            { key = "user_property.came_as", value = "topic" },
            { key = "retain", value = "true" },
            { key = "topic", value = "concat('clean/', clientid, '/', topic(2))" },
        ]
        [rules.seen]
        sql = 'SELECT topic, payload.twice AS twice FROM "raw/#", "clean/#"'
        actions = ["seen"]
        [rules.failed]
        sql = 'SELECT transformation, topic, payload FROM "$events/message_transformation/failed"'
        actions = ["failed"]
    "#;
    let tables = [table("seen", &["topic", "twice"]), table("failed", &["transformation", "topic", "payload"])].concat();
    let broker = Broker::start(folder.path(), &[&tables, rules].concat());
    let (mut reader, mut device) = (broker.connect(&v5("reader")), broker.connect(&v5("device")));
    subscribe(&mut reader, "#");
    publish(&mut device, "raw/7", r#"{"t": 21}"#);
    let reason = device.publish("raw/7", b"no JSON", QoS::AtLeastOnce, false).expect("answered");
    assert_eq!(reason, ReasonCode::ImplementationSpecificError);

    let clean = next(&mut reader);
    let payload: Value = serde_json::from_slice(&clean.payload).expect("JSON");
    assert_eq!((clean.topic.as_str(), payload), ("clean/device/7", json!({ "t": 21, "by": "device", "twice": 42 })));
    assert_eq!(clean.properties.user().collect::<Vec<_>>(), [("came_as", "raw/7")]);
    assert_eq!(reader.receive(NOT).expect("holds"), None, "nothing of it under its old topic");
    let mut later = broker.connect(&v5("later"));
    subscribe(&mut later, "clean/#");
    assert!(next(&mut later).retain);
    has_rows(folder.path(), "seen", &json!([["clean/device/7", 42]]));
    has_rows(folder.path(), "failed", &json!([["raw", "raw/7", "no JSON"]]));
}

/// Two kinds of schema with a number, and one of JSON; all of a reading.
const SCHEMAS: &str = r#"
    [schemas.reading]
    type = "avro"
    id = 1
    source = '''
    {"type": "record", "name": "Reading", "fields": [{"name": "device", "type": "string"}, {"name": "t", "type": "int"}]}
    '''
    [schemas.message]
    type = "protobuf"
    id = 258
    source = '''
    syntax = "proto3";
    message Other { bool on = 1; }
    message Reading { string device = 1; int32 t = 2; }
    '''
    [schemas.document]
    type = "json"
    id = 7
    source = '{"type": "object", "required": ["device", "t"]}'
"#;

fn tagged(tag: &[u8], body: &[u8]) -> Vec<u8> {
    [tag, body].concat()
}

#[test]
fn rules_read_avro_protobuf_and_json_by_the_number_in_front_of_the_message_or_by_name() {
    let folder = folder();
    let rules = r#"
        [rules.tagged]
        sql = '''
        SELECT topic, schema_decode_tagged('registry', payload) AS reading, reading.device AS device, reading.t AS t FROM "tagged/+"
        '''
        actions = ["readings"]
        [rules.avro]
        sql = '''SELECT topic, schema_decode('reading', payload) AS r, r.device AS device, r.t AS t FROM "named/avro"'''
        actions = ["readings"]
        [rules.protobuf]
        sql = '''SELECT topic, schema_decode('message', payload, 'Reading') AS r, r.device AS device, r.t AS t FROM "named/protobuf"'''
        actions = ["readings"]
    "#;
    let broker = Broker::start(folder.path(), &[&table("readings", &["topic", "device", "t"]), SCHEMAS, rules].concat());
    let mut client = broker.connect(&v5("c"));
    // Strings of Avro have their length in front, and all its numbers are doubled (zigzag).
    let avro: &[u8] = &[4, b'd', b'1', 42];
    let protobuf: &[u8] = &[0x0a, 2, b'd', b'2', 0x10, 22];
    let document = br#"{"device": "d3", "t": 23}"#;
    publish(&mut client, "tagged/avro", tagged(&[0, 0, 0, 0, 1], avro));
    // A list of one place: the second message of the file.
    publish(&mut client, "tagged/protobuf", tagged(&[0, 0, 0, 1, 2, 2, 2], protobuf));
    publish(&mut client, "tagged/json", tagged(&[0, 0, 0, 0, 7], document));
    publish(&mut client, "tagged/unknown", tagged(&[0, 0, 0, 0, 9], avro));
    publish(&mut client, "tagged/cut", [0, 0, 0, 0, 1, 4, b'd']);
    publish(&mut client, "tagged/none", "{}");
    publish(&mut client, "named/avro", avro);
    publish(&mut client, "named/protobuf", protobuf);
    let expect = json!([
        ["tagged/avro", "d1", 21],
        ["tagged/protobuf", "d2", 22],
        ["tagged/json", "d3", 23],
        ["named/avro", "d1", 21],
        ["named/protobuf", "d2", 22],
    ]);
    has_rows(folder.path(), "readings", &expect);
}

#[test]
fn rules_write_messages_with_the_number_of_their_schema() {
    let folder = folder();
    let rules = r#"
        [rules.avro]
        sql = '''SELECT schema_encode_and_tag('reading', 'registry', payload) AS tagged FROM "plain"'''
        actions = [{ function = "republish", topic = "avro", payload = "${tagged}", qos = 1 }]
        [rules.protobuf]
        sql = '''SELECT schema_encode_and_tag('message', 'registry', payload, 'Reading') AS tagged FROM "plain"'''
        actions = [{ function = "republish", topic = "protobuf", payload = "${tagged}", qos = 1 }]
    "#;
    let broker = Broker::start(folder.path(), &[SCHEMAS, rules].concat());
    let mut client = broker.connect(&v5("c"));
    ["avro", "protobuf"].iter().for_each(|topic| subscribe(&mut client, topic));
    publish(&mut client, "plain", r#"{"t": 21, "device": "d1"}"#);
    let mut found = [next(&mut client), next(&mut client)].map(|message| (message.topic, message.payload));
    found.sort();
    let avro = vec![0, 0, 0, 0, 1, 4, b'd', b'1', 42];
    let protobuf = vec![0, 0, 0, 1, 2, 2, 2, 0x0a, 2, b'd', b'1', 0x10, 21];
    assert_eq!(found, [("avro".to_owned(), avro), ("protobuf".to_owned(), protobuf)]);
}
