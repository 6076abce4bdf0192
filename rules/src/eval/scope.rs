//! Expressions to values. What lies in the event, the statement or the row is borrowed; only what is made is owned.

use std::borrow::Cow;

use hookline_schemas::{Map, Value};
use smallvec::SmallVec;

use super::budget::{Budget, measure};
use super::place::{Place, place, put};
use crate::ast::{Expr, Field, Step};
use crate::context::{Context, parse_json};
use crate::error::EvalError;
use crate::operator;
use crate::plan::Names;

/// The most elements that a range may have.
const RANGE_MAX: i64 = 100_000;

/// What names mean: fields that were selected before, the item of FOREACH, the fields before its list, and columns.
pub(crate) struct Scope<'a> {
    context: &'a Context<'a>,
    names: &'a Names,
    budget: &'a Budget,
    /// What a window has computed.
    slots: &'a [Value],
    outer: Option<&'a Value>,
    item: Option<(&'a str, &'a Value)>,
    /// The row, as far as it is made.
    pub(crate) selected: Value,
}

fn missing<'a>() -> Cow<'a, Value> {
    Cow::Owned(Value::Undefined)
}

fn truth<'a>(holds: bool) -> Cow<'a, Value> {
    Cow::Owned(Value::Bool(holds))
}

impl<'a> Scope<'a> {
    pub(crate) fn new(context: &'a Context<'a>, names: &'a Names, budget: &'a Budget) -> Scope<'a> {
        Scope { context, names, budget, slots: &[], outer: None, item: None, selected: Value::Map(Map::new()) }
    }

    /// A scope where the window's values are known.
    pub(crate) fn with_slots(self, slots: &'a [Value]) -> Scope<'a> {
        Scope { slots, ..self }
    }

    /// The scope of an item, or of WHERE with the list by its name; what was selected here is seen there.
    pub(super) fn inner<'b>(&'b self, item: Option<(&'b str, &'b Value)>) -> Scope<'b> {
        Scope {
            context: self.context,
            names: self.names,
            budget: self.budget,
            slots: self.slots,
            outer: Some(&self.selected),
            item,
            selected: Value::Map(Map::new()),
        }
    }

    /// The event.
    pub(super) fn context(&self) -> &'a Context<'a> {
        self.context
    }

    /// Adds a field to the row; `known` is its value where it was computed before.
    pub(crate) fn select(&mut self, field: &Field, known: Option<Value>) -> Result<(), EvalError> {
        match field {
            Field::All => self.select_all(),
            Field::Expr { expr, alias, .. } => {
                let value = match known {
                    Some(value) => value,
                    None => self.owned(expr)?,
                };
                self.set(alias, value)
            }
        }
    }

    /// All columns; what was selected before keeps its value.
    pub(super) fn select_all(&mut self) -> Result<(), EvalError> {
        let mut row = match self.item {
            Some(_) => self.context.shared_row().clone(),
            None => self.context.row(),
        };
        let Value::Map(map) = &mut row else { return Ok(()) };
        // The texts of columns are short, and the payload is shared.
        self.budget.bytes(map.len() * 2 * size_of::<Value>())?;
        if let Some(Value::Map(outer)) = self.outer {
            for (name, value) in outer.iter() {
                self.budget.value(value)?;
                map.insert(name, value.clone());
            }
        }
        if let Some((name, item)) = self.item {
            self.budget.value(item)?;
            map.insert(name, item.clone());
        }
        match &mut self.selected {
            Value::Map(selected) if !selected.is_empty() => {
                for (name, value) in map.iter() {
                    if selected.get(name).is_none() {
                        selected.push_new(name, value.clone());
                    }
                }
            }
            selected => *selected = row,
        }
        Ok(())
    }

    /// Sets a field of the row.
    pub(super) fn set(&mut self, alias: &[Step], value: Value) -> Result<(), EvalError> {
        if let ([Step::Key(name)], Value::Map(selected)) = (alias, &mut self.selected) {
            selected.insert(name, value);
            return Ok(());
        }
        let mut places: SmallVec<[Place<'_>; 4]> = SmallVec::new();
        for step in alias {
            places.push(match step {
                Step::Key(key) => Place::Key(key),
                Step::Index(index) => Place::At(self.index(index, &Value::Undefined)?.unwrap_or(i64::MAX)),
                Step::End | Step::Range(..) => Place::End,
            });
        }
        // Together they must not nest too deeply either.
        measure(&value, places.len())?;
        put(&mut self.selected, &places, value);
        Ok(())
    }

    /// Whether a condition holds.
    pub(crate) fn condition(&self, expr: &Expr) -> Result<bool, EvalError> {
        match expr {
            Expr::Or(exprs) => exprs.iter().try_fold(false, |holds, expr| Ok(holds || self.condition(expr)?)),
            Expr::And(exprs) => exprs.iter().try_fold(true, |holds, expr| Ok(holds && self.condition(expr)?)),
            _ => Ok(*self.value(expr)? == Value::Bool(true)),
        }
    }

    /// The value of an expression, to keep.
    pub(crate) fn owned(&self, expr: &Expr) -> Result<Value, EvalError> {
        match self.value(expr)? {
            Cow::Owned(value) => Ok(value),
            Cow::Borrowed(value) => {
                self.budget.value(value)?;
                Ok(value.clone())
            }
        }
    }

    /// The value of an expression.
    pub(crate) fn value<'s>(&'s self, expr: &'s Expr) -> Result<Cow<'s, Value>, EvalError> {
        self.budget.step()?;
        match expr {
            Expr::Literal(value) => Ok(Cow::Borrowed(value)),
            Expr::Path(steps) => self.path(steps),
            Expr::Slot(slot) => Ok(self.slots.get(*slot).map_or_else(missing, Cow::Borrowed)),
            Expr::Compare(operator, left, right) => {
                let (left, right) = (self.value(left)?, self.value(right)?);
                self.looks_at(&left, &right)?;
                Ok(truth(operator::compare(*operator, &left, &right)?))
            }
            Expr::Or(_) | Expr::And(_) => Ok(truth(self.condition(expr)?)),
            Expr::Not(expr) => Ok(truth(*self.value(expr)? == Value::Bool(false))),
            Expr::In { needle, list, negated } => Ok(truth(self.is_in(needle, list)? != *negated)),
            Expr::Arithmetic(first, rest) => {
                let mut left = self.value(first)?;
                for (operator, right) in rest {
                    left = self.made(operator::arithmetic(*operator, &left, &*self.value(right)?)?)?;
                }
                Ok(left)
            }
            Expr::Negate(expr) => Ok(Cow::Owned(operator::negate(&*self.value(expr)?)?)),
            Expr::Call(function, arguments) => {
                let arguments: SmallVec<[Value; 4]> = arguments.iter().map(|argument| self.owned(argument)).collect::<Result<_, _>>()?;
                self.budget.work(arguments.iter().filter_map(Value::as_bytes).map(<[u8]>::len).sum())?;
                let result = function.call(self.context, &arguments);
                self.made(result.map_err(|error| error.within(function.name))?)
            }
            Expr::Case { subject, branches, otherwise } => self.case(subject.as_deref(), branches, otherwise.as_deref()),
            Expr::List(items) => {
                let items = items.iter().map(|item| self.owned(item)).collect::<Result<_, _>>()?;
                self.made(Value::Array(items))
            }
            Expr::Range(first, last) => self.made(range(&*self.value(first)?, &*self.value(last)?)?),
            Expr::Aggregate(_) => Err(EvalError::new("an aggregate has a value in a window only")),
        }
    }

    /// A value that an operator or a function has made.
    fn made<'s>(&self, value: Value) -> Result<Cow<'s, Value>, EvalError> {
        self.budget.value(&value)?;
        Ok(Cow::Owned(value))
    }

    fn is_in(&self, needle: &Expr, list: &[Expr]) -> Result<bool, EvalError> {
        let needle = self.value(needle)?;
        list.iter().try_fold(false, |found, item| Ok(found || self.is_same(&needle, item)?))
    }

    fn is_same(&self, value: &Value, other: &Expr) -> Result<bool, EvalError> {
        let other = self.value(other)?;
        self.looks_at(value, &other)?;
        Ok(operator::same(value, &other))
    }

    /// Counts what a comparison may look at: of two collections, everything in them.
    fn looks_at(&self, left: &Value, right: &Value) -> Result<(), EvalError> {
        let is_collection = |value: &Value| matches!(value, Value::Array(_) | Value::Map(_));
        if !is_collection(left) || !is_collection(right) {
            return Ok(());
        }
        self.budget.work(measure(left, 0)?.saturating_add(measure(right, 0)?))
    }

    fn case<'s>(
        &'s self,
        subject: Option<&'s Expr>,
        branches: &'s [(Expr, Expr)],
        otherwise: Option<&'s Expr>,
    ) -> Result<Cow<'s, Value>, EvalError> {
        let subject = subject.map(|subject| self.value(subject)).transpose()?;
        for (when, then) in branches {
            let is_taken = match &subject {
                Some(subject) => self.is_same(subject, when)?,
                None => self.condition(when)?,
            };
            if is_taken {
                return self.value(then);
            }
        }
        otherwise.map_or_else(|| Ok(missing()), |otherwise| self.value(otherwise))
    }

    /// The value at a path: of what has the name nearest to the expression.
    fn path<'s>(&'s self, steps: &'s [Step]) -> Result<Cow<'s, Value>, EvalError> {
        let Some((Step::Key(first), rest)) = steps.split_first() else { return Ok(missing()) };
        if let Some(found) = self.defined(&self.selected, first, rest)? {
            return Ok(found);
        }
        if let Some((name, item)) = self.item
            && *name == **first
        {
            return self.walk(item, rest);
        }
        if let Some(outer) = self.outer
            && let Some(found) = self.defined(outer, first, rest)?
        {
            return Ok(found);
        }
        if &**first == "metadata" {
            return self.walk(&self.names.metadata, rest);
        }
        if rest.is_empty() {
            return Ok(self.context.lookup(first));
        }
        if &**first == "payload" {
            return self.walk(self.context.document(&self.names.payload)?, rest);
        }
        match self.context.lookup(first) {
            Cow::Borrowed(column) => self.walk(column, rest),
            Cow::Owned(column) => Ok(Cow::Owned(self.walk(&column, rest)?.into_owned())),
        }
    }

    /// The value at a path that begins with a field. A field that was made of parts, such as `x AS payload.a`, does not hide
    /// the other parts of a column with its name.
    fn defined<'s>(&'s self, row: &'s Value, first: &str, rest: &'s [Step]) -> Result<Option<Cow<'s, Value>>, EvalError> {
        let Value::Map(row) = row else { return Ok(None) };
        if !self.names.aliases.iter().any(|alias| &**alias == first) {
            return Ok(None);
        }
        let Some(value) = row.get(first) else { return Ok(None) };
        let found = self.walk(value, rest)?;
        Ok((rest.is_empty() || *found != Value::Undefined).then_some(found))
    }

    fn walk<'v>(&self, root: &'v Value, steps: &[Step]) -> Result<Cow<'v, Value>, EvalError> {
        let mut at = root;
        for (number, step) in steps.iter().enumerate() {
            if let Some(text) = at.as_bytes() {
                self.budget.bytes(text.len())?;
                return match parse_json(at) {
                    Some(document) => Ok(Cow::Owned(self.walk(&document, &steps[number..])?.into_owned())),
                    None if matches!(step, Step::Range(..)) => Err(no_array(at)),
                    None => Ok(missing()),
                };
            }
            let next = match (step, at) {
                (Step::Key(key), Value::Map(map)) => {
                    self.budget.work(map.len())?;
                    map.get(key)
                }
                (Step::Index(index), Value::Array(items)) => {
                    self.index(index, root)?.and_then(|index| place(index, items.len())).and_then(|place| items.get(place))
                }
                (Step::Range(first, last), Value::Array(items)) => {
                    let (Some(first), Some(last)) = (self.index(first, root)?, self.index(last, root)?) else { return Ok(missing()) };
                    let part = Value::Array(part(items, first, last)?.to_vec());
                    self.budget.value(&part)?;
                    return Ok(Cow::Owned(self.walk(&part, &steps[number + 1..])?.into_owned()));
                }
                (Step::Range(..), other) => return Err(no_array(other)),
                _ => None,
            };
            match next {
                Some(next) => at = next,
                None => return Ok(missing()),
            }
        }
        Ok(Cow::Borrowed(at))
    }

    /// The value of an index; none where it is missing. What is no column may be a key of the document that is walked.
    fn index(&self, expr: &Expr, root: &Value) -> Result<Option<i64>, EvalError> {
        let mut value = self.value(expr)?;
        let is_missing = *value == Value::Undefined;
        if is_missing && let Expr::Path(steps) = expr {
            value = self.walk(root, steps)?;
        }
        match &*value {
            Value::Int(index) => Ok(Some(*index)),
            Value::Undefined => Ok(None),
            other => Err(EvalError::new(format!("an index is an integer, not {}", other.type_name()))),
        }
    }
}

