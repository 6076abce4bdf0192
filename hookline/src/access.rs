//! Who may, put together from the configuration: questions by the connectors, conditions by the rules.

use std::sync::Arc;

use hookline_access::{Access, BuiltIn, Condition, Expression, NewLookup, Prepared, Setup};
use hookline_connectors::registry;
use hookline_rules::Statement;
use hookline_schemas::config::Config;
use hookline_schemas::ports::{KeyValue, QueueError, StateStore};
use serde_json::{Map, Value as Json};

use crate::serve::{find_connector, settings_error};

/// Reads what decides about clients.
///
/// # Errors
/// Everything that is wrong, each with its path.
pub(crate) fn prepare(config: &Config, store: Arc<dyn StateStore>) -> Result<Prepared, Vec<String>> {
    let lookup = |connector: &str, parameters: &Map<String, Json>| question(config, connector, parameters);
    Access::prepare(config, &Setup { users: BuiltIn::new(store), lookup: &lookup, condition: &condition, expression: &expression })
}

/// What is wrong with the settings.
pub(crate) fn check(config: &Config) -> Vec<String> {
    prepare(config, Arc::new(Nowhere)).err().unwrap_or_default()
}

/// A question to a connector.
pub(crate) fn question(config: &Config, name: &str, parameters: &Map<String, Json>) -> Result<NewLookup, Vec<String>> {
    let connector = find_connector(config, name).map_err(|problem| vec![format!("connector: {problem}")])?;
    // An unknown type is told with its connector.
    let Some(kind) = registry::find(&connector.kind) else { return Err(Vec::new()) };
    let Some(make) = kind.lookup else {
        return Err(vec![format!("connector: \"{name}\" is of type {}, which cannot be asked", connector.kind)]);
    };
    let made = make(&connector.settings, parameters, &config.node.data_dir);
    let lookup = made.map_err(|errors| errors.iter().map(|error| settings_error(error, "", name)).collect::<Vec<_>>())?;
    Ok(NewLookup { lookup, kind: kind.name })
}

fn condition(text: &str) -> Result<Condition, String> {
    let statement = Statement::compile(&format!("SELECT * FROM \"#\" WHERE ({text}\n)")).map_err(|error| error.problem)?;
    // What cannot be computed does not hold.
    Ok(Box::new(move |row| statement.try_on(row).is_ok_and(|rows| !rows.as_slice().is_empty())))
}

fn expression(text: &str) -> Result<Expression, String> {
    let statement = Statement::compile(&format!("SELECT ({text}\n) AS value FROM \"#\"")).map_err(|error| error.problem)?;
    // What cannot be computed is not there.
    Ok(Box::new(move |row| {
        let rows = statement.try_on(row).ok()?;
        let value = rows.as_slice().first()?.path(["value"]);
        (!value.is_null()).then(|| value.to_string())
    }))
}

/// A store with nothing in it, for looking at settings.
struct Nowhere;

impl StateStore for Nowhere {
    fn load(&self, _: &[u8]) -> Result<Vec<KeyValue>, QueueError> {
        Ok(Vec::new())
    }

    fn keep(&self, _: &[u8], _: Option<&[u8]>) -> Result<(), QueueError> {
        Ok(())
    }
}
