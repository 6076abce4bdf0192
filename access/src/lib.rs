//! Who may: the chain of authenticators that a client goes through, and the permissions that it gets.
//!
//! In: a client with what it says to prove itself.
//! Out: what was granted, or the reason of a refusal.
//!
//! Backends are asked when a client comes in, and for its permissions now and then while it is connected; what a message may do is decided
//! from memory. A backend that fails refuses, and never opens.

mod acl;
mod authenticator;
mod file;
mod guard;
mod mosquitto;
mod password;
mod rights;
mod rule;
mod token;
mod users;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use hookline_mqtt::ReasonCode;
use hookline_schemas::access::{AccessControl, Granted, Login, Lookup, Request, Rights};
use hookline_schemas::config::{AccessRule, Authorization, AuthorizationSource, Config, Permission, SourceType};
use hookline_schemas::event::Access as Action;
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Client, Value};
use tokio::sync::Semaphore;

use acl::{Acl, Form};
use authenticator::{Authenticator, Proven, Verdict, row};
use file::Watched;
pub use guard::BackendStats;
use guard::{Asks, Guard, Unanswered};
pub use password::{HashError, hash, verify};
use rights::{ClientRights, Group, Says};
use rule::Rule;
pub use users::{BuiltIn, Subject, User};

/// A condition over what is known of a client.
pub type Condition = Box<dyn Fn(&Value) -> bool + Send + Sync>;

/// A text out of what is known of a client; `None`: there is none.
pub type Expression = Box<dyn Fn(&Value) -> Option<String> + Send + Sync>;

/// A question that a connector has made.
pub struct NewLookup {
    pub lookup: Arc<dyn Lookup>,
    /// The kind of the connector.
    pub kind: &'static str,
}

/// Makes a question of the settings of an authenticator or source.
pub type MakeLookup<'a> = &'a dyn Fn(&str, &serde_json::Map<String, serde_json::Value>) -> Result<NewLookup, Vec<String>>;

/// What authenticators and sources are made with.
#[derive(Clone)]
pub struct Setup<'a> {
    pub users: BuiltIn,
    pub lookup: MakeLookup<'a>,
    /// Reads a condition.
    pub condition: &'a dyn Fn(&str) -> Result<Condition, String>,
    /// Reads an expression.
    pub expression: &'a dyn Fn(&str) -> Result<Expression, String>,
}

/// Who may, by a configuration that can be replaced.
pub struct Access {
    parts: ArcSwap<Parts>,
    /// How often permissions have changed, as far as that is known.
    changes: Arc<AtomicU64>,
}

/// A configuration, read and found right.
pub struct Prepared(Parts);

struct Parts {
    chain: Vec<Authenticator>,
    sources: Vec<Source>,
    settings: Authorization,
    attributes: Vec<(Box<str>, Expression)>,
    /// How often permissions have changed, as far as that is known.
    changes: Arc<AtomicU64>,
}

struct Source {
    name: Arc<str>,
    origin: Origin,
}

enum Origin {
    Rules(Vec<Rule>),
    File(Watched<Vec<Rule>>),
    BuiltIn(BuiltIn),
    Backend {
        guard: Box<Guard>,
        form: Form,
        /// The question has the topic in it: it is asked for each request.
        by_request: bool,
    },
}

impl Access {
    /// Decides by a configuration.
    pub fn new(Prepared(mut parts): Prepared) -> Access {
        let changes = Arc::default();
        parts.changes = Arc::clone(&changes);
        Access { parts: ArcSwap::from_pointee(parts), changes }
    }

    /// Reads a configuration.
    ///
    /// # Errors
    /// Everything that is wrong, each with its path.
    pub fn prepare(config: &Config, setup: &Setup<'_>) -> Result<Prepared, Vec<String>> {
        Parts::new(config, setup).map(Prepared)
    }

    /// Decides by another configuration from now on. The rights of who is in are not current any more.
    pub fn replace(&self, Prepared(mut parts): Prepared) {
        parts.changes = Arc::clone(&self.changes);
        self.parts.store(Arc::new(parts));
        self.note_change();
    }

    /// What the backends were asked, by the names of their authenticators and sources.
    pub fn stats(&self) -> Vec<(String, BackendStats)> {
        self.parts.load().stats()
    }

