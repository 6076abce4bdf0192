//! Statements against one event.

use serde_json::json;

use super::*;

fn event() -> Value {
    Value::from_json(json!({
        "event": "message.publish", "clientid": "c1", "topic": "t/1", "qos": 1, "timestamp": 1_700_000_000_124i64,
        "payload": r#"{"t": 21.5, "n": {"x": [10, 20, 30], "k v": 1}, "s": "12", "ok": true, "nil": null, "inner": "{\"d\": 5}"}"#,
        "flags": {"retain": false},
    }))
}

fn run(sql: &str) -> Result<Option<serde_json::Value>, EvalError> {
    let statement = Statement::compile(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    statement.try_on(&event()).map(|row| row.map(|row| row.to_json()))
}

#[test]
fn rows_are_selected_as_documented() {
    let cases = [
        ("SELECT clientid, payload.t AS t FROM \"t/#\"", json!({"clientid": "c1", "t": 21.5})),
        ("SELECT payload.n.x[2] AS a, payload.n.x[-1] AS b, payload.n.x[0] AS c FROM \"#\"", json!({"a": 20, "b": 30})),
        ("SELECT payload.t, payload.s FROM \"#\"", json!({"payload": {"t": 21.5, "s": "12"}})),
        ("SELECT 'it''s' AS a, 'b\\' AS b FROM \"#\"", json!({"a": "it''s", "b": "b\\"})),
        ("SELECT payload.n.x FROM \"#\"", json!({"payload": {"n": {"x": [10, 20, 30]}}})),
        ("SELECT payload.n.x[2..-1] AS r, [1..3] AS l, [1, 'a'] AS m FROM \"#\"", json!({"r": [20, 30], "l": [1, 2, 3], "m": [1, "a"]})),
        ("SELECT payload.n.'k v' AS v, payload.inner.d AS d FROM \"#\"", json!({"v": 1, "d": 5})),
        (
            "SELECT payload.t * 2 AS x, 7 div 2 AS d, 7 mod 2 AS m, 7 / 2 AS f, -qos AS n FROM \"#\"",
            json!({"x": 43.0, "d": 3, "m": 1, "f": 3.5, "n": -1}),
        ),
        ("SELECT clientid + '/' + qos AS k FROM \"#\"", json!({"k": "c1/1"})),
        ("SELECT qos AS a.b, 'x' AS a.c FROM \"#\"", json!({"a": {"b": 1, "c": "x"}})),
        ("SELECT qos + 1 AS q, q * 10 AS r FROM \"#\"", json!({"q": 2, "r": 20})),
        (
            "SELECT CASE WHEN payload.t > 30 THEN 'hot' WHEN payload.t > 20 THEN 'warm' ELSE 'cold' END AS c FROM \"#\"",
            json!({"c": "warm"}),
        ),
        ("SELECT CASE qos WHEN 0 THEN 'zero' WHEN 1 THEN 'one' END AS q FROM \"#\"", json!({"q": "one"})),
        ("SELECT upper(clientid) AS u, nope AS missing FROM \"#\"", json!({"u": "C1"})),
        ("SELECT qos AS q -- a comment\nFROM \"#\"", json!({"q": 1})),
    ];
    for (sql, expect) in cases {
        assert_eq!(run(sql), Ok(Some(expect)), "{sql}");
    }
}

#[test]
fn conditions_hold_or_not() {
    let cases = [
        ("payload.t > 21", true),
        ("payload.s = 12", true),
        ("payload.s > 13", false),
        ("qos = 1.0", true),
        ("payload.nope = 1", false),
        ("payload.nope = payload.neither", true),
        ("payload.nope > 1", false),
        ("payload.ok = true", true),
        ("payload.ok", true),
        ("NOT payload.ok = true", false),
        ("clientid IN ('a', 'c1')", true),
        ("clientid NOT IN ('a', 'c1')", false),
        ("topic =~ 't/+'", true),
        ("payload.nope <> 'x'", false),
        ("payload.nope >= payload.neither", true),
        ("payload.s IN (12)", false),
        ("payload.s IN ('12')", true),
        ("qos = 1 AND (clientid = 'x' OR clientid = 'c1')", true),
        ("payload.nil = 1", false),
        ("is_null(payload.nope)", true),
    ];
    for (condition, holds) in cases {
        let sql = format!("SELECT * FROM \"#\" WHERE {condition}");
        assert_eq!(run(&sql).map(|row| row.is_some()), Ok(holds), "{condition}");
    }
}

#[test]
fn where_sees_aliases_and_filters_before_select_fails() {
    assert_eq!(run("SELECT qos + 1 AS q FROM \"#\" WHERE q = 2"), Ok(Some(json!({"q": 2}))));
    assert_eq!(run("SELECT payload.s / 0 AS x FROM \"#\" WHERE qos = 2"), Ok(None));
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    for expr in ["1 / 0", "1 div 0", "payload.n * 2", "9223372036854775807 + 1", "payload.n.x['a']", "clientid.x", "topic[1..2]", "'a' < 1"]
    {
        assert!(run(&format!("SELECT {expr} AS x FROM \"#\"")).is_err(), "{expr}");
    }
}
