//! All rules, as one hook of the broker.
//!
//! In: events.
//! Out: rows for the queues of actions, and messages to republish, in the outcome of the event.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hookline_mqtt::QoS;
use hookline_schemas::config::{BuiltIn, Rule as Settings, RuleAction};
use hookline_schemas::ports::{Hook, Outcome, Promise, Republish};
use hookline_schemas::{Event, HookPoint, HookSet, QueueId, Template, Value};
use parking_lot::RwLock;

use crate::context::Context;
use crate::error::did_you_mean;
use crate::plan::Statement;

/// The queues of the actions that rules can name, with what an ack promises.
pub type Targets = BTreeMap<String, (QueueId, Promise)>;

/// A rule that cannot be run.
#[derive(Debug, thiserror::Error)]
#[error("rules.{rule}.{key}: {problem}")]
pub struct EngineError {
    pub rule: String,
    pub key: &'static str,
    pub problem: String,
}

/// All rules, compiled.
#[derive(Debug)]
pub struct Engine {
    rules: Vec<Rule>,
    points: HookSet,
    /// The rules of each hook point, by its number.
    by_point: Vec<Vec<usize>>,
    /// The rules that have topic filters.
    with_filters: Vec<usize>,
    /// Which of them a topic is for, as found before.
    by_topic: RwLock<HashMap<Box<str>, Arc<[usize]>>>,
}

#[derive(Debug)]
struct Rule {
    name: String,
    statement: Statement,
    actions: Vec<Action>,
    counters: Counters,
}

#[derive(Debug)]
enum Action {
    Queue { queue: QueueId, promise: Promise },
    Republish { topic: Template, payload: Template, qos: QoS, retain: bool },
    Console,
}

#[derive(Debug, Default)]
struct Counters {
    matched: AtomicU64,
    passed: AtomicU64,
    no_result: AtomicU64,
    failed: AtomicU64,
}

/// What a rule has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleStats {
    pub rule: String,
    /// Events that were for it.
    pub matched: u64,
    /// Rows that it gave.
    pub passed: u64,
    /// Events for which WHERE did not hold.
    pub no_result: u64,
    /// Events that it could not be computed for.
    pub failed: u64,
}

/// Topics whose rules are remembered; beyond it the memory starts afresh.
const TOPICS_MAX: usize = 4096;

impl Engine {
    /// Compiles the rules that are enabled.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn new(rules: &BTreeMap<String, Settings>, targets: &Targets) -> Result<Engine, Vec<EngineError>> {
        let mut compiled = Vec::new();
        let mut errors = Vec::new();
        for (name, settings) in rules.iter().filter(|(_, settings)| settings.enable) {
            match Rule::new(name, settings, targets) {
                Ok(rule) => compiled.push(rule),
                Err(mut problems) => errors.append(&mut problems),
            }
        }
        if errors.is_empty() { Ok(Engine::of(compiled)) } else { Err(errors) }
    }

    fn of(rules: Vec<Rule>) -> Engine {
        let mut by_point = vec![Vec::new(); HookPoint::TABLE.len()];
        let mut points = HookSet::EMPTY;
        for (index, rule) in rules.iter().enumerate() {
            for point in &rule.statement.points {
                by_point[*point as usize].push(index);
                points = points.with(*point);
            }
        }
        let with_filters: Vec<usize> = (0..rules.len()).filter(|index| !rules[*index].statement.filters.is_empty()).collect();
        if !with_filters.is_empty() {
            points = points.with(HookPoint::MessagePublish);
        }
        Engine { rules, points, by_point, with_filters, by_topic: RwLock::default() }
    }

    /// What each rule has done so far.
    pub fn stats(&self) -> Vec<RuleStats> {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let stats = self.rules.iter().map(|rule| RuleStats {
            rule: rule.name.clone(),
            matched: load(&rule.counters.matched),
            passed: load(&rule.counters.passed),
            no_result: load(&rule.counters.no_result),
            failed: load(&rule.counters.failed),
        });
        stats.collect()
    }

    /// The rules that a topic is for.
    fn for_topic(&self, topic: &str) -> Arc<[usize]> {
        if let Some(found) = self.by_topic.read().get(topic) {
            return Arc::clone(found);
        }
        let wanted = self.with_filters.iter().filter(|index| self.rules[**index].statement.selects_topic(topic));
        let found: Arc<[usize]> = wanted.copied().collect();
        let mut by_topic = self.by_topic.write();
        if by_topic.len() >= TOPICS_MAX {
            by_topic.clear();
        }
        by_topic.insert(topic.into(), Arc::clone(&found));
        found
    }
}

