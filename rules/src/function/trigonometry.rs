//! Trigonometric and hyperbolic functions, in radians. Where one is not defined, it is an error.

use hookline_schemas::Value;

use super::argument::number;
use super::{Function, pure};
use crate::error::EvalError;
use crate::operator::float;

pub(super) const TABLE: &[Function] = &[
    pure("sin", 1..=1, sin, "The sine of x in radians.", ("sin(0)", "0.0")),
    pure("cos", 1..=1, cos, "The cosine of x in radians.", ("cos(0)", "1.0")),
    pure("tan", 1..=1, tan, "The tangent of x in radians.", ("tan(0)", "0.0")),
    pure("asin", 1..=1, asin, "The angle whose sine is x.", ("asin(0)", "0.0")),
    pure("acos", 1..=1, acos, "The angle whose cosine is x.", ("acos(1)", "0.0")),
    pure("atan", 1..=1, atan, "The angle whose tangent is x.", ("atan(1)", "0.7853981633974483")),
    pure("sinh", 1..=1, sinh, "The hyperbolic sine.", ("sinh(0)", "0.0")),
    pure("cosh", 1..=1, cosh, "The hyperbolic cosine.", ("cosh(0)", "1.0")),
    pure("tanh", 1..=1, tanh, "The hyperbolic tangent.", ("tanh(0)", "0.0")),
    pure("asinh", 1..=1, asinh, "The inverse of the hyperbolic sine.", ("asinh(0)", "0.0")),
    pure("acosh", 1..=1, acosh, "The inverse of the hyperbolic cosine.", ("acosh(1)", "0.0")),
    pure("atanh", 1..=1, atanh, "The inverse of the hyperbolic tangent.", ("atanh(0)", "0.0")),
];

fn sin(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.sin())
}

fn cos(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.cos())
}

fn tan(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.tan())
}

fn asin(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.asin())
}

fn acos(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.acos())
}

fn atan(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.atan())
}

fn sinh(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.sinh())
}

fn cosh(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.cosh())
}

fn tanh(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.tanh())
}

fn asinh(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.asinh())
}

fn acosh(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.acosh())
}

fn atanh(args: &[Value]) -> Result<Value, EvalError> {
    float(number(&args[0])?.atanh())
}
