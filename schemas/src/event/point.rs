//! The hook points: one table, from which lists of them elsewhere are made.

use super::column::{self as c, Column};

/// What there is to know about a hook point.
#[derive(Debug)]
pub struct HookSpec {
    pub point: HookPoint,
    /// The name, such as `client.connected`; the column `event` of rows.
    pub name: &'static str,
    /// The topic in FROM; empty where rules select by plain topic filters.
    pub topic: &'static str,
    /// The topic's older name with underscores; empty where there never was one.
    pub legacy_topic: &'static str,
    /// The columns that rows have beside the common ones.
    pub columns: &'static [Column],
}

macro_rules! hook_points {
    ($($(#[$doc:meta])* $variant:ident: $name:literal, $topic:literal, $legacy:literal, $columns:expr;)*) => {
        /// The places in a client's and a message's life where hooks are called.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum HookPoint { $($(#[$doc])* $variant,)* }

        impl HookPoint {
            /// The table of all hook points, in the order of the enum.
            pub const TABLE: &'static [HookSpec] = &[$(HookSpec {
                point: HookPoint::$variant, name: $name, topic: $topic, legacy_topic: $legacy, columns: $columns,
            }),*];
        }
    };
}

hook_points! {
    /// A CONNECT was read; nothing is decided yet. May refuse.
    ClientConnect: "client.connect", "$events/client/connect", "", c::CONNECTION;
    /// The CONNACK is about to be sent, success or not.
    ClientConnack: "client.connack", "$events/client/connack", "$events/client_connack", c::CONNACK;
    /// The client is in and its session is ready.
    ClientConnected: "client.connected", "$events/client/connected", "$events/client_connected", c::CONNECTED;
    /// The connection is gone.
    ClientDisconnected: "client.disconnected", "$events/client/disconnected", "$events/client_disconnected", c::DISCONNECTED;
    /// The login is to be decided. May refuse.
    ClientAuthenticate: "client.authenticate", "$events/client/authenticate", "", c::CONNECTION;
    /// A publish or a subscription is to be allowed. May refuse.
    ClientAuthorize: "client.authorize", "$events/client/authorize", "", c::ACCESS;
    /// The login was decided.
    ClientLogin: "client.check_authn_complete", "$events/auth/check_authn_complete", "$events/client_check_authn_complete", c::LOGIN;
    /// A publish or a subscription was allowed, or not.
    ClientDecided: "client.check_authz_complete", "$events/auth/check_authz_complete", "$events/client_check_authz_complete",
        c::DECIDED;
    /// The client says that it is there.
    ClientPing: "client.ping", "$events/client/ping", "", c::PING;
    /// A topic filter of a SUBSCRIBE, before it takes effect. May refuse.
    ClientSubscribe: "client.subscribe", "$events/client/subscribe", "", c::SUBSCRIPTION;
    /// A topic filter of an UNSUBSCRIBE, before it takes effect.
    ClientUnsubscribe: "client.unsubscribe", "$events/client/unsubscribe", "", c::UNSUBSCRIPTION;
    /// A new session was made.
    SessionCreated: "session.created", "$events/session/created", "", c::SESSION;
    /// A session that had no connection, or another one, goes on with this client.
    SessionResumed: "session.resumed", "$events/session/resumed", "", c::SESSION;
    /// A subscription was stored.
    SessionSubscribed: "session.subscribed", "$events/session/subscribed", "$events/session_subscribed", c::SUBSCRIPTION;
    /// A subscription is gone.
    SessionUnsubscribed: "session.unsubscribed", "$events/session/unsubscribed", "$events/session_unsubscribed", c::UNSUBSCRIPTION;
    /// The session moved to a newer connection.
    SessionTakenOver: "session.takenover", "$events/session/takenover", "", c::SESSION;
    /// The session ended because its client came back with a clean start.
    SessionDiscarded: "session.discarded", "$events/session/discarded", "", c::SESSION;
    /// The session ended for another reason.
    SessionTerminated: "session.terminated", "$events/session/terminated", "", c::TERMINATED;
    /// The broker has a message and is about to route it. May refuse.
    MessagePublish: "message.publish", "", "", c::PUBLISH;
    /// A message is about to be sent to a subscriber.
    MessageDelivered: "message.delivered", "$events/message/delivered", "$events/message_delivered", c::DELIVERED;
    /// A subscriber acknowledged a message: PUBACK at QoS 1, PUBREC at QoS 2.
    MessageAcked: "message.acked", "$events/message/acked", "$events/message_acked", c::DELIVERED;
    /// A message goes to nobody.
    MessageDropped: "message.dropped", "$events/message/dropped", "$events/message_dropped", c::DROPPED;
    /// A message does not reach one of its subscribers.
    DeliveryDropped: "delivery.dropped", "$events/message/delivery_dropped", "$events/delivery_dropped", c::DELIVERY_DROPPED;
    /// Something that an operator should know of.
    AlarmActivated: "alarm.activated", "$events/sys/alarm_activated", "", c::ALARM_ACTIVATED;
    /// It is over.
    AlarmDeactivated: "alarm.deactivated", "$events/sys/alarm_deactivated", "", c::ALARM_DEACTIVATED;
    /// A message is not as a validation wants it.
    SchemaValidationFailed: "schema.validation_failed", "$events/schema_validation/failed", "$events/schema_validation_failed",
        c::VALIDATION_FAILED;
    /// A message could not be transformed.
    MessageTransformationFailed: "message.transformation_failed", "$events/message_transformation/failed",
        "$events/message_transformation_failed", c::TRANSFORMATION_FAILED;
}

