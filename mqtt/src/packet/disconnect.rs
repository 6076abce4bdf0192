//! DISCONNECT (section 3.14).

use crate::{DecodeError, Properties, ReasonCode, Version, property::carrier, read::Reader, write};

/// The last packet of a connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Disconnect {
    pub reason: ReasonCode,
    pub properties: Properties,
}

impl Disconnect {
    /// A DISCONNECT without properties.
    pub fn new(reason: ReasonCode) -> Disconnect {
        Disconnect { reason, properties: Properties::default() }
    }

    pub(super) fn decode(body: &[u8], version: Version) -> Result<Disconnect, DecodeError> {
        let mut reader = Reader::new(body);
        let mut disconnect = Disconnect::new(ReasonCode::Success);
        if version == Version::V5 && !reader.is_empty() {
            disconnect.reason = ReasonCode::from_byte(reader.u8()?).ok_or(DecodeError::malformed("unknown reason code"))?;
            if !reader.is_empty() {
                disconnect.properties = Properties::decode(&mut reader, carrier::DISCONNECT)?;
            }
        }
        reader.finish()?;
        Ok(disconnect)
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        write::framed(out, 0xE0, |out| {
            let bare = self.reason == ReasonCode::Success && self.properties.is_empty();
            if version == Version::V5 && !bare {
                out.push(self.reason as u8);
                self.properties.encode(out);
            }
        });
    }
}
