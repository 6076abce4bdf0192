//! The sink against a real file.

use hookline_schemas::{Record, Value};
use serde_json::json;

use crate::connector::{Failure, Sink};

fn sink(folder: &std::path::Path, parameters: serde_json::Value) -> Box<dyn Sink> {
    let connector = json!({"path": "t.db"});
    let object = |value: serde_json::Value| value.as_object().cloned().expect("an object");
    (super::KIND.sink.expect("it has one"))(&object(connector), &object(parameters), folder).expect("valid settings")
}

fn record(sequence: u64, row: serde_json::Value) -> Record {
    Record { sequence, hookline_id: format!("n:1:{sequence:x}"), bytes: 1, row: Value::from_json(row), trace: None }
}

#[tokio::test]
async fn the_audit_table_gets_each_record_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut sink = sink(folder.path(), json!({}));
    sink.connect().await.expect("opens");
    let records = [
        record(1, json!({"event": "client.connected", "timestamp": 1_700_000_000_123i64, "clientid": "c", "proto_ver": 5})),
        record(
            2,
            json!({"event": "message.publish", "timestamp": 1_700_000_000_124i64, "clientid": "c", "topic": "t", "qos": 1, "payload": "x"}),
        ),
    ];
    sink.deliver(&records).await.expect("delivers");
    sink.deliver(&records).await.expect("delivers again");
    let file = rusqlite::Connection::open(folder.path().join("t.db")).expect("opens");
    let rows: Vec<(String, String, Option<String>, String)> = file
        .prepare("SELECT event, at, topic, details ->> 'clientid' FROM events ORDER BY hookline_id")
        .and_then(|mut query| query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?)))?.collect())
        .expect("reads");
    assert_eq!(
        rows,
        [
            ("client.connected".into(), "2023-11-14T22:13:20.123Z".into(), None, "c".into()),
            ("message.publish".into(), "2023-11-14T22:13:20.124Z".into(), Some("t".into()), "c".into()),
        ]
    );
}

#[tokio::test]
async fn a_value_that_the_table_refuses_is_rejected_and_nothing_of_the_batch_stays() {
    let folder = tempfile::tempdir().expect("a folder");
    let parameters = json!({"setup": "CREATE TABLE IF NOT EXISTS n (v INTEGER CHECK (v < 10))", "sql": "INSERT INTO n VALUES (${v})"});
    let mut sink = sink(folder.path(), parameters);
    sink.connect().await.expect("opens");
    let failure = sink.deliver(&[record(1, json!({"v": 1})), record(2, json!({"v": 99}))]).await.expect_err("99 is too large");
    assert!(matches!(failure, Failure::Reject(_)), "{failure}");
    let file = rusqlite::Connection::open(folder.path().join("t.db")).expect("opens");
    assert_eq!(file.query_row("SELECT count(*) FROM n", [], |row| row.get::<_, i64>(0)), Ok(0));
}
