//! CONNACK (section 3.2).

use crate::{DecodeError, Properties, ReasonCode, Version, property::carrier, read::Reader, write};

/// The server's answer to CONNECT.
#[derive(Debug, Clone, PartialEq)]
pub struct ConnAck {
    /// The server still has the session.
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl ConnAck {
    pub(super) fn decode(body: &[u8], version: Version) -> Result<ConnAck, DecodeError> {
        let mut reader = Reader::new(body);
        let flags = reader.u8()?;
        if flags > 1 {
            return Err(DecodeError::malformed("connack flags"));
        }
        let code = reader.u8()?;
        let reason = match version {
            Version::V5 => ReasonCode::from_byte(code),
            _ => ReasonCode::from_connack_v3(code),
        };
        let reason = reason.ok_or(DecodeError::malformed("unknown reason code"))?;
        let properties = match version {
            Version::V5 if !reader.is_empty() => Properties::decode(&mut reader, carrier::CONNACK)?,
            _ => Properties::default(),
        };
        reader.finish()?;
        Ok(ConnAck { session_present: flags == 1, reason, properties })
    }

    /// Appends the packet. Versions before 5.0 have no word for some reasons: then nothing is appended, and the caller closes.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        let code = match version {
            Version::V5 => Some(self.reason as u8),
            _ => self.reason.connack_v3(),
        };
        let Some(code) = code else { return };
        write::framed(out, 0x20, |out| {
            out.push(u8::from(self.session_present));
            out.push(code);
            write::properties(out, version, &self.properties);
        });
    }
}
