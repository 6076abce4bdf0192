//! A plan and an event to a row. WHERE comes first where that means the same, so that what it filters out costs little.

use hookline_schemas::{Map, Value};

use crate::ast::{Expr, Field, Step};
use crate::context::{Context, parse_json};
use crate::error::EvalError;
use crate::operator;
use crate::operator::Binary;
use crate::plan::Statement;

/// The most elements that a range may have.
const RANGE_MAX: i64 = 100_000;

impl Statement {
    /// Runs the statement against the columns of an event given as a row: to try it. `None`: WHERE does not hold.
    pub fn try_on(&self, columns: &Value) -> Result<Option<Value>, EvalError> {
        self.run(&Context::of_row(columns))
    }

    /// The row that the event gives; `None`: WHERE does not hold.
    pub(crate) fn run(&self, context: &Context<'_>) -> Result<Option<Value>, EvalError> {
        let mut scope = Scope { context, selected: Value::Map(Map::new()) };
        if !self.condition_needs_fields && !self.holds(&scope)? {
            return Ok(None);
        }
        for field in &self.fields {
            match field {
                Field::All => scope.select_all(),
                Field::Expr { expr, alias } => {
                    let value = scope.value(expr)?;
                    set_path(&mut scope.selected, alias, value);
                }
            }
        }
        if self.condition_needs_fields && !self.holds(&scope)? {
            return Ok(None);
        }
        Ok(Some(scope.selected))
    }

    fn holds(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        self.condition.as_ref().map_or(Ok(true), |condition| scope.condition(condition))
    }
}

/// The value of an expression that needs no event.
pub(crate) fn constant(expr: &Expr) -> Option<Value> {
    let nothing = Value::Undefined;
    let scope = Scope { context: &Context::of_row(&nothing), selected: Value::Undefined };
    scope.value(expr).ok()
}

/// Columns, and the fields that were selected before.
struct Scope<'a> {
    context: &'a Context<'a>,
    selected: Value,
}

