//! The configuration: a file, over it the environment, over that the command line. Every error is told, with its path.

pub(crate) mod edit;
mod overlay;
pub(crate) mod redact;
mod secrets;
mod versions;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use hookline_schemas::config::Config;
pub(crate) use secrets::Secrets;
use serde_json::Value;
pub(crate) use versions::{Version, Versions, summary};

/// The configuration of a first start: see the file.
const BUILT_IN: &str = include_str!("../../default.toml");
/// What it is called.
pub(crate) const BUILT_IN_NAME: &str = "the built-in configuration";
/// The file that is read where none is named.
const DEFAULT_FILE: &str = "hookline.toml";
/// A broken file has some errors, not thousands.
const ERRORS_MAX: usize = 100;

/// Where the configuration comes from.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sources {
    pub(crate) file: Option<PathBuf>,
    pub(crate) data_dir: Option<PathBuf>,
    /// `key=value`
    pub(crate) set: Vec<String>,
}

/// A configuration, and what to call it.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    pub(crate) origin: String,
    /// The files that parts of it were read from.
    pub(crate) secrets: Secrets,
}

/// Everything that is wrong with a configuration.
#[derive(Debug)]
pub(crate) struct Errors {
    pub(crate) origin: String,
    /// Each with its path.
    pub(crate) errors: Vec<String>,
}

impl fmt::Display for Errors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let plural = if self.errors.len() == 1 { "error" } else { "errors" };
        write!(f, "hookline: {} {plural} in {}:", self.errors.len(), self.origin)?;
        self.errors.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

/// Reads the configuration.
pub(crate) fn load(sources: Sources) -> Result<Loaded, Errors> {
    load_from(sources, std::env::vars())
}

