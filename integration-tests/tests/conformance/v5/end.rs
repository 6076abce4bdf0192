use hookline_mqtt::{PropertyId, ReasonCode};

use super::{answer, connect_bytes, connect5, v5, waits_for};
use crate::raw::{Got, Raw, SOON, numbers, packet, text, unique, will};

#[test]
fn mqtt_3_12_4_1_a_pingreq_is_answered() {
    v5().lives();
}

#[test]
fn mqtt_3_14_0_1_no_disconnect_comes_before_a_connack() {
    for bytes in [connect_bytes(0x03, &text("x")), packet(0x10, &[&text("MQTT")[..], &[9, 2, 0, 60, 0, 0, 0]].concat())] {
        let (_, got) = answer(&bytes);
        assert!(matches!(got, Got::ConnAck(_) | Got::Closed), "{got:?}");
    }
}

#[test]
fn mqtt_3_14_1_1_the_flags_of_disconnect_must_be_zero() {
    let mut client = v5();
    client.send(&[0xE4, 0]);
    client.ends_with(ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_14_2_1_an_unknown_reason_is_malformed() {
    let mut client = v5();
    client.send(&[0xE0, 1, 0x7F]);
    client.ends_with(ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_14_2_2_the_servers_disconnect_has_no_session_expiry_and_a_late_one_is_an_error() {
    let mut client = v5();
    // Section 3.14.2.2.2: it was zero in the CONNECT.
    client.send(&[0xE0, 7, 0, 5, 17, 0, 0, 0, 9]);
    match client.next(SOON) {
        Got::Disconnect(ReasonCode::ProtocolError, properties) => assert_eq!(properties.number(PropertyId::SessionExpiryInterval), None),
        other => panic!("{other:?}"),
    }
}

#[test]
fn mqtt_3_14_4_1_and_2_nothing_behind_a_disconnect_is_processed_and_the_server_closes() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let mut client = v5();
    client.send(&[&[0xE0, 0][..], &packet(0x30, &[&text(&name)[..], &[0], b"x"].concat())].concat());
    client.closes();
    watcher.nothing();
}

#[test]
fn mqtt_3_14_4_3_a_disconnect_with_0x04_has_the_will_published() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let (mut client, _) = Raw::accepted(&hookline_mqtt::packet::Connect { will: Some(will(&name)), ..connect5() });
    client.send(&[0xE0, 1, 0x04]);
    assert_eq!(watcher.message().payload, b"will");
}

#[test]
fn mqtt_3_15_1_1_the_flags_of_auth_must_be_zero_and_4_12_1_1_it_needs_a_method() {
    let mut client = v5();
    client.send(&[0xF2, 2, 0x18, 0]);
    client.ends_with(ReasonCode::MalformedPacket);
    let mut client = v5();
    client.send(&[0xF0, 2, 0x19, 0]);
    client.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_3_14_2_3_a_reason_string_is_left_out_where_it_does_not_fit() {
    for (most, told) in [(10, false), (1000, true)] {
        let properties = numbers(&[(PropertyId::MaximumPacketSize, most)]);
        let (mut client, _) = Raw::accepted(&hookline_mqtt::packet::Connect { properties, ..connect5() });
        client.send(&[0xD0, 0]);
        match client.next(SOON) {
            Got::Disconnect(ReasonCode::ProtocolError, properties) => assert_eq!(properties.text(PropertyId::ReasonString).is_some(), told),
            other => panic!("no DISCONNECT: {other:?}"),
        }
    }
}
