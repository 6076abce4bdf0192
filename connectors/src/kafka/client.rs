//! The producer: made, and asked whether it reaches its cluster.

use std::time::Duration;

use rdkafka::ClientConfig;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{FutureProducer, Producer};

use super::config::{Acks, Connector, Parameters};
use crate::connector::Failure;

/// How long the cluster may take to tell about itself.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// What the client library is to know about login and TLS.
pub(super) type Security = Vec<(&'static str, String)>;

/// What every client of a cluster has in common.
pub(super) fn base(connector: &Connector, security: &Security) -> ClientConfig {
    let mut config = ClientConfig::new();
    config
        .set("bootstrap.servers", &connector.bootstrap_hosts)
        .set("client.id", "hookline")
        .set("reconnect.backoff.max.ms", "2000")
        .set("socket.keepalive.enable", "true");
    for (name, value) in security {
        config.set(*name, value);
    }
    config
}

/// The user's own settings, which come last.
pub(super) fn further(config: &mut ClientConfig, connector: &Connector) {
    for (name, value) in &connector.properties {
        config.set(name, value);
    }
}

/// Makes the producer; nothing is connected yet.
pub(super) fn open(connector: &Connector, security: &Security, parameters: &Parameters) -> Result<FutureProducer, Failure> {
    let mut config = base(connector, security);
    let all = parameters.acks == Acks::All;
    config
        .set("enable.idempotence", if all { "true" } else { "false" })
        .set("acks", if all { "all" } else { "1" })
        // Without idempotence only one request at a time keeps the order.
        .set("max.in.flight", if all { "5" } else { "1" })
        // For ever: the record is in our own queue until it is confirmed, and giving up would lose its place.
        .set("message.timeout.ms", "0")
        .set("linger.ms", parameters.linger_ms.to_string())
        .set("batch.size", parameters.batch_bytes_max.to_string())
        .set("compression.type", parameters.compression.name())
        .set("partitioner", "murmur2_random");
    if let Some(id) = &parameters.transactional_id {
        // A transaction that does not come to its end is taken back by the coordinator, so its records need not be tried for longer.
        config.set("transactional.id", id).set("transaction.timeout.ms", "60000").set("message.timeout.ms", "50000");
    }
    further(&mut config, connector);
    config.create().map_err(|error| Failure::Reconnect(format!("kafka client: {error}")))
}

/// Asks the cluster about itself.
pub(super) async fn ping(producer: &FutureProducer, hosts: &str) -> Result<(), Failure> {
    let (producer, hosts) = (producer.clone(), hosts.to_owned());
    let asked = tokio::task::spawn_blocking(move || producer.client().fetch_metadata(None, METADATA_TIMEOUT).map(drop));
    match asked.await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Failure::Reconnect(format!("kafka at {hosts} cannot be reached: {error}"))),
        Err(error) => Err(Failure::Reconnect(error.to_string())),
    }
}

/// What an error means. Only what is wrong with the record itself is rejected.
pub(super) fn classify(error: &KafkaError) -> Failure {
    let text = format!("kafka: {error}");
    match error.rdkafka_error_code() {
        Some(
            RDKafkaErrorCode::MessageSizeTooLarge
            | RDKafkaErrorCode::InvalidMessage
            | RDKafkaErrorCode::InvalidRecord
            | RDKafkaErrorCode::InvalidTopic,
        ) => Failure::Reject(text),
        Some(RDKafkaErrorCode::QueueFull) => Failure::Retry(text),
        _ => Failure::Reconnect(text),
    }
}
