//! SQLite, embedded: for those without a database server. A batch is one transaction, synced before it counts as
//! delivered. Without a statement of its own an action writes the audit table.

mod client;
mod config;
mod request;
mod sink;

#[cfg(test)]
mod tests;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "sqlite",
    sink: Some(|connector, parameters, data_dir| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        Ok(Box::new(sink::SqliteSink::new(data_dir.join(connector.path), parameters)?))
    }),
    source: None,
    lookup: None,
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: Some(|| schemars::schema_for!(config::Parameters)),
    source_schema: None,
    question_schema: None,
};
