//! Values to Avro data.

use hookline_schemas::Value;

use super::Schema;
use super::logical;
use super::types::{Branch, Field, Type, UuidForm};
use crate::error::EvalError;
use crate::schema::{VALUES_MAX, boolean, deeper, expected, float, in_field, integer, text};

/// How many branches of unions are tried in vain for one document.
const TRIES_MAX: usize = 1 << 16;

pub(super) struct Encoder<'a> {
    schema: &'a Schema,
    out: Vec<u8>,
    /// Values that may still come.
    left: usize,
    /// Branches of unions that may still be tried in vain: a stranger could make each level try several.
    tries: usize,
}

impl<'a> Encoder<'a> {
    pub(super) fn new(schema: &'a Schema) -> Encoder<'a> {
        Encoder { schema, out: Vec::with_capacity(64), left: VALUES_MAX, tries: TRIES_MAX }
    }

    pub(super) fn finish(self) -> Vec<u8> {
        self.out
    }

    pub(super) fn len(&self) -> usize {
        self.out.len()
    }

    pub(super) fn truncate(&mut self, length: usize) {
        self.out.truncate(length);
    }

    pub(super) fn value(&mut self, kind: &Type, value: &Value, depth: usize) -> Result<(), EvalError> {
        self.left = self.left.checked_sub(1).ok_or_else(too_many)?;
        let schema = self.schema;
        match schema.resolve(kind) {
            Type::Null if value.is_null() => {}
            Type::Null => return Err(expected("null", value)),
            Type::Boolean => self.out.push(u8::from(boolean(value)?)),
            Type::Int => self.int(integer(value)?)?,
            Type::Long => self.long(integer(value)?),
            Type::Float => self.out.extend_from_slice(&(float(value)? as f32).to_le_bytes()),
            Type::Double => self.out.extend_from_slice(&float(value)?.to_le_bytes()),
            kind @ (Type::Bytes | Type::Fixed(_)) => {
                let bytes = value.as_bytes().ok_or_else(|| expected("bytes", value))?;
                self.raw(kind, bytes)?;
            }
            Type::Text => self.bytes(text(value)?.as_bytes()),
            Type::Enum(symbols) => {
                let symbol = text(value)?;
                let index = symbols.iter().position(|known| **known == *symbol);
                let index = index.ok_or_else(|| EvalError::new(format!("\"{symbol}\" is none of {}", symbols.join(", "))))?;
                self.long(index as i64);
            }
            Type::Array(element) => {
                let Value::Array(items) = value else { return Err(expected("an array", value)) };
                let depth = deeper(depth)?;
                if !items.is_empty() {
                    self.long(items.len() as i64);
                }
                items.iter().try_for_each(|item| self.value(element, item, depth))?;
                self.long(0);
            }
            Type::Map(element) => self.map(element, value, deeper(depth)?)?,
            Type::Record(fields) => self.record(fields, value, deeper(depth)?)?,
            Type::Union(branches) => self.union(branches, value, deeper(depth)?)?,
            kind @ Type::Decimal(decimal) => {
                let bytes = logical::decimal_bytes(value, *decimal)?;
                self.raw(kind, &bytes)?;
            }
            Type::Uuid(form) => {
                let uuid = logical::uuid_bytes(text(value)?)?;
                match form {
                    UuidForm::Text => self.bytes(logical::uuid_text(&uuid).as_bytes()),
                    UuidForm::Bytes => self.bytes(&uuid),
                    UuidForm::Fixed => self.out.extend_from_slice(&uuid),
                }
            }
            Type::Date => self.int(logical::days(value)?)?,
            Type::Timestamp(unit) => self.long(logical::timestamp(value, *unit)?),
            Type::Duration => self.out.extend_from_slice(&logical::duration_bytes(value)?),
            // A name stands for a type, not for another name.
            Type::Named(_) => return Err(EvalError::new("a name of a name")),
        }
        Ok(())
    }

    /// Bytes as a type writes them: with their length, or exactly so many.
    pub(super) fn raw(&mut self, kind: &Type, bytes: &[u8]) -> Result<(), EvalError> {
        let size = match kind {
            Type::Fixed(size) => Some(*size),
            Type::Decimal(decimal) => decimal.size,
            Type::Duration => Some(12),
            _ => None,
        };
        match size {
            None => self.bytes(bytes),
            Some(size) if size == bytes.len() => self.out.extend_from_slice(bytes),
            Some(size) => return Err(EvalError::new(format!("expected {size} bytes, found {}", bytes.len()))),
        }
        Ok(())
    }

    pub(super) fn bytes(&mut self, bytes: &[u8]) {
        self.long(bytes.len() as i64);
        self.out.extend_from_slice(bytes);
    }

    /// A number in zigzag form, seven bits a byte.
    pub(super) fn long(&mut self, number: i64) {
        let mut rest = ((number << 1) ^ (number >> 63)) as u64;
        while rest >= 0x80 {
            self.out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        self.out.push(rest as u8);
    }

    fn int(&mut self, number: i64) -> Result<(), EvalError> {
        let number = i32::try_from(number).map_err(|_| EvalError::new(format!("{number} is beyond 32 bits")))?;
        self.long(number.into());
        Ok(())
    }

    fn map(&mut self, element: &Type, value: &Value, depth: usize) -> Result<(), EvalError> {
        let Value::Map(map) = value else { return Err(expected("a map", value)) };
        let entries = || map.iter().filter(|(_, item)| **item != Value::Undefined);
        let count = entries().count();
        if count > 0 {
            self.long(count as i64);
        }
        for (key, item) in entries() {
            self.bytes(key.as_bytes());
            self.value(element, item, depth).map_err(|error| in_field(key, &error))?;
        }
        self.long(0);
        Ok(())
    }

    fn record(&mut self, fields: &[Field], value: &Value, depth: usize) -> Result<(), EvalError> {
        let Value::Map(map) = value else { return Err(expected("a map", value)) };
        for field in fields {
            let names = std::iter::once(&*field.name).chain(field.aliases.iter().map(String::as_str));
            let found = names.filter_map(|name| map.get(name)).find(|found| **found != Value::Undefined);
            match (found, &field.default) {
                (Some(found), _) => self.value(&field.kind, found, depth).map_err(|error| in_field(&field.name, &error))?,
                (None, Some(default)) => self.out.extend_from_slice(default),
                // Where null is allowed, what is missing is null.
                (None, None) => {
                    let missing = |_| EvalError::new(format!("{}: missing, and without a default", field.name));
                    self.value(&field.kind, &Value::Null, depth).map_err(missing)?;
                }
            }
        }
        Ok(())
    }

    fn union(&mut self, branches: &[Branch], value: &Value, depth: usize) -> Result<(), EvalError> {
        // A map with a branch's name as its only key says which one it means.
        if let Value::Map(map) = value
            && map.len() == 1
            && let Some((key, inner)) = map.iter().next()
            && let Some(index) = branches.iter().position(|branch| *branch.name == *key)
            && self.branch(branches, index, inner, depth).is_ok()
        {
            return Ok(());
        }
        let mut problem = None;
        for wants_near in [true, false] {
            for (index, branch) in branches.iter().enumerate() {
                if self.is_near(&branch.kind, value) == wants_near {
                    match self.branch(branches, index, value, depth) {
                        Ok(()) => return Ok(()),
                        // What was wrong with a near one tells more.
                        Err(error) => {
                            problem.get_or_insert(error);
                        }
                    }
                }
            }
        }
        let has_near = branches.iter().any(|branch| self.is_near(&branch.kind, value));
        let names = || branches.iter().map(|branch| &*branch.name).collect::<Vec<_>>().join(", ");
        Err(problem.filter(|_| has_near).unwrap_or_else(|| expected(&format!("one of {}", names()), value)))
    }

    /// Tries one branch; leaves nothing behind where it does not fit.
    fn branch(&mut self, branches: &[Branch], index: usize, value: &Value, depth: usize) -> Result<(), EvalError> {
        if self.tries == 0 {
            return Err(EvalError::new(format!("more than {TRIES_MAX} branches of unions did not fit")));
        }
        let start = self.out.len();
        self.long(index as i64);
        let tried = self.value(&branches[index].kind, value, depth);
        if tried.is_err() {
            self.tries = self.tries.saturating_sub(1);
            self.out.truncate(start);
        }
        tried
    }

    /// Whether a type is what one would take a value for at first sight.
    fn is_near(&self, kind: &Type, value: &Value) -> bool {
        match (self.schema.resolve(kind), value) {
            (Type::Null, value) => value.is_null(),
            (Type::Boolean, Value::Bool(_)) | (Type::Long | Type::Timestamp(_), Value::Int(_)) => true,
            (Type::Int | Type::Date, Value::Int(int)) => i32::try_from(*int).is_ok(),
            (Type::Float | Type::Double, Value::Float(_)) | (Type::Text, Value::Text(_)) => true,
            (Type::Enum(symbols), Value::Text(text)) => symbols.contains(text),
            (Type::Uuid(_), Value::Text(text)) => logical::uuid_bytes(text).is_ok(),
            (Type::Bytes, Value::Bytes(_)) | (Type::Array(_), Value::Array(_)) | (Type::Map(_), Value::Map(_)) => true,
            (Type::Fixed(size), Value::Bytes(bytes)) => bytes.len() == *size,
            (Type::Record(fields), Value::Map(map)) => map.iter().all(|(key, _)| fields.iter().any(|field| *field.name == *key)),
            (Type::Duration, Value::Map(map)) => map.get("millis").is_some(),
            _ => false,
        }
    }
}

fn too_many() -> EvalError {
    EvalError::new(format!("more than {VALUES_MAX} values"))
}
