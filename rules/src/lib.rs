//! Rule SQL: text → tokens → tree → plan → rows. No network, no store: rows go out as records of the commit.

/// The tree of a statement.
mod ast;
/// What a plan is evaluated against.
mod context;
/// All rules, as the broker's hook.
mod engine;
/// Where in a statement something is wrong, and what.
pub mod error;
/// A plan and an event to rows.
mod eval;
/// The built-in functions, one table.
pub mod function;
/// What happens to messages before rules hear of them.
mod ingress;
/// JSON to values.
mod json;
/// Text to tokens.
mod lexer;
/// What operators do to values.
mod operator;
/// Tokens to the tree.
mod parser;
/// The tree, checked and resolved, ready to be evaluated.
mod plan;
/// Named schemas of payloads.
pub mod schema;
/// Statements that are tried.
pub mod trial;
/// Aggregates over time.
pub mod window;

pub use engine::{Engine, EngineError, Failure, RuleStats, Targets};
pub use error::{EvalError, SqlError};
pub use eval::Rows;
pub use ingress::{Ingress, IngressError, StepKind, StepStats};
pub use plan::Statement;
