//! Redis as a sink: order across a restart, one record that it refuses among many, bytes, a cluster, TLS with a login.

use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account, dead_letters};
use hookline_integration_tests::services::{self, authority, service};
use hookline_integration_tests::{eventually, publish_all, redis, unique};
use hookline_mqtt::client::Options;

/// How long all may take to arrive.
const LIMIT: Duration = Duration::from_secs(60);

/// A connector with settings, an action with parameters, and a rule with fields over what is published to `r`.
fn config(connector: &str, parameters: &str, fields: &str) -> String {
    format!(
        r#"
        [connectors.cache]
        type = "redis"
        {connector}
        [actions.readings]
        connector = "cache"
        delivery = {{ retry_initial_ms = 50, retry_max_ms = 500 }}
        [actions.readings.parameters]
        {parameters}
        [rules.readings]
        sql = '''SELECT {fields} FROM "r"'''
        actions = ["readings"]
        "#
    )
}

fn single() -> String {
    format!("servers = \"{}\"", redis::server())
}

fn seq(n: u64) -> String {
    format!(r#"{{"seq": {n}}}"#)
}

#[test]
fn entries_of_a_stream_keep_their_order_across_a_restart() {
    let _alone = services::may_stop();
    let key = unique("stream");
    let folder = tempfile::tempdir().expect("a folder");
    let parameters = format!(r#"stream = {{ key = "{key}", maxlen = 100000, fields = {{ seq = "${{seq}}" }} }}"#);
    let broker = Broker::start(folder.path(), &config(&single(), &parameters, "payload.seq AS seq"));
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "r", (0..500).map(seq));
    let stopped = service("stop", "redis");
    publish_all(&mut client, "r", (500..1000).map(seq));
    if stopped {
        service("start", "redis");
    }
    publish_all(&mut client, "r", (1000..1200).map(seq));
    let entries = || {
        let lines = redis::lines(&["XRANGE", &key, "-", "+"]);
        let entry = |entry: &[String]| {
            assert_eq!((entry[1].as_str(), entry[3].as_str()), ("hookline_id", "seq"), "{entry:?}");
            (entry[2].clone(), entry[4].parse().expect("a number"))
        };
        lines.chunks_exact(5).map(entry).collect::<Vec<(String, u64)>>()
    };
    // A reader that drops what it has seen.
    let distinct = |entries: &[(String, u64)]| {
        let mut seen = std::collections::HashSet::new();
        entries.iter().filter(|(id, _)| seen.insert(id.clone())).map(|(_, seq)| *seq).collect::<Vec<u64>>()
    };
    eventually("all entries", LIMIT, || (distinct(&entries()).len() >= 1200).then_some(()));
    assert_eq!(distinct(&entries()), (0..1200).collect::<Vec<u64>>());
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [1200, 0, 0]);
    redis::ask(&["DEL", &key]);
}

#[test]
fn sentinels_choose_another_master_and_every_entry_is_there() {
    let _alone = services::may_stop();
    let key = unique("stream");
    let folder = tempfile::tempdir().expect("a folder");
    let parameters = format!(r#"stream = {{ key = "{key}", fields = {{ seq = "${{seq}}" }} }}"#);
    let connector = format!("mode = \"sentinel\"\nmaster = \"hookline\"\nservers = \"{}\"", redis::sentinels());
    let broker = Broker::start(folder.path(), &config(&connector, &parameters, "payload.seq AS seq"));
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "r", (0..300).map(seq));
    let numbers = || {
        let lines = redis::master_lines(&["XRANGE", &key, "-", "+"]);
        let numbers = lines.chunks_exact(5).map(|entry| entry[4].parse().expect("a number"));
        numbers.collect::<std::collections::BTreeSet<u64>>()
    };
    eventually("the first are there", LIMIT, || (numbers().len() == 300).then_some(()));
    // What a master has confirmed and not copied yet is lost with it: that is Redis' own promise, not ours.
    eventually("the replica has them", LIMIT, || (redis::master_lines(&["WAIT", "1", "1000"]) == ["1"]).then_some(()));
    let stopped = service("stop", "redis_sentinel_master");
    publish_all(&mut client, "r", (300..600).map(seq));
    eventually("the others are there, on the new master", LIMIT, || (numbers().len() == 600).then_some(()));
    if stopped {
        service("start", "redis_sentinel_master");
    }
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [600, 0, 0]);
    redis::master_lines(&["DEL", &key]);
}

