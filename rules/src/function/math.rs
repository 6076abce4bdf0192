//! Functions of numbers. What has no finite result is an error.

use hookline_schemas::Value;

use super::{int, wrong};
use crate::error::EvalError;
use crate::operator::float;

fn number(value: &Value) -> Result<f64, EvalError> {
    match value {
        Value::Int(int) => Ok(*int as f64),
        Value::Float(float) => Ok(*float),
        other => Err(wrong("a number", other)),
    }
}

/// A float without a fraction as an integer.
fn whole(value: f64) -> Result<Value, EvalError> {
    if value.abs() < 9.2e18 { Ok(Value::Int(value as i64)) } else { Err(EvalError::new("the result is beyond 64 bits")) }
}

pub(super) fn abs(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Int(int) => int.checked_abs().map(Value::Int).ok_or_else(|| EvalError::new("the result is beyond 64 bits")),
        other => float(number(other)?.abs()),
    }
}

pub(super) fn ceil(args: &[Value]) -> Result<Value, EvalError> {
    whole(number(&args[0])?.ceil())
}

pub(super) fn floor(args: &[Value]) -> Result<Value, EvalError> {
    whole(number(&args[0])?.floor())
}

pub(super) fn round(args: &[Value]) -> Result<Value, EvalError> {
    whole(number(&args[0])?.round())
}

pub(super) fn sqrt(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.sqrt())
}

pub(super) fn exp(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.exp())
}

pub(super) fn log(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.ln())
}

pub(super) fn log10(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.log10())
}

pub(super) fn log2(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.log2())
}

pub(super) fn power(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.powf(number(&args[1])?))
}

pub(super) fn modulo(args: &[Value]) -> Result<Value, EvalError> {
    int(&args[0])?.checked_rem(int(&args[1])?).map(Value::Int).ok_or_else(|| EvalError::new("division by zero"))
}
