//! Where telemetry goes, and what of it: the settings, checked and made ready.

use std::io::Write;
use std::path::Path;
use std::time::Duration;

use flate2::Compression;
use flate2::write::GzEncoder;
use hookline_schemas::config::{Config, Telemetry as Settings};
use opentelemetry_proto::tonic::resource::v1::Resource;
use reqwest::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, StatusCode, Url};

use super::attribute::attribute;

/// Where spans go, behind the endpoint.
pub(super) const TRACES: &str = "/v1/traces";
/// Where metrics go.
pub(super) const METRICS: &str = "/v1/metrics";
/// Where the log goes.
pub(super) const LOGS: &str = "/v1/logs";

/// Headers that belong to the request.
const RESERVED: [&str; 5] = ["content-encoding", "content-length", "content-type", "host", "transfer-encoding"];
/// How much of an answer is read.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of it stands in the log.
const ANSWER_CHARS_MAX: usize = 200;

/// A collector, with what it is to get.
#[derive(Debug)]
pub(crate) struct Target {
    client: Client,
    endpoint: String,
    headers: HeaderMap,
    gzip: bool,
    /// Whom all of it is about.
    pub(super) resource: Resource,
    pub(super) traces: bool,
    pub(super) metrics: bool,
    pub(super) logs: bool,
    pub(super) trust_publishers: bool,
    /// The part of messages that begin a trace.
    pub(super) sample_ratio: f64,
    pub(super) metrics_interval: Duration,
}

/// Why a request came to nothing.
#[derive(Debug)]
pub(crate) enum Trouble {
    /// It may go well another time.
    Passing(String),
    /// It never will.
    Lasting(String),
}

/// Everything that is wrong with the settings.
pub(crate) fn check(config: &Config) -> Vec<String> {
    let settings = &config.telemetry;
    let mut errors: Vec<String> = Target::new(config).err().into_iter().collect();
    if !(0.0..=1.0).contains(&settings.sample_ratio) {
        errors.push("telemetry.sample_ratio: must be 0 to 1".into());
    }
    let numbers = [("timeout_secs", settings.timeout_secs), ("metrics_interval_secs", settings.metrics_interval_secs)];
    errors.extend(numbers.iter().filter(|(_, number)| *number == 0).map(|(key, _)| format!("telemetry.{key}: must be 1 or more")));
    errors
}

impl Target {
    /// `None`: nothing is to be sent.
    ///
    /// # Errors
    /// What is wrong, with its path.
    pub(crate) fn new(config: &Config) -> Result<Option<Target>, String> {
        let settings = &config.telemetry;
        let Some(endpoint) = &settings.endpoint else { return Ok(None) };
        let url = Url::parse(endpoint).map_err(|error| format!("telemetry.endpoint: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none() || url.query().is_some() {
            return Err("telemetry.endpoint: must be http://… or https://…, without a query".into());
        }
        Ok(Some(Target {
            client: client(settings)?,
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            headers: headers(settings)?,
            gzip: settings.gzip,
            resource: resource(config),
            traces: settings.traces,
            metrics: settings.metrics,
            logs: settings.logs,
            trust_publishers: settings.trust_publishers,
            sample_ratio: settings.sample_ratio,
            metrics_interval: Duration::from_secs(settings.metrics_interval_secs.max(1)),
        }))
    }

    /// Where the signals go that are sent.
    pub(crate) fn paths(&self) -> impl Iterator<Item = &'static str> {
        let paths = [(self.traces, TRACES), (self.metrics, METRICS), (self.logs, LOGS)];
        paths.into_iter().filter(|(is_sent, _)| *is_sent).map(|(_, path)| path)
    }

    /// Sends a message of protobuf; what was answered.
    pub(crate) async fn post(&self, path: &str, message: Vec<u8>) -> Result<Vec<u8>, Trouble> {
        let mut request = self.client.post(format!("{}{path}", self.endpoint)).headers(self.headers.clone());
        let body = if self.gzip {
            request = request.header(CONTENT_ENCODING, "gzip");
            compress(&message).map_err(|error| Trouble::Lasting(error.to_string()))?
        } else {
            message
        };
        let sent = request.header(CONTENT_TYPE, "application/x-protobuf").body(body).send().await;
        let mut answer = sent.map_err(|error| Trouble::Passing(explain(&error)))?;
        let status = answer.status();
        let mut text = Vec::new();
        while let Ok(Some(part)) = answer.chunk().await {
            let room = ANSWER_BYTES_MAX - text.len();
            text.extend_from_slice(&part[..part.len().min(room)]);
            if part.len() >= room {
                break;
            }
        }
        if status.is_success() {
            return Ok(text);
        }
        let said: String = String::from_utf8_lossy(&text).chars().filter(|c| !c.is_control()).take(ANSWER_CHARS_MAX).collect();
        let problem = format!("{}{path} answered {status}: {said}", self.endpoint);
        // As the specification of OTLP has it.
        let is_passing = matches!(
            status,
            StatusCode::TOO_MANY_REQUESTS | StatusCode::BAD_GATEWAY | StatusCode::SERVICE_UNAVAILABLE | StatusCode::GATEWAY_TIMEOUT
        );
        Err(if is_passing { Trouble::Passing(problem) } else { Trouble::Lasting(problem) })
    }
}

