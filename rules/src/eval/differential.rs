//! WHERE first against the order of the text, on random statements and events: both give the same rows. What WHERE filters out may
//! fail in the order of the text; nothing else may differ.

use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;

/// Names of columns, keys and fields; they overlap so that fields hide columns, and extend them.
const PATHS: &[&str] = &[
    "qos",
    "clientid",
    "topic",
    "nope",
    "payload",
    "payload.a",
    "payload.b",
    "payload.n",
    "payload.n.x",
    "payload.nil",
    "payload.l",
    "payload.l[1]",
    "payload.l[-1]",
    "payload.l[a]",
    "payload.l[1..2]",
    "payload.s",
    "payload.s.d",
    "flags.retain",
    "metadata.rule_id",
    "a",
    "a.b",
    "a[1]",
    "b",
    "l",
    "l[1]",
    "item",
    "s",
    "s.v",
];
/// Where fields go.
const ALIASES: &[&str] = &[
    "a",
    "b",
    "a.b",
    "a.c",
    "a[1]",
    "l",
    "l[1]",
    "l[0]",
    "l[-0]",
    "l[a]",
    "payload",
    "payload.a",
    "payload.z",
    "payload.n.y",
    "qos",
    "s",
    "topic",
    "metadata",
];
const LITERALS: &[&str] = &["0", "1", "2", "-1", "1.5", "''", "'a'", "'1'", "true", "false", "null()", "[]", "[1, 2]"];
/// Functions and operators that take everything, and those that often fail.
const TOLERANT: &[&str] = &["str", "is_null", "is_map", "json_encode", "is_empty_val", "coalesce"];
const STRICT: &[&str] = &["upper", "length", "map_size", "abs", "last", "map_keys"];
const OPERATORS: &[&str] = &["+", "-", "*", "/", "div", "=", "!=", "<", ">="];

fn one_of(words: &'static [&'static str]) -> impl Strategy<Value = String> {
    select(words).prop_map(str::to_owned)
}

fn expr() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![3 => one_of(PATHS), 1 => one_of(LITERALS)];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            6 => (select(TOLERANT), inner.clone()).prop_map(|(function, x)| format!("{function}({x})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("coalesce({x}, {y})")),
            2 => (inner.clone(), inner.clone(), inner.clone())
                .prop_map(|(when, x, y)| format!("CASE WHEN is_null({when}) THEN {x} ELSE {y} END")),
            2 => (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("[{x}, {y}]")),
            1 => (inner.clone(), select(OPERATORS), inner.clone()).prop_map(|(x, operator, y)| format!("({x} {operator} {y})")),
            1 => (select(STRICT), inner).prop_map(|(function, x)| format!("{function}({x})")),
        ]
    })
}

fn condition() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        2 => expr().prop_map(|x| format!("is_null({x})")),
        2 => expr().prop_map(|x| format!("is_not_null({x})")),
        // Its length tells what a value is, without that it must be guessed.
        4 => (expr(), 0u32..60).prop_map(|(x, length)| format!("bytesize(json_encode({x})) > {length}")),
        2 => (expr(), expr()).prop_map(|(x, y)| format!("str({x}) = str({y})")),
        1 => (expr(), expr()).prop_map(|(x, y)| format!("{x} NOT IN ({y}, 1, 'a')")),
        1 => (expr(), select(OPERATORS), expr()).prop_map(|(x, operator, y)| format!("{x} {operator} {y}")),
    ];
    leaf.prop_recursive(2, 4, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} AND {y})")),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| format!("({x} OR {y})")),
            inner.prop_map(|x| format!("NOT ({x})")),
        ]
    })
}

fn field() -> impl Strategy<Value = String> {
    prop_oneof![
        1 => Just("*".to_owned()),
        2 => one_of(PATHS),
        5 => (expr(), select(ALIASES)).prop_map(|(x, alias)| format!("{x} AS {alias}")),
    ]
}

fn fields() -> impl Strategy<Value = String> {
    proptest::collection::vec(field(), 1..5).prop_map(|fields| fields.join(", "))
}

fn statement() -> impl Strategy<Value = String> {
    let plain = (fields(), condition()).prop_map(|(fields, condition)| format!("SELECT {fields} FROM \"#\" WHERE {condition}"));
    let list = prop_oneof![Just("payload.l".to_owned()), Just("payload".to_owned()), Just("[1, qos, 'a']".to_owned()), expr()];
    let name = item_name();
    let before = proptest::option::of(fields());
    let each = (before, list, name, proptest::option::of(fields()), proptest::option::of(condition()), condition());
    let each = each.prop_map(|(before, list, name, fields, keep, condition)| {
        let before = before.map(|fields| format!("{fields}, ")).unwrap_or_default();
        let fields = fields.map(|fields| format!(" DO {fields}")).unwrap_or_default();
        let keep = keep.map(|keep| format!(" INCASE {keep}")).unwrap_or_default();
        format!("FOREACH {before}{list}{name}{fields}{keep} FROM \"#\" WHERE {condition}")
    });
    prop_oneof![2 => plain, 1 => each]
}

