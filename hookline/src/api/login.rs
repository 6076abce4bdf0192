//! Who may use the API over the network: people with a password, who are in the store, and programs with a key, which are in the configuration.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use arc_swap::{ArcSwap, ArcSwapOption};
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_access::{hash, verify};
use hookline_core::store::Store;
use hookline_schemas::config::{Api as Settings, ApiKey, PasswordHash, Role};
use hookline_schemas::ports::{QueueError, StateStore};
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;

use super::access::Done;
use super::answer::{Answer, Noted};
use super::audit::{Trace, Traced};
use super::caller::{Caller, Peer};
use super::directory::Directory;
use super::extract::{Json, Path};
use super::{Code, Problem, Shared, network, openapi};
use crate::export;

/// Where people are in the store.
const PREFIX: &[u8] = b"api/user/";
/// How long a token is good for after it was used last.
const TOKEN_LIFETIME: Duration = Duration::from_secs(3600);
/// How long a name and password are good for that a directory has found right.
const DIRECTORY_LIFETIME: Duration = Duration::from_secs(300);
/// Tokens of one person at a time; then the one that was used longest ago goes.
const TOKENS_MAX: usize = 20;
/// Passwords that wait to be looked at; who comes then is told to come again.
const WAITING_MAX: usize = 16;
/// Bytes of a name, and of a password.
const NAME_MAX: usize = 256;
const PASSWORD_MAX: usize = 1024;
/// Characters of a password, and of a key's secret, at least.
const PASSWORD_MIN: usize = 8;
/// The pause before a refusal: guessing must be slow.
const REFUSAL_PAUSE: Duration = Duration::from_millis(500);
/// The name that the first start makes.
pub(crate) const FIRST: &str = "admin";

/// Somebody who has come in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Person {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) origin: Origin,
}

/// Who has said that somebody is who they say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    Key,
    Store,
    /// It changes without telling: what it has said holds for a while only.
    Directory,
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
    settings: ArcSwap<Settings>,
    /// People whom the store does not know may be known here.
    directory: ArcSwapOption<Directory>,
    /// By the SHA-256 of the token, or of a name and password that was found right: hashing a password anew for each request would be a load.
    tokens: Mutex<HashMap<[u8; 32], (Person, Instant)>>,
    /// How often somebody was changed or removed: what was proven meanwhile is not remembered.
    changes: AtomicU64,
    /// Passwords are hashed one at a time.
    hashing: Arc<Semaphore>,
    waiting: AtomicUsize,
    refused: AtomicU64,
    /// What stands for the hash of somebody who is not there, so that looking takes as long.
    nobody: OnceLock<String>,
}

impl std::fmt::Debug for Logins {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Logins").finish_non_exhaustive()
    }
}

/// One that waits for a password to be looked at. It counts until it is dropped.
struct Waiting<'a>(&'a AtomicUsize);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What is wrong with the settings.
pub(crate) fn check(settings: &Settings) -> Vec<String> {
    let tls = settings.tls.as_ref().and_then(|tls| network::open_tls(tls).err());
    let mut errors: Vec<String> = tls.into_iter().collect();
    for (place, key) in settings.keys.iter().enumerate() {
        if key.key.is_empty() || key.key.len() > NAME_MAX || key.key.contains([':', '\n']) {
            errors.push(format!("api.keys[{place}].key: must have 1 to {NAME_MAX} bytes, and no colon among them"));
        }
        if settings.keys[..place].iter().any(|other| other.key == key.key) {
            errors.push(format!("api.keys[{place}].key: there is another \"{}\"", key.key));
        }
        if key.secret.chars().count() < PASSWORD_MIN || key.secret.len() > PASSWORD_MAX {
            errors
                .push(format!("api.keys[{place}].secret: must have {PASSWORD_MIN} characters at least, and {PASSWORD_MAX} bytes at most"));
        }
    }
    errors
}

/// Whether somebody can have that name.
pub(crate) fn check_person(name: &str) -> Result<(), Problem> {
    if name.is_empty() || name.len() > NAME_MAX || name.contains(|c: char| c.is_control() || c == ':') {
        return Err(Problem::new(Code::BadRequest, format!("a name has 1 to {NAME_MAX} bytes, and no colon among them")));
    }
    Ok(())
}

impl Logins {
    pub(crate) fn new(store: Arc<dyn StateStore>, settings: &Settings, directory: Option<Directory>) -> Logins {
        Logins {
            store,
            settings: ArcSwap::from_pointee(settings.clone()),
            directory: ArcSwapOption::from_pointee(directory),
            tokens: Mutex::default(),
            changes: AtomicU64::new(0),
            hashing: Arc::new(Semaphore::new(1)),
            waiting: AtomicUsize::new(0),
            refused: AtomicU64::new(0),
            nobody: OnceLock::new(),
        }
    }

