//! The sink: a batch is one transaction of multi-row statements.

use std::sync::Arc;

use hookline_schemas::Record;
use hookline_schemas::ports::BoxFuture;
use tokio_postgres::GenericClient;
use tokio_postgres::types::ToSql;

use super::client::{Prepared, Server, Session, classify, server};
use super::config::{Connector, Method, Parameters};
use super::copy::Copy;
use super::request::Parameter;
use crate::connector::{Failure, Sink};
use crate::kind::{PARAMETERS, SettingsError, both_valid};
use crate::statement::{Rows, Statement};

pub(super) struct PostgresSink {
    server: Server,
    setup: String,
    statement: Statement,
    rows: Rows,
    method: Method,
    session: Option<Session>,
    /// What the session was prepared for.
    copy: Option<Copy>,
}

pub(super) fn mark(number: usize) -> String {
    format!("${number}")
}

impl PostgresSink {
    pub(super) fn new(connector: Connector, parameters: Parameters) -> Result<PostgresSink, Vec<SettingsError>> {
        let (server, statement) = both_valid(server(&connector), Statement::parse("sql", &parameters.sql, mark))?;
        if parameters.method == Method::Copy && !statement.takes_rows() {
            let problem = "\"copy\" needs an INSERT with one row of VALUES, and placeholders in that row only";
            return Err(vec![SettingsError { path: format!("{PARAMETERS}.method"), problem: problem.to_owned() }]);
        }
        let rows = Rows::new(&statement);
        let Parameters { setup, method, .. } = parameters;
        Ok(PostgresSink { server, setup, statement, rows, method, session: None, copy: None })
    }

    async fn write(&mut self, session: &mut Session, records: &[Record]) -> Result<(), Failure> {
        match self.method {
            Method::Insert => self.insert_all(session, records).await,
            Method::Copy => {
                let copy = match self.copy.take() {
                    Some(copy) => copy,
                    None => Copy::prepare(session, &self.statement).await?,
                };
                copy.write(session, &self.statement, records).await?;
                // After a failure it is made anew: the statement's table may be another by now.
                self.copy = Some(copy);
                Ok(())
            }
        }
    }

    async fn insert_all(&mut self, session: &mut Session, records: &[Record]) -> Result<(), Failure> {
        if self.rows.begin(records.len()) {
            // One statement is a transaction by itself.
            let (client, prepared) = session.parts();
            return insert(client, prepared, &self.statement, self.rows.text(&self.statement, records.len()), records).await;
        }
        let (transaction, prepared) = session.transaction().await?;
        let mut left = records;
        while !left.is_empty() {
            let (now, later) = left.split_at(self.rows.next(left.len()));
            left = later;
            insert(&transaction, prepared, &self.statement, self.rows.text(&self.statement, now.len()), now).await?;
        }
        transaction.commit().await.map_err(|error| classify(&error))
    }
}

/// Runs one statement for some records.
async fn insert(
    client: &impl GenericClient,
    prepared: &mut Prepared,
    statement: &Statement,
    sql: Arc<str>,
    records: &[Record],
) -> Result<(), Failure> {
    let made = prepared.get_or_prepare(client, &sql).await?;
    let values: Vec<Parameter> = records.iter().flat_map(|record| statement.bind(record)).map(Parameter).collect();
    let values: Vec<&(dyn ToSql + Sync)> = values.iter().map(|value| value as _).collect();
    if let Err(error) = client.execute(&made, &values).await {
        // What was prepared may be for a table that is another by now.
        prepared.clear();
        return Err(classify(&error));
    }
    Ok(())
}

fn not_connected() -> Failure {
    Failure::Reconnect("postgres: not connected".into())
}

impl Sink for PostgresSink {
    fn connect(&mut self) -> BoxFuture<'_, Result<(), Failure>> {
        Box::pin(async {
            (self.session, self.copy) = (None, None);
            self.session = Some(self.server.connect(&self.setup).await?);
            Ok(())
        })
    }

    fn deliver<'a>(&'a mut self, records: &'a [Record]) -> BoxFuture<'a, Result<(), Failure>> {
        Box::pin(async move {
            // When this call is given up, the connection goes with it. What was not committed is taken back; a statement by itself may be done all the same.
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
