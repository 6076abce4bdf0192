//! What the store keeps of a session and of a subscription, as bytes.

use hookline_mqtt::packet::SubscriptionOptions;
use hookline_mqtt::read::Reader;
use hookline_mqtt::{Version, write};
use hookline_schemas::{Client, QueueId};

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

/// Where a session belongs, as its last connection had it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct StoredPlace {
    pub(crate) zone: String,
    pub(crate) mountpoint: String,
}

impl StoredState {
    pub(crate) fn encode(self, client: &Client) -> Vec<u8> {
        let numbers = [self.queue.0, self.created_at_ms, self.disconnected_at_ms, self.expiry_secs.into()];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
        write::string(&mut bytes, &client.zone);
        write::string(&mut bytes, &client.mountpoint);
        bytes
    }

    /// `None`: it is damaged. The first format had no place.
    pub(crate) fn decode(bytes: &[u8]) -> Option<(StoredState, StoredPlace)> {
        let (numbers, place) = bytes.split_at_checked(32)?;
        let number = |index: usize| u64::from_be_bytes(numbers[8 * index..8 * index + 8].try_into().expect("eight bytes"));
        let state = StoredState {
            queue: QueueId(number(0)),
            created_at_ms: number(1),
            disconnected_at_ms: number(2),
            expiry_secs: u32::try_from(number(3)).ok()?,
        };
        if place.is_empty() {
            return Some((state, StoredPlace::default()));
        }
        let mut reader = Reader::new(place);
        let place = StoredPlace { zone: reader.string().ok()?.to_owned(), mountpoint: reader.string().ok()?.to_owned() };
        Some((state, place))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_comes_back_as_it_was_also_from_the_first_format() {
        let state = StoredState { queue: QueueId(7), created_at_ms: 8, disconnected_at_ms: 9, expiry_secs: 10 };
        let client = Client { zone: "z".into(), mountpoint: "m/".into(), ..Client::internal("c") };
        let bytes = state.encode(&client);
        let place = StoredPlace { zone: "z".into(), mountpoint: "m/".into() };
        assert_eq!(StoredState::decode(&bytes), Some((state, place)));
        assert_eq!(StoredState::decode(&bytes[..32]), Some((state, StoredPlace::default())));
        assert_eq!(StoredState::decode(&bytes[..31]), None);
    }
}