    /// Permissions have changed: rights that were made before are not current any more.
    pub fn note_change(&self) {
        self.changes.fetch_add(1, Ordering::SeqCst);
    }

    /// Forgets every answer that is remembered.
    pub fn forget(&self) {
        self.parts.load().forget();
    }
}

impl Parts {
    fn new(config: &Config, setup: &Setup<'_>) -> Result<Parts, Vec<String>> {
        let mut errors = Vec::new();
        let hashing = Arc::new(Semaphore::new(std::thread::available_parallelism().map_or(1, usize::from)));
        let mut attributes = Vec::new();
        for (name, text) in &config.client_attributes {
            match (setup.expression)(text) {
                Ok(expression) => attributes.push((name.as_str().into(), expression)),
                Err(problem) => errors.push(format!("client_attributes.{name}: {problem}")),
            }
        }
        let mut chain: Vec<Authenticator> = Vec::new();
        for (place, settings) in config.authentication.iter().enumerate() {
            if chain.iter().any(|other| other.settings.name == settings.name) {
                errors.push(format!("authentication[{place}].name: there is another \"{}\"", settings.name));
            }
            match Authenticator::new(settings, setup, &hashing) {
                Ok(authenticator) => chain.push(authenticator),
                Err(problems) => errors.extend(problems.into_iter().map(|problem| format!("authentication[{place}].{problem}"))),
            }
        }
        for (kind, name, listener) in config.listeners.enabled() {
            for wanted in listener.authentication.iter().flatten() {
                if !config.authentication.iter().any(|settings| settings.name == *wanted) {
                    errors.push(format!("listeners.{}.{name}.authentication: there is no \"{wanted}\" in [[authentication]]", kind.name()));
                }
            }
        }
        let mut sources = Vec::new();
        for (place, settings) in config.authorization.sources.iter().enumerate().filter(|(_, settings)| settings.enable) {
            if sources.iter().any(|other: &Source| *other.name == *settings.name) {
                errors.push(format!("authorization.sources[{place}].name: there is another \"{}\"", settings.name));
            }
            match Source::new(settings, setup) {
                Ok(source) => sources.push(source),
                Err(problems) => errors.extend(problems.into_iter().map(|problem| format!("authorization.sources[{place}].{problem}"))),
            }
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        Ok(Parts { chain, sources, settings: config.authorization.clone(), attributes, changes: Arc::default() })
    }

    fn stats(&self) -> Vec<(String, BackendStats)> {
        let chain =
            self.chain.iter().filter_map(|authenticator| Some((authenticator.settings.name.clone(), authenticator.guard()?.stats())));
        let sources = self.sources.iter().filter_map(|source| match &source.origin {
            Origin::Backend { guard, .. } => Some((source.name.to_string(), guard.stats())),
            _ => None,
        });
        chain.chain(sources).collect()
    }

    fn forget(&self) {
        self.chain.iter().filter_map(Authenticator::guard).for_each(Guard::forget);
        for source in &self.sources {
            if let Origin::Backend { guard, .. } = &source.origin {
                guard.forget();
            }
        }
    }

    /// The attributes that follow from what is known of a client.
    fn own_attributes(&self, mut known: Value, claims: Option<Value>) -> BTreeMap<Box<str>, Box<str>> {
        if let (Value::Map(known), Some(claims)) = (&mut known, claims) {
            known.insert("claims", claims);
        }
        self.attributes.iter().filter_map(|(name, expression)| Some((name.clone(), expression(&known)?.into()))).collect()
    }

    async fn prove(&self, login: &Login<'_>) -> Result<(Proven, bool), ReasonCode> {
        if login.is_proven {
            return Ok((Proven::default(), false));
        }
        let in_turn: Vec<&Authenticator> = match login.chain {
            None => self.chain.iter().collect(),
            Some(names) => {
                names.iter().filter_map(|name| self.chain.iter().find(|authenticator| authenticator.settings.name == *name)).collect()
            }
        };
        for authenticator in &in_turn {
            match authenticator.judge(login).await {
                Verdict::Allow(proven) => return Ok((proven, false)),
                Verdict::Deny(reason) => return Err(reason),
                Verdict::Ignore => {}
            }
        }
        let client = login.client;
        // Without authenticators a name cannot be proven, and a valid certificate is enough.
        let says_nothing = in_turn.is_empty() || client.username.as_deref().is_none_or(str::is_empty);
        if in_turn.is_empty() && client.certificate.is_some() {
            return Ok((Proven::default(), false));
        }
        if login.allow_anonymous && says_nothing { Ok((Proven::default(), true)) } else { Err(ReasonCode::NotAuthorized) }
    }

    /// The permissions of all sources for a client; and whether any of them comes from outside.
    async fn groups(&self, client: &Client) -> Result<Vec<Group>, Unanswered> {
        let mut groups = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            groups.push(match &source.origin {
                Origin::Rules(rules) => Group::new(&source.name, rules, false, client),
                Origin::File(file) => Group::new(&source.name, &file.get(), false, client),
                Origin::BuiltIn(store) => Group::new(&source.name, &stored(store, client).map_err(Unanswered::Failed)?, false, client),
                Origin::Backend { by_request: true, .. } => Group::asking(&source.name),
                Origin::Backend { guard, form, by_request: false } => {
                    let found = guard.ask(&row(client, None)).await?;
                    let Acl { rules, is_closed } = acl::read(*form, &found).map_err(|problem| {
                        tracing::error!(source = &*source.name, client = %client.client_id, problem, "permissions that make no sense; nothing is allowed by them");
                        Unanswered::Failed(problem)
                    })?;
                    Group::new(&source.name, &rules, is_closed, client)
                }
            });
        }
        Ok(groups)
    }

