//! What was set up on one broker is exported, and another one takes it over: people and devices log in as before, and everything is as it was. What is
//! broken changes nothing.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use hookline_integration_tests::api::{Answer, ask, ask_bytes, basic, form};
use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};
use serde_json::{Value, json};

const SOON: Duration = Duration::from_secs(20);

/// The one that was set up.
const OLD: &str = r#"# The plant in the north.
[node]
name = "old"

[api]
bind = "127.0.0.1:0"
keys = [{ key = "chief", secret = "chiefing", role = "administrator" }]

[[authentication]]
name = "store"
type = "built_in"

[[authorization.sources]]
name = "store"
type = "built_in"

[connectors.files]
type = "file"
folder = "out"

[actions.lines]
connector = "files"
parameters = { name = "a.ndjson" }

[actions.lazy]
connector = "files"
parameters = { name = "lazy.ndjson" }

[rules.all]
sql = 'SELECT payload.n AS n FROM "t"'
actions = ["lines", "lazy"]
"#;

/// The one that takes it over.
const NEW: &str = r#"[node]
name = "new" # of its own
[api]
bind = "127.0.0.1:0"
keys = [{ key = "first", secret = "first of all", role = "administrator" }, { key = "runner", secret = "running!", role = "operator" }]
"#;

fn login(broker: &Broker, id: &str, user: &str, password: &str) -> Result<Client, Error> {
    let mut options = Options::new(id).version(Version::V5);
    options.connect.username = Some(user.into());
    options.connect.password = Some(password.into());
    Client::connect(broker.address(), &options)
}

fn data(folder: &Path) -> String {
    folder.join("data").display().to_string()
}

/// Runs `hookline ctl data …` on a broker; what it prints.
fn ctl(folder: &Path, arguments: &[&str]) -> String {
    let (code, out, error) = run(&[&["ctl", "data"], arguments, &["--data", &data(folder)]].concat());
    assert_eq!(code, Some(0), "{arguments:?}: {out}{error}");
    out
}

fn call(broker: &Broker, login: &str, method: &str, path: &str, body: &Value) -> Answer {
    ask(broker, method, &format!("/api/v5{path}"), login, &body.to_string())
}

fn upload(broker: &Broker, login: &str, name: &str, content: &[u8]) -> Answer {
    let (head, body) = form("filename", name, content);
    ask_bytes(broker, "POST", "/api/v5/data/files", login, &head, &body)
}

/// A broker with everything that there can be in an export.
fn set_up(folder: &Path) -> Broker {
    let broker = Broker::start(folder, OLD);
    let chief = basic("chief", "chiefing");
    let users = "/authentication/password_based:built_in_database/users";
    let rules = "/authorization/sources/built_in_database/rules";
    let may = json!([{ "permission": "allow", "action": "all", "topic": "t" }, { "permission": "allow", "action": "subscribe", "topic": "kept/#" }]);
    for (method, path, body) in [
        ("POST", users, json!({ "user_id": "dev", "password": "as ever" })),
        ("POST", users, json!({ "user_id": "root", "password": "all of it", "is_superuser": true })),
        ("PUT", &format!("{rules}/users/dev"), may),
        ("PUT", &format!("{rules}/all"), json!([{ "permission": "deny", "action": "all", "topic": "#" }])),
        ("POST", "/banned", json!({ "as": "clientid", "who": "bad", "reason": "noisy" })),
        ("POST", "/banned", json!({ "as": "peerhost_net", "who": "203.0.113.0/24", "until": "2099-01-01T00:00:00Z" })),
        ("POST", "/actions/lazy/pause", Value::Null),
        ("POST", "/users", json!({ "username": "olga", "password": "olga may look", "role": "viewer" })),
    ] {
        let answer = call(&broker, &chief, method, path, &body);
        assert!(answer.status < 300, "{path}: {}", answer.body);
    }
    let mut root = login(&broker, "r", "root", "all of it").expect("comes in");
    let mut properties = Properties::default();
    properties.push_user("unit", "°C");
    root.publish_with("kept/a", b"21", QoS::AtLeastOnce, true, &properties).expect("taken");
    for n in 0..600 {
        root.send(&format!("kept/many/{n}"), &[n as u8; 100], QoS::AtMostOnce, true, &Properties::default()).expect("sent");
    }
    root.publish("kept/last", &[0, 255], QoS::ExactlyOnce, true).expect("taken");
    broker
}

