//! SQL statements with `${…}`: every placeholder becomes a parameter, so that no value is ever part of the text.

use std::collections::HashMap;
use std::sync::Arc;

use hookline_schemas::{Record, Template, Value};

use crate::kind::{PARAMETERS, SettingsError};

/// How a database writes the placeholder of the n-th parameter, from 1.
pub(crate) type Mark = fn(usize) -> String;

/// A statement with its parameters.
#[derive(Debug, Clone)]
pub(crate) struct Statement {
    /// The text with the database's own placeholders.
    pub(crate) sql: Arc<str>,
    parameters: Vec<Template>,
    mark: Mark,
    /// The one row of VALUES, which several can stand in the place of.
    values: Option<Values>,
}

/// What is before the row of VALUES, what is between its parameters, and what is behind it.
#[derive(Debug, Clone)]
struct Values {
    head: String,
    row: Vec<String>,
    tail: String,
}

/// The name under which a record's own identifier is reached in templates.
pub(crate) const HOOKLINE_ID: &str = "hookline_id";

/// Stands for a parameter while a statement is read; no statement has it.
const PLACE: char = '\u{1}';

impl Statement {
    /// Reads a statement.
    pub(crate) fn parse(path: &str, sql: &str, mark: Mark) -> Result<Statement, Vec<SettingsError>> {
        let wrong = |problem: &str| vec![SettingsError { path: format!("{PARAMETERS}.{path}"), problem: problem.to_owned() }];
        let template = crate::kind::template(path, sql)?;
        if sql.contains(PLACE) {
            return Err(wrong("has a control character"));
        }
        let mut parameters = Vec::new();
        let text = template.rewrite(|placeholder| {
            parameters.push(placeholder);
            PLACE.into()
        });
        if text.contains(&format!("'{PLACE}'")) {
            return Err(wrong("a placeholder stands in quotes; leave them out, it becomes a parameter"));
        }
        let pieces: Vec<&str> = text.split(PLACE).collect();
        Ok(Statement { sql: joined(&pieces, 1, mark).into(), values: values_row(&text), parameters, mark })
    }

    /// Whether several records can go in one statement.
    pub(crate) fn takes_rows(&self) -> bool {
        self.values.is_some() && !self.parameters.is_empty()
    }

    /// The text for so many records at once.
    fn for_rows(&self, rows: usize) -> Arc<str> {
        let Some(Values { head, row, tail }) = self.values.as_ref().filter(|_| rows > 1) else { return Arc::clone(&self.sql) };
        let row: Vec<&str> = row.iter().map(String::as_str).collect();
        let rows: Vec<String> = (0..rows).map(|index| joined(&row, index * self.parameters.len() + 1, self.mark)).collect();
        format!("{head}{}{tail}", rows.join(", ")).into()
    }

    /// The table and its columns, where the statement does nothing but put the parameters there, in their order.
    pub(crate) fn target(&self) -> Option<&str> {
        let Values { head, row, tail } = self.values.as_ref().filter(|_| self.takes_rows())?;
        let is_plain = |text: &String| text.chars().all(|c| c.is_whitespace() || "(),".contains(c));
        if !row.iter().all(is_plain) || !tail.trim().trim_end_matches(';').is_empty() {
            return None;
        }
        let words = head.to_ascii_uppercase();
        let (start, end) = (words.strip_prefix("INSERT")?.trim_start().strip_prefix("INTO")?.len(), words.rfind("VALUES")?);
        let target = head[words.len() - start..end].trim();
        // OVERRIDING and an alias mean more than a place.
        let is_place = target.ends_with(')') || !target.contains(char::is_whitespace);
        is_place.then_some(target)
    }

