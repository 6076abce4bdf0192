//! The text of a configuration without its secrets.

use std::collections::HashMap;

use toml_edit::{DocumentMut, Item, TableLike, Value};

/// Words in the names of settings that are secrets.
const SECRET: [&str; 9] = ["password", "passphrase", "secret", "token", "private_key", "credential", "authorization", "cookie", "api_key"];
/// Ends of the names of settings that may have a password in them.
const SECRET_ENDS: [&str; 4] = ["url", "uri", "dsn", "hash"];
/// Tables all of whose values may be secrets.
const SECRET_TABLES: [&str; 1] = ["headers"];

/// Puts numbers in the place of secrets: the same one for the same secret, so that it can be seen whether one has changed.
#[derive(Debug, Default)]
pub(crate) struct Redaction(HashMap<String, usize>);

fn is_secret(key: &str) -> bool {
    let key = key.to_ascii_lowercase().replace('-', "_");
    SECRET.iter().any(|word| key.contains(word)) || SECRET_ENDS.iter().any(|end| key.ends_with(end))
}

impl Redaction {
    /// The text without secrets; `None`: it is no TOML.
    pub(crate) fn redact(&mut self, text: &str) -> Option<String> {
        let mut document: DocumentMut = text.parse().ok()?;
        self.table(document.as_table_mut(), false);
        Some(document.to_string())
    }

    fn table(&mut self, table: &mut dyn TableLike, whole: bool) {
        for (key, item) in table.iter_mut() {
            let key = key.get().to_owned();
            let below = SECRET_TABLES.contains(&key.as_str());
            self.item(item, whole || below || is_secret(&key));
        }
    }

    fn item(&mut self, item: &mut Item, whole: bool) {
        match item {
            Item::None => {}
            Item::Value(value) => self.value(value, whole),
            Item::Table(table) => self.table(table, whole),
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|table| self.table(table, whole)),
        }
    }

    fn value(&mut self, value: &mut Value, whole: bool) {
        match value {
            Value::Array(list) => list.iter_mut().for_each(|value| self.value(value, whole)),
            Value::InlineTable(table) => self.table(table, whole),
            Value::String(_) | Value::Integer(_) if whole => {
                let number = self.0.len() + 1;
                let number = *self.0.entry(value.to_string().trim().to_owned()).or_insert(number);
                let decor = value.decor().clone();
                *value = format!("*** {number}").into();
                *value.decor_mut() = decor;
            }
            _ => {}
        }
    }
}

/// A text without comments in which secrets may stand.
pub(crate) fn without_secret_comments(text: &str) -> String {
    let line = |line: &str| match line.split_once('#') {
        Some((before, comment)) if comment.split(|c: char| !c.is_alphanumeric() && !"_-".contains(c)).any(is_secret) => {
            format!("{before}# ***\n")
        }
        _ => line.to_owned(),
    };
    text.split_inclusive('\n').map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_become_numbers_and_the_rest_stays() {
        let text = r#"# ours
[connectors.a]
url = "postgres://u:first@h/d" # where
password = "second"
server = "h"
headers = { X-Any = "third", b = ["fourth"] }
[[api.keys]]
key = "k"
secret = """fifth
sixth"""
# password = "seventh"
token_lifetime_secs = 5
"#;
        let mut redaction = Redaction::default();
        let redacted = without_secret_comments(&redaction.redact(text).expect("TOML"));
        for secret in ["first", "second", "third", "fourth", "fifth", "sixth", "seventh"] {
            assert!(!redacted.contains(secret), "{secret} is in {redacted}");
        }
        for plain in ["# ours", "url = \"*** 1\" # where", "server = \"h\"", "key = \"k\"", "password = \"*** 2\""] {
            assert!(redacted.contains(plain), "{plain} is not in {redacted}");
        }
        let other = redaction.redact("password = \"second\"\nsecret = \"new\"").expect("TOML");
        assert!(other.contains("password = \"*** 2\"") && !other.contains("new") && other.contains("secret = \"*** 7\""), "{other}");
        assert_eq!(redaction.redact("[x"), None);
    }
}
