//! What statements are evaluated against: the columns of one event, the payload parsed at most once for all rules.

use std::cell::OnceCell;

use hookline_schemas::{Event, Value};

use crate::error::EvalError;

/// The event, as rules see it.
pub(crate) struct Context<'a> {
    source: Source<'a>,
    payload: OnceCell<Result<Value, EvalError>>,
}

enum Source<'a> {
    Event(&'a Event<'a>),
    /// Columns that somebody gave, for trying a statement.
    Row(&'a Value),
}

impl<'a> Context<'a> {
    pub(crate) fn of_event(event: &'a Event<'a>) -> Context<'a> {
        Context { source: Source::Event(event), payload: OnceCell::new() }
    }

    pub(crate) fn of_row(row: &'a Value) -> Context<'a> {
        Context { source: Source::Row(row), payload: OnceCell::new() }
    }

    /// A column; undefined where the event has none of that name.
    pub(crate) fn column(&self, name: &str) -> Value {
        match self.source {
            Source::Event(event) => event.column(name).unwrap_or_default(),
            Source::Row(row) => row.path([name]).clone(),
        }
    }

    /// All columns.
    pub(crate) fn row(&self) -> Value {
        match self.source {
            Source::Event(event) => event.to_row(),
            Source::Row(row) => row.clone(),
        }
    }

    /// The payload as the JSON document that it holds.
    pub(crate) fn payload(&self) -> Result<&Value, EvalError> {
        let parsed = self.payload.get_or_init(|| match self.column("payload") {
            document @ (Value::Map(_) | Value::Array(_) | Value::Undefined) => Ok(document),
            text => parse_json(&text).ok_or_else(|| EvalError::new("payload is not JSON")),
        });
        parsed.as_ref().map_err(Clone::clone)
    }
}

/// The document in a text or bytes. The parser bounds its depth.
pub(crate) fn parse_json(value: &Value) -> Option<Value> {
    let json: serde_json::Value = serde_json::from_slice(value.as_bytes()?).ok()?;
    Some(Value::from_json(json))
}
