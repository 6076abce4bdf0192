//! Files of JSON lines and of Parquet: every record once and in order, through kills and changes of files.

use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account, dead_letters, run};
use hookline_integration_tests::{eventually, parquet, publish_all};
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

/// How many records wait while the broker runs.
fn pending(folder: &Path) -> u64 {
    let data = folder.join("data");
    let (_, shown, error) = run(&["ctl", "actions", "table", "-o", "json", "--data", data.to_str().expect("UTF-8")]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{error}"));
    shown["ledger"]["pending"].as_u64().expect("a number")
}

#[test]
fn parquet_has_each_record_once_and_in_order_through_kills_and_other_columns() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |columns: &str| {
        format!(
            r#"
            [connectors.files]
            type = "file"
            folder = "out"
            [actions.table]
            connector = "files"
            delivery = {{ batch_records_max = 20 }}
            [actions.table.parameters]
            format = "parquet"
            name = "readings.parquet"
            rotate_bytes = 10000
            rotate_secs = 2
            columns = {columns}
            [rules.all]
            sql = 'SELECT clientid AS device, payload.n AS n, payload.celsius AS celsius, timestamp AS at FROM "t"'
            actions = ["table"]
            "#
        )
    };
    let columns = r#"[{ name = "device", type = "string" }, { name = "n", type = "int" }, { name = "celsius", type = "float" },
        { name = "at", type = "timestamp" }, { name = "gone", type = "boolean" }]"#;
    let out = folder.path().join("data/out");
    let payload = |n: u64| match n {
        777 => format!("{{\"n\": {n}, \"celsius\": \"hot\"}}"),
        _ => format!("{{\"n\": {n}, \"celsius\": {}.5}}", n % 50),
    };
    for round in 0..5u64 {
        let broker = Broker::start(folder.path(), &config(columns));
        let mut client = broker.connect(&Options::new("c"));
        publish_all(&mut client, "t", (round * 200..round * 200 + 200).map(payload));
        if round < 4 {
            broker.kill();
        } else {
            eventually("all are taken", LIMIT, || (pending(folder.path()) == 0).then_some(()));
            assert!(broker.stop().success());
        }
    }
    // What waits was written for the columns of before, and gets them.
    let broker = Broker::start(folder.path(), &config("[]"));
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "t", (1000..1010).map(payload));
    let rows = eventually("all are there, also what no file was full with", 2 * LIMIT, || {
        std::thread::sleep(Duration::from_secs(1));
        Some(parquet::rows(&out)).filter(|rows| rows.len() >= 1009)
    });
    let (columns, whole) = rows.split_at(999);
    let found: Vec<u64> = columns.iter().map(|row| row["n"].as_u64().expect("a number")).collect();
    assert_eq!(found, (0..1000).filter(|n| *n != 777).collect::<Vec<_>>());
    for row in columns {
        let celsius = (row["n"].as_u64().expect("a number") % 50) as f64 + 0.5;
        assert!(row["hookline_id"].is_string() && row["device"] == "c" && row["celsius"] == celsius && row["gone"].is_null(), "{row}");
        assert!(row["at"].as_str().is_some_and(|at| at.ends_with("+00:00")), "a time in UTC: {row}");
    }
    let whole: Vec<serde_json::Value> =
        whole.iter().map(|row| serde_json::from_str(row["row"].as_str().expect("text")).expect("JSON")).collect();
    assert_eq!(whole.iter().map(|row| row["n"].as_u64()).collect::<Vec<_>>(), (1000..1010).map(Some).collect::<Vec<_>>());
    assert!(whole.iter().all(|row| row["device"] == "c" && row["hookline_id"].is_null()), "as the rule selected it");
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "table"), [1009, 1, 0]);
    assert_eq!(dead_letters(folder.path(), "table")[0]["error"], r#"file: column "celsius": "hot" is no float"#);
}
