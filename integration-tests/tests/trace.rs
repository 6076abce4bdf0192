//! What happens to one client is written down: from its CONNECT to its end, for a while, and without the others.

use std::time::Duration;

use hookline_integration_tests::api::{Answer, ask, basic};
use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::{eventually, publish_all};
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(20);

const CONFIG: &str = r#"
    [api]
    bind = "127.0.0.1:0"
    keys = [
        { key = "viewer", secret = "long enough", role = "viewer" },
        { key = "operator", secret = "long enough", role = "operator" },
    ]
"#;

fn send(broker: &Broker, method: &str, path: &str, body: Value) -> Answer {
    let body = if body.is_null() { String::new() } else { body.to_string() };
    ask(broker, method, &format!("/api/v5{path}"), &basic("operator", "long enough"), &body)
}

/// The lines of a trace.
fn lines(broker: &Broker, name: &str) -> Vec<Value> {
    let log = send(broker, "GET", &format!("/trace/{name}/download"), Value::Null);
    assert!(log.status == 200 && log.head.contains(&format!("filename=\"{name}.log\"")), "{}", log.head);
    log.body.lines().map(|line| serde_json::from_str(line).expect("JSON in each line")).collect()
}

#[test]
fn everything_that_happens_to_a_client_is_written_down() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let mut other = broker.connect(&Options::new("other").version(Version::V5));
    other.subscribe(&[("mine/#", QoS::AtLeastOnce)]).expect("subscribed");
    let made = send(&broker, "POST", "/trace", json!({"name": "one", "type": "clientid", "clientid": "watched"}));
    let made = made.json();
    assert!(made["status"] == "running" && made["clientid"] == "watched" && made["type"] == "clientid", "{made}");
    let topic = json!({"name": "topic", "type": "topic", "topic": "mine/+", "payload_encode": "hidden"});
    assert_eq!(send(&broker, "POST", "/trace", topic).status, 200);
    let address = json!({"name": "elsewhere", "type": "ip_address", "ip_address": "192.0.2.1", "payload_encode": "hex"});
    assert_eq!(send(&broker, "POST", "/trace", address).status, 200);

    let mut watched = broker.connect(&Options::new("watched").version(Version::V5));
    watched.subscribe(&[("to/watched", QoS::AtLeastOnce)]).expect("subscribed");
    publish_all(&mut watched, "mine/a", ["said".to_owned()]);
    publish_all(&mut watched, "nobody/hears", ["lost".to_owned()]);
    publish_all(&mut other, "to/watched", ["heard".to_owned()]);
    publish_all(&mut other, "not/seen", ["secret".to_owned()]);
    let message = watched.receive(LIMIT).expect("connected").expect("it is there");
    assert_eq!(message.payload, b"heard");
    watched.disconnect().expect("leaves");
    let events =
        |name: &str| lines(&broker, name).iter().map(|line| line["event"].as_str().expect("an event").to_owned()).collect::<Vec<_>>();
    let expected = [
        "client.connect",
        "client.connack",
        "client.connected",
        "session.created",
        "session.subscribed",
        "message.publish",
        "message.dropped",
        "message.delivered",
        "message.acked",
        "client.disconnected",
    ];
    eventually("all is written", LIMIT, || {
        let events = events("one");
        expected.iter().all(|event| events.iter().any(|other| other == event)).then_some(())
    });
    let seen = lines(&broker, "one");
    let dropped = seen.iter().find(|line| line["event"] == "message.dropped").expect("one was");
    assert!(dropped["reason"] == "no_subscribers" && dropped["topic"] == "nobody/hears" && dropped["time"].is_string(), "{dropped}");
    assert!(seen.iter().any(|line| line["payload"] == "said") && !seen.iter().any(|line| line["topic"] == "not/seen"), "{seen:?}");
    let of_topic = lines(&broker, "topic");
    assert!(
        of_topic.iter().any(|line| line["topic"] == "mine/a") && of_topic.iter().all(|line| line.get("payload").is_none()),
        "{of_topic:?}"
    );
    assert!(events("elsewhere").is_empty());
    // In parts, as a page shows it.
    let part = send(&broker, "GET", "/trace/one/log?position=0&bytes=50", Value::Null).json();
    assert!(part["meta"] == json!({"position": 50, "bytes": 50}) && part["items"].as_str().is_some_and(|text| text.len() == 50), "{part}");
    let all = send(&broker, "GET", "/trace", Value::Null).json();
    assert!(all[1]["name"] == "one" && all[1]["log_size"].as_object().is_some_and(|sizes| sizes.values().all(|size| *size != 0)), "{all}");
    // Who may only look gets no payloads of others, and ends nothing.
    let looks = |method: &str, path: &str| ask(&broker, method, &format!("/api/v5{path}"), &basic("viewer", "long enough"), "").status;
    assert_eq!((looks("GET", "/trace"), looks("GET", "/trace/one/log"), looks("PUT", "/trace/one/stop")), (200, 403, 403));
    // Ended, it hears no more.
    assert_eq!(send(&broker, "PUT", "/trace/one/stop", Value::Null).json(), json!({"name": "one", "enable": false}));
    let before = lines(&broker, "one").len();
    publish_all(&mut broker.connect(&Options::new("watched").version(Version::V5)), "mine/b", ["late".to_owned()]);
    eventually("the other trace has it", LIMIT, || lines(&broker, "topic").iter().any(|line| line["topic"] == "mine/b").then_some(()));
    assert_eq!(lines(&broker, "one").len(), before);
    let files = folder.path().join("data/traces");
    assert!(files.join("one.log").exists());
    assert_eq!(send(&broker, "DELETE", "/trace/one", Value::Null).status, 204);
    assert!(!files.join("one.log").exists());
    assert_eq!(send(&broker, "GET", "/trace/one/log", Value::Null).status, 404);
    assert_eq!(send(&broker, "DELETE", "/trace", Value::Null).status, 204);
    assert_eq!(send(&broker, "GET", "/trace", Value::Null).json(), json!([]));
    assert!(broker.stop().success());
}

