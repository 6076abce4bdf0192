//! What the API and `hookline ctl` tell of rules and actions: counts, the last errors with their events, accounts.

use std::path::Path;

use hookline_integration_tests::api::over_socket as get;
use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::eventually;
use serde_json::{Value, json};

use super::{SOON, folder, has_rows, publish, table, table_with, v5};

/// Runs `hookline ctl` on the broker of a folder.
fn ctl(folder: &Path, arguments: &[&str]) -> (Option<i32>, String, String) {
    let data = folder.join("data");
    run(&[&["ctl"][..], arguments, &["--data", data.to_str().expect("UTF-8")]].concat())
}

/// The same, as JSON.
fn ctl_json(folder: &Path, arguments: &[&str]) -> Value {
    let (code, out, error) = ctl(folder, &[arguments, &["-o", "json"]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {error}");
    serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{arguments:?}: {problem}: {out}"))
}

const RULES: &str = r#"
    [node]
    name = "n"
    [rules.hot]
    description = "What is hot"
    sql = 'SELECT payload.n AS n FROM "n/#", "$events/client/ping" WHERE payload.n > 10'
    actions = ["t", { action = "t", when = "n > 100" }, { function = "republish", topic = "loud/${n}", qos = "${n}", when = "n > 1000" }]
    [rules.off]
    sql = 'SELECT * FROM "off"'
    actions = []
    enable = false
"#;

#[test]
fn the_counts_of_a_rule_and_its_last_errors_are_told() {
    let folder = folder();
    let broker = Broker::start(folder.path(), &[&table("t", &["n"]), RULES].concat());
    let mut client = broker.connect(&v5("device"));
    for payload in [r#"{"n": 50}"#, r#"{"n": 500}"#, r#"{"n": 5000}"#, r#"{"n": 1}"#, "nonsense", r#"{"n": "x"}"#] {
        publish(&mut client, "n/1", payload);
    }
    has_rows(folder.path(), "t", &json!([[50], [500], [500], [5000], [5000]]));
    let metrics = json!({
        "matched": 6,
        "passed": 3,
        "failed": 3,
        "failed.exception": 2,
        "failed.no_result": 1,
        "actions.total": 6,
        "actions.success": 5,
        "actions.failed": 1,
        "actions.failed.out_of_service": 0,
        "actions.failed.unknown": 1,
        "actions.discarded": 0,
    });
    let (status, told) = get(folder.path(), "/rules/hot/metrics");
    assert_eq!((status, &told["id"], &told["metrics"]), (200, &json!("hot"), &metrics));
    assert_eq!(told["node_metrics"], json!([{ "node": "n", "metrics": metrics }]));
    let errors = told["last_errors"].as_array().expect("a list");
    let text = |error: &Value, field: &str| error[field].as_str().unwrap_or_default().to_owned();
    // The row that could not be published, then the payloads.
    assert_eq!((errors.len(), &errors[0]["event"]), (3, &json!({ "n": 5000 })), "{told}");
    assert!(text(&errors[0], "error").contains("qos \"5000\" is not 0, 1 or 2"), "{told}");
    assert!(text(&errors[1], "error").contains("payload is not JSON") && text(&errors[1], "at").ends_with('Z'), "{told}");
    let event = ["topic", "clientid", "payload"].map(|column| text(&errors[1]["event"], column));
    assert_eq!(event, ["n/1", "device", "nonsense"]);

    let (status, rules) = get(folder.path(), "/rules");
    let names: Vec<String> = rules["data"].as_array().expect("a list").iter().map(|rule| text(rule, "id")).collect();
    assert_eq!(names, ["hot", "off"]);
    assert_eq!((status, &rules["meta"]["count"], &rules["meta"]["hasnext"]), (200, &json!(2), &json!(false)));
    let (_, second) = get(folder.path(), "/rules?limit=1&page=2");
    assert_eq!((&second["data"][0]["id"], &second["data"][1], &second["meta"]["hasnext"]), (&json!("off"), &Value::Null, &json!(false)));
    let (_, hot) = get(folder.path(), "/rules/hot");
    let expect = (&json!(true), &json!("What is hot"), &json!(["n/#", "$events/client/ping"]), &metrics);
    assert_eq!((&hot["enable"], &hot["description"], &hot["from"], &hot["metrics"]), expect);
    assert_eq!((&hot["actions"][0], &hot["actions"][1]["when"]), (&json!("t"), &json!("n > 100")));
    let (_, off) = get(folder.path(), "/rules/off");
    assert_eq!((&off["enable"], &off["metrics"]["matched"]), (&json!(false), &json!(0)));
    let (status, unknown) = get(folder.path(), "/rules/hat/metrics");
    assert_eq!((status, &unknown["code"]), (404, &json!("NOT_FOUND")));
    assert!(text(&unknown, "message").contains("did you mean \"hot\"?"), "{unknown}");

    assert_eq!(ctl_json(folder.path(), &["rules"]), rules["data"]);
    let one = ctl_json(folder.path(), &["rules", "hot"]);
    assert_eq!((&one["metrics"], &one["last_errors"]), (&metrics, &told["last_errors"]));
    let (code, out, error) = ctl(folder.path(), &["rules"]);
    assert!(code == Some(0) && out.lines().count() == 3 && out.contains("$events/client/ping") && out.contains("(off)"), "{out}{error}");
    let (code, out, error) = ctl(folder.path(), &["rules", "hot"]);
    for expect in ["What is hot", "payload is not JSON", "nonsense", "qos \"5000\" is not 0, 1 or 2"] {
        assert!(code == Some(0) && out.contains(expect), "{expect} is not in {out}{error}");
    }
}

#[test]
fn the_window_of_a_rule_tells_what_it_has_taken() {
    let folder = folder();
    let rule = "[rules.w]\nsql = 'SELECT count() AS n FROM \"w\" WHERE payload.n > 1 GROUP BY TUMBLING(1h)'\nactions = []\n";
    let broker = Broker::start(folder.path(), rule);
    let mut client = broker.connect(&v5("c"));
    for n in [1, 2, 3] {
        publish(&mut client, "w", format!("{{\"n\": {n}}}"));
    }
    let (_, told) = get(folder.path(), "/rules/w/metrics");
    assert_eq!(told["window"], json!({ "taken": 2, "filtered": 1, "late": 0, "refused": 0, "failed": 0 }));
    assert_eq!((&told["metrics"]["passed"], &told["metrics"]["failed.no_result"]), (&json!(2), &json!(1)));
}

#[test]
fn an_action_tells_its_state_its_account_and_its_dead_letters() {
    let folder = folder();
    let later = table_with("later", &["n"], "delivery = { retry_initial_ms = 50, retry_max_ms = 200 }");
    let later = later.replace("later.db", "later/t.db").replace(", \"n\"", ", \"n\" CHECK (n < 10)");
    let rule = "[rules.numbers]\nsql = 'SELECT payload.n AS n FROM \"n\"'\nactions = [\"later\"]\n";
    let broker = Broker::start(folder.path(), &[&later, &table("idle", &["n"]), rule].concat());
    let mut client = broker.connect(&v5("c"));
    for n in [1, 99, 2] {
        publish(&mut client, "n", format!("{{\"n\": {n}}}"));
    }
    let look = || get(folder.path(), "/actions/later").1;
    let away = eventually("it is away", SOON, || Some(look()).filter(|action| action["status"] == "disconnected"));
    let expect = (&json!("sqlite"), &json!("later"), &json!(["numbers"]), &json!(3), &json!(true));
    assert_eq!((&away["type"], &away["connector"], &away["rules"], &away["ledger"]["pending"], &away["balances"]), expect, "{away}");
    assert!(away["status_reason"].as_str().is_some_and(|why| why.contains("unable to open")) && away["oldest_secs"].is_u64(), "{away}");
    let (code, out, error) = ctl(folder.path(), &["actions"]);
    assert!(code == Some(0) && out.contains("disconnected") && out.contains("unable to open"), "{out}{error}");

    std::fs::create_dir(folder.path().join("data/later")).expect("made");
    let there = eventually("everything is settled", SOON, || Some(look()).filter(|action| action["ledger"]["pending"] == 0));
    let account = ["accepted", "delivered", "dead_lettered"].map(|field| there["ledger"][field].clone());
    assert_eq!((&there["status"], &there["status_reason"], account), (&json!("connected"), &Value::Null, [json!(3), json!(2), json!(1)]));
    assert_eq!((&there["dead_letters"], &there["balances"]), (&json!(1), &json!(true)));
    let (_, all) = get(folder.path(), "/actions");
    let names: Vec<&Value> = all.as_array().expect("a list").iter().map(|action| &action["name"]).collect();
    assert_eq!(names, ["idle", "later"]);
    assert_eq!(all[0]["rules"], json!([]));
    assert_eq!(ctl_json(folder.path(), &["actions"]), all);
    assert_eq!(ctl_json(folder.path(), &["actions", "later"]), all[1]);
    let (code, out, error) = ctl(folder.path(), &["actions", "later"]);
    assert!(code == Some(0) && out.contains("connected") && out.contains("hookline dlq list later"), "{out}{error}");
}

#[test]
fn what_is_not_there_is_told_with_the_way_out() {
    let folder = folder();
    let broker = Broker::start(folder.path(), &table("orders", &["n"]));
    for (arguments, expect) in [
        (["actions", "oders"], "there is no action \"oders\"; did you mean \"orders\"?"),
        (["rules", "oders"], "there is no rule \"oders\""),
        (["rules", "--output=xml"], "possible values"),
    ] {
        let (code, _, error) = ctl(folder.path(), &arguments);
        assert!(code == Some(2) && error.contains(expect), "{expect} is not in {error}");
    }
    assert!(broker.stop().success());
    let (code, _, error) = ctl(folder.path(), &["rules"]);
    assert!(code == Some(2) && error.contains("no broker runs on") && error.contains("--data"), "{error}");
}
