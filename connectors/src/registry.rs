//! The table of connectors: one line for each kind.

use crate::kind::Kind;
use crate::{kafka, postgres, sqlite};

/// All kinds.
pub const REGISTRY: &[Kind] = &[kafka::KIND, postgres::KIND, sqlite::KIND];

/// The kind of that name.
pub fn find(name: &str) -> Option<&'static Kind> {
    REGISTRY.iter().find(|kind| kind.name == name)
}
