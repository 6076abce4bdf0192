//! From a value of a row to a parameter of the type that the statement has in its place. Pure.

use std::error::Error;

use bytes::BytesMut;
use hookline_schemas::Value;
use jiff::Timestamp;
use tokio_postgres::types::{Format, IsNull, Kind, ToSql, Type, to_sql_checked};

/// A value that goes to the server as whatever the statement wants, as far as that makes sense.
#[derive(Debug)]
pub(super) struct Parameter(pub(super) Value);

impl ToSql for Parameter {
    fn to_sql(&self, ty: &Type, out: &mut BytesMut) -> Result<IsNull, Box<dyn Error + Sync + Send>> {
        let value = &self.0;
        if value.is_null() {
            return Ok(IsNull::Yes);
        }
        // Arrays of rows are bound as JSON.
        let parsed = value.as_text().filter(|_| matches!(ty.kind(), Kind::Array(_))).and_then(|text| serde_json::from_str(text).ok());
        let parsed = parsed.map(Value::from_json);
        let value = parsed.as_ref().unwrap_or(value);
        if let (Kind::Array(_), Value::Array(items), true) = (ty.kind(), value, is_binary(ty)) {
            return items.iter().cloned().map(Parameter).collect::<Vec<_>>().to_sql(ty, out);
        }
        match *ty {
            Type::BOOL => boolean(value)?.to_sql(ty, out),
            Type::INT2 => i16::try_from(integer(value, ty)?)?.to_sql(ty, out),
            Type::INT4 => i32::try_from(integer(value, ty)?)?.to_sql(ty, out),
            Type::INT8 => integer(value, ty)?.to_sql(ty, out),
            Type::FLOAT4 => (float(value)? as f32).to_sql(ty, out),
            Type::FLOAT8 => float(value)?.to_sql(ty, out),
            Type::BYTEA => match value.as_bytes() {
                Some(bytes) => bytes.to_sql(ty, out),
                None => value.to_string().as_bytes().to_sql(ty, out),
            },
            Type::JSON | Type::JSONB => json(value).to_sql(ty, out),
            Type::TIMESTAMPTZ => time(value)?.to_sql(ty, out),
            Type::TIMESTAMP => time(value)?.to_zoned(jiff::tz::TimeZone::UTC).datetime().to_sql(ty, out),
            _ => {
                let text = match value {
                    Value::Array(items) if matches!(ty.kind(), Kind::Array(_)) => array(items)?,
                    other => text(other)?,
                };
                out.extend_from_slice(text.as_bytes());
                Ok(IsNull::No)
            }
        }
    }

    fn accepts(_: &Type) -> bool {
        true
    }

    /// What has no form of its own here goes as text, which the server reads: numeric, uuid, inet, dates, enumerations and whatever extensions bring.
    fn encode_format(&self, ty: &Type) -> Format {
        if is_binary(ty) { Format::Binary } else { Format::Text }
    }

    to_sql_checked!();
}

/// Whether values of the type have a binary form here.
pub(super) fn is_binary(ty: &Type) -> bool {
    if let Kind::Array(inner) = ty.kind() {
        return is_binary(inner);
    }
    let numbers = [Type::BOOL, Type::INT2, Type::INT4, Type::INT8, Type::FLOAT4, Type::FLOAT8];
    let others = [Type::BYTEA, Type::JSON, Type::JSONB, Type::TIMESTAMPTZ, Type::TIMESTAMP];
    let texts = [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME, Type::UNKNOWN];
    numbers.contains(ty) || others.contains(ty) || texts.contains(ty)
}

/// An array in the server's text form.
fn array(items: &[Value]) -> Result<String, Box<dyn Error + Sync + Send>> {
    let element = |item: &Value| match item {
        Value::Undefined | Value::Null => Ok("NULL".to_owned()),
        Value::Array(items) => array(items),
        other => text(other).map(|text| format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))),
    };
    let elements = items.iter().map(element).collect::<Result<Vec<_>, _>>()?;
    Ok(format!("{{{}}}", elements.join(",")))
}

fn cannot(value: &Value, what: &str) -> Box<dyn Error + Sync + Send> {
    format!("{} \"{value}\" is no {what}", value.type_name()).into()
}

fn boolean(value: &Value) -> Result<bool, Box<dyn Error + Sync + Send>> {
    match (value, value.as_text()) {
        (Value::Bool(b), _) => Ok(*b),
        (_, Some("true")) => Ok(true),
        (_, Some("false")) => Ok(false),
        _ => Err(cannot(value, "boolean")),
    }
}

fn integer(value: &Value, ty: &Type) -> Result<i64, Box<dyn Error + Sync + Send>> {
    match value {
        Value::Int(int) => Ok(*int),
        Value::Bool(b) => Ok((*b).into()),
        Value::Float(float) if float.fract() == 0.0 && float.abs() < 9e18 => Ok(*float as i64),
        _ => value.as_text().and_then(|text| text.trim().parse().ok()).ok_or_else(|| cannot(value, ty.name())),
    }
}

fn float(value: &Value) -> Result<f64, Box<dyn Error + Sync + Send>> {
    match value {
        Value::Int(int) => Ok(*int as f64),
        Value::Float(float) => Ok(*float),
        _ => value.as_text().and_then(|text| text.trim().parse().ok()).ok_or_else(|| cannot(value, "number")),
    }
}

fn json(value: &Value) -> serde_json::Value {
    match value.as_text() {
        Some(text) => serde_json::from_str(text).unwrap_or_else(|_| text.into()),
        None => value.to_json(),
    }
}

/// Integers are milliseconds since the Unix epoch, texts RFC 3339.
fn time(value: &Value) -> Result<Timestamp, Box<dyn Error + Sync + Send>> {
    match value {
        Value::Int(ms) => Ok(Timestamp::from_millisecond(*ms)?),
        _ => value.as_text().and_then(|text| text.parse().ok()).ok_or_else(|| cannot(value, "time")),
    }
}

fn text(value: &Value) -> Result<String, Box<dyn Error + Sync + Send>> {
    match value {
        Value::Bytes(bytes) => Ok(std::str::from_utf8(bytes).map_err(|_| "bytes are no UTF-8 text")?.to_owned()),
        other => Ok(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_fit_the_types_of_the_statement() {
        let mut out = BytesMut::new();
        let mut fits = |value: Value, ty: Type| Parameter(value).to_sql(&ty, &mut out).is_ok();
        assert!(fits(Value::Int(5), Type::INT2) && fits(Value::Int(5), Type::TEXT) && fits(Value::Undefined, Type::INT4));
        assert!(fits(Value::text("7"), Type::INT8) && fits(Value::Int(1_700_000_000_123), Type::TIMESTAMPTZ));
        assert!(fits(Value::text("2023-11-14T22:13:20Z"), Type::TIMESTAMPTZ) && fits(Value::Bool(true), Type::BOOL));
        assert!(!fits(Value::Int(70_000), Type::INT2) && !fits(Value::text("x"), Type::INT4) && !fits(Value::text("x"), Type::TIMESTAMPTZ));
        assert!(!fits(Value::Bytes(vec![0xff].into()), Type::TEXT));
    }
}
