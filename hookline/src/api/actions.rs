//! Actions: whether their sinks take what comes, their accounts, how many dead letters there are.

use std::collections::HashMap;

use axum::extract::State;
use hookline_connectors::{ActionState, Activity};
use hookline_core::store::{QueueStats, Store};
use hookline_schemas::ports::{Ledger, QueueError, StateStore};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::extract::Path;
use super::running::{Running, RunningAction};
use super::{Code, Problem, Shared};

/// Where it is in the store that an action is paused: its name follows.
const PAUSED: &str = "paused/";

/// An action.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ActionInfo {
    pub(crate) name: String,
    /// The type of its connector.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) connector: String,
    pub(crate) status: Status,
    /// Why nothing is delivered.
    pub(crate) status_reason: Option<String>,
    /// Attempts that have failed in a row.
    pub(crate) attempts: u64,
    /// The rules that name it.
    pub(crate) rules: Vec<String>,
    pub(crate) ledger: Ledger,
    /// Whether the account is right: accepted = delivered + dead-lettered + dropped + expired + pending.
    pub(crate) balances: bool,
    /// Dead letters that are there now; those that were handed to fallback actions are none.
    pub(crate) dead_letters: u64,
    /// How long the oldest record has waited, seconds.
    pub(crate) oldest_secs: Option<u64>,
    /// What its workers have done since the broker started.
    pub(crate) activity: Activity,
}

/// How an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It has not reached its sink yet.
    Connecting,
    /// Its sink takes what comes.
    Connected,
    /// Its sink is there, and has not taken the batch at hand; it is tried again.
    Retrying,
    /// Its sink cannot be reached; the records wait.
    Disconnected,
    /// Somebody has paused it; the records wait.
    Paused,
}

impl Status {
    /// The word for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Status::Connecting => "connecting",
            Status::Connected => "connected",
            Status::Retrying => "retrying",
            Status::Disconnected => "disconnected",
            Status::Paused => "paused",
        }
    }
}

/// GET /actions
pub(super) async fn get_all(State(shared): State<Shared>) -> Answer<Vec<ActionInfo>> {
    let running = shared.running();
    shared.run(move |store| all(&running, store)).await
}

/// GET /actions/{action}
pub(super) async fn get_one(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<ActionInfo> {
    let running = shared.running();
    shared.run(move |store| one(&running, store, &name)).await
}

/// POST /actions/{action}/pause
pub(super) async fn post_pause(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<ActionInfo> {
    set_paused(shared, name, true).await
}

/// POST /actions/{action}/resume
pub(super) async fn post_resume(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<ActionInfo> {
    set_paused(shared, name, false).await
}

async fn set_paused(shared: Shared, name: String, paused: bool) -> Answer<ActionInfo> {
    let running = shared.running();
    shared
        .run(move |store| {
            keep_paused(&running, store, &name, paused)?;
            one(&running, store, &name)
        })
        .await
}

/// Pauses an action or lets it go on, over a restart.
pub(super) fn keep_paused(running: &Running, store: &Store, name: &str, paused: bool) -> Result<(), Problem> {
    let action = running.action(name)?;
    // Kept first: what a restart would undo was not done.
    let kept = store.keep(paused_key(name).as_bytes(), paused.then_some(&b""[..]));
    kept.map_err(|error| Problem::new(Code::InternalError, error.to_string()))?;
    action.delivery.set_paused(paused);
    tracing::info!(action = name, paused, "an action was paused or goes on");
    Ok(())
}

/// Actions that are paused.
pub(super) fn paused(store: &Store) -> Result<Vec<String>, QueueError> {
    let found = store.load(PAUSED.as_bytes())?.into_iter();
    Ok(found.filter_map(|(key, _)| String::from_utf8(key).ok()?.strip_prefix(PAUSED).map(str::to_owned)).collect())
}

fn paused_key(action: &str) -> String {
    format!("{PAUSED}{action}")
}

/// Whether an action was paused, and was not told to go on since.
pub(crate) fn is_paused(store: &Store, action: &str) -> Result<bool, QueueError> {
    let key = paused_key(action);
    Ok(store.load(key.as_bytes())?.iter().any(|(found, _)| *found == key.as_bytes()))
}

pub(super) fn all(running: &Running, store: &Store) -> Result<Vec<ActionInfo>, Problem> {
    let mut queues: HashMap<String, QueueStats> = store.action_stats()?.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
    Ok(running.actions().iter().filter_map(|(name, action)| Some(shown(action, queues.remove(name)?))).collect())
}

fn one(running: &Running, store: &Store, name: &str) -> Result<ActionInfo, Problem> {
    let action = running.action(name)?;
    let queue = store.action_stats()?.into_iter().find(|queue| queue.name == name);
    // An action that runs has its queue, whatever it holds.
    Ok(shown(action, queue.expect("the queue was made before the action started")))
}

/// How something is, why it is not as it should be, and how many attempts have failed in a row.
pub(super) fn status_of(state: ActionState) -> (Status, Option<String>, u64) {
    match state {
        ActionState::Connecting => (Status::Connecting, None, 0),
        ActionState::Connected => (Status::Connected, None, 0),
        ActionState::Retrying { error, attempts } => (Status::Retrying, Some(error), attempts),
        ActionState::Disconnected { error, attempts } => (Status::Disconnected, Some(error), attempts),
    }
}

fn shown(action: &RunningAction, queue: QueueStats) -> ActionInfo {
    let (status, status_reason, attempts) = status_of(action.delivery.state());
    let status = if action.delivery.is_paused() { Status::Paused } else { status };
    ActionInfo {
        name: queue.name,
        kind: action.kind.clone(),
        connector: action.connector.clone(),
        status,
        status_reason,
        attempts,
        rules: action.rules.clone(),
        ledger: queue.ledger,
        balances: queue.balances,
        dead_letters: queue.dead_letters,
        oldest_secs: queue.oldest_secs,
        activity: action.delivery.activity(),
    }
}
