//! `hookline import`: who moves in from mosquitto or EMQX finds users, permissions, bridges and rules as they were.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::eventually;
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};

const LIMIT: Duration = Duration::from_secs(30);

fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A mosquitto that runs. It ends with the test.
struct Mosquitto(Child);

impl Mosquitto {
    fn start(config: &Path, port: u16) -> Mosquitto {
        let child =
            Command::new("mosquitto").arg("-c").arg(config).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("mosquitto runs");
        let mosquitto = Mosquitto(child);
        eventually("mosquitto listens", LIMIT, || std::net::TcpStream::connect(("127.0.0.1", port)).ok());
        mosquitto
    }
}

impl Drop for Mosquitto {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Runs mosquitto_pub or mosquitto_sub: whether it succeeded, and what it printed.
fn client(port: u16, program: &str, arguments: &[&str]) -> (bool, String) {
    let output = Command::new(program).args(["-h", "127.0.0.1", "-p", &port.to_string()]).args(arguments).output().expect("it runs");
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// What the calls of a plant bring, one line for each.
fn calls(port: u16) -> Vec<String> {
    let mut told = Vec::new();
    let mut call = |what: &str, program: &str, arguments: &[&str]| {
        let (success, out) = client(port, program, arguments);
        told.push(format!("{what}: {success} {out:?}"));
    };
    let (alice, bob) = (["-u", "alice", "-P", "one"], ["-u", "bob", "-P", "two"]);
    // Logins, with the hashes of mosquitto_passwd, the older form of them among these.
    for (what, login) in [
        ("alice", alice),
        ("bob", bob),
        ("wrong", ["-u", "alice", "-P", "two"]),
        ("nobody", ["-u", "eve", "-P", "one"]),
        ("old", ["-u", "carol", "-P", "three"]),
    ] {
        call(what, "mosquitto_pub", &[&login[..], &["-t", "own/x", "-m", "x"]].concat());
    }
    call("anonymous", "mosquitto_pub", &["-t", "sensors/a", "-m", "x"]);
    // Permissions, seen by what is retained.
    let keep =
        |login: [&'static str; 4], topic: &'static str| [&login[..], &["-V", "mqttv5", "-q", "1", "-r", "-t", topic, "-m", topic]].concat();
    for (what, arguments) in [
        ("alice writes", keep(alice, "sensors/a")),
        ("alice is denied", keep(alice, "sensors/secret")),
        ("bob may only read", keep(bob, "sensors/b")),
        ("bob's own", keep(bob, "own/bob/x")),
        ("alice in bob's own", keep(alice, "own/bob/y")),
        (
            "a pattern with the client",
            [&alice[..], &["-V", "mqttv5", "-i", "pump", "-r", "-q", "1", "-t", "client/pump/x", "-m", "c"]].concat(),
        ),
        ("of another client", [&alice[..], &["-V", "mqttv5", "-i", "pump", "-r", "-q", "1", "-t", "client/other/x", "-m", "c"]].concat()),
    ] {
        // mosquitto_pub tells of a refusal on standard error, and is content.
        call(what, "mosquitto_pub", &arguments);
    }
    call("what bob reads", "mosquitto_sub", &[&bob[..], &["-v", "-W", "2", "-t", "sensors/#"]].concat());
    call("what bob has", "mosquitto_sub", &[&bob[..], &["-v", "-W", "2", "-t", "own/bob/#"]].concat());
    call("what pump has", "mosquitto_sub", &[&bob[..], &["-i", "pump", "-v", "-W", "2", "-t", "client/pump/#"]].concat());
    call("what other has", "mosquitto_sub", &[&bob[..], &["-i", "other", "-v", "-W", "2", "-t", "client/other/#"]].concat());
    // A session that waits.
    let session = [&bob[..], &["-c", "-i", "keeper", "-q", "1", "-v", "-t", "sensors/#"]].concat();
    call("a session", "mosquitto_sub", &[&session[..], &["-E"]].concat());
    for number in ["1", "2", "3"] {
        call("while it is away", "mosquitto_pub", &[&alice[..], &["-q", "1", "-t", "sensors/n", "-m", number]].concat());
    }
    call("it comes back", "mosquitto_sub", &[&session[..], &["-R", "-C", "3", "-W", "5"]].concat());
    told
}

#[test]
fn the_same_calls_have_the_same_results_on_mosquitto_and_here() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = |name: &str| folder.path().join(name);
    let (port, central) = (free_port(), free_port());
    let password = |name: &str, word: &str| {
        let made =
            Command::new("mosquitto_passwd").arg("-b").arg(file("passwords")).args([name, word]).status().expect("mosquitto_passwd runs");
        assert!(made.success());
    };
    // As mosquitto before version 2 has made them: SHA-512 of the password and the salt.
    let hash = {
        use base64::Engine;
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA512, b"three0123456789ab");
        base64::engine::general_purpose::STANDARD.encode(digest.as_ref())
    };
    std::fs::write(file("passwords"), format!("carol:$6$MDEyMzQ1Njc4OWFi${hash}\n")).expect("written");
    password("alice", "one");
    password("bob", "two");
    let acl = "topic read $SYS/#\nuser alice\ntopic readwrite sensors/#\ntopic deny sensors/secret\nuser bob\ntopic read sensors/#\n\
               pattern readwrite own/%u/#\npattern readwrite client/%c/#\n";
    std::fs::write(file("acl"), acl).expect("written");
    std::fs::write(file("central.conf"), format!("listener {central} 127.0.0.1\nallow_anonymous true\n")).expect("written");
    std::fs::create_dir(file("conf.d")).expect("made");
    let bridge = format!(
        "connection central\naddress 127.0.0.1:{central}\nbridge_protocol_version mqttv50\ntopic # out 1 sensors/ site7/\n\
         topic commands/# in 1 sensors/ site7/\nnotifications false\n"
    );
    std::fs::write(file("conf.d/bridge.conf"), bridge).expect("written");
    let config = format!(
        "# A plant\nlistener {port} 127.0.0.1\nmax_connections 500\nallow_anonymous false\npassword_file {}\nacl_file {}\n\
         max_inflight_messages 10\nmax_queued_messages 100\npersistent_client_expiration 14d\nlog_dest file {}\nuser root\n\
         persistence false\nset_tcp_nodelay true\ninclude_dir {}\n",
        file("passwords").display(),
        file("acl").display(),
        file("log").display(),
        file("conf.d").display()
    );
    std::fs::write(file("mosquitto.conf"), config).expect("written");
    let _central = Mosquitto::start(&file("central.conf"), central);
    let mosquitto = Mosquitto::start(&file("mosquitto.conf"), port);
    let before = calls(port);
    drop(mosquitto);
    for line in [
        "alice: true \"\"",
        "wrong: false \"\"",
        "old: true \"\"",
        "anonymous: false \"\"",
        "what bob reads: false \"sensors/a sensors/a\\n\"",
        "what bob has: false \"own/bob/x own/bob/x\\n\"",
        "what pump has: false \"client/pump/x c\\n\"",
        "what other has: false \"\"",
        "it comes back: true \"sensors/n 1\\nsensors/n 2\\nsensors/n 3\\n\"",
    ] {
        assert!(before.iter().any(|told| told == line), "{line} is not in {before:#?}");
    }

    let to = file("made.toml");
    let (code, _, error) = run(&["import", "mosquitto", text(&file("mosquitto.conf")), "--to", text(&to)]);
    assert!(code == Some(0) && error.contains("It is valid."), "{error}");
    for note in ["log_dest", "user: ", "persistence false", "set_tcp_nodelay"] {
        assert!(error.contains(note), "\"{note}\" is not told: {error}");
    }
    let made = std::fs::read_to_string(&to).expect("written");
    assert!(made.starts_with("# Made by") && made.contains("# - log_dest"), "{made}");
    let (code, _, error) = run(&["import", "mosquitto", text(&file("mosquitto.conf")), "--to", text(&to)]);
    assert!(code == Some(1) && error.contains("--force"), "nothing is written over: {error}");
    let broker = Broker::start_with(folder.path(), &["--config", text(&to)]);
    assert_eq!(calls(port), before, "\n{made}");

    // The bridge, both ways, with its prefixes.
    let mut far = Client::connect(("127.0.0.1", central), &Options::new("far").version(Version::V5)).expect("connects");
    far.subscribe(&[("site7/#", QoS::AtLeastOnce)]).expect("subscribed");
    // What the first part has retained and sent.
    while far.receive(Duration::from_millis(500)).expect("connected").is_some() {}
    assert!(client(port, "mosquitto_pub", &["-u", "alice", "-P", "one", "-q", "1", "-t", "sensors/north/t", "-m", "21"]).0);
    let message = far.receive(LIMIT).expect("connected").expect("it goes out");
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("site7/north/t", &b"21"[..]));
    let mut near = broker.connect(&{
        let mut options = Options::new("near").version(Version::V5);
        options.connect.username = Some("bob".into());
        options.connect.password = Some(b"two".to_vec());
        options
    });
    near.subscribe(&[("sensors/commands/#", QoS::AtLeastOnce)]).expect("subscribed");
    far.publish("site7/commands/stop", b"now", QoS::AtLeastOnce, false).expect("acknowledged");
    let message = near.receive(LIMIT).expect("connected").expect("it comes in");
    assert_eq!((message.topic.as_str(), &message.payload[..]), ("sensors/commands/stop", &b"now"[..]));
    assert!(broker.stop().success());
}

