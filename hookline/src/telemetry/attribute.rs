//! Attributes, as OTLP has them.

use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue};

/// The longest text of an attribute, bytes: it bounds what waits.
const TEXT_BYTES_MAX: usize = 4096;

/// One attribute.
pub(super) fn attribute(key: &str, value: impl Into<Attribute>) -> KeyValue {
    let Attribute(value) = value.into();
    KeyValue { key: key.to_owned(), value: Some(AnyValue { value: Some(value) }), key_strindex: 0 }
}

/// A text as a value of its own, such as the body of a log record.
pub(super) fn text(text: &str) -> AnyValue {
    AnyValue { value: Some(Attribute::from(text).0) }
}

/// What sends it.
pub(super) fn scope() -> InstrumentationScope {
    InstrumentationScope { name: "hookline".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned(), ..InstrumentationScope::default() }
}

/// The value of an attribute.
pub(super) struct Attribute(Value);

impl From<&str> for Attribute {
    fn from(text: &str) -> Attribute {
        let end = (0..=TEXT_BYTES_MAX.min(text.len())).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        Attribute(Value::StringValue(text[..end].to_owned()))
    }
}

impl From<i64> for Attribute {
    fn from(number: i64) -> Attribute {
        Attribute(Value::IntValue(number))
    }
}

impl From<usize> for Attribute {
    fn from(number: usize) -> Attribute {
        i64::try_from(number).unwrap_or(i64::MAX).into()
    }
}

impl From<f64> for Attribute {
    fn from(number: f64) -> Attribute {
        Attribute(Value::DoubleValue(number))
    }
}

impl From<bool> for Attribute {
    fn from(flag: bool) -> Attribute {
        Attribute(Value::BoolValue(flag))
    }
}
