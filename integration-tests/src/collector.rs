//! A real OpenTelemetry collector: what it takes it hands on to the test, as JSON.

use std::fs::File;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::eventually;
use crate::webhook::{Reply, Webhook};

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// The collector. It ends with the test.
pub struct Collector {
    child: Option<Child>,
    address: SocketAddr,
    folder: tempfile::TempDir,
    taken: Webhook,
}

/// A span, as far as tests look at it.
#[derive(Debug, Clone, PartialEq)]
pub struct Span {
    pub name: String,
    pub trace: String,
    pub id: String,
    /// Empty where there is none.
    pub parent: String,
    pub kind: i64,
    /// The whole of it.
    pub json: Value,
}

impl Span {
    /// An attribute as text; empty where there is none.
    pub fn attribute(&self, key: &str) -> String {
        attribute(&self.json["attributes"], key)
    }

    /// Whether it says that something went wrong.
    pub fn has_failed(&self) -> bool {
        self.json["status"]["code"] == 2
    }
}

/// An attribute as text; empty where there is none.
pub fn attribute(attributes: &Value, key: &str) -> String {
    let found = attributes.as_array().and_then(|all| all.iter().find(|one| one["key"] == key));
    let value = found.and_then(|one| one["value"].as_object()?.values().next());
    value.map_or_else(String::new, |value| value.as_str().map_or_else(|| value.to_string(), str::to_owned))
}

/// The program, as `integration-tests/services env` tells it.
fn program() -> PathBuf {
    let named = std::env::var("HOOKLINE_TEST_OTELCOL");
    named.expect("HOOKLINE_TEST_OTELCOL names no collector; run: eval \"$(integration-tests/services env)\"").into()
}

impl Collector {
    /// Starts one on a free port.
    pub fn start() -> Collector {
        let taken = Webhook::start(|_| Reply::Answer(200, "Content-Type: application/json\r\n", "{}".into()));
        let address = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr()).expect("a free port");
        let folder = tempfile::tempdir().expect("a folder");
        let pipelines = "{ receivers: [otlp], exporters: [otlp_http] }";
        let config = format!(
            "receivers: {{ otlp: {{ protocols: {{ http: {{ endpoint: \"{address}\" }} }} }} }}\n\
             exporters: {{ otlp_http: {{ endpoint: \"http://{}\", encoding: json, compression: none, sending_queue: {{ enabled: false }} }} }}\n\
             service:\n  telemetry: {{ metrics: {{ level: none }} }}\n\
             \x20 pipelines: {{ traces: {pipelines}, metrics: {pipelines}, logs: {pipelines} }}\n",
            taken.address()
        );
        std::fs::write(folder.path().join("config.yaml"), config).expect("the configuration is written");
        let mut collector = Collector { child: None, address, folder, taken };
        collector.resume();
        collector
    }

    /// Where it takes OTLP over HTTP.
    pub fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends the process; [`Collector::resume`] starts it again at the same address.
    pub fn pause(&mut self) {
        if let Some(mut child) = self.child.take() {
            child.kill().expect("the collector can be killed");
            child.wait().expect("it ends");
        }
    }

    /// See [`Collector::pause`].
    pub fn resume(&mut self) {
        let log = File::options().create(true).append(true).open(self.folder.path().join("log")).expect("the log is opened");
        let config = format!("file:{}", self.folder.path().join("config.yaml").display());
        let child = Command::new(program()).args(["--config", &config]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.child = Some(child.expect("the collector starts"));
        eventually("the collector listens", START, || TcpStream::connect(self.address).ok());
    }

    /// What came to a path, such as `/v1/traces`.
    fn taken(&self, path: &str) -> Vec<Value> {
        self.taken.requests().iter().filter(|request| request.target == path).map(crate::webhook::Request::json).collect()
    }

    /// All spans that it has taken.
    pub fn spans(&self) -> Vec<Span> {
        let text = |span: &Value, key: &str| span[key].as_str().unwrap_or_default().to_owned();
        let all = self.taken("/v1/traces").into_iter().flat_map(|taken| parts(&taken, "resourceSpans", "scopeSpans", "spans"));
        all.map(|span| Span {
            name: text(&span, "name"),
            trace: text(&span, "traceId"),
            id: text(&span, "spanId"),
            parent: text(&span, "parentSpanId"),
            kind: span["kind"].as_i64().unwrap_or_default(),
            json: span,
        })
        .collect()
    }

    /// All metrics that it has taken, in the order of their reports.
    pub fn metrics(&self) -> Vec<Value> {
        self.taken("/v1/metrics").iter().flat_map(|taken| parts(taken, "resourceMetrics", "scopeMetrics", "metrics")).collect()
    }

    /// All log records that it has taken.
    pub fn logs(&self) -> Vec<Value> {
        self.taken("/v1/logs").iter().flat_map(|taken| parts(taken, "resourceLogs", "scopeLogs", "logRecords")).collect()
    }

    /// The attributes of the resource that all spans are about.
    pub fn resource(&self) -> Value {
        self.taken("/v1/traces").first().map(|taken| taken["resourceSpans"][0]["resource"]["attributes"].clone()).unwrap_or_default()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.pause();
    }
}

fn parts(taken: &Value, resources: &str, scopes: &str, parts: &str) -> Vec<Value> {
    let list = |value: &Value, key: &str| value[key].as_array().cloned().unwrap_or_default();
    let scopes = list(taken, resources).into_iter().flat_map(|resource| list(&resource, scopes));
    scopes.flat_map(|scope| list(&scope, parts)).collect()
}
