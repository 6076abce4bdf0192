//! Databases, directories and HTTP servers that know users: the tables and queries of an existing installation.

use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{Broker, run, run_with_input};
use hookline_integration_tests::proxy::{Proxy, Weather};
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_integration_tests::{eventually, mongo, mysql, postgres, redis, services, unique};
use hookline_mqtt::ReasonCode;
use hookline_mqtt::client::Client;
use mongodb::bson::doc;

use super::{log_in, may_publish, may_subscribe, refusal};

/// How long a backend that comes back may be left alone.
pub(super) const BACK: Duration = Duration::from_secs(20);
/// A salt.
const SALTED: &str = "e6ba9ac2ae0d5d6a4ff0f1e1d6e1a1b4";

/// A backend behind a proxy.
pub(crate) struct Backend {
    pub(crate) name: &'static str,
    pub(super) proxy: Proxy,
    pub(crate) connector: String,
    /// What is asked about a login.
    pub(crate) login: String,
    /// What is asked about permissions; empty: the login tells.
    pub(super) permissions: String,
    /// Removes what was made for it.
    pub(crate) clean: Box<dyn FnOnce()>,
}

impl Backend {
    /// Its connector without the proxy.
    pub(crate) fn straight(&self) -> String {
        self.connector.replace(&self.proxy.address().to_string(), &self.proxy.server().to_string())
    }
}

pub(super) fn config(backend: &Backend) -> String {
    let source = match backend.permissions.as_str() {
        "" => String::new(),
        permissions => format!(
            "[[authorization.sources]]\nname = \"acl\"\nconnector = \"users\"\nparameters = {{ {permissions} }}\nbackend = {{ timeout_ms = 1000, pause_ms = 300 }}"
        ),
    };
    format!(
        r#"
        [mqtt]
        allow_anonymous = false
        [connectors.users]
        {}
        [[authentication]]
        name = "users"
        connector = "users"
        parameters = {{ {} }}
        password_hash = {{ salt_position = "prefix" }}
        backend = {{ timeout_ms = 1000, pause_ms = 300, failures_max = 3 }}
        {source}
        "#,
        backend.connector, backend.login
    )
}