    /// The text where the row of VALUES is selected from a table. `column` is what stands in the place of each placeholder, from 0.
    pub(crate) fn selecting(&self, table: &str, column: impl Fn(usize) -> String) -> Option<String> {
        let Values { head, row, tail } = self.values.as_ref().filter(|_| self.takes_rows())?;
        let head = &head[..head.to_ascii_uppercase().rfind("VALUES")?];
        let mut places = 0..;
        let row = row.join(&PLACE.to_string());
        let row = row.strip_prefix('(')?.strip_suffix(')')?;
        let pieces: Vec<&str> = row.split(PLACE).collect();
        let selected = pieces[1..].iter().zip(&mut places).map(|(piece, place)| format!("{}{piece}", column(place)));
        Some(format!("{head}SELECT {}{} FROM {table}{tail}", pieces[0], selected.collect::<String>()))
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

/// Pieces with the parameters between them, numbered from `first` on.
fn joined(pieces: &[&str], first: usize, mark: Mark) -> String {
    let mut text = String::new();
    for (index, piece) in pieces.iter().enumerate() {
        if index > 0 {
            text.push_str(&mark(first + index - 1));
        }
        text.push_str(piece);
    }
    text
}

/// The row behind VALUES of an INSERT (or REPLACE), brackets included; `None` where there is not exactly one, or where a placeholder stands outside of it:
/// that one cannot be repeated.
fn values_row(text: &str) -> Option<Values> {
    let masked = masked(text).to_ascii_uppercase();
    let first = masked.split_whitespace().next()?;
    if first != "INSERT" && first != "REPLACE" {
        return None;
    }
    // Behind these words VALUES(column) is what was to be inserted (MySQL).
    let head = &masked[..masked.find("ON DUPLICATE KEY").unwrap_or(masked.len())];
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let words = head.match_indices("VALUES").filter(|(place, word)| {
        let is_whole = !head[..*place].ends_with(is_part) && !head[place + word.len()..].starts_with(is_part);
        is_whole && head[place + word.len()..].trim_start().starts_with('(')
    });
    let [(keyword, _)] = words.collect::<Vec<_>>()[..] else { return None };
    // Within brackets it is a part of something else.
    if head[..keyword].matches('(').count() != head[..keyword].matches(')').count() {
        return None;
    }
    let start = keyword + head[keyword..].find('(')?;
    let mut depth = 0;
    for (offset, c) in masked[start..].char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            _ => {}
        }
        if depth == 0 {
            let end = start + offset + 1;
            let (head, row, tail) = (&text[..start], &text[start..end], &text[end..]);
            let outside = head.contains(PLACE) || tail.contains(PLACE);
            let row = row.split(PLACE).map(str::to_owned).collect();
            let is_one = !outside && !masked[end..].trim_start().starts_with(',');
            return is_one.then(|| Values { head: head.to_owned(), row, tail: tail.to_owned() });
        }
    }
    None
}

/// A statement whose strings, quoted names and comments are blanks, at the same places.
fn masked(text: &str) -> String {
    let mut masked = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '\'' | '"' | '`' => rest[1..].find(c).map_or(rest.len(), |place| place + 2),
            '-' if rest.starts_with("--") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => rest.find("*/").map_or(rest.len(), |place| place + 2),
            _ => {
                masked.push(c);
                rest = &rest[c.len_utf8()..];
                continue;
            }
        };
        masked.extend(std::iter::repeat_n(' ', length));
        rest = &rest[length..];
    }
    masked
}

/// How the records of a batch are put into statements, with few different ones, so that they are prepared once.
#[derive(Debug)]
pub(crate) struct Rows {
    /// What one statement can have.
    rows_max: usize,
    /// How many records batches have when they come one after the other: those of a full queue are all alike.
    usual: usize,
    last: usize,
    texts: HashMap<usize, Arc<str>>,
}

/// Rows of one statement, where the protocol does not say less.
const ROWS_MAX: usize = 1000;
/// Parameters that one statement can have: PostgreSQL and MySQL count them with 16 bits.
const PARAMETERS_MAX: usize = 65_535;
/// Texts that are remembered.
const TEXTS_MAX: usize = 24;

