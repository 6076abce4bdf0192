//! mosquitto.conf, as of mosquitto 2.

mod bridge;

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr, ToSocketAddrs};
use std::path::{Path, PathBuf};

use anyhow::Context;
use toml::{Table, Value};

use super::Imported;
use bridge::Bridge;

/// Bytes of a packet at the most.
const PACKET_MAX: i64 = 268_435_455;
/// For ever, in the settings of expiries.
const FOR_EVER: i64 = 4_294_967_295;

/// A listener.
#[derive(Debug, Default)]
struct Listener {
    port: u16,
    host: String,
    is_websocket: bool,
    connections_max: Option<i64>,
    mountpoint: String,
    cert: Option<PathBuf>,
    key: Option<PathBuf>,
    ca: Option<PathBuf>,
    require_certificate: bool,
    tls13_only: bool,
    access: Access,
    /// What goes into a zone of its own.
    zone: Table,
}

/// Who may come in, and what they may do: of all listeners, or of one.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
struct Access {
    allow_anonymous: Option<bool>,
    passwords: Option<PathBuf>,
    acl: Option<PathBuf>,
}

/// The file, read.
#[derive(Debug, Default)]
struct Reader {
    imported: Imported,
    folder: PathBuf,
    per_listener: bool,
    access: Access,
    listeners: Vec<Listener>,
    bridges: Vec<Bridge>,
    /// A `connection` is being described.
    in_bridge: bool,
    expiry: Option<i64>,
    seen: BTreeSet<String>,
}

/// Makes a configuration of it.
pub(super) fn import(file: &Path) -> anyhow::Result<Imported> {
    let folder = file.parent().map_or_else(PathBuf::new, Path::to_owned);
    let mut reader = Reader { folder, ..Reader::default() };
    // It says how the others are to be read, wherever it stands.
    reader.per_listener = lines(file)?.iter().any(|(_, line)| *line == "per_listener_settings true");
    reader.read(file)?;
    Ok(reader.make())
}

/// The lines with something in them, with their numbers.
fn lines(file: &Path) -> anyhow::Result<Vec<(usize, String)>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let lines = text.lines().enumerate().map(|(number, line)| (number + 1, line.trim().to_owned()));
    Ok(lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')).collect())
}

impl Reader {
    fn read(&mut self, file: &Path) -> anyhow::Result<()> {
        for (number, line) in lines(file)? {
            let (key, value) = line.split_once(char::is_whitespace).map_or((line.as_str(), ""), |(key, value)| (key, value.trim()));
            self.seen.insert(key.to_owned());
            if key == "include_dir" {
                let folder = self.path(value);
                let entries = std::fs::read_dir(&folder).with_context(|| format!("include_dir {}", folder.display()))?;
                let mut files: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
                files.retain(|file| file.extension().is_some_and(|extension| extension == "conf"));
                files.sort();
                for file in files {
                    self.read(&file)?;
                }
            } else {
                self.take(key, value).with_context(|| format!("{}, line {number}: {line}", file.display()))?;
            }
        }
        Ok(())
    }

    /// A path as mosquitto takes it: below the current folder, or, where nothing is there, beside the file.
    fn path(&self, text: &str) -> PathBuf {
        let path = Path::new(text);
        let found = if path.exists() || path.is_absolute() { path.to_owned() } else { self.folder.join(path) };
        std::path::absolute(&found).unwrap_or(found)
    }

    /// Who may, as the line is about: of the listener, or of all.
    fn access(&mut self) -> &mut Access {
        match self.listeners.last_mut() {
            Some(listener) if self.per_listener => &mut listener.access,
            _ => &mut self.access,
        }
    }

    /// The listener that the line is about: without one, the default one.
    fn listener(&mut self) -> &mut Listener {
        if self.listeners.is_empty() {
            self.listeners.push(Listener { port: 1883, ..Listener::default() });
        }
        let last = self.listeners.len() - 1;
        &mut self.listeners[last]
    }

