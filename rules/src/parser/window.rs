//! `GROUP BY …, TUMBLING(10s)`.

use super::{Aggregates, Parser};
use crate::ast::WindowClause;
use crate::error::SqlError;
use crate::lexer::Kind;
use crate::window::WindowKind;

/// How long a window or the silence that ends a session may be: a week.
const LENGTH_MAX_MS: u64 = 7 * 24 * 3_600_000;

/// How many hopping windows may be open at once.
const OVERLAP_MAX: u64 = 100;

const KINDS: &str = "a window: TUMBLING(10s), HOPPING(10s, 5s) or SESSION(30s)";

impl Parser<'_> {
    /// The window, where there is one.
    pub(super) fn window(&mut self) -> Result<Option<WindowClause>, SqlError> {
        if !self.take_keyword("GROUP") {
            return Ok(None);
        }
        self.expect_keyword("BY")?;
        self.aggregates = Aggregates::Forbidden("GROUP BY");
        let mut groups = Vec::new();
        loop {
            if let Some(kind) = self.window_kind()? {
                return Ok(Some(WindowClause { groups, kind }));
            }
            groups.push(self.expr()?);
            if !self.take_symbol(",") {
                return Err(self.unexpected(&self.peek().clone(), &format!("\",\" and {KINDS}")));
            }
        }
    }

    fn window_kind(&mut self) -> Result<Option<WindowKind>, SqlError> {
        let offset = self.offset();
        let Kind::Word(word) = self.peek().clone() else { return Ok(None) };
        if *self.peek_at(1) != Kind::Symbol("(") {
            return Ok(None);
        }
        let word = word.to_ascii_lowercase();
        if !["tumbling", "hopping", "session"].contains(&word.as_str()) {
            return Ok(None);
        }
        self.at += 2;
        let first_ms = self.duration()?;
        let kind = match word.as_str() {
            "tumbling" => WindowKind::Tumbling { size_ms: first_ms },
            "session" => WindowKind::Session { gap_ms: first_ms },
            _ => {
                self.expect_symbol(",")?;
                WindowKind::Hopping { size_ms: first_ms, step_ms: self.duration()? }
            }
        };
        self.expect_symbol(")")?;
        match kind {
            WindowKind::Hopping { size_ms, step_ms } if step_ms > size_ms || size_ms.div_ceil(step_ms) > OVERLAP_MAX => {
                let problem = format!("the second duration of HOPPING is between the first and a {OVERLAP_MAX}th of it");
                Err(SqlError::at(self.sql, offset, problem))
            }
            kind => Ok(Some(kind)),
        }
    }

    fn duration(&mut self) -> Result<u64, SqlError> {
        match self.next() {
            Kind::Duration(millis @ 1..=LENGTH_MAX_MS) => Ok(millis),
            other => Err(self.unexpected_before(&other, "a duration from 1ms to 7d, such as 500ms, 10s, 5m or 1h")),
        }
    }
}
