//! What a kind of connector is, and how its settings are read.

use std::path::Path;
use std::sync::Arc;

use hookline_schemas::access::Lookup;
use schemars::Schema;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::connector::Sink;
use crate::intake::Source;

/// Where the path of an error begins: in the connector's settings, or in the action's parameters.
pub const CONNECTOR: &str = "connector";
/// See [`CONNECTOR`].
pub const PARAMETERS: &str = "parameters";

/// What is wrong with the settings of a connector or an action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct SettingsError {
    /// The key: [`CONNECTOR`] or [`PARAMETERS`], and what is below.
    pub path: String,
    pub problem: String,
}

/// Makes a sink from the settings of its connector and the parameters of its action.
pub type MakeSink =
    fn(connector: &Map<String, Value>, parameters: &Map<String, Value>, data_dir: &Path) -> Result<Box<dyn Sink>, Vec<SettingsError>>;

/// Makes a source from the settings of its connector and its parameters, for the node of that name.
pub type MakeSource =
    fn(connector: &Map<String, Value>, parameters: &Map<String, Value>, node: &str) -> Result<Box<dyn Source>, Vec<SettingsError>>;

/// Makes a question from the settings of its connector and parameters.
pub type MakeLookup =
    fn(connector: &Map<String, Value>, parameters: &Map<String, Value>, data_dir: &Path) -> Result<Arc<dyn Lookup>, Vec<SettingsError>>;

/// A kind of connector.
#[derive(Debug)]
pub struct Kind {
    /// The `type` in the configuration.
    pub name: &'static str,
    /// Makes the sink of an action; nothing is connected yet. Relative paths are below `data_dir`. `None`: nothing can be written there.
    pub sink: Option<MakeSink>,
    /// Makes a source; nothing is connected yet. `None`: nothing comes from there.
    pub source: Option<MakeSource>,
    /// Makes a question; nothing is connected yet. `None`: nothing can be asked there.
    pub lookup: Option<MakeLookup>,
    /// The JSON Schema of the connector's settings.
    pub connector_schema: fn() -> Schema,
    /// The JSON Schema of an action's parameters.
    pub parameters_schema: Option<fn() -> Schema>,
    /// The JSON Schema of a source's parameters.
    pub source_schema: Option<fn() -> Schema>,
    /// The JSON Schema of a question's parameters.
    pub question_schema: Option<fn() -> Schema>,
}

/// Reads settings, with the path of what is wrong.
pub(crate) fn settings<T: DeserializeOwned>(settings: &Map<String, Value>) -> Result<T, Vec<SettingsError>> {
    serde_path_to_error::deserialize(Value::Object(settings.clone())).map_err(|error| {
        let path = error.path().to_string();
        vec![SettingsError { path: if path == "." { String::new() } else { path }, problem: error.into_inner().to_string() }]
    })
}

/// The settings of both, or the errors of both.
pub(crate) fn both<A, B>(a: Result<A, Vec<SettingsError>>, b: Result<B, Vec<SettingsError>>) -> Result<(A, B), Vec<SettingsError>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (connector, parameters) => {
            let below = |prefix: &'static str| {
                move |error: SettingsError| {
                    let path = if error.path.is_empty() { prefix.to_owned() } else { format!("{prefix}.{}", error.path) };
                    SettingsError { path, ..error }
                }
            };
            let connector = connector.err().into_iter().flatten().map(below(CONNECTOR));
            let parameters = parameters.err().into_iter().flatten().map(below(PARAMETERS));
            Err(connector.chain(parameters).collect())
        }
    }
}

/// Both, or the errors of both, whose paths are whole.
pub(crate) fn both_valid<A, B>(a: Result<A, Vec<SettingsError>>, b: Result<B, Vec<SettingsError>>) -> Result<(A, B), Vec<SettingsError>> {
    match (a, b) {
        (Ok(a), Ok(b)) => Ok((a, b)),
        (a, b) => Err(a.err().into_iter().chain(b.err()).flatten().collect()),
    }
}

/// A template of an action's parameters.
pub(crate) fn template(path: &str, text: &str) -> Result<hookline_schemas::Template, Vec<SettingsError>> {
    hookline_schemas::Template::parse(text)
        .map_err(|error| vec![SettingsError { path: format!("{PARAMETERS}.{path}"), problem: error.to_string() }])
}
