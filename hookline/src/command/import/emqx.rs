//! EMQX 5 and later: emqx.conf, a data export, or the configuration as JSON.

mod integration;
mod limits;
mod users;

use std::collections::BTreeMap;
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde_json::{Map, Value as Json};
use toml::{Table, Value};

use super::{Imported, acl_conf, hocon};

/// Bytes of a file of an export at the most: what is longer is no configuration.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// What is known of EMQX's installation.
struct Reader {
    imported: Imported,
    /// Where files of an export will be.
    beside: PathBuf,
    /// The files of an export that the configuration may name: certificates, permissions.
    files: BTreeMap<String, Vec<u8>>,
    users: Option<PathBuf>,
    /// Users that may do everything.
    superusers: Vec<String>,
}

/// Makes a configuration of it.
pub(super) fn import(file: &Path, users: Option<&Path>, beside: &Path) -> anyhow::Result<Imported> {
    let bytes = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    let mut reader = Reader {
        imported: Imported::default(),
        beside: beside.to_owned(),
        files: BTreeMap::new(),
        users: users.map(Path::to_owned),
        superusers: Vec::new(),
    };
    let text = if bytes.starts_with(&[0x1f, 0x8b]) {
        reader.unpack(&bytes).with_context(|| format!("{} is no export of EMQX", file.display()))?
    } else {
        String::from_utf8(bytes).with_context(|| format!("{} is no text", file.display()))?
    };
    let mut notes = Vec::new();
    let config = hocon::parse(&text, &mut notes).with_context(|| file.display().to_string())?;
    notes.into_iter().for_each(|note| reader.imported.note(note));
    reader.take(&config)?;
    Ok(reader.imported)
}

impl Reader {
    /// Reads an export: its configuration; what else may be of use is remembered.
    fn unpack(&mut self, bytes: &[u8]) -> anyhow::Result<String> {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let mut config = None;
        for entry in archive.entries()? {
            let mut entry = entry?;
            let path = entry.path()?.into_owned();
            // Below a folder that has the name of the export.
            let name: PathBuf = path.components().skip(1).collect();
            let Some(name) = name.to_str().map(str::to_owned).filter(|name| entry.header().entry_type().is_file() && !name.contains(".."))
            else {
                continue;
            };
            if name.starts_with("mnesia/") {
                self.imported.note("the tables of the export (users, permissions, retained messages, bans) are in Erlang's own form, and were not read: give the users by --users");
                continue;
            }
            anyhow::ensure!(entry.size() <= FILE_BYTES_MAX, "{name} is too long");
            let mut content = Vec::new();
            entry.read_to_end(&mut content)?;
            if name == "cluster.hocon" {
                config = Some(String::from_utf8(content).context("cluster.hocon is no text")?);
            } else if name != "META.hocon" {
                self.files.insert(name, content);
            }
        }
        config.context("there is no cluster.hocon in it")
    }

