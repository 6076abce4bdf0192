//! What a peer did wrong on the wire, with the reason code that MQTT 5 answers it with.

use crate::ReasonCode;

/// A packet that cannot be accepted. The connection ends after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{detail} ({})", reason.name())]
pub struct DecodeError {
    /// The code for CONNACK or DISCONNECT.
    pub reason: ReasonCode,
    /// What exactly was wrong.
    pub detail: &'static str,
}

impl DecodeError {
    /// Bytes that are no MQTT packet.
    pub const fn malformed(detail: &'static str) -> Self {
        Self { reason: ReasonCode::MalformedPacket, detail }
    }

    /// A packet that is well formed, and not allowed.
    pub const fn protocol(detail: &'static str) -> Self {
        Self { reason: ReasonCode::ProtocolError, detail }
    }

    /// Any other reason code.
    pub const fn with(reason: ReasonCode, detail: &'static str) -> Self {
        Self { reason, detail }
    }
}
