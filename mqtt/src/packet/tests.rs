//! Bytes in, packets out; and back.

use proptest::prelude::*;

use super::*;
use crate::{Properties, PropertyId, QoS};

const MAX: usize = 1 << 20;

fn refuses(bytes: &[u8], version: Version, reason: ReasonCode) {
    let error = decode(bytes, version, MAX).expect_err("must be refused");
    assert_eq!(error.reason, reason, "{bytes:02x?}: {error}");
}

fn encode(packet: &Packet<'_>, version: Version) -> Vec<u8> {
    let mut out = Vec::new();
    match packet {
        Packet::Connect(p) => p.encode(&mut out),
        Packet::ConnAck(p) => p.encode(&mut out, version),
        Packet::Publish(p) => p.encode(&mut out, version),
        Packet::Ack(p) => p.encode(&mut out, version),
        Packet::Subscribe(p) => p.encode(&mut out, version),
        Packet::SubAck(p) => p.encode(&mut out, version),
        Packet::Unsubscribe(p) => p.encode(&mut out, version),
        Packet::UnsubAck(p) => p.encode(&mut out, version),
        Packet::PingReq => out.extend(PINGREQ),
        Packet::PingResp => out.extend(PINGRESP),
        Packet::Disconnect(p) => p.encode(&mut out, version),
        Packet::Auth(p) => p.encode(&mut out),
    }
    out
}

#[test]
fn refuses_what_the_specification_forbids() {
    use ReasonCode::*;
    refuses(&[0x10, 0x80, 0x80, 0x80, 0x80], Version::V311, MalformedPacket); // varint of five bytes
    refuses(&[0x30, 0xff, 0xff, 0xff, 0x7f], Version::V311, PacketTooLarge); // 256 MiB announced
    refuses(&[0x36, 5, 0, 1, b'a', 0, 1], Version::V311, MalformedPacket); // QoS 3
    refuses(&[0x38, 3, 0, 1, b'a'], Version::V311, MalformedPacket); // DUP at QoS 0
    refuses(&[0x32, 5, 0, 1, b'a', 0, 0], Version::V311, ProtocolError); // packet identifier 0
    refuses(&[0x30, 4, 0, 2, 0xC3, 0x28], Version::V311, MalformedPacket); // bad UTF-8
    refuses(&[0x30, 5, 0, 3, 0xED, 0xA0, 0x80], Version::V311, MalformedPacket); // a surrogate
    refuses(&[0x30, 3, 0, 1, 0], Version::V311, MalformedPacket); // U+0000
    refuses(&[0x30, 3, 0, 1, b'#'], Version::V311, TopicNameInvalid);
    refuses(&[0x30, 2, 0, 0], Version::V311, ProtocolError); // empty
    refuses(&[0x80, 6, 0, 1, 0, 1, b'a', 0], Version::V311, MalformedPacket); // flags of SUBSCRIBE
    refuses(&[0x82, 2, 0, 1], Version::V311, ProtocolError); // no filter
    refuses(&[0x62, 1, 0], Version::V311, MalformedPacket); // ends early
    refuses(&[0xC0, 1, 0], Version::V311, MalformedPacket); // PINGREQ with a body
    refuses(&[0x00, 0], Version::V311, MalformedPacket); // reserved type
    refuses(&[0xF0, 0], Version::V311, MalformedPacket); // AUTH before 5.0
    refuses(b"\x10\x0c\x00\x04MQTT\x06\x02\x00\x00\x00\x00", Version::V311, UnsupportedProtocolVersion);
    refuses(b"\x10\x0c\x00\x04HTTP\x04\x02\x00\x00\x00\x00", Version::V311, MalformedPacket);
    refuses(&[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0], Version::V5, TopicAliasInvalid); // alias 0
    refuses(&[0x30, 8, 0, 1, b'a', 4, 1, 1, 1, 1], Version::V5, ProtocolError); // a property twice
    refuses(&[0x30, 6, 0, 1, b'a', 2, 0x7e, 1], Version::V5, MalformedPacket); // unknown property
}

