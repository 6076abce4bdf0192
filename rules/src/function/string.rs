//! Functions of texts. Lengths and places count characters.

use hookline_schemas::Value;

use super::{array, int, text, wrong};
use crate::error::EvalError;

pub(super) fn lower(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&text(&args[0])?.to_lowercase()))
}

pub(super) fn upper(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&text(&args[0])?.to_uppercase()))
}

pub(super) fn trim(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(text(&args[0])?.trim()))
}

pub(super) fn ltrim(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(text(&args[0])?.trim_start()))
}

pub(super) fn rtrim(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(text(&args[0])?.trim_end()))
}

pub(super) fn reverse(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&text(&args[0])?.chars().rev().collect::<String>()))
}

pub(super) fn strlen(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(text(&args[0])?.chars().count() as i64))
}

pub(super) fn substr(args: &[Value]) -> Result<Value, EvalError> {
    let start = usize::try_from(int(&args[1])?).map_err(|_| EvalError::new("a place is not negative"))?;
    let length = match args.get(2) {
        Some(length) => usize::try_from(int(length)?).map_err(|_| EvalError::new("a length is not negative"))?,
        None => usize::MAX,
    };
    Ok(Value::text(&text(&args[0])?.chars().skip(start).take(length).collect::<String>()))
}

pub(super) fn split(args: &[Value]) -> Result<Value, EvalError> {
    let separator = text(&args[1])?;
    if separator.is_empty() {
        return Err(EvalError::new("the separator is empty"));
    }
    let parts = text(&args[0])?.split(separator).filter(|part| !part.is_empty());
    Ok(Value::Array(parts.map(Value::text).collect()))
}

pub(super) fn concat(args: &[Value]) -> Result<Value, EvalError> {
    let all = match args {
        [Value::Array(items)] => items,
        _ => args,
    };
    Ok(Value::text(&all.iter().map(ToString::to_string).collect::<String>()))
}

pub(super) fn replace(args: &[Value]) -> Result<Value, EvalError> {
    let pattern = text(&args[1])?;
    if pattern.is_empty() {
        return Err(EvalError::new("what is to be replaced is empty"));
    }
    Ok(Value::text(&text(&args[0])?.replace(pattern, text(&args[2])?)))
}

pub(super) fn rm_prefix(args: &[Value]) -> Result<Value, EvalError> {
    let whole = text(&args[0])?;
    Ok(Value::text(whole.strip_prefix(text(&args[1])?).unwrap_or(whole)))
}

pub(super) fn join_to_string(args: &[Value]) -> Result<Value, EvalError> {
    let (separator, items) = match args {
        [items] => (", ", items),
        [separator, items] => (text(separator)?, items),
        _ => return Err(wrong("a list", &Value::Undefined)),
    };
    let parts: Vec<String> = array(items)?.iter().map(ToString::to_string).collect();
    Ok(Value::text(&parts.join(separator)))
}
