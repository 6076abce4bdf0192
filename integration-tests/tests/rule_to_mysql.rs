//! MySQL or MariaDB as a sink: order across a restart, one record that it refuses among many, types, upserts, the audit table, TLS.

use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account, dead_letters};
use hookline_integration_tests::services::{self, authority, service};
use hookline_integration_tests::{eventually, mysql, publish_all, unique};
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;

/// How long all may take to arrive.
const LIMIT: Duration = Duration::from_secs(60);

/// A connector, an action with its statements, and a rule with fields over what is published to `r`.
fn config(connector: &str, setup: &str, sql: &str, fields: &str) -> String {
    format!(
        r#"
        [connectors.db]
        type = "mysql"
        {connector}
        [actions.readings]
        connector = "db"
        delivery = {{ retry_initial_ms = 50, retry_max_ms = 500 }}
        [actions.readings.parameters]
        setup = "{setup}"
        sql = "{sql}"
        [rules.readings]
        sql = '''SELECT {fields} FROM "r"'''
        actions = ["readings"]
        "#
    )
}

fn plain() -> String {
    format!("url = \"{}\"", mysql::url())
}

fn seq(n: u64) -> String {
    format!(r#"{{"seq": {n}}}"#)
}

/// Waits until a table is there and has so many rows.
fn has_rows(table: &str, count: usize) {
    let there = format!("SELECT count(*) FROM information_schema.tables WHERE table_schema = database() AND table_name = '{table}'");
    eventually("the table is made", LIMIT, || (mysql::value(&there) == "1").then_some(()));
    let rows = format!("SELECT count(*) FROM {table}");
    eventually("the rows are there", LIMIT, || (mysql::value(&rows) == count.to_string()).then_some(()));
}

fn column(sql: &str) -> Vec<String> {
    mysql::query(sql).into_iter().flatten().collect()
}

#[test]
fn what_is_confirmed_is_committed_also_where_the_server_does_not_commit_by_itself() {
    let _server = services::stay();
    let table = unique("readings");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = format!("CREATE TABLE IF NOT EXISTS {table} (seq INT); SET autocommit = 0");
    let sql = format!("INSERT INTO {table} (seq) VALUES (${{seq}})");
    let broker = Broker::start(folder.path(), &config(&plain(), &setup, &sql, "payload.seq AS seq"));
    publish_all(&mut broker.connect(&Options::new("c")), "r", (0..3).map(seq));
    has_rows(&table, 3);
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [3, 0, 0]);
    assert_eq!(mysql::value(&format!("SELECT count(*) FROM {table}")), "3");
    mysql::query(&format!("DROP TABLE {table}"));
}

#[test]
fn rows_keep_their_order_across_a_restart_and_come_once() {
    let _alone = services::may_stop();
    let table = unique("readings");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = format!(
        "CREATE TABLE IF NOT EXISTS {table} (hookline_id VARCHAR(255) PRIMARY KEY, seq INT, n BIGINT NOT NULL AUTO_INCREMENT, UNIQUE (n))"
    );
    let sql = format!(
        "INSERT INTO {table} (hookline_id, seq) VALUES (${{hookline_id}}, ${{seq}}) ON DUPLICATE KEY UPDATE hookline_id = hookline_id"
    );
    let broker = Broker::start(folder.path(), &config(&plain(), &setup, &sql, "payload.seq AS seq"));
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "r", (0..500).map(seq));
    let stopped = service("stop", "mariadb");
    publish_all(&mut client, "r", (500..1000).map(seq));
    if stopped {
        service("start", "mariadb");
    }
    publish_all(&mut client, "r", (1000..1200).map(seq));
    has_rows(&table, 1200);
    let expect: Vec<String> = (0..1200).map(|seq| seq.to_string()).collect();
    assert_eq!(column(&format!("SELECT seq FROM {table} ORDER BY n")), expect);
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [1200, 0, 0]);
    mysql::query(&format!("DROP TABLE {table}"));
}

