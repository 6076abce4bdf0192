//! Sparkplug B: its payloads without a schema of the user's own, names for metrics that are sent by their alias, and a
//! simpler form of what has keys in one array and values in another.

use std::collections::{HashMap, VecDeque};
use std::sync::LazyLock;

use hookline_schemas::{Map, Value};
use parking_lot::Mutex;

use super::{Codec, DEPTH_MAX, Schema, protobuf};
use crate::context::Context;
use crate::error::EvalError;
use crate::function::{Code, Function};

/// Their rows in the table of functions.
pub(crate) const TABLE: &[Function] = &[
    Function {
        name: "spb_decode",
        arity: 1..=1,
        code: Code::Event(spb_decode),
        pure: false,
        doc: "The payload of Sparkplug B in bytes. Metrics with an alias only get the name that the last birth of their node gave it.",
        example: (
            "spb_decode(hexstr2bin('0801120A0A0474656D7020035015'))",
            r#"{"timestamp": 1, "metrics": [{"name": "temp", "datatype": 3, "int_value": 21}]}"#,
        ),
    },
    Function {
        name: "spb_encode",
        arity: 1..=1,
        code: Code::Plain(encode),
        pure: true,
        doc: "A map, or the JSON of one, as the bytes of a Sparkplug B payload. Keys are those of the specification's protobuf schema.",
        example: (r#"bin2hexstr(spb_encode('{"seq": 1, "metrics": [{"name": "a", "boolean_value": true}]}'))"#, r#""12050A016170011801""#),
    },
    Function {
        name: "spb_zip_kvs",
        arity: 1..=1,
        code: Code::Plain(spb_zip_kvs),
        pure: true,
        doc: "A decoded Sparkplug B payload whose properties are maps of key and value, and whose data sets are maps of column and values.",
        example: (r#"spb_zip_kvs(json_decode('{"keys": ["a"], "values": [{"int_value": 1}]}'))"#, r#"{"a": {"int_value": 1}}"#),
    },
    Function {
        name: "sparkplug_decode",
        arity: 1..=1,
        code: Code::Plain(decode),
        pure: true,
        doc: "As spb_decode, without names for aliases.",
        example: ("sparkplug_decode(hexstr2bin('1801'))", r#"{"metrics": [], "seq": 1}"#),
    },
    Function {
        name: "sparkplug_encode",
        arity: 1..=1,
        code: Code::Plain(encode),
        pure: true,
        doc: "As spb_encode.",
        example: (r#"bin2hexstr(sparkplug_encode('{"seq": 1}'))"#, r#""1801""#),
    },
];

/// The most aliases that are remembered, of all nodes together; beyond, the nodes born longest ago are forgotten.
const ALIASES_MAX: usize = 200_000;

/// Everything's schema, by section 6.4 of the specification.
static SCHEMA: LazyLock<Schema> = LazyLock::new(|| {
    let mut sources = protobuf::Sources::default();
    sources.insert("sparkplug", include_str!("sparkplug.proto"));
    let schema = protobuf::Schema::compile("sparkplug", &sources).expect("the built-in schema compiles: a test does it");
    Schema { name: "sparkplug".into(), id: None, codec: Codec::Protobuf(schema) }
});

/// What the nodes' births have said.
static ALIASES: LazyLock<Mutex<Aliases>> = LazyLock::new(Mutex::default);

/// Names of metrics by alias, for each edge node: the specification makes an alias unique within the node and its devices.
#[derive(Debug, Default)]
struct Aliases {
    nodes: HashMap<Box<str>, HashMap<i64, Box<str>>>,
    /// In the order of their births.
    births: VecDeque<Box<str>>,
    count: usize,
}

impl Aliases {
    /// A node is born: what it said before is void.
    fn forget(&mut self, node: &str) {
        if let Some(names) = self.nodes.remove(node) {
            self.count -= names.len();
            self.births.retain(|other| **other != *node);
        }
    }

    fn remember(&mut self, node: &str, alias: i64, name: &str) {
        if !self.nodes.contains_key(node) {
            self.births.push_back(node.into());
        }
        let before = self.nodes.entry(node.into()).or_default().insert(alias, name.into());
        self.count += usize::from(before.is_none());
        while self.count > ALIASES_MAX && self.births.len() > 1 {
            let Some(oldest) = self.births.front().cloned() else { return };
            self.forget(&oldest);
        }
    }
}

fn encode(args: &[Value]) -> Result<Value, EvalError> {
    SCHEMA.encode(&args[0], Some("Payload"))
}

fn decode(args: &[Value]) -> Result<Value, EvalError> {
    SCHEMA.decode(&args[0], Some("Payload"))
}

fn spb_decode(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    let mut payload = decode(args)?;
    if let (Some(topic), Value::Map(payload)) = (context.column("topic").as_text(), &mut payload) {
        name_metrics(topic, payload, &mut ALIASES.lock());
    }
    Ok(payload)
}

/// Learns from births, and names metrics of other messages. Topics are `NAMESPACE/GROUP/TYPE/NODE[/DEVICE]`.
fn name_metrics(topic: &str, payload: &mut Map, aliases: &mut Aliases) {
    let mut levels = topic.splitn(5, '/');
    let (Some(_), Some(group), Some(kind), Some(node)) = (levels.next(), levels.next(), levels.next(), levels.next()) else { return };
    let node = format!("{group}/{node}");
    let is_birth = matches!(kind, "NBIRTH" | "DBIRTH");
    if kind == "NBIRTH" {
        aliases.forget(&node);
    }
    let Some(Value::Array(metrics)) = payload.get_mut("metrics") else { return };
    for metric in metrics {
        let Value::Map(metric) = metric else { continue };
        let Some(Value::Int(alias)) = metric.get("alias").cloned() else { continue };
        match metric.get("name").and_then(Value::as_text) {
            Some(name) if is_birth => aliases.remember(&node, alias, name),
            Some(_) => {}
            None => {
                if let Some(name) = aliases.nodes.get(&*node).and_then(|names| names.get(&alias)) {
                    metric.insert("name", Value::text(name));
                }
            }
        }
    }
}

fn spb_zip_kvs(args: &[Value]) -> Result<Value, EvalError> {
    zip(&args[0], 0)
}

fn zip(value: &Value, depth: usize) -> Result<Value, EvalError> {
    if depth > DEPTH_MAX {
        return Err(EvalError::new(format!("nested deeper than {DEPTH_MAX} levels")));
    }
    let map = match value {
        Value::Array(items) => return Ok(Value::Array(items.iter().map(|item| zip(item, depth + 1)).collect::<Result<_, _>>()?)),
        Value::Map(map) => map,
        other => return Ok(other.clone()),
    };
    let array = |key: &str| match map.get(key) {
        Some(Value::Array(items)) => Some(items.as_slice()),
        _ => None,
    };
    if let (Some(keys), Some(values)) = (array("keys"), array("values")) {
        return zipped(keys, "values", values.len(), |place| zip(&values[place], depth + 1));
    }
    if let Some(sets) = array("propertyset") {
        return sets.iter().map(|set| zip(set, depth + 1)).collect::<Result<_, _>>().map(Value::Array);
    }
    if let (Some(columns), Some(rows)) = (array("columns"), array("rows")) {
        let rows: Vec<&[Value]> = rows.iter().map(elements).collect();
        let width = rows.iter().map(|row| row.len()).max().unwrap_or(columns.len());
        return zipped(columns, "columns of values", width, |column| {
            Ok(Value::Array(rows.iter().map(|row| row.get(column).cloned().unwrap_or(Value::Null)).collect()))
        });
    }
    let mut out = Map::new();
    for (key, value) in map.iter() {
        out.push_new(key, zip(value, depth + 1)?);
    }
    Ok(Value::Map(out))
}

fn elements(row: &Value) -> &[Value] {
    match row {
        Value::Map(row) => match row.get("elements") {
            Some(Value::Array(elements)) => elements,
            _ => &[],
        },
        _ => &[],
    }
}

fn zipped(keys: &[Value], what: &str, count: usize, value: impl Fn(usize) -> Result<Value, EvalError>) -> Result<Value, EvalError> {
    if keys.len() != count {
        return Err(EvalError::new(format!("{} keys for {count} {what}", keys.len())));
    }
    let mut out = Map::new();
    for (place, key) in keys.iter().enumerate() {
        out.insert(super::text(key)?, value(place)?);
    }
    Ok(Value::Map(out))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn value(json: serde_json::Value) -> Value {
        Value::from_json(json)
    }

    /// What a message of that topic becomes.
    fn seen(aliases: &mut Aliases, topic: &str, metrics: serde_json::Value) -> serde_json::Value {
        let Value::Map(mut payload) = value(json!({ "metrics": metrics })) else { panic!("a map") };
        name_metrics(topic, &mut payload, aliases);
        payload.get("metrics").expect("metrics").to_json()
    }

    #[test]
    fn every_form_of_value_comes_back_as_it_went() {
        let given = value(json!({
            "timestamp": 1_700_000_000_000_i64,
            "metrics": [
                {"name": "i", "datatype": 3, "int_value": 4_294_967_295_u32},
                {"name": "l", "alias": 7, "long_value": 9_007_199_254_740_993_i64, "is_historical": true},
                {"name": "f", "float_value": 0.5}, {"name": "d", "double_value": 0.1}, {"name": "b", "boolean_value": false},
                {"name": "s", "string_value": "é"}, {"name": "x", "bytes_value": "raw"},
                {"name": "t", "template_value": {"version": "1", "metrics": [], "parameters": [{"name": "p", "type": 3, "int_value": 1}],
                    "is_definition": true}},
                {"name": "set", "dataset_value": {"num_of_columns": 1, "columns": ["c"], "types": [3], "rows": [{"elements": [{"int_value": 1}]}]}},
                {"name": "p", "properties": {"keys": ["k"], "values": [{"type": 12, "string_value": "v"}]},
                    "metadata": {"content_type": "text/plain", "size": 3}, "is_null": true}
            ],
            "seq": 255, "uuid": "u"
        }));
        let bytes = encode(std::slice::from_ref(&given)).expect("valid");
        let back = decode(&[bytes]).expect("its own");
        let Value::Map(map) = &back else { panic!("a map") };
        let Some(Value::Array(metrics)) = map.get("metrics") else { panic!("metrics") };
        assert_eq!(metrics.len(), 10);
        let raw = matches!(&metrics[6], Value::Map(metric) if metric.get("bytes_value") == Some(&Value::Bytes("raw".into())));
        assert!(raw, "bytes are bytes, as the specification says: {:?}", metrics[6]);
        // Only the bytes differ, which JSON gives as text.
        assert_eq!(back.to_json(), given.to_json());
        assert!(decode(&[Value::text("no protobuf")]).is_err());
        assert!(encode(&[value(json!({"metrics": [{"int_value": 1, "long_value": 2}]}))]).is_err(), "one value for each metric");
    }

    #[test]
    fn aliases_have_the_names_of_the_last_birth() {
        let mut aliases = Aliases::default();
        seen(&mut aliases, "spBv1.0/g/NBIRTH/n", json!([{"name": "temp", "alias": 1}]));
        seen(&mut aliases, "spBv1.0/g/DBIRTH/n/d", json!([{"name": "speed", "alias": 2}]));
        assert_eq!(
            seen(&mut aliases, "spBv1.0/g/DDATA/n/d", json!([{"alias": 1}, {"alias": 2}, {"alias": 3}, {"name": "own", "alias": 1}])),
            json!([{"alias": 1, "name": "temp"}, {"alias": 2, "name": "speed"}, {"alias": 3}, {"name": "own", "alias": 1}])
        );
        assert_eq!(seen(&mut aliases, "spBv1.0/g/NDATA/other", json!([{"alias": 1}])), json!([{"alias": 1}]), "another node's");
        seen(&mut aliases, "spBv1.0/g/NBIRTH/n", json!([{"name": "pressure", "alias": 2}]));
        assert_eq!(
            seen(&mut aliases, "spBv1.0/g/NDATA/n", json!([{"alias": 1}, {"alias": 2}])),
            json!([{"alias": 1}, {"alias": 2, "name": "pressure"}])
        );
        assert_eq!((aliases.count, aliases.births.len()), (1, 1));
    }

    #[test]
    fn the_memory_for_aliases_is_bounded() {
        let mut aliases = Aliases::default();
        for alias in 0..ALIASES_MAX as i64 {
            aliases.remember("g/first", alias, "x");
        }
        aliases.remember("g/second", 1, "y");
        assert_eq!((aliases.count, aliases.births.len()), (1, 1), "the node born first is forgotten");
        assert!(aliases.nodes.contains_key("g/second"));
    }

    #[test]
    fn keys_and_values_come_together() {
        let given = value(json!({"metrics": [
            {"properties": {"keys": ["leaf", "set", "sets"], "values": [
                {"int_value": 9},
                {"propertyset_value": {"keys": ["in"], "values": [{"int_value": 8}]}},
                {"propertysets_value": {"propertyset": [{"keys": ["a"], "values": [{"int_value": 1}]}, {"keys": [], "values": []}]}}
            ]}},
            {"dataset_value": {"num_of_columns": 2, "columns": ["n", "s"], "types": [7, 12], "rows": [
                {"elements": [{"int_value": 3}, {"string_value": "3"}]}, {"elements": [{"int_value": 4}, {"string_value": "4"}]},
                {"elements": [{"int_value": 5}, {"string_value": "5"}]}
            ]}}
        ], "seq": 1}));
        let expect = json!({"metrics": [
            {"properties": {"leaf": {"int_value": 9}, "set": {"propertyset_value": {"in": {"int_value": 8}}},
                "sets": {"propertysets_value": [{"a": {"int_value": 1}}, {}]}}},
            {"dataset_value": {"n": [{"int_value": 3}, {"int_value": 4}, {"int_value": 5}],
                "s": [{"string_value": "3"}, {"string_value": "4"}, {"string_value": "5"}]}}
        ], "seq": 1});
        assert_eq!(spb_zip_kvs(&[given]).expect("valid").to_json(), expect);
        let uneven = spb_zip_kvs(&[value(json!({"keys": ["a"], "values": []}))]).expect_err("uneven").to_string();
        assert_eq!(uneven, "1 keys for 0 values");
    }
}
