//! Users and permissions of our own: in files, in the store, in the configuration.

use std::process::{Command, Stdio};
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::eventually;
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};

use super::{log_in, may_publish, may_subscribe, options, refusal};

/// How long a changed file may be overlooked.
const SEEN: Duration = Duration::from_secs(5);

#[test]
fn mosquittos_files_work_as_they_are_and_changes_count() {
    let folder = tempfile::tempdir().expect("a folder");
    let (users, acl) = (folder.path().join("passwd"), folder.path().join("acl"));
    for (name, password) in [("alice", "public"), ("bob", "builder")] {
        let mut command = Command::new("mosquitto_passwd");
        let made = command.args(if users.exists() { &["-b"][..] } else { &["-c", "-b"] });
        let status =
            made.arg(&users).args([name, password]).stdout(Stdio::null()).stderr(Stdio::null()).status().expect("mosquitto_passwd runs");
        assert!(status.success());
    }
    std::fs::write(
        &acl,
        "topic readwrite nobody/#\npattern read public/#\nuser alice\ntopic plant/#\ntopic deny plant/secret\npattern write own/%u/%c\n",
    )
    .expect("written");
    let config = format!(
        "[mqtt]\nallow_anonymous = false\n[[authentication]]\nname = \"file\"\ntype = \"file\"\npath = \"{}\"\n\
         [[authorization.sources]]\nname = \"acl\"\ntype = \"mosquitto\"\npath = \"{}\"",
        users.display(),
        acl.display()
    );
    let broker = Broker::start(folder.path(), &config);
    assert_eq!(refusal(&broker, "alice", "wrong"), Some(ReasonCode::BadUserNameOrPassword));
    let mut alice = log_in(&broker, "alice", "public").expect("the right password");
    assert!(may_publish(&mut alice, "plant/x") && !may_subscribe(&mut alice, "plant/+"), "a wildcard would reach what is denied");
    assert!(
        !may_publish(&mut alice, "plant/secret")
            && may_publish(&mut alice, "own/alice/of-alice")
            && !may_publish(&mut alice, "own/bob/of-alice")
    );
    let mut bob = log_in(&broker, "bob", "builder").expect("the right password");
    assert!(may_subscribe(&mut bob, "public/x") && !may_publish(&mut bob, "public/x") && !may_publish(&mut bob, "plant/x"));
    assert!(!may_publish(&mut bob, "nobody/x"), "what stands before the first user is for clients without a name");
    // A line more, and somebody else comes in; a permission less, and what was subscribed ends.
    let (code, line) = run_with_input(&["ctl", "users", "hash", "dave"], "new\n");
    assert_eq!(code, Some(0));
    let all = std::fs::read_to_string(&users).expect("read") + &line;
    std::fs::write(&users, all).expect("written");
    eventually("dave is known", SEEN, || log_in(&broker, "dave", "new").ok());
    std::fs::write(&acl, "user alice\ntopic plant/#\n").expect("written");
    eventually("bob's subscription ends", SEEN, || {
        alice = log_in(&broker, "alice", "public").expect("in");
        (!may_subscribe(&mut bob, "public/x")).then_some(())
    });
    // What has become wrong changes nothing.
    std::fs::write(&users, "nonsense").expect("written");
    std::thread::sleep(Duration::from_millis(1500));
    assert!(log_in(&broker, "alice", "public").is_ok());
    assert!(broker.log().contains("what it said before holds"));
    assert!(broker.stop().success());
}

#[test]
fn users_in_the_store_are_set_and_removed_while_the_broker_runs_and_survive_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[mqtt]\nallow_anonymous = false\n[[authentication]]\nname = \"own\"\ntype = \"built_in\"\n\
                  [[authorization.sources]]\nname = \"none\"\nrules = []";
    let broker = Broker::start(folder.path(), config);
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let set = |name: &str, password: &str, more: &[&str]| {
        let arguments = [&["ctl", "users", "set", name, "--data", data][..], more].concat();
        assert_eq!(run_with_input(&arguments, &format!("{password}\n")).0, Some(0));
    };
    assert_eq!(refusal(&broker, "alice", "public"), Some(ReasonCode::NotAuthorized));
    set("alice", "public", &[]);
    set("root", "toor", &["--superuser"]);
    let mut alice = log_in(&broker, "alice", "public").expect("she is known");
    assert!(!may_publish(&mut alice, "x"), "without a rule nothing is allowed");
    assert!(may_publish(&mut log_in(&broker, "root", "toor").expect("it is known"), "x"));
    set("alice", "other", &[]);
    assert_eq!(refusal(&broker, "alice", "public"), Some(ReasonCode::BadUserNameOrPassword));
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), config);
    assert!(log_in(&broker, "alice", "other").is_ok(), "users survive the broker");
    let (code, out, _) = run(&["ctl", "users", "list", "--data", data]);
    assert_eq!((code, out.as_str()), (Some(0), "alice\nroot  (superuser)\n"));
    assert_eq!(run(&["ctl", "users", "remove", "alice", "--data", data]).0, Some(0));
    assert_eq!(refusal(&broker, "alice", "other"), Some(ReasonCode::NotAuthorized));
    let (code, _, error) = run(&["ctl", "users", "remove", "alice", "--data", data]);
    assert!(code == Some(2) && error.contains("there is no user"), "{error}");
    assert!(!broker.log().contains("toor"));
}

