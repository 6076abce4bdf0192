//! Functions of time.

use hookline_schemas::Value;
use jiff::Timestamp;

use super::{int, text};
use crate::error::EvalError;

/// Nanoseconds of a unit, and the digits that it has behind the second.
fn unit(argument: Option<&Value>) -> Result<(i128, u8), EvalError> {
    match argument.map(text).transpose()? {
        None | Some("second") => Ok((1_000_000_000, 0)),
        Some("millisecond") => Ok((1_000_000, 3)),
        Some("microsecond") => Ok((1_000, 6)),
        Some("nanosecond") => Ok((1, 9)),
        Some(other) => {
            Err(EvalError::new(format!("\"{other}\" is no unit of time; there are second, millisecond, microsecond and nanosecond")))
        }
    }
}

fn rfc3339(time: Timestamp, digits: u8) -> Value {
    let printer = jiff::fmt::temporal::DateTimePrinter::new().precision(Some(digits));
    Value::text(&printer.timestamp_to_string(&time))
}

fn in_unit(time: Timestamp, nanoseconds: i128) -> Result<Value, EvalError> {
    let count = time.as_nanosecond().div_euclid(nanoseconds);
    i64::try_from(count).map(Value::Int).map_err(|_| EvalError::new("the time is beyond 64 bits"))
}

pub(super) fn now_timestamp(args: &[Value]) -> Result<Value, EvalError> {
    in_unit(Timestamp::now(), unit(args.first())?.0)
}

pub(super) fn now_rfc3339(args: &[Value]) -> Result<Value, EvalError> {
    Ok(rfc3339(Timestamp::now(), unit(args.first())?.1))
}

pub(super) fn unix_ts_to_rfc3339(args: &[Value]) -> Result<Value, EvalError> {
    let (nanoseconds, digits) = unit(args.get(1))?;
    let time = Timestamp::from_nanosecond(i128::from(int(&args[0])?) * nanoseconds);
    time.map(|time| rfc3339(time, digits)).map_err(|_| EvalError::new("the time is out of range"))
}

pub(super) fn rfc3339_to_unix_ts(args: &[Value]) -> Result<Value, EvalError> {
    let time = text(&args[0])?.parse::<Timestamp>();
    let time = time.map_err(|error| EvalError::new(format!("no RFC 3339 time: {error}")))?;
    in_unit(time, unit(args.get(1))?.0)
}
