//! The configuration by the API: its file stays the truth, a wrong one changes nothing, no record is lost while items come and go, and what was can be
//! again.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::api::{Answer, ask, ask_with, basic};
use hookline_integration_tests::broker::{Broker, ledgers, run, run_with_input};
use hookline_integration_tests::eventually;
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

const CONFIG: &str = r#"# The plant in the north.
[api]
bind = "127.0.0.1:0"
keys = [
    { key = "watcher", secret = "watching", role = "viewer" }, # on the wall
    { key = "runner", secret = "running!", role = "operator" },
    { key = "chief", secret = "chiefing", role = "administrator" },
]

[connectors.files]
type = "file"
folder = "out"

# Every reading.
[actions.lines]
connector = "files"
parameters = { name = "a.ndjson" } # one file

[rules.all]
sql = 'SELECT payload.n AS n FROM "t"'
actions = ["lines"]
"#;

fn chief() -> String {
    basic("chief", "chiefing")
}

fn change(broker: &Broker, method: &str, path: &str, item: &Value) -> Answer {
    ask(broker, method, &format!("/api/v5{path}"), &chief(), &if item.is_null() { String::new() } else { item.to_string() })
}

fn changed(broker: &Broker, method: &str, path: &str, item: &Value) -> Value {
    let answer = change(broker, method, path, item);
    assert!(matches!(answer.status, 200 | 201), "{method} {path}: {}", answer.body);
    answer.json()
}

fn file(folder: &Path) -> String {
    std::fs::read_to_string(folder.join("hookline.toml")).expect("is there")
}

fn numbers(folder: &Path, name: &str) -> Vec<u64> {
    let text = std::fs::read_to_string(folder.join("data").join(name)).unwrap_or_default();
    let lines = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    lines.map(|line| line["n"].as_u64().expect("a number")).collect()
}

#[test]
fn items_come_change_and_go_under_load_and_no_record_is_lost() {
    const COUNT: u64 = 4000;
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let here = folder.path();
    std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut client = broker.connect(&Options::new("p"));
            for n in 0..COUNT {
                let reason = client.publish("t", format!("{{\"n\": {n}}}").as_bytes(), QoS::AtLeastOnce, false).expect("answered");
                assert!(!reason.is_error(), "{reason:?}");
            }
        });
        eventually("it has begun", LIMIT, || (numbers(here, "out/a.ndjson").len() > 50).then_some(()));
        changed(&broker, "POST", "/connectors", &json!({"name": "more", "type": "file", "folder": "more"}));
        changed(&broker, "POST", "/actions", &json!({"name": "second", "connector": "more", "parameters": {"name": "b.ndjson"}}));
        let even = json!({"id": "even", "sql": "SELECT payload.n AS n FROM \"t\" WHERE payload.n mod 2 = 0", "actions": ["second"]});
        let done = changed(&broker, "POST", "/rules", &even);
        assert!(
            done["applied"]["rules"] == json!(["even"]) && done["changed_by"] == "chief" && done["summary"] == "rules.even added",
            "{done}"
        );
        eventually("the second one delivers", LIMIT, || (numbers(here, "more/b.ndjson").len() > 50).then_some(()));
        // The connector moves, the action gets another file, the first action other batches.
        changed(&broker, "PUT", "/connectors/more", &json!({"type": "file", "folder": "moved"}));
        eventually("it delivers there", LIMIT, || (numbers(here, "moved/b.ndjson").len() > 20).then_some(()));
        changed(&broker, "PUT", "/actions/second", &json!({"connector": "more", "parameters": {"name": "c.ndjson"}}));
        let fewer = json!({"connector": "files", "parameters": {"name": "a.ndjson"}, "delivery": {"batch_records_max": 7}});
        let done = changed(&broker, "PUT", "/actions/lines", &fewer);
        assert_eq!(done["applied"]["actions"], json!(["lines"]));
        eventually("it delivers there", LIMIT, || (numbers(here, "moved/c.ndjson").len() > 20).then_some(()));
        changed(&broker, "DELETE", "/rules/even", &Value::Null);
        changed(&broker, "DELETE", "/actions/second", &Value::Null);
        let done = changed(&broker, "DELETE", "/connectors/more", &Value::Null);
        assert_eq!(done["version"], 10);
        publisher.join().expect("everything was acknowledged");
    });
    eventually("every record arrives", LIMIT, || (numbers(here, "out/a.ndjson").len() >= COUNT as usize).then_some(()));
    assert_eq!(numbers(here, "out/a.ndjson"), (0..COUNT).collect::<Vec<u64>>(), "once, and in order");
    let even = ["more/b.ndjson", "moved/b.ndjson", "moved/c.ndjson"].map(|name| numbers(here, name)).concat();
    assert!(even.len() > 90 && even.iter().all(|n| n % 2 == 0), "{} even ones", even.len());
    assert!(even.is_sorted_by(|a, b| a + 2 == *b), "none is missing while the rule was there, and none comes twice");
    let expect = CONFIG.replace("# one file", "# one file\ndelivery = { batch_records_max = 7 }");
    assert_eq!(file(here), expect, "everything else in the file is as it was");
    assert!(broker.stop().success());
    for ledger in ledgers(here).iter().filter(|ledger| ledger["kind"] == "action") {
        assert_eq!(ledger["pending"], 0, "{ledger}");
    }
}