#[test]
fn a_new_broker_takes_over_what_was_set_up_on_another_one() {
    let (old_folder, new_folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let old = set_up(old_folder.path());
    let file = PathBuf::from(ctl(old_folder.path(), &["export"]).trim());
    assert!(old.stop().success());
    let mode = |path: &Path| std::fs::metadata(path).expect("is there").permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().expect("a folder"))), (0o600, 0o700));

    let new = Broker::start(new_folder.path(), NEW);
    let out = ctl(new_folder.path(), &["import", file.to_str().expect("UTF-8"), "--output", "json"]);
    let told: Value = serde_json::from_str(&out).expect("JSON");
    let expect = json!({ "configuration": 1, "admins": 1, "users": 2, "permissions": 2, "bans": 2, "paused": 1, "retained": 602 });
    assert_eq!((&told["imported"], &told["skipped_count"], &told["node"]), (&expect, &json!(0), &json!("old")), "{told}");
    let applied = &told["configuration"]["applied"];
    assert_eq!((&applied["rules"], &applied["restart"], &applied["failed"]), (&json!(["all"]), &json!([]), &json!([])), "{told}");

    // The configuration is the other one's, but for the node.
    let text = std::fs::read_to_string(new_folder.path().join("hookline.toml")).expect("is there");
    assert_eq!(text, OLD.replace("name = \"old\"", "name = \"new\" # of its own"));
    assert_eq!(call(&new, &basic("first", "first of all"), "GET", "/nodes", &Value::Null).status, 401, "its keys are gone");
    let chief = basic("chief", "chiefing");
    assert_eq!(call(&new, &chief, "GET", "/nodes", &Value::Null).json()[0]["node"], "new");
    assert_eq!(call(&new, &basic("olga", "olga may look"), "GET", "/nodes", &Value::Null).status, 200);

    let refused = |id: &str, password: &str| match login(&new, id, "dev", password) {
        Err(Error::Refused(reason)) => Some(reason),
        _ => None,
    };
    assert_eq!(refused("d", "another"), Some(ReasonCode::BadUserNameOrPassword));
    assert_eq!(refused("bad", "as ever"), Some(ReasonCode::Banned));
    let mut device = login(&new, "d", "dev", "as ever").expect("the password is what it was");
    let granted = device.subscribe(&[("kept/#", QoS::ExactlyOnce), ("other", QoS::AtMostOnce)]).expect("answered");
    assert_eq!(granted, [ReasonCode::GrantedQoS2, ReasonCode::NotAuthorized]);
    let mut kept = std::collections::BTreeMap::new();
    while kept.len() < 602 {
        let message = device.receive(SOON).expect("the connection holds").expect("comes in time");
        kept.insert(message.topic.clone(), message);
    }
    let with_property = &kept["kept/a"];
    assert!(with_property.payload == b"21" && with_property.retain && with_property.qos == QoS::AtLeastOnce);
    assert_eq!(with_property.properties.iter().filter(|property| property.id == PropertyId::UserProperty).count(), 1);
    assert_eq!((kept["kept/last"].payload.as_slice(), kept["kept/last"].qos), (&[0u8, 255][..], QoS::ExactlyOnce));
    assert_eq!(kept["kept/many/599"].payload, [599u16 as u8; 100]);

    device.publish("t", b"{\"n\": 7}", QoS::AtLeastOnce, false).expect("taken");
    let lines = new_folder.path().join("data/out/a.ndjson");
    eventually("the rule fires", SOON, || std::fs::read_to_string(&lines).ok().filter(|text| text.contains("\"n\":7")));
    let lazy = call(&new, &chief, "GET", "/actions/lazy", &Value::Null).json();
    assert_eq!((&lazy["status"], &lazy["ledger"]["pending"]), (&json!("paused"), &json!(1)), "{lazy}");
    let bans = call(&new, &chief, "GET", "/banned", &Value::Null).json();
    assert!(bans["data"][0]["reason"] == "noisy" && bans["data"][1]["until"] == "2099-01-01T00:00:00.000Z", "{bans}");

    // Once more: it is the same afterwards.
    let out = ctl(new_folder.path(), &["import", file.file_name().and_then(|name| name.to_str()).expect("a name")]);
    assert!(out.contains("skipped    bans clientid bad: is banned already") && out.contains("retained      602"), "{out}");
    let entry = call(&new, &chief, "GET", "/audit?path=/data/import", &Value::Null).json();
    assert_eq!((&entry["meta"]["count"], &entry["data"][1]["operator"]), (&json!(2), &json!("socket")), "{entry}");
    assert!(entry["data"][1]["after"]["imported"]["users"] == 2 && entry["data"][1]["after"]["diff"].is_string(), "{entry}");
    assert!(!entry.to_string().contains("chiefing") && !entry.to_string().contains("argon2"), "no secrets");
    let log = new.log();
    assert!(new.stop().success(), "{log}");
    // It holds over a restart.
    let again = Broker::start(new_folder.path(), &text);
    assert!(login(&again, "d", "dev", "as ever").is_ok() && login(&again, "bad", "dev", "as ever").is_err());
    assert_eq!(call(&again, &chief, "GET", "/actions/lazy", &Value::Null).json()["status"], "paused");
    assert!(again.stop().success());
}

