//! What operators do to values. Names and rules as users of this SQL know them: a missing value equals only a missing
//! value, a number and a string compare as numbers, `+` joins where either side is a string.

use std::cmp::Ordering;

use hookline_schemas::Value;

use crate::error::EvalError;

/// Operators with two sides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Binary {
    Or,
    And,
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
    match operator {
        // What is missing stands in no relation to what is there, and in every one that allows equality to what is missing, too.
        Binary::NotEqual | Binary::Less | Binary::LessOrEqual | Binary::Greater | Binary::GreaterOrEqual if missing.0 || missing.1 => {
            Ok(missing == (true, true) && matches!(operator, Binary::LessOrEqual | Binary::GreaterOrEqual))
        }
        Binary::Equal => equal(left, right),
        Binary::NotEqual => equal(left, right).map(|equal| !equal),
        Binary::MatchesTopic => match (left.as_text(), right.as_text()) {
            (Some(topic), Some(filter)) => Ok(hookline_mqtt::topic::matches(filter, topic)),
            _ => Err(EvalError::new(format!("=~ needs two strings, not {} and {}", left.type_name(), right.type_name()))),
        },
        _ => {
            let Some(order) = order(left, right)? else { return Ok(false) };
            Ok(match operator {
                Binary::Less => order.is_lt(),
                Binary::LessOrEqual => order.is_le(),
                Binary::Greater => order.is_gt(),
                _ => order.is_ge(),
            })
        }
    }
}

/// Whether two values are equal.
pub(crate) fn equal(left: &Value, right: &Value) -> Result<bool, EvalError> {
    Ok(match (left, right) {
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && all_equal(a.iter().zip(b))?,
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len() && all_equal(a.iter().map(|(k, v)| (v, b.get(k).unwrap_or(&Value::Undefined))))?
        }
        (Value::Undefined, Value::Undefined) | (Value::Null, Value::Null) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Bool(a), text) | (text, Value::Bool(a)) => text.as_text() == Some(if *a { "true" } else { "false" }),
        _ => order(left, right)? == Some(Ordering::Equal),
    })
}

/// Whether two values are the same, type included: what IN, CASE … WHEN and contains() ask.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left.as_bytes(), right.as_bytes()) {
        (Some(a), Some(b)) => a == b,
        _ => left == right,
    }
}

fn all_equal<'a>(mut pairs: impl Iterator<Item = (&'a Value, &'a Value)>) -> Result<bool, EvalError> {
    pairs.try_fold(true, |all, (a, b)| Ok(all && equal(a, b)?))
}

/// How two values stand to each other; `None` where they have no order.
fn order(left: &Value, right: &Value) -> Result<Option<Ordering>, EvalError> {
    if let (Some(a), Some(b)) = (left.as_bytes(), right.as_bytes()) {
        return Ok(Some(a.cmp(b)));
    }
    Ok(match (left, right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => as_float(left).partial_cmp(&as_float(right)),
        (Value::Int(_) | Value::Float(_), text) if text.as_bytes().is_some() => order(left, &number(text)?)?,
        (text, Value::Int(_) | Value::Float(_)) if text.as_bytes().is_some() => order(&number(text)?, right)?,
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    })
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
    let parsed = text.as_text().and_then(|text| {
        let int = text.parse().ok().map(Value::Int);
        int.or_else(|| text.parse().ok().filter(|float: &f64| float.is_finite()).map(Value::Float))
    });
    parsed.ok_or_else(|| EvalError::new(format!("\"{text}\" is not a number")))
}

/// The result of an arithmetic operator.
pub(crate) fn arithmetic(operator: Binary, left: &Value, right: &Value) -> Result<Value, EvalError> {
    let wrong = || EvalError::new(format!("cannot compute {} {} {}", left.type_name(), symbol(operator), right.type_name()));
    let is_text = |value: &Value| value.as_bytes().is_some();
    if operator == Binary::Add && (is_text(left) || is_text(right)) {
        return Ok(Value::Text(format!("{left}{right}").into()));
    }
    match (operator, left, right) {
        (Binary::Div | Binary::Mod, Value::Int(_), Value::Int(0)) | (Binary::Divide, _, Value::Int(0)) => {
            Err(EvalError::new("division by zero"))
        }
        (Binary::Divide, _, Value::Float(zero)) if *zero == 0.0 => Err(EvalError::new("division by zero")),
        (Binary::Divide, Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => float(as_float(left) / as_float(right)),
        (_, Value::Int(a), Value::Int(b)) => {
            let result = match operator {
                Binary::Add => a.checked_add(*b),
                Binary::Subtract => a.checked_sub(*b),
                Binary::Multiply => a.checked_mul(*b),
                Binary::Div => a.checked_div(*b),
                Binary::Mod => a.checked_rem(*b),
                _ => return Err(wrong()),
            };
            result.map(Value::Int).ok_or_else(|| EvalError::new("the result is beyond 64 bits"))
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

/// A float, unless it is none that JSON and SQL can hold.
pub(crate) fn float(result: f64) -> Result<Value, EvalError> {
    if result.is_finite() { Ok(Value::Float(result)) } else { Err(EvalError::new("the result is not a finite number")) }
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
