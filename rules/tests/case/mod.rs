//! Cases as data: an event, a statement, and what comes of it. The conventions are those of `observed.json`.

use hookline_rules::{Rows, Statement};
use hookline_schemas::{Map, Value};
use serde_json::Value as Json;

/// What a statement came to.
#[derive(Debug, Clone)]
pub(crate) enum Outcome {
    Rows(Vec<Value>),
    NoMatch,
    /// In which phase, and what.
    Error(&'static str, String),
}

/// Compiles and runs a statement against the columns of an event.
pub(crate) fn run(sql: &str, event: &Json) -> Outcome {
    let statement = match Statement::compile(sql) {
        Ok(statement) => statement.of_rule("case"),
        Err(error) => return Outcome::Error("parse", error.to_string()),
    };
    let columns = columns(event);
    if !statement.matches_event(&columns) {
        return Outcome::NoMatch;
    }
    match statement.try_on(&columns) {
        Ok(Rows::NoMatch) => Outcome::NoMatch,
        Ok(rows) => Outcome::Rows(rows.into_vec()),
        Err(error) => Outcome::Error("run", error.to_string()),
    }
}

/// Why what came out is not what is expected; `None`: it is. `expect` has one of the forms that `observed.json` describes.
pub(crate) fn difference(outcome: &Outcome, expect: &Json) -> Option<String> {
    let expected_rows = expect.get("rows").or(expect.get("shape")).and_then(Json::as_array);
    match (outcome, expected_rows) {
        (Outcome::Rows(rows), Some(expected)) => {
            if rows.len() != expected.len() {
                return Some(format!("{} rows in place of {}: {}", rows.len(), expected.len(), show(rows)));
            }
            let wrong = rows.iter().zip(expected).find(|(row, expected)| !is_same(row, expected));
            wrong.map(|(row, expected)| format!("{} in place of {expected}", row.to_json()))
        }
        (Outcome::NoMatch, _) if expect.get("no_match").is_some() => None,
        // Only that it fails is binding.
        (Outcome::Error(..), _) if expect.get("error").is_some() => None,
        (Outcome::Error(phase, problem), _) => Some(format!("in {phase}: {problem}, in place of {expect}")),
        (Outcome::Rows(rows), _) => Some(format!("{} in place of {expect}", show(rows))),
        (Outcome::NoMatch, _) => Some(format!("no match in place of {expect}")),
    }
}

fn show(rows: &[Value]) -> String {
    Json::from(rows.iter().map(Value::to_json).collect::<Vec<_>>()).to_string()
}

/// The columns of an event: null is a column without a value.
fn columns(event: &Json) -> Value {
    let mut columns = Map::new();
    for (name, value) in event.as_object().expect("an event is an object") {
        columns.insert(name, if value.is_null() { Value::Undefined } else { with_bytes(value) });
    }
    Value::Map(columns)
}

fn with_bytes(value: &Json) -> Value {
    match value.get("$hex").and_then(Json::as_str) {
        Some(hex) => Value::Bytes(bytes(hex).into()),
        None => Value::from_json(value.clone()),
    }
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal")).collect()
}

fn is_same(value: &Value, expected: &Json) -> bool {
    if let Some(pattern) = expected.get("$match") {
        return fits(value, pattern);
    }
    if let Some(hex) = expected.get("$hex").and_then(Json::as_str) {
        return value.as_bytes() == Some(&bytes(hex)[..]);
    }
    match (value, expected) {
        // As a whole value it may be shown as null.
        (Value::Undefined, Json::Null) => true,
        (Value::Undefined, Json::String(text)) => text == "$undefined",
        (Value::Null, Json::Null) => true,
        (Value::Bool(a), Json::Bool(b)) => a == b,
        (Value::Int(a), Json::Number(b)) => !b.is_f64() && b.as_i64() == Some(*a),
        (Value::Float(a), Json::Number(b)) => b.is_f64() && b.as_f64() == Some(*a),
        (Value::Text(_) | Value::Bytes(_), Json::String(text)) => value.as_bytes() == Some(text.as_bytes()),
        (Value::Array(a), Json::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| is_same(a, b)),
        (Value::Map(a), Json::Object(b)) => is_same_map(a, b),
        _ => false,
    }
}

fn is_same_map(map: &Map, expected: &serde_json::Map<String, Json>) -> bool {
    let is_there = |key: &str| map.get(key).is_some_and(|value| *value != Value::Undefined);
    let auto = expected.get("$auto");
    let named = expected.iter().filter(|(key, _)| *key != "$auto").all(|(key, expected)| {
        let is_missing = !is_there(key) && expected.as_str() == Some("$undefined");
        is_missing || map.get(key).is_some_and(|value| is_same(value, expected))
    });
    let mut others = map.iter().filter(|(key, value)| !expected.contains_key(*key) && **value != Value::Undefined && *key != "metadata");
    let others_fit = match auto {
        // One key, whatever its name.
        Some(expected) => others.next().is_some_and(|(_, value)| is_same(value, expected)) && others.next().is_none(),
        None => others.next().is_none(),
    };
    named && others_fit
}

fn fits(value: &Value, pattern: &Json) -> bool {
    let number = match value {
        Value::Int(int) => Some(*int as f64),
        Value::Float(float) => Some(*float),
        _ => None,
    };
    let kind = pattern.get("type").and_then(Json::as_str);
    let is_of_kind = match kind {
        None => true,
        Some("string" | "text" | "str") => value.as_text().is_some(),
        Some("int" | "integer") => matches!(value, Value::Int(_)),
        Some("float") => matches!(value, Value::Float(_)),
        Some("number") => number.is_some(),
        Some("bool" | "boolean") => matches!(value, Value::Bool(_)),
        Some("array" | "list") => matches!(value, Value::Array(_)),
        Some("map" | "object") => matches!(value, Value::Map(_)),
        Some(other) => panic!("there is no type {other}"),
    };
    let bound = |key: &str| pattern.get(key).and_then(Json::as_f64);
    let is_within = bound("min").is_none_or(|min| number.is_some_and(|number| number >= min))
        && bound("max").is_none_or(|max| number.is_some_and(|number| number <= max));
    let matches = pattern
        .get("regex")
        .and_then(Json::as_str)
        .is_none_or(|regex| value.as_text().is_some_and(|text| regex::Regex::new(regex).expect("a regular expression").is_match(text)));
    is_of_kind && is_within && matches
}
