//! Files of JSON lines, or Parquet: for those without a database. A batch is synced before it counts as delivered; files are changed by size and age.
//!
//! A line begins with the record's `hookline_id`, which rises. The last line tells how far the file has come, so that nothing is written twice, and
//! a line that a crash has cut is written anew.
//!
//! Parquet files are made of such lines: a file is written at once, under another name, synced, and then gets its own.

mod config;
mod parquet;
mod sink;
mod writer;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "file",
    sink: Some(|connector, parameters, data_dir| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        Ok(Box::new(sink::FileSink::new(data_dir.join(connector.folder), &parameters)?))
    }),
    source: None,
    lookup: None,
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: Some(|| schemars::schema_for!(config::Parameters)),
    source_schema: None,
    question_schema: None,
};
