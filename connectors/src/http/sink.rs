//! The sink: one request after the other, each confirmed by its status.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use reqwest::{Client, RequestBuilder, Url};
use tokio::time::Instant;

use super::client::{self, Problem, classify};
use super::config::{Auth, Batch, Connector, Parameters};
use super::request::{self, Prepared, Request};
use crate::connector::{Failure, Sink};
use crate::kind::{CONNECTOR, SettingsError};
use crate::oauth2::Token;
use crate::progress::Progress;

/// Records of one call where each is a request: few enough that a slow server gets through them before the attempt's deadline.
const REQUESTS_MAX: usize = 16;

pub(super) struct HttpSink {
    connector: Connector,
    data_dir: PathBuf,
    method: reqwest::Method,
    batch: Batch,
    retry_statuses: Vec<u16>,
    request: Request,
    /// Whom `check` asks: the server, or the proxy before it.
    nearest: Url,
    client: Option<Client>,
    token: Option<Token>,
    progress: Progress,
    /// The server has asked for a pause until then.
    not_before: Option<Instant>,
}

impl HttpSink {
    pub(super) fn new(connector: Connector, parameters: &Parameters, data_dir: &Path) -> Result<HttpSink, Vec<SettingsError>> {
        let wrong = |key: &str, problem: String| vec![SettingsError { path: format!("{CONNECTOR}.{key}"), problem }];
        if connector.tls.cert.is_some() != connector.tls.key.is_some() {
            return Err(wrong("tls", "cert and key belong together; one of them is missing".into()));
        }
        let (key, nearest) = connector.proxy.as_ref().map_or(("url", &connector.url), |proxy| ("proxy", proxy));
        let nearest = request::base(nearest).map_err(|problem| wrong(key, problem))?;
        Ok(HttpSink {
            request: Request::new(&connector, parameters)?,
            connector,
            data_dir: data_dir.to_owned(),
            method: parameters.method.into(),
            batch: parameters.batch,
            retry_statuses: parameters.retry_statuses.clone(),
            nearest,
            client: None,
            token: None,
            progress: Progress::default(),
            not_before: None,
        })
    }

    async fn deliver_all(&mut self, records: &[Record]) -> Result<(), Failure> {
        loop {
            let rest = self.progress.rest(records)?;
            let Some(first) = rest.first() else { return Ok(()) };
            self.wait_is_over()?;
            let prepared = self.request.prepare(rest).map_err(|problem| self.progress.refuse(first, problem))?;
            let count = prepared.records;
            match self.send(prepared).await {
                Ok(()) => self.progress.confirm(&rest[..count]),
                Err(Failure::Reject(error)) if count == 1 => return Err(self.progress.refuse(first, error)),
                Err(failure) => return Err(failure),
            }
        }
    }

    fn wait_is_over(&self) -> Result<(), Failure> {
        let left = self.not_before.map(|until| until.saturating_duration_since(Instant::now())).unwrap_or_default();
        match left {
            Duration::ZERO => Ok(()),
            left => Err(Failure::Retry(format!("http: the server has asked for a pause, which lasts another {left:.1?}"))),
        }
    }

    async fn send(&mut self, prepared: Prepared) -> Result<(), Failure> {
        // Without what may be secret: name and password, and the query.
        let target = format!("{} {}{}", self.method, prepared.url.origin().ascii_serialization(), prepared.url.path());
        self.renew_token().await?;
        let client = self.client.as_ref().ok_or_else(not_connected)?;
        let mut request = client.request(self.method.clone(), prepared.url).headers(prepared.headers);
        if let Some(body) = prepared.body {
            request = request.body(body);
        }
        let sent = client::send(authorized(self.connector.auth.as_ref(), self.token.as_ref(), request)).await;
        sent.map_err(|problem| {
            if let Problem::Answer { status, retry_after, .. } = &problem {
                self.not_before = retry_after.map(|pause| Instant::now() + pause);
                if status.as_u16() == 401 {
                    self.token = None;
                }
            }
            classify(&target, &problem, &self.retry_statuses)
        })
    }

    /// Sees that there is a token that lasts, where one is needed.
    async fn renew_token(&mut self) -> Result<(), Failure> {
        let Some(settings) = self.connector.auth.as_ref().and_then(Auth::oauth2) else { return Ok(()) };
        let client = self.client.as_ref().ok_or_else(not_connected)?;
        Token::renew(&mut self.token, settings, client).await
    }

    fn limit(&self) -> Duration {
        Duration::from_secs(self.connector.timeout_secs.max(1))
    }
}

/// The request with the login.
pub(super) fn authorized(auth: Option<&Auth>, token: Option<&Token>, request: RequestBuilder) -> RequestBuilder {
    match (auth, token) {
        (None, _) | (Some(Auth::Oauth2(_)), None) => request,
        (Some(Auth::Basic { username, password }), _) => request.basic_auth(username, Some(password)),
        (Some(Auth::Bearer { token }), _) => request.bearer_auth(token),
        (Some(Auth::Oauth2(_)), Some(token)) => request.bearer_auth(&token.secret),
    }
}

fn not_connected() -> Failure {
    Failure::Reconnect("http: not connected".into())
}

impl Sink for HttpSink {
    fn records_max(&self) -> usize {
        match self.batch {
            Batch::Single => REQUESTS_MAX,
            Batch::Array => usize::MAX,
        }
    }

    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            // A new client has no connection of the old one, and reads the certificates anew.
            self.client = None;
            client::ping(&self.nearest, self.limit()).await?;
            self.client = Some(client::open(&self.connector, &self.data_dir).await?);
            self.renew_token().await
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.deliver_all(records))
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(client::ping(&self.nearest, self.limit()))
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.client = None })
    }
}
