//! What the broker says about its clients below `$SYS`. Rules do not see it, and it is no drop where nobody wants it.

use std::sync::Arc;

use hookline_schemas::{Client, Message};
use serde_json::json;

use super::Worker;
use crate::clock;

/// What topics of the broker's own begin with.
pub(super) const SYS: &str = "$SYS/";

impl Worker {
    /// Delivers a message of the broker's own.
    pub(super) fn publish_sys(&mut self, mut message: Message) {
        message.id = self.message_id();
        message.received_at_ms = clock::now_ms();
        let (_, targets) = self.routes.targets(&self.shared.router, &message.topic);
        let members = self.choose_members(&message, &targets, None);
        let message = Arc::new(message);
        if message.retain {
            // Not in the store: after a start it is said anew.
            self.shared.retained.set_own(Arc::clone(&message));
        }
        self.dispatch(&message, &targets, &members, None);
    }

    /// Says that a client came or went.
    pub(super) fn publish_client_event(&mut self, client: &Client, event: &str, reason: Option<&str>) {
        if !self.shared.sys.connect_events {
            return;
        }
        let Some(topic) = self.client_topic(client, event) else { return };
        let now_ms = clock::now_ms();
        let mut body = json!({
            "clientid": &*client.client_id,
            "username": client.username.as_deref(),
            "ipaddress": client.peer.ip().to_string(),
            "sockport": client.sock.port(),
            "protocol": "mqtt",
            "proto_name": client.version.name(),
            "proto_ver": client.version.level(),
            "connected_at": client.connected_at_ms,
            "ts": now_ms,
        });
        let more = match reason {
            None => json!({
                "keepalive": client.keep_alive_secs,
                "clean_start": client.clean_start,
                "expiry_interval": client.session_expiry_secs,
                "receive_maximum": client.receive_maximum,
                "connack": 0,
            }),
            Some(reason) => json!({ "reason": reason, "disconnected_at": now_ms }),
        };
        if let (Some(body), serde_json::Value::Object(more)) = (body.as_object_mut(), more) {
            body.extend(more);
        }
        self.own.push_back(Message::internal(&topic, &body.to_string()));
    }

    /// Says that a client has a subscription, or has it no more.
    pub(super) fn publish_subscription_event(&mut self, client: &Client, event: &str, filter: &str, qos: Option<u8>) {
        if !self.shared.sys.subscribe_events {
            return;
        }
        let Some(topic) = self.client_topic(client, event) else { return };
        let mut body = json!({
            "clientid": &*client.client_id,
            "username": client.username.as_deref(),
            "protocol": "mqtt",
            "topic": filter,
            "ts": clock::now_ms(),
        });
        if let Some(qos) = qos {
            body["subopts"] = json!({ "qos": qos });
        }
        self.own.push_back(Message::internal(&topic, &body.to_string()));
    }

    /// The topic of an event, where somebody listens to it. A client identifier with a wildcard or a slash has none of its own.
    fn client_topic(&self, client: &Client, event: &str) -> Option<String> {
        let id = client.client_id.replace(['+', '#', '/'], "_");
        let topic = format!("{SYS}brokers/{}/clients/{id}/{event}", self.shared.node);
        // Not remembered: it comes up as often as this client does.
        self.shared.router.is_wanted(&topic).then_some(topic)
    }
}
