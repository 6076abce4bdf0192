//! Messages of both syntaxes.

use serde_json::json;

use super::*;

const PLANT: &str = r#"
syntax = "proto3";
package plant;
import "google/protobuf/timestamp.proto";
import "common.proto";

enum Level { LOW = 0; HIGH = 1; }

message Reading {
    message Place { int32 x = 1; optional bool ok = 2; }
    string id = 1;
    Level level = 2;
    Place place = 3;
    repeated sint64 values = 4;
    repeated string tags = 5;
    map<string, double> limits = 6;
    map<int32, Place> places = 7;
    oneof extra { string note = 8; uint32 code = 9; }
    bytes raw_data = 10;
    uint64 big = 11;
    float ratio = 12;
    google.protobuf.Timestamp at = 13;
    common.Unit unit = 14;
}

message Other { message Inner { message Innermost { bool b = 1; } } }
"#;

const COMMON: &str = "syntax = \"proto3\"; package common; message Unit { string name = 1; }";

fn schema() -> Schema {
    let mut sources = Sources::default();
    sources.insert("plant", PLANT);
    sources.insert("common", COMMON);
    Schema::compile("plant", &sources).unwrap_or_else(|problem| panic!("{problem}"))
}

fn compile(source: &str) -> Result<Schema, String> {
    let mut sources = Sources::default();
    sources.insert("one", source);
    Schema::compile("one", &sources)
}

fn value(json: serde_json::Value) -> Value {
    Value::from_json(json)
}

fn round(given: &Value) -> Result<Value, EvalError> {
    let schema = schema();
    schema.decode(&schema.encode(given, Some("Reading"))?.into(), Some("plant.Reading"))
}

#[test]
fn a_message_comes_back_with_its_types() {
    let mut given = value(json!({
        "id": "a", "level": "HIGH", "place": {"x": -1, "ok": false}, "values": [1, -2], "tags": ["x", "ü"],
        "limits": {"min": 1, "max": 2.5}, "places": {"7": {"x": 1}}, "code": 5, "big": "18446744073709551615", "ratio": 0.5,
        "at": {"seconds": 1_700_000_000, "nanos": 5}, "unit": {"name": "C"}, "unknown": 1,
    }));
    if let Value::Map(map) = &mut given {
        map.insert("rawData", Value::Bytes(Bytes::from_static(&[0, 255])));
    }
    let decoded = round(&given).expect("fits");
    for (path, expect) in [
        ("id", json!("a")),
        ("level", json!("HIGH")),
        ("place", json!({"x": -1, "ok": false})),
        ("values", json!([1, -2])),
        ("tags", json!(["x", "ü"])),
        ("limits", json!({"max": 2.5, "min": 1.0})),
        ("places", json!({"7": {"x": 1}})),
        ("code", json!(5)),
        ("big", json!("18446744073709551615")),
        ("ratio", json!(0.5)),
        ("at", json!({"seconds": 1_700_000_000, "nanos": 5})),
        ("unit", json!({"name": "C"})),
    ] {
        assert_eq!(decoded.path([path]), &value(expect), "{path}");
    }
    assert_eq!(decoded.path(["raw_data"]), &Value::Bytes(Bytes::from_static(&[0, 255])));
    assert_eq!(decoded.path(["note"]), &Value::Undefined);
}

#[test]
fn what_is_not_set_has_its_default_or_is_left_out() {
    let expect = json!({
        "id": "", "level": "LOW", "values": [], "tags": [], "limits": {}, "places": {}, "raw_data": "", "big": 0, "ratio": 0.0,
    });
    assert_eq!(round(&value(json!({"note": null}))).map(|decoded| decoded.to_json()), Ok(expect));
    assert_eq!(round(&value(json!({"note": ""}))).map(|decoded| decoded.path(["note"]).clone()), Ok(Value::text("")));
}

#[test]
fn data_is_as_the_specification_has_it() {
    let schema = compile("syntax = \"proto3\"; message T { int32 a = 1; string b = 2; repeated int32 c = 4; }").expect("valid");
    let given = value(json!({"a": 150, "b": "testing", "c": [3, 270, 86942]}));
    let expect = [
        &[0x08, 0x96, 0x01][..],
        &[0x12, 0x07, b't', b'e', b's', b't', b'i', b'n', b'g'],
        &[0x22, 0x06, 0x03, 0x8e, 0x02, 0x9e, 0xa7, 0x05],
    ];
    assert_eq!(schema.encode(&given, None), Ok(expect.concat()));
}