    fn take(&mut self, key: &str, value: &str) -> anyhow::Result<()> {
        let yes = value == "true" || value == "1";
        if key == "connection" {
            self.in_bridge = true;
            self.bridges.push(Bridge::new(value));
            return Ok(());
        }
        if key == "listener" {
            self.in_bridge = false;
        }
        if self.in_bridge {
            let path = self.path(value);
            let bridge = self.bridges.last_mut().expect("a connection line makes one");
            if bridge.take(key, value, &path)? {
                return Ok(());
            }
        }
        let number = || value.parse::<i64>().context("it must be a number");
        match key {
            "per_listener_settings" => {}
            "listener" => {
                let mut words = value.split_whitespace();
                let port = words.next().unwrap_or_default().parse().context("the port is no number")?;
                let host = words.next().unwrap_or_default().to_owned();
                if port == 0 {
                    self.imported.note(format!("listener 0 {host}: a Unix socket for clients is not there; let them use TCP on 127.0.0.1"));
                    // What follows is about it.
                    self.listeners.push(Listener { port: 0, ..Listener::default() });
                } else {
                    self.listeners.push(Listener { port, host, ..Listener::default() });
                }
            }
            "port" => self.listener().port = value.parse().context("it must be a port")?,
            "bind_address" => self.listener().host = value.to_owned(),
            "protocol" => self.listener().is_websocket = value == "websockets",
            "max_connections" => self.listener().connections_max = Some(number()?),
            "mount_point" => self.listener().mountpoint = value.to_owned(),
            "certfile" => self.listener().cert = Some(self.path(value)),
            "keyfile" => self.listener().key = Some(self.path(value)),
            "cafile" => self.listener().ca = Some(self.path(value)),
            "require_certificate" => self.listener().require_certificate = yes,
            "tls_version" => self.listener().tls13_only = value == "tlsv1.3",
            "use_identity_as_username" if yes => drop(self.listener().zone.insert("peer_cert_as_username".into(), "cn".into())),
            "use_subject_as_username" if yes => drop(self.listener().zone.insert("peer_cert_as_username".into(), "dn".into())),
            "use_username_as_clientid" if yes => drop(self.listener().zone.insert("username_as_client_id".into(), true.into())),
            "max_qos" => drop(self.listener().zone.insert("qos_max".into(), number()?.into())),
            "max_topic_alias" => drop(self.listener().zone.insert("topic_alias_max".into(), number()?.into())),
            "allow_anonymous" => self.access().allow_anonymous = Some(yes),
            "password_file" => self.access().passwords = Some(self.path(value)),
            "acl_file" => self.access().acl = Some(self.path(value)),
            _ => self.take_limit(key, value, yes)?,
        }
        Ok(())
    }