    /// What a source that is asked about each request says of one.
    async fn ask_source(&self, name: &str, client: &Client, request: &Request<'_>) -> Result<Option<bool>, Unanswered> {
        let source = self.sources.iter().find(|source| *source.name == *name);
        let Some(Source { origin: Origin::Backend { guard, form, .. }, .. }) = source else {
            // The configuration has changed since; the client's rights are asked for anew.
            return Err(Unanswered::Failed(format!("there is no source \"{name}\" any more")));
        };
        let mut question = row(client, None);
        if let Value::Map(question) = &mut question {
            question.insert("action", Value::text(if request.action == Action::Publish { "publish" } else { "subscribe" }));
            question.insert("topic", Value::text(request.topic));
            question.insert("qos", Value::Int(request.qos as i64));
            question.insert("retain", Value::Bool(request.retain));
        }
        let found = guard.ask(&question).await?;
        if *form == Form::Answer {
            return authenticator::permission_of_answer(&found);
        }
        let acl = acl::read(*form, &found).map_err(Unanswered::Failed)?;
        Ok(match Group::new(&name.into(), &acl.rules, acl.is_closed, client).says(request) {
            Says::Verdict(allow) => Some(allow),
            Says::Nothing | Says::Unasked => None,
        })
    }

    /// What a client may do. `made_at` is how often permissions had changed before they were asked for.
    fn rights(&self, own: Option<Group>, groups: Vec<Group>, made_at: u64) -> Arc<dyn Rights> {
        // What files and the store say is asked for anew when they change.
        let asks = self.sources.iter().any(|source| matches!(source.origin, Origin::Backend { .. }));
        let valid_secs = if asks { self.settings.refresh_secs.max(1) } else { 0 };
        let Authorization { no_match, deny_action, .. } = self.settings;
        // Where nothing is said of permissions, everything is allowed.
        let no_match = if groups.is_empty() && own.is_none() { Permission::Allow } else { no_match };
        let asks_each = groups.iter().any(Group::is_asked);
        Arc::new(ClientRights { own, groups, asks_each, no_match, deny_action, valid_secs, made_at, changes: Arc::clone(&self.changes) })
    }
}

