//! Connectors, actions, sources and rules change while messages flow, and no record is lost by it.

use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, ledgers, run};
use hookline_integration_tests::eventually;
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};

const LIMIT: Duration = Duration::from_secs(30);

fn write(folder: &Path, config: &str) {
    std::fs::write(folder.join("hookline.toml"), config).expect("written");
}

fn reload(folder: &Path) -> (Option<i32>, String, String) {
    run(&["ctl", "reload", "--data", folder.join("data").to_str().expect("UTF-8")])
}

fn config(server: &Webhook, actions: &[&str], rule: &str) -> String {
    let actions: String = actions
        .iter()
        .map(|name| {
            format!(
                "[actions.{name}]\nconnector = \"hook\"\nparameters = {{ path = \"/{name}\" }}\ndelivery = {{ retry_initial_ms = 20 }}\n"
            )
        })
        .collect();
    format!("[connectors.hook]\ntype = \"http\"\nurl = \"http://{}\"\n{actions}\n{rule}", server.address())
}

fn numbers(server: &Webhook, path: &str) -> Vec<u64> {
    let requests = server.requests();
    let here = requests.iter().filter(|request| request.target == path);
    here.map(|request| request.json()["n"].as_u64().expect("a number")).collect()
}

#[test]
fn everything_changes_under_load_and_every_record_arrives_where_it_was_to_go() {
    let (one, two) = (Webhook::start(|_| Reply::Answer(204, "", String::new())), Webhook::start(|_| Reply::Answer(204, "", String::new())));
    let folder = tempfile::tempdir().expect("a folder");
    let rule = |name: &str, condition: &str, action: &str| {
        format!("[rules.{name}]\nsql = 'SELECT payload.n AS n FROM \"t\" {condition}'\nactions = [\"{action}\"]\n")
    };
    let broker = Broker::start(folder.path(), &config(&one, &["a"], &rule("all", "", "a")));
    let publishing = std::thread::scope(|scope| {
        let publisher = scope.spawn(|| {
            let mut client = broker.connect(&Options::new("p").version(Version::V5));
            for n in 0..3000 {
                let reason = client.publish("t", format!("{{\"n\": {n}}}").as_bytes(), QoS::AtLeastOnce, false).expect("answered");
                assert!(!reason.is_error(), "{reason:?}");
            }
        });
        eventually("it has begun", LIMIT, || (numbers(&one, "/a").len() > 100).then_some(()));
        // A second action and rule; then the connector moves to another server; then the first rule goes, and its action.
        let both = format!("{}{}", rule("all", "", "a"), rule("even", "WHERE payload.n mod 2 = 0", "b"));
        write(folder.path(), &config(&one, &["a", "b"], &both));
        let (code, out, error) = reload(folder.path());
        assert_eq!(code, Some(0), "{error}");
        assert!(out.contains("actions    b") && out.contains("rules      even") && out.contains("sources    as they were"), "{out}");
        eventually("the second one delivers", LIMIT, || (numbers(&one, "/b").len() > 50).then_some(()));
        write(folder.path(), &config(&two, &["a", "b"], &both));
        assert_eq!(reload(folder.path()).0, Some(0));
        eventually("the other server gets it", LIMIT, || (numbers(&two, "/a").len() > 50).then_some(()));
        publisher.join()
    });
    publishing.expect("everything was acknowledged");
    let all = |path: &str| [numbers(&one, path), numbers(&two, path)].concat();
    eventually("every record arrives", LIMIT, || (all("/a").len() >= 3000).then_some(()));
    assert_eq!(all("/a"), (0..3000).collect::<Vec<u64>>(), "once, and in order");
    let even = all("/b");
    assert!(
        even.iter().all(|n| n % 2 == 0) && even.is_sorted_by(|a, b| a + 2 == *b) && even.last() == Some(&2998),
        "none is missing since the rule was there"
    );
    // Removed: its records are delivered first, and its figures go; the other rule keeps its own.
    write(folder.path(), &config(&two, &["b"], &rule("even", "WHERE payload.n mod 2 = 0", "b")));
    assert_eq!(reload(folder.path()).0, Some(0));
    let (_, out, _) = run(&["ctl", "rules", "-o", "json", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
    let rules: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    let names: Vec<&str> = rules.as_array().expect("a list").iter().map(|rule| rule["name"].as_str().expect("a text")).collect();
    assert_eq!(names, ["even"]);
    assert!(rules[0]["metrics"]["matched"].as_u64() > Some(100), "what did not change goes on counting: {rules}");
    assert!(broker.stop().success());
    for ledger in ledgers(folder.path()).iter().filter(|ledger| ledger["kind"] == "action") {
        assert_eq!(ledger["pending"], 0, "{ledger}");
    }
}

#[test]
fn a_wrong_configuration_changes_nothing_and_what_needs_a_restart_says_so() {
    let server = Webhook::start(|_| Reply::Answer(204, "", String::new()));
    let folder = tempfile::tempdir().expect("a folder");
    let rule = "[rules.all]\nsql = 'SELECT payload.n AS n FROM \"t\"'\nactions = [\"a\"]\n";
    let good = config(&server, &["a"], rule);
    let broker = Broker::start(folder.path(), &good);
    let mut client = broker.connect(&Options::new("p").version(Version::V5));
    let mut works = |n: u64| {
        client.publish("t", format!("{{\"n\": {n}}}").as_bytes(), QoS::AtLeastOnce, false).expect("answered");
        eventually("it is delivered", LIMIT, || numbers(&server, "/a").contains(&n).then_some(()));
    };
    works(1);
    for (wrong, problem) in [
        (good.replace("SELECT payload.n", "SELECT uper(payload.n)"), "unknown function \"uper\""),
        (good.replace("actions = [\"a\"]", "actions = [\"b\"]"), "there is no action \"b\""),
        (good.replace("[rules.all]", "[rules.all"), "TOML parse error"),
        (good[..good.len() / 2].to_owned(), ""),
        (format!("{good}\n[mqtt]\ninflight_max = 7"), "mqtt need a restart"),
    ] {
        write(folder.path(), &wrong);
        let (code, _, error) = reload(folder.path());
        assert!(code == Some(2) && error.contains(problem), "{error}");
    }
    works(2);
    // A signal does it, too, where there is no terminal.
    write(folder.path(), &good.replace("payload.n AS n", "payload.n + 100 AS n"));
    let signalled = std::process::Command::new("kill").args(["-HUP", &broker.pid().to_string()]).status().expect("kill runs");
    assert!(signalled.success());
    eventually("the rule is another", LIMIT, || broker.log().contains("changed while running").then_some(()));
    client.publish("t", b"{\"n\": 3}", QoS::AtLeastOnce, false).expect("answered");
    eventually("it is delivered", LIMIT, || numbers(&server, "/a").contains(&103).then_some(()));
    assert!(broker.stop().success());
}