    /// What is about all clients.
    fn take_limit(&mut self, key: &str, value: &str, yes: bool) -> anyhow::Result<()> {
        let number = || value.parse::<i64>().context("it must be a number");
        let all = |number: i64, all: i64| if number == 0 { all } else { number };
        match key {
            "max_inflight_messages" => self.imported.set(&["mqtt", "inflight_max"], all(number()?, 65_535)),
            "max_queued_messages" => {
                let max = all(number()?, i64::MAX);
                self.imported.set(&["mqtt", "mqueue_max"], max);
                self.imported.set(&["mqtt", "durable_queue_max"], max);
                self.imported.note("max_queued_messages: at the bound of a session that outlives its connection the publisher is refused here, where mosquitto drops the message");
            }
            "max_queued_bytes" => {
                let max = all(number()?, i64::MAX);
                self.imported.set(&["mqtt", "mqueue_bytes_max"], max);
                self.imported.set(&["mqtt", "durable_queue_bytes_max"], max);
            }
            "max_packet_size" => self.imported.set(&["mqtt", "packet_bytes_max"], all(number()?, PACKET_MAX).min(PACKET_MAX)),
            "message_size_limit" => {
                // A packet has a head and a topic as well.
                let bytes = all(number()?, PACKET_MAX).saturating_add(70_000).min(PACKET_MAX);
                self.imported.set(&["mqtt", "packet_bytes_max"], bytes);
                self.imported.note("message_size_limit: here the whole packet is bounded (mqtt.packet_bytes_max), not the payload");
            }
            "retain_available" => self.imported.set(&["mqtt", "retain_available"], yes),
            "queue_qos0_messages" => self.imported.set(&["mqtt", "mqueue_store_qos0"], yes),
            "upgrade_outgoing_qos" => self.imported.set(&["mqtt", "upgrade_qos"], yes),
            "memory_limit" if number()? > 0 => self.imported.set(&["node", "memory_high_bytes"], number()?),
            "sys_interval" => self.imported.set(&["sys", "interval_secs"], number()?),
            "persistent_client_expiration" => self.expiry = Some(duration(value).context("it must be a duration such as 14d")?),
            "persistence" if yes => self.imported.note("persistence: sessions, retained messages and what waits are always kept, and on the disk before they are acknowledged (store.level)"),
            "persistence" => self.imported.note("persistence false: here sessions and retained messages are kept over a restart all the same; store.level = \"memory\" makes that cheapest"),
            "persistence_location" | "persistence_file" => self.imported.note(format!("{key}: the content of mosquitto.db is not read: retained messages and sessions begin anew in node.data_dir")),
            "autosave_interval" | "autosave_on_changes" => self.imported.note(format!("{key}: nothing is saved at intervals here; what was acknowledged is on the disk")),
            "log_type" if matches!(value, "debug" | "all") => self.imported.set(&["log", "level"], "debug"),
            "log_type" | "log_timestamp" | "log_timestamp_format" | "connection_messages" => {}
            "log_dest" if value.starts_with("stderr") || value.starts_with("stdout") || value.starts_with("none") => {}
            "log_dest" => self.imported.note(format!("log_dest {value}: the log goes to standard error; systemd or the container takes it from there")),
            "user" => self.imported.note("user: the broker does not change its user; systemd (User=) or the container sets it"),
            "pid_file" => self.imported.note("pid_file: --ready-file writes one when the broker serves"),
            "clientid_prefixes" => self.imported.note(format!("clientid_prefixes {value}: an authenticator of type \"client_id\", or a rule with client_id = \"re:…\", can do that")),
            "max_keepalive" => self.imported.note("max_keepalive: mqtt.server_keep_alive_secs sets one for all clients; there is no upper bound"),
            "crlfile" => self.imported.note("crlfile: revocation lists are not read; CERTIFICATES THAT WERE REVOKED COME IN"),
            "psk_file" | "psk_hint" => self.imported.note(format!("{key}: TLS-PSK is not there; use certificates")),
            "plugin" | "auth_plugin" => self.imported.note(format!("{key} {value}: plugins are not there; databases, HTTP, LDAP and JWT are (docs/access.md)")),
            "capath" => self.imported.note("capath: authorities are read from one file (tls.client_ca); concatenate them"),
            "ciphers" | "ciphers_tls1.3" | "dhparamfile" | "tls_engine" => self.imported.note(format!("{key}: the ciphers are those of rustls, all of them good")),
            "allow_zero_length_clientid" | "auto_id_prefix" => self.imported.note(format!("{key}: clients without an identifier get one that the broker makes")),
            "max_inflight_bytes" | "set_tcp_nodelay" | "socket_domain" | "bind_interface" | "http_dir" | "websockets_log_level" | "websockets_headers_size"
            | "retain_expiry_interval" | "check_retain_source" | "accept_protocol_versions" | "global_max_clients" | "global_max_connections" => {
                self.imported.note(format!("{key} {value}: has no counterpart"));
            }
            "require_certificate" | "use_identity_as_username" | "use_subject_as_username" | "use_username_as_clientid" | "memory_limit" => {}
            _ => {
                let rest = if value.is_empty() { String::new() } else { format!(" {value}") };
                let options = if key.starts_with("auth_opt_") || key.starts_with("plugin_opt_") { key.to_owned() } else { format!("{key}{rest}") };
                self.imported.note(format!("{options}: is not known, and was left out"));
            }
        }
        Ok(())
    }

