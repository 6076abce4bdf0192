//! From a value of a row to a parameter. Pure.

use hookline_schemas::Value;
use mysql_async::Value as Parameter;

/// The parameter for a value: what is missing, or no number, is NULL. The server turns it into the type of the column, or
/// refuses it.
pub(super) fn parameter(value: Value) -> Parameter {
    match value {
        Value::Undefined | Value::Null => Parameter::NULL,
        Value::Bool(b) => Parameter::Int(b.into()),
        Value::Int(int) => Parameter::Int(int),
        Value::Float(float) if float.is_finite() => Parameter::Double(float),
        Value::Float(_) => Parameter::NULL,
        Value::Text(text) => Parameter::Bytes(String::from(text).into_bytes()),
        Value::Bytes(bytes) => Parameter::Bytes(bytes.into()),
        other @ (Value::Array(_) | Value::Map(_)) => Parameter::Bytes(other.to_string().into_bytes()),
    }
}

/// How many bytes a parameter takes in a packet, about.
pub(super) fn size(parameter: &Parameter) -> usize {
    match parameter {
        Parameter::Bytes(bytes) => bytes.len() + 9,
        _ => 8,
    }
}
