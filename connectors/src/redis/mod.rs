//! Redis, alone, with sentinels or as a cluster: each record becomes one command, whose arguments are templates, or an entry of
//! a stream, which carries the record's `hookline_id`.
//!
//! A batch is one pipeline and one transaction (MULTI … EXEC); in a cluster it is one for each hash slot, and order is kept
//! within a slot. What Redis cannot do now is tried again as a whole, for nothing of it has happened. What it refuses for good
//! is judged command by command, and the others are not executed a second time.

mod client;
mod config;
mod lookup;
mod request;
mod sink;

#[cfg(test)]
mod tests;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "redis",
    sink: Some(|connector, parameters, _| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        Ok(Box::new(sink::RedisSink::new(client::open(&connector)?, request::Request::new(&parameters)?)))
    }),
    source: None,
    lookup: Some(|connector, parameters, _| {
        let (connector, question) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<lookup::Question>(parameters))?;
        lookup::open(&connector, &question)
    }),
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: Some(|| schemars::schema_for!(config::Parameters)),
    source_schema: None,
    question_schema: Some(|| schemars::schema_for!(lookup::Question)),
};
