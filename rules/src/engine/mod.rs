//! All rules, as one hook of the broker.
//!
//! In: events, and the time.
//! Out: rows for the queues of actions, and messages to republish, in the outcome of the event.

mod action;
mod rule;
mod topics;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use hookline_schemas::config::Rule as Settings;
use hookline_schemas::ports::{Hook, Outcome, Promise, StateStore};
use hookline_schemas::{Event, HookPoint, HookSet, QueueId};
use parking_lot::RwLock;

pub use rule::{Failure, RuleStats};

use crate::context::Context;
use rule::Rule;
use topics::TopicIndex;

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

/// All rules, compiled. They can be replaced while events come.
#[derive(Debug)]
pub struct Engine {
    plan: ArcSwap<Plan>,
}

/// The rules in force, and which events are for which of them.
#[derive(Debug)]
struct Plan {
    rules: Vec<Arc<Rule>>,
    points: HookSet,
    /// The rules of each hook point, by its number.
    by_point: Vec<Vec<usize>>,
    topics: TopicIndex,
    /// Which rules a topic is for, as found before.
    by_topic: RwLock<HashMap<Box<str>, Arc<[usize]>>>,
    /// The rules that have windows.
    with_windows: Vec<usize>,
}

/// Topics whose rules are remembered; beyond it the memory starts afresh.
const TOPICS_MAX: usize = 4096;

impl Engine {
    /// Compiles the rules that are enabled. What windows keep over a restart is in `state`.
    ///
    /// # Errors
    /// Everything that is wrong with any of them.
    pub fn new(
        rules: &BTreeMap<String, Settings>,
        targets: &Targets,
        state: Option<&Arc<dyn StateStore>>,
    ) -> Result<Engine, Vec<EngineError>> {
        Ok(Engine { plan: ArcSwap::from_pointee(Plan::compile(rules, targets, state, &[])?) })
    }

    /// Puts other rules in force, all at once. Those that stay as they are go on, with their counters and windows.
    ///
    /// # Errors
    /// Everything that is wrong with any of them; then nothing has changed.
    pub fn replace(
        &self,
        rules: &BTreeMap<String, Settings>,
        targets: &Targets,
        state: Option<&Arc<dyn StateStore>>,
    ) -> Result<(), Vec<EngineError>> {
        let old = self.plan.load_full();
        // A rule that changes goes on with what its window has kept, as after a restart.
        old.keep();
        self.plan.store(Arc::new(Plan::compile(rules, targets, state, &old.rules)?));
        Ok(())
    }

    /// What each rule has done so far.
    pub fn stats(&self) -> Vec<RuleStats> {
        self.plan.load().rules.iter().map(|rule| rule.stats()).collect()
    }

    /// What one rule has done so far; `None`: it does not run.
    pub fn stats_of(&self, rule: &str) -> Option<RuleStats> {
        self.plan.load().rules.iter().find(|other| *other.name == *rule).map(|rule| rule.stats())
    }

    /// Keeps what is to go on after a restart: when nothing comes any more.
    pub fn keep(&self) {
        self.plan.load().keep();
    }
}

impl Plan {
    fn compile(
        rules: &BTreeMap<String, Settings>,
        targets: &Targets,
        state: Option<&Arc<dyn StateStore>>,
        running: &[Arc<Rule>],
    ) -> Result<Plan, Vec<EngineError>> {
        let mut compiled = Vec::new();
        let mut errors = Vec::new();
        // What a client was remembered by ends with its connection.
        let has_dictionary = rules.values().any(|settings| settings.sql.contains("proc_dict_"));
        for (name, settings) in rules.iter().filter(|(_, settings)| settings.enable) {
            if let Some(same) = running.iter().find(|rule| rule.is_as(name, settings, targets)) {
                compiled.push(Arc::clone(same));
                continue;
            }
            match Rule::new(name, settings, targets, state) {
                Ok(rule) => compiled.push(Arc::new(rule)),
                Err(mut problems) => errors.append(&mut problems),
            }
        }
        if errors.is_empty() { Ok(Plan::of(compiled, has_dictionary)) } else { Err(errors) }
    }

    fn of(rules: Vec<Arc<Rule>>, has_dictionary: bool) -> Plan {
        let mut by_point = vec![Vec::new(); HookPoint::TABLE.len()];
        let mut points = HookSet::EMPTY;
        let mut topics = TopicIndex::default();
        for (index, rule) in rules.iter().enumerate() {
            for point in &rule.statement.points {
                by_point[*point as usize].push(index);
                points = points.with(*point);
            }
            for filter in &rule.statement.filters {
                topics.insert(filter, index);
                points = points.with(HookPoint::MessagePublish);
            }
        }
        if has_dictionary {
            points = points.with(HookPoint::ClientDisconnected);
        }
        let with_windows = (0..rules.len()).filter(|index| rules[*index].has_window()).collect();
        Plan { rules, points, by_point, topics, by_topic: RwLock::default(), with_windows }
    }

    fn keep(&self) {
        self.with_windows.iter().for_each(|index| self.rules[*index].keep());
    }

    /// The rules that a topic is for.
    fn for_topic(&self, topic: &str) -> Arc<[usize]> {
        if let Some(found) = self.by_topic.read().get(topic) {
            return Arc::clone(found);
        }
        let found: Arc<[usize]> = self.topics.rules(topic).into();
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
        self.plan.load().points
    }

    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        let plan = self.plan.load();
        let context = Context::of_event(event);
        let hops = event.message().map_or(0, |message| message.hops);
        for index in &plan.by_point[event.point as usize] {
            plan.rules[*index].run(&context, event.timestamp_ms, hops, outcome);
        }
        if event.point == HookPoint::MessagePublish
            && let Some(message) = event.message()
        {
            for index in plan.for_topic(&message.topic).iter() {
                plan.rules[*index].run(&context, event.timestamp_ms, hops, outcome);
            }
        }
        if event.point == HookPoint::ClientDisconnected {
            crate::function::forget_client(&event.client.client_id);
        }
    }

    fn has_clock(&self) -> bool {
        !self.plan.load().with_windows.is_empty()
    }

    fn tick(&self, now_ms: u64, outcome: &mut Outcome) {
        let plan = self.plan.load();
        for index in &plan.with_windows {
            plan.rules[*index].tick(now_ms, outcome);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use hookline_schemas::config::{RuleAction, RuleWindow};

    fn rule(sql: &str, action: &str) -> BTreeMap<String, Settings> {
        let actions = vec![RuleAction::Named(action.into())];
        let (description, window) = (String::new(), RuleWindow::default());
        BTreeMap::from([("r".to_owned(), Settings { sql: sql.into(), actions, enable: true, description, window })])
    }

    fn targets(name: &str) -> Targets {
        Targets::from([(name.to_owned(), (QueueId(1), Promise::default()))])
    }

    #[test]
    fn all_errors_are_told_at_once_and_name_the_rule() {
        let errors = Engine::new(&rule("SELECT uper(a) FROM \"t\"", "oders"), &targets("orders"), None).expect_err("two errors");
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
        let engine = Engine::new(&rule("SELECT * FROM \"$events/client_connected\"", "a"), &targets("a"), None).expect("valid");
        assert!(engine.points().contains(HookPoint::ClientConnected) && !engine.points().contains(HookPoint::MessagePublish));
    }
}
