//! JSON straight into values, whole or only some of its keys. The parser bounds the depth to 128.

use std::borrow::Cow;
use std::collections::HashMap;

use hookline_schemas::{Map, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// Beyond so many keys a map is built with an index, so that no document costs the square of its size.
const SCANNED_KEYS_MAX: usize = 32;

/// The document in these bytes.
pub(crate) fn parse(bytes: &[u8]) -> Option<Value> {
    read(bytes, Document)
}

/// The document, where it is an object with these keys only. The rest is checked for its form and not kept; what is no
/// object has none of the keys, so that null stands for it.
pub(crate) fn parse_keys(bytes: &[u8], keys: &[Box<str>]) -> Option<Value> {
    read(bytes, Keys(keys))
}

fn read<'de>(bytes: &'de [u8], seed: impl DeserializeSeed<'de, Value = Value>) -> Option<Value> {
    // Checked here, because what the parser skips it does not check.
    let text = std::str::from_utf8(bytes).ok()?;
    let mut parser = serde_json::Deserializer::from_str(text);
    let value = seed.deserialize(&mut parser).ok()?;
    parser.end().ok()?;
    Some(value)
}

/// Any value.
#[derive(Clone, Copy)]
struct Document;

impl<'de> DeserializeSeed<'de> for Document {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Document {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, bool: bool) -> Result<Value, E> {
        Ok(Value::Bool(bool))
    }

    fn visit_i64<E: Error>(self, int: i64) -> Result<Value, E> {
        Ok(Value::Int(int))
    }

    fn visit_u64<E: Error>(self, int: u64) -> Result<Value, E> {
        Ok(i64::try_from(int).map_or(Value::Float(int as f64), Value::Int))
    }

    fn visit_f64<E: Error>(self, float: f64) -> Result<Value, E> {
        Ok(Value::Float(float))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = elements.next_element_seed(Document)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut entries = Entries::default();
        while let Some(key) = access.next_key_seed(Key)? {
            entries.insert(key, access.next_value_seed(Document)?);
        }
        Ok(Value::Map(entries.into_map()))
    }
}

/// An object of which only some keys are kept.
struct Keys<'k>(&'k [Box<str>]);

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E: Error>(self, _: bool) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_i64<E: Error>(self, _: i64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_u64<E: Error>(self, _: u64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        // It may hold a document itself.
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut elements: A) -> Result<Value, A::Error> {
        while elements.next_element::<IgnoredAny>()?.is_some() {}
        Ok(Value::Null)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key_seed(Key)? {
            if self.0.iter().any(|wanted| **wanted == *key) {
                map.insert(&key, access.next_value_seed(Document)?);
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(Value::Map(map))
    }
}

/// A key; borrowed from the text where it has no escapes.
struct Key;

impl<'de> DeserializeSeed<'de> for Key {
    type Value = Cow<'de, str>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Cow<'de, str>, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Key {
    type Value = Cow<'de, str>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a key")
    }

    fn visit_borrowed_str<E: Error>(self, key: &'de str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Borrowed(key))
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<Cow<'de, str>, E> {
        Ok(Cow::Owned(key.to_owned()))
    }
}

/// The entries of an object; the last of those with one key counts.
#[derive(Default)]
struct Entries<'de> {
    map: Map,
    /// What came when the map was too long to be scanned, and where each key is in it.
    tail: Vec<(Cow<'de, str>, Value)>,
    places: HashMap<Cow<'de, str>, usize>,
}

impl<'de> Entries<'de> {
    fn insert(&mut self, key: Cow<'de, str>, value: Value) {
        if self.map.len() < SCANNED_KEYS_MAX {
            return self.map.insert(&key, value);
        }
        if let Some(slot) = self.map.get_mut(&key) {
            *slot = value;
            return;
        }
        match self.places.get(&key) {
            Some(place) => self.tail[*place].1 = value,
            None => {
                self.places.insert(key.clone(), self.tail.len());
                self.tail.push((key, value));
            }
        }
    }

    fn into_map(mut self) -> Map {
        for (key, value) in self.tail {
            self.map.push_new(&key, value);
        }
        self.map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn documents_are_read_as_the_json_library_reads_them() {
        let many: String = (0..200).map(|i| format!("\"k{}\": {i},", i % 150)).collect();
        let documents = [
            r#"{"a": [1, -2, 2.5, 1e3, true, null, "x\ny", {}], "b": {"c": {"d": []}}, "a": 7}"#.to_owned(),
            format!("{{{many}\"end\": 1}}"),
            "18446744073709551615".to_owned(),
            " [1] ".to_owned(),
        ];
        for document in documents {
            let json: serde_json::Value = serde_json::from_str(&document).expect("valid");
            assert_eq!(parse(document.as_bytes()), Some(Value::from_json(json)), "{document}");
        }
    }

    #[test]
    fn what_is_no_document_is_none_with_and_without_keys() {
        let deep = "[".repeat(1000) + &"]".repeat(1000);
        for text in ["", "nope", "{\"a\": +1}", "{\"a\": 1", "{\"a\": 1} x", "{\"a\": 1e400}", "{\"b\": tru}", "[1,]"] {
            assert_eq!(parse(text.as_bytes()), None, "{text}");
            assert_eq!(parse_keys(text.as_bytes(), &["a".into()]), None, "{text}");
        }
        assert_eq!(parse(deep.as_bytes()), None);
        assert_eq!(parse_keys(b"{\"b\": \"\xff\", \"a\": 1}", &["a".into()]), None);
    }

    #[test]
    fn only_the_wanted_keys_are_kept_and_the_last_of_one_name_counts() {
        let read = |text: &str| parse_keys(text.as_bytes(), &["a".into(), "n".into()]).map(|value| value.to_json());
        assert_eq!(read(r#"{"a": 1, "b": [{"a": 2}], "n": {"x": 3}, "a": 4}"#), Some(serde_json::json!({"a": 4, "n": {"x": 3}})));
        assert_eq!(read(r#"{"\u0061": 1}"#), Some(serde_json::json!({"a": 1})));
        assert_eq!(read("[1, 2]"), Some(serde_json::Value::Null));
    }
}
