//! Rows 35 and 36 of the list of faults: whatever a rule or a payload asks for ends in an error that says what was too much, within
//! a bound of steps and memory, and the message goes on.

use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::{DeflateEncoder, GzEncoder, ZlibEncoder};
use hookline_rules::error::EvalErrorKind;
use hookline_rules::{Engine, EvalError, Rows, Statement, Targets};
use hookline_schemas::config::Rule;
use hookline_schemas::event::About;
use hookline_schemas::ports::{Hook, Outcome, Promise};
use hookline_schemas::{Event, HookPoint, Map, Message, QueueId, Value};
use serde_json::json;

fn run(sql: &str, payload: impl Into<Bytes>) -> Result<Rows, EvalError> {
    let mut event = Map::new();
    event.push_new("topic", Value::text("t/1"));
    event.push_new("payload", Value::Bytes(payload.into()));
    Statement::compile(sql).unwrap_or_else(|error| panic!("{sql}: {error}")).try_on(&Value::Map(event))
}

/// What an expression fails with on a payload.
fn failure(expression: &str, payload: impl Into<Bytes>) -> EvalError {
    let shown = &expression[..expression.floor_char_boundary(120)];
    match run(&format!("SELECT {expression} AS x FROM \"#\""), payload) {
        Err(error) => error,
        Ok(_) => panic!("{shown} has a value"),
    }
}

/// The expression fails with a text that contains this.
fn check(expression: &str, payload: &str, problem: &str) {
    let error = failure(expression, payload.to_owned());
    assert!(error.problem.contains(problem), "{expression}: {error}");
}

fn value(expression: &str, payload: &str) -> serde_json::Value {
    let rows =
        run(&format!("SELECT {expression} AS x FROM \"#\""), payload.to_owned()).unwrap_or_else(|error| panic!("{expression}: {error}"));
    rows.as_slice()[0].path(["x"]).to_json()
}

fn nested(levels: usize) -> String {
    "[".repeat(levels) + &"]".repeat(levels)
}

#[test]
fn regular_expressions_that_try_every_way_end() {
    let tries = json!({"s": "ab".repeat(28)}).to_string();
    for expression in [
        "regex_match(payload.s, '(?i)(a|b|ab)*(?>c)')",
        "regex_replace(payload.s, '(?i)(a|b|ab)*(?>c)', 'x')",
        "regex_extract(payload.s, '(?i)(a|b|ab)*(?>c)')",
    ] {
        check(expression, &tries, "the regular expression takes too long on this text");
    }
    // Without look-around and back-references there is only one way, and it is linear.
    let long = json!({"s": "a".repeat(100_000) + "b"}).to_string();
    for pattern in ["^(a+)+$", "^(a|aa)+$", "(a*)*c", "^(([a-z])+.)+[A-Z]([a-z])+$"] {
        assert_eq!(value(&format!("regex_match(payload.s, '{pattern}')"), &long), json!(false), "{pattern}");
    }
}

#[test]
fn regular_expressions_of_any_size_are_refused() {
    let nested = "(".repeat(5_000) + "a" + &")".repeat(5_000);
    for pattern in ["((a{1,1000}){1,1000}){1,1000}", "\\\\p{L}{1000}{1000}{10}", &nested, "(", "a{1000000000}", "[z-a]", "(?<"] {
        let payload = format!("{{\"p\": \"{pattern}\"}}");
        check("regex_match('x', payload.p)", &payload, "no regular expression");
    }
}

