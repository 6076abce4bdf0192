//! An event of each kind as it might be: what fills the columns that somebody leaves out who tries a statement.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hookline_mqtt::packet::SubscriptionOptions;
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode};

use super::{About, Access, Alarm, DropReason, Event, HookPoint, column};
use crate::{Client, Map, Message, MessageId, Value};

/// The topic of messages in samples.
const TOPIC: &str = "t/a";

impl HookPoint {
    /// The hook point of a name: its own, the same with an underscore such as `client_connected`, or one of its topics in FROM.
    pub fn named(name: &str) -> Option<HookPoint> {
        let is_named = |spec: &&super::HookSpec| {
            let is_topic = !name.is_empty() && (spec.topic == name || spec.legacy_topic == name);
            is_topic || spec.name == name || spec.name.replace('.', "_") == name
        };
        HookPoint::TABLE.iter().find(is_named).map(|spec| spec.point)
    }

    /// The names of all columns, in their order.
    pub fn column_names(self) -> impl Iterator<Item = &'static str> {
        self.spec().columns.iter().chain(column::COMMON).map(|column| column.name)
    }

    /// The columns of an event as it might be, at that time: milliseconds since the Unix epoch.
    pub fn sample(self, node: &str, now_ms: u64) -> Value {
        let publisher = Arc::new(client("sensor-1", "sensors", [192, 0, 2, 7], now_ms));
        let subscriber = client("display-1", "displays", [192, 0, 2, 8], now_ms);
        let message = message(&publisher, now_ms);
        let (alarm, properties) = (alarm(now_ms), user_property());
        let is_of_subscriber = matches!(self, HookPoint::MessageDelivered | HookPoint::MessageAcked | HookPoint::DeliveryDropped);
        let client = if is_of_subscriber { &subscriber } else { &*publisher };
        let about = self.sample_about(&message, &alarm, &properties);
        Event { point: self, timestamp_ms: now_ms, node, client, about }.to_row()
    }

    fn sample_about<'a>(self, message: &'a Message, alarm: &'a Alarm, properties: &'a Properties) -> About<'a> {
        match self {
            HookPoint::ClientConnect
            | HookPoint::ClientConnected
            | HookPoint::ClientAuthenticate
            | HookPoint::ClientPing
            | HookPoint::SessionCreated
            | HookPoint::SessionResumed
            | HookPoint::SessionTakenOver
            | HookPoint::SessionDiscarded => About::Client,
            HookPoint::ClientConnack => About::Answer(ReasonCode::Success),
            HookPoint::ClientDisconnected => About::End { reason: "normal", properties },
            HookPoint::SessionTerminated => About::End { reason: "expired", properties },
            HookPoint::ClientAuthorize => About::Access { action: Access::Publish, topic: TOPIC },
            HookPoint::ClientLogin => About::Login { reason: ReasonCode::Success, is_superuser: false, is_anonymous: false },
            HookPoint::ClientDecided => About::Decided { action: Access::Publish, topic: TOPIC, is_allowed: true, source: "default" },
            HookPoint::ClientSubscribe | HookPoint::ClientUnsubscribe | HookPoint::SessionSubscribed | HookPoint::SessionUnsubscribed => {
                let options = SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() };
                About::Subscription { filter: "t/#", options, properties }
            }
            HookPoint::MessagePublish | HookPoint::MessageDelivered | HookPoint::MessageAcked => About::Message(message),
            HookPoint::MessageDropped => About::Dropped { message, reason: DropReason::NoSubscribers },
            HookPoint::DeliveryDropped => About::Dropped { message, reason: DropReason::QueueFull },
            HookPoint::SchemaValidationFailed => About::Failed { message, name: "readings" },
            HookPoint::MessageTransformationFailed => About::Failed { message, name: "celsius" },
            HookPoint::AlarmActivated | HookPoint::AlarmDeactivated => About::Alarm(alarm),
        }
    }
}

fn client(client_id: &str, username: &str, address: [u8; 4], now_ms: u64) -> Client {
    let mut properties = user_property();
    properties.push_number(PropertyId::SessionExpiryInterval, 300);
    Client {
        username: Some(username.into()),
        peer: SocketAddr::from((address, 50_000)),
        sock: SocketAddr::from(([192, 0, 2, 1], 1883)),
        listener: "tcp:default".into(),
        keep_alive_secs: 60,
        session_expiry_secs: 300,
        receive_maximum: 32,
        properties,
        attributes: BTreeMap::from([("site".into(), "north".into())]),
        connected_at_ms: now_ms.saturating_sub(60_000),
        ..Client::internal(client_id)
    }
}

fn message(publisher: &Arc<Client>, now_ms: u64) -> Message {
    let mut properties = user_property();
    properties.push_number(PropertyId::MessageExpiryInterval, 3600);
    Message {
        id: MessageId(0x0006_42A1_5E0B_7C10_F442_0000_1234_0000),
        received_at_ms: now_ms,
        from: Arc::clone(publisher),
        payload: Bytes::from_static(br#"{"msg": "hello", "temperature": 21.5}"#),
        qos: QoS::AtLeastOnce,
        properties,
        ..Message::internal(TOPIC, "")
    }
}

fn alarm(now_ms: u64) -> Alarm {
    let mut details = Map::new();
    details.push_new("used_bytes", Value::Int(900_000_000));
    Alarm {
        name: "high_memory".to_owned(),
        message: "the memory is nearly used up".to_owned(),
        details: Value::Map(details),
        activated_at_us: now_ms.saturating_sub(60_000).saturating_mul(1000),
        deactivated_at_us: Some(now_ms.saturating_mul(1000)),
    }
}

fn user_property() -> Properties {
    let mut properties = Properties::default();
    properties.push_user("site", "north");
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_has_every_column_of_its_event() {
        for spec in HookPoint::TABLE {
            let sample = spec.point.sample("n", 1_700_000_000_000);
            for column in spec.point.column_names() {
                assert_ne!(*sample.path([column]), Value::Undefined, "{} has no {column}", spec.name);
            }
            assert_eq!(sample.path(["event"]).as_text(), Some(spec.name));
        }
    }

    #[test]
    fn hook_points_are_found_by_each_of_their_names() {
        for spec in HookPoint::TABLE {
            let underscored = spec.name.replace('.', "_");
            for name in [spec.name, spec.topic, spec.legacy_topic, &underscored].into_iter().filter(|name| !name.is_empty()) {
                assert_eq!(HookPoint::named(name), Some(spec.point), "{name}");
            }
        }
        assert_eq!(HookPoint::named(""), None);
        assert_eq!(HookPoint::named("client.conected"), None);
    }
}
