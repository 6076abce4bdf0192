//! One test for each normative statement of MQTT 5.0 and 3.1.1 that can be seen from the network, named by its clause.
//! `statements.rs` lists them all, also those that cannot be seen, with why; `docs/conformance.md` is made from it.

/// A client that says exactly what it is told, and hears everything.
mod raw;
/// All statements, and the table that is made of them.
mod statements;
/// MQTT 3.1.1.
mod v311;
/// MQTT 5.0.
mod v5;
