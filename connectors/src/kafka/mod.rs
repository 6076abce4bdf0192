//! Kafka: each record becomes one message with key, value and headers from templates. The header `hookline_id` is always
//! there; a consumer that drops what it has seen gets every record exactly once.
//!
//! With `transactional_id` Kafka itself has every record exactly once.
//!
//! The producer is idempotent and tries for ever, so order is kept across an outage. Keys are spread over the partitions
//! as Kafka's own producers do it.

mod client;
mod config;
mod confirmations;
mod login;
mod request;
mod sink;
mod source;
mod transaction;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "kafka",
    sink: Some(|connector, parameters, _| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        parameters.check()?;
        let (cluster, request) = kind::both_valid(client::Cluster::new(connector), request::Request::new(&parameters))?;
        Ok(Box::new(sink::KafkaSink::new(cluster, request, parameters)))
    }),
    source: Some(|connector, parameters, _| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<source::Intake>(parameters))?;
        Ok(Box::new(source::KafkaSource::new(connector, parameters)?))
    }),
    lookup: None,
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: Some(|| schemars::schema_for!(config::Parameters)),
    source_schema: Some(|| schemars::schema_for!(source::Intake)),
    question_schema: None,
};
