//! `hookline doctor`: what is wrong is found and told with what to do, beside a running broker and without one.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::{eventually, kafka, mongo, mysql, postgres, redis, services};
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// Runs it on a folder with a configuration: the exit code and the findings.
fn doctor(folder: &Path, config: &str, arguments: &[&str]) -> (Option<i32>, Vec<Value>) {
    let file = folder.join("hookline.toml");
    std::fs::write(&file, config).expect("written");
    let data = folder.join("data");
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let (file, data) = (text(&file), text(&data));
    let (code, out, error) = run(&[&["doctor", "-o", "json", "--config", &file, "--data", &data], arguments].concat());
    let told: Value = serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{problem}: {out}{error}"));
    (code, told["findings"].as_array().expect("a list").clone())
}

/// The finding of a check whose message has that in it.
fn find<'a>(findings: &'a [Value], check: &str, part: &str) -> &'a Value {
    let fits = |finding: &&Value| finding["check"] == check && finding["message"].as_str().is_some_and(|message| message.contains(part));
    findings.iter().find(fits).unwrap_or_else(|| panic!("no finding of {check} has \"{part}\": {findings:#?}"))
}

#[test]
fn what_is_well_is_told_without_a_broker_and_nothing_is_changed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, findings) = doctor(folder.path(), "[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\nconnections_max = 10\n", &[]);
    assert_eq!(code, Some(0), "{findings:#?}");
    assert_eq!(find(&findings, "configuration", "is valid")["verdict"], "ok");
    assert_eq!(find(&findings, "limits", "enough for 10 connections")["verdict"], "ok");
    assert_eq!(find(&findings, "broker", "none runs")["verdict"], "ok");
    find(&findings, "disk", "a sync of 4096 bytes takes");
    assert!(!folder.path().join("data").exists(), "looking makes no folder");
}

#[test]
fn each_problem_has_its_advice_and_the_code_tells() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = taken.local_addr().expect("an address").port();
    let secret = folder.path().join("password");
    std::fs::write(&secret, "known to all").expect("written");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o644)).expect("set");
    let (cert, key) = (folder.path().join("cert.pem"), folder.path().join("key.pem"));
    let made = |days: i64| {
        let mut parameters = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).expect("a name");
        let now = std::time::SystemTime::now();
        parameters.not_before = (now - Duration::from_secs(86_400)).into();
        parameters.not_after = (now + Duration::from_secs(86_400 * days.unsigned_abs())).into();
        let pair = rcgen::KeyPair::generate().expect("a key");
        (parameters.self_signed(&pair).expect("signed").pem(), pair.serialize_pem())
    };
    let write = |(cert_pem, key_pem): &(String, String)| {
        std::fs::write(&cert, cert_pem).expect("written");
        std::fs::write(&key, key_pem).expect("written");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).expect("set");
    };
    let config = format!(
        "[listeners.tcp.default]\nbind = \"127.0.0.1:{port}\"\nconnections_max = 10\n\
         [listeners.tls.default]\nbind = \"127.0.0.1:0\"\nconnections_max = 10\ntls = {{ cert = \"{}\", key = \"{}\" }}\n\
         [connectors.away]\ntype = \"mqtt\"\nserver = \"127.0.0.1:9\"\nusername = \"u\"\npassword = \"file://{}\"\n\
         [actions.away]\nconnector = \"away\"\n",
        cert.display(),
        key.display(),
        secret.display()
    );
    write(&made(5));
    let (code, findings) = doctor(folder.path(), &config, &[]);
    assert_eq!(code, Some(2), "{findings:#?}");
    let port_finding = find(&findings, "ports", &format!("process {}", std::process::id()));
    assert!(
        port_finding["verdict"] == "problem"
            && port_finding["advice"].as_str().is_some_and(|advice| advice.contains("listeners.tcp.default.bind"))
    );
    let away = find(&findings, "connector away", "mqtt: ");
    assert!(away["verdict"] == "problem" && away["advice"].as_str().is_some_and(|advice| advice.contains("connectors.away")), "{away}");
    let end = find(&findings, "certificates", "ends in ");
    assert_eq!(end["verdict"], "warning");
    let open = find(&findings, "permissions", "which is secret");
    assert!(open["verdict"] == "warning" && open["advice"].as_str().is_some_and(|advice| advice.contains("chmod 640")), "{open}");

    // A key of another certificate.
    let (cert_pem, _) = made(50);
    write(&(cert_pem, made(50).1));
    let (code, findings) = doctor(folder.path(), &config, &[]);
    assert_eq!((code, &find(&findings, "certificates", "is not the key of")["verdict"]), (Some(2), &json!("problem")));
    let told =
        findings.iter().filter(|finding| finding["message"].as_str().is_some_and(|message| message.contains("is not the key of"))).count();
    assert_eq!(told, 1, "{findings:#?}");

    // Warnings count where that is asked for.
    let only_warnings = "[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\n[store]\nlevel = \"process\"\n";
    let (code, findings) = doctor(folder.path(), only_warnings, &[]);
    assert_eq!((code, &find(&findings, "durability", "process")["verdict"]), (Some(0), &json!("warning")));
    assert_eq!(doctor(folder.path(), only_warnings, &["--strict"]).0, Some(1));
    // A file that is wrong in two places is told in both.
    let (code, findings) = doctor(folder.path(), "[mqtt]\nqos_max = \"x\"\ntypo = 1\n", &[]);
    assert_eq!(code, Some(2));
    find(&findings, "configuration", "mqtt.typo");
    find(&findings, "configuration", "mqtt.qos_max");
}