/// Everything that must hold whatever the backend is. It knows alice (password "public"; may publish below plant/a and subscribe to plant/#), bob
/// (password "builder", no permissions) and carol (password "charge", superuser).
fn decides(mut backend: Backend) {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&backend));
    let name = backend.name;
    let wrong = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(refusal(&broker, "alice", "Public"), wrong, "{name}: a wrong password");
    assert_eq!(refusal(&broker, "alice", ""), wrong, "{name}: no password");
    assert_eq!(refusal(&broker, "carol", "public"), wrong, "{name}: another's password");
    assert_eq!(refusal(&broker, "nobody", "public"), Some(ReasonCode::NotAuthorized), "{name}: nobody knows the client");
    assert_eq!(refusal(&broker, "", ""), Some(ReasonCode::NotAuthorized), "{name}: no name at all");
    for injected in ["' OR '1'='1", "alice' --", "*", "alice)(uid=*", "alice\r\nX: y", "{\"$ne\": null}", "alice\" or 1=1"] {
        assert!(refusal(&broker, injected, "public").is_some(), "{name}: {injected}");
    }
    let mut alice = log_in(&broker, "alice", "public").unwrap_or_else(|reason| panic!("{name}: {reason:?}\n{}", broker.log()));
    assert!(may_publish(&mut alice, "plant/a/x"), "{name}: {}", broker.log());
    assert!(may_subscribe(&mut alice, "plant/+/x"), "{name}");
    for forbidden in ["plant/b/x", "other"] {
        assert!(!may_publish(&mut alice, forbidden), "{name}: {forbidden}");
    }
    for forbidden in ["#", "+/#", "other"] {
        assert!(!may_subscribe(&mut alice, forbidden), "{name}: {forbidden}");
    }
    let mut bob = log_in(&broker, "bob", "builder").unwrap_or_else(|reason| panic!("{name}: {reason:?}\n{}", broker.log()));
    assert!(!may_publish(&mut bob, "plant/a/x") && !may_subscribe(&mut bob, "plant/#"), "{name}: no permission is none");
    let mut carol = log_in(&broker, "carol", "charge").unwrap_or_else(|reason| panic!("{name}: {reason:?}\n{}", broker.log()));
    assert!(may_publish(&mut carol, "anything") && may_subscribe(&mut carol, "#"), "{name}: a superuser may everything");

    fails_and_comes_back(name, &broker, &mut backend.proxy, "public", alice);
    assert_eq!(refusal(&broker, "alice", "wrong"), wrong, "{name}: it still decides");

    let (code, out, _) = run(&["ctl", "access", "-o", "json", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
    let stats: serde_json::Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(code, Some(0));
    assert!(stats["users"]["answered"].as_u64() > Some(5) && stats["users"]["failed"].as_u64() > Some(0), "{name}: {stats}");
    let log = broker.log();
    for secret in ["\"public\"", "builder", "charge", "hookline:hookline", "reads"] {
        assert!(!log.contains(secret), "{name}: \"{secret}\" is in the log");
    }
    assert!(broker.stop().success());
    (backend.clean)();
}

/// A backend that is away, hangs or talks nonsense refuses, says so, and is asked again when it is back. Who is in stays in.
pub(super) fn fails_and_comes_back(name: &str, broker: &Broker, proxy: &mut Proxy, password: &str, mut alice: Client) {
    for weather in [Weather::Refuse, Weather::Hang, Weather::Garbled] {
        proxy.set(weather);
        for _ in 0..2 {
            let began = Instant::now();
            let reason = refusal(broker, "alice", password);
            let is_told = matches!(reason, Some(ReasonCode::ServerUnavailable | ReasonCode::ServerBusy));
            assert!(is_told, "{name}, {weather:?}: {reason:?}\n{}", broker.log());
            assert!(began.elapsed() < Duration::from_secs(5), "{name}, {weather:?}: the deadline ends the wait: {:?}", began.elapsed());
        }
        assert!(may_publish(&mut alice, "plant/a/x"), "{name}: permissions hold while nobody can be asked");
        proxy.set(Weather::Fair);
        // She takes her own session over.
        alice = eventually(&format!("{name} is back after {weather:?}"), BACK, || log_in(broker, "alice", password).ok());
    }
}

pub(super) fn address(text: &str) -> SocketAddr {
    text.to_socket_addrs().expect("an address").next().expect("an address")
}

/// `SCHEME://LOGIN@HOST:PORT/DATABASE` by way of a proxy.
fn proxied(url: &str) -> (Proxy, String) {
    let (before, place) = url.rsplit_once('@').unwrap_or_else(|| url.split_once("://").expect("a URL"));
    let (server, database) = place.split_once('/').expect("a database");
    let proxy = Proxy::start(address(server));
    let between = if url.contains('@') { "@" } else { "://" };
    let redirected = format!("{before}{between}{}/{database}", proxy.address());
    (proxy, redirected)
}

fn sha256(text: &str) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Name, hash, salt, whether it is a superuser.
fn users() -> [(&'static str, String, &'static str, bool); 3] {
    let salted = |password: &str| sha256(&format!("{SALTED}{password}"));
    [("alice", salted("public"), SALTED, false), ("bob", salted("builder"), SALTED, false), ("carol", salted("charge"), SALTED, true)]
}

pub(crate) fn postgres() -> Backend {
    let (table, acl) = (unique("mqtt_user"), unique("mqtt_acl"));
    postgres::execute(&format!(
        "CREATE TABLE {table} (id serial PRIMARY KEY, username text UNIQUE, password_hash text, salt text, is_superuser boolean DEFAULT false);
         CREATE TYPE {acl}_action AS ENUM ('publish', 'subscribe', 'all');
         CREATE TABLE {acl} (id serial PRIMARY KEY, ipaddress text DEFAULT '', username text, clientid text DEFAULT '', action {acl}_action,
            permission text, topic text, qos smallint, retain smallint);
         INSERT INTO {acl} (username, permission, action, topic) VALUES ('alice', 'allow', 'publish', 'plant/a/#'), ('alice', 'allow', 'subscribe', 'plant/#')"
    ));
    for (name, hash, salt, superuser) in users() {
        postgres::execute(&format!(
            "INSERT INTO {table} (username, password_hash, salt, is_superuser) VALUES ('{name}', '{hash}', '{salt}', {superuser})"
        ));
    }
    let (proxy, url) = proxied(&postgres::url());
    Backend {
        name: "postgres",
        proxy,
        connector: format!("type = \"postgres\"\nurl = \"{url}\""),
        login: format!("query = \"SELECT password_hash, salt, is_superuser FROM {table} WHERE username = ${{username}} LIMIT 1\""),
        permissions: format!(
            "query = \"SELECT action, permission, topic, ipaddress, qos, retain FROM {acl} WHERE username = ${{username}}\""
        ),
        clean: Box::new(move || {
            postgres::execute(&format!("DROP TABLE {table}; DROP TABLE {acl}; DROP TYPE {acl}_action"));
        }),
    }
}

#[test]
fn postgres_decides() {
    let _server = services::stay();
    decides(postgres());
}

/// Puts a user into a place: name, hash, whether it is switched off.
type Put = dyn Fn(&str, &str, bool);

/// A place of users with hashes of every kind.
struct Hashes {
    kind: &'static str,
    connector: String,
    parameters: String,
    put: Box<Put>,
    clean: Box<dyn FnOnce()>,
}

fn places_of_hashes() -> [Hashes; 4] {
    let (table, collection, prefix) = (unique("mqtt_hashes"), unique("mqtt_hashes"), unique("mqtt_hashes"));
    let columns = format!("{table} (username varchar(100), hash varchar(200), salt varchar(10), disabled boolean, admin varchar(5))");
    postgres::execute(&format!("CREATE TABLE {columns}"));
    mysql::query(&format!("CREATE TABLE {columns}"));
    let query = format!("query = \"SELECT hash, salt, disabled, admin FROM {table} WHERE username = ${{username}}\"");
    let insert = format!("INSERT INTO {table} VALUES");
    let (of_mysql, of_mongodb, of_redis) = (insert.clone(), collection.clone(), prefix.clone());
    let (drop_postgres, drop_mysql) = (format!("DROP TABLE {table}"), format!("DROP TABLE {table}"));
    [
        Hashes {
            kind: "postgres",
            connector: format!("url = \"{}\"", postgres::url()),
            parameters: query.clone(),
            put: Box::new(move |user, hash, disabled| {
                postgres::execute(&format!("{insert} ('{user}', '{hash}', 'slat', {disabled}, 'yes')"));
            }),
            clean: Box::new(move || {
                postgres::execute(&drop_postgres);
            }),
        },
        Hashes {
            kind: "mysql",
            connector: format!("url = \"{}\"", mysql::url()),
            parameters: query,
            put: Box::new(move |user, hash, disabled| {
                mysql::query(&format!("{of_mysql} ('{user}', '{hash}', 'slat', {disabled}, 'yes')"));
            }),
            clean: Box::new(move || {
                mysql::query(&drop_mysql);
            }),
        },
        Hashes {
            kind: "mongodb",
            connector: format!("url = \"{}?directConnection=true\"", mongo::url()),
            parameters: format!("collection = \"{collection}\", filter = '{{\"username\": \"${{username}}\"}}'"),
            put: Box::new(move |user, hash, disabled| {
                let user = doc! {"username": user, "hash": hash, "salt": "slat", "disabled": disabled, "admin": true};
                mongo::command(&doc! {"insert": &of_mongodb, "documents": [user]});
            }),
            clean: Box::new(move || {
                mongo::command(&doc! {"drop": &collection});
            }),
        },
        Hashes {
            kind: "redis",
            connector: format!("servers = \"{}\"", redis::server()),
            parameters: format!("command = \"HGETALL {prefix}:${{username}}\""),
            put: Box::new(move |user, hash, disabled| {
                let (key, disabled) = (format!("{of_redis}:{user}"), if disabled { "1" } else { "0" });
                redis::ask(&["HSET", &key, "hash", hash, "salt", "slat", "disabled", disabled, "admin", "1"]);
                redis::ask(&["EXPIRE", &key, "600"]);
            }),
            clean: Box::new(|| ()),
        },
    ]
}

#[test]
fn every_hash_in_every_place_and_users_that_are_switched_off() {
    let _server = services::stay();
    let digest = |algorithm: &'static aws_lc_rs::digest::Algorithm, text: &str| -> String {
        aws_lc_rs::digest::digest(algorithm, text.as_bytes()).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
    };
    let mut derived = [0u8; 32];
    let rounds = std::num::NonZeroU32::new(4096).expect("not zero");
    aws_lc_rs::pbkdf2::derive(aws_lc_rs::pbkdf2::PBKDF2_HMAC_SHA256, rounds, b"slat", b"public", &mut derived);
    let derived: String = derived.iter().map(|byte| format!("{byte:02x}")).collect();
    let argon2 = run_with_input(&["ctl", "users", "hash", "x"], "public\n").1;
    postgres::execute("CREATE EXTENSION IF NOT EXISTS pgcrypto");
    let bcrypt: String = postgres::query("SELECT crypt('public', gen_salt('bf', 4))")[0].get(0);
    let hashes = [
        ("plain", "algorithm = \"plain\"", "public".to_owned()),
        // As md5sum says of "slatpublic".
        ("md5", "algorithm = \"md5\"", "d2d72a99f032aa037066e50436788ba0".to_owned()),
        ("sha", "algorithm = \"sha\", salt_position = \"suffix\"", digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, "publicslat")),
        ("sha256", "algorithm = \"sha256\"", digest(&aws_lc_rs::digest::SHA256, "slatpublic")),
        ("sha512", "algorithm = \"sha512\", salt_position = \"disable\"", digest(&aws_lc_rs::digest::SHA512, "public")),
        ("pbkdf2", "algorithm = \"pbkdf2\", iterations = 4096", derived),
        ("argon2", "algorithm = \"argon2\"", argon2.trim_end().split_once(':').expect("name:hash").1.to_owned()),
        ("bcrypt", "algorithm = \"bcrypt\"", bcrypt),
    ];
    for place in places_of_hashes() {
        let kind = place.kind;
        let mut config = format!("[mqtt]\nallow_anonymous = false\n[connectors.db]\ntype = \"{kind}\"\n{}\n", place.connector);
        for (name, settings, hash) in &hashes {
            (place.put)(&format!("on-{name}"), hash, false);
            (place.put)(&format!("off-{name}"), hash, true);
            config += &format!(
                "[[authentication]]\nname = \"{name}\"\nconnector = \"db\"\nprecondition = \"regex_match(username, '-{name}$')\"\n\
                 parameters = {{ {} }}\nfields = {{ password_hash = \"hash\", is_disabled = \"disabled\", is_superuser = \"admin\" }}\n\
                 password_hash = {{ {settings} }}\n",
                place.parameters
            );
        }
        let folder = tempfile::tempdir().expect("a folder");
        let broker = Broker::start(folder.path(), &config);
        let wrong = Some(ReasonCode::BadUserNameOrPassword);
        for (name, ..) in &hashes {
            assert_eq!(refusal(&broker, &format!("on-{name}"), "public"), None, "{kind}, {name}: {}", broker.log());
            assert_eq!(refusal(&broker, &format!("on-{name}"), "Public"), wrong, "{kind}, {name}");
            assert_eq!(refusal(&broker, &format!("off-{name}"), "public"), wrong, "{kind}, {name}: switched off");
        }
        assert!(broker.stop().success());
        (place.clean)();
    }
}