#[test]
fn listeners_of_mosquitto_keep_what_is_theirs() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = hookline_integration_tests::certificates::Certificates::make(folder.path());
    let file = |name: &str| folder.path().join(name);
    let passwords = Command::new("mosquitto_passwd").args(["-c", "-b"]).arg(file("passwords")).args(["alice", "one"]).status();
    assert!(passwords.expect("mosquitto_passwd runs").success());
    let config = format!(
        "per_listener_settings true\nlistener 21883 127.0.0.1\nallow_anonymous true\nlistener 28883 127.0.0.1\nallow_anonymous false\npassword_file {}\n\
         cafile {ca}\ncertfile {cert}\nkeyfile {key}\nrequire_certificate true\ntls_version tlsv1.3\nlistener 28083 127.0.0.1\nprotocol websockets\nmax_qos 1\n",
        file("passwords").display(),
        ca = certificates.ca.display(),
        cert = certificates.server.display(),
        key = certificates.server_key.display(),
    );
    std::fs::write(file("mosquitto.conf"), config).expect("written");
    let (code, out, error) = run(&["import", "mosquitto", text(&file("mosquitto.conf")), "--to", "-"]);
    assert_eq!(code, Some(0), "{out}{error}");
    for line in [
        "[listeners.tcp.21883]",
        "[listeners.tls.28883]",
        "[listeners.ws.28083]",
        "client_auth = \"required\"",
        "version_min = \"1.3\"",
        "zone = \"ws-28083\"",
        "qos_max = 1",
    ] {
        assert!(out.contains(line), "{line} is not in {out}");
    }
}

