//! Connectors: what uses them, and whether that reaches their systems. Their settings have secrets, and are not told.

use axum::extract::State;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::actions::{Status, status_of};
use super::answer::Answer;
use super::extract::{Json, Path};
use super::running::{Running, RunningConnector};

/// A connector.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct ConnectorInfo {
    pub(crate) name: String,
    #[serde(rename = "type")]
    pub(crate) kind: String,
    /// The worst of what its actions and sources say; `None`: none of them runs, and nothing is known.
    pub(crate) status: Option<Status>,
    pub(crate) status_reason: Option<String>,
    pub(crate) actions: Vec<String>,
    pub(crate) sources: Vec<String>,
    /// What keeps messages and sessions by it.
    pub(crate) persistence: Vec<String>,
    /// Whether logins or permissions are asked for by it.
    pub(crate) decides: bool,
}

fn shown(running: &Running, name: &str, connector: &RunningConnector) -> ConnectorInfo {
    let actions = connector.actions.iter().filter_map(|name| running.actions().get(name)).map(|action| action.delivery.state());
    let sources = connector.sources.iter().filter_map(|name| running.sources.get(name)).map(|source| source.view.state());
    let worst = actions.chain(sources).map(status_of).max_by_key(|(status, ..)| match status {
        Status::Connected | Status::Paused => 0,
        Status::Connecting => 1,
        Status::Retrying => 2,
        Status::Disconnected => 3,
    });
    let (status, status_reason) = worst.map_or((None, None), |(status, reason, _)| (Some(status), reason));
    ConnectorInfo {
        name: name.to_owned(),
        kind: connector.kind.clone(),
        status,
        status_reason,
        actions: connector.actions.clone(),
        sources: connector.sources.clone(),
        persistence: connector.persistence.clone(),
        decides: connector.decides,
    }
}

/// GET /connectors
pub(super) async fn get_all(State(shared): State<Shared>) -> Answer<Vec<ConnectorInfo>> {
    let running = shared.running();
    Ok(Json(running.connectors().iter().map(|(name, connector)| shown(&running, name, connector)).collect()))
}

/// GET /connectors/{name}
pub(super) async fn get_one(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<ConnectorInfo> {
    let running = shared.running();
    let connector = running.connector(&name)?;
    Ok(Json(shown(&running, &name, connector)))
}
