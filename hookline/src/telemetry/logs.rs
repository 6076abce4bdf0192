//! The log, record by record, beside what goes to standard error.

use std::fmt;
use std::sync::Arc;

use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs, SeverityNumber};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

use super::attribute::{attribute, scope, text};
use super::{Shared, now_ns};

/// Whose words are not sent: they would be about sending.
const OWN: [&str; 6] = ["hookline::telemetry", "reqwest", "hyper", "hyper_util", "h2", "rustls"];

/// Takes log records for the collector.
#[derive(Debug)]
pub(crate) struct LogLayer(Arc<Shared>);

impl LogLayer {
    pub(super) fn new(shared: Arc<Shared>) -> LogLayer {
        LogLayer(shared)
    }
}

impl<S: Subscriber> Layer<S> for LogLayer {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let sends = self.0.target.load().as_ref().is_some_and(|target| target.logs);
        let metadata = event.metadata();
        if !sends || is_own(metadata.target()) {
            return;
        }
        let mut fields = Fields { body: None, attributes: vec![attribute("target", metadata.target())] };
        event.record(&mut fields);
        let (number, name) = severity(*metadata.level());
        let now = now_ns();
        self.0.logs.push(LogRecord {
            time_unix_nano: now,
            observed_time_unix_nano: now,
            severity_number: number.into(),
            severity_text: name.to_owned(),
            body: fields.body,
            attributes: fields.attributes,
            ..LogRecord::default()
        });
    }
}

fn is_own(target: &str) -> bool {
    OWN.iter().any(|own| target.strip_prefix(own).is_some_and(|rest| rest.is_empty() || rest.starts_with("::")))
}

fn severity(level: Level) -> (SeverityNumber, &'static str) {
    match level {
        Level::ERROR => (SeverityNumber::Error, "ERROR"),
        Level::WARN => (SeverityNumber::Warn, "WARN"),
        Level::INFO => (SeverityNumber::Info, "INFO"),
        Level::DEBUG => (SeverityNumber::Debug, "DEBUG"),
        Level::TRACE => (SeverityNumber::Trace, "TRACE"),
    }
}

/// The fields of a record; the message is its body.
struct Fields {
    body: Option<AnyValue>,
    attributes: Vec<KeyValue>,
}

impl Visit for Fields {
    fn record_str(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => self.body = Some(text(value)),
            name => self.attributes.push(attribute(name, value)),
        }
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.attributes.push(attribute(field.name(), value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.attributes.push(attribute(field.name(), i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.attributes.push(attribute(field.name(), value));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.attributes.push(attribute(field.name(), value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.record_str(field, &format!("{value:?}"));
    }
}

/// A batch, as the collector takes it.
pub(super) fn request(resource: Resource, log_records: Vec<LogRecord>) -> Vec<u8> {
    let scope_logs = vec![ScopeLogs { scope: Some(scope()), log_records, ..ScopeLogs::default() }];
    let resource_logs = vec![ResourceLogs { resource: Some(resource), scope_logs, ..ResourceLogs::default() }];
    ExportLogsServiceRequest { resource_logs }.encode_to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_about_sending_are_not_sent() {
        assert!(is_own("hookline::telemetry::exporter") && is_own("hyper") && is_own("hyper_util::client::legacy"));
        assert!(!is_own("hookline::serve") && !is_own("hyperlink") && !is_own("hookline_core::worker"));
    }
}
