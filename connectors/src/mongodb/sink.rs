//! The sink: a batch is a few ordered commands; a record is judged when it was sent alone.

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;

use super::client::{self, Connection};
use super::config::{Connector, Parameters};
use super::request::{Group, Request};
use crate::connector::{Failure, Sink};
use crate::kind::SettingsError;
use crate::progress::Progress;

/// Records of one command.
const RECORDS_MAX: usize = 1000;

pub(super) struct MongoSink {
    url: String,
    database: String,
    request: Request,
    progress: Progress,
    connection: Option<Connection>,
}

impl MongoSink {
    pub(super) fn new(connector: &Connector, parameters: &Parameters) -> Result<MongoSink, Vec<SettingsError>> {
        let database = client::check(connector)?;
        let request = Request::new(parameters)?;
        Ok(MongoSink { url: connector.url.clone(), database, request, progress: Progress::default(), connection: None })
    }

    async fn write(&mut self, records: &[Record]) -> Result<(), Failure> {
        let mut most = RECORDS_MAX;
        loop {
            let rest = self.progress.rest(records)?;
            let Some(first) = rest.first() else { return Ok(()) };
            let group = self.request.group(rest, most).map_err(|problem| self.progress.refuse(first, problem))?;
            let connection = self.connection.as_ref().ok_or_else(not_connected)?;
            let Err(stopped) = connection.write(&group).await else {
                self.progress.confirm(&rest[..group.len()]);
                most = RECORDS_MAX.min(most * 2);
                continue;
            };
            self.progress.confirm(&rest[..stopped.done]);
            let skipped = stopped.is_duplicate && self.skip_written(&group, &rest[..group.len()], stopped.done).await?;
            match stopped.failure {
                Failure::Reject(_) if skipped => {}
                // Alone, so that there is no doubt whose fault it was.
                Failure::Reject(_) if group.len() > 1 => most = 1,
                Failure::Reject(error) => return Err(self.progress.refuse(first, error)),
                failure => return Err(failure),
            }
        }
    }

    /// Passes over records that an earlier attempt has written although its answer was lost. Whether there were any.
    async fn skip_written(&mut self, group: &Group, records: &[Record], done: usize) -> Result<bool, Failure> {
        let left = &records[done..];
        let ids = group.own_ids(done);
        if ids.is_empty() {
            return Ok(false);
        }
        let connection = self.connection.as_ref().ok_or_else(not_connected)?;
        let there = connection.present(&group.collection, &ids).await?;
        self.progress.confirm(&left[..there]);
        Ok(there > 0)
    }
}

fn not_connected() -> Failure {
    Failure::Reconnect("mongodb: not connected".into())
}

impl Sink for MongoSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            // A new one: what is wrong with a connection is not always seen by the client itself.
            self.connection = None;
            self.connection = Some(client::open(&self.url, &self.database).await?);
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(self.write(records))
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { self.connection.as_ref().ok_or_else(not_connected)?.ping().await })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(connection) = self.connection.take() {
                connection.close().await;
            }
        })
    }
}
