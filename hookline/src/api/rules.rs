//! Trying statements: on one event, and on what was recorded.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use hookline_core::store::Store;
use hookline_rules::{Rows, Statement};
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::Value;

use super::answer::Answer;
use super::extract::{Json, Raw};
use super::{Code, Problem, Shared};
use crate::backtest::{self, Answered, Range, moment, now_ms};
use crate::command::rule_events;

/// The rows of a back-test where the request says nothing, and the most of them.
const ROWS: u64 = 100;
const ROWS_MAX: u64 = 10_000;
/// The most bytes of rows in one answer.
const ANSWER_BYTES_MAX: usize = 16 << 20;
/// How long a back-test may take.
const BACKTEST_TIMEOUT: Duration = Duration::from_secs(20);

/// A statement, and an event to try it on.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct TestRequest {
    sql: String,
    /// The columns of the event; `event_type` or `event` names it.
    #[serde(default)]
    context: serde_json::Map<String, Value>,
}

/// A statement, and the time that it is tried on.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct BacktestRequest {
    sql: String,
    from: Option<Moment>,
    to: Option<Moment>,
    limit: Option<u64>,
}

/// Milliseconds since the Unix epoch, or a text as on the command line.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(untagged)]
enum Moment {
    Millis(u64),
    Text(String),
}

/// POST /rule_test: the row, or the rows of FOREACH and of windows as an array.
pub(super) async fn post_test(State(shared): State<Shared>, Raw(body, _): Raw<TestRequest>) -> Answer<Value> {
    shared.run(move |store| test(store.node(), &body)).await
}

/// POST /rule_backtest: the rows with their times, and a summary.
pub(super) async fn post_backtest(State(shared): State<Shared>, Raw(body, _): Raw<BacktestRequest>) -> Answer<Answered> {
    let stopping = Arc::clone(&shared.stopping);
    shared.run(move |store| test_recorded(store, &body, &stopping)).await
}

/// GET /rule_events: what FROM can name.
pub(super) async fn get_events(State(shared): State<Shared>) -> Json<Value> {
    Json(rule_events(shared.store.node(), now_ms()))
}

fn test(node: &str, body: &[u8]) -> Result<Value, Problem> {
    let TestRequest { sql, context } = read(body)?;
    let statement = compile(&sql)?;
    refuse_changes(&sql)?;
    let columns = statement.complete(&context, node, now_ms()).map_err(bad_request)?;
    if !statement.matches_event(&columns) {
        return Err(Problem::new(Code::NotMatch, "FROM does not select the event"));
    }
    match statement.try_on(&columns) {
        Ok(Rows::NoMatch) => Err(Problem::new(Code::NotMatch, "WHERE does not hold")),
        Ok(Rows::One(row)) => Ok(row.to_json()),
        Ok(Rows::Many(rows)) => Ok(rows.iter().map(hookline_schemas::Value::to_json).collect()),
        Err(error) => Err(bad_request(error)),
    }
}

fn refuse_changes(sql: &str) -> Result<(), Problem> {
    if Statement::changes_state(sql) {
        return Err(bad_request(
            "kv_store_put, kv_store_del, proc_dict_put and proc_dict_del would change what the rules of this broker read; \
             try the statement without a broker, on a backup of the store",
        ));
    }
    Ok(())
}

