//! A statement that was checked and is ready to run: constants folded, the order of SELECT and WHERE decided.

use hookline_schemas::HookPoint;

use crate::ast::{Expr, Field, Select, Step};
use crate::error::SqlError;
use crate::operator::Binary;
use crate::{eval, parser};

/// A statement, compiled.
#[derive(Debug, Clone)]
pub struct Statement {
    pub(crate) fields: Vec<Field>,
    pub(crate) condition: Option<Expr>,
    /// WHERE names something that SELECT defines, so SELECT comes first.
    pub(crate) condition_needs_fields: bool,
    pub(crate) filters: Vec<String>,
    pub(crate) points: Vec<HookPoint>,
}

impl Statement {
    /// Compiles a statement.
    ///
    /// # Errors
    /// What is wrong with it, and at which column.
    pub fn compile(sql: &str) -> Result<Statement, SqlError> {
        let Select { fields, from, condition } = parser::parse(sql)?;
        let mut filters = Vec::new();
        let mut points = Vec::new();
        for source in from {
            if source.name.starts_with("$events/") {
                let found = HookPoint::select(&source.name);
                if found.is_empty() {
                    let problem = format!("there is no event \"{}\"", source.name);
                    return Err(SqlError::at(sql, source.offset, problem));
                }
                points.extend(found);
            } else if hookline_mqtt::topic::filter_is_valid(&source.name, usize::MAX) {
                filters.push(source.name);
            } else {
                let problem =
                    format!("\"{}\" is no topic filter: \"#\" must be last, and wildcards must stand alone in their level", source.name);
                return Err(SqlError::at(sql, source.offset, problem));
            }
        }
        let fields: Vec<Field> = fields.into_iter().map(fold_field).collect();
        let condition = condition.map(fold);
        let condition_needs_fields = condition.as_ref().is_some_and(|condition| names_alias(condition, &fields));
        points.sort_unstable();
        points.dedup();
        Ok(Statement { fields, condition, condition_needs_fields, filters, points })
    }

    /// Whether a message with this topic is for it.
    pub fn selects_topic(&self, topic: &str) -> bool {
        self.filters.iter().any(|filter| hookline_mqtt::topic::matches(filter, topic))
    }
}

fn fold_field(field: Field) -> Field {
    match field {
        Field::All => Field::All,
        Field::Expr { expr, alias } => Field::Expr { expr: fold(expr), alias },
    }
}

/// Computes what does not depend on the event. What fails is left for the evaluation to report.
fn fold(expr: Expr) -> Expr {
    let boxed = |expr: Box<Expr>| Box::new(fold(*expr));
    let folded = match expr {
        Expr::List(items) => Expr::List(items.into_iter().map(fold).collect()),
        Expr::Range(first, last) => Expr::Range(boxed(first), boxed(last)),
        Expr::Negate(expr) => Expr::Negate(boxed(expr)),
        Expr::Not(expr) => Expr::Not(boxed(expr)),
        Expr::Binary(operator, left, right) => Expr::Binary(operator, boxed(left), boxed(right)),
        Expr::In { needle, list, negated } => Expr::In { needle: boxed(needle), list: list.into_iter().map(fold).collect(), negated },
        Expr::Call(function, arguments) => Expr::Call(function, arguments.into_iter().map(fold).collect()),
        Expr::Case { subject, branches, otherwise } => Expr::Case {
            subject: subject.map(boxed),
            branches: branches.into_iter().map(|(when, then)| (fold(when), fold(then))).collect(),
            otherwise: otherwise.map(boxed),
        },
        literal_or_path => literal_or_path,
    };
    let is_constant = match &folded {
        Expr::Negate(expr) => matches!(**expr, Expr::Literal(_)),
        // Comparisons are conditions, and stay what they are.
        Expr::Binary(Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Div | Binary::Mod, left, right) => {
            matches!((&**left, &**right), (Expr::Literal(_), Expr::Literal(_)))
        }
        Expr::Call(function, arguments) => function.pure && arguments.iter().all(|argument| matches!(argument, Expr::Literal(_))),
        _ => false,
    };
    match if is_constant { eval::constant(&folded) } else { None } {
        Some(value) => Expr::Literal(value),
        None => folded,
    }
}

/// Whether a path of the expression begins with a name that a field defines.
fn names_alias(expr: &Expr, fields: &[Field]) -> bool {
    fn any<'a>(mut exprs: impl Iterator<Item = &'a Expr>, fields: &[Field]) -> bool {
        exprs.any(|expr| names_alias(expr, fields))
    }
    match expr {
        Expr::Literal(_) => false,
        Expr::Path(steps) => {
            let Some(Step::Key(first)) = steps.first() else { return false };
            fields.iter().any(|field| match field {
                Field::All => false,
                // A path that keeps its own name means the same before and after.
                Field::Expr { expr: Expr::Path(own), alias } => alias.first() == Some(first) && own.first() != steps.first(),
                Field::Expr { alias, .. } => alias.first() == Some(first),
            })
        }
        Expr::List(items) | Expr::Call(_, items) => any(items.iter(), fields),
        Expr::Range(a, b) | Expr::Binary(_, a, b) => any([&**a, &**b].into_iter(), fields),
        Expr::Negate(expr) | Expr::Not(expr) => names_alias(expr, fields),
        Expr::In { needle, list, .. } => any(std::iter::once(&**needle).chain(list), fields),
        Expr::Case { subject, branches, otherwise } => {
            let parts = branches.iter().flat_map(|(when, then)| [when, then]);
            any(parts.chain(subject.as_deref()).chain(otherwise.as_deref()), fields)
        }
    }
}