fn load_from(sources: Sources, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, Errors> {
    let (origin, text) = read(sources.file.clone())?;
    load_text(origin, &text, &sources, environment)
}

/// What is wrong with a text that is to take the place of the file: everything that `hookline check` would tell.
pub(crate) fn check_text(text: &str, sources: &Sources) -> Result<(), Errors> {
    let loaded = load_text("the configuration".into(), text, sources, std::env::vars())?;
    crate::serve::check(&loaded.config)
}

fn load_text(origin: String, text: &str, sources: &Sources, environment: impl Iterator<Item = (String, String)>) -> Result<Loaded, Errors> {
    let fail = |errors| Errors { origin: origin.clone(), errors };
    let table: toml::Table = text.parse().map_err(|error: toml::de::Error| fail(vec![error.to_string().trim_end().to_owned()]))?;
    let mut value = serde_json::to_value(table).map_err(|error| fail(vec![error.to_string()]))?;
    overlay::dates_to_text(&mut value);
    let mut errors = Vec::new();
    for (name, text) in environment {
        if let Some(path) = overlay::environment_path(&name) {
            overlay::set(&mut value, &path, overlay::parse(&text)).unwrap_or_else(|error| errors.push(format!("{name}: {error}")));
        }
    }
    if let Some(folder) = &sources.data_dir {
        let path = ["node".to_owned(), "data_dir".to_owned()];
        let text = Value::String(folder.to_string_lossy().into_owned());
        overlay::set(&mut value, &path, text).unwrap_or_else(|error| errors.push(format!("--data: {error}")));
    }
    for setting in &sources.set {
        let applied = overlay::setting(setting).and_then(|(path, new)| overlay::set(&mut value, &path, new));
        applied.unwrap_or_else(|error| errors.push(format!("--set {setting}: {error}")));
    }
    let secrets = Secrets::read(&mut value, &mut errors);
    let config = deserialize(value, &mut errors);
    match config {
        Some(mut config) if errors.is_empty() => {
            crate::persistence::expand(&mut config);
            Ok(Loaded { config, origin, secrets })
        }
        _ => Err(fail(errors)),
    }
}

/// The text of the file, and what to call it.
fn read(file: Option<PathBuf>) -> Result<(String, String), Errors> {
    let named = file.is_some();
    let path = file.unwrap_or_else(|| DEFAULT_FILE.into());
    let origin = path.display().to_string();
    match std::fs::read_to_string(&path) {
        Ok(text) => Ok((origin, text)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !named => Ok((BUILT_IN_NAME.into(), BUILT_IN.into())),
        Err(error) => Err(Errors { origin, errors: vec![format!("cannot read it: {error}")] }),
    }
}

/// Reads the value. What is wrong is told and taken out, until nothing is wrong any more: so all errors come at once.
fn deserialize(mut value: Value, errors: &mut Vec<String>) -> Option<Config> {
    for _ in 0..ERRORS_MAX {
        match serde_path_to_error::deserialize(value.clone()) {
            Ok(config) => return Some(config),
            Err(error) => {
                let path = error.path().to_string();
                errors.push(describe(&path, &error.into_inner().to_string()));
                if !overlay::remove(&mut value, &path) {
                    return None;
                }
            }
        }
    }
    None
}

fn describe(path: &str, problem: &str) -> String {
    match problem.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(field) => format!("{path}.{field}: missing"),
        None => format!("{path}: {problem}"),
    }
}

/// The JSON Schemas, by file name.
pub(crate) fn schemas() -> BTreeMap<String, String> {
    let mut schemas = BTreeMap::from([("config.json".to_owned(), schemars::schema_for!(Config))]);
    for kind in hookline_connectors::REGISTRY {
        schemas.insert(format!("connector-{}.json", kind.name), (kind.connector_schema)());
        schemas.extend(kind.parameters_schema.map(|schema| (format!("action-{}.json", kind.name), schema())));
        schemas.extend(kind.source_schema.map(|schema| (format!("source-{}.json", kind.name), schema())));
        schemas.extend(kind.question_schema.map(|schema| (format!("question-{}.json", kind.name), schema())));
    }
    let text = |schema| serde_json::to_string_pretty(&schema).expect("a schema is plain JSON") + "\n";
    schemas.into_iter().map(|(name, schema)| (name, text(schema))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load_text(text: &str, set: &[&str], environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("t.toml");
        std::fs::write(&file, text).expect("written");
        let sources = Sources { file: Some(file), data_dir: None, set: set.iter().map(|s| (*s).to_owned()).collect() };
        let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
        load_from(sources, environment).map(|loaded| loaded.config).map_err(|errors| errors.errors)
    }

    #[test]
    fn the_command_line_wins_over_the_environment_and_that_over_the_file() {
        let text = "[listeners.tcp.default]\nbind = \"127.0.0.1:1\"\n[mqtt]\ninflight_max = 5\nmqueue_max = 6";
        let environment =
            [("HOOKLINE__LISTENERS__TCP__DEFAULT__BIND", "127.0.0.1:2"), ("HOOKLINE__MQTT__INFLIGHT_MAX", "7"), ("OTHER", "x")];
        let config = load_text(text, &["listeners.tcp.default.bind=127.0.0.1:3"], &environment).expect("valid");
        assert_eq!(config.listeners.tcp["default"].bind.map(|bind| bind.port()), Some(3));
        assert_eq!((config.mqtt.inflight_max, config.mqtt.mqueue_max), (7, 6));
    }

    #[test]
    fn all_errors_come_at_once_with_their_paths() {
        let text = "[mqtt]\ninflight_max = \"many\"\ntypo = 1\n[actions.a]\nack = \"durable\"\n[listeners.tcp.x]\nbind = \"nowhere\"\n[store]\nlevel = \"disc\"";
        let errors = load_text(text, &["broken"], &[]).expect_err("wrong");
        for expect in [
            "--set broken",
            "mqtt.inflight_max: invalid type",
            "mqtt.typo: unknown field",
            "actions.a.connector: missing",
            "listeners.tcp.x.bind:",
            "store.level: unknown variant",
        ] {
            assert!(errors.iter().any(|error| error.contains(expect)), "{expect} is not in {errors:#?}");
        }
    }

    #[test]
    fn secrets_come_from_files_and_what_is_wrong_with_one_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let (password, url) = (folder.path().join("password"), folder.path().join("url"));
        std::fs::write(&password, "s3cret\n").expect("written");
        std::fs::write(&url, "postgres://u:p@127.0.0.1/d").expect("written");
        let text = format!(
            "[connectors.m]\ntype = \"mqtt\"\nserver = \"127.0.0.1:1\"\npassword = \"file://{}\"\n\
             [connectors.p]\ntype = \"postgres\"\nurl = \"file://{}\"\nnote = \"file://is/no/secret\"",
            password.display(),
            url.display()
        );
        let config = load_text(&text, &[], &[]).expect("valid");
        assert_eq!(config.connectors["m"].settings["password"], "s3cret");
        assert_eq!(config.connectors["p"].settings["url"], "postgres://u:p@127.0.0.1/d");
        assert_eq!(config.connectors["p"].settings["note"], "file://is/no/secret");
        std::fs::remove_file(&url).expect("removed");
        std::fs::write(&password, "\n").expect("written");
        let errors = load_text(&text, &[], &[]).expect_err("wrong");
        assert!(errors.len() == 2 && errors[0].starts_with("connectors.m.password: ") && errors[1].contains("url"), "{errors:?}");
        assert!(errors[0].ends_with("is empty") && errors[1].contains("No such file"), "{errors:?}");
    }

    #[test]
    fn the_built_in_configuration_is_valid() {
        let errors = load_text(BUILT_IN, &[], &[]).map(|config| crate::serve::check(&config).map_err(|errors| errors.errors));
        assert_eq!(errors.expect("loads"), Ok(()));
    }

    #[test]
    fn the_schemas_in_the_repository_are_those_of_the_code() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../schemas/json");
        for (name, schema) in schemas() {
            let stored = std::fs::read_to_string(folder.join(&name)).unwrap_or_default();
            assert!(stored == schema, "{name} is old; \"make schemas\" writes it anew");
        }
    }
}
