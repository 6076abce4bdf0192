//! MQTT 3.1, 3.1.1 and 5.0 as data: bytes in, packets out, and back. No socket, no clock, no task,
//! except in [`client`], a small blocking client for the command line and the tests.

/// A small blocking client: connect, publish, subscribe, receive.
pub mod client;
/// What a peer did wrong, with the reason code the protocol has for it.
pub mod error;
/// The packets, one file for each; [`packet::decode`] is the entrance.
pub mod packet;
/// MQTT 5 properties, as one table.
pub mod property;
/// Bounded reading of the wire's data types.
pub mod read;
/// Reason codes, as one table.
pub mod reason;
/// Topic names and filters: validation and matching.
pub mod topic;
/// Writing of the wire's data types.
pub mod write;

pub use error::DecodeError;
pub use packet::{Packet, decode};
pub use property::{Properties, Property, PropertyId, PropertyValue};
pub use reason::ReasonCode;

/// The protocol versions that the CONNECT packet can name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Version {
    /// MQTT 3.1, protocol name `MQIsdp`, level 3.
    V31,
    /// MQTT 3.1.1, level 4.
    V311,
    /// MQTT 5.0, level 5.
    V5,
}

impl Version {
    /// The protocol level as the wire has it (CONNECT, byte after the protocol name).
    pub const fn level(self) -> u8 {
        match self {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// The protocol name as the wire has it.
    pub const fn name(self) -> &'static str {
        match self {
            Version::V31 => "MQIsdp",
            Version::V311 | Version::V5 => "MQTT",
        }
    }
}

/// Quality of service: how often a message may arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
#[repr(u8)]
pub enum QoS {
    /// At most once.
    #[default]
    AtMostOnce = 0,
    /// At least once.
    AtLeastOnce = 1,
    /// Exactly once.
    ExactlyOnce = 2,
}

impl QoS {
    /// The level for its two bits; `None` for the reserved value 3.
    pub const fn from_bits(bits: u8) -> Option<QoS> {
        match bits {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}