#[test]
fn a_row_that_the_table_refuses_becomes_a_dead_letter_and_the_others_arrive() {
    let _server = services::stay();
    let table = unique("poison");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = format!("CREATE TABLE IF NOT EXISTS {table} (id VARCHAR(255) PRIMARY KEY, seq INT, word VARCHAR(5) NOT NULL)");
    let sql = format!("INSERT INTO {table} VALUES (${{hookline_id}}, ${{seq}}, ${{word}}) ON DUPLICATE KEY UPDATE id = id");
    let broker = Broker::start(folder.path(), &config(&plain(), &setup, &sql, "payload.seq AS seq, payload.word AS word"));
    let mut client = broker.connect(&Options::new("c"));
    // Missing, and too long: strictly, whatever the server's own mode is.
    let payload = |seq: u64| match seq {
        150 => format!(r#"{{"seq": {seq}}}"#),
        151 => format!(r#"{{"seq": {seq}, "word": "too long"}}"#),
        _ => format!(r#"{{"seq": {seq}, "word": "ok"}}"#),
    };
    publish_all(&mut client, "r", (0..300).map(payload));
    has_rows(&table, 298);
    let expect: Vec<String> = (0..300).filter(|seq| ![150, 151].contains(seq)).map(|seq| seq.to_string()).collect();
    assert_eq!(column(&format!("SELECT seq FROM {table} ORDER BY id")), expect);
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [298, 2, 0]);
    let letters = dead_letters(folder.path(), "readings");
    assert_eq!(letters.len(), 2);
    for (letter, (seq, sqlstate)) in letters.iter().zip([(150, "23000"), (151, "22001")]) {
        assert_eq!(letter["row"]["seq"], seq);
        assert!(letter["error"].as_str().is_some_and(|error| error.contains(sqlstate)), "{letter}");
    }
    mysql::query(&format!("DROP TABLE {table}"));
}

#[test]
fn every_type_of_value_arrives_as_what_it_is() {
    let _server = services::stay();
    let table = unique("types");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = format!(
        "CREATE TABLE IF NOT EXISTS {table} (id VARCHAR(255) PRIMARY KEY, none TEXT, nothing TEXT, flag TINYINT, whole BIGINT, part DOUBLE, \
         words TEXT, raw_bytes LONGBLOB, m JSON, l JSON, ms BIGINT, at DATETIME(3)) CHARACTER SET utf8mb4"
    );
    let sql = format!(
        "INSERT INTO {table} VALUES (${{hookline_id}}, ${{none}}, ${{nothing}}, ${{flag}}, ${{whole}}, ${{part}}, ${{words}}, ${{raw}}, ${{m}}, ${{l}}, \
         ${{timestamp}}, FROM_UNIXTIME(${{timestamp}} / 1000))"
    );
    let fields = "payload.none AS none, payload.nothing AS nothing, payload.flag AS flag, payload.whole AS whole, payload.part AS part, \
                  payload.words AS words, hexstr2bin('FF000D0A27') AS raw, payload.m AS m, payload.l AS l, timestamp";
    let broker = Broker::start(folder.path(), &config(&plain(), &setup, &sql, fields));
    let payload = r#"{"nothing": null, "flag": true, "whole": -9007199254740993, "part": 0.1, "words": "Grüße 🌡 'x' ? :y", "m": {"a": [1, "ü"]}, "l": [1, null]}"#;
    publish_all(&mut broker.connect(&Options::new("c")), "r", [payload.to_owned()]);
    has_rows(&table, 1);
    let row = mysql::query(&format!(
        "SELECT none IS NULL, nothing IS NULL, flag, whole, part, words, HEX(raw_bytes), JSON_UNQUOTE(JSON_EXTRACT(m, '$.a[1]')), JSON_EXTRACT(l, '$[0]'), \
         ms = ROUND(UNIX_TIMESTAMP(at) * 1000) FROM {table}"
    ));
    assert_eq!(row, [["1", "1", "1", "-9007199254740993", "0.1", "Grüße 🌡 'x' ? :y", "FF000D0A27", "ü", "1", "1"]]);
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [1, 0, 0]);
    mysql::query(&format!("DROP TABLE {table}"));
}

#[test]
fn an_upsert_keeps_the_last_value_of_each_device() {
    let _server = services::stay();
    let table = unique("last");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = format!("CREATE TABLE IF NOT EXISTS {table} (device INT PRIMARY KEY, seq INT)");
    let sql = format!("INSERT INTO {table} (device, seq) VALUES (${{device}}, ${{seq}}) ON DUPLICATE KEY UPDATE seq = VALUES(seq)");
    let broker = Broker::start(folder.path(), &config(&plain(), &setup, &sql, "payload.device AS device, payload.seq AS seq"));
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "r", (0..1000).map(|n| format!(r#"{{"device": {}, "seq": {n}}}"#, n % 10)));
    let expect: Vec<String> = (990..1000).map(|seq| seq.to_string()).collect();
    has_rows(&table, 10);
    let last = format!("SELECT seq FROM {table} ORDER BY device");
    eventually("the last values", LIMIT, || (column(&last) == expect).then_some(()));
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [1000, 0, 0]);
    mysql::query(&format!("DROP TABLE {table}"));
}

#[test]
fn without_a_statement_every_event_is_a_row_of_the_audit_table() {
    let _server = services::stay();
    mysql::query("DROP TABLE IF EXISTS hookline_events");
    let id = unique("audit");
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        r##"
        [connectors.db]
        type = "mysql"
        {}
        [actions.audit]
        connector = "db"
        [rules.audit]
        sql = 'SELECT * FROM "#", "$events/client/connected", "$events/client/disconnected"'
        actions = ["audit"]
        "##,
        plain()
    );
    let broker = Broker::start(folder.path(), &config);
    let mut client = broker.connect(&Options::new(&id));
    client.publish("site/a", b"\xff\x00", QoS::AtLeastOnce, false).expect("published");
    client.disconnect().expect("leaves");
    has_rows("hookline_events", 3);
    let count = |condition: &str| mysql::value(&format!("SELECT count(*) FROM hookline_events WHERE clientid = '{id}' AND {condition}"));
    assert_eq!(count("event = 'client.connected' AND JSON_EXTRACT(details, '$.proto_ver') = 4 AND peername LIKE '127.0.0.1:%'"), "1");
    assert_eq!(count("event = 'message.publish' AND topic = 'site/a' AND qos = 1 AND HEX(payload) = 'FF00'"), "1");
    assert_eq!(count("event = 'client.disconnected' AND reason = 'normal'"), "1");
    assert_eq!(count("ABS(TIMESTAMPDIFF(SECOND, at, NOW())) < 600"), "3", "in UTC");
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "audit"), [3, 0, 0]);
}

