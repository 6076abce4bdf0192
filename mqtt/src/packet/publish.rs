//! PUBLISH (section 3.3): borrowed from the bytes it came in, and written without a copy of its own.

use crate::{DecodeError, Properties, PropertyId, QoS, ReasonCode, Version, property::carrier, read::Reader, topic, write};

/// A message on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Publish<'a> {
    /// Sent before, perhaps.
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty where a topic alias stands for it.
    pub topic: &'a str,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub properties: Properties,
    pub payload: &'a [u8],
}

/// The part of a PUBLISH that differs between two receivers of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublishHeader {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Not written at QoS 0.
    pub packet_id: u16,
}

impl<'a> Publish<'a> {
    pub(super) fn decode(flags: u8, body: &'a [u8], version: Version) -> Result<Publish<'a>, DecodeError> {
        let qos = QoS::from_bits(flags >> 1 & 3).ok_or(DecodeError::malformed("QoS 3"))?;
        let dup = flags & 0x08 != 0;
        // [MQTT-3.3.1-2] DUP must be 0 at QoS 0.
        if dup && qos == QoS::AtMostOnce {
            return Err(DecodeError::malformed("DUP at QoS 0"));
        }
        let mut reader = Reader::new(body);
        let topic = reader.string()?;
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { reader.packet_id()? };
        let properties = match version {
            Version::V5 => Properties::decode(&mut reader, carrier::PUBLISH)?,
            _ => Properties::default(),
        };
        let aliased = topic.is_empty() && properties.number(PropertyId::TopicAlias).is_some();
        // Section 3.3.2.3.4: no topic, and nothing that stands for it.
        if topic.is_empty() && !aliased {
            return Err(DecodeError::protocol("no topic and no topic alias"));
        }
        // [MQTT-3.3.2-14]
        if properties.text(PropertyId::ResponseTopic).is_some_and(topic::has_wildcard) {
            return Err(DecodeError::protocol("response topic with wildcards"));
        }
        if !aliased && !topic::name_is_valid(topic, usize::MAX) {
            return Err(DecodeError::with(ReasonCode::TopicNameInvalid, "not a topic name"));
        }
        Ok(Publish { dup, qos, retain: flags & 1 != 0, topic, packet_id, properties, payload: reader.rest() })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        let header = PublishHeader { dup: self.dup, qos: self.qos, retain: self.retain, packet_id: self.packet_id };
        let mut properties = Vec::new();
        if version == Version::V5 {
            self.properties.encode(&mut properties);
        }
        encode_publish(out, header, self.topic, &properties, self.payload);
    }
}

/// How long the packet becomes, fixed header included. `properties` is as [`Properties::encode`] gives it, empty before 5.0.
pub fn publish_len(header: PublishHeader, topic: &str, properties: &[u8], payload: &[u8]) -> usize {
    let body = body_len(header, topic, properties, payload);
    1 + write::varint_len(body) + body
}

/// Appends a PUBLISH. `properties` is as [`Properties::encode`] gives it, empty before 5.0.
pub fn encode_publish(out: &mut Vec<u8>, header: PublishHeader, topic: &str, properties: &[u8], payload: &[u8]) {
    let body = body_len(header, topic, properties, payload);
    out.reserve(body + 5);
    out.push(0x30 | u8::from(header.dup) << 3 | (header.qos as u8) << 1 | u8::from(header.retain));
    write::varint(out, body);
    write::string(out, topic);
    if header.qos != QoS::AtMostOnce {
        write::u16(out, header.packet_id);
    }
    out.extend_from_slice(properties);
    out.extend_from_slice(payload);
}

fn body_len(header: PublishHeader, topic: &str, properties: &[u8], payload: &[u8]) -> usize {
    let packet_id = if header.qos == QoS::AtMostOnce { 0 } else { 2 };
    2 + topic.len() + packet_id + properties.len() + payload.len()
}