    fn take(&mut self, config: &Map<String, Json>) -> anyhow::Result<()> {
        // Permissions must know who may do everything.
        if let Some(chain) = config.get("authentication") {
            self.take_authentication(chain)?;
        }
        for (name, value) in config {
            match name.as_str() {
                "listeners" => self.take_listeners(value),
                "mqtt" => limits::take(&mut self.imported, value),
                "retainer" => limits::take_retainer(&mut self.imported, value),
                "sys_topics" => limits::take_sys(&mut self.imported, value),
                "authentication" => {}
                "authorization" => self.take_authorization(value)?,
                "connectors" => integration::connectors(self, value),
                "actions" => integration::actions(&mut self.imported, value),
                "sources" => integration::sources(&mut self.imported, value),
                "rule_engine" | "rewrite" | "auto_subscribe" | "delayed" => {}
                "node" => {
                    if let Some(node) = value["name"].as_str() {
                        self.imported.set(&["node", "name"], node);
                    }
                    self.imported.note("node: only its name was taken; the cookie and Erlang's settings mean nothing here");
                }
                "dashboard" => {
                    let port = value.pointer("/listeners/http/bind").and_then(address).unwrap_or_else(|| "127.0.0.1:18083".into());
                    let port = port.rsplit(':').next().unwrap_or("18083").to_owned();
                    self.imported.set(&["api", "bind"], format!("127.0.0.1:{port}"));
                    self.imported.note("dashboard: it listens on 127.0.0.1 alone (api.bind); the first start makes a password, and the users of EMQX's dashboard are not taken");
                }
                "log" => {
                    let level = value.pointer("/console/level").or_else(|| value.pointer("/file/level")).and_then(Json::as_str);
                    if let Some(level) = level {
                        let level = match level {
                            "debug" => "debug",
                            "info" | "notice" => "info",
                            "warning" => "warn",
                            _ => "error",
                        };
                        self.imported.set(&["log", "level"], level);
                    }
                }
                "bridges" => self.imported.note(
                    "bridges: the form before EMQX 5.4; let EMQX 5.4 or later start with it once, which writes connectors and actions",
                ),
                "cluster" | "rpc" | "broker" => self.imported.note(format!("{name}: several nodes are not there")),
                other => self.imported.note(format!("{other}: has no counterpart, or was not taken; see docs/broker.md")),
            }
        }
        // What names others comes when they are there.
        integration::rules(&mut self.imported, config.get("rule_engine").unwrap_or(&Json::Null));
        limits::take_topics(&mut self.imported, config);
        if !config.contains_key("listeners") {
            self.imported.set(&["listeners", "tcp", "default", "bind"], "0.0.0.0:1883");
            self.imported.set(&["listeners", "ws", "default", "bind"], "0.0.0.0:8083");
            self.imported.note("listeners: none are named, so those are there that EMQX opens by itself, but for TLS (8883, 8084): its certificates are made for trying");
        }
        let has_logins = self.imported.get(&["authentication"]).is_some();
        self.imported.set(&["mqtt", "allow_anonymous"], !has_logins);
        Ok(())
    }

    fn take_listeners(&mut self, all: &Json) {
        for (kind, listeners) in entries(all) {
            let to = match kind.as_str() {
                "tcp" | "ws" | "wss" => kind.as_str(),
                "ssl" => "tls",
                other => {
                    self.imported.note(format!("listeners.{other}: there is no such transport here"));
                    continue;
                }
            };
            for (name, listener) in entries(listeners) {
                let path = |key| ["listeners", to, name.as_str(), key];
                self.imported.set(&path("enable"), listener["enable"].as_bool().or(listener["enabled"].as_bool()).unwrap_or(true));
                if let Some(bind) = address(&listener["bind"]) {
                    self.imported.set(&path("bind"), bind);
                }
                if let Some(max) = listener["max_connections"].as_i64() {
                    self.imported.set(&path("connections_max"), max);
                }
                for (from, key) in [("mountpoint", "mountpoint"), ("proxy_protocol", "proxy_protocol"), ("access_rules", "access")] {
                    if let Some(value) = plain(&listener[from]).filter(|value| value.as_str() != Some("")) {
                        self.imported.set(&path(key), value);
                    }
                }
                if let Some(websocket) = listener.pointer("/websocket/mqtt_path").and_then(Json::as_str) {
                    self.imported.set(&["listeners", to, name, "websocket", "path"], websocket);
                }
                if let Some(zone) = listener["zone"].as_str().filter(|zone| *zone != "default") {
                    self.imported.note(format!("listeners.{kind}.{name}: its zone \"{zone}\" was not taken"));
                }
                if listener.get("authentication").is_some_and(|chain| chain.as_array().is_none_or(|chain| !chain.is_empty())) {
                    self.imported.note(format!(
                        "listeners.{kind}.{name}.authentication: name its authenticators by listeners.{to}.{name}.authentication"
                    ));
                }
                if listener["enable_authn"] == Json::Bool(false) {
                    self.imported.note(format!("listeners.{kind}.{name}: enable_authn = false; its clients must log in here, too"));
                }
                if matches!(to, "tls" | "wss") {
                    self.take_tls(&listener["ssl_options"], to, name);
                }
            }
        }
    }

