//! One rule: its statement, its window, its actions, and what came of them.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hookline_schemas::config::{ConditionalAction, Rule as Settings, RuleAction};
use hookline_schemas::ports::{Outcome, Promise, StateStore};
use hookline_schemas::trace::RuleResult;
use hookline_schemas::{QueueId, Value};
use parking_lot::Mutex;

use super::action::Action;
use super::{EngineError, Targets};
use crate::context::Context;
use crate::error::EvalError;
use crate::eval::Rows;
use crate::plan::Statement;
use crate::window::{Window, WindowError, WindowLimits, WindowStats};

/// A rule, compiled.
#[derive(Debug)]
pub(super) struct Rule {
    pub(super) name: Arc<str>,
    pub(super) statement: Statement,
    /// What it was made of: the settings, and the queues that they name.
    made_of: (String, Vec<Option<(QueueId, Promise)>>),
    actions: Vec<Action>,
    window: Option<RuleWindow>,
    counters: Counters,
    failures: Mutex<VecDeque<Failure>>,
}

/// The window of a rule.
struct RuleWindow {
    window: Mutex<Window>,
    /// Where it is kept over a restart.
    state: Option<Arc<dyn StateStore>>,
    key: Vec<u8>,
    kept_ms: AtomicU64,
}

impl std::fmt::Debug for RuleWindow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RuleWindow").field("window", &self.window).finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct Counters {
    matched: AtomicU64,
    passed: AtomicU64,
    no_result: AtomicU64,
    exception: AtomicU64,
    actions_total: AtomicU64,
    actions_success: AtomicU64,
    actions_failed: AtomicU64,
}

/// Why a rule could not be computed, and for what.
#[derive(Debug, Clone, PartialEq)]
pub struct Failure {
    /// Milliseconds since the Unix epoch.
    pub at_ms: u64,
    pub error: String,
    /// The columns of the event, or the row of the action.
    pub event: Value,
}

/// What a rule has done so far.
#[derive(Debug, Clone, PartialEq)]
pub struct RuleStats {
    pub rule: String,
    /// Events that were for it.
    pub matched: u64,
    /// Of those, the ones that gave at least one row, or went into a window.
    pub passed: u64,
    /// Events that gave nothing: WHERE did not hold, or FOREACH had no item.
    pub no_result: u64,
    /// Events that it could not be computed for.
    pub exception: u64,
    /// Rows that were given to an action, for each action.
    pub actions_total: u64,
    /// Of those, what went into the action's queue, or on its way as a message.
    pub actions_success: u64,
    /// Of those, what the action could not make anything of.
    pub actions_failed: u64,
    /// The last failures, the oldest first.
    pub failures: Vec<Failure>,
    pub window: Option<WindowStats>,
}

/// Failures that are remembered.
const FAILURES_MAX: usize = 5;
/// The largest event that is remembered with a failure, bytes as JSON.
const FAILURE_BYTES_MAX: usize = 4096;
/// How often a window is kept.
const KEEP_INTERVAL_MS: u64 = 1000;

/// What a rule is made of.
fn ingredients(settings: &Settings, targets: &Targets) -> (String, Vec<Option<(QueueId, Promise)>>) {
    let named = |action: &RuleAction| match action {
        RuleAction::Named(name) | RuleAction::Conditional(ConditionalAction { action: name, .. }) => targets.get(name).copied(),
        RuleAction::BuiltIn(_) => None,
    };
    (serde_json::to_string(settings).unwrap_or_default(), settings.actions.iter().map(named).collect())
}

impl Rule {
    /// Whether it would be made the same of that.
    pub(super) fn is_as(&self, name: &str, settings: &Settings, targets: &Targets) -> bool {
        *self.name == *name && self.made_of == ingredients(settings, targets)
    }

    pub(super) fn new(
        name: &str,
        settings: &Settings,
        targets: &Targets,
        state: Option<&Arc<dyn StateStore>>,
    ) -> Result<Rule, Vec<EngineError>> {
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
        let Some(statement) = statement.filter(|_| errors.is_empty()).map(|statement| statement.of_rule(name)) else {
            return Err(errors);
        };
        let window = statement.window().map(|plan| {
            let key = [b"window/", name.as_bytes()].concat();
            let state = state.filter(|_| settings.window.durable).cloned();
            let limits = WindowLimits { groups_max: settings.window.groups_max };
            let kept = state.as_ref().and_then(|state| state.load(&key).ok()?.into_iter().find(|(found, _)| *found == key));
            let window = match kept.map(|(_, bytes)| Window::from_bytes(plan.clone(), limits, &bytes)) {
                Some(Ok(window)) => window,
                Some(Err(error)) => {
                    if let WindowError::Damaged(_) = error {
                        tracing::error!(rule = name, %error, "the windows of a rule are lost");
                    }
                    Window::new(plan.clone(), limits)
                }
                None => Window::new(plan.clone(), limits),
            };
            RuleWindow { window: Mutex::new(window), state, key, kept_ms: AtomicU64::new(0) }
        });
        let made_of = ingredients(settings, targets);
        Ok(Rule { name: name.into(), statement, made_of, actions, window, counters: Counters::default(), failures: Mutex::default() })
    }

