//! What an export holds: its parts, and what a line of each says.

use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hookline_core::Banned;
use hookline_mqtt::property::carrier;
use hookline_mqtt::read::Reader;
use hookline_mqtt::{Properties, QoS, topic};
use hookline_schemas::config::Role;
use hookline_schemas::{Client, Message, MessageId};
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Bytes of a name, and of a hash.
const NAME_MAX: usize = 65_535;
const HASH_MAX: usize = 1024;

/// A part of an export.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema, clap::ValueEnum)]
#[serde(rename_all = "snake_case")]
#[clap(rename_all = "snake_case")]
pub(crate) enum Part {
    /// The file of the configuration, with rules, actions, connectors and the keys of the API
    Configuration,
    /// Who may use the API, with the hashes of their passwords
    Admins,
    /// Users in the store, with the hashes of their passwords
    Users,
    /// Permissions in the store
    Permissions,
    /// Bans that somebody has asked for
    Bans,
    /// Actions that are paused
    Paused,
    /// Retained messages
    Retained,
}

impl Part {
    pub(crate) const ALL: [Part; 7] =
        [Part::Configuration, Part::Admins, Part::Users, Part::Permissions, Part::Bans, Part::Paused, Part::Retained];

    /// As in the answers of the API, and in the names of files.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Part::Configuration => "configuration",
            Part::Admins => "admins",
            Part::Users => "users",
            Part::Permissions => "permissions",
            Part::Bans => "bans",
            Part::Paused => "paused",
            Part::Retained => "retained",
        }
    }

    /// The list that a file of an archive is a part of: `users-1.jsonl`.
    pub(super) fn of_file(name: &str) -> Option<Part> {
        let (name, number) = name.strip_suffix(".jsonl")?.rsplit_once('-')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        Part::ALL.into_iter().find(|part| *part != Part::Configuration && part.name() == name).filter(|_| is_number)
    }
}

/// Somebody who may use the API.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Person {
    pub(crate) username: String,
    pub(crate) password_hash: String,
    pub(crate) role: Role,
}

/// A user in the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct User {
    pub(crate) user_id: String,
    pub(crate) password_hash: String,
    #[serde(default)]
    pub(crate) is_superuser: bool,
}

/// Permissions in the store: of a client, of a user, or of all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Permission {
    /// `clients`, `users` or `all`, as in the paths of the API.
    pub(crate) kind: String,
    pub(crate) name: Option<String>,
    pub(crate) rules: Value,
}

/// A ban.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ban {
    pub(crate) r#as: String,
    pub(crate) who: String,
    #[serde(default)]
    pub(crate) by: String,
    #[serde(default)]
    pub(crate) reason: String,
    /// Milliseconds since the Unix epoch.
    pub(crate) at_ms: u64,
    /// `None`: for ever.
    pub(crate) until_ms: Option<u64>,
}

/// An action that is paused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Paused {
    pub(crate) action: String,
}

/// A retained message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Retained {
    topic: String,
    qos: u8,
    /// In base64.
    payload: String,
    /// As in a PUBLISH of MQTT 5, in base64.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    properties: String,
    from_clientid: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    from_username: Option<String>,
    /// Milliseconds since the Unix epoch.
    received_at_ms: u64,
    /// In hexadecimal digits.
    id: String,
}

/// What an archive holds.
#[derive(Debug, Clone)]
pub(crate) enum Entry {
    Configuration(String),
    Person(Person),
    User(User),
    Permission(Permission),
    Ban(Ban),
    Paused(Paused),
    Retained(Box<Message>),
}

impl Entry {
    pub(crate) const fn part(&self) -> Part {
        match self {
            Entry::Configuration(_) => Part::Configuration,
            Entry::Person(_) => Part::Admins,
            Entry::User(_) => Part::Users,
            Entry::Permission(_) => Part::Permissions,
            Entry::Ban(_) => Part::Bans,
            Entry::Paused(_) => Part::Paused,
            Entry::Retained(_) => Part::Retained,
        }
    }

