//! What happened, as hooks are told it: a hook point, and what it is about.

mod column;
mod point;
mod sample;

pub use column::Column;
pub use point::{HookPoint, HookSet, HookSpec};

use hookline_mqtt::{Properties, ReasonCode, packet::SubscriptionOptions};

use crate::{Client, Message, Value};

/// One event. It borrows everything: an event that nobody listens to is never built, and one that somebody does is
/// copied only where a hook keeps it.
#[derive(Debug, Clone, Copy)]
pub struct Event<'a> {
    pub point: HookPoint,
    /// When it happened, milliseconds since the Unix epoch.
    pub timestamp_ms: u64,
    /// The name of this node.
    pub node: &'a str,
    /// The client that it is about; for `message.publish` and `message.dropped` the publisher.
    pub client: &'a Client,
    /// What else there is to tell.
    pub about: About<'a>,
}

/// What an event is about beside its client.
#[derive(Debug, Clone, Copy)]
pub enum About<'a> {
    /// Only the client.
    Client,
    /// The answer to a CONNECT or an authentication.
    Answer(ReasonCode),
    /// The end of a connection or a session.
    End { reason: &'static str, properties: &'a Properties },
    /// A request to publish or subscribe that is to be allowed or not.
    Access { action: Access, topic: &'a str },
    /// A login that was decided.
    Login { reason: ReasonCode, is_superuser: bool, is_anonymous: bool },
    /// A request to publish or subscribe that was decided, and by what.
    Decided { action: Access, topic: &'a str, is_allowed: bool, source: &'a str },
    /// Something that an operator should know of, or that is over.
    Alarm(&'a Alarm),
    /// A subscription that is asked for, made or ended.
    Subscription { filter: &'a str, options: SubscriptionOptions, properties: &'a Properties },
    /// A message.
    Message(&'a Message),
    /// A message that was not routed or not delivered.
    Dropped { message: &'a Message, reason: DropReason },
    /// A message that failed a validation or a transformation of that name.
    Failed { message: &'a Message, name: &'a str },
}

/// Something that an operator should know of. It lasts until it is over.
#[derive(Debug, Clone, PartialEq)]
pub struct Alarm {
    /// The kind, such as `high_memory`: there is one of each at a time.
    pub name: String,
    /// For people.
    pub message: String,
    pub details: Value,
    /// Microseconds since the Unix epoch.
    pub activated_at_us: u64,
    /// Microseconds since the Unix epoch; `None`: it lasts.
    pub deactivated_at_us: Option<u64>,
}

/// What a client wants to do with a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    Publish,
    Subscribe,
}

/// Why a message was dropped. Each reason has its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DropReason {
    /// Nobody subscribes to the topic.
    NoSubscribers,
    /// The subscriber asked not to get its own messages.
    NoLocal,
    /// The message expiry interval is over.
    Expired,
    /// The queue of the session is at its bound.
    QueueFull,
    /// A QoS 0 message for a session that is away, or whose connection does not keep up.
    QoS0,
    /// Larger than the subscriber's maximum packet size.
    TooLarge,
    /// The store did not take it.
    StoreFailed,
    /// Too many rules have republished it.
    HopLimit,
    /// A hook refused it.
    Refused,
    /// The broker is at its memory bound, and the message is of QoS 0.
    Overload,
}

impl DropReason {
    /// Every reason.
    pub const ALL: &'static [DropReason] = &[
        DropReason::NoSubscribers,
        DropReason::NoLocal,
        DropReason::Expired,
        DropReason::QueueFull,
        DropReason::QoS0,
        DropReason::TooLarge,
        DropReason::StoreFailed,
        DropReason::HopLimit,
        DropReason::Refused,
        DropReason::Overload,
    ];

    /// The word in events and counters.
    pub const fn name(self) -> &'static str {
        match self {
            DropReason::NoSubscribers => "no_subscribers",
            DropReason::NoLocal => "no_local",
            DropReason::Expired => "expired",
            DropReason::QueueFull => "queue_full",
            DropReason::QoS0 => "qos0_msg",
            DropReason::TooLarge => "too_large",
            DropReason::StoreFailed => "store_failed",
            DropReason::HopLimit => "hop_limit",
            DropReason::Refused => "refused",
            DropReason::Overload => "overload",
        }
    }

    /// Whether a message is dropped as a whole, and not for one of its subscribers.
    pub const fn is_of_publisher(self) -> bool {
        matches!(
            self,
            DropReason::NoSubscribers | DropReason::StoreFailed | DropReason::HopLimit | DropReason::Refused | DropReason::Overload
        )
    }
}

impl Access {
    /// The word in events.
    pub const fn name(self) -> &'static str {
        match self {
            Access::Publish => "publish",
            Access::Subscribe => "subscribe",
        }
    }
}

impl<'a> Event<'a> {
    /// The message that the event is about.
    pub fn message(&self) -> Option<&'a Message> {
        match self.about {
            About::Message(message) | About::Dropped { message, .. } | About::Failed { message, .. } => Some(message),
            _ => None,
        }
    }

    /// The value of a column by its name; `None` where this event has no such column.
    pub fn column(&self, name: &str) -> Option<Value> {
        let column = self.point.spec().columns.iter().chain(column::COMMON).find(|column| column.name == name)?;
        Some((column.get)(self))
    }

    /// All columns as a map, in the order of their table: what `SELECT *` starts from.
    pub fn to_row(&self) -> Value {
        let mut row = crate::Map::new();
        for column in self.point.spec().columns.iter().chain(column::COMMON) {
            let value = (column.get)(self);
            if value != Value::Undefined {
                row.push_new(column.name, value);
            }
        }
        Value::Map(row)
    }
}
