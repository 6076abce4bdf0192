//! The sink: a batch is one transaction of multi-row statements.

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Transaction, TxOpts, Value};

use super::client::{self, classify};
use super::config::Parameters;
use super::request::{parameter, size};
use crate::connector::{Failure, Sink};
use crate::kind::SettingsError;
use crate::statement::Statement;

/// Parameters that one statement can have (the protocol counts them with 16 bits).
const PARAMETERS_MAX: usize = 65_535;
/// Rows of one statement. The numbers used are powers of two up to it, so that few statements are prepared.
const ROWS_MAX: usize = 512;

pub(super) struct MysqlSink {
    options: Opts,
    setup: String,
    writer: Writer,
    connection: Option<Conn>,
}

/// What turns records into statements.
struct Writer {
    statement: Statement,
    /// How many bytes of values one statement may have: the server ends connections that send more.
    values_max: usize,
}

fn mark(_: usize) -> String {
    "?".into()
}

fn bytes(rows: &[Vec<Value>]) -> usize {
    rows.iter().flatten().map(size).sum()
}

impl MysqlSink {
    pub(super) fn new(options: Opts, parameters: Parameters) -> Result<MysqlSink, Vec<SettingsError>> {
        let statement = Statement::parse("sql", &parameters.sql, mark)?;
        Ok(MysqlSink { options, setup: parameters.setup, writer: Writer { statement, values_max: usize::MAX }, connection: None })
    }
}

impl Writer {
    /// How many of these rows the next statement takes.
    fn rows(&self, left: &[Vec<Value>]) -> usize {
        if !self.statement.takes_rows() {
            return 1;
        }
        let most = left.len().min(ROWS_MAX).min(PARAMETERS_MAX / self.statement.parameters()).max(1);
        let mut rows = 1usize << most.ilog2();
        while rows > 1 && bytes(&left[..rows]) > self.values_max {
            rows /= 2;
        }
        rows
    }

    async fn write(&self, connection: &mut Conn, records: &[Record]) -> Result<(), Failure> {
        let mut transaction = connection.start_transaction(TxOpts::default()).await.map_err(|error| classify(&error))?;
        match self.insert(&mut transaction, records).await {
            Ok(()) => transaction.commit().await.map_err(|error| classify(&error)),
            // The connection ends, and the transaction with it.
            Err(failure @ Failure::Reconnect(_)) => Err(failure),
            // Locks must not wait for the next attempt.
            Err(failure) => match transaction.rollback().await {
                Ok(()) => Err(failure),
                Err(error) => Err(Failure::Reconnect(format!("{failure}; and it cannot be rolled back: {error}"))),
            },
        }
    }

    async fn insert(&self, transaction: &mut Transaction<'_>, records: &[Record]) -> Result<(), Failure> {
        let row = |record: &Record| self.statement.bind(record).into_iter().map(parameter).collect();
        let mut left: Vec<Vec<Value>> = records.iter().map(row).collect();
        while !left.is_empty() {
            let count = self.rows(&left);
            let later = left.split_off(count);
            let now = std::mem::replace(&mut left, later);
            let size = bytes(&now);
            if size > self.values_max {
                return Err(Failure::Reject(format!("mysql: {size} bytes are more than the server takes (max_allowed_packet)")));
            }
            let values: Vec<Value> = now.into_iter().flatten().collect();
            let sql = self.statement.for_rows(count, mark);
            transaction.exec_drop(sql, values).await.map_err(|error| classify(&error))?;
        }
        Ok(())
    }
}

impl Sink for MysqlSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            self.connection = None;
            let (connection, values_max) = client::open(&self.options, &self.setup).await?;
            self.connection = Some(connection);
            self.writer.values_max = values_max;
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // When this call is given up, the connection goes with it, and the server takes back what was not committed.
            let mut connection = self.connection.take().ok_or_else(|| Failure::Reconnect("mysql: not connected".into()))?;
            let result = self.writer.write(&mut connection, records).await;
            if !matches!(result, Err(Failure::Reconnect(_))) {
                self.connection = Some(connection);
            }
            result
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            match &mut self.connection {
                Some(connection) => connection.ping().await.map_err(|error| classify(&error)),
                None => Err(Failure::Reconnect("mysql: not connected".into())),
            }
        })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async {
            if let Some(connection) = self.connection.take() {
                // It ends either way.
                drop(connection.disconnect().await);
            }
        })
    }
}
