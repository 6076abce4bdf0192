//! Messages published by the API, as by a client: what is answered with success is safe for every durable session and rule action.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_connectors::{Failure, Inlet, Message, Published};
use hookline_mqtt::{Properties, PropertyId, QoS, topic};
use hookline_schemas::ports::Door;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::answer::Answer;
use super::extract::Json;
use super::{Code, Problem, Shared};

/// The name of the API's session.
const NAME: &str = "$api";
/// How long the broker may take to acknowledge one message.
const ACKNOWLEDGED: Duration = Duration::from_secs(30);
/// Messages of one request at the most.
const MESSAGES_MAX: usize = 1000;

/// The session that the API publishes by.
pub(crate) struct Publisher {
    door: Arc<dyn Door>,
    inlet: Mutex<Option<Inlet>>,
}

impl std::fmt::Debug for Publisher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Publisher").finish_non_exhaustive()
    }
}

/// A message, in the form that EMQX has.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    topic: String,
    #[serde(default)]
    payload: String,
    #[serde(default)]
    payload_encoding: Encoding,
    #[serde(default)]
    qos: u8,
    #[serde(default)]
    retain: bool,
    #[serde(default)]
    properties: WantedProperties,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
enum Encoding {
    #[default]
    Plain,
    Base64,
}

#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
struct WantedProperties {
    payload_format_indicator: Option<u8>,
    message_expiry_interval: Option<u32>,
    response_topic: Option<String>,
    correlation_data: Option<String>,
    content_type: Option<String>,
    user_properties: BTreeMap<String, String>,
}

/// What became of a message.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Outcome {
    /// As of a PUBACK: 0, or 16 where nobody subscribes to it.
    reason_code: u8,
    message: &'static str,
}

impl Publisher {
    pub(crate) fn new(door: Arc<dyn Door>) -> Publisher {
        Publisher { door, inlet: Mutex::default() }
    }

    async fn publish(&self, message: Message) -> Result<Outcome, Problem> {
        let mut inlet = self.inlet.lock().await;
        // It goes back when all went well: a session with an answer under way is of no use to the next one.
        let taken = inlet.take();
        let published = timeout(ACKNOWLEDGED, async {
            let mut session = match taken {
                Some(session) => session,
                None => Inlet::open(&*self.door, NAME).await?,
            };
            let answer = match session.send(message).await {
                Ok(()) => session.answer().await,
                Err(failure) => Err(failure),
            };
            Ok::<_, Failure>((session, answer))
        });
        let told = |code, problem: String| Problem::new(code, problem);
        let (session, answer) = match published.await {
            Ok(Ok(done)) => done,
            Ok(Err(failure)) => return Err(told(Code::InternalError, failure.to_string())),
            Err(_) => return Err(told(Code::InternalError, format!("not acknowledged within {} s", ACKNOWLEDGED.as_secs()))),
        };
        match answer {
            Ok(Published::Taken(reason)) => {
                *inlet = Some(session);
                Ok(Outcome { reason_code: reason as u8, message: reason.name() })
            }
            Ok(Published::Rejected(reason)) => {
                *inlet = Some(session);
                Err(told(Code::BadRequest, format!("the broker does not take it: {}", reason.name())))
            }
            Err(Failure::Reject(problem)) => {
                *inlet = Some(session);
                Err(told(Code::BadRequest, problem))
            }
            Err(failure) => Err(told(Code::Conflict, failure.to_string())),
        }
    }
}

impl Wanted {
    fn message(self) -> Result<Message, Problem> {
        let wrong = |problem: String| Problem::new(Code::BadRequest, problem);
        let Wanted { topic, payload, payload_encoding, qos, retain, properties: wanted } = self;
        if !topic::name_is_valid(&topic, usize::MAX) || topic.starts_with('$') && !topic.starts_with("$delayed/") {
            return Err(wrong(format!("\"{topic}\" is no topic that can be published to")));
        }
        let payload = match payload_encoding {
            Encoding::Plain => payload.into_bytes(),
            Encoding::Base64 => STANDARD.decode(payload.trim()).map_err(|error| wrong(format!("payload: {error}")))?,
        };
        let qos = QoS::from_bits(qos).ok_or_else(|| wrong("qos must be 0, 1 or 2".to_owned()))?;
        let mut properties = Properties::default();
        if let Some(indicator) = wanted.payload_format_indicator {
            properties.push_number(PropertyId::PayloadFormatIndicator, indicator.min(1).into());
        }
        if let Some(secs) = wanted.message_expiry_interval {
            properties.push_number(PropertyId::MessageExpiryInterval, secs);
        }
        if let Some(response) = wanted.response_topic.filter(|response| !response.is_empty()) {
            if !topic::name_is_valid(&response, usize::MAX) {
                return Err(wrong(format!("response_topic: \"{response}\" is no topic")));
            }
            properties.push_text(PropertyId::ResponseTopic, &response);
        }
        if let Some(data) = wanted.correlation_data {
            properties.push_binary(PropertyId::CorrelationData, data.as_bytes());
        }
        if let Some(content) = wanted.content_type {
            properties.push_text(PropertyId::ContentType, &content);
        }
        wanted.user_properties.iter().for_each(|(name, value)| properties.push_user(name, value));
        Ok(Message { topic, payload, qos, retain, properties })
    }
}

/// POST /publish
pub(super) async fn post(State(shared): State<Shared>, Json(wanted): Json<Wanted>) -> Answer<Outcome> {
    shared.publisher.publish(wanted.message()?).await.map(Json)
}

/// POST /publish/bulk: one after the other; the first that is not taken ends it, with its place.
pub(super) async fn post_bulk(State(shared): State<Shared>, Json(wanted): Json<Vec<Wanted>>) -> Answer<Vec<Outcome>> {
    if wanted.len() > MESSAGES_MAX {
        return Err(Problem::new(Code::BadRequest, format!("more than {MESSAGES_MAX} messages in one request")));
    }
    let at = |place: usize, problem: Problem| {
        Problem::new(problem.code, format!("message {place}: {}; those before it are published", problem.message))
    };
    // What is wrong with one of them is told before the first is published.
    let messages: Vec<Message> = wanted.into_iter().map(Wanted::message).collect::<Result<_, _>>()?;
    let mut outcomes = Vec::with_capacity(messages.len());
    for (place, message) in messages.into_iter().enumerate() {
        outcomes.push(shared.publisher.publish(message).await.map_err(|problem| at(place, problem))?);
    }
    Ok(Json(outcomes))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_message_is_told() {
        for (wanted, problem) in [
            (r#"{"topic": "a/#"}"#, "no topic"),
            (r#"{"topic": ""}"#, "no topic"),
            (r#"{"topic": "$SYS/x"}"#, "no topic"),
            (r#"{"topic": "t", "qos": 3}"#, "qos must be"),
            (r#"{"topic": "t", "payload": "%", "payload_encoding": "base64"}"#, "payload: "),
            (r#"{"topic": "t", "properties": {"response_topic": "a/+"}}"#, "response_topic"),
        ] {
            let told = serde_json::from_str::<Wanted>(wanted).expect("read").message().expect_err(wanted);
            assert!(told.code == Code::BadRequest && told.message.contains(problem), "{wanted}: {told}");
        }
        let wanted = r#"{"topic": "t", "payload": "AAE=", "payload_encoding": "base64", "qos": 2, "retain": true, "properties": {"user_properties": {"a": "b"}}}"#;
        let message = serde_json::from_str::<Wanted>(wanted).expect("read").message().expect("a message");
        assert!(message.payload == [0, 1] && message.qos == QoS::ExactlyOnce && message.retain);
    }
}
