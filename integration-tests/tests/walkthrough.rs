//! The README's five minutes, by the README's own text: the built-in configuration, its commands, the row in the database, the chart in the dashboard.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, binary, run};
use hookline_integration_tests::eventually;
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;

/// What the README has one type, command by command: what follows on `<<` belongs to its line.
fn commands() -> Vec<String> {
    let readme = include_str!("../../README.md");
    let (_, section) = readme.split_once("## Five minutes").expect("the section is there");
    let (section, _) = section.split_once("\n## ").expect("another follows");
    let mut commands: Vec<String> = Vec::new();
    let mut end: Option<String> = None;
    for line in section.lines().filter_map(|line| line.strip_prefix("    ").or(line.is_empty().then_some(""))) {
        match &end {
            Some(word) => {
                let last = commands.last_mut().expect("a command began");
                last.push('\n');
                last.push_str(line);
                if line == word {
                    end = None;
                }
            }
            None if line.is_empty() => {}
            None => {
                end = line.split_once("<<").map(|(_, word)| word.trim().trim_matches('\'').to_owned());
                commands.push(line.to_owned());
            }
        }
    }
    commands
}

/// The command that begins so.
fn command(start: &str) -> String {
    commands()
        .into_iter()
        .find(|command| command.starts_with(start))
        .unwrap_or_else(|| panic!("the README has no \"{start}\": {:#?}", commands()))
}

/// Runs a command of the README in a folder, with this build's binary.
fn shell(command: &str, folder: &Path) -> (bool, String) {
    let command = command.replace("target/release/hookline", binary().to_str().expect("UTF-8"));
    let output = Command::new("sh").args(["-ec", &command]).current_dir(folder).output().expect("sh runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr))
}

#[test]
fn from_publish_to_database_row_and_chart() {
    let folder = tempfile::tempdir().expect("a folder");
    let arguments = ["--set", "api.bind=127.0.0.1:0", "--set", "listeners.ws.default.bind=127.0.0.1:0"];
    let broker = Broker::start_with(folder.path(), &arguments);
    let port = broker.address().port().to_string();
    // As it stands there, but for the port and an end.
    let subscribe = command("target/release/hookline sub").replace(" sub ", &format!(" sub -p {port} -c 2 -W 20 "));
    let subscribe = subscribe.trim_end_matches(" &").replace("target/release/hookline", binary().to_str().expect("UTF-8"));
    let sub = Command::new("sh").args(["-ec", &format!("exec {subscribe}")]).stdout(Stdio::piped()).spawn().expect("the subscriber runs");
    let database = folder.path().join("data/audit.db");
    let count = |condition: &str| -> Option<i64> {
        let file = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).ok()?;
        file.query_row(&format!("SELECT count(*) FROM events WHERE {condition}"), [], |row| row.get(0)).ok()
    };
    let there = |condition: &str| eventually(condition, Duration::from_secs(10), || count(condition).filter(|count| *count > 0));
    there("event = 'session.subscribed' AND topic = 'demo/#'");
    let (success, told) = shell(&command("target/release/hookline pub").replace(" pub ", &format!(" pub -p {port} ")), folder.path());
    assert!(success, "{told}");
    let mosquitto = Command::new("mosquitto_pub").args(["-p", &port, "-t", "demo/m", "-q", "1", "-m", "from mosquitto"]).status();
    assert!(mosquitto.expect("mosquitto_pub runs").success());
    let output = sub.wait_with_output().expect("the subscriber ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "demo/hello {\"temperature\": 21.5}\ndemo/m from mosquitto\n");
    there(r#"event = 'message.publish' AND topic = 'demo/hello' AND payload = '{"temperature": 21.5}' AND qos = 1"#);
    there("event = 'message.delivered' AND topic = 'demo/m' AND payload = 'from mosquitto'");
    there("event = 'client.disconnected' AND reason = 'normal'");
    // The question of the README, by the database itself.
    let question = command("sqlite3 data/audit.db");
    let sql = question.split_once('"').and_then(|(_, rest)| rest.rsplit_once('"')).expect("a statement in quotes").0.to_owned();
    let file = rusqlite::Connection::open_with_flags(&database, rusqlite::OpenFlags::SQLITE_OPEN_READ_ONLY).expect("opens");
    let mut statement = file.prepare(&sql).expect("the statement is right");
    let rows = statement.query_map([], |row| row.get::<_, String>(1)).expect("asked").flatten().count();
    assert_eq!(rows, 10);
    chart(&broker);
    assert!(broker.stop().success(), "SIGTERM ends it with 0");
    let (code, _, error) = run(&["pub", "-p", "1", "-t", "x", "-m", "y"]);
    assert!(code == Some(1) && error.contains("is the broker running?"), "{error}");
}

/// Logs in to the dashboard as the first start has said, and sees the traffic in its chart.
fn chart(broker: &Broker) {
    let told = broker.output();
    let (_, rest) = told.split_once("log in as admin with ").expect("the first start shows a password");
    let password = rest.split_once(';').expect("it ends").0;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut client = broker.connect(&Options::new("traffic"));
            while !done.load(Ordering::Relaxed) {
                client.publish("demo/traffic", b"x", QoS::AtLeastOnce, false).expect("acknowledged");
                std::thread::sleep(Duration::from_millis(20));
            }
        });
        let seen = Command::new("node")
            .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard/tests/first.mjs"))
            .env("HOOKLINE_DASHBOARD", format!("http://{}/", broker.address_of("api")))
            .env("HOOKLINE_PASSWORD", password)
            .output();
        done.store(true, Ordering::Relaxed);
        let seen = seen.expect("node runs; \"make build\" installs what the test needs");
        let told = String::from_utf8_lossy(&seen.stdout);
        assert!(seen.status.success() && told.contains("Messages a second: in "), "{told}{}", String::from_utf8_lossy(&seen.stderr));
    });
}

#[test]
fn a_rule_of_ones_own_is_valid_as_it_stands_there() {
    let folder = tempfile::tempdir().expect("a folder");
    std::fs::create_dir(folder.path().join("hookline")).expect("made");
    std::fs::write(folder.path().join("hookline/default.toml"), include_str!("../../hookline/default.toml")).expect("written");
    for start in ["cp hookline/default.toml", "cat >> hookline.toml", "target/release/hookline check"] {
        let (success, told) = shell(&command(start), folder.path());
        assert!(success, "{start}: {told}");
    }
    let (_, told) = shell(&command("target/release/hookline check"), folder.path());
    assert!(
        told.contains("action readings to kafka") && told.contains("rule hot with 1 actions") && told.contains("listener ws.default"),
        "{told}"
    );
}

#[test]
fn a_port_that_is_taken_is_told_with_the_way_out() {
    let folder = tempfile::tempdir().expect("a folder");
    let taken = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let bind = format!("listeners.ws.default.bind={}", taken.local_addr().expect("an address"));
    let data = folder.path().join("data");
    let arguments = ["serve", "--data", data.to_str().expect("UTF-8"), "--set", "listeners.tcp.default.bind=127.0.0.1:0", "--set", &bind];
    let output = Command::new(binary()).args(arguments).current_dir(folder.path()).output().expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && error.contains("the port is in use") && error.contains("--set listeners.ws.default.bind="),
        "{error}"
    );
}
