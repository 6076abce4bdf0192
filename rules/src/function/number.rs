//! Functions of numbers. Integers have 64 bits; what is beyond is an error, and so is a float that is no number.

use hookline_schemas::Value;

use super::argument::{beyond, int, number};
use super::convert::whole;
use super::{Function, pure};
use crate::error::EvalError;
use crate::operator::{self, float};

pub(super) const TABLE: &[Function] = &[
    pure("abs", 1..=1, abs, "The magnitude.", ("abs(-3)", "3")),
    pure("ceil", 1..=1, ceil, "The next integer above.", ("ceil(1.2)", "2")),
    pure("floor", 1..=1, floor, "The next integer below.", ("floor(-1.2)", "-2")),
    pure("round", 1..=1, round, "The nearest integer, halves away from zero.", ("round(2.5)", "3")),
    pure("sqrt", 1..=1, sqrt, "The square root.", ("sqrt(9)", "3.0")),
    pure("exp", 1..=1, exp, "e to the power of x.", ("exp(0)", "1.0")),
    pure("power", 2..=2, power, "x to the power of y, a float.", ("power(2, 10)", "1024.0")),
    pure("log", 1..=1, log, "The natural logarithm.", ("log(1)", "0.0")),
    pure("log10", 1..=1, log10, "The logarithm to base 10.", ("log10(1000)", "3.0")),
    pure("log2", 1..=1, log2, "The logarithm to base 2.", ("log2(8)", "3.0")),
    pure("mod", 2..=2, modulo, "The remainder of two integers, with the sign of the first.", ("mod(7, 3)", "1")),
    pure("fmod", 2..=2, fmod, "The remainder of two numbers, a float with the sign of the first.", ("fmod(7.5, 2)", "1.5")),
    pure("eq", 2..=2, eq, "Whether both are equal, as = has it.", ("eq(1, 1.0)", "true")),
];

fn abs(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        Value::Int(int) => int.checked_abs().map(Value::Int).ok_or_else(beyond),
        other => float(number(other)?.abs()),
    }
}

/// An integer as it is, a float rounded.
fn rounded(value: &Value, round: fn(f64) -> f64) -> Result<Value, EvalError> {
    match value {
        Value::Int(int) => Ok(Value::Int(*int)),
        other => whole(round(number(other)?)),
    }
}

fn ceil(args: &[Value]) -> Result<Value, EvalError> {
    rounded(&args[0], f64::ceil)
}

fn floor(args: &[Value]) -> Result<Value, EvalError> {
    rounded(&args[0], f64::floor)
}

fn round(args: &[Value]) -> Result<Value, EvalError> {
    rounded(&args[0], f64::round)
}

fn sqrt(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.sqrt())
}

fn exp(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.exp())
}

fn power(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.powf(number(&args[1])?))
}

fn log(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.ln())
}

fn log10(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.log10())
}

fn log2(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.log2())
}

fn modulo(args: &[Value]) -> Result<Value, EvalError> {
    match (int(&args[0])?, int(&args[1])?) {
        (_, 0) => Err(EvalError::new("division by zero")),
        // The one quotient that overflows has no remainder.
        (a, b) => Ok(Value::Int(a.wrapping_rem(b))),
    }
}

fn fmod(args: &[Value]) -> Result<Value, EvalError> {
    match (number(&args[0])?, number(&args[1])?) {
        (_, 0.0) => Err(EvalError::new("division by zero")),
        (a, b) => float(a % b),
    }
}

fn eq(args: &[Value]) -> Result<Value, EvalError> {
    // A text is no number, whatever it says.
    let is_number = |value: &Value| matches!(value, Value::Int(_) | Value::Float(_));
    Ok(Value::Bool(is_number(&args[0]) == is_number(&args[1]) && operator::equal(&args[0], &args[1])?))
}
