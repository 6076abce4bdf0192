//! Messages to values.

use std::collections::HashMap;

use hookline_schemas::{Map, Value};
use prost_reflect::{DynamicMessage, Kind, MapKey, ReflectMessage, Value as Field};

use crate::error::EvalError;
use crate::schema::{deeper, in_field};

pub(super) fn message(message: &DynamicMessage, depth: usize) -> Result<Value, EvalError> {
    let depth = deeper(depth)?;
    let mut map = Map::new();
    for field in message.descriptor().fields() {
        let is_set = message.has_field(&field);
        if field.is_required() && !is_set {
            return Err(EvalError::new(format!("{}: missing, and required", field.name())));
        }
        // What the wire cannot tell from its default is always there.
        if is_set || !field.supports_presence() {
            let kind = field.kind();
            let value = value(&kind, &message.get_field(&field), depth).map_err(|error| in_field(field.name(), &error))?;
            map.push_new(field.name(), value);
        }
    }
    Ok(Value::Map(map))
}

/// `kind` is that of the elements, where there are several.
fn value(kind: &Kind, field: &Field, depth: usize) -> Result<Value, EvalError> {
    Ok(match field {
        Field::Bool(b) => Value::Bool(*b),
        Field::I32(number) => Value::Int((*number).into()),
        Field::I64(number) => Value::Int(*number),
        Field::U32(number) => Value::Int((*number).into()),
        Field::U64(number) => i64::try_from(*number).map_or_else(|_| Value::text(&number.to_string()), Value::Int),
        Field::F32(number) => Value::Float((*number).into()),
        Field::F64(number) => Value::Float(*number),
        Field::String(text) => Value::text(text),
        Field::Bytes(bytes) => Value::Bytes(bytes.clone()),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(descriptor) => {
                descriptor.get_value(*number).map_or_else(|| Value::Int((*number).into()), |known| Value::text(known.name()))
            }
            _ => Value::Int((*number).into()),
        },
        Field::Message(inner) => message(inner, depth)?,
        Field::List(items) => Value::Array(items.iter().map(|item| value(kind, item, depth)).collect::<Result<_, _>>()?),
        Field::Map(entries) => entries_value(kind, entries, depth)?,
    })
}

/// The entries of a map field, in the order of their keys: the wire has none that means something.
fn entries_value(kind: &Kind, entries: &HashMap<MapKey, Field>, depth: usize) -> Result<Value, EvalError> {
    let value_kind = match kind {
        Kind::Message(entry) => entry.map_entry_value_field().kind(),
        other => other.clone(),
    };
    let mut sorted: Vec<(&MapKey, &Field)> = entries.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| *key);
    let mut map = Map::new();
    for (key, field) in sorted {
        let key = match key {
            MapKey::Bool(b) => b.to_string(),
            MapKey::I32(number) => number.to_string(),
            MapKey::I64(number) => number.to_string(),
            MapKey::U32(number) => number.to_string(),
            MapKey::U64(number) => number.to_string(),
            MapKey::String(text) => text.clone(),
        };
        let value = value(&value_kind, field, depth).map_err(|error| in_field(&key, &error))?;
        map.push_new(&key, value);
    }
    Ok(Value::Map(map))
}
