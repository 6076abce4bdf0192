//! A `connection` of mosquitto.conf: a connector, an action with a rule for what goes out, a source for what comes in.

use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

use super::super::Imported;

/// A bridge.
#[derive(Debug, Default)]
pub(super) struct Bridge {
    name: String,
    addresses: Vec<String>,
    topics: Vec<Topic>,
    username: Option<String>,
    password: Option<String>,
    client_id: Option<String>,
    keep_alive: Option<i64>,
    version: Option<String>,
    ca: Option<PathBuf>,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    notes: Vec<String>,
}

/// A `topic` line.
#[derive(Debug)]
struct Topic {
    pattern: String,
    direction: Direction,
    qos: u8,
    local: String,
    remote: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Direction {
    Out,
    In,
    Both,
}

impl Bridge {
    pub(super) fn new(name: &str) -> Bridge {
        Bridge { name: name.to_owned(), ..Bridge::default() }
    }

    /// Takes a line; `false`: it is not about bridges.
    pub(super) fn take(&mut self, key: &str, value: &str, path: &Path) -> anyhow::Result<bool> {
        match key {
            "address" | "addresses" => self.addresses = value.split_whitespace().map(str::to_owned).collect(),
            "topic" => self.topics.push(topic(value)?),
            "remote_username" | "username" => self.username = Some(value.to_owned()),
            "remote_password" | "password" => self.password = Some(value.to_owned()),
            "remote_clientid" | "clientid" => self.client_id = Some(value.to_owned()),
            "keepalive_interval" => self.keep_alive = Some(value.parse().context("it must be a number")?),
            "bridge_protocol_version" => self.version = Some(value.to_owned()),
            "bridge_cafile" => self.ca = Some(path.to_owned()),
            "bridge_certfile" => self.cert = Some(path.to_owned()),
            "bridge_keyfile" => self.key = Some(path.to_owned()),
            "bridge_insecure" if value == "true" => {
                self.notes.push("bridge_insecure: the name in the server's certificate is always checked here".into());
            }
            // Nothing is lost by leaving them out: that is how it is here.
            "bridge_insecure"
            | "cleansession"
            | "restart_timeout"
            | "try_private"
            | "local_cleansession"
            | "bridge_attempt_unsubscribe"
            | "bridge_max_packet_size" => {}
            "start_type" if value == "automatic" => {}
            "round_robin" if value == "false" => {}
            "start_type"
            | "idle_timeout"
            | "threshold"
            | "round_robin"
            | "notifications"
            | "notifications_local_only"
            | "notification_topic"
            | "bridge_capath"
            | "bridge_alpn"
            | "bridge_psk"
            | "bridge_identity"
            | "bridge_outgoing_retain"
            | "bridge_bind_address"
            | "bridge_tls_version"
            | "local_clientid"
            | "local_username"
            | "local_password" => {
                self.notes.push(format!("{key}: has no counterpart"));
            }
            _ => return Ok(false),
        }
        Ok(true)
    }

    /// Puts it into the configuration.
    pub(super) fn make(self, imported: &mut Imported) {
        let name = self.name.as_str();
        let note = |imported: &mut Imported, text: &str| imported.note(format!("connection {name}: {text}"));
        self.notes.iter().for_each(|text| note(imported, text));
        let Some(first) = self.addresses.first() else {
            return note(imported, "it has no address, and was left out");
        };
        if self.addresses.len() > 1 {
            note(imported, &format!("the first address is used; {} are left out", self.addresses[1..].join(", ")));
        }
        let has_tls = self.ca.is_some() || self.cert.is_some();
        let port = if has_tls { 8883 } else { 1883 };
        let server = if first.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
            first.clone()
        } else {
            format!("{first}:{port}")
        };
        imported.set(&["connectors", name, "type"], "mqtt");
        imported.set(&["connectors", name, "server"], server);
        if matches!(self.version.as_deref(), Some("mqttv311" | "mqttv31")) {
            imported.set(&["connectors", name, "proto_ver"], "v3");
        }
        for (key, value) in [("username", &self.username), ("password", &self.password), ("client_id_prefix", &self.client_id)] {
            if let Some(value) = value {
                imported.set(&["connectors", name, key], value.as_str());
            }
        }
        if let Some(secs) = self.keep_alive {
            imported.set(&["connectors", name, "keep_alive_secs"], secs);
        }
        if has_tls {
            let files = [("ca", &self.ca), ("cert", &self.cert), ("key", &self.key)];
            let files =
                files.into_iter().filter_map(|(key, file)| Some((key.to_owned(), Value::from(file.as_ref()?.display().to_string()))));
            imported.set(&["connectors", name, "tls"], Table::from_iter(files));
        }
        for (number, topic) in self.topics.iter().enumerate() {
            let part = format!("{name}-{}", number + 1);
            if topic.direction != Direction::In {
                out(imported, name, &part, topic);
            }
            if topic.direction != Direction::Out {
                self.take_in(imported, &part, topic);
            }
        }
        if self.topics.is_empty() {
            note(imported, "it has no topic line, so nothing goes over it");
        }
    }

