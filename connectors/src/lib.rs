//! Connectors to outside systems. Queueing, batching, retries and dead letters are written once, in [`delivery`].

/// What every connector does: four verbs, and one judgement about errors.
pub mod connector;
/// From a durable queue to a sink: batches, attempts, dead letters.
pub mod delivery;
/// What a kind of connector is, and how its settings are read.
pub mod kind;
/// The table of connectors.
pub mod registry;
/// SQL statements with `${…}`: what both SQL connectors share.
mod statement;

/// Apache Kafka.
mod kafka;
/// PostgreSQL.
mod postgres;
/// Embedded SQLite.
mod sqlite;

pub use connector::{Failure, Sink};
pub use delivery::{ActionState, Delivery, DeliveryHandle, Special};
pub use kind::SettingsError;
pub use registry::REGISTRY;
