//! The cluster, and its producer: made, and asked whether it reaches it.

use std::sync::Arc;
use std::time::Duration;

use rdkafka::config::FromClientConfigAndContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::producer::{Producer as _, ThreadedProducer};
use rdkafka::{ClientConfig, ClientContext};
use tokio::task::{JoinError, spawn_blocking};

use super::config::{Acks, Connector, Parameters};
use super::confirmations::Confirmations;
use super::login::{Context, Login};
use crate::connector::Failure;
use crate::kind::SettingsError;

/// How long the cluster may take to tell about itself.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// A producer, which a thread of its own asks for what it has to tell.
pub(super) type Producer = Arc<ThreadedProducer<Confirmations>>;

/// What a sink or source knows of its cluster.
pub(super) struct Cluster {
    connector: Connector,
    /// What the client library is to know about login and TLS.
    security: Vec<(&'static str, String)>,
    pub(super) login: Login,
}

impl Cluster {
    pub(super) fn new(connector: Connector) -> Result<Cluster, Vec<SettingsError>> {
        let (security, login) = (connector.security()?, Login::new(&connector));
        Ok(Cluster { connector, security, login })
    }

    /// The brokers to begin with.
    pub(super) fn hosts(&self) -> &str {
        &self.connector.bootstrap_hosts
    }

    /// Sees that a login is possible. Called before a client is made, and now and then.
    pub(super) async fn begin(&mut self) -> Result<(), Failure> {
        self.login.begin(&self.connector).await
    }

    /// What every client of a cluster has in common.
    pub(super) fn base(&self) -> ClientConfig {
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &self.connector.bootstrap_hosts)
            .set("client.id", "hookline")
            .set("reconnect.backoff.max.ms", "2000")
            .set("socket.keepalive.enable", "true");
        for (name, value) in &self.security {
            config.set(*name, value);
        }
        config
    }

    /// Makes a client. The user's own settings come last.
    pub(super) fn client<T: FromClientConfigAndContext<Context>>(&self, config: ClientConfig) -> Result<T, Failure> {
        self.client_with(config, self.login.context())
    }

    fn client_with<C: ClientContext, T: FromClientConfigAndContext<C>>(&self, mut config: ClientConfig, context: C) -> Result<T, Failure> {
        for (name, value) in &self.connector.properties {
            config.set(name, value);
        }
        config.create_with_context(context).map_err(|error| Failure::Reconnect(format!("kafka client: {error}")))
    }

    /// Asks the cluster about itself.
    pub(super) async fn ping(&self, producer: &Producer) -> Result<(), Failure> {
        let asking = producer.clone();
        let asked = spawn_blocking(move || asking.client().fetch_metadata(None, METADATA_TIMEOUT).map(drop)).await;
        self.answered(asked)
    }

    /// A failure, and what is known of the login beside it.
    pub(super) fn explain(&self, failure: Failure) -> Failure {
        match failure {
            Failure::Reconnect(problem) => Failure::Reconnect(self.login.explain(&problem)),
            other => other,
        }
    }

    /// What became of a question to the cluster.
    pub(super) fn answered(&self, asked: Result<Result<(), KafkaError>, JoinError>) -> Result<(), Failure> {
        match asked {
            Ok(Ok(())) => {
                self.login.is_well();
                Ok(())
            }
            Ok(Err(error)) => Err(self.explain(Failure::Reconnect(format!("kafka at {} cannot be reached: {error}", self.hosts())))),
            Err(error) => Err(Failure::Reconnect(error.to_string())),
        }
    }
}

/// Makes the producer; nothing is connected yet.
pub(super) fn open(cluster: &Cluster, parameters: &Parameters) -> Result<Producer, Failure> {
    let mut config = cluster.base();
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
    cluster.client_with(config, Confirmations::new(cluster.login.context())).map(Arc::new)
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