#[test]
fn what_is_wrong_is_refused_as_a_whole_and_changes_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let (watcher, runner) = (basic("watcher", "watching"), basic("runner", "running!"));
    for login in [&watcher, &runner] {
        for (method, path) in [
            ("GET", "/configs"),
            ("GET", "/configs/history"),
            ("GET", "/configs/diff"),
            ("PUT", "/configs"),
            ("POST", "/rules"),
            ("PUT", "/rules/all"),
            ("DELETE", "/actions/lines"),
            ("POST", "/connectors"),
            ("POST", "/configs/rollback"),
        ] {
            assert_eq!(ask(&broker, method, &format!("/api/v5{path}"), login, "{}").status, 403, "{method} {path}");
        }
    }
    for (method, path, item, status, problem) in [
        ("POST", "/rules", json!({"name": "x", "sql": "SELECT uper(a) FROM \"t\"", "actions": []}), 400, "unknown function"),
        ("POST", "/rules", json!({"name": "x", "sql": "SELECT * FROM \"t\"", "actions": ["none"]}), 400, "there is no action \\\"none\\\""),
        ("POST", "/rules", json!({"sql": "SELECT * FROM \"t\"", "actions": []}), 400, "the name of the rule is missing"),
        ("POST", "/rules", json!({"name": "all", "sql": "SELECT * FROM \"t\"", "actions": []}), 409, "already"),
        ("PUT", "/rules/none", json!({"sql": "SELECT * FROM \"t\"", "actions": []}), 404, "no rule"),
        ("PUT", "/rules/all", json!({"name": "b", "sql": "SELECT * FROM \"t\"", "actions": []}), 400, "keeps its name"),
        ("PUT", "/rules/all", json!({"sql": "SELECT * FROM \"t\"", "actions": [], "typo": 1}), 400, "unknown field `typo`"),
        ("DELETE", "/actions/lines", Value::Null, 400, "there is no action \\\"lines\\\""),
        ("DELETE", "/connectors/none", Value::Null, 404, "no connector"),
        ("DELETE", "/connectors/files", Value::Null, 400, "connectors"),
        ("POST", "/connectors", json!({"name": "k", "type": "kafca"}), 400, "there is no \\\"kafca\\\""),
        ("POST", "/sources", json!({"name": "s", "connector": "files"}), 400, "from which nothing comes"),
    ] {
        let answer = change(&broker, method, path, &item);
        assert!(answer.status == status && answer.body.contains(problem), "{method} {path}: {} {}", answer.status, answer.body);
    }
    let put = |headers: &str, text: &str| {
        ask_with(&broker, "PUT", "/api/v5/configs", &chief(), &format!("Content-Type: text/plain\r\n{headers}"), text)
    };
    let wrong = CONFIG.replace("payload.n AS", "uper(payload.n) AS").replace("type = \"file\"", "type = \"fil\"");
    let refused = put("", &wrong);
    assert_eq!((refused.status, refused.json()["errors"].as_array().map(Vec::len)), (400, Some(2)), "each message: {}", refused.body);
    assert_eq!(put("", "[rules").status, 400);
    assert_eq!(put("", " \n").status, 400, "nothing at all");
    assert_eq!(file(folder.path()), CONFIG);
    // Two who change it at a time: the second one is told.
    let good = CONFIG.replace("payload.n AS n", "payload.n + 1 AS n");
    assert_eq!(put("If-Match: \"1\"\r\n", &good).status, 200);
    let late = put("If-Match: \"1\"\r\n", CONFIG);
    assert!(late.status == 409 && late.body.contains("but 2, changed by chief"), "{}", late.body);
    assert_eq!(put("If-Match: many\r\n", CONFIG).status, 400);
    assert_eq!(file(folder.path()), good);
    let shown = ask_with(&broker, "GET", "/api/v5/configs", &chief(), "Accept: text/plain\r\n", "");
    assert!(shown.body == good && shown.head.contains("etag: \"2\""), "{}", shown.head);
    // What needs a restart is accepted, told, and holds nothing else up.
    let later = format!("{good}\n[mqtt]\ninflight_max = 7\n");
    let done = put("", &later).json();
    assert!(done["applied"]["restart"] == json!(["mqtt"]) && done["version"] == 3, "{done}");
    let rule = json!({"name": "more", "sql": "SELECT payload.n AS n FROM \"u\"", "actions": ["lines"]});
    let done = changed(&broker, "POST", "/rules", &rule);
    assert!(done["applied"]["rules"] == json!(["more"]) && done["applied"]["restart"] == json!(["mqtt"]), "{done}");
    let data = folder.path().join("data");
    let (code, out, error) = run(&["ctl", "reload", "--data", data.to_str().expect("UTF-8")]);
    assert!(code == Some(0) && out.contains("restart    needed for mqtt"), "what is known to wait is no error: {out}{error}");
    assert!(broker.stop().success());
    let config = file(folder.path());
    let broker = Broker::start(folder.path(), &config);
    let done = changed(&broker, "DELETE", "/rules/more", &Value::Null);
    assert_eq!(done["applied"]["restart"], json!([]));
    assert!(broker.stop().success());
    // Without a file nothing can be kept.
    let other = tempfile::tempdir().expect("a folder");
    let broker = Broker::start_with(other.path(), &["--set", "api.bind=127.0.0.1:0", "--set", "listeners.ws.default.bind=127.0.0.1:0"]);
    let data = other.path().join("data");
    let (code, _, error) = run(&["ctl", "config", "show", "--data", data.to_str().expect("UTF-8")]);
    assert!(code == Some(2) && error.contains("started without a file"), "{error}");
    assert!(broker.stop().success());
}

