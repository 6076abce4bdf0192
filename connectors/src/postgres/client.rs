//! The pool, and what errors mean.

use deadpool_postgres::{Manager, ManagerConfig, Object, Pool, PoolError, RecyclingMethod};
use tokio_postgres::NoTls;

use super::config::Connector;
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};

/// Makes the pool; nothing is connected yet.
pub(super) fn open(connector: &Connector) -> Result<Pool, Vec<SettingsError>> {
    let wrong = |problem: String| vec![SettingsError { path: format!("{CONNECTOR}.url"), problem }];
    let mut config: tokio_postgres::Config = connector.url.parse().map_err(|error| wrong(format!("{error}")))?;
    config.application_name("hookline");
    let manager = Manager::from_config(config, NoTls, ManagerConfig { recycling_method: RecyclingMethod::Fast });
    Pool::builder(manager).max_size(connector.pool_size.max(1)).build().map_err(|error| wrong(error.to_string()))
}

/// A connection from the pool.
pub(super) async fn connection(pool: &Pool) -> Result<Object, Failure> {
    pool.get().await.map_err(|error| match error {
        PoolError::Backend(error) => Failure::Reconnect(explain(&error)),
        other => Failure::Reconnect(format!("postgres: {other}")),
    })
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
