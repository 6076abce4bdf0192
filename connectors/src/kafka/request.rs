//! From a record to a Kafka message. Pure.

use std::borrow::Cow;

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
pub(super) struct Message<'a> {
    pub(super) topic: Cow<'a, str>,
    pub(super) key: Cow<'a, [u8]>,
    pub(super) value: Cow<'a, [u8]>,
    pub(super) headers: Vec<Header<'a>>,
    pub(super) partition: Option<i32>,
    /// Milliseconds since the Unix epoch.
    pub(super) timestamp: Option<i64>,
}

/// Name and value.
type Header<'a> = (Cow<'a, str>, Cow<'a, [u8]>);

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

    pub(super) fn message<'a>(&'a self, record: &'a Record) -> Message<'a> {
        let own = (Cow::Borrowed("hookline_id"), Cow::Borrowed(record.hookline_id.as_bytes()));
        let headers = self.headers.iter().map(|(name, template)| (Cow::Borrowed(name.as_str()), template.rendered(&record.row)));
        let further = match self.headers_from.as_ref().and_then(|template| template.value(&record.row)) {
            Some(Value::Map(map)) => map.iter().flat_map(|(name, value)| texts(name, value)).collect(),
            _ => Vec::new(),
        };
        let number = |template: &Template| match template.value(&record.row) {
            Some(Value::Int(number)) => Some(*number),
            _ => template.rendered_text(&record.row).parse::<i64>().ok(),
        };
        Message {
            partition: self.partition.as_ref().and_then(number).and_then(|number| i32::try_from(number).ok()),
            timestamp: number(&self.timestamp),
            topic: self.topic.rendered_text(&record.row),
            key: self.key.rendered(&record.row),
            value: self.value.rendered(&record.row),
            headers: with_trace(std::iter::once(own).chain(headers).chain(further).collect(), record),
        }
    }
}

/// The headers, with the trace context of the record in place of the one that its message came with.
fn with_trace<'a>(mut headers: Vec<Header<'a>>, record: &Record) -> Vec<Header<'a>> {
    if let Some(trace) = &record.trace {
        headers.retain(|(name, _)| !is_trace_header(name));
        headers.extend(trace.headers().map(|(name, value)| (name.into(), value.into_bytes().into())));
    }
    headers
}

/// A header, or one for each value of an array: user properties may come several times under one name.
fn texts<'a>(name: &'a str, value: &'a Value) -> Vec<Header<'a>> {
    match value {
        Value::Array(items) => items.iter().flat_map(|item| texts(name, item)).collect(),
        Value::Undefined | Value::Null => Vec::new(),
        Value::Text(text) => vec![(name.into(), text.as_bytes().into())],
        Value::Bytes(bytes) => vec![(name.into(), (&bytes[..]).into())],
        other => vec![(name.into(), other.to_text().into_bytes().into())],
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
        let record = Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row, trace: None };
        let message = request.message(&record);
        assert_eq!((&*message.topic, &message.key[..]), ("t-a", &b"c"[..]));
        assert_eq!(&message.value[..], br#"{"clientid":"c","site":"a","qos":1,"up":{"a":["1","2"],"b":3},"part":2,"timestamp":7}"#);
        let headers: Vec<(&str, &[u8])> = message.headers.iter().map(|(name, value)| (&**name, &value[..])).collect();
        assert_eq!(headers, [("hookline_id", &b"n:1:1"[..]), ("qos", b"1"), ("a", b"1"), ("a", b"2"), ("b", b"3")]);
        assert_eq!((message.partition, message.timestamp), (Some(2), Some(7)));
    }

    #[test]
    fn the_trace_context_of_a_record_takes_the_place_of_what_came_in() {
        let parameters = serde_json::json!({"topic": "t", "headers_from": "${up}"});
        let request = Request::new(&serde_json::from_value(parameters).expect("valid")).expect("valid");
        let row = Value::from_json(serde_json::json!({"up": {"traceparent": "old", "Tracestate": "old", "a": "b"}}));
        let mut record = Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row, trace: None };
        let names = |record: &Record| request.message(record).headers.into_iter().map(|(name, _)| name.into_owned()).collect::<Vec<_>>();
        assert_eq!(names(&record), ["hookline_id", "traceparent", "Tracestate", "a"]);
        let trace = hookline_schemas::TraceContext::root();
        let traceparent = trace.traceparent();
        record.trace = Some(Box::new(trace));
        assert_eq!(names(&record), ["hookline_id", "a", "traceparent"]);
        assert_eq!(*request.message(&record).headers[2].1, *traceparent.as_bytes());
    }
}