impl Hook for Engine {
    fn points(&self) -> HookSet {
        self.points
    }

    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        let context = Context::of_event(event);
        let hops = event.message().map_or(0, |message| message.hops);
        for index in &self.by_point[event.point as usize] {
            self.rules[*index].run(&context, hops, outcome);
        }
        if event.point == HookPoint::MessagePublish
            && let Some(message) = event.message()
        {
            for index in self.for_topic(&message.topic).iter() {
                self.rules[*index].run(&context, hops, outcome);
            }
        }
    }
}

impl Rule {
    fn new(name: &str, settings: &Settings, targets: &Targets) -> Result<Rule, Vec<EngineError>> {
        let mut errors = Vec::new();
        let mut fail = |key, problem: String| errors.push(EngineError { rule: name.to_owned(), key, problem });
        let statement = Statement::compile(&settings.sql).map_err(|error| fail("sql", error.to_string())).ok();
        let mut actions = Vec::new();
        for action in &settings.actions {
            match Action::new(action, targets) {
                Ok(action) => actions.push(action),
                Err(problem) => fail("actions", problem),
            }
        }
        match statement {
            Some(statement) if errors.is_empty() => Ok(Rule { name: name.to_owned(), statement, actions, counters: Counters::default() }),
            _ => Err(errors),
        }
    }

    fn run(&self, context: &Context<'_>, hops: u8, outcome: &mut Outcome) {
        self.counters.matched.fetch_add(1, Ordering::Relaxed);
        match self.statement.run(context) {
            Ok(Some(row)) => {
                self.counters.passed.fetch_add(1, Ordering::Relaxed);
                for action in &self.actions {
                    action.take(&self.name, &row, hops, outcome);
                }
            }
            Ok(None) => {
                self.counters.no_result.fetch_add(1, Ordering::Relaxed);
            }
            Err(error) => {
                let failed = self.counters.failed.fetch_add(1, Ordering::Relaxed) + 1;
                // The first, and then ever more rarely: a bad device must not fill the log.
                if failed.is_power_of_two() {
                    tracing::warn!(rule = self.name, %error, failed, "rule failed");
                }
            }
        }
    }
}

impl Action {
    fn new(action: &RuleAction, targets: &Targets) -> Result<Action, String> {
        match action {
            RuleAction::Named(name) => match targets.get(name) {
                Some((queue, promise)) => Ok(Action::Queue { queue: *queue, promise: *promise }),
                None => {
                    let hint = did_you_mean(name, targets.keys().map(String::as_str)).map(|near| format!("; did you mean \"{near}\"?"));
                    Err(format!("there is no action \"{name}\" in [actions]{}", hint.unwrap_or_default()))
                }
            },
            RuleAction::BuiltIn(BuiltIn::Console) => Ok(Action::Console),
            RuleAction::BuiltIn(BuiltIn::Republish { topic, payload, qos, retain }) => Ok(Action::Republish {
                topic: Template::parse(topic).map_err(|error| error.to_string())?,
                payload: Template::parse(payload).map_err(|error| error.to_string())?,
                qos: QoS::from_bits(*qos).ok_or_else(|| format!("qos {qos}: there are 0, 1 and 2"))?,
                retain: *retain,
            }),
        }
    }

    fn take(&self, rule: &str, row: &Value, hops: u8, outcome: &mut Outcome) {
        match self {
            Action::Queue { queue, promise } => outcome.record(*queue, *promise, row),
            Action::Console => tracing::info!(rule, row = %row.to_json(), "console"),
            Action::Republish { topic, payload, qos, retain } => outcome.republish(Republish {
                from: rule.into(),
                topic: topic.render_text(row).into(),
                payload: payload.render(row),
                qos: *qos,
                retain: *retain,
                hops: hops.saturating_add(1),
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(sql: &str, action: &str) -> BTreeMap<String, Settings> {
        let actions = vec![RuleAction::Named(action.into())];
        BTreeMap::from([("r".to_owned(), Settings { sql: sql.into(), actions, enable: true, description: String::new() })])
    }

    #[test]
    fn all_errors_are_told_at_once_and_name_the_rule() {
        let targets = Targets::from([("orders".to_owned(), (QueueId(1), Promise::default()))]);
        let errors = Engine::new(&rule("SELECT uper(a) FROM \"t\"", "oders"), &targets).expect_err("two errors");
        let texts: Vec<String> = errors.iter().map(ToString::to_string).collect();
        assert_eq!(
            texts,
            [
                "rules.r.sql: unknown function \"uper\"; did you mean \"upper\"? at column 8",
                "rules.r.actions: there is no action \"oders\" in [actions]; did you mean \"orders\"?",
            ]
        );
    }

    #[test]
    fn only_the_points_of_its_rules_are_wanted() {
        let targets = Targets::from([("a".to_owned(), (QueueId(1), Promise::default()))]);
        let engine = Engine::new(&rule("SELECT * FROM \"$events/client_connected\"", "a"), &targets).expect("valid");
        assert!(engine.points().contains(HookPoint::ClientConnected) && !engine.points().contains(HookPoint::MessagePublish));
    }
}
