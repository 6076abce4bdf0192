//! Schemas and data of each type.

use serde_json::json;

use super::*;

const READING: &str = r#"{
    "type": "record", "name": "Reading", "namespace": "plant",
    "fields": [
        {"name": "id", "type": "long"},
        {"name": "level", "type": {"type": "enum", "name": "Level", "symbols": ["LOW", "HIGH"]}},
        {"name": "raw", "type": "bytes"},
        {"name": "mac", "type": {"type": "fixed", "name": "Mac", "size": 6}},
        {"name": "tags", "type": {"type": "array", "items": "string"}},
        {"name": "limits", "type": {"type": "map", "values": "double"}},
        {"name": "note", "type": ["null", "string"]},
        {"name": "place", "type": {"type": "record", "name": "Place",
            "fields": [{"name": "x", "type": "int"}, {"name": "ok", "type": "boolean"}]}},
        {"name": "before", "type": ["null", "Place"], "default": null},
        {"name": "unit", "type": "string", "default": "C"},
        {"name": "weights", "type": {"type": "array", "items": "float"}, "default": [0.5]}
    ]
}"#;

fn schema(source: &str) -> Schema {
    Schema::compile(source).unwrap_or_else(|problem| panic!("{source}: {problem}"))
}

fn value(json: serde_json::Value) -> Value {
    Value::from_json(json)
}

fn round(schema: &Schema, given: &Value) -> Result<Value, EvalError> {
    schema.decode(&schema.encode(given)?.into())
}

/// Whether a value comes back, as what.
#[track_caller]
fn check(source: &str, given: &Value, expect: &Value) {
    assert_eq!(round(&schema(source), given).as_ref(), Ok(expect), "{source}");
}

fn reading() -> Value {
    let mut reading = value(json!({
        "id": 7, "level": "HIGH", "tags": ["a", "ü"], "limits": {"max": 30}, "note": "n",
        "place": {"x": -3, "ok": true}, "before": {"x": 1, "ok": false}, "extra": "left out",
    }));
    if let Value::Map(map) = &mut reading {
        map.insert("raw", Value::Bytes(Bytes::from_static(&[0, 255])));
        map.insert("mac", Value::Bytes(Bytes::from_static(&[1, 2, 3, 4, 5, 6])));
    }
    reading
}

#[test]
fn a_record_comes_back_with_its_types_and_defaults() {
    let decoded = round(&schema(READING), &reading()).expect("fits");
    assert_eq!(decoded.path(["id"]), &Value::Int(7));
    assert_eq!(decoded.path(["level"]), &Value::text("HIGH"));
    assert_eq!(decoded.path(["raw"]), &Value::Bytes(Bytes::from_static(&[0, 255])));
    assert_eq!(decoded.path(["mac"]), &Value::Bytes(Bytes::from_static(&[1, 2, 3, 4, 5, 6])));
    assert_eq!(decoded.path(["tags"]), &value(json!(["a", "ü"])));
    assert_eq!(decoded.path(["limits", "max"]), &Value::Float(30.0));
    assert_eq!(decoded.path(["note"]), &Value::text("n"));
    assert_eq!(decoded.path(["place"]), &value(json!({"x": -3, "ok": true})));
    assert_eq!(decoded.path(["before", "x"]), &Value::Int(1));
    assert_eq!(decoded.path(["unit"]), &Value::text("C"));
    assert_eq!(decoded.path(["weights"]), &value(json!([0.5])));
    assert_eq!(decoded.path(["extra"]), &Value::Undefined);
}

