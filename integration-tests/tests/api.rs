//! The API over the network: who may, what it says of clients and counters, what Prometheus gets; and the same by commands.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::{eventually, publish_all};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own.
fn ask(broker: &Broker, method: &str, path: &str, login: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(broker.address_of("api")).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    let login = if login.is_empty() { String::new() } else { format!("Authorization: {login}\r\n") };
    let length = body.len();
    let request = format!(
        "{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\nContent-Type: application/json\r\n{login}Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

const CONFIG: &str = r#"
    [api]
    bind = "127.0.0.1:0"
    keys = [
        { key = "watcher", secret = "watching", role = "viewer" },
        { key = "runner", secret = "running!", role = "operator" },
        { key = "chief", secret = "chiefing", role = "administrator" },
    ]
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

#[test]
fn roles_may_what_they_are_for_and_nobody_else_anything() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let status = ask(&broker, "GET", "/api/v5/status", "", "");
    assert!(status.status == 200 && status.body.contains("is started"), "{}", status.body);
    for (login, path) in
        [("", "/api/v5/clients"), ("", "/nowhere"), ("Bearer x", "/api/v5/stats"), (&*basic("watcher", "wrong"), "/api/v5/stats")]
    {
        let refused = ask(&broker, "GET", path, login, "");
        assert!(
            refused.status == 401 && refused.head.contains("www-authenticate") && refused.json()["code"] == "UNAUTHORIZED",
            "{login} {path}"
        );
    }
    let (watcher, runner, chief) = (basic("watcher", "watching"), basic("runner", "running!"), basic("chief", "chiefing"));
    for (login, method, path, body, expect) in [
        (&watcher, "GET", "/api/v5/rules", "", 200),
        (&watcher, "POST", "/api/v5/actions/lines/pause", "", 403),
        (&watcher, "DELETE", "/api/v5/clients/x", "", 403),
        (&watcher, "GET", "/api/v5/users", "", 200),
        (&runner, "POST", "/api/v5/actions/lines/pause", "", 200),
        (&runner, "POST", "/api/v5/actions/lines/resume", "", 200),
        (&runner, "POST", "/api/v5/users", r#"{"username": "u", "password": "long enough"}"#, 403),
        (&runner, "POST", "/api/v5/configs/reload", "", 403),
        (&runner, "DELETE", "/api/v5/clients/nobody", "", 404),
        (&chief, "POST", "/api/v5/users", r#"{"username": "u", "password": "short"}"#, 400),
        (&chief, "POST", "/api/v5/users", r#"{"username": "eve", "password": "long enough", "role": "viewer"}"#, 200),
        (&chief, "GET", "/api/v5/clients?limit=many", "", 400),
        (&chief, "GET", "/api/v5/no_such_thing", "", 404),
    ] {
        let answer = ask(&broker, method, path, login, body);
        assert_eq!(answer.status, expect, "{method} {path}: {}", answer.body);
    }
    // A person, by password and by token; another password ends both.
    let token = ask(&broker, "POST", "/api/v5/login", "", r#"{"username": "eve", "password": "long enough"}"#).json();
    assert_eq!(token["role"], "viewer");
    let bearer = format!("Bearer {}", token["token"].as_str().expect("a token"));
    assert_eq!(ask(&broker, "POST", "/api/v5/login", "", r#"{"username": "eve", "password": "wrong enough"}"#).status, 401);
    for login in [&bearer, &basic("eve", "long enough")] {
        assert_eq!(ask(&broker, "GET", "/api/v5/nodes", login, "").status, 200);
        assert_eq!(ask(&broker, "POST", "/api/v5/actions/lines/pause", login, "").status, 403);
    }
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let (code, _) = run_with_input(&["ctl", "admins", "set", "eve", "--role", "operator", "--data", data], "another one\n");
    assert_eq!(code, Some(0));
    for login in [&bearer, &basic("eve", "long enough")] {
        assert_eq!(ask(&broker, "GET", "/api/v5/nodes", login, "").status, 401, "the old password counts no more");
    }
    assert_eq!(ask(&broker, "POST", "/api/v5/actions/lines/pause", &basic("eve", "another one"), "").status, 200);
    let (code, out, _) = run(&["ctl", "admins", "list", "-o", "json", "--data", data]);
    assert_eq!((code, serde_json::from_str::<Value>(&out).expect("JSON")), (Some(0), json!([{"username": "eve", "role": "operator"}])));
    assert_eq!(run(&["ctl", "admins", "remove", "eve", "--data", data]).0, Some(0));
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &basic("eve", "another one"), "").status, 401);
    // A key that is known to too many gets another secret, without a restart.
    std::fs::write(folder.path().join("hookline.toml"), CONFIG.replace("\"running!\"", "\"running on\"")).expect("written");
    let (code, out, error) = run(&["ctl", "reload", "--data", data]);
    assert!(code == Some(0) && out.contains("access     api"), "{out}{error}");
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &runner, "").status, 401);
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &basic("runner", "running on"), "").status, 200);
    let elsewhere = format!("{chief}\r\nOrigin: http://evil.example.com");
    assert_eq!(ask(&broker, "POST", "/api/v5/configs/reload", &elsewhere, "").status, 403, "no page of another origin");
    let log = broker.log();
    assert!(log.contains("a request by the API") && log.contains("\"user\":\"runner\""), "changes are logged: {log}");
    for secret in ["watching", "long enough", "another one", token["token"].as_str().expect("a token")] {
        assert!(!log.contains(secret), "\"{secret}\" is in the log");
    }
    assert!(broker.stop().success());
}

#[test]
fn clients_are_listed_shown_and_kicked_also_those_that_rest() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let (chief, v5) = (basic("chief", "chiefing"), |id: &str| Options::new(id).version(Version::V5));
    let mut here = broker.connect(&v5("here").persistent(3600));
    here.subscribe(&[("a/#", QoS::AtLeastOnce), ("$share/g/b", QoS::AtMostOnce)]).expect("subscribed");
    let mut away = broker.connect(&v5("away").persistent(3600));
    away.subscribe(&[("a/#", QoS::AtLeastOnce)]).expect("subscribed");
    away.disconnect().expect("leaves");
    let mut clean = broker.connect(&v5("clean"));
    publish_all(&mut clean, "a/x", (0..3).map(|n| n.to_string()));
    let clients = |query: &str| -> Vec<String> {
        let answer = ask(&broker, "GET", &format!("/api/v5/clients{query}"), &chief, "").json();
        answer["data"].as_array().expect("a list").iter().map(|client| client["clientid"].as_str().expect("a name").to_owned()).collect()
    };
    assert_eq!(clients(""), ["away", "clean", "here"]);
    assert_eq!(clients("?conn_state=connected"), ["clean", "here"]);
    assert_eq!(clients("?conn_state=disconnected"), ["away"]);
    assert_eq!(clients("?like_clientid=ea"), ["clean"]);
    let page = ask(&broker, "GET", "/api/v5/clients?page=2&limit=2", &chief, "").json();
    assert!(page["data"][0]["clientid"] == "here" && page["meta"]["hasnext"] == false, "{page}");
    let shown = ask(&broker, "GET", "/api/v5/clients/away", &chief, "").json();
    assert!(
        shown["connected"] == false && shown["mqueue_len"] == 3 && shown["subscriptions_cnt"] == 1 && shown["proto_ver"] == 5,
        "{shown}"
    );
    let shown = ask(&broker, "GET", "/api/v5/clients/here/subscriptions", &chief, "").json();
    assert!(shown[0]["topic"] == "$share/g/b" && shown[0]["shared"] == true && shown[1]["qos"] == 1, "{shown}");
    // Kicked: told why, and the session is gone.
    assert_eq!(ask(&broker, "DELETE", "/api/v5/clients/here", &chief, "").status, 204);
    let ended = eventually("the connection ends", LIMIT, || here.receive(LIMIT).err());
    assert!(matches!(ended, Error::Closed(ReasonCode::AdministrativeAction)), "{ended:?}");
    assert_eq!(clients(""), ["away", "clean"]);
    assert!(!Client::connect(broker.address(), &v5("here").persistent(3600)).expect("it may come again").session_present());
    assert!(broker.stop().success());
    // After a restart sessions rest; they are told of and can go all the same.
    let broker = Broker::start(folder.path(), CONFIG);
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let (code, out, _) = run(&["ctl", "clients", "list", "--data", data]);
    assert!(code == Some(0) && out.lines().any(|line| line.starts_with("away") && line.contains(" no ")), "{out}");
    let (code, out, _) = run(&["ctl", "clients", "show", "away", "--data", data]);
    assert!(code == Some(0) && out.contains("\"mqueue_len\": 3") && out.contains("\"a/#\""), "{out}");
    assert_eq!(run(&["ctl", "clients", "kick", "away", "--data", data]).0, Some(0));
    let (code, _, error) = run(&["ctl", "clients", "kick", "away", "--data", data]);
    assert!(code == Some(2) && error.contains("there is no client \"away\""), "{code:?} {error}");
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), CONFIG);
    assert!(!broker.connect(&v5("away").persistent(3600)).session_present(), "it is gone from the store, too");
    assert!(broker.stop().success());
}

