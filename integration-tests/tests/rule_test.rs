//! Somebody writes a rule: tries it on events of their own, then on what the broker has recorded, before it runs.

use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::eventually;
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;
use serde_json::{Value, json};

fn rows(out: &str) -> Vec<Value> {
    out.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"))).collect()
}

/// Tries a statement on an event in a file.
fn test(sql: &str, event: &str) -> (Option<i32>, Vec<Value>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("event.json");
    std::fs::write(&file, event).expect("written");
    let (code, out, error) = run(&["rule", "test", "--sql", sql, "--event", file.to_str().expect("UTF-8")]);
    (code, rows(&out), error)
}

#[test]
fn a_statement_is_tried_on_an_event_and_samples_fill_what_is_missing() {
    let sql = "SELECT clientid, payload.temperature * 2 AS twice, qos FROM \"devices/+/data\" WHERE payload.temperature > 20";
    let event = r#"{"topic": "devices/7/data", "payload": {"temperature": 21.5}, "qos": 2}"#;
    let expect = json!({"clientid": "sensor-1", "twice": 43.0, "qos": 2});
    assert_eq!(test(sql, event), (Some(0), vec![expect.clone()], String::new()));
    let (code, out) = run_with_input(&["rule", "test", "--sql", sql, "--event", "-"], event);
    assert_eq!((code, rows(&out)), (Some(0), vec![expect]));
    // Without an event it is a sample of one that FROM selects.
    let (code, out, error) = run(&["rule", "test", "--sql", "SELECT event, reason FROM \"$events/client_disconnected\""]);
    assert_eq!((code, rows(&out)), (Some(0), vec![json!({"event": "client.disconnected", "reason": "normal"})]), "{error}");
}

