//! The connection, and what errors mean.

use mysql_async::prelude::Queryable;
use mysql_async::{ClientIdentity, Conn, Error, Opts, OptsBuilder, ServerError, SslOpts};

use super::config::Connector;
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};
use crate::tls::{Pem, Tls};

/// What every session begins with. Where this end is gone without a word, its locks must not wait for the network's patience: the
/// server ends sessions that are silent for longer than the pause between two checks.
const SESSION: [&str; 3] = [
    "SET time_zone = '+00:00'",
    "SET SESSION wait_timeout = 30",
    "SET SESSION sql_mode = CONCAT_WS(',', NULLIF(@@SESSION.sql_mode, ''), 'STRICT_ALL_TABLES')",
];
/// What of a packet is not values, generously.
const PACKET_OVERHEAD: usize = 64 << 10;

/// Reads the settings; nothing is connected yet.
pub(super) fn options(connector: &Connector) -> Result<Opts, Vec<SettingsError>> {
    let options = Opts::from_url(&connector.url)
        .map_err(|error| vec![SettingsError { path: format!("{CONNECTOR}.url"), problem: error.to_string() }])?;
    // A server on this machine is reached as the URL says, and not by a socket file that it names.
    let mut builder = OptsBuilder::from_opts(options).prefer_socket(false).init(SESSION.to_vec());
    if let Some(pem) = connector.tls.as_ref().map(Tls::read).transpose()? {
        builder = builder.ssl_opts(tls(pem));
    }
    Ok(builder.into())
}

fn tls(pem: Pem) -> SslOpts {
    let identity = pem.identity.map(|identity| ClientIdentity::new(identity.cert.into(), identity.key.into()));
    let options = SslOpts::default().with_client_identity(identity);
    match pem.ca {
        Some(ca) => options.with_root_certs(vec![ca.into()]).with_disable_built_in_roots(true),
        None => options,
    }
}

/// A connection that is set up, and how many bytes of values one statement may have.
pub(super) async fn open(options: &Opts, setup: &str) -> Result<(Conn, usize), Failure> {
    let unusable = |error: Error| Failure::Reconnect(explain(&error));
    let mut connection = Conn::new(options.clone()).await.map_err(unusable)?;
    if !setup.trim().is_empty() {
        connection.query_drop(setup).await.map_err(unusable)?;
    }
    // A statement by itself is a transaction, whatever the server or the setup says.
    connection.query_drop("SET autocommit = 1").await.map_err(unusable)?;
    let packet: Option<usize> = connection.query_first("SELECT @@max_allowed_packet").await.map_err(unusable)?;
    let values_max = packet.map_or(usize::MAX, |packet| packet.saturating_sub(PACKET_OVERHEAD).max(packet / 2));
    Ok((connection, values_max))
}

fn explain(error: &Error) -> String {
    match error {
        Error::Server(ServerError { code, state, message }) => format!("mysql: {message} (error {code}, SQLSTATE {state})"),
        other => format!("mysql: {other}"),
    }
}

/// What an error means. Only what is wrong with the values or with the statement's columns is rejected: a missing table can still
/// be made, and a server that is busy, full or read-only will not stay so.
pub(super) fn classify(error: &Error) -> Failure {
    let text = explain(error);
    // Not from the server: the connection broke.
    let Error::Server(ServerError { code, state, .. }) = error else { return Failure::Reconnect(text) };
    match code {
        // Too many connections, of all or of this user; a server that stops, ended the session, or has forgotten the statement; one
        // that takes reads only: another one may be behind the address by now.
        1040 | 1053 | 1203 | 1243 | 1290 | 1615 | 1792 | 1836 | 1927 | 3169 | 4031 => return Failure::Reconnect(text),
        // Lock wait timeout, deadlock, disk or table full.
        1205 | 1213 | 1021 | 1114 => return Failure::Retry(text),
        // Data errors without a SQLSTATE of their own: no default value, cut, wrong value, no partition for the value, CHECK of a
        // view and of a table, wrong argument of a function; and a packet that is too large.
        1364 | 1265 | 1366 | 1526 | 1369 | 3819 | 1411 | 1153 => return Failure::Reject(text),
        _ => {}
    }
    match (state.get(..2), state.as_str()) {
        // Data exception, integrity constraint, cardinality; what a trigger signals.
        (Some("22" | "23" | "21" | "45"), _) => Failure::Reject(text),
        // No such column.
        (_, "42S22") => Failure::Reject(text),
        // Connection exception, wrong login; and no such table: the setup may make it.
        (Some("08" | "28"), _) | (_, "42S02") => Failure::Reconnect(text),
        _ => Failure::Retry(text),
    }
}
