//! PostgreSQL: each record fills the placeholders of a statement, which become typed parameters. Several records go in one
//! INSERT, or by COPY, a batch in one transaction. Without a statement of its own an action writes the audit table.

mod client;
mod config;
mod copy;
mod lookup;
mod request;
mod sink;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "postgres",
    sink: Some(|connector, parameters, _| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        Ok(Box::new(sink::PostgresSink::new(connector, parameters)?))
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
