//! What goes wrong at a start gets one clear message that names the thing and the way out.

use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::eventually;
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;

fn serve(config: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("c.toml");
    std::fs::write(&file, config).expect("written");
    let data = folder.path().join("data");
    let (file, data) = (file.to_str().expect("UTF-8"), data.to_str().expect("UTF-8"));
    let mut all = vec!["serve", "--config", file, "--set", "log.level=error"];
    if !arguments.contains(&"--data") {
        all.extend(["--data", data]);
    }
    all.extend(arguments);
    let (code, _, error) = run(&all);
    (code, error)
}

#[test]
fn a_broken_configuration_is_told_as_a_whole() {
    let (code, error) = serve("[mqtt]\ninflight_max = \"x\"\n[actions.a]\nconnector = \"nope\"\n[typo]\n", &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("mqtt.inflight_max: invalid type") && error.contains("typo: unknown field"), "{error}");
    let (code, error) = serve(
        "[actions.a]\nconnector = \"dq\"\n[connectors.db]\ntype = \"sqlight\"\n[connectors.k]\ntype = \"kafka\"\n[actions.b]\nconnector = \"k\"\n",
        &[],
    );
    assert_eq!(code, Some(2));
    for expect in [
        "actions.a.connector: there is no \"dq\" in [connectors]; did you mean \"db\"?",
        "connectors.db.type: there is no \"sqlight\"; there are file, http, kafka, ldap, mongodb, mqtt, mysql, postgres, redis, sqlite",
        "connectors.k.bootstrap_hosts: missing",
        "actions.b.parameters.topic: missing",
    ] {
        assert!(error.contains(expect), "{expect} is not in {error}");
    }
    let (code, error) = serve("not toml", &[]);
    assert!(code == Some(2) && error.contains("line 1"), "{error}");
    let (code, _, error) = run(&["serve", "--config", "missing.toml"]);
    assert!(code == Some(2) && error.contains("missing.toml") && error.contains("cannot read it"), "{error}");
}

#[test]
fn broken_sql_is_told_with_rule_and_column() {
    let (code, error) = serve("[rules.hot]\nsql = 'SELECT uper(x) FROM \"t\"'\nactions = []\n", &[]);
    assert_eq!(code, Some(2));
    assert!(error.contains("rules.hot.sql: unknown function \"uper\"; did you mean \"upper\"? at column 8"), "{error}");
}

#[test]
fn a_port_in_use_is_named_with_the_way_out() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = taken.local_addr().expect("an address").to_string();
    let (code, error) = serve("", &["--set", &format!("listeners.tcp.default.bind={address}")]);
    assert_eq!(code, Some(1));
    assert!(error.contains(&address) && error.contains("in use") && error.contains("--set listeners.tcp.default.bind="), "{error}");
}

#[test]
fn a_data_folder_that_cannot_be_used_is_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("a-file");
    std::fs::write(&file, "").expect("written");
    let (code, error) = serve("", &["--data", file.join("data").to_str().expect("UTF-8")]);
    assert_eq!(code, Some(1));
    assert!(error.contains("a-file") && error.contains("--data"), "{error}");
    let broker = Broker::start(folder.path(), "");
    let data = folder.path().join("data");
    let (code, error) = serve("", &["--data", data.to_str().expect("UTF-8"), "--set", "listeners.tcp.default.bind=127.0.0.1:0"]);
    assert_eq!(code, Some(1));
    assert!(error.contains("another process is using it"), "{error}");
    assert!(broker.stop().success());
}

#[test]
fn an_unreachable_kafka_does_not_stop_the_start_and_nothing_is_lost() {
    let folder = tempfile::tempdir().expect("a folder");
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").expect("a port").local_addr().expect("an address");
    let config = format!(
        "[connectors.k]\ntype = \"kafka\"\nbootstrap_hosts = \"{nobody}\"\n[actions.a]\nconnector = \"k\"\nparameters = {{ topic = \"t\" }}\n\
         [rules.r]\nsql = 'SELECT * FROM \"#\"'\nactions = [\"a\"]\n"
    );
    let broker = Broker::start(folder.path(), &config);
    let mut client = broker.connect(&Options::new("c"));
    for _ in 0..10 {
        client.publish("t", b"x", QoS::AtLeastOnce, false).expect("acknowledged");
    }
    let told = format!("kafka at {nobody} cannot be reached");
    eventually("the log names it", Duration::from_secs(20), || broker.log().contains(&told).then_some(()));
    client.ping().expect("answers");
    assert!(broker.stop().success());
    let ledgers = hookline_integration_tests::broker::ledgers(folder.path());
    assert_eq!(ledgers[0]["pending"], 10);
}

