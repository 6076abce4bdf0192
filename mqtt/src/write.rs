//! Writing of the wire's data types (MQTT 5.0, section 1.5), and of the frame around a packet.

use crate::{Properties, Version};

/// The largest value that a variable byte integer can hold, and so the largest remaining length.
pub const VARINT_MAX: usize = 268_435_455;

/// Appends a variable byte integer.
pub fn varint(out: &mut Vec<u8>, mut value: usize) {
    debug_assert!(value <= VARINT_MAX, "callers keep packets below the wire's bound");
    while value >= 0x80 {
        out.push((value as u8 & 0x7f) | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// How many bytes `value` takes as a variable byte integer.
pub const fn varint_len(value: usize) -> usize {
    match value {
        0..=127 => 1,
        128..=16_383 => 2,
        16_384..=2_097_151 => 3,
        _ => 4,
    }
}

/// Appends two bytes, big-endian.
pub fn u16(out: &mut Vec<u8>, value: u16) {
    out.extend_from_slice(&value.to_be_bytes());
}

/// Appends binary data with its length; longer than the wire allows is cut.
pub fn binary(out: &mut Vec<u8>, bytes: &[u8]) {
    let bytes = &bytes[..bytes.len().min(usize::from(u16::MAX))];
    u16(out, bytes.len() as u16);
    out.extend_from_slice(bytes);
}

/// Appends a string with its length; longer than the wire allows is cut at a character.
pub fn string(out: &mut Vec<u8>, text: &str) {
    let mut end = text.len().min(usize::from(u16::MAX));
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    binary(out, &text.as_bytes()[..end]);
}

/// Appends the properties with their length, in the one version that has them.
pub fn properties(out: &mut Vec<u8>, version: Version, properties: &Properties) {
    if version == Version::V5 {
        properties.encode(out);
    }
}

/// Appends a packet: `body` writes what follows the fixed header, whose length is then filled in.
pub fn framed(out: &mut Vec<u8>, first_byte: u8, body: impl FnOnce(&mut Vec<u8>)) {
    out.push(first_byte);
    let length_at = out.len();
    // One byte fits almost every packet that is not a PUBLISH; longer bodies are shifted once.
    out.push(0);
    body(out);
    let length = out.len() - length_at - 1;
    let extra = varint_len(length) - 1;
    if extra > 0 {
        let end = out.len();
        out.resize(end + extra, 0);
        out.copy_within(length_at + 1..end, length_at + 1 + extra);
    }
    let mut header = Vec::with_capacity(4);
    varint(&mut header, length);
    out[length_at..=length_at + extra].copy_from_slice(&header);
}
