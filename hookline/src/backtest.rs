//! A statement over recorded messages and events: what it would have produced, and when.

use std::ops::ControlFlow;

use anyhow::Context;
use hookline_core::store::{Recorded, SampleKey, Store};
use hookline_rules::trial::{Trial, Tried};
use hookline_rules::{EvalError, Statement};
use hookline_schemas::Value;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// What is looked at, and how far.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Range {
    /// Milliseconds since the Unix epoch.
    pub(crate) from_ms: u64,
    /// The same; events of this time are not looked at any more.
    pub(crate) to_ms: u64,
    /// The most rows.
    pub(crate) limit: u64,
}

/// The answer of the HTTP API.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Answered {
    pub(crate) rows: Vec<TimedRow>,
    pub(crate) summary: Summary,
}

/// A row, and when it would have come.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct TimedRow {
    pub(crate) at: String,
    pub(crate) row: serde_json::Value,
}

/// What came of it.
#[derive(Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Summary {
    /// Recorded events that were looked at.
    pub(crate) looked: u64,
    /// Those that FROM selects.
    pub(crate) selected: u64,
    /// Those of them for which WHERE holds.
    pub(crate) matched: u64,
    pub(crate) rows: u64,
    /// Events, and rows of windows, that could not be computed.
    pub(crate) failed: u64,
    /// The first of them.
    pub(crate) failures: Vec<Failure>,
    /// Matching events that no window took.
    pub(crate) refused: u64,
    /// Recorded events whose bytes make no sense.
    pub(crate) damaged: u64,
    /// The times of the first and the last event that was looked at.
    pub(crate) first: Option<String>,
    pub(crate) last: Option<String>,
    /// Whether everything was looked at; otherwise it ended with the limit, or took too long.
    pub(crate) complete: bool,
}

/// Something that could not be computed.
#[derive(Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Failure {
    pub(crate) at: String,
    pub(crate) problem: String,
    /// The columns of the event, as `--event` takes them; a window has none.
    pub(crate) event: Option<serde_json::Value>,
}

/// Failures that are kept.
const FAILURES_MAX: usize = 5;

/// Runs a statement over what is recorded. `each` is given every row, and may end it; so may `is_wanted`, which is asked before each
/// event.
pub(crate) fn run(
    store: &Store,
    statement: Statement,
    range: Range,
    is_wanted: impl Fn() -> bool,
    each: impl FnMut(TimedRow) -> anyhow::Result<ControlFlow<()>>,
) -> anyhow::Result<Summary> {
    let mut run = Run { trial: Trial::new(statement), summary: Summary::default(), limit: range.limit, each };
    let mut from = SampleKey::at(range.from_ms);
    loop {
        let page = store.samples(from, range.to_ms, |_| true)?;
        run.summary.damaged += page.damaged;
        for event in page.events {
            if !is_wanted() || run.event(&event)?.is_break() {
                return Ok(run.summary);
            }
        }
        match page.next {
            Some(next) => from = next,
            None => break,
        }
    }
    for (at_ms, row) in run.trial.end() {
        if run.row(at_ms, row)?.is_break() {
            return Ok(run.summary);
        }
    }
    run.summary.complete = true;
    Ok(run.summary)
}

struct Run<F> {
    trial: Trial,
    summary: Summary,
    limit: u64,
    each: F,
}

