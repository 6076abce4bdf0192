//! Settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::http::request::base;
use crate::kind::{CONNECTOR, PARAMETERS, SettingsError};
use crate::oauth2::OAuth2;
use crate::tls::{Pem, Tls};

/// A Kafka cluster.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// Brokers to begin with, as `host:port,host:port`.
    pub(crate) bootstrap_hosts: String,
    /// The login (SASL).
    pub(crate) authentication: Option<Authentication>,
    /// TLS towards the brokers. Without `ca` the authorities of the operating system are believed.
    pub(crate) tls: Option<Tls>,
    /// Further settings of the client library (librdkafka), by its own names, such as `security.protocol`.
    #[serde(default)]
    pub(crate) properties: BTreeMap<String, String>,
}

impl Connector {
    /// What the client library is to know about login and TLS.
    pub(crate) fn security(&self) -> Result<Vec<(&'static str, String)>, Vec<SettingsError>> {
        let mut settings = Vec::new();
        let protocol = match (&self.authentication, &self.tls) {
            (None, None) => return Ok(settings),
            (None, Some(_)) => "ssl",
            (Some(_), None) => "sasl_plaintext",
            (Some(_), Some(_)) => "sasl_ssl",
        };
        settings.push(("security.protocol", protocol.to_owned()));
        if let Some(login) = &self.authentication {
            settings.push(("sasl.mechanism", login.mechanism().to_owned()));
            match login {
                Authentication::Plain(own) | Authentication::ScramSha256(own) | Authentication::ScramSha512(own) => {
                    settings.push(("sasl.username", own.username.clone()));
                    settings.push(("sasl.password", own.password.clone()));
                }
                Authentication::Oauthbearer(own) => drop(
                    base(&own.token_url)
                        .map_err(|problem| vec![SettingsError { path: format!("{CONNECTOR}.authentication.token_url"), problem }])?,
                ),
            }
        }
        if let Some(tls) = &self.tls {
            let Pem { ca, identity } = tls.read()?;
            let text = |pem: Vec<u8>| String::from_utf8_lossy(&pem).into_owned();
            settings.extend(ca.map(|ca| ("ssl.ca.pem", text(ca))));
            if let Some(identity) = identity {
                settings.push(("ssl.certificate.pem", text(identity.cert)));
                settings.push(("ssl.key.pem", text(identity.key)));
            }
        }
        Ok(settings)
    }
}

/// A login, by SASL mechanism.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(tag = "mechanism", rename_all = "snake_case", deny_unknown_fields)]
pub(crate) enum Authentication {
    /// The password as it is: use it over TLS only.
    Plain(Password),
    #[serde(rename = "scram_sha_256")]
    ScramSha256(Password),
    #[serde(rename = "scram_sha_512")]
    ScramSha512(Password),
    /// A token by OAuth 2.0, client credentials: use it over TLS only. It is renewed before it ends. The certificate of the token endpoint may come
    /// from the authorities of the operating system, and from those in `tls.ca`.
    Oauthbearer(OAuth2),
}

/// A name and a password.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Password {
    pub(crate) username: String,
    pub(crate) password: String,
}

impl Authentication {
    fn mechanism(&self) -> &'static str {
        match self {
            Authentication::Plain(_) => "PLAIN",
            Authentication::ScramSha256(_) => "SCRAM-SHA-256",
            Authentication::ScramSha512(_) => "SCRAM-SHA-512",
            Authentication::Oauthbearer(_) => "OAUTHBEARER",
        }
    }
}

/// What is written.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Parameters {
    /// Template of the topic.
    pub(crate) topic: String,
    /// Template of the key, which decides on the partition: records of one key keep their order.
    #[serde(default = "client_id")]
    pub(crate) key: String,
    /// Template of the value; `${.}` is the row as JSON.
    #[serde(default = "whole_row")]
    pub(crate) value: String,
    /// Templates of headers, by name.
    #[serde(default)]
    pub(crate) headers: BTreeMap<String, String>,
    /// A placeholder of a map each of whose entries becomes a header, such as `${pub_props.User-Property}`: the user properties of a message, the
    /// context of a trace among them.
    pub(crate) headers_from: Option<String>,
    /// Template of the partition's number, in place of what the key decides.
    pub(crate) partition: Option<String>,
    /// Template of the message's time, milliseconds since the Unix epoch. Where it is missing or no number: the time of delivery.
    #[serde(default = "timestamp")]
    pub(crate) timestamp: String,
    /// How batches are compressed.
    #[serde(default)]
    pub(crate) compression: Compression,
    /// Which replicas must have a record before it counts as delivered.
    #[serde(default)]
    pub(crate) acks: Acks,
    /// Exactly once: batches are transactions under this name, and each also keeps how far it has come. It must be this action's alone, in the whole
    /// cluster; the action has one worker, `acks` is `all`, and the topic a constant. Consumers see every record once with `isolation.level = read_committed`.
    pub(crate) transactional_id: Option<String>,
    /// Milliseconds that the client waits for more records before it sends.
    #[serde(default = "linger_ms")]
    pub(crate) linger_ms: u32,
    /// Bytes of a request to one partition at the most.
    #[serde(default = "batch_bytes_max")]
    pub(crate) batch_bytes_max: u32,
}

impl Parameters {
    /// What does not go together.
    pub(crate) fn check(&self) -> Result<(), Vec<SettingsError>> {
        let wrong =
            |path: &str, problem: &str| Err(vec![SettingsError { path: format!("{PARAMETERS}.{path}"), problem: problem.to_owned() }]);
        match &self.transactional_id {
            Some(id) if id.is_empty() => wrong("transactional_id", "must not be empty"),
            Some(_) if self.acks != Acks::All => wrong("acks", "must be \"all\" with a transactional_id"),
            Some(_) if self.topic.contains("${") => {
                wrong("topic", "must be a constant with a transactional_id: how far it has come is kept with the topic")
            }
            _ => Ok(()),
        }
    }
}

/// Which replicas must have a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Acks {
    /// All that are in sync: nothing is lost with a broker, and nothing that is sent again is there twice.
    #[default]
    All,
    /// The leader: what it has not yet copied is lost with it.
    Leader,
}

/// How batches are compressed.
#[derive(Debug, Clone, Copy, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Compression {
    #[default]
    None,
    Gzip,
    Lz4,
    Zstd,
}

impl Compression {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Compression::None => "none",
            Compression::Gzip => "gzip",
            Compression::Lz4 => "lz4",
            Compression::Zstd => "zstd",
        }
    }
}

fn timestamp() -> String {
    "${timestamp}".into()
}

fn linger_ms() -> u32 {
    5
}

fn batch_bytes_max() -> u32 {
    1_000_000
}

fn client_id() -> String {
    "${clientid}".into()
}

fn whole_row() -> String {
    "${.}".into()
}
