//! Functions of time: timestamps since 1970 in a unit, and RFC 3339.

use hookline_schemas::{Map, Value};
use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

use super::argument::{beyond, choice, int, text};
use super::date::offset_text;
use super::{Function, pure, varying};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    varying(
        "now_timestamp",
        0..=1,
        now_timestamp,
        "The time since 1970 in seconds, or in 'millisecond', 'microsecond' or 'nanosecond'.",
        ("is_int(now_timestamp('millisecond'))", "true"),
    ),
    varying("timestamp_s", 0..=0, timestamp_s, "The time since 1970 in seconds.", ("is_int(timestamp_s())", "true")),
    varying("timestamp_ms", 0..=0, timestamp_ms, "The time since 1970 in milliseconds.", ("is_int(timestamp_ms())", "true")),
    varying(
        "now_rfc3339",
        0..=1,
        now_rfc3339,
        "The local time as RFC 3339, to the second or to a smaller unit.",
        ("is_int(rfc3339_to_unix_ts(now_rfc3339()))", "true"),
    ),
    pure(
        "unix_ts_to_rfc3339",
        1..=2,
        unix_ts_to_rfc3339,
        "A time since 1970, in seconds or another unit, as RFC 3339 in local time.",
        ("rfc3339_to_unix_ts(unix_ts_to_rfc3339(1700000000))", "1700000000"),
    ),
    pure(
        "rfc3339_to_unix_ts",
        1..=2,
        rfc3339_to_unix_ts,
        "The time since 1970 of an RFC 3339 text, in seconds or another unit.",
        ("rfc3339_to_unix_ts('2023-11-14T22:13:20Z')", "1700000000"),
    ),
    varying(
        "mongo_date",
        0..=2,
        mongo_date,
        "A time since 1970, in milliseconds or another unit, or now, as a date for MongoDB.",
        ("mongo_date(1700000000123)", r#"{"$date":"2023-11-14T22:13:20.123Z"}"#),
    ),
];

/// A unit of time.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    nanoseconds: i128,
    /// Digits that it has behind the second.
    digits: usize,
}

const SECOND: Unit = Unit { nanoseconds: 1_000_000_000, digits: 0 };
const MILLISECOND: Unit = Unit { nanoseconds: 1_000_000, digits: 3 };
const UNITS: &[(&str, Unit)] = &[
    ("second", SECOND),
    ("millisecond", MILLISECOND),
    ("microsecond", Unit { nanoseconds: 1000, digits: 6 }),
    ("nanosecond", Unit { nanoseconds: 1, digits: 9 }),
];

impl Unit {
    pub(super) fn of(word: &Value) -> Result<Unit, EvalError> {
        choice(word, UNITS)
    }

    /// The unit of an argument that may be left out.
    fn or(argument: Option<&Value>, default: Unit) -> Result<Unit, EvalError> {
        argument.map_or(Ok(default), Unit::of)
    }

    /// How many of it have gone by since 1970.
    pub(super) fn count(self, time: Timestamp) -> Result<Value, EvalError> {
        let count = time.as_nanosecond().div_euclid(self.nanoseconds);
        i64::try_from(count).map(Value::Int).map_err(|_| beyond())
    }

    /// The time that is so many of it after 1970.
    pub(super) fn time(self, count: i64) -> Result<Timestamp, EvalError> {
        let time = Timestamp::from_nanosecond(i128::from(count) * self.nanoseconds);
        time.map_err(|_| EvalError::new("the time is out of range"))
    }
}

fn now_timestamp(args: &[Value]) -> Result<Value, EvalError> {
    Unit::or(args.first(), SECOND)?.count(Timestamp::now())
}

fn timestamp_s(_: &[Value]) -> Result<Value, EvalError> {
    SECOND.count(Timestamp::now())
}

fn timestamp_ms(_: &[Value]) -> Result<Value, EvalError> {
    MILLISECOND.count(Timestamp::now())
}

fn now_rfc3339(args: &[Value]) -> Result<Value, EvalError> {
    Ok(local(Timestamp::now(), Unit::or(args.first(), SECOND)?))
}

fn unix_ts_to_rfc3339(args: &[Value]) -> Result<Value, EvalError> {
    let unit = Unit::or(args.get(1), SECOND)?;
    Ok(local(unit.time(int(&args[0])?)?, unit))
}

fn rfc3339_to_unix_ts(args: &[Value]) -> Result<Value, EvalError> {
    let time = text(&args[0])?.parse::<Timestamp>();
    let time = time.map_err(|error| EvalError::new(format!("no RFC 3339 time: {error}")))?;
    Unit::or(args.get(1), SECOND)?.count(time)
}

/// A map that sinks for MongoDB write as a date, in the notation of its extended JSON.
fn mongo_date(args: &[Value]) -> Result<Value, EvalError> {
    let unit = Unit::or(args.get(1), MILLISECOND)?;
    let time = args.first().map_or_else(|| Ok(Timestamp::now()), |count| unit.time(int(count)?))?;
    let mut date = Map::new();
    date.push_new("$date", Value::text(&(rfc3339(time, Offset::UTC, MILLISECOND.digits) + "Z")));
    Ok(Value::Map(date))
}

fn local(time: Timestamp, unit: Unit) -> Value {
    let offset = TimeZone::system().to_offset(time);
    Value::text(&(rfc3339(time, offset, unit.digits) + &offset_text(offset, ":")))
}

/// The time as RFC 3339 without its offset.
fn rfc3339(time: Timestamp, offset: Offset, digits: usize) -> String {
    let date = offset.to_datetime(time);
    let fraction = format!("{:09}", date.subsec_nanosecond());
    let point = if digits > 0 { "." } else { "" };
    format!(
        "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{point}{}",
        date.year(),
        date.month(),
        date.day(),
        date.hour(),
        date.minute(),
        date.second(),
        &fraction[..digits]
    )
}