#[test]
fn beside_a_running_broker_its_ports_are_its_own_and_its_alarms_are_told() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[node]\nmemory_high_bytes = 1\n");
    let config = format!("[listeners.tcp.default]\nbind = \"{}\"\nconnections_max = 10\n", broker.address());
    let findings = eventually("the alarm is told", LIMIT, || {
        let (code, findings) = doctor(folder.path(), &config, &[]);
        let has_alarm = findings.iter().any(|finding| finding["check"] == "alarms" && finding["verdict"] == "problem");
        (code == Some(2) && has_alarm).then_some(findings)
    });
    assert!(find(&findings, "alarms", "memory_high")["advice"].as_str().is_some_and(|advice| advice.contains("memory_high_bytes")));
    find(&findings, "broker", &format!("process {}", broker.pid()));
    assert_eq!(find(&findings, "ports", "the broker listens on")["verdict"], "ok");
    find(&findings, "store", "which this version writes");
    assert!(broker.stop().success());
}

#[test]
fn the_newest_record_is_seen_while_the_store_is_open_and_after_a_crash() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "");
    let mut keeper = broker.connect(&Options::new("keeper").version(Version::V5).persistent(1000));
    keeper.subscribe(&[("t", QoS::AtLeastOnce)]).expect("subscribed");
    keeper.disconnect().expect("leaves");
    broker.connect(&Options::new("p")).publish("t", b"x", QoS::AtLeastOnce, false).expect("acknowledged");
    let config = "[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\n";
    find(&doctor(folder.path(), config, &[]).1, "clock", "nothing in the store is newer");
    broker.kill();
    let (_, findings) = doctor(folder.path(), config, &[]);
    find(&findings, "clock", "nothing in the store is newer");
    find(&findings, "store", "it is in format");
    // Looking has changed nothing: the message is still there.
    let broker = Broker::start(folder.path(), "");
    let mut keeper = broker.connect(&Options::new("keeper").version(Version::V5).persistent(1000));
    assert_eq!(keeper.receive(LIMIT).expect("connected").expect("it has waited").payload, b"x");
    assert!(broker.stop().success());
}

#[test]
fn every_outside_system_is_asked() {
    let _servers = services::stay();
    let folder = tempfile::tempdir().expect("a folder");
    // It takes connections, and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let config = format!(
        "[listeners.tcp.default]\nbind = \"127.0.0.1:0\"\n\
         [connectors.kafka]\ntype = \"kafka\"\nbootstrap_hosts = \"{}\"\n[actions.kafka]\nconnector = \"kafka\"\nparameters = {{ topic = \"t\" }}\n\
         [connectors.pg]\ntype = \"postgres\"\nurl = \"{}\"\n[actions.pg]\nconnector = \"pg\"\n\
         parameters = {{ sql = \"SELECT ${{clientid}}\", setup = \"CREATE TABLE doctor_must_not_make_this (x int)\" }}\n\
         [connectors.my]\ntype = \"mysql\"\nurl = \"{}\"\n[[authentication]]\nname = \"my\"\nconnector = \"my\"\n\
         parameters = {{ query = \"SELECT ${{username}} AS password_hash\" }}\n\
         [connectors.mongo]\ntype = \"mongodb\"\nurl = \"{}?directConnection=true\"\n[actions.mongo]\nconnector = \"mongo\"\nparameters = {{ collection = \"c\" }}\n\
         [connectors.redis]\ntype = \"redis\"\nservers = \"{}\"\n[actions.redis]\nconnector = \"redis\"\nparameters = {{ command = [\"SET\", \"a\", \"b\"] }}\n\
         [connectors.unused]\ntype = \"mongodb\"\nurl = \"{}?directConnection=true\"\n\
         [connectors.silent]\ntype = \"postgres\"\nurl = \"postgres://u:p@{}/d\"\n\
         [connectors.other]\ntype = \"redis\"\nservers = \"127.0.0.1:9\"\n[actions.other]\nconnector = \"other\"\nparameters = {{ command = [\"SET\", \"a\", \"b\"] }}\n",
        kafka::hosts(),
        postgres::url(),
        mysql::url(),
        mongo::url(),
        redis::server(),
        mongo::url(),
        silent.local_addr().expect("an address"),
    );
    let (code, findings) = doctor(folder.path(), &config, &["--timeout", "3"]);
    assert_eq!(find(&findings, "connector silent", "postgres: no answer within 3 s")["verdict"], "problem");
    for name in ["kafka", "pg", "my", "mongo", "redis", "unused"] {
        assert_eq!(find(&findings, &format!("connector {name}"), "answers, within")["verdict"], "ok");
    }
    assert_eq!((code, &find(&findings, "connector other", "redis: ")["verdict"]), (Some(2), &json!("problem")));
    let tables = postgres::query("SELECT 1 FROM pg_tables WHERE tablename = 'doctor_must_not_make_this'");
    assert!(tables.is_empty(), "asking changes nothing");
}
