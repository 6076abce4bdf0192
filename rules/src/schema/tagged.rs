//! Messages that carry the number of their schema, in the form that Confluent's schema registry has given them: a zero byte, the
//! number in four bytes, for protobuf the place of the message type in its file, then the message.

use bytes::Bytes;
use hookline_schemas::Value;

use super::{Codec, Registry, Schema, payload_bytes};
use crate::error::EvalError;

const MAGIC: u8 = 0;
/// How deep message types may be defined in each other; the crate that reads schemas allows no more.
const PLACES_MAX: u64 = 32;

/// Encodes a value and puts the tag before it.
pub(super) fn encode(schema: &Schema, value: &Value, message_type: Option<&str>) -> Result<Value, EvalError> {
    let name = &schema.name;
    let id = schema.id.ok_or_else(|| EvalError::new(format!("schema \"{name}\" has no number; set schemas.{name}.id")))?;
    let mut tagged = vec![MAGIC];
    tagged.extend_from_slice(&id.to_be_bytes());
    if let Codec::Protobuf(protobuf) = &schema.codec {
        let places = protobuf.message(message_type).and_then(|message| protobuf.places_of(&message));
        write_places(&mut tagged, &schema.named(places)?);
    }
    let body = schema.encode(value, message_type)?;
    tagged.extend_from_slice(body.as_bytes().unwrap_or_default());
    Ok(Value::Bytes(tagged.into()))
}

/// Decodes a message by its tag. With `reader`, its value is given the form of that schema: other order, defaults for what is new.
pub(super) fn decode(registry: &Registry, payload: &Value, reader: Option<&Schema>) -> Result<Value, EvalError> {
    let bytes = payload_bytes(payload)?;
    let (Some(MAGIC), Some(id)) = (bytes.first().copied(), bytes.get(1..5)) else {
        return Err(EvalError::new("the message is not tagged: a zero byte and a number of four bytes come first"));
    };
    let id = id.iter().fold(0, |id, byte| id << 8 | u32::from(*byte));
    let schema = registry.by_id(id)?;
    let body = bytes.slice(5..);
    let decoded = schema.named(decode_body(schema, body))?;
    match reader {
        Some(reader) => reader.decode(&reader.encode(&decoded, None)?, None),
        None => Ok(decoded),
    }
}

fn decode_body(schema: &Schema, body: Bytes) -> Result<Value, EvalError> {
    let Codec::Protobuf(protobuf) = &schema.codec else { return schema.decode_body(&body, None) };
    super::within(&body)?;
    let mut at = 0;
    let places = read_places(&body, &mut at)?;
    protobuf.decode_as(protobuf.message_at(&places)?, &body.slice(at..))
}

/// A list of places: how many, then each; the first message of the file is a single zero.
fn write_places(out: &mut Vec<u8>, places: &[i32]) {
    if places == [0] {
        return out.push(0);
    }
    write_number(out, places.len() as u64);
    // Places are never negative.
    places.iter().for_each(|place| write_number(out, place.unsigned_abs().into()));
}

fn read_places(body: &[u8], at: &mut usize) -> Result<Vec<usize>, EvalError> {
    match read_number(body, at)? {
        0 => Ok(vec![0]),
        count if count <= PLACES_MAX => (0..count).map(|_| read_number(body, at).map(|place| place as usize)).collect(),
        _ => Err(EvalError::new("the tag names no message type")),
    }
}

/// A number that is not negative, in zigzag form, seven bits a byte.
fn write_number(out: &mut Vec<u8>, number: u64) {
    let mut rest = number << 1;
    while rest >= 0x80 {
        out.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    out.push(rest as u8);
}

fn read_number(body: &[u8], at: &mut usize) -> Result<u64, EvalError> {
    let broken = || EvalError::new("the tag names no message type");
    let mut number = 0u64;
    for shift in (0..35).step_by(7) {
        let byte = *body.get(*at).ok_or_else(broken)?;
        *at += 1;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            // Odd ones are negative.
            return if number & 1 == 0 { Ok(number >> 1) } else { Err(broken()) };
        }
    }
    Err(broken())
}
