//! The servers behind the sinks: how each is named in a configuration, and what it holds, read by a client of its own.

use std::collections::BTreeSet;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ::mongodb::bson::doc;
use base64::Engine;
use hookline_integration_tests::broker::{Broker, run_with_input};
use hookline_integration_tests::proxy::Proxy;
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_integration_tests::{
    kafka as kafka_reader, mongo, mysql as mysql_reader, postgres as postgres_reader, redis as redis_reader, unique,
};
use hookline_mqtt::client::Options;
use hookline_mqtt::{QoS, Version};

/// What a server refuses is marked so.
const POISON: &str = "poison";

pub(crate) trait Server {
    fn name(&self) -> &'static str;

    /// A proxy in front of it.
    fn proxy(&self) -> Proxy;

    /// The settings of its connector, with the right password or a wrong one.
    fn connector(&self, address: &str, password: bool) -> String;

    /// The parameters of an action that writes `n`.
    fn parameters(&self) -> String;

    /// All `n` in the order in which they arrived. `about`: so many are expected.
    fn numbers(&self, about: usize) -> Vec<u64>;

    /// Whether a record that comes again is not there twice.
    fn is_idempotent(&self) -> bool;

    /// Whether it asks for one.
    fn has_password(&self) -> bool {
        true
    }

    /// The `word` of a record that it refuses for good.
    fn poison(&self) -> Option<String> {
        Some(POISON.to_owned())
    }

    /// Removes what is left of the test.
    fn clean(&self) {}
}

fn resolve(address: &str) -> SocketAddr {
    address.to_socket_addrs().expect("an address").next().expect("an address")
}

/// `SCHEME://USER:PASSWORD@HOST:PORT/DATABASE`, at another address.
fn redirected(url: &str, address: &str, password: bool) -> String {
    let (login, rest) = url.rsplit_once('@').expect("user:password@host:port/database");
    let database = rest.split_once('/').expect("a database").1;
    let login = if password { login.to_owned() } else { format!("{}:wrong", login.rsplit_once(':').expect("a password").0) };
    format!("{login}@{address}/{database}")
}

fn server_of(url: &str) -> SocketAddr {
    let place = url.rsplit_once('@').map_or(url, |(_, rest)| rest);
    let place = place.rsplit_once("://").map_or(place, |(_, rest)| rest);
    resolve(place.split('/').next().expect("host:port"))
}

struct Postgres {
    table: String,
    /// The method of the action.
    method: &'static str,
    /// Whether the statement and the table know records that come again.
    is_unique: bool,
}

pub(crate) fn postgres() -> impl Server {
    Postgres { table: unique("stands"), method: "insert", is_unique: true }
}

pub(crate) fn postgres_copy() -> impl Server {
    Postgres { table: unique("stands"), method: "copy", is_unique: true }
}

/// COPY into the table itself.
pub(crate) fn postgres_copy_plain() -> impl Server {
    Postgres { table: unique("stands"), method: "copy", is_unique: false }
}

impl Server for Postgres {
    fn name(&self) -> &'static str {
        match (self.method, self.is_unique) {
            ("copy", true) => "postgres, COPY with ON CONFLICT",
            ("copy", false) => "postgres, COPY",
            _ => "postgres",
        }
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(server_of(&postgres_reader::url()))
    }

    fn connector(&self, address: &str, password: bool) -> String {
        format!("type = \"postgres\"\nurl = \"{}\"", redirected(&postgres_reader::url(), address, password))
    }

    fn parameters(&self) -> String {
        let Postgres { table, method, is_unique } = self;
        let (key, conflict) = if *is_unique { ("PRIMARY KEY", "ON CONFLICT (id) DO NOTHING") } else { ("", "") };
        format!(
            "method = \"{method}\"\n\
             setup = \"CREATE TABLE IF NOT EXISTS {table} (id text {key}, place bigserial, n int8, word varchar(5))\"\n\
             sql = \"INSERT INTO {table} (id, n, word) VALUES (${{hookline_id}}, ${{n}}, ${{word}}) {conflict}\""
        )
    }

    fn numbers(&self, _: usize) -> Vec<u64> {
        let rows = postgres_reader::query(&format!("SELECT n FROM {} ORDER BY place", self.table));
        rows.iter().map(|row| row.get::<_, i64>(0) as u64).collect()
    }

    fn is_idempotent(&self) -> bool {
        self.is_unique
    }

    fn clean(&self) {
        postgres_reader::execute(&format!("DROP TABLE {}", self.table));
    }
}

struct Mysql(String);

pub(crate) fn mysql() -> impl Server {
    Mysql(unique("stands"))
}

