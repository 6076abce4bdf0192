//! Messages through validations and transformations.

use std::io;

use bytes::Bytes;
use hookline_mqtt::{PropertyId, QoS, ReasonCode};
use hookline_schemas::config::{Check, FailureAction, Operation, PayloadCodec, Schema as SchemaSettings, SchemaKind, Strategy};
use serde_json::json;

use super::*;

const JSON: &str = r#"{"type": "object", "properties": {"t": {"type": "number", "maximum": 100}}, "required": ["t"]}"#;
const AVRO: &str = r#"{"type": "record", "name": "T",
    "fields": [{"name": "t", "type": "double"}, {"name": "unit", "type": "string", "default": "C"}]}"#;
const PROTO: &str = "syntax = \"proto3\"; message A { double t = 1; string by = 2; } message B { int32 n = 1; }";

fn registry() -> Registry {
    let settings = |kind, source: &str| SchemaSettings { kind, source: Some(source.to_owned()), file: None, id: None };
    let schemas = BTreeMap::from([
        ("json".to_owned(), settings(SchemaKind::Json, JSON)),
        ("avro".to_owned(), settings(SchemaKind::Avro, AVRO)),
        ("proto".to_owned(), settings(SchemaKind::Protobuf, PROTO)),
    ]);
    Registry::new(&schemas, &|_| Err(io::ErrorKind::NotFound.into())).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn validation(checks: Vec<Check>, failure_action: FailureAction) -> config::Validation {
    config::Validation {
        topics: vec!["t/#".to_owned()],
        checks,
        strategy: Strategy::AllPass,
        failure_action,
        log_failure: config::FailureLog::None,
        enable: true,
        description: String::new(),
    }
}

fn transformation(decoder: PayloadCodec, operations: &[(&str, &str)], encoder: PayloadCodec) -> config::Transformation {
    let operation = |(key, value): &(&str, &str)| Operation { key: (*key).to_owned(), value: (*value).to_owned() };
    config::Transformation {
        topics: vec!["t/#".to_owned()],
        decoder,
        operations: operations.iter().map(operation).collect(),
        encoder,
        failure_action: FailureAction::Drop,
        log_failure: config::FailureLog::None,
        enable: true,
        description: String::new(),
    }
}

fn schema(name: &str) -> Check {
    Check::Schema { schema: name.to_owned(), message_type: None }
}

fn sql(sql: &str) -> Check {
    Check::Sql { sql: sql.to_owned() }
}

fn json_codec() -> PayloadCodec {
    PayloadCodec::Json { schema: None }
}

fn named<T, const N: usize>(entries: [(&str, T); N]) -> BTreeMap<String, T> {
    entries.into_iter().map(|(name, entry)| (name.to_owned(), entry)).collect()
}

/// An ingress with validations and transformations of these names.
fn ingress<const V: usize, const T: usize>(
    validations: [(&str, config::Validation); V],
    transformations: [(&str, config::Transformation); T],
) -> Ingress {
    let made = Ingress::new("n", &named(validations), &named(transformations), &registry());
    made.unwrap_or_else(|errors| panic!("{errors:?}"))
}

/// The verdict, and what failed, with the payload as it came there.
fn publish(ingress: &Ingress, message: &mut Message) -> (Verdict, Vec<String>) {
    let mut told = Vec::new();
    let verdict = ingress.on_publish(message, &mut |point, name, message| {
        told.push(format!("{} {name} {}", point.name(), String::from_utf8_lossy(&message.payload)));
    });
    (verdict, told)
}

fn counts(ingress: &Ingress) -> Vec<(u64, u64, u64)> {
    ingress.stats().iter().map(|stats| (stats.matched, stats.succeeded, stats.failed)).collect()
}

#[test]
fn what_does_not_pass_is_refused_dropped_or_let_through() {
    let rejected = Verdict::Reject { name: "v".into(), reason: ReasonCode::PayloadFormatInvalid };
    let dropped = Verdict::Drop { name: "v".into() };
    for (action, expect) in [(FailureAction::Reject, rejected), (FailureAction::Drop, dropped), (FailureAction::Ignore, Verdict::Pass)] {
        let ingress = ingress([("v", validation(vec![schema("json")], action))], []);
        let failed = "schema.validation_failed v {\"t\":101}".to_owned();
        assert_eq!(publish(&ingress, &mut Message::internal("t/1", "{\"t\":101}")), (expect, vec![failed]));
        assert_eq!(publish(&ingress, &mut Message::internal("t/1", "{\"t\":1}")), (Verdict::Pass, vec![]));
        assert_eq!(publish(&ingress, &mut Message::internal("other", "no JSON")), (Verdict::Pass, vec![]));
        assert_eq!(counts(&ingress), [(2, 1, 1)]);
    }
}

#[test]
fn all_or_one_of_the_checks_must_hold() {
    let checks = || vec![schema("json"), sql("SELECT * WHERE payload.t > 50 AND clientid = 'hookline'")];
    let all = ingress([("v", validation(checks(), FailureAction::Drop))], []);
    let any = ingress([("v", config::Validation { strategy: Strategy::AnyPass, ..validation(checks(), FailureAction::Drop) })], []);
    for (payload, passes_all, passes_any) in
        [("{\"t\":60}", true, true), ("{\"t\":10}", false, true), ("{\"t\":200}", false, true), ("{}", false, false), ("?", false, false)]
    {
        let passes = |ingress: &Ingress| publish(ingress, &mut Message::internal("t/1", payload)).0 == Verdict::Pass;
        assert_eq!((passes(&all), passes(&any)), (passes_all, passes_any), "{payload}");
    }
}

#[test]
fn every_kind_of_schema_checks_payloads() {
    let proto = Check::Schema { schema: "proto".to_owned(), message_type: Some("B".to_owned()) };
    let cases: [(Check, &[u8], &[u8]); 3] = [
        (schema("json"), b"{\"t\":1}", b"{}"),
        (schema("avro"), &[0, 0, 0, 0, 0, 0, 0, 0, 2, b'C'], &[0, 0]),
        (proto, &[0x08, 0x05], &[0x08]),
    ];
    for (check, good, bad) in cases {
        let ingress = ingress([("v", validation(vec![check], FailureAction::Reject))], []);
        let mut message = Message::internal("t/1", "");
        message.payload = Bytes::copy_from_slice(good);
        assert_eq!(publish(&ingress, &mut message).0, Verdict::Pass, "{good:?}");
        message.payload = Bytes::copy_from_slice(bad);
        assert_ne!(publish(&ingress, &mut message).0, Verdict::Pass, "{bad:?}");
    }
}

#[test]
fn a_message_is_changed_in_all_its_parts() {
    let operations = [
        ("payload.f", "payload.t * 2"),
        ("payload.by.client", "clientid"),
        ("topic", "concat('out/', topic)"),
        ("qos", "1"),
        ("retain", "NOT retain = true"),
        ("user_property.kind", "'new'"),
        ("user_property.seen", "user_property.kind"),
    ];
    let ingress = ingress([], [("x", transformation(json_codec(), &operations, json_codec()))]);
    let mut message = Message::internal("t/1", "{\"t\": 2}");
    message.properties.push_user("kind", "old");
    message.properties.push_user("other", "stays");
    message.properties.push_text(PropertyId::ContentType, "json");
    assert_eq!(publish(&ingress, &mut message), (Verdict::Pass, vec![]));
    let payload: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
    assert_eq!(payload, json!({"t": 2, "f": 4, "by": {"client": "hookline"}}));
    assert_eq!((&*message.topic, message.qos, message.retain), ("out/t/1", QoS::AtLeastOnce, true));
    let user: Vec<(&str, &str)> = message.properties.user().collect();
    assert_eq!(user, [("other", "stays"), ("kind", "new"), ("seen", "new")]);
    assert_eq!(message.properties.text(PropertyId::ContentType), Some("json"));
    assert_eq!(counts(&ingress), [(1, 1, 0)]);
}

#[test]
fn transformations_hand_on_what_they_have_made() {
    let avro = || PayloadCodec::Avro { schema: "avro".to_owned() };
    let proto = PayloadCodec::Protobuf { schema: "proto".to_owned(), message_type: Some("A".to_owned()) };
    // The second sees what the first has decoded; the topic as it came decides which they are.
    let first = transformation(json_codec(), &[("topic", "'elsewhere'")], PayloadCodec::None);
    let second = transformation(PayloadCodec::None, &[("payload.t", "payload.t + 0.5")], avro());
    let third = transformation(avro(), &[("payload.by", "payload.unit")], proto);
    let ingress = ingress([], [("1", first), ("2", second), ("3", third)]);
    let mut message = Message::internal("t/1", "{\"t\": 2}");
    message.properties.push_number(PropertyId::PayloadFormatIndicator, 1);
    assert_eq!(publish(&ingress, &mut message), (Verdict::Pass, vec![]));
    assert_eq!(&message.payload[..], [&[0x09][..], &2.5f64.to_le_bytes(), &[0x12, 1, b'C']].concat());
    assert_eq!(&*message.topic, "elsewhere");
    assert_eq!(counts(&ingress), [(1, 1, 0), (1, 1, 0), (1, 1, 0)]);
}

#[test]
fn bytes_that_are_no_text_do_not_say_to_be_text() {
    let avro = PayloadCodec::Avro { schema: "avro".to_owned() };
    let ingress = ingress([], [("x", transformation(json_codec(), &[], avro))]);
    let mut message = Message::internal("t/1", "{\"t\": -1.1}");
    message.properties.push_number(PropertyId::PayloadFormatIndicator, 1);
    assert_eq!(publish(&ingress, &mut message).0, Verdict::Pass);
    assert_eq!(message.properties.number(PropertyId::PayloadFormatIndicator), None);
}

#[test]
fn a_failure_leaves_the_message_as_it_came() {
    let wrong = [
        transformation(json_codec(), &[("payload.a", "payload.t + 1")], json_codec()),
        transformation(PayloadCodec::None, &[("topic", "'a'"), ("qos", "3")], PayloadCodec::None),
        transformation(PayloadCodec::None, &[("retain", "'maybe'")], PayloadCodec::None),
        transformation(PayloadCodec::None, &[("topic", "'a/#'")], PayloadCodec::None),
        transformation(PayloadCodec::None, &[("topic", "'$SYS/x'")], PayloadCodec::None),
        transformation(PayloadCodec::None, &[("payload.a", "1")], PayloadCodec::None),
        transformation(PayloadCodec::None, &[("payload", "[1]")], PayloadCodec::None),
        transformation(PayloadCodec::None, &[("topic", "nope")], PayloadCodec::None),
        transformation(PayloadCodec::Avro { schema: "avro".to_owned() }, &[], PayloadCodec::None),
    ];
    for transformation in wrong {
        let mut message = Message::internal("t/1", "{}?");
        let dropping = ingress([], [("x", transformation.clone())]);
        let failed = "message.transformation_failed x {}?".to_owned();
        assert_eq!(publish(&dropping, &mut message), (Verdict::Drop { name: "x".into() }, vec![failed]), "{transformation:?}");
        assert_eq!(counts(&dropping), [(1, 0, 1)]);
        let ignoring = ingress([], [("x", config::Transformation { failure_action: FailureAction::Ignore, ..transformation })]);
        assert_eq!(publish(&ignoring, &mut message).0, Verdict::Pass);
        assert_eq!((&*message.topic, &message.payload[..], message.qos, message.retain), ("t/1", &b"{}?"[..], QoS::AtMostOnce, false));
    }
}

#[test]
fn validations_come_first_and_what_is_ignored_goes_on() {
    let ignoring = validation(vec![sql("SELECT * WHERE payload.t > 5")], FailureAction::Ignore);
    let broken = config::Transformation {
        failure_action: FailureAction::Ignore,
        ..transformation(json_codec(), &[("payload.x", "upper(payload.t)"), ("payload.x", "1 div 0")], json_codec())
    };
    let good = transformation(json_codec(), &[("payload.done", "true")], json_codec());
    let ingress = ingress([("v", ignoring)], [("1", broken), ("2", good)]);
    let mut message = Message::internal("t/1", "{\"t\":1}");
    let (verdict, told) = publish(&ingress, &mut message);
    assert_eq!(verdict, Verdict::Pass);
    assert_eq!(told, ["schema.validation_failed v {\"t\":1}", "message.transformation_failed 1 {\"t\":1}"]);
    assert_eq!(&message.payload[..], b"{\"t\":1,\"done\":true}");
    assert_eq!(counts(&ingress), [(1, 0, 1), (1, 0, 1), (1, 1, 0)]);
}

#[test]
fn all_errors_are_told_at_once_with_their_keys() {
    let mut no_topics = validation(vec![schema("jsn"), sql("SELECT uper(a)"), schema("proto")], FailureAction::Drop);
    no_topics.topics.clear();
    let mut wrong = transformation(PayloadCodec::Avro { schema: "json".to_owned() }, &[("clientid", "'a'"), ("topic", "(")], json_codec());
    wrong.topics.push("a/#/b".to_owned());
    let disabled = config::Validation { enable: false, ..no_topics.clone() };
    let validations = named([("v", no_topics), ("off", disabled)]);
    let errors = Ingress::new("n", &validations, &named([("x", wrong)]), &registry()).expect_err("wrong");
    let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let begins = [
        "validations.v.topics: missing",
        "validations.v.checks[0].schema: there is no schema \"jsn\" in [schemas]; did you mean \"json\"?",
        "validations.v.checks[1].sql: unknown function \"uper\"; did you mean \"upper\"? at column 8",
        "validations.v.checks[2].schema: schema \"proto\": which message is it? give one of A, B",
        "transformations.x.topics: \"a/#/b\" is no topic filter",
        "transformations.x.decoder.schema: schema \"json\" is of type json, not avro",
        "transformations.x.operations[0].key: \"clientid\" cannot be set",
        "transformations.x.operations[1].value: ",
    ];
    assert_eq!(texts.len(), begins.len(), "{texts:#?}");
    for (text, begin) in texts.iter().zip(begins) {
        assert!(text.starts_with(begin), "{text} does not begin with {begin}");
    }
}

#[test]
fn without_anything_all_messages_pass() {
    let ingress = ingress([], []);
    assert!(ingress.is_open());
    assert_eq!(publish(&ingress, &mut Message::internal("t/1", "")), (Verdict::Pass, vec![]));
}
