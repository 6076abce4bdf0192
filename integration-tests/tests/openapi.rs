//! The document of the API, and the API by it: what comes back is as it says, also for nonsense, and nobody may more than their role.

use std::collections::BTreeSet;
use std::process::Command;
use std::sync::Mutex;

use hookline_integration_tests::api::{ask, ask_with, basic};
use hookline_integration_tests::broker::{Broker, run_with_input};
use hookline_integration_tests::publish_all;
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};
use serde_json::{Value, json};

const DOCUMENT: &str = "/api/v5/api-docs/openapi.json";

/// Told beside the file, so that no change of the file takes them away.
const KEYS: &str = r#"api.keys = [
    { key = "key-viewer", secret = "long enough", role = "viewer" },
    { key = "key-operator", secret = "long enough", role = "operator" },
    { key = "key-administrator", secret = "long enough", role = "administrator" },
]"#;

const CONFIG: &str = r#"
    [api]
    bind = "127.0.0.1:0"
    metrics_open = true
    [recorder]
    events = ["$events/message/dropped", "$events/message/delivery_dropped"]
    [connectors.files]
    type = "file"
    folder = "out"
    [actions.lines]
    connector = "files"
    parameters = { name = "a.ndjson" }
    [rules.all]
    sql = 'SELECT payload.n AS n FROM "t"'
    actions = ["lines"]
"#;

const ROLES: [&str; 3] = ["viewer", "operator", "administrator"];

/// An operation of the document.
#[derive(Debug, Clone)]
struct Operation {
    method: String,
    path: String,
    /// The least role that may; `None`: everybody.
    role: Option<String>,
}

/// A broker with a person of each role, whose password is that of the keys.
fn broker(folder: &std::path::Path) -> Broker {
    let file = folder.join("hookline.toml");
    std::fs::write(&file, CONFIG).expect("written");
    let broker = Broker::start_with(folder, &["--config", file.to_str().expect("UTF-8"), "--set", KEYS]);
    let data = folder.join("data");
    for role in ROLES {
        let arguments = ["ctl", "admins", "set", &format!("person-{role}"), "--role", role, "--data", data.to_str().expect("UTF-8")];
        assert_eq!(run_with_input(&arguments, "long enough\n").0, Some(0));
    }
    broker
}

fn document(broker: &Broker) -> Value {
    let answer = ask(broker, "GET", DOCUMENT, "", "");
    assert!(answer.status == 200 && answer.head.contains("content-type: application/json"), "{}", answer.head);
    answer.json()
}

fn operations(document: &Value) -> Vec<Operation> {
    let paths = document["paths"].as_object().expect("paths");
    let of = |(path, item): (&String, &Value)| -> Vec<Operation> {
        let path = path.clone();
        let methods = item.as_object().expect("methods").iter();
        let described = methods.map(|(method, operation)| Operation {
            method: method.to_uppercase(),
            path: path.clone(),
            role: operation["x-role"].as_str().map(str::to_owned),
        });
        described.collect()
    };
    paths.iter().flat_map(of).collect()
}

/// The path with something in it that is not there.
fn filled(path: &str) -> String {
    let parts = path.split('/').map(|part| match part {
        "{sequence}" | "{version}" => "999999",
        part if part.starts_with('{') => "nobody",
        part => part,
    });
    parts.collect::<Vec<_>>().join("/")
}

/// Does something for each, some at a time: refusals take their time on purpose.
fn each<T: Sync>(all: &[T], work: impl Fn(&T) + Sync) {
    let next = Mutex::new(all.iter());
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                while let Some(one) = { next.lock().expect("nobody panicked").next() } {
                    work(one);
                }
            });
        }
    });
}

#[test]
fn the_document_has_the_methods_that_there_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = broker(folder.path());
    let document = document(&broker);
    let chief = basic("key-administrator", "long enough");
    for (path, item) in document["paths"].as_object().expect("paths") {
        let refused = ask(&broker, "OPTIONS", &filled(path), &chief, "");
        assert!(refused.status == 405 && refused.json()["code"] == "METHOD_NOT_ALLOWED", "{path}: {} {}", refused.status, refused.body);
        let allowed = refused.head.lines().find_map(|line| line.strip_prefix("allow: ")).expect("says what is allowed");
        let allowed: BTreeSet<&str> = allowed.split(',').map(str::trim).filter(|method| *method != "head").collect();
        let documented: BTreeSet<&str> = item.as_object().expect("methods").keys().map(String::as_str).collect();
        assert_eq!(allowed, documented, "{path}");
    }
    assert!(broker.stop().success());
}

