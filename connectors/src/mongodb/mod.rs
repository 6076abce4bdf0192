//! MongoDB: each record becomes a document of a collection, or changes one; types are kept, dates are dates. A document has
//! the record's `hookline_id` as its `_id` where the template gives it none, so a record that is written twice is there once.
//!
//! A batch is one ordered command for each run of records of one collection. What came before an error is done; only a
//! record that was sent alone is judged. Replica sets, logins (SCRAM and others) and TLS are parts of the URL.

mod client;
mod config;
mod lookup;
mod request;
mod sink;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "mongodb",
    sink: Some(|connector, parameters, _| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        Ok(Box::new(sink::MongoSink::new(&connector, &parameters)?))
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
