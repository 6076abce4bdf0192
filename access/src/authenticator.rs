//! One way to prove who a client is.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use hookline_mqtt::ReasonCode;
use hookline_schemas::access::Login;
use hookline_schemas::config::{Authenticator as Settings, AuthenticatorType, OnFailure};
use hookline_schemas::{Client, Map, Value};
use tokio::sync::Semaphore;

use crate::acl::{self, Acl};
use crate::file::Watched;
use crate::guard::{Asks, Found, Guard, Unanswered};
use crate::password;
use crate::token::{Checked, Tokens};
use crate::users::{BuiltIn, User, Users};
use crate::{Condition, NewLookup, Setup};

/// What an authenticator says.
pub(crate) enum Verdict {
    /// It is who it says.
    Allow(Proven),
    /// It is not.
    Deny(ReasonCode),
    /// It is not known here.
    Ignore,
}

/// What is known of a client that has proven itself.
#[derive(Default)]
pub(crate) struct Proven {
    pub(crate) is_superuser: bool,
    pub(crate) client_id: Option<String>,
    pub(crate) attributes: BTreeMap<Box<str>, Box<str>>,
    pub(crate) expires_at_ms: Option<u64>,
    pub(crate) acl: Option<Acl>,
    /// What its token says.
    pub(crate) claims: Option<Value>,
}

pub(crate) struct Authenticator {
    pub(crate) settings: Settings,
    precondition: Option<Condition>,
    method: Method,
    /// Slow hashes at a time: as many as there are processors.
    hashing: Arc<Semaphore>,
}

enum Method {
    Backend {
        guard: Box<Guard>,
        /// The question has the password in it.
        needs_password: bool,
        /// The backend checks the password by itself.
        decides: bool,
        is_http: bool,
    },
    BuiltIn(BuiltIn),
    File(Watched<Users>),
    Tokens(Box<Tokens>),
    ClientIds(BTreeSet<String>),
    Certificate,
}

impl Authenticator {
    pub(crate) fn new(settings: &Settings, setup: &Setup<'_>, hashing: &Arc<Semaphore>) -> Result<Authenticator, Vec<String>> {
        let one = |key: &str, problem: String| vec![format!("{key}: {problem}")];
        let method = match (settings.kind, &settings.connector) {
            (AuthenticatorType::Connector, Some(connector)) => {
                let NewLookup { lookup, kind } = (setup.lookup)(connector, &settings.parameters)?;
                let text = serde_json::to_string(&settings.parameters).unwrap_or_default();
                let binds = kind == "ldap" && settings.parameters.get("method").is_none_or(|method| method == "bind");
                Method::Backend {
                    guard: Box::new(Guard::new(&settings.name, lookup, Asks::of(kind, &settings.parameters), &settings.backend)),
                    needs_password: binds || text.contains("${password}") || kind == "http",
                    decides: binds,
                    is_http: kind == "http",
                }
            }
            (AuthenticatorType::Connector, None) => return Err(one("type", "missing; or name a connector".into())),
            (_, Some(_)) => return Err(one("connector", "has no effect beside this type".into())),
            (AuthenticatorType::BuiltIn, None) => Method::BuiltIn(setup.users.clone()),
            (AuthenticatorType::File, None) => {
                let path = settings.path.as_deref().ok_or_else(|| one("path", "missing".into()))?;
                Method::File(Watched::open(path, crate::users::read).map_err(|problem| one("path", problem))?)
            }
            (AuthenticatorType::Jwt, None) => {
                let jwt = settings.jwt.as_ref().ok_or_else(|| one("jwt", "missing".into()))?;
                let jwks = match &jwt.jwks {
                    None => None,
                    Some(jwks) => {
                        let parameters = serde_json::json!({"method": "get", "path": jwks.path});
                        let parameters = parameters.as_object().cloned().unwrap_or_default();
                        Some((setup.lookup)(&jwks.connector, &parameters)?.lookup)
                    }
                };
                Method::Tokens(Box::new(Tokens::new(jwt, jwks).map_err(|problem| one("jwt", problem))?))
            }
            (AuthenticatorType::ClientId, None) => Method::ClientIds(settings.client_ids.iter().cloned().collect()),
            (AuthenticatorType::Certificate, None) => Method::Certificate,
        };
        let precondition = settings.precondition.as_deref().map(|text| (setup.condition)(text)).transpose();
        let precondition = precondition.map_err(|problem| one("precondition", problem))?;
        Ok(Authenticator { settings: settings.clone(), precondition, method, hashing: Arc::clone(hashing) })
    }

