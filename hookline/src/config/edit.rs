//! Changes of single items in the text of a configuration. Everything else in it, comments among it, stays as it is.

use serde_json::{Map, Value as Json};
use toml_edit::{Array, DocumentMut, InlineTable, Item, Table, TableLike, Value};

/// What is wrong with a change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EditError {
    /// The text is no TOML, or has something else in the place of the item.
    Text(String),
    /// There is one already.
    Exists,
    /// There is none.
    Missing,
    /// The item cannot be written as TOML.
    Item(String),
}

/// What is to be done with an item.
#[derive(Debug)]
pub(crate) enum Edit {
    Add(Map<String, Json>),
    /// What does not change in it keeps its form and comments.
    Change(Map<String, Json>),
    Remove,
}

/// The text with the item `name` of a section, such as `rules`, changed.
pub(crate) fn edit(text: &str, section: &str, name: &str, edit: &Edit) -> Result<String, EditError> {
    let mut document: DocumentMut = text.parse().map_err(|error: toml_edit::TomlError| EditError::Text(error.to_string()))?;
    let items = document.entry(section).or_insert_with(|| {
        let mut table = Table::new();
        table.set_implicit(true);
        Item::Table(table)
    });
    let no_table = || EditError::Text(format!("{section} is no table"));
    let is_inline = items.is_inline_table();
    let items = items.as_table_like_mut().ok_or_else(no_table)?;
    let known = items.get_mut(name);
    match (edit, known) {
        (Edit::Add(_), Some(_)) => return Err(EditError::Exists),
        (Edit::Change(_) | Edit::Remove, None) => return Err(EditError::Missing),
        (Edit::Add(new), None) => {
            items.insert(name, if is_inline { Item::Value(inline(new)?.into()) } else { Item::Table(table(new)?) });
        }
        (Edit::Change(new), Some(item)) => {
            let item = item.as_table_like_mut().ok_or_else(|| EditError::Text(format!("{section}.{name} is no table")))?;
            merge(item, new)?;
        }
        (Edit::Remove, Some(_)) => drop(items.remove(name)),
    }
    Ok(document.to_string())
}

/// The text with a section such as `node` of another text in the place of its own. Where both have the same, nothing changes.
///
/// # Errors
/// One of them is no TOML.
pub(crate) fn with_section_of(text: &str, other: &str, section: &str) -> Result<String, toml_edit::TomlError> {
    let (mut document, other): (DocumentMut, DocumentMut) = (text.parse()?, other.parse()?);
    let (own, wanted) = (document.get(section).map(json), other.get(section).map(json));
    if own == wanted {
        return Ok(text.to_owned());
    }
    match (document.get_mut(section).and_then(Item::as_table_mut), other.get(section)) {
        (Some(own), Some(Item::Table(wanted))) => {
            let mut new = wanted.clone();
            // Its place, and the comments before it.
            new.set_position(own.position());
            *new.decor_mut() = own.decor().clone();
            *own = new;
        }
        (Some(own), None) => own.clear(),
        (None, Some(Item::Table(wanted))) => {
            let mut new = wanted.clone();
            new.set_position(Some(0));
            document.insert(section, Item::Table(new));
        }
        (_, Some(wanted)) => drop(document.insert(section, wanted.clone())),
        (None, None) => drop(document.remove(section)),
    }
    Ok(document.to_string())
}

fn table(new: &Map<String, Json>) -> Result<Table, EditError> {
    let mut table = Table::new();
    table.decor_mut().set_prefix("\n");
    merge(&mut table, new)?;
    Ok(table)
}

fn inline(new: &Map<String, Json>) -> Result<InlineTable, EditError> {
    let mut table = InlineTable::new();
    merge(&mut table, new)?;
    Ok(table)
}

fn merge(table: &mut dyn TableLike, new: &Map<String, Json>) -> Result<(), EditError> {
    let is_gone = |key: &str| new.get(key).is_none_or(Json::is_null);
    let gone: Vec<String> = table.iter().map(|(key, _)| key.to_owned()).filter(|key| is_gone(key)).collect();
    for key in gone {
        table.remove(&key);
    }
    // TOML has no null: it is what is not there.
    for (key, new) in new.iter().filter(|(_, new)| !new.is_null()) {
        match table.get_mut(key) {
            Some(known) if json(known) == *new => {}
            Some(known) => change(known, new)?,
            None => drop(table.insert(key, Item::Value(value(new)?))),
        }
    }
    Ok(())
}

fn change(known: &mut Item, new: &Json) -> Result<(), EditError> {
    if let (Json::Object(new), Some(known)) = (new, known.as_table_like_mut()) {
        return merge(known, new);
    }
    let mut new = value(new)?;
    if let Some(known) = known.as_value() {
        *new.decor_mut() = known.decor().clone();
    }
    *known = Item::Value(new);
    Ok(())
}

fn value(json: &Json) -> Result<Value, EditError> {
    Ok(match json {
        Json::Null => return Err(EditError::Item("null: TOML has no such value".into())),
        Json::Bool(bool) => (*bool).into(),
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => integer.into(),
            (None, Some(float)) if number.is_f64() => float.into(),
            _ => return Err(EditError::Item(format!("{number}: is too large"))),
        },
        Json::String(text) => text.as_str().into(),
        Json::Array(list) => list.iter().map(value).collect::<Result<Array, _>>()?.into(),
        Json::Object(new) => inline(new)?.into(),
    })
}

