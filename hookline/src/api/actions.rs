//! Actions: whether their sinks take what comes, their accounts, how many dead letters there are.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Path, State};
use hookline_connectors::ActionState;
use hookline_core::store::{QueueStats, Store};
use hookline_schemas::ports::Ledger;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::running::{Running, RunningAction};
use super::{Problem, Shared};

/// An action.
#[derive(Debug, Clone, Serialize, Deserialize)]
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
}

/// How an action is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Status {
    /// It has not reached its sink yet.
    Connecting,
    /// Its sink takes what comes.
    Connected,
    /// Its sink does not take anything for now; the records wait.
    Disconnected,
}

impl Status {
    /// The word for people.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Status::Connecting => "connecting",
            Status::Connected => "connected",
            Status::Disconnected => "disconnected",
        }
    }
}

/// GET /actions
pub(super) async fn get_all(State(shared): State<Shared>) -> Answer<Vec<ActionInfo>> {
    let running = Arc::clone(&shared.running);
    shared.run(move |store| all(&running, store)).await
}

/// GET /actions/{action}
pub(super) async fn get_one(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<ActionInfo> {
    let running = Arc::clone(&shared.running);
    shared.run(move |store| one(&running, store, &name)).await
}

fn all(running: &Running, store: &Store) -> Result<Vec<ActionInfo>, Problem> {
    let mut queues: HashMap<String, QueueStats> = store.action_stats()?.into_iter().map(|queue| (queue.name.clone(), queue)).collect();
    Ok(running.actions().iter().filter_map(|(name, action)| Some(shown(action, queues.remove(name)?))).collect())
}

fn one(running: &Running, store: &Store, name: &str) -> Result<ActionInfo, Problem> {
    let action = running.action(name)?;
    let queue = store.action_stats()?.into_iter().find(|queue| queue.name == name);
    // An action that runs has its queue, whatever it holds.
    Ok(shown(action, queue.expect("the queue was made before the action started")))
}

fn shown(action: &RunningAction, queue: QueueStats) -> ActionInfo {
    let (status, status_reason, attempts) = match &*action.state.borrow() {
        ActionState::Connecting => (Status::Connecting, None, 0),
        ActionState::Connected => (Status::Connected, None, 0),
        ActionState::Disconnected { error, attempts } => (Status::Disconnected, Some(error.clone()), *attempts),
    };
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
    }
}
