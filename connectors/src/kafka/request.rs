//! From a record to a Kafka message. Pure.

use bytes::Bytes;
use hookline_schemas::trace::is_trace_header;
use hookline_schemas::{Record, Template, Value};

use super::config::Parameters;
use crate::kind::{SettingsError, template};

/// The templates of an action.
#[derive(Debug)]
pub(super) struct Request {
    topic: Template,
    key: Template,
    value: Template,
    headers: Vec<(String, Template)>,
    headers_from: Option<Template>,
    partition: Option<Template>,
    timestamp: Template,
}

/// A message, ready to be produced.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Message {
    pub(super) topic: String,
    pub(super) key: Bytes,
    pub(super) value: Bytes,
    pub(super) headers: Vec<(String, Bytes)>,
    pub(super) partition: Option<i32>,
    /// Milliseconds since the Unix epoch.
    pub(super) timestamp: Option<i64>,
}

impl Request {
    pub(super) fn new(parameters: &Parameters) -> Result<Request, Vec<SettingsError>> {
        let headers = parameters
            .headers
            .iter()
            .map(|(name, text)| Ok::<_, Vec<SettingsError>>((name.clone(), template(&format!("headers.{name}"), text)?)));
        let optional = |name: &str, text: &Option<String>| text.as_ref().map(|text| template(name, text)).transpose();
        Ok(Request {
            headers_from: optional("headers_from", &parameters.headers_from)?,
            partition: optional("partition", &parameters.partition)?,
            timestamp: template("timestamp", &parameters.timestamp)?,
            topic: template("topic", &parameters.topic)?,
            key: template("key", &parameters.key)?,
            value: template("value", &parameters.value)?,
            headers: headers.collect::<Result<_, _>>()?,
        })
    }

    pub(super) fn message(&self, record: &Record) -> Message {
        let own = ("hookline_id".to_owned(), Bytes::copy_from_slice(record.hookline_id.as_bytes()));
        let headers = self.headers.iter().map(|(name, template)| (name.clone(), template.render(&record.row)));
        let further = match self.headers_from.as_ref().and_then(|template| template.value(&record.row)) {
            Some(Value::Map(map)) => map.iter().flat_map(|(name, value)| texts(name, value)).collect(),
            _ => Vec::new(),
        };
        let number = |template: &Template| template.render_text(&record.row).parse::<i64>().ok();
        Message {
            partition: self.partition.as_ref().and_then(number).and_then(|number| i32::try_from(number).ok()),
            timestamp: number(&self.timestamp),
            topic: self.topic.render_text(&record.row),
            key: self.key.render(&record.row),
            value: self.value.render(&record.row),
            headers: with_trace(std::iter::once(own).chain(headers).chain(further).collect(), record),
        }
    }
}

/// The headers, with the trace context of the record in place of the one that its message came with.
fn with_trace(mut headers: Vec<(String, Bytes)>, record: &Record) -> Vec<(String, Bytes)> {
    if let Some(trace) = &record.trace {
        headers.retain(|(name, _)| !is_trace_header(name));
        headers.extend(trace.headers().map(|(name, value)| (name.to_owned(), value.into())));
    }
    headers
}

/// A header, or one for each value of an array: user properties may come several times under one name.
fn texts(name: &str, value: &Value) -> Vec<(String, Bytes)> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| texts(name, item)).collect(),
        Value::Undefined | Value::Null => Vec::new(),
        Value::Text(text) => vec![(name.to_owned(), Bytes::copy_from_slice(text.as_bytes()))],
        Value::Bytes(bytes) => vec![(name.to_owned(), bytes.clone())],
        other => vec![(name.to_owned(), other.to_string().into())],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_make_the_message() {
        let parameters =
            serde_json::json!({"topic": "t-${site}", "headers": {"qos": "${qos}"}, "headers_from": "${up}", "partition": "${part}"});
        let request = Request::new(&serde_json::from_value(parameters).expect("valid")).expect("valid");
        let json = serde_json::json!({"clientid": "c", "site": "a", "qos": 1, "up": {"a": ["1", "2"], "b": 3}, "part": 2, "timestamp": 7});
        let row = Value::from_json(json);
        let message = request.message(&Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row, trace: None });
        assert_eq!((message.topic.as_str(), &message.key[..]), ("t-a", &b"c"[..]));
        assert_eq!(&message.value[..], br#"{"clientid":"c","site":"a","qos":1,"up":{"a":["1","2"],"b":3},"part":2,"timestamp":7}"#);
        let headers: Vec<(&str, &[u8])> = message.headers.iter().map(|(name, value)| (name.as_str(), &value[..])).collect();
        assert_eq!(headers, [("hookline_id", &b"n:1:1"[..]), ("qos", b"1"), ("a", b"1"), ("a", b"2"), ("b", b"3")]);
        assert_eq!((message.partition, message.timestamp), (Some(2), Some(7)));
    }

    #[test]
    fn the_trace_context_of_a_record_takes_the_place_of_what_came_in() {
        let parameters = serde_json::json!({"topic": "t", "headers_from": "${up}"});
        let request = Request::new(&serde_json::from_value(parameters).expect("valid")).expect("valid");
        let row = Value::from_json(serde_json::json!({"up": {"traceparent": "old", "Tracestate": "old", "a": "b"}}));
        let mut record = Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row, trace: None };
        let names = |record: &Record| request.message(record).headers.into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&record), ["hookline_id", "traceparent", "Tracestate", "a"]);
        let trace = hookline_schemas::TraceContext::root();
        let traceparent = trace.traceparent();
        record.trace = Some(Box::new(trace));
        assert_eq!(names(&record), ["hookline_id", "a", "traceparent"]);
        assert_eq!(request.message(&record).headers[2].1, traceparent.as_bytes());
    }
}
