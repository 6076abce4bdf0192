//! Questions: HGET, HMGET or HGETALL, whose fields are the answer, or a script, which answers with rows.

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
    /// a space stays one word. Or a list of words; then also `["EVAL", script, keys, …]`, where the script returns a list of rows, each a list of names and
    /// values in turns.
    pub(crate) command: Words,
}

#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum Words {
    Line(String),
    List(Vec<String>),
}

struct RedisLookup {
    client: Mutex<Client>,
    words: Vec<Template>,
    answer: Answer,
    idle: Idle<Connection>,
}

/// The form of an answer.
#[derive(Debug, PartialEq)]
enum Answer {
    /// The fields of those names.
    Fields(Vec<String>),
    /// All fields there are.
    All,
    /// Rows of a script.
    Rows,
}

pub(super) fn open(connector: &Connector, question: &Question) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let wrong = |problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.command"), problem: problem.to_owned() }];
    let words: Vec<&str> = match &question.command {
        Words::Line(line) => line.split_whitespace().collect(),
        Words::List(words) => words.iter().map(String::as_str).collect(),
    };
    let answer = match words.first().map(|word| word.to_ascii_uppercase()).as_deref() {
        Some("HGETALL") if words.len() == 2 => Answer::All,
        Some("HGET" | "HMGET") if words.len() >= 3 => Answer::Fields(words[2..].iter().map(|word| (*word).to_owned()).collect()),
        Some("EVAL") if words.len() >= 3 => Answer::Rows,
        _ => return Err(wrong("must be HGETALL key, HGET key field, HMGET key field … or [\"EVAL\", script, keys, …]")),
    };
    let words = words.iter().map(|word| template("command", word)).collect::<Result<_, _>>()?;
    Ok(Arc::new(RedisLookup { client: Mutex::new(client::open(connector)?), words, answer, idle: Idle::default() }))
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
            let row = match &self.answer {
                Answer::Fields(names) => fields(Some(names), reply),
                Answer::All => fields(None, reply),
                Answer::Rows => return Ok(rows(reply)),
            };
            Ok(row.map(Value::Map).into_iter().collect())
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

/// The rows of a script.
fn rows(reply: Reply) -> Vec<Value> {
    let Reply::Array(rows) = reply else { return Vec::new() };
    rows.into_iter().filter_map(|row| fields(None, row)).map(Value::Map).collect()
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
