//! What an operator looks at: the node, counters, clients, alarms; by the paths and names that EMQX has for them.

use std::marker::PhantomData;

use axum::extract::State;
use axum::response::NoContent;
use hookline_core::{ClientFilter, Listed, NoAnswer, Place};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::answer::{Answer, Like};
use super::extract::{Json, Path, Query};
use super::{Code, Problem, Shared, shapes};

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

/// A part of a list. What its entries are like, `T` says.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "PageOf{T}")]
pub(crate) struct Page<T = Value> {
    #[schemars(with = "Vec<T>")]
    pub(crate) data: Vec<Value>,
    pub(crate) meta: Meta,
    #[serde(skip)]
    of: PhantomData<fn() -> T>,
}

/// Which part it is.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Meta {
    page: usize,
    limit: usize,
    /// Entries of all pages; left out where counting them would take too long.
    #[serde(skip_serializing_if = "Option::is_none")]
    count: Option<u64>,
    pub(crate) hasnext: bool,
}

/// Which part of a list is asked for.
#[derive(Debug, Clone, Copy, Deserialize, JsonSchema)]
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

    pub(super) fn page<T>(self, listed: Listed) -> Page<T> {
        let Paging { page, limit } = self.at_most(PAGE_MAX);
        let Listed { entries, count, has_more } = listed;
        Page { data: entries, meta: Meta { page, limit, count, hasnext: has_more }, of: PhantomData }
    }

    /// The part of a list that is at hand.
    pub(super) fn part<E, T>(self, all: Vec<E>, describe: impl Fn(E) -> Value) -> Page<T> {
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
pub(super) async fn get_nodes(State(shared): State<Shared>) -> Answer<Vec<Like<shapes::Node>>> {
    let observer = &shared.observer;
    let stats = observer.stats();
    let count = |name: &str| stats.iter().find(|stat| stat.name == name).map_or(0, |stat| stat.count);
    Ok(Json(vec![Like::new(json!({
        "node": observer.node(),
        "node_status": "running",
        "version": env!("CARGO_PKG_VERSION"),
        "uptime": u64::try_from(observer.uptime().as_millis()).unwrap_or(u64::MAX),
        "connections": count("connections"),
        "live_connections": count("live_connections"),
        "sessions": count("sessions"),
    }))]))
}

/// GET /stats
pub(super) async fn get_stats(State(shared): State<Shared>) -> Answer<Vec<Like<shapes::Counts>>> {
    let mut stats = Map::new();
    stats.insert("node".into(), shared.observer.node().into());
    for stat in shared.observer.stats() {
        let name = stat.name.replace('/', ".");
        stats.insert(format!("{name}.count"), stat.count.into());
        stats.insert(format!("{name}.max"), stat.max.into());
    }
    Ok(Json(vec![Like::new(stats)]))
}

/// GET /metrics
pub(super) async fn get_metrics(State(shared): State<Shared>) -> Answer<Vec<Like<shapes::Counts>>> {
    let mut metrics = Map::new();
    metrics.insert("node".into(), shared.observer.node().into());
    metrics.extend(shared.observer.metrics().into_iter().map(|(name, count)| (name.replace('/', "."), count.into())));
    Ok(Json(vec![Like::new(metrics)]))
}

/// Which alarms are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
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
) -> Answer<Page<shapes::Alarm>> {
    let alarms = shared.observer.alarms(query.activated);
    Ok(Json(paging.part(alarms, |alarm| alarm.to_json())))
}

/// Which clients are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct ClientQuery {
    like_clientid: Option<String>,
    like_username: Option<String>,
    username: Option<String>,
    conn_state: Option<ConnState>,
}

/// Whether a client is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
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
) -> Answer<Page<shapes::Client>> {
    let ClientQuery { like_clientid, like_username, username, conn_state } = query;
    let connected = conn_state.map(|state| state == ConnState::Connected);
    let filter = ClientFilter { like_client_id: like_clientid, like_username, username, connected };
    Ok(Json(paging.page(shared.observer.clients(filter, paging.place()).await?)))
}

pub(super) fn unknown(client_id: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no client \"{client_id}\""))
}

/// GET /clients/{clientid}
pub(super) async fn get_client(State(shared): State<Shared>, Path(client_id): Path<String>) -> Answer<Like<shapes::Client>> {
    shared.observer.client(&client_id).await?.map(|client| Json(Like::new(client))).ok_or_else(|| unknown(&client_id))
}

/// GET /clients/{clientid}/subscriptions
pub(super) async fn get_subscriptions(
    State(shared): State<Shared>,
    Path(client_id): Path<String>,
) -> Answer<Vec<Like<shapes::Subscription>>> {
    let subscriptions = shared.observer.subscriptions(&client_id).await?.ok_or_else(|| unknown(&client_id))?;
    Ok(Json(subscriptions.into_iter().map(Like::new).collect()))
}

/// DELETE /clients/{clientid}
pub(super) async fn delete_client(State(shared): State<Shared>, Path(client_id): Path<String>) -> Result<NoContent, Problem> {
    if shared.observer.kick(&client_id).await? { Ok(NoContent) } else { Err(unknown(&client_id)) }
}
