//! Files of JSON lines: every record once and in order, through kills and changes of files.

use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account};
use hookline_integration_tests::{eventually, publish_all};
use hookline_mqtt::client::Options;

const LIMIT: Duration = Duration::from_secs(30);

/// The numbers in all files, oldest file first.
fn numbers(folder: &Path) -> Vec<u64> {
    let Ok(entries) = std::fs::read_dir(folder) else { return Vec::new() };
    let mut files: Vec<_> = entries.map(|entry| entry.expect("an entry").path()).collect();
    // Finished ones have their time in the name, and the one that is written to has none.
    files.sort_by_key(|file| (file.ends_with("events.ndjson"), file.clone()));
    let lines = files.iter().flat_map(|file| std::fs::read_to_string(file).expect("reads").lines().map(str::to_owned).collect::<Vec<_>>());
    let read = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(&line).ok());
    read.map(|line| {
        assert!(line["hookline_id"].is_string() && line["device"] == "c", "{line}");
        line["n"].as_u64().expect("a number")
    })
    .collect()
}

#[test]
fn lines_come_once_and_in_order_through_kills_and_changes_of_files() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = r#"
        [connectors.files]
        type = "file"
        folder = "out"
        [actions.lines]
        connector = "files"
        delivery = { batch_records_max = 20 }
        parameters = { name = "events.ndjson", line = '{"device": "${clientid}", "n": ${n}}', rotate_bytes = 5000 }
        [rules.all]
        sql = 'SELECT clientid, payload.n AS n FROM "t"'
        actions = ["lines"]
    "#;
    let out = folder.path().join("data/out");
    for round in 0..5u64 {
        let broker = Broker::start(folder.path(), config);
        let mut client = broker.connect(&Options::new("c"));
        publish_all(&mut client, "t", (round * 200..round * 200 + 200).map(|n| format!("{{\"n\": {n}}}")));
        broker.kill();
    }
    let broker = Broker::start(folder.path(), config);
    eventually("all are there", LIMIT, || (numbers(&out).len() >= 1000).then_some(()));
    assert_eq!(numbers(&out), (0..1000).collect::<Vec<u64>>());
    assert!(std::fs::read_dir(&out).expect("a folder").count() > 5, "files are changed by size");
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "lines"), [1000, 0, 0]);
}
