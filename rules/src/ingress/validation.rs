//! A validation: checks that a message must pass.

use std::sync::Arc;

use hookline_schemas::config::{Check as CheckSettings, Strategy, Validation as Settings};
use hookline_schemas::{Message, Value};

use super::expression::Condition;
use super::step::Step;
use crate::error::EvalError;
use crate::schema::{Registry, Schema};

#[derive(Debug)]
pub(super) struct Validation {
    pub(super) step: Step,
    strategy: Strategy,
    checks: Vec<Check>,
}

#[derive(Debug)]
enum Check {
    Schema { schema: Arc<Schema>, message_type: Option<String> },
    Sql(Box<Condition>),
}

impl Validation {
    pub(super) fn new(name: &str, settings: &Settings, registry: &Registry) -> Result<Validation, Vec<(String, String)>> {
        let mut problems = Vec::new();
        let step = Step::new(name, &settings.topics, settings.failure_action, settings.log_failure, &mut problems);
        if settings.checks.is_empty() {
            problems.push(("checks".to_owned(), "missing; a validation without checks says nothing".to_owned()));
        }
        let mut checks = Vec::new();
        for (index, check) in settings.checks.iter().enumerate() {
            let (key, compiled) = match check {
                CheckSettings::Schema { schema, message_type } => {
                    let found = registry.get(schema).map_err(|error| error.to_string());
                    let found = found.and_then(|schema| super::transformation::with_message(schema, message_type.as_deref()));
                    ("schema", found.map(|schema| Check::Schema { schema, message_type: message_type.clone() }))
                }
                CheckSettings::Sql { sql } => {
                    ("sql", Condition::compile(sql).map(|condition| Check::Sql(Box::new(condition))).map_err(|error| error.to_string()))
                }
            };
            match compiled {
                Ok(check) => checks.push(check),
                Err(problem) => problems.push((format!("checks[{index}].{key}"), problem)),
            }
        }
        if problems.is_empty() { Ok(Validation { step, strategy: settings.strategy, checks }) } else { Err(problems) }
    }

    /// Whether a message passes. `columns` are made where a condition asks for them.
    pub(super) fn check<'a>(&self, message: &Message, columns: impl Fn() -> &'a Value) -> Result<(), EvalError> {
        let payload = Value::Bytes(message.payload.clone());
        let mut results = self.checks.iter().map(|check| match check {
            Check::Schema { schema, message_type } => schema.check(&payload, message_type.as_deref()),
            Check::Sql(condition) => match condition.holds(columns()) {
                Ok(true) => Ok(()),
                Ok(false) => Err(EvalError::new("the condition does not hold")),
                Err(error) => Err(error),
            },
        });
        match self.strategy {
            Strategy::AllPass => results.collect(),
            Strategy::AnyPass => {
                let mut problem = None;
                // The last one's problem stands for all: each of them could have let the message pass.
                let passed = results.any(|result| result.map_err(|error| problem = Some(error)).is_ok());
                if passed { Ok(()) } else { Err(problem.unwrap_or_else(|| EvalError::new("no check passed"))) }
            }
        }
    }
}
