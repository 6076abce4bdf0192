//! Connectors to outside systems. Queueing, batching, retries and dead letters are written once, in [`delivery`].

/// One sink made of several, for records of several kinds.
pub mod cases;
/// What every connector does: four verbs, and one judgement about errors.
pub mod connector;
/// From a durable queue to a sink: batches, attempts, dead letters.
pub mod delivery;
/// JSON documents with `${…}`: what the connectors share that write documents.
mod document;
/// From an outside system into the broker.
pub mod intake;
/// What a kind of connector is, and how its settings are read.
pub mod kind;
/// OAuth 2.0 tokens: what the connectors share that log in by them.
mod oauth2;
/// How far a sink has come that writes records one after the other.
mod progress;
/// The table of connectors.
pub mod registry;
/// SQL statements with `${…}`: what the SQL connectors share.
mod statement;
/// TLS towards a server.
mod tls;

/// Sessions between questions.
mod idle;

/// Files: JSON lines, Parquet.
mod file;
/// HTTP: webhooks.
mod http;
/// Apache Kafka.
mod kafka;
/// LDAP directories.
mod ldap;
/// MongoDB.
mod mongodb;
/// Other MQTT servers.
mod mqtt;
/// MySQL and MariaDB.
mod mysql;
/// PostgreSQL.
mod postgres;
/// Redis.
mod redis;
/// Embedded SQLite.
mod sqlite;

pub use cases::Cases;
pub use connector::{Failure, Sink};
pub use delivery::{ActionState, Activity, Delivery, DeliveryControl, DeliveryHandle, Special};
pub use intake::{Inlet, IntakeHandle, IntakeView, Message, Published, Source, Taken};
pub use kind::SettingsError;
pub use registry::REGISTRY;
