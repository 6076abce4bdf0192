//! Windows with a clock by hand.

use serde_json::{Value as Json, json};

use super::*;
use crate::Statement;

fn window(sql: &str) -> Window {
    let statement = Statement::compile(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
    Window::new(statement.window().expect("it has a window").clone(), WindowLimits::default())
}

fn push(window: &mut Window, now_ms: u64, client: &str, value: Json) -> Result<(), EvalError> {
    let columns = Value::from_json(json!({"clientid": client, "topic": "t", "payload": json!({"v": value}).to_string()}));
    window.push(now_ms, &Context::of_row(&columns))
}

fn due(window: &mut Window, now_ms: u64) -> Json {
    window.due(now_ms).iter().map(Value::to_json).collect()
}

/// The values of one client within a window, and the row's `x`.
fn check(expr: &str, values: &[Json], expect: &Json) {
    let mut window = window(&format!("SELECT {expr} AS x FROM \"t\" GROUP BY TUMBLING(10s)"));
    for value in values {
        push(&mut window, 1_000, "c1", value.clone()).unwrap_or_else(|error| panic!("{expr}: {error}"));
    }
    let rows = window.due(10_000);
    assert_eq!(rows[0].path(["x"]).to_json(), *expect, "{expr}");
}

#[test]
fn aggregates_put_values_together() {
    let numbers = [json!(4), json!(1), json!(null), json!(2.5), json!(1)];
    let cases = [
        ("count()", json!(5)),
        ("count(payload.v)", json!(4)),
        ("count(payload.nope)", json!(0)),
        ("sum(payload.v)", json!(8.5)),
        ("avg(payload.v)", json!(2.125)),
        ("min(payload.v)", json!(1)),
        ("max(payload.v)", json!(4)),
        ("first(payload.v)", json!(4)),
        ("last(payload.v)", json!(1)),
        ("percentile(payload.v, 0.5)", json!(1.75)),
        ("percentile(payload.v, 1)", json!(4.0)),
        ("sum(payload.nope)", json!(null)),
        ("max(payload.v) - min(payload.v)", json!(3)),
        ("CASE WHEN count() > 3 THEN 'many' ELSE 'few' END", json!("many")),
        ("window_end - window_start", json!(10_000)),
    ];
    for (expr, expect) in cases {
        check(expr, &numbers, &expect);
    }
    check("sum(payload.v)", &[json!(2), json!(3)], &json!(5));
    check("sum(payload.v)", &[json!(i64::MAX), json!(1)], &json!(9_223_372_036_854_775_808.0_f64));
    check("stddev(payload.v)", &[json!(2), json!(4), json!(6)], &json!(2.0));
    check("stddev(payload.v)", &[json!(2)], &json!(null));
    check("max(payload.v)", &[json!("a"), json!("b")], &json!("b"));
}

#[test]
fn tumbling_windows_close_by_group_and_only_once() {
    let mut window =
        window("SELECT clientid, count() AS n, window_start AS s FROM \"t\" WHERE payload.v > 0 GROUP BY clientid, TUMBLING(10s)");
    for (now_ms, client, value) in [(12_000, "a", 1), (13_000, "b", 1), (19_999, "a", 1), (15_000, "a", 0), (20_000, "a", 1)] {
        push(&mut window, now_ms, client, json!(value)).expect("numbers");
    }
    assert_eq!(window.next_due(), Some(20_000));
    assert_eq!(due(&mut window, 19_999), json!([]));
    assert_eq!(due(&mut window, 20_000), json!([{"clientid": "a", "n": 2, "s": 10_000}, {"clientid": "b", "n": 1, "s": 10_000}]));
    assert_eq!(due(&mut window, 20_000), json!([]));
    push(&mut window, 19_000, "a", json!(1)).expect("late");
    assert_eq!(due(&mut window, 99_000), json!([{"clientid": "a", "n": 1, "s": 20_000}]));
    assert_eq!(window.next_due(), None);
    assert_eq!(window.groups(), 0);
    assert_eq!(window.stats(), WindowStats { taken: 4, filtered: 1, late: 1, refused: 0, failed: 0 });
}

#[test]
fn an_event_belongs_to_every_hopping_window_over_it() {
    let mut window = window("SELECT count() AS n, window_start AS s FROM \"t\" GROUP BY HOPPING(10s, 5s)");
    push(&mut window, 7_000, "a", json!(1)).expect("number");
    push(&mut window, 11_000, "a", json!(1)).expect("number");
    let rows = json!([{"n": 1, "s": 0}, {"n": 2, "s": 5_000}, {"n": 1, "s": 10_000}]);
    assert_eq!(due(&mut window, 30_000), rows);
}

#[test]
fn a_session_ends_with_silence() {
    let mut window = window("SELECT clientid, count() AS n, window_start AS s, window_end AS e FROM \"t\" GROUP BY clientid, SESSION(30s)");
    for (now_ms, client) in [(0, "a"), (20_000, "a"), (25_000, "b"), (45_000, "a")] {
        push(&mut window, now_ms, client, json!(1)).expect("number");
    }
    assert_eq!(due(&mut window, 55_000), json!([{"clientid": "b", "n": 1, "s": 25_000, "e": 55_000}]));
    assert_eq!(window.next_due(), Some(75_000));
    assert_eq!(due(&mut window, 80_000), json!([{"clientid": "a", "n": 3, "s": 0, "e": 75_000}]));
}

#[test]
fn what_is_too_much_is_refused_and_counted() {
    let sql = "SELECT payload.v AS v, count() AS n FROM \"t\" GROUP BY payload.v, TUMBLING(1s)";
    let plan = Statement::compile(sql).expect("valid").window().expect("it has a window").clone();
    let mut window = Window::new(plan, WindowLimits { groups_max: 2 });
    for value in [1, 2, 3, 1] {
        push(&mut window, 500, "a", json!(value)).expect("number");
    }
    assert_eq!((window.groups(), window.stats().refused, window.stats().taken), (2, 1, 3));
    assert!(push(&mut window, 500, "a", json!("x".repeat(5_000))).is_err());
    for second in 1..100 {
        push(&mut window, second * 1_000, "a", json!(1)).expect("number");
    }
    assert_eq!(window.stats().refused, 1 + 99 - 8);
}

#[test]
fn values_that_do_not_fit_change_nothing() {
    let mut window = window("SELECT count() AS n, sum(payload.v) AS s FROM \"t\" GROUP BY TUMBLING(1s)");
    push(&mut window, 1, "a", json!(1)).expect("number");
    assert_eq!(push(&mut window, 2, "a", json!("x")).expect_err("text").to_string(), "sum: expected a number, found string");
    assert_eq!(due(&mut window, 1_000), json!([{"n": 1, "s": 1}]));
}

#[test]
fn a_large_sample_is_near_the_truth() {
    let mut window = window("SELECT percentile(payload.v, 0.9) AS p FROM \"t\" GROUP BY TUMBLING(1s)");
    for value in 0..10_000 {
        push(&mut window, 1, "a", json!(value)).expect("number");
    }
    let rows = due(&mut window, 1_000);
    assert!((8_500.0..9_500.0).contains(&rows[0]["p"].as_f64().expect("a number")), "{rows}");
}

#[test]
fn state_comes_back_from_its_bytes() {
    let sql = "SELECT clientid, sum(payload.v) AS s, avg(payload.v) AS a, last(payload.v) AS l, percentile(payload.v, 0.5) AS p \
               FROM \"t\" GROUP BY clientid, SESSION(10s)";
    let mut before = window(sql);
    for (now_ms, value) in [(1, json!(0.1)), (2, json!(0.2)), (3, json!(7))] {
        push(&mut before, now_ms, "a", value).expect("number");
    }
    let mut after = Window::from_bytes(before.plan.clone(), WindowLimits::default(), &before.to_bytes()).expect("undamaged");
    assert_eq!(after.state, before.state);
    // It may be asked too early, and never too late.
    assert!(before.next_due() <= after.next_due());
    for window in [&mut before, &mut after] {
        push(window, 4, "a", json!(1)).expect("number");
    }
    assert_eq!(due(&mut after, 20_000), due(&mut before, 20_000));

    let other = window("SELECT count() AS n FROM \"t\" GROUP BY TUMBLING(1s)").plan;
    let opened = Window::from_bytes(other.clone(), WindowLimits::default(), &before.to_bytes());
    assert_eq!(opened.err(), Some(WindowError::OtherStatement));
    assert!(Window::from_bytes(other, WindowLimits::default(), b"{").is_err());
}

#[test]
fn what_varies_within_a_window_is_an_error() {
    for (sql, problem) in [
        ("SELECT qos FROM \"t\" GROUP BY TUMBLING(1s)", "\"qos\" varies within the window"),
        ("SELECT * FROM \"t\" GROUP BY TUMBLING(1s)", "no \"*\""),
    ] {
        let error = Statement::compile(sql).expect_err(sql);
        assert!(error.problem.contains(problem), "{error}");
    }
}

#[test]
fn a_statement_with_a_window_can_be_tried() {
    let statement = Statement::compile("SELECT avg(qos) AS q, window_start AS s FROM \"t\" GROUP BY TUMBLING(1s)").expect("valid");
    let rows = statement.try_on(&Value::from_json(json!({"qos": 1, "timestamp": 1_500}))).expect("a row");
    let rows = rows.into_vec();
    assert_eq!(rows.iter().map(Value::to_json).collect::<Json>(), json!([{"q": 1.0, "s": 1_000}]));
}
