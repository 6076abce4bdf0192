//! Rows as EMQX renders them: what is missing is the text `undefined`.

use hookline_schemas::{Map, Value};

use crate::statement::HOOKLINE_ID;

/// The text.
const UNDEFINED: &str = "undefined";

/// Puts the text in place of every missing value: those in the row, and those that the placeholders `paths` name. The record's own
/// identifier is not missing, though no row has it.
pub(super) fn fill(row: &mut Value, paths: &[Vec<String>]) {
    fill_all(row);
    for path in paths.iter().filter(|path| **path != [HOOKLINE_ID]) {
        if *row.path(path.iter().map(String::as_str)) == Value::Undefined {
            set(row, path);
        }
    }
}

fn fill_all(value: &mut Value) {
    match value {
        Value::Undefined => *value = Value::text(UNDEFINED),
        Value::Array(items) => items.iter_mut().for_each(fill_all),
        Value::Map(map) => map.values_mut().for_each(fill_all),
        _ => {}
    }
}

fn set(value: &mut Value, path: &[String]) {
    let Some((first, rest)) = path.split_first() else { return };
    // Below what is no map there is nothing to name.
    let Value::Map(map) = value else { return };
    match (map.get_mut(first), rest) {
        (_, []) => map.insert(first, Value::text(UNDEFINED)),
        (Some(inner), rest) => set(inner, rest),
        (None, rest) => {
            let mut inner = Value::Map(Map::new());
            set(&mut inner, rest);
            map.insert(first, inner);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_missing_becomes_a_text() {
        let mut row = Value::from_json(json!({ "a": 1, "b": { "c": null } }));
        if let Value::Map(map) = &mut row {
            map.insert("u", Value::Undefined);
        }
        let path = |text: &str| text.split('.').map(str::to_owned).collect::<Vec<_>>();
        fill(&mut row, &[path("x"), path("b.d"), path("a.z"), path("y.z"), path("a"), path("hookline_id")]);
        let expect = json!({ "a": 1, "b": { "c": null, "d": "undefined" }, "u": "undefined", "x": "undefined", "y": { "z": "undefined" } });
        assert_eq!(row.to_json(), expect);
    }
}
