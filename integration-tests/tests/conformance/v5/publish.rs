use std::time::Duration;

use hookline_mqtt::packet::{Ack, AckKind, Connect, Publish, RetainHandling, SubscriptionOptions};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};

use crate::raw::{Got, NOT, Raw, SOON, connect, numbers, options, packet, text, unique};

fn v5() -> Raw {
    Raw::new(Version::V5)
}

/// A client, and a topic that it subscribes to.
fn subscribed(qos: QoS) -> (Raw, String) {
    let (mut raw, name) = (v5(), unique());
    raw.subscribe(&name, qos);
    (raw, name)
}

fn publish(topic: &str, qos: QoS, packet_id: u16) -> Publish<'_> {
    Publish { dup: false, qos, retain: false, topic, packet_id, properties: Properties::default(), payload: b"x" }
}

#[test]
fn mqtt_3_3_1_1_what_is_sent_again_has_dup() {
    let options = Connect { properties: numbers(&[(PropertyId::SessionExpiryInterval, 100)]), clean_start: false, ..connect(Version::V5) };
    let (mut first, _) = Raw::accepted(&options);
    let name = unique();
    first.subscribe(&name, QoS::AtLeastOnce);
    v5().say(&name, b"x", QoS::AtLeastOnce);
    assert!(!first.message().dup);
    drop(first);
    assert!(Raw::accepted(&options).0.message().dup);
}

