//! The API over the network: who may, what it says of clients and counters, what Prometheus gets; and the same by commands.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_integration_tests::api::{ask, basic};
use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::{eventually, publish_all};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

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
    assert_eq!(publish(&runner, "/api/v5/publish", json!({"topick": "t"})).status, 400);
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

/// The answer of a GET by the administrator.
fn look(broker: &Broker, path: &str) -> Value {
    let answer = ask(broker, "GET", &format!("/api/v5{path}"), &basic("chief", "chiefing"), "");
    assert_eq!(answer.status, 200, "{path}: {}", answer.body);
    answer.json()
}

fn texts(list: &Value, key: &str) -> Vec<String> {
    list["data"].as_array().expect("a list").iter().map(|entry| entry[key].as_str().expect("a text").to_owned()).collect()
}

#[test]
fn subscriptions_and_topics_are_listed_page_by_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let v5 = |id: &str| Options::new(id).version(Version::V5);
    let mut clean = broker.connect(&v5("clean"));
    clean.subscribe(&[("a/b", QoS::AtMostOnce), ("a/+", QoS::AtLeastOnce), ("$share/g/c/#", QoS::ExactlyOnce)]).expect("subscribed");
    let mut durable = broker.connect(&v5("durable").persistent(3600));
    durable.subscribe(&[("a/b", QoS::AtLeastOnce), ("d", QoS::AtLeastOnce)]).expect("subscribed");
    let mut away = broker.connect(&v5("away").persistent(3600));
    away.subscribe(&[("e/#", QoS::AtLeastOnce)]).expect("subscribed");
    away.disconnect().expect("leaves");
    let all = look(&broker, "/subscriptions");
    assert!(all["meta"]["count"] == 6 && all["meta"]["hasnext"] == false, "{all}");
    let mut both: Vec<String> =
        all["data"].as_array().expect("a list").iter().map(|s| format!("{} {}", s["clientid"], s["topic"])).collect();
    both.sort_unstable();
    let expect = ["away e/#", "clean $share/g/c/#", "clean a/+", "clean a/b", "durable a/b", "durable d"];
    assert_eq!(both, expect.map(|text| format!("\"{}\"", text.replace(' ', "\" \""))));
    let mut paged = Vec::new();
    for page in 1..=3 {
        let part = look(&broker, &format!("/subscriptions?limit=2&page={page}"));
        assert!(part["meta"]["hasnext"] == (page < 3) && part["meta"]["count"] == 6, "{part}");
        paged.extend(part["data"].as_array().expect("a list").iter().cloned());
    }
    assert_eq!(json!(paged), all["data"], "pages hold together everything, in one order");
    for (query, count) in [
        ("clientid=durable", 2),
        ("clientid=away", 1),
        ("clientid=nobody", 0),
        ("topic=a%2Fb", 2),
        ("match_topic=a%2Fb", 3),
        ("match_topic=c%2Fx%2Fy", 1),
        ("share_group=g", 1),
        ("qos=2", 1),
        ("clientid=clean&match_topic=a%2Fb", 2),
        ("page=9", 6),
    ] {
        let found = look(&broker, &format!("/subscriptions?{query}"));
        assert_eq!(found["meta"]["count"], count, "{query}: {found}");
    }
    let one = &look(&broker, "/subscriptions?share_group=g")["data"][0];
    assert!(one["topic"] == "$share/g/c/#" && one["qos"] == 2 && one["nl"] == 0 && one["rh"] == 0 && one["node"].is_string(), "{one}");
    let mut topics = texts(&look(&broker, "/topics"), "topic");
    topics.sort_unstable();
    assert_eq!(topics, ["a/+", "a/b", "c/#", "d", "e/#"]);
    assert_eq!(texts(&look(&broker, "/topics?topic=e%2F%23"), "topic"), ["e/#"]);
    assert!(texts(&look(&broker, "/topics?topic=e"), "topic").is_empty());
    assert!(look(&broker, "/topics?limit=3")["meta"]["hasnext"] == true);
    assert_eq!(ask(&broker, "GET", "/api/v5/topics?limit=10000&page=100", &basic("chief", "chiefing"), "").status, 400);
    assert!(broker.stop().success());
}

