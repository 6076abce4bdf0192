//! A statement with a window, compiled: what is evaluated for each event, and what when a window closes.

use hookline_schemas::{Map, Value};

use super::{AggregateKind, WindowKind};
use crate::ast::{Aggregate, Expr, Field, Step, WindowClause};
use crate::context::PathSet;
use crate::error::SqlError;
use crate::plan::{Names, aliases, fold, payload_keys};

/// Columns that every row of a window has.
pub(super) const COLUMNS: [&str; 2] = ["window_start", "window_end"];

/// What a statement does with its window.
#[derive(Debug, Clone)]
pub struct WindowPlan {
    /// The text: the state of a window belongs to one statement.
    pub(super) statement: String,
    pub(super) kind: WindowKind,
    pub(super) condition: Option<Expr>,
    pub(super) groups: Vec<Expr>,
    pub(super) aggregates: Vec<Aggregate>,
    /// For the event's expressions.
    pub(super) names: Names,
    /// Over the values of the groups, then of the aggregates.
    pub(super) fields: Vec<Field>,
    pub(super) field_names: Names,
}

impl WindowPlan {
    pub(crate) fn new(sql: &str, fields: Vec<Field>, condition: Option<Expr>, clause: WindowClause) -> Result<WindowPlan, SqlError> {
        let groups: Vec<Expr> = clause.groups.into_iter().map(fold).collect();
        let mut aggregates = Vec::new();
        let mut resolved = Vec::new();
        for field in fields {
            let Field::Expr { expr, alias, offset } = field else {
                return Err(SqlError { problem: "a window has no \"*\": name groups and aggregates".to_owned(), column: 1 });
            };
            let known = aliases(&resolved);
            let expr = resolve(expr, &groups, &mut aggregates, &known).map_err(|problem| SqlError::at(sql, offset, problem))?;
            resolved.push(Field::Expr { expr, alias, offset });
        }
        let arguments = aggregates.iter().filter_map(|aggregate| aggregate.argument.as_ref());
        let exprs: Vec<&Expr> = groups.iter().chain(&condition).chain(arguments).collect();
        let names = Names::new(Vec::new(), payload_keys(&exprs));
        let field_names = Names::new(aliases(&resolved), PathSet::All);
        Ok(WindowPlan { statement: sql.to_owned(), kind: clause.kind, condition, groups, aggregates, names, fields: resolved, field_names })
    }

    pub(crate) fn set_rule(&mut self, rule: &str) {
        self.names.set_rule(rule);
        self.field_names.set_rule(rule);
    }

    /// How events are put together.
    pub fn kind(&self) -> WindowKind {
        self.kind
    }
}

/// The expression over the window's values: groups and aggregates become slots.
fn resolve(expr: Expr, groups: &[Expr], aggregates: &mut Vec<Aggregate>, aliases: &[Box<str>]) -> Result<Expr, String> {
    if let Some(group) = groups.iter().position(|group| *group == expr) {
        return Ok(Expr::Slot(group));
    }
    match expr {
        Expr::Aggregate(aggregate) => Ok(Expr::Slot(groups.len() + slot(*aggregate, aggregates))),
        // With a window, first and last are aggregates; without, functions of arrays.
        Expr::Call(function, mut arguments) if ["first", "last"].contains(&function.name) => {
            let kind = if function.name == "first" { AggregateKind::First } else { AggregateKind::Last };
            let aggregate = Aggregate { kind, argument: arguments.pop(), fraction: 0.0 };
            Ok(Expr::Slot(groups.len() + slot(aggregate, aggregates)))
        }
        Expr::Path(steps) => match steps.first() {
            Some(Step::Key(name)) if name_is_known(name) || aliases.contains(name) => Ok(Expr::Path(steps)),
            Some(Step::Key(name)) => {
                Err(format!("\"{name}\" varies within the window: put it into GROUP BY or into an aggregate, such as last({name})"))
            }
            _ => Err("a path begins with a name".to_owned()),
        },
        other => other.try_map(&mut |part| resolve(part, groups, aggregates, aliases)),
    }
}

/// Whether it is a column of every window, or the rule's.
fn name_is_known(name: &str) -> bool {
    COLUMNS.contains(&name) || name == "metadata"
}

/// The place of an aggregate; one that is there already is computed once.
fn slot(aggregate: Aggregate, aggregates: &mut Vec<Aggregate>) -> usize {
    aggregates.iter().position(|known| *known == aggregate).unwrap_or_else(|| {
        aggregates.push(aggregate);
        aggregates.len() - 1
    })
}

/// The columns of a window's row.
pub(super) fn columns(start_ms: u64, end_ms: u64) -> Value {
    let mut row = Map::new();
    row.push_new(COLUMNS[0], Value::unsigned(start_ms));
    row.push_new(COLUMNS[1], Value::unsigned(end_ms));
    Value::Map(row)
}
