//! The table of connectors: one line for each kind.

use crate::kind::Kind;
use crate::{file, http, kafka, ldap, mongodb, mqtt, mysql, postgres, redis, sqlite};

/// All kinds.
pub const REGISTRY: &[Kind] =
    &[file::KIND, http::KIND, kafka::KIND, ldap::KIND, mongodb::KIND, mqtt::KIND, mysql::KIND, postgres::KIND, redis::KIND, sqlite::KIND];

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static Kind> {
    REGISTRY.iter().find(|kind| kind.name == name)
}