#[test]
fn files_come_and_go_over_the_network_for_administrators_alone() {
    let (old_folder, new_folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let old = set_up(old_folder.path());
    let chief = basic("chief", "chiefing");
    let made = call(&old, &chief, "POST", "/data/export", &Value::Null);
    assert_eq!(made.status, 200, "{}", made.body);
    let made = made.json();
    let name = made["filename"].as_str().expect("a name").to_owned();
    assert!(name.starts_with("hookline-export-2") && name.ends_with(".tar.gz") && made["node"] == "old", "{made}");
    let listed = call(&old, &chief, "GET", "/data/files?page=1&limit=10", &Value::Null).json();
    assert!(listed["data"] == json!([made]) && listed["meta"]["count"] == 1, "{listed}");
    let path = format!("/data/files/{name}");
    let download = call(&old, &chief, "GET", &path, &Value::Null);
    assert!(download.head.contains("content-type: application/octet-stream") && download.head.contains(&format!("filename=\"{name}\"")));
    assert_eq!(download.bytes.len() as u64, made["size"].as_u64().expect("bytes"));
    assert!(old.log().contains("an export is downloaded"));
    for (path, status) in [("/data/files/..%2Fhookline.sock", 404), ("/data/files/%2E%2E", 404), ("/data/files/nobody.tar.gz", 404)] {
        assert_eq!(call(&old, &chief, "GET", path, &Value::Null).status, status, "{path}");
        assert_eq!(call(&old, &chief, "DELETE", path, &Value::Null).status, status, "{path}");
    }

    let new = Broker::start(new_folder.path(), NEW);
    let (first, runner) = (basic("first", "first of all"), basic("runner", "running!"));
    for (method, path) in [("POST", "/data/export"), ("GET", "/data/files"), ("POST", "/data/import")] {
        assert_eq!(call(&new, &runner, method, path, &json!({ "filename": name })).status, 403, "{path}");
    }
    assert_eq!(upload(&new, &runner, &name, &download.bytes).status, 403);
    assert_eq!(upload(&new, &first, &name, &download.bytes).status, 204);
    assert_eq!(upload(&new, &first, &name, &download.bytes).status, 409, "it is there already");
    for wrong in ["../x.tar.gz", "x.tar", ".tar.gz", "x y.tar.gz"] {
        assert_eq!(upload(&new, &first, wrong, b"x").status, 400, "{wrong}");
    }
    // Only a part of it: everything else stays.
    let parts = json!({ "filename": name, "parts": ["users", "retained"] });
    let done = call(&new, &first, "POST", "/data/import", &parts);
    assert_eq!(done.status, 200, "{}", done.body);
    assert_eq!(done.json()["imported"], json!({ "users": 2, "retained": 602 }));
    assert_eq!(std::fs::read_to_string(new_folder.path().join("hookline.toml")).expect("is there"), NEW);
    assert_eq!(call(&new, &first, "GET", "/banned", &Value::Null).json()["meta"]["count"], 0);
    assert_eq!(call(&new, &first, "DELETE", &path, &Value::Null).status, 204);
    assert_eq!(call(&new, &first, "GET", &path, &Value::Null).status, 404);
    assert_eq!(call(&new, &first, "POST", "/data/import", &parts).status, 404);
    assert!(old.stop().success() && new.stop().success());
}

#[test]
fn what_is_broken_or_does_not_fit_changes_nothing() {
    let (old_folder, new_folder) = (tempfile::tempdir().expect("a folder"), tempfile::tempdir().expect("a folder"));
    let people = old_folder.path().join("people");
    let old = set_up(old_folder.path());
    let plain = std::fs::read(ctl(old_folder.path(), &["export"]).trim()).expect("is there");
    // Its configuration names a file that the other machine does not have.
    std::fs::write(&people, "").expect("written");
    let more = format!("{OLD}\n[[authentication]]\nname = \"file\"\ntype = \"file\"\npath = {:?}\n", people.display().to_string());
    let put = ask_bytes(&old, "PUT", "/api/v5/configs", &basic("chief", "chiefing"), "Content-Type: text/plain\r\n", more.as_bytes());
    assert_eq!(put.status, 200, "{}", put.body);
    let strange = std::fs::read(ctl(old_folder.path(), &["export"]).trim()).expect("is there");
    assert!(old.stop().success());
    std::fs::remove_file(&people).expect("removed");

    let new = Broker::start(new_folder.path(), NEW);
    let first = basic("first", "first of all");
    let mut damaged = plain.clone();
    let middle = damaged.len() / 2;
    damaged[middle] ^= 0x40;
    // A gigabyte and more of nothing, in a few kilobytes: no beginning of an export.
    let zeros = std::process::Command::new("sh").args(["-c", "head -c 300000000 /dev/zero | gzip -9"]).output().expect("gzip runs").stdout;
    for (name, content, problem) in [
        ("text.tar.gz", b"hello".as_slice(), "no whole archive"),
        ("empty.tar.gz", b"", "no whole archive"),
        ("cut.tar.gz", &plain[..plain.len() - 100], "no whole archive"),
        ("damaged.tar.gz", &damaged, ""),
        ("zeros.tar.gz", &zeros, ""),
        ("strange.tar.gz", &strange, "people"),
    ] {
        assert_eq!(upload(&new, &first, name, content).status, 204, "{name}");
        let refused = call(&new, &first, "POST", "/data/import", &json!({ "filename": name }));
        let told = refused.json();
        let message = told["message"].as_str().expect("a message");
        assert!(refused.status == 400 && message.starts_with("nothing was changed: ") && message.contains(problem), "{name}: {told}");
    }
    assert_eq!(std::fs::read_to_string(new_folder.path().join("hookline.toml")).expect("is there"), NEW);
    let none = |path: &str| call(&new, &first, "GET", path, &Value::Null).json();
    assert_eq!(none("/authentication/password_based:built_in_database/users"), json!([]));
    assert_eq!(none("/users"), json!([]));
    assert_eq!((&none("/banned")["meta"]["count"], &none("/mqtt/retainer/messages")["meta"]["count"]), (&json!(0), &json!(0)));
    assert_eq!(none("/configs/history").as_array().map(Vec::len), Some(1));
    // Without its configuration it can be taken over.
    let parts = json!({ "filename": "strange.tar.gz", "parts": ["users", "permissions", "bans", "paused"] });
    let done = call(&new, &first, "POST", "/data/import", &parts).json();
    assert_eq!(done["imported"], json!({ "users": 2, "permissions": 2, "bans": 2 }), "{done}");
    assert_eq!(done["skipped"], json!([{ "part": "paused", "what": "lazy", "reason": "there is no such action" }]));
    let (code, _) = run_with_input(&["ctl", "data", "import", "nobody.tar.gz", "--data", &data(new_folder.path())], "");
    assert_eq!(code, Some(2));
    assert!(!new.log().contains("panicked"));
    assert!(new.stop().success());
}
