//! The README's five minutes: the built-in configuration, the built-in clients, and the row in the database.

use std::process::{Command, Stdio};
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, binary, run};
use hookline_integration_tests::eventually;

#[test]
fn from_publish_to_database_row() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start_with(folder.path(), &["--set", "api.bind=127.0.0.1:0"]);
    let port = broker.address().port().to_string();
    let sub = Command::new(binary())
        .args(["sub", "-p", &port, "-v", "-t", "demo/#", "-c", "2", "-W", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("the subscriber runs");
    let database = folder.path().join("data/audit.db");
    let count = |condition: &str| -> Option<i64> {
        let file = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        file.query_row(&format!("SELECT count(*) FROM events WHERE {condition}"), [], |row| row.get(0)).ok()
    };
    let there = |condition: &str| eventually(condition, Duration::from_secs(10), || count(condition).filter(|count| *count > 0));
    there("event = 'session.subscribed' AND topic = 'demo/#'");
    let (code, _, error) = run(&["pub", "-p", &port, "-t", "demo/hello", "-m", r#"{"temperature": 21.5}"#]);
    assert_eq!(code, Some(0), "{error}");
    let mosquitto = Command::new("mosquitto_pub").args(["-p", &port, "-t", "demo/m", "-q", "1", "-m", "from mosquitto"]).status();
    assert!(mosquitto.expect("mosquitto_pub runs").success());
    let output = sub.wait_with_output().expect("the subscriber ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "demo/hello {\"temperature\": 21.5}\ndemo/m from mosquitto\n");
    there(r#"event = 'message.publish' AND topic = 'demo/hello' AND payload = '{"temperature": 21.5}' AND qos = 1"#);
    there("event = 'message.delivered' AND topic = 'demo/m' AND payload = 'from mosquitto'");
    there("event = 'client.disconnected' AND reason = 'normal'");
    assert!(broker.stop().success(), "SIGTERM ends it with 0");
    let (code, _, error) = run(&["pub", "-p", "1", "-t", "x", "-m", "y"]);
    assert!(code == Some(1) && error.contains("is the broker running?"), "{error}");
}
