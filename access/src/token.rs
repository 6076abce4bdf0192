//! JSON Web Tokens (RFC 7519): their signature, their time, their claims.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_schemas::access::Lookup;
use hookline_schemas::config::{Jwt as Settings, TokenPlace};
use hookline_schemas::{Client, Value};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde_json::Value as Json;
use tokio::sync::{Mutex, MutexGuard};
use tokio::time::timeout;

/// Keys are not fetched more often than this, whatever clients send.
const FETCH_PAUSE: Duration = Duration::from_secs(5);
/// How long their server may take.
const FETCH_TIMEOUT: Duration = Duration::from_secs(5);
/// The largest token.
const TOKEN_BYTES_MAX: usize = 16 << 10;

/// What tokens are checked by.
pub(crate) struct Tokens {
    settings: Settings,
    keys: Keys,
}

enum Keys {
    One { key: DecodingKey, algorithms: Vec<Algorithm> },
    Published(Published),
}

/// Keys that somebody publishes.
struct Published {
    source: Arc<dyn Lookup>,
    refresh: Duration,
    known: ArcSwap<JwkSet>,
    asked: Mutex<Option<Instant>>,
}

/// What came of a token.
#[derive(Debug, PartialEq)]
pub(crate) enum Checked {
    /// There is none.
    Absent,
    /// It is good; its claims.
    Good(BTreeMap<String, Json>),
    /// It is not: why.
    Bad(String),
    /// The keys cannot be had.
    Unknown(String),
}

impl Tokens {
    /// Reads the settings. `jwks` is where keys are published.
    pub(crate) fn new(settings: &Settings, jwks: Option<Arc<dyn Lookup>>) -> Result<Tokens, String> {
        let keys = match (&settings.secret, &settings.public_key, jwks) {
            (Some(secret), None, None) => {
                let secret = if settings.secret_base64 {
                    STANDARD.decode(secret).map_err(|_| "secret: it is not in base64")?
                } else {
                    secret.clone().into_bytes()
                };
                Keys::One { key: DecodingKey::from_secret(&secret), algorithms: vec![Algorithm::HS256, Algorithm::HS384, Algorithm::HS512] }
            }
            (None, Some(path), None) => {
                let pem = std::fs::read(path).map_err(|error| format!("public_key: cannot read {}: {error}", path.display()))?;
                public_key(&pem).ok_or("public_key: there is no public key of RSA, EC or Ed25519 in it, PEM")?
            }
            (None, None, Some(source)) => {
                let refresh = settings.jwks.as_ref().map_or(FETCH_PAUSE, |jwks| Duration::from_secs(jwks.refresh_secs.max(5)));
                let known = ArcSwap::from_pointee(JwkSet { keys: Vec::new() });
                Keys::Published(Published { source, refresh, known, asked: Mutex::new(None) })
            }
            _ => return Err("one of secret, public_key and jwks must be there".to_owned()),
        };
        Ok(Tokens { settings: settings.clone(), keys })
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Checks the token of a client.
    pub(crate) async fn check(&self, client: &Client, password: Option<&[u8]>) -> Checked {
        let token = match self.settings.from {
            TokenPlace::Password => password.and_then(|password| std::str::from_utf8(password).ok()),
            TokenPlace::Username => client.username.as_deref(),
        };
        // What is no token is for the next one to judge.
        let Some((token, header)) =
            token.filter(|token| token.len() <= TOKEN_BYTES_MAX).and_then(|token| Some((token, decode_header(token).ok()?)))
        else {
            return Checked::Absent;
        };
        let (key, algorithms) = match &self.keys {
            Keys::One { key, algorithms } => (key.clone(), algorithms.clone()),
            Keys::Published(published) => match published.key(header.kid.as_deref()).await {
                Ok(Some(key)) => (key, vec![header.alg]),
                Ok(None) => return Checked::Bad("it is signed by a key that is not published".into()),
                Err(problem) => return Checked::Unknown(problem),
            },
        };
        if !algorithms.contains(&header.alg) {
            return Checked::Bad(format!("{:?} is not used here", header.alg));
        }
        let mut validation = Validation::new(header.alg);
        validation.validate_nbf = true;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        validation.leeway = 0;
        let claims = match decode::<BTreeMap<String, Json>>(token, &key, &validation) {
            Ok(data) => data.claims,
            Err(error) => return Checked::Bad(error.to_string()),
        };
        let wrong = self.settings.verify_claims.iter().find(|(name, wanted)| !is_so(claims.get(*name), wanted, client));
        match wrong {
            Some((name, _)) => Checked::Bad(format!("its claim \"{name}\" is another")),
            None => Checked::Good(claims),
        }
    }
}

/// Whether a claim is what it must be: a text, a number, or an array with it.
fn is_so(claim: Option<&Json>, wanted: &str, client: &Client) -> bool {
    let wanted = wanted.replace("${clientid}", &client.client_id).replace("${username}", client.username.as_deref().unwrap_or_default());
    let is = |value: &Json| match value {
        Json::String(text) => *text == wanted,
        Json::Number(number) => number.to_string() == wanted,
        Json::Bool(is) => is.to_string() == wanted,
        _ => false,
    };
    match claim {
        Some(Json::Array(items)) => items.iter().any(is),
        Some(value) => is(value),
        None => false,
    }
}

fn public_key(pem: &[u8]) -> Option<Keys> {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    if let Ok(key) = DecodingKey::from_rsa_pem(pem) {
        return Some(Keys::One { key, algorithms: vec![RS256, RS384, RS512, PS256, PS384, PS512] });
    }
    if let Ok(key) = DecodingKey::from_ec_pem(pem) {
        return Some(Keys::One { key, algorithms: vec![ES256, ES384] });
    }
    DecodingKey::from_ed_pem(pem).ok().map(|key| Keys::One { key, algorithms: vec![EdDSA] })
}

impl Published {
    /// The key of that name. An unknown one may be new: it is looked for once more.
    async fn key(&self, id: Option<&str>) -> Result<Option<DecodingKey>, String> {
        if let Some(key) = self.find(id) {
            // Whoever is first reads them again; nobody else waits for that.
            let Ok(asked) = self.asked.try_lock() else { return Ok(Some(key)) };
            if asked.is_some_and(|asked| asked.elapsed() < self.refresh) {
                return Ok(Some(key));
            }
            return match self.fetch(asked).await {
                Ok(()) => Ok(self.find(id)),
                Err(problem) => {
                    tracing::warn!(problem, "the published keys cannot be read again; those known before hold");
                    Ok(Some(key))
                }
            };
        }
        let asked = self.asked.lock().await;
        if asked.is_none_or(|asked| asked.elapsed() >= FETCH_PAUSE) {
            self.fetch(asked).await?;
        } else if self.known.load().keys.is_empty() {
            return Err("the published keys could not be read a moment ago".into());
        }
        Ok(self.find(id))
    }