#[test]
fn permissions_in_the_store_reach_connected_clients_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[[authorization.sources]]\nname = \"own\"\ntype = \"built_in\"");
    let data = folder.path().join("data");
    let data = data.to_str().expect("UTF-8");
    let set = |of: &[&str], rules: &str| run_with_input(&[&["ctl", "acl", "set", "--data", data][..], of].concat(), rules).0;
    let mut alice = log_in(&broker, "alice", "").expect("in");
    assert!(!may_publish(&mut alice, "a/x"));
    assert_eq!(set(&["--user", "alice"], r#"[{"permission": "allow", "action": "all", "topic": "a/#"}]"#), Some(0));
    eventually("she may", SEEN, || may_publish(&mut alice, "a/x").then_some(()));
    assert!(may_subscribe(&mut alice, "a/#") && !may_publish(&mut alice, "b"));
    assert_eq!(set(&[], r#"[{"permission": "allow", "action": "publish", "topic": "b"}]"#), Some(0));
    assert_eq!(set(&["--client", "of-alice"], r#"[{"permission": "deny", "action": "publish", "topic": "a/y"}]"#), Some(0));
    eventually("what is for all and for her client counts, too", SEEN, || {
        (may_publish(&mut alice, "b") && !may_publish(&mut alice, "a/y")).then_some(())
    });
    assert_eq!(set(&[], r#"[{"permission": "perhaps", "topic": "b"}]"#), Some(2), "what makes no sense is refused");
    let (code, out, _) = run(&["ctl", "acl", "show", "--user", "alice", "--data", data]);
    assert!(code == Some(0) && out.contains("a/#"), "{out}");
    assert_eq!(run(&["ctl", "acl", "remove", "--user", "alice", "--data", data]).0, Some(0));
    eventually("her subscription ends", SEEN, || broker.log().contains("may not subscribe to this any more").then_some(()));
    assert!(!may_publish(&mut alice, "a/x"));
    assert!(broker.stop().success());
}

#[test]
fn chains_listeners_preconditions_and_who_says_nothing() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, line) = run_with_input(&["ctl", "users", "hash", "alice"], "public\n");
    assert_eq!(code, Some(0));
    let users = folder.path().join("users");
    std::fs::write(&users, line).expect("written");
    let config = format!(
        r#"
        [mqtt]
        allow_anonymous = false
        [zones.open.mqtt]
        allow_anonymous = true
        [listeners.tcp.open]
        bind = "127.0.0.1:0"
        zone = "open"
        mountpoint = "t/${{client_attrs.site}}/"
        [listeners.tcp.machines]
        bind = "127.0.0.1:0"
        authentication = ["machines"]
        [[authentication]]
        name = "file"
        type = "file"
        path = "{}"
        precondition = "clientid != 'shunned'"
        [[authentication]]
        name = "machines"
        type = "client_id"
        client_ids = ["machine-1"]
        [[authorization.sources]]
        name = "rules"
        rules = [
            {{ permission = "allow", topics = ["$SYS/#", "c/${{clientid}}/#"] }},
            {{ permission = "allow", action = "publish", topics = ["logs"], username = "re:al.*" }},
        ]
        "#,
        users.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let to = |listener: &str, options: &Options| Client::connect(broker.address_of(&format!("tcp.{listener}")), options);
    let mut alice = log_in(&broker, "alice", "public").expect("in");
    assert!(may_publish(&mut alice, "c/of-alice/x") && may_publish(&mut alice, "logs") && !may_publish(&mut alice, "c/other/x"));
    assert!(to("default", &options("shunned", "alice", "public")).is_err(), "she is not asked about");
    let mut machine = to("default", &options("machine-1", "", "")).expect("its identifier is on the list");
    assert!(!may_publish(&mut machine, "logs"));
    assert!(to("machines", &options("x", "alice", "public")).is_err(), "this listener does not ask the file");
    assert!(to("machines", &options("machine-1", "", "")).is_ok());
    assert!(to("open", &options("anybody", "", "")).is_err(), "it has no site to be mounted at");
    // Before version 5 the code is another, and an acknowledgement is no lie.
    let mut old = Options::new("of-alice");
    old.connect.username = Some("alice".into());
    old.connect.password = Some(b"wrong".to_vec());
    assert!(to("default", &old.clone().version(Version::V311)).is_err());
    old.connect.password = Some(b"public".to_vec());
    let mut old = to("default", &old).expect("in");
    assert!(old.publish("forbidden", b"x", QoS::AtLeastOnce, false).is_err(), "the connection ends, where there is no word for it");
    assert!(broker.log().contains("come in without any proof"), "the open zone is told of");
    assert!(broker.stop().success());
}