    fn take_in(&self, imported: &mut Imported, part: &str, topic: &Topic) {
        let Topic { pattern, qos, local, remote, .. } = topic;
        // Templates cannot cut off a prefix; a rewrite can, of topics that nobody else has.
        let stage = format!("bridge-in/{part}/");
        let to = match (remote.is_empty(), pattern.is_empty()) {
            (true, _) => format!("{local}${{topic}}"),
            (false, true) => local.clone(),
            (false, false) => {
                let rewrite = Table::from_iter([
                    ("action".to_owned(), Value::from("publish")),
                    ("source_topic".to_owned(), format!("{stage}#").into()),
                    ("re".to_owned(), format!("^{}(.*)$", escape(&format!("{stage}{remote}"))).into()),
                    ("dest_topic".to_owned(), format!("{local}$1").into()),
                ]);
                imported.push(&["rewrite"], rewrite);
                format!("{stage}${{topic}}")
            }
        };
        let parameters = Table::from_iter([
            ("topics".to_owned(), Value::Array(vec![format!("{remote}{pattern}").into()])),
            ("qos".to_owned(), i64::from(*qos).into()),
            ("topic".to_owned(), to.into()),
            ("retain".to_owned(), true.into()),
        ]);
        imported.set(&["sources", part, "connector"], self.name.as_str());
        imported.set(&["sources", part, "parameters"], parameters);
    }
}

/// What goes out: a rule that cuts off the local prefix, an action that puts the remote one before it.
fn out(imported: &mut Imported, name: &str, part: &str, topic: &Topic) {
    let Topic { pattern, qos, local, remote, .. } = topic;
    let rest = match (local.is_empty(), pattern.is_empty()) {
        (true, _) => "topic".to_owned(),
        (false, false) => format!("substr(topic, {})", local.chars().count()),
        (false, true) => "''".to_owned(),
    };
    let sql = format!("SELECT {rest} AS rest, payload, qos, flags.retain AS retain, pub_props FROM \"{local}{pattern}\"");
    imported.set(&["rules", part, "sql"], sql);
    imported.set(&["rules", part, "description"], format!("the bridge {name}, what goes out"));
    imported.set(&["rules", part, "actions"], Value::Array(vec![part.into()]));
    imported.set(&["actions", part, "connector"], name);
    let parameters = Table::from_iter([
        ("topic".to_owned(), Value::from(format!("{remote}${{rest}}"))),
        ("payload".to_owned(), "${payload}".into()),
        ("qos".to_owned(), qos.to_string().into()),
        ("retain".to_owned(), "${retain}".into()),
    ]);
    imported.set(&["actions", part, "parameters"], parameters);
}

/// Reads `pattern [[[out | in | both] qos-level] local-prefix remote-prefix]`.
fn topic(value: &str) -> anyhow::Result<Topic> {
    let words: Vec<&str> = value.split_whitespace().map(|word| if word == "\"\"" { "" } else { word }).collect();
    let direction = match words.get(1) {
        None | Some(&"out") => Direction::Out,
        Some(&"in") => Direction::In,
        Some(&"both") => Direction::Both,
        Some(other) => anyhow::bail!("\"{other}\" is no direction: out, in or both"),
    };
    let word = |place: usize| words.get(place).copied().unwrap_or_default().to_owned();
    let qos = words.get(2).map_or(Ok(0), |qos| qos.parse()).context("the QoS is no number")?;
    anyhow::ensure!(!words.is_empty() && qos <= 2, "a topic and a QoS of 0 to 2 are needed");
    Ok(Topic { pattern: word(0), direction, qos, local: word(3), remote: word(4) })
}

/// A text as a regular expression that is this text.
fn escape(text: &str) -> String {
    text.chars().flat_map(|c| (!c.is_alphanumeric() && !"/-_ ".contains(c)).then_some('\\').into_iter().chain([c])).collect()
}
