//! Typed access to arguments, and the bound of results.

use hookline_schemas::{Map, Value};

use crate::error::EvalError;

/// The most bytes that a function may give.
pub(super) const BYTES_MAX: usize = 16 * 1024 * 1024;

/// The most elements of an array that a function may make.
pub(super) const ELEMENTS_MAX: usize = 1_000_000;

/// The text of an argument.
pub(super) fn text(value: &Value) -> Result<&str, EvalError> {
    value.as_text().ok_or_else(|| wrong("a string", value))
}

/// The bytes of an argument.
pub(super) fn bytes(value: &Value) -> Result<&[u8], EvalError> {
    value.as_bytes().ok_or_else(|| wrong("a string", value))
}

/// The integer of an argument.
pub(super) fn int(value: &Value) -> Result<i64, EvalError> {
    match value {
        Value::Int(int) => Ok(*int),
        other => Err(wrong("an integer", other)),
    }
}

/// The integer of an argument that counts something.
pub(super) fn count(value: &Value) -> Result<usize, EvalError> {
    let int = int(value)?;
    usize::try_from(int).map_err(|_| EvalError::new(format!("expected 0 or more, found {int}")))
}

/// The number of an argument.
pub(super) fn number(value: &Value) -> Result<f64, EvalError> {
    match value {
        Value::Int(int) => Ok(*int as f64),
        Value::Float(float) => Ok(*float),
        other => Err(wrong("a number", other)),
    }
}

/// The array of an argument.
pub(super) fn array(value: &Value) -> Result<&[Value], EvalError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong("an array", other)),
    }
}

/// The map of an argument.
pub(super) fn map(value: &Value) -> Result<&Map, EvalError> {
    match value {
        Value::Map(map) => Ok(map),
        other => Err(wrong("a map", other)),
    }
}

/// The arguments, or the elements of the only one.
pub(super) fn listed(args: &[Value]) -> &[Value] {
    match args {
        [Value::Array(items)] => items,
        _ => args,
    }
}

/// What a word of an argument stands for.
pub(super) fn choice<T: Copy>(value: &Value, choices: &[(&str, T)]) -> Result<T, EvalError> {
    let word = text(value)?;
    let found = choices.iter().find(|(name, _)| *name == word).map(|(_, meaning)| *meaning);
    found.ok_or_else(|| {
        let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
        EvalError::new(format!("expected one of {}, found \"{word}\"", names.join(", ")))
    })
}

/// A value as text: strings as they are, maps and arrays as JSON, floats without exponent and with at most ten decimals.
pub(super) fn text_of(value: &Value) -> String {
    match value {
        Value::Float(float) => decimal(*float, 10),
        other => other.to_string(),
    }
}

/// A float with so many decimals at most, and at least one if any is allowed.
pub(super) fn decimal(float: f64, decimals: usize) -> String {
    let digits = format!("{float:.decimals$}");
    let Some(point) = digits.find('.') else { return digits };
    let end = digits.trim_end_matches('0').len().max(point + 2);
    digits[..end].to_owned()
}

/// A text that is within the bound.
pub(super) fn bounded(text: String) -> Result<Value, EvalError> {
    within(text.len()).map(|()| Value::Text(text.into_boxed_str()))
}

/// Whether a result of so many bytes is allowed.
pub(super) fn within(len: usize) -> Result<(), EvalError> {
    if len <= BYTES_MAX { Ok(()) } else { Err(EvalError::new(format!("the result would be larger than {BYTES_MAX} bytes"))) }
}

/// An array that is within the bound; taking one element more than allowed is enough to know.
pub(super) fn bounded_array(items: impl Iterator<Item = Value>) -> Result<Value, EvalError> {
    let items: Vec<Value> = items.take(ELEMENTS_MAX + 1).collect();
    if items.len() <= ELEMENTS_MAX {
        Ok(Value::Array(items))
    } else {
        Err(EvalError::new(format!("the result would have more than {ELEMENTS_MAX} elements")))
    }
}

/// The error for a value of another type.
pub(super) fn wrong(expected: &str, found: &Value) -> EvalError {
    let article = match found {
        Value::Undefined | Value::Null | Value::Bytes(_) => "",
        Value::Int(_) | Value::Array(_) => "an ",
        _ => "a ",
    };
    EvalError::new(format!("expected {expected}, found {article}{}", found.type_name()))
}

/// The error for a result that an integer cannot hold.
pub(super) fn beyond() -> EvalError {
    EvalError::new("the result is beyond 64 bits")
}
