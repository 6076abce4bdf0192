use std::time::Duration;

use hookline_mqtt::packet::{AckKind, Connect, Publish, Will};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

use crate::raw::{Got, NOT, Raw, SOON, connect, options, packet, text, unique, will};

fn v3() -> Raw {
    Raw::new(Version::V311)
}

fn connect3() -> Connect {
    connect(Version::V311)
}

/// A CONNECT whose session lives on.
fn lasting() -> Connect {
    Connect { clean_start: false, ..connect3() }
}

fn connect_bytes(flags: u8, payload: &[u8]) -> Vec<u8> {
    packet(0x10, &[&text("MQTT")[..], &[4, flags, 0, 60], payload].concat())
}

/// The first thing that comes for these bytes on a new connection.
fn answer(bytes: &[u8]) -> Got {
    let mut raw = Raw::silent(Version::V311);
    raw.send(bytes);
    raw.next(SOON)
}

fn closed_after(bytes: &[u8]) {
    let mut client = v3();
    client.send(bytes);
    client.closes();
}

fn subscribed(qos: QoS) -> (Raw, String) {
    let (mut raw, name) = (v3(), unique());
    raw.subscribe(&name, qos);
    (raw, name)
}

fn publish(topic: &str, qos: QoS, packet_id: u16) -> Publish<'_> {
    Publish { dup: false, qos, retain: false, topic, packet_id, properties: Properties::default(), payload: b"x" }
}

fn code(got: &Got) -> Option<u8> {
    match got {
        Got::ConnAck(ack) => ack.reason.connack_v3(),
        _ => None,
    }
}

#[test]
fn mqtt_1_5_3_1_to_3_text_is_utf_8_without_null_and_keeps_its_mark() {
    closed_after(&packet(0x30, &[0, 2, 0xC3, 0x28]));
    closed_after(&packet(0x30, &[0, 3, 0xED, 0xA0, 0x80]));
    closed_after(&packet(0x30, &[0, 3, b'a', 0, b'b']));
    let (mut client, name) = (v3(), format!("\u{FEFF}{}", unique()));
    client.subscribe(&name, QoS::AtMostOnce);
    client.say(&name, b"x", QoS::AtMostOnce);
    assert_eq!(client.message().topic, name);
}

#[test]
fn mqtt_2_2_2_1_and_2_reserved_flags_end_the_connection() {
    for first in [0x41, 0x53, 0x60, 0x71, 0x80, 0xA0, 0xC1, 0xE1] {
        closed_after(&packet(first, &[0, 1]));
    }
}

#[test]
fn mqtt_2_3_1_1_to_7_packet_identifiers() {
    closed_after(&packet(0x32, &[&text("t")[..], &[0, 0]].concat()));
    closed_after(&packet(0x82, &[&[0, 0][..], &text("t"), &[0]].concat()));
    let (mut client, name) = subscribed(QoS::AtLeastOnce);
    client.publish(&publish(&name, QoS::AtLeastOnce, 4711));
    let mut got = [client.next(SOON), client.next(SOON)];
    got.sort_by_key(|got| matches!(got, Got::Publish(_)));
    assert!(matches!(&got[0], Got::Ack(ack) if ack.packet_id == 4711), "{got:?}");
    assert!(matches!(&got[1], Got::Publish(message) if message.packet_id > 0), "{got:?}");
    client.say(&name, b"", QoS::AtMostOnce);
    assert_eq!(client.message().payload, b"", "no identifier at QoS 0");
}

#[test]
fn mqtt_3_1_0_1_and_2_connect_comes_first_and_once() {
    assert_eq!(answer(&[0xC0, 0]), Got::Closed);
    let mut bytes = Vec::new();
    connect3().encode(&mut bytes);
    closed_after(&bytes);
}

#[test]
fn mqtt_3_1_2_1_to_3_name_version_and_reserved_flag() {
    assert_eq!(answer(&packet(0x10, &[&text("MQTX")[..], &[4, 2, 0, 60, 0, 1, b'a']].concat())), Got::Closed);
    assert_eq!(code(&answer(&packet(0x10, &[&text("MQTT")[..], &[2, 2, 0, 60, 0, 1, b'a']].concat()))), Some(1));
    assert_eq!(answer(&connect_bytes(0x03, &text("x"))), Got::Closed);
}