#[test]
fn retained_and_delayed_messages_are_listed_shown_and_taken_away() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &format!("{CONFIG}\n[delayed]\nenable = true"));
    let (watcher, runner) = (basic("watcher", "watching"), basic("runner", "running!"));
    let delete = |path: &str, login: &str| ask(&broker, "DELETE", &format!("/api/v5{path}"), login, "").status;
    let mut client = broker.connect(&Options::new("p").version(Version::V5));
    for topic in ["a/1", "a/2", "b", "/c", "$own/d"] {
        client.publish(topic, topic.as_bytes(), QoS::AtLeastOnce, true).expect("answered");
    }
    let all = look(&broker, "/mqtt/retainer/messages");
    assert_eq!(texts(&all, "topic"), ["$own/d", "/c", "a/1", "a/2", "b"]);
    assert!(all["meta"]["count"] == 5 && all["data"][2]["from_clientid"] == "p" && all["data"][2].get("payload").is_none(), "{all}");
    let some = look(&broker, "/mqtt/retainer/messages?topic=a%2F%2B&limit=1");
    assert!(texts(&some, "topic") == ["a/1"] && some["meta"]["count"] == 2 && some["meta"]["hasnext"] == true, "{some}");
    assert_eq!(texts(&look(&broker, "/mqtt/retainer/messages?limit=2&page=3"), "topic"), ["b"]);
    for path in ["a%2F2", "a/2"] {
        assert_eq!(look(&broker, &format!("/mqtt/retainer/message/{path}"))["payload"], STANDARD.encode("a/2"));
    }
    assert_eq!(look(&broker, "/mqtt/retainer/message/%2Fc")["topic"], "/c");
    assert_eq!(delete("/mqtt/retainer/message/a%2F2", &watcher), 403);
    assert_eq!(delete("/mqtt/retainer/message/a%2F2", &runner), 204);
    assert_eq!(delete("/mqtt/retainer/message/a%2F2", &runner), 404);
    assert_eq!(delete("/mqtt/retainer/message/a%2F%2B", &runner), 404, "one by one, or all");
    assert_eq!(ask(&broker, "GET", "/api/v5/mqtt/retainer/messages?topic=a%23", &watcher, "").status, 400);
    assert_eq!(look(&broker, "/mqtt/retainer/messages")["meta"]["count"], 4);
    let deleted = ask(&broker, "DELETE", "/api/v5/mqtt/retainer/messages", &runner, "");
    assert!(deleted.status == 200 && deleted.json()["deleted"] == 4, "{}", deleted.body);
    assert_eq!(look(&broker, "/mqtt/retainer/messages")["data"], json!([]));
    // Delayed: two wait, one is taken back, and the other comes, also after a restart.
    for (secs, topic) in [(3600, "late"), (3, "soon"), (7200, "later")] {
        client.publish(&format!("$delayed/{secs}/{topic}"), topic.as_bytes(), QoS::AtLeastOnce, false).expect("answered");
    }
    let all = look(&broker, "/mqtt/delayed/messages");
    assert_eq!(texts(&all, "topic"), ["soon", "late", "later"]);
    let late = &all["data"][1];
    assert!(all["meta"]["count"] == 3 && late["delayed_interval"] == 3600 && late["qos"] == 1 && late["from_clientid"] == "p", "{all}");
    let path = |entry: &Value| format!("/mqtt/delayed/messages/{}", entry["msgid"].as_str().expect("a text"));
    assert_eq!(look(&broker, &path(late))["payload"], STANDARD.encode("late"));
    assert_eq!(delete(&path(late), &watcher), 403);
    assert_eq!(delete(&path(late), &runner), 204);
    assert_eq!(delete(&path(late), &runner), 404);
    assert_eq!(delete("/mqtt/delayed/messages/nonsense", &runner), 404);
    broker.kill();
    let broker = Broker::start(folder.path(), &format!("{CONFIG}\n[delayed]\nenable = true"));
    let mut client = broker.connect(&Options::new("s").version(Version::V5));
    client.subscribe(&[("#", QoS::AtLeastOnce)]).expect("subscribed");
    assert!(!texts(&look(&broker, "/mqtt/delayed/messages"), "topic").contains(&"late".to_owned()), "it was taken back for good");
    eventually("one has come, or had before", LIMIT, || {
        let waiting = texts(&look(&broker, "/mqtt/delayed/messages"), "topic");
        (waiting == ["later"]).then_some(())
    });
    assert!(broker.stop().success());
}

