//! Settings.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::tls::Tls;

/// A directory.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Connector {
    /// The servers, in the order in which they are tried: `ldaps://ldap1.example.com,ldap://ldap2.example.com:389`.
    pub(crate) servers: String,
    /// The name that searches are done by, such as `cn=reader,dc=example,dc=com`; without it they are anonymous.
    pub(crate) bind_dn: Option<String>,
    /// Its password.
    pub(crate) bind_password: Option<String>,
    /// Begins TLS on the `ldap://` port (StartTLS).
    #[serde(default)]
    pub(crate) starttls: bool,
    /// What is believed of `ldaps://` and StartTLS servers.
    #[serde(default)]
    pub(crate) tls: Tls,
}

/// What is asked: for one entry.
#[derive(Debug, Clone, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Question {
    /// Below which entry is searched; with placeholders: `uid=${username},ou=people,dc=example,dc=com`.
    pub(crate) base_dn: String,
    /// What the entry must be like: `(&(objectClass=person)(uid=${username}))`. What placeholders bring is escaped.
    #[serde(default = "filter")]
    pub(crate) filter: String,
    /// How far below `base_dn`.
    #[serde(default)]
    pub(crate) scope: Scope,
    /// How a password is checked.
    #[serde(default)]
    pub(crate) method: Method,
    /// Groups, by their names (DN): the entry must be a member of one of them. Their members of members count where the directory says so
    /// in `memberOf`.
    #[serde(default)]
    pub(crate) member_of: Vec<String>,
    /// For permissions: every entry that is found counts, such as the groups that a client is in, up to 10,000. They are read in pages (RFC 2696),
    /// so that a directory's own bound on answers does not matter. Without it two entries are an error.
    #[serde(default)]
    pub(crate) all_entries: bool,
    /// The attributes that are read.
    #[serde(default = "attributes")]
    pub(crate) attributes: Vec<String>,
}

/// How far below an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Scope {
    /// This entry only.
    Base,
    /// Its children.
    One,
    #[default]
    Subtree,
}

/// How a password is checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Method {
    /// By the directory: it is asked to log the entry in (bind).
    #[default]
    Bind,
    /// Here, against the attribute `userPassword`, which the searching name must be allowed to read.
    Hash,
}

fn filter() -> String {
    "(objectClass=mqttUser)".into()
}

fn attributes() -> Vec<String> {
    vec!["*".into(), "memberOf".into()]
}