    /// Goes by other settings from now on.
    pub(crate) fn change(&self, settings: &Settings, directory: Option<Directory>) {
        let before = self.settings.swap(Arc::new(settings.clone()));
        self.directory.store(directory.map(Arc::new));
        self.changes.fetch_add(1, Ordering::SeqCst);
        // Tokens that came by a key end with it.
        let has_ended = |key: &&ApiKey| !settings.keys.contains(key);
        self.tokens.lock().retain(|_, (person, _)| match person.origin {
            Origin::Key => !before.keys.iter().filter(has_ended).any(|key| key.key == person.name),
            Origin::Store => true,
            // It may be another directory, or have other groups.
            Origin::Directory => false,
        });
    }

    /// Everybody in the store, by name.
    pub(crate) fn people(&self) -> Result<Vec<Person>, QueueError> {
        let all = self.store.load(PREFIX)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8_lossy(&key[PREFIX.len()..]).into_owned();
            let stored: Stored = serde_json::from_slice(&value).map_err(|error| QueueError(format!("the user \"{name}\": {error}")))?;
            Ok(Person { name, role: stored.role, origin: Origin::Store })
        };
        all.into_iter().map(read).collect()
    }

    /// Somebody in the store.
    fn person(&self, name: &str) -> Result<Option<PersonInfo>, Problem> {
        let people = self.people().map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        let found = people.into_iter().find(|person| person.name == name);
        Ok(found.map(|Person { name, role, .. }| PersonInfo { username: name, role }))
    }

    /// Adds somebody, or sets another password and role.
    pub(crate) fn set(&self, name: &str, password: &str, role: Role) -> Result<(), Problem> {
        let refuse = |problem: String| Err(Problem::new(Code::BadRequest, problem));
        check_person(name)?;
        if password.chars().count() < PASSWORD_MIN || password.len() > PASSWORD_MAX {
            return refuse(format!("a password has {PASSWORD_MIN} characters at least, and {PASSWORD_MAX} bytes at most"));
        }
        let hash = hash(password.as_bytes()).map_err(|error| Problem::new(Code::BadRequest, error.to_string()))?;
        self.keep_hash(name, hash, role)
    }

    fn keep_hash(&self, name: &str, hash: String, role: Role) -> Result<(), Problem> {
        let stored = serde_json::to_vec(&Stored { hash, role }).map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        self.keep(name, Some(&stored))
    }

    /// Everybody in the store, with the hashes of their passwords, for an export.
    pub(super) fn carry_out(&self) -> Result<Vec<export::Person>, QueueError> {
        let all = self.store.load(PREFIX)?;
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let username = String::from_utf8(key[PREFIX.len()..].to_vec()).ok()?;
            let Stored { hash, role } = serde_json::from_slice(&value).ok()?;
            Some(export::Person { username, password_hash: hash, role })
        };
        Ok(all.into_iter().filter_map(read).collect())
    }

    /// Somebody out of an export: who has that name already gets that password and role.
    pub(super) fn carry_in(&self, person: &export::Person) -> Result<(), Problem> {
        let known = self.carry_out().map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        // Whoever stays what they were stays logged in.
        if known.contains(person) {
            return Ok(());
        }
        self.keep_hash(&person.username, person.password_hash.clone(), person.role)
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
        // What was proven by an older password does not count any more, also what is being proven now.
        self.changes.fetch_add(1, Ordering::SeqCst);
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
    async fn who(&self, headers: &HeaderMap) -> Result<Option<Person>, Problem> {
        let given = headers.get(header::AUTHORIZATION).and_then(|given| given.to_str().ok()).and_then(|given| given.split_once(' '));
        let Some((scheme, given)) = given else { return Ok(None) };
        if scheme.eq_ignore_ascii_case("bearer") {
            return Ok(self.known(Sha256::digest(given.trim()).into()));
        }
        let decoded = STANDARD.decode(given.trim()).ok().filter(|_| scheme.eq_ignore_ascii_case("basic"));
        match decoded.and_then(|given| String::from_utf8(given).ok()).as_deref().and_then(|given| given.split_once(':')) {
            Some((name, password)) => self.prove(name, password).await,
            None => Ok(None),
        }
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
        if person.origin != Origin::Directory {
            *until = now + TOKEN_LIFETIME;
        }
        Some(person.clone())
    }

    /// `changes` is how often somebody had been changed before it was proven.
    fn remember(&self, digest: [u8; 32], person: &Person, changes: u64, lifetime: Duration) {
        let mut tokens = self.tokens.lock();
        if self.changes.load(Ordering::SeqCst) != changes {
            return;
        }
        let now = Instant::now();
        tokens.retain(|_, (_, until)| *until >= now);
        let own = || tokens.iter().filter(|(_, (other, _))| other.name == person.name);
        if own().count() >= TOKENS_MAX
            && let Some(oldest) = own().min_by_key(|(_, (_, until))| *until).map(|(digest, _)| *digest)
        {
            tokens.remove(&oldest);
        }
        tokens.insert(digest, (person.clone(), now + lifetime));
    }

    async fn prove(&self, name: &str, password: &str) -> Result<Option<Person>, Problem> {
        if name.len() > NAME_MAX || password.len() > PASSWORD_MAX {
            return Ok(None);
        }
        // Of equal length, so that the time of the comparison says nothing.
        let digest = |text: &str| -> [u8; 32] { Sha256::digest(text).into() };
        if let Some(key) = self.settings.load().keys.iter().find(|key| key.key == name) {
            return Ok((digest(&key.secret) == digest(password)).then(|| Person {
                name: name.to_owned(),
                role: key.role,
                origin: Origin::Key,
            }));
        }
        let together = digest(&format!("{name}:{password}"));
        if let Some(person) = self.known(together) {
            return Ok(Some(person));
        }
        if self.waiting.fetch_add(1, Ordering::Relaxed) >= WAITING_MAX {
            self.waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(Problem::new(Code::Busy, "too many want to come in at a time; try again"));
        }
        let _waiting = Waiting(&self.waiting);
        let changes = self.changes.load(Ordering::SeqCst);
        // The semaphore is never closed.
        let Ok(one) = Arc::clone(&self.hashing).acquire_owned().await else { return Ok(None) };
        let (store, given, wanted) = (Arc::clone(&self.store), password.to_owned(), [PREFIX, name.as_bytes()].concat());
        let nobody = self.nobody.get().cloned();
        let looked = tokio::task::spawn_blocking(move || {
            // Whoever has asked may be gone; the next one waits all the same.
            let _one = one;
            let found = store.load(&wanted).unwrap_or_default().into_iter().find(|(key, _)| *key == wanted);
            let stored = found.and_then(|(_, value)| serde_json::from_slice::<Stored>(&value).ok());
            // Somebody who is not there takes as long as somebody who is.
            let nobody = nobody.unwrap_or_else(|| hash(b"nobody").unwrap_or_default());
            let known = stored.as_ref().map_or(nobody.as_str(), |stored| stored.hash.as_str());
            let is_right = verify(&PasswordHash::default(), given.as_bytes(), known, "") == Ok(true);
            let is_known = stored.is_some();
            (is_known, stored.map(|stored| stored.role).filter(|_| is_right), nobody)
        });
        let (is_known, role, nobody) = looked.await.map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
        self.nobody.get_or_init(|| nobody);
        let mut person = role.map(|role| Person { name: name.to_owned(), role, origin: Origin::Store });
        let mut lifetime = TOKEN_LIFETIME;
        if let Some(directory) = self.directory.load_full().filter(|_| !is_known) {
            let role = directory.prove(name, password).await?;
            person = role.map(|role| Person { name: name.to_owned(), role, origin: Origin::Directory });
            lifetime = DIRECTORY_LIFETIME;
        }
        if let Some(person) = &person {
            self.remember(together, person, changes, lifetime);
        }
        Ok(person)
    }

    /// Tells of a refusal: the first ones, and then ever more rarely.
    fn refused(&self, how: &str) {
        let refused = self.refused.fetch_add(1, Ordering::Relaxed) + 1;
        if refused.is_power_of_two() {
            tracing::warn!(target: "audit", how, refused, "somebody was refused by the API");
        }
    }
}

