//! Questions: a query whose rows are the answer.

use std::sync::Arc;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Record, Value};
use schemars::JsonSchema;
use serde::Deserialize;
use tokio_postgres::Row;
use tokio_postgres::types::{ToSql, Type};

use super::client::{Server, Session, server};
use super::config::Connector;
use super::request::Parameter;
use super::sink::mark;
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

struct PostgresLookup {
    server: Server,
    statement: Statement,
    idle: Idle<Session>,
}

pub(super) fn open(connector: &Connector, question: &Question) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let (server, statement) = both_valid(server(connector), Statement::parse("query", &question.query, mark))?;
    Ok(Arc::new(PostgresLookup { server, statement, idle: Idle::default() }))
}

impl Lookup for PostgresLookup {
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
        Box::pin(async move {
            let record = Record { sequence: 0, hookline_id: String::new(), bytes: 0, row: row.clone(), trace: None };
            let values: Vec<Parameter> = self.statement.bind(&record).into_iter().map(Parameter).collect();
            let rows = self.idle.run(&Query { lookup: self, values }).await;
            rows.map(|rows| rows.iter().map(value).collect()).map_err(LookupError::from)
        })
    }
}

/// One question.
struct Query<'a> {
    lookup: &'a PostgresLookup,
    values: Vec<Parameter>,
}

impl Task for Query<'_> {
    type Session = Session;
    type Result = Vec<Row>;

    async fn connect(&self) -> Result<Session, Failure> {
        self.lookup.server.connect("").await
    }

    async fn run(&self, session: &mut Session) -> Result<Vec<Row>, Failure> {
        let values: Vec<&(dyn ToSql + Sync)> = self.values.iter().map(|value| value as _).collect();
        session.query(&self.lookup.statement.sql, &values).await
    }
}

fn value(row: &Row) -> Value {
    let mut map = Map::new();
    for (place, column) in row.columns().iter().enumerate() {
        map.insert(column.name(), cell(row, place, column.type_()));
    }
    Value::Map(map)
}

fn cell(row: &Row, place: usize, ty: &Type) -> Value {
    fn get<'a, T: tokio_postgres::types::FromSql<'a>>(row: &'a Row, place: usize) -> Option<T> {
        row.try_get::<_, Option<T>>(place).ok().flatten()
    }
    let found = match *ty {
        Type::BOOL => get(row, place).map(Value::Bool),
        Type::INT2 => get::<i16>(row, place).map(|number| Value::Int(number.into())),
        Type::INT4 => get::<i32>(row, place).map(|number| Value::Int(number.into())),
        Type::INT8 => get(row, place).map(Value::Int),
        Type::FLOAT4 => get::<f32>(row, place).map(|number| Value::Float(number.into())),
        Type::FLOAT8 => get(row, place).map(Value::Float),
        Type::JSON | Type::JSONB => get(row, place).map(Value::from_json),
        Type::BYTEA => get::<Vec<u8>>(row, place).map(|bytes| Value::Bytes(bytes.into())),
        Type::TEXT_ARRAY | Type::VARCHAR_ARRAY => {
            get::<Vec<String>>(row, place).map(|items| Value::Array(items.iter().map(|item| Value::text(item)).collect()))
        }
        Type::INT2_ARRAY => {
            get::<Vec<i16>>(row, place).map(|items| Value::Array(items.into_iter().map(|item| Value::Int(item.into())).collect()))
        }
        Type::INT4_ARRAY => {
            get::<Vec<i32>>(row, place).map(|items| Value::Array(items.into_iter().map(|item| Value::Int(item.into())).collect()))
        }
        // Also enumerations, and whatever else is text below.
        _ => get::<AnyText>(row, place).map(|text| Value::text(&text.0)),
    };
    found.unwrap_or(Value::Null)
}

/// Whatever has the bytes of a text: texts, enumerations, addresses in their text form.
struct AnyText(String);

impl<'a> tokio_postgres::types::FromSql<'a> for AnyText {
    fn from_sql(ty: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        if *ty == Type::INET || *ty == Type::CIDR {
            return inet(raw).map(AnyText).ok_or_else(|| "an address of another form".into());
        }
        Ok(AnyText(std::str::from_utf8(raw)?.to_owned()))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}

/// An address: family, bits of the network, whether it is one, length, bytes.
fn inet(raw: &[u8]) -> Option<String> {
    let (bits, bytes) = (*raw.get(1)?, raw.get(4..)?);
    let address: std::net::IpAddr = match bytes.len() {
        4 => <[u8; 4]>::try_from(bytes).ok()?.into(),
        16 => <[u8; 16]>::try_from(bytes).ok()?.into(),
        _ => return None,
    };
    Some(if usize::from(bits) == bytes.len() * 8 { address.to_string() } else { format!("{address}/{bits}") })
}
