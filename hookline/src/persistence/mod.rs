//! What is kept in databases for clients: written by an action of its own (a durable queue, as for rules), read when clients connect and subscribe.
//!
//! In: events, logins, new subscriptions. Out: records for the action, subscriptions for a client, messages for a session.

mod events;
mod fetch;
mod statements;

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwap;
use hookline_connectors::{Cases, Sink, registry};
use hookline_core::Observer;
use hookline_core::store::{Queue, QueueKind, Store};
use hookline_mqtt::{QoS, ReasonCode, topic};
use hookline_schemas::access::{AccessControl, Granted, Login, Lookup, Request, Rights};
use hookline_schemas::config::{Action, AutoSubscribe, Config, OnFailure, Persistence as Settings};
use hookline_schemas::ports::{Archive, BoxFuture, NewSubscription, Promise};
use hookline_schemas::{Client, Map, QueueId, Value};
use serde_json::{Map as JsonMap, Value as Json};

use crate::access::question;
use crate::serve::{find_connector, settings_error};
use fetch::Fetcher;
use statements::{Statements, question};

/// What the names of the actions begin with that write for a persistence.
const ACTION: &str = "persistence.";
/// How long a database may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Adds the actions that write. Their parameters are those of all cases, by name.
pub(crate) fn expand(config: &mut Config) {
    for (name, settings) in &config.persistence {
        let kind = config.connectors.get(&settings.connector);
        let statements = kind.and_then(|connector| Statements::new(&connector.kind, &connector.settings, settings));
        let written = statements.map(|statements| statements.written).unwrap_or_default();
        if written.is_empty() {
            continue;
        }
        let mut delivery = settings.delivery.clone();
        delivery.order_key = format!("${{{}}}", hookline_connectors::cases::KEY);
        let action = Action {
            connector: settings.connector.clone(),
            ack: settings.ack,
            level: None,
            ack_timeout_secs: 30,
            fallback_actions: Vec::new(),
            undefined_as_text: false,
            queue: settings.queue.clone(),
            delivery,
            parameters: written.into_iter().map(|(case, parameters)| (case.to_owned(), Json::Object(parameters))).collect(),
        };
        config.actions.insert(format!("{ACTION}{name}"), action);
    }
}

/// The sink of an action that writes for a persistence; `None`: it is another action.
pub(crate) fn sink(config: &Config, action: &str) -> Option<Result<Box<dyn Sink>, Vec<String>>> {
    let name = action.strip_prefix(ACTION).filter(|name| config.persistence.contains_key(*name))?;
    let settings = &config.actions[action];
    let connector = config.connectors.get(&settings.connector)?;
    let make = registry::find(&connector.kind)?.sink?;
    let made = settings.parameters.iter().map(|(case, parameters)| {
        let nothing = JsonMap::new();
        let sink = make(&connector.settings, parameters.as_object().unwrap_or(&nothing), &config.node.data_dir);
        let path = format!("persistence.{name}.statements.{case}.");
        sink.map(|sink| (case.clone(), sink))
            .map_err(|errors| errors.iter().map(|error| settings_error(error, &path, &settings.connector)).collect::<Vec<_>>())
    });
    let sinks = made.collect::<Result<Vec<_>, _>>();
    Some(sinks.map(|sinks| Box::new(Cases::new(sinks)) as Box<dyn Sink>))
}

/// What is wrong with the settings.
pub(crate) fn check(config: &Config) -> Vec<String> {
    let mut errors = Vec::new();
    for (name, settings) in &config.persistence {
        let at = format!("persistence.{name}");
        for (list, filters) in [("messages", &settings.messages), ("retained", &settings.retained)] {
            let wrong = filters.iter().filter(|filter| !topic::filter_is_valid(filter, usize::MAX));
            errors.extend(wrong.map(|filter| format!("{at}.{list}: \"{filter}\" is no topic filter")));
        }
        let known = Statements::names();
        let unknown = settings.statements.keys().filter(|name| !known.contains(&name.as_str()));
        errors.extend(unknown.map(|name| format!("{at}.statements.{name}: there is none of that name; there are {}", known.join(", "))));
        errors.extend(questions(config, name, settings).err().unwrap_or_default());
    }
    errors
}