/// 32 random bytes, as hexadecimal digits.
fn random() -> Result<String, Problem> {
    let mut bytes = [0; 32];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| Problem::new(Code::InternalError, "the system has no random numbers"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

/// Who comes to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Door {
    /// Everybody.
    Open,
    /// Everybody, to log in.
    Login,
    /// Everybody where `metrics_open` says so.
    Metrics,
    /// Who has logged in, and whose role may.
    Guarded,
}

/// Who comes to a path.
pub(super) fn door(path: &str) -> Door {
    match path {
        "/metrics" | "/api/v5/prometheus/stats" => Door::Metrics,
        "/api/v5/login" => Door::Login,
        "/api/v5/status" => Door::Open,
        _ if path.strip_prefix("/api/v5") == Some(openapi::PATH) => Door::Open,
        _ => Door::Guarded,
    }
}

/// Whether a role may do that.
pub(super) fn may(role: Role, method: &Method, path: &str) -> bool {
    let looks = matches!(*method, Method::GET | Method::HEAD);
    let is_below =
        |parts: &[&str]| parts.iter().any(|part| path.strip_prefix(part).is_some_and(|rest| rest.is_empty() || rest.starts_with('/')));
    // The configuration has secrets in it, as exports have, and what others have done is not for everybody.
    let is_secret = is_below(&["/configs", "/audit", "/data"]);
    // A backup has everything in it, and goes wherever the request says.
    let is_guarded = is_secret || is_below(&["/users", "/authentication", "/authorization", "/store/backup"]);
    // Items of the configuration; what stands below an item, such as a pause, runs it only.
    let is_item =
        is_below(&["/rules", "/actions", "/sources", "/connectors"]) && path.split('/').filter(|part| !part.is_empty()).count() <= 2;
    // The payloads of others.
    let is_of_traffic = is_below(&["/trace"]) && (path.ends_with("/log") || path.ends_with("/download"));
    match role {
        Role::Administrator => true,
        _ if is_secret => false,
        Role::Operator => looks || !is_guarded && !is_item,
        Role::Viewer => looks && !is_of_traffic,
    }
}

/// Whether a browser says that the page of somebody else has made it send this: what it remembers of a login is not for that page.
fn is_from_elsewhere(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let origin = text("origin").map(|origin| origin.rsplit_once("://").map_or(origin, |(_, host)| host));
    text("sec-fetch-site") == Some("cross-site") || origin.is_some_and(|origin| text("host") != Some(origin))
}

/// Lets requests through whose sender is known, and those that anybody may send. What they may, is decided behind it.
pub(super) async fn guard(State(logins): State<Arc<Logins>>, mut request: Request, next: Next) -> Response {
    let whole = request.uri().path();
    let is_open = match door(whole) {
        Door::Open | Door::Login => true,
        Door::Metrics => logins.settings.load().metrics_open,
        Door::Guarded => false,
    };
    if !matches!(*request.method(), Method::GET | Method::HEAD) && is_from_elsewhere(request.headers()) {
        return Problem::new(Code::NotAllowed, "a page of another origin may not do that").into_response();
    }
    if is_open {
        return next.run(request).await;
    }
    let person = match logins.who(request.headers()).await {
        Ok(Some(person)) => person,
        Ok(None) => {
            logins.refused("a request");
            tokio::time::sleep(REFUSAL_PAUSE).await;
            let problem = "who are you? Come with a name and password, a key and its secret, or a token of POST /api/v5/login";
            let refusal = Problem::new(Code::Unauthorized, problem).into_response();
            // The dashboard asks by itself; a browser would put a window of its own before it.
            let is_script = request.headers().get("sec-fetch-mode").is_some_and(|mode| mode != "navigate");
            return if is_script { refusal } else { ([(header::WWW_AUTHENTICATE, "Basic realm=\"hookline\"")], refusal).into_response() };
        }
        Err(problem) => return problem.into_response(),
    };
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
    request.extensions_mut().insert(Caller::by_network(person, peer));
    next.run(request).await
}

/// GET /users
pub(super) async fn get_people(State(shared): State<Shared>) -> Answer<Vec<PersonInfo>> {
    let people = shared.logins.people().map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
    Ok(Json(people.into_iter().map(|Person { name, role, .. }| PersonInfo { username: name, role }).collect()))
}

/// POST /users
pub(super) async fn post_person(State(shared): State<Shared>, Json(new): Json<NewPerson>) -> Traced<PersonInfo> {
    let logins = Arc::clone(&shared.logins);
    let work = move |_: &Store| {
        let before = logins.person(&new.username)?;
        logins.set(&new.username, &new.password, new.role)?;
        let after = PersonInfo { username: new.username, role: new.role };
        Ok((Trace::of(before.as_ref(), Some(&after)), after))
    };
    shared.run_traced(work).await
}

/// DELETE /users/{username}
pub(super) async fn delete_person(State(shared): State<Shared>, Path(name): Path<String>) -> Traced<Done> {
    let logins = Arc::clone(&shared.logins);
    let work = move |_: &Store| {
        let before = logins.person(&name)?;
        match logins.remove(&name)? {
            true => Ok((Trace::of(before.as_ref(), None), Done {})),
            false => Err(Problem::new(Code::NotFound, format!("there is no user \"{name}\""))),
        }
    };
    shared.run_traced(work).await
}

/// A name and password.
#[derive(Deserialize, JsonSchema)]
pub(super) struct Given {
    username: String,
    password: String,
}

/// A token, in the form that EMQX has.
#[derive(Serialize, JsonSchema)]
pub(super) struct Token {
    token: String,
    version: &'static str,
    role: Role,
}

/// POST /login
pub(super) async fn post_login(State(shared): State<Shared>, Json(given): Json<Given>) -> Result<Noted<Json<Token>, Person>, Problem> {
    let logins = &shared.logins;
    let changes = logins.changes.load(Ordering::SeqCst);
    let Some(person) = logins.prove(&given.username, &given.password).await? else {
        logins.refused("a login");
        tokio::time::sleep(REFUSAL_PAUSE).await;
        return Err(Problem::new(Code::Unauthorized, "the name or the password is wrong"));
    };
    let token = random()?;
    logins.remember(Sha256::digest(&token).into(), &person, changes, TOKEN_LIFETIME);
    tracing::info!(target: "audit", user = person.name, "has logged in to the API");
    let token = Token { token, version: env!("CARGO_PKG_VERSION"), role: person.role };
    // For the log of what was done.
    Ok(Noted(person, Json(token)))
}

/// A person, without what proves it.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct PersonInfo {
    pub(crate) username: String,
    pub(crate) role: Role,
}

