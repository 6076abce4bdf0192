//! What a durable queue holds for an action: a row, in a compact binary form that keeps every type.

use bytes::Bytes;

use crate::{Map, TraceContext, Value};

/// The number of a durable queue: the home of a durable session or of an action. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct QueueId(pub u64);

/// One record on its way to a sink.
#[derive(Debug, Clone)]
pub struct Record {
    /// Its number in the queue: without gaps, in the order of arrival.
    pub sequence: u64,
    /// The same for ever, on every attempt and after every restart: `node:queue:position`. Sinks drop duplicates by it.
    pub hookline_id: String,
    /// What it takes in the store, bytes.
    pub bytes: u32,
    /// The row that the rule selected.
    pub row: Value,
    /// The span that it hands on, where its message was traced: the rule's, or that of its delivery once it is on its way.
    pub trace: Option<Box<TraceContext>>,
}

/// A row that cannot be read back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("record is damaged: {0}")]
pub struct RowError(&'static str);

/// How deep rows may nest: above any honest document, below what endangers the stack.
const DEPTH_MAX: usize = 256;
/// Says that a trace context stands before the row.
const TRACED: u8 = 10;

/// Appends the binary form of a row.
pub fn encode_row(out: &mut Vec<u8>, value: &Value) {
    match value {
        Value::Undefined => out.push(0),
        Value::Null => out.push(1),
        Value::Bool(b) => out.push(2 + u8::from(*b)),
        Value::Int(int) => {
            out.push(4);
            varint(out, ((int << 1) ^ (int >> 63)) as u64);
        }
        Value::Float(float) => {
            out.push(5);
            out.extend_from_slice(&float.to_bits().to_le_bytes());
        }
        Value::Text(text) => {
            out.push(6);
            bytes(out, text.as_bytes());
        }
        Value::Bytes(b) => {
            out.push(7);
            bytes(out, b);
        }
        Value::Array(items) => {
            out.push(8);
            varint(out, items.len() as u64);
            items.iter().for_each(|item| encode_row(out, item));
        }
        Value::Map(map) => {
            out.push(9);
            varint(out, map.len() as u64);
            for (key, value) in map.iter() {
                bytes(out, key.as_bytes());
                encode_row(out, value);
            }
        }
    }
}

/// Appends what a queue holds for an action: the row, behind the trace context where there is one.
pub fn encode_record(out: &mut Vec<u8>, trace: Option<&TraceContext>, row: &Value) {
    if let Some(trace) = trace {
        out.push(TRACED);
        trace.encode(out);
    }
    encode_row(out, row);
}

/// Reads back what a queue holds for an action.
pub fn decode_record(encoded: &Bytes) -> Result<(Option<Box<TraceContext>>, Value), RowError> {
    match encoded.split_first() {
        Some((&TRACED, rest)) => {
            let (trace, length) = TraceContext::decode(rest).ok_or(RowError("trace context ends too early"))?;
            Ok((Some(Box::new(trace)), decode_row(&encoded.slice(1 + length..))?))
        }
        _ => Ok((None, decode_row(encoded)?)),
    }
}

/// Reads a row back. Bytes values share the memory of `encoded`.
pub fn decode_row(encoded: &Bytes) -> Result<Value, RowError> {
    let mut reader = RowReader { encoded, at: 0 };
    let value = reader.value(DEPTH_MAX)?;
    if reader.at == encoded.len() { Ok(value) } else { Err(RowError("bytes behind the end")) }
}

fn bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    varint(out, bytes.len() as u64);
    out.extend_from_slice(bytes);
}

fn varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

struct RowReader<'a> {
    encoded: &'a Bytes,
    at: usize,
}

impl<'a> RowReader<'a> {
    fn value(&mut self, depth: usize) -> Result<Value, RowError> {
        let depth = depth.checked_sub(1).ok_or(RowError("nested too deeply"))?;
        Ok(match self.u8()? {
            0 => Value::Undefined,
            1 => Value::Null,
            2 => Value::Bool(false),
            3 => Value::Bool(true),
            4 => {
                let zigzag = self.varint()?;
                Value::Int((zigzag >> 1) as i64 ^ -((zigzag & 1) as i64))
            }
            5 => {
                let raw = self.take(8)?;
                Value::Float(f64::from_le_bytes(raw.try_into().expect("took eight bytes")))
            }
            6 => Value::Text(self.text()?.into()),
            7 => {
                let raw = self.length_and_bytes()?;
                Value::Bytes(self.encoded.slice_ref(raw))
            }
            8 => {
                let count = self.count()?;
                Value::Array((0..count).map(|_| self.value(depth)).collect::<Result<_, _>>()?)
            }
            9 => {
                let mut map = Map::new();
                for _ in 0..self.count()? {
                    let key = self.text()?;
                    let value = self.value(depth)?;
                    map.insert(key, value);
                }
                Value::Map(map)
            }
            _ => return Err(RowError("unknown type")),
        })
    }

    fn u8(&mut self) -> Result<u8, RowError> {
        let byte = *self.encoded.get(self.at).ok_or(RowError("ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    fn varint(&mut self) -> Result<u64, RowError> {
        let mut value = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.u8()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(RowError("number is too long"))
    }

    /// A count of elements, each of which takes a byte at least.
    fn count(&mut self) -> Result<usize, RowError> {
        let count = self.varint()? as usize;
        if count > self.encoded.len() - self.at { Err(RowError("ends too early")) } else { Ok(count) }
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], RowError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.encoded.len()).ok_or(RowError("ends too early"))?;
        let taken = &self.encoded[self.at..end];
        self.at = end;
        Ok(taken)
    }

    fn length_and_bytes(&mut self) -> Result<&'a [u8], RowError> {
        let count = self.varint()? as usize;
        self.take(count)
    }

    fn text(&mut self) -> Result<&'a str, RowError> {
        std::str::from_utf8(self.length_and_bytes()?).map_err(|_| RowError("text is not UTF-8"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_with_their_types() {
        let mut map = Map::new();
        map.insert("bytes", Value::Bytes(Bytes::from_static(&[0, 255])));
        map.insert("missing", Value::Undefined);
        map.insert("list", Value::Array(vec![Value::Int(i64::MIN), Value::Int(i64::MAX), Value::Float(1.0), Value::Null]));
        map.insert("ok", Value::Bool(true));
        let row = Value::Map(map);
        let mut encoded = Vec::new();
        encode_row(&mut encoded, &row);
        assert_eq!(decode_row(&encoded.clone().into()), Ok(row));
        for end in 0..encoded.len() {
            assert!(decode_row(&encoded[..end].to_vec().into()).is_err(), "cut at {end}");
        }
    }

    #[test]
    fn a_record_comes_back_with_its_trace_context() {
        let (trace, row) = (TraceContext::root(), Value::text("row"));
        let mut encoded = Vec::new();
        encode_record(&mut encoded, Some(&trace), &row);
        assert_eq!(decode_record(&encoded.clone().into()), Ok((Some(Box::new(trace)), row.clone())));
        for end in 0..encoded.len() {
            assert!(decode_record(&encoded[..end].to_vec().into()).is_err(), "cut at {end}");
        }
        let mut plain = Vec::new();
        encode_record(&mut plain, None, &row);
        assert_eq!(decode_record(&plain.into()), Ok((None, row)));
    }
}
