//! The sink: hands a batch to the producer in order, and waits for every confirmation.

use std::collections::VecDeque;
use std::time::Duration;

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{DeliveryFuture, FutureProducer, FutureRecord};
use tokio::time::timeout;

use super::client::{self, Security};
use super::config::{Connector, Parameters};
use super::request::Request;
use crate::connector::{Failure, Sink};

/// How long a call waits for confirmations before it says that there are none yet.
const CONFIRMATION_WAIT: Duration = Duration::from_secs(10);

pub(super) struct KafkaSink {
    connector: Connector,
    security: Security,
    parameters: Parameters,
    request: Request,
    producer: Option<FutureProducer>,
    /// A batch that the producer still has. It is waited for, not produced again, when the same records come again: the
    /// producer keeps their order by itself.
    under_way: Option<UnderWay>,
}

struct UnderWay {
    first: u64,
    count: usize,
    confirmations: VecDeque<DeliveryFuture>,
}

impl KafkaSink {
    pub(super) fn new(connector: Connector, security: Security, request: Request, parameters: Parameters) -> KafkaSink {
        KafkaSink { connector, security, parameters, request, producer: None, under_way: None }
    }

    /// Hands the records to the producer, unless it has them already.
    fn produce(&mut self, records: &[Record]) -> Result<(), Failure> {
        let first = records.first().map_or(0, |record| record.sequence);
        if self.under_way.as_ref().is_some_and(|batch| batch.first == first && batch.count == records.len()) {
            return Ok(());
        }
        let Some(producer) = &self.producer else { return Err(Failure::Reconnect("kafka: not connected".into())) };
        let mut confirmations = VecDeque::with_capacity(records.len());
        for record in records {
            let message = self.request.message(record);
            let headers = message.headers.iter().fold(OwnedHeaders::new_with_capacity(message.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(&value[..]) })
            });
            let mut produced = FutureRecord::to(&message.topic).payload(&message.value[..]).headers(headers);
            produced.partition = message.partition;
            produced.timestamp = message.timestamp;
            if !message.key.is_empty() {
                produced = produced.key(&message.key[..]);
            }
            match producer.send_result(produced) {
                Ok(confirmation) => confirmations.push_back(confirmation),
                Err((error, _)) => {
                    let failure = client::classify(&error);
                    self.forget_producer();
                    return Err(failure);
                }
            }
        }
        self.under_way = Some(UnderWay { first, count: records.len(), confirmations });
        Ok(())
    }

    /// Waits until every record of the batch is confirmed.
    async fn confirmed(&mut self) -> Result<(), Failure> {
        while let Some(batch) = &mut self.under_way {
            let Some(next) = batch.confirmations.front_mut() else {
                self.under_way = None;
                return Ok(());
            };
            match timeout(CONFIRMATION_WAIT, next).await {
                Ok(Ok(Ok(_))) => drop(batch.confirmations.pop_front()),
                Ok(Ok(Err((error, _)))) => {
                    let failure = client::classify(&error);
                    self.forget_producer();
                    return Err(failure);
                }
                Ok(Err(_)) => {
                    self.forget_producer();
                    return Err(Failure::Reconnect("kafka: the producer is gone".into()));
                }
                Err(_) => {
                    let waiting = batch.confirmations.len();
                    return Err(Failure::Retry(format!("kafka at {} has not confirmed {waiting} records", self.connector.bootstrap_hosts)));
                }
            }
        }
        Ok(())
    }

    /// What the producer still has is dropped; it comes again from the queue.
    fn forget_producer(&mut self) {
        self.under_way = None;
        if let Some(producer) = self.producer.take() {
            // Its end may block on a socket.
            drop(tokio::task::spawn_blocking(move || drop(producer)));
        }
    }
}

impl Sink for KafkaSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let producer = match &self.producer {
                Some(producer) => producer,
                None => self.producer.insert(client::open(&self.connector, &self.security, &self.parameters)?),
            };
            client::ping(producer, &self.connector.bootstrap_hosts).await
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let result = match self.produce(records) {
                Ok(()) => self.confirmed().await,
                Err(failure) => Err(failure),
            };
            match result {
                // The producer went with the rejected record: the others need a new one.
                Err(Failure::Reject(error)) if self.producer.is_none() => {
                    self.producer = Some(client::open(&self.connector, &self.security, &self.parameters)?);
                    Err(Failure::Reject(error))
                }
                other => other,
            }
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        self.connect()
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.forget_producer() })
    }
}