#[test]
fn bans_end_connections_hold_over_a_restart_and_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!("{CONFIG}\n[[banned]]\nclientid = \"never\"\nreason = \"stolen\"");
    let broker = Broker::start(folder.path(), &config);
    let (watcher, runner) = (basic("watcher", "watching"), basic("runner", "running!"));
    let ban = |broker: &Broker, body: Value| ask(broker, "POST", "/api/v5/banned", &runner, &body.to_string());
    let options = |id: &str, user: &str| {
        let mut options = Options::new(id).version(Version::V5).persistent(3600);
        options.connect.username = Some(user.to_owned());
        options
    };
    let comes = |broker: &Broker, id: &str, user: &str| Client::connect(broker.address(), &options(id, user)).is_ok();
    let mut one = broker.connect(&options("one", "u"));
    one.subscribe(&[("t", QoS::AtLeastOnce)]).expect("subscribed");
    let mut two = broker.connect(&options("two", "v"));
    let mut three = broker.connect(&options("three", "w"));
    assert_eq!(ask(&broker, "POST", "/api/v5/banned", &watcher, r#"{"as": "clientid", "who": "one"}"#).status, 403);
    for wrong in [
        json!({"as": "clientid", "who": ""}),
        json!({"as": "clientid_re", "who": "x"}),
        json!({"as": "peerhost", "who": "x"}),
        json!({"as": "username", "who": "x", "until": "tomorrow"}),
        json!({"as": "username", "who": "x", "until": "2001-01-01T00:00:00Z"}),
    ] {
        assert_eq!(ban(&broker, wrong.clone()).status, 400, "{wrong}");
    }
    let made = ban(&broker, json!({"as": "clientid", "who": "one", "reason": "noisy"}));
    assert!(made.status == 200 && made.json()["by"] == "runner" && made.json()["until"] == "infinity", "{}", made.body);
    assert_eq!(ban(&broker, json!({"as": "clientid", "who": "one"})).status, 409);
    assert_eq!(ban(&broker, json!({"as": "clientid", "who": "never"})).status, 409, "by the configuration");
    assert_eq!(ban(&broker, json!({"as": "username", "who": "v", "until": "2999-01-01T00:00:00+02:00"})).status, 200);
    for client in [&mut one, &mut two] {
        let ended = eventually("the connection ends", LIMIT, || client.receive(LIMIT).err());
        assert!(matches!(ended, Error::Closed(ReasonCode::Banned)), "{ended:?}");
    }
    three.publish("x", b"", QoS::AtLeastOnce, false).expect("it is still there");
    assert!(!comes(&broker, "one", "x") && !comes(&broker, "x", "v") && !comes(&broker, "never", "x") && comes(&broker, "four", "x"));
    assert_eq!(look(&broker, "/clients/one")["connected"], false, "its session stays");
    // A ban that ends by itself.
    let soon = jiff::Timestamp::now() + Duration::from_secs(3);
    assert_eq!(ban(&broker, json!({"as": "clientid", "who": "four", "until": soon.to_string()})).status, 200);
    assert!(!comes(&broker, "four", "x"));
    let all = look(&broker, "/banned");
    assert_eq!(texts(&all, "who"), ["four", "never", "one", "v"]);
    assert!(all["data"][1]["origin"] == "configuration" && all["data"][3]["until"] == "2998-12-31T22:00:00.000Z", "{all}");
    broker.kill();
    let broker = Broker::start(folder.path(), &config);
    assert!(!comes(&broker, "one", "x") && !comes(&broker, "x", "v"), "they hold over a restart");
    eventually("a ban ends", LIMIT, || comes(&broker, "four", "x").then_some(()));
    assert_eq!(texts(&look(&broker, "/banned"), "who"), ["never", "one", "v"]);
    let delete = |path: &str| ask(&broker, "DELETE", &format!("/api/v5/banned{path}"), &runner, "");
    assert_eq!(delete("/clientid/one").status, 204);
    assert_eq!(delete("/clientid/one").status, 404);
    assert_eq!(delete("/clientid/never").status, 409);
    assert!(comes(&broker, "one", "x"));
    assert_eq!(ban(&broker, json!({"as": "peerhost_net", "who": "127.0.0.0/8"})).status, 200);
    assert!(!comes(&broker, "five", "x"));
    assert_eq!(delete("").json()["deleted"], 2);
    assert!(comes(&broker, "five", "x") && comes(&broker, "x", "v") && !comes(&broker, "never", "x"));
    assert!(broker.stop().success());
}

#[test]
fn what_the_broker_does_and_what_waits_in_it_is_shown() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!("{CONFIG}\n[mqtt]\ninflight_max = 2\n[slow_subscribers]\nenable = true\nthreshold_ms = 1");
    let broker = Broker::start(folder.path(), &config);
    let listeners = look(&broker, "/listeners");
    assert!(listeners[0]["id"] == "tcp:default" && listeners[0]["running"] == true && listeners[0]["zone"] == "default", "{listeners}");
    assert_eq!(listeners[0]["bind"], broker.address().to_string());
    let v5 = |id: &str| Options::new(id).version(Version::V5);
    let mut publisher = broker.connect(&v5("p"));
    let mut stalled: Vec<Client> = [v5("memory"), v5("stored").persistent(3600)].iter().map(|options| broker.connect(options)).collect();
    stalled.iter_mut().for_each(|client| drop(client.subscribe(&[("q/#", QoS::AtLeastOnce)]).expect("subscribed")));
    publish_all(&mut publisher, "q/x", (0..5).map(|n| n.to_string()));
    assert_eq!(look(&broker, "/listeners")[0]["current_connections"], 3);
    for client in ["memory", "stored"] {
        let inflight = look(&broker, &format!("/clients/{client}/inflight_messages"));
        let payloads = texts(&inflight, "payload");
        assert!(payloads == ["0", "1"].map(|text| STANDARD.encode(text)) && inflight["meta"]["count"] == 2, "{client}: {inflight}");
        let waiting = look(&broker, &format!("/clients/{client}/mqueue_messages?limit=2"));
        assert_eq!(texts(&waiting, "payload"), ["2", "3"].map(|text| STANDARD.encode(text)), "{client}");
        let one = &waiting["data"][0];
        assert!(waiting["meta"]["hasnext"] == true && one["topic"] == "q/x" && one["qos"] == 1 && one["from_clientid"] == "p", "{waiting}");
        let rest = look(&broker, &format!("/clients/{client}/mqueue_messages?limit=2&page=2"));
        assert!(texts(&rest, "payload") == [STANDARD.encode("4")] && rest["meta"]["hasnext"] == false, "{client}: {rest}");
    }
    assert_eq!(ask(&broker, "GET", "/api/v5/clients/nobody/mqueue_messages", &basic("chief", "chiefing"), "").status, 404);
    let current = look(&broker, "/monitor_current");
    assert!(
        current["connections"] == 3 && current["subscriptions"] == 2 && current["topics"] == 1 && current["received"] == 5,
        "{current}"
    );
    assert!(current["memory_bytes"].as_u64() > Some(1 << 20) && current["cpu_seconds"].is_number(), "{current}");
    let point = eventually("a point is taken", LIMIT, || look(&broker, "/monitor?latest=60").get(0).cloned());
    assert!(point["connections"] == 3 && point["time_stamp"].as_u64() > Some(1_600_000_000_000), "{point}");
    assert!(point["received_msg_rate"].as_f64().is_some_and(|rate| rate > 0.0), "five have come: {point}");
    // The slow ones take what waits.
    for client in &mut stalled {
        for n in 0..5 {
            assert_eq!(client.receive(LIMIT).expect("connected").expect("it comes").payload, n.to_string().as_bytes());
        }
    }
    let slow =
        eventually("slow ones are noted", LIMIT, || Some(look(&broker, "/slow_subscriptions")).filter(|slow| slow["meta"]["count"] == 2));
    assert!(slow["data"][0]["topic"] == "q/x" && slow["data"][0]["timespan"].as_u64() > Some(0), "{slow}");
    assert_eq!(ask(&broker, "DELETE", "/api/v5/slow_subscriptions", &basic("runner", "running!"), "").status, 204);
    assert_eq!(look(&broker, "/slow_subscriptions")["data"], json!([]));
    let connectors = look(&broker, "/connectors");
    assert!(
        connectors[0]["name"] == "files" && connectors[0]["type"] == "file" && connectors[0]["actions"] == json!(["lines"]),
        "{connectors}"
    );
    assert_eq!(look(&broker, "/connectors/files")["sources"], json!([]));
    assert_eq!(ask(&broker, "GET", "/api/v5/connectors/fils", &basic("chief", "chiefing"), "").status, 404);
    drop(stalled);
    assert!(broker.stop().success());
}

