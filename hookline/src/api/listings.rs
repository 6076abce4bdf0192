//! What there is in the broker, listed page by page: subscriptions, topics, retained and delayed messages, listeners, what waits for a client.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use axum::extract::State;
use axum::response::NoContent;
use hookline_core::{SubscriptionFilter, TOPICS_SKIP_MAX};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::answer::{Answer, Like};
use super::extract::{Json, Path, Query};
use super::monitor::{Page, Paging, unknown};
use super::{Code, Problem, Shared, shapes};

/// Messages of a client that are answered at once.
const MESSAGES_MAX: usize = 1000;

/// Which subscriptions are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct SubscriptionQuery {
    clientid: Option<String>,
    topic: Option<String>,
    match_topic: Option<String>,
    share_group: Option<String>,
    qos: Option<u8>,
}

/// GET /subscriptions
pub(super) async fn get_subscriptions(
    State(shared): State<Shared>,
    Query(query): Query<SubscriptionQuery>,
    Query(paging): Query<Paging>,
) -> Answer<Page<shapes::Subscription>> {
    let SubscriptionQuery { clientid: client_id, topic, match_topic, share_group, qos } = query;
    let wanted = SubscriptionFilter { client_id, topic, match_topic, share_group, qos };
    Ok(Json(paging.page(shared.observer.all_subscriptions(wanted, paging.place()).await?)))
}

/// A topic, or a filter.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct TopicQuery {
    topic: Option<String>,
}

/// GET /topics
pub(super) async fn get_topics(
    State(shared): State<Shared>,
    Query(query): Query<TopicQuery>,
    Query(paging): Query<Paging>,
) -> Answer<Page<shapes::Topic>> {
    let place = paging.place();
    if place.skip > TOPICS_SKIP_MAX {
        let problem = format!("pages begin at entry {TOPICS_SKIP_MAX} at the most; ask for a topic, or for /subscriptions");
        return Err(Problem::new(Code::BadRequest, problem));
    }
    Ok(Json(paging.page(shared.observer.topics(query.topic, place).await?)))
}

/// GET /mqtt/retainer/messages
pub(super) async fn get_retained(
    State(shared): State<Shared>,
    Query(query): Query<TopicQuery>,
    Query(paging): Query<Paging>,
) -> Answer<Page<shapes::Message>> {
    if query.topic.as_deref().is_some_and(|filter| !hookline_mqtt::topic::filter_is_valid(filter, usize::MAX)) {
        return Err(Problem::new(Code::BadRequest, "topic: is no topic filter"));
    }
    Ok(Json(paging.page(shared.observer.retained(query.topic, paging.place()).await?)))
}

fn no_retained(topic: &str) -> Problem {
    Problem::new(Code::NotFound, format!("the topic \"{topic}\" has no retained message"))
}

/// GET /mqtt/retainer/message/{topic}
pub(super) async fn get_retained_message(State(shared): State<Shared>, Path(topic): Path<String>) -> Answer<Like<shapes::Message>> {
    shared.observer.retained_message(topic.clone()).await?.map(|message| Json(Like::new(message))).ok_or_else(|| no_retained(&topic))
}

/// DELETE /mqtt/retainer/message/{topic}
pub(super) async fn delete_retained_message(State(shared): State<Shared>, Path(topic): Path<String>) -> Result<NoContent, Problem> {
    if shared.observer.delete_retained(topic.clone()).await? { Ok(NoContent) } else { Err(no_retained(&topic)) }
}

/// How many went.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Deleted {
    deleted: u64,
}

/// DELETE /mqtt/retainer/messages
pub(super) async fn delete_retained(State(shared): State<Shared>) -> Answer<Deleted> {
    let stopping = Arc::clone(&shared.stopping);
    let deleted = shared.observer.delete_all_retained(move || !stopping.load(Ordering::Relaxed)).await?;
    tracing::info!(deleted, "all retained messages were deleted");
    Ok(Json(Deleted { deleted }))
}

/// GET /mqtt/delayed/messages
pub(super) async fn get_delayed(State(shared): State<Shared>, Query(paging): Query<Paging>) -> Answer<Page<shapes::DelayedMessage>> {
    Ok(Json(paging.page(shared.observer.delayed(paging.place()).await?)))
}

fn not_delayed(msgid: &str) -> Problem {
    Problem::new(Code::NotFound, format!("no message \"{msgid}\" waits for its time"))
}

/// GET /mqtt/delayed/messages/{msgid}
pub(super) async fn get_delayed_message(State(shared): State<Shared>, Path(msgid): Path<String>) -> Answer<Like<shapes::DelayedMessage>> {
    shared.observer.delayed_message(&msgid).await?.map(|message| Json(Like::new(message))).ok_or_else(|| not_delayed(&msgid))
}

/// DELETE /mqtt/delayed/messages/{msgid}
pub(super) async fn delete_delayed_message(State(shared): State<Shared>, Path(msgid): Path<String>) -> Result<NoContent, Problem> {
    if shared.observer.cancel_delayed(&msgid).await? { Ok(NoContent) } else { Err(not_delayed(&msgid)) }
}

/// GET /listeners
pub(super) async fn get_listeners(State(shared): State<Shared>) -> Answer<Vec<Like<shapes::Listener>>> {
    Ok(Json(shared.observer.listeners().into_iter().map(Like::new).collect()))
}

/// GET /slow_subscriptions
pub(super) async fn get_slow(State(shared): State<Shared>, Query(paging): Query<Paging>) -> Answer<Page<shapes::Slow>> {
    Ok(Json(paging.part(shared.observer.slow_subscriptions(), |slow| slow)))
}

/// DELETE /slow_subscriptions
pub(super) async fn delete_slow(State(shared): State<Shared>) -> NoContent {
    shared.observer.forget_slow_subscriptions();
    NoContent
}

/// GET /clients/{clientid}/mqueue_messages
pub(super) async fn get_waiting(
    State(shared): State<Shared>,
    Path(client_id): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Page<shapes::Message>> {
    let paging = paging.at_most(MESSAGES_MAX);
    let listed = shared.observer.waiting_messages(&client_id, paging.place()).await?;
    listed.map(|listed| Json(paging.page(listed))).ok_or_else(|| unknown(&client_id))
}

/// GET /clients/{clientid}/inflight_messages
pub(super) async fn get_inflight(
    State(shared): State<Shared>,
    Path(client_id): Path<String>,
    Query(paging): Query<Paging>,
) -> Answer<Page<shapes::Message>> {
    let paging = paging.at_most(MESSAGES_MAX);
    let listed = shared.observer.inflight_messages(&client_id, paging.place()).await?;
    listed.map(|listed| Json(paging.page(listed))).ok_or_else(|| unknown(&client_id))
}
