//! The functions that statements have for schemas. Names and order of arguments are those that users of this SQL know; the
//! registry that some of them name first is always the table of the configuration, whatever its name.

use hookline_schemas::Value;

use super::registry::in_force;
use super::{Registry, Schema, tagged, text};
use crate::error::EvalError;
use crate::function::{Code, Function};

/// Their rows in the table of functions. None is pure: their value depends on the schemas in force.
pub(crate) const TABLE: &[Function] = &[
    Function {
        name: "schema_encode",
        arity: 2..=3,
        code: Code::Plain(schema_encode),
        pure: false,
        doc: "A value as bytes by a schema; for protobuf with the name of the message.",
        example: (r#"bin2hexstr(schema_encode('reading', json_decode('{"t": 21}')))"#, r#""2A""#),
    },
    Function {
        name: "schema_decode",
        arity: 2..=3,
        code: Code::Plain(schema_decode),
        pure: false,
        doc: "The value of bytes by a schema; for protobuf with the name of the message.",
        example: ("schema_decode('reading', hexstr2bin('2A'))", r#"{"t": 21}"#),
    },
    Function {
        name: "schema_check",
        arity: 2..=3,
        code: Code::Plain(schema_check),
        pure: false,
        doc: "Whether bytes can be decoded, or a value encoded, by a schema.",
        example: ("schema_check('reading', hexstr2bin('2A'))", "true"),
    },
    Function {
        name: "avro_encode",
        arity: 3..=3,
        code: Code::Plain(avro_encode),
        pure: false,
        doc: "A value as bytes: the registry, the value, the number of the schema.",
        example: (r#"bin2hexstr(avro_encode('registry', json_decode('{"t": 21}'), 1))"#, r#""2A""#),
    },
    Function {
        name: "avro_decode",
        arity: 2..=3,
        code: Code::Plain(avro_decode),
        pure: false,
        doc: "The value of bytes: the registry, the bytes, the number of the schema; without a number the bytes carry it.",
        example: ("avro_decode('registry', hexstr2bin('2A'), 1)", r#"{"t": 21}"#),
    },
    Function {
        name: "schema_encode_and_tag",
        arity: 3..=4,
        code: Code::Plain(schema_encode_and_tag),
        pure: false,
        doc: "Bytes that carry the number of their schema: the schema, the registry, the value, for protobuf the name of the message.",
        example: (r#"bin2hexstr(schema_encode_and_tag('reading', 'registry', json_decode('{"t": 21}')))"#, r#""00000000012A""#),
    },
    Function {
        name: "schema_decode_tagged",
        arity: 2..=3,
        code: Code::Plain(schema_decode_tagged),
        pure: false,
        doc: "The value of bytes that carry the number of their schema: the registry, the bytes, and a newer schema to see it by.",
        example: ("schema_decode_tagged('registry', hexstr2bin('00000000012A'))", r#"{"t": 21}"#),
    },
];

fn schema_encode(args: &[Value]) -> Result<Value, EvalError> {
    in_force().get(text(&args[0])?)?.encode(&args[1], message_type(args.get(2))?)
}

fn schema_decode(args: &[Value]) -> Result<Value, EvalError> {
    in_force().get(text(&args[0])?)?.decode(&args[1], message_type(args.get(2))?)
}

fn schema_check(args: &[Value]) -> Result<Value, EvalError> {
    let registry = in_force();
    let (schema, message_type) = (registry.get(text(&args[0])?)?, message_type(args.get(2))?);
    // A message type that is not there is a mistake in the statement, not in the data.
    schema.check_message_type(message_type)?;
    Ok(Value::Bool(schema.check(&args[1], message_type).is_ok()))
}

fn avro_encode(args: &[Value]) -> Result<Value, EvalError> {
    text(&args[0])?;
    numbered(&in_force(), &args[2])?.encode(&args[1], None)
}

fn avro_decode(args: &[Value]) -> Result<Value, EvalError> {
    text(&args[0])?;
    match args.get(2) {
        Some(id) => numbered(&in_force(), id)?.decode(&args[1], None),
        None => tagged::decode(&in_force(), &args[1], None),
    }
}

fn schema_encode_and_tag(args: &[Value]) -> Result<Value, EvalError> {
    text(&args[1])?;
    let registry = in_force();
    let schema = registry.get(text(&args[0])?)?;
    tagged::encode(schema, &args[2], message_type(args.get(3))?)
}

fn schema_decode_tagged(args: &[Value]) -> Result<Value, EvalError> {
    text(&args[0])?;
    let registry = in_force();
    let reader = args.get(2).map(|name| registry.get(text(name)?)).transpose()?;
    tagged::decode(&registry, &args[1], reader.map(|reader| &**reader))
}

/// The name of a message type; empty and missing ones are none.
fn message_type(arg: Option<&Value>) -> Result<Option<&str>, EvalError> {
    match arg {
        None | Some(Value::Undefined | Value::Null) => Ok(None),
        Some(name) => text(name).map(|name| (!name.is_empty()).then_some(name)),
    }
}

/// The schema of a number, or of a name.
fn numbered<'a>(registry: &'a Registry, id: &Value) -> Result<&'a Schema, EvalError> {
    let schema = match id {
        Value::Int(id) => {
            let id = u32::try_from(*id).map_err(|_| EvalError::new(format!("{id} is no number of a schema")))?;
            registry.by_id(id)
        }
        name => registry.get(text(name)?),
    };
    schema.map(|schema| &**schema)
}

/// Puts the schemas in force that the examples use. The tests of this file use the same, because all tests of a process share them.
#[cfg(test)]
pub(crate) fn install_examples() {
    super::install(std::sync::Arc::new(tests::registry()));
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use bytes::Bytes;
    use hookline_schemas::config::{Schema as Settings, SchemaKind};
    use serde_json::json;

    use super::*;

    const JSON: &str = r##"{
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "type": "object",
        "properties": {
            "at": {"type": "string", "format": "date-time"},
            "mail": {"type": "string", "format": "email"},
            "id": {"type": "string", "pattern": "^d-[0-9]+$"},
            "value": {"$ref": "#/$defs/measure"},
            "pair": {"type": "array", "prefixItems": [{"type": "integer"}, {"type": "string"}], "items": false}
        },
        "required": ["id"],
        "unevaluatedProperties": false,
        "$defs": {"measure": {"type": "number", "minimum": -40, "exclusiveMaximum": 100}}
    }"##;
    const READING: &str = r#"{"type": "record", "name": "T", "fields": [{"name": "t", "type": "int"}]}"#;
    const NEW: &str = r#"{"type": "record", "name": "T",
        "fields": [{"name": "unit", "type": "string", "default": "C"}, {"name": "t", "type": "double"}]}"#;
    const PROTO: &str = "syntax = \"proto3\"; package p; message A { int32 a = 1; message In { bool b = 1; } } message B { string s = 1; }";

    pub(super) fn registry() -> Registry {
        let settings = |kind, source: &str, id| Settings { kind, source: Some(source.to_owned()), file: None, id };
        let schemas = BTreeMap::from([
            ("json".to_owned(), settings(SchemaKind::Json, JSON, Some(3))),
            ("reading".to_owned(), settings(SchemaKind::Avro, READING, Some(1))),
            ("new".to_owned(), settings(SchemaKind::Avro, NEW, None)),
            ("proto".to_owned(), settings(SchemaKind::Protobuf, PROTO, Some(258))),
        ]);
        Registry::new(&schemas, &|_| Err(std::io::ErrorKind::NotFound.into())).unwrap_or_else(|errors| panic!("{errors:?}"))
    }

    fn call(name: &str, args: &[Value]) -> Result<Value, EvalError> {
        let function = TABLE.iter().find(|function| function.name == name).expect(name);
        assert!(function.arity.contains(&args.len()), "{name}");
        match &function.code {
            Code::Plain(code) => code(args),
            Code::Event(_) => panic!("{name} needs no event"),
        }
    }

    fn t(text: &str) -> Value {
        Value::text(text)
    }

    fn value(json: serde_json::Value) -> Value {
        Value::from_json(json)
    }

    fn bytes(bytes: &'static [u8]) -> Value {
        Value::Bytes(Bytes::from_static(bytes))
    }

    #[test]
    fn values_are_encoded_decoded_and_checked() {
        install_examples();
        let given = value(json!({"t": 21}));
        assert_eq!(call("schema_encode", &[t("reading"), given.clone()]), Ok(bytes(&[42])));
        assert_eq!(call("schema_encode", &[t("reading"), t("{\"t\": 21}")]), Ok(bytes(&[42])), "a payload is read as JSON");
        assert_eq!(call("schema_decode", &[t("reading"), bytes(&[42])]), Ok(given.clone()));
        assert_eq!(call("avro_encode", &[t("any"), given.clone(), Value::Int(1)]), Ok(bytes(&[42])));
        assert_eq!(call("avro_decode", &[t("any"), bytes(&[42]), Value::Int(1)]), Ok(given.clone()));
        assert_eq!(call("avro_decode", &[t("any"), bytes(&[0, 0, 0, 0, 1, 42])]), Ok(given));
        let given = value(json!({"s": "x"}));
        assert_eq!(call("schema_encode", &[t("proto"), given.clone(), t("B")]), Ok(bytes(&[0x0a, 1, b'x'])));
        assert_eq!(call("schema_decode", &[t("proto"), bytes(&[0x0a, 1, b'x']), t("p.B")]), Ok(given));
        let (fits, does_not) = (value(json!({"t": 1})), value(json!({"t": "x"})));
        for (data, holds) in [(bytes(&[42]), true), (bytes(&[42, 0]), false), (fits, true), (does_not, false)] {
            assert_eq!(call("schema_check", &[t("reading"), data.clone()]), Ok(Value::Bool(holds)), "{data}");
        }
        let problem = call("schema_decode", &[t("reading"), bytes(&[])]).expect_err("empty").to_string();
        assert_eq!(problem, "schema \"reading\": t: ends too early");
        assert!(call("schema_decode", &[t("reading"), Value::Int(1)]).is_err());
        let large = Value::Bytes(vec![0; super::super::BYTES_MAX + 1].into());
        assert!(call("schema_decode", &[t("reading"), large]).is_err());
    }

    #[test]
    fn json_documents_are_checked_with_their_formats() {
        install_examples();
        for (document, holds) in [
            (json!({"id": "d-1", "at": "2026-11-27T12:00:00Z", "mail": "a@b.example", "value": 21.5, "pair": [1, "x"]}), true),
            (json!({"id": "d-1", "at": "yesterday"}), false),
            (json!({"id": "d-1", "mail": "nobody"}), false),
            (json!({"id": "x"}), false),
            (json!({"value": 1}), false),
            (json!({"id": "d-1", "value": 100}), false),
            (json!({"id": "d-1", "pair": [1, "x", 2]}), false),
            (json!({"id": "d-1", "more": 1}), false),
            (json!([]), false),
        ] {
            assert_eq!(call("schema_check", &[t("json"), t(&document.to_string())]), Ok(Value::Bool(holds)), "{document}");
            assert_eq!(call("schema_check", &[t("json"), value(document.clone())]), Ok(Value::Bool(holds)), "{document}");
        }
        assert_eq!(call("schema_check", &[t("json"), t("no JSON")]), Ok(Value::Bool(false)));
        let given = value(json!({"id": "d-1"}));
        assert_eq!(call("schema_encode", &[t("json"), given.clone()]), Ok(t("{\"id\":\"d-1\"}")));
        assert_eq!(call("schema_decode", &[t("json"), t("{\"id\":\"d-1\"}")]), Ok(given));
        let problem = call("schema_decode", &[t("json"), t("{\"id\":\"d-1\",\"value\":1000}")]).expect_err("too large").to_string();
        assert!(problem.starts_with("schema \"json\": /value: ") && !problem.contains("1000"), "{problem}");
    }

    #[test]
    fn tagged_messages_carry_the_number_of_their_schema() {
        install_examples();
        let tag = |schema: &str, given: serde_json::Value, message: &str| {
            call("schema_encode_and_tag", &[t(schema), t("any"), value(given), t(message)])
        };
        assert_eq!(tag("reading", json!({"t": 21}), ""), Ok(bytes(&[0, 0, 0, 0, 1, 42])));
        assert_eq!(tag("proto", json!({"a": 1}), "A"), Ok(bytes(&[0, 0, 0, 1, 2, 0, 0x08, 1])), "the first message is one zero");
        assert_eq!(tag("proto", json!({"s": "x"}), "B"), Ok(bytes(&[0, 0, 0, 1, 2, 2, 2, 0x0a, 1, b'x'])));
        assert_eq!(tag("proto", json!({"b": true}), "A.In"), Ok(bytes(&[0, 0, 0, 1, 2, 4, 0, 0, 0x08, 1])));
        for (schema, given, message) in
            [("json", json!({"id": "d-1"}), ""), ("proto", json!({"s": "x"}), "B"), ("proto", json!({"b": true}), "A.In")]
        {
            let tagged = tag(schema, given.clone(), message).expect("fits");
            assert_eq!(call("schema_decode_tagged", &[t("any"), tagged]), Ok(value(given)), "{message}");
        }
        let problem = tag("new", json!({"t": 1}), "").expect_err("without a number").to_string();
        assert_eq!(problem, "schema \"new\" has no number; set schemas.new.id");
        const WRONG: &[&[u8]] =
            &[&[], &[0, 0, 0, 1], &[1, 0, 0, 0, 1, 42], &[0, 0, 0, 0, 9, 42], &[0, 0, 0, 1, 2], &[0, 0, 0, 1, 2, 2, 40]];
        for wrong in WRONG.iter().copied() {
            assert!(call("schema_decode_tagged", &[t("any"), bytes(wrong)]).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn a_newer_schema_sees_what_an_older_one_wrote() {
        install_examples();
        let tagged = bytes(&[0, 0, 0, 0, 1, 42]);
        assert_eq!(
            call("schema_decode_tagged", &[t("any"), tagged, t("new")]),
            Ok(value(json!({"unit": "C", "t": 21.0}))),
            "what an older schema wrote, seen by a newer one"
        );
    }
}
