//! HOCON, as EMQX writes it: with triple-quoted texts that begin with `~`, which no reader of plain HOCON takes.

use anyhow::{Context, bail, ensure};
use serde_json::{Map, Number, Value};

/// Tables and lists in each other at the most.
const DEPTH_MAX: usize = 64;

/// Reads a text. Durations and sizes such as `15s` stay texts. What was included or is the environment's is told by `notes`.
pub(super) fn parse(text: &str, notes: &mut Vec<String>) -> anyhow::Result<Map<String, Value>> {
    let mut reader = Reader { rest: text, all: text, notes };
    reader.skip(true);
    let is_braced = reader.rest.starts_with('{');
    if is_braced {
        reader.advance(1);
    }
    let table = reader.table(is_braced, 0).with_context(|| format!("line {}", reader.line()))?;
    reader.skip(true);
    ensure!(reader.rest.is_empty(), "line {}: something stands behind the end", reader.line());
    Ok(table)
}

struct Reader<'a> {
    all: &'a str,
    rest: &'a str,
    notes: &'a mut Vec<String>,
}

impl Reader<'_> {
    fn line(&self) -> usize {
        self.all[..self.all.len() - self.rest.len()].matches('\n').count() + 1
    }

    fn advance(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
    }

    /// Skips white space and comments, and with `lines` the ends of lines and commas, too.
    fn skip(&mut self, lines: bool) {
        loop {
            let trimmed = self.rest.trim_start_matches(|c: char| c == ' ' || c == '\t' || c == '\r' || (lines && (c == '\n' || c == ',')));
            self.rest = trimmed;
            if !(trimmed.starts_with('#') || trimmed.starts_with("//")) {
                return;
            }
            self.advance(trimmed.find('\n').unwrap_or(trimmed.len()));
        }
    }

    /// What stands in braces, or is the whole text.
    fn table(&mut self, is_braced: bool, depth: usize) -> anyhow::Result<Map<String, Value>> {
        ensure!(depth < DEPTH_MAX, "it goes too deep");
        let mut table = Map::new();
        loop {
            self.skip(true);
            if self.rest.is_empty() {
                ensure!(!is_braced, "a brace is not closed");
                return Ok(table);
            }
            if self.rest.starts_with('}') && is_braced {
                self.advance(1);
                return Ok(table);
            }
            if let Some(rest) = self.rest.strip_prefix("include ") {
                let line = rest.lines().next().unwrap_or_default().trim();
                self.notes.push(format!("include {line}: it was not followed; import that file as well"));
                let end = self.rest.find('\n').unwrap_or(self.rest.len());
                self.advance(end);
                continue;
            }
            let path = self.key()?;
            self.skip(false);
            let appends = self.rest.starts_with("+=");
            match self.rest.chars().next() {
                Some('{') => {}
                Some('=' | ':') => self.advance(1),
                Some('+') if appends => self.advance(2),
                _ => bail!("\"=\" or \"{{\" must follow \"{}\"", path.join(".")),
            }
            self.skip(false);
            while self.rest.starts_with('\n') {
                self.skip(true);
            }
            let value = self.value(depth + 1)?;
            put(&mut table, &path, value, appends);
        }
    }

    /// A key, which may be a path.
    fn key(&mut self) -> anyhow::Result<Vec<String>> {
        let mut path = vec![String::new()];
        loop {
            match self.rest.chars().next() {
                Some('"') => {
                    let text = self.quoted()?;
                    path.last_mut().expect("it begins with one").push_str(&text);
                }
                Some('.') => {
                    self.advance(1);
                    path.push(String::new());
                }
                Some(c) if c.is_alphanumeric() || "_-$/@".contains(c) => {
                    path.last_mut().expect("it begins with one").push(c);
                    self.advance(c.len_utf8());
                }
                _ => break,
            }
        }
        ensure!(path.iter().all(|name| !name.is_empty()), "a key is missing");
        Ok(path)
    }

    fn value(&mut self, depth: usize) -> anyhow::Result<Value> {
        ensure!(depth < DEPTH_MAX, "it goes too deep");
        match self.rest.chars().next() {
            Some('{') => {
                self.advance(1);
                let mut table = self.table(true, depth)?;
                // Tables side by side are one.
                self.skip(false);
                while self.rest.starts_with('{') {
                    self.advance(1);
                    let further = self.table(true, depth)?;
                    further.into_iter().for_each(|(name, value)| put(&mut table, &[name], value, false));
                    self.skip(false);
                }
                Ok(Value::Object(table))
            }
            Some('[') => {
                self.advance(1);
                let mut list = Vec::new();
                loop {
                    self.skip(true);
                    if self.rest.starts_with(']') {
                        self.advance(1);
                        return Ok(Value::Array(list));
                    }
                    ensure!(!self.rest.is_empty(), "a bracket is not closed");
                    list.push(self.value(depth + 1)?);
                }
            }
            _ => self.scalar(),
        }
    }

    /// A text, a number, or several texts side by side.
    fn scalar(&mut self) -> anyhow::Result<Value> {
        let mut text = String::new();
        let mut is_quoted = false;
        loop {
            if self.rest.starts_with("\"\"\"") {
                is_quoted = true;
                text.push_str(&self.triple()?);
            } else if self.rest.starts_with('"') {
                is_quoted = true;
                text.push_str(&self.quoted()?);
            } else if self.rest.starts_with("${") {
                let end = self.rest.find('}').context("a substitution is not closed")?;
                let name = self.rest[2..end].trim_start_matches('?').to_owned();
                self.advance(end + 1);
                self.notes.push(format!("${{{name}}}: a substitution is not followed; the text stands as it is"));
                is_quoted = true;
                text.push_str(&format!("${{{name}}}"));
            } else {
                let end = self.rest.find(|c| "\n,{}[]#\"$".contains(c)).unwrap_or(self.rest.len());
                let plain = &self.rest[..end];
                let plain = plain.find("//").filter(|at| *at == 0 || plain[..*at].ends_with(' ')).map_or(plain, |at| &plain[..at]);
                if plain.is_empty() {
                    break;
                }
                text.push_str(plain);
                self.advance(plain.len());
            }
        }
        let text = if is_quoted { text } else { text.trim().to_owned() };
        let plain = text.trim();
        ensure!(is_quoted || !plain.is_empty(), "a value is missing");
        Ok(match plain {
            _ if is_quoted => Value::String(text.trim_end_matches(['\r', ' ']).to_owned()),
            "true" | "on" | "yes" => Value::Bool(true),
            "false" | "off" | "no" => Value::Bool(false),
            "null" => Value::Null,
            _ => {
                let number = plain.parse::<i64>().ok().map(Number::from);
                number
                    .or_else(|| plain.parse::<f64>().ok().and_then(Number::from_f64))
                    .map_or_else(|| Value::String(plain.to_owned()), Value::Number)
            }
        })
    }

    /// A text in quotes, with JSON's escapes.
    fn quoted(&mut self) -> anyhow::Result<String> {
        let mut end = 1;
        let bytes = self.rest.as_bytes();
        while end < bytes.len() && bytes[end] != b'"' {
            end += if bytes[end] == b'\\' { 2 } else { 1 };
        }
        ensure!(end < bytes.len(), "a quote is not closed");
        let text = serde_json::from_str(&self.rest[..=end]).context("a text in quotes is wrong")?;
        self.advance(end + 1);
        Ok(text)
    }

    /// A text in triple quotes. With `~` behind them, the indentation that all lines share is none of it.
    fn triple(&mut self) -> anyhow::Result<String> {
        self.advance(3);
        let end = self.rest.find("\"\"\"").context("triple quotes are not closed")?;
        let extra = self.rest[end + 3..].bytes().take_while(|byte| *byte == b'"').count();
        let text = self.rest[..end + extra].to_owned();
        self.advance(end + extra + 3);
        let Some(indented) = text.strip_prefix("~\n") else { return Ok(text) };
        let indented = indented.strip_suffix('~').unwrap_or(indented);
        let lines: Vec<&str> = indented.lines().collect();
        let spaces = |line: &&str| line.len() - line.trim_start_matches(' ').len();
        let shared = lines.iter().filter(|line| !line.trim().is_empty()).map(spaces).min().unwrap_or(0);
        let cut = lines.iter().map(|line| line.get(shared..).unwrap_or_default());
        Ok(cut.collect::<Vec<_>>().join("\n").trim_end_matches('\n').to_owned())
    }
}