#[test]
fn mqtt_3_1_2_4_to_7_clean_session_and_what_is_kept() {
    let options = lasting();
    let (mut client, ack) = Raw::accepted(&options);
    assert!(!ack.session_present);
    let name = unique();
    client.subscribe(&name, QoS::ExactlyOnce);
    client.leave();
    let mut publisher = v3();
    publisher.say(&name, b"1", QoS::AtLeastOnce);
    publisher.say(&name, b"2", QoS::ExactlyOnce);
    let (mut client, ack) = Raw::accepted(&options);
    assert!(ack.session_present);
    assert_eq!([client.message().payload, client.message().payload], [b"1", b"2"]);
    drop(client);
    let (mut client, ack) = Raw::accepted(&Connect { clean_start: true, ..options.clone() });
    assert!(!ack.session_present);
    client.nothing();
    client.leave();
    assert!(!Raw::accepted(&options).1.session_present, "a clean session leaves nothing");
}

#[test]
fn mqtt_3_1_2_8_to_10_the_will_is_published_unless_the_client_disconnects() {
    let (mut watcher, name) = subscribed(QoS::AtLeastOnce);
    let options = Connect { will: Some(will(&name)), ..connect3() };
    drop(Raw::accepted(&options));
    assert_eq!(watcher.message().payload, b"will");
    Raw::accepted(&options).0.leave();
    watcher.nothing();
    assert_eq!(answer(&connect_bytes(0x06, &text("x"))), Got::Closed, "its fields must be there");
}

#[test]
fn mqtt_3_1_2_11_to_17_will_flags_and_retain() {
    for flags in [0x0A, 0x12, 0x22] {
        assert_eq!(answer(&connect_bytes(flags, &text("x"))), Got::Closed, "without a will its bits are zero: {flags:x}");
    }
    assert_eq!(answer(&connect_bytes(0x1E, &[text("x"), text("t"), text("p")].concat())), Got::Closed, "QoS 3");
    for retain in [false, true] {
        let (mut watcher, name) = subscribed(QoS::AtLeastOnce);
        drop(Raw::accepted(&Connect { will: Some(Will { retain, qos: QoS::AtLeastOnce, ..will(&name) }), ..connect3() }));
        assert_eq!(watcher.message().qos, QoS::AtLeastOnce);
        let mut later = v3();
        later.subscribe(&name, QoS::AtMostOnce);
        assert_eq!(matches!(later.next(if retain { SOON } else { NOT }), Got::Publish(_)), retain);
        v3().say_with(&name, b"", QoS::AtLeastOnce, true, Properties::default());
    }
}

#[test]
fn mqtt_3_1_2_18_to_22_login_flags() {
    assert_eq!(answer(&connect_bytes(0x82, &text("x"))), Got::Closed);
    assert_eq!(answer(&connect_bytes(0x02, &[text("x"), text("somebody")].concat())), Got::Closed);
    assert_eq!(answer(&connect_bytes(0x42, &[text("x"), text("password")].concat())), Got::Closed, "a password needs a user name");
    Raw::accepted(&Connect { username: Some("u".into()), password: Some(b"p".to_vec()), ..connect3() }).0.lives();
}

#[test]
fn mqtt_3_1_2_24_who_is_silent_is_closed() {
    let (mut client, _) = Raw::accepted(&Connect { keep_alive_secs: 1, ..connect3() });
    assert_eq!(client.next(Duration::from_millis(1200)), Got::Silence);
    client.closes();
}

#[test]
fn mqtt_3_1_3_1_to_5_the_payload_and_the_identifier() {
    let payload = [text("order-3"), text(&unique()), text("payload"), text("somebody"), text("password")].concat();
    assert_eq!(code(&answer(&connect_bytes(0xC6, &payload))), Some(0));
    assert_eq!(answer(&connect_bytes(0x02, &[0, 2, 0xC3, 0x28])), Got::Closed);
    for id in ["A", "abcdefghijklmnopqrstu01"] {
        Raw::accepted(&Connect { client_id: id.into(), ..connect3() }).0.leave();
    }
}

#[test]
fn mqtt_3_1_3_6_to_9_an_empty_identifier_needs_a_clean_session() {
    Raw::accepted(&Connect { client_id: String::new(), ..connect3() }).0.lives();
    let mut refused = Raw::open(&Connect { client_id: String::new(), ..lasting() });
    assert_eq!(refused.connack().reason, ReasonCode::ClientIdentifierNotValid);
    refused.closes();
}

