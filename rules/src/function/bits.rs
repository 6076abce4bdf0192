//! Functions of the bits of integers and of bytes.

use hookline_schemas::Value;

use super::argument::{beyond, bytes, choice, count, int};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure("bitnot", 1..=1, bitnot, "The integer with all bits inverted.", ("bitnot(10)", "-11")),
    pure("bitand", 2..=2, bitand, "The bits that are set in both integers.", ("bitand(12, 10)", "8")),
    pure("bitor", 2..=2, bitor, "The bits that are set in either integer.", ("bitor(12, 10)", "14")),
    pure("bitxor", 2..=2, bitxor, "The bits that are set in one of the integers only.", ("bitxor(12, 10)", "6")),
    pure("bitsl", 2..=2, bitsl, "The integer shifted to the left by so many bits.", ("bitsl(1, 4)", "16")),
    pure("bitsr", 2..=2, bitsr, "The integer shifted to the right by so many bits; its sign stays.", ("bitsr(-9, 1)", "-5")),
    pure("bitsize", 1..=1, bitsize, "How many bits the bytes have.", ("bitsize('é')", "16")),
    pure("bytesize", 1..=1, bytesize, "How many bytes there are.", ("bytesize('é')", "2")),
    pure(
        "subbits",
        2..=6,
        subbits,
        "The first so many bits (length), or those from a place (from 1) on (start, length), as 'integer', 'float' or 'bits', 'unsigned' \
         or 'signed', 'big' or 'little'.",
        ("subbits('abc', 9, 16, 'integer', 'unsigned', 'big')", "25187"),
    ),
];

fn bitnot(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(!int(&args[0])?))
}

fn bitand(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(int(&args[0])? & int(&args[1])?))
}

fn bitor(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(int(&args[0])? | int(&args[1])?))
}

fn bitxor(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(int(&args[0])? ^ int(&args[1])?))
}

fn bitsl(args: &[Value]) -> Result<Value, EvalError> {
    shifted(int(&args[0])?, int(&args[1])?)
}

fn bitsr(args: &[Value]) -> Result<Value, EvalError> {
    shifted(int(&args[0])?, int(&args[1])?.saturating_neg())
}

/// Shifted to the left, or to the right by a negative number.
fn shifted(int: i64, by: i64) -> Result<Value, EvalError> {
    if by <= 0 {
        let by = by.unsigned_abs().min(63) as u32;
        return Ok(Value::Int(int >> by));
    }
    let result = match by {
        1..=63 => i128::from(int) << by,
        _ if int == 0 => 0,
        _ => return Err(beyond()),
    };
    i64::try_from(result).map(Value::Int).map_err(|_| beyond())
}

fn bitsize(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(bytes(&args[0])?.len() as i64 * 8))
}

fn bytesize(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(bytes(&args[0])?.len() as i64))
}

#[derive(Clone, Copy)]
enum Kind {
    Integer,
    Float,
    Bits,
}

#[derive(Clone, Copy, PartialEq)]
enum Order {
    Big,
    Little,
}

fn subbits(args: &[Value]) -> Result<Value, EvalError> {
    let data = bytes(&args[0])?;
    let (start, length) = match &args[1..] {
        [length] => (1, count(length)?),
        [start, length, ..] => (int(start)?, count(length)?),
        [] => return Err(EvalError::new("expected a length")),
    };
    let kind = args
        .get(3)
        .map_or(Ok(Kind::Integer), |kind| choice(kind, &[("integer", Kind::Integer), ("float", Kind::Float), ("bits", Kind::Bits)]))?;
    let is_signed = args.get(4).map_or(Ok(false), |sign| choice(sign, &[("unsigned", false), ("signed", true)]))?;
    let order = args.get(5).map_or(Ok(Order::Big), |order| choice(order, &[("big", Order::Big), ("little", Order::Little)]))?;
    let Some(begin) = usize::try_from(start).ok().and_then(|start| start.checked_sub(1)) else {
        return Err(EvalError::new(format!("places begin at 1, not at {start}")));
    };
    let size = data.len() * 8;
    if begin >= size {
        return Ok(Value::Undefined);
    }
    let field = Field { data, begin, length: length.min(size - begin) };
    match kind {
        Kind::Integer => field.integer(order, is_signed),
        Kind::Float => Ok(field.float(order)),
        Kind::Bits => Ok(field.bits()),
    }
}

/// A run of bits, within the data.
struct Field<'a> {
    data: &'a [u8],
    begin: usize,
    length: usize,
}

impl Field<'_> {
    /// At most eight bits from a place in the field on, as a number.
    fn group(&self, from: usize, bits: usize) -> u8 {
        (from..from + bits).fold(0, |group, place| {
            let place = self.begin + place;
            group << 1 | self.data[place / 8] >> (7 - place % 8) & 1
        })
    }

    /// All bits, which are at most 64.
    fn unsigned(&self, order: Order) -> u64 {
        let groups = (0..self.length).step_by(8).map(|from| (from, (self.length - from).min(8)));
        groups.fold(0, |number, (from, bits)| {
            let group = u64::from(self.group(from, bits));
            match order {
                Order::Big => number << bits | group,
                Order::Little => number | group << from,
            }
        })
    }

    fn integer(&self, order: Order, is_signed: bool) -> Result<Value, EvalError> {
        if self.length > 64 {
            return Err(EvalError::new(format!("an integer has at most 64 bits, not {}", self.length)));
        }
        if self.length == 0 {
            return Ok(Value::Int(0));
        }
        let number = self.unsigned(order);
        if is_signed {
            // Moved to the top and back, so that the first bit becomes the sign.
            let unused = 64 - self.length;
            return Ok(Value::Int((number << unused) as i64 >> unused));
        }
        i64::try_from(number).map(Value::Int).map_err(|_| beyond())
    }

    /// A float of 16, 32 or 64 bits; undefined where there is none.
    fn float(&self, order: Order) -> Value {
        let float = match self.length {
            16 => half(self.unsigned(order) as u16),
            32 => f32::from_bits(self.unsigned(order) as u32).into(),
            64 => f64::from_bits(self.unsigned(order)),
            _ => f64::NAN,
        };
        if float.is_finite() { Value::Float(float) } else { Value::Undefined }
    }

    /// The bits as bytes; the first byte is filled with zeros at its front.
    fn bits(&self) -> Value {
        let first = self.length % 8;
        let mut out = Vec::with_capacity(self.length.div_ceil(8));
        if first > 0 {
            out.push(self.group(0, first));
        }
        out.extend((first..self.length).step_by(8).map(|from| self.group(from, 8)));
        Value::Bytes(out.into())
    }
}

/// The value of a float of 16 bits.
fn half(bits: u16) -> f64 {
    let sign = if bits >> 15 == 0 { 1.0 } else { -1.0 };
    let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023) / 1024.0);
    match exponent {
        0 => sign * fraction * 2f64.powi(-14),
        31 => f64::NAN,
        _ => sign * (1.0 + fraction) * 2f64.powi(exponent - 15),
    }
}
