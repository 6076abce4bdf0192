//! The auditor's table: what real clients do appears as rows, with the right fields.

use std::process::{Command, Stdio};
use std::time::Duration;

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::{eventually, postgres, unique};
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};

#[test]
fn clients_and_messages_appear_as_rows() {
    let id = unique("audit");
    postgres::execute("DROP TABLE IF EXISTS hookline_events");
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        r##"
        [connectors.db]
        type = "postgres"
        url = "{}"
        [actions.audit]
        connector = "db"
        [rules.audit]
        sql = 'SELECT * FROM "#", "$events/message/+", "$events/client/connected", "$events/client/disconnected", "$events/session/+"'
        actions = ["audit"]
        "##,
        postgres::url()
    );
    let broker = Broker::start(folder.path(), &config);
    let port = broker.address().port().to_string();
    let (subscriber, publisher) = (format!("{id}-sub"), format!("{id}-pub"));
    let mut sub = Command::new("mosquitto_sub")
        .args(["-p", &port, "-i", &subscriber, "-u", "anna", "-t", "site/+", "-q", "1", "-C", "1", "-W", "20"])
        .stdout(Stdio::piped())
        .spawn()
        .expect("mosquitto_sub runs");
    let count = |condition: &str| -> i64 { postgres::query(&format!("SELECT count(*) FROM hookline_events WHERE {condition}"))[0].get(0) };
    let limit = Duration::from_secs(20);
    let there = |condition: &str| eventually(condition, limit, || (count(condition) > 0).then_some(()));
    eventually("the table is made", limit, || {
        (postgres::query("SELECT to_regclass('hookline_events') IS NOT NULL")[0].get::<_, bool>(0)).then_some(())
    });
    there(&format!("event = 'session.subscribed' AND clientid = '{subscriber}' AND topic = 'site/+' AND qos = 1 AND username = 'anna'"));
    let published = Command::new("mosquitto_pub")
        .args(["-p", &port, "-i", &publisher, "-t", "site/a", "-q", "2", "-m", r#"{"t": 21.5}"#, "-V", "5"])
        .status()
        .expect("mosquitto_pub runs");
    assert!(published.success());
    assert!(sub.wait().expect("mosquitto_sub ends").success());
    // Nobody subscribes to this one.
    broker.connect(&Options::new(&format!("{id}-lone"))).publish("nobody/here", b"\xff\x00", QoS::AtLeastOnce, false).expect("published");

    there(&format!(
        "event = 'client.connected' AND clientid = '{publisher}' AND details->>'proto_ver' = '5' AND details->>'keepalive' = '60' AND peername LIKE '127.0.0.1:%'"
    ));
    there(&format!("event = 'client.connected' AND clientid = '{subscriber}' AND details->>'proto_ver' = '4' AND username = 'anna'"));
    there(&format!(
        r#"event = 'message.publish' AND clientid = '{publisher}' AND topic = 'site/a' AND qos = 2 AND payload = '{{"t": 21.5}}' AND length(message_id) = 32"#
    ));
    there(&format!(
        "event = 'message.delivered' AND clientid = '{subscriber}' AND from_clientid = '{publisher}' AND topic = 'site/a' AND qos = 1"
    ));
    there(&format!("event = 'message.acked' AND clientid = '{subscriber}' AND from_clientid = '{publisher}'"));
    there(&format!("event = 'message.dropped' AND clientid = '{id}-lone' AND reason = 'no_subscribers' AND payload = '\\xff00'"));
    there(&format!("event = 'client.disconnected' AND clientid = '{publisher}' AND reason = 'normal'"));
    there(&format!("event = 'session.terminated' AND clientid = '{subscriber}'"));
    let same_id = format!(
        "SELECT count(DISTINCT message_id) FROM hookline_events WHERE topic = 'site/a' AND event LIKE 'message.%' AND clientid LIKE '{id}%'"
    );
    assert_eq!(postgres::query(&same_id)[0].get::<_, i64>(0), 1, "publish, delivery and ack name one message");
    assert!(broker.stop().success());
    let ledgers = broker::ledgers(folder.path());
    let rows: i64 = postgres::query("SELECT count(*) FROM hookline_events")[0].get(0);
    assert_eq!(ledgers[0]["delivered"].as_i64(), Some(rows), "as many rows as the ledger says");
}

#[test]
fn a_row_that_the_table_refuses_becomes_a_dead_letter_and_the_others_arrive() {
    let table = unique("poison");
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        r#"
        [connectors.db]
        type = "postgres"
        url = "{}"
        [actions.readings]
        connector = "db"
        [actions.readings.parameters]
        setup = "CREATE TABLE IF NOT EXISTS {table} (id text PRIMARY KEY, seq int4, t float8 NOT NULL, at timestamptz)"
        sql = "INSERT INTO {table} VALUES (${{hookline_id}}, ${{seq}}, ${{t}}, ${{timestamp}}) ON CONFLICT (id) DO NOTHING"
        [rules.readings]
        sql = 'SELECT payload.seq AS seq, payload.t AS t, timestamp FROM "r"'
        actions = ["readings"]
        "#,
        postgres::url()
    );
    let broker = Broker::start(folder.path(), &config);
    let mut client = broker.connect(&Options::new("c").version(Version::V5));
    for seq in 0..300 {
        let t = if seq == 150 { "null" } else { "1.5" };
        let payload = format!(r#"{{"seq": {seq}, "t": {t}}}"#);
        assert!(!client.publish("r", payload.as_bytes(), QoS::AtLeastOnce, false).expect("published").is_error());
    }
    let rows = || postgres::query(&format!("SELECT seq FROM {table} ORDER BY id")).iter().map(|row| row.get(0)).collect::<Vec<i32>>();
    eventually("299 rows", Duration::from_secs(20), || (rows().len() == 299).then_some(()));
    assert_eq!(rows(), (0..300).filter(|seq| *seq != 150).collect::<Vec<i32>>());
    assert!(broker.stop().success());
    assert_eq!(broker::account(folder.path(), "readings"), [299, 1, 0]);
    let letters = broker::dead_letters(folder.path(), "readings");
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    assert_eq!(letter["row"]["seq"], 150);
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("null")), "{letter}");
    postgres::execute(&format!("DROP TABLE {table}"));
}