#[test]
fn what_was_done_is_put_down_with_what_it_has_changed_and_without_secrets() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let (watcher, runner, chief) = (basic("watcher", "watching"), basic("runner", "running!"), basic("chief", "chiefing"));
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let users = "/authentication/password_based:built_in_database/users";
    for (login, method, path, body, expect) in [
        (&chief, "POST", "/users", r#"{"username": "eve", "password": "first secret", "role": "viewer"}"#, 200),
        (&chief, "POST", "/users", r#"{"username": "eve", "password": "second secret", "role": "operator"}"#, 200),
        (&chief, "POST", users, r#"{"user_id": "u", "password": "third secret", "is_superuser": true}"#, 200),
        (&watcher, "POST", "/banned", r#"{"as": "clientid", "who": "x"}"#, 403),
        (&runner, "POST", "/banned", r#"{"as": "clientid", "who": "x"}"#, 200),
        (&runner, "DELETE", "/banned/clientid/x", "", 204),
        (
            &chief,
            "PUT",
            "/authorization/sources/built_in_database/rules/all",
            r#"[{"permission": "deny", "action": "all", "topic": "a"}]"#,
            200,
        ),
        (
            &chief,
            "POST",
            "/connectors",
            r#"{"name": "h", "type": "http", "url": "http://u:fourth@127.0.0.1:1", "headers": {"x-key": "fifth secret"}}"#,
            201,
        ),
        (&runner, "POST", "/publish", r#"{"topic": "t", "payload": "sixth secret"}"#, 200),
        (&chief, "GET", "/clients", "", 200),
        (&chief, "DELETE", "/users/eve", "", 200),
    ] {
        let answer = ask(&broker, method, &format!("/api/v5{path}"), login, body);
        assert_eq!(answer.status, expect, "{method} {path}: {}", answer.body);
    }
    assert_eq!(run(&["ctl", "pause", "lines", "--data", data]).0, Some(0));
    assert_eq!(run_with_input(&["ctl", "admins", "set", "zoe", "--data", data], "seventh secret\n").0, Some(0));
    assert_eq!(ask(&broker, "POST", "/api/v5/login", "", r#"{"username": "zoe", "password": "seventh secret"}"#).status, 200);
    for login in [&watcher, &runner] {
        assert_eq!(ask(&broker, "GET", "/api/v5/audit", login, "").status, 403);
    }
    let all = look(&broker, "/audit");
    let done: Vec<String> = all["data"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|entry| format!("{} {} {} {}", entry["operator"], entry["method"], entry["path"], entry["status"]).replace('"', ""))
        .collect();
    let expect = [
        "zoe POST /login 200",
        "socket POST /users 200",
        "socket POST /actions/lines/pause 200",
        "chief DELETE /users/eve 200",
        "chief POST /connectors 201",
        "chief PUT /authorization/sources/built_in_database/rules/all 200",
        "runner DELETE /banned/clientid/x 204",
        "runner POST /banned 200",
        "watcher POST /banned 403",
        "chief POST /authentication/password_based:built_in_database/users 200",
        "chief POST /users 200",
        "chief POST /users 200",
    ];
    assert_eq!(done, expect);
    let entry = |at: usize| &all["data"][at];
    assert!(entry(0)["source"] == "api" && entry(0)["source_ip"] == "127.0.0.1" && entry(2)["source"] == "socket", "{all}");
    assert_eq!((&entry(10)["before"]["role"], &entry(10)["after"]["role"]), (&json!("viewer"), &json!("operator")));
    assert!(entry(3)["before"]["username"] == "eve" && entry(3)["after"].is_null() && entry(5)["after"][0]["topic"] == "a", "{all}");
    assert!(entry(6)["before"]["who"] == "x" && entry(7)["after"]["by"] == "runner" && entry(9)["after"]["is_superuser"] == true, "{all}");
    let diff = entry(4)["after"]["diff"].as_str().expect("a text");
    assert!(diff.contains("+[connectors.h]\n+type = \"http\"\n+url = \"***") && entry(4)["after"]["version"] == 2, "{diff}");
    let text = all.to_string();
    for secret in ["secret\"", "first", "second", "third", "fourth", "fifth", "sixth", "seventh", "chiefing", "argon2"] {
        assert!(!text.contains(secret), "\"{secret}\" is in {text}");
    }
    for (query, count) in
        [("operator=runner", 2), ("path=banned", 3), ("from=1h&to=2999-01-01T00:00:00Z", 12), ("to=1h", 0), ("limit=5&page=3", 12)]
    {
        assert_eq!(look(&broker, &format!("/audit?{query}"))["meta"]["count"], count, "{query}");
    }
    assert_eq!(ask(&broker, "GET", "/api/v5/audit?from=soon", &chief, "").status, 400);
    // It is there after a crash.
    broker.kill();
    let broker = Broker::start(folder.path(), CONFIG);
    let (code, out, error) = run(&["ctl", "audit", "--operator", "chief", "--path", "/users", "-n", "1", "--data", data]);
    assert!(
        code == Some(0) && out.contains("chief") && out.contains("DELETE /users/eve") && error.contains("there are more"),
        "{out}{error}"
    );
    assert!(broker.stop().success());
}
