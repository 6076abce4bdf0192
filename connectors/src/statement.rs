//! SQL statements with `${…}`: every placeholder becomes a parameter, so that no value is ever part of the text.

use hookline_schemas::{Record, Template, Value};

use crate::kind::{PARAMETERS, SettingsError};

/// A statement with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// The text with the database's own placeholders.
    pub(crate) sql: String,
    parameters: Vec<Template>,
    /// Where the one row of VALUES is in `sql`, so that several can stand in its place.
    values: Option<std::ops::Range<usize>>,
}

/// The name under which a record's own identifier is reached in templates.
pub(crate) const HOOKLINE_ID: &str = "hookline_id";

impl Statement {
    /// Reads a statement; `mark` writes the placeholder of the n-th parameter, from 1.
    pub(crate) fn parse(path: &str, sql: &str, mark: impl Fn(usize) -> String) -> Result<Statement, Vec<SettingsError>> {
        let template = crate::kind::template(path, sql)?;
        let mut parameters = Vec::new();
        let sql = template.rewrite(|placeholder| {
            parameters.push(placeholder);
            mark(parameters.len())
        });
        if sql.contains(&format!("'{}'", mark(1))) {
            let problem = "a placeholder stands in quotes; leave them out, it becomes a parameter".to_owned();
            return Err(vec![SettingsError { path: format!("{PARAMETERS}.{path}"), problem }]);
        }
        let marks: Vec<String> = (1..=parameters.len()).map(&mark).collect();
        let values = values_row(&sql, &marks);
        Ok(Statement { sql, parameters, values })
    }

    /// How many parameters one record fills.
    pub(crate) fn parameters(&self) -> usize {
        self.parameters.len()
    }

    /// Whether several records can go in one statement.
    pub(crate) fn takes_rows(&self) -> bool {
        self.values.is_some() && !self.parameters.is_empty()
    }

    /// The text for so many records at once.
    pub(crate) fn for_rows(&self, rows: usize, mark: impl Fn(usize) -> String) -> String {
        let Some(values) = self.values.clone().filter(|_| rows > 1) else { return self.sql.clone() };
        let row = &self.sql[values.clone()];
        let count = self.parameters.len();
        let numbered = (0..rows).map(|index| {
            // From the last one down, so that "$1" does not hit the beginning of "$12".
            (1..=count).rev().fold(row.to_owned(), |row, n| row.replace(&mark(n), &format!("\u{1}{}\u{2}", index * count + n)))
        });
        let rows: Vec<String> = numbered.collect();
        let mut rows = rows.join(", ");
        while let Some((start, end)) = rows.find('\u{1}').zip(rows.find('\u{2}')) {
            let number = rows[start + 1..end].parse().unwrap_or_default();
            rows.replace_range(start..=end, &mark(number));
        }
        format!("{}{rows}{}", &self.sql[..values.start], &self.sql[values.end..])
    }

    /// The parameters for a record. A placeholder that is the whole parameter keeps its type.
    pub(crate) fn bind(&self, record: &Record) -> Vec<Value> {
        self.parameters.iter().map(|parameter| bind(parameter, record)).collect()
    }
}

fn bind(parameter: &Template, record: &Record) -> Value {
    match parameter.value(&record.row) {
        // The whole row is bound as JSON, and the record's identifier is there whatever the rule selects.
        Some(row) if std::ptr::eq(row, &record.row) => Value::text(&row.to_json().to_string()),
        Some(Value::Undefined) if parameter == &hookline_id() => Value::text(&record.hookline_id),
        Some(value @ (Value::Map(_) | Value::Array(_))) => Value::text(&value.to_json().to_string()),
        Some(value) => value.clone(),
        None => Value::Undefined,
    }
}

fn hookline_id() -> Template {
    Template::parse(&format!("${{{HOOKLINE_ID}}}")).expect("a plain placeholder is a valid template")
}

