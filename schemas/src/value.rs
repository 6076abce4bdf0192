//! The values that rules compute with and sinks write: typed, with a missing value apart from JSON's null.

use bytes::Bytes;
use serde::{Serialize, Serializer};

/// A map in the order in which its keys were set. Rows are small, so a scan beats a hash.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Map(Vec<(Box<str>, Value)>);

/// One value.
#[derive(Debug, Clone, Default, PartialEq)]
pub enum Value {
    /// There is no such column or key. NULL in SQL, left out or null in JSON.
    #[default]
    Undefined,
    /// A JSON null.
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(Box<str>),
    /// Bytes that are not known to be text, such as a payload.
    Bytes(Bytes),
    Array(Vec<Value>),
    Map(Map),
}

impl Map {
    /// An empty map.
    pub fn new() -> Map {
        Map::default()
    }

    /// The value at `key`.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.0.iter().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }

    /// The values, to be changed.
    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut Value> {
        self.0.iter_mut().map(|(_, value)| value)
    }

    /// The value of a key, to be changed.
    pub fn get_mut(&mut self, key: &str) -> Option<&mut Value> {
        self.0.iter_mut().find(|(k, _)| &**k == key).map(|(_, v)| v)
    }

    /// Sets `key`; a key that is there keeps its place.
    pub fn insert(&mut self, key: &str, value: Value) {
        match self.get_mut(key) {
            Some(slot) => *slot = value,
            None => self.0.push((key.into(), value)),
        }
    }

    /// Adds a key that the caller knows to be new.
    pub fn push_new(&mut self, key: &str, value: Value) {
        debug_assert!(self.get(key).is_none(), "{key} is there already");
        self.0.push((key.into(), value));
    }

    /// Takes `key` out.
    pub fn remove(&mut self, key: &str) -> Option<Value> {
        let index = self.0.iter().position(|(k, _)| &**k == key)?;
        Some(self.0.remove(index).1)
    }

    /// Keys and values in their order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.0.iter().map(|(k, v)| (&**k, v))
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is no key.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Value {
    /// A text.
    pub fn text(text: &str) -> Value {
        Value::Text(text.into())
    }

    /// A text, or undefined where there is none.
    pub fn optional_text(text: Option<&str>) -> Value {
        text.map_or(Value::Undefined, Value::text)
    }

    /// An unsigned number; above the range of `i64` it saturates.
    pub fn unsigned(number: u64) -> Value {
        Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }

    /// The word for the type in error messages.
    pub const fn type_name(&self) -> &'static str {
        match self {
            Value::Undefined => "undefined",
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Int(_) => "integer",
            Value::Float(_) => "float",
            Value::Text(_) => "string",
            Value::Bytes(_) => "bytes",
            Value::Array(_) => "array",
            Value::Map(_) => "map",
        }
    }

    /// Undefined or JSON null.
    pub const fn is_null(&self) -> bool {
        matches!(self, Value::Undefined | Value::Null)
    }

    /// The text of a string, or of bytes that are UTF-8.
    pub fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) => Some(text),
            Value::Bytes(bytes) => std::str::from_utf8(bytes).ok(),
            _ => None,
        }
    }

    /// The bytes of a string or of bytes.
    pub fn as_bytes(&self) -> Option<&[u8]> {
        match self {
            Value::Text(text) => Some(text.as_bytes()),
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// Walks into maps; undefined where there is no such key.
    pub fn path<'a>(&'a self, path: impl IntoIterator<Item = &'a str>) -> &'a Value {
        const MISSING: &Value = &Value::Undefined;
        path.into_iter().fold(self, |value, key| match value {
            Value::Map(map) => map.get(key).unwrap_or(MISSING),
            _ => MISSING,
        })
    }

    /// The value of a JSON document; integers beyond `i64` become floats.
    pub fn from_json(json: serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(b) => Value::Bool(b),
            serde_json::Value::Number(n) => match (n.as_i64(), n.as_f64()) {
                (Some(int), _) => Value::Int(int),
                (None, Some(float)) => Value::Float(float),
                (None, None) => Value::Null,
            },
            serde_json::Value::String(text) => Value::Text(text.into_boxed_str()),
            serde_json::Value::Array(items) => Value::Array(items.into_iter().map(Value::from_json).collect()),
            serde_json::Value::Object(entries) => {
                // The parser has already made the keys unique.
                Value::Map(Map(entries.into_iter().map(|(k, v)| (k.into_boxed_str(), Value::from_json(v))).collect()))
            }
        }
    }

    /// The JSON document: undefined becomes null, in a map it is left out; bytes that are no UTF-8 become base64 behind
    /// the key `$base64`; a float that JSON cannot hold becomes null.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Undefined | Value::Null => serde_json::Value::Null,
            Value::Bool(b) => (*b).into(),
            Value::Int(int) => (*int).into(),
            Value::Float(float) => serde_json::Number::from_f64(*float).map_or(serde_json::Value::Null, Into::into),
            Value::Text(text) => (**text).into(),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => text.into(),
                Err(_) => serde_json::json!({ "$base64": base64(bytes) }),
            },
            Value::Array(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(map) => {
                let defined = map.iter().filter(|(_, v)| **v != Value::Undefined);
                serde_json::Value::Object(defined.map(|(k, v)| (k.to_owned(), v.to_json())).collect())
            }
        }
    }
}