/// The questions of a persistence, by name.
type Questions = BTreeMap<&'static str, Arc<dyn Lookup>>;

fn questions(config: &Config, name: &str, settings: &Settings) -> Result<Questions, Vec<String>> {
    let at = format!("persistence.{name}");
    let connector = find_connector(config, &settings.connector).map_err(|problem| vec![format!("{at}.connector: {problem}")])?;
    // An unknown type is told with its connector.
    let Some(kind) = registry::find(&connector.kind) else { return Err(Vec::new()) };
    let Some(statements) = Statements::new(kind.name, &connector.settings, settings) else {
        let problem = format!("\"{}\" is of type {}; clients are kept in mongodb, mysql, postgres or redis", settings.connector, kind.name);
        return Err(vec![format!("{at}.connector: {problem}")]);
    };
    let mut questions = Questions::new();
    let mut errors = Vec::new();
    for (case, parameters) in &statements.asked {
        match question(config, &settings.connector, parameters) {
            Ok(made) => drop(questions.insert(case, made.lookup)),
            Err(problems) => errors.extend(problems.iter().map(|problem| match problem.strip_prefix("connectors.") {
                Some(_) => problem.clone(),
                None => format!("{at}.statements.{case}.{problem}"),
            })),
        }
    }
    if errors.is_empty() { Ok(questions) } else { Err(errors) }
}

/// One persistence, running.
struct Part {
    name: String,
    settings: Settings,
    questions: Questions,
    /// It is asked in SQL, so rows of messages have numbers.
    is_sql: bool,
    /// Where what is to be written goes; `None`: nothing is.
    target: Option<Target>,
    fetcher: Fetcher,
    /// When what is too old is to be deleted next, milliseconds since the Unix epoch.
    purge_at_ms: AtomicU64,
}

/// The queue of what is to be written.
struct Target {
    queue: QueueId,
    promise: Promise,
    /// To see what of it has arrived.
    account: Arc<Queue>,
    /// The cases that something is written for.
    written: Vec<String>,
}

/// All of them. What is configured can be changed while it runs.
pub(crate) struct Persistence {
    parts: ArcSwap<Vec<Arc<Part>>>,
    /// Who reaches the sessions, once the broker runs.
    observer: Arc<OnceLock<Observer>>,
}

impl Persistence {
    pub(crate) fn new() -> Persistence {
        Persistence { parts: ArcSwap::default(), observer: Arc::default() }
    }

    /// The broker runs: what waits can be brought.
    pub(crate) fn serve(&self, observer: Observer) {
        drop(self.observer.set(observer));
        self.parts.load().iter().for_each(|part| part.fetcher.wake());
    }

    /// Takes over another configuration, which was checked. What waits goes on under it.
    ///
    /// # Errors
    /// What is wrong; nothing has changed then.
    pub(crate) async fn change(&self, config: &Config, store: &Store) -> Result<(), Vec<String>> {
        let mut parts = Vec::new();
        for (name, settings) in &config.persistence {
            let action = config.actions.get_key_value(&format!("{ACTION}{name}"));
            let target = action.and_then(|(action, settings)| {
                let account = store.queues().into_iter().find(|queue| queue.kind() == QueueKind::Action && queue.name() == action)?;
                let written = settings.parameters.keys().cloned().collect();
                Some(Target { queue: account.id(), promise: settings.promise(), account, written })
            });
            let questions = questions(config, name, settings)?;
            let is_sql = matches!(&*config.connectors[&settings.connector].kind, "postgres" | "mysql");
            let (name, settings, purge_at_ms) = (name.clone(), settings.clone(), AtomicU64::new(0));
            parts.push(Arc::new(Part { name, settings, questions, is_sql, target, fetcher: Fetcher::default(), purge_at_ms }));
        }
        parts.iter().for_each(|part| part.fetcher.start(part, &self.observer));
        let old = self.parts.swap(Arc::new(parts.clone()));
        for part in old.iter() {
            part.fetcher.stop().await;
            if let Some(new) = parts.iter().find(|new| new.name == part.name) {
                new.fetcher.adopt(&part.fetcher);
            }
        }
        Ok(())
    }