#[test]
fn documents_of_ten_thousand_levels_are_no_documents() {
    let deep = format!("{{\"t\": 1, \"deep\": {}}}", nested(10_000));
    check("payload.deep", &deep, "payload is not JSON");
    check("json_decode(payload)", &deep, "json_decode: the text is not JSON");
    check("jq('.', payload)", &deep, "too deeply");
    check("jq('fromjson', json_encode(payload))", &deep, "too deeply");
    // What nobody looks at does no harm.
    assert_eq!(value("payload.t", &deep), json!(1));
    let each = run("FOREACH payload DO item FROM \"#\"", nested(10_000)).expect("no list is no error");
    assert_eq!(each, Rows::Many(Vec::new()));
    // The parser of jq calls itself: a packet full of brackets must not take the whole process with it.
    let (open, closed, maps) = ("[".repeat(1 << 20), nested(1 << 19), "{\"a\":".repeat(200_000));
    for payload in [&open, &closed, &maps] {
        check("jq('.', payload)", payload, "too deeply");
    }
    check("payload.a", &open, "payload is not JSON");
    check("payload.a", &maps, "payload is not JSON");
}

#[test]
fn values_do_not_grow_deep_in_steps() {
    check("jq('reduce range(300) as $i (1; [.])', '{}')", "{}", "too deeply");
    let keys = json!({"k": vec!["a"; 200]}).to_string();
    check("mput(payload.k, 1, map_new())", &keys, "a path has 1 to 100 keys");
    let chain: String = (0..40).map(|n| format!("a{n} AS a{}.b.b.b.b, ", n + 1)).collect();
    let error = run(&format!("SELECT topic AS a0, {chain} 1 AS end FROM \"#\""), "{}").expect_err("160 levels");
    assert_eq!((error.kind, error.problem.as_str()), (EvalErrorKind::Budget, "a value nests deeper than 128"));
}

#[test]
fn huge_arrays_end_at_the_bound_of_steps_or_memory() {
    let payload = json!({"l": vec![1; 300_000]}).to_string();
    for (sql, problem) in [
        ("FOREACH payload.l AS i DO i + 1 AS a, i + 2 AS b, i + 3 AS c FROM \"#\"", "more than 1000000 steps"),
        ("FOREACH payload.l AS i DO payload.l AS all FROM \"#\"", "more than 67108864 bytes of values"),
        ("FOREACH payload.l AS i DO [i, 'a text', 'another one', 'and one more'] AS all FROM \"#\"", "more than "),
    ] {
        let error = run(sql, payload.clone()).expect_err(sql);
        assert_eq!(error.kind, EvalErrorKind::Budget, "{sql}: {error}");
        assert!(error.problem.contains(problem), "{sql}: {error}");
    }
    let doubling: String = (0..40).map(|n| format!("a{n} + a{n} AS a{}, ", n + 1)).collect();
    let error = run(&format!("SELECT topic AS a0, {doubling} 1 AS end FROM \"#\""), "{}").expect_err("3 * 2^40 bytes");
    assert_eq!(error.kind, EvalErrorKind::Budget, "{error}");
}

#[test]
fn ranges_are_bounded_before_they_are_made() {
    let payload = r#"{"n": 9223372036854775807, "m": -9223372036854775808}"#;
    for range in ["[1..200000]", "[1..payload.n]", "[payload.m..payload.n]", "[payload.m..0]"] {
        check(range, payload, "a range has at most 100000 elements");
    }
}