/// Where the row behind VALUES is, brackets included; `None` where there is not exactly one, or where a placeholder stands outside
/// of it: that one cannot be repeated.
fn values_row(sql: &str, marks: &[String]) -> Option<std::ops::Range<usize>> {
    let upper = sql.to_ascii_uppercase();
    // Behind these words VALUES(column) is what was to be inserted (MySQL).
    let head = &upper[..upper.find("ON DUPLICATE KEY").unwrap_or(upper.len())];
    let keyword = head.find("VALUES").filter(|_| head.matches("VALUES").count() == 1)?;
    let start = keyword + sql[keyword..].find('(')?;
    let mut depth = 0;
    for (offset, c) in sql[start..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let end = start + offset + 1;
            let outside = marks.iter().any(|mark| sql[..start].contains(mark.as_str()) || sql[end..].contains(mark.as_str()));
            return (!outside && !sql[end..].trim_start().starts_with(',')).then_some(start..end);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: usize) -> String {
        format!("${n}")
    }

    #[test]
    fn placeholders_become_parameters_and_rows_are_repeated() {
        let statement = Statement::parse("sql", "INSERT INTO t (a, b) VALUES (${a}, to_timestamp(${b.c})) ON CONFLICT DO NOTHING", mark)
            .expect("valid");
        assert_eq!(statement.sql, "INSERT INTO t (a, b) VALUES ($1, to_timestamp($2)) ON CONFLICT DO NOTHING");
        assert_eq!(
            statement.for_rows(2, mark),
            "INSERT INTO t (a, b) VALUES ($1, to_timestamp($2)), ($3, to_timestamp($4)) ON CONFLICT DO NOTHING"
        );
        let row = Value::from_json(serde_json::json!({"a": 1, "b": {"c": "x"}}));
        let record = Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row };
        assert_eq!(statement.bind(&record), [Value::Int(1), Value::text("x")]);
    }

    #[test]
    fn rows_are_repeated_where_nothing_but_the_row_has_placeholders() {
        let unnumbered = |_: usize| "?".to_owned();
        let upsert = "INSERT INTO t (a, b) VALUES (${a}, f(${b})) ON DUPLICATE KEY UPDATE b = VALUES(b)";
        let statement = Statement::parse("sql", upsert, unnumbered).expect("valid");
        assert_eq!(
            statement.for_rows(2, unnumbered),
            "INSERT INTO t (a, b) VALUES (?, f(?)), (?, f(?)) ON DUPLICATE KEY UPDATE b = VALUES(b)"
        );
        let outside = "INSERT INTO t (a, b) VALUES (${a}, 1) ON CONFLICT (a) DO UPDATE SET b = ${b}";
        assert!(!Statement::parse("sql", outside, mark).expect("valid").takes_rows());
        assert!(!Statement::parse("sql", outside, unnumbered).expect("valid").takes_rows());
        assert!(!Statement::parse("sql", "UPDATE t SET a = ${a}", unnumbered).expect("valid").takes_rows());
    }

    #[test]
    fn many_parameters_are_numbered_right() {
        let columns: Vec<String> = (1..=12).map(|n| format!("${{c{n}}}")).collect();
        let statement = Statement::parse("sql", &format!("INSERT INTO t VALUES ({})", columns.join(",")), mark).expect("valid");
        let sql = statement.for_rows(2, mark);
        assert!(sql.ends_with("($13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24)"), "{sql}");
    }

    #[test]
    fn the_record_has_its_identifier_and_the_whole_row() {
        let statement = Statement::parse("sql", "INSERT INTO t VALUES (${hookline_id}, ${.})", mark).expect("valid");
        let record = Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row: Value::from_json(serde_json::json!({"a": 1})) };
        assert_eq!(statement.bind(&record), [Value::text("n:1:1"), Value::text("{\"a\":1}")]);
    }

    #[test]
    fn a_quoted_placeholder_is_refused() {
        assert!(Statement::parse("sql", "INSERT INTO t VALUES ('${a}')", mark).is_err());
    }
}