#[test]
fn what_is_published_by_the_api_is_as_safe_as_from_a_client() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let (watcher, runner) = (basic("watcher", "watching"), basic("runner", "running!"));
    let mut away = broker.connect(&Options::new("away").version(Version::V5).persistent(3600));
    away.subscribe(&[("t", QoS::AtLeastOnce)]).expect("subscribed");
    away.disconnect().expect("leaves");
    let publish = |login: &str, path: &str, body: Value| ask(&broker, "POST", path, login, &body.to_string());
    assert_eq!(publish(&watcher, "/api/v5/publish", json!({"topic": "t"})).status, 403);
    let first = json!({"topic": "t", "payload": "{\"n\": 1}", "properties": {"user_properties": {"by": "api"}}});
    let answer = publish(&runner, "/api/v5/publish", first);
    assert!(answer.status == 200 && answer.json()["reason_code"] == 0, "{}", answer.body);
    assert_eq!(publish(&runner, "/api/v5/publish", json!({"topic": "nobody"})).json()["reason_code"], 16);
    for wrong in
        [json!({"topic": "a/#"}), json!({"topic": "t", "qos": 7}), json!({"topic": "$SYS/x"}), json!({"topic": (["/"; 200].concat())})]
    {
        assert_eq!(publish(&runner, "/api/v5/publish", wrong.clone()).status, 400, "{wrong}");
    }
    assert_eq!(publish(&runner, "/api/v5/publish", json!({"topick": "t"})).status, 422);
    let many: Vec<Value> = (2..=50).map(|n| json!({"topic": "t", "payload": format!("{{\"n\": {n}}}"), "qos": 1})).collect();
    assert_eq!(publish(&runner, "/api/v5/publish/bulk", json!(many)).json().as_array().map(Vec::len), Some(49));
    // What was answered outlives a kill.
    broker.kill();
    let broker = Broker::start(folder.path(), CONFIG);
    let mut back = broker.connect(&Options::new("away").version(Version::V5).persistent(3600));
    for n in 1..=50 {
        let message = back.receive(LIMIT).expect("connected").expect("it is there");
        assert_eq!(message.payload, format!("{{\"n\": {n}}}").as_bytes());
    }
    assert!(broker.stop().success());
}