    fn take_tls(&mut self, ssl: &Json, to: &str, name: &str) {
        let path = |key| ["listeners", to, name, "tls", key];
        for (from, key) in [("certfile", "cert"), ("keyfile", "key")] {
            if let Some(file) = ssl[from].as_str() {
                let file = self.file(file);
                self.imported.set(&path(key), file);
            }
        }
        if ssl["verify"] == "verify_peer" {
            let ca = ssl["cacertfile"].as_str().map(|file| self.file(file)).unwrap_or_default();
            self.imported.set(&path("client_ca"), ca);
            let required = ssl["fail_if_no_peer_cert"].as_bool().unwrap_or(false);
            self.imported.set(&path("client_auth"), if required { "required" } else { "optional" });
        }
        if ssl["enable_crl_check"] == Json::Bool(true) {
            self.imported.note("ssl_options.enable_crl_check: revocation lists are not read; CERTIFICATES THAT WERE REVOKED COME IN");
        }
        for key in ["password", "ocsp"] {
            if ssl.get(key).is_some_and(|value| !value.is_null() && value != "") {
                self.imported.note(format!("listeners.{to}.{name}: ssl_options.{key} has no counterpart"));
            }
        }
    }

    /// A file that the configuration names: one of the export is put beside what is made.
    fn file(&mut self, path: &str) -> String {
        let name = ["certs/", "authz/"].iter().find_map(|part| path.find(part).map(|at| path[at..].to_owned()));
        if let Some((name, content)) = name.and_then(|name| self.files.get(&name).map(|content| (name, content.clone()))) {
            let file = self.beside.join(&name).display().to_string();
            if !self.imported.files.iter().any(|(other, _)| *other == name) {
                self.imported.files.push((name, content));
            }
            return file;
        }
        let mut real = path.to_owned();
        for (variable, folder) in [("EMQX_ETC_DIR", "/etc/emqx"), ("EMQX_DATA_DIR", "/var/lib/emqx"), ("EMQX_LOG_DIR", "/var/log/emqx")] {
            let folder = std::env::var(variable).unwrap_or_else(|_| folder.to_owned());
            real = real.replace(&format!("${{{variable}}}"), &folder).replace(&format!("${variable}"), &folder);
        }
        real
    }

    fn take_authentication(&mut self, all: &Json) -> anyhow::Result<()> {
        let chain = all.as_array().cloned().unwrap_or_else(|| vec![all.clone()]);
        for one in chain.iter().filter(|one| one["enable"].as_bool() != Some(false)) {
            let (mechanism, backend) = (one["mechanism"].as_str().unwrap_or_default(), one["backend"].as_str().unwrap_or_default());
            let name = if backend.is_empty() { mechanism.to_owned() } else { backend.to_owned() };
            match (mechanism, backend) {
                ("password_based", "built_in_database") => {
                    self.superusers.extend(users::built_in(&mut self.imported, one, self.users.as_deref(), &self.beside)?);
                }
                ("jwt", _) => self.take_jwt(one),
                ("password_based", "mysql" | "postgresql" | "redis" | "mongodb") => {
                    let mut made = Table::from_iter([("name".to_owned(), Value::from(name.as_str()))]);
                    made.insert("connector".into(), format!("login-{name}").into());
                    made.insert("parameters".into(), question(one).into());
                    made.insert("password_hash".into(), users::password_hash(&one["password_hash_algorithm"]).into());
                    integration::connector(self, &format!("login-{name}"), backend, one);
                    self.imported.push(&["authentication"], made);
                }
                _ => self.imported.note(format!("authentication {mechanism} {backend}: set it up anew; docs/access.md has what is there")),
            }
        }
        Ok(())
    }