/// Puts a value where a path leads; tables are merged.
fn put(table: &mut Map<String, Value>, path: &[String], value: Value, appends: bool) {
    let Some((first, rest)) = path.split_first() else { return };
    if !rest.is_empty() {
        let entry = table.entry(first.clone()).or_insert_with(|| Value::Object(Map::new()));
        if !entry.is_object() {
            *entry = Value::Object(Map::new());
        }
        if let Value::Object(inner) = entry {
            put(inner, rest, value, appends);
        }
        return;
    }
    match (table.get_mut(first), value) {
        (Some(Value::Object(there)), Value::Object(new)) => new.into_iter().for_each(|(name, value)| put(there, &[name], value, false)),
        (Some(Value::Array(list)), value) if appends => list.push(value),
        (_, value) => drop(table.insert(first.clone(), if appends { Value::Array(vec![value]) } else { value })),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(text: &str, expect: Value) {
        let parsed = parse(text, &mut Vec::new()).unwrap_or_else(|error| panic!("{text}: {error:#}"));
        assert_eq!(Value::Object(parsed), expect, "{text}");
    }

    #[test]
    fn keys_may_be_paths_and_tables_are_merged() {
        check("a.b = 1\na { c = x }", json!({"a": {"b": 1, "c": "x"}}));
        check("{\"a\": {\"b.c\": [1, 2.5, null]}, d: true}", json!({"a": {"b.c": [1, 2.5, null]}, "d": true}));
        check("a = [\n {x = 1}\n {x = 2}\n]\na += 3 # more\n// no", json!({"a": [{"x": 1}, {"x": 2}, 3]}));
        check("a = {b = 1} {c = 2}", json!({"a": {"b": 1, "c": 2}}));
    }

    #[test]
    fn texts_are_as_emqx_writes_them() {
        check("bind = 0.0.0.0:1883, idle = 15s", json!({"bind": "0.0.0.0:1883", "idle": "15s"}));
        check("url = \"http://127.0.0.1:18083/a#b\"", json!({"url": "http://127.0.0.1:18083/a#b"}));
        check("sql = \"\"\"~\n    SELECT *\n      FROM \"t/#\"~\"\"\"\nx = 1", json!({"sql": "SELECT *\n  FROM \"t/#\"", "x": 1}));
        check("sql = \"\"\"SELECT \"a\" \"\"\"", json!({"sql": "SELECT \"a\""}));
        check("a = \"say \\\"hi\\\"\\n\"", json!({"a": "say \"hi\"\n"}));
    }

    #[test]
    fn what_is_wrong_has_its_line() {
        for wrong in ["a = {\nb = 1", "\na b", "a = \"x", "a = [1"] {
            let error = parse(wrong, &mut Vec::new()).expect_err("wrong");
            assert!(format!("{error:#}").contains("line "), "{error:#}");
        }
    }
}
