//! A transformation: the payload is decoded, parts of the message are set, the payload is encoded.

use std::sync::Arc;

use bytes::Bytes;
use hookline_mqtt::{PropertyId, PropertyValue, QoS, topic};
use hookline_schemas::config::{PayloadCodec, Transformation as Settings};
use hookline_schemas::{Map, Message, Value};

use super::expression::Expression;
use super::step::Step;
use super::target::Target;
use crate::error::EvalError;
use crate::schema::{Registry, Schema};

#[derive(Debug)]
pub(super) struct Transformation {
    pub(super) step: Step,
    decoder: Form,
    operations: Vec<(Target, Expression)>,
    encoder: Form,
}

/// A form of payloads.
#[derive(Debug)]
enum Form {
    AsItIs,
    Json,
    Schema { schema: Arc<Schema>, message_type: Option<String> },
}

/// A message on its way through transformations: its columns, as they are by now.
#[derive(Debug, Clone)]
pub(super) struct Draft {
    columns: Value,
    /// User properties that were set.
    user: Vec<(Box<str>, Box<str>)>,
}

impl Transformation {
    pub(super) fn new(name: &str, settings: &Settings, registry: &Registry) -> Result<Transformation, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let step = Step::new(name, &settings.topics, settings.failure_action, settings.log_failure, &mut problems);
        let mut form = |key: &str, codec| {
            Form::new(codec, registry).unwrap_or_else(|problem| {
                problems.push((format!("{key}.schema"), problem));
                Form::AsItIs
            })
        };
        let (decoder, encoder) = (form("decoder", &settings.decoder), form("encoder", &settings.encoder));
        let mut operations = Vec::new();
        for (index, operation) in settings.operations.iter().enumerate() {
            let target = Target::parse(&operation.key).map_err(|problem| problems.push((format!("operations[{index}].key"), problem)));
            let value = Expression::compile(&operation.value)
                .map_err(|error| problems.push((format!("operations[{index}].value"), error.to_string())));
            if let (Ok(target), Ok(value)) = (target, value) {
                operations.push((target, value));
            }
        }
        if problems.is_empty() { Ok(Transformation { step, decoder, operations, encoder }) } else { Err(problems) }
    }

    pub(super) fn run(&self, draft: &mut Draft) -> Result<(), EvalError> {
        let decoded = self.decoder.decode(draft.column_mut("payload")).map_err(|error| EvalError::new(format!("decoder: {error}")))?;
        *draft.column_mut("payload") = decoded;
        for (index, (target, expression)) in self.operations.iter().enumerate() {
            let set = expression.value(&draft.columns).and_then(|value| target.set(draft, value));
            set.map_err(|error| EvalError::new(format!("operations[{index}]: {error}")))?;
        }
        let encoded = self.encoder.encode(draft.column_mut("payload")).map_err(|error| EvalError::new(format!("encoder: {error}")))?;
        *draft.column_mut("payload") = encoded;
        Ok(())
    }
}

impl Form {
    fn new(codec: &PayloadCodec, registry: &Registry) -> Result<Form, String> {
        let (name, message_type, kind) = match codec {
            PayloadCodec::None => return Ok(Form::AsItIs),
            PayloadCodec::Json { schema: None } => return Ok(Form::Json),
            PayloadCodec::Json { schema: Some(schema) } => (schema, None, "json"),
            PayloadCodec::Avro { schema } => (schema, None, "avro"),
            PayloadCodec::Protobuf { schema, message_type } => (schema, message_type.as_deref(), "protobuf"),
        };
        let schema = registry.get(name).map_err(|error| error.to_string())?;
        if schema.kind() != kind {
            return Err(format!("schema \"{name}\" is of type {}, not {kind}", schema.kind()));
        }
        Ok(Form::Schema { schema: with_message(schema, message_type)?, message_type: message_type.map(str::to_owned) })
    }

    fn decode(&self, payload: &Value) -> Result<Value, EvalError> {
        match self {
            Form::AsItIs => Ok(payload.clone()),
            Form::Json => {
                let text = payload.as_bytes().ok_or_else(|| EvalError::new("the payload is decoded already"))?;
                let json = serde_json::from_slice(text).map_err(|error| EvalError::new(format!("the payload is not JSON: {error}")))?;
                Ok(Value::from_json(json))
            }
            Form::Schema { schema, message_type } => schema.decode(payload, message_type.as_deref()),
        }
    }

    fn encode(&self, payload: &Value) -> Result<Value, EvalError> {
        match self {
            Form::AsItIs => Ok(payload.clone()),
            Form::Json => Ok(Value::Bytes(payload.to_json().to_string().into())),
            Form::Schema { schema, message_type } => schema.encode(payload, message_type.as_deref()),
        }
    }
}

impl Draft {
    pub(super) fn new(columns: Value) -> Draft {
        Draft { columns, user: Vec::new() }
    }

    /// A column, to change.
    pub(super) fn column_mut(&mut self, name: &str) -> &mut Value {
        if !matches!(self.columns, Value::Map(_)) {
            self.columns = Value::Map(Map::new());
        }
        let Value::Map(columns) = &mut self.columns else { unreachable!("it was made a map above") };
        if columns.get(name).is_none() {
            columns.push_new(name, Value::Undefined);
        }
        columns.get_mut(name).expect("it was added above")
    }

    fn column<'a>(&'a self, name: &'a str) -> &'a Value {
        self.columns.path([name])
    }

    pub(super) fn set_user_property(&mut self, name: &str, value: Box<str>) {
        let user = self.column_mut("user_property");
        if let Value::Map(user) = user {
            user.insert(name, Value::Text(value.clone()));
        }
        self.user.retain(|(other, _)| **other != *name);
        self.user.push((name.into(), value));
    }

    /// Gives the message what the draft has. What is wrong is found before anything is changed.
    pub(super) fn apply(&self, message: &mut Message) -> Result<(), EvalError> {
        let payload: Bytes = match self.column("payload") {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            other => return Err(EvalError::new(format!("the payload is {}, not bytes; it needs an encoder", other.type_name()))),
        };
        let name = self.column("topic").as_text().unwrap_or_default();
        if !topic::name_is_valid(name, usize::MAX) || (name != &*message.topic && name.starts_with("$SYS/")) {
            return Err(EvalError::new(format!("\"{name}\" is no topic that can be published to")));
        }
        if name != &*message.topic {
            message.topic = name.into();
        }
        if let Value::Int(level) = self.column("qos") {
            message.qos = u8::try_from(*level).ok().and_then(QoS::from_bits).unwrap_or(message.qos);
        }
        if let Value::Bool(retain) = self.column("retain") {
            message.retain = *retain;
        }
        let is_text = payload == message.payload || std::str::from_utf8(&payload).is_ok();
        message.payload = payload;
        message.properties.retain(|property| match &property.value {
            PropertyValue::Pair(name, _) => !self.user.iter().any(|(set, _)| set == name),
            // Section 3.3.2.3.2: what says to be text must be text.
            _ => property.id != PropertyId::PayloadFormatIndicator || is_text,
        });
        for (name, value) in &self.user {
            message.properties.push_user(name, value);
        }
        Ok(())
    }
}

/// The schema, where it knows the message type that is to be used with it.
pub(super) fn with_message(schema: &Arc<Schema>, message_type: Option<&str>) -> Result<Arc<Schema>, String> {
    schema.check_message_type(message_type).map_err(|error| error.to_string())?;
    Ok(Arc::clone(schema))
}
