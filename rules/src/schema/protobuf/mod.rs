//! Protocol Buffers: the text of a `.proto` file, compiled here, and messages by reflection. Messages nest a hundred levels at most.
//!
//! How types meet values:
//! - messages and maps are maps, repeated fields are arrays, bytes are bytes; keys are the names in the schema (written, `lowerCamel`
//!   names do, too);
//! - enums are the text of their value, or a number that the schema does not know;
//! - 64-bit numbers beyond the range of signed ones are text;
//! - a field that is not set is left out where the wire can tell (messages, `oneof`, `optional`, proto2), else it has its default:
//!   0, an empty text, `false`, the first value of an enum, an empty array or map;
//! - of a `oneof` at most one field may be given; null is not given; keys that are no fields are left out;
//! - well-known types are messages like others.

/// Messages to values.
mod decode;
/// Values to messages.
mod encode;

use std::collections::BTreeMap;

use bytes::Bytes;
use hookline_schemas::Value;
use prost_reflect::prost::Message;
use prost_reflect::{DynamicMessage, FileDescriptor, MessageDescriptor};
use protox::Compiler;
use protox::file::{File, FileResolver, GoogleFileResolver};

use crate::error::{EvalError, did_you_mean};

/// A schema: a file of message types.
#[derive(Debug)]
pub(super) struct Schema {
    file: FileDescriptor,
}

/// The texts of all protobuf schemas, by file name: what `import` can name beside the well-known types.
#[derive(Debug, Clone, Default)]
pub(super) struct Sources(BTreeMap<String, String>);

impl Sources {
    pub(super) fn insert(&mut self, schema: &str, source: &str) {
        self.0.insert(file_name(schema), source.to_owned());
    }
}

impl FileResolver for Sources {
    fn open_file(&self, name: &str) -> Result<File, protox::Error> {
        match self.0.get(name) {
            Some(source) => File::from_source(name, source),
            None => GoogleFileResolver::new().open_file(name),
        }
    }
}

fn file_name(schema: &str) -> String {
    if schema.ends_with(".proto") { schema.to_owned() } else { format!("{schema}.proto") }
}

impl Schema {
    pub(super) fn compile(schema: &str, sources: &Sources) -> Result<Schema, String> {
        let name = file_name(schema);
        let mut compiler = Compiler::with_file_resolver(sources.clone());
        // The form for debugging has the line.
        compiler.open_file(&name).map_err(|error| format!("{error:?}"))?;
        let file = compiler.descriptor_pool().get_file_by_name(&name);
        let file = file.ok_or_else(|| format!("\"{schema}\" cannot be the name of a protobuf schema: use letters and digits"))?;
        if file.messages().len() == 0 {
            return Err("it defines no message".to_owned());
        }
        Ok(Schema { file })
    }

    pub(super) fn encode(&self, value: &Value, message_type: Option<&str>) -> Result<Vec<u8>, EvalError> {
        let descriptor = self.message(message_type)?;
        Ok(encode::message(&descriptor, value, 0)?.encode_to_vec())
    }

    pub(super) fn decode(&self, bytes: &Bytes, message_type: Option<&str>) -> Result<Value, EvalError> {
        self.decode_as(self.message(message_type)?, bytes)
    }

    pub(super) fn decode_as(&self, descriptor: MessageDescriptor, bytes: &Bytes) -> Result<Value, EvalError> {
        let message = DynamicMessage::decode(descriptor, bytes.clone()).map_err(|error| EvalError::new(error.to_string()))?;
        decode::message(&message, 0)
    }

    /// A message type by its name, with or without the package; without a name the only one of the file.
    pub(super) fn message(&self, name: Option<&str>) -> Result<MessageDescriptor, EvalError> {
        let Some(name) = name else {
            let mut all = self.file.messages();
            return match (all.next(), all.next()) {
                (Some(only), None) => Ok(only),
                _ => Err(EvalError::new(format!("which message is it? give one of {}", self.message_names().join(", ")))),
            };
        };
        let pool = self.file.parent_pool();
        let found = pool.get_message_by_name(name);
        let found = found.or_else(|| pool.get_message_by_name(&format!("{}.{name}", self.file.package_name())));
        found.filter(|message| !message.is_map_entry()).ok_or_else(|| {
            let names = self.message_names();
            let hint = did_you_mean(name, names.iter().map(String::as_str)).map(|near| format!("; did you mean \"{near}\"?"));
            EvalError::new(format!("there is no message \"{name}\"{}", hint.unwrap_or_default()))
        })
    }

    fn message_names(&self) -> Vec<String> {
        self.file.messages().map(|message| message.full_name().to_owned()).collect()
    }

    /// Where a message type stands: its place in the file, then in the message around it, and so on.
    pub(super) fn places_of(&self, message: &MessageDescriptor) -> Result<Vec<i32>, EvalError> {
        if message.parent_file().name() != self.file.name() {
            return Err(EvalError::new(format!("the message \"{}\" is of another file, and cannot be tagged", message.full_name())));
        }
        // A descriptor's path alternates: the number of a field of the file's own description, then a place in it.
        Ok(message.path().iter().skip(1).step_by(2).copied().collect())
    }

    /// The message type at such places.
    pub(super) fn message_at(&self, places: &[usize]) -> Result<MessageDescriptor, EvalError> {
        let (first, rest) = places.split_first().unwrap_or((&0, &[]));
        let start = self.file.messages().nth(*first);
        let found = rest.iter().fold(start, |message, place| message?.child_messages().nth(*place));
        found.ok_or_else(|| EvalError::new("the schema has no message at the place that the tag names"))
    }
}

#[cfg(test)]
mod tests;