    fn take_jwt(&mut self, one: &Json) {
        let mut jwt = Table::new();
        if one["use_jwks"] == Json::Bool(true) {
            let endpoint = one["endpoint"].as_str().unwrap_or_default();
            self.imported.set(&["connectors", "jwks", "type"], "http");
            self.imported.set(&["connectors", "jwks", "url"], endpoint);
            jwt.insert("jwks".into(), Table::from_iter([("connector".to_owned(), Value::from("jwks"))]).into());
        } else if let Some(key) = one["public_key"].as_str() {
            if key.contains("-----BEGIN") {
                self.imported.files.push(("jwt-public-key.pem".into(), key.as_bytes().to_vec()));
                jwt.insert("public_key".into(), self.beside.join("jwt-public-key.pem").display().to_string().into());
            } else {
                let file = self.file(key);
                jwt.insert("public_key".into(), file.into());
            }
        } else if let Some(secret) = one["secret"].as_str() {
            jwt.insert("secret".into(), secret.into());
            jwt.insert("secret_base64".into(), one["secret_base64_encoded"].as_bool().unwrap_or(false).into());
        }
        if one["from"] == "username" {
            jwt.insert("from".into(), "username".into());
        }
        for (from, key) in [("acl_claim_name", "acl_claim"), ("disconnect_after_expire", "disconnect_after_expire")] {
            if let Some(value) = plain(&one[from]) {
                jwt.insert(key.into(), value);
            }
        }
        let claims: Table = match &one["verify_claims"] {
            Json::Object(claims) => claims.iter().filter_map(|(name, value)| Some((name.clone(), value.as_str()?.into()))).collect(),
            Json::Array(list) => {
                list.iter().filter_map(|claim| Some((claim["name"].as_str()?.to_owned(), claim["value"].as_str()?.into()))).collect()
            }
            _ => Table::new(),
        };
        if !claims.is_empty() {
            jwt.insert("verify_claims".into(), claims.into());
        }
        let made =
            Table::from_iter([("name".to_owned(), Value::from("jwt")), ("type".to_owned(), "jwt".into()), ("jwt".to_owned(), jwt.into())]);
        self.imported.push(&["authentication"], made);
    }

    fn take_authorization(&mut self, all: &Json) -> anyhow::Result<()> {
        let no_match = all["no_match"].as_str().unwrap_or("allow");
        self.imported.set(&["authorization", "no_match"], no_match);
        if let Some(action) = all["deny_action"].as_str() {
            self.imported.set(&["authorization", "deny_action"], action);
        }
        let has_sources = all["sources"].as_array().is_some_and(|sources| !sources.is_empty());
        if has_sources && !self.superusers.is_empty() {
            let rule = |name: &String| {
                Value::Table(Table::from_iter([("permission".to_owned(), "allow".into()), ("username".to_owned(), name.as_str().into())]))
            };
            let rules = Value::Array(self.superusers.iter().map(rule).collect());
            let made = Table::from_iter([("name".to_owned(), Value::from("superusers")), ("rules".to_owned(), rules)]);
            self.imported.push(&["authorization", "sources"], made);
        }
        for source in all["sources"].as_array().into_iter().flatten().filter(|source| source["enable"].as_bool() != Some(false)) {
            let kind = source["type"].as_str().unwrap_or_default();
            match kind {
                "file" => {
                    let rules = self.acl_conf(source)?;
                    let made = Table::from_iter([
                        ("name".to_owned(), Value::from("acl.conf")),
                        ("rules".to_owned(), Value::Array(rules.into_iter().map(Value::Table).collect())),
                    ]);
                    self.imported.push(&["authorization", "sources"], made);
                    self.imported.note("acl.conf: a subscription that a denial reaches is refused (with \"$SYS/#\" denied, so is what is wider); EMQX compares the texts");
                }
                "built_in_database" => {
                    let made = Table::from_iter([("name".to_owned(), Value::from("store")), ("type".to_owned(), "built_in".into())]);
                    self.imported.push(&["authorization", "sources"], made);
                    self.imported
                        .note("authorization built_in_database: its rules are in EMQX's own tables; set them by \"hookline ctl acl set\"");
                }
                "mysql" | "postgresql" | "redis" | "mongodb" => {
                    let name = format!("acl-{kind}");
                    integration::connector(self, &name, kind, source);
                    let made = Table::from_iter([
                        ("name".to_owned(), Value::from(kind)),
                        ("connector".to_owned(), name.into()),
                        ("parameters".to_owned(), question(source).into()),
                    ]);
                    self.imported.push(&["authorization", "sources"], made);
                }
                other => self.imported.note(format!("authorization {other}: set it up anew; docs/access.md has what is there")),
            }
        }
        Ok(())
    }

