//! JSON Schema: documents that must be as a schema says. It refers to no other file, and patterns take linear time.

use bytes::Bytes;
use hookline_schemas::Value;
use jsonschema::{PatternOptions, Validator};

use super::deeper;
use crate::error::EvalError;

#[derive(Debug)]
pub(super) struct Schema(Validator);

impl Schema {
    pub(super) fn compile(source: &str) -> Result<Schema, String> {
        let schema: serde_json::Value = serde_json::from_str(source).map_err(|error| format!("it is not JSON: {error}"))?;
        let options = jsonschema::options().offline().should_validate_formats(true).with_pattern_options(PatternOptions::regex());
        options.build(&schema).map(Schema).map_err(|error| error.to_string())
    }

    pub(super) fn encode(&self, value: &Value) -> Result<String, EvalError> {
        // A payload is a document already.
        if let Some(text) = value.as_bytes() {
            self.decode(&Bytes::copy_from_slice(text))?;
            return value.as_text().map(str::to_owned).ok_or_else(|| EvalError::new("the text is not UTF-8"));
        }
        bounded(value, 0)?;
        let json = value.to_json();
        self.check(&json)?;
        Ok(json.to_string())
    }

    pub(super) fn decode(&self, bytes: &Bytes) -> Result<Value, EvalError> {
        let json: serde_json::Value = serde_json::from_slice(bytes).map_err(|error| EvalError::new(format!("not JSON: {error}")))?;
        self.check(&json)?;
        Ok(Value::from_json(json))
    }

    fn check(&self, json: &serde_json::Value) -> Result<(), EvalError> {
        // The masked form leaves the document out: it may be long, and none of the log's business.
        self.0.validate(json).map_err(|error| {
            let problem = error.masked().to_string();
            let path = error.instance_path().to_string();
            EvalError::new(if path.is_empty() { problem } else { format!("{path}: {problem}") })
        })
    }
}

/// Refuses what nests too deeply.
fn bounded(value: &Value, depth: usize) -> Result<(), EvalError> {
    match value {
        Value::Array(items) => {
            let depth = deeper(depth)?;
            items.iter().try_for_each(|item| bounded(item, depth))
        }
        Value::Map(map) => {
            let depth = deeper(depth)?;
            map.iter().try_for_each(|(_, item)| bounded(item, depth))
        }
        _ => Ok(()),
    }
}