    pub(super) fn has_window(&self) -> bool {
        self.window.is_some()
    }

    pub(super) fn run(&self, context: &Context<'_>, now_ms: u64, hops: u8, outcome: &mut Outcome) {
        if let Some(trace) = outcome.trace() {
            trace.enter_rule();
        }
        let result = self.evaluate(context, now_ms, hops, outcome);
        if let Some(trace) = outcome.trace() {
            trace.leave_rule(&self.name, result.unwrap_or_else(|error| RuleResult::Failed(error.problem)));
        }
    }

    fn evaluate(&self, context: &Context<'_>, now_ms: u64, hops: u8, outcome: &mut Outcome) -> Result<RuleResult, EvalError> {
        count(&self.counters.matched);
        if let Some(window) = &self.window {
            let mut window = window.window.lock();
            let before = window.stats().filtered;
            return match window.push(now_ms, context) {
                Ok(()) if window.stats().filtered > before => Ok(self.has_no_result()),
                Ok(()) => {
                    count(&self.counters.passed);
                    Ok(RuleResult::Window)
                }
                Err(error) => Err(self.failed(error, now_ms, || context.row())),
            };
        }
        match self.statement.run(context) {
            Ok(rows) if rows.as_slice().is_empty() => Ok(self.has_no_result()),
            Ok(rows) => {
                count(&self.counters.passed);
                self.give(&rows, now_ms, hops, outcome);
                Ok(RuleResult::Rows(rows.as_slice().len()))
            }
            Err(error) => Err(self.failed(error, now_ms, || context.row())),
        }
    }

    fn has_no_result(&self) -> RuleResult {
        count(&self.counters.no_result);
        RuleResult::NoResult
    }

    /// Gives the rows of windows that have closed to the actions.
    pub(super) fn tick(&self, now_ms: u64, outcome: &mut Outcome) {
        let Some(own) = &self.window else { return };
        let (rows, error) = {
            let mut window = own.window.lock();
            let rows = window.due(now_ms);
            (rows, window.take_error())
        };
        if let Some(error) = error {
            self.failed(error, now_ms, || Value::Undefined);
        }
        self.give(&Rows::Many(rows), now_ms, 0, outcome);
        if now_ms.saturating_sub(own.kept_ms.load(Ordering::Relaxed)) >= KEEP_INTERVAL_MS {
            own.kept_ms.store(now_ms, Ordering::Relaxed);
            self.keep();
        }
    }

    /// Keeps the windows that are open, where they are to go on after a restart.
    pub(super) fn keep(&self) {
        let Some(RuleWindow { window, state: Some(state), key, .. }) = &self.window else { return };
        let bytes = window.lock().to_bytes();
        if let Err(error) = state.keep(key, Some(&bytes)) {
            tracing::error!(rule = &*self.name, %error, "the windows of a rule cannot be kept");
        }
    }

    fn give(&self, rows: &Rows, now_ms: u64, hops: u8, outcome: &mut Outcome) {
        for row in rows.as_slice() {
            for action in &self.actions {
                match action.take(&self.name, row, hops, outcome) {
                    Ok(true) => {
                        count(&self.counters.actions_total);
                        count(&self.counters.actions_success);
                    }
                    Ok(false) => {}
                    Err(error) => {
                        count(&self.counters.actions_total);
                        count(&self.counters.actions_failed);
                        self.remember(&error, now_ms, || row.clone());
                    }
                }
            }
        }
    }

    fn failed(&self, error: EvalError, now_ms: u64, event: impl FnOnce() -> Value) -> EvalError {
        count(&self.counters.exception);
        self.remember(&error, now_ms, event);
        error
    }

    fn remember(&self, error: &EvalError, now_ms: u64, event: impl FnOnce() -> Value) {
        let failed = self.counters.exception.load(Ordering::Relaxed) + self.counters.actions_failed.load(Ordering::Relaxed);
        // The first, and then ever more rarely: a bad device must not fill the log.
        if failed.is_power_of_two() {
            tracing::warn!(rule = &*self.name, %error, failed, "rule failed");
        }
        let Some(mut failures) = self.failures.try_lock() else { return };
        // A flood of failures costs no more than one look a second.
        if failures.len() == FAILURES_MAX && failures.back().is_some_and(|last| now_ms.saturating_sub(last.at_ms) < 1000) {
            return;
        }
        if failures.len() == FAILURES_MAX {
            failures.pop_front();
        }
        let event = event();
        let is_small = event.to_json().to_string().len() <= FAILURE_BYTES_MAX;
        failures.push_back(Failure { at_ms: now_ms, error: error.to_string(), event: if is_small { event } else { Value::Undefined } });
    }

    pub(super) fn stats(&self) -> RuleStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        RuleStats {
            rule: self.name.to_string(),
            matched: load(&self.counters.matched),
            passed: load(&self.counters.passed),
            no_result: load(&self.counters.no_result),
            exception: load(&self.counters.exception),
            actions_total: load(&self.counters.actions_total),
            actions_success: load(&self.counters.actions_success),
            actions_failed: load(&self.counters.actions_failed),
            failures: self.failures.lock().iter().cloned().collect(),
            window: self.window.as_ref().map(|own| own.window.lock().stats()),
        }
    }
}

fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}
