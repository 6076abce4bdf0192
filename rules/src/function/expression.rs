//! Comparisons and choices as functions, as templates for identifiers and attributes use them.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD_INDIFFERENT;
use hookline_schemas::Value;
use sha2::{Digest, Sha256};

use super::argument::{bytes, int, number, text};
use super::{Function, pure};
use crate::context::parse_json;
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure(
        "iif",
        3..=3,
        iif,
        "The second argument if the first is true or a text that is not empty, else the third.",
        ("iif(true, 'a', 'b')", r#""a""#),
    ),
    pure("str_comp", 2..=2, str_comp, "'lt', 'eq' or 'gt', as the first text stands to the second.", ("str_comp('a', 'b')", r#""lt""#)),
    pure("str_eq", 2..=2, str_eq, "Whether two texts are equal.", ("str_eq('a', 'a')", "true")),
    pure("str_neq", 2..=2, str_neq, "Whether two texts differ.", ("str_neq('a', 'a')", "false")),
    pure("str_lt", 2..=2, str_lt, "Whether the first text comes before the second.", ("str_lt('a', 'b')", "true")),
    pure("str_lte", 2..=2, str_lte, "Whether the first text does not come after the second.", ("str_lte('a', 'a')", "true")),
    pure("str_gt", 2..=2, str_gt, "Whether the first text comes after the second.", ("str_gt('a', 'b')", "false")),
    pure("str_gte", 2..=2, str_gte, "Whether the first text does not come before the second.", ("str_gte('a', 'a')", "true")),
    pure("num_comp", 2..=2, num_comp, "'lt', 'eq' or 'gt', as the first number stands to the second.", ("num_comp(2, 1.5)", r#""gt""#)),
    pure("num_eq", 2..=2, num_eq, "Whether two numbers are equal.", ("num_eq(1, 1.0)", "true")),
    pure("num_neq", 2..=2, num_neq, "Whether two numbers differ.", ("num_neq(1, 2)", "true")),
    pure("num_lt", 2..=2, num_lt, "Whether the first number is less than the second.", ("num_lt(1, 2)", "true")),
    pure("num_lte", 2..=2, num_lte, "Whether the first number is at most the second.", ("num_lte(2, 2)", "true")),
    pure("num_gt", 2..=2, num_gt, "Whether the first number is greater than the second.", ("num_gt(1, 2)", "false")),
    pure("num_gte", 2..=2, num_gte, "Whether the first number is at least the second.", ("num_gte(2, 2)", "true")),
    pure(
        "hash_to_range",
        3..=3,
        hash_to_range,
        "An integer from a least to a greatest (text, least, greatest), always the same for a text.",
        ("hash_to_range('c1', 5, 5)", "5"),
    ),
    pure(
        "map_to_range",
        3..=3,
        map_to_range,
        "An integer from a least to a greatest for an integer, by its remainder, or for the bytes of a text.",
        ("map_to_range(7, 0, 4)", "2"),
    ),
    pure("json_value", 2..=2, json_value, "The value at a dotted path in a JSON text.", (r#"json_value('{"a":{"b":1}}', 'a.b')"#, "1")),
    pure(
        "jwt_value",
        2..=2,
        jwt_value,
        "The value at a dotted path in the claims of a JSON web token. The signature is not checked.",
        ("jwt_value('e30.eyJzdWIiOiJjMSJ9.x', 'sub')", r#""c1""#),
    ),
];

fn iif(args: &[Value]) -> Result<Value, EvalError> {
    let holds = match &args[0] {
        Value::Bool(holds) => *holds,
        Value::Undefined | Value::Null => false,
        other => other.as_bytes().is_none_or(|bytes| !bytes.is_empty() && bytes != b"false"),
    };
    Ok(args[if holds { 1 } else { 2 }].clone())
}

fn order_of_texts(args: &[Value]) -> Result<Ordering, EvalError> {
    Ok(bytes(&args[0])?.cmp(bytes(&args[1])?))
}

fn order_of_numbers(args: &[Value]) -> Result<Ordering, EvalError> {
    if let (Value::Int(a), Value::Int(b)) = (&args[0], &args[1]) {
        return Ok(a.cmp(b));
    }
    number(&args[0])?.partial_cmp(&number(&args[1])?).ok_or_else(|| EvalError::new("these numbers have no order"))
}

fn word(order: Ordering) -> Value {
    Value::text(match order {
        Ordering::Less => "lt",
        Ordering::Equal => "eq",
        Ordering::Greater => "gt",
    })
}

fn str_comp(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(word)
}

fn str_eq(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(|order| Value::Bool(order.is_eq()))
}

fn str_neq(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(|order| Value::Bool(order.is_ne()))
}

fn str_lt(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(|order| Value::Bool(order.is_lt()))
}

fn str_lte(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(|order| Value::Bool(order.is_le()))
}

fn str_gt(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(|order| Value::Bool(order.is_gt()))
}

fn str_gte(args: &[Value]) -> Result<Value, EvalError> {
    order_of_texts(args).map(|order| Value::Bool(order.is_ge()))
}

fn num_comp(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(word)
}

fn num_eq(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(|order| Value::Bool(order.is_eq()))
}

fn num_neq(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(|order| Value::Bool(order.is_ne()))
}

fn num_lt(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(|order| Value::Bool(order.is_lt()))
}

fn num_lte(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(|order| Value::Bool(order.is_le()))
}

fn num_gt(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(|order| Value::Bool(order.is_gt()))
}

fn num_gte(args: &[Value]) -> Result<Value, EvalError> {
    order_of_numbers(args).map(|order| Value::Bool(order.is_ge()))
}

fn hash_to_range(args: &[Value]) -> Result<Value, EvalError> {
    let hash = Sha256::digest(bytes(&args[0])?);
    in_range(big_endian(hash.as_slice()), args)
}

fn map_to_range(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Int(int) => in_range(int.unsigned_abs().into(), args),
        other => in_range(big_endian(bytes(other)?), args),
    }
}

/// The number that the last sixteen bytes stand for.
fn big_endian(bytes: &[u8]) -> u128 {
    bytes.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))
}

/// The number by its remainder between the second and the third argument, both included.
fn in_range(number: u128, args: &[Value]) -> Result<Value, EvalError> {
    let (least, greatest) = (int(&args[1])?, int(&args[2])?);
    let size = i128::from(greatest) - i128::from(least) + 1;
    let Some(size) = u128::try_from(size).ok().filter(|size| *size > 0) else {
        return Err(EvalError::new(format!("there is nothing from {least} to {greatest}")));
    };
    // The remainder is below the size of a range of 64 bits, so that the sum is within that range.
    Ok(Value::Int((i128::from(least) + (number % size) as i128) as i64))
}

fn json_value(args: &[Value]) -> Result<Value, EvalError> {
    at(&args[0], &args[1])
}

fn jwt_value(args: &[Value]) -> Result<Value, EvalError> {
    let claims = text(&args[0])?.split('.').nth(1).and_then(|claims| URL_SAFE_NO_PAD_INDIFFERENT.decode(claims).ok());
    let claims = claims.ok_or_else(|| EvalError::new("the text is no JSON web token"))?;
    at(&Value::Bytes(claims.into()), &args[1])
}

fn at(document: &Value, path: &Value) -> Result<Value, EvalError> {
    let parsed = parse_json(document).ok_or_else(|| EvalError::new("the text is not JSON"))?;
    Ok(parsed.path(text(path)?.split('.')).clone())
}
