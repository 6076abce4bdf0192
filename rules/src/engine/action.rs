//! What takes a rule's rows.

use hookline_mqtt::{Properties, PropertyId, QoS};
use hookline_schemas::config::{BuiltIn, ConditionalAction, FlagOrTemplate, NumberOrTemplate, RuleAction};
use hookline_schemas::ports::{Outcome, Promise, Republish};
use hookline_schemas::{QueueId, Template, Value};

use super::Targets;
use crate::error::{EvalError, did_you_mean};
use crate::ingress::RowCondition;

/// An action of a rule, with the rows that it is for.
#[derive(Debug)]
pub(super) struct Action {
    when: Option<RowCondition>,
    what: What,
}

#[derive(Debug)]
enum What {
    Queue { queue: QueueId, promise: Promise },
    Republish(Box<Publish>),
    Console,
}

/// A message to publish, as templates.
#[derive(Debug)]
struct Publish {
    topic: Template,
    payload: Template,
    qos: Result<QoS, Template>,
    retain: Result<bool, Template>,
    properties: Vec<(PropertyId, Template)>,
    user_properties: Option<Template>,
}

impl Action {
    pub(super) fn new(action: &RuleAction, targets: &Targets) -> Result<Action, String> {
        let (when, what) = match action {
            RuleAction::Named(name) => (None, What::named(name, targets)?),
            RuleAction::Conditional(ConditionalAction { action, when }) => (when.as_deref(), What::named(action, targets)?),
            RuleAction::BuiltIn(BuiltIn::Console { when }) => (when.as_deref(), What::Console),
            RuleAction::BuiltIn(built_in @ BuiltIn::Republish { when, .. }) => {
                (when.as_deref(), What::Republish(Box::new(Publish::new(built_in)?)))
            }
        };
        let when = when.map(RowCondition::compile).transpose().map_err(|error| format!("when: {error}"))?;
        Ok(Action { when, what })
    }

    /// Takes a row; `false`: its condition does not hold.
    pub(super) fn take(&self, rule: &str, row: &Value, hops: u8, outcome: &mut Outcome) -> Result<bool, EvalError> {
        if let Some(when) = &self.when
            && !when.holds(row)?
        {
            return Ok(false);
        }
        match &self.what {
            What::Queue { queue, promise } => outcome.record(*queue, *promise, row),
            What::Console => tracing::info!(rule, row = %row.to_json(), "console"),
            What::Republish(publish) => outcome.republish(publish.message(rule, row, hops)?),
        }
        Ok(true)
    }
}

impl What {
    fn named(name: &str, targets: &Targets) -> Result<What, String> {
        match targets.get(name) {
            Some((queue, promise)) => Ok(What::Queue { queue: *queue, promise: *promise }),
            None => {
                let hint = did_you_mean(name, targets.keys().map(String::as_str)).map(|near| format!("; did you mean \"{near}\"?"));
                Err(format!("there is no action \"{name}\" in [actions]{}", hint.unwrap_or_default()))
            }
        }
    }
}

/// The properties that a template can give.
const PROPERTIES: &[PropertyId] = &[
    PropertyId::PayloadFormatIndicator,
    PropertyId::MessageExpiryInterval,
    PropertyId::ContentType,
    PropertyId::ResponseTopic,
    PropertyId::CorrelationData,
];

impl Publish {
    fn new(settings: &BuiltIn) -> Result<Publish, String> {
        let BuiltIn::Republish { topic, payload, qos, retain, mqtt_properties, user_properties, .. } = settings else {
            return Err("only republish publishes".into());
        };
        let template = |text: &str| Template::parse(text).map_err(|error| error.to_string());
        let qos = match qos {
            NumberOrTemplate::Number(number) => {
                Ok(qos_of(i64::from(*number)).ok_or_else(|| format!("qos {number}: there are 0, 1 and 2"))?)
            }
            NumberOrTemplate::Template(text) => Err(template(text)?),
        };
        let retain = match retain {
            FlagOrTemplate::Flag(flag) => Ok(*flag),
            FlagOrTemplate::Template(text) => Err(template(text)?),
        };
        let mut properties = Vec::new();
        for (name, text) in mqtt_properties {
            let id = PROPERTIES.iter().find(|id| id.name().eq_ignore_ascii_case(name)).ok_or_else(|| {
                let known: Vec<&str> = PROPERTIES.iter().map(|id| id.name()).collect();
                format!("mqtt_properties: there is no \"{name}\"; there are {}", known.join(", "))
            })?;
            properties.push((*id, template(text)?));
        }
        let user_properties = user_properties.as_deref().map(template).transpose()?;
        if user_properties.as_ref().is_some_and(|template| template.value(&Value::Undefined).is_none()) {
            return Err("user_properties: must be one placeholder, such as \"${pub_props.'User-Property'}\"".into());
        }
        Ok(Publish { topic: template(topic)?, payload: template(payload)?, qos, retain, properties, user_properties })
    }

    fn message(&self, rule: &str, row: &Value, hops: u8) -> Result<Republish, EvalError> {
        let qos = match &self.qos {
            Ok(qos) => *qos,
            Err(template) => {
                let text = template.render_text(row);
                let number = text.trim().parse::<i64>().ok().and_then(qos_of);
                number.ok_or_else(|| EvalError::new(format!("republish: qos \"{text}\" is not 0, 1 or 2")))?
            }
        };
        let retain = match &self.retain {
            Ok(retain) => *retain,
            // What is not there is not retained.
            Err(template) => matches!(template.render_text(row).trim(), "true" | "1"),
        };
        Ok(Republish {
            from: rule.into(),
            topic: self.topic.render_text(row).into(),
            payload: self.payload.render(row),
            qos,
            retain,
            properties: self.properties(row)?,
            hops: hops.saturating_add(1),
            trace: None,
        })
    }

    fn properties(&self, row: &Value) -> Result<Properties, EvalError> {
        let mut properties = Properties::default();
        for (id, template) in &self.properties {
            let text = template.render_text(row);
            if text.is_empty() {
                continue;
            }
            match id {
                PropertyId::PayloadFormatIndicator | PropertyId::MessageExpiryInterval => {
                    let number =
                        text.trim().parse().map_err(|_| EvalError::new(format!("republish: {} \"{text}\" is not a number", id.name())))?;
                    properties.push_number(*id, number);
                }
                PropertyId::CorrelationData => properties.push_binary(*id, &template.render(row)),
                _ => properties.push_text(*id, &text),
            }
        }
        if let Some(Value::Map(map)) = self.user_properties.as_ref().and_then(|template| template.value(row)) {
            for (name, value) in map.iter().filter(|(_, value)| **value != Value::Undefined) {
                properties.push_user(name, &value.to_string());
            }
        }
        Ok(properties)
    }
}

fn qos_of(number: i64) -> Option<QoS> {
    QoS::from_bits(u8::try_from(number).ok()?)
}
