//! HTTP: each record becomes a request, or each batch one with a JSON array. `Idempotency-Key` is always there; a server that
//! keeps the keys it has seen takes nothing twice. The body can be signed (HMAC-SHA256).
//!
//! One request at a time, so order is kept. 2xx confirms; what may be over soon is tried again, after the time that the
//! server asks for; what the server says of the record itself makes it a dead letter.

pub(crate) mod client;
mod config;
mod lookup;
pub(crate) mod request;
mod sink;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "http",
    sink: Some(|connector, parameters, data_dir| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        Ok(Box::new(sink::HttpSink::new(connector, &parameters, data_dir)?))
    }),
    source: None,
    lookup: Some(|connector, parameters, data_dir| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        lookup::open(connector, parameters, data_dir)
    }),
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: Some(|| schemars::schema_for!(config::Parameters)),
    source_schema: None,
    question_schema: Some(|| schemars::schema_for!(config::Parameters)),
};
