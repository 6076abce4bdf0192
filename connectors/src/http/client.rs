//! The client: made, asked, and what answers and errors mean.

use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use reqwest::header::RETRY_AFTER;
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client, Identity, Proxy, RequestBuilder, Response, StatusCode, Url};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::config::{Connector, Tls};
use crate::connector::Failure;

/// How much of an answer is read: so much that the connection can be used again.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// How much of it stands in an error.
const ANSWER_CHARS_MAX: usize = 200;
/// How long the rest of an answer may take whose status is known.
const REST_TIMEOUT: Duration = Duration::from_secs(2);
/// The longest pause that a server can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3600);

/// Why a request did not do what it should.
#[derive(Debug)]
pub(super) enum Problem {
    /// There was no answer.
    Transport(reqwest::Error),
    /// There was one that is not 2xx.
    Answer { status: StatusCode, retry_after: Option<Duration>, text: String },
}

/// Makes the client; nothing is connected yet.
pub(super) async fn open(connector: &Connector, data_dir: &Path) -> Result<Client, Failure> {
    let failed = |error: reqwest::Error| Failure::Reconnect(format!("http: {}", explain(&error)));
    let mut builder = Client::builder()
        .user_agent(concat!("hookline/", env!("CARGO_PKG_VERSION")))
        .timeout(Duration::from_secs(connector.timeout_secs.max(1)))
        .redirect(redirects(connector.redirects_max))
        .no_proxy();
    if let Some(proxy) = &connector.proxy {
        builder = builder.proxy(Proxy::all(proxy).map_err(failed)?);
    }
    let Tls { ca, cert, key } = &connector.tls;
    if let Some(ca) = ca {
        let certificates = Certificate::from_pem_bundle(&read(&data_dir.join(ca)).await?).map_err(failed)?;
        builder = builder.tls_certs_only(certificates);
    }
    if let (Some(cert), Some(key)) = (cert, key) {
        let (cert, key) = (read(&data_dir.join(cert)).await?, read(&data_dir.join(key)).await?);
        builder = builder.identity(Identity::from_pem(&[cert, key].join(&b'\n')).map_err(failed)?);
    }
    builder.build().map_err(failed)
}

async fn read(file: &Path) -> Result<Vec<u8>, Failure> {
    tokio::fs::read(file).await.map_err(|error| Failure::Reconnect(format!("http: cannot read {}: {error}", file.display())))
}

/// Only what keeps method and body, to the same host, and never from https to http.
fn redirects(most: usize) -> Policy {
    if most == 0 {
        return Policy::none();
    }
    Policy::custom(move |attempt| {
        let keeps_all = matches!(attempt.status().as_u16(), 307 | 308);
        let stays = attempt.previous().last().is_some_and(|from| {
            let is_downgrade = from.scheme() == "https" && attempt.url().scheme() != "https";
            from.host_str() == attempt.url().host_str() && !is_downgrade
        });
        if keeps_all && stays && attempt.previous().len() <= most { attempt.follow() } else { attempt.stop() }
    })
}

/// Asks whether somebody listens where requests go. No request is made: it could have an effect.
pub(super) async fn ping(url: &Url, limit: Duration) -> Result<(), Failure> {
    let (Some(host), Some(port)) = (url.host_str(), url.port_or_known_default()) else {
        return Err(Failure::Reconnect("http: the URL has no host".into()));
    };
    match timeout(limit, TcpStream::connect(format!("{host}:{port}"))).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(Failure::Reconnect(format!("http: {host}:{port} cannot be reached: {error}"))),
        Err(_) => Err(Failure::Reconnect(format!("http: {host}:{port} does not answer"))),
    }
}

/// Sends a request. `Ok` for 2xx.
pub(super) async fn send(request: RequestBuilder) -> Result<(), Problem> {
    let mut response = request.send().await.map_err(|error| Problem::Transport(error.without_url()))?;
    let status = response.status();
    let retry_after = response.headers().get(RETRY_AFTER).and_then(|value| pause(value.to_str().ok()?, Timestamp::now()));
    // The status has said it all: whatever becomes of the rest changes nothing.
    let body = timeout(REST_TIMEOUT, body(&mut response)).await.unwrap_or_default();
    if status.is_success() {
        return Ok(());
    }
    let text = String::from_utf8_lossy(&body).trim().chars().take(ANSWER_CHARS_MAX).collect();
    Err(Problem::Answer { status, retry_after, text })
}

/// The body of an answer, up to a bound.
pub(crate) async fn body(response: &mut Response) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < ANSWER_BYTES_MAX
        && let Ok(Some(chunk)) = response.chunk().await
    {
        body.extend_from_slice(&chunk);
    }
    body
}

/// How long a server wants us to wait: seconds, or a date.
fn pause(retry_after: &str, now: Timestamp) -> Option<Duration> {
    static DATES: DateTimeParser = DateTimeParser::new();
    let pause = match retry_after.trim().parse() {
        Ok(secs) => Duration::from_secs(secs),
        Err(_) => Duration::try_from(DATES.parse_timestamp(retry_after.trim()).ok()?.duration_since(now)).unwrap_or_default(),
    };
    Some(pause.min(RETRY_AFTER_MAX))
}

/// What a problem means. `retried` are further statuses that may be over soon.
pub(super) fn classify(target: &str, problem: &Problem, retried: &[u16]) -> Failure {
    match problem {
        Problem::Transport(error) => Failure::Reconnect(format!("http {target}: {}", explain(error))),
        Problem::Answer { status, text, .. } => {
            let said = if text.is_empty() { String::new() } else { format!(": {text}") };
            let failure = format!("http {target}: answered {status}{said}");
            match status.as_u16() {
                // About the login, not about the record: a new token, or a new password, may mend it.
                401 | 407 => Failure::Reconnect(failure),
                408 | 425 | 429 | 500.. => Failure::Retry(failure),
                300..=399 => Failure::Retry(format!("{failure}; redirects are not followed here: mend the URL, or set redirects_max")),
                status if retried.contains(&status) => Failure::Retry(failure),
                _ => Failure::Reject(failure),
            }
        }
    }
}

/// An error with its causes.
pub(crate) fn explain(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_tried_again_or_the_record_is_at_fault() {
        let judge = |status: u16| {
            let status = StatusCode::from_u16(status).expect("a status");
            classify("POST http://h/", &Problem::Answer { status, retry_after: None, text: "why".into() }, &[404])
        };
        for status in [408, 425, 429, 500, 503, 599, 301, 404] {
            assert!(matches!(judge(status), Failure::Retry(_)), "{status}");
        }
        for status in [401, 407] {
            assert!(matches!(judge(status), Failure::Reconnect(_)), "{status}");
        }
        for status in [400, 403, 410, 413, 422] {
            assert!(matches!(judge(status), Failure::Reject(_)), "{status}");
        }
        assert_eq!(judge(400), Failure::Reject("http POST http://h/: answered 400 Bad Request: why".into()));
    }

    #[test]
    fn a_server_asks_for_a_pause_in_seconds_or_by_date() {
        let now: Timestamp = "1994-11-06T08:49:00Z".parse().expect("a time");
        let cases = [
            ("120", Some(120)),
            (" 0 ", Some(0)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(37)),
            ("Sun, 06 Nov 1994 08:00:00 GMT", Some(0)),
            ("999999999", Some(3600)),
            ("soon", None),
        ];
        for (text, secs) in cases {
            assert_eq!(pause(text, now), secs.map(Duration::from_secs), "{text}");
        }
    }
}