impl Scope<'_> {
    fn select_all(&mut self) {
        let (Value::Map(row), Value::Map(selected)) = (self.context.row(), &mut self.selected) else { return };
        for (name, value) in row.iter() {
            // What was selected before keeps its value.
            if selected.get(name).is_none() {
                selected.push_new(name, value.clone());
            }
        }
    }

    fn condition(&self, expr: &Expr) -> Result<bool, EvalError> {
        match expr {
            Expr::Binary(Binary::Or, left, right) => Ok(self.condition(left)? || self.condition(right)?),
            Expr::Binary(Binary::And, left, right) => Ok(self.condition(left)? && self.condition(right)?),
            _ => Ok(self.value(expr)? == Value::Bool(true)),
        }
    }

    fn value(&self, expr: &Expr) -> Result<Value, EvalError> {
        Ok(match expr {
            Expr::Literal(value) => value.clone(),
            Expr::Path(steps) => self.path(steps)?,
            Expr::List(items) => Value::Array(self.values(items)?),
            Expr::Range(first, last) => range(&self.value(first)?, &self.value(last)?)?,
            Expr::Negate(expr) => operator::arithmetic(Binary::Subtract, &Value::Int(0), &self.value(expr)?)?,
            Expr::Not(expr) => Value::Bool(self.value(expr)? == Value::Bool(false)),
            Expr::Binary(Binary::Or | Binary::And, ..) => Value::Bool(self.condition(expr)?),
            Expr::Binary(
                operator @ (Binary::Add | Binary::Subtract | Binary::Multiply | Binary::Divide | Binary::Div | Binary::Mod),
                left,
                right,
            ) => operator::arithmetic(*operator, &self.value(left)?, &self.value(right)?)?,
            Expr::Binary(operator, left, right) => Value::Bool(operator::compare(*operator, &self.value(left)?, &self.value(right)?)?),
            Expr::In { needle, list, negated } => {
                let needle = self.value(needle)?;
                let found =
                    list.iter().try_fold(false, |found, item| Ok::<_, EvalError>(found || operator::same(&needle, &self.value(item)?)))?;
                Value::Bool(found != *negated)
            }
            Expr::Call(function, arguments) => {
                let arguments = self.values(arguments)?;
                (function.call)(&arguments).map_err(|problem| EvalError::new(format!("{}: {}", function.name, problem.0)))?
            }
            Expr::Case { subject, branches, otherwise } => self.case(subject.as_deref(), branches, otherwise.as_deref())?,
        })
    }

    fn values(&self, exprs: &[Expr]) -> Result<Vec<Value>, EvalError> {
        exprs.iter().map(|expr| self.value(expr)).collect()
    }

    fn case(&self, subject: Option<&Expr>, branches: &[(Expr, Expr)], otherwise: Option<&Expr>) -> Result<Value, EvalError> {
        let subject = subject.map(|subject| self.value(subject)).transpose()?;
        for (when, then) in branches {
            let taken = match &subject {
                Some(subject) => operator::same(subject, &self.value(when)?),
                None => self.condition(when)?,
            };
            if taken {
                return self.value(then);
            }
        }
        otherwise.map_or(Ok(Value::Undefined), |otherwise| self.value(otherwise))
    }

    /// The value at a path: an earlier field of that name first, then a column; the payload and other texts are walked as JSON.
    fn path(&self, steps: &[Step]) -> Result<Value, EvalError> {
        let Some((Step::Key(first), rest)) = steps.split_first() else { return Ok(Value::Undefined) };
        let selected = match &self.selected {
            Value::Map(selected) => selected.get(first),
            _ => None,
        };
        // `SELECT payload.a, payload.b`: the first field has made a map of that name, which does not hide the column.
        if let Some(value) = selected.filter(|value| rest.is_empty() || matches!(value, Value::Map(_) | Value::Array(_))) {
            let found = self.walk(value, rest)?;
            if found != Value::Undefined {
                return Ok(found);
            }
        }
        match selected {
            _ if rest.is_empty() => Ok(self.context.column(first)),
            _ if &**first == "payload" => self.walk(self.context.payload()?, rest),
            Some(value @ (Value::Text(_) | Value::Bytes(_))) => self.walk(value, rest),
            _ => self.walk(&self.context.column(first), rest),
        }
    }

    fn walk(&self, value: &Value, steps: &[Step]) -> Result<Value, EvalError> {
        let Some((step, rest)) = steps.split_first() else { return Ok(value.clone()) };
        if value.as_bytes().is_some() {
            let document = parse_json(value).ok_or_else(|| EvalError::new("a path leads into a string that is not JSON"))?;
            return self.walk(&document, steps);
        }
        match (step, value) {
            (Step::Key(key), Value::Map(map)) => map.get(key).map_or(Ok(Value::Undefined), |value| self.walk(value, rest)),
            (Step::Index(index), Value::Array(items)) => {
                let index = self.index(index)?;
                place(index, items.len()).map_or(Ok(Value::Undefined), |place| self.walk(&items[place], rest))
            }
            (Step::Range(first, last), Value::Array(items)) => {
                let (first, last) = (self.index(first)?, self.index(last)?);
                if first == 0 || last == 0 {
                    return Err(EvalError::new("a range begins at 1; 0 is no index"));
                }
                let bounds = place(first, items.len()).zip(place(last, items.len())).filter(|(first, last)| first <= last);
                let part = bounds.map_or(Vec::new(), |(first, last)| items[first..=last].to_vec());
                self.walk(&Value::Array(part), rest)
            }
            (Step::Range(..), other) => Err(EvalError::new(format!("a range needs an array, not {}", other.type_name()))),
            _ => Ok(Value::Undefined),
        }
    }

    fn index(&self, expr: &Expr) -> Result<i64, EvalError> {
        match self.value(expr)? {
            Value::Int(index) => Ok(index),
            other => Err(EvalError::new(format!("an index is an integer, not {}", other.type_name()))),
        }
    }
}

/// The place of a 1-based index; negative ones count from the end.
fn place(index: i64, len: usize) -> Option<usize> {
    let place = if index < 0 { len as i64 + index } else { index - 1 };
    usize::try_from(place).ok().filter(|place| *place < len)
}

fn range(first: &Value, last: &Value) -> Result<Value, EvalError> {
    match (first, last) {
        (Value::Int(first), Value::Int(last)) if last.saturating_sub(*first) < RANGE_MAX => {
            Ok(Value::Array((*first..=*last).map(Value::Int).collect()))
        }
        (Value::Int(_), Value::Int(_)) => Err(EvalError::new(format!("a range has at most {RANGE_MAX} elements"))),
        _ => Err(EvalError::new(format!("a range needs two integers, not {} and {}", first.type_name(), last.type_name()))),
    }
}

/// Sets a nested key; what is in the way and no map is replaced.
fn set_path(target: &mut Value, path: &[Box<str>], value: Value) {
    let Some((first, rest)) = path.split_first() else { return *target = value };
    if !matches!(target, Value::Map(_)) {
        *target = Value::Map(Map::new());
    }
    let Value::Map(map) = target else { return };
    if rest.is_empty() {
        return map.insert(first, value);
    }
    if map.get(first).is_none() {
        map.push_new(first, Value::Undefined);
    }
    if let Some(inner) = map.get_mut(first) {
        set_path(inner, rest, value);
    }
}

#[cfg(test)]
mod tests;
