//! Sources: whether they reach their systems, and what they have taken in.

use axum::extract::State;
use hookline_connectors::Taken;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::actions::{Status, status_of};
use super::answer::Answer;
use super::extract::{Json, Path};
use super::running::RunningSource;

/// A source.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct SourceInfo {
    pub(crate) name: String,
    /// The type of its connector.
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) connector: String,
    pub(crate) status: Status,
    /// Why nothing comes in.
    pub(crate) status_reason: Option<String>,
    pub(crate) taken: Taken,
}

fn shown(name: &str, RunningSource { connector, kind, view }: &RunningSource) -> SourceInfo {
    let (status, status_reason, _) = status_of(view.state());
    SourceInfo { name: name.to_owned(), kind: kind.clone(), connector: connector.clone(), status, status_reason, taken: view.taken() }
}

/// GET /sources
pub(super) async fn get_all(State(shared): State<Shared>) -> Answer<Vec<SourceInfo>> {
    Ok(Json(shared.running().sources.iter().map(|(name, source)| shown(name, source)).collect()))
}

/// GET /sources/{name}
pub(super) async fn get_one(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<SourceInfo> {
    let running = shared.running();
    Ok(Json(shown(&name, running.source(&name)?)))
}
