//! The tables that Hookline writes and reads, as DDL. The files are in `schemas/sql/`.

/// The audit table in SQLite.
pub const AUDIT_SQLITE: &str = include_str!("../sql/sqlite/audit.sql");
/// The audit table in MySQL and MariaDB.
pub const AUDIT_MYSQL: &str = include_str!("../sql/mysql/audit.sql");
/// The audit table in PostgreSQL.
pub const AUDIT_POSTGRES: &str = include_str!("../sql/postgres/audit.sql");
/// What is kept for clients, in PostgreSQL.
pub const PERSISTENCE_POSTGRES: &str = include_str!("../sql/postgres/persistence.sql");
/// What is kept for clients, in MySQL and MariaDB.
pub const PERSISTENCE_MYSQL: &str = include_str!("../sql/mysql/persistence.sql");
