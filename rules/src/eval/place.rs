//! Where a field goes in its row: nested keys and places in arrays, made on the way where they are missing.

use hookline_schemas::{Map, Value};

use crate::context::parse_json;

/// One step on the way.
#[derive(Debug, Clone, Copy)]
pub(super) enum Place<'a> {
    Key(&'a str),
    /// 1-based, negative from the end; 0 is before all others.
    At(i64),
    /// Behind all others.
    End,
}

/// The place of a 1-based index; negative ones count from the end.
pub(super) fn place(index: i64, len: usize) -> Option<usize> {
    let len = i64::try_from(len).ok()?;
    let place = if index < 0 { len.checked_add(index)? } else { index - 1 };
    usize::try_from(place).ok().filter(|_| place < len)
}

/// Sets the value. A text on the way is read as JSON; what is then in the way is replaced. An index beyond the ends of an
/// array changes nothing.
pub(super) fn put(target: &mut Value, places: &[Place<'_>], value: Value) {
    match places.split_first() {
        None => *target = value,
        Some((Place::Key(key), rest)) => {
            if !matches!(target, Value::Map(_)) {
                let document = parse_json(target).filter(|document| matches!(document, Value::Map(_)));
                *target = document.unwrap_or_else(|| Value::Map(Map::new()));
            }
            let Value::Map(map) = target else { return };
            if map.get(key).is_none() {
                map.push_new(key, Value::Undefined);
            }
            if let Some(inner) = map.get_mut(key) {
                put(inner, rest, value);
            }
        }
        Some((step, rest)) => {
            let was_array = matches!(target, Value::Array(_));
            if !was_array {
                let document = parse_json(target).filter(|document| matches!(document, Value::Array(_)));
                *target = document.unwrap_or_else(|| Value::Array(Vec::new()));
            }
            let Value::Array(items) = target else { return };
            put_item(items, *step, rest, value, was_array);
        }
    }
}

fn put_item(items: &mut Vec<Value>, step: Place<'_>, rest: &[Place<'_>], value: Value, was_array: bool) {
    let new = |value| {
        let mut item = Value::Undefined;
        put(&mut item, rest, value);
        item
    };
    match step {
        // Whatever the index says, a new array begins with its first item.
        _ if !was_array && items.is_empty() => items.push(new(value)),
        Place::At(0) => items.insert(0, new(value)),
        Place::At(index) => {
            if let Some(item) = place(index, items.len()).and_then(|place| items.get_mut(place)) {
                put(item, rest, value);
            }
        }
        Place::End | Place::Key(_) => items.push(new(value)),
    }
}
