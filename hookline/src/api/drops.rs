//! Dropped messages, as far as the recorder has them: which, why, and whom it concerns. Everybody who may look may ask, so payloads are not told.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use hookline_core::store::{Recorded, SampleKey, Store};
use hookline_mqtt::topic;
use hookline_schemas::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::Answer;
use super::extract::Query;
use super::{Code, Problem, Shared};
use crate::backtest::{moment, now_ms, time};

/// Messages of an answer where the request says nothing, and the most of them.
const MESSAGES: usize = 100;
const MESSAGES_MAX: usize = 1000;
/// Clients whose drops are counted, and those of them that are told.
const COUNTED_MAX: usize = 10_000;
const CLIENTS_MAX: usize = 100;
/// How long may be looked.
const LOOK_TIMEOUT: Duration = Duration::from_secs(20);

/// How a message was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(super) enum DropEvent {
    /// It goes to nobody.
    #[serde(rename = "message.dropped")]
    Message,
    /// One of its subscribers does not get it.
    #[serde(rename = "delivery.dropped")]
    Delivery,
}

/// Which dropped messages are asked for.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(super) struct DropQuery {
    event: Option<DropEvent>,
    /// As in the counters, such as `queue_full`.
    reason: Option<String>,
    /// A topic, a topic filter, or the identifier of a client.
    about: Option<String>,
    /// A time, milliseconds since the Unix epoch, or a while ago, such as `2h`.
    from: Option<String>,
    to: Option<String>,
    limit: Option<usize>,
}

/// A message that was dropped.
#[derive(Debug, PartialEq, Serialize, JsonSchema)]
pub(super) struct Dropped {
    at: String,
    event: DropEvent,
    reason: String,
    topic: String,
    qos: Option<u8>,
    from_clientid: String,
    /// Who does not get it; `null`: nobody was to.
    to_clientid: Option<String>,
}

/// A client, and how many of the drops concern it: as subscriber, or as publisher of what goes to nobody.
#[derive(Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(super) struct Concerned {
    clientid: String,
    dropped: u64,
}

/// What was found.
#[derive(Debug, Default, Serialize, JsonSchema)]
pub(super) struct Drops {
    /// The newest first.
    data: Vec<Dropped>,
    /// Those with the most of them.
    clients: Vec<Concerned>,
    /// Dropped messages that are as the request says.
    found: u64,
    /// Recorded events that were looked at.
    looked: u64,
    /// Whether all were; otherwise it took too long.
    complete: bool,
}

/// GET /drops
pub(super) async fn get(State(shared): State<Shared>, Query(query): Query<DropQuery>) -> Answer<Drops> {
    let stopping = Arc::clone(&shared.stopping);
    shared.run(move |store| look(store, &query, &stopping)).await
}

fn text<'a>(columns: &'a Value, key: &'a str) -> &'a str {
    columns.path([key]).as_text().unwrap_or_default()
}

impl DropQuery {
    fn wants(&self, columns: &Value) -> bool {
        let event = match text(columns, "event") {
            "message.dropped" => DropEvent::Message,
            "delivery.dropped" => DropEvent::Delivery,
            _ => return false,
        };
        let is_about = |about: &String| {
            let name = text(columns, "topic");
            topic::matches(about, name) || *about == text(columns, "clientid") || *about == text(columns, "from_clientid")
        };
        self.event.is_none_or(|wanted| wanted == event)
            && self.reason.as_ref().is_none_or(|wanted| wanted == text(columns, "reason"))
            && self.about.as_ref().is_none_or(is_about)
    }
}

fn describe(recorded: &Recorded) -> Dropped {
    let columns = &recorded.columns;
    let is_delivery = text(columns, "event") == "delivery.dropped";
    Dropped {
        at: time(recorded.key.at_ms()),
        event: if is_delivery { DropEvent::Delivery } else { DropEvent::Message },
        reason: text(columns, "reason").to_owned(),
        topic: text(columns, "topic").to_owned(),
        qos: columns.path(["qos"]).to_json().as_u64().and_then(|qos| u8::try_from(qos).ok()),
        from_clientid: text(columns, if is_delivery { "from_clientid" } else { "clientid" }).to_owned(),
        to_clientid: is_delivery.then(|| text(columns, "clientid").to_owned()),
    }
}