#[test]
fn versions_are_listed_compared_and_taken_back_by_commands_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let ctl = |arguments: &[&str]| run(&[&["ctl", "config"], arguments, &["--data", data]].concat());
    let two = CONFIG.replace("SELECT payload.n AS n", "SELECT payload.n + 1000 AS n");
    std::fs::write(folder.path().join("two.toml"), &two).expect("written");
    let (code, out, error) = ctl(&["apply", folder.path().join("two.toml").to_str().expect("UTF-8")]);
    assert!(code == Some(0) && out.contains("version    2  rules.all changed") && out.contains("rules      all"), "{out}{error}");
    assert_eq!(ctl(&["show"]).1, two);
    assert_eq!(ctl(&["show", "--version", "1"]).1, CONFIG);
    let (_, diff, _) = ctl(&["diff"]);
    assert!(diff.contains("--- version 1\n+++ version 2\n") && diff.contains("\n+sql = 'SELECT payload.n + 1000 AS n"), "{diff}");
    let plain = ask(&broker, "GET", "/api/v5/configs/diff?from=1&to=2", &chief(), "");
    assert_eq!(plain.body, diff);
    let (code, _) = run_with_input(&["ctl", "config", "apply", "-", "--if-version", "1", "--data", data], CONFIG);
    assert_eq!(code, Some(2), "it is version 2 by now");
    // By hand, and what is seen then.
    let three = two.replace("# Every reading.", "# All readings.");
    std::fs::write(folder.path().join("hookline.toml"), &three).expect("written");
    let (code, out, error) = ctl(&["rollback", "1"]);
    assert!(code == Some(0) && out.contains("version    4  rules.all changed"), "{out}{error}");
    assert_eq!(file(folder.path()), CONFIG);
    let (_, out, _) = ctl(&["history", "-o", "json"]);
    let history: Value = serde_json::from_str(&out).expect("JSON");
    let by: Vec<&str> = history.as_array().expect("a list").iter().map(|version| version["changed_by"].as_str().expect("a text")).collect();
    assert_eq!(by, ["socket", "by hand", "socket", "by hand"]);
    assert_eq!(history[1]["summary"], "form and comments");
    let (code, _, error) = ctl(&["rollback", "77"]);
    assert!(code == Some(2) && error.contains("version 77 is not kept"), "{error}");
    // A file that was broken by hand is taken back, too.
    std::fs::write(folder.path().join("hookline.toml"), "[rules").expect("written");
    assert_eq!(change(&broker, "DELETE", "/rules/all", &Value::Null).status, 409);
    assert_eq!(ctl(&["rollback", "1"]).0, Some(0));
    let mut client = broker.connect(&Options::new("p"));
    client.publish("t", b"{\"n\": 5}", QoS::AtLeastOnce, false).expect("answered");
    eventually("it is as it was", LIMIT, || numbers(folder.path(), "out/a.ndjson").contains(&5).then_some(()));
    let names: BTreeSet<String> = std::fs::read_dir(folder.path().join("data/configs"))
        .expect("reads")
        .map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned())
        .collect();
    assert!(names.contains("6.toml") && names.iter().all(|name| !name.contains("new")), "{names:?}");
    let log = broker.log();
    assert!(!log.contains("chiefing"), "no secret is in the log");
    assert!(broker.stop().success());
}
