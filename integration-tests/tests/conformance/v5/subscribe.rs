use hookline_mqtt::packet::{AckKind, Publish, SubscriptionOptions};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

use crate::raw::{Got, Raw, SOON, options, packet, text, unique};

fn v5() -> Raw {
    Raw::new(Version::V5)
}

fn unsubscribe(client: &mut Raw, filters: &[&str]) -> Vec<ReasonCode> {
    let filters: Vec<u8> = filters.iter().flat_map(|filter| text(filter)).collect();
    client.send(&packet(0xA2, &[&[0, 8, 0][..], &filters].concat()));
    match client.next(SOON) {
        Got::UnsubAck(ack) => {
            assert_eq!(ack.packet_id, 8);
            ack.reasons
        }
        other => panic!("no UNSUBACK: {other:?}"),
    }
}

#[test]
fn mqtt_3_8_1_1_and_3_10_1_1_the_flags_must_be_0010() {
    for first in [0x80, 0x83, 0x8A, 0xA0, 0xA6] {
        let mut client = v5();
        client.send(&packet(first, &[&[0, 1, 0][..], &text("t"), &[0]].concat()));
        client.ends_with(ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt_3_8_3_1_and_3_10_3_1_filters_must_be_utf_8() {
    for (first, end) in [(0x82, &[0][..]), (0xA2, &[])] {
        let mut client = v5();
        client.send(&packet(first, &[&[0, 1, 0, 0, 2, 0xC3, 0x28][..], end].concat()));
        client.ends_with(ReasonCode::MalformedPacket);
    }
}

#[test]
fn mqtt_3_8_3_2_and_3_10_3_2_there_must_be_a_filter() {
    for first in [0x82, 0xA2] {
        let mut client = v5();
        client.send(&packet(first, &[0, 1, 0]));
        client.ends_with(ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt_3_8_3_3_no_local_keeps_ones_own_messages_away() {
    let (mut client, name) = (v5(), unique());
    client.subscribe_with(&[(&name, SubscriptionOptions { no_local: true, ..options(QoS::AtLeastOnce) })], Properties::default());
    client.say(&name, b"own", QoS::AtLeastOnce);
    v5().say(&name, b"other", QoS::AtLeastOnce);
    assert_eq!(client.message().payload, b"other");
}

#[test]
fn mqtt_3_8_3_4_no_local_on_a_shared_subscription_is_an_error() {
    let mut client = v5();
    client.send(&packet(0x82, &[&[0, 1, 0][..], &text("$share/g/t"), &[0x04]].concat()));
    client.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_3_8_3_5_reserved_bits_of_the_options_must_be_zero() {
    for (bits, reason) in [
        (0x40, ReasonCode::MalformedPacket),
        (0x80, ReasonCode::MalformedPacket),
        (0x03, ReasonCode::MalformedPacket),
        (0x30, ReasonCode::ProtocolError),
    ] {
        let mut client = v5();
        client.send(&packet(0x82, &[&[0, 1, 0][..], &text("t"), &[bits]].concat()));
        client.ends_with(reason);
    }
}

#[test]
fn mqtt_3_8_4_1_and_2_a_subscribe_is_answered_under_its_identifier() {
    v5().subscribe(&unique(), QoS::AtLeastOnce);
}

#[test]
fn mqtt_3_8_4_3_and_4_the_same_filter_replaces_and_sends_what_is_retained_again() {
    let (mut client, name) = (v5(), unique());
    v5().say_with(&name, b"kept", QoS::AtLeastOnce, true, Properties::default());
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce] {
        client.subscribe(&name, qos);
        assert_eq!(client.message().payload, b"kept");
    }
    v5().say(&name, b"live", QoS::ExactlyOnce);
    assert_eq!(client.message().qos, QoS::AtLeastOnce);
    client.nothing();
    v5().say_with(&name, b"", QoS::AtLeastOnce, true, Properties::default());
}

#[test]
fn mqtt_3_8_4_5_to_7_and_3_9_3_each_filter_has_its_code_in_its_order() {
    let mut client = v5();
    let (a, b) = (unique(), unique());
    let filters = [
        (&*a, options(QoS::ExactlyOnce)),
        ("a/#/b", options(QoS::AtMostOnce)),
        (&*b, options(QoS::AtMostOnce)),
        ("x+", options(QoS::AtLeastOnce)),
    ];
    let codes = client.subscribe_with(&filters, Properties::default());
    assert_eq!(codes, [ReasonCode::GrantedQoS2, ReasonCode::TopicFilterInvalid, ReasonCode::Success, ReasonCode::TopicFilterInvalid]);
    v5().say(&b, b"x", QoS::AtLeastOnce);
    assert_eq!(client.message().topic, b);
}

#[test]
fn mqtt_3_8_4_8_messages_come_at_the_lower_qos() {
    let mut publisher = v5();
    for granted in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let (mut client, name) = (v5(), unique());
        client.subscribe(&name, granted);
        for published in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
            publisher.say(&name, b"x", published);
            assert_eq!(client.message().qos, published.min(granted));
        }
    }
}

#[test]
fn mqtt_3_10_4_1_and_2_only_the_very_same_filter_ends() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&format!("{name}/+"), QoS::AtMostOnce);
    assert_eq!(unsubscribe(&mut client, &[&format!("{name}/a"), &format!("{name}/#")]), [ReasonCode::NoSubscriptionExisted; 2]);
    v5().say(&format!("{name}/a"), b"x", QoS::AtLeastOnce);
    client.message();
    assert_eq!(unsubscribe(&mut client, &[&format!("{name}/+")]), [ReasonCode::Success]);
    v5().say(&format!("{name}/a"), b"x", QoS::AtLeastOnce);
    client.nothing();
}

#[test]
fn mqtt_3_10_4_3_what_was_begun_is_completed() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&name, QoS::ExactlyOnce);
    v5().say(&name, b"x", QoS::ExactlyOnce);
    let message = client.message();
    unsubscribe(&mut client, &[&name]);
    client.send_ack(AckKind::PubRec, message.packet_id);
    assert_eq!(client.ack().kind, AckKind::PubRel);
    client.send_ack(AckKind::PubComp, message.packet_id);
    client.lives();
}

