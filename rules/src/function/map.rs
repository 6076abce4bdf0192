//! Functions of maps. `map_get` and `map_put` take dotted paths and read a JSON text as the map that it holds; `mget` and `mput` take
//! one key and maps only.

use hookline_schemas::{Map, Value};

use super::argument::{decimal, map, text, text_of, wrong};
use super::{Function, pure};
use crate::context::parse_json;
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure("map_new", 0..=0, map_new, "An empty map.", ("map_new()", "{}")),
    pure(
        "map_get",
        2..=3,
        map_get,
        "The value at a dotted path in a map, or a default.",
        (r#"map_get('a.b', json_decode('{"a":{"b":1}}'))"#, "1"),
    ),
    pure("map_put", 3..=3, map_put, "The map with a value set at a dotted path.", ("map_put('a.b', 1, map_new())", r#"{"a":{"b":1}}"#)),
    pure("mget", 2..=3, mget, "The value of one key, dots and all, or a default.", (r#"mget('a.b', json_decode('{"a.b":1}'))"#, "1")),
    pure(
        "mput",
        3..=3,
        mput,
        "The map with the value of one key set, dots and all; an array of keys is a path.",
        ("mput('a.b', 1, map_new())", r#"{"a.b":1}"#),
    ),
    pure("map_keys", 1..=1, map_keys, "The keys of a map.", (r#"map_keys(json_decode('{"a":1}'))"#, r#"["a"]"#)),
    pure("map_values", 1..=1, map_values, "The values of a map.", (r#"map_values(json_decode('{"a":1}'))"#, "[1]")),
    pure(
        "map_to_entries",
        1..=1,
        map_to_entries,
        "The entries of a map, each as a map with key and value.",
        (r#"map_to_entries(json_decode('{"a":1}'))"#, r#"[{"key":"a","value":1}]"#),
    ),
    pure("map_size", 1..=1, map_size, "How many keys a map has.", (r#"map_size(json_decode('{"a":1}'))"#, "1")),
    pure(
        "map_to_redis_hset_args",
        1..=1,
        map_to_redis_hset_args,
        "Keys and values of a map in turn, as HSET takes them; what is nested is left out.",
        (r#"map_to_redis_hset_args(json_decode('{"a":1,"b":{}}'))"#, r#"["a","1"]"#),
    ),
];

/// How many steps a path may have: more than any honest document, fewer than endanger the stack.
const STEPS_MAX: usize = 100;

fn map_new(_: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Map(Map::new()))
}

fn map_get(args: &[Value]) -> Result<Value, EvalError> {
    let path = text(&args[0])?;
    let document = if args[1].as_bytes().is_some() { parse_json(&args[1]) } else { None };
    let found = document.as_ref().unwrap_or(&args[1]).path(path.split('.')).clone();
    Ok(or_default(found, args))
}

fn mget(args: &[Value]) -> Result<Value, EvalError> {
    let mut found = &args[1];
    // A list of keys leads into nested maps.
    let keys = match &args[0] {
        Value::Array(keys) => keys.as_slice(),
        key => std::slice::from_ref(key),
    };
    map(found)?;
    for key in keys {
        let key = text(key)?;
        found = match found {
            Value::Map(map) => map.get(key).unwrap_or(&Value::Undefined),
            _ => &Value::Undefined,
        };
    }
    Ok(or_default(found.clone(), args))
}

/// What was found, or the third argument.
fn or_default(found: Value, args: &[Value]) -> Value {
    match (found, args.get(2)) {
        (Value::Undefined, Some(default)) => default.clone(),
        (found, _) => found,
    }
}

fn map_put(args: &[Value]) -> Result<Value, EvalError> {
    let path: Vec<&str> = text(&args[0])?.split('.').collect();
    let target = match &args[2] {
        Value::Map(map) => map.clone(),
        Value::Undefined | Value::Null => Map::new(),
        other => match parse_json(other) {
            Some(Value::Map(map)) => map,
            _ => return Err(wrong("a map", other)),
        },
    };
    put(target, &path, &args[1])
}

fn mput(args: &[Value]) -> Result<Value, EvalError> {
    let path = match &args[0] {
        Value::Array(keys) => keys.iter().map(text).collect::<Result<Vec<_>, _>>()?,
        key => vec![text(key)?],
    };
    put(map(&args[2])?.clone(), &path, &args[1])
}

fn put(target: Map, path: &[&str], value: &Value) -> Result<Value, EvalError> {
    if path.is_empty() || path.len() > STEPS_MAX {
        return Err(EvalError::new(format!("a path has 1 to {STEPS_MAX} keys, not {}", path.len())));
    }
    let mut target = Value::Map(target);
    let mut place = &mut target;
    for key in path {
        place = entry(place, key);
    }
    *place = value.clone();
    Ok(target)
}

/// The place of a key; what is no map becomes one.
fn entry<'a>(value: &'a mut Value, key: &str) -> &'a mut Value {
    if !matches!(value, Value::Map(_)) {
        *value = Value::Map(Map::new());
    }
    let Value::Map(map) = value else { unreachable!("it was made a map above") };
    if map.get(key).is_none() {
        map.push_new(key, Value::Undefined);
    }
    map.get_mut(key).expect("the key was added above")
}

fn map_keys(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Array(map(&args[0])?.iter().map(|(key, _)| Value::text(key)).collect()))
}

fn map_values(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Array(map(&args[0])?.iter().map(|(_, value)| value.clone()).collect()))
}

fn map_to_entries(args: &[Value]) -> Result<Value, EvalError> {
    let entry = |(key, value): (&str, &Value)| {
        let mut entry = Map::new();
        entry.push_new("key", Value::text(key));
        entry.push_new("value", value.clone());
        Value::Map(entry)
    };
    Ok(Value::Array(map(&args[0])?.iter().map(entry).collect()))
}

fn map_size(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(map(&args[0])?.len() as i64))
}

fn map_to_redis_hset_args(args: &[Value]) -> Result<Value, EvalError> {
    let document = if args[0].as_bytes().is_some() { parse_json(&args[0]) } else { None };
    let mut out = Vec::new();
    for (key, value) in map(document.as_ref().unwrap_or(&args[0]))?.iter() {
        let value = match value {
            Value::Undefined | Value::Array(_) | Value::Map(_) => continue,
            Value::Float(float) => Value::text(&decimal(*float, 6)),
            Value::Text(_) | Value::Bytes(_) => value.clone(),
            other => Value::text(&text_of(other)),
        };
        out.extend([Value::text(key), value]);
    }
    Ok(Value::Array(out))
}