#[test]
fn a_full_queue_refuses_the_publisher_and_never_acks_falsely() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[connectors.k]\ntype = \"kafka\"\nbootstrap_hosts = \"127.0.0.1:1\"\n\
        [actions.a]\nconnector = \"k\"\nparameters = { topic = \"t\" }\nqueue = { records_max = 5 }\n[rules.r]\nsql = 'SELECT * FROM \"#\"'\nactions = [\"a\"]\n";
    let broker = Broker::start(folder.path(), config);
    let mut client = broker.connect(&Options::new("c").version(hookline_mqtt::Version::V5));
    let reasons: Vec<_> = (0..8).map(|_| client.publish("t", b"x", QoS::AtLeastOnce, false).expect("answered")).collect();
    assert_eq!(reasons.iter().filter(|reason| !reason.is_error()).count(), 5, "{reasons:?}");
    assert!(reasons[5..].iter().all(|reason| *reason == hookline_mqtt::ReasonCode::QuotaExceeded), "{reasons:?}");
    // MQTT 3.1.1 has no word for it: no ack, and the end of the connection.
    let mut older = broker.connect(&Options::new("d"));
    assert!(older.publish("t", b"x", QoS::AtLeastOnce, false).is_err());
    assert!(broker.stop().success());
    let ledgers = hookline_integration_tests::broker::ledgers(folder.path());
    assert_eq!((&ledgers[0]["accepted"], &ledgers[0]["pending"]), (&5.into(), &5.into()));
}

#[test]
fn limits_that_make_no_sense_are_told_and_dates_need_no_quotes() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("t.toml");
    let check = |text: &str| {
        std::fs::write(&file, text).expect("written");
        let (code, _, error) = run(&["check", "--config", file.to_str().expect("a path")]);
        (code, error)
    };
    let wrong = "[mqtt]\nkeep_alive_multiplier = -1\nqos_max = 7\ninflight_max = 0\n[mqtt.mqueue_priorities]\n\"a/+\" = 3\n[zones.z.mqtt]\nawaiting_rel_max = 0\n\
        [node]\nname = \"a/+\"\n[listeners.tcp.default]\nmountpoint = \"a/${foo}/\"\nproxy_protocol_from = [\"10.0.0.1\"]\n[listeners.tcp.default.tls]\ncert = \"x\"\n\
        [listeners.tcp.again]\n[listeners.tcp.other]\nzone = \"nowhere\"\nbind = \"127.0.0.1:1\"\n[[banned]]\nclientid = \"a\"\nusername = \"b\"\n[scram.users]\nx = \"plain\"\n";
    let (code, error) = check(wrong);
    assert_eq!(code, Some(2));
    for expect in [
        "mqtt.keep_alive_multiplier: must be from 1 to 10",
        "mqtt.qos_max: must be 0, 1 or 2",
        "mqtt.inflight_max: must be 1 or more",
        "mqtt.mqueue_priorities: must be topics",
        "zones.z.mqtt.awaiting_rel_max: must be 1 or more",
        "node.name: must not contain",
        "listeners.tcp.default.mountpoint: \"a/${foo}/\" must be",
        "listeners.tcp.default.proxy_protocol_from: has no effect",
        "listeners.tcp.default.tls: only listeners in",
        "listeners.tcp.default.bind: 0.0.0.0:1883 is listeners.tcp.again's already",
        "listeners.tcp.other.zone: there is no \"nowhere\"",
        "banned[0]: only one of",
        "scram.users.x: no verifier",
    ] {
        assert!(error.contains(expect), "{expect} is not in\n{error}");
    }
    assert!(!error.contains("zones.z.mqtt.qos_max"), "what is wrong for all is told once:\n{error}");
    assert_eq!(check("[[banned]]\nclientid = \"a\"\nuntil = 2099-01-01T00:00:00Z\n"), (Some(0), String::new()));
}
