//! Random statements, random bytes, and every function with odd arguments: nothing panics, every error has words and a place, and
//! what comes out is bounded.

use bytes::Bytes;
use hookline_rules::{Rows, Statement, function};
use hookline_schemas::Value;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

/// The steps of one evaluation; there cannot be more rows.
const ROWS_MAX: usize = 1_000_000;

/// What statements are made of.
const WORDS: &[&str] = &[
    "SELECT",
    "FOREACH",
    "FROM",
    "WHERE",
    "AS",
    "DO",
    "INCASE",
    "CASE",
    "WHEN",
    "THEN",
    "ELSE",
    "END",
    "AND",
    "OR",
    "NOT",
    "IN",
    "GROUP",
    "BY",
    "div",
    "mod",
    "TUMBLING(1s)",
    "HOPPING(1m, 1s)",
    "SESSION(5m)",
    "count()",
    "avg(",
    "percentile(",
    "upper(",
    "coalesce(",
    "*",
    ",",
    "(",
    ")",
    "[",
    "]",
    "..",
    ".",
    "+",
    "-",
    "/",
    "=",
    "!=",
    "<>",
    "<=",
    "=~",
    "\"t/#\"",
    "\"$events/client/#\"",
    "'text'",
    "\"name\"",
    "payload",
    "payload.a",
    "payload.l[1]",
    "payload.l[1..2]",
    "clientid",
    "item",
    "true",
    "0",
    "1",
    "-0",
    "9223372036854775808",
    "1.5",
    "1e308",
    "1e999",
    "10s",
    "1x",
    "--",
    "/*",
    "*/",
    "'",
    "\"",
    "\\",
    "é",
    "東",
    "\u{0}",
    "\n",
];

/// Arguments for functions: of every type, at the ends of what is allowed, and words that some functions know.
const ARGUMENTS: &[&str] = &[
    "payload",
    "payload.a",
    "payload.l",
    "payload.nil",
    "payload.n",
    "nope",
    "''",
    "'a'",
    "'é東'",
    "' a,b ;c '",
    "'(a+)+$'",
    "'(?=(a))\\1'",
    "'['",
    "'~p ~s ~.3f~n'",
    "'~*.*.xs'",
    "'%Y-%m-%d %H:%M:%S.%3N%:z'",
    "'2023-11-14T22:13:20Z'",
    "'second'",
    "'nanosecond'",
    "'Z'",
    "'+08:00'",
    "'local'",
    "'integer'",
    "'float'",
    "'bits'",
    "'signed'",
    "'little'",
    "'leading'",
    "'trailing'",
    "'notrim'",
    "'urlsafe'",
    "'no_padding'",
    "'sha256'",
    "'0x'",
    "'{\"a\": [1]}'",
    "'e30.e30.x'",
    "'a.b'",
    "0",
    "1",
    "-1",
    "2",
    "63",
    "64",
    "255",
    "100000",
    "9223372036854775807",
    "-9223372036854775808",
    "1.5",
    "-0.0",
    "1e308",
    "-1e308",
    "5e-324",
    "true",
    "false",
    "null()",
    "[]",
    "[1, 'a', 2.5]",
    "[[1, 2], [3]]",
    "['a', 'b']",
    "[1..50]",
    "map_new()",
    "json_decode('{\"key\": \"k\", \"value\": [1]}')",
];

/// What jq programs are made of.
const JQ: &[&str] = &[
    ".",
    ".a",
    ".[]?",
    "..",
    "|",
    ",",
    "[",
    "]",
    "(",
    ")",
    "+",
    "-",
    "*",
    "/",
    "%",
    "//",
    "1",
    "-1",
    "1e308",
    "\"x\"",
    "null",
    "not",
    "length",
    "keys",
    "tojson",
    "fromjson",
    "tostring",
    "tonumber",
    "range(9)",
    "range(1e9)",
    "repeat(.)",
    "recurse",
    "limit(3; repeat(.))",
    "error",
    "halt",
    "input",
    "env",
    "now",
    "test(\"a\")",
    "def f: f; f",
    "def f: [f]; f",
    "reduce range(50) as $i (3; . * .)",
    "reduce range(50) as $i (\"ab\"; . + .)",
    "reduce range(300) as $i (1; [.])",
    "until(false; .)",
    "splits(\"a\")",
    "@base64",
    "explode",
];

