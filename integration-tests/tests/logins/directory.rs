//! Directories: passwords by bind and by hash, groups, permissions of many entries, TLS, restarts.

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::proxy::Proxy;
use hookline_integration_tests::{eventually, services, unique};
use hookline_mqtt::ReasonCode;

use super::backends::{BACK, Backend, address, config, fails_and_comes_back};
use super::{log_in, may_publish, may_subscribe, refusal};

pub(crate) fn ldap_url() -> String {
    std::env::var("HOOKLINE_TEST_LDAP").expect("HOOKLINE_TEST_LDAP names no directory; run: eval \"$(integration-tests/services env)\"")
}

pub(crate) const READER: &str = "bind_dn = \"cn=reader,dc=hookline,dc=test\"\nbind_password = \"reads\"";
pub(crate) const ENTRY: &str = "base_dn = \"ou=people,dc=hookline,dc=test\", filter = \"(&(objectClass=mqttUser)(uid=${username}))\"";

/// The directory's own users: alice, bob and carol, with "wonderland" where others have "public".
fn directory_decides(method: &str) {
    let mut proxy = Proxy::start(address(ldap_url().strip_prefix("ldap://").expect("a URL of LDAP")));
    let folder = tempfile::tempdir().expect("a folder");
    // The first server is not there: the next one answers.
    let config = config(&Backend {
        name: "ldap",
        connector: format!("type = \"ldap\"\nservers = \"ldap://127.0.0.1:1,ldap://{}\"\n{READER}", proxy.address()),
        proxy: Proxy::start(address("127.0.0.1:1")),
        login: format!("method = \"{method}\", {ENTRY}"),
        permissions: String::new(),
        clean: Box::new(|| ()),
    });
    let broker = Broker::start(folder.path(), &format!("{config}\n[authorization]\nno_match = \"deny\""));
    let wrong = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(refusal(&broker, "alice", "Wonderland"), wrong);
    assert_eq!(refusal(&broker, "alice", ""), wrong, "an empty password is no login, whatever the directory says");
    assert_eq!(refusal(&broker, "nobody", "wonderland"), Some(ReasonCode::NotAuthorized));
    for injected in ["*", "alice)(uid=*", "*)(objectClass=*", "a,ou=groups"] {
        assert!(refusal(&broker, injected, "wonderland").is_some(), "{injected}");
    }
    // Plain text in the directory is the password itself: only the directory can say so.
    if method == "bind" {
        let mut alice = log_in(&broker, "alice", "wonderland").unwrap_or_else(|reason| panic!("{reason:?}\n{}", broker.log()));
        assert!(may_publish(&mut alice, "plant/a/x") && may_subscribe(&mut alice, "plant/#"));
        assert!(!may_publish(&mut alice, "plant/b") && !may_subscribe(&mut alice, "#"));
        let mut carol = log_in(&broker, "carol", "charge").unwrap_or_else(|reason| panic!("{reason:?}\n{}", broker.log()));
        assert!(may_publish(&mut carol, "anything") && may_subscribe(&mut carol, "#"));
        fails_and_comes_back("ldap", &broker, &mut proxy, "wonderland", alice);
    }
    assert!(log_in(&broker, "bob", "builder").is_ok(), "{}", broker.log());
    assert_eq!(refusal(&broker, "bob", "wonderland"), wrong);
    assert!(broker.stop().success());
}

#[test]
fn ldap_checks_passwords_itself() {
    let _server = services::stay();
    directory_decides("bind");
}

#[test]
fn ldap_gives_hashes() {
    let _server = services::stay();
    directory_decides("hash");
}

/// Changes the directory as its administrator.
fn change_directory(command: &str, arguments: &[&str], input: &str) {
    let admin = ["-x", "-H", &ldap_url(), "-D", "cn=admin,dc=hookline,dc=test", "-w", "hookline"].map(str::to_owned);
    let mut child = std::process::Command::new(command)
        .args(admin)
        .args(arguments)
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it runs");
    std::io::Write::write_all(&mut child.stdin.take().expect("it has one"), input.as_bytes()).expect("written");
    assert!(child.wait().expect("it ends").success(), "{command}");
}