#[test]
fn a_trace_has_its_time_and_its_bounds() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), CONFIG);
    let now = jiff::Timestamp::now();
    let at = |secs: i64| now.checked_add(jiff::SignedDuration::from_secs(secs)).expect("a time").to_string();
    for wrong in [
        json!({"name": "../x", "type": "topic", "topic": "a"}),
        json!({"name": "x", "type": "topic"}),
        json!({"name": "x", "type": "topic", "topic": "a/#/b"}),
        json!({"name": "x", "type": "ip_address", "ip_address": "here"}),
        json!({"name": "x", "type": "topic", "topic": "a", "end_at": at(-5)}),
        json!({"name": "x", "type": "topic", "topic": "a", "end_at": at(30 * 86_400)}),
        json!({"name": "x", "type": "topic", "topic": "a", "start_at": "soon"}),
    ] {
        assert_eq!(send(&broker, "POST", "/trace", wrong.clone()).status, 400, "{wrong}");
    }
    let later = json!({"name": "later", "type": "topic", "topic": "#", "start_at": at(2), "end_at": at(4)});
    assert_eq!(send(&broker, "POST", "/trace", later.clone()).json()["status"], "waiting");
    assert_eq!(send(&broker, "POST", "/trace", later).status, 409);
    let mut client = broker.connect(&Options::new("c").version(Version::V5));
    publish_all(&mut client, "t", ["early".to_owned()]);
    let status = || send(&broker, "GET", "/trace", Value::Null).json()[0]["status"].clone();
    eventually("it runs", LIMIT, || (status() == "running").then_some(()));
    eventually("it writes", LIMIT, || {
        publish_all(&mut client, "t", ["in time".to_owned()]);
        (!lines(&broker, "later").is_empty()).then_some(())
    });
    eventually("its time is over", LIMIT, || (status() == "stopped").then_some(()));
    let seen = lines(&broker, "later");
    assert!(seen.iter().all(|line| line["payload"] != "early"), "{seen:?}");
    for number in 1..30 {
        let more = json!({"name": format!("n{number}"), "type": "topic", "topic": "none"});
        assert_eq!(send(&broker, "POST", "/trace", more).status, 200);
    }
    assert_eq!(send(&broker, "POST", "/trace", json!({"name": "more", "type": "topic", "topic": "none"})).status, 409);
    assert!(broker.stop().success());
    // The next start knows none of them.
    let broker = Broker::start(folder.path(), CONFIG);
    assert_eq!(send(&broker, "GET", "/trace", Value::Null).json(), json!([]));
    assert!(broker.stop().success());
}
