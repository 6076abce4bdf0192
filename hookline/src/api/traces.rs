//! Traces of clients, topics and addresses, in the form that EMQX has.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use aide::OperationOutput;
use aide::generate::GenContext;
use aide::openapi::{self, MediaType, Operation, SchemaObject};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, NoContent, Response};
use schemars::{JsonSchema, json_schema};
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::extract::{Json, Path, Query};
use super::{Code, Problem, Shared};
use crate::backtest::{now_ms, time};
use crate::trace::{PayloadEncode, Status, TRACES_MAX, Target, Trace, TraceError};

/// How long a trace lasts where nothing is said, and at most, milliseconds.
const DURATION_MS: u64 = 600_000;
const DURATION_MAX_MS: u64 = 7 * 86_400_000;
/// Characters of a name, which is that of a file.
const NAME_MAX: usize = 64;
/// Bytes of a client identifier or filter.
const TARGET_MAX: usize = 65_535;
/// Bytes of a part of a log where nothing is said, and at most.
const PART: u64 = 1000;
const PART_MAX: u64 = 1 << 20;

/// What a trace is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum TraceType {
    #[serde(rename = "clientid")]
    ClientId,
    Topic,
    IpAddress,
}

/// A trace that is asked for. Of `clientid`, `topic` and `ip_address` the one that `type` names.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTrace {
    /// Letters, digits, `_` and `-`.
    name: String,
    r#type: TraceType,
    clientid: Option<String>,
    /// A topic filter.
    topic: Option<String>,
    ip_address: Option<String>,
    /// A time; now, where nothing is said.
    start_at: Option<String>,
    /// A time; ten minutes after the start, where nothing is said, and seven days at most.
    end_at: Option<String>,
    #[serde(default)]
    payload_encode: PayloadEncode,
}

/// A trace.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct TraceInfo {
    name: String,
    r#type: TraceType,
    #[serde(skip_serializing_if = "Option::is_none")]
    clientid: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    topic: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    ip_address: Option<String>,
    start_at: String,
    end_at: String,
    payload_encode: PayloadEncode,
    status: Status,
    /// Bytes, by node.
    log_size: BTreeMap<String, u64>,
    /// Events that came too fast, or when the file was full.
    dropped: u64,
}

/// A trace that was ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct StoppedTrace {
    name: String,
    enable: bool,
}

/// Which part of a log.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct LogQuery {
    #[serde(default)]
    position: u64,
    bytes: Option<u64>,
}

/// A part of a log.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogPart {
    items: String,
    meta: LogMeta,
}

/// Where the next part begins, and how long this one is.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct LogMeta {
    position: u64,
    bytes: u64,
}

/// A whole log: a JSON object in each line.
#[derive(Debug)]
pub(super) struct Log {
    name: String,
    bytes: Vec<u8>,
}

const LOG_TYPE: &str = "application/x-ndjson";

impl IntoResponse for Log {
    fn into_response(self) -> Response {
        let disposition = format!("attachment; filename=\"{}.log\"", self.name);
        ([(header::CONTENT_TYPE, LOG_TYPE.to_owned()), (header::CONTENT_DISPOSITION, disposition)], self.bytes).into_response()
    }
}

impl OperationOutput for Log {
    type Inner = String;

    fn inferred_responses(_: &mut GenContext, _: &mut Operation) -> Vec<(Option<openapi::StatusCode>, openapi::Response)> {
        let schema = SchemaObject { json_schema: json_schema!({ "type": "string" }), example: None, external_docs: None };
        let content = [(LOG_TYPE.to_owned(), MediaType { schema: Some(schema), ..MediaType::default() })].into_iter().collect();
        let response = openapi::Response { description: "Done".into(), content, ..openapi::Response::default() };
        vec![(Some(openapi::StatusCode::Code(200)), response)]
    }
}

fn bad(problem: impl Into<String>) -> Problem {
    Problem::new(Code::BadRequest, problem)
}

fn failed(error: &std::io::Error) -> Problem {
    Problem::new(Code::InternalError, format!("the file of the trace: {error}"))
}

fn moment(key: &str, text: &str) -> Result<u64, Problem> {
    let time = text.parse::<jiff::Timestamp>().ok().and_then(|time| u64::try_from(time.as_millisecond()).ok());
    time.ok_or_else(|| bad(format!("{key}: \"{text}\" is no time such as 2026-12-31T00:00:00Z")))
}

