use hookline_mqtt::ReasonCode::{MalformedPacket, ProtocolError};
use hookline_mqtt::packet::{AckKind, Publish};
use hookline_mqtt::{Properties, QoS, Version};

use crate::raw::{Got, Raw, SOON, connect, options, packet, text, unique};

fn v5() -> Raw {
    Raw::new(Version::V5)
}

/// A PUBLISH of QoS 0 whose topic is these bytes.
fn topic(bytes: &[u8]) -> Vec<u8> {
    packet(0x30, &[&(bytes.len() as u16).to_be_bytes(), bytes, &[0]].concat())
}

#[test]
fn mqtt_1_5_4_1_text_that_is_no_utf_8_is_malformed() {
    for bytes in [&[0xC3, 0x28][..], &[0xED, 0xA0, 0x80], &[0xF8, 0x88, 0x80, 0x80, 0x80], &[0xC0, 0xAF]] {
        let mut client = v5();
        client.send(&topic(bytes));
        client.ends_with(MalformedPacket);
    }
}

#[test]
fn mqtt_1_5_4_2_text_with_u_0000_is_malformed() {
    let mut client = v5();
    client.send(&topic(b"a\0b"));
    client.ends_with(MalformedPacket);
}

#[test]
fn mqtt_1_5_4_3_a_byte_order_mark_is_kept() {
    let mut client = v5();
    let name = format!("\u{FEFF}{}", unique());
    client.subscribe(&name, QoS::AtMostOnce);
    client.say(&name, b"x", QoS::AtMostOnce);
    assert_eq!(client.message().topic, name);
}

#[test]
fn mqtt_1_5_5_1_lengths_take_the_fewest_bytes_and_no_more_than_four() {
    let mut client = v5();
    let name = unique();
    client.subscribe(&name, QoS::AtMostOnce);
    // That the server writes the fewest is checked by every packet: 127 bytes of payload and a few more cross the first bound.
    for length in [100, 120, 127, 128, 16_370, 16_384] {
        client.say(&name, &vec![1; length], QoS::AtMostOnce);
        assert_eq!(client.message().payload.len(), length);
    }
    client.send(&[0x30, 0x80, 0x80, 0x80, 0x80, 0x01]);
    client.ends_with(MalformedPacket);
}

#[test]
fn mqtt_1_5_7_1_both_texts_of_a_user_property_must_be_utf_8() {
    for pair in [[&[0, 1, 0xFF][..], &text("v")].concat(), [&text("k")[..], &[0, 1, 0xFF]].concat()] {
        let properties = [&[pair.len() as u8 + 1, 0x26][..], &pair].concat();
        let mut client = v5();
        client.send(&packet(0x30, &[&text("t")[..], &properties].concat()));
        client.ends_with(MalformedPacket);
    }
}

#[test]
fn mqtt_2_1_3_1_reserved_flags_must_be_as_listed() {
    for first in [0x41, 0x53, 0x60, 0x71, 0x80, 0xA0, 0xC1, 0xE1, 0xF1] {
        let mut client = v5();
        client.send(&packet(first, &[0, 1]));
        client.ends_with(MalformedPacket);
    }
}

#[test]
fn mqtt_2_2_1_2_a_publish_of_qos_0_has_no_packet_identifier() {
    let mut client = v5();
    let name = unique();
    client.subscribe(&name, QoS::AtMostOnce);
    client.say(&name, b"x", QoS::AtMostOnce);
    // With one, the payload would begin with its bytes.
    assert_eq!(client.message().payload, b"x");
}

#[test]
fn mqtt_2_2_1_3_a_packet_identifier_must_not_be_zero() {
    let bodies = [
        (0x32, [&text("t")[..], &[0, 0, 0]].concat()),
        (0x82, [&[0, 0, 0][..], &text("t"), &[0]].concat()),
        (0xA2, [&[0, 0, 0][..], &text("t")].concat()),
    ];
    for (first, body) in bodies {
        let mut client = v5();
        client.send(&packet(first, &body));
        client.ends_with(ProtocolError);
    }
}

#[test]
fn mqtt_2_2_1_4_messages_on_their_way_have_different_packet_identifiers() {
    let (mut client, mut publisher) = (v5(), v5());
    let name = unique();
    client.subscribe(&name, QoS::ExactlyOnce);
    for n in 0..20 {
        publisher.say(&name, b"x", if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce });
    }
    let mut identifiers: Vec<u16> = (0..20).map(|_| client.message().packet_id).collect();
    identifiers.sort_unstable();
    identifiers.dedup();
    assert_eq!(identifiers.len(), 20);
    assert!(identifiers[0] > 0);
}

#[test]
fn mqtt_2_2_1_5_acknowledgements_have_the_identifier_of_the_publish() {
    let mut client = v5();
    let name = unique();
    for (qos, kinds) in [(QoS::AtLeastOnce, &[AckKind::PubAck][..]), (QoS::ExactlyOnce, &[AckKind::PubRec, AckKind::PubComp][..])] {
        client.publish(&Publish {
            dup: false,
            qos,
            retain: false,
            topic: &name,
            packet_id: 4711,
            properties: Properties::default(),
            payload: b"",
        });
        for kind in kinds {
            let ack = client.ack();
            assert_eq!((ack.kind, ack.packet_id), (*kind, 4711));
            if *kind == AckKind::PubRec {
                client.send_ack(AckKind::PubRel, 4711);
            }
        }
    }
}

#[test]
fn mqtt_2_2_1_6_suback_and_unsuback_have_the_identifier_of_the_request() {
    let mut client = v5();
    client.send(&packet(0x82, &[&[0x12, 0x34, 0][..], &text("t"), &[0]].concat()));
    assert!(matches!(client.next(SOON), Got::SubAck(ack) if ack.packet_id == 0x1234));
    client.send(&packet(0xA2, &[&[0x23, 0x45, 0][..], &text("t")].concat()));
    assert!(matches!(client.next(SOON), Got::UnsubAck(ack) if ack.packet_id == 0x2345));
}

#[test]
fn mqtt_2_2_2_1_no_properties_are_a_length_of_zero() {
    let mut client = v5();
    let codes = client.subscribe_with(&[("t", options(QoS::AtMostOnce))], Properties::default());
    assert_eq!(codes.len(), 1, "the SUBACK would not decode without it");
    // A CONNECT that ends where the length is due.
    let mut short = Raw::silent(Version::V5);
    short.send(&packet(0x10, &[&text("MQTT")[..], &[5, 2, 0, 60]].concat()));
    assert!(matches!(short.next(SOON), Got::ConnAck(ack) if ack.reason == MalformedPacket));
    short.closes();
    drop(connect(Version::V5));
}
