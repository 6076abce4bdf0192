//! Single keys over a configuration: by environment and by command line.

use serde_json::{Map, Value};

/// What variables of the environment begin with; two underscores separate the parts of the path.
const PREFIX: &str = "HOOKLINE__";

/// The path that a variable names: `HOOKLINE__MQTT__INFLIGHT_MAX` is `mqtt.inflight_max`.
pub(super) fn environment_path(name: &str) -> Option<Vec<String>> {
    let path = name.strip_prefix(PREFIX)?;
    Some(path.split("__").map(str::to_ascii_lowercase).collect())
}

/// The path and value of `a.b.c=value`.
pub(super) fn setting(text: &str) -> Result<(Vec<String>, Value), String> {
    let (path, value) = text.split_once('=').ok_or("it is not of the form key=value")?;
    Ok((path.trim().split('.').map(str::to_owned).collect(), parse(value.trim())))
}

/// A value as TOML reads it; what is no TOML is a text, so that texts need no quotes.
pub(super) fn parse(text: &str) -> Value {
    let table = format!("v = {text}").parse::<toml::Table>().ok();
    let value = table.filter(|table| table.len() == 1).and_then(|mut table| table.remove("v"));
    value.and_then(|value| serde_json::to_value(value).ok()).unwrap_or_else(|| Value::String(text.to_owned()))
}

/// What the TOML library makes of a date: a table with this one key.
const DATE: &str = "$__toml_private_datetime";

/// Dates as texts, so that they may stand without quotes.
pub(super) fn dates_to_text(value: &mut Value) {
    match value {
        Value::Object(table) if table.len() == 1 && table.contains_key(DATE) => *value = table[DATE].take(),
        Value::Object(table) => table.values_mut().for_each(dates_to_text),
        Value::Array(list) => list.iter_mut().for_each(dates_to_text),
        _ => {}
    }
}

/// Sets the value at a path, and makes the tables on the way.
pub(super) fn set(target: &mut Value, path: &[String], value: Value) -> Result<(), String> {
    let (last, tables) = path.split_last().filter(|(last, _)| !last.is_empty()).ok_or("the key is empty")?;
    let mut place = target;
    for key in tables {
        let Value::Object(table) = place else { return Err(format!("what is above \"{key}\" is no table")) };
        place = table.entry(key.clone()).or_insert_with(|| Value::Object(Map::new()));
    }
    let Value::Object(table) = place else { return Err(format!("what is above \"{last}\" is no table")) };
    table.insert(last.clone(), value);
    Ok(())
}

/// Takes out what is at a path such as `rules.a.actions[0]`; whether there was something.
pub(super) fn remove(target: &mut Value, path: &str) -> bool {
    let keys: Vec<&str> = path.split('.').filter(|key| !key.is_empty()).collect();
    let Some((last, tables)) = keys.split_last() else { return false };
    let mut place = target;
    for key in tables {
        match place.get_mut(*key) {
            Some(next) => place = next,
            None => return false,
        }
    }
    // Of a list the whole is taken: what is behind the place in question would be told wrongly.
    let name = last.split('[').next().unwrap_or(last);
    place.as_object_mut().is_some_and(|table| table.remove(name).is_some())
}