/// The error with its causes, which say what has really happened.
fn explain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

fn compress(bytes: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes)?;
    encoder.finish()
}

fn client(settings: &Settings) -> Result<Client, String> {
    let tls = &settings.tls;
    let mut builder = Client::builder()
        .user_agent(concat!("hookline/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_secs(settings.timeout_secs.max(1)))
        .redirect(Policy::none())
        .no_proxy();
    let read = |key: &str, file: &Path| std::fs::read(file).map_err(|error| format!("telemetry.tls.{key}: {}: {error}", file.display()));
    if let Some(ca) = &tls.ca {
        let certificates = Certificate::from_pem_bundle(&read("ca", ca)?).map_err(|error| format!("telemetry.tls.ca: {error}"))?;
        builder = builder.tls_certs_only(certificates);
    }
    match (&tls.cert, &tls.key) {
        (None, None) => {}
        (Some(cert), Some(key)) => {
            let pem = [read("cert", cert)?, read("key", key)?].join(&b'\n');
            builder = builder.identity(Identity::from_pem(&pem).map_err(|error| format!("telemetry.tls.cert: {error}"))?);
        }
        _ => return Err("telemetry.tls: cert and key belong together; one of them is missing".into()),
    }
    builder.build().map_err(|error| format!("telemetry: {}", explain(&error)))
}

fn headers(settings: &Settings) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    for (name, value) in &settings.headers {
        let header = HeaderName::from_bytes(name.as_bytes()).map_err(|_| format!("telemetry.headers.{name}: is no name of a header"))?;
        if RESERVED.contains(&header.as_str()) {
            return Err(format!("telemetry.headers.{name}: is set by the broker itself; leave it out"));
        }
        let mut value =
            HeaderValue::from_str(value).map_err(|_| format!("telemetry.headers.{name}: has a character that no header can have"))?;
        value.set_sensitive(true);
        headers.insert(header, value);
    }
    Ok(headers)
}

fn resource(config: &Config) -> Resource {
    let settings = &config.telemetry;
    let own = [
        ("service.name", settings.service_name.as_str()),
        ("service.instance.id", config.node.name.as_str()),
        ("service.version", env!("CARGO_PKG_VERSION")),
    ];
    let further = settings.resource.iter().map(|(key, value)| (key.as_str(), value.as_str()));
    let own = own.into_iter().filter(|(key, _)| !settings.resource.contains_key(*key));
    Resource { attributes: own.chain(further).map(|(key, value)| attribute(key, value)).collect(), ..Resource::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(change: impl FnOnce(&mut Settings)) -> Vec<String> {
        let mut config = Config::default();
        config.telemetry.endpoint = Some("http://127.0.0.1:4318".into());
        change(&mut config.telemetry);
        check(&config)
    }

    #[test]
    fn what_is_wrong_is_told_with_its_path() {
        assert_eq!(problems(|_| ()), Vec::<String>::new());
        let begins =
            |problems: &[String], with: &str| assert!(problems.len() == 1 && problems[0].starts_with(with), "{with}: {problems:?}");
        begins(&problems(|settings| settings.endpoint = Some("127.0.0.1:4318".into())), "telemetry.endpoint: ");
        begins(&problems(|settings| settings.endpoint = Some("grpc://h:1".into())), "telemetry.endpoint: must be http");
        begins(&problems(|settings| drop(settings.headers.insert("a b".into(), String::new()))), "telemetry.headers.a b: ");
        begins(&problems(|settings| drop(settings.headers.insert("a".into(), "\n".into()))), "telemetry.headers.a: has");
        begins(&problems(|settings| drop(settings.headers.insert("Host".into(), "h".into()))), "telemetry.headers.Host: is set");
        begins(&problems(|settings| settings.sample_ratio = 1.5), "telemetry.sample_ratio: ");
        begins(&problems(|settings| settings.sample_ratio = f64::NAN), "telemetry.sample_ratio: ");
        begins(&problems(|settings| settings.metrics_interval_secs = 0), "telemetry.metrics_interval_secs: ");
        begins(&problems(|settings| settings.tls.ca = Some("/nowhere/ca.pem".into())), "telemetry.tls.ca: /nowhere/ca.pem: ");
        begins(&problems(|settings| settings.tls.cert = Some("/nowhere/cert.pem".into())), "telemetry.tls: cert and key");
    }
}