impl Source {
    fn new(settings: &AuthorizationSource, setup: &Setup<'_>) -> Result<Source, Vec<String>> {
        let one = |key: &str, problem: String| vec![format!("{key}: {problem}")];
        let path = || settings.path.as_deref().ok_or_else(|| one("path", "missing".into()));
        if !settings.rules.is_empty() && (settings.kind != SourceType::Rules || settings.connector.is_some()) {
            return Err(one(
                "rules",
                "have no effect beside another place of permissions; a source of their own may stand before or behind it".into(),
            ));
        }
        if settings.path.is_some() && !matches!(settings.kind, SourceType::File | SourceType::Mosquitto) {
            return Err(one("path", "has no effect beside this type; a file is of type \"file\" or \"mosquitto\"".into()));
        }
        let origin = match (settings.kind, &settings.connector) {
            (SourceType::Rules, Some(connector)) => {
                let NewLookup { lookup, kind } = (setup.lookup)(connector, &settings.parameters)?;
                let form = match kind {
                    "redis" => Form::ByTopic,
                    "ldap" => Form::Attributes,
                    "http" => Form::Answer,
                    _ => Form::Rows,
                };
                let text = serde_json::to_string(&settings.parameters).unwrap_or_default();
                let by_request =
                    ["${topic}", "${action}"].iter().any(|place| text.contains(place)) || (kind == "http" && text.contains("${.}"));
                Origin::Backend {
                    guard: Box::new(Guard::new(&settings.name, lookup, Asks::of(kind, &settings.parameters), &settings.backend)),
                    form,
                    by_request,
                }
            }
            (_, Some(_)) => return Err(one("connector", "has no effect beside this type".into())),
            (SourceType::Rules, None) => {
                let read = settings.rules.iter().enumerate();
                let rules = read.map(|(place, rule)| Rule::new(rule).map_err(|problem| one(&format!("rules[{place}]"), problem)));
                Origin::Rules(rules.collect::<Result<_, _>>()?)
            }
            (SourceType::File, None) => Origin::File(Watched::open(path()?, read_rules).map_err(|problem| one("path", problem))?),
            (SourceType::BuiltIn, None) => Origin::BuiltIn(setup.users.clone()),
            (SourceType::Mosquitto, None) => Origin::File(Watched::open(path()?, mosquitto::read).map_err(|problem| one("path", problem))?),
        };
        Ok(Source { name: settings.name.as_str().into(), origin })
    }
}

/// The permissions that the store has for a client: its own, its user's, those of all.
fn stored(store: &BuiltIn, client: &Client) -> Result<Vec<Rule>, String> {
    let user = client.username.as_deref().map(|name| Subject::User(name.to_owned()));
    let mut rules = Vec::new();
    for subject in [Some(Subject::Client(client.client_id.to_string())), user, Some(Subject::All)].into_iter().flatten() {
        if let Some(permissions) = store.permissions(&subject).map_err(|error| error.to_string())? {
            rules.extend(acl::of_claim(&permissions)?.rules);
        }
    }
    Ok(rules)
}

/// What is wrong with permissions that are to be kept in the store.
///
/// # Errors
/// The first mistake.
pub fn check_permissions(permissions: &serde_json::Value) -> Result<(), String> {
    if !permissions.is_array() {
        return Err("permissions must be a list".to_owned());
    }
    acl::of_claim(permissions).map(drop)
}

/// Reads a file with `[[rules]]`. An empty one is a mistake: it would take every permission away.
fn read_rules(text: &str) -> Result<Vec<Rule>, String> {
    #[derive(serde::Deserialize)]
    #[serde(deny_unknown_fields)]
    struct File {
        rules: Vec<AccessRule>,
    }
    let file: File = toml::from_str(text).map_err(|error| error.to_string())?;
    let read = file.rules.iter().enumerate();
    let rules: Vec<Rule> =
        read.map(|(place, rule)| Rule::new(rule).map_err(|problem| format!("rules[{place}].{problem}"))).collect::<Result<_, _>>()?;
    if rules.is_empty() { Err("there is no rule in it".to_owned()) } else { Ok(rules) }
}

