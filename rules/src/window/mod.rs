//! Windows: events are put together by time and group, and become rows when a window closes. There is no clock here: the
//! time is passed in, and windows close when somebody asks what is due. All state is bounded, and can be stored.
//!
//! In: events, with the time. Out: rows, when they are due.

mod aggregate;
mod plan;
mod stored;

use std::collections::HashMap;

use hookline_schemas::Value;
use hookline_schemas::record::encode_row;
use serde::{Deserialize, Serialize};

pub use aggregate::AggregateKind;
pub use plan::WindowPlan;

use crate::context::Context;
use crate::error::EvalError;
use crate::eval::{Budget, Scope, measure};
use aggregate::Accumulator;

/// The largest value that a group or an aggregate keeps, in bytes.
const VALUE_BYTES_MAX: usize = 4096;

/// How many closed windows of a group may wait for somebody to ask, beside those that are open.
const WAITING_MAX: usize = 8;

/// Which window an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WindowKind {
    /// One after the other; they begin at multiples of their size since 1970.
    Tumbling { size_ms: u64 },
    /// One begins with each step, so that they overlap.
    Hopping { size_ms: u64, step_ms: u64 },
    /// One for each group, until no event has come for so long.
    Session { gap_ms: u64 },
}

/// Bounds of a window's state.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowLimits {
    /// How many groups there may be at once; events of further groups are refused and counted.
    pub groups_max: usize,
}

impl Default for WindowLimits {
    fn default() -> WindowLimits {
        WindowLimits { groups_max: 10_000 }
    }
}

/// What a window has counted since it was made, also over restarts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
pub struct WindowStats {
    /// Events that went into a window.
    pub taken: u64,
    /// Events for which WHERE did not hold.
    pub filtered: u64,
    /// Events that came when their window was closed already.
    pub late: u64,
    /// Events that were refused, because there were too many groups or windows.
    pub refused: u64,
    /// Rows that could not be computed.
    pub failed: u64,
}

/// A window's state that cannot be read back.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WindowError {
    #[error("the window's state is damaged: {0}")]
    Damaged(String),
    #[error("the window's state belongs to another statement; it starts afresh")]
    OtherStatement,
}

/// The windows of one rule.
#[derive(Debug)]
pub struct Window {
    plan: WindowPlan,
    limits: WindowLimits,
    state: WindowState,
    /// Where each group is, by its values.
    places: HashMap<Box<[u8]>, usize>,
    /// When the next window closes.
    next_due: Option<u64>,
    error: Option<EvalError>,
}

/// What is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct WindowState {
    statement: String,
    /// Windows that end at this time or before are closed.
    closed_ms: u64,
    /// In the order of their first event.
    groups: Vec<Group>,
    stats: WindowStats,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Group {
    /// An array: the values of GROUP BY.
    #[serde(with = "stored")]
    values: Value,
    panes: Vec<Pane>,
}

/// One window of one group.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pane {
    start_ms: u64,
    end_ms: u64,
    accumulators: Vec<Accumulator>,
}

impl Window {
    /// A window without events.
    pub fn new(plan: WindowPlan, limits: WindowLimits) -> Window {
        let state = WindowState { statement: plan.statement.clone(), closed_ms: 0, groups: Vec::new(), stats: WindowStats::default() };
        Window::with_state(plan, limits, state)
    }

    fn with_state(plan: WindowPlan, limits: WindowLimits, state: WindowState) -> Window {
        let mut window = Window { plan, limits, state, places: HashMap::new(), next_due: None, error: None };
        window.index();
        window
    }

    /// Takes an event. What cannot go into a window any more, or not beside all the others, is counted.
    pub(crate) fn push(&mut self, now_ms: u64, context: &Context<'_>) -> Result<(), EvalError> {
        let budget = Budget::default();
        let scope = Scope::new(context, &self.plan.names, &budget);
        if let Some(condition) = &self.plan.condition
            && !scope.condition(condition)?
        {
            self.state.stats.filtered += 1;
            return Ok(());
        }
        // Everything that can fail comes before the first change.
        let values = self.plan.groups.iter().map(|group| keep(scope.owned(group)?)).collect::<Result<Vec<_>, EvalError>>()?;
        let mut inputs = Vec::with_capacity(self.plan.aggregates.len());
        for aggregate in &self.plan.aggregates {
            let input = match &aggregate.argument {
                Some(argument) => keep(scope.owned(argument)?)?,
                None => Value::Bool(true),
            };
            aggregate.kind.check(&input)?;
            inputs.push(input);
        }
        let spans = self.spans(now_ms);
        if spans.is_empty() {
            self.state.stats.late += 1;
            return Ok(());
        }
        if self.add(&Value::Array(values), &spans, &inputs) {
            self.state.stats.taken += 1;
        } else {
            self.state.stats.refused += 1;
        }
        Ok(())
    }

    /// The rows of the windows that have closed by now: by their ends, and in the order of the groups' first events.
    pub fn due(&mut self, now_ms: u64) -> Vec<Value> {
        self.state.closed_ms = self.state.closed_ms.max(now_ms);
        if self.next_due.is_none_or(|next| next > now_ms) {
            return Vec::new();
        }
        let mut closed = Vec::new();
        for group in &mut self.state.groups {
            let panes = group.panes.extract_if(.., |pane| pane.end_ms <= now_ms);
            closed.extend(panes.map(|pane| (group.values.clone(), pane)));
        }
        self.state.groups.retain(|group| !group.panes.is_empty());
        self.index();
        closed.sort_by_key(|(_, pane)| pane.end_ms);
        let mut rows = Vec::with_capacity(closed.len());
        for (values, pane) in closed {
            match self.row(values, &pane) {
                Ok(row) => rows.push(row),
                Err(error) => {
                    self.state.stats.failed += 1;
                    self.error = Some(error);
                }
            }
        }
        rows
    }

