//! Rule SQL: text → tokens → tree → plan → rows. No network, no store: rows go out as records of the commit.

/// The tree of a statement.
mod ast;
/// What a plan is evaluated against.
mod context;
/// All rules, as the broker's hook.
mod engine;
/// Where in a statement something is wrong, and what.
pub mod error;
/// A plan and an event to a row.
mod eval;
/// The built-in functions, one table.
pub mod function;
/// Text to tokens.
mod lexer;
/// What operators do to values.
mod operator;
/// Tokens to the tree.
mod parser;
/// The tree, checked and resolved, ready to be evaluated.
mod plan;

pub use engine::{Engine, EngineError, RuleStats, Targets};
pub use error::SqlError;
pub use plan::Statement;
