//! The form of a message in a chunk.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hookline_mqtt::{Properties, QoS, property::carrier, read::Reader, write};
use hookline_schemas::{Client, Message, MessageId};

const RETAIN: u8 = 4;
const USERNAME: u8 = 8;

/// Who published the message that was written last, as it is written: mostly the next one comes from the same client.
#[derive(Debug, Default)]
pub(super) struct Origin {
    of: Option<Arc<Client>>,
    bytes: Vec<u8>,
}

impl Origin {
    fn bytes(&mut self, client: &Arc<Client>) -> &[u8] {
        if self.of.as_ref().is_none_or(|known| !Arc::ptr_eq(known, client)) {
            self.of = Some(Arc::clone(client));
            self.bytes.clear();
            write::string(&mut self.bytes, &client.client_id);
            if let Some(username) = client.username.as_deref() {
                write::string(&mut self.bytes, username);
            }
            write::string(&mut self.bytes, &client.peer.to_string());
        }
        &self.bytes
    }
}

/// Appends a message.
pub(crate) fn encode_message(out: &mut Vec<u8>, message: &Message) {
    encode_from(out, message, &mut Origin::default());
}

/// As [`encode_message`], with what is known from the message before.
pub(super) fn encode_from(out: &mut Vec<u8>, message: &Message, origin: &mut Origin) {
    let has_username = message.from.username.is_some();
    let flags = message.qos as u8 | if message.retain { RETAIN } else { 0 } | if has_username { USERNAME } else { 0 };
    out.push(flags);
    out.push(message.hops);
    out.extend_from_slice(&message.id.0.to_be_bytes());
    out.extend_from_slice(&message.received_at_ms.to_be_bytes());
    write::string(out, &message.topic);
    out.extend_from_slice(origin.bytes(&message.from));
    message.properties.encode(out);
    out.extend_from_slice(&message.payload);
}

/// What [`encode_message`] appends, bytes; of properties only an estimate, as the account of a queue needs it.
pub(crate) fn encoded_len(message: &Message) -> usize {
    let username = message.from.username.as_ref().map_or(0, |username| 2 + username.len());
    26 + 2 + message.topic.len() + 2 + message.from.client_id.len() + username + 16 + message.payload.len()
}

/// What the message had that was read last: mostly the next one has the same topic, or comes from the same client.
#[derive(Debug, Default)]
pub(crate) struct Familiar {
    topic: Option<Arc<str>>,
    /// The bytes that it was read from, and the client.
    from: Option<(Box<[u8]>, Arc<Client>)>,
}

impl Familiar {
    fn topic(&mut self, name: &str) -> Arc<str> {
        match &self.topic {
            Some(topic) if **topic == *name => Arc::clone(topic),
            _ => Arc::clone(self.topic.insert(name.into())),
        }
    }

    /// Reads who published.
    fn from(&mut self, reader: &mut Reader<'_>, has_username: bool) -> Option<Arc<Client>> {
        let bytes = reader.rest();
        if let Some((known, client)) = &self.from
            && client.username.is_some() == has_username
            && bytes.starts_with(known)
        {
            reader.take(known.len()).ok()?;
            return Some(Arc::clone(client));
        }
        let mut client = Client::internal(reader.string().ok()?);
        if has_username {
            client.username = Some(reader.string().ok()?.into());
        }
        client.peer = reader.string().ok()?.parse::<SocketAddr>().ok()?;
        let client = Arc::new(client);
        self.from = Some((bytes[..bytes.len() - reader.rest().len()].into(), Arc::clone(&client)));
        Some(client)
    }
}

/// Reads a message; the payload shares the memory of `bytes`. `None`: it is damaged.
pub(crate) fn decode_message(bytes: &Bytes) -> Option<Message> {
    decode_familiar(bytes, bytes, &mut Familiar::default())
}

/// As [`decode_message`], from a part of `memory`, with what is known from the message before.
pub(super) fn decode_familiar(bytes: &[u8], memory: &Bytes, familiar: &mut Familiar) -> Option<Message> {
    let mut reader = Reader::new(bytes);
    let flags = reader.u8().ok()?;
    let hops = reader.u8().ok()?;
    let id = MessageId(u128::from_be_bytes(reader.take(16).ok()?.try_into().ok()?));
    let received_at_ms = u64::from_be_bytes(reader.take(8).ok()?.try_into().ok()?);
    let topic = familiar.topic(reader.string().ok()?);
    let from = familiar.from(&mut reader, flags & USERNAME != 0)?;
    let properties = Properties::decode(&mut reader, carrier::PUBLISH | carrier::WILL).ok()?;
    let payload = memory.slice_ref(reader.rest());
    Some(Message {
        id,
        received_at_ms,
        from,
        topic,
        payload,
        qos: QoS::from_bits(flags & 3)?,
        retain: flags & RETAIN != 0,
        dup: false,
        properties,
        hops,
        trace: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_as_it_was() {
        let mut properties = Properties::default();
        properties.push_user("a", "b");
        let mut from = Client::internal("device-7");
        from.username = Some("u".into());
        from.peer = "[::1]:4711".parse().expect("an address");
        let message = Message {
            id: MessageId(7 << 100 | 9),
            received_at_ms: 1_700_000_000_123,
            from: Arc::new(from),
            topic: "a/ä".into(),
            payload: Bytes::from_static(&[0, 255, 7]),
            qos: QoS::ExactlyOnce,
            retain: true,
            dup: false,
            properties,
            hops: 3,
            trace: None,
        };
        let mut bytes = Vec::new();
        encode_message(&mut bytes, &message);
        let back = decode_message(&bytes.into()).expect("valid");
        assert_eq!(
            format!("{:?}", (back.id, &back.topic, &back.payload, back.qos, back.retain, &back.properties, back.hops)),
            format!("{:?}", (message.id, &message.topic, &message.payload, message.qos, message.retain, &message.properties, message.hops))
        );
        assert_eq!(
            (&back.from.client_id, &back.from.username, back.from.peer),
            (&message.from.client_id, &message.from.username, message.from.peer)
        );
    }
}
