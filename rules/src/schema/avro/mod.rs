//! Avro. The crate `apache-avro` reads schemas; data is read and written here, straight from and to values, because data comes
//! from strangers: what ends too early, goes on too long, nests too deeply or has too many values is an error.
//!
//! How types meet values:
//! - records and maps are maps, arrays are arrays, enums are the text of their symbol, fixed is bytes;
//! - a value of a union stands for itself. To write one, the nearest branch is taken, or the one that a map with a single key names;
//! - decimals are text, such as `12.50`: exact, and usable as a number. Numbers are taken, too, where no digit is lost;
//! - dates and times are the numbers on the wire: days, or milli-, micro- or nanoseconds. For dates and timestamps RFC 3339 text is
//!   taken, too;
//! - UUIDs are text, durations are a map of `months`, `days` and `millis`, big decimals stay bytes;
//! - a field that is missing has its default, or is null where it may be; keys that are no fields are left out.

/// Bytes to values.
mod decode;
/// The defaults of fields.
mod default;
/// Values to bytes.
mod encode;
/// Decimals, UUIDs, times.
mod logical;
/// Schemas, resolved.
mod types;

use bytes::Bytes;
use hookline_schemas::Value;

use self::types::Type;
use crate::error::EvalError;

/// A schema, its names resolved.
#[derive(Debug)]
pub(super) struct Schema {
    root: Type,
    /// The types that have names, for [`Type::Named`].
    named: Vec<Type>,
}

impl Schema {
    pub(super) fn compile(source: &str) -> Result<Schema, String> {
        let parsed = apache_avro::Schema::parse_str(source).map_err(|error| error.to_string())?;
        let mut schema = types::resolve(&parsed)?;
        schema.render_defaults()?;
        Ok(schema)
    }

    /// Whether its values are maps or arrays, never texts or bytes.
    pub(super) fn is_structured(&self) -> bool {
        matches!(self.resolve(&self.root), Type::Record(_) | Type::Map(_) | Type::Array(_) | Type::Duration)
    }

    pub(super) fn encode(&self, value: &Value) -> Result<Vec<u8>, EvalError> {
        let mut encoder = encode::Encoder::new(self);
        encoder.value(&self.root, value, 0)?;
        Ok(encoder.finish())
    }

    pub(super) fn decode(&self, bytes: &Bytes) -> Result<Value, EvalError> {
        let mut decoder = decode::Decoder::new(self, bytes);
        let value = decoder.value(&self.root, 0)?;
        decoder.finish().map(|()| value)
    }

    /// The type behind a name.
    fn resolve<'a>(&'a self, kind: &'a Type) -> &'a Type {
        match kind {
            Type::Named(index) => &self.named[*index],
            other => other,
        }
    }
}

#[cfg(test)]
mod tests;
