//! Dead letters of an action: list, show, edit, replay, purge. The commands call the same functions when no broker runs.

use std::sync::Arc;

use axum::extract::State;
use hookline_core::store::{DeadLetter, Queue, QueueKind, Replayed, Store};
use hookline_schemas::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::extract::{Json, Path, Query};
use super::{Code, Problem, Shared};

/// A dead letter as it is shown.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Letter {
    pub(crate) sequence: u64,
    /// When the record came here.
    pub(crate) at: String,
    pub(crate) error: String,
    /// The row that the rule selected; `None`: it is damaged.
    pub(crate) row: Option<serde_json::Value>,
}

/// Letters, oldest first.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Letters {
    pub(crate) data: Vec<Letter>,
    pub(crate) meta: Meta,
}

/// Which letters they are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "LettersMeta")]
pub(crate) struct Meta {
    pub(crate) limit: usize,
    /// There are more behind them.
    pub(crate) hasnext: bool,
}

/// How many letters went.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Purged {
    pub(crate) purged: u64,
}

/// Which letters are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Page {
    limit: usize,
    /// Those with this sequence and behind it.
    from: u64,
}

impl Default for Page {
    fn default() -> Self {
        Page { limit: 100, from: 0 }
    }
}

/// Letters that are answered at once.
pub(crate) const PAGE_MAX: usize = 1000;

/// The letters of an action, from a sequence on.
pub(crate) fn list(store: &Store, action: &str, from: u64, limit: usize) -> Result<Letters, Problem> {
    let limit = limit.clamp(1, PAGE_MAX);
    let mut letters = store.dead_letters_from(queue(store, action)?.id(), from, limit + 1)?;
    let hasnext = letters.len() > limit;
    letters.truncate(limit);
    Ok(Letters { data: letters.into_iter().map(shown).collect(), meta: Meta { limit, hasnext } })
}

/// One letter.
pub(crate) fn show(store: &Store, action: &str, sequence: u64) -> Result<Letter, Problem> {
    Ok(shown(store.dead_letter(queue(store, action)?.id(), sequence)?))
}

/// Puts one letter into its queue again.
pub(crate) fn replay(store: &Store, action: &str, sequence: u64) -> Result<Replayed, Problem> {
    store.replay_dead_letter(&*queue(store, action)?, sequence)?;
    Ok(Replayed { replayed: 1, kept: 0, problem: None })
}

/// Puts all letters into their queue again.
pub(crate) fn replay_all(store: &Store, action: &str) -> Result<Replayed, Problem> {
    Ok(store.replay_dead_letters(&*queue(store, action)?)?)
}

/// Changes the row of a letter by a merge patch.
pub(crate) fn edit(store: &Store, action: &str, sequence: u64, patch: serde_json::Value) -> Result<Letter, Problem> {
    if !patch.is_object() {
        return Err(Problem::new(Code::BadRequest, "the change must be a JSON object, such as {\"v\": 5}"));
    }
    Ok(shown(store.edit_dead_letter(&*queue(store, action)?, sequence, &Value::from_json(patch))?))
}

/// Takes one letter away.
pub(crate) fn purge(store: &Store, action: &str, sequence: u64) -> Result<Purged, Problem> {
    store.purge_dead_letter(&*queue(store, action)?, sequence)?;
    Ok(Purged { purged: 1 })
}

/// Takes all letters away.
pub(crate) fn purge_all(store: &Store, action: &str) -> Result<Purged, Problem> {
    Ok(Purged { purged: store.purge_dead_letters(&*queue(store, action)?)? })
}

fn queue(store: &Store, action: &str) -> Result<Arc<Queue>, Problem> {
    let mut queues = store.queues();
    queues.retain(|queue| queue.kind() == QueueKind::Action);
    if let Some(found) = queues.iter().find(|queue| queue.name() == action) {
        return Ok(Arc::clone(found));
    }
    let mut names: Vec<&str> = queues.iter().map(|queue| queue.name()).collect();
    names.sort_unstable();
    let known = if names.is_empty() { "it has none of any action".to_owned() } else { format!("there are {}", names.join(", ")) };
    Err(Problem::new(Code::NotFound, format!("the store has no queue of an action \"{action}\"; {known}")))
}

fn shown(letter: DeadLetter) -> Letter {
    let at = i64::try_from(letter.at_ms).ok().and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok());
    Letter {
        sequence: letter.sequence,
        at: at.unwrap_or_default().to_string(),
        error: letter.error,
        row: letter.row.map(|row| row.to_json()),
    }
}

/// GET /actions/{action}/dead_letters?limit=&from=
pub(super) async fn get_all(State(shared): State<Shared>, Path(action): Path<String>, Query(page): Query<Page>) -> Answer<Letters> {
    shared.run(move |store| list(store, &action, page.from, page.limit)).await
}

/// GET /actions/{action}/dead_letters/{sequence}
pub(super) async fn get_one(State(shared): State<Shared>, Path((action, sequence)): Path<(String, u64)>) -> Answer<Letter> {
    shared.run(move |store| show(store, &action, sequence)).await
}

/// PATCH /actions/{action}/dead_letters/{sequence}
pub(super) async fn patch_one(
    State(shared): State<Shared>,
    Path((action, sequence)): Path<(String, u64)>,
    Json(patch): Json<serde_json::Value>,
) -> Answer<Letter> {
    shared.run(move |store| edit(store, &action, sequence, patch)).await
}

/// POST /actions/{action}/dead_letters/{sequence}/replay
pub(super) async fn post_replay(State(shared): State<Shared>, Path((action, sequence)): Path<(String, u64)>) -> Answer<Replayed> {
    shared.run(move |store| replay(store, &action, sequence)).await
}

/// POST /actions/{action}/dead_letters/replay
pub(super) async fn post_replay_all(State(shared): State<Shared>, Path(action): Path<String>) -> Answer<Replayed> {
    shared.run(move |store| replay_all(store, &action)).await
}

/// DELETE /actions/{action}/dead_letters/{sequence}
pub(super) async fn delete_one(State(shared): State<Shared>, Path((action, sequence)): Path<(String, u64)>) -> Answer<Purged> {
    shared.run(move |store| purge(store, &action, sequence)).await
}

/// DELETE /actions/{action}/dead_letters
pub(super) async fn delete_all(State(shared): State<Shared>, Path(action): Path<String>) -> Answer<Purged> {
    shared.run(move |store| purge_all(store, &action)).await
}
