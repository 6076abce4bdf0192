//! Random values, for identifiers and samples; not for secrets.

use hookline_schemas::Value;
use uuid::Uuid;

use super::argument::{count, int, within};
use super::{Function, varying};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    varying("random", 0..=0, random, "A float from 0 to below 1.", ("is_float(random())", "true")),
    varying("rand_int", 1..=1, rand_int, "An integer from 1 to n.", ("rand_int(1)", "1")),
    varying("rand_str", 1..=1, rand_str, "So many random letters and digits.", ("strlen(rand_str(8))", "8")),
    varying("uuid_v4", 0..=0, uuid_v4, "A random UUID.", ("strlen(uuid_v4())", "36")),
    varying("uuid_v4_no_hyphen", 0..=0, uuid_v4_no_hyphen, "A random UUID without hyphens.", ("strlen(uuid_v4_no_hyphen())", "32")),
];

fn random(_: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Float(fastrand::f64()))
}

fn rand_int(args: &[Value]) -> Result<Value, EvalError> {
    match int(&args[0])? {
        most @ 1.. => Ok(Value::Int(fastrand::i64(1..=most))),
        other => Err(EvalError::new(format!("expected 1 or more, found {other}"))),
    }
}

fn rand_str(args: &[Value]) -> Result<Value, EvalError> {
    let length = count(&args[0])?;
    within(length)?;
    Ok(Value::text(&std::iter::repeat_with(fastrand::alphanumeric).take(length).collect::<String>()))
}

fn uuid_v4(_: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&Uuid::new_v4().hyphenated().to_string()))
}

fn uuid_v4_no_hyphen(_: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&Uuid::new_v4().simple().to_string()))
}
