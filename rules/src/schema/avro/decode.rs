//! Avro data to values.

use std::collections::HashSet;

use bytes::Bytes;
use hookline_schemas::{Map, Value};

use super::Schema;
use super::logical;
use super::types::{Field, Type, UuidForm};
use crate::error::EvalError;
use crate::schema::{VALUES_MAX, deeper, in_field};

pub(super) struct Decoder<'a> {
    schema: &'a Schema,
    input: &'a Bytes,
    at: usize,
    /// Values that may still come: a few bytes can announce very many that take no bytes themselves.
    left: usize,
}

impl<'a> Decoder<'a> {
    pub(super) fn new(schema: &'a Schema, input: &'a Bytes) -> Decoder<'a> {
        Decoder { schema, input, at: 0, left: VALUES_MAX }
    }

    /// Nothing may follow.
    pub(super) fn finish(self) -> Result<(), EvalError> {
        match self.input.len() - self.at {
            0 => Ok(()),
            rest => Err(EvalError::new(format!("{rest} bytes behind the end: it was written with another schema"))),
        }
    }

    pub(super) fn value(&mut self, kind: &Type, depth: usize) -> Result<Value, EvalError> {
        self.left = self.left.checked_sub(1).ok_or_else(|| EvalError::new(format!("more than {VALUES_MAX} values")))?;
        let schema = self.schema;
        Ok(match schema.resolve(kind) {
            Type::Null => Value::Null,
            Type::Boolean => match self.byte()? {
                0 => Value::Bool(false),
                1 => Value::Bool(true),
                other => return Err(EvalError::new(format!("{other} is no boolean"))),
            },
            Type::Int | Type::Date => Value::Int(self.int()?),
            Type::Long | Type::Timestamp(_) => Value::Int(self.long()?),
            Type::Float => Value::Float(f32::from_le_bytes(self.array()?).into()),
            Type::Double => Value::Float(f64::from_le_bytes(self.array()?)),
            Type::Bytes => Value::Bytes(self.bytes()?),
            Type::Fixed(size) => Value::Bytes(self.take(*size)?),
            Type::Text => Value::Text(self.text()?),
            Type::Enum(symbols) => {
                let index = self.int()?;
                let symbol = usize::try_from(index).ok().and_then(|index| symbols.get(index));
                let symbol = symbol.ok_or_else(|| EvalError::new(format!("there is no symbol {index}")))?;
                Value::Text(symbol.clone())
            }
            Type::Array(element) => {
                let depth = deeper(depth)?;
                let mut items = Vec::new();
                self.blocks(|decoder| {
                    items.push(decoder.value(element, depth)?);
                    Ok(())
                })?;
                Value::Array(items)
            }
            Type::Map(element) => self.map(element, deeper(depth)?)?,
            Type::Record(fields) => self.record(fields, deeper(depth)?)?,
            Type::Union(branches) => {
                let index = self.long()?;
                let branch = usize::try_from(index).ok().and_then(|index| branches.get(index));
                let branch = branch.ok_or_else(|| EvalError::new(format!("the union has no branch {index}")))?;
                self.value(&branch.kind, deeper(depth)?)?
            }
            Type::Decimal(decimal) => {
                let bytes = match decimal.size {
                    Some(size) => self.take(size)?,
                    None => self.bytes()?,
                };
                logical::decimal_value(&bytes, *decimal)?
            }
            Type::Uuid(UuidForm::Text) => Value::Text(self.text()?),
            Type::Uuid(form) => {
                let bytes = if matches!(form, UuidForm::Bytes) { self.bytes()? } else { self.take(16)? };
                let uuid: [u8; 16] = bytes.as_ref().try_into().map_err(|_| EvalError::new("a UUID has 16 bytes"))?;
                Value::Text(logical::uuid_text(&uuid).into())
            }
            Type::Duration => logical::duration_value(self.array()?),
            // A name stands for a type, not for another name.
            Type::Named(_) => return Err(EvalError::new("a name of a name")),
        })
    }

    fn map(&mut self, element: &Type, depth: usize) -> Result<Value, EvalError> {
        let mut map = Map::new();
        // Looking for a key in a map takes longer with each key that is there.
        let mut keys = HashSet::new();
        self.blocks(|decoder| {
            let key = decoder.text()?;
            let value = decoder.value(element, depth).map_err(|error| in_field(&key, &error))?;
            if !keys.insert(key.clone()) {
                return Err(EvalError::new(format!("the key \"{key}\" is there twice")));
            }
            map.push_new(&key, value);
            Ok(())
        })?;
        Ok(Value::Map(map))
    }

    fn record(&mut self, fields: &[Field], depth: usize) -> Result<Value, EvalError> {
        let mut map = Map::new();
        for field in fields {
            let value = self.value(&field.kind, depth).map_err(|error| in_field(&field.name, &error))?;
            map.push_new(&field.name, value);
        }
        Ok(Value::Map(map))
    }

    /// The elements of an array or map: blocks of so many, up to a block of none.
    fn blocks(&mut self, mut element: impl FnMut(&mut Self) -> Result<(), EvalError>) -> Result<(), EvalError> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // Its size in bytes, for who wants to skip it.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                element(self)?;
            }
        }
    }

    /// A number in zigzag form, seven bits a byte.
    fn long(&mut self) -> Result<i64, EvalError> {
        let mut number = 0u64;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok((number >> 1) as i64 ^ -((number & 1) as i64));
            }
        }
        Err(EvalError::new("a number is too long"))
    }

    fn int(&mut self) -> Result<i64, EvalError> {
        let number = self.long()?;
        i32::try_from(number).map(i64::from).map_err(|_| EvalError::new(format!("{number} is beyond 32 bits")))
    }

    fn bytes(&mut self) -> Result<Bytes, EvalError> {
        let length = self.long()?;
        self.take(usize::try_from(length).map_err(|_| EvalError::new("a length is negative"))?)
    }

    fn text(&mut self) -> Result<Box<str>, EvalError> {
        let bytes = self.bytes()?;
        std::str::from_utf8(&bytes).map(Into::into).map_err(|_| EvalError::new("a string is not UTF-8"))
    }

    fn array<const SIZE: usize>(&mut self) -> Result<[u8; SIZE], EvalError> {
        let bytes = self.take(SIZE)?;
        bytes.as_ref().try_into().map_err(|_| EvalError::new("ends too early"))
    }

    fn byte(&mut self) -> Result<u8, EvalError> {
        let byte = *self.input.get(self.at).ok_or_else(|| EvalError::new("ends too early"))?;
        self.at += 1;
        Ok(byte)
    }

    /// Bytes that share the memory of the input.
    fn take(&mut self, count: usize) -> Result<Bytes, EvalError> {
        let end = self.at.checked_add(count).filter(|end| *end <= self.input.len());
        let end = end.ok_or_else(|| EvalError::new("ends too early"))?;
        let taken = self.input.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }
}
