//! MQTT 5.0.

/// Section 4.12.
mod auth;
/// Section 3.2.
mod connack;
/// Section 3.1.
mod connect;
/// Sections 3.12, 3.14 and 3.15: what keeps and what ends a connection.
mod end;
/// Sections 3.3 to 3.7: messages and their acknowledgements.
mod publish;
/// Section 4: sessions, order, flow, shared subscriptions; section 6: WebSocket.
mod session;
/// Sections 3.8 to 3.11.
mod subscribe;
/// Sections 1 and 2: the form of packets.
mod wire;

use hookline_mqtt::{PropertyId, QoS, ReasonCode, Version};

use crate::raw::{Got, Raw, SOON, connect, numbers, packet, text};

fn v5() -> Raw {
    Raw::new(Version::V5)
}

fn connect5() -> hookline_mqtt::packet::Connect {
    connect(Version::V5)
}

/// A CONNECT whose session lives on for `secs`.
fn lasting(secs: u32) -> hookline_mqtt::packet::Connect {
    let properties = numbers(&[(PropertyId::SessionExpiryInterval, secs)]);
    hookline_mqtt::packet::Connect { properties, clean_start: false, ..connect5() }
}

/// What a CONNECT in bytes is answered with.
fn answer(bytes: &[u8]) -> (Raw, Got) {
    let mut raw = Raw::silent(Version::V5);
    raw.send(bytes);
    let got = raw.next(SOON);
    (raw, got)
}

fn refused(bytes: &[u8], reason: ReasonCode) {
    let (mut raw, got) = answer(bytes);
    match got {
        Got::ConnAck(ack) => assert_eq!((ack.reason, ack.session_present), (reason, false)),
        // A server may also close without a word.
        other => assert_eq!(other, Got::Closed),
    }
    raw.closes();
}

/// A CONNECT with these flags; what follows the properties is given.
fn connect_bytes(flags: u8, payload: &[u8]) -> Vec<u8> {
    packet(0x10, &[&text("MQTT")[..], &[5, flags, 0, 60, 0], payload].concat())
}

/// A subscriber that waits for a will.
fn waits_for(topic: &str) -> Raw {
    let mut raw = v5();
    raw.subscribe(topic, QoS::ExactlyOnce);
    raw
}
