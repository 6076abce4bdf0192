//! Connectors, actions, sources and rules.

use serde_json::Value as Json;
use toml::{Table, Value};

use super::super::Imported;
use super::{Reader, entries, plain, template};

/// The kinds that are there in both, and what they are called here.
const KINDS: &[(&str, &str)] = &[
    ("kafka_producer", "kafka"),
    ("kafka_consumer", "kafka"),
    ("kafka", "kafka"),
    ("confluent_producer", "kafka"),
    ("http", "http"),
    ("webhook", "http"),
    ("mysql", "mysql"),
    ("pgsql", "postgres"),
    ("postgresql", "postgres"),
    ("timescale", "postgres"),
    ("redis", "redis"),
    ("mongodb", "mongodb"),
    ("mqtt", "mqtt"),
];

fn kind(theirs: &str) -> Option<&'static str> {
    KINDS.iter().find(|(name, _)| *name == theirs).map(|(_, kind)| *kind)
}

/// All connectors.
pub(super) fn connectors(reader: &mut Reader, all: &Json) {
    for (theirs, named) in entries(all) {
        for (name, settings) in entries(named) {
            connector(reader, &unique(theirs, name), theirs, settings);
        }
    }
}

/// The name of a connector: those of several kinds share their names here.
fn unique(theirs: &str, name: &str) -> String {
    format!("{}-{name}", kind(theirs).unwrap_or(theirs))
}

/// One connector.
pub(super) fn connector(reader: &mut Reader, name: &str, theirs: &str, settings: &Json) {
    let Some(kind) = kind(theirs) else {
        return reader.imported.note(format!("connectors.{theirs}.{name}: there is no such connector here"));
    };
    let mut made = Table::from_iter([("type".to_owned(), Value::from(kind))]);
    // Some settings are one level down in one version and not in another.
    let parameters = if settings["parameters"].is_object() { &settings["parameters"] } else { settings };
    let text = |key: &str| parameters[key].as_str().or(settings[key].as_str()).unwrap_or_default().to_owned();
    let login = || {
        let (user, password) = (text("username"), text("password"));
        match (user.is_empty(), password.is_empty()) {
            (true, _) => String::new(),
            (false, true) => format!("{}@", percent(&user)),
            (false, false) => format!("{}:{}@", percent(&user), percent(&password)),
        }
    };
    match kind {
        "kafka" => {
            made.insert("bootstrap_hosts".into(), text("bootstrap_hosts").into());
            let authentication = &settings["authentication"];
            if let Some(mechanism) = authentication["mechanism"].as_str() {
                let mut login = Table::from_iter([("mechanism".to_owned(), Value::from(mechanism))]);
                for key in ["username", "password"] {
                    login.extend(authentication[key].as_str().map(|text| (key.to_owned(), Value::from(text))));
                }
                made.insert("authentication".into(), login.into());
            } else if authentication.is_object() {
                reader.imported.note(format!("connector {name}: this kind of login is not there; SASL PLAIN and SCRAM are"));
            }
        }
        "http" => {
            made.insert("url".into(), text("url").into());
            if let Some(headers) = headers(&settings["headers"]) {
                made.insert("headers".into(), headers.into());
            }
        }
        "mysql" => {
            made.insert("url".into(), format!("mysql://{}{}/{}", login(), with_port(&text("server"), 3306), text("database")).into());
        }
        "postgres" => {
            made.insert("url".into(), format!("postgres://{}{}/{}", login(), with_port(&text("server"), 5432), text("database")).into());
        }
        "redis" => redis(&mut made, parameters, settings),
        "mongodb" => {
            let servers = [text("servers"), text("server")].into_iter().find(|servers| !servers.is_empty()).unwrap_or_default();
            let mut options = Vec::new();
            for (key, option) in [("replica_set_name", "replicaSet"), ("auth_source", "authSource")] {
                options.extend(Some(text(key)).filter(|text| !text.is_empty()).map(|text| format!("{option}={text}")));
            }
            if settings["ssl"]["enable"] == Json::Bool(true) {
                options.push("tls=true".into());
            }
            let options = if options.is_empty() { String::new() } else { format!("?{}", options.join("&")) };
            let scheme = if settings["srv_record"] == Json::Bool(true) { "mongodb+srv" } else { "mongodb" };
            made.insert("url".into(), format!("{scheme}://{}{}/{}{options}", login(), servers.replace(' ', ""), text("database")).into());
        }
        _ => {
            made.insert("server".into(), with_port(&text("server"), 1883).into());
            if text("proto_ver") != "v5" {
                made.insert("proto_ver".into(), "v3".into());
            }
            for (from, key) in [("username", "username"), ("password", "password"), ("clientid_prefix", "client_id_prefix")] {
                made.extend(Some(text(from)).filter(|text| !text.is_empty()).map(|text| (key.to_owned(), Value::from(text))));
            }
        }
    }
    tls(reader, &mut made, kind, name, &settings["ssl"]);
    if text("password").contains("******") || made.values().any(|value| value.as_str().is_some_and(|text| text.contains("%2A%2A%2A"))) {
        reader.imported.note(format!("connector {name}: ITS PASSWORD IS HIDDEN in what was read; put it in"));
    }
    reader.imported.set(&["connectors", name], made);
}

