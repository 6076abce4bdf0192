//! Who may use the API over the network: people with a password, who are in the store, and programs with a key, which are in the configuration.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_access::{hash, verify};
use hookline_schemas::config::{Api as Settings, ApiKey, PasswordHash, Role};
use hookline_schemas::ports::{QueueError, StateStore};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::access::Done;
use super::answer::Answer;
use super::{Code, Problem, Shared};

/// Where people are in the store.
const PREFIX: &[u8] = b"api/user/";
/// How long a token is good for after it was used last.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// Tokens at a time; then the one that was used longest ago goes.
const TOKENS_MAX: usize = 1000;
/// The pause before a refusal: guessing must be slow.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);
/// The name that the first start makes.
pub(crate) const FIRST: &str = "admin";

/// Somebody who has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) role: Role,
}

/// What the store has of somebody.
#[derive(Serialize, Deserialize)]
struct Stored {
    hash: String,
    role: Role,
}

/// The people and keys.
pub(crate) struct Logins {
    store: Arc<dyn StateStore>,
    keys: Vec<ApiKey>,
    metrics_open: bool,
    /// By the SHA-256 of the token, or of a name and password that was found right: hashing a password anew for each request would be a load.
    tokens: Mutex<HashMap<[u8; 32], (Person, Instant)>>,
    /// Passwords are hashed one at a time.
    hashing: Semaphore,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

impl Logins {
    pub(crate) fn new(store: Arc<dyn StateStore>, settings: &Settings) -> Logins {
        let (keys, metrics_open) = (settings.keys.clone(), settings.metrics_open);
        Logins { store, keys, metrics_open, tokens: Mutex::default(), hashing: Semaphore::new(1) }
    }

    /// Everybody in the store, by name.
    pub(crate) fn people(&self) -> Result<Vec<Person>, QueueError> {
        let all = self.store.load(PREFIX)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8_lossy(&key[PREFIX.len()..]).into_owned();
            let stored: Stored = serde_json::from_slice(&value).map_err(|error| QueueError(format!("the user \"{name}\": {error}")))?;
            Ok(Person { name, role: stored.role })
        };
        all.into_iter().map(read).collect()
    }

    /// Adds somebody, or sets another password and role.
    pub(crate) fn set(&self, name: &str, password: &str, role: Role) -> Result<(), Problem> {
        if name.is_empty() || name.len() > 256 || name.contains(|c: char| c.is_control() || c == ':') {
            return Err(Problem::new(Code::BadRequest, "a name has 1 to 256 characters, and no colon among them"));
        }
        if password.len() < 8 {
            return Err(Problem::new(Code::BadRequest, "a password has 8 characters at least"));
        }
        let hash = hash(password.as_bytes()).map_err(|error| Problem::new(Code::BadRequest, error.to_string()))?;
        let stored = serde_json::to_vec(&Stored { hash, role }).map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        self.keep(name, Some(&stored))
    }

    /// Removes somebody. `false`: nobody has that name.
    pub(crate) fn remove(&self, name: &str) -> Result<bool, Problem> {
        let was_there = self.people().map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        if !was_there.iter().any(|person| person.name == name) {
            return Ok(false);
        }
        self.keep(name, None).map(|()| true)
    }

    fn keep(&self, name: &str, value: Option<&[u8]>) -> Result<(), Problem> {
        let kept = self.store.keep(&[PREFIX, name.as_bytes()].concat(), value);
        // What was proven by an older password does not count any more.
        self.tokens.lock().retain(|_, (person, _)| person.name != name);
        kept.map_err(|error| Problem::new(Code::InternalError, error.to_string()))
    }

    /// Where nobody is there yet: makes an administrator with a random password, and tells it.
    pub(crate) fn first(&self) -> Result<Option<String>, Problem> {
        let people = self.people().map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        if !people.is_empty() {
            return Ok(None);
        }
        let password = random()?[..20].to_owned();
        self.set(FIRST, &password, Role::Administrator)?;
        Ok(Some(password))
    }

