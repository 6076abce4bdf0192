//! Named schemas: payloads to values and back, by Avro, Protocol Buffers or JSON Schema.
//!
//! In: schemas from the configuration.
//! Out: functions for statements, and codecs for validations and transformations.

/// Avro.
mod avro;
/// What statements can call.
pub(crate) mod function;
/// JSON Schema.
mod json;
/// Protocol Buffers.
mod protobuf;
/// All schemas, by name and by number.
mod registry;
/// Sparkplug B.
pub(crate) mod sparkplug;
/// Messages that carry the number of their schema.
mod tagged;

use std::borrow::Cow;

use bytes::Bytes;
use hookline_schemas::Value;

pub use registry::{Registry, SchemaError, install};

use crate::error::EvalError;

/// The largest payload that is decoded, and the largest that encoding may give. As text it is an honest document; as tightly
/// packed numbers it becomes some fifty times as much in memory.
pub(crate) const BYTES_MAX: usize = 1 << 20;
/// How deep values may nest: above any honest document, below what endangers the stack.
pub(crate) const DEPTH_MAX: usize = 64;
/// How many values one document may have.
pub(crate) const VALUES_MAX: usize = 1 << 20;

/// A schema, compiled.
#[derive(Debug)]
pub struct Schema {
    name: Box<str>,
    id: Option<u32>,
    codec: Codec,
}

#[derive(Debug)]
enum Codec {
    Avro(avro::Schema),
    Protobuf(protobuf::Schema),
    Json(json::Schema),
}

impl Schema {
    /// The name in the configuration.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kind, as the configuration names it.
    pub fn kind(&self) -> &'static str {
        match self.codec {
            Codec::Avro(_) => "avro",
            Codec::Protobuf(_) => "protobuf",
            Codec::Json(_) => "json",
        }
    }

    /// Whether it can be used with this message type, or with none.
    ///
    /// # Errors
    /// Where a protobuf schema has no such message, or several and none is named.
    pub fn check_message_type(&self, message_type: Option<&str>) -> Result<(), EvalError> {
        match &self.codec {
            Codec::Protobuf(schema) => self.named(schema.message(message_type).map(drop)),
            Codec::Avro(_) | Codec::Json(_) => Ok(()),
        }
    }

    /// The bytes of a value; text for JSON. A text in place of a record or message is read as JSON.
    ///
    /// # Errors
    /// Where the value is not as the schema says.
    pub fn encode(&self, value: &Value, message_type: Option<&str>) -> Result<Value, EvalError> {
        self.named(self.encode_body(value, message_type))
    }

    fn encode_body(&self, value: &Value, message_type: Option<&str>) -> Result<Value, EvalError> {
        let encoded = match &self.codec {
            Codec::Avro(schema) => Value::Bytes(schema.encode(&*document(value, schema.is_structured())?)?.into()),
            Codec::Protobuf(schema) => Value::Bytes(schema.encode(&*document(value, true)?, message_type)?.into()),
            Codec::Json(schema) => Value::Text(schema.encode(value)?.into()),
        };
        within(encoded.as_bytes().unwrap_or_default())?;
        Ok(encoded)
    }

    /// The value of a payload.
    ///
    /// # Errors
    /// Where the payload is not as the schema says.
    pub fn decode(&self, payload: &Value, message_type: Option<&str>) -> Result<Value, EvalError> {
        self.named(payload_bytes(payload).and_then(|bytes| self.decode_body(&bytes, message_type)))
    }

    fn decode_body(&self, bytes: &Bytes, message_type: Option<&str>) -> Result<Value, EvalError> {
        within(bytes)?;
        match &self.codec {
            Codec::Avro(schema) => schema.decode(bytes),
            Codec::Protobuf(schema) => schema.decode(bytes, message_type),
            Codec::Json(schema) => schema.decode(bytes),
        }
    }

    /// Whether a payload can be decoded, or any other value encoded.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, data: &Value, message_type: Option<&str>) -> Result<(), EvalError> {
        let checked = if data.as_bytes().is_some() { self.decode(data, message_type) } else { self.encode(data, message_type) };
        checked.map(drop)
    }

    fn named<T>(&self, result: Result<T, EvalError>) -> Result<T, EvalError> {
        result.map_err(|error| EvalError::new(format!("schema \"{}\": {error}", self.name)))
    }
}

/// The bytes of a payload, not copied where it has them.
fn payload_bytes(payload: &Value) -> Result<Bytes, EvalError> {
    match payload {
        Value::Bytes(bytes) => Ok(bytes.clone()),
        Value::Text(text) => Ok(Bytes::copy_from_slice(text.as_bytes())),
        other => Err(EvalError::new(format!("expected bytes, found {}", other.type_name()))),
    }
}

/// The value to encode: where a text or bytes stand for something structured, the JSON document in them.
fn document(value: &Value, is_structured: bool) -> Result<Cow<'_, Value>, EvalError> {
    match value.as_bytes() {
        Some(text) if is_structured => {
            within(text)?;
            let json: serde_json::Value =
                serde_json::from_slice(text).map_err(|error| EvalError::new(format!("expected a map or JSON: {error}")))?;
            Ok(Cow::Owned(Value::from_json(json)))
        }
        _ => Ok(Cow::Borrowed(value)),
    }
}

fn within(bytes: &[u8]) -> Result<(), EvalError> {
    if bytes.len() <= BYTES_MAX {
        return Ok(());
    }
    Err(EvalError::new(format!("{} bytes are more than schemas are used on; {BYTES_MAX} are the most", bytes.len())))
}

/// One step down into a value.
fn deeper(depth: usize) -> Result<usize, EvalError> {
    if depth < DEPTH_MAX { Ok(depth + 1) } else { Err(EvalError::new(format!("nested deeper than {DEPTH_MAX} levels"))) }
}

/// An error within a field.
fn in_field(field: &str, error: &EvalError) -> EvalError {
    EvalError::new(format!("{field}: {error}"))
}

fn expected(what: &str, found: &Value) -> EvalError {
    EvalError::new(format!("expected {what}, found {}", found.type_name()))
}

/// The whole number that a value is.
fn integer(value: &Value) -> Result<i64, EvalError> {
    /// Up to here floats hold every integer.
    const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Int(int) => Ok(*int),
        Value::Float(float) if float.fract() == 0.0 && float.abs() <= EXACT_MAX => Ok(*float as i64),
        other => Err(expected("an integer", other)),
    }
}

fn float(value: &Value) -> Result<f64, EvalError> {
    match value {
        Value::Int(int) => Ok(*int as f64),
        Value::Float(float) => Ok(*float),
        other => Err(expected("a number", other)),
    }
}

fn boolean(value: &Value) -> Result<bool, EvalError> {
    match value {
        Value::Bool(b) => Ok(*b),
        other => Err(expected("a boolean", other)),
    }
}

fn text(value: &Value) -> Result<&str, EvalError> {
    value.as_text().ok_or_else(|| expected("a string", value))
}
