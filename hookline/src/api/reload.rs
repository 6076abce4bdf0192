//! The configuration, read again while the broker runs.

use axum::Json;
use axum::extract::State;
use tokio::sync::oneshot;

use super::answer::Answer;
use super::{Code, Problem, Shared};
use crate::live::Changes;

/// POST /configs/reload
pub(super) async fn post(State(shared): State<Shared>) -> Answer<Changes> {
    let stops = || Problem::new(Code::Conflict, "the broker stops");
    let (answer, answered) = oneshot::channel();
    shared.reloads.send(answer).await.map_err(|_| stops())?;
    match answered.await {
        Ok(Ok(changes)) => Ok(Json(changes)),
        Ok(Err(problems)) => Err(Problem::new(Code::BadRequest, format!("nothing was changed: {}", problems.join("\n  ")))),
        Err(_) => Err(stops()),
    }
}