    /// What it is asked through.
    pub(crate) fn guard(&self) -> Option<&Guard> {
        match &self.method {
            Method::Backend { guard, .. } => Some(guard),
            _ => None,
        }
    }

    /// Looks whether a file of users has changed.
    pub(crate) fn look(&self) {
        if let Method::File(users) = &self.method {
            users.look();
        }
    }

    /// Judges a client. A backend that does not answer is a refusal, or counts as one that does not know the client.
    pub(crate) async fn judge(&self, login: &Login<'_>) -> Verdict {
        if !self.settings.enable || self.precondition.as_ref().is_some_and(|holds| !holds(&row(login.client, None))) {
            return Verdict::Ignore;
        }
        self.ask(login).await.unwrap_or_else(|unanswered| match (self.settings.on_failure, unanswered) {
            (OnFailure::Ignore, _) => Verdict::Ignore,
            (OnFailure::Refuse, Unanswered::Busy) => Verdict::Deny(ReasonCode::ServerBusy),
            (OnFailure::Refuse, Unanswered::Failed(_) | Unanswered::Question(_)) => Verdict::Deny(ReasonCode::ServerUnavailable),
        })
    }

    async fn ask(&self, login: &Login<'_>) -> Result<Verdict, Unanswered> {
        let client = login.client;
        let name = client.username.as_deref().filter(|name| !name.is_empty());
        match &self.method {
            // A name that nothing proves would have the permissions of whose it is.
            Method::Certificate => {
                let says = |certificate: &hookline_schemas::Certificate, name: &str| {
                    [certificate.common_name.as_deref(), certificate.alt_name.as_deref(), Some(&certificate.subject)].contains(&Some(name))
                };
                let is_shown = client.certificate.as_deref().is_some_and(|own| name.is_none_or(|name| says(own, name)));
                Ok(if is_shown { Verdict::Allow(Proven::default()) } else { Verdict::Ignore })
            }
            Method::ClientIds(ids) => {
                let is_listed = name.is_none() && ids.contains(&*client.client_id);
                Ok(if is_listed { Verdict::Allow(Proven::default()) } else { Verdict::Ignore })
            }
            Method::File(users) => match name.and_then(|name| users.get().get(name).cloned()) {
                Some(user) => self.check_user(login, user).await,
                None => Ok(Verdict::Ignore),
            },
            Method::BuiltIn(users) => match name {
                None => Ok(Verdict::Ignore),
                Some(name) => match users.get(name).map_err(|error| Unanswered::Failed(error.to_string()))? {
                    Some(user) => self.check_user(login, user).await,
                    None => Ok(Verdict::Ignore),
                },
            },
            Method::Tokens(tokens) => self.check_token(tokens, login).await,
            // A client without a name is known by none of them.
            Method::Backend { is_http: false, .. } if name.is_none() => Ok(Verdict::Ignore),
            Method::Backend { guard, needs_password, decides, is_http } => {
                let password = login.password.filter(|_| *needs_password);
                // An empty password is no proof: directories take it for a client that proves nothing.
                if *decides && password.is_none_or(<[u8]>::is_empty) {
                    return Ok(Verdict::Deny(ReasonCode::BadUserNameOrPassword));
                }
                let found = guard.ask(&row(client, password)).await?;
                if *is_http { of_answer(&found) } else { self.of_row(login, &found, *decides).await }
            }
        }
    }

    async fn check_user(&self, login: &Login<'_>, user: User) -> Result<Verdict, Unanswered> {
        let is_right = self.is_right(login.password, &user.password_hash, "").await?;
        Ok(if is_right {
            Verdict::Allow(Proven { is_superuser: user.is_superuser, ..Proven::default() })
        } else {
            Verdict::Deny(ReasonCode::BadUserNameOrPassword)
        })
    }