impl Server for Mysql {
    fn name(&self) -> &'static str {
        "mysql"
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(server_of(&mysql_reader::url()))
    }

    fn connector(&self, address: &str, password: bool) -> String {
        format!("type = \"mysql\"\nurl = \"{}\"", redirected(&mysql_reader::url(), address, password))
    }

    fn parameters(&self) -> String {
        let table = &self.0;
        format!(
            "setup = \"CREATE TABLE IF NOT EXISTS {table} (id VARCHAR(255) PRIMARY KEY, place BIGINT NOT NULL AUTO_INCREMENT, n BIGINT, word VARCHAR(5), \
             UNIQUE (place))\"\n\
             sql = \"INSERT INTO {table} (id, n, word) VALUES (${{hookline_id}}, ${{n}}, ${{word}}) ON DUPLICATE KEY UPDATE id = id\""
        )
    }

    fn numbers(&self, _: usize) -> Vec<u64> {
        let rows = mysql_reader::query(&format!("SELECT n FROM {} ORDER BY place", self.0));
        rows.into_iter().flatten().map(|n| n.parse().expect("a number")).collect()
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn clean(&self) {
        mysql_reader::query(&format!("DROP TABLE {}", self.0));
    }
}

struct Mongodb(String);

pub(crate) fn mongodb() -> impl Server {
    let collection = unique("stands");
    mongo::command(&doc! {
        "createIndexes": &collection,
        "indexes": [{"key": {"same": 1}, "name": "same", "unique": true}],
    });
    mongo::command(&doc! {"insert": &collection, "documents": [{"_id": "first", "same": POISON}]});
    Mongodb(collection)
}

impl Server for Mongodb {
    fn name(&self) -> &'static str {
        "mongodb"
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(server_of(&mongo::url()))
    }

    fn connector(&self, address: &str, _: bool) -> String {
        let url = mongo::url();
        let database = url.rsplit_once('/').expect("a database").1;
        format!("type = \"mongodb\"\nurl = \"mongodb://{address}/{database}?directConnection=true&serverSelectionTimeoutMS=1000\"")
    }

    fn parameters(&self) -> String {
        // The index takes each number once, and the poison not at all.
        format!("collection = \"{}\"\ndocument = '{{\"n\": ${{n}}, \"same\": \"${{same}}\"}}'", self.0)
    }

    fn numbers(&self, _: usize) -> Vec<u64> {
        mongo::documents(&self.0).iter().filter_map(|document| document.get_i64("n").ok()).map(|n| n as u64).collect()
    }

    fn is_idempotent(&self) -> bool {
        true
    }

    fn has_password(&self) -> bool {
        // What stands for MongoDB in the tests asks for none.
        false
    }

    fn clean(&self) {
        mongo::command(&doc! {"drop": &self.0});
    }
}

struct Redis(String);

pub(crate) fn redis() -> impl Server {
    Redis(unique("stands"))
}

impl Server for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(resolve(&redis_reader::server()))
    }

    fn connector(&self, address: &str, password: bool) -> String {
        let login = if password { "" } else { "username = \"nobody\"\npassword = \"wrong\"" };
        format!("type = \"redis\"\nservers = \"{address}\"\n{login}")
    }

    fn parameters(&self) -> String {
        let script = "if ARGV[1] == 'poison' then return redis.error_reply('ERR no') end return redis.call('RPUSH', KEYS[1], ARGV[2])";
        format!("command = [\"EVAL\", \"{script}\", \"1\", \"{}\", \"${{word}}\", \"${{n}}\"]", self.0)
    }

    fn numbers(&self, _: usize) -> Vec<u64> {
        let lines = redis_reader::lines(&["LRANGE", &self.0, "0", "-1"]);
        lines.iter().filter(|line| !line.is_empty()).map(|n| n.parse().expect("a number")).collect()
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn clean(&self) {
        redis_reader::ask(&["DEL", &self.0]);
    }
}

struct Kafka(String);

pub(crate) fn kafka() -> impl Server {
    let topic = unique("stands");
    kafka_reader::create_topic(&topic, 1);
    Kafka(topic)
}

impl Server for Kafka {
    fn name(&self) -> &'static str {
        "kafka"
    }

    fn proxy(&self) -> Proxy {
        let (server, advertised) = kafka_reader::proxied();
        Proxy::start_at(advertised, server)
    }

    fn connector(&self, address: &str, password: bool) -> String {
        let password = if password { "hookline" } else { "wrong" };
        format!(
            "type = \"kafka\"\nbootstrap_hosts = \"{address}\"\n\
             authentication = {{ mechanism = \"scram_sha_256\", username = \"hookline\", password = \"{password}\" }}\n\
             properties = {{ \"message.max.bytes\" = \"20000\", \"socket.timeout.ms\" = \"3000\" }}"
        )
    }

    fn parameters(&self) -> String {
        format!("topic = \"{}\"", self.0)
    }

    fn numbers(&self, about: usize) -> Vec<u64> {
        let n = |record: &kafka_reader::Consumed| record.value["n"].as_u64().expect("a number");
        let mut seen = BTreeSet::new();
        let mut looked_at = 0;
        let read = kafka_reader::consume(&self.0, 1, Duration::from_secs(3), |found| {
            seen.extend(found[looked_at..].iter().map(n));
            looked_at = found.len();
            seen.len() >= about
        });
        read.iter().map(n).collect()
    }

    fn is_idempotent(&self) -> bool {
        // Where the producer is made anew, it is another one for Kafka.
        false
    }

    fn poison(&self) -> Option<String> {
        Some("x".repeat(30_000))
    }
}