#[test]
fn mqtt_3_1_3_10_and_11_will_topic_and_user_name_are_utf_8() {
    let broken = [0, 2, 0xC3, 0x28];
    assert_eq!(answer(&connect_bytes(0x06, &[&text("x")[..], &broken, &text("p")].concat())), Got::Closed);
    assert_eq!(answer(&connect_bytes(0x82, &[&text("x")[..], &broken].concat())), Got::Closed);
}

#[test]
fn mqtt_3_1_4_1_to_5_what_a_connect_leads_to() {
    assert_eq!(answer(&packet(0x10, &[&text("MQTT")[..], &[4, 2]].concat())), Got::Closed);
    let options = connect3();
    let (mut older, ack) = Raw::accepted(&options);
    assert_eq!(ack.reason, ReasonCode::Success);
    let (mut newer, _) = Raw::accepted(&options);
    older.closes();
    newer.lives();
    // What follows a refused CONNECT is nothing.
    let (mut watcher, name) = subscribed(QoS::AtMostOnce);
    answer(&[connect_bytes(0x03, &text("x")), packet(0x30, &[&text(&name)[..], b"x"].concat())].concat());
    watcher.nothing();
}

#[test]
fn mqtt_3_2_0_1_connack_comes_first() {
    let options = lasting();
    let (mut client, name) = (Raw::accepted(&options).0, unique());
    client.subscribe(&name, QoS::AtLeastOnce);
    drop(client);
    v3().say(&name, b"x", QoS::AtLeastOnce);
    let mut client = Raw::open(&options);
    client.connack();
    client.message();
}

#[test]
fn mqtt_3_2_2_1_to_6_session_present_and_return_codes() {
    let options = lasting();
    assert!(!Raw::accepted(&options).1.session_present);
    assert!(Raw::accepted(&options).1.session_present);
    assert!(!Raw::accepted(&Connect { clean_start: true, ..options }).1.session_present);
    let mut moved = Raw::open_at("tcp.moved", &lasting());
    match moved.next(SOON) {
        Got::ConnAck(ack) => {
            assert_eq!((ack.reason, ack.session_present), (ReasonCode::ServerUnavailable, false));
            moved.closes();
        }
        other => assert_eq!(other, Got::Closed),
    }
}

#[test]
fn mqtt_3_3_1_1_to_4_dup_and_qos() {
    let options = lasting();
    let (mut client, name) = (Raw::accepted(&options).0, unique());
    client.subscribe(&name, QoS::AtLeastOnce);
    v3().publish(&Publish { dup: true, ..publish(&name, QoS::AtLeastOnce, 5) });
    assert!(!client.message().dup, "the publisher's does not travel");
    drop(client);
    assert!(Raw::accepted(&options).0.message().dup);
    closed_after(&packet(0x38, &text("t")));
    closed_after(&packet(0x36, &[&text("t")[..], &[0, 1]].concat()));
}

#[test]
fn mqtt_3_3_1_5_to_12_retained_messages() {
    let name = unique();
    let mut publisher = v3();
    let mut retained = |payload: &[u8], qos, retain| {
        publisher.say_with(&name, payload, qos, retain, Properties::default());
        let mut later = v3();
        later.subscribe(&name, QoS::ExactlyOnce);
        match later.next(NOT) {
            Got::Publish(message) => Some((message.payload, message.qos, message.retain)),
            _ => None,
        }
    };
    assert_eq!(retained(b"1", QoS::AtLeastOnce, true), Some((b"1".to_vec(), QoS::AtLeastOnce, true)));
    assert_eq!(retained(b"2", QoS::AtMostOnce, true), Some((b"2".to_vec(), QoS::AtMostOnce, true)));
    assert_eq!(retained(b"3", QoS::AtLeastOnce, false), Some((b"2".to_vec(), QoS::AtMostOnce, true)));
    assert_eq!(retained(b"", QoS::AtLeastOnce, true), None);
    let (mut live, name) = subscribed(QoS::AtLeastOnce);
    v3().say_with(&name, b"x", QoS::AtLeastOnce, true, Properties::default());
    assert!(!live.message().retain);
    v3().say_with(&name, b"", QoS::AtLeastOnce, true, Properties::default());
    assert!(live.message().payload.is_empty(), "the removing message is delivered like others");
}