    /// The permissions of a file, which the export has, or this machine.
    fn acl_conf(&mut self, source: &Json) -> anyhow::Result<Vec<Table>> {
        let text = match (source["rules"].as_str(), source["path"].as_str()) {
            (Some(rules), _) => rules.to_owned(),
            (None, Some(path)) => match self.files.get("authz/acl.conf") {
                Some(content) => String::from_utf8_lossy(content).into_owned(),
                None => {
                    let file = self.file(path);
                    match std::fs::read_to_string(&file) {
                        Ok(text) => text,
                        Err(error) => {
                            self.imported.note(format!("acl.conf: cannot read {file}: {error}; ITS PERMISSIONS ARE MISSING"));
                            String::new()
                        }
                    }
                }
            },
            (None, None) => bail!("authorization.sources: a file without a path"),
        };
        let mut notes = Vec::new();
        let rules = acl_conf::parse(&text, &mut notes).context("acl.conf")?;
        notes.into_iter().for_each(|note| self.imported.note(note));
        Ok(rules)
    }
}

/// What a database is asked about a client.
fn question(one: &Json) -> Table {
    let text = |key: &str| one[key].as_str().map(template);
    let mut parameters = Table::new();
    for (from, key) in [("query", "query"), ("cmd", "command"), ("collection", "collection")] {
        if let Some(text) = text(from) {
            parameters.insert(key.into(), text.into());
        }
    }
    if one["filter"].is_object() {
        parameters.insert("filter".into(), template(&one["filter"].to_string()).into());
    }
    parameters
}

/// The entries of a table.
fn entries(value: &Json) -> impl Iterator<Item = (&String, &Json)> {
    value.as_object().into_iter().flatten()
}

/// A value that is the same here; `None`: there is none.
fn plain(value: &Json) -> Option<Value> {
    match value {
        Json::Null => None,
        value => Value::try_from(value).ok(),
    }
}

/// `1883`, `:1883` or `127.0.0.1:1883` as an address.
fn address(value: &Json) -> Option<String> {
    match value {
        Json::Number(port) => Some(format!("0.0.0.0:{port}")),
        Json::String(text) if text.parse::<u16>().is_ok() => Some(format!("0.0.0.0:{text}")),
        Json::String(text) => Some(text.strip_prefix(':').map_or_else(|| text.clone(), |port| format!("0.0.0.0:{port}"))),
        _ => None,
    }
}

/// A template without the leading dots that EMQX allows: `${.clientid}`. The whole row stays `${.}`.
fn template(text: &str) -> String {
    text.replace("${.}", "\u{0}").replace("${.", "${").replace('\u{0}', "${.}")
}

/// Seconds of `15s`, `1m`, `2h`, `100ms` or a number of milliseconds; `None`: it is none, such as `infinity`.
fn seconds(value: &Json) -> Option<i64> {
    if let Some(ms) = value.as_i64() {
        return Some(ms / 1000);
    }
    let text = value.as_str()?;
    let mut total = 0i64;
    let mut rest = text.trim();
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: i64 = rest[..digits].parse().ok()?;
        let unit_end = rest[digits..].find(|c: char| c.is_ascii_digit()).map_or(rest.len(), |at| digits + at);
        total += match rest[digits..unit_end].trim() {
            "ms" => number / 1000,
            "s" => number,
            "m" => number * 60,
            "h" => number * 3600,
            "d" => number * 86_400,
            _ => return None,
        };
        rest = &rest[unit_end..];
    }
    Some(total)
}

/// Bytes of `1MB` or a number.
fn bytes(value: &Json) -> Option<i64> {
    if let Some(bytes) = value.as_i64() {
        return Some(bytes);
    }
    let text = value.as_str()?.trim().to_ascii_uppercase();
    let at = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let number: i64 = text[..at].parse().ok()?;
    Some(match text[at..].trim() {
        "" | "B" => number,
        "KB" => number << 10,
        "MB" => number << 20,
        "GB" => number << 30,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn values_of_emqx_become_ours() {
        assert_eq!(seconds(&json!("1h30m")), Some(5400));
        assert_eq!((seconds(&json!("15s")), seconds(&json!("infinity")), seconds(&json!("2000ms"))), (Some(15), None, Some(2)));
        assert_eq!((bytes(&json!("1MB")), bytes(&json!("896KB")), bytes(&json!(12))), (Some(1 << 20), Some(896 << 10), Some(12)));
        assert_eq!(template("${.} ${.a.b} ${c}"), "${.} ${a.b} ${c}");
        assert_eq!((address(&json!(1883)), address(&json!("[::]:1883"))), (Some("0.0.0.0:1883".into()), Some("[::]:1883".into())));
    }
}
