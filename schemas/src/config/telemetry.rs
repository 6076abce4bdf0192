//! What is told to an OpenTelemetry collector.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Traces, metrics and logs by OTLP over HTTP with protobuf (`http/protobuf`), for an OpenTelemetry collector or whatever takes the same. Nothing is sent
/// unless `endpoint` is set. It is sent beside the publish path and never holds it up: what a collector does not take in time is dropped and counted.
/// The environment variables `OTEL_*` are not read.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Telemetry {
    /// Where the collector listens, such as `http://127.0.0.1:4318`; `/v1/traces`, `/v1/metrics` and `/v1/logs` are put behind it.
    pub endpoint: Option<String>,
    /// Headers of every request, such as a login: `Authorization = "Bearer …"`. `file:///path` in the place of a value reads it from a file.
    pub headers: BTreeMap<String, String>,
    /// TLS towards an `https://` endpoint.
    pub tls: TelemetryTls,
    /// Seconds that a request may take.
    pub timeout_secs: u64,
    /// Whether requests are compressed.
    pub gzip: bool,
    /// Whether spans are sent.
    pub traces: bool,
    /// Whether the metrics of `/metrics` are sent, under the same names.
    pub metrics: bool,
    /// Whether the log is sent, beside standard error.
    pub logs: bool,
    /// The part of messages that begin a trace, of those that come without a trace context: 0 is none, 1 is all. Those that come with a context are traced
    /// when its publisher says so (`sampled`).
    pub sample_ratio: f64,
    /// Whether the trace context in the user properties of publishers (`traceparent`, `tracestate`) counts.
    pub trust_publishers: bool,
    /// Seconds between two reports of the metrics.
    pub metrics_interval_secs: u64,
    /// The attribute `service.name` of all that is sent.
    pub service_name: String,
    /// Further attributes of all that is sent, such as `"deployment.environment.name" = "production"`. `service.instance.id`, the name of the node, and
    /// `service.version` are there by themselves.
    pub resource: BTreeMap<String, String>,
}

/// TLS towards a collector.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryTls {
    /// The authorities that the collector's certificate may come from, PEM. Without it: those of the system.
    pub ca: Option<PathBuf>,
    /// The certificate to show to the collector, PEM.
    pub cert: Option<PathBuf>,
    /// The private key of the certificate, PEM.
    pub key: Option<PathBuf>,
}

impl Default for Telemetry {
    fn default() -> Self {
        Self {
            endpoint: None,
            headers: BTreeMap::new(),
            tls: TelemetryTls::default(),
            timeout_secs: 10,
            gzip: true,
            traces: true,
            metrics: true,
            logs: true,
            sample_ratio: 0.0,
            trust_publishers: true,
            metrics_interval_secs: 60,
            service_name: "hookline".into(),
            resource: BTreeMap::new(),
        }
    }
}
