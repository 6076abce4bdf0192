//! A plan and an event to rows. WHERE comes first where that means the same, so that what it filters out costs little.

mod budget;
mod place;
mod scope;

use hookline_schemas::Value;

pub(crate) use budget::{Budget, NESTING_MAX, measure};
pub(crate) use scope::Scope;

use crate::ast::{Each, Expr, Field, Step};
use crate::context::{Context, PathSet};
use crate::error::EvalError;
use crate::plan::{Names, Order, Statement};
use crate::window::{Window, WindowLimits};

/// What a statement makes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum Rows {
    /// WHERE does not hold.
    NoMatch,
    /// The row of SELECT.
    One(Value),
    /// The rows of FOREACH; none where the list is empty, or is no list, or INCASE held for no item.
    Many(Vec<Value>),
}

impl Rows {
    /// All rows.
    pub fn as_slice(&self) -> &[Value] {
        match self {
            Rows::NoMatch => &[],
            Rows::One(row) => std::slice::from_ref(row),
            Rows::Many(rows) => rows,
        }
    }

    /// All rows, to keep.
    pub fn into_vec(self) -> Vec<Value> {
        match self {
            Rows::NoMatch => Vec::new(),
            Rows::One(row) => vec![row],
            Rows::Many(rows) => rows,
        }
    }
}

impl Statement {
    /// Runs the statement against the columns of an event given as a row: to try it. FROM is not asked; see
    /// [`Statement::matches_event`]. With a window: the rows that it gives where nothing but this event comes.
    ///
    /// # Errors
    /// What cannot be computed.
    pub fn try_on(&self, columns: &Value) -> Result<Rows, EvalError> {
        let context = Context::of_row(columns);
        let Some(plan) = self.window() else { return self.run(&context) };
        let mut window = Window::new(plan.clone(), WindowLimits::default());
        let now_ms = match &*context.lookup("timestamp") {
            Value::Int(millis) => u64::try_from(*millis).unwrap_or(0),
            _ => 0,
        };
        window.push(now_ms, &context)?;
        let rows = window.due(u64::MAX);
        window.take_error().map_or(Ok(Rows::Many(rows)), Err)
    }

    /// The rows that the event gives.
    pub(crate) fn run(&self, context: &Context<'_>) -> Result<Rows, EvalError> {
        self.run_in(context, &self.order)
    }

    /// The rows, computed in the order of the text: all fields, then WHERE. Only to compare with [`Statement::run`].
    #[cfg(test)]
    pub(crate) fn run_select_first(&self, context: &Context<'_>) -> Result<Rows, EvalError> {
        self.run_in(context, &Order::FieldsFirst)
    }

    fn run_in(&self, context: &Context<'_>, order: &Order) -> Result<Rows, EvalError> {
        if self.window().is_some() {
            return Err(EvalError::new("the statement has a window; its rows come when the window closes"));
        }
        let budget = Budget::default();
        let mut scope = Scope::new(context, &self.names, &budget);
        let mut known = Vec::new();
        match order {
            Order::ConditionFirst if !self.holds(&scope)? => return Ok(Rows::NoMatch),
            Order::Needed(fields) => {
                known = self.select_needed(fields, &mut scope)?;
                if !self.holds(&scope)? {
                    return Ok(Rows::NoMatch);
                }
                scope = Scope::new(context, &self.names, &budget);
            }
            Order::ConditionFirst | Order::FieldsFirst => {}
        }
        for (number, field) in self.fields.iter().enumerate() {
            scope.select(field, known.get_mut(number).and_then(Option::take))?;
        }
        let is_unchecked = matches!(order, Order::FieldsFirst);
        match &self.each {
            Some(each) => self.each(each, &scope, is_unchecked),
            None if is_unchecked && !self.holds(&scope)? => Ok(Rows::NoMatch),
            None => Ok(Rows::One(scope.selected)),
        }
    }

    /// Selects those fields only, and returns their values for later.
    fn select_needed(&self, needed: &[usize], scope: &mut Scope<'_>) -> Result<Vec<Option<Value>>, EvalError> {
        let mut known = vec![None; self.fields.len()];
        for number in needed {
            if let Some(Field::Expr { expr, alias, .. }) = self.fields.get(*number) {
                let value = scope.owned(expr)?;
                scope.set(alias, value.clone())?;
                known[*number] = Some(value);
            }
        }
        Ok(known)
    }

    fn holds(&self, scope: &Scope<'_>) -> Result<bool, EvalError> {
        self.condition.as_ref().map_or(Ok(true), |condition| scope.condition(condition))
    }

    /// The rows of FOREACH; where WHERE was not asked yet, it is asked with the list at hand.
    fn each(&self, each: &Each, scope: &Scope<'_>, is_unchecked: bool) -> Result<Rows, EvalError> {
        let list = scope.value(&each.list)?;
        if is_unchecked && !self.holds(&scope.inner(each.is_named.then_some((&*each.name, &*list))))? {
            return Ok(Rows::NoMatch);
        }
        let mut items = &*list;
        // With DO, a payload that is an array as a whole is a list too; its text alone is none.
        if each.fields.is_some() && is_payload(&each.list) && items.as_bytes().is_some() {
            items = scope.context().payload().unwrap_or(items);
        }
        let Value::Array(items) = items else { return Ok(Rows::Many(Vec::new())) };
        let mut rows = Vec::new();
        for item in items {
            let mut row = scope.inner(Some((&*each.name, item)));
            if let Some(keep) = &each.keep
                && !row.condition(keep)?
            {
                continue;
            }
            match &each.fields {
                Some(fields) => fields.iter().try_for_each(|field| row.select(field, None))?,
                None => row.select_all()?,
            }
            rows.push(row.selected);
        }
        Ok(Rows::Many(rows))
    }
}

/// Whether it is the column `payload`, as a whole.
fn is_payload(expr: &Expr) -> bool {
    matches!(expr, Expr::Path(steps) if matches!(steps.as_slice(), [Step::Key(name)] if &**name == "payload"))
}

/// The value of an expression that needs no event.
pub(crate) fn constant(expr: &Expr) -> Option<Value> {
    let (nothing, budget) = (Value::Undefined, Budget::default());
    let names = Names::new(Vec::new(), PathSet::All);
    let context = Context::of_row(&nothing);
    Scope::new(&context, &names, &budget).owned(expr).ok()
}

#[cfg(test)]
mod tests;

#[cfg(test)]
mod differential;
