//! What `hookline rule test` says on standard error.

use std::fmt::Write;

use hookline_rules::SqlError;
use hookline_rules::trial::Tried;
use hookline_schemas::Value;

use crate::backtest::Summary;

/// The most characters of a line that are shown, and how many of them are before the place of an error.
const LINE_MAX: usize = 100;
const BEFORE: usize = 60;

/// What is wrong with a statement: the problem, the line that it is in, and a mark below the place.
pub(super) fn marked(sql: &str, error: &SqlError) -> String {
    let before: String = sql.chars().take(error.column.saturating_sub(1)).collect();
    let (number, start) = (before.matches('\n').count() + 1, before.rfind('\n').map_or(0, |at| at + 1));
    let column = before[start..].chars().count();
    let line = sql[start..].lines().next().unwrap_or_default();
    let (skip, cut) = if line.chars().count() > LINE_MAX { (column.saturating_sub(BEFORE), "…") } else { (0, "") };
    let mut shown: String = if skip > 0 { cut.to_owned() } else { String::new() };
    let indent: String = shown.chars().chain(line.chars().skip(skip).take(column - skip)).map(blank).collect();
    shown.extend(line.chars().skip(skip).take(LINE_MAX));
    if line.chars().count() > skip + LINE_MAX {
        shown.push_str(cut);
    }
    let place =
        if sql.trim_end().contains('\n') { format!("line {number}, column {}", column + 1) } else { format!("column {}", column + 1) };
    format!("hookline: the statement is wrong: {}\n  {shown}\n  {indent}^ {place}", error.problem)
}

/// A tab stays one, so that the mark is below its place.
fn blank(c: char) -> char {
    if c == '\t' { '\t' } else { ' ' }
}

/// Why an event gives no row.
pub(super) fn why_no_rows(tried: &Tried, columns: &Value) -> String {
    let text = |name: &'static str| columns.path([name]).as_text().unwrap_or_default();
    match tried {
        Tried::NotSelected if text("topic").is_empty() => format!("FROM does not select it: it is the event \"{}\"", text("event")),
        Tried::NotSelected => format!("FROM does not select it: it is the event \"{}\" with topic \"{}\"", text("event"), text("topic")),
        Tried::NoMatch => "WHERE does not hold".to_owned(),
        Tried::Refused => "no window takes it: events must be in the order of their timestamps".to_owned(),
        Tried::Rows(_) | Tried::Kept => "there are no rows: FOREACH has no list, an empty one, or INCASE holds for no item".to_owned(),
    }
}

/// What came of a back-test.
pub(super) fn summary(summary: &Summary) -> String {
    let Summary { looked, selected, matched, rows, failed, refused, damaged, .. } = summary;
    let mut out = String::new();
    let mut line = |text: std::fmt::Arguments<'_>| writeln!(out, "{text}").expect("a text takes every line");
    match (&summary.first, &summary.last) {
        (Some(first), Some(last)) => line(format_args!("{looked} recorded events, from {first} to {last}")),
        _ => line(format_args!("nothing is recorded in this time; [recorder] in the configuration says what is recorded")),
    }
    line(format_args!("{selected} are selected by FROM, {matched} matched, {rows} rows"));
    if !summary.complete {
        line(format_args!("stopped at the limit of rows or of time; what comes behind was not looked at"));
    }
    for (count, what) in [(refused, "fit into no window"), (damaged, "are damaged in the store")] {
        if *count > 0 {
            line(format_args!("{count} {what}"));
        }
    }
    if *failed > 0 {
        line(format_args!("{failed} could not be computed; the first:"));
    }
    for failure in &summary.failures {
        line(format_args!("  {}: {}", failure.at, failure.problem));
        if let Some(event) = &failure.event {
            line(format_args!("    {event}"));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use hookline_rules::Statement;

    use super::*;

    fn check(sql: &str, expect: &[&str]) {
        let error = Statement::compile(sql).expect_err(sql);
        let text = marked(sql, &error);
        assert_eq!(text.lines().skip(1).collect::<Vec<_>>(), expect, "{text}");
    }

    #[test]
    fn the_mark_is_below_the_place() {
        check("SELECT uper(a) FROM \"t\"", &["  SELECT uper(a) FROM \"t\"", "         ^ column 8"]);
        check("SELECT\n\ta,\n\tuper(ä)\nFROM \"t\"\n", &["  \tuper(ä)", "  \t^ line 3, column 2"]);
        check("SELECT 'ä', uper(a) FROM \"t\"\n", &["  SELECT 'ä', uper(a) FROM \"t\"", "              ^ column 13"]);
        check("SELECT a", &["  SELECT a", "          ^ column 9"]);
    }

    #[test]
    fn of_a_long_line_the_part_around_the_place_is_shown() {
        let sql = format!("SELECT {}uper(a){} FROM \"t\"", "a, ".repeat(100), ", b".repeat(100));
        let text = marked(&sql, &Statement::compile(&sql).expect_err("wrong"));
        let lines: Vec<&str> = text.lines().collect();
        let place = lines[2].chars().position(|c| c == '^').expect("a mark");
        assert_eq!(lines[1].chars().skip(place).take(4).collect::<String>(), "uper", "{text}");
        assert!(lines[1].chars().count() < 110 && lines[2].ends_with("column 308"), "{text}");
    }
}
