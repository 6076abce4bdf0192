//! UNSUBSCRIBE (section 3.10).

use crate::{DecodeError, Properties, Version, property::carrier, read::Reader, write};

/// A request to end subscriptions.
#[derive(Debug, Clone, PartialEq)]
pub struct Unsubscribe {
    pub packet_id: u16,
    pub properties: Properties,
    /// At least one.
    pub filters: Vec<String>,
}

impl Unsubscribe {
    pub(super) fn decode(body: &[u8], version: Version) -> Result<Unsubscribe, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V5 => Properties::decode(&mut reader, carrier::UNSUBSCRIBE)?,
            _ => Properties::default(),
        };
        let mut filters = Vec::new();
        while !reader.is_empty() {
            filters.push(reader.string()?.to_owned());
        }
        // [MQTT-3.10.3-2]
        if filters.is_empty() {
            return Err(DecodeError::protocol("UNSUBSCRIBE without a topic filter"));
        }
        Ok(Unsubscribe { packet_id, properties, filters })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        write::framed(out, 0xA2, |out| {
            write::u16(out, self.packet_id);
            write::properties(out, version, &self.properties);
            for filter in &self.filters {
                write::string(out, filter);
            }
        });
    }
}
