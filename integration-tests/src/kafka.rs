//! Kafka, read by an independent consumer.

use std::net::SocketAddr;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use rdkafka::ClientConfig;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::message::{Headers, Message};
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use crate::webhook::{Reply, Request};

/// A record as the consumer sees it.
#[derive(Debug, Clone, PartialEq)]
pub struct Consumed {
    pub partition: i32,
    pub key: String,
    pub value: serde_json::Value,
    pub hookline_id: String,
    /// All of them, in their order.
    pub headers: Vec<(String, String)>,
}

/// The broker's address, as `integration-tests/services env` tells it.
pub fn hosts() -> String {
    std::env::var("HOOKLINE_TEST_KAFKA").expect("HOOKLINE_TEST_KAFKA names no Kafka; run: eval \"$(integration-tests/services env)\"")
}

/// The listener that is for a proxy: where it listens, and where it tells clients that it does. It asks for a login by SCRAM.
pub fn proxied() -> (SocketAddr, SocketAddr) {
    let address = |name: &str| {
        let text = std::env::var(name).unwrap_or_else(|_| panic!("{name} is missing: this Kafka has no listener for a proxy"));
        text.parse().expect("an address")
    };
    (address("HOOKLINE_TEST_KAFKA_BEHIND"), address("HOOKLINE_TEST_KAFKA_PROXY"))
}

/// What clients of [`grant_token`] log in with, beside the name `hookline`.
pub const CLIENT_SECRET: &str = "right";

/// What an endpoint for tokens of OAuth 2.0 answers. Nobody has signed them: this Kafka believes them until their end.
pub fn grant_token(request: &Request, lifetime_secs: u64) -> Reply {
    if request.header("authorization") != format!("Basic {}", BASE64_STANDARD.encode(format!("hookline:{CLIENT_SECRET}"))) {
        return Reply::Answer(401, "", r#"{"error": "invalid_client"}"#.into());
    }
    let body = format!(r#"{{"access_token": "{}", "token_type": "Bearer", "expires_in": {lifetime_secs}}}"#, token(lifetime_secs));
    Reply::Answer(200, "Content-Type: application/json\r\n", body)
}

fn token(lifetime_secs: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_millis() as f64 / 1000.0;
    let claims = format!(r#"{{"sub": "hookline", "iat": {now}, "exp": {}}}"#, now + lifetime_secs as f64);
    format!("{}.{}.", BASE64_URL_SAFE_NO_PAD.encode(r#"{"alg":"none"}"#), BASE64_URL_SAFE_NO_PAD.encode(claims))
}

/// Makes a topic.
pub fn create_topic(name: &str, partitions: i32) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let admin: AdminClient<DefaultClientContext> = ClientConfig::new().set("bootstrap.servers", hosts()).create().expect("a client");
    let topic = NewTopic::new(name, partitions, TopicReplication::Fixed(1));
    let made = runtime.block_on(admin.create_topics(&[topic], &AdminOptions::new().operation_timeout(Some(Duration::from_secs(30)))));
    made.expect("kafka answers")[0].as_ref().expect("the topic is made");
}

/// Reads a topic from its beginning until `enough` says so or time is over. Order within a partition is kept.
pub fn consume(topic: &str, partitions: i32, limit: Duration, mut enough: impl FnMut(&[Consumed]) -> bool) -> Vec<Consumed> {
    let consumer: BaseConsumer = ClientConfig::new()
        .set("bootstrap.servers", hosts())
        .set("group.id", "independent")
        .set("enable.auto.commit", "false")
        .set("isolation.level", "read_committed")
        .create()
        .expect("a consumer");
    let mut assignment = TopicPartitionList::new();
    for partition in 0..partitions {
        assignment.add_partition_offset(topic, partition, Offset::Beginning).expect("a partition");
    }
    consumer.assign(&assignment).expect("assigned");
    let mut last = Instant::now();
    let mut consumed = Vec::new();
    while last.elapsed() < limit && !enough(&consumed) {
        if let Some(Ok(message)) = consumer.poll(Duration::from_millis(200)) {
            last = Instant::now();
            let text = |bytes: Option<&[u8]>| String::from_utf8_lossy(bytes.unwrap_or_default()).into_owned();
            let headers = message.headers().into_iter().flat_map(|headers| headers.iter());
            let headers: Vec<(String, String)> = headers.map(|header| (header.key.to_owned(), text(header.value))).collect();
            let header = headers.iter().find(|(name, _)| name == "hookline_id");
            consumed.push(Consumed {
                partition: message.partition(),
                key: text(message.key()),
                value: serde_json::from_slice(message.payload().unwrap_or_default()).expect("the value is JSON"),
                hookline_id: header.map(|(_, value)| value.clone()).unwrap_or_default(),
                headers,
            });
        }
    }
    consumed
}
