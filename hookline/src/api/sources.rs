//! Sources: whether they reach their systems, and what they have taken in.

use axum::Json;
use axum::extract::State;
use hookline_connectors::Taken;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::actions::{Status, status_of};
use super::answer::Answer;

/// A source.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct SourceInfo {
    pub(crate) name: String,
    pub(crate) status: Status,
    /// Why nothing comes in.
    pub(crate) status_reason: Option<String>,
    pub(crate) taken: Taken,
}

/// GET /sources
pub(super) async fn get_all(State(shared): State<Shared>) -> Answer<Vec<SourceInfo>> {
    let running = shared.running();
    let shown = running.sources.iter().map(|(name, source)| {
        let (status, status_reason, _) = status_of(source.state());
        SourceInfo { name: name.clone(), status, status_reason, taken: source.taken() }
    });
    Ok(Json(shown.collect()))
}
