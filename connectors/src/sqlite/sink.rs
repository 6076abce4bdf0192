//! The sink: a batch is one transaction, in a thread that may block.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use rusqlite::Connection;

use super::client::{self, classify};
use super::config::Parameters;
use super::request::parameter;
use crate::connector::{Failure, Sink};
use crate::kind::SettingsError;
use crate::statement::Statement;

pub(super) struct SqliteSink {
    path: PathBuf,
    setup: String,
    statement: Arc<Statement>,
    connection: Option<Arc<Mutex<Connection>>>,
}

impl SqliteSink {
    pub(super) fn new(path: PathBuf, parameters: Parameters) -> Result<SqliteSink, Vec<SettingsError>> {
        let statement = Statement::parse("sql", &parameters.sql, |number| format!("?{number}"))?;
        Ok(SqliteSink { path, setup: parameters.setup, statement: Arc::new(statement), connection: None })
    }
}

/// Runs what may block beside the runtime's own threads.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T, Failure> + Send + 'static) -> Result<T, Failure> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Failure::Reconnect(format!("sqlite: {error}"))),
    }
}

fn write(connection: &mut Connection, statement: &Statement, rows: Vec<Vec<rusqlite::types::Value>>) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    {
        let mut prepared = transaction.prepare_cached(&statement.sql)?;
        for row in rows {
            prepared.execute(rusqlite::params_from_iter(row))?;
        }
    }
    transaction.commit()
}

impl Sink for SqliteSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            let (path, setup) = (self.path.clone(), self.setup.clone());
            self.connection = None;
            let connection = blocking(move || client::open(&path, &setup)).await?;
            self.connection = Some(Arc::new(Mutex::new(connection)));
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            let connection = self.connection.clone().ok_or_else(|| Failure::Reconnect("sqlite: not open".into()))?;
            let statement = Arc::clone(&self.statement);
            let rows = records.iter().map(|record| statement.bind(record).into_iter().map(parameter).collect()).collect();
            blocking(move || {
                // A panic in an earlier call has rolled its transaction back.
                let mut connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                write(&mut connection, &statement, rows).map_err(|error| classify(&error))
            })
            .await
        })
    }

    fn check(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> BoxFuture<'_, ()> {
        Box::pin(async { self.connection = None })
    }
}