impl HookPoint {
    /// The row of the table.
    pub fn spec(self) -> &'static HookSpec {
        &HookPoint::TABLE[self as usize]
    }

    /// The name, such as `message.publish`.
    pub fn name(self) -> &'static str {
        self.spec().name
    }

    /// The hook points that a FROM topic beginning with `$events/` selects; wildcards are allowed. Empty: there is none.
    pub fn select(filter: &str) -> Vec<HookPoint> {
        let fits = |spec: &&HookSpec| {
            let named = !spec.legacy_topic.is_empty() && spec.legacy_topic == filter;
            !spec.topic.is_empty() && (named || hookline_mqtt::topic::matches(filter, spec.topic))
        };
        HookPoint::TABLE.iter().filter(fits).map(|spec| spec.point).collect()
    }
}

/// A set of hook points: one bit each, so that asking costs nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct HookSet(u32);

impl HookSet {
    /// No hook point.
    pub const EMPTY: HookSet = HookSet(0);

    /// As a number, for who shares it between threads.
    pub const fn to_bits(self) -> u32 {
        self.0
    }

    /// From [`HookSet::to_bits`].
    pub const fn from_bits(bits: u32) -> HookSet {
        HookSet(bits)
    }

    /// This set and `point`.
    #[must_use]
    pub const fn with(self, point: HookPoint) -> HookSet {
        HookSet(self.0 | 1 << point as u8)
    }

    /// Both sets.
    #[must_use]
    pub const fn union(self, other: HookSet) -> HookSet {
        HookSet(self.0 | other.0)
    }

    /// Whether `point` is in it.
    pub const fn contains(self, point: HookPoint) -> bool {
        self.0 & 1 << point as u8 != 0
    }
}

impl FromIterator<HookPoint> for HookSet {
    fn from_iter<I: IntoIterator<Item = HookPoint>>(points: I) -> HookSet {
        points.into_iter().fold(HookSet::EMPTY, HookSet::with)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_found_by_its_names_and_by_wildcards() {
        for spec in HookPoint::TABLE.iter().filter(|spec| !spec.topic.is_empty()) {
            assert_eq!(HookPoint::select(spec.topic), [spec.point]);
            if !spec.legacy_topic.is_empty() {
                assert_eq!(HookPoint::select(spec.legacy_topic), [spec.point]);
            }
        }
        assert_eq!(HookPoint::select("$events/message/#").len(), 4);
        assert!(HookPoint::select("$events/nothing").is_empty());
    }

    #[test]
    fn the_table_is_in_the_order_of_the_enum() {
        for (index, spec) in HookPoint::TABLE.iter().enumerate() {
            assert_eq!(spec.point as usize, index);
        }
    }
}
