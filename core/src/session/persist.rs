//! What the store keeps of a session and of a subscription, as bytes.

use hookline_mqtt::Version;
use hookline_mqtt::packet::SubscriptionOptions;
use hookline_schemas::QueueId;

use super::Held;

/// The stored part of a session. Its queue comes first: the store reads it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StoredState {
    pub(crate) queue: QueueId,
    pub(crate) created_at_ms: u64,
    /// When the connection ended, milliseconds since the Unix epoch; 0: it has one, or had one when the broker ended.
    pub(crate) disconnected_at_ms: u64,
    /// Seconds; `u32::MAX` is for ever.
    pub(crate) expiry_secs: u32,
}

impl StoredState {
    pub(crate) fn encode(self) -> Vec<u8> {
        let numbers = [self.queue.0, self.created_at_ms, self.disconnected_at_ms, self.expiry_secs.into()];
        numbers.into_iter().flat_map(u64::to_be_bytes).collect()
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<StoredState> {
        let number = |index: usize| bytes.get(8 * index..8 * index + 8).map(|b| u64::from_be_bytes(b.try_into().expect("eight bytes")));
        Some(StoredState {
            queue: QueueId(number(0)?),
            created_at_ms: number(1)?,
            disconnected_at_ms: number(2)?,
            expiry_secs: u32::try_from(number(3)?).ok()?,
        })
    }
}

/// A subscription as bytes.
pub(crate) fn encode_subscription(held: Held) -> Vec<u8> {
    [&[held.options.to_byte()][..], &held.identifier.to_be_bytes()].concat()
}

/// A subscription from its bytes.
pub(crate) fn decode_subscription(bytes: &[u8]) -> Option<Held> {
    let (options, identifier) = bytes.split_first()?;
    let options = SubscriptionOptions::from_byte(*options, Version::V5).ok()?;
    Some(Held { options, identifier: u32::from_be_bytes(identifier.try_into().ok()?) })
}
