//! Rule SQL in places where there is no whole statement: one expression, or a condition without FROM. Both become statements.

use hookline_schemas::Value;

use crate::error::{EvalError, SqlError};
use crate::lexer::{Kind, tokens};
use crate::plan::Statement;

/// One expression.
#[derive(Debug)]
pub(super) struct Expression(Statement);

/// `SELECT … WHERE …`: whether it gives a row.
#[derive(Debug)]
pub(super) struct Condition(Statement);

/// What stands before the expression in its statement.
const BEFORE: &str = "SELECT (";
/// What stands behind it; on a line of its own, because the expression may end in a comment.
const BEHIND: &str = "\n) AS value FROM \"#\"";
/// What a condition gets in place of the FROM that it does not have.
const FROM: &str = " FROM \"#\" ";

impl Expression {
    pub(super) fn compile(text: &str) -> Result<Expression, SqlError> {
        let statement = Statement::compile(&format!("{BEFORE}{text}{BEHIND}"));
        let shifted = |error: SqlError| SqlError { column: error.column.saturating_sub(BEFORE.len()).max(1), ..error };
        statement.map(Expression).map_err(shifted)
    }

    pub(super) fn value(&self, columns: &Value) -> Result<Value, EvalError> {
        let rows = self.0.try_on(columns)?.into_vec();
        Ok(rows.first().map(|row| row.path(["value"]).clone()).unwrap_or_default())
    }
}

impl Condition {
    pub(super) fn compile(sql: &str) -> Result<Condition, SqlError> {
        let tokens = tokens(sql)?;
        // A name behind a point is part of a path, whatever it is.
        let keyword = |wanted: &str| {
            let is_wanted = |kind: &Kind| matches!(kind, Kind::Word(word) if word.eq_ignore_ascii_case(wanted));
            let is_path = |index: usize| index > 0 && tokens[index - 1].kind == Kind::Symbol(".");
            (0..tokens.len()).find(|index| is_wanted(&tokens[*index].kind) && !is_path(*index)).map(|index| tokens[index].offset)
        };
        if keyword("FROM").is_some() {
            return Statement::compile(sql).and_then(|statement| Condition::of(sql, statement));
        }
        let place = keyword("WHERE").unwrap_or(sql.len());
        // A comment at the end would swallow it.
        let end = if place == sql.len() { "\n" } else { "" };
        let statement = Statement::compile(&format!("{}{end}{FROM}{}", &sql[..place], &sql[place..]));
        let column = sql[..place].chars().count() + 1;
        let shifted = |error: SqlError| {
            let is_behind = error.column >= column + FROM.len();
            SqlError { column: if is_behind { error.column - FROM.len() } else { error.column.min(column) }, ..error }
        };
        statement.map_err(shifted).and_then(|statement| Condition::of(sql, statement))
    }

    /// One message decides, so there is no time to aggregate over.
    fn of(sql: &str, statement: Statement) -> Result<Condition, SqlError> {
        match statement.window() {
            Some(_) => Err(SqlError::at(sql, 0, "a check has no window; it is about one message")),
            None => Ok(Condition(statement)),
        }
    }

    pub(super) fn holds(&self, columns: &Value) -> Result<bool, EvalError> {
        self.0.try_on(columns).map(|rows| !rows.as_slice().is_empty())
    }
}

/// A condition over the fields of a row.
#[derive(Debug)]
pub(crate) struct RowCondition(Statement);

impl RowCondition {
    pub(crate) fn compile(text: &str) -> Result<RowCondition, SqlError> {
        let before = "SELECT 1 AS x FROM \"#\" WHERE (";
        let statement = Statement::compile(&format!("{before}{text}\n)"));
        let shifted = |error: SqlError| SqlError { column: error.column.saturating_sub(before.len()).max(1), ..error };
        statement.map(RowCondition).map_err(shifted)
    }

    pub(crate) fn holds(&self, row: &Value) -> Result<bool, EvalError> {
        self.0.try_on(row).map(|rows| !rows.as_slice().is_empty())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn columns() -> Value {
        Value::from_json(json!({"topic": "a/b", "payload": "{\"t\": 21, \"from\": 1}", "qos": 1}))
    }

    #[test]
    fn an_expression_needs_no_statement() {
        for (text, expect) in [
            ("payload.t + 1", json!(22)),
            ("'x' + topic -- a comment", json!("xa/b")),
            ("CASE WHEN qos = 1 THEN 'one' ELSE 'other' END", json!("one")),
            ("payload.nope", json!(null)),
        ] {
            let expression = Expression::compile(text).expect(text);
            assert_eq!(expression.value(&columns()).map(|value| value.to_json()), Ok(expect), "{text}");
        }
        assert_eq!(Expression::compile("uper(topic)").expect_err("unknown").column, 1);
        assert_eq!(Expression::compile("1 + uper(topic)").expect_err("unknown").column, 5);
        assert!(Expression::compile("1 AS x FROM \"t\" --").is_err());
    }

    #[test]
    fn a_condition_needs_no_from() {
        for (sql, holds) in [
            ("SELECT * WHERE payload.t > 20", true),
            ("SELECT payload.t AS t WHERE t > 30", false),
            ("SELECT payload.t AS where_it_is", true),
            ("select payload.'from' as f where payload.from = 1", true),
            ("SELECT * FROM \"other\" WHERE qos = 1", true),
            ("SELECT * -- WHERE\nWHERE qos = 0 -- FROM", false),
        ] {
            assert_eq!(Condition::compile(sql).expect(sql).holds(&columns()), Ok(holds), "{sql}");
        }
        assert_eq!(Condition::compile("SELECT uper(a) WHERE 1 = 1").expect_err("unknown").column, 8);
        assert_eq!(Condition::compile("SELECT * WHERE uper(a)").expect_err("unknown").column, 16);
    }
}
