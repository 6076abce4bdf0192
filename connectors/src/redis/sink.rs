//! The sink: a batch is one transaction, or one for each hash slot, and every record has its own answer.

use std::collections::BTreeMap;

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use tokio::task::JoinSet;

use super::client::{self, Answers, Client, Connection, classify, worse};
use super::request::{Request, Transaction};
use crate::connector::{Failure, Sink};

pub(super) struct RedisSink {
    client: Client,
    request: Request,
    connection: Option<Connection>,
    /// What Redis has answered about records at the front of the queue, by their sequence numbers. When a rejected batch comes
    /// again in halves, what is done is not done twice.
    answered: BTreeMap<u64, Result<(), String>>,
}

impl RedisSink {
    pub(super) fn new(client: Client, request: Request) -> RedisSink {
        RedisSink { client, request, connection: None, answered: BTreeMap::new() }
    }

    /// Executes what has no answer yet.
    async fn execute(&mut self, records: &[Record]) -> Result<(), Failure> {
        let connection = self.connection.clone().ok_or_else(|| Failure::Reconnect("redis: not connected".into()))?;
        // A command that is refused when it is queued takes the others of its transaction with it: they go again, without it.
        loop {
            let waiting = records.iter().filter(|record| !self.answered.contains_key(&record.sequence));
            let transactions = self.request.transactions(waiting, self.client.is_cluster());
            if transactions.is_empty() {
                return Ok(());
            }
            // When this call is given up, they are given up with it.
            let mut tasks: JoinSet<_> = transactions.into_iter().map(|transaction| transact(connection.clone(), transaction)).collect();
            let mut failure = None;
            while let Some(task) = tasks.join_next().await {
                let (answers, failed) = task.unwrap_or_else(|error| (Answers::new(), Some(Failure::Reconnect(format!("redis: {error}")))));
                self.answered.extend(answers);
                failure = match failed {
                    Some(failed) => Some(worse(failure, failed)),
                    None => failure,
                };
            }
            if let Some(failure) = failure {
                return Err(failure);
            }
        }
    }
}

/// Executes a transaction. Without a failure at least one of its records has an answer.
async fn transact(mut connection: Connection, transaction: Transaction) -> (Answers, Option<Failure>) {
    match connection.query(&transaction.pipeline).await {
        Ok(replies) => client::judge(&transaction.sequences, replies),
        Err(error) => (Answers::new(), Some(classify(&error))),
    }
}

impl Sink for RedisSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            self.connection = None;
            self.connection = Some(self.client.connect().await?);
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // The front of the queue only moves forward: what lies before it is settled.
            let front = records.first().map_or(0, |record| record.sequence);
            self.answered = self.answered.split_off(&front);
            self.execute(records).await?;
            let refused = records.iter().find_map(|record| self.answered.get(&record.sequence)?.as_ref().err());
            refused.map_or(Ok(()), |problem| Err(Failure::Reject(problem.clone())))
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            match &mut self.connection {
                Some(connection) => connection.ping().await,
                None => Err(Failure::Reconnect("redis: not connected".into())),
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.connection = None })
    }
}
