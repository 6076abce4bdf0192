//! The session: what outlives a connection. Pure: no socket and no clock.
//!
//! In: messages that are to go to the client, and its acknowledgements.
//! Out: packet identifiers to send under, and which message an acknowledgement settles.

mod by_rank;
mod inflight;
mod mqueue;
mod persist;
mod subscriptions;

use std::borrow::Cow;
use std::sync::Arc;

use hookline_mqtt::packet::SubscriptionOptions;
use hookline_mqtt::topic::{self, Subscription};
use hookline_schemas::Client;

pub(crate) use by_rank::Reached;
pub(crate) use inflight::{Entry, Inflight, Overdue, PACKET_IDS, PubRec};
pub(crate) use mqueue::{Mqueue, Waiting};
pub(crate) use persist::{StoredPlace, StoredState, decode_subscription, encode_subscription};
pub(crate) use subscriptions::Subscriptions;

use crate::HashMap;
use crate::router::Turn;
use crate::seldom::Seldom;

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
    pub(crate) subscriptions: Subscriptions,
    /// Messages on their way to the client.
    pub(crate) inflight: Inflight,
    /// QoS 2 messages from the client that wait for their PUBREL, and since when, milliseconds since the Unix epoch.
    pub(crate) received: Seldom<HashMap<u16, u64>>,
    /// How it has chosen among the members of groups that it publishes to.
    pub(crate) turns: Seldom<Vec<Turn>>,
}

impl Session {
    pub(crate) fn new(client: Arc<Client>) -> Session {
        let (subscriptions, received) = (Subscriptions::default(), Seldom::default());
        Session { client, subscriptions, inflight: Inflight::starting_at(0), received, turns: Seldom::default() }
    }

    /// The QoS 2 message of that packet identifier is over, or comes anew when it comes again.
    pub(crate) fn forget_received(&mut self, packet_id: u16) {
        if let Some(received) = self.received.get_mut() {
            received.remove(&packet_id);
        }
    }

    /// The identifiers of the subscriptions that match a topic.
    pub(crate) fn identifiers(&self, topic: &str) -> impl Iterator<Item = u32> {
        let numbered = self.subscriptions.iter().filter(|(_, held)| held.identifier != 0);
        numbered.filter(move |(filter, _)| topic::matches(&self.routed(filter), topic)).map(|(_, held)| held.identifier)
    }

    /// What of a filter goes to the router: without the word that makes it shared or exclusive, with the mountpoint.
    pub(crate) fn routed<'a>(&self, filter: &'a str) -> Cow<'a, str> {
        let inner = Subscription::parse(filter).map_or(filter, Subscription::filter);
        match &*self.client.mountpoint {
            "" => Cow::Borrowed(inner),
            mountpoint => Cow::Owned(format!("{mountpoint}{inner}")),
        }
    }
}

#[cfg(test)]
mod tests;
