//! The connection, and what errors mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::types::ToSql;
use tokio_postgres::{Client, Config, GenericClient, NoTls, Row, Socket, Statement, Transaction};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::config::Connector;
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};

/// What every session begins with. Where this end is gone without a word, its locks must not wait for the network's patience.
const SESSION: &str = "SET idle_in_transaction_session_timeout = '30s'";
/// After so much silence the network is asked whether the server is still there.
const KEEPALIVE: Duration = Duration::from_secs(30);

/// How a server is reached.
pub(super) struct Server {
    config: Config,
    tls: Option<rustls::ClientConfig>,
}

/// Reads the settings; nothing is connected yet.
pub(super) fn server(connector: &Connector) -> Result<Server, Vec<SettingsError>> {
    let wrong = |problem: String| vec![SettingsError { path: format!("{CONNECTOR}.url"), problem }];
    let mut config: Config = connector.url.parse().map_err(|error| wrong(format!("{error}")))?;
    config.application_name("hookline").keepalives_idle(KEEPALIVE).tcp_user_timeout(KEEPALIVE);
    let tls = connector.tls.as_ref().map(|tls| tls.client()).transpose()?;
    match (tls.is_some(), config.get_ssl_mode()) {
        (true, _) => drop(config.ssl_mode(SslMode::Require)),
        (false, SslMode::Require) => return Err(wrong("sslmode=require needs the table `tls`; an empty one will do".to_owned())),
        (false, _) => {}
    }
    Ok(Server { config, tls })
}

/// A connection. It ends when this is dropped.
pub(super) struct Session {
    client: Client,
    carrying: JoinHandle<()>,
    /// By text.
    prepared: Prepared,
}

impl Drop for Session {
    fn drop(&mut self) {
        // Where it is dropped in the middle of a call, nobody waits for the server's answer.
        self.carrying.abort();
    }
}

impl Server {
    /// Connects, and runs the setup.
    pub(super) async fn connect(&self, setup: &str) -> Result<Session, Failure> {
        let session = match &self.tls {
            Some(tls) => self.connect_by(MakeRustlsConnect::new(tls.clone())).await?,
            None => self.connect_by(NoTls).await?,
        };
        session.client.batch_execute(SESSION).await.map_err(|error| classify(&error))?;
        session.client.batch_execute(setup).await.map_err(|error| classify(&error))?;
        Ok(session)
    }

    async fn connect_by<T>(&self, tls: T) -> Result<Session, Failure>
    where
        T: MakeTlsConnect<Socket, Stream: Send + 'static>,
    {
        let (client, connection) = self.config.connect(tls).await.map_err(|error| Failure::Reconnect(explain(&error)))?;
        let carrying = tokio::spawn(async move {
            // The client's calls tell of it, too.
            drop(connection.await);
        });
        Ok(Session { client, carrying, prepared: Prepared::default() })
    }
}

/// Statements that were prepared in a session.
#[derive(Default)]
pub(super) struct Prepared(HashMap<Arc<str>, Statement>);

/// How many are kept.
const PREPARED_MAX: usize = 32;

impl Prepared {
    pub(super) async fn get_or_prepare(&mut self, client: &impl GenericClient, sql: &Arc<str>) -> Result<Statement, Failure> {
        if let Some(statement) = self.0.get(sql) {
            return Ok(statement.clone());
        }
        if self.0.len() >= PREPARED_MAX {
            self.clear();
        }
        let made = client.prepare(sql).await.map_err(|error| classify(&error))?;
        self.0.insert(Arc::clone(sql), made.clone());
        Ok(made)
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }
}

impl Session {
    /// The client, beside the statements that were prepared.
    pub(super) fn parts(&mut self) -> (&Client, &mut Prepared) {
        (&self.client, &mut self.prepared)
    }

    /// Begins a transaction, beside the statements that were prepared.
    pub(super) async fn transaction(&mut self) -> Result<(Transaction<'_>, &mut Prepared), Failure> {
        let transaction = self.client.transaction().await.map_err(|error| classify(&error))?;
        Ok((transaction, &mut self.prepared))
    }

    /// The rows of a query.
    pub(super) async fn query(&mut self, sql: &Arc<str>, values: &[&(dyn ToSql + Sync)]) -> Result<Vec<Row>, Failure> {
        let statement = self.prepared.get_or_prepare(&self.client, sql).await?;
        self.client.query(&statement, values).await.map_err(|error| {
            // It may have been prepared for a table that is another by now.
            self.prepared.clear();
            classify(&error)
        })
    }

    /// Whether it works.
    pub(super) async fn ping(&self) -> Result<(), Failure> {
        self.client.simple_query("").await.map(drop).map_err(|error| classify(&error))
    }
}

/// What an error means. Only what is wrong with the values themselves is rejected: a missing table can still be made.
pub(super) fn classify(error: &tokio_postgres::Error) -> Failure {
    let text = explain(error);
    if error.is_closed() {
        return Failure::Reconnect(text);
    }
    let Some(db) = error.as_db_error() else {
        // Not from the server: either the connection broke, or a value does not fit its parameter.
        let is_io = std::error::Error::source(error).is_some_and(|source| source.is::<std::io::Error>());
        return if is_io { Failure::Reconnect(text) } else { Failure::Reject(text) };
    };
    match &db.code().code()[..2] {
        // Data exception, integrity constraint, cardinality.
        "22" | "23" | "21" => Failure::Reject(text),
        // Connection exception, operator intervention.
        "08" | "57" => Failure::Reconnect(text),
        _ => Failure::Retry(text),
    }
}

fn explain(error: &tokio_postgres::Error) -> String {
    let mut text = format!("postgres: {error}");
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
