//! JSON documents with `${…}`: a placeholder that is a whole value keeps its type, one inside a text becomes part of it.
//! What comes out is a value, not a text: nothing that a device sends can change the shape of the document.

use std::borrow::Cow;

use hookline_schemas::{Map, Record, Template, Value};

use crate::kind::{PARAMETERS, SettingsError};
use crate::statement::HOOKLINE_ID;

/// A parsed document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Document(Node);

#[derive(Debug, Clone, PartialEq)]
enum Node {
    Constant(Value),
    /// One placeholder and nothing else.
    Place(Template),
    Text(Template),
    Array(Vec<Node>),
    Map(Vec<(String, Node)>),
}

/// A check of what placeholders bring that lets everything pass.
pub(crate) fn anything(_: &Value) -> Result<(), String> {
    Ok(())
}

impl Document {
    /// Reads a document: JSON, where placeholders may stand without quotes.
    pub(crate) fn parse(path: &str, text: &str) -> Result<Document, Vec<SettingsError>> {
        let wrong = |problem: String| vec![SettingsError { path: format!("{PARAMETERS}.{path}"), problem }];
        let json = serde_json::from_str(&quoted(text)).map_err(|error| wrong(format!("must be JSON with placeholders: {error}")))?;
        node(json).map(Document).map_err(wrong)
    }

    /// The keys of the outermost map, where it is one that the template itself spells out.
    pub(crate) fn keys(&self) -> Option<impl Iterator<Item = &str>> {
        match &self.0 {
            Node::Map(entries) => Some(entries.iter().map(|(key, _)| key.as_str())),
            _ => None,
        }
    }

    /// The document of a record. `check` sees each value that a placeholder brings, and may refuse it.
    pub(crate) fn fill(&self, record: &Record, check: &dyn Fn(&Value) -> Result<(), String>) -> Result<Value, String> {
        fill(&self.0, record, check)
    }
}

/// The row for a template, with the record's identifier where the template names it and the rule does not select it.
pub(crate) fn row<'a>(template: &Template, record: &'a Record) -> Cow<'a, Value> {
    let named = template.paths().any(|path| matches!(path, [name] if **name == *HOOKLINE_ID));
    match &record.row {
        Value::Map(columns) if named && columns.get(HOOKLINE_ID).is_none() => {
            let mut columns = columns.clone();
            columns.push_new(HOOKLINE_ID, Value::text(&record.hookline_id));
            Cow::Owned(Value::Map(columns))
        }
        row => Cow::Borrowed(row),
    }
}

fn fill(node: &Node, record: &Record, check: &dyn Fn(&Value) -> Result<(), String>) -> Result<Value, String> {
    Ok(match node {
        Node::Constant(value) => value.clone(),
        Node::Place(template) => {
            let row = row(template, record);
            let value = template.value(&row).cloned().unwrap_or_default();
            check(&value)?;
            value
        }
        Node::Text(template) => Value::text(&template.render_text(&row(template, record))),
        Node::Array(items) => Value::Array(items.iter().map(|item| fill(item, record, check)).collect::<Result<_, _>>()?),
        Node::Map(entries) => {
            let mut map = Map::new();
            for (key, node) in entries {
                map.insert(key, fill(node, record, check)?);
            }
            Value::Map(map)
        }
    })
}

fn node(json: serde_json::Value) -> Result<Node, String> {
    Ok(match json {
        serde_json::Value::String(text) => {
            let template = Template::parse(&text).map_err(|error| error.to_string())?;
            match template.as_constant() {
                Some(text) => Node::Constant(Value::text(text)),
                None if template.value(&Value::Null).is_some() => Node::Place(template),
                None => Node::Text(template),
            }
        }
        serde_json::Value::Array(items) => Node::Array(items.into_iter().map(node).collect::<Result<_, _>>()?),
        serde_json::Value::Object(entries) => {
            let mut map = Vec::with_capacity(entries.len());
            for (key, value) in entries {
                if key.contains("${") {
                    return Err(format!("the key \"{key}\" has a placeholder; only values can"));
                }
                map.push((key, node(value)?));
            }
            Node::Map(map)
        }
        constant => Node::Constant(Value::from_json(constant)),
    })
}

/// The text with quotes around the placeholders that have none.
fn quoted(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let (mut rest, mut in_quotes) = (text, false);
    while let Some(c) = rest.chars().next() {
        // An escaped quote does not end a text, so the backslash takes what follows along.
        let mut length = c.len_utf8();
        if in_quotes && c == '\\' {
            length += rest[length..].chars().next().map_or(0, char::len_utf8);
        } else if c == '"' {
            in_quotes = !in_quotes;
        } else if !in_quotes && rest.starts_with("${") {
            length = rest.find('}').map_or(rest.len(), |end| end + 1);
            out.extend(["\"", &rest[..length], "\""]);
            rest = &rest[length..];
            continue;
        }
        out.push_str(&rest[..length]);
        rest = &rest[length..];
    }
    out
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use serde_json::json;

    use super::*;

    fn record() -> Record {
        let mut row = Value::from_json(json!({"a": 1, "b": {"c": "say \"x\"", "d": [1, 2]}, "f": 21.5, "n": null}));
        if let Value::Map(columns) = &mut row {
            columns.insert("raw", Value::Bytes(Bytes::from_static(&[0, 255])));
        }
        Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row, trace: None }
    }

    #[track_caller]
    fn check(template: &str, expect: serde_json::Value) {
        let document = Document::parse("document", template).expect(template);
        assert_eq!(document.fill(&record(), &anything).expect(template).to_json(), expect, "{template}");
    }

    #[test]
    fn placeholders_keep_their_types_and_texts_cannot_break_out() {
        check(r#"{"a": "${a}", "text": "no ${a}", "f": ${f}}"#, json!({"a": 1, "text": "no 1", "f": 21.5}));
        check(r#"{"c": "${b.c}", "in": "<${b.c}>"}"#, json!({"c": "say \"x\"", "in": "<say \"x\">"}));
        check(r#"[${b}, null, true, "${$}{a}", "\"${a}\""]"#, json!([{"c": "say \"x\"", "d": [1, 2]}, null, true, "${a}", "\"1\""]));
        check(r#"{"id": "${hookline_id}", "key": "x-${hookline_id}", "n": "${n}"}"#, json!({"id": "n:1:1", "key": "x-n:1:1", "n": null}));
        check("${.}", json!({"a": 1, "b": {"c": "say \"x\"", "d": [1, 2]}, "f": 21.5, "n": null, "raw": {"$base64": "AP8="}}));
    }

    #[test]
    fn bytes_and_what_is_missing_are_still_to_be_told_apart() {
        let document = Document::parse("document", r#"["${raw}", "${missing}"]"#).expect("valid");
        let expect = Value::Array(vec![Value::Bytes(Bytes::from_static(&[0, 255])), Value::Undefined]);
        assert_eq!(document.fill(&record(), &anything), Ok(expect));
        let refused = document.fill(&record(), &|value| if value.is_null() { Err("missing".into()) } else { Ok(()) });
        assert_eq!(refused, Err("missing".into()));
    }

    #[test]
    fn what_is_no_document_is_told_with_its_parameter() {
        for template in ["{", r#"{"${a}": 1}"#, r#"{"a": "${"}"#, "${a} ${b}", ""] {
            let errors = Document::parse("document", template).expect_err(template);
            assert_eq!(errors[0].path, "parameters.document", "{template}");
        }
    }
}