#[test]
fn nobody_may_more_than_their_role_and_nobody_anything_without_login() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = broker(folder.path());
    let all = operations(&document(&broker));
    let rank = |role: &str| ROLES.iter().position(|other| *other == role).expect("a role");
    // What the roles are, said once more and by hand: a document that is wrong must not make a test that is wrong.
    for Operation { method, path, role } in &all {
        let Some(role) = role.as_deref() else {
            let open = ["/api/v5/status", "/api/v5/login", "/api/v5/prometheus/stats", "/metrics", DOCUMENT];
            assert!(open.contains(&path.as_str()), "{path} is open to everybody");
            continue;
        };
        let is_secret = ["/api/v5/configs", "/api/v5/audit", "/api/v5/data"].iter().any(|secret| path.starts_with(secret));
        let is_of_people = ["/api/v5/users", "/api/v5/authentication", "/api/v5/authorization"].iter().any(|part| path.starts_with(part));
        let is_of_traffic = ["/api/v5/trace/{name}/log", "/api/v5/trace/{name}/download"].contains(&path.as_str());
        match (method.as_str(), role) {
            ("GET", _) if is_of_traffic => assert_eq!(role, "operator", "{path}"),
            ("GET", _) => assert_eq!(role, if is_secret { "administrator" } else { "viewer" }, "{method} {path}"),
            (_, "viewer") => panic!("a viewer may {method} {path}"),
            _ if is_secret || is_of_people => assert_eq!(role, "administrator", "{method} {path}"),
            _ => {}
        }
    }
    let send = |operation: &Operation, login: &str| ask(&broker, &operation.method, &filled(&operation.path), login, "{}");
    each(&all, |operation| {
        let answer = send(operation, "");
        match operation.role {
            Some(_) => assert!(answer.status == 401 && answer.json()["code"] == "UNAUTHORIZED", "{operation:?}: {}", answer.status),
            None => assert!(answer.status != 401 && answer.status < 500, "{operation:?}: {} {}", answer.status, answer.body),
        }
    });
    for role in ROLES {
        for name in [format!("person-{role}"), format!("key-{role}")] {
            let login = basic(&name, "long enough");
            // Known from here on, so that no password waits for the others.
            assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &login, "").status, 200);
            let guarded: Vec<Operation> = all.iter().filter(|operation| operation.role.is_some()).cloned().collect();
            each(&guarded, |operation| {
                let answer = send(operation, &login);
                let may = rank(role) >= rank(operation.role.as_deref().expect("guarded"));
                let what = format!("{name}: {} {}: {} {}", operation.method, operation.path, answer.status, answer.body);
                if may {
                    assert!(![401, 403].contains(&answer.status) && answer.status < 500, "{what}");
                } else {
                    assert!(answer.status == 403 && answer.json()["code"] == "NOT_ALLOWED", "{what}");
                }
            });
        }
    }
    assert!(broker.stop().success());
}

#[test]
fn a_viewer_learns_why_a_message_was_dropped() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = broker(folder.path());
    let mut client = broker.connect(&Options::new("device").version(Version::V5));
    publish_all(&mut client, "nobody/hears", (0..3).map(|n| format!("secret {n}")));
    let viewer = basic("person-viewer", "long enough");
    let drops = |query: &str| ask(&broker, "GET", &format!("/api/v5/drops{query}"), &viewer, "");
    let found = hookline_integration_tests::eventually("the drops are recorded", std::time::Duration::from_secs(20), || {
        let found = drops("?about=nobody/%23").json();
        (found["found"] == 3).then_some(found)
    });
    let newest = &found["data"][0];
    assert!(newest["event"] == "message.dropped" && newest["topic"] == "nobody/hears" && newest["from_clientid"] == "device", "{found}");
    assert_eq!(newest["reason"], "no_subscribers", "{found}");
    assert_eq!(found["clients"], json!([{ "clientid": "device", "dropped": 3 }]));
    assert!(!found.to_string().contains("secret"), "no payloads");
    assert_eq!(drops("?reason=queue_full").json()["found"], 0);
    assert_eq!(drops("?from=soon").status, 400);
    assert!(broker.stop().success());
}