fn redis(made: &mut Table, parameters: &Json, settings: &Json) {
    let text = |key: &str| parameters[key].as_str().or(settings[key].as_str()).filter(|text| !text.is_empty());
    let servers = text("servers").or(text("server")).unwrap_or_default();
    made.insert("servers".into(), servers.replace(' ', "").into());
    match text("redis_type") {
        Some("cluster") => drop(made.insert("mode".into(), "cluster".into())),
        Some("sentinel") => {
            made.insert("mode".into(), "sentinel".into());
            made.extend(text("sentinel").map(|master| ("master".to_owned(), Value::from(master))));
        }
        _ => {}
    }
    for key in ["username", "password", "sentinel_username", "sentinel_password"] {
        made.extend(text(key).map(|text| (key.to_owned(), Value::from(text))));
    }
    made.extend(
        parameters["database"].as_i64().or(settings["database"].as_i64()).map(|database| ("database".to_owned(), Value::from(database))),
    );
}

fn tls(reader: &mut Reader, made: &mut Table, kind: &str, name: &str, ssl: &Json) {
    if ssl["enable"] != Json::Bool(true) {
        return;
    }
    let mut tls = Table::new();
    for (from, key) in [("cacertfile", "ca"), ("certfile", "cert"), ("keyfile", "key")] {
        if let Some(file) = ssl[from].as_str().filter(|file| !file.is_empty()) {
            let file = reader.file(file);
            tls.insert(key.into(), file.into());
        }
    }
    if ssl["verify"] == "verify_none" {
        reader
            .imported
            .note(format!("connector {name}: verify_none: the server's certificate is always checked here; name its authority by tls.ca"));
    }
    if kind == "mongodb" {
        reader.imported.note(format!("connector {name}: certificates of MongoDB stand in its URL (tlsCAFile, tlsCertificateKeyFile)"));
    } else {
        made.insert("tls".into(), tls.into());
    }
}

/// All actions.
pub(super) fn actions(imported: &mut Imported, all: &Json) {
    for (theirs, named) in entries(all) {
        for (name, settings) in entries(named) {
            let Some(kind) = kind(theirs) else {
                imported.note(format!("actions.{theirs}.{name}: there is no such action here"));
                continue;
            };
            let id = format!("{kind}-{name}");
            let id = id.as_str();
            imported.set(&["actions", id, "connector"], unique(theirs, settings["connector"].as_str().unwrap_or_default()));
            let parameters = match kind {
                "kafka" => kafka(imported, id, &settings["parameters"]),
                "http" => http(&settings["parameters"]),
                "mysql" | "postgres" => sql(&settings["parameters"]),
                "redis" => command(&settings["parameters"]),
                "mongodb" => texts(&settings["parameters"], &[("collection", "collection"), ("payload_template", "document")]),
                _ => texts(&settings["parameters"], &[("topic", "topic"), ("qos", "qos"), ("retain", "retain"), ("payload", "payload")]),
            };
            imported.set(&["actions", id, "parameters"], parameters);
            let options = &settings["resource_opts"];
            if let Some(max) = options["batch_size"].as_i64().filter(|max| *max > 1) {
                imported.set(&["actions", id, "delivery", "batch_records_max"], max);
            }
            if let Some(max) = super::bytes(&options["max_buffer_bytes"]) {
                imported.set(&["actions", id, "queue", "bytes_max"], max);
            }
            if settings["enable"] == Json::Bool(false) {
                imported.note(format!("action {id}: it was disabled; \"hookline ctl pause {id}\" lets it rest"));
            }
            imported.note("actions: their queues are on the disk, nothing is dropped for its age (request_ttl), and at the bound publishers are refused (queue.when_full)");
        }
    }
}

