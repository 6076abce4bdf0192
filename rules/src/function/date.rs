//! Dates by a format: `%Y %m %d %H %M %S`, the fraction of the second `%N %3N %6N`, the offset `%z %:z %::z`. Everything else stands
//! for itself.

use hookline_schemas::Value;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};

use super::argument::{bounded, int, text, within, wrong};
use super::time::Unit;
use super::{Function, pure, varying};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    varying(
        "format_date",
        3..=4,
        format_date,
        "A time (unit, offset, format, time since 1970 or now) as text; the offset is 'Z', '+08:00', 'local' or seconds.",
        ("format_date('second', '+08:00', '%Y-%m-%d %H:%M:%S%z', 1700000000)", r#""2023-11-15 06:13:20+0800""#),
    ),
    pure(
        "date_to_unix_ts",
        3..=4,
        date_to_unix_ts,
        "The time since 1970 that a text tells (unit, offset if not UTC, format, text).",
        ("date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S', '2023-11-14 22:13:20')", "1700000000"),
    ),
    varying(
        "timezone_to_offset_seconds",
        1..=1,
        timezone_to_offset_seconds,
        "The seconds of an offset from UTC.",
        ("timezone_to_offset_seconds('+08:00')", "28800"),
    ),
    varying(
        "timezone_to_second",
        1..=1,
        timezone_to_offset_seconds,
        "As timezone_to_offset_seconds.",
        ("timezone_to_second('-0230')", "-9000"),
    ),
];

/// A part of a format.
enum Part {
    Char(char),
    Field(Field),
}