#[test]
fn data_is_as_the_specification_has_it() {
    let source = r#"{"type": "record", "name": "T", "fields": [{"name": "a", "type": "long"}, {"name": "b", "type": "string"}]}"#;
    assert_eq!(schema(source).encode(&value(json!({"a": 27, "b": "foo"}))), Ok(vec![0x36, 0x06, 0x66, 0x6f, 0x6f]));
    assert_eq!(schema(r#"{"type": "array", "items": "long"}"#).encode(&value(json!([3, 27]))), Ok(vec![0x04, 0x06, 0x36, 0x00]));
    // A block with its size in bytes, and one without.
    let blocks = Bytes::from_static(&[0x03, 0x04, 0x06, 0x36, 0x02, 0x01, 0x00]);
    assert_eq!(schema(r#"{"type": "array", "items": "long"}"#).decode(&blocks), Ok(value(json!([3, 27, -1]))));
    assert_eq!(schema(r#"["null", "string"]"#).encode(&Value::text("a")), Ok(vec![0x02, 0x02, 0x61]));
}

#[test]
fn a_newer_schema_reads_what_an_older_wrote() {
    let old = schema(r#"{"type": "record", "name": "T", "fields": [{"name": "a", "type": "int"}, {"name": "gone", "type": "string"}]}"#);
    let new = schema(
        r#"{"type": "record", "name": "T", "fields": [
            {"name": "renamed", "aliases": ["a"], "type": "long"},
            {"name": "unit", "type": "string", "default": "C"},
            {"name": "inner", "default": {},
                "type": {"type": "record", "name": "I", "fields": [{"name": "n", "type": "int", "default": 5}]}},
            {"name": "raw", "type": "bytes", "default": "\u00ff\u0000"},
            {"name": "many", "type": {"type": "map", "values": "long"}, "default": {"k": 1}},
            {"name": "maybe", "type": ["null", "long"], "default": null},
            {"name": "either", "type": ["long", "null"], "default": 9}
        ]}"#,
    );
    let written = old.encode(&value(json!({"a": 1, "gone": "x"}))).expect("fits");
    let read = round(&new, &old.decode(&written.into()).expect("decodes")).expect("fits");
    let mut expect =
        value(json!({"renamed": 1, "unit": "C", "inner": {"n": 5}, "raw": null, "many": {"k": 1}, "maybe": null, "either": 9}));
    if let Value::Map(map) = &mut expect {
        map.insert("raw", Value::Bytes(Bytes::from_static(&[255, 0])));
    }
    assert_eq!(read, expect);
}

#[test]
fn logical_types_have_their_forms() {
    let decimal = r#"{"type": "bytes", "logicalType": "decimal", "precision": 6, "scale": 2}"#;
    for (given, expect) in [
        (Value::text("12.5"), "12.50"),
        (Value::Int(-3), "-3.00"),
        (Value::Float(0.25), "0.25"),
        (Value::text("-0.01"), "-0.01"),
        (Value::text("1.28"), "1.28"),
        (Value::Int(0), "0.00"),
    ] {
        check(decimal, &given, &Value::text(expect));
    }
    for lost in [Value::text("1.234"), Value::Int(100_000), Value::text("x"), Value::text(""), Value::Float(f64::NAN)] {
        assert!(schema(decimal).encode(&lost).is_err(), "{lost}");
    }
    assert_eq!(schema(decimal).encode(&Value::text("1.28")), Ok(vec![0x04, 0x00, 0x80]), "a byte in front keeps the sign");
    let fixed = r#"{"type": "fixed", "name": "D", "size": 4, "logicalType": "decimal", "precision": 9, "scale": 0}"#;
    check(fixed, &Value::Int(-2), &Value::text("-2"));
    assert_eq!(schema(fixed).encode(&Value::Int(-2)), Ok(vec![0xff, 0xff, 0xff, 0xfe]));
    let uuid = "0189a0e2-7f3c-7c7a-9b2e-1f0c5d6e7f80";
    check(r#"{"type": "string", "logicalType": "uuid"}"#, &Value::text(uuid), &Value::text(uuid));
    check(r#"{"type": "fixed", "name": "U", "size": 16, "logicalType": "uuid"}"#, &Value::text(uuid), &Value::text(uuid));
    assert!(schema(r#"{"type": "string", "logicalType": "uuid"}"#).encode(&Value::text("no")).is_err());
    let date = r#"{"type": "int", "logicalType": "date"}"#;
    check(date, &Value::text("1970-01-11"), &Value::Int(10));
    check(date, &Value::Int(-1), &Value::Int(-1));
    let time = Value::text("2023-11-14T22:13:20.5Z");
    check(r#"{"type": "long", "logicalType": "timestamp-millis"}"#, &time, &Value::Int(1_700_000_000_500));
    check(r#"{"type": "long", "logicalType": "timestamp-micros"}"#, &time, &Value::Int(1_700_000_000_500_000));
    let duration = r#"{"type": "fixed", "name": "P", "size": 12, "logicalType": "duration"}"#;
    check(duration, &value(json!({"days": 2, "millis": 300})), &value(json!({"months": 0, "days": 2, "millis": 300})));
}

#[test]
fn a_union_takes_the_nearest_branch() {
    let source = r#"["null", "int", "long", "double", "string", "bytes", {"type": "enum", "name": "E", "symbols": ["A"]},
        {"type": "record", "name": "P", "fields": [{"name": "a", "type": "int"}]},
        {"type": "record", "name": "Q", "fields": [{"name": "b", "type": "int"}]}]"#;
    let union = schema(source);
    let branch = |given: Value| union.encode(&given).expect("fits")[0] / 2;
    assert_eq!(branch(Value::Null), 0);
    assert_eq!(branch(Value::Int(5)), 1);
    assert_eq!(branch(Value::Int(1 << 40)), 2);
    assert_eq!(branch(Value::Float(1.0)), 3);
    assert_eq!(branch(Value::text("A")), 4);
    assert_eq!(branch(Value::Bytes(Bytes::from_static(b"A"))), 5);
    assert_eq!(branch(value(json!({"E": "A"}))), 6, "named by its only key");
    assert_eq!(branch(value(json!({"a": 1}))), 7);
    assert_eq!(branch(value(json!({"b": 1}))), 8);
    assert!(union.encode(&Value::Bool(true)).is_err());
}

#[test]
fn what_does_not_fit_says_where() {
    let mut wrong = reading();
    if let Value::Map(map) = &mut wrong {
        map.insert("place", value(json!({"x": "?", "ok": true})));
    }
    assert_eq!(schema(READING).encode(&wrong), Err(EvalError::new("place: x: expected an integer, found string")));
    assert_eq!(schema(READING).encode(&value(json!({"id": 1}))), Err(EvalError::new("level: missing, and without a default")));
    assert!(Schema::compile(r#"{"type": "record", "name": "T", "fields": [{"name": "a", "type": "int", "default": "x"}]}"#).is_err());
    assert!(Schema::compile("{").is_err());
}

#[test]
fn damaged_data_is_an_error() {
    let schema = schema(READING);
    let data = schema.encode(&reading()).expect("fits");
    for end in 0..data.len() {
        assert!(schema.decode(&Bytes::copy_from_slice(&data[..end])).is_err(), "cut at {end}");
    }
    let longer: Vec<u8> = data.iter().copied().chain([0]).collect();
    assert!(schema.decode(&longer.into()).is_err());
}

#[test]
fn a_stranger_cannot_make_it_costly() {
    // Two to the 62 nulls in nine bytes.
    let nulls = schema(r#"{"type": "array", "items": "null"}"#);
    let bomb = Bytes::from_static(&[0xfe, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f]);
    assert!(nulls.decode(&bomb).is_err());
    // A list that is nested a million times.
    let list = schema(r#"{"type": "record", "name": "L", "fields": [{"name": "next", "type": ["null", "L"]}]}"#);
    assert!(list.decode(&Bytes::from(vec![2; 1_000_000])).is_err());
    let deep = (0..40).fold(value(json!({"next": 1})), |inner, _| {
        let mut map = hookline_schemas::Map::new();
        map.insert("next", inner);
        Value::Map(map)
    });
    assert!(list.encode(&deep).is_err());
    // Each level fits two branches, and the innermost none.
    let twins = schema(
        r#"["null", {"type": "record", "name": "A", "fields": [{"name": "n", "type": ["null", "A",
            {"type": "record", "name": "B", "fields": [{"name": "n", "type": ["null", "A", "B"]}]}]}]}]"#,
    );
    let deep = (0..30).fold(value(json!({"n": true})), |inner, _| {
        let mut map = hookline_schemas::Map::new();
        map.insert("n", inner);
        Value::Map(map)
    });
    assert!(twins.encode(&deep).is_err());
}
