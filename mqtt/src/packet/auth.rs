//! AUTH (section 3.15), of 5.0 only.

use crate::{DecodeError, Properties, ReasonCode, property::carrier, read::Reader, write};

/// A step of an enhanced authentication.
#[derive(Debug, Clone, PartialEq)]
pub struct Auth {
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Auth {
    pub(super) fn decode(body: &[u8]) -> Result<Auth, DecodeError> {
        let mut reader = Reader::new(body);
        let mut auth = Auth { reason: ReasonCode::Success, properties: Properties::default() };
        if !reader.is_empty() {
            auth.reason = ReasonCode::from_byte(reader.u8()?).ok_or(DecodeError::malformed("unknown reason code"))?;
            if !reader.is_empty() {
                auth.properties = Properties::decode(&mut reader, carrier::AUTH)?;
            }
        }
        reader.finish()?;
        Ok(auth)
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write::framed(out, 0xF0, |out| {
            out.push(self.reason as u8);
            self.properties.encode(out);
        });
    }
}
