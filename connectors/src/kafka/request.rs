//! From a record to a Kafka message. Pure.

use bytes::Bytes;
use hookline_schemas::{Record, Template};

use super::config::Parameters;
use crate::kind::{SettingsError, template};

/// The templates of an action.
#[derive(Debug)]
pub(super) struct Request {
    topic: Template,
    key: Template,
    value: Template,
    headers: Vec<(String, Template)>,
}

/// A message, ready to be produced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) headers: Vec<(String, Bytes)>,
}

impl Request {
    pub(super) fn new(parameters: &Parameters) -> Result<Request, Vec<SettingsError>> {
        let headers = parameters
            .headers
            .iter()
            .map(|(name, text)| Ok::<_, Vec<SettingsError>>((name.clone(), template(&format!("headers.{name}"), text)?)));
        Ok(Request {
            topic: template("topic", &parameters.topic)?,
            key: template("key", &parameters.key)?,
            value: template("value", &parameters.value)?,
            headers: headers.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn message(&self, record: &Record) -> Message {
        let own = ("hookline_id".to_owned(), Bytes::copy_from_slice(record.hookline_id.as_bytes()));
        let headers = self.headers.iter().map(|(name, template)| (name.clone(), template.render(&record.row)));
        Message {
            topic: self.topic.render_text(&record.row),
            key: self.key.render(&record.row),
            value: self.value.render(&record.row),
            headers: std::iter::once(own).chain(headers).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::Value;

    use super::*;

    #[test]
    fn templates_make_the_message() {
        let parameters = serde_json::json!({"topic": "t-${site}", "headers": {"qos": "${qos}"}});
        let request = Request::new(&serde_json::from_value(parameters).expect("valid")).expect("valid");
        let row = Value::from_json(serde_json::json!({"clientid": "c", "site": "a", "qos": 1}));
        let message = request.message(&Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row });
        assert_eq!((message.topic.as_str(), &message.key[..]), ("t-a", &b"c"[..]));
        assert_eq!(&message.value[..], br#"{"clientid":"c","site":"a","qos":1}"#);
        assert_eq!(message.headers, [("hookline_id".into(), Bytes::from("n:1:1")), ("qos".into(), Bytes::from("1"))]);
    }
}
