//! The packets.
//!
//! In: the bytes that a transport has read.
//! Out: one [`Packet`] and how many bytes it took; a PUBLISH borrows its topic and payload from the bytes.

mod ack;
mod auth;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod suback;
mod subscribe;
mod unsubscribe;

pub use ack::{Ack, AckKind};
pub use auth::Auth;
pub use connack::ConnAck;
pub use connect::{Connect, Will};
pub use disconnect::Disconnect;
pub use publish::{Publish, PublishHeader, encode_publish, publish_len};
pub use suback::{SubAck, UnsubAck};
pub use subscribe::{RetainHandling, Subscribe, SubscribeFilter, SubscriptionOptions};
pub use unsubscribe::Unsubscribe;

use crate::{DecodeError, ReasonCode, Version, read};

/// One MQTT control packet.
#[derive(Debug, Clone, PartialEq)]
pub enum Packet<'a> {
    Connect(Box<Connect>),
    ConnAck(ConnAck),
    Publish(Publish<'a>),
    /// PUBACK, PUBREC, PUBREL or PUBCOMP.
    Ack(Ack),
    Subscribe(Subscribe),
    SubAck(SubAck),
    Unsubscribe(Unsubscribe),
    UnsubAck(UnsubAck),
    PingReq,
    PingResp,
    Disconnect(Disconnect),
    Auth(Auth),
}

/// The one PINGREQ there is.
pub const PINGREQ: [u8; 2] = [0xC0, 0];
/// The one PINGRESP there is.
pub const PINGRESP: [u8; 2] = [0xD0, 0];

/// Reads the packet at the start of `bytes`: it and its length, or `None` where more bytes are needed.
///
/// # Errors
/// A packet longer than `size_max` bytes, or one that the protocol forbids. `version` is the connection's;
/// a CONNECT tells its own.
pub fn decode(bytes: &[u8], version: Version, size_max: usize) -> Result<Option<(Packet<'_>, usize)>, DecodeError> {
    let Some((&first, rest)) = bytes.split_first() else { return Ok(None) };
    let Some((length, length_bytes)) = read::varint(rest)? else { return Ok(None) };
    let total = 1 + length_bytes + length as usize;
    if total > size_max {
        return Err(DecodeError::with(ReasonCode::PacketTooLarge, "packet is larger than the maximum"));
    }
    let Some(body) = bytes.get(1 + length_bytes..total) else { return Ok(None) };
    let packet = decode_body(first, body, version)?;
    Ok(Some((packet, total)))
}

fn decode_body(first: u8, body: &[u8], version: Version) -> Result<Packet<'_>, DecodeError> {
    let flags = first & 0x0f;
    let kind = first >> 4;
    // [MQTT-2.1.3-1] Reserved flag bits must be as listed.
    let flags_expected = match kind {
        3 => flags,
        6 | 8 | 10 => 2,
        _ => 0,
    };
    if flags != flags_expected {
        return Err(DecodeError::malformed("reserved bits of the fixed header"));
    }
    Ok(match kind {
        1 => Packet::Connect(Box::new(Connect::decode(body)?)),
        2 => Packet::ConnAck(ConnAck::decode(body, version)?),
        3 => Packet::Publish(Publish::decode(flags, body, version)?),
        4 => Packet::Ack(Ack::decode(AckKind::PubAck, body, version)?),
        5 => Packet::Ack(Ack::decode(AckKind::PubRec, body, version)?),
        6 => Packet::Ack(Ack::decode(AckKind::PubRel, body, version)?),
        7 => Packet::Ack(Ack::decode(AckKind::PubComp, body, version)?),
        8 => Packet::Subscribe(Subscribe::decode(body, version)?),
        9 => Packet::SubAck(SubAck::decode(body, version)?),
        10 => Packet::Unsubscribe(Unsubscribe::decode(body, version)?),
        11 => Packet::UnsubAck(UnsubAck::decode(body, version)?),
        12 if body.is_empty() => Packet::PingReq,
        13 if body.is_empty() => Packet::PingResp,
        14 => Packet::Disconnect(Disconnect::decode(body, version)?),
        15 if version == Version::V5 => Packet::Auth(Auth::decode(body)?),
        _ => return Err(DecodeError::malformed("unknown packet type")),
    })
}

#[cfg(test)]
mod tests;