#[test]
fn waits_for_the_rest_of_a_packet() {
    let mut bytes = Vec::new();
    encode_publish(&mut bytes, PublishHeader { dup: false, qos: QoS::AtLeastOnce, retain: true, packet_id: 7 }, "a/b", &[], b"xyz");
    for end in 0..bytes.len() {
        assert_eq!(decode(&bytes[..end], Version::V311, MAX), Ok(None));
    }
    let (packet, length) = decode(&bytes, Version::V311, MAX).expect("valid").expect("whole");
    assert_eq!(length, bytes.len());
    let Packet::Publish(publish) = packet else { panic!("not a PUBLISH") };
    assert_eq!((publish.topic, publish.payload, publish.packet_id, publish.retain), ("a/b", &b"xyz"[..], 7, true));
}

fn text() -> impl Strategy<Value = String> {
    "[a-zA-Z0-9/ äß東]{0,40}"
}

fn properties() -> impl Strategy<Value = Properties> {
    (proptest::option::of(any::<u32>()), proptest::collection::vec((text(), text()), 0..4)).prop_map(|(expiry, pairs)| {
        let mut properties = Properties::default();
        if let Some(expiry) = expiry {
            properties.push_number(PropertyId::MessageExpiryInterval, expiry);
        }
        for (name, value) in pairs {
            properties.push_user(&name, &value);
        }
        properties
    })
}

proptest! {
    #[test]
    fn decoding_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..300), v5 in any::<bool>()) {
        let version = if v5 { Version::V5 } else { Version::V311 };
        drop(decode(&bytes, version, MAX));
    }

    #[test]
    fn a_publish_comes_back_as_it_was(
        topic in "[a-z/]{1,200}", payload in proptest::collection::vec(any::<u8>(), 0..20_000),
        qos in 0u8..3, retain in any::<bool>(), properties in properties(),
    ) {
        let qos = QoS::from_bits(qos).expect("below 3");
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { 513 };
        let packet = Packet::Publish(Publish { dup: false, qos, retain, topic: &topic, packet_id, properties, payload: &payload });
        let bytes = encode(&packet, Version::V5);
        let (back, length) = decode(&bytes, Version::V5, MAX).expect("valid").expect("whole");
        prop_assert_eq!(length, bytes.len());
        prop_assert_eq!(back, packet);
    }

    #[test]
    fn a_connect_comes_back_as_it_was(
        client_id in text(), username in proptest::option::of(text()), payload in proptest::collection::vec(any::<u8>(), 0..300),
        clean_start in any::<bool>(), keep_alive_secs in any::<u16>(), will in any::<bool>(),
    ) {
        let will = will.then(|| Will { topic: "w/t".into(), payload: payload.clone(), qos: QoS::ExactlyOnce, retain: true, properties: Properties::default() });
        let password = username.is_some().then_some(payload);
        let connect = Connect { version: Version::V5, clean_start, keep_alive_secs, client_id, username, password, will, properties: Properties::default(), is_bridge: false };
        let packet = Packet::Connect(Box::new(connect));
        let bytes = encode(&packet, Version::V5);
        prop_assert_eq!(decode(&bytes, Version::V311, MAX), Ok(Some((packet, bytes.len()))));
    }

    #[test]
    fn a_subscribe_comes_back_as_it_was(filters in proptest::collection::vec((text(), 0u8..3, any::<bool>(), 0u8..3), 1..20)) {
        let filters = filters.into_iter().map(|(filter, qos, no_local, handling)| SubscribeFilter {
            filter,
            options: SubscriptionOptions::from_byte(qos | u8::from(no_local) << 2 | handling << 4, Version::V5).expect("valid"),
        }).collect();
        let packet = Packet::Subscribe(Subscribe { packet_id: 9, properties: Properties::default(), filters });
        let bytes = encode(&packet, Version::V5);
        prop_assert_eq!(decode(&bytes, Version::V5, MAX), Ok(Some((packet, bytes.len()))));
    }
}
