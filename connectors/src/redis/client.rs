//! The client, its connection, and what errors and replies mean.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::sentinel::{SentinelClient, SentinelClientBuilder, SentinelServerType};
use redis::{
    AsyncConnectionConfig, ClientTlsConfig, ConnectionAddr, IntoConnectionInfo, Pipeline, RedisConnectionInfo, RedisError, RedisResult,
    TlsCertificates, TlsMode, Value,
};

use super::config::{Connector, Mode};
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};
use crate::tls::{Pem, Tls};

/// How long a connection may take to be made.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a node of a cluster may take to answer. Elsewhere the delivery's own deadline ends an attempt.
const NODE_TIMEOUT: Duration = Duration::from_secs(30);
/// How often the cluster's client follows a key to another node before it says that there is an error.
const REDIRECTS_MAX: u32 = 3;

/// What makes connections.
pub(super) enum Client {
    Single(Box<redis::Client>),
    Cluster(Box<ClusterClient>),
    /// The sentinels are asked for the master at each connection.
    Sentinel(Box<SentinelClient>),
}

/// A connection. Its copies are the same connection.
#[derive(Clone)]
pub(super) enum Connection {
    Node(MultiplexedConnection),
    Cluster(ClusterConnection),
}

/// Makes the client; nothing is connected yet.
pub(super) fn open(connector: &Connector) -> Result<Client, Vec<SettingsError>> {
    let wrong = |name: &str, problem: &str| vec![SettingsError { path: format!("{CONNECTOR}{name}"), problem: problem.to_owned() }];
    let certificates = connector.tls.as_ref().map(Tls::read).transpose()?.map(certificates);
    let port = if connector.mode == Mode::Sentinel { 26379 } else { 6379 };
    let servers = connector.servers.split(',').map(|server| address(server.trim(), port, certificates.is_some()));
    let servers: Vec<ConnectionAddr> = servers.collect::<Option<_>>().ok_or_else(|| wrong(".servers", "is not host:port,host:port"))?;
    let made = match (connector.mode, &connector.master) {
        (Mode::Single, _) => match <[ConnectionAddr; 1]>::try_from(servers) {
            Ok([server]) => single(connector, server, certificates),
            Err(_) => return Err(wrong(".servers", "is one server; for several, `mode` is \"cluster\" or \"sentinel\"")),
        },
        (Mode::Cluster, _) => cluster(connector, servers, certificates),
        (Mode::Sentinel, Some(master)) => sentinel(connector, servers, master, certificates),
        (Mode::Sentinel, None) => return Err(wrong(".master", "missing; it is the name of the master that the sentinels watch")),
    };
    made.map_err(|error| wrong("", &error.to_string()))
}

fn certificates(pem: Pem) -> TlsCertificates {
    let client_tls = pem.identity.map(|identity| ClientTlsConfig { client_cert: identity.cert, client_key: identity.key });
    TlsCertificates { client_tls, root_cert: pem.ca }
}

/// The address of `host:port`, `host`, `[IPv6]:port` or `[IPv6]`.
fn address(server: &str, default_port: u16, tls: bool) -> Option<ConnectionAddr> {
    let (host, port) = match server.rsplit_once(':') {
        Some((host, port)) if !port.ends_with(']') => (host, port.parse().ok()?),
        _ => (server, default_port),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
    if host.is_empty() {
        return None;
    }
    Some(if tls { ConnectionAddr::TcpTls { host, port, insecure: false, tls_params: None } } else { ConnectionAddr::Tcp(host, port) })
}

fn single(connector: &Connector, server: ConnectionAddr, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    let mut login = RedisConnectionInfo::default().set_db(connector.database.into()).set_lib_name("hookline", env!("CARGO_PKG_VERSION"));
    if let Some(username) = &connector.username {
        login = login.set_username(username);
    }
    if let Some(password) = &connector.password {
        login = login.set_password(password);
    }
    let server = server.into_connection_info()?.set_redis_settings(login);
    let client = match certificates {
        Some(certificates) => redis::Client::build_with_tls(server, certificates)?,
        None => redis::Client::open(server)?,
    };
    Ok(Client::Single(Box::new(client)))
}

fn cluster(connector: &Connector, nodes: Vec<ConnectionAddr>, certificates: Option<TlsCertificates>) -> RedisResult<Client> {
    let mut builder =
        ClusterClientBuilder::new(nodes).connection_timeout(CONNECT_TIMEOUT).response_timeout(NODE_TIMEOUT).retries(REDIRECTS_MAX);
    if connector.database != 0 {
        builder = builder.database_id(connector.database.into());
    }
    if let Some(username) = &connector.username {
        builder = builder.username(username);
    }
    if let Some(password) = &connector.password {
        builder = builder.password(password);
    }
    if let Some(certificates) = certificates {
        builder = builder.certs(certificates);
    }
    Ok(Client::Cluster(Box::new(builder.build()?)))
}

fn sentinel(
    connector: &Connector,
    sentinels: Vec<ConnectionAddr>,
    master: &str,
    certificates: Option<TlsCertificates>,
) -> RedisResult<Client> {
    let mut builder = SentinelClientBuilder::new(sentinels, master, SentinelServerType::Master)?;
    builder = builder.set_client_to_redis_db(connector.database.into());
    if let Some(username) = &connector.username {
        builder = builder.set_client_to_redis_username(username);
    }
    if let Some(password) = &connector.password {
        builder = builder.set_client_to_redis_password(password);
    }
    if let Some(username) = &connector.sentinel_username {
        builder = builder.set_client_to_sentinel_username(username);
    }
    if let Some(password) = &connector.sentinel_password {
        builder = builder.set_client_to_sentinel_password(password);
    }
    if let Some(certificates) = certificates {
        builder = builder
            .set_client_to_redis_tls_mode(TlsMode::Secure)
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    Ok(Client::Sentinel(Box::new(builder.build()?)))
}

impl Client {
    /// Whether commands go to several nodes.
    pub(super) fn is_cluster(&self) -> bool {
        matches!(self, Client::Cluster(_))
    }

    /// A connection that answers.
    pub(super) async fn connect(&mut self) -> Result<Connection, Failure> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT_TIMEOUT)).set_response_timeout(None);
        let made = match self {
            Client::Single(client) => client.get_multiplexed_async_connection_with_config(&config).await.map(Connection::Node),
            Client::Sentinel(client) => client.get_async_connection_with_config(&config).await.map(Connection::Node),
            Client::Cluster(client) => client.get_async_connection().await.map(Connection::Cluster),
        };
        let mut connection = made.map_err(|error| unusable(&error))?;
        connection.ping().await?;
        Ok(connection)
    }
}