    async fn is_right(&self, password: Option<&[u8]>, hash: &str, salt: &str) -> Result<bool, Unanswered> {
        let Some(password) = password else { return Ok(false) };
        let settings = &self.settings.password_hash;
        let checked = if password::is_slow(settings, hash) {
            // The semaphore is never closed.
            let _room = self.hashing.acquire().await;
            let (settings, password, hash, salt) = (settings.clone(), password.to_vec(), hash.to_owned(), salt.to_owned());
            let checked = tokio::task::spawn_blocking(move || password::verify(&settings, &password, &hash, &salt)).await;
            checked.map_err(|error| Unanswered::Failed(error.to_string()))?
        } else {
            password::verify(settings, password, hash, salt)
        };
        checked.map_err(|error| {
            tracing::warn!(authenticator = self.settings.name, %error, "a stored password hash cannot be used");
            Unanswered::Failed(error.to_string())
        })
    }

    /// A user as a database or directory has it.
    async fn of_row(&self, login: &Login<'_>, found: &Found, decides: bool) -> Result<Verdict, Unanswered> {
        let Some(Value::Map(user)) = found.first() else { return Ok(Verdict::Ignore) };
        let fields = &self.settings.fields;
        if is_true(user.get(&fields.is_disabled)) {
            return Ok(Verdict::Deny(ReasonCode::BadUserNameOrPassword));
        }
        let is_right = if decides {
            is_true(user.get("authenticated"))
        } else {
            // "password" is what Redis users of old have, "userPassword" what directories have.
            let hash = [fields.password_hash.as_str(), "password", "userPassword"].into_iter().find_map(|name| user.get(name));
            let hashes = hash.map(acl::texts).unwrap_or_default();
            let salt = user.get(&fields.salt).filter(|salt| !salt.is_null()).map(Value::to_string).unwrap_or_default();
            if hashes.is_empty() {
                return Ok(Verdict::Ignore);
            }
            let mut is_right = false;
            for hash in hashes {
                is_right |= self.is_right(login.password, &hash, &salt).await?;
            }
            is_right
        };
        if !is_right {
            return Ok(Verdict::Deny(ReasonCode::BadUserNameOrPassword));
        }
        // An entry of a directory has its permissions with it.
        let acl = match user.get("dn") {
            Some(_) => Some(acl::read(acl::Form::Attributes, &found[..1]).map_err(Unanswered::Failed)?),
            None => None,
        };
        let acl = acl.filter(|acl| !acl.rules.is_empty());
        Ok(Verdict::Allow(Proven {
            is_superuser: is_true(user.get(&fields.is_superuser).or_else(|| user.get("isSuperuser"))),
            client_id: user.get("clientid_override").filter(|id| !id.is_null()).map(Value::to_string),
            attributes: attributes(&fields.attributes, |name| user.get(name).cloned()),
            expires_at_ms: None,
            acl,
            claims: None,
        }))
    }

    async fn check_token(&self, tokens: &Tokens, login: &Login<'_>) -> Result<Verdict, Unanswered> {
        let claims = match tokens.check(login.client, login.password).await {
            Checked::Absent => return Ok(Verdict::Ignore),
            Checked::Unknown(problem) => return Err(Unanswered::Failed(problem)),
            Checked::Bad(problem) => {
                tracing::debug!(client = %login.client.client_id, problem, "a token is refused");
                return Ok(Verdict::Deny(ReasonCode::BadUserNameOrPassword));
            }
            Checked::Good(claims) => claims,
        };
        let settings = tokens.settings();
        let acl = match claims.get(&settings.acl_claim) {
            Some(claim) => match acl::of_claim(claim) {
                Ok(acl) => Some(acl),
                Err(problem) => {
                    tracing::warn!(client = %login.client.client_id, problem, "the permissions in a token make no sense; the client is refused");
                    return Ok(Verdict::Deny(ReasonCode::NotAuthorized));
                }
            },
            None => None,
        };
        let expires_at_ms = claims.get("exp").and_then(serde_json::Value::as_f64).map(|secs| (secs * 1000.0) as u64);
        Ok(Verdict::Allow(Proven {
            is_superuser: claims.get("is_superuser") == Some(&true.into()),
            client_id: None,
            attributes: attributes(&settings.attributes, |name| claims.get(name).cloned().map(Value::from_json)),
            expires_at_ms: expires_at_ms.filter(|_| settings.disconnect_after_expire),
            acl,
            claims: Some(Value::from_json(serde_json::Value::Object(claims.into_iter().collect()))),
        }))
    }
}