#[test]
fn numbers_beyond_their_range_are_errors() {
    let payload = r#"{"f": 1e308, "max": 9223372036854775807, "min": -9223372036854775808, "zero": 0}"#;
    for expression in
        ["payload.f * 10", "payload.f + payload.f", "0 - payload.f - payload.f", "power(10, 400)", "exp(1000)", "payload.f / 1e-300"]
    {
        check(expression, payload, "the result is not a finite number");
    }
    for expression in ["1 / payload.zero", "1.5 / payload.zero", "7 div payload.zero", "7 mod payload.zero", "mod(7, 0)", "fmod(7.5, 0)"] {
        check(expression, payload, "division by zero");
    }
    let beyond = [
        "payload.max + 1",
        "payload.min - 1",
        "payload.max * 2",
        "-payload.min",
        "payload.min div -1",
        "abs(payload.min)",
        "bitsl(1, 63)",
        "bitsl(1, payload.max)",
        "int(payload.f)",
        "round(payload.f)",
        "int('99999999999999999999')",
    ];
    for expression in beyond {
        check(expression, payload, "the result is beyond 64 bits");
    }
    check("payload.f", r#"{"f": 1e400}"#, "payload is not JSON");
    let error = Statement::compile("SELECT 1e999 AS x FROM \"#\"").expect_err("beyond a float");
    assert_eq!(error.to_string(), "the number 1e999 is too large at column 8");
}

#[test]
fn results_of_functions_are_bounded_before_they_are_made() {
    let payload = json!({"n": i64::MAX, "s": "a".repeat(10_000), "commas": ",".repeat(1_000_001)}).to_string();
    for expression in [
        "pad('a', 99999999999)",
        "pad('a', payload.n, 'both', 'xy')",
        "rand_str(payload.n)",
        "sprintf('~*s', payload.n, 'a')",
        "sprintf('~*.*.xs', payload.n, 1, 'a')",
        "sprintf('~*c', payload.n, 120)",
        "replace(payload.s, 'a', payload.s)",
        "regex_replace(payload.s, 'a', payload.s)",
        "join_to_string(payload.s, [1..100000])",
        "bin2hexstr(pad('a', 16000000))",
        "base64_encode(pad('a', 16000000))",
    ] {
        check(expression, &payload, "the result would be larger than 16777216 bytes");
    }
    check("sprintf('~99999999999s', 'a')", &payload, "in the format is too large");
    check("sprintf('~.99999999999f', 1.5)", &payload, "in the format is too large");
    check("sprintf('~.400f', 1.5)", &payload, "a float has at most 253 digits");
    check("float2str(1.5, 400)", &payload, "at most 253 decimals");
    check("split(payload.commas, ',', 'notrim')", &payload, "the result would have more than 1000000 elements");
}

#[test]
fn small_messages_do_not_unpack_to_large_ones() {
    let zeros = vec![0; 64 << 20];
    let mut gzip = GzEncoder::new(Vec::new(), Compression::best());
    let mut deflate = DeflateEncoder::new(Vec::new(), Compression::best());
    let mut zlib = ZlibEncoder::new(Vec::new(), Compression::best());
    for encoder in [&mut gzip as &mut dyn Write, &mut deflate, &mut zlib] {
        encoder.write_all(&zeros).expect("into memory");
    }
    let bombs = [("gunzip(payload)", gzip.finish()), ("unzip(payload)", deflate.finish()), ("zip_uncompress(payload)", zlib.finish())];
    for (expression, bomb) in bombs {
        let bomb = bomb.expect("into memory");
        assert!(bomb.len() < 200_000, "{expression}");
        let error = failure(expression, bomb);
        assert!(error.problem.contains("the result would be larger than 16777216 bytes"), "{expression}: {error}");
    }
}

#[test]
fn jq_programs_end() {
    // Which bound is met first is the program's matter.
    const BOUNDS: &[&str] = &["takes too many steps", "calls itself too deeply", "before its deadline", "too many results", "too large"];
    for program in [
        "[repeat(1)]",
        "repeat(1)",
        "def f: f; f",
        "def f: 1 + f; f",
        "until(false; . + 1)",
        "[range(1000000000)]",
        "reduce range(60) as $i (\"ab\"; . + .)",
        "reduce range(60) as $i (3; . * .)",
        "reduce range(60) as $i (3; . *= .)",
        "\"x\" * 1000000000",
    ] {
        let error = failure(&format!("jq('{program}', '1')"), "{}");
        assert!(error.problem.starts_with("jq: ") && BOUNDS.iter().any(|bound| error.problem.contains(bound)), "{program}: {error}");
    }
    check("jq('halt', '1')", "{}", "halt is not allowed");
    let error = failure("jq('[repeat(1)]', '1', 0)", "{}");
    assert!(error.problem.contains("did not end before its deadline") || error.problem.contains("steps"), "{error}");
    // Reading a number takes the square of its length.
    let digits = format!("{{\"n\": {}}}", "7".repeat(1_000_000));
    check("jq('.n', payload)", &digits, "too many digits");
}

fn engine(rules: &serde_json::Value) -> Engine {
    let rules: std::collections::BTreeMap<String, Rule> = serde_json::from_value(rules.clone()).expect("rules");
    let targets = Targets::from([("sink".to_owned(), (QueueId(1), Promise::default()))]);
    Engine::new(&rules, &targets, None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn tell(engine: &Engine, message: &Message) -> Outcome {
    let mut outcome = Outcome::default();
    let about = About::Message(message);
    engine.on(&Event { point: HookPoint::MessagePublish, timestamp_ms: 1, node: "n1", client: &message.from, about }, &mut outcome);
    outcome
}

fn exception(engine: &Engine, rule: &str) -> String {
    let stats = engine.stats().into_iter().find(|stats| stats.rule == rule).expect(rule);
    assert_eq!((stats.matched, stats.exception, stats.passed), (1, 1, 0), "{rule}");
    stats.failures[0].error.clone()
}

#[test]
fn a_rule_that_fails_is_counted_and_hinders_nothing() {
    let engine = engine(&json!({
        "bad": {"sql": "SELECT 1 / payload.zero AS x FROM \"t/#\"", "actions": ["sink"]},
        "deep": {"sql": "SELECT payload.deep AS x FROM \"t/#\"", "actions": ["sink"]},
        "good": {"sql": "SELECT topic FROM \"t/#\"", "actions": ["sink"]},
    }));
    let payload = format!("{{\"zero\": 0, \"deep\": {}}}", nested(10_000));
    let outcome = tell(&engine, &Message::internal("t/1", &payload));
    assert_eq!((outcome.records().len(), outcome.refused()), (1, None), "the good rule's row, and no refusal");
    assert_eq!(exception(&engine, "bad"), "division by zero");
    assert_eq!(exception(&engine, "deep"), "payload is not JSON");
}

#[test]
fn work_that_grows_with_the_payload_counts_as_steps() {
    let (ones, keys) = (vec![1; 100_000], (0..20_000).map(|n| (format!("k{n}"), json!(n))).collect::<serde_json::Map<_, _>>());
    for (sql, payload) in [
        ("FOREACH payload.l AS i DO strlen(payload) AS x FROM \"t/#\"", json!({"l": ones})),
        ("FOREACH payload.l AS i DO payload.m.k19999 AS x FROM \"t/#\"", json!({"l": ones, "m": keys})),
        ("FOREACH payload.l AS i DO 1 AS x INCASE payload.l = payload.k FROM \"t/#\"", json!({"l": ones, "k": ones})),
    ] {
        let engine = engine(&json!({"slow": {"sql": sql, "actions": ["sink"]}}));
        let outcome = tell(&engine, &Message::internal("t/1", &payload.to_string()));
        assert!(outcome.is_empty(), "{sql}");
        let error = exception(&engine, "slow");
        assert!(error.contains("more than 1000000 steps"), "{sql}: {error}");
    }
}

#[test]
fn a_message_counts_how_often_rules_have_republished_it() {
    let engine = engine(&json!({
        "own": {"sql": "SELECT * FROM \"loop/#\"", "actions": [{"function": "republish", "topic": "loop/1"}]},
        "a": {"sql": "SELECT * FROM \"a\"", "actions": [{"function": "republish", "topic": "b"}]},
        "b": {"sql": "SELECT * FROM \"b\"", "actions": [{"function": "republish", "topic": "a"}]},
    }));
    for (topic, next) in [("loop/1", "loop/1"), ("a", "b"), ("b", "a")] {
        for (hops, expected) in [(0, 1), (7, 8), (u8::MAX, u8::MAX)] {
            let mut message = Message::internal(topic, "{}");
            message.hops = hops;
            let republished = tell(&engine, &message).take_republish();
            let found: Vec<(&str, u8)> = republished.iter().map(|message| (&*message.topic, message.hops)).collect();
            assert_eq!(found, [(next, expected)], "{topic}: the broker ends the loop by this number");
        }
    }
}