#[derive(Clone, Copy)]
enum Field {
    Year,
    Month,
    Day,
    Hour,
    Minute,
    Second,
    /// So many digits of the second's fraction.
    Fraction(usize),
    /// With what is between hours and minutes, and whether seconds are written, too.
    Offset(&'static str, Seconds),
}

#[derive(Clone, Copy)]
enum Seconds {
    Written,
    Left,
}

const FIELDS: &[(&str, Field)] = &[
    ("%Y", Field::Year),
    ("%m", Field::Month),
    ("%d", Field::Day),
    ("%H", Field::Hour),
    ("%M", Field::Minute),
    ("%S", Field::Second),
    ("%N", Field::Fraction(9)),
    ("%3N", Field::Fraction(3)),
    ("%6N", Field::Fraction(6)),
    ("%9N", Field::Fraction(9)),
    ("%z", Field::Offset("", Seconds::Left)),
    ("%:z", Field::Offset(":", Seconds::Left)),
    ("%::z", Field::Offset(":", Seconds::Written)),
];

fn parts(format: &str) -> Vec<Part> {
    let mut parts = Vec::new();
    let mut rest = format;
    while let Some(first) = rest.chars().next() {
        match FIELDS.iter().find_map(|(name, field)| Some((rest.strip_prefix(name)?, *field))) {
            Some((after, field)) => {
                parts.push(Part::Field(field));
                rest = after;
            }
            None => {
                parts.push(Part::Char(first));
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    parts
}

/// Where the clock is that a date is of.
#[derive(Clone, Copy)]
enum Zone {
    Fixed(Offset),
    Local,
}

impl Zone {
    fn of(value: &Value) -> Result<Zone, EvalError> {
        if value.as_text() == Some("local") {
            return Ok(Zone::Local);
        }
        let seconds = match value {
            Value::Int(seconds) => i32::try_from(*seconds).ok(),
            other => match text(other)? {
                "Z" | "z" => Some(0),
                offset => offset_seconds(offset).filter(|(_, rest)| rest.is_empty()).map(|(seconds, _)| seconds),
            },
        };
        let offset = seconds.and_then(|seconds| Offset::from_seconds(seconds).ok());
        offset
            .map(Zone::Fixed)
            .ok_or_else(|| EvalError::new(format!("\"{value}\" is no offset; expected such as 'Z', '+08:00' or 'local'")))
    }

    fn offset(self, time: Timestamp) -> Offset {
        match self {
            Zone::Fixed(offset) => offset,
            Zone::Local => TimeZone::system().to_offset(time),
        }
    }

    fn time(self, date: DateTime) -> Result<Timestamp, EvalError> {
        let time = match self {
            Zone::Fixed(offset) => offset.to_timestamp(date),
            Zone::Local => TimeZone::system().to_timestamp(date),
        };
        time.map_err(|_| EvalError::new("the date is out of range"))
    }
}

fn format_date(args: &[Value]) -> Result<Value, EvalError> {
    let (unit, zone) = (Unit::of(&args[0])?, Zone::of(&args[1])?);
    let parts = parts(text(&args[2])?);
    let time = args.get(3).map_or_else(|| Ok(Timestamp::now()), |count| unit.time(int(count)?))?;
    let offset = zone.offset(time);
    let date = offset.to_datetime(time);
    let mut out = String::new();
    for part in parts {
        match part {
            Part::Char(c) => out.push(c),
            Part::Field(field) => out.push_str(&written(field, date, offset)),
        }
        within(out.len())?;
    }
    bounded(out)
}

fn written(field: Field, date: DateTime, offset: Offset) -> String {
    match field {
        Field::Year => format!("{:04}", date.year()),
        Field::Month => format!("{:02}", date.month()),
        Field::Day => format!("{:02}", date.day()),
        Field::Hour => format!("{:02}", date.hour()),
        Field::Minute => format!("{:02}", date.minute()),
        Field::Second => format!("{:02}", date.second()),
        Field::Fraction(digits) => format!("{:09}", date.subsec_nanosecond())[..digits].to_owned(),
        Field::Offset(separator, Seconds::Left) => offset_text(offset, separator),
        Field::Offset(separator, Seconds::Written) => {
            format!("{}{separator}{:02}", offset_text(offset, separator), offset.seconds().unsigned_abs() % 60)
        }
    }
}

fn date_to_unix_ts(args: &[Value]) -> Result<Value, EvalError> {
    let unit = Unit::of(&args[0])?;
    let (zone, format, input) = match args {
        [_, zone, format, input] => (Zone::of(zone)?, format, input),
        [_, format, input] => (Zone::Fixed(Offset::UTC), format, input),
        _ => return Err(EvalError::new("expected a unit, a format and a text")),
    };
    let format = text(format)?;
    let wrong = || EvalError::new(format!("\"{input}\" is not of the form {format}"));
    let mut rest = text(input)?;
    let mut read = Read { zone, ..Read::default() };
    for part in parts(format) {
        rest = match part {
            Part::Char(c) => rest.strip_prefix(c),
            Part::Field(field) => read.field(field, rest),
        }
        .ok_or_else(wrong)?;
    }
    if !rest.is_empty() {
        return Err(wrong());
    }
    unit.count(read.zone.time(read.date()?)?)
}

/// What was read of a date so far; what a format leaves out is the beginning of 1970.
struct Read {
    year: i16,
    month: i8,
    day: i8,
    hour: i8,
    minute: i8,
    second: i8,
    nanosecond: i32,
    zone: Zone,
}

impl Default for Read {
    fn default() -> Self {
        Read { year: 1970, month: 1, day: 1, hour: 0, minute: 0, second: 0, nanosecond: 0, zone: Zone::Fixed(Offset::UTC) }
    }
}

impl Read {
    /// Takes a field from the beginning of a text, and gives the rest; `None`: it is not there.
    fn field<'a>(&mut self, field: Field, input: &'a str) -> Option<&'a str> {
        let two = |slot: &mut i8| {
            let (number, rest) = digits(input, 2)?;
            *slot = i8::try_from(number).ok()?;
            Some(rest)
        };
        match field {
            Field::Year => {
                let (number, rest) = digits(input, 4)?;
                self.year = i16::try_from(number).ok()?;
                Some(rest)
            }
            Field::Month => two(&mut self.month),
            Field::Day => two(&mut self.day),
            Field::Hour => two(&mut self.hour),
            Field::Minute => two(&mut self.minute),
            Field::Second => two(&mut self.second),
            Field::Fraction(count) => {
                let (number, rest) = digits(input, count)?;
                self.nanosecond = number * 10i32.pow(9 - count as u32);
                Some(rest)
            }
            Field::Offset(..) => {
                let (seconds, rest) = match input.strip_prefix('Z') {
                    Some(rest) => (0, rest),
                    None => offset_seconds(input)?,
                };
                self.zone = Zone::Fixed(Offset::from_seconds(seconds).ok()?);
                Some(rest)
            }
        }
    }

    fn date(&self) -> Result<DateTime, EvalError> {
        let date = DateTime::new(self.year, self.month, self.day, self.hour, self.minute, self.second, self.nanosecond);
        date.map_err(|error| EvalError::new(format!("there is no such date: {error}")))
    }
}

/// A number of exactly so many digits (at most nine), and the rest.
fn digits(input: &str, count: usize) -> Option<(i32, &str)> {
    let number = input.get(..count).filter(|number| number.bytes().all(|b| b.is_ascii_digit()))?;
    Some((number.parse().ok()?, &input[count..]))
}

/// The seconds of an offset such as `+08:00`, `-0230` or `+01:00:00`, and the rest.
fn offset_seconds(input: &str) -> Option<(i32, &str)> {
    let (sign, rest) = match input.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, input.strip_prefix('+')?),
    };
    let (hours, mut rest) = digits(rest, 2)?;
    let mut seconds = hours * 3600;
    for unit in [60, 1] {
        let Some((number, after)) = digits(rest.strip_prefix(':').unwrap_or(rest), 2) else { break };
        seconds += number * unit;
        rest = after;
    }
    Some((sign * seconds, rest))
}

/// An offset to the minute, such as `+08:00`.
pub(super) fn offset_text(offset: Offset, separator: &str) -> String {
    let seconds = offset.seconds();
    let (sign, minutes) = (if seconds < 0 { '-' } else { '+' }, seconds.unsigned_abs() / 60);
    format!("{sign}{:02}{separator}{:02}", minutes / 60, minutes % 60)
}

fn timezone_to_offset_seconds(args: &[Value]) -> Result<Value, EvalError> {
    match &args[0] {
        zone @ (Value::Int(_) | Value::Text(_) | Value::Bytes(_)) => {
            Ok(Value::Int(Zone::of(zone)?.offset(Timestamp::now()).seconds().into()))
        }
        other => Err(wrong("an offset", other)),
    }
}
