//! Rule SQL: text → tokens → tree → plan → rows. No network, no store: rows go out as records of the commit.

/// Where in a statement something is wrong, and what.
pub mod error;
/// Text to tokens.
mod lexer;
/// The tree of a statement.
mod ast;
/// Tokens to the tree.
mod parser;
/// The tree, checked and resolved, ready to be evaluated.
mod plan;
/// What a plan is evaluated against.
mod context;
/// A plan and an event to a row.
mod eval;
/// What operators do to values.
mod operator;
/// The built-in functions, one table.
pub mod function;
/// All rules, as the broker's hook.
mod engine;

pub use engine::{Engine, EngineError, RuleStats, Targets};
pub use error::SqlError;
pub use plan::Statement;
