//! Permissions out of what outside systems, tokens and directories say.

use std::collections::BTreeMap;

use hookline_schemas::config::{AccessRule, Permission, RuleAccess};
use hookline_schemas::{Map, Value};
use serde_json::Value as Json;

use crate::rule::Rule;

/// The forms in which backends tell permissions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// A row or document for each: permission, action, topic.
    Rows,
    /// A topic as the name of each field, and what may be done as its value.
    ByTopic,
    /// Attributes of a directory entry: topics to publish to and to subscribe to.
    Attributes,
    /// The answer of an HTTP server: a list, or `{"acl": …}`.
    Answer,
}

/// Permissions, and whether what they do not mention is denied.
#[derive(Debug, Default)]
pub(crate) struct Acl {
    pub(crate) rules: Vec<Rule>,
    pub(crate) is_closed: bool,
}

/// The permissions in what was found. What makes no sense is an error: a rule that is left out might be a denial.
pub(crate) fn read(form: Form, rows: &[Value]) -> Result<Acl, String> {
    let mut rules = Vec::new();
    for row in rows {
        let Value::Map(row) = row else { return Err("the answer has no fields".to_owned()) };
        match form {
            Form::Rows => rules.push(Rule::new(&of_row(row)?)?),
            Form::ByTopic => {
                for (topic, value) in row.iter() {
                    rules.push(Rule::new(&of_topic(topic, value)?)?);
                }
            }
            Form::Attributes => {
                for (name, value) in row.iter() {
                    let action = match name.to_ascii_lowercase().as_str() {
                        "mqttpublishtopic" => RuleAccess::Publish,
                        "mqttsubscriptiontopic" => RuleAccess::Subscribe,
                        "mqttpubsubtopic" => RuleAccess::All,
                        _ => continue,
                    };
                    let topics = texts(value);
                    if !topics.is_empty() {
                        rules.push(Rule::new(&rule(Permission::Allow, action, topics))?);
                    }
                }
            }
            Form::Answer => {
                let body = row.get("body").map(Value::to_json).unwrap_or_default();
                match row.get("status") {
                    // There is nothing to say about this client.
                    Some(Value::Int(204)) => return Ok(Acl::default()),
                    Some(Value::Int(200)) if body.is_array() || body.is_object() => {}
                    Some(Value::Int(200)) => return Err("the answer is neither a list nor an object".to_owned()),
                    other => return Err(format!("the server answers {}", other.cloned().unwrap_or_default())),
                }
                let list = body.get("acl").cloned().unwrap_or(body);
                return of_claim(&list);
            }
        }
    }
    Ok(Acl { rules, is_closed: false })
}

/// The permissions in a token or an answer about a login: a list of rules, or `{"pub": […], "sub": […], "all": […]}`, which denies the rest.
pub(crate) fn of_claim(claim: &Json) -> Result<Acl, String> {
    match claim {
        Json::Null => Ok(Acl::default()),
        Json::Array(items) => {
            let read = |item: &Json| match Value::from_json(item.clone()) {
                Value::Map(row) => Rule::new(&of_row(&row)?),
                _ => Err("a permission must be an object".to_owned()),
            };
            Ok(Acl { rules: items.iter().map(read).collect::<Result<_, _>>()?, is_closed: false })
        }
        Json::Object(map) => {
            let mut rules = Vec::new();
            for (name, action) in [("pub", RuleAccess::Publish), ("sub", RuleAccess::Subscribe), ("all", RuleAccess::All)] {
                let topics = map.get(name).map(|topics| texts(&Value::from_json(topics.clone()))).unwrap_or_default();
                if !topics.is_empty() {
                    rules.push(Rule::new(&rule(Permission::Allow, action, topics))?);
                }
            }
            Ok(Acl { rules, is_closed: true })
        }
        _ => Err("permissions must be a list or an object".to_owned()),
    }
}

fn rule(permission: Permission, action: RuleAccess, topics: Vec<String>) -> AccessRule {
    AccessRule {
        permission,
        action,
        topics,
        qos: None,
        retain: None,
        username: None,
        client_id: None,
        address: None,
        client_attrs: BTreeMap::new(),
    }
}

/// The names of today (permission, action, topic), and those of tables of version 4 (allow, access, topic).
fn of_row(row: &Map) -> Result<AccessRule, String> {
    let text = |name: &str| row.get(name).filter(|value| !value.is_null()).map(Value::to_string).filter(|text| !text.is_empty());
    let permission = match (text("permission").as_deref(), text("allow").as_deref()) {
        (Some("allow"), _) | (None, Some("1" | "true")) => Permission::Allow,
        (Some("deny"), _) | (None, Some("0" | "false")) => Permission::Deny,
        (other, _) => return Err(format!("permission must be \"allow\" or \"deny\", and not {other:?}")),
    };
    let action = match text("action").or_else(|| text("access")).as_deref() {
        Some("publish" | "2") => RuleAccess::Publish,
        Some("subscribe" | "1") => RuleAccess::Subscribe,
        Some("all" | "pubsub" | "3") | None => RuleAccess::All,
        Some(other) => return Err(format!("action must be \"publish\", \"subscribe\" or \"all\", and not \"{other}\"")),
    };
    let topics = row.get("topics").or_else(|| row.get("topic")).map(texts).unwrap_or_default();
    if topics.is_empty() {
        return Err("a permission without a topic".to_owned());
    }
    let qos = match row.get("qos").filter(|qos| !qos.is_null()) {
        None => None,
        Some(qos) => Some(numbers(qos).ok_or_else(|| format!("qos must be 0, 1 or 2, and not {qos}"))?),
    };
    let retain = match text("retain").as_deref() {
        None | Some("all") => None,
        Some("1" | "true") => Some(true),
        Some("0" | "false") => Some(false),
        Some(other) => return Err(format!("retain must be true or false, and not \"{other}\"")),
    };
    let address = text("ipaddress").or_else(|| text("ipaddr"));
    let of_all = |name: Option<String>| name.filter(|name| name != "$all");
    Ok(AccessRule {
        qos: qos.filter(|qos| !qos.is_empty()),
        retain,
        address,
        username: of_all(text("username")),
        client_id: of_all(text("clientid")),
        ..rule(permission, action, topics)
    })
}

