//! What happens to messages before rules and subscribers hear of them: validations, then transformations.
//!
//! In: published messages.
//! Out: the same, changed where transformations say so, or a verdict against them.

/// SQL in the places where there is no whole statement.
mod expression;
/// Counters, logs, what failures lead to: the same for both.
mod step;
/// The parts of messages that operations set.
mod target;
/// Changes of messages.
mod transformation;
/// What messages must be like.
mod validation;

use std::cell::OnceCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use hookline_schemas::config;
use hookline_schemas::event::About;
use hookline_schemas::gate::{Failed, Gate, Verdict};
use hookline_schemas::{Event, HookPoint, Map, Message, Value};
use parking_lot::RwLock;

pub(crate) use expression::RowCondition;
pub use step::{StepKind, StepStats};

use self::step::Step;
use self::transformation::{Draft, Transformation};
use self::validation::Validation;
use crate::schema::Registry;

/// A validation or transformation that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("{kind}.{name}.{key}: {problem}")]
pub struct IngressError {
    /// `validations` or `transformations`.
    pub kind: &'static str,
    pub name: String,
    pub key: String,
    pub problem: String,
}

/// All validations and transformations, compiled.
#[derive(Debug)]
pub struct Ingress {
    node: Arc<str>,
    validations: Vec<Validation>,
    transformations: Vec<Transformation>,
    /// Those of a topic, as found before.
    by_topic: RwLock<HashMap<Box<str>, Arc<Plan>>>,
}

/// What a message of a topic goes through: places in the lists.
#[derive(Debug, Default)]
struct Plan {
    validations: Vec<usize>,
    transformations: Vec<usize>,
}

/// Topics that are remembered; beyond it the memory starts afresh.
const TOPICS_MAX: usize = 4096;

impl Ingress {
    /// Compiles what is enabled. Schemas are taken from `registry`, and kept: a new registry needs a new ingress.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn new(
        node: &str,
        validations: &BTreeMap<String, config::Validation>,
        transformations: &BTreeMap<String, config::Transformation>,
        registry: &Registry,
    ) -> Result<Ingress, Vec<IngressError>> {
        let mut errors = Vec::new();
        let mut ingress = Ingress { node: node.into(), validations: Vec::new(), transformations: Vec::new(), by_topic: RwLock::default() };
        for (name, settings) in validations.iter().filter(|(_, settings)| settings.enable) {
            match Validation::new(name, settings, registry) {
                Ok(validation) => ingress.validations.push(validation),
                Err(problems) => errors.extend(told("validations", name, problems)),
            }
        }
        for (name, settings) in transformations.iter().filter(|(_, settings)| settings.enable) {
            match Transformation::new(name, settings, registry) {
                Ok(transformation) => ingress.transformations.push(transformation),
                Err(problems) => errors.extend(told("transformations", name, problems)),
            }
        }
        if errors.is_empty() { Ok(ingress) } else { Err(errors) }
    }

    /// What each has done so far.
    pub fn stats(&self) -> Vec<StepStats> {
        let validations = self.validations.iter().map(|validation| validation.step.stats(StepKind::Validation));
        validations.chain(self.transformations.iter().map(|transformation| transformation.step.stats(StepKind::Transformation))).collect()
    }

    /// What a message of this topic goes through.
    fn plan(&self, topic: &str) -> Arc<Plan> {
        if let Some(found) = self.by_topic.read().get(topic) {
            return Arc::clone(found);
        }
        let plan = Arc::new(Plan {
            validations: (0..self.validations.len()).filter(|index| self.validations[*index].step.is_for(topic)).collect(),
            transformations: (0..self.transformations.len()).filter(|index| self.transformations[*index].step.is_for(topic)).collect(),
        });
        let mut by_topic = self.by_topic.write();
        if by_topic.len() >= TOPICS_MAX {
            by_topic.clear();
        }
        by_topic.insert(topic.into(), Arc::clone(&plan));
        plan
    }

    fn validate(&self, plan: &Plan, message: &Message, columns: &OnceCell<Value>, failed: Failed<'_>) -> Verdict {
        for index in &plan.validations {
            let validation = &self.validations[*index];
            validation.step.count_matched();
            match validation.check(message, || columns.get_or_init(|| self.columns(message))) {
                Ok(()) => validation.step.count_succeeded(),
                Err(problem) => {
                    failed(HookPoint::SchemaValidationFailed, validation.step.name(), message);
                    if let Some(verdict) = validation.step.fail(&problem, StepKind::Validation) {
                        return verdict;
                    }
                }
            }
        }
        Verdict::Pass
    }

    fn transform(&self, plan: &Plan, message: &mut Message, columns: Value, failed: Failed<'_>) -> Verdict {
        let mut draft = Draft::new(columns);
        let mut last: Option<&Step> = None;
        for index in &plan.transformations {
            let transformation = &self.transformations[*index];
            let step = &transformation.step;
            step.count_matched();
            // On a copy: a failure that is ignored leaves nothing behind.
            let mut next = draft.clone();
            match transformation.run(&mut next) {
                Ok(()) => {
                    // What it has made must still turn out to be a message, where it is the last.
                    if let Some(before) = last.replace(step) {
                        before.count_succeeded();
                    }
                    draft = next;
                }
                Err(problem) => {
                    failed(HookPoint::MessageTransformationFailed, step.name(), message);
                    if let Some(verdict) = step.fail(&problem, StepKind::Transformation) {
                        if let Some(before) = last {
                            before.count_succeeded();
                        }
                        return verdict;
                    }
                }
            }
        }
        let Some(last) = last else { return Verdict::Pass };
        match draft.apply(message) {
            Ok(()) => last.count_succeeded(),
            Err(problem) => {
                failed(HookPoint::MessageTransformationFailed, last.name(), message);
                if let Some(verdict) = last.fail(&problem, StepKind::Transformation) {
                    return verdict;
                }
            }
        }
        Verdict::Pass
    }

    /// The columns that expressions see: those of `message.publish`, and the parts that operations can set.
    fn columns(&self, message: &Message) -> Value {
        let event = Event {
            point: HookPoint::MessagePublish,
            timestamp_ms: message.received_at_ms,
            node: &self.node,
            client: &message.from,
            about: About::Message(message),
        };
        let mut row = event.to_row();
        if let Value::Map(columns) = &mut row {
            let mut user = Map::new();
            for (name, value) in message.properties.user() {
                user.insert(name, Value::text(value));
            }
            columns.insert("retain", Value::Bool(message.retain));
            columns.insert("user_property", Value::Map(user));
        }
        row
    }
}

impl Gate for Ingress {
    fn is_open(&self) -> bool {
        self.validations.is_empty() && self.transformations.is_empty()
    }

    fn on_publish(&self, message: &mut Message, failed: Failed<'_>) -> Verdict {
        if self.is_open() {
            return Verdict::Pass;
        }
        let plan = self.plan(&message.topic);
        let columns = OnceCell::new();
        let verdict = self.validate(&plan, message, &columns, &mut *failed);
        if verdict != Verdict::Pass || plan.transformations.is_empty() {
            return verdict;
        }
        let columns = columns.into_inner().unwrap_or_else(|| self.columns(message));
        self.transform(&plan, message, columns, failed)
    }
}

fn told(kind: &'static str, name: &str, problems: Vec<(String, String)>) -> impl Iterator<Item = IngressError> {
    let name = name.to_owned();
    problems.into_iter().map(move |(key, problem)| IngressError { kind, name: name.clone(), key, problem })
}

#[cfg(test)]
mod tests;