    /// What a line says, where it makes sense.
    pub(super) fn parse(part: Part, line: &[u8]) -> Result<Entry, String> {
        fn read<T: DeserializeOwned>(line: &[u8]) -> Result<T, String> {
            serde_json::from_slice(line).map_err(|error| error.to_string())
        }
        fn has_name(key: &str, name: &str) -> Result<(), String> {
            if name.is_empty() || name.len() > NAME_MAX { Err(format!("{key}: must have 1 to {NAME_MAX} bytes")) } else { Ok(()) }
        }
        fn is_hash(hash: &str) -> Result<(), String> {
            if hash.starts_with(['$', '{']) && hash.len() <= HASH_MAX {
                Ok(())
            } else {
                Err("password_hash: is no hash that says what it is".into())
            }
        }
        Ok(match part {
            Part::Configuration => return Err("the configuration is no list".into()),
            Part::Admins => {
                let person: Person = read(line)?;
                crate::api::check_person(&person.username).map_err(|problem| problem.to_string())?;
                is_hash(&person.password_hash)?;
                Entry::Person(person)
            }
            Part::Users => {
                let user: User = read(line)?;
                has_name("user_id", &user.user_id)?;
                is_hash(&user.password_hash)?;
                Entry::User(user)
            }
            Part::Permissions => {
                let permission: Permission = read(line)?;
                permission.name.as_deref().map_or(Ok(()), |name| has_name("name", name))?;
                crate::api::access::subject(&permission.kind, permission.name.clone()).map_err(|problem| problem.to_string())?;
                hookline_access::check_permissions(&permission.rules)?;
                Entry::Permission(permission)
            }
            Part::Bans => {
                let ban: Ban = read(line)?;
                has_name("who", &ban.who)?;
                Banned::parse(&ban.r#as, &ban.who)?;
                if ban.reason.len() + ban.by.len() > NAME_MAX {
                    return Err(format!("reason and by: have {NAME_MAX} bytes at most"));
                }
                Entry::Ban(ban)
            }
            Part::Paused => {
                let paused: Paused = read(line)?;
                has_name("action", &paused.action)?;
                Entry::Paused(paused)
            }
            Part::Retained => Entry::Retained(Box::new(read::<Retained>(line)?.try_into()?)),
        })
    }
}

impl From<&Message> for Retained {
    fn from(message: &Message) -> Retained {
        let mut properties = Vec::new();
        if !message.properties.is_empty() {
            message.properties.encode(&mut properties);
        }
        Retained {
            topic: message.topic.to_string(),
            qos: message.qos as u8,
            payload: STANDARD.encode(&message.payload),
            properties: STANDARD.encode(&properties),
            from_clientid: message.from.client_id.to_string(),
            from_username: message.from.username.as_deref().map(str::to_owned),
            received_at_ms: message.received_at_ms,
            id: message.id.to_string(),
        }
    }
}

impl TryFrom<Retained> for Message {
    type Error = String;

    fn try_from(retained: Retained) -> Result<Message, String> {
        let Retained { topic, qos, payload, properties, from_clientid, from_username, received_at_ms, id } = retained;
        if !topic::name_is_valid(&topic, usize::MAX) || topic.starts_with("$SYS/") {
            return Err(format!("\"{}\" is no topic of a retained message", topic.escape_debug()));
        }
        let decode = |key: &str, text: &str| STANDARD.decode(text).map_err(|error| format!("{key}: {error}"));
        let payload = decode("payload", &payload)?;
        if payload.is_empty() {
            return Err("payload: must not be empty".into());
        }
        let properties = match decode("properties", &properties)? {
            bytes if bytes.is_empty() => Properties::default(),
            bytes => {
                let mut reader = Reader::new(&bytes);
                let properties = Properties::decode(&mut reader, carrier::PUBLISH).map_err(|error| format!("properties: {error}"))?;
                if !reader.rest().is_empty() {
                    return Err("properties: something stands behind them".into());
                }
                properties
            }
        };
        if from_clientid.len() > NAME_MAX || from_username.as_ref().is_some_and(|name| name.len() > NAME_MAX) {
            return Err(format!("from_clientid and from_username have {NAME_MAX} bytes at most"));
        }
        let mut from = Client::internal(&from_clientid);
        from.username = from_username.map(Into::into);
        Ok(Message {
            id: MessageId(u128::from_str_radix(&id, 16).map_err(|error| format!("id: {error}"))?),
            received_at_ms,
            from: Arc::new(from),
            topic: topic.into(),
            payload: payload.into(),
            qos: QoS::from_bits(qos).ok_or("qos: must be 0, 1 or 2")?,
            retain: true,
            dup: false,
            properties,
            hops: 0,
            trace: None,
        })
    }
}