impl Connection {
    /// The replies to the commands of a pipeline; an error is a reply like others.
    pub(super) async fn query(&mut self, pipeline: &Pipeline) -> RedisResult<Vec<Value>> {
        match self {
            Connection::Node(connection) => pipeline.query_async(connection).await,
            Connection::Cluster(connection) => pipeline.query_async(connection).await,
        }
    }

    /// The reply to one command.
    pub(super) async fn ask(&mut self, command: &redis::Cmd) -> Result<Value, Failure> {
        let answered = match self {
            Connection::Node(connection) => command.query_async(connection).await,
            Connection::Cluster(connection) => command.query_async(connection).await,
        };
        answered.map_err(|error| classify(&error))
    }

    /// Asks whether the server, or every node of the cluster, is well.
    pub(super) async fn ping(&mut self) -> Result<(), Failure> {
        let ping = redis::cmd("PING");
        let answered = match self {
            Connection::Node(connection) => ping.exec_async(connection).await,
            Connection::Cluster(connection) => ping.exec_async(connection).await,
        };
        answered.map_err(|error| unusable(&error))
    }
}

fn unusable(error: &RedisError) -> Failure {
    Failure::Reconnect(explain(error))
}

fn explain(error: &RedisError) -> String {
    match error.code() {
        Some(code) => format!("redis: {code} {}", error.detail().unwrap_or_default()),
        None => format!("redis: {error}"),
    }
}

/// What an error means. What the server cannot do now, whatever the record is, is not the record's fault.
pub(super) fn classify(error: &RedisError) -> Failure {
    let text = explain(error);
    match error.code() {
        Some(
            // It starts, has no room, or waits for its cluster, its disk or its replicas.
            "LOADING" | "BUSY" | "OOM" | "MISCONF" | "NOREPLICAS" | "CLUSTERDOWN" | "TRYAGAIN" | "MOVED" | "ASK"
            // Somebody can still load the script, or give the right.
            | "NOSCRIPT" | "NOPERM",
        ) => Failure::Retry(text),
        // Another server is the master now, or this connection has lost its login.
        Some("READONLY" | "MASTERDOWN" | "NOAUTH" | "WRONGPASS") => Failure::Reconnect(text),
        // WRONGTYPE, ERR and whatever modules say.
        Some(_) => Failure::Reject(text),
        // Not a reply: the connection broke, or took too long.
        None => Failure::Reconnect(text),
    }
}

/// What became of records, by their sequence numbers: done, or refused for good.
pub(super) type Answers = Vec<(u64, Result<(), String>)>;

/// Judges the replies to MULTI, a command for each record, and EXEC. A record without an answer was not executed.
pub(super) fn judge(sequences: &[u64], mut replies: Vec<Value>) -> (Answers, Option<Failure>) {
    let executed = replies.pop();
    // Where there are no transactions (some proxies), MULTI is refused, and the commands were executed one by one.
    let alone = matches!(replies.first(), Some(Value::ServerError(_)));
    let (results, done) = match executed {
        Some(Value::Array(results)) => (results, true),
        // Discarded: what was refused when it was queued says why.
        _ => (replies.drain(..).skip(1).collect(), alone),
    };
    let mut answers = Answers::with_capacity(sequences.len());
    let mut failure = None;
    for (sequence, result) in sequences.iter().zip(results) {
        match result {
            Value::ServerError(error) => match classify(&error.into()) {
                Failure::Reject(problem) => answers.push((*sequence, Err(problem))),
                other => failure = Some(worse(failure, other)),
            },
            _ if done => answers.push((*sequence, Ok(()))),
            _ => {}
        }
    }
    if answers.is_empty() && failure.is_none() {
        failure = Some(Failure::Reconnect("redis: a transaction was not executed, and no command says why".into()));
    }
    (answers, failure)
}

/// The one of two failures that asks for more.
pub(super) fn worse(one: Option<Failure>, other: Failure) -> Failure {
    match (one, other) {
        (Some(one @ Failure::Reconnect(_)), _) | (Some(one @ Failure::Retry(_)), Failure::Reject(_)) => one,
        (_, other) => other,
    }
}
