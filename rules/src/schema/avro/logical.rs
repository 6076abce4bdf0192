//! Logical types: decimals, UUIDs, dates and durations, in the form that values have for them.

use hookline_schemas::{Map, Value};
use jiff::Timestamp;
use jiff::civil::{Date, date};

use super::types::{Decimal, Unit};
use crate::error::EvalError;
use crate::schema::{expected, integer};

/// The bytes of a decimal: two's complement, the first byte first.
pub(super) fn decimal_bytes(value: &Value, decimal: Decimal) -> Result<Vec<u8>, EvalError> {
    let unscaled = match value {
        Value::Int(int) => unscaled(&int.to_string(), decimal),
        // Displayed without an exponent, with no more digits than tell it from its neighbours.
        Value::Float(float) => unscaled(&float.to_string(), decimal),
        other => unscaled(other.as_text().ok_or_else(|| expected("a number or its text", other))?, decimal),
    };
    let unscaled = unscaled.ok_or_else(|| {
        EvalError::new(format!("{value} is no number of {} digits, {} behind the point", decimal.precision, decimal.scale))
    })?;
    let bytes = unscaled.to_be_bytes();
    let sign = if unscaled < 0 { 0xff } else { 0 };
    let Some(size) = decimal.size else {
        // Without bytes at the front that say nothing: those that only repeat the sign.
        let redundant = bytes.windows(2).take_while(|pair| pair[0] == sign && (pair[1] ^ sign) & 0x80 == 0).count();
        return Ok(bytes[redundant..].to_vec());
    };
    if size >= bytes.len() {
        let mut padded = vec![sign; size - bytes.len()];
        padded.extend_from_slice(&bytes);
        return Ok(padded);
    }
    let (front, rest) = bytes.split_at(bytes.len() - size);
    let fits = front.iter().all(|byte| *byte == sign) && rest.first().is_some_and(|byte| (byte ^ sign) & 0x80 == 0);
    if fits { Ok(rest.to_vec()) } else { Err(EvalError::new(format!("{value} does not fit into {size} bytes"))) }
}

/// The integer that a decimal text is without its point; `None` where digits would be lost.
fn unscaled(text: &str, decimal: Decimal) -> Option<i128> {
    let (is_negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let is_number = !digits.is_empty() && digits != "." && whole.bytes().chain(fraction.bytes()).all(|byte| byte.is_ascii_digit());
    let fraction = fraction.trim_end_matches('0');
    let whole = whole.trim_start_matches('0');
    if !is_number || fraction.len() > decimal.scale || whole.len() + decimal.scale > decimal.precision {
        return None;
    }
    let joined = format!("0{whole}{fraction:0<width$}", width = decimal.scale);
    let magnitude: i128 = joined.parse().ok()?;
    Some(if is_negative { -magnitude } else { magnitude })
}

/// A decimal as text, with all digits of its scale.
pub(super) fn decimal_value(bytes: &[u8], decimal: Decimal) -> Result<Value, EvalError> {
    let sign = if bytes.first().is_some_and(|byte| byte & 0x80 != 0) { 0xff } else { 0 };
    let redundant = bytes.len().saturating_sub(16);
    let (front, rest) = bytes.split_at(redundant);
    let fits = front.iter().all(|byte| *byte == sign) && rest.first().is_none_or(|byte| (byte ^ sign) & 0x80 == 0);
    if !fits {
        return Err(EvalError::new("a decimal is beyond 128 bits"));
    }
    let mut whole = [sign; 16];
    whole[16 - rest.len()..].copy_from_slice(rest);
    let unscaled = i128::from_be_bytes(whole);
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = decimal.scale + 1);
    let (whole, fraction) = digits.split_at(digits.len() - decimal.scale);
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if fraction.is_empty() { "" } else { "." };
    Ok(Value::Text(format!("{sign}{whole}{point}{fraction}").into()))
}

/// The bytes of a UUID in its usual form.
pub(super) fn uuid_bytes(text: &str) -> Result<[u8; 16], EvalError> {
    let wrong = || EvalError::new(format!("\"{text}\" is no UUID"));
    let is_form = text.len() == 36 && text.bytes().enumerate().all(|(at, byte)| (byte == b'-') == matches!(at, 8 | 13 | 18 | 23));
    let digits = text.replace('-', "");
    if !is_form || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(wrong());
    }
    u128::from_str_radix(&digits, 16).map(u128::to_be_bytes).map_err(|_| wrong())
}

/// A UUID in its usual form.
pub(super) fn uuid_text(bytes: &[u8; 16]) -> String {
    let digits = format!("{:032x}", u128::from_be_bytes(*bytes));
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// Days since 1970 of a number or of a text such as `2026-11-27`.
pub(super) fn days(value: &Value) -> Result<i64, EvalError> {
    const EPOCH: Date = date(1970, 1, 1);
    let Some(text) = value.as_text() else { return integer(value) };
    let day: Date = text.parse().map_err(|_| EvalError::new(format!("\"{text}\" is no date such as 2026-11-27")))?;
    Ok(day.duration_since(EPOCH).as_hours() / 24)
}

/// The time since 1970 of a number or of a text such as `2026-11-27T12:00:00Z`.
pub(super) fn timestamp(value: &Value, unit: Unit) -> Result<i64, EvalError> {
    let Some(text) = value.as_text() else { return integer(value) };
    let time: Timestamp = text.parse().map_err(|_| EvalError::new(format!("\"{text}\" is no time such as 2026-11-27T12:00:00Z")))?;
    match unit {
        Unit::Millis => Ok(time.as_millisecond()),
        Unit::Micros => Ok(time.as_microsecond()),
        Unit::Nanos => i64::try_from(time.as_nanosecond()).map_err(|_| EvalError::new(format!("{text} is beyond 64 bits of nanoseconds"))),
    }
}

/// The parts of a duration, in their order on the wire.
const DURATION: [&str; 3] = ["months", "days", "millis"];

/// A duration from a map of its parts.
pub(super) fn duration_bytes(value: &Value) -> Result<[u8; 12], EvalError> {
    let Value::Map(map) = value else { return Err(expected("a map of months, days and millis", value)) };
    let mut bytes = [0; 12];
    for (name, place) in DURATION.iter().zip(bytes.chunks_exact_mut(4)) {
        let number = map.get(name).map_or(Ok(0), integer)?;
        let number = u32::try_from(number).map_err(|_| EvalError::new(format!("{name}: {number} is beyond 32 bits")))?;
        place.copy_from_slice(&number.to_le_bytes());
    }
    Ok(bytes)
}

/// A duration as a map of its parts.
pub(super) fn duration_value(bytes: [u8; 12]) -> Value {
    let mut map = Map::new();
    for (name, place) in DURATION.iter().zip(bytes.chunks_exact(4)) {
        let number = place.iter().rev().fold(0, |number, byte| number << 8 | i64::from(*byte));
        map.push_new(name, Value::Int(number));
    }
    Value::Map(map)
}
