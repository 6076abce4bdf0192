//! How many clients log in a second, and how soon, by backend: `make logins`. A plain run has few of them, and only sees that all come in.

use std::process::Command;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, binary, run, run_with_input};
use hookline_integration_tests::services;

use super::backends::{self, Backend};
use super::directory;

const CONCURRENT: usize = 200;

/// Logs clients in, and prints a line about it. How often the backend was asked, and how many came.
fn measure(what: &str, users: &str, (username, password): (&str, &str)) -> (u64, u64) {
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!("[listeners.tcp.default]\nhalf_open_per_address_max = 100000\n{users}");
    let broker = Broker::start(folder.path(), &config);
    let clients = std::env::var("HOOKLINE_LOGINS").unwrap_or_else(|_| "300".into());
    let out = Command::new(binary().with_file_name("hookline-bench"))
        .args(["logins", "--address", &broker.address().to_string(), "--username", username, "--password", password])
        .args(["--clients", &clients, "--concurrent", &CONCURRENT.to_string()])
        .output()
        .expect("hookline-bench runs; build it first: cargo build --release --workspace");
    let line = String::from_utf8_lossy(&out.stdout);
    println!("{what}: {line}");
    assert!(line.contains("; 0 refused"), "{what}: {line}{}\n{}", String::from_utf8_lossy(&out.stderr), broker.log());
    let (_, stats, _) = run(&["ctl", "access", "-o", "json", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
    let stats: serde_json::Value = serde_json::from_str(&stats).expect("JSON");
    assert!(broker.stop().success());
    (stats["users"]["answered"].as_u64().unwrap_or_default(), clients.parse().expect("a number"))
}

/// Asked about each login, and with answers that are remembered. `of_client` is a question that no other client's is like: those who ask the same at
/// the same time share one answer.
fn with_and_without_cache(name: &str, connector: &str, question: &str, of_client: &str, login: (&str, &str)) {
    assert_ne!(question, of_client, "{name}");
    let settings = |question: &str, cache_secs: u64| {
        format!(
            "[connectors.users]\n{connector}\n[[authentication]]\nname = \"users\"\nconnector = \"users\"\nparameters = {{ {question} }}\n\
             backend = {{ cache_secs = {cache_secs} }}\npassword_hash = {{ salt_position = \"prefix\" }}"
        )
    };
    let (asked, came) = measure(name, &settings(of_client, 0), login);
    assert_eq!(asked, came, "{name}: it is asked about each");
    let (asked, came) = measure(&format!("{name}, remembered"), &settings(question, 300), login);
    assert_eq!(asked, 1, "{name}: {came} come on one answer");
}

fn of(backend: Backend, name: &str, of_client: impl Fn(&str) -> String) {
    // Servers over HTTP are asked with the client's identifier everywhere else.
    let question = backend.login.replace(", \"clientid\": \"${clientid}\"", "");
    with_and_without_cache(name, &backend.straight(), &question, &of_client(&question), ALICE);
    (backend.clean)();
}

/// A question of SQL with a further condition.
fn and(condition: &str) -> impl Fn(&str) -> String {
    let more = format!(" AND ${{clientid}} <> '' AND {condition} LIMIT 1");
    move |question: &str| question.replace(" LIMIT 1", &more)
}

fn with_client(question: &str) -> String {
    question.replace("\"${password}\"", "\"${password}\", \"clientid\": \"${clientid}\"")
}

const ALICE: (&str, &str) = ("alice", "public");

#[test]
fn by_backend() {
    let _server = services::stay();
    measure("nobody is asked", "", ALICE);
    of(backends::postgres(), "postgres", and("1 = 1"));
    of(backends::mysql(), "mysql", and("1 = 1"));
    of(backends::mongodb(), "mongodb", |question| question.replace("\"}'", "\", \"clientid\": {\"$ne\": \"${clientid}\"}}'"));
    of(backends::redis(), "redis", |question| question.replace("is_superuser", "is_superuser ${clientid}"));
    let (http, _server) = backends::http(Duration::ZERO);
    of(http, "http", with_client);
    for (method, login) in [("bind", ("alice", "wonderland")), ("hash", ("bob", "builder"))] {
        let connector = format!("type = \"ldap\"\nservers = \"{}\"\n{}", directory::ldap_url(), directory::READER);
        let question = format!("method = \"{method}\", {}", directory::ENTRY);
        let of_client = question.replace("(uid=${username})", "(uid=${username})(!(description=${clientid}))");
        with_and_without_cache(&format!("ldap, {method}"), &connector, &question, &of_client, login);
    }
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("users");
    let (_, line) = run_with_input(&["ctl", "users", "hash", "alice"], "public\n");
    std::fs::write(&users, line).expect("written");
    measure("a file, argon2id", &format!("[[authentication]]\nname = \"f\"\ntype = \"file\"\npath = '{}'", users.display()), ALICE);
}

#[test]
fn while_the_backend_takes_100_ms() {
    let _server = services::stay();
    let (http, _server) = backends::http(Duration::from_millis(100));
    of(http, "http, 100 ms", with_client);
    of(backends::postgres(), "postgres, 100 ms", and("pg_sleep(0.1) IS NOT NULL"));
    of(backends::mysql(), "mysql, 100 ms", and("SLEEP(0.1) = 0"));
}
