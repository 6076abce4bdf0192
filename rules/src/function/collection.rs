//! Functions of arrays.

use hookline_schemas::Value;

use super::argument::{array, count, int};
use super::{Function, pure};
use crate::error::EvalError;
use crate::operator;

pub(super) const TABLE: &[Function] = &[
    pure("nth", 2..=2, nth, "The n-th element, from 1.", ("nth(2, ['a', 'b'])", r#""b""#)),
    pure("length", 1..=1, length, "How many elements an array has.", ("length([1, 2])", "2")),
    pure("first", 1..=1, first, "The first element.", ("first([1, 2])", "1")),
    pure("last", 1..=1, last, "The last element.", ("last([1, 2])", "2")),
    pure(
        "sublist",
        2..=3,
        sublist,
        "The first so many elements (length, array), or so many from a place (from 1) on (start, length, array).",
        ("sublist(2, 2, [1, 2, 3, 4])", "[2,3]"),
    ),
    pure("contains", 2..=2, contains, "Whether an array has an element.", ("contains(2, [1, 2])", "true")),
];

fn nth(args: &[Value]) -> Result<Value, EvalError> {
    let (place, items) = (int(&args[0])?, array(&args[1])?);
    let element = place.checked_sub(1).and_then(|index| items.get(usize::try_from(index).ok()?));
    element.cloned().ok_or_else(|| EvalError::new(format!("there is no element {place} among {}", items.len())))
}

fn length(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(array(&args[0])?.len() as i64))
}

fn first(args: &[Value]) -> Result<Value, EvalError> {
    array(&args[0])?.first().cloned().ok_or_else(|| EvalError::new("the array is empty"))
}

fn last(args: &[Value]) -> Result<Value, EvalError> {
    array(&args[0])?.last().cloned().ok_or_else(|| EvalError::new("the array is empty"))
}

fn sublist(args: &[Value]) -> Result<Value, EvalError> {
    let (start, length, items) = match args {
        [length, items] => (1, length, items),
        _ => (count(&args[0])?, &args[1], &args[2]),
    };
    let Some(skipped) = start.checked_sub(1) else { return Err(EvalError::new("places begin at 1, not at 0")) };
    Ok(Value::Array(array(items)?.iter().skip(skipped).take(count(length)?).cloned().collect()))
}

fn contains(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Bool(array(&args[1])?.iter().any(|item| operator::same(&args[0], item))))
}
