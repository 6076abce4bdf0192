//! The sink: a batch is one transaction of multi-row statements.

use deadpool_postgres::Pool;
use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use tokio_postgres::types::ToSql;

use super::client::{self, classify};
use super::config::{Connector, Parameters};
use super::request::Parameter;
use crate::connector::{Failure, Sink};
use crate::kind::SettingsError;
use crate::statement::Statement;

/// Parameters that one statement can have (the protocol counts them with 16 bits).
const PARAMETERS_MAX: usize = 65_535;
/// Rows of one statement. The numbers used are powers of two up to it, so that few statements are prepared.
const ROWS_MAX: usize = 512;

pub(super) struct PostgresSink {
    pool: Pool,
    setup: String,
    statement: Statement,
}

fn mark(number: usize) -> String {
    format!("${number}")
}

impl PostgresSink {
    pub(super) fn new(connector: Connector, parameters: Parameters) -> Result<PostgresSink, Vec<SettingsError>> {
        let statement = Statement::parse("sql", &parameters.sql, mark)?;
        Ok(PostgresSink { pool: client::open(&connector)?, setup: parameters.setup, statement })
    }

    /// How many of `left` records the next statement takes.
    fn rows(&self, left: usize) -> usize {
        if !self.statement.takes_rows() {
            return 1;
        }
        let most = left.min(ROWS_MAX).min(PARAMETERS_MAX / self.statement.parameters()).max(1);
        1 << most.ilog2()
    }
}

impl Sink for PostgresSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let connection = client::connection(&self.pool).await?;
            connection.batch_execute(&self.setup).await.map_err(|error| classify(&error))
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let mut connection = client::connection(&self.pool).await?;
            let transaction = connection.transaction().await.map_err(|error| classify(&error))?;
            let mut left = records;
            while !left.is_empty() {
                let (now, later) = left.split_at(self.rows(left.len()));
                left = later;
                let sql = self.statement.for_rows(now.len(), mark);
                let prepared = transaction.prepare_cached(&sql).await.map_err(|error| classify(&error))?;
                let values: Vec<Parameter> = now.iter().flat_map(|record| self.statement.bind(record)).map(Parameter).collect();
                let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
                transaction.execute(&prepared, &values).await.map_err(|error| classify(&error))?;
            }
            transaction.commit().await.map_err(|error| classify(&error))
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let connection = client::connection(&self.pool).await?;
            connection.simple_query("SELECT 1").await.map(drop).map_err(|error| classify(&error))
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.pool.close() })
    }
}
