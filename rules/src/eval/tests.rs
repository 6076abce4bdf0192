//! Statements against one event.

use serde_json::json;

use super::*;
use crate::error::EvalErrorKind;

fn event() -> Value {
    Value::from_json(json!({
        "event": "message.publish", "clientid": "c1", "topic": "t/1", "qos": 1, "timestamp": 1_700_000_000_124i64,
        "payload": r#"{"t": 21.5, "n": {"x": [10, 20, 30], "k v": 1}, "s": "12", "ok": true, "nil": null, "inner": "{\"d\": 5}",
            "word": "abc", "i": 2, "l": "[7, 8]", "big": 9223372036854775807,
            "sensors": [{"name": "a", "v": 0}, {"name": "b", "v": 1}, {"name": "c", "v": 2}]}"#,
        "flags": {"retain": false},
    }))
}

fn compile(sql: &str) -> Statement {
    Statement::compile(sql).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// What a statement makes of the event; the same in the order of the text, unless SELECT fails there before WHERE is asked.
fn run_on(sql: &str, event: &Value) -> Result<Rows, EvalError> {
    let statement = compile(sql);
    let rows = statement.run(&Context::of_row(event));
    let in_order = statement.run_select_first(&Context::of_row(event));
    let failed_early = in_order.is_err() && rows == Ok(Rows::NoMatch);
    assert!(rows == in_order || failed_early, "{sql}: {rows:?}, but {in_order:?} in the order of the text");
    rows
}

fn check(sql: &str, event: &Value, expect: &serde_json::Value) {
    let rows = run_on(sql, event).unwrap_or_else(|error| panic!("{sql}: {error}"));
    let rows: Vec<serde_json::Value> = rows.as_slice().iter().map(Value::to_json).collect();
    assert_eq!(rows, *expect.as_array().unwrap_or(&vec![expect.clone()]), "{sql}");
}

#[test]
fn rows_are_selected_as_documented() {
    let cases = [
        ("clientid, payload.t AS t", json!({"clientid": "c1", "t": 21.5})),
        ("payload.n.x[2] AS a, payload.n.x[-1] AS b, payload.n.x[0] AS c", json!({"a": 20, "b": 30})),
        ("payload.t, payload.s", json!({"payload": {"t": 21.5, "s": "12"}})),
        ("'it''s' AS a, 'b\\' AS b, '' AS c", json!({"a": "it''s", "b": "b\\", "c": ""})),
        ("payload.n.x", json!({"payload": {"n": {"x": [10, 20, 30]}}})),
        ("payload.n.x[2..-1] AS r, [1..3] AS l, [1, 'a'] AS m", json!({"r": [20, 30], "l": [1, 2, 3], "m": [1, "a"]})),
        ("payload.n.x[5..9] AS a, payload.n.x[2..9] AS b, [3..2] AS c", json!({"a": [], "b": [20, 30], "c": []})),
        ("payload.n.'k v' AS v, payload.inner.d AS d, payload.l[2] AS l", json!({"v": 1, "d": 5, "l": 8})),
        ("payload.t * 2 AS x, 7 div 2 AS d, 7 mod 2 AS m, 7 / 2 AS f, -qos AS n", json!({"x": 43.0, "d": 3, "m": 1, "f": 3.5, "n": -1})),
        ("2 + 3 * 4 - 1 AS a, 10 - 2 - 3 AS b, -9223372036854775808 AS c, 007 AS d", json!({"a": 13, "b": 5, "c": i64::MIN, "d": 7})),
        ("clientid + '/' + qos AS k, 'a' + 1.0 AS f, 'a' + payload.nil AS n", json!({"k": "c1/1", "f": "a1.0", "n": "anull"})),
        ("qos AS a.b, 'x' AS a.c", json!({"a": {"b": 1, "c": "x"}})),
        ("qos AS q, q + 1 AS r, r * 2 AS s", json!({"q": 1, "r": 2, "s": 4})),
        ("payload AS p, p.t AS t", json!({"p": event().path(["payload"]).to_json(), "t": 21.5})),
        ("CASE WHEN payload.t > 30 THEN 'hot' WHEN payload.t > 20 THEN 'warm' ELSE 'cold' END AS c", json!({"c": "warm"})),
        (
            "CASE qos WHEN 0 THEN 'zero' WHEN 1 THEN 'one' END AS q, CASE payload.s WHEN 12 THEN 1 ELSE 0 END AS s",
            json!({"q": "one", "s": 0}),
        ),
        ("upper(clientid) AS u, nope AS missing, TRUE AS t", json!({"u": "C1"})),
        ("qos AS q -- a comment\n, /* another */ 1 AS r", json!({"q": 1, "r": 1})),
        ("payload.word[1] AS a, payload.word.x AS b, clientid.x AS c, payload.n[1] AS d", json!({})),
        ("payload.n.x[payload.i] AS a, payload.n.x[i] AS b, payload.n.x[1 + 1] AS c", json!({"a": 20, "b": 20, "c": 20})),
        ("payload.t, payload AS p", json!({"payload": {"t": 21.5}, "p": event().path(["payload"]).to_json()})),
        ("payload.sensors[1].name", json!({"payload": {"sensors": [{"name": "a"}]}})),
        ("metadata.rule_id AS r", json!({"r": ""})),
        ("1 + 1, upper('a')", json!({"1 + 1": 2, "upper('a')": "A"})),
    ];
    for (fields, expect) in cases {
        check(&format!("SELECT {fields} FROM \"#\""), &event(), &expect);
    }
}

#[test]
fn aliases_reach_into_maps_and_arrays() {
    let event = Value::from_json(json!({"clientid": "c1", "topic": "t", "payload": r#"{"a": [1, 2, 3], "m": [[1, 2], [3, 4]], "i": 2}"#}));
    let cases = [
        ("payload.a AS t, 'z' AS t[1]", json!({"t": ["z", 2, 3]})),
        ("payload.a AS t, 'z' AS t[-1]", json!({"t": [1, 2, "z"]})),
        ("payload.a AS t, 'z' AS t[0]", json!({"t": ["z", 1, 2, 3]})),
        ("payload.a AS t, 'z' AS t[-0]", json!({"t": [1, 2, 3, "z"]})),
        ("payload.a AS t, 'z' AS t[9]", json!({"t": [1, 2, 3]})),
        ("'z' AS t[0]", json!({"t": ["z"]})),
        ("'n' AS x.s[2].name", json!({"x": {"s": [{"name": "n"}]}})),
        ("payload.m AS m, 9 AS m[2][1]", json!({"m": [[1, 2], [9, 4]]})),
        ("payload.i AS i, payload.a AS t, 'z' AS t[i]", json!({"i": 2, "t": [1, "z", 3]})),
        ("1 AS l.c[-0], 2 AS l.c[-0], 'P' AS l.type", json!({"l": {"c": [1, 2], "type": "P"}})),
        ("clientid AS a, topic AS a.b", json!({"a": {"b": "t"}})),
        ("clientid AS a.b, topic AS a", json!({"a": "t"})),
        ("payload, 'c' AS payload.i", json!({"payload": {"a": [1, 2, 3], "m": [[1, 2], [3, 4]], "i": "c"}})),
        ("'fixed' AS clientid, *", json!({"clientid": "fixed", "topic": "t", "payload": event.path(["payload"]).to_json()})),
    ];
    for (fields, expect) in cases {
        check(&format!("SELECT {fields} FROM \"#\""), &event, &expect);
    }
}

#[test]
fn each_item_of_a_list_gives_a_row() {
    let cases = [
        (
            "payload.sensors AS s DO s.name AS n, s.v + 1 AS v, clientid",
            json!([
            {"n": "a", "v": 1, "clientid": "c1"}, {"n": "b", "v": 2, "clientid": "c1"}, {"n": "c", "v": 3, "clientid": "c1"}]),
        ),
        ("payload.sensors DO item.name AS n INCASE item.v >= 1", json!([{"n": "b"}, {"n": "c"}])),
        ("payload.sensors AS s DO item AS x INCASE s.v = 1", json!([{}])),
        ("payload.s, payload.sensors[1..1] AS s DO s, payload.s AS t", json!([{"s": {"name": "a", "v": 0}, "t": "12"}])),
        ("qos + 1 AS q, [1, 2] DO item * q AS x", json!([{"x": 2}, {"x": 4}])),
        ("[1..2] DO item AS x", json!([{"x": 1}, {"x": 2}])),
        ("payload.sensors AS s DO s.name AS out.name INCASE s.name IN ('b')", json!([{"out": {"name": "b"}}])),
        ("payload.s DO item AS x", json!([])),
        ("payload.l DO item AS x", json!([])),
        ("payload.nil DO item AS x", json!([])),
        ("payload.nope DO item AS x", json!([])),
        ("payload.t AS t, payload.s AS s DO s AS s", json!([])),
    ];
    for (rest, expect) in cases {
        check(&format!("FOREACH {rest} FROM \"#\""), &event(), &expect);
    }
    let list = Value::from_json(json!({"topic": "t", "payload": "[1, 2]"}));
    check("FOREACH payload DO item AS x FROM \"#\"", &list, &json!([{"x": 1}, {"x": 2}]));
    check("FOREACH payload FROM \"#\"", &list, &json!([]));
    let rows = json!([{"topic": "t", "payload": "[1, 2]", "s": 1}, {"topic": "t", "payload": "[1, 2]", "s": 2}]);
    check("FOREACH [1, 2] AS s FROM \"#\"", &list, &rows);
    check("FOREACH [1, 2] AS s DO * FROM \"#\"", &list, &rows);
}

#[test]
fn foreach_asks_where_once_and_tells_no_match_from_no_rows() {
    let run = |rest: &str| run_on(&format!("FOREACH payload.sensors AS s DO s.v AS v FROM \"#\" WHERE {rest}"), &event());
    assert_eq!(run("qos = 2"), Ok(Rows::NoMatch));
    assert_eq!(run("length(payload.sensors) > 3"), Ok(Rows::NoMatch));
    assert_eq!(run("length(s) = 3").map(|rows| rows.as_slice().len()), Ok(3));
    assert_eq!(run_on("FOREACH payload.s DO item FROM \"#\"", &event()), Ok(Rows::Many(Vec::new())));
}

#[test]
fn conditions_hold_or_not() {
    let cases = [
        ("payload.t > 21", true),
        ("payload.s = 12", true),
        ("payload.s = 1.2e1", true),
        ("payload.s > 13", false),
        ("qos = 1.0", true),
        ("payload.big = 9223372036854775808.0", false),
        ("payload.nope = 1", false),
        ("payload.nope = payload.neither", true),
        ("payload.nope > 1", false),
        ("payload.nope =~ 'a'", false),
        ("payload.ok = true", true),
        ("payload.ok = 'true'", true),
        ("payload.ok", true),
        ("NOT payload.ok = true", false),
        ("NOT NOT payload.ok", true),
        ("NOT payload.s", false),
        ("clientid IN ('a', 'c1')", true),
        ("clientid NOT IN ('a', 'c1')", false),
        ("topic =~ 't/+'", true),
        ("payload.nope <> 'x'", false),
        ("payload.nope >= payload.neither", true),
        ("payload.nil != 1", true),
        ("payload.nil = payload.nope", false),
        ("payload.s IN (12)", false),
        ("payload.s IN ('12')", true),
        ("qos IN (1.0)", false),
        ("payload.nope IN (payload.neither)", true),
        ("qos = 1 AND (clientid = 'x' OR clientid = 'c1')", true),
        ("qos = 1 OR qos = 2 AND clientid = 'x'", true),
        ("payload.nil = 1", false),
        ("payload.n.x > 5", true),
        ("payload.n.x = [10, 20, 30.0]", true),
        ("payload.n = payload.n", true),
        ("is_null(payload.nope)", true),
        ("qos = 2 AND payload.word > 5", false),
    ];
    for (condition, holds) in cases {
        let rows = run_on(&format!("SELECT * FROM \"#\" WHERE {condition}"), &event());
        assert_eq!(rows.map(|rows| rows != Rows::NoMatch), Ok(holds), "{condition}");
    }
}

#[test]
fn where_sees_aliases_and_filters_before_select_fails() {
    check("SELECT qos + 1 AS q FROM \"#\" WHERE q = 2", &event(), &json!({"q": 2}));
    check("SELECT qos AS a, a + 1 AS b, 'x' AS c FROM \"#\" WHERE b = 2", &event(), &json!({"a": 1, "b": 2, "c": "x"}));
    for sql in [
        "SELECT payload.s / 0 AS x FROM \"#\" WHERE qos = 2",
        "SELECT qos AS q, payload.s / 0 AS x FROM \"#\" WHERE q = 2",
        "SELECT payload.s * 2 AS payload.x FROM \"#\" WHERE qos = 2",
    ] {
        assert_eq!(run_on(sql, &event()), Ok(Rows::NoMatch), "{sql}");
    }
    assert!(run_on("SELECT qos FROM \"#\" WHERE payload.word > 5", &event()).is_err());
    assert!(run_on("SELECT payload.s / 0 AS x, 1 AS y FROM \"#\" WHERE x = 2", &event()).is_err());
}

#[test]
fn what_cannot_be_computed_is_an_error() {
    let exprs = [
        "1 / 0",
        "1 div 0",
        "1.0 / 0",
        "6.0 div 2",
        "payload.n * 2",
        "payload.s * 2",
        "payload.nil + 1",
        "payload.nope + 1",
        "-clientid",
        "9223372036854775807 + 1",
        "payload.big + 1",
        "topic[1..2]",
        "payload.word[1..2]",
        "payload.t[1..2]",
        "payload.n.x[0..1]",
        "payload.n.x[3..1]",
        "payload.n.x[-9..2]",
        "payload.n.x[payload.s]",
        "[5..1]",
        "'a' < 1",
        "payload.word > 5",
        "qos =~ 't/#'",
        "upper(payload.nope)",
    ];
    for expr in exprs {
        assert!(run_on(&format!("SELECT {expr} AS x FROM \"#\""), &event()).is_err(), "{expr}");
    }
    let text = Value::from_json(json!({"topic": "t", "payload": "plain text"}));
    for expr in ["payload.x", "payload[1]", "payload.x.y"] {
        let error = run_on(&format!("SELECT {expr} AS x FROM \"#\""), &text).expect_err(expr);
        assert_eq!(error.to_string(), "payload is not JSON", "{expr}");
    }
}

#[test]
fn errors_of_functions_name_the_function() {
    let error = run_on("SELECT upper(qos) AS x FROM \"#\"", &event()).expect_err("no text");
    assert!(error.problem.starts_with("upper: "), "{error}");
}

#[test]
fn an_evaluation_has_a_budget() {
    let chain: String = (0..40).map(|i| format!("a{i} + a{i} AS a{}, ", i + 1)).collect();
    let deep: String = (0..40).map(|i| format!("a{i} AS a{}.b.b.b.b, ", i + 1)).collect();
    let statements = [
        format!("SELECT clientid AS a0, {chain} 1 AS end FROM \"#\""),
        format!("SELECT clientid AS a0, {deep} 1 AS end FROM \"#\""),
        "FOREACH [1..99999] DO item + 1 AS a, item + 2 AS b, item + 3 AS c, item + 4 AS d FROM \"#\"".to_owned(),
    ];
    for sql in statements {
        let error = compile(&sql).run(&Context::of_row(&event())).expect_err("over the budget");
        assert_eq!(error.kind, EvalErrorKind::Budget, "{error}");
    }
}

#[test]
fn rules_that_read_different_keys_share_one_event() {
    let event = event();
    let context = Context::of_row(&event);
    for (expr, expect) in [("payload.t", json!(21.5)), ("payload.t", json!(21.5)), ("payload.i", json!(2)), ("payload.n.x[1]", json!(10))] {
        let rows = compile(&format!("SELECT {expr} AS x FROM \"#\"")).run(&context).expect(expr);
        assert_eq!(rows.as_slice()[0].path(["x"]).to_json(), expect, "{expr}");
    }
}

#[test]
fn from_selects_messages_events_and_sources() {
    let publish = |topic: &str| json!({"event": "message.publish", "topic": topic});
    let of = |event: &str| json!({"event": event, "topic": "t/1"});
    let cases = [
        ("\"t/#\"", publish("t/a/b"), true),
        ("'t/#'", publish("t/1"), true),
        ("\"t/+\"", publish("t/a/b"), false),
        ("\"#\"", publish("$SYS/x"), false),
        ("\"t/#\", \"$events/client_connected\"", publish("t/1"), true),
        ("\"t/#\", \"$events/client_connected\"", of("client.connected"), true),
        ("\"$events/session_subscribed\"", publish("t/1"), false),
        ("\"$events/client/#\"", of("client.disconnected"), true),
        ("\"$events/client/#\"", of("session.subscribed"), false),
        ("\"#\"", of("client.connected"), false),
        ("\"$sources/kafka:orders\"", of("$sources/kafka:orders"), true),
        ("\"$bridges/kafka:orders\"", of("$sources/kafka:orders"), true),
        ("\"$sources/#\"", of("$bridges/mqtt:a"), true),
        ("\"$sources/kafka:orders\"", of("$sources/kafka:other"), false),
    ];
    for (from, columns, expect) in cases {
        assert_eq!(compile(&format!("SELECT * FROM {from}")).matches_event(&Value::from_json(columns)), expect, "{from}");
    }
    for (from, problem) in [
        ("\"$events/client_conected\"", "did you mean"),
        ("\"$share/g/t/#\"", "write \"t/#\""),
        ("\"t/#/x\"", "no topic filter"),
        ("\"\"", "no topic filter"),
    ] {
        let error = Statement::compile(&format!("SELECT * FROM {from}")).expect_err(from);
        assert!(error.problem.contains(problem) && error.column == 15, "{error}");
    }
}