pub(crate) fn mysql() -> Backend {
    let (table, acl) = (unique("mqtt_user"), unique("mqtt_acl"));
    // The tables of version 4, as many have them.
    mysql::query(&format!(
        "CREATE TABLE {table} (id int unsigned PRIMARY KEY AUTO_INCREMENT, username varchar(100), password_hash varchar(100), salt varchar(35),
            is_superuser tinyint(1) DEFAULT 0, created datetime, UNIQUE (username));
         CREATE TABLE {acl} (id int unsigned PRIMARY KEY AUTO_INCREMENT, allow int, ipaddr varchar(60), username varchar(100), clientid varchar(100), access int,
            topic varchar(100));
         INSERT INTO {acl} (allow, username, access, topic) VALUES (1, 'alice', 2, 'plant/a/#'), (1, 'alice', 1, 'plant/#'), (0, '$all', 1, 'eq #')"
    ));
    for (name, hash, salt, superuser) in users() {
        mysql::query(&format!(
            "INSERT INTO {table} (username, password_hash, salt, is_superuser) VALUES ('{name}', '{hash}', '{salt}', {superuser})"
        ));
    }
    let (proxy, url) = proxied(&mysql::url());
    Backend {
        name: "mysql",
        proxy,
        connector: format!("type = \"mysql\"\nurl = \"{url}\""),
        login: format!("query = \"SELECT password_hash, salt, is_superuser FROM {table} WHERE username = ${{username}} LIMIT 1\""),
        permissions: format!(
            "query = \"SELECT allow, ipaddr, username, clientid, access, topic FROM {acl} WHERE username = ${{username}} OR username = '$all'\""
        ),
        clean: Box::new(move || {
            mysql::query(&format!("DROP TABLE {table}; DROP TABLE {acl}"));
        }),
    }
}

