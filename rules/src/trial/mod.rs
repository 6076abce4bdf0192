//! Statements that are tried: on events that somebody gives as columns, one after the other, with the outcome of each.
//!
//! In: columns, with the time. Out: rows, or why there are none.

mod given;

use hookline_schemas::Value;

use crate::context::Context;
use crate::error::EvalError;
use crate::lexer::{Kind, tokens};
use crate::plan::{Statement, WRITING_FUNCTIONS};
use crate::window::{Window, WindowLimits};

/// A statement that is tried. Its events come in the order of their time.
#[derive(Debug)]
pub struct Trial {
    statement: Statement,
    window: Option<Window>,
}

/// What an event came to.
#[derive(Debug, Clone, PartialEq)]
pub enum Tried {
    /// FROM does not select it.
    NotSelected,
    /// WHERE does not hold.
    NoMatch,
    /// The rows that it gives; FOREACH may give none.
    Rows(Vec<Value>),
    /// It went into a window, and becomes part of a row later.
    Kept,
    /// No window takes it: it came too late, or there are too many groups.
    Refused,
}

/// A row of a window, with the time at which the window closed.
pub type Closed = (u64, Result<Value, EvalError>);

impl Trial {
    /// A trial that has seen nothing yet.
    pub fn new(statement: Statement) -> Trial {
        let window = statement.window().map(|plan| Window::new(plan.clone(), WindowLimits::default()));
        Trial { statement, window }
    }

    /// The statement.
    pub fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Takes an event. Ask [`Trial::closed`] first: windows may have closed before it.
    ///
    /// # Errors
    /// What cannot be computed.
    pub fn event(&mut self, at_ms: u64, columns: &Value) -> Result<Tried, EvalError> {
        if !self.statement.matches_event(columns) {
            return Ok(Tried::NotSelected);
        }
        let context = Context::of_row(columns);
        let Some(window) = &mut self.window else {
            let rows = self.statement.run(&context)?;
            return Ok(if rows == crate::Rows::NoMatch { Tried::NoMatch } else { Tried::Rows(rows.into_vec()) });
        };
        let before = window.stats();
        window.push(at_ms, &context)?;
        let after = window.stats();
        Ok(match (after.filtered > before.filtered, after.taken > before.taken) {
            (true, _) => Tried::NoMatch,
            (false, true) => Tried::Kept,
            (false, false) => Tried::Refused,
        })
    }

    /// The rows of windows that have closed by that time.
    pub fn closed(&mut self, now_ms: u64) -> Vec<Closed> {
        let Some(window) = &mut self.window else { return Vec::new() };
        let mut closed = Vec::new();
        while let Some(end_ms) = window.next_due().filter(|end_ms| *end_ms <= now_ms) {
            closed.extend(window.due(end_ms).into_iter().map(|row| (end_ms, Ok(row))));
            closed.extend(window.take_error().map(|error| (end_ms, Err(error))));
        }
        closed
    }

    /// The rows of all windows that are open, as if nothing else came.
    pub fn end(&mut self) -> Vec<Closed> {
        self.closed(u64::MAX)
    }
}

impl Statement {
    /// Whether running it changes what other statements read, such as by `kv_store_put`.
    pub fn changes_state(sql: &str) -> bool {
        let is_writing = |word: &str| WRITING_FUNCTIONS.iter().any(|function| function.eq_ignore_ascii_case(word));
        tokens(sql).is_ok_and(|tokens| tokens.iter().any(|token| matches!(&token.kind, Kind::Word(word) if is_writing(word))))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};

    use super::*;

    fn trial(sql: &str) -> Trial {
        Trial::new(Statement::compile(sql).unwrap_or_else(|error| panic!("{sql}: {error}")))
    }

    fn columns(json: Json) -> Value {
        Value::from_json(json)
    }

    fn rows(closed: Vec<Closed>) -> Json {
        closed.into_iter().map(|(at_ms, row)| json!([at_ms, row.expect("computed").to_json()])).collect()
    }

    #[test]
    fn why_there_is_no_row_is_told_apart() {
        let mut trial = trial("FOREACH payload.l FROM \"t/#\" WHERE qos > 0");
        let event = |topic: &str, qos: u64, payload: &str| columns(json!({"topic": topic, "qos": qos, "payload": payload}));
        assert_eq!(trial.event(1, &event("u", 1, "{}")), Ok(Tried::NotSelected));
        assert_eq!(trial.event(1, &event("t/1", 0, "{}")), Ok(Tried::NoMatch));
        assert_eq!(trial.event(1, &event("t/1", 1, r#"{"l": []}"#)), Ok(Tried::Rows(Vec::new())));
        assert!(trial.event(1, &event("t/1", 1, "nonsense")).is_err());
        assert_eq!(trial.end(), Vec::new());
    }

    #[test]
    fn windows_close_in_the_time_of_the_events() {
        let mut trial = trial("SELECT count() AS n FROM \"t\" WHERE qos > 0 GROUP BY TUMBLING(10s)");
        let event = |qos: u64| columns(json!({"topic": "t", "qos": qos}));
        for at_ms in [1_000, 2_000] {
            assert_eq!(trial.event(at_ms, &event(1)), Ok(Tried::Kept));
        }
        assert_eq!(trial.event(3_000, &event(0)), Ok(Tried::NoMatch));
        assert_eq!(trial.closed(9_999), Vec::new());
        assert_eq!(rows(trial.closed(25_000)), json!([[10_000, {"n": 2}]]));
        assert_eq!(trial.event(5_000, &event(1)), Ok(Tried::Refused));
        assert_eq!(trial.event(25_000, &event(1)), Ok(Tried::Kept));
        assert_eq!(rows(trial.end()), json!([[30_000, {"n": 1}]]));
    }

    #[test]
    fn statements_that_write_are_known() {
        assert!(Statement::changes_state("SELECT kv_store_put('a', 1) FROM \"t\""));
        assert!(!Statement::changes_state("SELECT kv_store_get('kv_store_put') FROM \"t\""));
    }
}
