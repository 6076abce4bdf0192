//! Users of our own: in a file, or in the store.

use std::collections::HashMap;
use std::sync::Arc;

use hookline_schemas::ports::{QueueError, StateStore};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;

/// Where they are in the store.
const PREFIX: &[u8] = b"users/";

/// A user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct User {
    /// The hash of the password, in a form that says what it is.
    pub password_hash: String,
    /// It may do everything.
    #[serde(default)]
    pub is_superuser: bool,
}

/// Whom permissions of the store are for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    Client(String),
    User(String),
    All,
}

impl Subject {
    fn key(&self) -> Vec<u8> {
        match self {
            Subject::Client(name) => format!("acl/client/{name}"),
            Subject::User(name) => format!("acl/user/{name}"),
            Subject::All => "acl/all".to_owned(),
        }
        .into_bytes()
    }

    fn of_key(key: &[u8]) -> Option<Subject> {
        let key = std::str::from_utf8(key).ok()?;
        let client = || key.strip_prefix("acl/client/").map(|name| Subject::Client(name.to_owned()));
        let user = || key.strip_prefix("acl/user/").map(|name| Subject::User(name.to_owned()));
        client().or_else(user).or_else(|| (key == "acl/all").then_some(Subject::All))
    }
}

/// Users by name.
pub(crate) type Users = HashMap<String, User>;

/// Reads a file of users: `name:hash`, one a line; empty lines and those with `#` in front count nothing.
pub(crate) fn read(text: &str) -> Result<Users, String> {
    let mut users = Users::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty() && !line.starts_with('#')) {
        let number = number + 1;
        let (name, hash) =
            line.trim_end().split_once(':').ok_or_else(|| format!("line {number}: there must be a colon behind the name"))?;
        if !hash.starts_with(['$', '{']) {
            return Err(format!("line {number}: that is no hash; write passwords with mosquitto_passwd, or hookline ctl users hash"));
        }
        let user = User { password_hash: hash.to_owned(), is_superuser: false };
        if users.insert(name.to_owned(), user).is_some() {
            return Err(format!("line {number}: \"{name}\" is there already"));
        }
    }
    Ok(users)
}

/// Users in the store.
#[derive(Clone)]
pub struct BuiltIn(Arc<dyn StateStore>);

impl BuiltIn {
    /// Those of a store.
    pub fn new(store: Arc<dyn StateStore>) -> BuiltIn {
        BuiltIn(store)
    }

    /// A user.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn get(&self, name: &str) -> Result<Option<User>, QueueError> {
        let key = key(name);
        let found = self.0.load(&key)?.into_iter().find(|(other, _)| *other == key);
        Ok(found.and_then(|(_, value)| serde_json::from_slice(&value).ok()))
    }

    /// All users, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all(&self) -> Result<Vec<(String, User)>, QueueError> {
        let read = |(key, value): (Vec<u8>, Vec<u8>)| {
            let name = String::from_utf8(key[PREFIX.len()..].to_vec()).ok()?;
            Some((name, serde_json::from_slice(&value).ok()?))
        };
        Ok(self.0.load(PREFIX)?.into_iter().filter_map(read).collect())
    }

    /// The permissions of somebody: a JSON list, as tokens have it.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn permissions(&self, subject: &Subject) -> Result<Option<Json>, QueueError> {
        let key = subject.key();
        let found = self.0.load(&key)?.into_iter().find(|(other, _)| *other == key);
        // What cannot be read is no list: then nobody says that nothing was denied.
        Ok(found.map(|(_, value)| serde_json::from_slice(&value).unwrap_or_else(|_| "damaged".into())))
    }

    /// All permissions, with whom they are for. What cannot be read is left out.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn all_permissions(&self) -> Result<Vec<(Subject, Json)>, QueueError> {
        let read = |(key, value): (Vec<u8>, Vec<u8>)| Some((Subject::of_key(&key)?, serde_json::from_slice(&value).ok()?));
        Ok(self.0.load(b"acl/")?.into_iter().filter_map(read).collect())
    }

    /// Sets the permissions of somebody, which were checked, or takes them away.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set_permissions(&self, subject: &Subject, permissions: Option<&Json>) -> Result<(), QueueError> {
        let value = permissions.map(|permissions| permissions.to_string().into_bytes());
        self.0.keep(&subject.key(), value.as_deref())
    }

    /// Sets a user, or takes it away.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn set(&self, name: &str, user: Option<&User>) -> Result<(), QueueError> {
        let value = user.map(|user| serde_json::to_vec(user).unwrap_or_default());
        self.0.keep(&key(name), value.as_deref())
    }
}

fn key(name: &str) -> Vec<u8> {
    [PREFIX, name.as_bytes()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_of_users_is_read_and_its_mistakes_are_told() {
        let users = read("# ours\n\nalice:$7$101$a$b\nbob:{SSHA}x\n").expect("valid");
        assert_eq!(users.len(), 2);
        assert_eq!(users["alice"].password_hash, "$7$101$a$b");
        for (text, problem) in [("alice", "colon"), ("alice:secret", "no hash"), ("a:$6$x$y\na:$6$x$y", "already")] {
            assert!(read(text).is_err_and(|error| error.contains(problem)), "{text}");
        }
    }
}
