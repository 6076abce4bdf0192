//! SUBSCRIBE (section 3.8).

use crate::{DecodeError, Properties, QoS, Version, property::carrier, read::Reader, write};

/// A request for topics.
#[derive(Debug, Clone, PartialEq)]
pub struct Subscribe {
    pub packet_id: u16,
    pub properties: Properties,
    /// At least one.
    pub filters: Vec<SubscribeFilter>,
}

/// One topic filter and how its messages are to come.
#[derive(Debug, Clone, PartialEq)]
pub struct SubscribeFilter {
    pub filter: String,
    pub options: SubscriptionOptions,
}

/// The options of a subscription (section 3.8.3.1). Before 5.0 only the QoS is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SubscriptionOptions {
    /// The highest QoS at which messages are sent.
    pub qos: QoS,
    /// Do not send what this client itself published.
    pub no_local: bool,
    /// Keep the RETAIN flag as it was published.
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

/// When retained messages are sent for a subscription.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[repr(u8)]
pub enum RetainHandling {
    #[default]
    Send = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

impl SubscriptionOptions {
    /// The options from their byte.
    pub fn from_byte(byte: u8, version: Version) -> Result<Self, DecodeError> {
        let reserved = if version == Version::V5 { 0xC0 } else { 0xFC };
        if byte & reserved != 0 {
            return Err(DecodeError::malformed("reserved bits of the subscription options"));
        }
        let qos = QoS::from_bits(byte & 3).ok_or(DecodeError::malformed("QoS 3"))?;
        let retain_handling = match byte >> 4 & 3 {
            0 => RetainHandling::Send,
            1 => RetainHandling::SendIfNew,
            2 => RetainHandling::DoNotSend,
            _ => return Err(DecodeError::protocol("retain handling 3")),
        };
        Ok(Self { qos, no_local: byte & 4 != 0, retain_as_published: byte & 8 != 0, retain_handling })
    }

    /// The byte for the options.
    pub fn to_byte(self) -> u8 {
        self.qos as u8 | u8::from(self.no_local) << 2 | u8::from(self.retain_as_published) << 3 | (self.retain_handling as u8) << 4
    }
}

impl Subscribe {
    pub(super) fn decode(body: &[u8], version: Version) -> Result<Subscribe, DecodeError> {
        let mut reader = Reader::new(body);
        let packet_id = reader.packet_id()?;
        let properties = match version {
            Version::V5 => Properties::decode(&mut reader, carrier::SUBSCRIBE)?,
            _ => Properties::default(),
        };
        let mut filters = Vec::new();
        while !reader.is_empty() {
            let filter = reader.string()?.to_owned();
            let options = SubscriptionOptions::from_byte(reader.u8()?, version)?;
            filters.push(SubscribeFilter { filter, options });
        }
        // [MQTT-3.8.3-2]
        if filters.is_empty() {
            return Err(DecodeError::protocol("SUBSCRIBE without a topic filter"));
        }
        Ok(Subscribe { packet_id, properties, filters })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>, version: Version) {
        write::framed(out, 0x82, |out| {
            write::u16(out, self.packet_id);
            write::properties(out, version, &self.properties);
            for filter in &self.filters {
                write::string(out, &filter.filter);
                out.push(filter.options.to_byte());
            }
        });
    }
}
