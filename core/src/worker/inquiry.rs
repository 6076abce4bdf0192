//! What is asked about clients from outside, and done to them.

use hookline_mqtt::ReasonCode;
use hookline_mqtt::topic::Subscription;
use serde_json::{Value, json};

use super::{Outbox, Resident, Worker};
use crate::observer::ClientFilter;

fn time(ms: u64) -> Value {
    let time = i64::try_from(ms).ok().and_then(|ms| jiff::Timestamp::from_millisecond(ms).ok());
    json!(time.map(|time| time.to_string()))
}

impl Worker {
    /// The identifiers of clients with a session here.
    pub(crate) fn client_ids(&self, filter: &ClientFilter) -> Vec<String> {
        let is_part = |part: &Option<String>, whole: &str| part.as_deref().is_none_or(|part| whole.contains(part));
        let residents = self.by_client.iter().filter_map(|(client_id, key)| Some((client_id, self.sessions.get(*key)?)));
        let residents = residents.filter(|(client_id, resident)| {
            let username = resident.session.client.username.as_deref();
            let has_name = filter.username.as_deref().is_none_or(|wanted| username == Some(wanted));
            let has_part = filter.like_username.is_none() || is_part(&filter.like_username, username.unwrap_or_default());
            let is_so = filter.connected.is_none_or(|connected| resident.connection.is_some() == connected);
            has_name && has_part && is_so && is_part(&filter.like_client_id, client_id)
        });
        let mut found: Vec<String> = residents.map(|(client_id, _)| client_id.to_string()).collect();
        // Of those that rest only the identifier is at hand.
        if filter.username.is_none() && filter.like_username.is_none() && filter.connected != Some(true) {
            let resting = self.resting.iter().filter_map(|queue| self.shared.store.queue(*queue));
            found.extend(resting.map(|queue| queue.name().to_owned()).filter(|client_id| is_part(&filter.like_client_id, client_id)));
        }
        found
    }

    /// A client in the form that EMQX has. One that rests is told of in full where it is `wanted` by itself.
    pub(crate) fn describe_client(&mut self, client_id: &str, wanted: bool) -> Option<Value> {
        if wanted {
            self.wake(client_id);
        }
        match self.by_client.get(client_id).and_then(|key| self.sessions.get(*key)) {
            Some(resident) => Some(self.describe(resident)),
            None => {
                let mut resting = self.resting.iter().filter_map(|queue| self.shared.store.queue(*queue));
                let queue = resting.find(|queue| queue.name() == client_id)?;
                Some(json!({
                    "clientid": client_id, "node": &*self.shared.node, "connected": false, "is_persistent": true, "durable": true,
                    "mqueue_len": queue.ledger().pending,
                }))
            }
        }
    }

    fn wake(&mut self, client_id: &str) {
        if let Err(error) = self.awaken(client_id) {
            tracing::warn!(client = client_id, %error, "cannot read a session");
        }
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
            "awaiting_rel_cnt": session.received.len(),
            "client_attrs": client.attributes,
        })
    }

    /// The subscriptions of a client in the form that EMQX has.
    pub(crate) fn describe_subscriptions(&mut self, client_id: &str) -> Option<Vec<Value>> {
        self.wake(client_id);
        let resident = self.by_client.get(client_id).and_then(|key| self.sessions.get(*key))?;
        let mut held: Vec<_> = resident.session.subscriptions.iter().collect();
        held.sort_unstable_by_key(|(filter, _)| *filter);
        let described = held.into_iter().map(|(filter, held)| {
            json!({
                "clientid": client_id,
                "node": &*self.shared.node,
                "topic": filter,
                "qos": held.options.qos as u8,
                "nl": u8::from(held.options.no_local),
                "rap": u8::from(held.options.retain_as_published),
                "rh": held.options.retain_handling as u8,
                "shared": matches!(Subscription::parse(filter), Some(Subscription::Shared { .. })),
            })
        });
        Some(described.collect())
    }

    /// Ends a client's connection and its session.
    pub(crate) fn kick(&mut self, client_id: &str) -> bool {
        self.wake(client_id);
        let Some(session) = self.by_client.get(client_id).copied() else { return false };
        tracing::info!(client = client_id, "kicked out");
        if let Some(connection) = self.sessions.get(session).and_then(|resident| resident.connection.or(resident.arriving)) {
            self.close(connection, ReasonCode::AdministrativeAction, "kicked");
        }
        // One that does not outlive its connection has ended with it.
        self.publish_will(session);
        self.terminate(session, "kicked");
        true
    }
}