/// Runs schemathesis; what it has found ends the test.
fn explore(broker: &Broker, folder: &std::path::Path, arguments: &[&str]) {
    let python = std::env::var("HOOKLINE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let url = format!("http://{}{DOCUMENT}", broker.address_of("api"));
    let checks = "not_a_server_error,status_code_conformance,content_type_conformance,response_schema_conformance";
    let output = Command::new(python)
        .args(["-m", "schemathesis.cli"])
        .args(["--config-file", folder.join("schemathesis.toml").to_str().expect("UTF-8")])
        .args(["run", &url, "--auth", "key-administrator:long enough", "--checks", checks])
        .args(["--seed", "1", "--workers", "1", "--continue-on-failure", "--warnings", "off", "--request-timeout", "25"])
        .args(arguments)
        .current_dir(folder)
        .output()
        .expect("python runs; \"setup test\" installs what it needs");
    let told = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    println!("{told}");
}

#[test]
fn answers_are_as_the_document_says() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = broker(folder.path());
    let mut away = broker.connect(&Options::new("device").version(Version::V5).persistent(3600));
    away.subscribe(&[("a/#", QoS::AtLeastOnce), ("$share/g/b", QoS::AtMostOnce)]).expect("subscribed");
    away.disconnect().expect("leaves");
    let mut client = broker.connect(&Options::new("here"));
    client.subscribe(&[("t", QoS::AtLeastOnce)]).expect("subscribed");
    publish_all(&mut client, "a/x", (0..3).map(|n| format!("{{\"n\": {n}}}")));
    publish_all(&mut client, "$delayed/3600/a/y", ["later".to_owned()]);
    let chief = basic("key-administrator", "long enough");
    for (method, path, body) in [
        ("POST", "/publish", json!({"topic": "kept", "payload": "x", "retain": true})),
        ("POST", "/publish", json!({"topic": "nobody/hears"})),
        ("POST", "/banned", json!({"as": "clientid", "who": "bad"})),
        ("POST", "/authentication/password_based:built_in_database/users", json!({"user_id": "u", "password": "p"})),
        (
            "PUT",
            "/authorization/sources/built_in_database/rules/users/u",
            json!([{"permission": "allow", "action": "publish", "topic": "#"}]),
        ),
        ("POST", "/trace", json!({"name": "u", "type": "topic", "topic": "#"})),
        ("POST", "/rules", json!({"name": "more", "sql": "SELECT * FROM \"more\"", "actions": ["lines"]})),
    ] {
        let answer = ask(&broker, method, &format!("/api/v5{path}"), &chief, &body.to_string());
        assert!(answer.status < 300, "{path}: {}", answer.body);
    }
    let exported = ask(&broker, "POST", "/api/v5/data/export", &chief, "").json();
    let filename = exported["filename"].as_str().expect("made").to_owned();
    let delayed = ask(&broker, "GET", "/api/v5/mqtt/delayed/messages", &chief, "").json();
    let msgid = delayed["data"][0]["msgid"].as_str().expect("waits").to_owned();
    // What is there, first: answers that are successes.
    let there = format!(
        "[parameters]\n\"path.clientid\" = \"device\"\n\"path.topic\" = \"kept\"\n\"path.msgid\" = \"{msgid}\"\n\"path.action\" = \"lines\"\n\
         \"path.id\" = \"all\"\n\"path.version\" = 1\n\"path.kind\" = \"users\"\n\"path.name\" = \"u\"\n\"path.filename\" = \"{filename}\"\n"
    );
    std::fs::write(folder.path().join("schemathesis.toml"), there).expect("written");
    explore(&broker, folder.path(), &["--include-method", "GET", "--phases", "coverage", "--mode", "positive"]);
    // Then everything with everything. Backups go wherever a request says, and this is not to be anywhere.
    std::fs::write(folder.path().join("schemathesis.toml"), "").expect("written");
    let all = ["--exclude-path", "/api/v5/store/backup", "--phases", "coverage,fuzzing", "--max-examples", "10", "--max-time", "50"];
    explore(&broker, folder.path(), &all);
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &chief, "").status, 200, "still somebody who may");
    let refused = ask_with(&broker, "POST", "/api/v5/publish", &chief, "Content-Type: text/plain\r\n", "{}");
    assert!(refused.status == 415 && refused.json()["code"] == "UNSUPPORTED_MEDIA_TYPE", "{}", refused.body);
    let log = broker.log();
    assert!(!log.contains("panicked"), "{log}");
    assert!(broker.stop().success());
}
