//! Messages of Kafka's topics: their offsets are committed when the broker has acknowledged them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hookline_mqtt::{Properties, QoS, topic};
use hookline_schemas::ports::{BoxFuture, Door};
use hookline_schemas::{Map, Template, Value};
use rdkafka::consumer::{Consumer, StreamConsumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{BorrowedMessage, Headers, Message as _};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, timeout};

use super::client::{self, Cluster};
use super::config::Connector;
use super::login::Context;
use crate::connector::Failure;
use crate::intake::{Inlet, Message, Published, Report, Source};
use crate::kind::{PARAMETERS, SettingsError, template};

/// How long the cluster may take to say that it is there.
const METADATA_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a new consumer may take to look for its token.
const TOKEN_WAIT: Duration = Duration::from_millis(100);

/// How long tokens may be refused before the consumer is made anew.
const REFUSED_MAX: Duration = Duration::from_secs(30);

/// What is taken.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Intake {
    /// Kafka's topics; `^` stands before a regular expression.
    pub(crate) topics: Vec<String>,
    /// The consumer group; without it `hookline-` and the name of the source. Several nodes with one group share the partitions.
    pub(crate) group_id: Option<String>,
    /// Where a new group begins.
    #[serde(default)]
    pub(crate) offset_reset: OffsetReset,
    /// Template of the topic here. It sees `topic`, `key`, `value`, `headers`, `partition`, `offset` and `ts`.
    pub(crate) topic: String,
    /// Template of the payload.
    #[serde(default = "value")]
    pub(crate) payload: String,
    /// The QoS of the message here, 0 to 2.
    #[serde(default = "qos")]
    pub(crate) qos: u8,
    /// Whether it is retained.
    #[serde(default)]
    pub(crate) retain: bool,
    /// Whether headers become user properties.
    #[serde(default = "yes")]
    pub(crate) user_properties: bool,
}

/// Where a new consumer group begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OffsetReset {
    /// With what comes from now on.
    #[default]
    Latest,
    /// With what is there.
    Earliest,
}

fn value() -> String {
    "${value}".into()
}

fn qos() -> u8 {
    1
}

fn yes() -> bool {
    true
}

pub(super) struct KafkaSource {
    cluster: Cluster,
    settings: Intake,
    topic: Template,
    payload: Template,
    qos: QoS,
}

impl KafkaSource {
    pub(super) fn new(connector: Connector, settings: Intake) -> Result<KafkaSource, Vec<SettingsError>> {
        let wrong = |key: &str, problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.{key}"), problem: problem.to_owned() }];
        if settings.topics.is_empty() {
            return Err(wrong("topics", "there must be one at least"));
        }
        let qos = QoS::from_bits(settings.qos).ok_or_else(|| wrong("qos", "must be 0, 1 or 2"))?;
        let (topic, payload) = (template("topic", &settings.topic)?, template("payload", &settings.payload)?);
        let cluster = Cluster::new(connector)?;
        Ok(KafkaSource { cluster, settings, topic, payload, qos })
    }

    async fn open(&mut self, name: &str) -> Result<Arc<StreamConsumer<Context>>, Failure> {
        self.cluster.begin().await?;
        let mut config = self.cluster.base();
        let group = self.settings.group_id.clone().unwrap_or_else(|| format!("hookline-{name}"));
        let reset = if self.settings.offset_reset == OffsetReset::Earliest { "earliest" } else { "latest" };
        config
            .set("group.id", group)
            .set("auto.offset.reset", reset)
            // What was stored is committed now and then, and when partitions go; only what is acknowledged is stored.
            .set("enable.auto.commit", "true")
            .set("auto.commit.interval.ms", "1000")
            .set("enable.auto.offset.store", "false")
            .set("partition.assignment.strategy", "cooperative-sticky")
            .set("isolation.level", "read_committed");
        let consumer: StreamConsumer<Context> = self.cluster.client(config)?;
        if self.cluster.login.has_tokens() {
            // A consumer gets its token while it is asked for messages, of which there are none yet.
            drop(timeout(TOKEN_WAIT, consumer.recv()).await);
        }
        let topics: Vec<&str> = self.settings.topics.iter().map(String::as_str).collect();
        consumer.subscribe(&topics).map_err(|error| client::classify(&error))?;
        let consumer = Arc::new(consumer);
        let asked = Arc::clone(&consumer);
        let there = spawn_blocking(move || asked.fetch_metadata(None, METADATA_TIMEOUT).map(drop)).await;
        self.cluster.answered(there)?;
        Ok(consumer)
    }