fn look(store: &Store, query: &DropQuery, stopping: &AtomicBool) -> Result<Drops, Problem> {
    let now_ms = now_ms();
    let bound = |key: &str, text: &Option<String>, otherwise: u64| {
        let given = text.as_ref().map_or(Ok(otherwise), |text| moment(text, now_ms));
        given.map_err(|error| Problem::new(Code::BadRequest, format!("{key}: {error}")))
    };
    let (mut from, to_ms) = (SampleKey::at(bound("from", &query.from, 0)?), bound("to", &query.to, u64::MAX)?);
    let limit = query.limit.unwrap_or(MESSAGES).clamp(1, MESSAGES_MAX);
    let deadline = Instant::now() + LOOK_TIMEOUT;
    let (mut newest, mut counted, mut drops) = (VecDeque::new(), HashMap::<String, u64>::new(), Drops::default());
    while !stopping.load(Ordering::Relaxed) && Instant::now() < deadline {
        let page = store.samples(from, to_ms, |columns| query.wants(columns))?;
        drops.looked += page.looked;
        drops.found += page.events.len() as u64;
        for event in &page.events {
            let client_id = text(&event.columns, "clientid");
            if counted.len() < COUNTED_MAX || counted.contains_key(client_id) {
                *counted.entry(client_id.to_owned()).or_default() += 1;
            }
            if newest.len() == limit {
                newest.pop_front();
            }
            newest.push_back(describe(event));
        }
        match page.next {
            Some(next) => from = next,
            None => {
                drops.complete = true;
                break;
            }
        }
    }
    drops.data = newest.into_iter().rev().collect();
    drops.clients = counted.into_iter().map(|(clientid, dropped)| Concerned { clientid, dropped }).collect();
    drops.clients.sort_by(|a, b| b.dropped.cmp(&a.dropped).then_with(|| a.clientid.cmp(&b.clientid)));
    drops.clients.truncate(CLIENTS_MAX);
    Ok(drops)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn drops_are_found_by_what_they_are_about() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = hookline_schemas::config::Store { free_bytes_min: 0, reserve_bytes: 0, ..Default::default() };
        let store = Store::open(folder.path(), "n", &settings).expect("opens").store;
        let sample = |at_ms: u64, columns: serde_json::Value| {
            let mut row = Vec::new();
            hookline_schemas::record::encode_row(&mut row, &Value::from_json(columns));
            hookline_core::store::Sample { at_ms, row }
        };
        let samples = [
            sample(1, json!({"event": "message.publish", "topic": "a/b", "clientid": "p", "payload": "secret"})),
            sample(2, json!({"event": "message.dropped", "reason": "no_subscribers", "topic": "a/b", "clientid": "p", "qos": 1})),
            sample(
                3,
                json!({"event": "delivery.dropped", "reason": "queue_full", "topic": "a/c", "clientid": "s", "from_clientid": "p", "qos": 0}),
            ),
            sample(
                4,
                json!({"event": "delivery.dropped", "reason": "queue_full", "topic": "x", "clientid": "s", "from_clientid": "q", "qos": 0}),
            ),
        ];
        store.record_sample(&samples).expect("recorded");
        let ask = |query: serde_json::Value| {
            let query = serde_json::from_value(query).expect("a query");
            look(&store, &query, &AtomicBool::new(false)).expect("answered")
        };
        let topics = |query| ask(query).data.into_iter().map(|dropped| dropped.topic).collect::<Vec<_>>();
        assert_eq!(topics(json!({})), ["x", "a/c", "a/b"]);
        assert_eq!(topics(json!({"about": "a/#"})), ["a/c", "a/b"]);
        assert_eq!(topics(json!({"about": "p"})), ["a/c", "a/b"]);
        assert_eq!(topics(json!({"about": "s", "limit": 1})), ["x"]);
        assert_eq!(topics(json!({"reason": "queue_full", "to": "4"})), ["a/c"]);
        assert_eq!(topics(json!({"event": "message.dropped"})), ["a/b"]);
        let all = ask(json!({}));
        assert!(all.complete && (all.found, all.looked) == (3, 4), "{all:?}");
        assert_eq!(all.clients[0], Concerned { clientid: "s".into(), dropped: 2 });
        assert!(!serde_json::to_string(&all).expect("plain JSON").contains("secret"));
        store.close();
    }
}