fn item_name() -> impl Strategy<Value = String> {
    one_of(&["", " AS s", " AS l", " AS a"])
}

fn event() -> impl Strategy<Value = Value> {
    let payloads = [
        json!(r#"{"a": 1, "b": "x", "n": {"x": 1, "y": [2]}, "nil": null, "l": [{"v": 1}, {"v": 2}, 3], "s": "{\"d\": [1]}"}"#),
        json!(r#"{"a": {"b": 2}, "b": [1, 2], "n": 5, "l": "[1, 2]", "s": "1"}"#),
        json!({"a": "1", "payload": 2, "qos": 3, "l": []}),
        json!("[1, [2], {\"v\": 3}]"),
        json!("no document"),
        json!(null),
    ];
    let event = |payload: serde_json::Value| {
        let mut event = json!({"clientid": "c1", "topic": "a/b", "qos": 1, "flags": {"retain": false}});
        // Null stands for no payload at all.
        if !payload.is_null() {
            event["payload"] = payload;
        }
        Value::from_json(event)
    };
    select(payloads.map(event).to_vec())
}

/// Whether both orders agree on a statement.
fn judge(sql: &str, event: &Value) -> Result<(), TestCaseError> {
    let statement = Statement::compile(sql).map_err(|error| TestCaseError::fail(format!("{sql}: {error}")))?;
    let rows = statement.run(&Context::of_row(event));
    let in_order = statement.run_select_first(&Context::of_row(event));
    match (rows, in_order) {
        (Ok(rows), Ok(in_order)) => prop_assert_eq!(rows, in_order, "{} on {}", sql, event),
        // What is filtered out cannot fail, and which of two failures is met first does not matter.
        (Ok(Rows::NoMatch) | Err(_), Err(_)) => {}
        (rows, in_order) => {
            return Err(TestCaseError::fail(format!("{sql} on {event}: {rows:?}, but {in_order:?} in the order of the text")));
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, ..ProptestConfig::default() })]

    #[test]
    fn random_statements_give_the_same_in_both_orders(sql in statement(), event in event()) {
        judge(&sql, &event)?;
    }
}

#[test]
fn a_field_that_others_add_to_is_whole_when_where_asks_for_it() {
    let event = Value::from_json(json!({"topic": "t", "payload": r#"{"a": {"c": 1}, "b": 2}"#}));
    for (statement, matches) in [
        ("SELECT 1 AS payload.x, payload.b FROM \"#\" WHERE map_size(payload) = 2", true),
        ("SELECT payload, 'c' AS payload.i FROM \"#\" WHERE map_size(payload) = 3", true),
        ("SELECT *, 1 AS payload.x FROM \"#\" WHERE map_size(payload) = 3", true),
        ("SELECT *, 1 AS payload.a.d FROM \"#\" WHERE map_size(payload.a) = 2", true),
        ("SELECT 1 AS payload, payload.b FROM \"#\" WHERE is_map(payload)", true),
        ("SELECT payload.b, payload AS p, 1 AS payload.z FROM \"#\" WHERE is_map(p)", true),
        ("SELECT 1 AS payload.x, payload.b, payload AS p FROM \"#\" WHERE map_size(p) = 1", false),
    ] {
        judge(statement, &event).unwrap_or_else(|error| panic!("{error}"));
        let rows = Statement::compile(statement).expect(statement).run(&Context::of_row(&event));
        assert_eq!(rows.map(|rows| rows != Rows::NoMatch), Ok(matches), "{statement}");
    }
}

#[test]
fn what_writes_runs_in_the_order_of_the_text() {
    let event = Value::from_json(json!({"topic": "t"}));
    // Each order has keys of its own, because the first run leaves its mark.
    let pairs = [
        "SELECT kv_store_get('KEY', 0) AS x FROM \"#\" WHERE kv_store_put('KEY', 1)",
        "SELECT kv_store_put('KEY', 1) AS x FROM \"#\" WHERE kv_store_get('KEY', 0) = 1",
        "FOREACH [kv_store_put('KEY', 1)] DO item AS x FROM \"#\" WHERE kv_store_get('KEY', 0) = 1",
    ];
    for (number, statement) in pairs.into_iter().enumerate() {
        let compile = |order: &str| Statement::compile(&statement.replace("KEY", &format!("differential/{number}/{order}")));
        let rows = compile("where first").expect(statement).run(&Context::of_row(&event));
        let in_order = compile("text").expect(statement).run_select_first(&Context::of_row(&event));
        assert_eq!(rows, in_order, "{statement}");
        assert!(rows.is_ok_and(|rows| rows != Rows::NoMatch), "{statement}");
    }
}