/// What an item means.
fn json(item: &Item) -> Json {
    match item {
        Item::None => Json::Null,
        Item::Value(value) => value_json(value),
        Item::Table(table) => table_json(table),
        Item::ArrayOfTables(tables) => tables.iter().map(|table| table_json(table)).collect(),
    }
}

fn table_json(table: &dyn TableLike) -> Json {
    Json::Object(table.iter().map(|(key, item)| (key.to_owned(), json(item))).collect())
}

fn value_json(value: &Value) -> Json {
    match value {
        Value::String(text) => Json::String(text.value().clone()),
        Value::Integer(integer) => (*integer.value()).into(),
        Value::Float(float) => (*float.value()).into(),
        Value::Boolean(bool) => (*bool.value()).into(),
        Value::Datetime(time) => Json::String(time.value().to_string()),
        Value::Array(list) => list.iter().map(value_json).collect(),
        Value::InlineTable(table) => table_json(table),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const TEXT: &str = r#"# Ours.
[node]
name = "n" # never changed

# What it is for.
[rules.a]
sql = 'SELECT * FROM "t"'   # all of it
actions = ["x", "y"]
window = { seconds = 5, kind = "tumbling" } # short

[rules.a.more]
deep = 1 # one

[actions]
x = { connector = "c" }
"#;

    fn edited(section: &str, name: &str, how: impl FnOnce(Map<String, Json>) -> Edit, item: Json) -> Result<String, EditError> {
        let text = edit(TEXT, section, name, &how(item.as_object().expect("an object").clone()))?;
        text.parse::<toml::Table>().unwrap_or_else(|error| panic!("{error}: {text}"));
        Ok(text)
    }

    #[test]
    fn a_section_of_another_text_takes_the_place_of_its_own() {
        for (text, other, expect) in [
            (TEXT, "x = 1\n[node]\nname = \"n\"\n", TEXT),
            ("# Ours.\n[node]\na = 1\n\n[b]\nc = 1\n", "[x]\n\n[node]\nd = 2 # two\n", "# Ours.\n[node]\nd = 2 # two\n\n[b]\nc = 1\n"),
            ("# Ours.\n[node]\na = 1\n[b]\n", "", "# Ours.\n[node]\n[b]\n"),
            ("[b]\nc = 1\n", "[x]\n[node]\nd = 2\n", "[node]\nd = 2\n[b]\nc = 1\n"),
            ("z = 1\n[b]\nc = 1\n", "node.d = 2\n", "z = 1\nnode.d = 2\n[b]\nc = 1\n"),
            ("node = { a = 1 }\n", "", ""),
        ] {
            assert_eq!(with_section_of(text, other, "node").expect("both are TOML"), expect);
        }
        assert!(with_section_of("[", "", "node").is_err() && with_section_of("", "[", "node").is_err());
    }

    #[test]
    fn what_does_not_change_keeps_its_form_and_comments() {
        let item = json!({
            "sql": "SELECT * FROM \"t\"", "actions": ["x"], "window": {"seconds": 6, "kind": "tumbling"}, "more": {"deep": 1, "new": true}, "gone": null
        });
        let text = edited("rules", "a", Edit::Change, item).expect("changed");
        let expect = TEXT
            .replace("[\"x\", \"y\"]", "[\"x\"]")
            .replace("seconds = 5", "seconds = 6")
            .replace("deep = 1 # one", "deep = 1 # one\nnew = true");
        assert_eq!(text, expect);
    }

    #[test]
    fn items_come_and_go() {
        let item = json!({"sql": "SELECT\n  1", "actions": [{"function": "republish", "args": {"topic": "t", "qos": 1}}], "f": 1.5});
        let text = edited("rules", "b c", Edit::Add, item.clone()).expect("added");
        assert!(text.starts_with(&TEXT[..TEXT.len() - 40]) && text.contains("[rules.\"b c\"]\nsql = "), "{text}");
        let parsed: toml::Table = text.parse().expect("valid");
        assert_eq!(serde_json::to_value(&parsed["rules"]["b c"]).expect("JSON"), item);
        let text = edited("connectors", "new", Edit::Add, json!({"type": "file"})).expect("added");
        assert!(text.contains("[connectors.new]\ntype = \"file\"") && !text.contains("[connectors]"), "{text}");
        let text = edited("actions", "y", Edit::Add, json!({"connector": "d"})).expect("added");
        assert!(text.contains("[actions.y]\nconnector = \"d\""), "{text}");
        let text = edited("rules", "a", |_| Edit::Remove, json!({})).expect("removed");
        assert_eq!(text, "# Ours.\n[node]\nname = \"n\" # never changed\n\n[actions]\nx = { connector = \"c\" }\n");
    }

    #[test]
    fn what_cannot_be_is_told() {
        assert_eq!(edited("rules", "a", Edit::Add, json!({})), Err(EditError::Exists));
        assert_eq!(edited("rules", "b", Edit::Change, json!({})), Err(EditError::Missing));
        assert_eq!(edited("sources", "b", |_| Edit::Remove, json!({})), Err(EditError::Missing));
        assert!(matches!(edited("rules", "b", Edit::Add, json!({"n": u64::MAX})), Err(EditError::Item(_))));
        assert!(matches!(edited("rules", "b", Edit::Add, json!({"n": [null]})), Err(EditError::Item(_))));
        assert!(matches!(edit("rules = 1", "rules", "a", &Edit::Remove), Err(EditError::Text(_))));
        assert!(matches!(edit("[rules", "rules", "a", &Edit::Remove), Err(EditError::Text(_))));
    }
}
