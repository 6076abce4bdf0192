//! OAuth 2.0 tokens, by client credentials: fetched, and kept until shortly before they end.

use std::time::Duration;

use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Client;
use reqwest::header::{ACCEPT, CONTENT_TYPE, HeaderValue};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::time::Instant;

use crate::connector::Failure;
use crate::http::client::{body, explain};

/// How long a token is used whose end the endpoint does not tell.
const LIFETIME: Duration = Duration::from_secs(300);
/// How long before its end a token is renewed, at the most; short-lived ones at nine tenths of their time.
const MARGIN_MAX: Duration = Duration::from_secs(30);

/// Where tokens come from.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct OAuth2 {
    /// The token endpoint.
    pub(crate) token_url: String,
    pub(crate) client_id: String,
    pub(crate) client_secret: String,
    /// What is asked for, separated by spaces.
    #[serde(default)]
    pub(crate) scope: Option<String>,
    /// Whom the token is for, where the endpoint wants to know.
    #[serde(default)]
    pub(crate) audience: Option<String>,
    /// How the endpoint gets our name and secret.
    #[serde(default)]
    pub(crate) client_auth: ClientAuth,
}

/// How a token endpoint gets the client's name and secret.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum ClientAuth {
    /// As HTTP basic authentication.
    #[default]
    Basic,
    /// In the form.
    Body,
}

/// A token.
#[derive(Clone)]
pub(crate) struct Token {
    /// What proves who we are. It can stand in a header.
    pub(crate) secret: String,
    fetched: Instant,
    lifetime: Duration,
}

/// What an endpoint answers.
#[derive(Deserialize)]
struct Reply {
    access_token: String,
    /// Seconds; some send a text.
    #[serde(default)]
    expires_in: serde_json::Value,
}

impl Token {
    /// Whether it need not be renewed yet.
    pub(crate) fn is_fresh(&self) -> bool {
        self.fetched.elapsed() < self.lifetime - MARGIN_MAX.min(self.lifetime / 10)
    }

    /// When so much of its time is over, between 0 and 1.
    pub(crate) fn at(&self, part: f64) -> Instant {
        self.fetched + self.lifetime.mul_f64(part)
    }

    /// How long it still lasts.
    pub(crate) fn left(&self) -> Duration {
        self.lifetime.saturating_sub(self.fetched.elapsed())
    }

    /// Sees that there is a fresh one.
    pub(crate) async fn renew(held: &mut Option<Token>, settings: &OAuth2, client: &Client) -> Result<(), Failure> {
        if held.as_ref().is_none_or(|token| !token.is_fresh()) {
            *held = Some(Token::fetch(client, settings).await?);
        }
        Ok(())
    }

    /// Asks the endpoint for a token. Whatever goes wrong is no record's fault.
    pub(crate) async fn fetch(client: &Client, settings: &OAuth2) -> Result<Token, Failure> {
        let failed = |problem: String| Failure::Reconnect(format!("no token from {}: {problem}", settings.token_url));
        let mut request = client
            .post(&settings.token_url)
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(ACCEPT, "application/json")
            .body(form(settings));
        if settings.client_auth == ClientAuth::Basic {
            request = request.basic_auth(encoded(&settings.client_id), Some(encoded(&settings.client_secret)));
        }
        let mut response = request.send().await.map_err(|error| failed(explain(&error.without_url())))?;
        let (status, body) = (response.status(), body(&mut response).await);
        if !status.is_success() {
            // The answer names the error, never the secret.
            let text: String = String::from_utf8_lossy(&body).trim().chars().take(200).collect();
            let hint = if status.is_client_error() { "; look at token_url, client_id, client_secret and scope" } else { "" };
            return Err(failed(format!("answered {status}: {text}{hint}")));
        }
        Token::read(&body).map_err(failed)
    }

    fn read(body: &[u8]) -> Result<Token, String> {
        let reply: Reply = serde_json::from_slice(body).map_err(|error| format!("its answer is no token: {error}"))?;
        HeaderValue::from_str(&format!("Bearer {}", reply.access_token))
            .map_err(|_| "its token has a character that no header can have".to_owned())?;
        let secs = reply.expires_in.as_u64().or_else(|| reply.expires_in.as_str()?.parse().ok());
        let lifetime = secs.map_or(LIFETIME, |secs| Duration::from_secs(secs.min(365 * 24 * 3600)));
        Ok(Token { secret: reply.access_token, fetched: Instant::now(), lifetime })
    }
}

fn form(settings: &OAuth2) -> String {
    let OAuth2 { client_id, client_secret, scope, audience, client_auth, .. } = settings;
    let in_form = *client_auth == ClientAuth::Body;
    let fields = [
        ("grant_type", Some("client_credentials")),
        ("scope", scope.as_deref()),
        ("audience", audience.as_deref()),
        ("client_id", in_form.then_some(client_id.as_str())),
        ("client_secret", in_form.then_some(client_secret.as_str())),
    ];
    let filled = fields.into_iter().filter_map(|(name, value)| Some(format!("{name}={}", encoded(value?))));
    filled.collect::<Vec<_>>().join("&")
}

fn encoded(text: &str) -> String {
    utf8_percent_encode(text, NON_ALPHANUMERIC).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_has_the_secret_only_where_it_should() {
        let settings = |client_auth| OAuth2 {
            token_url: "http://h/token".into(),
            client_id: "id".into(),
            client_secret: "a&b".into(),
            scope: Some("read write".into()),
            audience: None,
            client_auth,
        };
        assert_eq!(form(&settings(ClientAuth::Basic)), "grant_type=client%5Fcredentials&scope=read%20write");
        let with_secret = "grant_type=client%5Fcredentials&scope=read%20write&client_id=id&client_secret=a%26b";
        assert_eq!(form(&settings(ClientAuth::Body)), with_secret);
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_used_until_shortly_before_its_end() {
        for (expires_in, secs) in [("100", 90), ("\"100\"", 90), ("3600", 3570), ("null", 270)] {
            let body = format!(r#"{{"access_token": "t", "token_type": "Bearer", "expires_in": {expires_in}}}"#);
            let token = Token::read(body.as_bytes()).expect("a token");
            assert!(token.secret == "t" && token.is_fresh());
            tokio::time::advance(Duration::from_secs(secs - 1)).await;
            assert!(token.is_fresh(), "{expires_in}");
            tokio::time::advance(Duration::from_secs(1)).await;
            assert!(!token.is_fresh(), "{expires_in}");
        }
        assert!(Token::read(b"{}").is_err() && Token::read(br#"{"access_token": "a\nb"}"#).is_err());
    }
}