#[test]
fn mysql_decides() {
    let _server = services::stay();
    decides(mysql());
}

pub(crate) fn mongodb() -> Backend {
    let (collection, acl) = (unique("mqtt_user"), unique("mqtt_acl"));
    for (name, hash, salt, superuser) in users() {
        let user = doc! {"username": name, "password_hash": hash, "salt": salt, "is_superuser": superuser};
        mongo::command(&doc! {"insert": &collection, "documents": [user]});
    }
    mongo::command(&doc! {"insert": &acl, "documents": [
        {"username": "alice", "permission": "allow", "action": "publish", "topics": ["plant/a/#"]},
        {"username": "alice", "permission": "allow", "action": "subscribe", "topics": ["plant/#"], "qos": [0, 1]},
    ]});
    let (proxy, url) = proxied(&mongo::url());
    let filter = r#"filter = '{"username": "${username}"}'"#;
    Backend {
        name: "mongodb",
        proxy,
        connector: format!("type = \"mongodb\"\nurl = \"{url}?directConnection=true&serverSelectionTimeoutMS=500\""),
        login: format!("collection = \"{collection}\", {filter}"),
        permissions: format!("collection = \"{acl}\", {filter}"),
        clean: Box::new(move || {
            mongo::command(&doc! {"drop": &collection});
            mongo::command(&doc! {"drop": &acl});
        }),
    }
}

