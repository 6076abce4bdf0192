//! Exactly once: a batch and the place in the queue behind it are one transaction of Kafka.
//!
//! The place is an offset of a consumer group that has the name of the transactions, with the last record's `hookline_id` as its metadata. After any
//! failure the producer is made anew: `init_transactions` ends what was under way, one way or the other, and then the place says which way it was.

use std::sync::Arc;
use std::time::Duration;

use hookline_schemas::Record;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::KafkaError;
use rdkafka::producer::Producer as _;
use rdkafka::{Offset, TopicPartitionList};

use super::client::{self, Cluster, Producer};
use super::config::Parameters;
use super::login::Context;
use crate::connector::Failure;

/// How long the coordinator may take.
const TIMEOUT: Duration = Duration::from_secs(20);

/// The transactions of a sink.
#[derive(Clone)]
pub(super) struct Transactions {
    id: String,
    /// Whose first partition the offset is said to be of.
    topic: String,
    group: Arc<BaseConsumer<Context>>,
    /// The last record that is in Kafka for good.
    done: Option<String>,
}

impl Transactions {
    /// Makes a producer for them, ends what an earlier one has left, and reads how far it had come.
    pub(super) async fn open(cluster: &Cluster, parameters: &Parameters, id: &str) -> Result<(Producer, Transactions), Failure> {
        let producer = client::open(cluster, parameters)?;
        let mut config = cluster.base();
        config.set("group.id", id).set("enable.auto.commit", "false");
        let group: BaseConsumer<Context> = cluster.client(config)?;
        if cluster.login.has_tokens() {
            // A consumer gets its token while it is asked for messages, of which there are none.
            drop(group.poll(Duration::ZERO));
        }
        let (id, topic) = (id.to_owned(), parameters.topic.clone());
        blocking(move || {
            producer.init_transactions(TIMEOUT)?;
            let mut asked = TopicPartitionList::new();
            asked.add_partition(&topic, 0);
            let committed = group.committed_offsets(asked, TIMEOUT)?;
            let place = committed.find_partition(&topic, 0).filter(|place| matches!(place.offset(), Offset::Offset(_)));
            let done = place.map(|place| place.metadata().to_owned()).filter(|done| !done.is_empty());
            Ok((producer, Transactions { id, topic, group: Arc::new(group), done }))
        })
        .await
    }

    /// The records that are not in Kafka yet.
    pub(super) fn rest<'a>(&self, records: &'a [Record]) -> &'a [Record] {
        let first = records.iter().position(|record| !self.has(record)).unwrap_or(records.len());
        &records[first..]
    }

    /// Identifiers of one queue sort by age.
    fn has(&self, record: &Record) -> bool {
        let queue = |id: &str| id.rfind(':').map(|end| id[..end].to_owned());
        self.done.as_ref().is_some_and(|done| queue(done) == queue(&record.hookline_id) && record.hookline_id <= *done)
    }

    /// Ends a transaction with these records.
    pub(super) async fn commit(&mut self, producer: &Producer, records: &[Record]) -> Result<(), Failure> {
        let Some(last) = records.last() else { return Ok(()) };
        let (producer, own, id, place) = (producer.clone(), self.clone(), last.hookline_id.clone(), last.sequence + 1);
        let result = blocking(move || {
            let mut places = TopicPartitionList::new();
            places.add_partition_offset(&own.topic, 0, Offset::Offset(i64::try_from(place).unwrap_or(i64::MAX)))?;
            if let Some(mut element) = places.find_partition(&own.topic, 0) {
                element.set_metadata(id.as_str());
            }
            let group = own.group.group_metadata().ok_or_else(|| KafkaError::ClientCreation("no group".into()))?;
            producer.send_offsets_to_transaction(&places, &group, TIMEOUT)?;
            producer.commit_transaction(TIMEOUT)
        });
        result.await.map_err(|failure| match failure {
            Failure::Reconnect(problem) => Failure::Reconnect(format!("{problem} (transactional_id \"{}\")", self.id)),
            other => other,
        })?;
        self.done = Some(last.hookline_id.clone());
        Ok(())
    }
}

/// Does something that waits for the coordinator. Whatever goes wrong, a new producer finds out what came of it.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, KafkaError> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result.map_err(|error| Failure::Reconnect(format!("kafka: {error}"))),
        Err(error) => Err(Failure::Reconnect(error.to_string())),
    }
}
