//! What operators do to values. Names and rules as users of this SQL know them: a missing value equals only a missing
//! value, a number and a string compare as numbers, `+` joins where either side is a string.

use std::borrow::Cow;
use std::cmp::Ordering;

use hookline_schemas::{Map, Value};

use crate::error::EvalError;

/// Operators with two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    /// `=~`: a topic on the left, a filter on the right.
    MatchesTopic,
    Add,
    Subtract,
    Multiply,
    Divide,
    /// Integer division.
    Div,
    Mod,
}

/// Whether a comparison holds.
pub(crate) fn compare(operator: Binary, left: &Value, right: &Value) -> Result<bool, EvalError> {
    let missing = (*left == Value::Undefined, *right == Value::Undefined);
    if missing.0 || missing.1 {
        // What is missing stands in no relation to what is there, and in every one that allows equality to what is missing, too.
        let allows_equality = matches!(operator, Binary::Equal | Binary::LessOrEqual | Binary::GreaterOrEqual);
        return Ok(missing == (true, true) && allows_equality);
    }
    if operator == Binary::MatchesTopic {
        return match (left.as_text(), right.as_text()) {
            (Some(topic), Some(filter)) => Ok(hookline_mqtt::topic::matches(filter, topic)),
            _ => Err(EvalError::new(format!("=~ needs two strings, not {} and {}", left.type_name(), right.type_name()))),
        };
    }
    let order = order(left, right)?;
    Ok(match operator {
        Binary::Equal => order.is_eq(),
        Binary::NotEqual => order.is_ne(),
        Binary::Less => order.is_lt(),
        Binary::LessOrEqual => order.is_le(),
        Binary::Greater => order.is_gt(),
        _ => order.is_ge(),
    })
}

/// Whether two values are equal.
pub(crate) fn equal(left: &Value, right: &Value) -> Result<bool, EvalError> {
    Ok(order(left, right)?.is_eq())
}

/// Whether two values are the same, type included: what IN, CASE … WHEN and contains() ask.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_bytes(), right.as_bytes()) {
        (Some(a), Some(b)) => a == b,
        _ => left == right,
    }
}

/// How two values stand to each other, where a text is what the other side wants: a number, or `true`, `false`, `null`.
fn order(left: &Value, right: &Value) -> Result<Ordering, EvalError> {
    let is_text = |value: &Value| value.as_bytes().is_some();
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_));
    let left = match is_text(left) && is_number(right) {
        true => Cow::Owned(number(left)?),
        false => as_word(left, right),
    };
    let right = match is_text(right) && is_number(&left) {
        true => Cow::Owned(number(right)?),
        false => as_word(right, &left),
    };
    Ok(total_order(&left, &right))
}

/// `true`, `false` and null as texts, where the other side is a text.
fn as_word<'a>(value: &'a Value, other: &Value) -> Cow<'a, Value> {
    match value {
        Value::Bool(_) | Value::Null if other.as_bytes().is_some() => Cow::Owned(Value::text(word(value))),
        _ => Cow::Borrowed(value),
    }
}

/// The order of all values: numbers, then words (`false`, `null`, `true`), maps, arrays, texts. Integers and floats compare exactly.
pub(crate) fn total_order(left: &Value, right: &Value) -> Ordering {
    match (left, right) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b).unwrap_or(Ordering::Equal),
        (Value::Int(a), Value::Float(b)) => order_int_float(*a, *b),
        (Value::Float(a), Value::Int(b)) => order_int_float(*b, *a).reverse(),
        (Value::Array(a), Value::Array(b)) => {
            let first_difference = a.iter().zip(b).map(|(a, b)| total_order(a, b)).find(|order| order.is_ne());
            first_difference.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Map(a), Value::Map(b)) => a.len().cmp(&b.len()).then_with(|| order_maps(a, b)),
        _ => match (left.as_bytes(), right.as_bytes()) {
            (Some(a), Some(b)) => a.cmp(b),
            _ => rank(left).cmp(&rank(right)).then_with(|| word(left).cmp(word(right))),
        },
    }
}

fn order_int_float(int: i64, float: f64) -> Ordering {
    // `i64::MAX as f64` is 2^63, the first float above the integers.
    if float >= i64::MAX as f64 {
        return Ordering::Less;
    }
    if float < i64::MIN as f64 {
        return Ordering::Greater;
    }
    let whole = float.trunc();
    int.cmp(&(whole as i64)).then_with(|| whole.partial_cmp(&float).unwrap_or(Ordering::Equal))
}

/// Maps of one size: by their keys, then by the values.
fn order_maps(a: &Map, b: &Map) -> Ordering {
    let (a, b) = (sorted(a), sorted(b));
    let keys = a.iter().map(|(key, _)| key).cmp(b.iter().map(|(key, _)| key));
    let mut values = a.iter().zip(&b).map(|((_, a), (_, b))| total_order(a, b));
    keys.then_with(|| values.find(|order| order.is_ne()).unwrap_or(Ordering::Equal))
}