fn kafka(imported: &mut Imported, id: &str, parameters: &Json) -> Table {
    // "kafka" in older versions.
    let parameters = if parameters["topic"].is_null() && parameters["kafka"].is_object() { &parameters["kafka"] } else { parameters };
    let mut made = texts(parameters, &[("topic", "topic"), ("kafka_headers", "headers_from")]);
    made.extend(texts(&parameters["message"], &[("key", "key"), ("value", "value"), ("timestamp", "timestamp")]));
    match parameters["compression"].as_str() {
        Some(compression @ ("gzip" | "lz4" | "zstd")) => drop(made.insert("compression".into(), compression.into())),
        Some("no_compression") | None => {}
        Some(other) => imported.note(format!("action {id}: compression {other}: gzip, lz4 and zstd are there")),
    }
    match parameters["required_acks"].as_str() {
        Some("leader_only") => drop(made.insert("acks".into(), "leader".into())),
        Some("none") => imported.note(format!("action {id}: required_acks = none: all replicas in sync must have a record here")),
        _ => {}
    }
    let extended = parameters["kafka_ext_headers"].as_array().into_iter().flatten();
    let headers: Table = extended
        .filter_map(|header| {
            Some((header["kafka_ext_header_key"].as_str()?.to_owned(), template(header["kafka_ext_header_value"].as_str()?).into()))
        })
        .collect();
    if !headers.is_empty() {
        made.insert("headers".into(), headers.into());
    }
    if parameters["partition_strategy"] == "key_dispatch" {
        imported.note(format!("action {id}: a key decides on its partition as Java's producer has it (murmur2), not as EMQX"));
    }
    made
}

fn http(parameters: &Json) -> Table {
    let mut made = texts(parameters, &[("path", "path"), ("method", "method")]);
    if let Some(body) = parameters["body"].as_str().map(template) {
        // A template of JSON keeps types; what is none stays text.
        let filled = body.replace("${.}", "0");
        let key = if body.trim_start().starts_with(['{', '[']) && filled.contains('"') || body == "${.}" { "json" } else { "body" };
        made.insert(key.into(), body.into());
    }
    if let Some(headers) = headers(&parameters["headers"]) {
        made.insert("headers".into(), headers.into());
    }
    made
}

fn sql(parameters: &Json) -> Table {
    let mut made = texts(parameters, &[("sql", "sql")]);
    // Their tables are there already.
    made.insert("setup".into(), "".into());
    made
}

fn command(parameters: &Json) -> Table {
    let words = parameters["command_template"].as_array().into_iter().flatten();
    let words = words.filter_map(Json::as_str).map(|word| Value::from(template(word)));
    Table::from_iter([("command".to_owned(), Value::Array(words.collect()))])
}

fn texts(parameters: &Json, keys: &[(&str, &str)]) -> Table {
    let text = |value: &Json| match value {
        Json::Null => None,
        Json::String(text) => Some(template(text)),
        other => Some(other.to_string()),
    };
    keys.iter().filter_map(|(from, key)| Some(((*key).to_owned(), Value::from(text(&parameters[*from])?)))).collect()
}

fn headers(headers: &Json) -> Option<Table> {
    // Those that every client sends by itself mean nothing in a configuration.
    let own = ["connection", "keep-alive"];
    let kept = entries(headers).filter(|(name, _)| !own.contains(&name.as_str()));
    let made: Table = kept.filter_map(|(name, value)| Some((name.clone(), Value::from(template(value.as_str()?))))).collect();
    (!made.is_empty()).then_some(made)
}

