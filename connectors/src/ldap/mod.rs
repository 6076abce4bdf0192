//! LDAP: directories that know users, their passwords, their groups. Active Directory among them.
//!
//! Several servers are tried in their order. Logins of entries have sessions of their own, so that a search is never done by the rights
//! of a client.

mod client;
mod config;
mod lookup;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "ldap",
    sink: None,
    source: None,
    lookup: Some(|connector, parameters, _| {
        let (connector, question) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Question>(parameters))?;
        lookup::open(&connector, &question)
    }),
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: None,
    source_schema: None,
    question_schema: Some(|| schemars::schema_for!(config::Question)),
};
