//! Paths and aliases: names, dots and indices.

use hookline_schemas::Value;

use super::Parser;
use crate::ast::{Expr, Step};
use crate::error::SqlError;
use crate::eval::NESTING_MAX;
use crate::lexer::Kind;

impl Parser<'_> {
    /// Where a field goes.
    pub(super) fn alias(&mut self) -> Result<Vec<Step>, SqlError> {
        let mut steps = vec![Step::Key(self.name()?)];
        let offset = self.offset();
        self.steps(&mut steps)?;
        if steps.iter().any(|step| matches!(step, Step::Range(..))) {
            return Err(SqlError::at(self.sql, offset, "an alias cannot have a range; an index, such as a[1], it can"));
        }
        Ok(steps)
    }

    /// What follows a name: `.name`, `[index]`, `[from..to]`.
    pub(super) fn steps(&mut self, steps: &mut Vec<Step>) -> Result<(), SqlError> {
        loop {
            if steps.len() > NESTING_MAX {
                return Err(self.error(format!("a path has at most {NESTING_MAX} steps")));
            }
            if self.take_symbol(".") {
                steps.push(Step::Key(self.name()?));
            } else if self.take_symbol("[") {
                steps.push(self.index()?);
            } else {
                return Ok(());
            }
        }
    }

    fn name(&mut self) -> Result<Box<str>, SqlError> {
        match self.next() {
            Kind::Word(name) | Kind::Single(name) | Kind::Double(name) => Ok(name.into()),
            other => Err(self.unexpected_before(&other, "a name")),
        }
    }

    /// What stands in square brackets behind a name.
    fn index(&mut self) -> Result<Step, SqlError> {
        let is_end = [self.peek(), self.peek_at(1), self.peek_at(2)] == [&Kind::Symbol("-"), &Kind::Int(0), &Kind::Symbol("]")];
        if is_end {
            self.at += 3;
            return Ok(Step::End);
        }
        let first = self.index_expr()?;
        let step = if self.take_symbol("..") { Step::Range(first, self.index_expr()?) } else { Step::Index(first) };
        self.expect_symbol("]")?;
        Ok(step)
    }

    fn index_expr(&mut self) -> Result<Expr, SqlError> {
        let offset = self.offset();
        match self.expr()? {
            Expr::Literal(value) if !matches!(value, Value::Int(_)) => {
                Err(SqlError::at(self.sql, offset, format!("an index is an integer, not {}", value.type_name())))
            }
            expr => Ok(expr),
        }
    }
}
