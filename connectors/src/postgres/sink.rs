//! The sink: a batch is one transaction of multi-row statements.

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use tokio_postgres::types::ToSql;

use super::client::{Server, Session, classify, server};
use super::config::{Connector, Parameters};
use super::request::Parameter;
use crate::connector::{Failure, Sink};
use crate::kind::{SettingsError, both_valid};
use crate::statement::Statement;

/// Parameters that one statement can have (the protocol counts them with 16 bits).
const PARAMETERS_MAX: usize = 65_535;
/// Rows of one statement. The numbers used are powers of two up to it, so that few statements are prepared.
const ROWS_MAX: usize = 512;

pub(super) struct PostgresSink {
    server: Server,
    setup: String,
    statement: Statement,
    session: Option<Session>,
}

pub(super) fn mark(number: usize) -> String {
    format!("${number}")
}

impl PostgresSink {
    pub(super) fn new(connector: Connector, parameters: Parameters) -> Result<PostgresSink, Vec<SettingsError>> {
        let (server, statement) = both_valid(server(&connector), Statement::parse("sql", &parameters.sql, mark))?;
        Ok(PostgresSink { server, setup: parameters.setup, statement, session: None })
    }

    /// How many of `left` records the next statement takes.
    fn rows(&self, left: usize) -> usize {
        if !self.statement.takes_rows() {
            return 1;
        }
        let most = left.min(ROWS_MAX).min(PARAMETERS_MAX / self.statement.parameters()).max(1);
        1 << most.ilog2()
    }

    async fn write(&self, session: &mut Session, records: &[Record]) -> Result<(), Failure> {
        let (transaction, prepared) = session.transaction().await?;
        let mut left = records;
        while !left.is_empty() {
            let (now, later) = left.split_at(self.rows(left.len()));
            left = later;
            let sql = self.statement.for_rows(now.len(), mark);
            let statement = match prepared.get(&sql) {
                Some(statement) => statement,
                None => {
                    let made = transaction.prepare(&sql).await.map_err(|error| classify(&error))?;
                    prepared.entry(sql).or_insert(made)
                }
            };
            let values: Vec<Parameter> = now.iter().flat_map(|record| self.statement.bind(record)).map(Parameter).collect();
            let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
            if let Err(error) = transaction.execute(statement, &values).await {
                // What was prepared may be for a table that is another by now.
                prepared.clear();
                return Err(classify(&error));
            }
        }
        transaction.commit().await.map_err(|error| classify(&error))
    }
}

fn not_connected() -> Failure {
    Failure::Reconnect("postgres: not connected".into())
}

impl Sink for PostgresSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            self.session = None;
            self.session = Some(self.server.connect(&self.setup).await?);
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // When this call is given up, the connection goes with it, and the server takes back what was not committed.
            let mut session = self.session.take().ok_or_else(not_connected)?;
            let result = self.write(&mut session, records).await;
            if !matches!(result, Err(Failure::Reconnect(_))) {
                self.session = Some(session);
            }
            result
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            match &self.session {
                Some(session) => session.ping().await,
                None => Err(not_connected()),
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.session = None })
    }
}
