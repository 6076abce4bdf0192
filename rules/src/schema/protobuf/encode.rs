//! Values to messages.

use std::collections::HashMap;

use hookline_schemas::Value;
use prost_reflect::{DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, OneofDescriptor, Value as Field};

use crate::error::{EvalError, did_you_mean};
use crate::schema::{boolean, deeper, expected, float, in_field, integer, text};

pub(super) fn message(descriptor: &MessageDescriptor, value: &Value, depth: usize) -> Result<DynamicMessage, EvalError> {
    let depth = deeper(depth)?;
    let Value::Map(map) = value else { return Err(expected("a map", value)) };
    let mut message = DynamicMessage::new(descriptor.clone());
    let mut taken: Vec<OneofDescriptor> = Vec::new();
    for field in descriptor.fields() {
        let name = field.name().to_owned();
        let given = map.get(&name).or_else(|| map.get(field.json_name())).filter(|given| !given.is_null());
        let Some(given) = given else {
            if field.is_required() {
                return Err(EvalError::new(format!("{name}: missing, and required")));
            }
            continue;
        };
        if let Some(oneof) = field.containing_oneof() {
            if taken.contains(&oneof) {
                return Err(EvalError::new(format!("{name}: another field of \"{}\" is given, too", oneof.name())));
            }
            taken.push(oneof);
        }
        let converted = whole(&field, given, depth).map_err(|error| in_field(&name, &error))?;
        message.try_set_field(&field, converted).map_err(|error| EvalError::new(error.to_string()))?;
    }
    Ok(message)
}

/// The value of a field, be it repeated, a map or neither.
fn whole(field: &FieldDescriptor, value: &Value, depth: usize) -> Result<Field, EvalError> {
    match (field.kind(), value) {
        (Kind::Message(entry), Value::Map(map)) if field.is_map() => {
            let (key_kind, value_kind) = (entry.map_entry_key_field().kind(), entry.map_entry_value_field().kind());
            let mut entries = HashMap::with_capacity(map.len());
            for (key, item) in map.iter().filter(|(_, item)| !item.is_null()) {
                let item = single(&value_kind, item, depth).map_err(|error| in_field(key, &error))?;
                entries.insert(map_key(&key_kind, key)?, item);
            }
            Ok(Field::Map(entries))
        }
        (_, other) if field.is_map() => Err(expected("a map", other)),
        (kind, Value::Array(items)) if field.is_list() => {
            items.iter().map(|item| single(&kind, item, depth)).collect::<Result<_, _>>().map(Field::List)
        }
        (_, other) if field.is_list() => Err(expected("an array", other)),
        (kind, value) => single(&kind, value, depth),
    }
}

fn single(kind: &Kind, value: &Value, depth: usize) -> Result<Field, EvalError> {
    Ok(match kind {
        Kind::Bool => Field::Bool(boolean(value)?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => Field::I32(narrow(integer(value)?, "a signed integer of 32 bits")?),
        Kind::Uint32 | Kind::Fixed32 => Field::U32(narrow(integer(value)?, "an unsigned integer of 32 bits")?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => Field::I64(long(value)?),
        Kind::Uint64 | Kind::Fixed64 => Field::U64(long(value)?),
        Kind::Float => Field::F32(float(value)? as f32),
        Kind::Double => Field::F64(float(value)?),
        Kind::String => Field::String(text(value)?.to_owned()),
        Kind::Bytes => match value {
            Value::Bytes(bytes) => Field::Bytes(bytes.clone()),
            other => Field::Bytes(other.as_bytes().ok_or_else(|| expected("bytes", other))?.to_vec().into()),
        },
        Kind::Message(descriptor) => Field::Message(message(descriptor, value, depth)?),
        Kind::Enum(descriptor) => match value {
            Value::Int(number) => Field::EnumNumber(narrow(*number, "the number of an enum")?),
            other => {
                let name = text(other)?;
                let found = descriptor.get_value_by_name(name);
                let number = found.map(|found| found.number());
                Field::EnumNumber(number.ok_or_else(|| {
                    let names: Vec<String> = descriptor.values().map(|known| known.name().to_owned()).collect();
                    let hint = did_you_mean(name, names.iter().map(String::as_str));
                    let hint = hint.map(|near| format!("; did you mean \"{near}\"?")).unwrap_or_default();
                    EvalError::new(format!("\"{}\" has no value \"{name}\"{hint}", descriptor.name()))
                })?)
            }
        },
    })
}

fn narrow<T: TryFrom<i64>>(number: i64, what: &str) -> Result<T, EvalError> {
    T::try_from(number).map_err(|_| EvalError::new(format!("{number} is not {what}")))
}

/// A 64-bit number: an integer, or the text of one.
fn long<T: TryFrom<i64> + std::str::FromStr>(value: &Value) -> Result<T, EvalError> {
    match value.as_text() {
        Some(text) => text.parse().map_err(|_| EvalError::new(format!("\"{text}\" is not an integer of 64 bits"))),
        None => narrow(integer(value)?, "an integer of 64 bits"),
    }
}

/// The key of a map field; keys of values are text.
fn map_key(kind: &Kind, key: &str) -> Result<MapKey, EvalError> {
    let wrong = || EvalError::new(format!("\"{key}\" is no key of this map"));
    Ok(match kind {
        Kind::Bool => MapKey::Bool(key.parse().map_err(|_| wrong())?),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => MapKey::I32(key.parse().map_err(|_| wrong())?),
        Kind::Int64 | Kind::Sint64 | Kind::Sfixed64 => MapKey::I64(key.parse().map_err(|_| wrong())?),
        Kind::Uint32 | Kind::Fixed32 => MapKey::U32(key.parse().map_err(|_| wrong())?),
        Kind::Uint64 | Kind::Fixed64 => MapKey::U64(key.parse().map_err(|_| wrong())?),
        Kind::String => MapKey::String(key.to_owned()),
        _ => return Err(wrong()),
    })
}