impl Rows {
    pub(crate) fn new(statement: &Statement) -> Rows {
        let most = if statement.takes_rows() { ROWS_MAX.min(PARAMETERS_MAX / statement.parameters.len()).max(1) } else { 1 };
        Rows { rows_max: most, usual: 1, last: 0, texts: HashMap::new() }
    }

    /// A batch of so many records begins. Whether one statement takes it.
    pub(crate) fn begin(&mut self, records: usize) -> bool {
        let first = records.min(self.rows_max);
        if first == self.last {
            self.usual = first;
        }
        self.last = first;
        records == self.next(records)
    }

    /// How many of so many records the next statement takes: the usual number, or a power of two.
    pub(crate) fn next(&self, left: usize) -> usize {
        let most = left.clamp(1, self.rows_max);
        if most == self.usual { most } else { 1 << most.ilog2() }
    }

    /// The text for so many records.
    pub(crate) fn text(&mut self, statement: &Statement, rows: usize) -> Arc<str> {
        if self.texts.len() >= TEXTS_MAX && !self.texts.contains_key(&rows) {
            self.texts.clear();
        }
        Arc::clone(self.texts.entry(rows).or_insert_with(|| statement.for_rows(rows)))
    }
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
        assert_eq!(&*statement.sql, "INSERT INTO t (a, b) VALUES ($1, to_timestamp($2)) ON CONFLICT DO NOTHING");
        assert_eq!(
            &*statement.for_rows(2),
            "INSERT INTO t (a, b) VALUES ($1, to_timestamp($2)), ($3, to_timestamp($4)) ON CONFLICT DO NOTHING"
        );
        let row = Value::from_json(serde_json::json!({"a": 1, "b": {"c": "x"}}));
        let record = Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row, trace: None };
        assert_eq!(statement.bind(&record), [Value::Int(1), Value::text("x")]);
    }

    #[test]
    fn a_row_is_selected_from_a_table() {
        let selecting = |sql| Statement::parse("sql", sql, mark).expect("valid").selecting("s", |place| format!("p{place}"));
        let sql = "INSERT INTO values_of (a, b, c) values ( ${a}, f(${b.c}, ')'), 1 ) ON CONFLICT DO NOTHING";
        let expect = "INSERT INTO values_of (a, b, c) SELECT  p0, f(p1, ')'), 1  FROM s ON CONFLICT DO NOTHING";
        assert_eq!(selecting(sql).as_deref(), Some(expect));
        assert_eq!(selecting("UPDATE t SET a = ${a}"), None);
        let target = |sql| Statement::parse("sql", sql, mark).expect("valid").target().map(str::to_owned);
        assert_eq!(target("insert into \"values\" (a, b)\n values (${a}, ${b}) ;").as_deref(), Some("\"values\" (a, b)"));
        assert_eq!(target("INSERT INTO t VALUES (${a})").as_deref(), Some("t"));
        for more in [
            sql,
            "INSERT INTO t (a) VALUES (f(${a}))",
            "INSERT INTO t (a) VALUES (${a}) ON CONFLICT DO NOTHING",
            "INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (${a})",
            "INSERT INTO t (a, b) VALUES (${a}, 1)",
        ] {
            assert_eq!(target(more), None, "{more}");
        }
    }

    #[test]
    fn rows_are_repeated_where_nothing_but_the_row_has_placeholders() {
        let unnumbered: Mark = |_| "?".to_owned();
        let upsert = "INSERT INTO t (a, b) VALUES (${a}, f(${b})) ON DUPLICATE KEY UPDATE b = VALUES(b)";
        let statement = Statement::parse("sql", upsert, unnumbered).expect("valid");
        assert_eq!(&*statement.for_rows(2), "INSERT INTO t (a, b) VALUES (?, f(?)), (?, f(?)) ON DUPLICATE KEY UPDATE b = VALUES(b)");
        let outside = "INSERT INTO t (a, b) VALUES (${a}, 1) ON CONFLICT (a) DO UPDATE SET b = ${b}";
        assert!(!Statement::parse("sql", outside, mark).expect("valid").takes_rows());
        assert!(!Statement::parse("sql", outside, unnumbered).expect("valid").takes_rows());
        for single in [
            "UPDATE t SET a = ${a}",
            "SELECT put_values(${a})",
            "INSERT INTO t SELECT f_values(${a})",
            "WITH v AS (VALUES (${a}, ${b})) UPDATE t SET n = 1",
            "INSERT INTO t (a) SELECT x FROM (VALUES (${a})) v(x)",
            "INSERT INTO t (a) VALUES (${a}), (2)",
        ] {
            assert!(!Statement::parse("sql", single, unnumbered).expect("valid").takes_rows(), "{single}");
        }
        for (several, two) in [
            ("insert into t values (${a}, ')')", "insert into t values (?, ')'), (?, ')')"),
            ("INSERT INTO \"values (\" VALUES (${a})", "INSERT INTO \"values (\" VALUES (?), (?)"),
            (
                "INSERT INTO t /* VALUES (1) */ (é) VALUES (${a}) -- values (2)",
                "INSERT INTO t /* VALUES (1) */ (é) VALUES (?), (?) -- values (2)",
            ),
        ] {
            assert_eq!(&*Statement::parse("sql", several, unnumbered).expect("valid").for_rows(2), two);
        }
    }

    #[test]
    fn many_parameters_are_numbered_right() {
        let columns: Vec<String> = (1..=12).map(|n| format!("${{c{n}}}")).collect();
        let statement = Statement::parse("sql", &format!("INSERT INTO t VALUES ({})", columns.join(",")), mark).expect("valid");
        let sql = statement.for_rows(2);
        assert!(sql.ends_with("($13,$14,$15,$16,$17,$18,$19,$20,$21,$22,$23,$24)"), "{sql}");
    }

    #[test]
    fn batches_of_one_length_take_one_statement_and_others_few() {
        let statement = Statement::parse("sql", "INSERT INTO t VALUES (${a}, ${b})", mark).expect("valid");
        let mut rows = Rows::new(&statement);
        assert!(!rows.begin(700));
        assert_eq!((rows.next(700), rows.next(188), rows.next(1)), (512, 128, 1));
        assert!(rows.begin(700) && rows.next(700) == 700, "the second time it is usual");
        assert!(!rows.begin(2500) && rows.next(2500) == 512);
        assert!(!rows.begin(2500) && rows.next(2500) == 1000 && rows.next(500) == 256);
        for count in 1..100 {
            let text = rows.text(&statement, count);
            assert!(text.ends_with(&format!("(${}, ${})", count * 2 - 1, count * 2)), "{text}");
        }
        assert!(rows.texts.len() <= TEXTS_MAX);
        let update = Statement::parse("sql", "UPDATE t SET a = ${a}", mark).expect("valid");
        let mut rows = Rows::new(&update);
        assert!(rows.begin(1) && !rows.begin(2) && !rows.begin(2) && rows.next(2) == 1);
    }

    #[test]
    fn the_record_has_its_identifier_and_the_whole_row() {
        let statement = Statement::parse("sql", "INSERT INTO t VALUES (${hookline_id}, ${.})", mark).expect("valid");
        let record =
            Record { sequence: 0, hookline_id: "n:1:1".into(), bytes: 0, row: Value::from_json(serde_json::json!({"a": 1})), trace: None };
        assert_eq!(statement.bind(&record), [Value::text("n:1:1"), Value::text("{\"a\":1}")]);
    }

    #[test]
    fn a_quoted_placeholder_is_refused() {
        assert!(Statement::parse("sql", "INSERT INTO t VALUES ('${a}')", mark).is_err());
    }
}
