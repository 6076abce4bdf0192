//! The store: figures, check, compaction, backup.

use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use axum::extract::State;
use hookline_core::store::{BackedUp, CheckReport, Compacted, QueueStats, Stats};
use schemars::JsonSchema;
use serde::Deserialize;

use super::answer::Answer;
use super::extract::{Json, Query};
use super::{Code, Problem, Shared};

/// Which queues.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Queues {
    /// At most so many; 0 is all.
    limit: usize,
}

impl Default for Queues {
    fn default() -> Self {
        Queues { limit: 100 }
    }
}

/// Where a backup is to go.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Destination {
    folder: PathBuf,
}

/// GET /store
pub(super) async fn stats(State(shared): State<Shared>) -> Answer<Stats> {
    shared.run(|store| Ok(store.stats()?)).await
}

/// GET /store/queues?limit=
pub(super) async fn queues(State(shared): State<Shared>, Query(queues): Query<Queues>) -> Answer<Vec<QueueStats>> {
    let limit = if queues.limit == 0 { usize::MAX } else { queues.limit };
    shared.run(move |store| Ok(store.queue_stats(limit)?)).await
}

/// POST /store/check
pub(super) async fn check(State(shared): State<Shared>) -> Answer<CheckReport> {
    let stopping = Arc::clone(&shared.stopping);
    shared.run_alone(move |store| Ok(store.check(&mut |_| go_on(&stopping)))).await
}

/// POST /store/compact
pub(super) async fn compact(State(shared): State<Shared>) -> Answer<Compacted> {
    let stopping = Arc::clone(&shared.stopping);
    shared.run_alone(move |store| Ok(store.compact(|| !stopping.load(Ordering::Relaxed)))).await
}

/// POST /store/backup
pub(super) async fn backup(State(shared): State<Shared>, Json(destination): Json<Destination>) -> Answer<BackedUp> {
    let folder = destination.folder;
    if !folder.is_absolute() {
        return Err(Problem::new(Code::BadRequest, "folder: must be an absolute path"));
    }
    let Json(made) = shared.run_alone(move |store| Ok(store.backup(&folder)?)).await?;
    tracing::info!(folder = made.folder, bytes = made.bytes, "a backup of the store was made");
    Ok(Json(made))
}

fn go_on(stopping: &AtomicBool) -> ControlFlow<()> {
    if stopping.load(Ordering::Relaxed) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
}