#[test]
fn every_hash_of_a_directory() {
    let _server = services::stay();
    let prefix = unique("hash");
    let user = |scheme: &str| format!("{prefix}-{}", scheme.trim_matches(['{', '}']).to_lowercase());
    let schemes = ["{SSHA}", "{SHA}", "{SMD5}", "{MD5}"];
    for scheme in schemes {
        let slappasswd = std::process::Command::new("/usr/sbin/slappasswd").args(["-h", scheme, "-s", "public"]).output().expect("it runs");
        let (hash, uid) = (String::from_utf8(slappasswd.stdout).expect("UTF-8"), user(scheme));
        assert!(hash.starts_with(scheme), "{hash}");
        let entry = format!(
            "dn: uid={uid},ou=people,dc=hookline,dc=test\nobjectClass: inetOrgPerson\nobjectClass: mqttUser\nuid: {uid}\ncn: x\nsn: x\n\
             userPassword: {hash}\n"
        );
        change_directory("ldapadd", &[], &entry);
    }
    let config = format!(
        "[mqtt]\nallow_anonymous = false\n[connectors.company]\ntype = \"ldap\"\nservers = \"{}\"\n{READER}\n\
         [[authentication]]\nname = \"company\"\nconnector = \"company\"\nparameters = {{ method = \"hash\", {ENTRY} }}",
        ldap_url()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config);
    for scheme in schemes {
        assert_eq!(refusal(&broker, &user(scheme), "public"), None, "{scheme}: {}", broker.log());
        assert_eq!(refusal(&broker, &user(scheme), "Public"), Some(ReasonCode::BadUserNameOrPassword), "{scheme}");
        change_directory("ldapdelete", &[&format!("uid={},ou=people,dc=hookline,dc=test", user(scheme))], "");
    }
    assert!(broker.stop().success());
}

#[test]
fn all_groups_of_a_client_give_permissions_more_than_a_directory_answers_at_once() {
    const GROUPS: usize = 1200;
    let _server = services::stay();
    let unit = format!("ou={},dc=hookline,dc=test", unique("lines"));
    let mut entries = format!("dn: {unit}\nobjectClass: organizationalUnit\n\n");
    for number in 0..GROUPS {
        let member = if number % 2 == 0 { "alice" } else { "bob" };
        entries += &format!(
            "dn: cn=line-{number},{unit}\nobjectClass: groupOfNames\nobjectClass: mqttUser\ncn: line-{number}\n\
             member: uid={member},ou=people,dc=hookline,dc=test\nmqttPublishTopic: lines/{number}/#\n\n"
        );
    }
    change_directory("ldapadd", &[], &entries);
    let config = |all: &str| {
        format!(
            "[mqtt]\nallow_anonymous = false\n[connectors.company]\ntype = \"ldap\"\nservers = \"{}\"\n{READER}\n\
             [[authentication]]\nname = \"company\"\nconnector = \"company\"\nparameters = {{ {ENTRY} }}\n\
             [[authorization.sources]]\nname = \"groups\"\nconnector = \"company\"\nparameters = {{ base_dn = \"{unit}\", \
             filter = \"(member=uid=${{username}},ou=people,dc=hookline,dc=test)\"{all} }}",
            ldap_url()
        )
    };
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(", all_entries = true"));
    let mut alice = log_in(&broker, "alice", "wonderland").unwrap_or_else(|reason| panic!("{reason:?}\n{}", broker.log()));
    let last = GROUPS - 2;
    assert!(may_publish(&mut alice, "lines/0/x") && may_publish(&mut alice, &format!("lines/{last}/x")), "{}", broker.log());
    assert!(!may_publish(&mut alice, "lines/1/x") && may_publish(&mut alice, "plant/a/x"));
    // Her groups change, and she stays in.
    change_directory(
        "ldapmodify",
        &[],
        &format!("dn: cn=line-0,{unit}\nchangetype: modify\nreplace: mqttPublishTopic\nmqttPublishTopic: other/#\n"),
    );
    let (code, ..) = run(&["ctl", "access", "--refresh", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0));
    eventually("the change has reached her", BACK, || may_publish(&mut alice, "other/x").then_some(()));
    assert!(!may_publish(&mut alice, "lines/0/x"));
    assert!(broker.stop().success());
    // Of one entry there must be one: several refuse.
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(""));
    assert_eq!(refusal(&broker, "alice", "wonderland"), Some(ReasonCode::ServerUnavailable));
    assert!(broker.log().contains("finds several entries"), "{}", broker.log());
    assert!(broker.stop().success());
    change_directory("ldapdelete", &["-r", &unit], "");
}