fn events() -> Vec<Value> {
    let payload = r#"{"a": 1, "l": [1, "a", {"b": 2.5}], "nil": null, "n": {"x": {"y": "{\"z\": 1}"}}}"#;
    vec![
        Value::from_json(
            json!({"event": "message.publish", "clientid": "c1", "topic": "t/1", "qos": 1, "timestamp": 5, "payload": payload}),
        ),
        Value::from_json(json!({"event": "client.connected", "clientid": "c1", "payload": "no document"})),
        Value::Undefined,
    ]
}

/// Reads and runs a statement; what is wrong with the outcome.
fn run(sql: &str, events: &[Value]) -> Result<(), TestCaseError> {
    let statement = match Statement::compile(sql) {
        Ok(statement) => statement,
        Err(error) => {
            prop_assert!(!error.problem.is_empty(), "{sql}");
            prop_assert!((1..=sql.chars().count() + 1).contains(&error.column), "{sql}: {error}");
            return Ok(());
        }
    };
    for event in events {
        match statement.try_on(event) {
            Ok(Rows::Many(rows)) => prop_assert!(rows.len() <= ROWS_MAX, "{sql}"),
            Ok(Rows::NoMatch | Rows::One(_)) => {}
            Err(error) => prop_assert!(!error.problem.is_empty(), "{sql}"),
        }
    }
    Ok(())
}

fn config(cases: u32) -> ProptestConfig {
    ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() }
}

proptest! {
    #![proptest_config(config(4096))]

    #[test]
    fn words_in_any_order_are_a_statement_or_an_error(words in vec(select(WORDS), 0..30)) {
        run(&words.join(" "), &events())?;
        run(&format!("SELECT {} FROM \"t/#\"", words.join(" ")), &events())?;
        run(&format!("SELECT 1 AS x FROM \"t/#\" WHERE {}", words.join("")), &events())?;
    }

    #[test]
    fn any_text_is_a_statement_or_an_error(text in any::<String>(), bytes in vec(any::<u8>(), 0..200)) {
        run(&text, &events())?;
        run(&String::from_utf8_lossy(&bytes), &events())?;
    }

    #[test]
    fn every_function_takes_any_arguments_or_says_why_not(
        function in select(function::all().filter(|function| function.name != "jq").collect::<Vec<_>>()),
        arguments in vec(select(ARGUMENTS), 6),
        more in 0usize..6,
    ) {
        let (least, most) = (*function.arity.start(), (*function.arity.end()).min(arguments.len()));
        let count = least + more % (most.saturating_sub(least) + 1);
        let call = format!("{}({})", function.name, arguments[..count].join(", "));
        run(&format!("SELECT {call} AS x FROM \"t/#\""), &events())?;
        run(&format!("FOREACH payload.l AS i DO {call} AS x, i INCASE is_null({call}) OR true FROM \"t/#\""), &events())?;
    }

    #[test]
    fn any_payload_is_read_or_an_error(bytes in vec(any::<u8>(), 0..100), text in "[\\[\\]{}\",:0-9a-e.\\\\ -]{0,60}") {
        for payload in [Bytes::from(bytes), Bytes::from(text.clone()), Bytes::from(format!("{{\"a\": {text}}}"))] {
            let mut event = hookline_schemas::Map::new();
            event.push_new("topic", Value::text("t/1"));
            event.push_new("payload", Value::Bytes(payload));
            let event = [Value::Map(event)];
            for sql in [
                "SELECT payload.a.b[1] AS x, payload.a AS y, payload AS z FROM \"t/#\" WHERE is_not_null(payload.a)",
                "SELECT 1 AS payload.a.b, payload.a.c[-0] AS payload.l[1] FROM \"t/#\"",
                "FOREACH payload AS s DO s.a.b AS x INCASE s.a > 1 FROM \"t/#\"",
                "SELECT map_get('a.b', payload) AS x, json_decode(payload) AS y FROM \"t/#\"",
            ] {
                run(sql, &event)?;
            }
        }
    }
}

proptest! {
    // Each is a thread of its own, and may take the whole of its deadline.
    #![proptest_config(config(32))]

    #[test]
    fn any_jq_program_ends(words in vec(select(JQ), 1..8)) {
        run(&format!("SELECT jq('{}', payload, 200) AS x FROM \"t/#\"", words.join(" ")), &events())?;
    }
}
