//! `hookline rule`: statements tried on events of one's own, and on recorded ones.

mod input;
mod report;

use std::io::Write;
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use hookline_rules::Statement;
use hookline_rules::schema::{Registry, install};
use hookline_rules::trial::{Trial, Tried};
use hookline_schemas::config::Config;
use hookline_schemas::{HookPoint, Value};
use serde_json::{Value as Json, json};

use super::{ConfigArguments, reach::Reached};
use crate::backtest::{self, Answered, Range, TimedRow, moment, now_ms, time};
use crate::config;

/// The exit code where there is no row.
const NO_ROWS: u8 = 1;
/// The exit code where something is wrong with the statement or an event.
const FAILED: u8 = 2;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Try a statement on an event, or on what was recorded, and print its rows, one JSON object a line. Exit code 0: there are
    /// rows; 1: there are none; 2: something is wrong
    Test(Box<TestArguments>),
    /// Print every event that FROM can name, with its columns and a sample, as JSON
    Events,
}

#[derive(Debug, Args)]
struct TestArguments {
    #[command(flatten)]
    statement: StatementArguments,
    /// The columns of an event as a JSON object, or several events as an array or one a line; "-" is standard input. Missing columns
    /// are those of a sample; a payload may be JSON [default: a sample of an event that FROM selects]
    #[arg(long, value_name = "FILE", conflicts_with = "recorded")]
    event: Option<PathBuf>,
    /// Run it over what the broker of this data folder has recorded; [recorder] in the configuration says what that is. A broker that
    /// runs answers with at most 10,000 rows
    #[arg(long)]
    recorded: bool,
    /// From when on: 2026-01-31T12:00:00Z, milliseconds since 1970, or how long ago, such as 15m
    #[arg(long, value_name = "TIME", requires = "recorded")]
    from: Option<String>,
    /// Until when
    #[arg(long, value_name = "TIME", requires = "recorded")]
    to: Option<String>,
    /// Stop after so many rows
    #[arg(long, value_name = "N", requires = "recorded")]
    limit: Option<u64>,
    #[command(flatten)]
    config: ConfigArguments,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct StatementArguments {
    /// The statement
    #[arg(long, value_name = "SQL")]
    sql: Option<String>,
    /// The file that has the statement
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
}

impl StatementArguments {
    fn text(self) -> anyhow::Result<String> {
        match (self.sql, self.file) {
            (Some(sql), _) => Ok(sql),
            (None, Some(file)) => std::fs::read_to_string(&file).with_context(|| format!("cannot read {}", file.display())),
            (None, None) => anyhow::bail!("there is no statement; give it with --sql or --file"),
        }
    }
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Test(arguments) => Ok(test(*arguments).unwrap_or_else(|error| {
            eprintln!("hookline: {error:#}");
            ExitCode::from(FAILED)
        })),
        Command::Events => {
            println!("{}", serde_json::to_string_pretty(&events(&Config::default().node.name, now_ms()))?);
            Ok(ExitCode::SUCCESS)
        }
    }
}

/// Every event that FROM can name: with its names there, old and new, its columns, and a sample of them.
pub(crate) fn events(node: &str, now_ms: u64) -> Json {
    let events = HookPoint::TABLE.iter().map(|spec| {
        let topics = [spec.topic, spec.legacy_topic].into_iter().filter(|topic| !topic.is_empty());
        let from: Vec<&str> = if spec.point == HookPoint::MessagePublish { vec!["t/#"] } else { topics.collect() };
        let columns: Vec<&str> = spec.point.column_names().collect();
        json!({ "event": spec.name, "from": from, "columns": columns, "sample": spec.point.sample(node, now_ms).to_json() })
    });
    events.collect()
}

fn test(arguments: TestArguments) -> anyhow::Result<ExitCode> {
    let text = arguments.statement.text()?;
    // So that what is missing at the end is marked behind the last word.
    let sql = text.trim_end();
    let statement = match Statement::compile(sql) {
        Ok(statement) => statement.of_rule("test"),
        Err(error) => {
            eprintln!("{}", report::marked(sql, &error));
            return Ok(ExitCode::from(FAILED));
        }
    };
    let config = match config::load(arguments.config.sources()) {
        Ok(loaded) => loaded.config,
        Err(errors) => {
            eprintln!("{errors}");
            return Ok(ExitCode::from(FAILED));
        }
    };
    install_schemas(&config)?;
    if !arguments.recorded {
        return test_events(&config, statement, &input::events(arguments.event.as_deref())?);
    }
    let now_ms = now_ms();
    let range = Range {
        from_ms: arguments.from.as_deref().map_or(Ok(0), |from| moment(from, now_ms)).context("--from")?,
        to_ms: arguments.to.as_deref().map_or(Ok(u64::MAX), |to| moment(to, now_ms)).context("--to")?,
        limit: arguments.limit.unwrap_or(u64::MAX),
    };
    test_recorded(&config, sql, statement, range)
}

