//! Questions: a query whose rows are the answer.

use std::sync::Arc;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Record, Value};
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts, Row, Value as Cell};
use schemars::JsonSchema;
use serde::Deserialize;

use super::client::{self, classify};
use super::config::Connector;
use super::request::parameter;
use crate::connector::Failure;
use crate::idle::{Idle, Task};
use crate::kind::{SettingsError, both_valid};
use crate::statement::Statement;

/// What is asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The query; every `${…}` becomes a parameter.
    pub(crate) query: String,
}

struct MysqlLookup {
    options: Opts,
    statement: Statement,
    idle: Idle<Conn>,
}

pub(super) fn open(connector: &Connector, question: &Question) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let (options, statement) = both_valid(client::options(connector), Statement::parse("query", &question.query, |_| "?".into()))?;
    Ok(Arc::new(MysqlLookup { options, statement, idle: Idle::default() }))
}

impl Lookup for MysqlLookup {
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
        Box::pin(async move {
            let record = Record { sequence: 0, hookline_id: String::new(), bytes: 0, row: row.clone(), trace: None };
            let values: Vec<Cell> = self.statement.bind(&record).into_iter().map(parameter).collect();
            let rows = self.idle.run(&Query { lookup: self, values }).await;
            rows.map(|rows| rows.iter().map(value).collect()).map_err(LookupError::from)
        })
    }
}

/// One question.
struct Query<'a> {
    lookup: &'a MysqlLookup,
    values: Vec<Cell>,
}

impl Task for Query<'_> {
    type Session = Conn;
    type Result = Vec<Row>;

    async fn connect(&self) -> Result<Conn, Failure> {
        client::open(&self.lookup.options, "").await.map(|(connection, _)| connection)
    }

    async fn run(&self, connection: &mut Conn) -> Result<Vec<Row>, Failure> {
        connection.exec(&*self.lookup.statement.sql, self.values.clone()).await.map_err(|error| classify(&error))
    }
}

fn value(row: &Row) -> Value {
    let mut map = Map::new();
    for (place, column) in row.columns_ref().iter().enumerate() {
        let cell = match row.as_ref(place) {
            Some(Cell::Int(number)) => Value::Int(*number),
            Some(Cell::UInt(number)) => Value::unsigned(*number),
            Some(Cell::Float(number)) => Value::Float((*number).into()),
            Some(Cell::Double(number)) => Value::Float(*number),
            Some(Cell::Bytes(bytes)) => match std::str::from_utf8(bytes) {
                Ok(text) => Value::text(text),
                Err(_) => Value::Bytes(bytes.clone().into()),
            },
            // Times are nothing that a login or permission depends on.
            Some(Cell::NULL | Cell::Date(..) | Cell::Time(..)) | None => Value::Null,
        };
        map.insert(&column.name_str(), cell);
    }
    Value::Map(map)
}