fn test_recorded(store: &Store, body: &[u8], stopping: &AtomicBool) -> Result<Answered, Problem> {
    let BacktestRequest { sql, from, to, limit } = read(body)?;
    let statement = compile(&sql)?;
    refuse_changes(&sql)?;
    let now_ms = now_ms();
    let range = Range {
        from_ms: from.map_or(Ok(0), |from| from.millis("from", now_ms))?,
        to_ms: to.map_or(Ok(u64::MAX), |to| to.millis("to", now_ms))?,
        limit: limit.unwrap_or(ROWS).min(ROWS_MAX),
    };
    let deadline = Instant::now() + BACKTEST_TIMEOUT;
    let is_wanted = || !stopping.load(Ordering::Relaxed) && Instant::now() < deadline;
    let (mut rows, mut bytes) = (Vec::new(), 0);
    let summary = backtest::run(store, statement, range, is_wanted, |row| {
        bytes += row.row.to_string().len();
        rows.push(row);
        Ok(if bytes < ANSWER_BYTES_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    });
    let summary = summary.map_err(|error| Problem::new(Code::InternalError, format!("{error:#}")))?;
    Ok(Answered { rows, summary })
}

impl Moment {
    fn millis(&self, key: &str, now_ms: u64) -> Result<u64, Problem> {
        match self {
            Moment::Millis(millis) => Ok(*millis),
            Moment::Text(text) => moment(text, now_ms).map_err(|error| bad_request(format!("{key}: {error}"))),
        }
    }
}

fn read<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, Problem> {
    serde_json::from_slice(body).map_err(|error| bad_request(format!("the body: {error}")))
}

fn compile(sql: &str) -> Result<Statement, Problem> {
    Statement::compile(sql).map(|statement| statement.of_rule("test")).map_err(bad_request)
}

fn bad_request(problem: impl ToString) -> Problem {
    Problem::new(Code::BadRequest, problem.to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn test_on(sql: &str, context: Value) -> Result<Value, Problem> {
        test("n", json!({ "sql": sql, "context": context }).to_string().as_bytes())
    }

    #[test]
    fn a_test_answers_with_the_row_or_why_there_is_none() {
        let context = json!({"event_type": "message_publish", "topic": "t/1", "payload": "{\"x\": 5, \"l\": [1, 2]}"});
        assert_eq!(test_on("SELECT payload.x AS x FROM \"t/#\"", context.clone()), Ok(json!({"x": 5})));
        assert_eq!(test_on("FOREACH payload.l DO item AS i FROM \"t/#\"", context.clone()), Ok(json!([{"i": 1}, {"i": 2}])));
        for (sql, code, message) in [
            ("SELECT * FROM \"u\"", Code::NotMatch, "FROM does not select"),
            ("SELECT * FROM \"t/#\" WHERE payload.x > 5", Code::NotMatch, "WHERE does not hold"),
            ("SELECT payload.x + 'a' * 2 AS x FROM \"t/#\"", Code::BadRequest, "cannot compute"),
            ("SELECT uper(a) FROM \"t/#\"", Code::BadRequest, "at column 8"),
        ] {
            let problem = test_on(sql, context.clone()).expect_err(sql);
            assert!(problem.code == code && problem.message.contains(message), "{sql}: {problem}");
        }
        assert_eq!(test_on("SELECT clientid FROM \"$events/client_connected\"", json!({})), Ok(json!({"clientid": "sensor-1"})));
        assert_eq!(test("n", b"nonsense").expect_err("no JSON").code, Code::BadRequest);
    }

    #[test]
    fn a_back_test_answers_with_rows_times_and_a_summary() {
        let folder = tempfile::tempdir().expect("a folder");
        let settings = hookline_schemas::config::Store { free_bytes_min: 0, reserve_bytes: 0, ..Default::default() };
        let store = Store::open(folder.path(), "n", &settings).expect("opens").store;
        let sample = |at_ms: u64, payload: &str| {
            let columns = json!({"event": "message.publish", "topic": "t", "timestamp": at_ms, "payload": payload});
            let mut row = Vec::new();
            hookline_schemas::record::encode_row(&mut row, &hookline_schemas::Value::from_json(columns));
            hookline_core::store::Sample { at_ms, row }
        };
        let samples = [sample(1_000, "{\"x\": 1}"), sample(2_000, "{\"x\": 2}"), sample(3_000, "none"), sample(4_000, "{\"x\": 4}")];
        store.record_sample(&samples).expect("recorded");
        let ask = |body: Value| test_recorded(&store, body.to_string().as_bytes(), &AtomicBool::new(false));
        let sql = "SELECT payload.x + 1 AS y FROM \"t\" WHERE payload.x > 1";
        let Answered { rows, summary } = ask(json!({ "sql": sql })).expect("answered");
        let expect = json!([{"at": "1970-01-01T00:00:02.000Z", "row": {"y": 3}}, {"at": "1970-01-01T00:00:04.000Z", "row": {"y": 5}}]);
        assert_eq!(serde_json::to_value(&rows).expect("plain JSON"), expect);
        assert_eq!((summary.looked, summary.selected, summary.matched, summary.rows, summary.failed), (4, 4, 2, 2, 1), "{summary:?}");
        assert!(summary.complete && summary.failures[0].problem.contains("not JSON"), "{summary:?}");
        let part = ask(json!({ "sql": sql, "from": 2_000, "to": "4000", "limit": 5 })).expect("answered");
        assert_eq!((part.rows.len(), part.summary.looked), (1, 2));
        let limited = ask(json!({ "sql": "SELECT * FROM \"t\"", "limit": 1 })).expect("answered").summary;
        assert!(limited.rows == 1 && !limited.complete, "{limited:?}");
        let stopped = test_recorded(&store, json!({ "sql": sql }).to_string().as_bytes(), &AtomicBool::new(true)).expect("answered");
        assert!(stopped.rows.is_empty() && !stopped.summary.complete);
        for body in [json!({ "sql": "SELECT kv_store_put('a', 1) AS a FROM \"t\"" }), json!({ "sql": sql, "from": "soon" })] {
            assert_eq!(ask(body).expect_err("refused").code, Code::BadRequest);
        }
        store.close();
    }
}