/// What EMQX writes into an export, but for its tables.
const CLUSTER: &str = r##"
listeners {
  tcp {default {bind = "127.0.0.1:0", max_connections = 100, enable_authn = true}}
  quic {x {bind = 14567}}
}
mqtt {max_packet_size = 2MB, max_mqueue_len = 500, session_expiry_interval = 1h, retry_interval = 30s, idle_timeout = 20s}
authentication = [
  {
    mechanism = password_based, backend = built_in_database, user_id_type = username
    password_hash_algorithm {name = sha256, salt_position = prefix}
  }
]
authorization {
  deny_action = ignore, no_match = deny
  sources = [{type = file, enable = true, path = "${EMQX_ETC_DIR}/acl.conf"}]
}
connectors {
  http {ops {url = "OPS", headers {"content-type" = "application/json", connection = "keep-alive"}, pool_size = 8, ssl {enable = false}}}
  kafka_producer {big {bootstrap_hosts = "127.0.0.1:9", authentication = none}}
  mysql {shop {server = "127.0.0.1:9", username = u, password = "p@ss", database = d}}
  pgsql {plant {server = "127.0.0.1", username = u, password = p, database = d}}
  redis {cache {parameters {redis_type = single, server = "127.0.0.1:9"}}}
  mongodb {docs {parameters {mongo_type = single, server = "127.0.0.1:9"}, database = d}}
  mqtt {far {server = "127.0.0.1:9", proto_ver = v5}}
  oracle {old {server = "127.0.0.1:9"}}
}
actions {
  http {gone {connector = ops, parameters {path = "/devices/${.device}", method = post, body = "{\"celsius\": ${.celsius}}"}, resource_opts {max_buffer_bytes = 256MB}}}
  kafka_producer {line {connector = big, parameters {topic = readings, message {key = "${.device}", value = "${.}"}, required_acks = all_isr}}}
  mysql {row {connector = shop, parameters {sql = "INSERT INTO t (a) VALUES (${device})"}}}
  pgsql {row {connector = plant, parameters {sql = "INSERT INTO t (a) VALUES (${device})"}}}
  redis {last {connector = cache, parameters {command_template = [HSET, "d:${.device}", c, "${.celsius}"]}}}
  mongodb {doc {connector = docs, parameters {collection = readings, payload_template = "{\"d\": \"${.device}\"}"}}}
  mqtt {up {connector = far, parameters {topic = "up/${.device}", qos = 1, retain = false, payload = "${.celsius}"}}}
  oracle {row {connector = old, parameters {sql = "x"}}}
}
rule_engine {
  rules {
    hot {
      name = hot, description = "hot ones", enable = true
      actions = ["http:gone", "oracle:row", {function = republish, args {topic = "alarms/${.device}", payload = "${.celsius}", qos = 1, retain = false}}]
      sql = """~
        SELECT clientid AS device, payload.celsius AS celsius
        FROM "devices/+"
        WHERE payload.celsius > 30~"""
    }
    all {actions = ["kafka_producer:line", "mysql:row", "pgsql:row", "redis:last", "mongodb:doc", "mqtt:up"], sql = "SELECT clientid AS device, payload.celsius AS celsius FROM \"nothing/comes/here\""}
  }
}
telemetry {enable = false}
"##;

