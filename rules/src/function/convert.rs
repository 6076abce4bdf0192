//! Conversions between types.

use hookline_schemas::{Map, Value};

use super::argument::{beyond, bounded, choice, count, decimal, text, text_of, wrong};
use super::{Function, pure};
use crate::context::parse_json;
use crate::error::EvalError;
use crate::operator;

pub(super) const TABLE: &[Function] = &[
    pure("str", 1..=1, str, "The value as text: maps and arrays as JSON, floats with at most ten decimals.", ("str(1.50)", r#""1.5""#)),
    pure("str_utf8", 1..=1, str_utf8, "As str; an array of code points becomes its characters.", ("str_utf8([233])", r#""é""#)),
    pure("any_to_str", 1..=1, str, "As str.", ("any_to_str(12)", r#""12""#)),
    pure("bool", 1..=1, bool, "true, false, 1, 0 and their texts as a boolean.", ("bool('true')", "true")),
    pure("int", 1..=1, int, "The value as an integer: floats are rounded down, true is 1.", ("int('-3.14')", "-4")),
    pure("float", 1..=2, float, "The value as a float, rounded to so many decimals (1 to 253).", ("float('3.14159', 3)", "3.142")),
    pure("float2str", 2..=2, float2str, "A float as text with so many decimals (0 to 253) at most.", ("float2str(3.10, 5)", r#""3.1""#)),
    pure(
        "map",
        1..=1,
        map,
        "A map from a JSON text, from an array of maps with key and value, or as it is.",
        (r#"map('{"a":1}')"#, r#"{"a":1}"#),
    ),
];

/// The decimals that a float may be written with.
const DECIMALS_MAX: usize = 253;
/// The entries that a map is made of: each is looked for among all before it.
const ENTRIES_MAX: usize = 10_000;

fn str(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        // Bytes stay what they are, whatever they hold.
        Value::Bytes(bytes) => Ok(Value::Bytes(bytes.clone())),
        other => bounded(text_of(other)),
    }
}

fn str_utf8(args: &[Value]) -> Result<Value, EvalError> {
    let Value::Array(items) = &args[0] else { return str(args) };
    let char = |item: &Value| match item {
        Value::Int(code) => u32::try_from(*code).ok().and_then(char::from_u32),
        _ => None,
    };
    match items.iter().map(char).collect::<Option<String>>() {
        Some(text) => bounded(text),
        None => str(args),
    }
}

fn bool(args: &[Value]) -> Result<Value, EvalError> {
    const WORDS: &[(&str, bool)] = &[("true", true), ("false", false), ("1", true), ("0", false)];
    match &args[0] {
        Value::Bool(b) => Ok(Value::Bool(*b)),
        Value::Int(int @ (0 | 1)) => Ok(Value::Bool(*int == 1)),
        word if word.as_text().is_some() => choice(word, WORDS).map(Value::Bool),
        other => Err(wrong("a boolean, 0 or 1", other)),
    }
}

fn int(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Int(int) => Ok(Value::Int(*int)),
        Value::Bool(b) => Ok(Value::Int((*b).into())),
        Value::Float(float) => whole(float.floor()),
        digits if digits.as_bytes().is_some() => match parsed(digits)? {
            Value::Float(float) => whole(float.floor()),
            int => Ok(int),
        },
        other => Err(wrong("a number", other)),
    }
}

/// A float without a fraction as an integer.
pub(super) fn whole(float: f64) -> Result<Value, EvalError> {
    // Both bounds are powers of two, so that the comparison is exact.
    let is_within = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&float);
    if is_within { Ok(Value::Int(float as i64)) } else { Err(beyond()) }
}

fn float(args: &[Value]) -> Result<Value, EvalError> {
    let float = match &args[0] {
        Value::Int(int) => *int as f64,
        Value::Float(float) => *float,
        digits if digits.as_bytes().is_some() => match parsed(digits)? {
            Value::Int(int) => int as f64,
            Value::Float(float) => float,
            other => return Err(wrong("a number", &other)),
        },
        other => return Err(wrong("a number", other)),
    };
    let Some(decimals) = args.get(1) else { return Ok(Value::Float(float)) };
    let decimals = count(decimals)?;
    if !(1..=DECIMALS_MAX).contains(&decimals) {
        return Err(EvalError::new(format!("expected 1 to {DECIMALS_MAX} decimals, found {decimals}")));
    }
    let rounded = format!("{float:.decimals$}");
    operator::float(rounded.parse().unwrap_or(float))
}

/// The number in a text: digits, sign, fraction and exponent, and nothing else.
fn parsed(digits: &Value) -> Result<Value, EvalError> {
    let text = text(digits)?;
    let fits = text.bytes().all(|b| b.is_ascii_digit() || matches!(b, b'+' | b'-' | b'.' | b'e' | b'E'));
    let is_integer = fits && !text.contains(['.', 'e', 'E']);
    let number = match text.parse() {
        Ok(int) => Some(Value::Int(int)),
        Err(_) if is_integer && text.bytes().any(|b| b.is_ascii_digit()) => return Err(beyond()),
        Err(_) => text.parse().ok().filter(|float: &f64| fits && float.is_finite()).map(Value::Float),
    };
    number.ok_or_else(|| EvalError::new(format!("\"{text}\" is not a number")))
}

fn float2str(args: &[Value]) -> Result<Value, EvalError> {
    let Value::Float(float) = args[0] else { return Err(wrong("a float", &args[0])) };
    let decimals = count(&args[1])?;
    if decimals > DECIMALS_MAX {
        return Err(EvalError::new(format!("expected at most {DECIMALS_MAX} decimals, found {decimals}")));
    }
    bounded(decimal(float, decimals))
}

fn map(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Map(map) => Ok(Value::Map(map.clone())),
        Value::Array(entries) => from_entries(entries),
        other => match parse_json(other) {
            Some(Value::Map(map)) => Ok(Value::Map(map)),
            Some(document) => Err(wrong("a map", &document)),
            None => Err(wrong("a map", other)),
        },
    }
}

fn from_entries(entries: &[Value]) -> Result<Value, EvalError> {
    if entries.len() > ENTRIES_MAX {
        return Err(EvalError::new(format!("a map is made of at most {ENTRIES_MAX} entries, not {}", entries.len())));
    }
    let mut map = Map::new();
    for entry in entries {
        let Value::Map(pair) = entry else { return Err(wrong("maps with key and value", entry)) };
        let (key, value) = (pair.get("key").unwrap_or(&Value::Undefined), pair.get("value"));
        map.insert(text(key)?, value.cloned().unwrap_or_default());
    }
    Ok(Value::Map(map))
}
