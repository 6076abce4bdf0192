//! CONNECT (section 3.1).

use crate::{DecodeError, Properties, QoS, ReasonCode, Version, property::carrier, read::Reader, topic, write};

/// What a client says when it arrives.
#[derive(Debug, Clone, PartialEq)]
pub struct Connect {
    pub version: Version,
    /// Clean Start, or Clean Session before 5.0: begin without what an earlier session left.
    pub clean_start: bool,
    /// Seconds between two packets of the client at the most; 0 switches the check off.
    pub keep_alive_secs: u16,
    /// Empty where the server is to assign one.
    pub client_id: String,
    pub username: Option<String>,
    pub password: Option<Vec<u8>>,
    pub will: Option<Will>,
    pub properties: Properties,
    /// The bridge bit (0x80 of the level), which mosquitto's bridges set.
    pub is_bridge: bool,
}

/// The message that the server publishes for a client that vanished.
#[derive(Debug, Clone, PartialEq)]
pub struct Will {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties,
}

impl Connect {
    pub(super) fn decode(body: &[u8]) -> Result<Connect, DecodeError> {
        let mut reader = Reader::new(body);
        let name = reader.string()?;
        let level = reader.u8()?;
        let version = match (name, level & 0x7f) {
            ("MQIsdp", 3) => Version::V31,
            ("MQTT", 4) => Version::V311,
            ("MQTT", 5) => Version::V5,
            ("MQTT" | "MQIsdp", _) => {
                return Err(DecodeError::with(ReasonCode::UnsupportedProtocolVersion, "protocol version is not served"));
            }
            _ => return Err(DecodeError::malformed("protocol name is not MQTT")),
        };
        let flags = reader.u8()?;
        let has_will = flags & 0x04 != 0;
        // [MQTT-3.1.2-3] and [MQTT-3.1.2-11]: reserved bit, and will flags without a will.
        if flags & 0x01 != 0 || (!has_will && flags & 0x38 != 0) {
            return Err(DecodeError::malformed("connect flags"));
        }
        let will_qos = QoS::from_bits(flags >> 3 & 3).ok_or(DecodeError::malformed("will QoS 3"))?;
        // [MQTT-3.1.2-22] of 3.1.1: no password without a user name; 5.0 allows it.
        if flags & 0xC0 == 0x40 && version != Version::V5 {
            return Err(DecodeError::malformed("password without user name"));
        }
        let keep_alive_secs = reader.u16()?;
        let properties = match version {
            Version::V5 => Properties::decode(&mut reader, carrier::CONNECT)?,
            _ => Properties::default(),
        };
        let client_id = reader.string()?.to_owned();
        let will = if has_will {
            let properties = match version {
                Version::V5 => Properties::decode(&mut reader, carrier::WILL)?,
                _ => Properties::default(),
            };
            let will_topic = reader.string()?;
            if !topic::name_is_valid(will_topic, usize::MAX) {
                return Err(DecodeError::with(ReasonCode::TopicNameInvalid, "will topic is not a topic name"));
            }
            Some(Will {
                topic: will_topic.to_owned(),
                payload: reader.binary()?.to_vec(),
                qos: will_qos,
                retain: flags & 0x20 != 0,
                properties,
            })
        } else {
            None
        };
        let username = if flags & 0x80 != 0 { Some(reader.string()?.to_owned()) } else { None };
        let password = if flags & 0x40 != 0 { Some(reader.binary()?.to_vec()) } else { None };
        reader.finish()?;
        let is_bridge = level & 0x80 != 0;
        let clean_start = flags & 0x02 != 0;
        Ok(Connect { version, clean_start, keep_alive_secs, client_id, username, password, will, properties, is_bridge })
    }

    /// Appends the packet.
    pub fn encode(&self, out: &mut Vec<u8>) {
        write::framed(out, 0x10, |out| {
            write::string(out, self.version.name());
            out.push(self.version.level() | if self.is_bridge { 0x80 } else { 0 });
            let will_flags = self.will.as_ref().map_or(0, |w| 0x04 | (w.qos as u8) << 3 | u8::from(w.retain) << 5);
            let login_flags = u8::from(self.username.is_some()) << 7 | u8::from(self.password.is_some()) << 6;
            out.push(will_flags | login_flags | u8::from(self.clean_start) << 1);
            write::u16(out, self.keep_alive_secs);
            write::properties(out, self.version, &self.properties);
            write::string(out, &self.client_id);
            if let Some(will) = &self.will {
                write::properties(out, self.version, &will.properties);
                write::string(out, &will.topic);
                write::binary(out, &will.payload);
            }
            if let Some(username) = &self.username {
                write::string(out, username);
            }
            if let Some(password) = &self.password {
                write::binary(out, password);
            }
        });
    }
}
