//! From a record to a command, and from commands to transactions. Pure.

use std::collections::HashMap;

use bytes::Bytes;
use hookline_schemas::{Map, Record, Template, Value};
use redis::cluster_routing::Slot;
use redis::{Cmd, Pipeline};

use super::config::{Parameters, Stream};
use crate::kind::{PARAMETERS, SettingsError, template};

/// The name under which a record's own identifier is reached in templates.
const HOOKLINE_ID: &str = "hookline_id";

/// Commands that change the connection or give no reply of their own.
const NOT_FOR_RECORDS: &[&str] = &[
    "ASKING",
    "AUTH",
    "CLIENT",
    "DISCARD",
    "EXEC",
    "HELLO",
    "MONITOR",
    "MULTI",
    "PSUBSCRIBE",
    "PSYNC",
    "PUNSUBSCRIBE",
    "QUIT",
    "READONLY",
    "RESET",
    "SELECT",
    "SHUTDOWN",
    "SSUBSCRIBE",
    "SUBSCRIBE",
    "SUNSUBSCRIBE",
    "SYNC",
    "UNSUBSCRIBE",
    "UNWATCH",
    "WATCH",
];

/// The templates of an action's command, argument by argument.
#[derive(Debug)]
pub(super) struct Request {
    arguments: Vec<Argument>,
}

#[derive(Debug)]
struct Argument {
    template: Template,
    names_id: bool,
}

/// Commands that are executed together, or not at all.
pub(super) struct Transaction {
    /// The records, in the order of their commands.
    pub(super) sequences: Vec<u64>,
    /// MULTI, the commands, EXEC.
    pub(super) pipeline: Pipeline,
}

impl Request {
    pub(super) fn new(parameters: &Parameters) -> Result<Request, Vec<SettingsError>> {
        let wrong = |problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.command"), problem: problem.to_owned() }];
        let texts: Vec<(String, String)> = match (&parameters.command, &parameters.stream) {
            (Some(command), None) => command.iter().enumerate().map(|(index, text)| (format!("command[{index}]"), text.clone())).collect(),
            (None, Some(stream)) => entry(stream),
            (None, None) => return Err(wrong("missing; give it, or `stream`")),
            (Some(_), Some(_)) => return Err(wrong("stands beside `stream`; leave one of them out")),
        };
        let arguments = texts.iter().map(|(path, text)| {
            let template = template(path, text)?;
            let names_id = template.paths().any(|path| matches!(path, [name] if &**name == HOOKLINE_ID));
            Ok::<_, Vec<SettingsError>>(Argument { template, names_id })
        });
        let arguments: Vec<Argument> = arguments.collect::<Result<_, _>>()?;
        let name = arguments.first().and_then(|name| name.template.as_constant()).unwrap_or_default().to_ascii_uppercase();
        if name.is_empty() {
            return Err(wrong("must begin with the name of a command, without placeholders"));
        }
        if NOT_FOR_RECORDS.contains(&name.as_str()) {
            return Err(wrong(&format!("{name} is about the connection; it cannot be done for records")));
        }
        Ok(Request { arguments })
    }

    /// The command for a record.
    pub(super) fn arguments(&self, record: &Record) -> Vec<Bytes> {
        let named = self.arguments.iter().any(|argument| argument.names_id).then(|| with_id(record));
        let render = |argument: &Argument| match &named {
            Some(row) if argument.names_id => argument.template.render(row),
            _ => argument.template.render(&record.row),
        };
        self.arguments.iter().map(render).collect()
    }

    /// The commands for records: one transaction for all, or one for each hash slot. Each keeps the order.
    pub(super) fn transactions<'a>(&self, records: impl Iterator<Item = &'a Record>, by_slot: bool) -> Vec<Transaction> {
        let mut transactions: HashMap<Option<Slot>, Transaction> = HashMap::new();
        for record in records {
            let arguments = self.arguments(record);
            let slot = if by_slot { slot(&arguments) } else { None };
            transactions.entry(slot).or_insert_with(Transaction::begin).push(record.sequence, &arguments);
        }
        transactions.into_values().map(Transaction::end).collect()
    }
}

impl Transaction {
    fn begin() -> Transaction {
        let mut pipeline = Pipeline::new();
        pipeline.ignore_errors().cmd("MULTI");
        Transaction { sequences: Vec::new(), pipeline }
    }

    fn push(&mut self, sequence: u64, arguments: &[Bytes]) {
        let mut command = Cmd::new();
        for argument in arguments {
            command.arg(&argument[..]);
        }
        self.sequences.push(sequence);
        self.pipeline.add_command(command);
    }

    fn end(mut self) -> Transaction {
        self.pipeline.cmd("EXEC");
        self
    }
}

/// The arguments of an XADD, each with the path of its setting.
fn entry(stream: &Stream) -> Vec<(String, String)> {
    let constant = |text: &str| ("stream".to_owned(), text.to_owned());
    let mut arguments = vec![constant("XADD"), ("stream.key".to_owned(), stream.key.clone())];
    if let Some(maxlen) = stream.maxlen {
        arguments.extend([constant("MAXLEN"), constant("~"), constant(&maxlen.to_string())]);
    }
    arguments.extend([constant("*"), constant(HOOKLINE_ID), constant(&format!("${{{HOOKLINE_ID}}}"))]);
    for (name, text) in &stream.fields {
        let path = format!("stream.fields.{name}");
        arguments.extend([(path.clone(), name.clone()), (path, text.clone())]);
    }
    arguments
}

/// The row, with the record's identifier where the rule has not selected something of that name.
fn with_id(record: &Record) -> Value {
    let mut map = match &record.row {
        Value::Map(map) => map.clone(),
        _ => Map::new(),
    };
    if map.get(HOOKLINE_ID).is_none_or(|value| *value == Value::Undefined) {
        map.insert(HOOKLINE_ID, Value::text(&record.hookline_id));
    }
    Value::Map(map)
}

/// The hash slot of a command: that of its first key. Where this is wrong, Redis refuses the transaction, and the records go one
/// by one.
fn slot(arguments: &[Bytes]) -> Option<Slot> {
    let name = arguments.first()?.to_ascii_uppercase();
    let key = match &name[..] {
        b"EVAL" | b"EVALSHA" | b"FCALL" => arguments.get(3),
        _ => arguments.get(1),
    };
    key.map(Slot::for_key)
}