    /// When the next window closes; none where no window has events.
    pub fn next_due(&self) -> Option<u64> {
        self.next_due
    }

    /// What it has counted.
    pub fn stats(&self) -> WindowStats {
        self.state.stats
    }

    /// How many groups there are now.
    pub fn groups(&self) -> usize {
        self.state.groups.len()
    }

    /// Why the last row that failed could not be computed; told once.
    pub fn take_error(&mut self) -> Option<EvalError> {
        self.error.take()
    }

    /// The windows that an event belongs to and that are not closed yet, as start and end.
    fn spans(&self, now_ms: u64) -> Vec<(u64, u64)> {
        let span = |start: u64, size: u64| (start, start.saturating_add(size));
        let mut spans = match self.plan.kind {
            WindowKind::Tumbling { size_ms } => vec![span(now_ms - now_ms % size_ms, size_ms)],
            WindowKind::Session { gap_ms } => vec![span(now_ms, gap_ms)],
            WindowKind::Hopping { size_ms, step_ms } => {
                let last = now_ms - now_ms % step_ms;
                let starts = std::iter::successors(Some(last), |start| start.checked_sub(step_ms));
                starts.take_while(|start| start.saturating_add(size_ms) > now_ms).map(|start| span(start, size_ms)).collect()
            }
        };
        spans.retain(|(_, end)| *end > self.state.closed_ms);
        spans
    }

    /// Adds an event to its windows; `false`: there are too many.
    fn add(&mut self, values: &Value, spans: &[(u64, u64)], inputs: &[Value]) -> bool {
        let mut key = Vec::new();
        encode_row(&mut key, values);
        let place = match self.places.get(key.as_slice()) {
            Some(place) => *place,
            None if self.state.groups.len() >= self.limits.groups_max => return false,
            None => {
                let place = self.state.groups.len();
                self.places.insert(key.into(), place);
                self.state.groups.push(Group { values: values.clone(), panes: Vec::new() });
                place
            }
        };
        let group = &mut self.state.groups[place];
        let mut is_taken = false;
        for span in spans {
            let Some(pane) = group.pane(&self.plan, *span, spans.len() + WAITING_MAX) else { continue };
            is_taken = true;
            for ((accumulator, aggregate), input) in pane.accumulators.iter_mut().zip(&self.plan.aggregates).zip(inputs) {
                accumulator.add(aggregate.kind, input);
            }
        }
        // A session that has grown ends later than was known before.
        let ends = group.panes.iter().map(|pane| pane.end_ms);
        self.next_due = ends.chain(self.next_due).min();
        is_taken
    }

    fn row(&self, values: Value, pane: &Pane) -> Result<Value, EvalError> {
        let Value::Array(mut slots) = values else { return Ok(Value::Undefined) };
        let aggregates = pane.accumulators.iter().zip(&self.plan.aggregates);
        slots.extend(aggregates.map(|(accumulator, aggregate)| accumulator.result(aggregate.kind, aggregate.fraction)));
        let columns = plan::columns(pane.start_ms, pane.end_ms);
        let context = Context::of_row(&columns);
        let budget = Budget::default();
        let mut scope = Scope::new(&context, &self.plan.field_names, &budget).with_slots(&slots);
        self.plan.fields.iter().try_for_each(|field| scope.select(field, None))?;
        Ok(scope.selected)
    }

    /// Finds the groups and the next end anew.
    fn index(&mut self) {
        self.places.clear();
        for (place, group) in self.state.groups.iter().enumerate() {
            let mut key = Vec::new();
            encode_row(&mut key, &group.values);
            self.places.insert(key.into(), place);
        }
        self.next_due = self.state.groups.iter().flat_map(|group| &group.panes).map(|pane| pane.end_ms).min();
    }
}

impl Group {
    /// The pane for a span of time: the one that is there, a session that goes on, or a new one; none where there are too many.
    fn pane(&mut self, plan: &WindowPlan, (start_ms, end_ms): (u64, u64), panes_max: usize) -> Option<&mut Pane> {
        let is_session = matches!(plan.kind, WindowKind::Session { .. });
        let fits = |pane: &Pane| match is_session {
            true => start_ms < pane.end_ms && pane.start_ms < end_ms,
            false => pane.start_ms == start_ms,
        };
        let place = match self.panes.iter().position(fits) {
            Some(place) => place,
            None if self.panes.len() >= panes_max => return None,
            None => {
                let accumulators = plan.aggregates.iter().map(|aggregate| Accumulator::new(aggregate.kind)).collect();
                self.panes.push(Pane { start_ms, end_ms, accumulators });
                self.panes.len() - 1
            }
        };
        let pane = self.panes.get_mut(place)?;
        pane.start_ms = pane.start_ms.min(start_ms);
        pane.end_ms = pane.end_ms.max(end_ms);
        Some(pane)
    }
}

/// A value that may be kept: small, and no part of a larger message.
fn keep(value: Value) -> Result<Value, EvalError> {
    if measure(&value, 0)? > VALUE_BYTES_MAX {
        return Err(EvalError::budget(format!("a window keeps no value of more than {VALUE_BYTES_MAX} bytes")));
    }
    Ok(match value {
        Value::Bytes(bytes) => Value::Bytes(bytes.to_vec().into()),
        other => other,
    })
}

#[cfg(test)]
mod tests;
