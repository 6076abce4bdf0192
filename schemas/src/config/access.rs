//! Who may connect, and what they may do.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// One way to prove who a client is. They are asked in their order: the first that knows the client decides. Where none does, a client that says a
/// name is refused.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Authenticator {
    /// Its name: for listeners, logs and counters.
    pub name: String,
    /// Where the users are. It may be left out where `connector` says it.
    #[serde(default, rename = "type")]
    pub kind: AuthenticatorType,
    /// Whether it is asked.
    #[serde(default = "yes")]
    pub enable: bool,
    /// A condition as in WHERE, over `clientid`, `username`, `peerhost`, `listener`, `zone` and `cert_common_name`: other clients are not asked about.
    #[serde(default)]
    pub precondition: Option<String>,
    /// The name of the connector that is asked.
    #[serde(default)]
    pub connector: Option<String>,
    /// What is asked: the settings of the connector's kind.
    #[serde(default)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// What is asked about a failure: a backend that is away, or does not answer in time.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// How passwords are kept.
    #[serde(default)]
    pub password_hash: PasswordHash,
    /// The file of `type = "file"`: lines `name:hash`, as mosquitto_passwd writes them, or with any hash that says what it is. It is read again when it changes.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The identifiers of `type = "client_id"`.
    #[serde(default)]
    pub client_ids: Vec<String>,
    /// The settings of `type = "jwt"`.
    #[serde(default)]
    pub jwt: Option<Jwt>,
    /// Names of the fields of an answer.
    #[serde(default)]
    pub fields: UserFields,
    /// Asking the connector.
    #[serde(default)]
    pub backend: Backend,
}

/// Where users are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthenticatorType {
    /// In the system that `connector` names.
    #[default]
    Connector,
    /// In the store: `hookline ctl users`.
    BuiltIn,
    /// In a file.
    File,
    /// In the password of the client, signed.
    Jwt,
    /// Clients with these identifiers are let in.
    ClientId,
    /// Clients with a certificate of an authority that the listener believes are let in.
    Certificate,
}

/// What follows from a backend that does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum OnFailure {
    /// The client is refused (server unavailable), and may come again.
    #[default]
    Refuse,
    /// The next one is asked.
    Ignore,
}

/// The fields of an answer about a user.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct UserFields {
    /// The hash of the password.
    pub password_hash: String,
    /// What was hashed with the password.
    pub salt: String,
    /// Whether the user may do everything: true, 1, "1" or "true".
    pub is_superuser: String,
    /// Where it is there and true, the user is refused.
    pub is_disabled: String,
    /// Further fields that become attributes of the client.
    pub attributes: Vec<String>,
}

impl Default for UserFields {
    fn default() -> Self {
        Self {
            password_hash: "password_hash".into(),
            salt: "salt".into(),
            is_superuser: "is_superuser".into(),
            is_disabled: "is_disabled".into(),
            attributes: Vec::new(),
        }
    }
}

/// How passwords are kept.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PasswordHash {
    /// The function.
    pub algorithm: Algorithm,
    /// Where the salt stands, for `md5`, `sha`, `sha256` and `sha512`.
    pub salt_position: SaltPosition,
    /// The function below `pbkdf2`.
    pub mac_fun: MacFun,
    /// Rounds of `pbkdf2`.
    pub iterations: u32,
    /// Bytes that `pbkdf2` gives; 0 is as many as its function gives.
    pub dk_length: usize,
}

impl Default for PasswordHash {
    fn default() -> Self {
        Self { algorithm: Algorithm::Auto, salt_position: SaltPosition::Prefix, mac_fun: MacFun::Sha256, iterations: 4096, dk_length: 0 }
    }
}

/// Functions for passwords.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Algorithm {
    /// What the hash says of itself (`$argon2id$`, `$2b$`, `{SSHA}`, mosquitto's `$7$`), else `sha256` with the salt in front.
    #[default]
    Auto,
    /// The password itself.
    Plain,
    Md5,
    Sha,
    Sha256,
    Sha512,
    Bcrypt,
    Pbkdf2,
    /// The form that begins with `$argon2`.
    Argon2,
}

/// Where a salt stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SaltPosition {
    #[default]
    Prefix,
    Suffix,
    /// There is none.
    Disable,
}

/// Functions below PBKDF2.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum MacFun {
    Md5,
    Sha,
    Sha224,
    #[default]
    Sha256,
    Sha384,
    Sha512,
}

/// JSON Web Tokens (RFC 7519).
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwt {
    /// Where the token is.
    #[serde(default)]
    pub from: TokenPlace,
    /// The secret of HS256, HS384 and HS512.
    #[serde(default)]
    pub secret: Option<String>,
    /// The secret is written in base64.
    #[serde(default)]
    pub secret_base64: bool,
    /// The file of the public key, PEM, of RS*, PS*, ES* and EdDSA.
    #[serde(default)]
    pub public_key: Option<PathBuf>,
    /// The connector (of type `http`) and path of the keys (JWKS, RFC 7517).
    #[serde(default)]
    pub jwks: Option<Jwks>,
    /// Claims that must be so: a text with `${clientid}` and `${username}`. Of an array of the token one element must be it.
    #[serde(default)]
    pub verify_claims: BTreeMap<String, String>,
    /// The claim with the permissions.
    #[serde(default = "acl_claim")]
    pub acl_claim: String,
    /// Claims that become attributes of the client.
    #[serde(default)]
    pub attributes: Vec<String>,
    /// Whether a client has to go when its token ends.
    #[serde(default = "yes")]
    pub disconnect_after_expire: bool,
}