#[test]
fn mqtt_3_10_4_4_to_6_and_3_11_3_each_filter_of_an_unsubscribe_has_its_code() {
    let (mut client, a, b) = (v5(), unique(), unique());
    client.subscribe(&a, QoS::AtMostOnce);
    client.subscribe(&b, QoS::AtMostOnce);
    assert_eq!(unsubscribe(&mut client, &[&a, "never", &b]), [ReasonCode::Success, ReasonCode::NoSubscriptionExisted, ReasonCode::Success]);
}

#[test]
fn mqtt_4_7_1_1_and_2_wildcards_stand_alone_and_hash_is_last() {
    let mut client = v5();
    for bad in ["a#", "a/#/b", "a+", "+a/b", "a/b+"] {
        assert_eq!(
            client.subscribe_with(&[(bad, options(QoS::AtMostOnce))], Properties::default()),
            [ReasonCode::TopicFilterInvalid],
            "{bad}"
        );
    }
    for good in ["#", "+", "+/+", "/+", "a/+/b", "a/#", "+/#"] {
        let mut client = v5();
        assert_eq!(client.subscribe_with(&[(good, options(QoS::AtMostOnce))], Properties::default()), [ReasonCode::Success], "{good}");
    }
}

#[test]
fn mqtt_4_7_2_1_wildcards_at_the_beginning_do_not_match_dollar_topics() {
    // Of its own, because everything that is published comes to "#".
    let folder = tempfile::tempdir().expect("a folder");
    let broker = hookline_integration_tests::broker::Broker::start(folder.path(), "[sys]\ninterval_secs = 1\n");
    let connect = |id: &str| broker.connect(&hookline_mqtt::client::Options::new(id).version(Version::V5));
    let (mut all, mut asks, mut publisher) = (connect("all"), connect("asks"), connect("p"));
    let at_most_once = QoS::AtMostOnce;
    all.subscribe(&[("#", at_most_once), ("+/+", at_most_once), ("+/brokers", at_most_once)]).expect("subscribed");
    asks.subscribe(&[("$own/#", at_most_once), ("$SYS/brokers", at_most_once)]).expect("subscribed");
    publisher.publish("$own/x", b"x", QoS::AtLeastOnce, false).expect("published");
    for _ in 0..2 {
        assert!(asks.receive(SOON).expect("holds").expect("arrives").topic.starts_with('$'));
    }
    assert_eq!(all.receive(std::time::Duration::from_millis(1500)).expect("holds"), None);
}