impl Parts {
    async fn log_in(&self, login: Login<'_>) -> Result<Granted, ReasonCode> {
        if self.chain.is_empty() && self.sources.is_empty() && self.attributes.is_empty() {
            let (_, is_anonymous) = self.prove(&login).await?;
            return Ok(Granted { is_anonymous, ..Granted::default() });
        }
        let mut client = login.client.clone();
        client.attributes = self.own_attributes(row(&client, None), None);
        let (proven, is_anonymous) = self.prove(&Login { client: &client, ..login }).await?;
        let Proven { is_superuser, client_id, attributes, expires_at_ms, acl, claims } = proven;
        if claims.is_some() {
            client.attributes = self.own_attributes(row(&client, None), claims);
        }
        // What somebody else says of a client counts more than what follows from its names.
        client.attributes.extend(attributes);
        let attributes = client.attributes.clone();
        let mut granted =
            Granted { is_superuser, is_anonymous, client_id, attributes, expires_at_ms, rights: None, subscriptions: Vec::new() };
        if is_superuser || (self.sources.is_empty() && acl.is_none()) {
            return Ok(granted);
        }
        // Permissions are for who the client is now.
        if let Some(client_id) = &granted.client_id {
            client.client_id = client_id.as_str().into();
        }
        let own = acl.map(|acl| Group::new(&"login".into(), &acl.rules, acl.is_closed, &client));
        let made_at = self.changes.load(Ordering::SeqCst);
        let groups = self.groups(&client).await.map_err(|unanswered| match unanswered {
            Unanswered::Busy => ReasonCode::ServerBusy,
            Unanswered::Failed(_) | Unanswered::Question(_) => ReasonCode::ServerUnavailable,
        })?;
        granted.rights = Some(self.rights(own, groups, made_at));
        Ok(granted)
    }

    async fn ask(&self, client: &Client, rights: &ClientRights, request: &Request<'_>) {
        while let Some(group) = rights.undecided(request) {
            group.keep(request, self.ask_source(group.source(), client, request).await);
        }
    }

    async fn renew(&self, client: &Client, old: Option<&ClientRights>, held: Vec<Request<'_>>) -> Option<Arc<dyn Rights>> {
        if old.is_none() && self.sources.is_empty() {
            return None;
        }
        let made_at = self.changes.load(Ordering::SeqCst);
        let own = old.and_then(|old| old.own.clone());
        let new = match self.groups(client).await {
            Ok(groups) => self.rights(own, groups, made_at),
            Err(_) if old.is_some() => return None,
            // It had none, because there was nothing to decide by. They are asked for again until somebody answers.
            Err(_) => return Some(self.rights(None, Vec::new(), made_at.wrapping_sub(1))),
        };
        let decides = new.as_any().downcast_ref::<ClientRights>()?;
        for request in held {
            while let Some(group) = decides.undecided(&request) {
                let answer = self.ask_source(group.source(), client, &request).await;
                if answer.is_err() {
                    // Who had none gets these: what nobody can say now is asked about, and refused, when it is wanted.
                    return old.is_none().then_some(new);
                }
                group.keep(&request, answer);
            }
        }
        Some(new)
    }
}

impl AccessControl for Access {
    fn log_in<'a>(&'a self, login: Login<'a>) -> BoxFuture<'a, Result<Granted, ReasonCode>> {
        let parts = self.parts.load_full();
        Box::pin(async move { parts.log_in(login).await })
    }

    fn look(&self) -> bool {
        let parts = self.parts.load();
        parts.chain.iter().for_each(Authenticator::look);
        let looked = parts.sources.iter().map(|source| matches!(&source.origin, Origin::File(file) if file.look()));
        let has_changed = looked.fold(false, |any, changed| any | changed);
        if has_changed {
            self.note_change();
        }
        has_changed
    }

    fn ask<'a>(&'a self, client: &'a Client, rights: &'a Arc<dyn Rights>, request: Request<'a>) -> BoxFuture<'a, ()> {
        let parts = self.parts.load_full();
        Box::pin(async move {
            if let Some(rights) = rights.as_any().downcast_ref::<ClientRights>() {
                parts.ask(client, rights, &request).await;
            }
        })
    }

    fn renew<'a>(
        &'a self,
        client: &'a Client,
        rights: Option<&'a Arc<dyn Rights>>,
        held: Vec<Request<'a>>,
    ) -> BoxFuture<'a, Option<Arc<dyn Rights>>> {
        let parts = self.parts.load_full();
        Box::pin(async move {
            let old = rights.and_then(|rights| rights.as_any().downcast_ref::<ClientRights>());
            parts.renew(client, old, held).await
        })
    }
}