#[test]
fn mqtt_3_3_1_2_dup_at_qos_0_is_malformed() {
    let mut client = v5();
    client.send(&packet(0x38, &[&text("t")[..], &[0]].concat()));
    client.ends_with(ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_3_1_3_dup_of_the_publisher_does_not_travel() {
    let (mut subscriber, name) = subscribed(QoS::AtLeastOnce);
    v5().publish(&Publish { dup: true, ..publish(&name, QoS::AtLeastOnce, 5) });
    assert!(!subscriber.message().dup);
}

#[test]
fn mqtt_3_3_1_4_qos_3_is_malformed() {
    let mut client = v5();
    client.send(&packet(0x36, &[&text("t")[..], &[0, 1, 0]].concat()));
    client.ends_with(ReasonCode::MalformedPacket);
}

/// What a new subscription gets at once.
fn retained(name: &str) -> Option<Vec<u8>> {
    let mut later = v5();
    later.subscribe(name, QoS::AtMostOnce);
    match later.next(NOT) {
        Got::Publish(message) => {
            assert!(message.retain);
            Some(message.payload)
        }
        _ => None,
    }
}

#[test]
fn mqtt_3_3_1_5_to_8_retained_messages_are_kept_replaced_removed_and_left() {
    let (name, mut publisher) = (unique(), v5());
    let mut retain = |payload: &[u8], retain| publisher.say_with(&name, payload, QoS::AtLeastOnce, retain, Properties::default());
    retain(b"one", true);
    assert_eq!(retained(&name), Some(b"one".to_vec()));
    retain(b"two", true);
    assert_eq!(retained(&name), Some(b"two".to_vec()), "replaced");
    retain(b"three", false);
    assert_eq!(retained(&name), Some(b"two".to_vec()), "not touched");
    retain(b"", true);
    assert_eq!(retained(&name), None, "removed, and an empty one is not kept");
}

fn with_handling(retain_handling: RetainHandling) -> SubscriptionOptions {
    SubscriptionOptions { retain_handling, ..options(QoS::AtMostOnce) }
}

#[test]
fn mqtt_3_3_1_9_to_11_retain_handling_says_when_they_are_sent() {
    let name = unique();
    v5().say_with(&name, b"kept", QoS::AtLeastOnce, true, Properties::default());
    for (handling, expect) in
        [(RetainHandling::Send, [true, true]), (RetainHandling::SendIfNew, [true, false]), (RetainHandling::DoNotSend, [false, false])]
    {
        let mut client = v5();
        for expect in expect {
            client.subscribe_with(&[(&name, with_handling(handling))], Properties::default());
            assert_eq!(matches!(client.next(if expect { SOON } else { NOT }), Got::Publish(_)), expect, "{handling:?}");
        }
    }
}

#[test]
fn mqtt_3_3_1_12_and_13_retain_as_published_keeps_the_flag() {
    for keep in [false, true] {
        let (mut client, name) = (v5(), unique());
        client.subscribe_with(
            &[(&name, SubscriptionOptions { retain_as_published: keep, ..options(QoS::AtMostOnce) })],
            Properties::default(),
        );
        v5().say_with(&name, b"x", QoS::AtLeastOnce, true, Properties::default());
        assert_eq!(client.message().retain, keep);
    }
}

#[test]
fn mqtt_3_3_2_1_the_topic_must_be_utf_8() {
    let mut client = v5();
    client.send(&packet(0x30, &[0, 2, 0xC3, 0x28, 0]));
    client.ends_with(ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_3_2_2_the_topic_has_no_wildcards() {
    for topic in ["a/+", "#", "a/#/b", "a+"] {
        let mut client = v5();
        client.publish(&publish(topic, QoS::AtMostOnce, 0));
        client.ends_with(ReasonCode::TopicNameInvalid);
    }
}

#[test]
fn mqtt_3_3_2_3_what_arrives_matches_the_filter() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&format!("{name}/+/b"), QoS::AtMostOnce);
    let mut publisher = v5();
    for topic in ["a/b", "a/c", "b", "x/b"] {
        publisher.say(&format!("{name}/{topic}"), b"", QoS::AtLeastOnce);
    }
    assert_eq!((client.message().topic, client.message().topic), (format!("{name}/a/b"), format!("{name}/x/b")));
    client.nothing();
}

#[test]
fn mqtt_3_3_2_4_and_15_to_20_properties_arrive_as_they_were_sent() {
    let (mut subscriber, name) = subscribed(QoS::AtLeastOnce);
    let mut bytes = vec![1, 1];
    for (id, value) in [(8u8, "answers/here"), (3, "text/plain")] {
        bytes.push(id);
        bytes.extend(text(value));
    }
    bytes.extend([9, 0, 3, 0, 255, 7]);
    let pairs = [("z", "1"), ("a", "2"), ("z", "3"), ("", "")];
    for (key, value) in pairs {
        bytes.push(0x26);
        bytes.extend([text(key), text(value)].concat());
    }
    v5().send(&packet(0x30, &[&text(&name)[..], &[bytes.len() as u8], &bytes, b"payload"].concat()));
    let properties = subscriber.message().properties;
    assert_eq!(properties.number(PropertyId::PayloadFormatIndicator), Some(1));
    assert_eq!(properties.text(PropertyId::ResponseTopic), Some("answers/here"));
    assert_eq!(properties.text(PropertyId::ContentType), Some("text/plain"));
    assert_eq!(properties.binary(PropertyId::CorrelationData), Some(&[0, 255, 7][..]));
    assert_eq!(properties.user().collect::<Vec<_>>(), pairs);
}

#[test]
fn mqtt_3_3_2_5_and_6_a_message_expires_and_tells_what_is_left() {
    let connect = Connect { properties: numbers(&[(PropertyId::SessionExpiryInterval, 100)]), clean_start: false, ..connect(Version::V5) };
    let (mut away, _) = Raw::accepted(&connect);
    let name = unique();
    away.subscribe(&name, QoS::AtLeastOnce);
    drop(away);
    let mut publisher = v5();
    for (payload, secs) in [("short", 1), ("long", 100)] {
        publisher.say_with(&name, payload.as_bytes(), QoS::AtLeastOnce, false, numbers(&[(PropertyId::MessageExpiryInterval, secs)]));
    }
    std::thread::sleep(Duration::from_millis(1200));
    let (mut back, _) = Raw::accepted(&connect);
    let message = back.message();
    assert_eq!(message.payload, b"long");
    let left = message.properties.number(PropertyId::MessageExpiryInterval).expect("told");
    assert!((95..=99).contains(&left), "{left}");
    back.nothing();
}

fn aliased(topic: &str, alias: u32) -> Publish<'_> {
    Publish { properties: numbers(&[(PropertyId::TopicAlias, alias)]), ..publish(topic, QoS::AtMostOnce, 0) }
}

#[test]
fn mqtt_3_3_2_7_aliases_end_with_their_connection() {
    let connect = connect(Version::V5);
    let (mut first, _) = Raw::accepted(&connect);
    first.publish(&aliased("t", 1));
    first.leave();
    let (mut second, _) = Raw::accepted(&connect);
    second.publish(&aliased("", 1));
    second.ends_with(ReasonCode::TopicAliasInvalid);
}

#[test]
fn mqtt_3_3_2_8_and_9_an_alias_of_zero_or_above_the_maximum_is_an_error() {
    let (_, ack) = Raw::accepted(&connect(Version::V5));
    let most = ack.properties.number(PropertyId::TopicAliasMaximum).expect("told");
    for alias in [0, most + 1] {
        let mut client = v5();
        client.publish(&aliased("t", alias));
        client.ends_with(ReasonCode::TopicAliasInvalid);
    }
}

#[test]
fn mqtt_3_3_2_12_the_server_takes_aliases_up_to_its_maximum() {
    let (mut subscriber, name) = (v5(), unique());
    subscriber.subscribe(&format!("{name}/#"), QoS::AtMostOnce);
    let (mut publisher, ack) = Raw::accepted(&connect(Version::V5));
    let most = ack.properties.number(PropertyId::TopicAliasMaximum).expect("told");
    let topics: Vec<String> = [1, most].iter().map(|alias| format!("{name}/{alias}")).collect();
    for (topic, alias) in topics.iter().zip([1, most]) {
        publisher.publish(&aliased(topic, alias));
        publisher.publish(&aliased("", alias));
        assert_eq!((subscriber.message().topic, subscriber.message().topic), (topic.clone(), topic.clone()));
    }
    // A new topic takes the alias over.
    publisher.publish(&aliased(&topics[0], most));
    publisher.publish(&aliased("", most));
    assert_eq!((&subscriber.message().topic, &subscriber.message().topic), (&topics[0], &topics[0]));
}

#[test]
fn mqtt_3_3_2_13_and_14_a_response_topic_is_utf_8_without_wildcards() {
    let mut client = v5();
    client.send(&packet(0x30, &[&text("t")[..], &[5, 8, 0, 2, 0xC3, 0x28]].concat()));
    client.ends_with(ReasonCode::MalformedPacket);
    let mut client = v5();
    client.send(&packet(0x30, &[&text("t")[..], &[6, 8, 0, 3, b'a', b'/', b'#']].concat()));
    client.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_3_3_2_19_a_content_type_is_utf_8() {
    let mut client = v5();
    client.send(&packet(0x30, &[&text("t")[..], &[5, 3, 0, 2, 0xC3, 0x28]].concat()));
    client.ends_with(ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_3_2_a_text_that_is_none_is_refused_with_0x99() {
    let mut client = v5();
    let properties = numbers(&[(PropertyId::PayloadFormatIndicator, 1)]);
    client.publish(&Publish { properties, payload: &[0xC3, 0x28], ..publish("t", QoS::AtLeastOnce, 3) });
    assert_eq!(client.ack().reason, ReasonCode::PayloadFormatInvalid);
    client.lives();
}

#[test]
fn mqtt_3_3_4_1_each_qos_has_its_answer() {
    let mut client = v5();
    client.publish(&publish("nobody", QoS::AtMostOnce, 0));
    client.nothing();
    client.publish(&publish("nobody", QoS::AtLeastOnce, 1));
    assert_eq!(client.ack().kind, AckKind::PubAck);
    client.publish(&publish("nobody", QoS::ExactlyOnce, 2));
    assert_eq!(client.ack().kind, AckKind::PubRec);
}

#[test]
fn mqtt_3_3_4_2_overlapping_subscriptions_have_the_highest_qos() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&format!("{name}/#"), QoS::AtMostOnce);
    client.subscribe(&format!("{name}/a"), QoS::ExactlyOnce);
    v5().say(&format!("{name}/a"), b"x", QoS::ExactlyOnce);
    assert_eq!(client.message().qos, QoS::ExactlyOnce);
    client.nothing();
}

#[test]
fn mqtt_3_3_4_3_to_5_subscription_identifiers_come_with_the_message() {
    let (mut client, name) = (v5(), unique());
    for (filter, id) in [("#", 1), ("a", 268_435_455)] {
        client.subscribe_with(
            &[(&format!("{name}/{filter}"), options(QoS::AtLeastOnce))],
            numbers(&[(PropertyId::SubscriptionIdentifier, id)]),
        );
    }
    let mut publisher = v5();
    let mut identifiers = |topic: &str| {
        publisher.say(&format!("{name}/{topic}"), b"x", QoS::AtLeastOnce);
        let properties = client.message().properties;
        let numbers = properties.iter().filter(|property| property.id == PropertyId::SubscriptionIdentifier);
        let mut numbers: Vec<String> = numbers.map(|property| format!("{:?}", property.value)).collect();
        numbers.sort();
        numbers
    };
    assert_eq!(identifiers("a"), ["Number(1)", "Number(268435455)"]);
    assert_eq!(identifiers("b"), ["Number(1)"]);
}

#[test]
fn mqtt_3_3_4_6_a_subscription_identifier_from_a_client_is_an_error() {
    let mut client = v5();
    client.send(&packet(0x30, &[&text("t")[..], &[2, 11, 1]].concat()));
    client.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_3_3_4_7_more_than_the_receive_maximum_ends_with_0x93() {
    let (mut client, ack) = Raw::accepted(&connect(Version::V5));
    let most = ack.properties.number(PropertyId::ReceiveMaximum).expect("told") as u16;
    for packet_id in 1..=most + 1 {
        client.publish(&publish("t", QoS::ExactlyOnce, packet_id));
    }
    for _ in 0..most {
        assert_eq!(client.ack().kind, AckKind::PubRec);
    }
    client.ends_with(ReasonCode::ReceiveMaximumExceeded);
}

#[test]
fn mqtt_3_3_4_9_and_10_the_servers_window_is_the_clients_and_holds_up_nothing_else() {
    let (mut client, _) = Raw::accepted(&Connect { properties: numbers(&[(PropertyId::ReceiveMaximum, 3)]), ..connect(Version::V5) });
    let name = unique();
    client.subscribe(&name, QoS::ExactlyOnce);
    let mut publisher = v5();
    for n in 0..6u8 {
        publisher.say(&name, &[n], if n % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce });
    }
    let first: Vec<_> = (0..3).map(|_| client.message()).collect();
    client.nothing();
    client.lives();
    client.send_ack(AckKind::PubAck, first[0].packet_id);
    assert_eq!(client.message().payload, [3]);
    // PUBREC does not free a place, PUBCOMP does.
    client.send_ack(AckKind::PubRec, first[1].packet_id);
    assert_eq!(client.ack().kind, AckKind::PubRel);
    client.nothing();
    client.send_ack(AckKind::PubComp, first[1].packet_id);
    assert_eq!(client.message().payload, [4]);
}

fn with_reason(kind: AckKind, packet_id: u16, reason: ReasonCode) -> Vec<u8> {
    let mut out = Vec::new();
    Ack::new(kind, packet_id, reason).encode(&mut out, Version::V5);
    out
}

#[test]
fn mqtt_3_4_2_1_and_3_5_2_1_puback_and_pubrec_say_what_became_of_it() {
    let (_subscriber, name) = subscribed(QoS::AtLeastOnce);
    let mut client = v5();
    for (qos, kind) in [(QoS::AtLeastOnce, AckKind::PubAck), (QoS::ExactlyOnce, AckKind::PubRec)] {
        for (topic, reason) in [
            (&*name, ReasonCode::Success),
            ("nobody wants it", ReasonCode::NoMatchingSubscribers),
            ("$SYS/mine", ReasonCode::NotAuthorized),
        ] {
            client.publish(&publish(topic, qos, 9));
            let ack = client.ack();
            assert_eq!((ack.kind, ack.reason), (kind, reason));
            if kind == AckKind::PubRec && !reason.is_error() {
                client.send_ack(AckKind::PubRel, 9);
                client.ack();
            }
        }
    }
}

#[test]
fn mqtt_3_4_2_1_unknown_reasons_are_malformed() {
    for first in [0x40, 0x50, 0x62, 0x70] {
        let mut client = v5();
        client.send(&packet(first, &[0, 1, 0x7E]));
        client.ends_with(ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt_3_6_1_1_the_flags_of_pubrel_must_be_0010() {
    for first in [0x60, 0x63, 0x66] {
        let mut client = v5();
        client.send(&packet(first, &[0, 1]));
        client.ends_with(ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt_3_6_2_1_and_3_7_2_1_unknown_identifiers_are_told_with_0x92() {
    let mut client = v5();
    client.send_ack(AckKind::PubRel, 999);
    let ack = client.ack();
    assert_eq!((ack.kind, ack.reason), (AckKind::PubComp, ReasonCode::PacketIdentifierNotFound));
    client.send_ack(AckKind::PubRec, 999);
    let ack = client.ack();
    assert_eq!((ack.kind, ack.reason), (AckKind::PubRel, ReasonCode::PacketIdentifierNotFound));
    client.send(&with_reason(AckKind::PubAck, 999, ReasonCode::Success));
    client.lives();
}

#[test]
fn mqtt_4_3_1_1_qos_0_is_sent_once_without_dup() {
    let (mut client, name) = subscribed(QoS::ExactlyOnce);
    v5().say(&name, b"x", QoS::AtMostOnce);
    let message = client.message();
    assert_eq!((message.qos, message.dup, message.packet_id), (QoS::AtMostOnce, false, 0));
    client.nothing();
}

#[test]
fn mqtt_4_3_2_1_to_3_a_message_of_qos_1_waits_for_its_puback() {
    let (mut client, name) = subscribed(QoS::AtLeastOnce);
    v5().say(&name, b"x", QoS::ExactlyOnce);
    let message = client.message();
    assert_eq!((message.qos, message.dup), (QoS::AtLeastOnce, false));
    // A PUBREC for it is none of its own.
    client.send_ack(AckKind::PubRec, message.packet_id);
    assert_eq!(client.ack().reason, ReasonCode::PacketIdentifierNotFound);
    client.send_ack(AckKind::PubAck, message.packet_id);
    client.nothing();
}

#[test]
fn mqtt_4_3_2_4_and_5_each_publish_of_qos_1_is_acknowledged_and_a_new_message() {
    let (mut subscriber, name) = subscribed(QoS::AtMostOnce);
    let mut client = v5();
    for dup in [false, true, false] {
        client.publish(&Publish { dup, ..publish(&name, QoS::AtLeastOnce, 21) });
        assert_eq!(client.ack().packet_id, 21);
        subscriber.message();
    }
}

#[test]
fn mqtt_4_3_3_1_to_7_the_server_sends_qos_2_in_its_steps() {
    let (mut client, name) = subscribed(QoS::ExactlyOnce);
    v5().say(&name, b"x", QoS::ExactlyOnce);
    let message = client.message();
    assert_eq!((message.qos, message.dup), (QoS::ExactlyOnce, false));
    client.send_ack(AckKind::PubRec, message.packet_id);
    let release = client.ack();
    assert_eq!((release.kind, release.packet_id), (AckKind::PubRel, message.packet_id));
    // Again: it was not lost, but it might have been.
    client.send_ack(AckKind::PubRec, message.packet_id);
    assert_eq!(client.ack().kind, AckKind::PubRel);
    client.send_ack(AckKind::PubComp, message.packet_id);
    client.nothing();
}

#[test]
fn mqtt_4_3_3_4_a_pubrec_with_an_error_ends_it() {
    let (mut client, name) = subscribed(QoS::ExactlyOnce);
    v5().say(&name, b"x", QoS::ExactlyOnce);
    let message = client.message();
    client.send(&with_reason(AckKind::PubRec, message.packet_id, ReasonCode::UnspecifiedError));
    client.nothing();
    client.lives();
}

#[test]
fn mqtt_4_3_3_8_to_13_the_server_takes_qos_2_once() {
    let (mut subscriber, name) = subscribed(QoS::AtMostOnce);
    let mut client = v5();
    for dup in [false, true, true] {
        client.publish(&Publish { dup, ..publish(&name, QoS::ExactlyOnce, 33) });
        assert_eq!(client.ack().kind, AckKind::PubRec);
    }
    subscriber.message();
    subscriber.nothing();
    for _ in 0..2 {
        client.send_ack(AckKind::PubRel, 33);
        let ack = client.ack();
        assert_eq!((ack.kind, ack.packet_id), (AckKind::PubComp, 33));
    }
    // From the PUBCOMP on it is a new message.
    client.publish(&publish(&name, QoS::ExactlyOnce, 33));
    client.ack();
    subscriber.message();
}
