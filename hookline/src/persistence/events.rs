//! What happens becomes records for the database.

use std::sync::atomic::Ordering;

use hookline_connectors::cases;
use hookline_mqtt::{PropertyId, QoS, topic};
use hookline_schemas::config::SubscriptionUse;
use hookline_schemas::event::{About, Event, HookPoint, HookSet};
use hookline_schemas::ports::{Hook, Outcome};
use hookline_schemas::{Map, Message, Value};

use super::statements::case;
use super::{Part, Persistence};

/// How often what is too old is deleted.
const PURGE_INTERVAL_MS: u64 = 3_600_000;
/// What a takeover calls the end of the older connection: its session lives on by the newer one.
const TAKEN_OVER: &str = "takenover";

impl Hook for Persistence {
    fn points(&self) -> HookSet {
        let mut points = HookSet::EMPTY;
        for Part { settings, .. } in self.parts.load().iter().map(|part| &**part) {
            let mut add = |wanted: bool, added: &[HookPoint]| {
                if wanted {
                    points = points.union(added.iter().copied().collect());
                }
            };
            add(settings.clients, &[HookPoint::ClientConnected, HookPoint::ClientDisconnected]);
            add(settings.subscriptions == SubscriptionUse::Keep, &[HookPoint::SessionSubscribed, HookPoint::SessionUnsubscribed]);
            add(!settings.messages.is_empty(), &[HookPoint::MessagePublish, HookPoint::MessageAcked]);
            add(!settings.retained.is_empty(), &[HookPoint::MessagePublish]);
        }
        points
    }

    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        for part in self.parts.load().iter() {
            part.on(event, outcome);
        }
    }

    fn has_clock(&self) -> bool {
        true
    }

    fn tick(&self, now_ms: u64, outcome: &mut Outcome) {
        for part in self.parts.load().iter() {
            part.purge(now_ms, outcome);
        }
    }
}

impl Part {
    fn on(&self, event: &Event<'_>, outcome: &mut Outcome) {
        let settings = &self.settings;
        let secs = Value::unsigned(event.timestamp_ms / 1000);
        let client_id = &*event.client.client_id;
        let client = |state: i64, time: &'static str| {
            let node = Value::text(event.node);
            [("clientid", Value::text(client_id)), ("state", Value::Int(state)), ("node", node), (time, secs.clone())]
        };
        match (event.point, event.about) {
            (HookPoint::ClientConnected, _) if settings.clients => {
                self.record(outcome, case::CONNECTED, client_id, client(1, "online_at"));
            }
            (HookPoint::ClientDisconnected, About::End { reason, .. }) if settings.clients && reason != TAKEN_OVER => {
                self.record(outcome, case::DISCONNECTED, client_id, client(0, "offline_at"));
            }
            (HookPoint::SessionSubscribed, About::Subscription { filter, options, .. })
                if settings.subscriptions == SubscriptionUse::Keep =>
            {
                let qos = Value::Int(options.qos as i64);
                let columns = [("clientid", Value::text(client_id)), ("topic", Value::text(filter)), ("qos", qos)];
                self.record(outcome, case::SUBSCRIBED, client_id, columns);
            }
            (HookPoint::SessionUnsubscribed, About::Subscription { filter, .. }) if settings.subscriptions == SubscriptionUse::Keep => {
                let columns = [("clientid", Value::text(client_id)), ("topic", Value::text(filter))];
                self.record(outcome, case::UNSUBSCRIBED, client_id, columns);
            }
            (HookPoint::MessagePublish, About::Message(message)) => self.published(message, event.node, outcome),
            (HookPoint::MessageAcked, About::Message(message)) if is_kept(&settings.messages, message) => {
                let id = message.id.to_string();
                let columns = [
                    ("clientid", Value::text(client_id)),
                    ("msgid", Value::text(&id)),
                    ("topic", Value::text(&message.topic)),
                    ("created", secs),
                ];
                self.record(outcome, case::ACK, &id, columns);
            }
            _ => {}
        }
    }

    fn published(&self, message: &Message, node: &str, outcome: &mut Outcome) {
        let settings = &self.settings;
        let unretains = message.retain && message.payload.is_empty();
        let is_wanted = settings.qos0 || message.qos > QoS::AtMostOnce;
        let keeps = is_wanted && !unretains && is_kept(&settings.messages, message);
        let retains = message.retain && is_kept(&settings.retained, message);
        // Most messages are nobody's here.
        if !keeps && !retains {
            return;
        }
        let id = message.id.to_string();
        let columns = || {
            let arrived = message.received_at_ms / 1000;
            let expiry = message.properties.number(PropertyId::MessageExpiryInterval);
            [
                ("msgid", Value::text(&id)),
                ("topic", Value::text(&message.topic)),
                ("sender", Value::text(&message.from.client_id)),
                ("node", Value::text(node)),
                ("qos", Value::Int(message.qos as i64)),
                ("retain", Value::Bool(message.retain)),
                ("payload", Value::Bytes(message.payload.clone())),
                ("arrived", Value::unsigned(arrived)),
                ("expires_at", expiry.map_or(Value::Null, |secs| Value::unsigned(arrived + u64::from(secs)))),
            ]
        };
        if keeps {
            self.record(outcome, case::MESSAGE, &id, columns());
        }
        if retains {
            if unretains {
                self.record(outcome, case::UNRETAINED, &message.topic, [("topic", Value::text(&message.topic))]);
            } else {
                self.record(outcome, case::RETAINED, &message.topic, columns());
            }
        }
    }

    fn purge(&self, now_ms: u64, outcome: &mut Outcome) {
        let retention_secs = self.settings.retention_secs;
        if retention_secs == 0 || self.settings.messages.is_empty() || now_ms < self.purge_at_ms.load(Ordering::Relaxed) {
            return;
        }
        self.purge_at_ms.store(now_ms + PURGE_INTERVAL_MS, Ordering::Relaxed);
        let before = Value::unsigned((now_ms / 1000).saturating_sub(retention_secs));
        for case in [case::PURGE, case::PURGE_ACKS] {
            if self.is_written(case) {
                self.record(outcome, case, "", [("before", before.clone())]);
            }
        }
    }

    /// Whether records of that case go anywhere.
    fn is_written(&self, case: &str) -> bool {
        self.target.as_ref().is_some_and(|target| target.written.iter().any(|written| written == case))
    }

    fn record<const N: usize>(&self, outcome: &mut Outcome, case: &'static str, key: &str, columns: [(&str, Value); N]) {
        let Some(target) = &self.target else { return };
        let mut row = Map::new();
        for (name, value) in cases::columns(case, Value::text(key)) {
            row.push_new(name, value);
        }
        for (name, value) in columns {
            row.push_new(name, value);
        }
        outcome.record(target.queue, target.promise, &Value::Map(row));
    }
}

fn is_kept(filters: &[String], message: &Message) -> bool {
    filters.iter().any(|filter| topic::matches(filter, &message.topic))
}
