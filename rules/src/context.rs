//! What statements are evaluated against: the columns of one event. The payload is parsed at most twice for all rules:
//! once for the few keys that the first rule reads, and whole where another reads more.

use std::borrow::Cow;
use std::cell::OnceCell;
use std::sync::Arc;

use hookline_schemas::{Event, Value};

use crate::error::EvalError;
use crate::json;

/// What a statement reads of the payload's document.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PathSet {
    All,
    /// Top-level keys.
    Keys(Arc<[Box<str>]>),
}

/// The event, as rules see it.
pub(crate) struct Context<'a> {
    source: Source<'a>,
    payload: OnceCell<Result<Value, EvalError>>,
    excerpt: OnceCell<Excerpt>,
    all: OnceCell<Value>,
}

enum Source<'a> {
    Event(&'a Event<'a>),
    /// Columns that somebody gave, for trying a statement.
    Row(&'a Value),
}

/// Some keys of the payload.
struct Excerpt {
    keys: Arc<[Box<str>]>,
    document: Result<Value, EvalError>,
}

impl<'a> Context<'a> {
    pub(crate) fn of_event(event: &'a Event<'a>) -> Context<'a> {
        Context::of(Source::Event(event))
    }

    pub(crate) fn of_row(row: &'a Value) -> Context<'a> {
        Context::of(Source::Row(row))
    }

    fn of(source: Source<'a>) -> Context<'a> {
        Context { source, payload: OnceCell::new(), excerpt: OnceCell::new(), all: OnceCell::new() }
    }

    /// A column; undefined where the event has none of that name.
    pub(crate) fn column(&self, name: &str) -> Value {
        self.lookup(name).into_owned()
    }

    /// A column, borrowed where it can be.
    pub(crate) fn lookup(&self, name: &str) -> Cow<'_, Value> {
        match self.source {
            Source::Event(event) => Cow::Owned(event.column(name).unwrap_or_default()),
            Source::Row(Value::Map(row)) => row.get(name).map_or(Cow::Owned(Value::Undefined), Cow::Borrowed),
            Source::Row(_) => Cow::Owned(Value::Undefined),
        }
    }

    /// All columns.
    pub(crate) fn row(&self) -> Value {
        match self.source {
            Source::Event(event) => event.to_row(),
            Source::Row(row) => row.clone(),
        }
    }

    /// All columns, computed once: for rows that begin with them again and again.
    pub(crate) fn shared_row(&self) -> &Value {
        self.all.get_or_init(|| self.row())
    }

    /// The payload as the JSON document that it holds.
    pub(crate) fn payload(&self) -> Result<&Value, EvalError> {
        let parsed = self.payload.get_or_init(|| self.read_payload(json::parse));
        parsed.as_ref().map_err(Clone::clone)
    }

    /// The payload's document, or so much of it as `wanted` says.
    pub(crate) fn document(&self, wanted: &PathSet) -> Result<&Value, EvalError> {
        if let (None, PathSet::Keys(keys)) = (self.payload.get(), wanted) {
            let read = || self.read_payload(|bytes| json::parse_keys(bytes, keys));
            let excerpt = self.excerpt.get_or_init(|| Excerpt { keys: Arc::clone(keys), document: read() });
            if Arc::ptr_eq(&excerpt.keys, keys) || keys.iter().all(|key| excerpt.keys.contains(key)) {
                return excerpt.document.as_ref().map_err(Clone::clone);
            }
        }
        self.payload()
    }

    fn read_payload(&self, parse: impl FnOnce(&[u8]) -> Option<Value>) -> Result<Value, EvalError> {
        match self.lookup("payload") {
            Cow::Borrowed(document @ (Value::Map(_) | Value::Array(_))) => Ok(document.clone()),
            payload => match &*payload {
                Value::Undefined => Ok(Value::Undefined),
                other => other.as_bytes().and_then(parse).ok_or_else(|| EvalError::new("payload is not JSON")),
            },
        }
    }
}

/// The document in a text or bytes.
pub(crate) fn parse_json(value: &Value) -> Option<Value> {
    json::parse(value.as_bytes()?)
}