    /// Ends what is under way.
    pub(crate) async fn stop(&self) {
        for part in self.parts.swap(Arc::default()).iter() {
            part.fetcher.stop().await;
        }
    }
}

impl Archive for Persistence {
    fn is_full(&self) -> bool {
        self.parts.load().iter().any(|part| part.fetcher.is_full())
    }

    fn subscribed(&self, new: &NewSubscription<'_>) {
        for part in self.parts.load().iter() {
            let is_kept = |filters: &[String]| filters.iter().any(|filter| topic::overlaps(filter, new.routed));
            let messages = new.qos > QoS::AtMostOnce && is_kept(&part.settings.messages);
            let retained = new.wants_retained && is_kept(&part.settings.retained);
            if messages || retained {
                let behind = part.target.as_ref().map_or(0, |target| target.account.next());
                part.fetcher.want(new, messages, retained, behind);
            }
        }
    }
}

impl Part {
    async fn ask(&self, name: &str, row: Map) -> Result<Vec<Value>, String> {
        let Some(question) = self.questions.get(name) else { return Ok(Vec::new()) };
        let row = Value::Map(row);
        match tokio::time::timeout(ANSWER_TIMEOUT, question.ask(&row)).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs())),
        }
    }

    /// The subscriptions of a client.
    async fn subscriptions(&self, client_id: &str) -> Result<Vec<AutoSubscribe>, String> {
        let mut row = Map::new();
        row.insert("clientid", Value::text(client_id));
        let rows = self.ask(question::SUBSCRIPTIONS, row).await?;
        let subscription = |row: &Value| {
            let filter = row.path(["topic"]).to_string();
            let qos = number(row.path(["qos"])).and_then(|qos| u8::try_from(qos).ok()).filter(|qos| *qos <= 2);
            if qos.is_none() || !topic::filter_is_valid(&filter, usize::MAX) {
                tracing::warn!(persistence = self.name, client = client_id, filter, "a subscription in the database is none; left out");
                return None;
            }
            Some(AutoSubscribe { topic: filter, qos: qos?, no_local: false, retain_as_published: false, retain_handling: 1 })
        };
        Ok(rows.iter().filter_map(subscription).collect())
    }
}

/// A number, also where the database keeps texts.
fn number(value: &Value) -> Option<i64> {
    match value {
        Value::Int(number) => Some(*number),
        Value::Float(number) => Some(*number as i64),
        Value::Bool(is) => Some(i64::from(*is)),
        other => other.as_text()?.parse().ok(),
    }
}

/// Decides as another does, and finds the subscriptions of who comes in.
pub(crate) struct Subscribing {
    pub(crate) access: Arc<dyn AccessControl>,
    pub(crate) persistence: Arc<Persistence>,
}

impl AccessControl for Subscribing {
    fn log_in<'a>(&'a self, login: Login<'a>) -> BoxFuture<'a, Result<Granted, ReasonCode>> {
        Box::pin(async move {
            let mut granted = self.access.log_in(login).await?;
            let client_id = granted.client_id.as_deref().unwrap_or(&login.client.client_id);
            let mut found = Vec::new();
            for part in self.persistence.parts.load_full().iter().filter(|part| part.questions.contains_key(question::SUBSCRIPTIONS)) {
                match part.subscriptions(client_id).await {
                    Ok(subscriptions) => found.extend(subscriptions),
                    Err(problem) => {
                        tracing::warn!(persistence = part.name, client = client_id, problem, "subscriptions cannot be read");
                        if part.settings.on_failure == OnFailure::Refuse {
                            return Err(ReasonCode::ServerUnavailable);
                        }
                    }
                }
            }
            granted.subscriptions.extend(found);
            Ok(granted)
        })
    }

    fn look(&self) -> bool {
        self.access.look()
    }

    fn ask<'a>(&'a self, client: &'a Client, rights: &'a Arc<dyn Rights>, request: Request<'a>) -> BoxFuture<'a, ()> {
        self.access.ask(client, rights, request)
    }

    fn renew<'a>(
        &'a self,
        client: &'a Client,
        rights: Option<&'a Arc<dyn Rights>>,
        held: Vec<Request<'a>>,
    ) -> BoxFuture<'a, Option<Arc<dyn Rights>>> {
        self.access.renew(client, rights, held)
    }
}