fn no_array(value: &Value) -> EvalError {
    EvalError::new(format!("a range needs an array, not {}", value.type_name()))
}

/// The items from one index to another, both included. It may end behind the last item, but not begin before the first.
fn part(items: &[Value], first: i64, last: i64) -> Result<&[Value], EvalError> {
    if first == 0 || last == 0 {
        return Err(EvalError::new("a range begins at 1; 0 is no index"));
    }
    let len = items.len() as i64;
    let from_start = |index: i64| if index < 0 { len.saturating_add(index).saturating_add(1) } else { index };
    let (first, last) = (from_start(first), from_start(last));
    if first < 1 || last < first - 1 {
        return Err(EvalError::new(format!("the array has {len} items; there is no range from {first} to {last}")));
    }
    let (begin, end) = ((first - 1).min(len) as usize, last.min(len) as usize);
    Ok(items.get(begin..end.max(begin)).unwrap_or_default())
}

fn range(first: &Value, last: &Value) -> Result<Value, EvalError> {
    let (Value::Int(first), Value::Int(last)) = (first, last) else {
        return Err(EvalError::new(format!("a range needs two integers, not {} and {}", first.type_name(), last.type_name())));
    };
    match last.saturating_sub(*first) {
        ..-1 => Err(EvalError::new(format!("a range goes up; {first} to {last} does not"))),
        RANGE_MAX.. => Err(EvalError::new(format!("a range has at most {RANGE_MAX} elements"))),
        _ => Ok(Value::Array((*first..=*last).map(Value::Int).collect())),
    }
}