    fn make(mut self) -> Imported {
        let expiry = self.expiry.unwrap_or(FOR_EVER);
        self.imported.set(&["mqtt", "session_expiry_secs"], expiry);
        if self.expiry.is_some() {
            self.imported.set(&["mqtt", "session_expiry_secs_max"], expiry);
        }
        if !self.seen.contains("queue_qos0_messages") {
            self.imported.set(&["mqtt", "mqueue_store_qos0"], false);
        }
        let is_default = self.listeners.is_empty();
        if is_default {
            // Without any, mosquitto listens for this machine alone, and lets everybody in.
            self.listeners.push(Listener { port: 1883, host: "127.0.0.1".into(), ..Listener::default() });
        }
        let listeners: Vec<Listener> = std::mem::take(&mut self.listeners).into_iter().filter(|listener| listener.port != 0).collect();
        self.make_access(&listeners, is_default);
        for listener in &listeners {
            self.make_listener(listener, is_default);
        }
        for bridge in std::mem::take(&mut self.bridges) {
            bridge.make(&mut self.imported);
        }
        self.imported
    }

    fn make_access(&mut self, listeners: &[Listener], is_default: bool) {
        let anonymous = self.access.allow_anonymous.unwrap_or(is_default);
        self.imported.set(&["mqtt", "allow_anonymous"], anonymous);
        let all = std::iter::once(&self.access).chain(listeners.iter().map(|listener| &listener.access));
        let all: Vec<Access> = all.cloned().collect();
        let passwords: BTreeSet<&PathBuf> = all.iter().filter_map(|access| access.passwords.as_ref()).collect();
        for file in passwords {
            let authenticator = Table::from_iter([
                ("name".to_owned(), Value::from(authenticator_name(file))),
                ("type".to_owned(), "file".into()),
                ("path".to_owned(), file.display().to_string().into()),
            ]);
            self.imported.push(&["authentication"], authenticator);
        }
        if listeners.iter().any(|listener| listener.require_certificate && listener.zone.contains_key("peer_cert_as_username")) {
            let authenticator =
                Table::from_iter([("name".to_owned(), Value::from("certificates")), ("type".to_owned(), "certificate".into())]);
            self.imported.push(&["authentication"], authenticator);
        }
        let acls: BTreeSet<&PathBuf> = all.iter().filter_map(|access| access.acl.as_ref()).collect();
        for file in &acls {
            let source = Table::from_iter([
                ("name".to_owned(), Value::from(format!("acl:{}", file.display()))),
                ("type".to_owned(), "mosquitto".into()),
                ("path".to_owned(), file.display().to_string().into()),
            ]);
            self.imported.push(&["authorization", "sources"], source);
        }
        if !acls.is_empty() {
            self.imported.note("acl_file: a subscription to more than a client may read is refused here (mosquitto grants it, and leaves out what the client may not read); let clients subscribe to what they may");
        }
        if acls.len() > 1 || (self.per_listener && !acls.is_empty() && listeners.iter().any(|listener| listener.access.acl.is_none())) {
            self.imported.note("acl_file of single listeners: PERMISSIONS HOLD FOR ALL LISTENERS HERE, so the files were put together; look at [authorization]");
        }
    }

