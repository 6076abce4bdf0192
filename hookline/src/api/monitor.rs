//! What an operator looks at: the node, counters, clients, alarms; by the paths and names that EMQX has for them.

use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use hookline_core::{ClientFilter, Listed, NoAnswer, Place};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::{Code, Problem, Shared};

/// Entries of a page at the most.
const PAGE_MAX: usize = 10_000;

impl From<NoAnswer> for Problem {
    fn from(error: NoAnswer) -> Problem {
        let code = match error {
            NoAnswer::Late => Code::Busy,
            NoAnswer::Store(_) => Code::InternalError,
        };
        Problem::new(code, error.to_string())
    }
}

/// A part of a list.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Page {
    pub(crate) data: Vec<Value>,
    pub(crate) meta: Meta,
}

/// Which part it is.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Meta {
    page: usize,
    limit: usize,
    /// Entries of all pages; left out where counting them would take too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    pub(crate) hasnext: bool,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, Deserialize)]
pub(super) struct Paging {
    #[serde(default = "first")]
    page: usize,
    #[serde(default = "page_length")]
    limit: usize,
}

impl Paging {
    /// The same, with so many entries at the most.
    pub(super) fn at_most(self, limit: usize) -> Paging {
        Paging { page: self.page.max(1), limit: self.limit.clamp(1, limit) }
    }

    pub(super) fn place(self) -> Place {
        let Paging { page, limit } = self.at_most(PAGE_MAX);
        Place { skip: (page - 1).saturating_mul(limit), limit }
    }

    pub(super) fn page(self, listed: Listed) -> Page {
        let Paging { page, limit } = self.at_most(PAGE_MAX);
        let Listed { entries, count, has_more } = listed;
        Page { data: entries, meta: Meta { page, limit, count, hasnext: has_more } }
    }

    /// The part of a list that is at hand.
    pub(super) fn part<T>(self, all: Vec<T>, describe: impl Fn(T) -> Value) -> Page {
        let Place { skip, limit } = self.place();
        let (count, has_more) = (all.len() as u64, all.len() > skip.saturating_add(limit));
        let entries = all.into_iter().skip(skip).take(limit).map(describe).collect();
        self.page(Listed { entries, count: Some(count), has_more })
    }
}

/// GET /status
pub(super) async fn get_status(State(shared): State<Shared>) -> String {
    format!("Node {} is started\nhookline is running\n", shared.observer.node())
}

/// GET /nodes
pub(super) async fn get_nodes(State(shared): State<Shared>) -> Answer<Vec<Value>> {
    let observer = &shared.observer;
    let stats = observer.stats();
    let count = |name: &str| stats.iter().find(|stat| stat.name == name).map_or(0, |stat| stat.count);
    Ok(Json(vec![json!({
        "node": observer.node(),
        "node_status": "running",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": u64::try_from(observer.uptime().as_millis()).unwrap_or(u64::MAX),
        "connections": count("connections"),
        "live_connections": count("live_connections"),
        "sessions": count("sessions"),
    })]))
}

/// GET /stats
pub(super) async fn get_stats(State(shared): State<Shared>) -> Answer<Vec<Map<String, Value>>> {
    let mut stats = Map::new();
    stats.insert("node".into(), shared.observer.node().into());
    for stat in shared.observer.stats() {
        let name = stat.name.replace('/', ".");
        stats.insert(format!("{name}.count"), stat.count.into());
        stats.insert(format!("{name}.max"), stat.max.into());
    }
    Ok(Json(vec![stats]))
}

/// GET /metrics
pub(super) async fn get_metrics(State(shared): State<Shared>) -> Answer<Vec<Map<String, Value>>> {
    let mut metrics = Map::new();
    metrics.insert("node".into(), shared.observer.node().into());
    metrics.extend(shared.observer.metrics().into_iter().map(|(name, count)| (name.replace('/', "."), count.into())));
    Ok(Json(vec![metrics]))
}

/// Which alarms are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct AlarmQuery {
    #[serde(default = "yes")]
    activated: bool,
}

fn yes() -> bool {
    true
}

/// GET /alarms?activated=
pub(super) async fn get_alarms(
    State(shared): State<Shared>,
    Query(query): Query<AlarmQuery>,
    Query(paging): Query<Paging>,
) -> Answer<Page> {
    let alarms = shared.observer.alarms(query.activated);
    Ok(Json(paging.part(alarms, |alarm| alarm.to_json())))
}

/// Which clients are asked for.
#[derive(Debug, Deserialize)]
pub(super) struct ClientQuery {
    like_clientid: Option<String>,
    like_username: Option<String>,
    username: Option<String>,
    conn_state: Option<ConnState>,
}

/// Whether a client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum ConnState {
    Connected,
    Disconnected,
}

fn first() -> usize {
    1
}

fn page_length() -> usize {
    100
}

/// GET /clients
pub(super) async fn get_clients(
    State(shared): State<Shared>,
    Query(query): Query<ClientQuery>,
    Query(paging): Query<Paging>,
) -> Answer<Page> {
    let ClientQuery { like_clientid, like_username, username, conn_state } = query;
    let connected = conn_state.map(|state| state == ConnState::Connected);
    let filter = ClientFilter { like_client_id: like_clientid, like_username, username, connected };
    Ok(Json(paging.page(shared.observer.clients(filter, paging.place()).await?)))
}

pub(super) fn unknown(client_id: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no client \"{client_id}\""))
}

/// GET /clients/{clientid}
pub(super) async fn get_client(State(shared): State<Shared>, Path(client_id): Path<String>) -> Answer<Value> {
    shared.observer.client(&client_id).await?.map(Json).ok_or_else(|| unknown(&client_id))
}

/// GET /clients/{clientid}/subscriptions
pub(super) async fn get_subscriptions(State(shared): State<Shared>, Path(client_id): Path<String>) -> Answer<Vec<Value>> {
    shared.observer.subscriptions(&client_id).await?.map(Json).ok_or_else(|| unknown(&client_id))
}

/// DELETE /clients/{clientid}
pub(super) async fn delete_client(State(shared): State<Shared>, Path(client_id): Path<String>) -> Result<StatusCode, Problem> {
    if shared.observer.kick(&client_id).await? { Ok(StatusCode::NO_CONTENT) } else { Err(unknown(&client_id)) }
}