/// Another broker, and a subscriber of it that remembers everything.
struct Mqtt {
    broker: Broker,
    numbers: Arc<Mutex<Vec<u64>>>,
    _folder: tempfile::TempDir,
}

pub(crate) fn mqtt() -> impl Server {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[mqtt]\nallow_anonymous = false\ncheck_payload_format = true\n[[authentication]]\nname = \"own\"\ntype = \"file\"\npath = \"users\"\n\
                  [[authentication]]\nname = \"reader\"\ntype = \"client_id\"\nclient_ids = [\"reader\"]";
    let users = folder.path().join("users");
    let (code, line) = run_with_input(&["ctl", "users", "hash", "bridge"], "right\n");
    assert_eq!(code, Some(0));
    std::fs::write(&users, line).expect("written");
    let broker = Broker::start(folder.path(), &config.replace("\"users\"", &format!("\"{}\"", users.display())));
    let numbers = Arc::new(Mutex::new(Vec::new()));
    let mut reader = broker.connect(&Options::new("reader").version(Version::V5));
    reader.subscribe(&[("bridged/#", QoS::AtLeastOnce)]).expect("subscribed");
    let seen = Arc::clone(&numbers);
    // It ends with its broker.
    std::thread::spawn(move || {
        while let Ok(message) = reader.receive(Duration::from_secs(3600)) {
            let Some(message) = message else { return };
            let payload: serde_json::Value = serde_json::from_slice(&message.payload).expect("JSON");
            seen.lock().expect("lock").push(payload["n"].as_u64().expect("a number"));
        }
    });
    Mqtt { broker, numbers, _folder: folder }
}

impl Server for Mqtt {
    fn name(&self) -> &'static str {
        "mqtt"
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(self.broker.address())
    }

    fn connector(&self, address: &str, password: bool) -> String {
        let password = if password { "right" } else { "wrong" };
        format!("type = \"mqtt\"\nserver = \"{address}\"\nusername = \"bridge\"\npassword = \"{password}\"")
    }

    fn parameters(&self) -> String {
        "topic = \"bridged/${word}\"\npayload = '{\"n\": ${n}}'".to_owned()
    }

    fn numbers(&self, about: usize) -> Vec<u64> {
        // The last ones may still be on their way to the reader.
        let began = std::time::Instant::now();
        loop {
            let numbers = self.numbers.lock().expect("lock").clone();
            if numbers.iter().collect::<BTreeSet<_>>().len() >= about || began.elapsed() > Duration::from_secs(5) {
                return numbers;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn is_idempotent(&self) -> bool {
        false
    }

    fn poison(&self) -> Option<String> {
        Some("no/+/topic".to_owned())
    }
}

struct Http(Webhook);

pub(crate) fn http() -> impl Server {
    let login = format!("Basic {}", base64::engine::general_purpose::STANDARD.encode("hookline:right"));
    let webhook = Webhook::start(move |request| {
        if request.header("authorization") != login {
            Reply::Answer(401, "", "who are you?".into())
        } else if request.json()["word"] == POISON {
            Reply::Answer(422, "", "not that".into())
        } else {
            Reply::Answer(204, "", String::new())
        }
    });
    Http(webhook)
}

impl Server for Http {
    fn name(&self) -> &'static str {
        "http"
    }

    fn proxy(&self) -> Proxy {
        Proxy::start(self.0.address())
    }

    fn connector(&self, address: &str, password: bool) -> String {
        let password = if password { "right" } else { "wrong" };
        format!(
            "type = \"http\"\nurl = \"http://{address}\"\ntimeout_secs = 1\n\
             auth = {{ type = \"basic\", username = \"hookline\", password = \"{password}\" }}"
        )
    }

    fn parameters(&self) -> String {
        "path = \"/in\"".to_owned()
    }

    fn numbers(&self, _: usize) -> Vec<u64> {
        let requests = self.0.requests();
        // The end of "hookline:right" in base64.
        let right = requests.iter().filter(|request| request.header("authorization").ends_with("cmlnaHQ="));
        right
            .map(|request| request.json())
            .filter(|body| body["word"] != POISON)
            .map(|body| body["n"].as_u64().expect("a number"))
            .collect()
    }

    fn is_idempotent(&self) -> bool {
        false
    }
}
