//! People of a directory use the API: their passwords are checked there, and its groups say what they may.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use hookline_integration_tests::api::{ask, basic};
use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::{services, unique};
use serde_json::{Value, json};

fn url() -> String {
    std::env::var("HOOKLINE_TEST_LDAP").expect("HOOKLINE_TEST_LDAP names no directory; run: eval \"$(integration-tests/services env)\"")
}

/// Changes the directory as its administrator.
fn change(command: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(command)
        .args(["-x", "-H", &url(), "-D", "cn=admin,dc=hookline,dc=test", "-w", "hookline"])
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("it runs");
    child.stdin.take().expect("it has one").write_all(input.as_bytes()).expect("written");
    assert!(child.wait().expect("it ends").success(), "{command}");
}

fn config(server: &str, operators: &str, viewers: &str) -> String {
    format!(
        r#"[api]
bind = "127.0.0.1:0"
keys = [{{ key = "chief", secret = "long enough", role = "administrator" }}]
[api.ldap]
connector = "company"
parameters = {{ base_dn = "ou=people,dc=hookline,dc=test", filter = "(uid=${{username}})" }}
timeout_ms = 3000
[api.ldap.roles]
"{operators}" = "operator"
"{viewers}" = "viewer"
[connectors.company]
type = "ldap"
servers = "{server}"
bind_dn = "cn=reader,dc=hookline,dc=test"
bind_password = "reads"
[connectors.files]
type = "file"
folder = "out"
[actions.lines]
connector = "files"
parameters = {{ name = "a.ndjson" }}
"#
    )
}

#[test]
fn groups_of_the_directory_are_roles() {
    let _server = services::stay();
    let group = |name: &str, member: &str| {
        let dn = format!("cn={},ou=groups,dc=hookline,dc=test", unique(name));
        change("ldapadd", &[], &format!("dn: {dn}\nobjectClass: groupOfNames\nmember: uid={member},ou=people,dc=hookline,dc=test\n"));
        dn
    };
    let (operators, viewers) = (group("operators", "alice"), group("viewers", "bob"));
    // Who is in several groups may what the strongest may.
    change(
        "ldapmodify",
        &[],
        &format!("dn: {viewers}\nchangetype: modify\nadd: member\nmember: uid=alice,ou=people,dc=hookline,dc=test\n"),
    );
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&url(), &operators, &viewers));
    let login = |name: &str, password: &str| {
        let body = json!({ "username": name, "password": password }).to_string();
        ask(&broker, "POST", "/api/v5/login", "", &body)
    };
    let status = |login: &str, method: &str, path: &str| ask(&broker, method, &format!("/api/v5{path}"), login, "").status;
    let alice = login("alice", "wonderland").json();
    assert_eq!(alice["role"], "operator", "{alice}\n{}", broker.log());
    let bearer = format!("Bearer {}", alice["token"].as_str().expect("a token"));
    for proof in [&bearer, &basic("alice", "wonderland")] {
        assert_eq!(status(proof, "GET", "/nodes"), 200);
        assert_eq!(status(proof, "POST", "/actions/lines/pause"), 200);
        assert_eq!(status(proof, "GET", "/configs"), 403);
    }
    let bob = basic("bob", "builder");
    assert_eq!((status(&bob, "GET", "/nodes"), status(&bob, "POST", "/actions/lines/pause")), (200, 403));
    // The directory knows carol, and no group of hers may come in.
    for (name, password) in [
        ("carol", "charge"),
        ("alice", "Wonderland"),
        ("alice", ""),
        ("nobody", "wonderland"),
        ("*", "wonderland"),
        ("alice)(uid=*", "wonderland"),
    ] {
        let begun = Instant::now();
        let refused = login(name, password);
        assert!(refused.status == 401 && refused.json()["code"] == "UNAUTHORIZED", "{name}: {} {}", refused.status, refused.body);
        assert!(begun.elapsed() >= Duration::from_millis(500), "guessing is slow");
    }
    // What was done has her name, and the store has nothing of her.
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let audit = ask(&broker, "GET", "/api/v5/audit?operator=alice", &basic("chief", "long enough"), "").json();
    let done = audit["data"].as_array().expect("a list");
    assert!(done.iter().any(|entry| entry["path"] == "/actions/lines/pause" && entry["role"] == "operator"), "{audit}");
    let (_, out, _) = run(&["ctl", "admins", "list", "-o", "json", "--data", data]);
    assert_eq!(serde_json::from_str::<Value>(&out).expect("JSON"), json!([]));
    // Somebody of that name in the store is somebody else, and goes before.
    assert_eq!(run_with_input(&["ctl", "admins", "set", "bob", "--role", "operator", "--data", data], "long enough\n").0, Some(0));
    assert_eq!(status(&bob, "GET", "/nodes"), 401);
    assert_eq!(status(&basic("bob", "long enough"), "POST", "/actions/lines/resume"), 200);
    // Other groups in the configuration count at once.
    let file = folder.path().join("hookline.toml");
    let without = std::fs::read_to_string(&file).expect("read").replace(&format!("\"{operators}\" = \"operator\"\n"), "");
    std::fs::write(&file, without).expect("written");
    let (code, out, error) = run(&["ctl", "reload", "--data", data]);
    assert!(code == Some(0) && out.contains("api"), "{out}{error}");
    assert_eq!(status(&bearer, "GET", "/nodes"), 401, "what an older directory has said");
    assert_eq!(login("alice", "wonderland").json()["role"], "viewer");
    assert!(!broker.log().contains("wonderland"), "no password in the log");
    assert!(broker.stop().success());
    change("ldapdelete", &[&operators, &viewers], "");
}

#[test]
fn a_directory_that_is_away_is_waited_for_a_while_only() {
    // It accepts, and says nothing.
    let silent = std::net::TcpListener::bind("127.0.0.1:0").expect("binds");
    let server = format!("ldap://{}", silent.local_addr().expect("an address"));
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&server, "cn=a", "cn=b"));
    let begun = Instant::now();
    let answer = ask(&broker, "GET", "/api/v5/nodes", &basic("alice", "wonderland"), "");
    assert!(answer.status == 503 && answer.json()["code"] == "BUSY", "{} {}", answer.status, answer.body);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    assert_eq!(ask(&broker, "GET", "/api/v5/nodes", &basic("chief", "long enough"), "").status, 200, "keys need no directory");
    assert!(broker.stop().success());
    let file = folder.path().join("wrong.toml");
    let wrong = config(&server, "cn=a", "cn=b").replace("type = \"ldap\"", "type = \"file\"\nfolder = \"x\"");
    let wrong: String =
        wrong.lines().filter(|line| !line.starts_with("servers") && !line.starts_with("bind_")).map(|line| format!("{line}\n")).collect();
    std::fs::write(&file, wrong).expect("written");
    let (code, _, error) = run(&["check", "--config", file.to_str().expect("UTF-8")]);
    assert!(code != Some(0) && error.contains("api.ldap.connector: \"company\" is of type file"), "{code:?} {error}");
}
