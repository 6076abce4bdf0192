//! Functions of arrays and maps.

use hookline_schemas::{Map, Value};

use super::{array, int, text, wrong};
use crate::context::parse_json;
use crate::error::EvalError;
use crate::operator;

/// The map of an argument; a text is read as JSON.
fn map(value: &Value) -> Result<Map, EvalError> {
    match (value, parse_json(value)) {
        (Value::Map(map), _) => Ok(map.clone()),
        (_, Some(Value::Map(map))) => Ok(map),
        (other, _) => Err(wrong("a map", other)),
    }
}

pub(super) fn nth(args: &[Value]) -> Result<Value, EvalError> {
    let place = usize::try_from(int(&args[0])? - 1).ok();
    let element = place.and_then(|place| array(&args[1]).ok()?.get(place));
    element.cloned().ok_or_else(|| EvalError::new("there is no such element"))
}

pub(super) fn length(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(array(&args[0])?.len() as i64))
}

pub(super) fn first(args: &[Value]) -> Result<Value, EvalError> {
    array(&args[0])?.first().cloned().ok_or_else(|| EvalError::new("the array is empty"))
}

pub(super) fn last(args: &[Value]) -> Result<Value, EvalError> {
    array(&args[0])?.last().cloned().ok_or_else(|| EvalError::new("the array is empty"))
}

pub(super) fn contains(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Bool(array(&args[1])?.iter().any(|item| operator::same(&args[0], item))))
}

pub(super) fn sublist(args: &[Value]) -> Result<Value, EvalError> {
    let (start, length, list) = match args {
        [length, list] => (1, int(length)?, list),
        [start, length, list] => (int(start)?, int(length)?, list),
        _ => return Err(wrong("a list", &Value::Undefined)),
    };
    let (Ok(skip), Ok(take)) = (usize::try_from(start - 1), usize::try_from(length)) else {
        return Err(EvalError::new("place and length begin at 1 and 0"));
    };
    Ok(Value::Array(array(list)?.iter().skip(skip).take(take).cloned().collect()))
}

pub(super) fn mget(args: &[Value]) -> Result<Value, EvalError> {
    let found = map(&args[1])?.get(text(&args[0])?).cloned();
    Ok(found.or_else(|| args.get(2).cloned()).unwrap_or_default())
}

pub(super) fn map_get(args: &[Value]) -> Result<Value, EvalError> {
    let found = Value::Map(map(&args[1])?).path(text(&args[0])?.split('.')).clone();
    Ok(if found == Value::Undefined { args.get(2).cloned().unwrap_or_default() } else { found })
}

pub(super) fn map_keys(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Array(map(&args[0])?.iter().map(|(key, _)| Value::text(key)).collect()))
}

pub(super) fn map_values(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Array(map(&args[0])?.iter().map(|(_, value)| value.clone()).collect()))
}

pub(super) fn map_size(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(map(&args[0])?.len() as i64))
}