#[test]
fn over_tls_with_a_user_that_must_use_it() {
    let Some(ca) = authority("mariadb") else { return };
    let _server = services::stay();
    let (table, user) = (unique("secure"), unique("u"));
    mysql::query(&format!("CREATE USER '{user}'@'%' IDENTIFIED BY 'secret' REQUIRE SSL; GRANT ALL ON *.* TO '{user}'@'%'"));
    let url = mysql::url();
    let (_, place) = url.split_once('@').expect("a URL with a login");
    let folder = tempfile::tempdir().expect("a folder");
    let setup = format!("CREATE TABLE IF NOT EXISTS {table} (seq INT)");
    let sql = format!("INSERT INTO {table} VALUES (${{seq}})");
    let start = |tls: &str| {
        let connector = format!("url = \"mysql://{user}:secret@{place}\"\n{tls}");
        Broker::start(folder.path(), &config(&connector, &setup, &sql, "payload.seq AS seq"))
    };
    let broker = start("");
    publish_all(&mut broker.connect(&Options::new("c")), "r", [seq(7)]);
    eventually("the refusal is told", LIMIT, || broker.log().contains("Access denied").then_some(()));
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [0, 0, 1]);
    let broker = start(&format!("tls = {{ ca = \"{ca}\" }}"));
    has_rows(&table, 1);
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [1, 0, 0]);
    mysql::query(&format!("DROP TABLE {table}; DROP USER '{user}'@'%'"));
}