#[test]
fn a_newer_message_is_read_and_what_is_unknown_is_left_out() {
    let old = compile("syntax = \"proto3\"; message T { int32 a = 1; }").expect("valid");
    let new = compile("syntax = \"proto3\"; message T { int32 a = 1; string b = 2; } enum E { Z = 0; }").expect("valid");
    let data = new.encode(&value(json!({"a": 1, "b": "x"})), None).expect("fits");
    assert_eq!(old.decode(&data.into(), None), Ok(value(json!({"a": 1}))));
    let data = old.encode(&value(json!({"a": 1})), None).expect("fits");
    assert_eq!(new.decode(&data.into(), None), Ok(value(json!({"a": 1, "b": ""}))));
}

#[test]
fn proto2_has_required_fields_and_presence() {
    let source = "syntax = \"proto2\"; message T { required int32 a = 1; optional string b = 2 [default = \"x\"]; }";
    let schema = compile(source).expect("valid");
    assert_eq!(schema.encode(&value(json!({"b": "y"})), None), Err(EvalError::new("a: missing, and required")));
    assert_eq!(schema.decode(&Bytes::new(), None), Err(EvalError::new("a: missing, and required")));
    let data = schema.encode(&value(json!({"a": 0})), None).expect("fits");
    assert_eq!(schema.decode(&data.into(), None), Ok(value(json!({"a": 0}))));
}

#[test]
fn what_does_not_fit_says_where() {
    for (given, problem) in [
        (json!({"place": {"x": "a"}}), "place: x: expected an integer, found string"),
        (json!({"place": {"x": 3_000_000_000i64}}), "place: x: 3000000000 is not a signed integer of 32 bits"),
        (json!({"level": "HIHG"}), "level: \"Level\" has no value \"HIHG\"; did you mean \"HIGH\"?"),
        (json!({"note": "a", "code": 1}), "code: another field of \"extra\" is given, too"),
        (json!({"values": 1}), "values: expected an array, found integer"),
        (json!({"big": -1}), "big: -1 is not an integer of 64 bits"),
        (json!({"places": {"x": {}}}), "places: \"x\" is no key of this map"),
        (json!([1]), "expected a map, found array"),
    ] {
        assert_eq!(round(&value(given)), Err(EvalError::new(problem)));
    }
}

#[test]
fn messages_are_found_by_name() {
    let schema = schema();
    assert!(schema.message(Some("Other.Inner")).is_ok());
    assert!(schema.message(Some("common.Unit")).is_ok());
    let problem = |name| schema.message(name).map(drop).expect_err("there is none").to_string();
    assert_eq!(problem(None), "which message is it? give one of plant.Reading, plant.Other");
    assert_eq!(problem(Some("plant.Readin")), "there is no message \"plant.Readin\"; did you mean \"plant.Reading\"?");
    assert!(problem(Some("Reading.LimitsEntry")).contains("there is no message"));
}

#[test]
fn messages_have_places() {
    let schema = schema();
    for (name, places) in [("Reading", vec![0]), ("Other", vec![1]), ("Other.Inner.Innermost", vec![1, 0, 0])] {
        let message = schema.message(Some(name)).expect(name);
        assert_eq!(schema.places_of(&message), Ok(places.clone()), "{name}");
        let places: Vec<usize> = places.iter().map(|place| usize::try_from(*place).expect("small")).collect();
        assert_eq!(schema.message_at(&places), Ok(message));
    }
    assert!(schema.message_at(&[0, 9]).is_err());
}

#[test]
fn broken_schemas_say_where() {
    let problem = compile("syntax = \"proto3\";\nmessage T { int32 a 1; }").expect_err("broken");
    assert!(problem.contains("one.proto:2"), "{problem}");
    assert!(compile("syntax = \"proto3\"; import \"/etc/passwd\"; message T {}").is_err());
    assert!(compile("syntax = \"proto3\"; enum E { A = 0; }").is_err());
}

#[test]
fn damaged_and_deep_data_is_an_error() {
    let schema = schema();
    assert!(schema.decode(&Bytes::from_static(&[0x0a, 0x05, b'a']), Some("Reading")).is_err());
    assert!(schema.decode(&Bytes::from_static(&[0x0a, 0x01, 0xff]), Some("Reading")).is_err(), "not UTF-8");
    let list = compile("syntax = \"proto3\"; message L { L next = 1; }").expect("valid");
    let mut data = Vec::new();
    for _ in 0..200 {
        let mut outer = vec![0x0a];
        let mut length = data.len();
        while length >= 0x80 {
            outer.push(length as u8 | 0x80);
            length >>= 7;
        }
        outer.push(length as u8);
        outer.extend_from_slice(&data);
        data = outer;
    }
    assert!(list.decode(&data.into(), None).is_err());
}
