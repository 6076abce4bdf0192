//! The session: what outlives a connection. Pure: no socket and no clock.
//!
//! In: messages that are to go to the client, and its acknowledgements.
//! Out: packet identifiers to send under, and which message an acknowledgement settles.

mod inflight;
mod persist;

use std::sync::Arc;

use hookline_mqtt::packet::SubscriptionOptions;
use hookline_schemas::Client;

pub(crate) use inflight::{Entry, Inflight, PubRec};
pub(crate) use persist::{StoredState, decode_subscription, encode_subscription};

use crate::{HashMap, HashSet};

/// A subscription as its session keeps it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Held {
    pub(crate) options: SubscriptionOptions,
    /// 0: none.
    pub(crate) identifier: u32,
}

/// What a client has here, with or without a connection.
#[derive(Debug)]
pub(crate) struct Session {
    pub(crate) client: Arc<Client>,
    pub(crate) subscriptions: HashMap<Box<str>, Held>,
    /// Messages on their way to the client.
    pub(crate) inflight: Inflight,
    /// QoS 2 messages from the client that wait for their PUBREL.
    pub(crate) received: HashSet<u16>,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>) -> Session {
        Session { client, subscriptions: HashMap::default(), inflight: Inflight::starting_at(0), received: HashSet::default() }
    }

    /// The identifiers of the subscriptions that match a topic.
    pub(crate) fn identifiers(&self, topic: &str) -> impl Iterator<Item = u32> {
        let numbered = self.subscriptions.iter().filter(|(_, held)| held.identifier != 0);
        numbered.filter(move |(filter, _)| hookline_mqtt::topic::matches(filter, topic)).map(|(_, held)| held.identifier)
    }
}