#[test]
fn mqtt_3_3_2_1_to_3_topics_of_messages() {
    closed_after(&packet(0x30, &[0, 2, 0xC3, 0x28]));
    for topic in ["a/+", "#", "a/#"] {
        closed_after(&packet(0x30, &text(topic)));
    }
    let (mut client, name) = (v3(), unique());
    client.subscribe(&format!("{name}/+"), QoS::AtMostOnce);
    v3().say(&format!("{name}/a/b"), b"x", QoS::AtLeastOnce);
    v3().say(&format!("{name}/a"), b"x", QoS::AtLeastOnce);
    assert_eq!(client.message().topic, format!("{name}/a"));
}

#[test]
fn mqtt_3_3_4_1_and_3_3_5_1_answers_and_overlapping_subscriptions() {
    let (mut client, name) = (v3(), unique());
    client.subscribe(&format!("{name}/#"), QoS::AtMostOnce);
    client.subscribe(&format!("{name}/a"), QoS::AtLeastOnce);
    let mut publisher = v3();
    publisher.publish(&publish(&format!("{name}/a"), QoS::ExactlyOnce, 8));
    assert_eq!(publisher.ack().kind, AckKind::PubRec);
    assert_eq!(client.message().qos, QoS::AtLeastOnce);
}

#[test]
fn mqtt_3_3_5_2_a_publish_that_may_not_be_is_not_acknowledged_falsely() {
    let mut client = v3();
    client.publish(&publish("$SYS/mine", QoS::AtLeastOnce, 8));
    client.closes();
}

#[test]
fn mqtt_3_6_1_1_the_flags_of_pubrel() {
    closed_after(&packet(0x60, &[0, 1]));
}

#[test]
fn mqtt_3_8_1_1_and_3_8_3_1_to_4_subscribe_must_be_as_specified() {
    closed_after(&packet(0x80, &[&[0, 1][..], &text("t"), &[0]].concat()));
    closed_after(&packet(0x82, &[0, 1, 0, 2, 0xC3, 0x28, 0]));
    closed_after(&packet(0x82, &[0, 1]));
    for bits in [0x03, 0x04, 0x80] {
        closed_after(&packet(0x82, &[&[0, 1][..], &text("t"), &[bits]].concat()));
    }
}

#[test]
fn mqtt_3_8_4_1_to_6_and_3_9_3_1_subscriptions_are_granted_one_by_one() {
    let (mut client, a, b) = (v3(), unique(), unique());
    let codes = client.subscribe_with(
        &[(&a, options(QoS::ExactlyOnce)), ("a/#/b", options(QoS::AtLeastOnce)), (&b, options(QoS::AtMostOnce))],
        Properties::default(),
    );
    assert_eq!(codes.iter().map(|code| *code as u8).collect::<Vec<_>>(), [2, 0x80, 0]);
    v3().say_with(&a, b"kept", QoS::AtLeastOnce, true, Properties::default());
    assert_eq!(client.message().payload, b"kept");
    client.subscribe(&a, QoS::AtMostOnce);
    assert_eq!(client.message().payload, b"kept", "retained messages come again");
    v3().say(&a, b"live", QoS::ExactlyOnce);
    assert_eq!(client.message().qos, QoS::AtMostOnce, "replaced");
    v3().say_with(&a, b"", QoS::AtLeastOnce, true, Properties::default());
}

#[test]
fn mqtt_3_10_1_1_and_3_10_3_1_and_2_unsubscribe_must_be_as_specified() {
    closed_after(&packet(0xA0, &[&[0, 1][..], &text("t")].concat()));
    closed_after(&packet(0xA2, &[0, 1, 0, 2, 0xC3, 0x28]));
    closed_after(&packet(0xA2, &[0, 1]));
}

#[test]
fn mqtt_3_10_4_1_to_6_unsubscribe_ends_the_very_same_filter_and_is_always_answered() {
    let (mut client, name) = subscribed(QoS::ExactlyOnce);
    v3().say(&name, b"begun", QoS::ExactlyOnce);
    let begun = client.message();
    client.send(&packet(0xA2, &[&[0, 7][..], &text("never"), &text(&name)].concat()));
    assert!(matches!(client.next(SOON), Got::UnsubAck(ack) if ack.packet_id == 7));
    v3().say(&name, b"x", QoS::AtLeastOnce);
    client.nothing();
    client.send_ack(AckKind::PubRec, begun.packet_id);
    assert_eq!(client.ack().kind, AckKind::PubRel);
}