    /// Whoever a request comes from; `None`: nobody that is known.
    async fn who(&self, headers: &HeaderMap) -> Option<Person> {
        let given = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        let (scheme, given) = given.split_once(' ')?;
        if scheme.eq_ignore_ascii_case("bearer") {
            return self.known(Sha256::digest(given.trim()).into());
        }
        if !scheme.eq_ignore_ascii_case("basic") {
            return None;
        }
        let given = String::from_utf8(STANDARD.decode(given.trim()).ok()?).ok()?;
        let (name, password) = given.split_once(':')?;
        self.prove(name, password).await
    }

    /// What a token, or a name and password, was found to stand for not long ago.
    fn known(&self, digest: [u8; 32]) -> Option<Person> {
        let mut tokens = self.tokens.lock();
        let (person, until) = tokens.get_mut(&digest)?;
        let now = Instant::now();
        if *until < now {
            tokens.remove(&digest);
            return None;
        }
        *until = now + TOKEN_LIFETIME;
        Some(person.clone())
    }

    fn remember(&self, digest: [u8; 32], person: &Person) {
        let mut tokens = self.tokens.lock();
        let now = Instant::now();
        tokens.retain(|_, (_, until)| *until >= now);
        if tokens.len() >= TOKENS_MAX
            && let Some(oldest) = tokens.iter().min_by_key(|(_, (_, until))| *until).map(|(digest, _)| *digest)
        {
            tokens.remove(&oldest);
        }
        tokens.insert(digest, (person.clone(), now + TOKEN_LIFETIME));
    }

    async fn prove(&self, name: &str, password: &str) -> Option<Person> {
        // Of equal length, so that the time of the comparison says nothing.
        let digest = |text: &str| -> [u8; 32] { Sha256::digest(text).into() };
        if let Some(key) = self.keys.iter().find(|key| key.key == name) {
            return (digest(&key.secret) == digest(password)).then(|| Person { name: name.to_owned(), role: key.role });
        }
        let together = digest(&format!("{name}:{password}"));
        if let Some(person) = self.known(together) {
            return Some(person);
        }
        // The semaphore is never closed.
        let _one = self.hashing.acquire().await;
        let mut found = self.store.load(&[PREFIX, name.as_bytes()].concat()).ok()?;
        found.retain(|(key, _)| key[PREFIX.len()..] == *name.as_bytes());
        let stored = found.first().and_then(|(_, value)| serde_json::from_slice::<Stored>(value).ok());
        // Somebody who is not there takes as long as somebody who is.
        let Stored { hash: known, role } =
            stored.unwrap_or_else(|| Stored { hash: hash(b"nobody").unwrap_or_default(), role: Role::Viewer });
        let (given, is_there) = (password.to_owned(), !found.is_empty());
        let is_right =
            tokio::task::spawn_blocking(move || verify(&PasswordHash::default(), given.as_bytes(), &known, "") == Ok(true)).await;
        if !is_there || !is_right.unwrap_or(false) {
            return None;
        }
        let person = Person { name: name.to_owned(), role };
        self.remember(together, &person);
        Some(person)
    }
}

