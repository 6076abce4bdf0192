//! The sink: a batch is one transaction of multi-row statements.

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, TxOpts, Value};

use super::client::{self, classify};
use super::config::Parameters;
use super::request::{parameter, size};
use crate::connector::{Failure, Sink};
use crate::kind::SettingsError;
use crate::statement::{Rows, Statement};

pub(super) struct MysqlSink {
    options: Opts,
    setup: String,
    writer: Writer,
    connection: Option<Conn>,
}

/// What turns records into statements.
struct Writer {
    statement: Statement,
    rows: Rows,
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
        let rows = Rows::new(&statement);
        Ok(MysqlSink { options, setup: parameters.setup, writer: Writer { statement, rows, values_max: usize::MAX }, connection: None })
    }
}

impl Writer {
    /// How many of these rows the next statement takes.
    fn rows(&self, left: &[Vec<Value>]) -> usize {
        let mut rows = self.rows.next(left.len());
        if rows > 1 && bytes(&left[..rows]) > self.values_max {
            rows = 1 << rows.ilog2();
            while rows > 1 && bytes(&left[..rows]) > self.values_max {
                rows /= 2;
            }
        }
        rows
    }

    async fn write(&mut self, connection: &mut Conn, records: &[Record]) -> Result<(), Failure> {
        let row = |record: &Record| self.statement.bind(record).into_iter().map(parameter).collect();
        let rows: Vec<Vec<Value>> = records.iter().map(row).collect();
        if self.rows.begin(rows.len()) && bytes(&rows) <= self.values_max {
            // One statement is a transaction by itself.
            return self.insert(connection, rows).await;
        }
        let mut transaction = connection.start_transaction(TxOpts::default()).await.map_err(|error| classify(&error))?;
        match self.insert(&mut transaction, rows).await {
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

    async fn insert(&mut self, connection: &mut impl Queryable, mut left: Vec<Vec<Value>>) -> Result<(), Failure> {
        while !left.is_empty() {
            let count = self.rows(&left);
            let later = left.split_off(count);
            let now = std::mem::replace(&mut left, later);
            let size = bytes(&now);
            if size > self.values_max {
                return Err(Failure::Reject(format!("mysql: {size} bytes are more than the server takes (max_allowed_packet)")));
            }
            let values: Vec<Value> = now.into_iter().flatten().collect();
            let sql = self.rows.text(&self.statement, count);
            connection.exec_drop(&*sql, values).await.map_err(|error| classify(&error))?;
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
            // When this call is given up, the connection goes with it. What was not committed is taken back; a statement by itself may be done all the same.
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