    fn make_listener(&mut self, listener: &Listener, is_default: bool) {
        let is_tls = listener.cert.is_some();
        let kind = match (listener.is_websocket, is_tls) {
            (false, false) => "tcp",
            (false, true) => "tls",
            (true, false) => "ws",
            (true, true) => "wss",
        };
        let name = listener.port.to_string();
        let mut name = name.as_str();
        let with_host = format!("{}-{name}", listener.host.replace(['.', ':'], "-"));
        if self.imported.get(&["listeners", kind, name]).is_some() {
            name = &with_host;
        }
        let path = |key| ["listeners", kind, name, key];
        let address = address(&listener.host, listener.port);
        if address.is_none() {
            self.imported
                .note(format!("listener {} {}: this name has no address now; it listens on all of them", listener.port, listener.host));
        }
        let address = address.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], listener.port)));
        if listener.host.is_empty() {
            self.imported.note("listeners without an address: they listen on all IPv4 addresses; for IPv6 set bind to \"[::]:PORT\"");
        }
        self.imported.set(&path("bind"), address.to_string());
        if let Some(max) = listener.connections_max.filter(|max| *max >= 0) {
            self.imported.set(&path("connections_max"), max);
        }
        if !listener.mountpoint.is_empty() {
            self.imported.set(&path("mountpoint"), listener.mountpoint.replace("%u", "${username}").replace("%c", "${clientid}"));
        }
        if listener.is_websocket {
            self.imported
                .note("protocol websockets: the path of the address is \"/mqtt\" here (websocket.path), where mosquitto takes any");
        }
        if is_tls {
            self.make_tls(listener, kind, name);
        }
        let mut zone = listener.zone.clone();
        if self.per_listener && !is_default {
            zone.insert("allow_anonymous".into(), listener.access.allow_anonymous.unwrap_or(false).into());
            let names: Vec<Value> = listener.access.passwords.iter().map(|file| authenticator_name(file).into()).collect();
            let certificates = listener.require_certificate && zone.contains_key("peer_cert_as_username");
            let names = names.into_iter().chain(certificates.then(|| "certificates".into())).collect();
            self.imported.set(&path("authentication"), Value::Array(names));
        }
        if !zone.is_empty() {
            let zone_name = format!("{kind}-{name}");
            self.imported.set(&path("zone"), zone_name.as_str());
            self.imported.set(&["zones", &zone_name, "mqtt"], zone);
        }
    }

    fn make_tls(&mut self, listener: &Listener, kind: &str, name: &str) {
        let path = |key| ["listeners", kind, name, "tls", key];
        let file = |file: &Option<PathBuf>| file.as_ref().map(|file| file.display().to_string()).unwrap_or_default();
        self.imported.set(&path("cert"), file(&listener.cert));
        self.imported.set(&path("key"), file(&listener.key));
        if listener.require_certificate {
            self.imported.set(&path("client_ca"), file(&listener.ca));
            self.imported.set(&path("client_auth"), "required");
        }
        if listener.tls13_only {
            self.imported.set(&path("version_min"), "1.3");
        }
    }
}

/// The name of the authenticator for a file of passwords.
fn authenticator_name(file: &Path) -> String {
    format!("passwords:{}", file.display())
}

/// An address of this machine; `None`: the name has none.
fn address(host: &str, port: u16) -> Option<SocketAddr> {
    if host.is_empty() {
        return Some(SocketAddr::from(([0, 0, 0, 0], port)));
    }
    host.parse::<IpAddr>().map(|ip| SocketAddr::new(ip, port)).ok().or_else(|| (host, port).to_socket_addrs().ok()?.next())
}

/// Seconds of a number with `h`, `d`, `w`, `m` (months) or `y` behind it.
fn duration(text: &str) -> Option<i64> {
    let (number, unit) = text.split_at(text.len().checked_sub(1)?);
    let days = match unit {
        "h" => return number.parse::<i64>().ok().map(|hours| hours * 3600),
        "d" => 1,
        "w" => 7,
        "m" => 30,
        "y" => 365,
        _ => return None,
    };
    number.parse::<i64>().ok().map(|count| count * days * 86_400)
}