#[test]
fn mqtt_3_12_4_1_a_pingreq_is_answered() {
    v3().lives();
}

#[test]
fn mqtt_3_14_1_1_and_3_14_4_1_to_3_disconnect() {
    closed_after(&[0xE1, 0]);
    let (mut watcher, name) = subscribed(QoS::AtMostOnce);
    let (mut client, _) = Raw::accepted(&Connect { will: Some(will(&name)), ..connect3() });
    client.send(&[&[0xE0, 0][..], &packet(0x30, &[&text(&name)[..], b"x"].concat())].concat());
    client.closes();
    watcher.nothing();
}

#[test]
fn mqtt_4_3_1_1_to_4_3_3_2_each_qos_has_its_steps() {
    let (mut client, name) = subscribed(QoS::ExactlyOnce);
    let mut publisher = v3();
    publisher.say(&name, b"0", QoS::AtMostOnce);
    let message = client.message();
    assert_eq!((message.qos, message.dup), (QoS::AtMostOnce, false));
    publisher.say(&name, b"1", QoS::AtLeastOnce);
    let message = client.message();
    assert_eq!((message.qos, message.dup), (QoS::AtLeastOnce, false));
    client.send_ack(AckKind::PubAck, message.packet_id);
    for dup in [false, true] {
        publisher.publish(&Publish { dup, ..publish(&name, QoS::ExactlyOnce, 5) });
        assert_eq!(publisher.ack().kind, AckKind::PubRec);
    }
    publisher.send_ack(AckKind::PubRel, 5);
    assert_eq!(publisher.ack().kind, AckKind::PubComp);
    let message = client.message();
    assert_eq!(message.qos, QoS::ExactlyOnce);
    client.send_ack(AckKind::PubRec, message.packet_id);
    assert_eq!(client.ack().kind, AckKind::PubRel);
    client.send_ack(AckKind::PubComp, message.packet_id);
    client.nothing();
}

#[test]
fn mqtt_4_4_0_1_and_4_6_0_1_to_6_what_was_not_acknowledged_comes_again_in_order() {
    let options = lasting();
    let (mut client, name) = (Raw::accepted(&options).0, unique());
    client.subscribe(&name, QoS::AtLeastOnce);
    let mut publisher = v3();
    (0..5u8).for_each(|n| publisher.say(&name, &[n], QoS::AtLeastOnce));
    let first: Vec<_> = (0..5).map(|_| client.message()).collect();
    drop(client);
    let (mut client, _) = Raw::accepted(&options);
    for before in first {
        let again = client.message();
        assert_eq!((again.packet_id, again.payload, again.dup), (before.packet_id, before.payload, true));
    }
}

#[test]
fn mqtt_4_5_0_1_messages_go_into_the_sessions_that_want_them() {
    let options = lasting();
    let (mut away, name) = (Raw::accepted(&options).0, unique());
    away.subscribe(&name, QoS::AtLeastOnce);
    drop(away);
    v3().say(&name, b"x", QoS::AtLeastOnce);
    Raw::accepted(&options).0.message();
}

#[test]
fn mqtt_4_7_1_1_to_4_7_3_4_filters() {
    let mut client = v3();
    for bad in ["a#", "a/#/b", "a+", "", "+a"] {
        let codes = client.subscribe_with(&[(bad, options(QoS::AtMostOnce))], Properties::default());
        assert_eq!(codes[0] as u8, 0x80, "{bad}");
    }
    let name = unique();
    client.subscribe(&format!("{name}/é"), QoS::AtMostOnce);
    v3().say(&format!("{name}/e\u{301}"), b"other", QoS::AtLeastOnce);
    v3().say(&format!("{name}/é"), b"same", QoS::AtLeastOnce);
    assert_eq!(client.message().payload, b"same");
    closed_after(&packet(0x82, &[0, 1, 0, 1, 0, 0]));
}

#[test]
fn mqtt_4_8_0_1_and_2_what_breaks_the_protocol_ends_the_connection() {
    for bytes in [&[0x00, 0][..], &[0x20, 2, 0, 0], &[0x90, 3, 0, 1, 0], &[0xD0, 0], &[0xF0, 0], &[0x30, 0xFF, 0xFF, 0xFF, 0xFF]] {
        closed_after(bytes);
    }
}