#[test]
fn a_record_that_redis_refuses_becomes_a_dead_letter_and_no_other_is_done_twice() {
    let _server = services::stay();
    let (list, other) = (unique("list"), unique("text"));
    redis::ask(&["SET", &other, "no list"]);
    let folder = tempfile::tempdir().expect("a folder");
    let fields = "payload.seq AS seq, payload.list AS list";
    let broker = Broker::start(folder.path(), &config(&single(), r#"command = ["RPUSH", "${list}", "${seq}"]"#, fields));
    let mut client = broker.connect(&Options::new("c"));
    let payload = |seq: u64| format!(r#"{{"seq": {seq}, "list": "{}"}}"#, if seq == 150 { &other } else { &list });
    publish_all(&mut client, "r", (0..300).map(payload));
    eventually("299 elements", LIMIT, || (redis::lines(&["LLEN", &list]) == ["299"]).then_some(()));
    let expect: Vec<String> = (0..300).filter(|seq| *seq != 150).map(|seq: u64| seq.to_string()).collect();
    assert_eq!(redis::lines(&["LRANGE", &list, "0", "-1"]), expect, "RPUSH would show what is done twice");
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [299, 1, 0]);
    let letters = dead_letters(folder.path(), "readings");
    let [letter] = &letters[..] else { panic!("one letter: {letters:?}") };
    assert_eq!(letter["row"]["seq"], 150);
    assert!(letter["error"].as_str().is_some_and(|error| error.contains("WRONGTYPE")), "{letter}");
    redis::ask(&["DEL", &list, &other]);
}

#[test]
fn bytes_json_and_what_is_missing_arrive_as_they_are() {
    let _server = services::stay();
    let key = unique("hash");
    let folder = tempfile::tempdir().expect("a folder");
    let parameters = format!(
        r#"command = ["HSET", "{key}", "raw", "${{raw}}", "map", "${{m}}", "none", "${{none}}", "t", "${{t}}", "id", "${{hookline_id}}", "row", "${{.}}"]"#
    );
    let fields = "hexstr2bin('FF000D0A27') AS raw, payload.m AS m, payload.t AS t, payload.none AS none";
    let broker = Broker::start(folder.path(), &config(&single(), &parameters, fields));
    publish_all(&mut broker.connect(&Options::new("c")), "r", [r#"{"m": {"a": [1, null]}, "t": 21.5}"#.to_owned()]);
    eventually("the hash", LIMIT, || (redis::lines(&["EXISTS", &key]) == ["1"]).then_some(()));
    let field = |name: &str| redis::ask(&["HGET", &key, name]);
    assert_eq!(field("raw"), b"\xff\0\r\n'");
    assert_eq!(field("map"), br#"{"a":[1,null]}"#);
    assert_eq!(field("none"), b"");
    assert_eq!(field("t"), b"21.5");
    assert_eq!(String::from_utf8_lossy(&field("id")).split(':').count(), 3, "node:queue:position");
    let row: serde_json::Value = serde_json::from_slice(&field("row")).expect("JSON");
    assert_eq!((&row["t"], &row["m"]["a"][0], row.get("hookline_id")), (&21.5.into(), &1.into(), None));
    drop(broker);
    redis::ask(&["DEL", &key]);
}

#[test]
fn in_a_cluster_every_key_has_its_records_in_order() {
    let prefix = unique("device");
    let folder = tempfile::tempdir().expect("a folder");
    let connector = format!("servers = \"{}\"\nmode = \"cluster\"", redis::cluster());
    let parameters = format!(r#"command = ["RPUSH", "{prefix}:${{device}}", "${{seq}}"]"#);
    let broker = Broker::start(folder.path(), &config(&connector, &parameters, "payload.device AS device, payload.seq AS seq"));
    let mut client = broker.connect(&Options::new("c"));
    publish_all(&mut client, "r", (0..600).map(|n| format!(r#"{{"device": {}, "seq": {}}}"#, n % 30, n / 30)));
    let expect: Vec<String> = (0..20).map(|seq| seq.to_string()).collect();
    for device in 0..30 {
        let key = format!("{prefix}:{device}");
        eventually(&key, LIMIT, || (redis::cluster_lines(&["LLEN", &key]) == ["20"]).then_some(()));
        assert_eq!(redis::cluster_lines(&["LRANGE", &key, "0", "-1"]), expect);
        redis::cluster_lines(&["DEL", &key]);
    }
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [600, 0, 0]);
}

#[test]
fn over_tls_with_a_login_into_another_database() {
    let (Some(ca), Ok(server)) = (authority("redis"), std::env::var("HOOKLINE_TEST_REDIS_TLS")) else { return };
    let _server = services::stay();
    let (user, key) = (unique("user"), unique("key"));
    redis::ask(&["ACL", "SETUSER", &user, "on", ">secret", "~*", "+@all"]);
    let folder = tempfile::tempdir().expect("a folder");
    let connector = |password: &str| {
        format!("servers = \"{server}\"\nusername = \"{user}\"\npassword = \"{password}\"\ndatabase = 3\ntls = {{ ca = \"{ca}\" }}")
    };
    let parameters = format!(r#"command = ["SET", "{key}", "${{seq}}"]"#);
    let start = |password: &str| Broker::start(folder.path(), &config(&connector(password), &parameters, "payload.seq AS seq"));
    let broker = start("wrong");
    publish_all(&mut broker.connect(&Options::new("c")), "r", [seq(7)]);
    eventually("the refusal is told", LIMIT, || broker.log().contains("authentication failed").then_some(()));
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [0, 0, 1]);
    let broker = start("secret");
    eventually("the value", LIMIT, || (redis::lines_in(3, &["GET", &key]) == ["7"]).then_some(()));
    assert_eq!(redis::lines(&["EXISTS", &key]), ["0"], "in the other database");
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "readings"), [1, 0, 0]);
    redis::lines_in(3, &["DEL", &key]);
    redis::ask(&["ACL", "DELUSER", &user]);
}
