//! What was done by the API, by whom, and what it has changed: each request that is to change something becomes an entry in the store.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::Instant;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::Method;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use hookline_schemas::config::Role;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::answer::{Answer, Noted};
use super::caller::{Caller, Peer, Way};
use super::extract::{Json, Query};
use super::login::{Person, may};
use super::monitor::Paging;
use super::{Code, Problem, Shared};
use crate::backtest::{moment, now_ms, time};

/// Bytes of a path, and of what was before and after as JSON.
const PATH_MAX: usize = 1024;
const VALUE_MAX: usize = 64 << 10;
/// Requests that come often and change nothing that is kept here: they would push out what matters.
const PASSED_OVER: [&str; 5] = ["/publish", "/publish/bulk", "/rule_test", "/rule_backtest", "/store/check"];

/// An answer with what was changed.
pub(super) type Traced<T> = Result<Noted<Json<T>, Trace>, Problem>;

/// What something was before a request, and after it. It has no secrets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Trace {
    before: Option<Value>,
    after: Option<Value>,
}

impl Trace {
    pub(super) fn of<T: Serialize>(before: Option<&T>, after: Option<&T>) -> Trace {
        let json = |value: Option<&T>| {
            let value = serde_json::to_value(value?).ok()?;
            let is_long = value.to_string().len() > VALUE_MAX;
            Some(if is_long { Value::String("too long to be kept".into()) } else { value })
        };
        Trace { before: json(before), after: json(after) }
    }

    /// The same, with what else it has made.
    pub(super) fn and(mut self, more: &Value) -> Trace {
        let more = more.as_object().cloned().unwrap_or_default();
        match &mut self.after {
            Some(Value::Object(after)) => after.extend(more),
            after => *after = Some(Value::Object(more)),
        }
        self
    }
}

/// An entry.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Entry {
    /// Its number; in the store, its key.
    #[serde(default)]
    pub(crate) seq: u64,
    pub(crate) created_at: String,
    pub(crate) operator: String,
    pub(crate) role: Role,
    pub(crate) source: Way,
    pub(crate) source_ip: Option<String>,
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) status: u16,
    pub(crate) before: Option<Value>,
    pub(crate) after: Option<Value>,
    pub(crate) duration_ms: u64,
}

/// Refuses what the caller may not do. Everything that is to change something is put down, also where it was refused.
pub(super) async fn record(State(shared): State<Shared>, request: Request, next: Next) -> Response {
    let begun = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path();
    let path = path.strip_prefix("/api/v5").unwrap_or(path).to_owned();
    let peer = request.extensions().get::<ConnectInfo<Peer>>().map(|ConnectInfo(peer)| *peer);
    let mut caller = request.extensions().get::<Caller>().cloned();
    let mut response = match &caller {
        Some(caller) if !may(caller.role, &method, &path) => {
            let role = serde_json::to_value(caller.role).unwrap_or_default();
            Problem::new(Code::NotAllowed, format!("a {} may not do that", role.as_str().unwrap_or_default())).into_response()
        }
        _ => next.run(request).await,
    };
    if matches!(method, Method::GET | Method::HEAD) || PASSED_OVER.contains(&path.as_str()) {
        return response;
    }
    // Somebody who has just logged in.
    caller = caller.or_else(|| response.extensions_mut().remove::<Person>().map(|person| Caller::by_network(person, peer)));
    let Some(Caller { name: operator, role, way: source, address }) = caller else { return response };
    let Trace { before, after } = response.extensions_mut().remove::<Trace>().unwrap_or_default();
    let status = response.status().as_u16();
    if source == Way::Api {
        tracing::info!(target: "audit", user = operator, ?role, %method, path, status, "a request by the API");
    }
    let entry = Entry {
        seq: 0,
        created_at: time(now_ms()),
        operator,
        role,
        source,
        source_ip: address.map(|address| address.to_string()),
        method: method.to_string(),
        path: path.chars().take(PATH_MAX).collect(),
        status,
        before,
        after,
        duration_ms: u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX),
    };
    let store = Arc::clone(&shared.store);
    let kept = tokio::task::spawn_blocking(move || {
        let entry = serde_json::to_vec(&entry).map_err(|error| error.to_string())?;
        store.keep_audit(&entry).map_err(|error| error.to_string())
    });
    if let Ok(Err(problem)) = kept.await {
        tracing::error!(target: "audit", problem, "what was done by the API cannot be put down");
    }
    response
}

/// Which entries are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct AuditQuery {
    /// A time, milliseconds since the Unix epoch, or a while ago, such as `2h`.
    from: Option<String>,
    to: Option<String>,
    operator: Option<String>,
    /// A part of the path.
    path: Option<String>,
}

/// GET /audit: the newest first
pub(super) async fn get(
    State(shared): State<Shared>,
    Query(query): Query<AuditQuery>,
    Query(paging): Query<Paging>,
) -> Answer<super::Page<Entry>> {
    let now_ms = now_ms();
    let bound = |key: &str, text: Option<String>| {
        let moment = text.map(|text| moment(&text, now_ms).map(time)).transpose();
        moment.map_err(|error| Problem::new(Code::BadRequest, format!("{key}: {error}")))
    };
    let (from, to) = (bound("from", query.from)?, bound("to", query.to)?);
    shared
        .run(move |store| {
            let mut found = Vec::new();
            store.each_audit(|seq, entry| {
                let Ok(mut entry) = serde_json::from_slice::<Entry>(entry) else { return ControlFlow::Continue(()) };
                // Times of one form sort as texts do.
                let is_in_time =
                    from.as_ref().is_none_or(|from| entry.created_at >= *from) && to.as_ref().is_none_or(|to| entry.created_at < *to);
                let is_of = query.operator.as_ref().is_none_or(|operator| entry.operator == *operator);
                if is_in_time && is_of && query.path.as_ref().is_none_or(|path| entry.path.contains(path.as_str())) {
                    entry.seq = seq;
                    found.push(entry);
                }
                ControlFlow::Continue(())
            })?;
            Ok(paging.part(found, |entry| serde_json::to_value(entry).unwrap_or_default()))
        })
        .await
}