/// All sources.
pub(super) fn sources(imported: &mut Imported, all: &Json) {
    for (theirs, named) in entries(all) {
        for (name, settings) in entries(named) {
            let Some(kind @ ("kafka" | "mqtt")) = kind(theirs) else {
                imported.note(format!("sources.{theirs}.{name}: there is no such source here"));
                continue;
            };
            let id = format!("{kind}-{name}");
            let parameters = &settings["parameters"];
            let topic = parameters["topic"].as_str().unwrap_or_default();
            let mut made = Table::from_iter([("topics".to_owned(), Value::Array(vec![topic.into()]))]);
            if kind == "kafka" {
                made.insert("topic".into(), format!("kafka/{topic}").into());
                made.extend(parameters["offset_reset_policy"].as_str().map(|policy| ("offset_reset".to_owned(), Value::from(policy))));
            } else {
                made.extend(plain(&parameters["qos"]).map(|qos| ("qos".to_owned(), qos)));
            }
            imported.set(&["sources", &id, "connector"], unique(theirs, settings["connector"].as_str().unwrap_or_default()));
            imported.set(&["sources", &id, "enable"], settings["enable"].as_bool().unwrap_or(true));
            imported.set(&["sources", &id, "parameters"], made);
            let topic = if kind == "kafka" { "kafka/TOPIC" } else { "their own topics" };
            imported.note(format!("source {id}: what comes is published to {topic}; rules select it FROM that topic, in place of \"$sources/…\" or \"$bridges/…\""));
        }
    }
}

/// All rules, once the actions are there.
pub(super) fn rules(imported: &mut Imported, engine: &Json) {
    for (id, rule) in entries(&engine["rules"]) {
        let path = |key| ["rules", id.as_str(), key];
        imported.set(&path("sql"), rule["sql"].as_str().unwrap_or_default());
        imported.set(&path("enable"), rule["enable"].as_bool().unwrap_or(true));
        let text = [&rule["description"], &rule["name"]].into_iter().find_map(|text| text.as_str().filter(|text| !text.is_empty()));
        if let Some(text) = text {
            imported.set(&path("description"), text);
        }
        let mut actions = Vec::new();
        for action in rule["actions"].as_array().into_iter().flatten() {
            match action_of(imported, action) {
                Ok(made) => actions.push(made),
                Err(problem) => imported.note(format!("rule {id}: {problem}; IT GOES ON WITHOUT THIS ACTION")),
            }
        }
        imported.set(&path("actions"), Value::Array(actions));
    }
    for (name, settings) in entries(engine).filter(|(name, _)| *name == "jq_function_default_timeout") {
        imported.note(format!("rule_engine.{name} = {settings}: has no counterpart"));
    }
}

fn action_of(imported: &Imported, action: &Json) -> Result<Value, String> {
    if let Some(reference) = action.as_str() {
        let (theirs, name) = reference.split_once(':').unwrap_or(("", reference));
        let kind = kind(theirs).ok_or_else(|| format!("there is no counterpart of the action {reference}"))?;
        let id = format!("{kind}-{name}");
        return if imported.get(&["actions", &id]).is_some() { Ok(id.into()) } else { Err(format!("the action {reference} is not there")) };
    }
    match action["function"].as_str() {
        Some("console") => Ok(Table::from_iter([("function".to_owned(), Value::from("console"))]).into()),
        Some("republish") => {
            let mut made = Table::from_iter([("function".to_owned(), Value::from("republish"))]);
            for key in ["topic", "payload"] {
                made.extend(action["args"][key].as_str().map(|text| (key.to_owned(), Value::from(template(text)))));
            }
            for key in ["qos", "retain"] {
                match &action["args"][key] {
                    Json::Null => {}
                    Json::String(text) => drop(made.insert(key.into(), template(text).into())),
                    value => made.extend(plain(value).map(|value| (key.to_owned(), value))),
                }
            }
            Ok(made.into())
        }
        other => Err(format!("the function {} is not there", other.unwrap_or("without a name"))),
    }
}

/// An address with a port.
fn with_port(server: &str, port: u16) -> String {
    if server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        server.to_owned()
    } else {
        format!("{server}:{port}")
    }
}

/// A part of a URL.
fn percent(text: &str) -> String {
    crate::control::encode(text)
}