/// The schemas that functions of the statement may name.
fn install_schemas(config: &Config) -> anyhow::Result<()> {
    let registry = Registry::new(&config.schemas, &|path| std::fs::read_to_string(path));
    let registry =
        registry.map_err(|errors| anyhow::anyhow!("{}", errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")))?;
    install(Arc::new(registry));
    Ok(())
}

fn test_events(config: &Config, statement: Statement, events: &[input::Given]) -> anyhow::Result<ExitCode> {
    let mut trial = Trial::new(statement);
    let (mut rows, mut failed) = (0, 0);
    let now_ms = now_ms();
    for (number, given) in (1..).zip(events) {
        let which = if events.len() > 1 { format!("event {number}: ") } else { String::new() };
        let columns = match trial.statement().complete(given, &config.node.name, now_ms) {
            Ok(columns) => columns,
            Err(problem) => {
                eprintln!("hookline: {which}{problem}");
                failed += 1;
                continue;
            }
        };
        let at_ms = match columns.path(["timestamp"]) {
            Value::Int(at_ms) => u64::try_from(*at_ms).unwrap_or(0),
            _ => now_ms,
        };
        let closed = trial.closed(at_ms);
        print_closed(closed, &mut rows, &mut failed)?;
        match trial.event(at_ms, &columns) {
            Ok(Tried::Rows(found)) if !found.is_empty() => {
                for row in found {
                    print(&row.to_json())?;
                    rows += 1;
                }
            }
            Ok(Tried::Kept) => {}
            Ok(tried) => eprintln!("hookline: {which}{}", report::why_no_rows(&tried, &columns)),
            Err(error) => {
                eprintln!("hookline: {which}the statement cannot be computed for it: {error}");
                failed += 1;
            }
        }
    }
    let closed = trial.end();
    print_closed(closed, &mut rows, &mut failed)?;
    Ok(exit_code(rows, failed))
}

fn print_closed(closed: Vec<hookline_rules::trial::Closed>, rows: &mut u64, failed: &mut u64) -> anyhow::Result<()> {
    for (at_ms, row) in closed {
        match row {
            Ok(row) => {
                print(&row.to_json())?;
                *rows += 1;
            }
            Err(error) => {
                eprintln!("hookline: the row of the window that ends at {} cannot be computed: {error}", time(at_ms));
                *failed += 1;
            }
        }
    }
    Ok(())
}

fn test_recorded(config: &Config, sql: &str, statement: Statement, range: Range) -> anyhow::Result<ExitCode> {
    let summary = match &Reached::of(config)? {
        Reached::Broker(broker) => {
            let body = json!({ "sql": sql, "from": range.from_ms, "to": range.to_ms, "limit": range.limit });
            let Answered { rows, summary } = broker.post("/rule_backtest", Some(&body))?;
            rows.iter().try_for_each(print_timed)?;
            summary
        }
        Reached::Store(store) => {
            let each = |row: TimedRow| print_timed(&row).map(ControlFlow::Continue);
            backtest::run(store, statement, range, || true, each)?
        }
    };
    eprint!("{}", report::summary(&summary));
    // What fails for some events is a finding, and no failure of the test.
    Ok(exit_code(summary.rows, if summary.rows > 0 { 0 } else { summary.failed }))
}

fn print_timed(row: &TimedRow) -> anyhow::Result<()> {
    print(&serde_json::to_value(row)?)
}

fn print(json: &Json) -> anyhow::Result<()> {
    Ok(writeln!(std::io::stdout().lock(), "{json}")?)
}

fn exit_code(rows: u64, failed: u64) -> ExitCode {
    match (rows, failed) {
        (_, 1..) => ExitCode::from(FAILED),
        (0, 0) => ExitCode::from(NO_ROWS),
        (1.., 0) => ExitCode::SUCCESS,
    }
}