#[test]
fn only_members_of_a_group_come_in_over_tls_and_the_directory_may_restart() {
    let _alone = services::may_stop();
    let Some(ca) = services::authority("ldap") else {
        return println!("skipped: the directory is somebody's own, and its certificate is not known");
    };
    let ldaps = std::env::var("HOOKLINE_TEST_LDAPS").expect("it has TLS");
    for (servers, starttls) in [(ldaps, false), (ldap_url().replace("127.0.0.1", "localhost"), true)] {
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "[mqtt]\nallow_anonymous = false\n[connectors.company]\ntype = \"ldap\"\nservers = \"{servers}\"\nstarttls = {starttls}\n{READER}\n\
             tls = {{ ca = \"{ca}\" }}\n[[authentication]]\nname = \"company\"\nconnector = \"company\"\n\
             parameters = {{ {ENTRY}, member_of = [\"cn=mqtt, ou=groups,dc=hookline,dc=test\"] }}\n\
             fields = {{ attributes = [\"employeeType\"] }}\nbackend = {{ timeout_ms = 2000, pause_ms = 200 }}"
        );
        let broker = Broker::start(folder.path(), &config);
        assert!(log_in(&broker, "alice", "wonderland").is_ok(), "{}", broker.log());
        assert_eq!(refusal(&broker, "bob", "builder"), Some(ReasonCode::BadUserNameOrPassword), "he is in no group");
        if services::service("stop", "ldap") {
            assert!(refusal(&broker, "alice", "wonderland").is_some_and(|reason| reason != ReasonCode::BadUserNameOrPassword));
            services::service("start", "ldap");
        }
        eventually("the directory is back", BACK, || log_in(&broker, "alice", "wonderland").ok());
        assert!(broker.stop().success());
    }
}

#[test]
fn the_readme_s_example_of_a_company_works() {
    let _server = services::stay();
    let Some(ca) = services::authority("ldap") else {
        return println!("skipped: the directory is somebody's own, and its certificate is not known");
    };
    let readme = include_str!("../../../README.md");
    let (_, section) = readme.split_once("## Who may: logins against the company's LDAP").expect("the section is there");
    let (section, _) = section.split_once("\n## ").expect("another follows");
    let example: String = section.lines().filter_map(|line| line.strip_prefix("    ")).map(|line| format!("{line}\n")).collect();
    let example = example
        .replace("ldaps://ldap1.example.com,ldaps://ldap2.example.com", &std::env::var("HOOKLINE_TEST_LDAPS").expect("it has TLS"))
        .replace("dc=example,dc=com", "dc=hookline,dc=test")
        .replace("/etc/hookline/company-ca.pem", &ca);
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &example);
    let mut alice = log_in(&broker, "alice", "wonderland").unwrap_or_else(|reason| panic!("{reason:?}\n{}", broker.log()));
    assert!(
        may_publish(&mut alice, "people/alice/x") && !may_publish(&mut alice, "people/carol/x") && may_subscribe(&mut alice, "people/#")
    );
    assert!(refusal(&broker, "bob", "builder").is_some(), "he is not in the group");
    assert!(refusal(&broker, "", "").is_some(), "nobody comes in without a name");
    assert!(broker.stop().success());
}
