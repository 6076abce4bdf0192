//! The port that a message passes before hooks are told of it: it may be changed, dropped or refused there.

use std::sync::Arc;

use hookline_mqtt::ReasonCode;

use crate::{HookPoint, Message};

/// Told of each failure: which event it is, whose (the name of the validation or transformation), and the message as it came there.
pub type Failed<'a> = &'a mut dyn FnMut(HookPoint, &str, &Message);

/// What every published message passes: after its permission, before routing and [`HookPoint::MessagePublish`].
///
/// The broker calls it in the thread of the publisher. Calls overlap. It must not block.
pub trait Gate: Send + Sync {
    /// Whether all messages pass as they are, so that nobody need ask.
    fn is_open(&self) -> bool;

    /// Judges a message, and changes it where it passes and a transformation says so: topic, payload, QoS, RETAIN, properties.
    fn on_publish(&self, message: &mut Message, failed: Failed<'_>) -> Verdict;
}

/// What is to become of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It goes on.
    Pass,
    /// It goes nowhere. Its publisher gets [`Verdict::DROPPED`] in its acknowledgement, or a plain one where its protocol version
    /// knows no reasons; the connection stays.
    Drop {
        /// The validation or transformation that says so.
        name: Arc<str>,
    },
    /// It is refused, as a hook refuses.
    Reject {
        /// The validation or transformation that says so.
        name: Arc<str>,
        /// The code for the publisher.
        reason: ReasonCode,
    },
}

impl Verdict {
    /// What a publisher is told whose message was dropped.
    pub const DROPPED: ReasonCode = ReasonCode::ImplementationSpecificError;
}
