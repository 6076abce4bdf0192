//! People whom a directory knows (LDAP): it checks their passwords, and its groups say what they may. Nothing of them is kept in the store.

use std::sync::Arc;
use std::time::Duration;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::config::{Config, Role};
use hookline_schemas::{Map, Value};
use serde_json::{Map as JsonMap, json};
use tokio::sync::Semaphore;
use tokio::time::timeout;

use super::{Code, Problem};
use crate::access::question;

/// Logins that the directory is asked about at a time; others wait within their deadline.
const ASKED_MAX: usize = 4;
/// Bytes of the name of a group.
const GROUP_MAX: usize = 4096;
/// Whom a group names: entries by their names, or as POSIX has it by those of users.
const MEMBERS: &str = "(|(member=${dn})(uniqueMember=${dn})(memberUid=${username}))";

/// A directory, and what its groups may.
pub(crate) struct Directory {
    /// Finds somebody's entry, and whether the password is right.
    people: Arc<dyn Lookup>,
    /// Whether somebody is in a group: those that may most first.
    groups: Vec<(Role, Arc<dyn Lookup>)>,
    limit: Duration,
    room: Semaphore,
}

impl Directory {
    /// The directory of a configuration, where it has one.
    ///
    /// # Errors
    /// Everything that is wrong with the settings, each with its path.
    pub(crate) fn open(config: &Config) -> Result<Option<Directory>, Vec<String>> {
        let Some(settings) = &config.api.ldap else { return Ok(None) };
        let kind = config.connectors.get(&settings.connector).map(|connector| connector.kind.as_str());
        let mut errors = Vec::new();
        if kind.is_some_and(|kind| kind != "ldap") {
            errors.push(format!(
                "api.ldap.connector: \"{}\" is of type {}, and must be of type ldap",
                settings.connector,
                kind.unwrap_or_default()
            ));
        }
        for key in ["method", "member_of", "all_entries"].into_iter().filter(|key| settings.parameters.contains_key(*key)) {
            errors.push(format!("api.ldap.parameters.{key}: has no effect here; the directory checks passwords, and roles has the groups"));
        }
        if settings.roles.is_empty() {
            errors.push("api.ldap.roles: missing; it says what the members of which group may, and nobody else comes in".into());
        }
        if settings.roles.keys().any(|group| group.is_empty() || group.len() > GROUP_MAX) {
            errors.push(format!("api.ldap.roles: the name of a group has 1 to {GROUP_MAX} bytes"));
        }
        if settings.timeout_ms == 0 {
            errors.push("api.ldap.timeout_ms: must be more than 0".into());
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        let ask = |parameters: &JsonMap<String, serde_json::Value>| {
            let made = question(config, &settings.connector, parameters);
            made.map(|made| made.lookup).map_err(|errors| errors.into_iter().map(|error| format!("api.ldap.{error}")).collect::<Vec<_>>())
        };
        let people = ask(&settings.parameters)?;
        let mut groups = Vec::with_capacity(settings.roles.len());
        for (group, role) in &settings.roles {
            let parameters = json!({ "base_dn": group, "scope": "base", "filter": MEMBERS, "attributes": ["1.1"] });
            groups.push((*role, ask(parameters.as_object().expect("a table"))?));
        }
        groups.sort_by_key(|(role, _)| match role {
            Role::Administrator => 0,
            Role::Operator => 1,
            Role::Viewer => 2,
        });
        Ok(Some(Directory { people, groups, limit: Duration::from_millis(settings.timeout_ms), room: Semaphore::new(ASKED_MAX) }))
    }

    /// What somebody may; `None`: nothing, because the directory does not know them, the password is wrong, or they are in no group that may.
    pub(super) async fn prove(&self, name: &str, password: &str) -> Result<Option<Role>, Problem> {
        // Directories take an empty password for somebody who proves nothing.
        if password.is_empty() {
            return Ok(None);
        }
        let asked = timeout(self.limit, async {
            // The semaphore is never closed.
            let _room = self.room.acquire().await;
            self.ask(name, password).await
        });
        match asked.await {
            Ok(Ok(role)) => Ok(role),
            Ok(Err(error)) => {
                tracing::error!(%error, "the directory cannot say who may use the API");
                Err(unanswered())
            }
            Err(_) => {
                tracing::error!(timeout_ms = self.limit.as_millis(), "the directory has not said in time who may use the API");
                Err(unanswered())
            }
        }
    }

    async fn ask(&self, name: &str, password: &str) -> Result<Option<Role>, LookupError> {
        let mut row = Map::new();
        row.push_new("username", Value::text(name));
        row.push_new("password", Value::text(password));
        let found = self.people.ask(&Value::Map(row.clone())).await?;
        let Some(entry) = found.first() else { return Ok(None) };
        let dn = entry.path(["dn"]).as_text().unwrap_or_default();
        if *entry.path(["authenticated"]) != Value::Bool(true) || dn.is_empty() {
            return Ok(None);
        }
        // About groups nothing is proven.
        row.remove("password");
        row.push_new("dn", Value::text(dn));
        let row = Value::Map(row);
        for (role, group) in &self.groups {
            if !group.ask(&row).await?.is_empty() {
                return Ok(Some(*role));
            }
        }
        tracing::warn!(target: "audit", user = name, dn, "the directory knows somebody who is in no group that may use the API");
        Ok(None)
    }
}

fn unanswered() -> Problem {
    Problem::new(Code::Busy, "the directory has not answered; try again, or log in as somebody whom the broker knows itself")
}