    async fn take_in(&self, consumer: &StreamConsumer<Context>, door: &dyn Door, report: &Report) -> Result<(), Failure> {
        let mut inlet = Inlet::open(door, report.name()).await?;
        let mut under_way: VecDeque<(String, i32, i64)> = VecDeque::new();
        let mut refused = None;
        loop {
            tokio::select! {
                answer = inlet.answer(), if !under_way.is_empty() => {
                    match answer? {
                        Published::Taken(_) => report.published(),
                        Published::Rejected(reason) => report.rejected("a message of Kafka", reason.name()),
                    }
                    if let Some((topic, partition, offset)) = under_way.pop_front() {
                        store(consumer, &topic, partition, offset);
                    }
                }
                received = consumer.recv(), if inlet.has_room() => {
                    let received = match received {
                        Ok(received) => received,
                        Err(error) if self.may_pass(&error, &mut refused) => continue,
                        Err(error) => return Err(self.cluster.explain(client::classify(&error))),
                    };
                    refused = None;
                    report.received();
                    let place = (received.topic().to_owned(), received.partition(), received.offset());
                    let sent = match self.message(&received) {
                        Ok(message) => inlet.send(message).await,
                        Err(problem) => Err(Failure::Reject(problem)),
                    };
                    match sent {
                        Ok(()) => under_way.push_back(place),
                        Err(Failure::Reject(problem)) => {
                            report.rejected("a message of Kafka", &problem);
                            // Nothing before it may be forgotten: its offset is stored with the next one's.
                            if under_way.is_empty() {
                                store(consumer, &place.0, place.1, place.2);
                            }
                        }
                        Err(failure) => return Err(failure),
                    }
                }
            }
        }
    }

    /// Whether an error ends by itself: the client tries again with the next token, and keeps its place in the group meanwhile.
    fn may_pass(&self, error: &KafkaError, since: &mut Option<Instant>) -> bool {
        let is_token = self.cluster.login.has_tokens() && error.rdkafka_error_code() == Some(RDKafkaErrorCode::Authentication);
        is_token && since.get_or_insert_with(Instant::now).elapsed() < REFUSED_MAX
    }

    fn message(&self, received: &BorrowedMessage<'_>) -> Result<Message, String> {
        let bytes = |bytes: Option<&[u8]>| match bytes {
            None => Value::Null,
            Some(bytes) => std::str::from_utf8(bytes).map_or_else(|_| Value::Bytes(bytes.to_vec().into()), Value::text),
        };
        let mut headers = Map::new();
        let mut properties = Properties::default();
        for header in received.headers().into_iter().flat_map(|headers| headers.iter()) {
            let value = bytes(header.value);
            if self.settings.user_properties && !value.is_null() {
                properties.push_user(header.key, &value.to_string());
            }
            headers.insert(header.key, value);
        }
        let mut row = Map::new();
        row.push_new("topic", Value::text(received.topic()));
        row.push_new("key", bytes(received.key()));
        row.push_new("value", bytes(received.payload()));
        row.push_new("headers", Value::Map(headers));
        row.push_new("partition", Value::Int(received.partition().into()));
        row.push_new("offset", Value::Int(received.offset()));
        row.push_new("ts", received.timestamp().to_millis().map_or(Value::Null, Value::Int));
        let row = Value::Map(row);
        let topic = self.topic.render_text(&row);
        if !topic::name_is_valid(&topic, usize::MAX) || topic.starts_with('$') {
            return Err(format!("\"{topic}\" is no topic that can be published to"));
        }
        Ok(Message { topic, payload: self.payload.render(&row).to_vec(), qos: self.qos, retain: self.settings.retain, properties })
    }
}

/// What comes before it, and itself, is done with. A partition that has gone meanwhile is another's.
fn store(consumer: &StreamConsumer<Context>, topic: &str, partition: i32, offset: i64) {
    if let Err(error) = consumer.store_offset(topic, partition, offset) {
        tracing::debug!(topic, partition, %error, "an offset is not stored");
    }
}

impl Source for KafkaSource {
    fn run<'a>(&'a mut self, door: &'a dyn Door, report: &'a Report) -> BoxFuture<'a, Failure> {
        Box::pin(async move {
            // What was received and not acknowledged comes again only to a new one.
            match self.open(report.name()).await {
                Ok(consumer) => {
                    report.is_well();
                    self.take_in(&consumer, door, report).await.err().unwrap_or_else(|| Failure::Reconnect("kafka: the end".into()))
                }
                Err(failure) => failure,
            }
        })
    }
}