impl NewTrace {
    fn target(&self) -> Result<Target, Problem> {
        let given = |key: &str, value: &Option<String>| {
            let value = value.clone().filter(|value| !value.is_empty() && value.len() <= TARGET_MAX);
            value.ok_or_else(|| bad(format!("{key}: missing, or longer than {TARGET_MAX} bytes")))
        };
        match self.r#type {
            TraceType::ClientId => Ok(Target::ClientId(given("clientid", &self.clientid)?)),
            TraceType::Topic => {
                let filter = given("topic", &self.topic)?;
                if !hookline_mqtt::topic::filter_is_valid(&filter, usize::MAX) {
                    return Err(bad("topic: is no topic filter"));
                }
                Ok(Target::Topic(filter))
            }
            TraceType::IpAddress => {
                let address = given("ip_address", &self.ip_address)?;
                let address: IpAddr = address.parse().map_err(|_| bad("ip_address: is no address"))?;
                Ok(Target::Address(address.to_canonical()))
            }
        }
    }

    fn times(&self) -> Result<(u64, u64), Problem> {
        let now_ms = now_ms();
        let start_ms = self.start_at.as_ref().map_or(Ok(now_ms), |at| moment("start_at", at))?;
        let end_ms = self.end_at.as_ref().map_or(Ok(start_ms.saturating_add(DURATION_MS)), |at| moment("end_at", at))?;
        if end_ms <= start_ms.max(now_ms) {
            return Err(bad("end_at: is over already, or before start_at"));
        }
        if end_ms - start_ms.max(now_ms) > DURATION_MAX_MS {
            return Err(bad("end_at: a trace lasts seven days at most"));
        }
        Ok((start_ms, end_ms))
    }
}

fn describe(node: &str, trace: &Trace) -> TraceInfo {
    let (r#type, clientid, topic, ip_address) = match &trace.target {
        Target::ClientId(id) => (TraceType::ClientId, Some(id.clone()), None, None),
        Target::Topic(filter) => (TraceType::Topic, None, Some(filter.clone()), None),
        Target::Address(address) => (TraceType::IpAddress, None, None, Some(address.to_string())),
    };
    TraceInfo {
        name: trace.name.clone(),
        r#type,
        clientid,
        topic,
        ip_address,
        start_at: time(trace.start_ms),
        end_at: time(trace.end_ms),
        payload_encode: trace.encode,
        status: trace.status(),
        log_size: BTreeMap::from([(node.to_owned(), trace.bytes())]),
        dropped: trace.dropped(),
    }
}

fn known(shared: &Shared, name: &str) -> Result<Arc<Trace>, Problem> {
    shared.traces.get(name).ok_or_else(|| unknown(name))
}

fn unknown(name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no trace \"{name}\""))
}

/// GET /trace
pub(super) async fn get_all(State(shared): State<Shared>) -> Json<Vec<TraceInfo>> {
    Json(shared.traces.all().iter().map(|trace| describe(shared.observer.node(), trace)).collect())
}

/// POST /trace
pub(super) async fn post(State(shared): State<Shared>, Json(new): Json<NewTrace>) -> Answer<TraceInfo> {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if new.name.is_empty() || new.name.len() > NAME_MAX || !new.name.chars().all(is_plain) {
        return Err(bad(format!("name: has 1 to {NAME_MAX} letters, digits, _ and -")));
    }
    let (target, times) = (new.target()?, new.times()?);
    let added = shared.traces.add(&new.name, target, new.payload_encode, times);
    let trace = added.map_err(|error| match error {
        TraceError::Exists => Problem::new(Code::Conflict, format!("there is a trace \"{}\" already", new.name)),
        TraceError::Full => Problem::new(Code::Conflict, format!("there are {TRACES_MAX} traces; take one of them away first")),
        TraceError::File(error) => failed(&error),
    })?;
    Ok(Json(describe(shared.observer.node(), &trace)))
}

/// DELETE /trace
pub(super) async fn delete_all(State(shared): State<Shared>) -> Result<NoContent, Problem> {
    for trace in shared.traces.all() {
        shared.traces.remove(&trace.name).map_err(|error| failed(&error))?;
    }
    Ok(NoContent)
}

/// DELETE /trace/{name}
pub(super) async fn delete(State(shared): State<Shared>, Path(name): Path<String>) -> Result<NoContent, Problem> {
    if shared.traces.remove(&name).map_err(|error| failed(&error))? { Ok(NoContent) } else { Err(unknown(&name)) }
}

/// PUT /trace/{name}/stop
pub(super) async fn put_stop(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<StoppedTrace> {
    let trace = known(&shared, &name)?;
    shared.traces.stop_one(&trace);
    Ok(Json(StoppedTrace { name, enable: false }))
}

/// GET /trace/{name}/log
pub(super) async fn get_log(State(shared): State<Shared>, Path(name): Path<String>, Query(query): Query<LogQuery>) -> Answer<LogPart> {
    let trace = known(&shared, &name)?;
    shared
        .run(move |_| {
            let part = trace.read(query.position, query.bytes.unwrap_or(PART).clamp(1, PART_MAX)).map_err(|error| failed(&error))?;
            let bytes = part.len() as u64;
            let meta = LogMeta { position: query.position.saturating_add(bytes), bytes };
            Ok(LogPart { items: String::from_utf8_lossy(&part).into_owned(), meta })
        })
        .await
}

/// GET /trace/{name}/download
pub(super) async fn get_download(State(shared): State<Shared>, Path(name): Path<String>) -> Result<Log, Problem> {
    let trace = known(&shared, &name)?;
    let Json(bytes) = shared.run(move |_| trace.read(0, u64::MAX).map_err(|error| failed(&error))).await?;
    Ok(Log { name, bytes })
}