/// A person that is added, or gets another password or role.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
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
    fn a_page_of_another_origin_is_told_from_ours() {
        let headers = |all: &[(&'static str, &'static str)]| {
            all.iter()
                .map(|(name, value)| (header::HeaderName::from_static(name), header::HeaderValue::from_static(value)))
                .collect::<HeaderMap>()
        };
        assert!(!is_from_elsewhere(&headers(&[("host", "h:1")])));
        assert!(!is_from_elsewhere(&headers(&[("host", "h:1"), ("origin", "http://h:1"), ("sec-fetch-site", "same-origin")])));
        assert!(is_from_elsewhere(&headers(&[("host", "h:1"), ("origin", "http://evil")])));
        assert!(is_from_elsewhere(&headers(&[("host", "h:1"), ("origin", "null")])));
        assert!(is_from_elsewhere(&headers(&[("host", "h:1"), ("sec-fetch-site", "cross-site")])));
    }

    #[test]
    fn what_is_wrong_with_keys_is_told() {
        let settings: Settings = serde_json::from_str(
            r#"{"keys": [{"key": "a", "secret": "long enough"}, {"key": "a", "secret": ""}, {"key": "b:c", "secret": "long enough"}]}"#,
        )
        .expect("read");
        let errors = check(&settings);
        assert!(
            errors.len() == 3 && errors[0].contains("another") && errors[1].contains("secret") && errors[2].contains("colon"),
            "{errors:?}"
        );
    }

    #[test]
    fn roles_may_what_they_are_for() {
        let post = Method::POST;
        for (role, users, pause, look) in
            [(Role::Administrator, true, true, true), (Role::Operator, false, true, true), (Role::Viewer, false, false, true)]
        {
            assert_eq!(may(role, &post, "/users"), users, "{role:?}");
            assert_eq!(may(role, &Method::DELETE, "/authorization/cache"), users, "{role:?}");
            assert_eq!(may(role, &post, "/store/backup"), users, "{role:?}");
            assert_eq!(may(role, &post, "/actions/a/pause"), pause, "{role:?}");
            assert_eq!(may(role, &Method::GET, "/clients"), look, "{role:?}");
            assert_eq!(may(role, &Method::GET, "/rules/a"), look, "{role:?}");
            assert_eq!(may(role, &Method::DELETE, "/banned/clientid/a"), pause, "{role:?}");
            assert_eq!(may(role, &Method::DELETE, "/actions/a/dead_letters"), pause, "{role:?}");
            assert_eq!(may(role, &post, "/rule_test"), pause, "{role:?}");
            for (method, path) in [
                (Method::GET, "/configs"),
                (Method::GET, "/configs/history/3"),
                (Method::GET, "/audit"),
                (Method::GET, "/data/files/a.tar.gz"),
                (Method::POST, "/data/import"),
                (Method::PUT, "/configs"),
                (Method::POST, "/rules"),
                (Method::PUT, "/actions/a"),
                (Method::DELETE, "/connectors/a/"),
                (Method::POST, "/sources"),
            ] {
                assert_eq!(may(role, &method, path), users, "{role:?} {method} {path}");
            }
        }
    }
}
