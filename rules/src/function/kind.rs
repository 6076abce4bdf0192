//! Tests of what a value is, and choices by it.

use hookline_schemas::Value;

use super::argument::listed;
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure("null", 0..=0, null, "The value that is missing: no column or key.", ("null()", "null")),
    pure("is_null", 1..=1, is_null, "Whether there is no such value; a JSON null is one.", ("is_null(null())", "true")),
    pure("is_null_var", 1..=1, is_null_var, "Whether there is no such value, or a JSON null.", ("is_null_var(null())", "true")),
    pure("is_not_null", 1..=1, is_not_null, "Whether there is such a value.", ("is_not_null('a')", "true")),
    pure("is_not_null_var", 1..=1, is_not_null_var, "Whether there is such a value, and no JSON null.", ("is_not_null_var('a')", "true")),
    pure("is_str", 1..=1, is_str, "Whether it is a text.", ("is_str('a')", "true")),
    pure("is_bool", 1..=1, is_bool, "Whether it is true or false.", ("is_bool(1)", "false")),
    pure("is_int", 1..=1, is_int, "Whether it is an integer.", ("is_int(1.0)", "false")),
    pure("is_float", 1..=1, is_float, "Whether it is a float.", ("is_float(1.0)", "true")),
    pure("is_num", 1..=1, is_num, "Whether it is a number.", ("is_num(1)", "true")),
    pure("is_map", 1..=1, is_map, "Whether it is a map.", ("is_map(map_new())", "true")),
    pure("is_array", 1..=1, is_array, "Whether it is an array.", ("is_array([1])", "true")),
    pure("is_empty", 1..=1, is_empty, "Whether it is an empty text, array or map.", ("is_empty('')", "true")),
    pure("is_empty_val", 1..=1, is_empty_val, "Whether it is missing, null or an empty text.", ("is_empty_val('')", "true")),
    pure(
        "coalesce",
        1..=usize::MAX,
        coalesce,
        "The first of the values, or of an array's elements, that is there and no null.",
        ("coalesce(null(), 2)", "2"),
    ),
    pure("coalesce_ne", 1..=usize::MAX, coalesce_ne, "As coalesce, passing over empty texts, too.", ("coalesce_ne('', 'b')", r#""b""#)),
];

fn is(holds: bool) -> Result<Value, EvalError> {
    Ok(Value::Bool(holds))
}

fn null(_: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Undefined)
}

fn is_null(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0] == Value::Undefined)
}

fn is_null_var(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0].is_null())
}

fn is_not_null(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0] != Value::Undefined)
}

fn is_not_null_var(args: &[Value]) -> Result<Value, EvalError> {
    is(!args[0].is_null())
}

fn is_str(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0].as_bytes().is_some())
}

fn is_bool(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Bool(_)))
}

fn is_int(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Int(_)))
}

fn is_float(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Float(_)))
}

fn is_num(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Int(_) | Value::Float(_)))
}

fn is_map(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Map(_)))
}

fn is_array(args: &[Value]) -> Result<Value, EvalError> {
    is(matches!(args[0], Value::Array(_)))
}

fn is_empty(args: &[Value]) -> Result<Value, EvalError> {
    is(match &args[0] {
        Value::Array(items) => items.is_empty(),
        Value::Map(map) => map.is_empty(),
        other => is_empty_text(other),
    })
}

fn is_empty_val(args: &[Value]) -> Result<Value, EvalError> {
    is(args[0].is_null() || is_empty_text(&args[0]))
}

fn coalesce(args: &[Value]) -> Result<Value, EvalError> {
    Ok(listed(args).iter().find(|value| !value.is_null()).cloned().unwrap_or_default())
}

fn coalesce_ne(args: &[Value]) -> Result<Value, EvalError> {
    Ok(listed(args).iter().find(|value| !value.is_null() && !is_empty_text(value)).cloned().unwrap_or_default())
}

fn is_empty_text(value: &Value) -> bool {
    value.as_bytes().is_some_and(<[u8]>::is_empty)
}