/// What an HTTP server has answered: `{"result": "allow" | "deny" | "ignore", …}`, or 204.
fn of_answer(found: &Found) -> Result<Verdict, Unanswered> {
    let answer = found.first().cloned().unwrap_or_default();
    let status = match answer.path(["status"]) {
        Value::Int(status) => *status,
        _ => 0,
    };
    let body = answer.path(["body"]).to_json();
    match status {
        204 => return Ok(Verdict::Allow(Proven::default())),
        200 => {}
        400..=499 => return Ok(Verdict::Ignore),
        other => return Err(Unanswered::Failed(format!("the server answers {other}"))),
    }
    match body.get("result").and_then(serde_json::Value::as_str) {
        Some("allow") => {}
        Some("deny") => return Ok(Verdict::Deny(ReasonCode::BadUserNameOrPassword)),
        Some("ignore") => return Ok(Verdict::Ignore),
        _ => return Err(Unanswered::Failed("the answer has no \"result\" of allow, deny or ignore".into())),
    }
    let acl = body.get("acl").map(acl::of_claim).transpose().map_err(Unanswered::Failed)?;
    let attributes = body.get("client_attrs").and_then(serde_json::Value::as_object).into_iter().flatten();
    let text = |value: &serde_json::Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    Ok(Verdict::Allow(Proven {
        is_superuser: body.get("is_superuser").is_some_and(|value| *value == true),
        client_id: body.get("clientid_override").and_then(serde_json::Value::as_str).map(str::to_owned),
        attributes: attributes.map(|(name, value)| (name.as_str().into(), text(value).into())).collect(),
        expires_at_ms: body.get("expire_at").and_then(serde_json::Value::as_u64).map(|secs| secs * 1000),
        acl,
        claims: None,
    }))
}

/// What an HTTP server has answered about one request: as about a login, and a refusal by its status is one.
pub(crate) fn permission_of_answer(found: &Found) -> Result<Option<bool>, Unanswered> {
    if found.first().is_some_and(|answer| matches!(answer.path(["status"]), Value::Int(401 | 403))) {
        return Ok(Some(false));
    }
    of_answer(found).map(|verdict| match verdict {
        Verdict::Allow(_) => Some(true),
        Verdict::Deny(_) => Some(false),
        Verdict::Ignore => None,
    })
}

fn attributes(names: &[String], mut value: impl FnMut(&str) -> Option<Value>) -> BTreeMap<Box<str>, Box<str>> {
    let found = names.iter().filter_map(|name| Some((name, value(name).filter(|value| !value.is_null())?)));
    found.map(|(name, value)| (name.as_str().into(), acl::texts(&value).join(",").into())).collect()
}

fn is_true(value: Option<&Value>) -> bool {
    value.is_some_and(|value| match value {
        Value::Bool(is) => *is,
        Value::Int(number) => *number != 0,
        Value::Array(items) => items.iter().any(|item| is_true(Some(item))),
        other => matches!(other.to_string().to_ascii_lowercase().as_str(), "1" | "true" | "t" | "yes"),
    })
}

/// What questions about a client are filled from.
pub(crate) fn row(client: &Client, password: Option<&[u8]>) -> Value {
    let mut row = Map::new();
    row.push_new("clientid", Value::text(&client.client_id));
    row.push_new("username", Value::optional_text(client.username.as_deref()));
    if let Some(password) = password {
        // What is no text is refused by whoever wants one.
        row.push_new("password", std::str::from_utf8(password).map_or_else(|_| Value::Bytes(password.to_vec().into()), Value::text));
    }
    row.push_new("peerhost", Value::text(&client.peer.ip().to_canonical().to_string()));
    row.push_new("peerport", Value::Int(client.peer.port().into()));
    let certificate = client.certificate.as_deref();
    row.push_new("cert_common_name", Value::optional_text(certificate.and_then(|certificate| certificate.common_name.as_deref())));
    row.push_new("cert_alt_name", Value::optional_text(certificate.and_then(|certificate| certificate.alt_name.as_deref())));
    row.push_new("cert_subject", Value::optional_text(certificate.map(|certificate| certificate.subject.as_str())));
    row.push_new("zone", Value::text(&client.zone));
    row.push_new("listener", Value::text(&client.listener));
    row.push_new("proto_name", Value::text(client.version.name()));
    let mut attributes = Map::new();
    client.attributes.iter().for_each(|(name, value)| attributes.push_new(name, Value::text(value)));
    row.push_new("client_attrs", Value::Map(attributes));
    Value::Map(row)
}
