//! Questions: HGET, HMGET or HGETALL, whose fields are the answer.

use std::sync::Arc;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Template, Value};
use redis::Value as Reply;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::Mutex;

use super::client::{self, Client, Connection};
use super::config::Connector;
use crate::connector::Failure;
use crate::idle::{Idle, Task};
use crate::kind::{PARAMETERS, SettingsError, template};

/// What is asked.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// The command, such as `HMGET mqtt_user:${username} password_hash salt is_superuser`. Words are parted by spaces before they are filled, so a name with
    /// a space stays one word.
    pub(crate) command: String,
}

struct RedisLookup {
    client: Mutex<Client>,
    words: Vec<Template>,
    /// The names of the fields; `None`: all there are.
    fields: Option<Vec<String>>,
    idle: Idle<Connection>,
}

pub(super) fn open(connector: &Connector, question: &Question) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let wrong = |problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.command"), problem: problem.to_owned() }];
    let words: Vec<&str> = question.command.split_whitespace().collect();
    let fields = match words.first().map(|word| word.to_ascii_uppercase()).as_deref() {
        Some("HGETALL") if words.len() == 2 => None,
        Some("HGET" | "HMGET") if words.len() >= 3 => Some(words[2..].iter().map(|word| (*word).to_owned()).collect()),
        _ => return Err(wrong("must be HGETALL key, HGET key field or HMGET key field …")),
    };
    let words = words.iter().map(|word| template("command", word)).collect::<Result<_, _>>()?;
    Ok(Arc::new(RedisLookup { client: Mutex::new(client::open(connector)?), words, fields, idle: Idle::default() }))
}

impl Lookup for RedisLookup {
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
        Box::pin(async move {
            let mut command = redis::Cmd::new();
            for word in &self.words {
                command.arg(&word.render(row)[..]);
            }
            let reply = self.idle.run(&Query { lookup: self, command }).await;
            let reply = reply.map_err(LookupError::from)?;
            Ok(fields(self.fields.as_deref(), reply).map(Value::Map).into_iter().collect())
        })
    }
}

/// One question.
struct Query<'a> {
    lookup: &'a RedisLookup,
    command: redis::Cmd,
}

impl Task for Query<'_> {
    type Session = Connection;
    type Result = Reply;

    async fn connect(&self) -> Result<Connection, Failure> {
        self.lookup.client.lock().await.connect().await
    }

    async fn run(&self, connection: &mut Connection) -> Result<Reply, Failure> {
        connection.ask(&self.command).await
    }
}

/// The fields of a reply; `None` where there is nothing.
fn fields(names: Option<&[String]>, reply: Reply) -> Option<Map> {
    let mut map = Map::new();
    match (names, reply) {
        (Some(names), Reply::Array(values)) => names.iter().zip(values).for_each(|(name, value)| map.insert(name, cell(value))),
        (Some([name]), value) => map.insert(name, cell(value)),
        (None, Reply::Map(pairs)) => pairs.into_iter().for_each(|(name, value)| map.insert(&cell(name).to_string(), cell(value))),
        (None, Reply::Array(flat)) => {
            let mut flat = flat.into_iter();
            while let (Some(name), Some(value)) = (flat.next(), flat.next()) {
                map.insert(&cell(name).to_string(), cell(value));
            }
        }
        _ => {}
    }
    let is_there = map.iter().any(|(_, value)| !value.is_null());
    is_there.then_some(map)
}

fn cell(value: Reply) -> Value {
    match value {
        Reply::BulkString(bytes) => match String::from_utf8(bytes) {
            Ok(text) => Value::Text(text.into()),
            Err(error) => Value::Bytes(error.into_bytes().into()),
        },
        Reply::SimpleString(text) => Value::text(&text),
        Reply::Int(number) => Value::Int(number),
        Reply::Boolean(is) => Value::Bool(is),
        _ => Value::Null,
    }
}
