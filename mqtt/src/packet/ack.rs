//! PUBACK, PUBREC, PUBREL and PUBCOMP (sections 3.4 to 3.7), which have one shape.

use crate::{DecodeError, Properties, ReasonCode, Version, property::carrier, read::Reader, write};

/// Which of the four.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum AckKind {
    PubAck = 0x40,
    PubRec = 0x50,
    /// Its reserved flag bits are 0010.
    PubRel = 0x62,
    PubComp = 0x70,
}

/// An acknowledgement, or a step of the exchange of QoS 2.
#[derive(Debug, Clone, PartialEq)]
pub struct Ack {
    pub kind: AckKind,
    pub packet_id: u16,
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Ack {
    /// An acknowledgement without properties.
    pub fn new(kind: AckKind, packet_id: u16, reason: ReasonCode) -> Ack {
        Ack { kind, packet_id, reason, properties: Properties::default() }
    }

    pub(super) fn decode(kind: AckKind, body: &[u8], version: Version) -> Result<Ack, DecodeError> {
        let mut reader = Reader::new(body);
        let mut ack = Ack::new(kind, reader.packet_id()?, ReasonCode::Success);
        if version == Version::V5 && !reader.is_empty() {
            ack.reason = ReasonCode::from_byte(reader.u8()?).ok_or(DecodeError::malformed("unknown reason code"))?;
            if !reader.is_empty() {
                ack.properties = Properties::decode(&mut reader, carrier::ACK)?;
            }
        }
        reader.finish()?;
        Ok(ack)
    }

    /// Appends the packet in its shortest form.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        let bare = version != Version::V5 || (self.reason == ReasonCode::Success && self.properties.is_empty());
        if bare {
            let id = self.packet_id.to_be_bytes();
            out.extend_from_slice(&[self.kind as u8, 2, id[0], id[1]]);
            return;
        }
        write::framed(out, self.kind as u8, |out| {
            write::u16(out, self.packet_id);
            out.push(self.reason as u8);
            if !self.properties.is_empty() {
                self.properties.encode(out);
            }
        });
    }
}