#[test]
fn mqtt_4_7_3_1_to_3_names_have_a_character_no_null_and_a_bound() {
    let mut client = v5();
    assert_eq!(client.subscribe_with(&[("", options(QoS::AtMostOnce))], Properties::default()), [ReasonCode::TopicFilterInvalid]);
    client.publish(&Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: false,
        topic: "",
        packet_id: 0,
        properties: Properties::default(),
        payload: b"",
    });
    client.ends_with(ReasonCode::ProtocolError);
    let mut client = v5();
    client.send(&packet(0x82, &[0, 1, 0, 0, 1, 0, 0]));
    client.ends_with(ReasonCode::MalformedPacket);
    let mut client = v5();
    let longest = "x".repeat(65_535);
    client.subscribe(&longest, QoS::AtMostOnce);
    client.say(&longest, b"x", QoS::AtMostOnce);
    assert_eq!(client.message().topic.len(), 65_535);
}

#[test]
fn mqtt_4_7_3_4_names_are_not_normalised() {
    let (mut client, name) = (v5(), unique());
    // The same letter, composed and decomposed.
    client.subscribe(&format!("{name}/\u{e9}"), QoS::AtMostOnce);
    v5().say(&format!("{name}/e\u{301}"), b"other", QoS::AtLeastOnce);
    v5().say(&format!("{name}/\u{e9}"), b"same", QoS::AtLeastOnce);
    assert_eq!(client.message().payload, b"same");
}

#[test]
fn mqtt_4_8_2_1_and_2_a_share_name_is_a_level_of_its_own() {
    let mut client = v5();
    for bad in ["$share//t", "$share/g", "$share/g/", "$share/a+/t", "$share/#/t", "$share"] {
        assert_eq!(
            client.subscribe_with(&[(bad, options(QoS::AtMostOnce))], Properties::default()),
            [ReasonCode::TopicFilterInvalid],
            "{bad}"
        );
    }
}

#[test]
fn mqtt_4_8_2_3_members_get_messages_at_their_qos_and_each_goes_to_one() {
    let name = unique();
    let mut members: Vec<Raw> = (0..2).map(|_| v5()).collect();
    for (member, qos) in members.iter_mut().zip([QoS::AtMostOnce, QoS::AtLeastOnce]) {
        member.subscribe(&format!("$share/g/{name}"), qos);
    }
    let mut publisher = v5();
    for _ in 0..10 {
        publisher.say(&name, b"x", QoS::ExactlyOnce);
    }
    for (member, qos) in members.iter_mut().zip([QoS::AtMostOnce, QoS::AtLeastOnce]) {
        for _ in 0..5 {
            assert_eq!(member.message().qos, qos);
        }
        member.nothing();
    }
}

#[test]
fn mqtt_4_8_2_6_what_a_member_refuses_goes_to_nobody_else() {
    let name = unique();
    let mut members: Vec<Raw> = (0..2).map(|_| v5()).collect();
    members.iter_mut().for_each(|member| member.subscribe(&format!("$share/g/{name}"), QoS::AtLeastOnce));
    v5().say(&name, b"x", QoS::AtLeastOnce);
    let (at, message) = members
        .iter_mut()
        .enumerate()
        .find_map(|(at, member)| match member.next(std::time::Duration::from_millis(500)) {
            Got::Publish(message) => Some((at, message)),
            _ => None,
        })
        .expect("one gets it");
    let mut out = Vec::new();
    hookline_mqtt::packet::Ack::new(AckKind::PubAck, message.packet_id, ReasonCode::UnspecifiedError).encode(&mut out, Version::V5);
    members[at].send(&out);
    members.iter_mut().for_each(Raw::nothing);
}
