//! `${…}` templates: a text with places that a row fills. Dotted names only, `${.}` is the whole row, `${$}` a dollar sign.

use std::borrow::Cow;

use bytes::Bytes;

use crate::Value;

/// A parsed template.
#[derive(Debug, Clone, PartialEq)]
pub struct Template {
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq)]
enum Part {
    Text(Box<str>),
    /// Empty: the whole row.
    Path(Vec<Box<str>>),
}

/// A template that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("template \"{template}\": {problem} at column {column}")]
pub struct TemplateError {
    template: String,
    problem: &'static str,
    column: usize,
}

impl Template {
    /// Reads a template.
    pub fn parse(template: &str) -> Result<Template, TemplateError> {
        let fail =
            |problem, at: usize| TemplateError { template: template.to_owned(), problem, column: template[..at].chars().count() + 1 };
        let mut parts = Vec::new();
        let mut text = String::new();
        let mut rest = template;
        while let Some(start) = rest.find("${") {
            let at = template.len() - rest.len() + start;
            text.push_str(&rest[..start]);
            let end = rest[start..].find('}').ok_or_else(|| fail("\"${\" without its \"}\"", at))? + start;
            let name = rest[start + 2..end].trim();
            match name {
                "$" => text.push('$'),
                "" => return Err(fail("empty placeholder", at)),
                _ => {
                    if !text.is_empty() {
                        parts.push(Part::Text(std::mem::take(&mut text).into()));
                    }
                    let name = name.strip_prefix('.').unwrap_or(name);
                    let path: Vec<Box<str>> =
                        if name.is_empty() { Vec::new() } else { name.split('.').map(|key| key.trim_matches('\'').into()).collect() };
                    if path.iter().any(|key| key.is_empty()) {
                        return Err(fail("empty name in a placeholder", at));
                    }
                    parts.push(Part::Path(path));
                }
            }
            rest = &rest[end + 1..];
        }
        text.push_str(rest);
        if !text.is_empty() {
            parts.push(Part::Text(text.into()));
        }
        Ok(Template { parts })
    }

    /// The text where there is no placeholder.
    pub fn as_constant(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [] => Some(""),
            [Part::Text(text)] => Some(text),
            _ => None,
        }
    }

    /// The placeholders, without that of the whole row.
    pub fn paths(&self) -> impl Iterator<Item = &[Box<str>]> {
        self.parts.iter().filter_map(|part| match part {
            Part::Path(path) if !path.is_empty() => Some(&path[..]),
            _ => None,
        })
    }

    /// The value of a template that is one placeholder and nothing else; its type is kept.
    pub fn value<'a>(&'a self, row: &'a Value) -> Option<&'a Value> {
        match self.parts.as_slice() {
            [Part::Path(path)] => Some(row.path(path.iter().map(|key| &**key))),
            _ => None,
        }
    }

    /// Splits into texts and placeholders, for statements whose placeholders become parameters.
    /// `placeholder` is given the text of each path and returns what stands in its place.
    pub fn rewrite(&self, mut placeholder: impl FnMut(Template) -> String) -> String {
        self.parts
            .iter()
            .map(|part| match part {
                Part::Text(text) => text.to_string(),
                Part::Path(_) => placeholder(Template { parts: vec![part.clone()] }),
            })
            .collect()
    }

    /// The bytes of the filled template. Bytes go in as they are, a missing value as the empty text.
    pub fn render(&self, row: &Value) -> Bytes {
        if let Some(Value::Bytes(bytes)) = self.value(row) {
            return bytes.clone();
        }
        self.rendered(row).into_owned().into()
    }

    /// As [`Template::render`], borrowed where template or row have it as it is.
    pub fn rendered<'a>(&'a self, row: &'a Value) -> Cow<'a, [u8]> {
        if let [part] = self.parts.as_slice() {
            return part.rendered(row);
        }
        let mut out = Vec::with_capacity(64);
        self.parts.iter().for_each(|part| out.extend_from_slice(&part.rendered(row)));
        Cow::Owned(out)
    }

    /// The filled template as text; bytes that are no UTF-8 are replaced.
    pub fn render_text(&self, row: &Value) -> String {
        self.rendered_text(row).into_owned()
    }

    /// As [`Template::render_text`], borrowed where template or row have it as it is.
    pub fn rendered_text<'a>(&'a self, row: &'a Value) -> Cow<'a, str> {
        match self.rendered(row) {
            Cow::Borrowed(bytes) => String::from_utf8_lossy(bytes),
            Cow::Owned(bytes) => String::from_utf8(bytes).unwrap_or_else(|e| String::from_utf8_lossy(e.as_bytes()).into_owned()).into(),
        }
    }
}

impl Part {
    fn rendered<'a>(&'a self, row: &'a Value) -> Cow<'a, [u8]> {
        match self {
            Part::Text(text) => Cow::Borrowed(text.as_bytes()),
            Part::Path(path) => match row.path(path.iter().map(|key| &**key)) {
                Value::Undefined => Cow::Borrowed(&[]),
                Value::Text(text) => Cow::Borrowed(text.as_bytes()),
                Value::Bytes(bytes) => Cow::Borrowed(bytes),
                other => Cow::Owned(other.to_text().into_bytes()),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Value {
        Value::from_json(serde_json::json!({"a": 1, "b": {"c": "x", "d e": [1, 2]}, "f": 21.5}))
    }

    #[test]
    fn placeholders_are_filled_from_the_row() {
        let cases = [
            ("plain", "plain"),
            ("${a}", "1"),
            ("${.a}/${b.c}", "1/x"),
            ("${b.'d e'}", "[1,2]"),
            ("${f}", "21.5"),
            ("<${missing}>", "<>"),
            ("${$}{a}", "${a}"),
            ("${.}", r#"{"a":1,"b":{"c":"x","d e":[1,2]},"f":21.5}"#),
        ];
        for (template, expect) in cases {
            assert_eq!(Template::parse(template).expect(template).render_text(&row()), expect, "{template}");
        }
    }

    #[test]
    fn a_broken_template_names_the_column() {
        for (template, column) in [("ab${c", 3), ("${}", 1), ("x${a..b}", 2)] {
            assert_eq!(Template::parse(template).expect_err(template).column, column, "{template}");
        }
    }

    #[test]
    fn a_lone_placeholder_keeps_its_type() {
        assert_eq!(Template::parse("${a}").expect("valid").value(&row()), Some(&Value::Int(1)));
        assert_eq!(Template::parse("${a}!").expect("valid").value(&row()), None);
    }
}
