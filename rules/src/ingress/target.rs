//! The parts of messages that operations set.

use hookline_mqtt::QoS;
use hookline_schemas::{Map, Value};

use super::transformation::Draft;
use crate::error::EvalError;

/// What an operation sets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    /// The payload, or what is at a path in it.
    Payload(Vec<Box<str>>),
    Topic,
    Qos,
    Retain,
    /// A user property of this name.
    UserProperty(Box<str>),
}

impl Target {
    /// Reads a key, such as `payload.a.b`.
    pub(super) fn parse(key: &str) -> Result<Target, String> {
        let (first, rest) = key.split_once('.').map_or((key, None), |(first, rest)| (first, Some(rest)));
        match (first, rest) {
            ("payload", None) => Ok(Target::Payload(Vec::new())),
            ("payload", Some(rest)) if rest.split('.').all(|part| !part.is_empty()) => {
                Ok(Target::Payload(rest.split('.').map(|part| part.trim_matches('\'').into()).collect()))
            }
            ("topic", None) => Ok(Target::Topic),
            ("qos", None) => Ok(Target::Qos),
            ("retain", None) => Ok(Target::Retain),
            ("user_property", Some(name)) if !name.is_empty() => Ok(Target::UserProperty(name.into())),
            _ => Err(format!("\"{key}\" cannot be set; there are payload, payload.PATH, topic, qos, retain and user_property.NAME")),
        }
    }

    /// Sets it.
    pub(super) fn set(&self, draft: &mut Draft, value: Value) -> Result<(), EvalError> {
        if value == Value::Undefined {
            return Err(EvalError::new("the expression has no value"));
        }
        match self {
            Target::Payload(path) => set_path(draft.column_mut("payload"), path, value)?,
            Target::Topic => *draft.column_mut("topic") = Value::Text(text(&value)?),
            Target::Qos => {
                let level = match &value {
                    Value::Int(level) => u8::try_from(*level).ok(),
                    other => other.as_text().and_then(|level| level.parse().ok()),
                };
                let level = level.and_then(QoS::from_bits).ok_or_else(|| EvalError::new(format!("there is no QoS {value}")))?;
                *draft.column_mut("qos") = Value::Int(level as i64);
            }
            Target::Retain => {
                let retain = match (&value, value.as_text()) {
                    (Value::Bool(retain), _) => *retain,
                    (_, Some("true")) => true,
                    (_, Some("false")) => false,
                    _ => return Err(EvalError::new(format!("retain is true or false, not {value}"))),
                };
                *draft.column_mut("retain") = Value::Bool(retain);
            }
            Target::UserProperty(name) => draft.set_user_property(name, text(&value)?),
        }
        Ok(())
    }
}

/// A value as the text of a topic or a property.
fn text(value: &Value) -> Result<Box<str>, EvalError> {
    match value {
        Value::Null => Err(EvalError::new("null is no text")),
        Value::Bytes(_) => value.as_text().map(Into::into).ok_or_else(|| EvalError::new("the bytes are no UTF-8 text")),
        other => Ok(other.to_string().into()),
    }
}

/// Sets what is at a path of maps; maps that are missing on the way are made.
fn set_path(target: &mut Value, path: &[Box<str>], value: Value) -> Result<(), EvalError> {
    let Some((first, rest)) = path.split_first() else {
        *target = value;
        return Ok(());
    };
    if target.is_null() {
        *target = Value::Map(Map::new());
    }
    let found = target.type_name();
    let Value::Map(map) = target else {
        return Err(EvalError::new(format!("cannot set \"{first}\" in {found}; does the payload need a decoder?")));
    };
    if map.get(first).is_none() {
        map.push_new(first, Value::Undefined);
    }
    map.get_mut(first).map_or(Ok(()), |inner| set_path(inner, rest, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read() {
        let path = |parts: &[&str]| Target::Payload(parts.iter().map(|part| (*part).into()).collect());
        for (key, expect) in [
            ("payload", path(&[])),
            ("payload.a.'b c'", path(&["a", "b c"])),
            ("topic", Target::Topic),
            ("qos", Target::Qos),
            ("retain", Target::Retain),
            ("user_property.a.b", Target::UserProperty("a.b".into())),
        ] {
            assert_eq!(Target::parse(key), Ok(expect), "{key}");
        }
        for wrong in ["", "clientid", "topic.a", "payload.", "payload..a", "user_property", "user_property."] {
            assert!(Target::parse(wrong).is_err(), "{wrong}");
        }
    }
}