#[test]
fn prometheus_gets_what_it_understands() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "t", (0..5).map(|n| format!("{{\"n\": {n}}}")));
    let scraped = eventually("five are delivered", LIMIT, || {
        let scraped = ask(&broker, "GET", "/metrics", "", "");
        scraped.body.contains("hookline_action_delivered_total{id=\"lines\"} 5\n").then_some(scraped)
    });
    assert!(scraped.head.contains("application/openmetrics-text"), "{}", scraped.head);
    for line in [
        "# TYPE hookline_messages_received counter",
        "hookline_messages_received_total 5",
        "hookline_connections 1.0",
        "hookline_rule_matched_total{id=\"all\"} 5",
        "hookline_action_pending{id=\"lines\"} 0.0",
        "hookline_action_connected{id=\"lines\"} 1.0",
        "# UNIT hookline_store_used_bytes bytes",
        "# EOF",
    ] {
        assert!(scraped.body.lines().any(|other| other == line), "{line} is not in\n{}", scraped.body);
    }
    let mut names = std::collections::BTreeSet::new();
    for line in scraped.body.lines().filter(|line| line.starts_with("# TYPE ")) {
        assert!(names.insert(line.to_owned()), "{line} comes twice");
    }
    let stats = ask(&broker, "GET", "/api/v5/stats", &basic("watcher", "watching"), "").json();
    assert!(stats[0]["connections.count"] == 1 && stats[0]["connections.max"] == 1, "{stats}");
    let metrics = ask(&broker, "GET", "/api/v5/metrics", &basic("watcher", "watching"), "").json();
    assert_eq!(metrics[0]["messages.qos1.received"], 5, "{metrics}");
    assert_eq!(ask(&broker, "GET", "/api/v5/alarms", &basic("watcher", "watching"), "").json()["data"], json!([]));
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), &CONFIG.replace("keys = [", "metrics_open = false\nkeys = ["));
    assert_eq!(ask(&broker, "GET", "/metrics", "", "").status, 401);
    assert_eq!(ask(&broker, "GET", "/metrics", &basic("watcher", "watching"), "").status, 200);
    assert!(broker.stop().success());
}

#[test]
fn the_first_start_makes_a_password_and_shows_it_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[api]\nbind = \"127.0.0.1:0\"";
    let broker = Broker::start(folder.path(), config);
    let greeting = broker.output();
    let password = greeting.split("log in as admin with ").nth(1).and_then(|rest| rest.split(';').next()).expect("it is shown");
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &basic("admin", password), "").status, 200);
    assert!(!broker.log().contains(password), "and never logged");
    assert!(broker.stop().success());
    // An address that is taken is told, and its owner is left alone.
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
    let place = taken.local_addr().expect("an address");
    let (code, _, error) = run(&[
        "serve",
        "--data",
        folder.path().join("other").to_str().expect("UTF-8"),
        "--config",
        folder.path().join("hookline.toml").to_str().expect("UTF-8"),
        "--set",
        "listeners.tcp.default.bind=127.0.0.1:0",
        "--set",
        &format!("api.bind={place}"),
    ]);
    assert!(code == Some(1) && error.contains("api.bind: cannot listen on"), "{code:?} {error}");
    let broker = Broker::start(folder.path(), config);
    assert!(!broker.output().contains("log in as"), "the second start shows none");
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &basic("admin", password), "").status, 200);
    assert!(broker.stop().success());
}