    fn find(&self, id: Option<&str>) -> Option<DecodingKey> {
        let known = self.known.load();
        let jwk = match id {
            Some(id) => known.find(id),
            None => known.keys.first().filter(|_| known.keys.len() == 1),
        };
        DecodingKey::from_jwk(jwk?).ok()
    }

    /// Reads the keys. A server that does not answer is asked again after the same while.
    async fn fetch(&self, mut asked: MutexGuard<'_, Option<Instant>>) -> Result<(), String> {
        *asked = Some(Instant::now());
        let answer = timeout(FETCH_TIMEOUT, self.source.ask(&Value::Null)).await;
        let rows = answer.map_err(|_| "no answer in time".to_owned())?.map_err(|error| error.to_string())?;
        let body = rows.first().map(|row| row.path(["body"]).to_json()).unwrap_or_default();
        let keys: JwkSet = serde_json::from_value(body).map_err(|error| format!("the published keys cannot be read: {error}"))?;
        self.known.store(Arc::new(keys));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, Header, encode};
    use serde_json::json;

    use super::*;

    fn settings(toml: &str) -> Settings {
        toml::from_str(toml).expect("valid")
    }

    fn token(algorithm: Algorithm, claims: &Json) -> String {
        encode(&Header::new(algorithm), claims, &EncodingKey::from_secret(b"secret")).expect("signed")
    }

    fn now() -> u64 {
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }

    #[tokio::test]
    async fn signature_time_and_claims() {
        let tokens =
            Tokens::new(&settings("secret = 'secret'\nverify_claims = { sub = '${username}', aud = 'mqtt' }"), None).expect("valid");
        let client = Client { username: Some("alice".into()), ..Client::internal("c") };
        let check = async |claims: Json| tokens.check(&client, Some(token(Algorithm::HS256, &claims).as_bytes())).await;
        let good = json!({"sub": "alice", "aud": ["other", "mqtt"], "exp": now() + 60});
        assert!(matches!(check(good.clone()).await, Checked::Good(_)));
        for (name, value) in [("exp", json!(now() - 10)), ("nbf", json!(now() + 100)), ("sub", json!("bob")), ("aud", json!("x"))] {
            let mut claims = good.clone();
            claims[name] = value;
            assert!(matches!(check(claims).await, Checked::Bad(_)), "{name}");
        }
        let other = encode(&Header::new(Algorithm::HS256), &good, &EncodingKey::from_secret(b"other")).expect("signed");
        assert!(matches!(tokens.check(&client, Some(other.as_bytes())).await, Checked::Bad(_)), "another's signature");
        assert_eq!(tokens.check(&client, Some(b"a password")).await, Checked::Absent);
        assert_eq!(tokens.check(&client, None).await, Checked::Absent);
        let unsigned = "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhbGljZSJ9.";
        assert!(!matches!(tokens.check(&client, Some(unsigned.as_bytes())).await, Checked::Good(_)));
    }

    #[test]
    fn settings_that_make_no_sense_are_refused() {
        for wrong in ["", "secret = 'a'\npublic_key = '/nowhere'", "secret = '%'\nsecret_base64 = true", "public_key = '/nowhere'"] {
            assert!(Tokens::new(&settings(wrong), None).is_err(), "{wrong}");
        }
    }
}
