//! What is asked about clients from outside, and done to them.

use hookline_mqtt::ReasonCode;
use hookline_mqtt::topic::Subscription;
use hookline_schemas::QueueId;
use serde_json::{Value, json};

use super::resting::Understood;
use super::{Outbox, Resident, Worker};
use crate::clock;
use crate::observer::ClientFilter;
use crate::session::Held;
use crate::store::Error;

/// A time in the form that the API has for it.
pub(crate) fn time(ms: u64) -> Value {
    json!(clock::text(ms))
}

/// A subscription in the form that EMQX has.
pub(crate) fn describe_subscription(node: &str, client_id: &str, filter: &str, held: Held) -> Value {
    json!({
        "clientid": client_id,
        "node": node,
        "topic": filter,
        "qos": held.options.qos as u8,
        "nl": u8::from(held.options.no_local),
        "rap": u8::from(held.options.retain_as_published),
        "rh": held.options.retain_handling as u8,
        "shared": matches!(Subscription::parse(filter), Some(Subscription::Shared { .. })),
    })
}

impl Worker {
    /// Clients with a session here: their identifiers, with the queues of those that rest.
    pub(crate) fn find_clients(&self, filter: &ClientFilter) -> Vec<(String, Option<QueueId>)> {
        let is_part = |part: &Option<String>, whole: &str| part.as_deref().is_none_or(|part| whole.contains(part));
        let residents = self.sessions.part(0, usize::MAX).map(|(_, resident)| (&resident.session.client.client_id, resident));
        let residents = residents.filter(|(client_id, resident)| {
            let username = resident.session.client.username.as_deref();
            let has_name = filter.username.as_deref().is_none_or(|wanted| username == Some(wanted));
            let has_part = filter.like_username.is_none() || is_part(&filter.like_username, username.unwrap_or_default());
            let is_so = filter.connected.is_none_or(|connected| resident.connection.is_some() == connected);
            has_name && has_part && is_so && is_part(&filter.like_client_id, client_id)
        });
        let mut found: Vec<_> = residents.map(|(client_id, _)| (client_id.to_string(), None)).collect();
        // Of those that rest only the identifier is at hand.
        if filter.username.is_none() && filter.like_username.is_none() && filter.connected != Some(true) {
            let resting = self.resting.iter().filter_map(|queue| self.shared.store.queue(*queue));
            let resting = resting.filter(|queue| is_part(&filter.like_client_id, queue.name()));
            found.extend(resting.map(|queue| (queue.name().to_owned(), Some(queue.id()))));
        }
        found
    }

    /// Clients that were found, in the form that EMQX has; of those that rest what is known without the store. Those that have gone since are left out.
    pub(crate) fn describe_found(&self, found: &[(String, Option<QueueId>)]) -> Vec<Value> {
        let describe = |(client_id, queue): &(String, Option<QueueId>)| {
            if let Some(resident) = self.session_of(client_id.as_str()).and_then(|key| self.sessions.get(key)) {
                return Some(self.describe(resident));
            }
            let queue = self.shared.store.queue((*queue)?)?;
            Some(self.describe_resting(client_id, queue.ledger().pending))
        };
        found.iter().filter_map(describe).collect()
    }

    fn describe_resting(&self, client_id: &str, waiting: u64) -> Value {
        json!({
            "clientid": client_id, "node": &*self.shared.node, "connected": false, "is_persistent": true, "durable": true, "mqueue_len": waiting,
        })
    }

    /// One client, in the form that EMQX has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn describe_client(&self, client_id: &str) -> Result<Option<Value>, Error> {
        if let Some(resident) = self.session_of(client_id).and_then(|key| self.sessions.get(key)) {
            return Ok(Some(self.describe(resident)));
        }
        let Some(Understood { client, state, queue, zone, subscriptions, .. }) = self.resting_client(client_id)? else { return Ok(None) };
        let mut described = self.describe_resting(client_id, queue.ledger().pending);
        described["zone"] = json!(&*client.zone);
        described["mountpoint"] = json!(client.mountpoint);
        described["expiry_interval"] = json!(state.expiry_secs);
        described["created_at"] = time(state.created_at_ms);
        described["disconnected_at"] = time(state.disconnected_at_ms);
        described["subscriptions_cnt"] = json!(subscriptions.len());
        described["subscriptions_max"] = json!(zone.limits.subscriptions_max);
        Ok(Some(described))
    }

    fn describe(&self, resident: &Resident) -> Value {
        let (session, client) = (&resident.session, &resident.session.client);
        let limits = &resident.zone.limits;
        let (waiting, created_at_ms, disconnected_at_ms) = match &resident.outbox {
            Outbox::Memory(mqueue) => (mqueue.len() as u64, client.connected_at_ms, 0),
            Outbox::Durable { queue, state, .. } => {
                let pending = queue.ledger().pending;
                (pending.saturating_sub(session.inflight.active() as u64), state.created_at_ms, state.disconnected_at_ms)
            }
        };
        let is_connected = resident.connection.is_some();
        json!({
            "clientid": &*client.client_id,
            "username": client.username,
            "node": &*self.shared.node,
            "connected": is_connected,
            "ip_address": client.peer.ip().to_canonical().to_string(),
            "port": client.peer.port(),
            "listener": &*client.listener,
            "zone": &*client.zone,
            "mountpoint": client.mountpoint,
            "proto_name": client.version.name(),
            "proto_ver": client.version.level(),
            "keepalive": client.keep_alive_secs,
            "clean_start": client.clean_start,
            "expiry_interval": client.session_expiry_secs,
            "is_persistent": client.session_expiry_secs > 0,
            "durable": matches!(resident.outbox, Outbox::Durable { .. }),
            "is_bridge": client.is_bridge,
            "created_at": time(created_at_ms),
            "connected_at": time(client.connected_at_ms),
            "disconnected_at": if is_connected || disconnected_at_ms == 0 { Value::Null } else { time(disconnected_at_ms) },
            "subscriptions_cnt": session.subscriptions.len(),
            "subscriptions_max": limits.subscriptions_max,
            "mqueue_len": waiting,
            "mqueue_max": limits.mqueue_max,
            "inflight_cnt": session.inflight.active(),
            "inflight_max": limits.inflight_max,
            "awaiting_rel_cnt": session.received.get().map_or(0, crate::HashMap::len),
            "client_attrs": client.attributes,
        })
    }

    /// The subscriptions of a client in the form that EMQX has.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn describe_subscriptions(&self, client_id: &str) -> Result<Option<Vec<Value>>, Error> {
        let Some(held) = self.subscriptions_of(client_id)? else { return Ok(None) };
        let described = held.into_iter().map(|(filter, held)| describe_subscription(&self.shared.node, client_id, &filter, held));
        Ok(Some(described.collect()))
    }

    /// Ends a client's connection and its session. `false`: there is none.
    ///
    /// # Errors
    /// The store cannot be read.
    pub(crate) fn kick(&mut self, client_id: &str) -> Result<bool, Error> {
        self.awaken(client_id)?;
        let Some(session) = self.session_of(client_id) else { return Ok(false) };
        tracing::info!(client = client_id, "kicked out");
        if let Some(connection) = self.sessions.get(session).and_then(|resident| resident.connection.or(resident.arriving)) {
            self.close(connection, ReasonCode::AdministrativeAction, "kicked");
        }
        // One that does not outlive its connection has ended with it.
        self.publish_will(session);
        self.terminate(session, "kicked");
        Ok(true)
    }
}
