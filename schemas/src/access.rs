//! Who may: how the broker asks, what it is told, and how outside systems are asked.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::Arc;

use hookline_mqtt::{QoS, ReasonCode};

use crate::config::AutoSubscribe;
use crate::event::Access;
use crate::message::Client;
use crate::ports::BoxFuture;
use crate::value::Value;

/// A client that wants to come in.
#[derive(Debug, Clone, Copy)]
pub struct Login<'a> {
    pub client: &'a Client,
    pub password: Option<&'a [u8]>,
    /// It has proven its user name by SCRAM already.
    pub is_proven: bool,
    /// Whether the zone lets clients in that say no name.
    pub allow_anonymous: bool,
    /// The authenticators of its listener, by name; `None`: all.
    pub chain: Option<&'a [String]>,
}

/// What a client has that was let in.
#[derive(Debug, Clone, Default)]
pub struct Granted {
    /// It may do everything.
    pub is_superuser: bool,
    /// It has proven nothing.
    pub is_anonymous: bool,
    /// The identifier that it has in place of the one that it said.
    pub client_id: Option<String>,
    /// What is known of it beside its names: for rules, permissions and mountpoints.
    pub attributes: BTreeMap<Box<str>, Box<str>>,
    /// When it has to go, milliseconds since the Unix epoch.
    pub expires_at_ms: Option<u64>,
    /// What it may do; `None`: everything. For who is no superuser there may be some later.
    pub rights: Option<Arc<dyn Rights>>,
    /// What the broker subscribes it to, beside what it does for every client.
    pub subscriptions: Vec<AutoSubscribe>,
}

/// What a client wants to do with a topic.
#[derive(Debug, Clone, Copy)]
pub struct Request<'a> {
    pub action: Access,
    /// A topic, or the filter of a subscription.
    pub topic: &'a str,
    pub qos: QoS,
    /// Of a message.
    pub retain: bool,
}

/// The answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    Allow,
    Deny,
    /// Deny, and end the connection.
    Disconnect,
}

/// What one client may do. Asked by workers for each message, so it waits for nothing.
pub trait Rights: Debug + Send + Sync {
    /// Decides; with the name of the source that did.
    fn decide(&self, request: &Request<'_>) -> (Decision, &str);

    /// Whether there is anything that it cannot decide before somebody was asked.
    fn asks_each(&self) -> bool;

    /// Whether it can decide that now. Where not, [`AccessControl::ask`] finds out.
    fn is_decided(&self, request: &Request<'_>) -> bool;

    /// For who made it.
    fn as_any(&self) -> &dyn std::any::Any;

    /// How long it holds, seconds; then it is asked for anew. 0: for ever.
    fn valid_secs(&self) -> u32;

    /// Whether nothing that it comes from is known to have changed since. Otherwise it is asked for anew at once.
    fn is_current(&self) -> bool;
}

/// Decides who comes in, and what they may do.
pub trait AccessControl: Send + Sync {
    /// Decides about a client. It ends within the deadlines of what it asks.
    ///
    /// # Errors
    /// The reason for which it is refused.
    fn log_in<'a>(&'a self, login: Login<'a>) -> BoxFuture<'a, Result<Granted, ReasonCode>>;

    /// Looks at what changes outside without telling, such as files; whether any rights may be others now. Called every second.
    fn look(&self) -> bool;

    /// Finds out what rights cannot decide yet, so that they can. It ends within the deadlines of what it asks.
    fn ask<'a>(&'a self, client: &'a Client, rights: &'a Arc<dyn Rights>, request: Request<'a>) -> BoxFuture<'a, ()>;

    /// The rights of a client that is in, asked for anew, with everything decided that it holds. `None`: nobody can say now, so the old ones hold, or
    /// there is still nothing to decide by. Superusers are not asked about.
    fn renew<'a>(
        &'a self,
        client: &'a Client,
        rights: Option<&'a Arc<dyn Rights>>,
        held: Vec<Request<'a>>,
    ) -> BoxFuture<'a, Option<Arc<dyn Rights>>>;
}

/// A question to an outside system: a query, a search, a request.
pub trait Lookup: Send + Sync {
    /// Asks, with the placeholders filled from a row: what is found, row by row.
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>>;
}

/// The outside system has not answered, or not with what was asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LookupError {
    /// It cannot answer at all, or not now.
    #[error("{0}")]
    Backend(String),
    /// It cannot answer this question.
    #[error("{0}")]
    Question(String),
}