/// A field of Redis: `publish`, `subscribe` or `all`, or JSON with `action`, `qos` and `retain`.
fn of_topic(topic: &str, value: &Value) -> Result<AccessRule, String> {
    let text = value.to_string();
    let mut row = match serde_json::from_str(&text) {
        Ok(Json::Object(map)) => match Value::from_json(Json::Object(map)) {
            Value::Map(map) => map,
            _ => Map::new(),
        },
        _ => {
            let mut row = Map::new();
            // Numbers are those of version 4.
            let name = if text.bytes().all(|byte| byte.is_ascii_digit()) { "access" } else { "action" };
            if text.is_empty() {
                return Err(format!("what may be done with \"{topic}\" is empty"));
            }
            row.insert(name, Value::text(&text));
            row
        }
    };
    row.insert("permission", Value::text("allow"));
    row.insert("topic", Value::text(topic));
    of_row(&row)
}

/// A text, a list of texts, or a text that is a JSON list.
pub(crate) fn texts(value: &Value) -> Vec<String> {
    match value {
        Value::Array(items) => items.iter().flat_map(texts).collect(),
        Value::Undefined | Value::Null => Vec::new(),
        other => {
            let text = other.to_string();
            match serde_json::from_str::<Vec<String>>(&text) {
                Ok(items) => items,
                Err(_) => vec![text].into_iter().filter(|text| !text.is_empty()).collect(),
            }
        }
    }
}

/// 1, "1", "0,1", [0, 1].
fn numbers(value: &Value) -> Option<Vec<u8>> {
    match value {
        Value::Int(number) => Some(vec![u8::try_from(*number).ok()?]),
        Value::Array(items) => Some(items.iter().map(numbers).collect::<Option<Vec<_>>>()?.concat()),
        other => {
            let text = other.to_string();
            let inner = text.trim().trim_start_matches('[').trim_end_matches(']').trim();
            if inner.is_empty() || inner == "all" {
                Some(Vec::new())
            } else {
                inner.split(',').map(|part| part.trim().parse().ok()).collect()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn row(json: Json) -> Value {
        Value::from_json(json)
    }

    #[test]
    fn rows_of_today_and_of_yesterday() {
        let good = [
            json!({"permission": "allow", "action": "publish", "topic": "a/#", "qos": "0,1", "retain": 0}),
            json!({"permission": "deny", "action": "all", "topics": ["a", "b"], "qos": 2}),
            json!({"allow": 1, "access": 3, "topic": "x/%c", "username": "$all", "ipaddr": null, "clientid": ""}),
            json!({"permission": "allow", "action": "subscribe", "topic": "eq #", "ipaddress": "10.0.0.1"}),
        ];
        assert!(good.iter().all(|good| read(Form::Rows, &[row(good.clone())]).is_ok_and(|acl| acl.rules.len() == 1)));
        let wrong = [
            json!({"permission": "maybe", "topic": "a"}),
            json!({"permission": "allow", "action": "look", "topic": "a"}),
            json!({"permission": "allow"}),
            json!({"permission": "allow", "topic": "a/#/b"}),
            json!({"permission": "allow", "topic": "a", "qos": "x"}),
            json!({"permission": "allow", "topic": "a", "ipaddress": "nowhere"}),
        ];
        for wrong in wrong {
            assert!(read(Form::Rows, &[row(wrong.clone())]).is_err(), "{wrong}");
        }
    }

    #[test]
    fn redis_directories_and_tokens() {
        let fields = json!({"a/1": "publish", "a/2": "3", "a/3": r#"{"action": "subscribe", "qos": [1]}"#});
        assert_eq!(read(Form::ByTopic, &[row(fields)]).expect("valid").rules.len(), 3);
        let entry = json!({"mqttPublishTopic": ["p/1", "p/2"], "mqttSubscriptionTopic": "s/#", "mqttPubSubTopic": [], "uid": "alice"});
        assert_eq!(read(Form::Attributes, &[row(entry)]).expect("valid").rules.len(), 2);
        let old = of_claim(&json!({"pub": ["a"], "sub": ["b"], "all": ["c"]})).expect("valid");
        assert!(old.rules.len() == 3 && old.is_closed);
        let new = of_claim(&json!([{"permission": "allow", "action": "publish", "topic": "a"}])).expect("valid");
        assert!(new.rules.len() == 1 && !new.is_closed);
        assert!(of_claim(&json!("x")).is_err());
    }
}