const ACL: &str = r##"
{allow, {username, {re, "^dash"}}, subscribe, ["$SYS/#"]}.
{deny, all, subscribe, ["secret/#"]}.
{allow, {username, "alice"}, publish, ["devices/${clientid}"]}.
{allow, all, subscribe, ["alarms/#"]}.
{deny, {zone, "x"}, all, ["y"]}.
"##;

#[test]
fn an_export_of_emqx_runs_here_with_its_users_permissions_and_rules() {
    let folder = tempfile::tempdir().expect("a folder");
    let ops = Webhook::start(|_| Reply::Answer(204, "", String::new()));
    let export = folder.path().join("emqx-export-1");
    std::fs::create_dir_all(export.join("authz")).expect("made");
    std::fs::create_dir_all(export.join("mnesia")).expect("made");
    std::fs::write(export.join("cluster.hocon"), CLUSTER.replace("OPS", &format!("http://{}", ops.address()))).expect("written");
    std::fs::write(export.join("META.hocon"), "version = \"5.8.0\"\n").expect("written");
    std::fs::write(export.join("authz/acl.conf"), ACL).expect("written");
    std::fs::write(export.join("mnesia/emqx_authn_mnesia"), b"\x01\x02").expect("written");
    let tar = Command::new("tar").args(["-czf", "export.tar.gz", "emqx-export-1"]).current_dir(folder.path()).status();
    assert!(tar.expect("tar runs").success());
    // SHA-256 of the salt and the password, as EMQX keeps it.
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, b"saltsecret");
    let hash: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    let users = folder.path().join("users.csv");
    std::fs::write(&users, format!("user_id,password_hash,salt,is_superuser\nalice,{hash},salt,false\nroot,{hash},salt,true\n"))
        .expect("written");
    let to = folder.path().join("made.toml");
    let export = folder.path().join("export.tar.gz");
    let (code, out, error) = run(&["import", "emqx", text(&export), "--users", text(&users), "--to", text(&to)]);
    let made = std::fs::read_to_string(&to).unwrap_or_default();
    assert!(code == Some(0) && error.contains("It is valid."), "{out}{error}\n{made}");
    for note in ["listeners.quic", "connectors.oracle", "oracle:row", "{zone, \"x\"}", "Erlang's own form", "telemetry"] {
        assert!(error.contains(note), "\"{note}\" is not told: {error}");
    }

    let broker = Broker::start_with(folder.path(), &["--config", text(&to)]);
    let login = |id: &str, name: &str, password: &str| {
        let mut options = Options::new(id).version(Version::V5);
        options.connect.username = Some(name.into());
        options.connect.password = Some(password.as_bytes().to_vec());
        Client::connect(broker.address(), &options)
    };
    assert!(login("x", "alice", "wrong").is_err() && login("x", "eve", "secret").is_err());
    assert!(Client::connect(broker.address(), &Options::new("x")).is_err(), "nobody comes in without a name");
    let mut alice = login("pump", "alice", "secret").expect("the hash is known");
    assert_eq!(
        alice.subscribe(&[("alarms/#", QoS::AtLeastOnce), ("secret/x", QoS::AtLeastOnce)]).expect("answered"),
        [ReasonCode::GrantedQoS1, ReasonCode::NotAuthorized]
    );
    assert!(alice.publish("devices/other", b"{}", QoS::AtLeastOnce, false).expect("answered").is_error());
    let mut root = login("r", "root", "secret").expect("the hash is known");
    assert_eq!(root.subscribe(&[("secret/#", QoS::AtLeastOnce)]).expect("answered"), [ReasonCode::GrantedQoS1], "a superuser");
    assert!(!alice.publish("devices/pump", br#"{"celsius": 71.5}"#, QoS::AtLeastOnce, false).expect("answered").is_error());
    let alarm = alice.receive(LIMIT).expect("connected").expect("the rule republishes");
    assert_eq!((alarm.topic.as_str(), &alarm.payload[..]), ("alarms/pump", &b"71.5"[..]));
    let request = eventually("the webhook is called", LIMIT, || ops.requests().first().cloned());
    assert_eq!((request.target.as_str(), String::from_utf8_lossy(&request.body).as_ref()), ("/devices/pump", "{\"celsius\":71.5}"));
    assert!(broker.stop().success());
}
