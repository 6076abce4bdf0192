//! SUBACK and UNSUBACK (sections 3.9 and 3.11): one reason code for each topic filter.

use crate::{DecodeError, Properties, ReasonCode, Version, property::carrier, read::Reader, write};

/// The answer to SUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct SubAck {
    pub packet_id: u16,
    pub properties: Properties,
    /// In the order of the filters.
    pub reasons: Vec<ReasonCode>,
}

/// The answer to UNSUBSCRIBE.
#[derive(Debug, Clone, PartialEq)]
pub struct UnsubAck {
    pub packet_id: u16,
    pub properties: Properties,
    /// In the order of the filters; before 5.0 the wire has none.
    pub reasons: Vec<ReasonCode>,
}

impl SubAck {
    pub(super) fn decode(body: &[u8], version: Version) -> Result<SubAck, DecodeError> {
        let (packet_id, properties, reasons) = decode(body, version)?;
        Ok(SubAck { packet_id, properties, reasons })
    }

    /// Appends the packet. Before 5.0 every failure is 0x80.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        write::framed(out, 0x90, |out| {
            write::u16(out, self.packet_id);
            write::properties(out, version, &self.properties);
            out.extend(self.reasons.iter().map(|reason| match version {
                Version::V5 => *reason as u8,
                _ if reason.is_error() => ReasonCode::UnspecifiedError as u8,
                _ => *reason as u8,
            }));
        });
    }
}

impl UnsubAck {
    pub(super) fn decode(body: &[u8], version: Version) -> Result<UnsubAck, DecodeError> {
        let (packet_id, properties, reasons) = decode(body, version)?;
        Ok(UnsubAck { packet_id, properties, reasons })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        write::framed(out, 0xB0, |out| {
            write::u16(out, self.packet_id);
            write::properties(out, version, &self.properties);
            if version == Version::V5 {
                out.extend(self.reasons.iter().map(|reason| *reason as u8));
            }
        });
    }
}

fn decode(body: &[u8], version: Version) -> Result<(u16, Properties, Vec<ReasonCode>), DecodeError> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = match version {
        Version::V5 => Properties::decode(&mut reader, carrier::SUBACK)?,
        _ => Properties::default(),
    };
    let unknown = DecodeError::malformed("unknown reason code");
    let reasons = reader.rest().iter().map(|byte| ReasonCode::from_byte(*byte).ok_or(unknown)).collect::<Result<_, _>>()?;
    Ok((packet_id, properties, reasons))
}
