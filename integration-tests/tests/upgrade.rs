//! A new version on the folder of an old one: everything that was promised is still there. `make-upgrade-fixture` makes the folders in `upgrade/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, dead_letters, run};
use hookline_integration_tests::eventually;
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};
use serde_json::{Value, json};

const LIMIT: Duration = Duration::from_secs(30);

/// The folders that are kept, one for each format of the store that must be read.
fn kept() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("upgrade");
    let files = std::fs::read_dir(folder).expect("the folder is there").flatten().map(|entry| entry.path());
    let kept: Vec<PathBuf> = files.filter(|file| file.extension().is_some_and(|extension| extension == "gz")).collect();
    assert!(!kept.is_empty(), "make-upgrade-fixture makes one");
    kept
}

fn unpack(archive: &Path, folder: &Path) {
    let status = Command::new("tar").arg("-xzf").arg(archive).arg("-C").arg(folder).status().expect("tar runs");
    assert!(status.success());
}

fn options(id: &str) -> Options {
    let mut options = Options::new(id).version(Version::V311).persistent(u32::MAX);
    options.connect.username = Some("alice".into());
    options.connect.password = Some(b"one two three".to_vec());
    options
}

#[test]
fn everything_in_the_folder_of_an_older_version_is_there() {
    for archive in kept() {
        println!("{}", archive.display());
        let folder = tempfile::tempdir().expect("a folder");
        unpack(&archive, folder.path());
        let (code, out, error) = run(&["check", "--config", folder.path().join("hookline.toml").to_str().expect("UTF-8")]);
        assert_eq!(code, Some(0), "the configuration of then is valid: {out}{error}");
        // The system of the backlog is back.
        let back = Webhook::start(|_| Reply::Answer(204, "", String::new()));
        let config = std::fs::read_to_string(folder.path().join("hookline.toml")).expect("read");
        let broker = Broker::start(folder.path(), &config.replace("http://127.0.0.1:9/", &format!("http://{}/", back.address())));

        // Users, permissions, bans.
        let wrong = Options {
            connect: hookline_mqtt::packet::Connect { password: Some(b"wrong".to_vec()), ..options("x").connect },
            ..options("x")
        };
        assert!(Client::connect(broker.address(), &wrong).is_err() && Client::connect(broker.address(), &Options::new("x")).is_err());
        assert!(Client::connect(broker.address(), &options("evil")).is_err(), "who was banned still is");
        let mut probe = broker.connect(&Options {
            connect: hookline_mqtt::packet::Connect { version: Version::V5, ..options("probe").connect },
            ..options("probe")
        });
        assert_eq!(probe.publish("secret/x", b"x", QoS::AtLeastOnce, false).expect("answered"), ReasonCode::NotAuthorized);

        // Sessions with what waits for them, in their order.
        let mut keeper = broker.connect(&options("keeper"));
        assert!(keeper.session_present());
        let celsius: Vec<Value> = (1..=6)
            .map(|_| serde_json::from_slice(&keeper.receive(LIMIT).expect("connected").expect("it has waited").payload).expect("JSON"))
            .collect();
        let expect: Vec<Value> =
            (1..=5).map(|number| json!({"celsius": f64::from(number) + 0.5})).chain([json!({"fahrenheit": 100})]).collect();
        assert_eq!(celsius, expect);
        let mut careful = broker.connect(&options("careful"));
        for number in 1..=3 {
            let message = careful.receive(LIMIT).expect("connected").expect("it has waited");
            assert_eq!(
                (message.topic, message.payload, message.qos),
                (format!("orders/{number}"), format!("order {number}").into_bytes(), QoS::ExactlyOnce)
            );
        }
        // What is retained, and what is delayed.
        probe.subscribe(&[("state/#", QoS::AtLeastOnce)]).expect("subscribed");
        let mut states: Vec<(String, Vec<u8>)> = (0..2)
            .map(|_| probe.receive(LIMIT).expect("connected").expect("retained"))
            .map(|message| (message.topic, message.payload))
            .collect();
        states.sort();
        assert_eq!(states, [("state/pump".to_owned(), b"running".to_vec()), ("state/valve".to_owned(), b"closed".to_vec())]);
        let data = folder.path().join("data");
        let stats = |key: &str| -> Value {
            let (code, out, error) = run(&["store", "stats", "--json", "--data", data.to_str().expect("UTF-8")]);
            assert_eq!(code, Some(0), "{error}");
            serde_json::from_str::<Value>(&out).expect("JSON")[key].clone()
        };
        assert_eq!(stats("delayed"), 1);

        // The backlog of the action, each record once, in its order.
        let requests = eventually("the backlog is delivered", LIMIT, || Some(back.requests()).filter(|requests| requests.len() >= 6));
        let devices: Vec<Value> = requests.iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect();
        assert_eq!(devices.len(), 6, "{devices:?}");
        assert!(
            devices[..5].iter().all(|row: &Value| row["device"] == "pump")
                && devices[4]["celsius"] == 5.5
                && devices[5]["device"] == "broken",
            "{devices:?}"
        );
        // The dead letter is there, and once it is mended it is delivered.
        let letters = dead_letters(folder.path(), "readings");
        assert_eq!(letters.len(), 1, "{letters:?}");
        assert!(broker.stop().success());
        let (code, out, error) = run(&["store", "check", "--data", data.to_str().expect("UTF-8")]);
        assert_eq!(code, Some(0), "{out}{error}");
    }
}

#[test]
fn a_store_of_a_newer_version_is_refused_with_the_reason() {
    let folder = tempfile::tempdir().expect("a folder");
    unpack(&kept()[0], folder.path());
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let backup = folder.path().join("backup");
    let (code, _, error) = run(&["store", "backup", backup.to_str().expect("UTF-8"), "--data", data, "--config", "/dev/null"]);
    assert_eq!(code, Some(0), "{error}");
    // The note of the backup says its format.
    let note = std::fs::read_dir(&backup)
        .expect("read")
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.is_file() && std::fs::read_to_string(path).is_ok_and(|text| text.contains("\"format\"")));
    let note = note.expect("a backup has a note");
    let mut text: Value = serde_json::from_str(&std::fs::read_to_string(&note).expect("read")).expect("JSON");
    text["format"] = json!(text["format"].as_u64().expect("a number") + 1000);
    std::fs::write(&note, text.to_string()).expect("written");
    let (code, _, error) = run(&["store", "restore", backup.to_str().expect("UTF-8"), "--data", data, "--config", "/dev/null"]);
    assert!(
        code == Some(2) && error.contains("this version of Hookline knows formats up to") && error.contains("use a newer one"),
        "{error}"
    );
}
