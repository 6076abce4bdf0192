//! The columns of an event that somebody gives as JSON, with samples in place of those that are missing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hookline_schemas::{HookPoint, Map, Value};
use serde_json::Value as Json;

use crate::error::did_you_mean;
use crate::plan::Statement;

/// What an event is given as: its columns.
type Given = serde_json::Map<String, Json>;

/// What stands for a wildcard in a sample of a topic.
const LEVEL: &str = "a";

impl Statement {
    /// The columns of an event that is given as JSON. `event` or `event_type` names it; without them it is one that FROM selects.
    /// Missing columns are those of a sample. Null is a column without a value, `{"$base64": "…"}` stands for bytes, and a payload
    /// that is no text for the text of its JSON.
    ///
    /// # Errors
    /// There is no such event, or bytes that are no base64.
    pub fn complete(&self, given: &Given, node: &str, now_ms: u64) -> Result<Value, String> {
        let name = match given.get("event").or(given.get("event_type")) {
            Some(Json::String(name)) => Some(name.as_str()),
            Some(other) => return Err(format!("event: {other} is no text; name an event, such as \"message.publish\"")),
            None => None,
        };
        let mut row = match (name, self.selected()) {
            (Some(name), _) if is_source(name) => of_source(name),
            (Some(name), _) => self.sample(HookPoint::named(name).ok_or_else(|| unknown(name))?, node, now_ms),
            (None, Selected::Point(point)) => self.sample(point, node, now_ms),
            (None, Selected::Source(name)) => of_source(&name),
        };
        for (column, value) in given.iter().filter(|(column, _)| !["event", "event_type"].contains(&column.as_str())) {
            let value = match column.as_str() {
                "payload" => payload(value)?,
                _ => value_of(value)?,
            };
            row.insert(column, value);
        }
        Ok(Value::Map(row))
    }

    /// An event that FROM selects; of several the first, and a message before the others.
    fn selected(&self) -> Selected {
        match (self.filters.first(), self.points.first(), self.ingress.first()) {
            (None, Some(point), _) => Selected::Point(*point),
            (None, None, Some(name)) => Selected::Source(format!("$sources/{}", topic_for(name))),
            _ => Selected::Point(HookPoint::MessagePublish),
        }
    }

    /// A sample, with a topic that is for this statement.
    fn sample(&self, point: HookPoint, node: &str, now_ms: u64) -> Map {
        let Value::Map(mut row) = point.sample(node, now_ms) else { return Map::new() };
        let is_selected = row.get("topic").and_then(Value::as_text).is_some_and(|topic| self.selects_topic(topic));
        if let (HookPoint::MessagePublish, false, Some(filter)) = (point, is_selected, self.filters.first()) {
            row.insert("topic", Value::text(&topic_for(filter)));
        }
        row
    }
}

/// What FROM selects.
enum Selected {
    Point(HookPoint),
    /// A bridge or a source, by its name in FROM.
    Source(String),
}

fn is_source(name: &str) -> bool {
    name.starts_with("$sources/") || name.starts_with("$bridges/")
}

/// There is no sample of what comes from outside.
fn of_source(name: &str) -> Map {
    let mut row = Map::new();
    row.push_new("event", Value::text(name));
    row
}

fn unknown(name: &str) -> String {
    let known = HookPoint::TABLE.iter().map(|spec| spec.name);
    let hint = did_you_mean(name, known).map(|near| format!("; did you mean \"{near}\"?"));
    format!("there is no event \"{name}\"{}", hint.unwrap_or_default())
}

/// A topic that a filter matches.
fn topic_for(filter: &str) -> String {
    let levels: Vec<&str> = filter.split('/').map(|level| if ["+", "#"].contains(&level) { LEVEL } else { level }).collect();
    levels.join("/")
}

fn payload(json: &Json) -> Result<Value, String> {
    match json {
        Json::Object(map) if map.contains_key("$base64") => value_of(json),
        Json::Null => Ok(Value::Undefined),
        Json::String(text) => Ok(Value::Bytes(text.clone().into())),
        other => Ok(Value::Bytes(other.to_string().into())),
    }
}

fn value_of(json: &Json) -> Result<Value, String> {
    match json {
        Json::Null => Ok(Value::Undefined),
        Json::Object(map) if map.len() == 1 => match map.get("$base64") {
            Some(Json::String(text)) => {
                STANDARD.decode(text).map(|bytes| Value::Bytes(bytes.into())).map_err(|error| format!("$base64: {error}"))
            }
            _ => Ok(Value::from_json(json.clone())),
        },
        other => Ok(Value::from_json(other.clone())),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn complete(sql: &str, given: Json) -> Result<Value, String> {
        let statement = Statement::compile(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
        let Json::Object(given) = given else { panic!("an event is an object") };
        statement.complete(&given, "n", 1_700_000_000_000)
    }

    #[test]
    fn an_event_without_columns_is_one_that_from_selects() {
        for (sql, event, topic) in [
            ("SELECT * FROM \"t/#\"", "message.publish", Some("t/a")),
            ("SELECT * FROM \"devices/+/up/#\"", "message.publish", Some("devices/a/up/a")),
            ("SELECT * FROM \"$events/client/connected\"", "client.connected", None),
            ("SELECT * FROM \"$events/client/connected\", \"x\"", "message.publish", Some("x")),
            ("SELECT * FROM \"$sources/kafka:orders\"", "$sources/kafka:orders", None),
        ] {
            let columns = complete(sql, json!({})).expect("complete");
            assert_eq!(columns.path(["event"]).as_text(), Some(event), "{sql}");
            assert_eq!(columns.path(["topic"]).as_text(), topic, "{sql}");
            assert!(Statement::compile(sql).expect("valid").matches_event(&columns), "{sql}");
        }
    }

    #[test]
    fn what_is_given_stands_over_the_sample() {
        let given = json!({"event_type": "message_dropped", "payload": {"t": 1.0}, "qos": 2, "username": null, "mine": [1]});
        let columns = complete("SELECT * FROM \"#\"", given).expect("complete");
        assert_eq!(columns.path(["event"]).as_text(), Some("message.dropped"));
        assert_eq!(columns.path(["reason"]).as_text(), Some("no_subscribers"));
        assert_eq!(columns.path(["payload"]).as_text(), Some(r#"{"t":1.0}"#));
        assert_eq!(columns.path(["qos"]), &Value::Int(2));
        assert_eq!(columns.path(["username"]), &Value::Undefined);
        assert_eq!(columns.path(["event_type"]), &Value::Undefined);
        assert_eq!(columns.path(["mine"]).to_json(), json!([1]));
        let columns = complete("SELECT * FROM \"#\"", json!({"payload": {"$base64": "AP8="}})).expect("complete");
        assert_eq!(columns.path(["payload"]).as_bytes(), Some(&[0, 255][..]));
    }

    #[test]
    fn what_is_no_event_is_told() {
        let problem = complete("SELECT * FROM \"#\"", json!({"event": "client.conected"})).expect_err("unknown");
        assert_eq!(problem, "there is no event \"client.conected\"; did you mean \"client.connected\"?");
        assert!(complete("SELECT * FROM \"#\"", json!({"event": 1})).is_err());
        assert!(complete("SELECT * FROM \"#\"", json!({"payload": {"$base64": "?"}})).is_err());
    }
}
