//! From a value of a row to a parameter. Pure.

use hookline_schemas::Value;
use rusqlite::types::Value as Parameter;

/// The parameter for a value: a missing one is NULL, bytes that are UTF-8 are text.
pub(super) fn parameter(value: Value) -> Parameter {
    match value {
        Value::Undefined | Value::Null => Parameter::Null,
        Value::Bool(b) => Parameter::Integer(b.into()),
        Value::Int(int) => Parameter::Integer(int),
        Value::Float(float) => Parameter::Real(float),
        Value::Text(text) => Parameter::Text(text.into()),
        Value::Bytes(bytes) => match String::from_utf8(bytes.into()) {
            Ok(text) => Parameter::Text(text),
            Err(error) => Parameter::Blob(error.into_bytes()),
        },
        other @ (Value::Array(_) | Value::Map(_)) => Parameter::Text(other.to_string()),
    }
}
