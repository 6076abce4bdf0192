//! What the store keeps of a session and of a subscription, as bytes.

use hookline_mqtt::packet::{SubscriptionOptions, Will};
use hookline_mqtt::property::carrier;
use hookline_mqtt::read::Reader;
use hookline_mqtt::{Properties, QoS, Version, write};
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

/// What the last connection of a session has left: where it belongs, and its will.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct StoredPlace {
    pub(crate) zone: String,
    pub(crate) mountpoint: String,
    /// What is to be published when it is due.
    pub(crate) will: Option<Will>,
}

impl StoredState {
    pub(crate) fn encode(self, client: &Client, will: Option<&Will>) -> Vec<u8> {
        let numbers = [self.queue.0, self.created_at_ms, self.disconnected_at_ms, self.expiry_secs.into()];
        let mut bytes: Vec<u8> = numbers.into_iter().flat_map(u64::to_be_bytes).collect();
        write::string(&mut bytes, &client.zone);
        write::string(&mut bytes, &client.mountpoint);
        if let Some(will) = will {
            bytes.push(will.qos as u8 | if will.retain { RETAIN } else { 0 });
            write::string(&mut bytes, &will.topic);
            will.properties.encode(&mut bytes);
            write::binary(&mut bytes, &will.payload);
        }
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
        let (zone, mountpoint) = (reader.string().ok()?.to_owned(), reader.string().ok()?.to_owned());
        let will = if reader.is_empty() { None } else { Some(decode_will(&mut reader)?) };
        Some((state, StoredPlace { zone, mountpoint, will }))
    }
}

/// In the byte before a will: it is to be retained.
const RETAIN: u8 = 4;

fn decode_will(reader: &mut Reader<'_>) -> Option<Will> {
    let flags = reader.u8().ok()?;
    Some(Will {
        qos: QoS::from_bits(flags & 3)?,
        retain: flags & RETAIN != 0,
        topic: reader.string().ok()?.to_owned(),
        properties: Properties::decode(reader, carrier::WILL).ok()?,
        payload: reader.binary().ok()?.to_vec(),
    })
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
        let mut properties = Properties::default();
        properties.push_number(hookline_mqtt::PropertyId::WillDelayInterval, 7);
        let will = Will { topic: "w".into(), payload: vec![0, 255], qos: QoS::ExactlyOnce, retain: true, properties };
        let place = |will| StoredPlace { zone: "z".into(), mountpoint: "m/".into(), will };
        assert_eq!(StoredState::decode(&state.encode(&client, Some(&will))), Some((state, place(Some(will)))));
        let bytes = state.encode(&client, None);
        assert_eq!(StoredState::decode(&bytes), Some((state, place(None))));
        assert_eq!(StoredState::decode(&bytes[..32]), Some((state, StoredPlace::default())));
        assert_eq!(StoredState::decode(&bytes[..31]), None);
    }
}