#[test]
fn why_there_is_no_row_is_said() {
    for (sql, expect) in [
        ("SELECT * FROM \"b\"", "FROM does not select it: it is the event \"message.publish\" with topic \"a\""),
        ("SELECT * FROM \"a\" WHERE payload.x > 1", "WHERE does not hold"),
        ("FOREACH payload.list FROM \"a\"", "there are no rows: FOREACH"),
    ] {
        let (code, rows, error) = test(sql, r#"{"topic": "a", "payload": {"x": 1}}"#);
        assert!(code == Some(1) && rows.is_empty() && error.contains(expect), "{sql}: {code:?} {error}");
    }
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("rule.sql");
    std::fs::write(&file, "SELECT\n  clientid,\n  uper(topic) AS t\nFROM \"a/#\"\n").expect("written");
    let (code, _, error) = run(&["rule", "test", "--file", file.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(2));
    assert!(error.contains("did you mean \"upper\"?\n    uper(topic) AS t\n    ^ line 3, column 3"), "{error}");
    for (sql, event, expect) in [
        ("SELECT payload.x FROM \"a\"", r#"{"topic": "a", "payload": "nonsense"}"#, "cannot be computed for it: payload is not JSON"),
        ("SELECT * FROM \"a\"", r#"{"event": "client.conected"}"#, "did you mean \"client.connected\"?"),
        ("SELECT * FROM \"a\"", "[1]", "event 1 is no JSON object"),
        ("SELECT * FROM \"a\"", "{", "line 1"),
    ] {
        let (code, rows, error) = test(sql, event);
        assert!(code == Some(2) && rows.is_empty() && error.contains(expect), "{sql}: {code:?} {error}");
    }
    assert_eq!(run(&["rule", "test"]).0, Some(2));
}

#[test]
fn several_events_are_taken_one_after_the_other_also_by_windows() {
    let events = r#"{"payload": {"v": 1}, "timestamp": 1000}
        [{"payload": {"v": 4}, "timestamp": 2000}, {"payload": {"v": 10}, "timestamp": 12000}]"#;
    let (code, found, error) = test("SELECT payload.v AS v FROM \"t/#\"", events);
    assert_eq!((code, found), (Some(0), vec![json!({"v": 1}), json!({"v": 4}), json!({"v": 10})]), "{error}");
    let window = "SELECT sum(payload.v) AS s, window_start AS w FROM \"t/#\" GROUP BY TUMBLING(10s)";
    let (code, found, error) = test(window, events);
    assert_eq!((code, found), (Some(0), vec![json!({"s": 5, "w": 0}), json!({"s": 10, "w": 10_000})]), "{error}");
    // One that fails is named, and the others have their rows.
    let (code, found, error) = test("SELECT payload.v AS v FROM \"t/#\"", r#"[{"payload": {"v": 1}}, {"payload": "x"}]"#);
    assert!(code == Some(2) && found == [json!({"v": 1})] && error.contains("event 2: "), "{error}");
}

#[test]
fn every_event_is_listed_with_its_columns_and_a_sample_that_its_names_select() {
    let (code, out, _) = run(&["rule", "events"]);
    assert_eq!(code, Some(0));
    let events: Value = serde_json::from_str(&out).expect("JSON");
    let events = events.as_array().expect("a list");
    assert!(events.iter().any(|event| event["event"] == "message.publish") && events.len() > 20);
    for event in events {
        for column in event["columns"].as_array().expect("a list") {
            let column = column.as_str().expect("a name");
            assert!(!event["sample"][column].is_null(), "{} has no {column}", event["event"]);
        }
        for from in event["from"].as_array().expect("a list") {
            let sql = format!("SELECT event FROM {from}");
            let (code, found, error) = test(&sql, &event["sample"].to_string());
            assert_eq!((code, found), (Some(0), vec![json!({"event": event["event"]})]), "{sql}: {error}");
        }
    }
}

struct Recording {
    folder: tempfile::TempDir,
}

impl Recording {
    /// A broker that records, what `publish` has it record, and its end.
    fn make(config: &str, publish: impl FnOnce(&Broker)) -> Recording {
        let folder = tempfile::tempdir().expect("a folder");
        let broker = Broker::start(folder.path(), config);
        publish(&broker);
        assert!(broker.stop().success());
        Recording { folder }
    }

    fn test(&self, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
        recorded(self.folder.path(), arguments)
    }
}

fn recorded(folder: &Path, arguments: &[&str]) -> (Option<i32>, Vec<Value>, String) {
    let (config, data) = (folder.join("hookline.toml"), folder.join("data"));
    let paths = ["--config", config.to_str().expect("UTF-8"), "--data", data.to_str().expect("UTF-8")];
    let (code, out, error) = run(&[&["rule", "test", "--recorded"], &paths[..], arguments].concat());
    (code, rows(&out), error)
}

#[test]
fn a_statement_is_run_over_what_the_broker_has_recorded() {
    let config = "[recorder]\ntopics = [\"a/#\"]\nevents = [\"$events/client/connected\"]\n";
    let recording = Recording::make(config, |broker| {
        let mut client = broker.connect(&Options::new("c"));
        for number in 0..20 {
            client.publish("a/b", format!(r#"{{"t": {number}}}"#).as_bytes(), QoS::AtLeastOnce, false).expect("published");
        }
        client.publish("a/b", b"nonsense", QoS::AtLeastOnce, false).expect("published");
        client.publish("b", b"{\"t\": 99}", QoS::AtLeastOnce, false).expect("published");
        client.disconnect().expect("leaves");
    });
    let sql = "SELECT payload.t AS t, clientid FROM \"#\" WHERE payload.t >= 15";
    let (code, found, error) = recording.test(&["--sql", sql]);
    let expect: Vec<Value> = (15..20).map(|t| json!({"t": t, "clientid": "c"})).collect();
    assert_eq!((code, found.iter().map(|found| found["row"].clone()).collect::<Vec<_>>()), (Some(0), expect), "{error}");
    assert!(found.iter().all(|found| found["at"].as_str().is_some_and(|at| at.ends_with('Z'))), "{found:?}");
    for expect in [
        "22 recorded events, from ",
        "21 are selected by FROM, 5 matched, 5 rows",
        "1 could not be computed",
        "payload is not JSON",
        "nonsense",
    ] {
        assert!(error.contains(expect), "{expect} is not in {error}");
    }
    let (code, found, error) = recording.test(&["--sql", sql, "--from", "1h", "--limit", "2"]);
    assert!(code == Some(0) && found.len() == 2 && error.contains("stopped at the limit"), "{error}");
    let (code, found, error) = recording.test(&["--sql", sql, "--to", "1h"]);
    assert!(code == Some(1) && found.is_empty() && error.contains("nothing is recorded in this time"), "{error}");
    let (code, found, _) = recording.test(&["--sql", "SELECT clientid FROM \"$events/client_connected\""]);
    assert_eq!((code, found.len(), &found[0]["row"]), (Some(0), 1, &json!({"clientid": "c"})));
    let window = "SELECT count() AS n FROM \"a/b\" GROUP BY TUMBLING(1h)";
    let (code, found, error) = recording.test(&["--sql", window]);
    let sum: u64 = found.iter().filter_map(|found| found["row"]["n"].as_u64()).sum();
    assert_eq!((code, sum), (Some(0), 21), "{error}");
    let (code, _, error) = recording.test(&["--sql", sql, "--from", "soon"]);
    assert!(code == Some(2) && error.contains("--from: \"soon\" is no time"), "{error}");
}

#[test]
fn the_recording_stays_within_its_bounds_and_keeps_the_newest() {
    let config = "[recorder]\ntopics = [\"#\"]\nrecords_max = 50\n";
    let recording = Recording::make(config, |broker| {
        let mut client = broker.connect(&Options::new("c"));
        for number in 0..300 {
            client.publish("t", number.to_string().as_bytes(), QoS::AtLeastOnce, false).expect("published");
        }
    });
    let (_, found, error) = recording.test(&["--sql", "SELECT payload FROM \"t\""]);
    let numbers: Vec<String> = found.iter().filter_map(|found| found["row"]["payload"].as_str().map(str::to_owned)).collect();
    assert!((40..=50).contains(&numbers.len()), "{} records\n{error}", numbers.len());
    assert_eq!(numbers, (300 - numbers.len()..300).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_running_broker_runs_a_statement_over_its_recording() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[recorder]\ntopics = [\"#\"]\n");
    let mut client = broker.connect(&Options::new("c"));
    for number in 0..5 {
        client.publish("t", format!(r#"{{"n": {number}}}"#).as_bytes(), QoS::AtLeastOnce, false).expect("published");
    }
    let sql = "SELECT payload.n AS n FROM \"t\" WHERE payload.n > 2";
    let found = eventually("it is recorded", Duration::from_secs(10), || {
        let (_, found, _) = recorded(folder.path(), &["--sql", sql]);
        (found.len() == 2).then_some(found)
    });
    assert_eq!(found.iter().map(|found| &found["row"]).collect::<Vec<_>>(), [&json!({"n": 3}), &json!({"n": 4})]);
    let (code, found, error) = recorded(folder.path(), &["--sql", sql, "--limit", "1"]);
    assert!(code == Some(0) && found.len() == 1 && error.contains("stopped at the limit"), "{error}");
    let (code, _, error) = recorded(folder.path(), &["--sql", "SELECT kv_store_put('a', 1) AS a FROM \"t\""]);
    assert!(code == Some(2) && error.contains("would change what the rules of this broker read"), "{error}");
    assert!(broker.stop().success());
}

#[test]
fn wrong_settings_of_the_recorder_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, "[recorder]\ntopics = [\"a#\"]\nevents = [\"$events/nothing\"]\nrecords_max = 0\n").expect("written");
    let (code, _, error) = run(&["check", "--config", file.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(2));
    for expect in
        ["recorder.topics: \"a#\" is no topic filter", "recorder.events: there is no event", "recorder.records_max: must be 1 or more"]
    {
        assert!(error.contains(expect), "{expect} is not in {error}");
    }
}