impl Value {
    /// As [`Value::to_string`], without a detour where it is JSON.
    pub fn to_text(&self) -> String {
        match self {
            // Nothing of a value fails: keys are text, and a float that JSON cannot have is null.
            Value::Array(_) | Value::Map(_) => serde_json::to_string(self).unwrap_or_default(),
            other => other.to_string(),
        }
    }
}

impl std::fmt::Display for Value {
    /// The value as text: strings bare, maps and arrays as JSON, floats in their shortest form.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Value::Undefined => f.write_str("undefined"),
            Value::Null => f.write_str("null"),
            Value::Bool(b) => write!(f, "{b}"),
            Value::Int(int) => write!(f, "{int}"),
            Value::Float(float) => write!(f, "{float:?}"),
            Value::Text(text) => f.write_str(text),
            Value::Bytes(bytes) => f.write_str(&String::from_utf8_lossy(bytes)),
            Value::Array(_) | Value::Map(_) => f.write_str(&self.to_text()),
        }
    }
}

/// The same as [`Value::to_json`] makes, without making it.
impl Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Value::Undefined | Value::Null => serializer.serialize_unit(),
            Value::Bool(b) => serializer.serialize_bool(*b),
            Value::Int(int) => serializer.serialize_i64(*int),
            Value::Float(float) => serializer.serialize_f64(*float),
            Value::Text(text) => serializer.serialize_str(text),
            Value::Bytes(bytes) => match std::str::from_utf8(bytes) {
                Ok(text) => serializer.serialize_str(text),
                Err(_) => serializer.collect_map([("$base64", base64(bytes))]),
            },
            Value::Array(items) => serializer.collect_seq(items),
            Value::Map(map) => serializer.collect_map(map.iter().filter(|(_, value)| **value != Value::Undefined)),
        }
    }
}

fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut out = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let group = chunk.iter().enumerate().fold(0u32, |acc, (i, b)| acc | u32::from(*b) << (16 - 8 * i));
        for position in 0..4 {
            let sextet = (group >> (18 - 6 * position)) & 63;
            out.push(if position <= chunk.len() { char::from(ALPHABET[sextet as usize]) } else { '=' });
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_written_as_the_document_that_it_makes() {
        let mut inner = Map::new();
        inner.insert("missing", Value::Undefined);
        inner.insert("null", Value::Null);
        inner.insert("nan", Value::Float(f64::NAN));
        inner.insert("whole", Value::Float(3.0));
        inner.insert("small", Value::Float(1e-7));
        inner.insert("large", Value::Int(i64::MIN));
        inner.insert("quoted \"key\"", Value::Text("line\nü".into()));
        inner.insert("bytes", Value::Bytes(Bytes::from_static(b"\xff\x00")));
        inner.insert("payload", Value::Bytes(Bytes::from_static(b"text")));
        let value = Value::Array(vec![Value::Map(inner), Value::Undefined, Value::Bool(true)]);
        assert_eq!(value.to_string(), value.to_json().to_string());
        assert!(value.to_string().contains("\"$base64\":\"/wA=\""), "{value}");
    }
}