/// The entries of a map by their keys.
fn sorted(map: &Map) -> Vec<(&str, &Value)> {
    let mut entries: Vec<(&str, &Value)> = map.iter().collect();
    entries.sort_unstable_by_key(|(key, _)| *key);
    entries
}

const fn rank(value: &Value) -> u8 {
    match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::Undefined | Value::Null | Value::Bool(_) => 1,
        Value::Map(_) => 2,
        Value::Array(_) => 3,
        Value::Text(_) | Value::Bytes(_) => 4,
    }
}

const fn word(value: &Value) -> &'static str {
    match value {
        Value::Bool(true) => "true",
        Value::Bool(false) => "false",
        Value::Null => "null",
        Value::Undefined => "undefined",
        _ => "",
    }
}

fn as_float(value: &Value) -> f64 {
    match value {
        Value::Int(int) => *int as f64,
        Value::Float(float) => *float,
        _ => f64::NAN,
    }
}

/// The number that a text holds.
pub(crate) fn number(text: &Value) -> Result<Value, EvalError> {
    let parsed = text.as_text().filter(|text| text.starts_with(|c: char| c.is_ascii_digit() || matches!(c, '+' | '-' | '.')));
    let parsed = parsed.and_then(|text| {
        let int = text.parse().ok().map(Value::Int);
        int.or_else(|| text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float))
    });
    parsed.ok_or_else(|| EvalError::new(format!("\"{text}\" is not a number")))
}

/// The number with the other sign.
pub(crate) fn negate(value: &Value) -> Result<Value, EvalError> {
    match value {
        Value::Int(int) => int.checked_neg().map(Value::Int).ok_or_else(beyond),
        Value::Float(float) => Ok(Value::Float(-float)),
        other => Err(EvalError::new(format!("cannot negate {}", other.type_name()))),
    }
}

/// The result of an arithmetic operator.
pub(crate) fn arithmetic(operator: Binary, left: &Value, right: &Value) -> Result<Value, EvalError> {
    let wrong = || EvalError::new(format!("cannot compute {} {} {}", left.type_name(), symbol(operator), right.type_name()));
    let is_text = |value: &Value| value.as_bytes().is_some();
    if operator == Binary::Add && (is_text(left) || is_text(right)) {
        return Ok(join(left, right));
    }
    match (operator, left, right) {
        (Binary::Div | Binary::Mod, Value::Int(_), Value::Int(0)) => Err(EvalError::new("division by zero")),
        (Binary::Divide, Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => match as_float(right) {
            0.0 => Err(EvalError::new("division by zero")),
            divisor => float(as_float(left) / divisor),
        },
        (_, Value::Int(a), Value::Int(b)) => {
            let result = match operator {
                Binary::Add => a.checked_add(*b),
                Binary::Subtract => a.checked_sub(*b),
                Binary::Multiply => a.checked_mul(*b),
                Binary::Div => a.checked_div(*b),
                Binary::Mod => a.checked_rem(*b),
                _ => return Err(wrong()),
            };
            result.map(Value::Int).ok_or_else(beyond)
        }
        (Binary::Add | Binary::Subtract | Binary::Multiply, Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
            let (a, b) = (as_float(left), as_float(right));
            float(match operator {
                Binary::Add => a + b,
                Binary::Subtract => a - b,
                _ => a * b,
            })
        }
        _ => Err(wrong()),
    }
}

/// Both values as one text; bytes where they are no UTF-8.
fn join(left: &Value, right: &Value) -> Value {
    let mut joined = Vec::new();
    for value in [left, right] {
        match (value, value.as_bytes()) {
            (_, Some(bytes)) => joined.extend_from_slice(bytes),
            (Value::Float(float), _) => joined.extend_from_slice(float_text(*float).as_bytes()),
            (other, _) => joined.extend_from_slice(other.to_string().as_bytes()),
        }
    }
    match String::from_utf8(joined) {
        Ok(text) => Value::Text(text.into_boxed_str()),
        Err(error) => Value::Bytes(error.into_bytes().into()),
    }
}

/// A float as text: at most ten decimals, at least one, never an exponent.
pub(crate) fn float_text(float: f64) -> String {
    let mut text = format!("{float:.10}");
    let kept = text.trim_end_matches('0').len();
    text.truncate(kept);
    if text.ends_with('.') {
        text.push('0');
    }
    text
}

/// A float, unless it is none that JSON and SQL can hold.
pub(crate) fn float(result: f64) -> Result<Value, EvalError> {
    if result.is_finite() { Ok(Value::Float(result)) } else { Err(EvalError::new("the result is not a finite number")) }
}

fn beyond() -> EvalError {
    EvalError::new("the result is beyond 64 bits; a float, such as x * 1.0, has no such bound")
}

fn symbol(operator: Binary) -> &'static str {
    match operator {
        Binary::Add => "+",
        Binary::Subtract => "-",
        Binary::Multiply => "*",
        Binary::Divide => "/",
        Binary::Div => "div",
        Binary::Mod => "mod",
        _ => "with",
    }
}