/// 32 random bytes, as hexadecimal digits.
fn random() -> Result<String, Problem> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Problem::new(Code::InternalError, "the system has no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Whether a role may do that.
fn may(role: Role, method: &Method, path: &str) -> bool {
    let looks = matches!(*method, Method::GET | Method::HEAD);
    let is_guarded = ["/users", "/authentication", "/authorization", "/configs"].iter().any(|guarded| path.starts_with(guarded));
    match role {
        Role::Administrator => true,
        Role::Operator => looks || !is_guarded,
        Role::Viewer => looks,
    }
}

/// Lets requests through whose sender may; those that change something are logged.
pub(super) async fn guard(State(logins): State<Arc<Logins>>, request: Request, next: Next) -> Response {
    let whole = request.uri().path();
    let is_open = matches!(whole, "/api/v5/status" | "/api/v5/login")
        || logins.metrics_open && matches!(whole, "/metrics" | "/api/v5/prometheus/stats");
    let path = whole.strip_prefix("/api/v5").unwrap_or(whole).to_owned();
    if is_open {
        return next.run(request).await;
    }
    let Some(person) = logins.who(request.headers()).await else {
        tokio::time::sleep(REFUSAL_PAUSE).await;
        let problem = Problem::new(
            Code::Unauthorized,
            "who are you? Come with a name and password, a key and its secret, or a token of POST /api/v5/login",
        );
        return ([(header::WWW_AUTHENTICATE, "Basic realm=\"hookline\"")], problem).into_response();
    };
    let method = request.method().clone();
    if !may(person.role, &method, &path) {
        let role = serde_json::to_value(person.role).unwrap_or_default();
        return Problem::new(Code::NotAllowed, format!("a {} may not do that", role.as_str().unwrap_or_default())).into_response();
    }
    let response = next.run(request).await;
    if !matches!(method, Method::GET | Method::HEAD) {
        let status = response.status().as_u16();
        tracing::info!(target: "audit", user = person.name, role = ?person.role, %method, path, status, "a request by the API");
    }
    response
}

/// GET /users
pub(super) async fn get_people(State(shared): State<Shared>) -> Answer<Vec<PersonInfo>> {
    let people = shared.logins.people().map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
    Ok(Json(people.into_iter().map(|Person { name, role }| PersonInfo { username: name, role }).collect()))
}

/// POST /users
pub(super) async fn post_person(State(shared): State<Shared>, Json(new): Json<NewPerson>) -> Answer<PersonInfo> {
    let logins = Arc::clone(&shared.logins);
    shared
        .run(move |_| {
            logins.set(&new.username, &new.password, new.role)?;
            Ok(PersonInfo { username: new.username, role: new.role })
        })
        .await
}

/// DELETE /users/{username}
pub(super) async fn delete_person(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<Done> {
    let logins = Arc::clone(&shared.logins);
    shared
        .run(move |_| match logins.remove(&name)? {
            true => Ok(Done {}),
            false => Err(Problem::new(Code::NotFound, format!("there is no user \"{name}\""))),
        })
        .await
}

/// A name and password.
#[derive(Deserialize)]
pub(super) struct Given {
    username: String,
    password: String,
}

/// A token, in the form that EMQX has.
#[derive(Serialize)]
pub(super) struct Token {
    token: String,
    version: &'static str,
    role: Role,
}

/// POST /login
pub(super) async fn post_login(State(shared): State<Shared>, Json(given): Json<Given>) -> Answer<Token> {
    let logins = &shared.logins;
    let Some(person) = logins.prove(&given.username, &given.password).await else {
        tokio::time::sleep(REFUSAL_PAUSE).await;
        tracing::warn!(target: "audit", user = given.username, "a login to the API was refused");
        return Err(Problem::new(Code::Unauthorized, "the name or the password is wrong"));
    };
    let token = random()?;
    logins.remember(Sha256::digest(&token).into(), &person);
    tracing::info!(target: "audit", user = person.name, "has logged in to the API");
    Ok(Json(Token { token, version: env!("CARGO_PKG_VERSION"), role: person.role }))
}

/// A person, without what proves it.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct PersonInfo {
    pub(crate) username: String,
    pub(crate) role: Role,
}

/// A person that is added, or gets another password or role.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct NewPerson {
    pub(crate) username: String,
    pub(crate) password: String,
    #[serde(default)]
    pub(crate) role: Role,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_may_what_they_are_for() {
        let post = Method::POST;
        for (role, users, pause, look) in
            [(Role::Administrator, true, true, true), (Role::Operator, false, true, true), (Role::Viewer, false, false, true)]
        {
            assert_eq!(may(role, &post, "/users"), users, "{role:?}");
            assert_eq!(may(role, &Method::DELETE, "/authorization/cache"), users, "{role:?}");
            assert_eq!(may(role, &post, "/actions/a/pause"), pause, "{role:?}");
            assert_eq!(may(role, &Method::GET, "/clients"), look, "{role:?}");
        }
    }
}
