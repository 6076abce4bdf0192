//! Tokens for the login (SASL OAUTHBEARER), and what the client library says of logins that fail.
//!
//! The library asks for a token from a thread that must not wait, when four fifths of what it was told of the last one's time are over. So there is one
//! before a client begins, and a task fetches the next one earlier than that.

use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::Mutex;
use rdkafka::ClientContext;
use rdkafka::client::OAuthToken;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use reqwest::redirect::Policy;
use reqwest::{Certificate, Client};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::config::{Authentication, Connector};
use crate::connector::Failure;
use crate::delivery::Backoff;
use crate::http::client::explain;
use crate::oauth2::{OAuth2, Token};

/// How long the token endpoint may take.
const TIMEOUT: Duration = Duration::from_secs(10);
/// The part of a token's time after which the next one is fetched.
const RENEWED_AT: f64 = 0.5;
/// The part of a token's time that the library is told of: brokers want the next one before the last one ends, and the library looks once a second.
const TOLD: f64 = 0.75;
/// The pauses between attempts to renew a token.
const PAUSE: Duration = Duration::from_millis(500);
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// The login of all clients of a sink or source.
pub(super) struct Login {
    settings: Option<OAuth2>,
    held: Arc<Mutex<Held>>,
    renewing: Option<JoinHandle<()>>,
}

/// What clients and the renewing task share.
#[derive(Default)]
struct Held {
    client_id: String,
    token: Option<Token>,
    /// Why there is no newer one.
    problem: Option<String>,
    /// What the client library last said of a login.
    said: Option<String>,
}

impl Login {
    pub(super) fn new(connector: &Connector) -> Login {
        let settings = match &connector.authentication {
            Some(Authentication::Oauthbearer(settings)) => Some(settings.clone()),
            _ => None,
        };
        let client_id = settings.as_ref().map(|settings| settings.client_id.clone()).unwrap_or_default();
        Login { settings, held: Arc::new(Mutex::new(Held { client_id, ..Held::default() })), renewing: None }
    }

    /// Whether it is by tokens.
    pub(super) fn has_tokens(&self) -> bool {
        self.settings.is_some()
    }

    /// What clients ask for tokens.
    pub(super) fn context(&self) -> Context {
        Context(Arc::clone(&self.held))
    }

    /// Sees that there is a token where one is needed, and that the next one comes in time. Called before each connection.
    pub(super) async fn begin(&mut self, connector: &Connector) -> Result<(), Failure> {
        let Some(settings) = &self.settings else { return Ok(()) };
        let lasts = self.held.lock().token.as_ref().is_some_and(|token| !token.left().is_zero());
        if lasts && self.renewing.is_some() {
            return Ok(());
        }
        let client = client(connector)?;
        let token = Token::fetch(&client, settings).await.map_err(|failure| Failure::Reconnect(format!("kafka: {failure}")))?;
        self.held.lock().take(token);
        if let Some(before) = self.renewing.replace(tokio::spawn(renew(client, settings.clone(), Arc::clone(&self.held)))) {
            before.abort();
        }
        Ok(())
    }

    /// An error, and what is known of the login beside it.
    pub(super) fn explain(&self, error: &str) -> String {
        let held = self.held.lock();
        [Some(error), held.problem.as_deref(), held.said.as_deref()].into_iter().flatten().collect::<Vec<_>>().join("; ")
    }

    /// The cluster has answered: what was said before is over.
    pub(super) fn is_well(&self) {
        self.held.lock().said = None;
    }
}

impl Drop for Login {
    fn drop(&mut self) {
        if let Some(renewing) = &self.renewing {
            renewing.abort();
        }
    }
}

impl Held {
    fn take(&mut self, token: Token) {
        self.token = Some(token);
        self.problem = None;
    }
}

fn client(connector: &Connector) -> Result<Client, Failure> {
    let failed = |problem: String| Failure::Reconnect(format!("kafka: the client for tokens: {problem}"));
    let mut builder = Client::builder().timeout(TIMEOUT).redirect(Policy::none()).no_proxy();
    if let Some(ca) = connector.tls.as_ref().and_then(|tls| tls.ca.as_ref()) {
        let pem = std::fs::read(ca).map_err(|error| failed(format!("cannot read {}: {error}", ca.display())))?;
        let authorities = Certificate::from_pem_bundle(&pem).map_err(|error| failed(explain(&error)))?;
        builder = builder.tls_certs_merge(authorities);
    }
    builder.build().map_err(|error| failed(explain(&error)))
}

/// Fetches one token after the other, until it is aborted.
async fn renew(client: Client, settings: OAuth2, held: Arc<Mutex<Held>>) {
    let mut backoff = Backoff::new(PAUSE, PAUSE_MAX);
    loop {
        let due = held.lock().token.as_ref().map(|token| token.at(RENEWED_AT));
        if let Some(due) = due {
            sleep_until(due).await;
        }
        match Token::fetch(&client, &settings).await {
            Ok(token) => {
                held.lock().take(token);
                backoff.reset();
            }
            Err(failure) => held.lock().problem = Some(failure.to_string()),
        }
        // Also behind a success: a token that ends at once must not make a storm of requests.
        sleep(backoff.next()).await;
    }
}

/// What a client of the library asks, and tells.
#[derive(Clone)]
pub(super) struct Context(Arc<Mutex<Held>>);

impl ClientContext for Context {
    const ENABLE_REFRESH_OAUTH_TOKEN: bool = true;

    fn generate_oauth_token(&self, _: Option<&str>) -> Result<OAuthToken, Box<dyn Error>> {
        let held = self.0.lock();
        match &held.token {
            Some(token) if !token.left().is_zero() => {
                let told = token.at(TOLD).saturating_duration_since(Instant::now());
                let left = i64::try_from(if told.is_zero() { token.left() } else { told }.as_millis())?;
                let lifetime_ms = Timestamp::now().as_millisecond().saturating_add(left);
                Ok(OAuthToken { token: token.secret.clone(), principal_name: held.client_id.clone(), lifetime_ms })
            }
            _ => Err(held.problem.clone().unwrap_or_else(|| "the token has ended".to_owned()).into()),
        }
    }

    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(%error, reason, "the client of Kafka has an error");
        let is_login = matches!(error.rdkafka_error_code(), Some(RDKafkaErrorCode::Authentication | RDKafkaErrorCode::SSL));
        if is_login {
            self.0.lock().said = Some(reason.to_owned());
        }
    }
}

impl ConsumerContext for Context {}
