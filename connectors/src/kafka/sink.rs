//! The sink: hands a batch to the producer in order, and waits for every confirmation.

use std::time::Duration;

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _};

use super::client::{self, Cluster, Producer};
use super::config::Parameters;
use super::confirmations::{UnderWay, Verdict};
use super::request::Request;
use super::transaction::Transactions;
use crate::connector::{Failure, Sink};

/// How long a call waits for confirmations before it says that there are none yet.
const CONFIRMATION_WAIT: Duration = Duration::from_secs(10);

pub(super) struct KafkaSink {
    cluster: Cluster,
    parameters: Parameters,
    request: Request,
    producer: Option<Producer>,
    /// What the producer still has. It is waited for, not produced again: the producer keeps the order by itself.
    under_way: UnderWay,
    /// One could not be produced: nothing may go before it.
    is_stuck: bool,
    /// Where batches are transactions.
    transactions: Option<Transactions>,
}

impl KafkaSink {
    pub(super) fn new(cluster: Cluster, request: Request, parameters: Parameters) -> KafkaSink {
        KafkaSink { cluster, parameters, request, producer: None, under_way: UnderWay::default(), is_stuck: false, transactions: None }
    }

    /// Hands the records to the producer, but for those that it has already.
    fn produce(&mut self, records: &[Record]) -> Result<(), Failure> {
        let Some(producer) = &self.producer else { return Err(Failure::Reconnect("kafka: not connected".into())) };
        let last = self.under_way.last();
        if records.last().is_none_or(|record| last.is_some_and(|last| record.sequence <= last)) {
            return Ok(());
        }
        for record in records.iter().filter(|record| last.is_none_or(|last| record.sequence > last)) {
            let message = self.request.message(record);
            let headers = message.headers.iter().fold(OwnedHeaders::new_with_capacity(message.headers.len()), |headers, (key, value)| {
                headers.insert(Header { key, value: Some(&value[..]) })
            });
            let mut produced =
                BaseRecord::with_opaque_to(&message.topic, self.under_way.next_number()).payload(&message.value[..]).headers(headers);
            produced.partition = message.partition;
            produced.timestamp = message.timestamp;
            if !message.key.is_empty() {
                produced = produced.key(&message.key[..]);
            }
            if let Err((error, _)) = producer.send(produced) {
                return Err(client::classify(&error));
            }
            self.under_way.push(record.sequence);
        }
        Ok(())
    }

    /// Waits until every record of the batch is confirmed. `false`: that takes long, and they are still under way.
    async fn confirmed(&mut self, records: &[Record]) -> Result<bool, Failure> {
        let Some(end) = records.last().map(|record| record.sequence) else { return Ok(true) };
        let Some(producer) = &self.producer else { return Err(Failure::Reconnect("kafka: not connected".into())) };
        loop {
            let missing = match self.under_way.verdict(end) {
                Verdict::Confirmed => break,
                Verdict::Failed(error) => return Err(client::classify(&error)),
                Verdict::Open(missing) => missing,
            };
            let news = producer.context().next(missing, CONFIRMATION_WAIT).await;
            if news.is_empty() {
                return Ok(false);
            }
            self.under_way.note(news);
        }
        // What is behind has its turn: that it was produced must not be forgotten before.
        self.under_way.forget(end);
        Ok(true)
    }

    /// Makes a producer; one for transactions asks how far those have come.
    async fn make_producer(&mut self) -> Result<Producer, Failure> {
        let producer = match &self.parameters.transactional_id {
            Some(id) => {
                let (producer, transactions) = Transactions::open(&self.cluster, &self.parameters, id).await?;
                self.transactions = Some(transactions);
                producer
            }
            None => client::open(&self.cluster, &self.parameters)?,
        };
        self.producer = Some(producer.clone());
        Ok(producer)
    }

    /// Delivers a batch as one transaction, but for what earlier ones have brought already.
    async fn transact(&mut self, records: &[Record]) -> Result<(), Failure> {
        let (Some(producer), Some(transactions)) = (self.producer.clone(), &mut self.transactions) else {
            return Err(Failure::Reconnect("kafka: not connected".into()));
        };
        let rest = transactions.rest(records);
        if rest.is_empty() {
            return Ok(());
        }
        producer.begin_transaction().map_err(|error| Failure::Reconnect(format!("kafka: {error}")))?;
        self.produce(rest)?;
        if !self.confirmed(rest).await? {
            return Err(Failure::Reconnect("kafka: a transaction was not confirmed in time".into()));
        }
        match &mut self.transactions {
            Some(transactions) => transactions.commit(&producer, rest).await,
            None => Err(Failure::Reconnect("kafka: not connected".into())),
        }
    }

    /// What the producer still has is dropped; it comes again from the queue.
    fn forget_producer(&mut self) {
        self.under_way.clear();
        self.is_stuck = false;
        self.transactions = None;
        if let Some(producer) = self.producer.take() {
            // Its end may block on a socket.
            drop(tokio::task::spawn_blocking(move || drop(producer)));
        }
    }
}

impl Sink for KafkaSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            self.cluster.begin().await?;
            let producer = match self.producer.clone() {
                Some(producer) => producer,
                None => self.make_producer().await?,
            };
            self.cluster.ping(&producer).await
        })
    }

    fn announce(&mut self, records: &[Record]) {
        // A transaction has one batch.
        if !self.is_stuck && self.parameters.transactional_id.is_none() {
            // What is wrong is told when they are delivered.
            self.is_stuck = self.produce(records).is_err();
        }
    }

    fn has_begun(&self) -> bool {
        self.under_way.len() > 0
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            if self.parameters.transactional_id.is_some() {
                let delivered = self.transact(records).await;
                if delivered.is_err() {
                    self.forget_producer();
                }
                return delivered;
            }
            let delivered = match self.produce(records) {
                Ok(()) => {
                    self.is_stuck = false;
                    self.confirmed(records).await
                }
                Err(failure) => Err(failure),
            };
            match delivered {
                Ok(true) => Ok(()),
                Ok(false) => Err(Failure::Retry(self.cluster.login.explain(&format!(
                    "kafka at {} has confirmed nothing for {} s; {} records are under way",
                    self.cluster.hosts(),
                    CONFIRMATION_WAIT.as_secs(),
                    self.under_way.len()
                )))),
                Err(failure) => {
                    self.forget_producer();
                    if matches!(failure, Failure::Reject(_)) {
                        // The producer went with the rejected record: the others need a new one.
                        self.producer = Some(client::open(&self.cluster, &self.parameters)?);
                    }
                    Err(failure)
                }
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
