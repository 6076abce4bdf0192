//! The configuration, read again while the broker runs.

use axum::extract::State;
use tokio::sync::oneshot;

use super::answer::Answer;
use super::extract::Json;
use super::{Code, Problem, Shared};
use crate::live::{Changes, Extent, Reloads, Wish};

/// POST /configs/reload
pub(super) async fn post(State(shared): State<Shared>) -> Answer<Changes> {
    reload(&shared.reloads, Extent::Whole).await.map(Json)
}

/// Has the file read again.
pub(super) async fn reload(reloads: &Reloads, extent: Extent) -> Result<Changes, Problem> {
    let stops = || Problem::new(Code::Conflict, "the broker stops");
    let (answer, answered) = oneshot::channel();
    reloads.send(Wish { extent, answer }).await.map_err(|_| stops())?;
    match answered.await {
        Ok(Ok(changes)) => Ok(changes),
        Ok(Err(problems)) => Err(Problem::refused(problems)),
        Err(_) => Err(stops()),
    }
}
