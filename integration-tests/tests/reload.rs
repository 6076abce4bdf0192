//! Connectors, actions, sources and rules change while messages flow, and no record is lost by it.

use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, ledgers, run, run_with_input};
use hookline_integration_tests::eventually;
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_mqtt::client::{Client, Options};
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

#[test]
fn who_may_changes_while_clients_are_in() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "");
    let connect = |id: &str, password: &str| {
        let mut options = Options::new(id).version(Version::V5);
        if !password.is_empty() {
            options.connect.username = Some("alice".to_owned());
            options.connect.password = Some(password.as_bytes().to_vec());
        }
        Client::connect(broker.address(), &options)
    };
    let mut client = connect("first", "").expect("everybody may");
    let may = |client: &mut Client, topic: &str| !client.publish(topic, b"x", QoS::AtLeastOnce, false).expect("answered").is_error();
    client.subscribe(&[("secret/#", QoS::AtLeastOnce)]).expect("subscribed");
    assert!(may(&mut client, "secret/x"));
    client.receive(LIMIT).expect("connected").expect("it has subscribed");
    // The first permissions reach who came in when there were none.
    let sources = "[authorization]\nno_match = \"allow\"\n[[authorization.sources]]\nname = \"r\"\nrules = [{ permission = \"deny\", topics = [\"secret/#\"] }]\n";
    write(folder.path(), sources);
    let (code, out, error) = reload(folder.path());
    assert!(code == Some(0) && out.contains("access     authorization"), "{out}{error}");
    eventually("it may not any more", LIMIT, || (!may(&mut client, "secret/x")).then_some(()));
    let mut other = connect("second", "").expect("in");
    assert!(!may(&mut other, "secret/x") && may(&mut other, "open/x"));
    // A way to log in, whose password comes from a file.
    let (code, line) = run_with_input(&["ctl", "users", "hash", "alice"], "first\n");
    assert_eq!(code, Some(0));
    let users = folder.path().join("users");
    std::fs::write(&users, line).expect("written");
    let logins = format!("[[authentication]]\nname = \"users\"\ntype = \"file\"\npath = \"{}\"\n", users.display());
    write(folder.path(), &format!("{sources}{logins}"));
    let (code, out, error) = reload(folder.path());
    assert!(code == Some(0) && out.contains("access     authentication"), "{out}{error}");
    assert!(connect("third", "wrong").is_err() && connect("third", "first").is_ok());
    assert!(may(&mut other, "open/x"), "who is in stays in");
    // What is wrong changes nothing; without any of it everybody may again.
    write(folder.path(), &format!("{sources}{}", logins.replace("users\"\n", "nobody\"\n")));
    let (code, _, error) = reload(folder.path());
    assert!(code == Some(2) && error.contains("authentication[0].path"), "{error}");
    assert!(connect("third", "wrong").is_err() && !may(&mut client, "secret/x"));
    write(folder.path(), "");
    assert_eq!(reload(folder.path()).0, Some(0));
    assert!(connect("third", "wrong").is_ok());
    eventually("it may again", LIMIT, || may(&mut client, "secret/x").then_some(()));
    assert!(broker.stop().success());
}

#[test]
fn the_first_permissions_count_also_where_nobody_can_say_them_now() {
    let server = Webhook::start(|_| Reply::Answer(500, "", String::new()));
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "");
    let mut client = broker.connect(&Options::new("first").version(Version::V5));
    client.subscribe(&[("a", QoS::AtLeastOnce)]).expect("subscribed");
    assert!(!client.publish("b", b"x", QoS::AtLeastOnce, false).expect("answered").is_error());
    let source = format!(
        "[connectors.hook]\ntype = \"http\"\nurl = \"http://{}\"\n[[authorization.sources]]\nname = \"asked\"\nconnector = \"hook\"\n\
         parameters = {{ path = \"/may\", json = '{{\"topic\": \"${{topic}}\"}}' }}",
        server.address()
    );
    write(folder.path(), &source);
    let (code, _, error) = reload(folder.path());
    assert_eq!(code, Some(0), "{error}");
    eventually("it may not any more", LIMIT, || {
        client.publish("b", b"x", QoS::AtLeastOnce, false).expect("answered").is_error().then_some(())
    });
    assert!(broker.stop().success());
}

#[test]
fn a_secret_in_a_file_is_used_when_it_changes_and_never_logged() {
    let server = Webhook::start(|request| {
        let is_right = request.header("authorization") == "Bearer second-token";
        Reply::Answer(if is_right { 204 } else { 401 }, "", String::new())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "first-token\n").expect("written");
    let config = format!(
        "[connectors.hook]\ntype = \"http\"\nurl = \"http://{}\"\nauth = {{ type = \"bearer\", token = \"file://{}\" }}\n\
         [actions.a]\nconnector = \"hook\"\nparameters = {{ path = \"/a\" }}\ndelivery = {{ retry_initial_ms = 20, retry_max_ms = 200 }}\n\
         [rules.all]\nsql = 'SELECT payload.n AS n FROM \"t\"'\nactions = [\"a\"]",
        server.address(),
        token.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let mut client = broker.connect(&Options::new("p"));
    client.publish("t", b"{\"n\": 1}", QoS::AtLeastOnce, false).expect("answered");
    eventually("the first secret is used", LIMIT, || {
        server.requests().iter().any(|request| request.header("authorization") == "Bearer first-token").then_some(())
    });
    std::fs::write(&token, "second-token\n").expect("written");
    eventually("the new secret is used", LIMIT, || {
        server.requests().iter().any(|request| request.header("authorization") == "Bearer second-token").then_some(())
    });
    let log = broker.log();
    assert!(log.contains("a file of a secret has changed") && !log.contains("first-token") && !log.contains("second-token"), "{log}");
    assert!(broker.stop().success());
    let ledgers = ledgers(folder.path());
    let ledger = ledgers.iter().find(|ledger| ledger["kind"] == "action").expect("one");
    assert_eq!((&ledger["delivered"], &ledger["pending"]), (&1.into(), &0.into()), "{ledger}");
}
