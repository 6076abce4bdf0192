//! Questions: documents that a filter finds.

use std::sync::Arc;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Record, Value};
use mongodb::bson::Bson;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::client::{self, Connection};
use super::config::Connector;
use crate::document::{Document, anything};
use crate::kind::{PARAMETERS, SettingsError};

/// What is asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The collection.
    pub(crate) collection: String,
    /// The filter, JSON with `${…}` in its values, such as `{"username": "${username}"}`. What is filled in is a value and never an operator.
    pub(crate) filter: String,
    /// The field by which the answer is sorted, the smallest first.
    pub(crate) sort: Option<String>,
    /// Documents of an answer at the most.
    #[serde(default = "documents_max")]
    pub(crate) limit: u16,
}

fn documents_max() -> u16 {
    1000
}

struct MongoLookup {
    url: String,
    database: String,
    collection: String,
    filter: Document,
    sort: Option<String>,
    limit: u16,
    /// The driver's own pool is behind it.
    connection: Mutex<Option<Arc<Connection>>>,
}

pub(super) fn open(connector: &Connector, question: &Question) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let database = client::check(connector)?;
    let filter = Document::parse("filter", &question.filter)?;
    if filter.keys().is_none() {
        return Err(vec![SettingsError { path: format!("{PARAMETERS}.filter"), problem: "must be a JSON object".into() }]);
    }
    let Question { collection, sort, limit, .. } = question.clone();
    Ok(Arc::new(MongoLookup { url: connector.url.clone(), database, collection, filter, sort, limit, connection: Mutex::new(None) }))
}

impl MongoLookup {
    async fn connection(&self) -> Result<Arc<Connection>, LookupError> {
        let mut connection = self.connection.lock().await;
        if let Some(connection) = &*connection {
            return Ok(Arc::clone(connection));
        }
        let opened = client::open(&self.url, &self.database).await.map_err(LookupError::from)?;
        Ok(Arc::clone(connection.insert(Arc::new(opened))))
    }
}

impl Lookup for MongoLookup {
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
        Box::pin(async move {
            let record = Record { sequence: 0, hookline_id: String::new(), bytes: 0, row: row.clone(), trace: None };
            let filter = self.filter.fill(&record, &anything).map_err(LookupError::Question)?.to_json();
            let found = self.connection().await?.find(&self.collection, &filter, self.sort.as_deref(), self.limit.into()).await;
            let found = found.map_err(LookupError::from)?;
            Ok(found.into_iter().map(|document| value(Bson::Document(document))).collect())
        })
    }
}

fn value(bson: Bson) -> Value {
    match bson {
        Bson::Document(document) => {
            let mut map = Map::new();
            document.into_iter().for_each(|(key, inner)| map.insert(&key, value(inner)));
            Value::Map(map)
        }
        Bson::Array(items) => Value::Array(items.into_iter().map(value).collect()),
        Bson::String(text) => Value::Text(text.into()),
        Bson::Boolean(is) => Value::Bool(is),
        Bson::Int32(number) => Value::Int(number.into()),
        Bson::Int64(number) => Value::Int(number),
        Bson::Double(number) => Value::Float(number),
        Bson::Binary(binary) => Value::Bytes(binary.bytes.into()),
        Bson::Null | Bson::Undefined => Value::Null,
        other => Value::text(&other.to_string()),
    }
}