#[test]
fn mongodb_decides() {
    let _server = services::stay();
    decides(mongodb());
}

pub(crate) fn redis() -> Backend {
    let prefix = unique("mqtt");
    for (name, hash, salt, superuser) in users() {
        let key = format!("{prefix}_user:{name}");
        redis::ask(&["HSET", &key, "password_hash", &hash, "salt", salt, "is_superuser", if superuser { "1" } else { "0" }]);
    }
    let acl = format!("{prefix}_acl:alice");
    redis::ask(&["HSET", &acl, "plant/a/#", "publish", "plant/#", r#"{"action": "subscribe", "qos": [0, 1]}"#]);
    let proxy = Proxy::start(address(&redis::server()));
    let connector = format!("type = \"redis\"\nservers = \"{}\"", proxy.address());
    Backend {
        name: "redis",
        proxy,
        connector,
        login: format!("command = \"HMGET {prefix}_user:${{username}} password_hash salt is_superuser\""),
        permissions: format!("command = \"HGETALL {prefix}_acl:${{username}}\""),
        clean: Box::new(move || {
            for name in ["alice", "bob", "carol"] {
                redis::ask(&["DEL", &format!("{prefix}_user:{name}"), &acl]);
            }
        }),
    }
}

#[test]
fn redis_decides() {
    let _server = services::stay();
    decides(redis());
}

/// A server that takes so long for each answer.
pub(crate) fn http(latency: Duration) -> (Backend, Webhook) {
    let server = Webhook::start(move |request| {
        std::thread::sleep(latency);
        let body = request.json();
        let right = matches!(
            (body["username"].as_str(), body["password"].as_str()),
            (Some("alice"), Some("public")) | (Some("bob"), Some("builder")) | (Some("carol"), Some("charge"))
        );
        let answer = match body["username"].as_str() {
            Some("alice" | "bob" | "carol") if !right => r#"{"result": "deny"}"#,
            Some("alice") => {
                r##"{"result": "allow", "acl": [{"permission": "allow", "action": "publish", "topic": "plant/a/#"},
                    {"permission": "allow", "action": "subscribe", "topic": "plant/#"}, {"permission": "deny", "action": "all", "topic": "#"}]}"##
            }
            Some("bob") => r#"{"result": "allow", "acl": {"pub": [], "sub": []}}"#,
            Some("carol") => r#"{"result": "allow", "is_superuser": true}"#,
            _ => r#"{"result": "ignore"}"#,
        };
        Reply::Answer(200, "Content-Type: application/json\r\n", answer.into())
    });
    let proxy = Proxy::start(server.address());
    let backend = Backend {
        name: "http",
        connector: format!("type = \"http\"\nurl = \"http://{}\"\nheaders = {{ X-Broker = \"hookline\" }}", proxy.address()),
        proxy,
        login: "path = \"/auth\", json = '{\"username\": \"${username}\", \"password\": \"${password}\", \"clientid\": \"${clientid}\"}'"
            .into(),
        permissions: String::new(),
        clean: Box::new(|| ()),
    };
    (backend, server)
}

#[test]
fn http_decides() {
    let (backend, server) = http(Duration::ZERO);
    decides(backend);
    let asked = server.requests();
    assert!(asked.iter().all(|request| request.header("x-broker") == "hookline" && request.target == "/auth"));
}

#[test]
fn nonsense_from_a_backend_is_a_refusal() {
    for answer in [
        "<html>",
        "{}",
        r#"{"result": "perhaps"}"#,
        r#"{"result": "allow", "acl": "all"}"#,
        r#"{"result": "allow", "acl": [{"permission": "allow"}]}"#,
    ] {
        let server = Webhook::start(move |_| Reply::Answer(200, "", answer.into()));
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "[mqtt]\nallow_anonymous = false\n[connectors.h]\ntype = \"http\"\nurl = \"http://{}\"\n[[authentication]]\nname = \"h\"\nconnector = \"h\"",
            server.address()
        );
        let broker = Broker::start(folder.path(), &config);
        assert_eq!(refusal(&broker, "alice", "public"), Some(ReasonCode::ServerUnavailable), "{answer}");
    }
}
