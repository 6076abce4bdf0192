//! What runs: the rules and actions of the configuration, and where their figures come from.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_connectors::{DeliveryControl, DeliveryHandle, IntakeHandle, IntakeView};
use hookline_rules::error::did_you_mean;
use hookline_rules::{Engine, Statement};
use hookline_schemas::config::{ConditionalAction, Config, Rule, RuleAction};

use super::{Code, Problem};
use crate::live::asked_connectors;

/// The rules and actions that the API tells of.
#[derive(Debug)]
pub(crate) struct Running {
    pub(super) node: String,
    pub(super) engine: Arc<Engine>,
    rules: BTreeMap<String, RunningRule>,
    actions: BTreeMap<String, RunningAction>,
    pub(super) sources: BTreeMap<String, RunningSource>,
    connectors: BTreeMap<String, RunningConnector>,
}

/// A connector of the configuration.
#[derive(Debug)]
pub(super) struct RunningConnector {
    pub(super) kind: String,
    /// Those that name it.
    pub(super) actions: Vec<String>,
    pub(super) sources: Vec<String>,
    pub(super) persistence: Vec<String>,
    /// Logins or permissions are asked for by it.
    pub(super) decides: bool,
}

/// A rule of the configuration.
#[derive(Debug)]
pub(super) struct RunningRule {
    pub(super) settings: Rule,
    /// What stands behind FROM.
    pub(super) from: Vec<String>,
}

/// An action of the configuration.
#[derive(Debug)]
pub(super) struct RunningAction {
    pub(super) connector: String,
    /// The type of the connector.
    pub(super) kind: String,
    /// The rules that name it.
    pub(super) rules: Vec<String>,
    pub(super) delivery: DeliveryControl,
}

/// A source of the configuration, where it runs.
#[derive(Debug)]
pub(super) struct RunningSource {
    pub(super) connector: String,
    /// The type of the connector.
    pub(super) kind: String,
    pub(super) view: IntakeView,
}

impl Running {
    /// The rules and actions of a configuration, as they run now.
    pub(crate) fn new<'a>(
        config: &Config,
        engine: Arc<Engine>,
        deliveries: impl Iterator<Item = &'a DeliveryHandle>,
        intakes: &BTreeMap<String, IntakeHandle>,
    ) -> Running {
        let rules = config.rules.iter().map(|(name, settings)| {
            // A rule that does not run may be wrong.
            let from = Statement::compile(&settings.sql).map(|statement| statement.sources().to_vec()).unwrap_or_default();
            (name.clone(), RunningRule { settings: settings.clone(), from })
        });
        let kind_of = |connector: &str| config.connectors.get(connector).map(|connector| connector.kind.clone()).unwrap_or_default();
        let actions = deliveries.filter_map(|delivery| {
            let (name, action) = config.actions.get_key_value(delivery.name())?;
            let kind = kind_of(&action.connector);
            let rules = rules_of(config, name);
            Some((name.clone(), RunningAction { connector: action.connector.clone(), kind, rules, delivery: delivery.control() }))
        });
        let sources = intakes.iter().filter_map(|(name, intake)| {
            let connector = config.sources.get(name)?.connector.clone();
            Some((name.clone(), RunningSource { kind: kind_of(&connector), connector, view: intake.view() }))
        });
        let connectors = connectors_of(config);
        Running {
            node: config.node.name.clone(),
            rules: rules.collect(),
            actions: actions.collect(),
            sources: sources.collect(),
            connectors,
            engine,
        }
    }

    /// All rules, by name.
    pub(super) fn rules(&self) -> &BTreeMap<String, RunningRule> {
        &self.rules
    }

    /// The rule of a name.
    pub(super) fn rule(&self, name: &str) -> Result<&RunningRule, Problem> {
        self.rules.get(name).ok_or_else(|| unknown("rule", name, self.rules.keys()))
    }

    /// The source of a name, where it runs.
    pub(super) fn source(&self, name: &str) -> Result<&RunningSource, Problem> {
        self.sources.get(name).ok_or_else(|| unknown("source that runs", name, self.sources.keys()))
    }

    /// All connectors, by name.
    pub(super) fn connectors(&self) -> &BTreeMap<String, RunningConnector> {
        &self.connectors
    }

    /// The connector of a name.
    pub(super) fn connector(&self, name: &str) -> Result<&RunningConnector, Problem> {
        self.connectors.get(name).ok_or_else(|| unknown("connector", name, self.connectors.keys()))
    }

    /// All actions, by name.
    pub(super) fn actions(&self) -> &BTreeMap<String, RunningAction> {
        &self.actions
    }

    /// The action of a name.
    pub(super) fn action(&self, name: &str) -> Result<&RunningAction, Problem> {
        self.actions.get(name).ok_or_else(|| unknown("action", name, self.actions.keys()))
    }
}

fn connectors_of(config: &Config) -> BTreeMap<String, RunningConnector> {
    let asked = asked_connectors(config);
    let connectors = config.connectors.iter().map(|(name, connector)| {
        let actions = config.actions.iter().filter(|(_, action)| action.connector == *name).map(|(name, _)| name.clone()).collect();
        let sources = config.sources.iter().filter(|(_, source)| source.connector == *name).map(|(name, _)| name.clone()).collect();
        let persistence = config.persistence.iter().filter(|(_, one)| one.connector == *name).map(|(name, _)| name.clone()).collect();
        let decides = asked.contains(&name.as_str());
        (name.clone(), RunningConnector { kind: connector.kind.clone(), actions, sources, persistence, decides })
    });
    connectors.collect()
}

fn rules_of(config: &Config, action: &str) -> Vec<String> {
    let names = |other: &RuleAction| match other {
        RuleAction::Named(name) | RuleAction::Conditional(ConditionalAction { action: name, .. }) => name == action,
        RuleAction::BuiltIn(_) => false,
    };
    config.rules.iter().filter(|(_, rule)| rule.actions.iter().any(names)).map(|(name, _)| name.clone()).collect()
}

fn unknown<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a String>) -> Problem {
    let hint = did_you_mean(name, known.map(String::as_str)).map(|near| format!("; did you mean \"{near}\"?"));
    Problem::new(Code::NotFound, format!("there is no {what} \"{name}\"{}", hint.unwrap_or_default()))
}