impl<F: FnMut(TimedRow) -> anyhow::Result<ControlFlow<()>>> Run<F> {
    fn event(&mut self, event: &Recorded) -> anyhow::Result<ControlFlow<()>> {
        let at_ms = event.key.at_ms();
        for (closed_ms, row) in self.trial.closed(at_ms) {
            if self.row(closed_ms, row)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        let tried = self.trial.event(at_ms, &event.columns);
        let at = time(at_ms);
        let summary = &mut self.summary;
        summary.looked += 1;
        summary.first.get_or_insert_with(|| at.clone());
        summary.last = Some(at);
        summary.selected += u64::from(tried != Ok(Tried::NotSelected));
        summary.matched += u64::from(matches!(tried, Ok(Tried::Rows(_) | Tried::Kept | Tried::Refused)));
        match tried {
            Ok(Tried::Rows(rows)) => {
                for row in rows {
                    if self.row(at_ms, Ok(row))?.is_break() {
                        return Ok(ControlFlow::Break(()));
                    }
                }
            }
            Ok(Tried::Refused) => summary.refused += 1,
            Ok(Tried::NotSelected | Tried::NoMatch | Tried::Kept) => {}
            Err(error) => summary.fail(at_ms, &error, Some(&event.columns)),
        }
        Ok(ControlFlow::Continue(()))
    }

    fn row(&mut self, at_ms: u64, row: Result<Value, EvalError>) -> anyhow::Result<ControlFlow<()>> {
        match row {
            Ok(_) if self.summary.rows == self.limit => Ok(ControlFlow::Break(())),
            Ok(row) => {
                self.summary.rows += 1;
                (self.each)(TimedRow { at: time(at_ms), row: row.to_json() })
            }
            Err(error) => {
                self.summary.fail(at_ms, &error, None);
                Ok(ControlFlow::Continue(()))
            }
        }
    }
}

impl Summary {
    fn fail(&mut self, at_ms: u64, error: &EvalError, columns: Option<&Value>) {
        self.failed += 1;
        if self.failures.len() < FAILURES_MAX {
            self.failures.push(Failure { at: time(at_ms), problem: error.to_string(), event: columns.map(Value::to_json) });
        }
    }
}

/// A time as people read it.
pub(crate) fn time(at_ms: u64) -> String {
    let timestamp = i64::try_from(at_ms).ok().and_then(|at_ms| jiff::Timestamp::from_millisecond(at_ms).ok());
    timestamp.map_or_else(|| at_ms.to_string(), |timestamp| format!("{timestamp:.3}"))
}

/// A moment that somebody names: `2026-01-31T12:00:00Z`, milliseconds since the Unix epoch, or how long ago, as in `15m`.
pub(crate) fn moment(text: &str, now_ms: u64) -> anyhow::Result<u64> {
    let way_out =
        || format!("\"{text}\" is no time; write 2026-01-31T12:00:00Z, milliseconds since 1970, or how long ago: 30s, 15m, 2h, 7d");
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit_ms = match &text[digits.len()..] {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => 0,
    };
    match digits.parse::<u64>() {
        Ok(millis) if digits.len() == text.len() => Ok(millis),
        Ok(count) if unit_ms > 0 => Ok(now_ms.saturating_sub(count.saturating_mul(unit_ms))),
        _ => {
            let timestamp: jiff::Timestamp = text.parse().with_context(way_out)?;
            u64::try_from(timestamp.as_millisecond()).with_context(way_out)
        }
    }
}

/// Now, in milliseconds since the Unix epoch.
pub(crate) fn now_ms() -> u64 {
    u64::try_from(jiff::Timestamp::now().as_millisecond()).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_times_or_how_long_ago() {
        let now_ms = 1_700_000_000_000;
        for (text, expect) in [
            ("2023-11-14T22:13:20Z", 1_700_000_000_000),
            ("2023-11-14T23:13:20.5+01:00", 1_700_000_000_500),
            ("1700000000123", 1_700_000_000_123),
            ("30s", now_ms - 30_000),
            ("15m", now_ms - 900_000),
            ("2h", now_ms - 7_200_000),
            ("7d", now_ms - 604_800_000),
        ] {
            assert_eq!(moment(text, now_ms).expect(text), expect, "{text}");
        }
        for text in ["", "soon", "5x", "-3m", "2023-11-14", "1900-01-01T00:00:00Z"] {
            assert!(moment(text, now_ms).is_err(), "{text}");
        }
        assert_eq!(time(1_700_000_000_005), "2023-11-14T22:13:20.005Z");
    }
}
