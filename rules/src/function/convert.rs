//! Tests of types, and conversions.

use hookline_schemas::Value;

use super::wrong;
use crate::context::parse_json;
use crate::error::EvalError;
use crate::operator;

fn is(holds: bool) -> Result<Value, EvalError> {
    Ok(Value::Bool(holds))
}

pub(super) fn is_null(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0] == Value::Undefined)
}

pub(super) fn is_not_null(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0] != Value::Undefined)
}

pub(super) fn is_str(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0].as_bytes().is_some())
}

pub(super) fn is_bool(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Bool(_)))
}

pub(super) fn is_int(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Int(_)))
}

pub(super) fn is_float(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Float(_)))
}

pub(super) fn is_num(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Int(_) | Value::Float(_)))
}

pub(super) fn is_map(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Map(_)))
}

pub(super) fn is_array(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Array(_)))
}

pub(super) fn str(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&args[0].to_string()))
}

pub(super) fn int(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Int(int) => Ok(Value::Int(*int)),
        Value::Bool(b) => Ok(Value::Int((*b).into())),
        Value::Float(float) if float.floor().abs() < 9.2e18 => Ok(Value::Int(float.floor() as i64)),
        Value::Float(_) => Err(EvalError::new("the result is beyond 64 bits")),
        text if text.as_bytes().is_some() => int(&[operator::number(text)?]),
        other => Err(wrong("a number", other)),
    }
}

pub(super) fn float(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Int(int) => Ok(Value::Float(*int as f64)),
        Value::Float(float) => Ok(Value::Float(*float)),
        text if text.as_bytes().is_some() => float(&[operator::number(text)?]),
        other => Err(wrong("a number", other)),
    }
}

pub(super) fn bool(args: &[Value]) -> Result<Value, EvalError> {
    match (&args[0], args[0].as_text()) {
        (Value::Bool(true) | Value::Int(1), _) | (_, Some("true" | "1")) => is(true),
        (Value::Bool(false) | Value::Int(0), _) | (_, Some("false" | "0")) => is(false),
        (other, _) => Err(EvalError::new(format!("\"{other}\" is no boolean"))),
    }
}

pub(super) fn json_encode(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&args[0].to_json().to_string()))
}

pub(super) fn json_decode(args: &[Value]) -> Result<Value, EvalError> {
    parse_json(&args[0]).ok_or_else(|| EvalError::new("the text is not JSON"))
}

pub(super) fn coalesce(args: &[Value]) -> Result<Value, EvalError> {
    let all = match args {
        [Value::Array(items)] => items,
        _ => args,
    };
    Ok(all.iter().find(|value| !value.is_null()).cloned().unwrap_or_default())
}