/// Where keys are published.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Jwks {
    /// The name of a connector of type `http`.
    pub connector: String,
    /// Behind its URL.
    #[serde(default)]
    pub path: String,
    /// Seconds after which they are read again.
    #[serde(default = "refresh_secs")]
    pub refresh_secs: u64,
}

/// Where a token is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum TokenPlace {
    #[default]
    Password,
    Username,
}

/// Asking an outside system.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// Milliseconds for an answer.
    pub timeout_ms: u64,
    /// Questions at a time; further ones wait.
    pub concurrent_max: usize,
    /// Questions that wait; further clients are refused (server busy).
    pub waiting_max: usize,
    /// Failures in a row from which on nothing is asked for a while.
    pub failures_max: u32,
    /// Milliseconds of that while; then one question is tried.
    pub pause_ms: u64,
    /// Seconds that an answer is remembered; 0 is not at all.
    pub cache_secs: u64,
    /// Answers that are remembered.
    pub cache_max: usize,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            timeout_ms: 5000,
            concurrent_max: 32,
            waiting_max: 10_000,
            failures_max: 5,
            pause_ms: 1000,
            cache_secs: 0,
            cache_max: 100_000,
        }
    }
}

/// What clients may do.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Authorization {
    /// The permissions, in their order: the first that says something decides. Without any, everybody may do everything.
    pub sources: Vec<AuthorizationSource>,
    /// What counts where no source says anything.
    pub no_match: Permission,
    /// What happens with what is denied.
    pub deny_action: DenyAction,
    /// Seconds after which the permissions of a client that is connected are asked for anew, where they come from outside.
    pub refresh_secs: u32,
}

impl Default for Authorization {
    fn default() -> Self {
        Self { sources: Vec::new(), no_match: Permission::Deny, deny_action: DenyAction::Ignore, refresh_secs: 60 }
    }
}

/// Where permissions are.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AuthorizationSource {
    /// Its name: for logs, counters and events.
    pub name: String,
    /// Where they are. It may be left out where `connector` or `rules` says it.
    #[serde(default, rename = "type")]
    pub kind: SourceType,
    /// Whether it counts.
    #[serde(default = "yes")]
    pub enable: bool,
    /// The rules of `type = "rules"`.
    #[serde(default)]
    pub rules: Vec<AccessRule>,
    /// The file of `type = "file"` (TOML, with `[[rules]]` as here) and `type = "mosquitto"`. It is read again when it changes.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// The name of the connector that is asked.
    #[serde(default)]
    pub connector: Option<String>,
    /// What is asked: the settings of the connector's kind.
    #[serde(default)]
    pub parameters: serde_json::Map<String, serde_json::Value>,
    /// Asking the connector. Answers are remembered for `refresh_secs`.
    #[serde(default)]
    pub backend: Backend,
}

/// Where permissions are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum SourceType {
    /// In the system that `connector` names; without one, in `rules`.
    #[default]
    Rules,
    /// In a file with `[[rules]]`.
    File,
    /// In the store: `hookline ctl acl`.
    BuiltIn,
    /// In a file of mosquitto's `acl_file`.
    Mosquitto,
}

/// A permission. What it does not mention does not matter.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AccessRule {
    pub permission: Permission,
    /// What is done.
    #[serde(default)]
    pub action: RuleAccess,
    /// Filters; with `${clientid}`, `${username}`, `${cert_common_name}` and `${client_attrs.NAME}`. A name with a wildcard or slash fills nothing in: the
    /// filter is for nobody then. `eq FILTER` is this very text.
    #[serde(default = "everything")]
    pub topics: Vec<String>,
    /// Of these QoS.
    #[serde(default)]
    pub qos: Option<Vec<u8>>,
    /// Of messages with or without RETAIN.
    #[serde(default)]
    pub retain: Option<bool>,
    /// Of this user; `re:` stands before a regular expression.
    #[serde(default)]
    pub username: Option<String>,
    /// Of this client; `re:` stands before a regular expression.
    #[serde(default)]
    pub client_id: Option<String>,
    /// From this address or network.
    #[serde(default)]
    pub address: Option<String>,
    /// With these attributes.
    #[serde(default)]
    pub client_attrs: BTreeMap<String, String>,
}

/// Yes or no.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Permission {
    Allow,
    Deny,
}

/// What a permission is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum RuleAccess {
    Publish,
    Subscribe,
    #[default]
    All,
}

/// What happens with what is denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum DenyAction {
    /// It is refused: MQTT 5 clients get a reason code. Before version 5 a message of QoS 1 or 2 ends the connection, because its
    /// acknowledgement would be a promise that is not kept.
    #[default]
    Ignore,
    /// The connection ends.
    Disconnect,
}

fn yes() -> bool {
    true
}

fn everything() -> Vec<String> {
    vec!["#".into()]
}

fn acl_claim() -> String {
    "acl".into()
}

fn refresh_secs() -> u64 {
    300
}
