use std::time::Duration;

use hookline_mqtt::packet::{Publish, Will};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode};

use super::{answer, connect_bytes, connect5, lasting, refused, v5, waits_for};
use crate::raw::{Got, NOT, Raw, SOON, numbers, packet, text, unique, will};

#[test]
fn mqtt_3_1_0_1_the_first_packet_must_be_a_connect() {
    for bytes in [&[0xC0, 0][..], &[0x30, 4, 0, 1, b't', 0], &[0xE0, 0], b"GET / HTTP/1.1\r\n\r\n"] {
        let (_, got) = answer(bytes);
        assert_eq!(got, Got::Closed);
    }
}

#[test]
fn mqtt_3_1_0_2_a_second_connect_is_a_protocol_error() {
    let mut client = v5();
    let mut out = Vec::new();
    connect5().encode(&mut out);
    client.send(&out);
    client.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_3_1_2_1_another_protocol_name_is_refused() {
    let (mut raw, got) = answer(&packet(0x10, &[&text("MQTX")[..], &[5, 2, 0, 60, 0, 0, 0]].concat()));
    assert!(matches!(got, Got::Closed | Got::ConnAck(_)));
    if got != Got::Closed {
        raw.closes();
    }
}

#[test]
fn mqtt_3_1_2_2_another_version_is_refused_with_0x84() {
    refused(&packet(0x10, &[&text("MQTT")[..], &[6, 2, 0, 60, 0, 0, 0]].concat()), ReasonCode::UnsupportedProtocolVersion);
}

#[test]
fn mqtt_3_1_2_3_the_reserved_flag_must_be_zero() {
    refused(&connect_bytes(0x03, &text("x")), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_2_4_a_clean_start_discards_the_session() {
    let mut options = lasting(100);
    let (mut first, _) = Raw::accepted(&options);
    let name = unique();
    first.subscribe(&name, QoS::AtLeastOnce);
    first.leave();
    v5().say(&name, b"x", QoS::AtLeastOnce);
    options.clean_start = true;
    let (mut again, ack) = Raw::accepted(&options);
    assert!(!ack.session_present);
    again.nothing();
    v5().say(&name, b"x", QoS::AtLeastOnce);
    again.nothing();
}

#[test]
fn mqtt_3_1_2_5_a_session_goes_on_without_clean_start() {
    let options = lasting(100);
    let (mut first, _) = Raw::accepted(&options);
    let name = unique();
    first.subscribe(&name, QoS::AtLeastOnce);
    first.leave();
    v5().say(&name, b"x", QoS::AtLeastOnce);
    let (mut again, ack) = Raw::accepted(&options);
    assert!(ack.session_present);
    assert_eq!(again.message().topic, name);
}

#[test]
fn mqtt_3_1_2_6_without_a_session_a_new_one_is_made() {
    let (mut client, ack) = Raw::accepted(&lasting(100));
    assert!(!ack.session_present);
    client.lives();
}

#[test]
fn mqtt_3_1_2_7_a_will_is_kept_and_3_1_2_8_published_when_the_connection_breaks() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let (client, _) = Raw::accepted(&hookline_mqtt::packet::Connect { will: Some(will(&name)), ..connect5() });
    watcher.nothing();
    drop(client);
    assert_eq!(watcher.message().payload, b"will");
}

#[test]
fn mqtt_3_1_2_8_a_will_is_published_after_a_protocol_error_too() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let (mut client, _) = Raw::accepted(&hookline_mqtt::packet::Connect { will: Some(will(&name)), ..connect5() });
    client.send(&[0x20, 2, 0, 0]);
    assert_eq!(watcher.message().payload, b"will");
}

#[test]
fn mqtt_3_1_2_9_a_will_needs_its_fields() {
    // The will flag, and a payload that ends behind the client identifier.
    refused(&connect_bytes(0x06, &text("x")), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_2_10_a_will_is_gone_after_a_disconnect() {
    let name = unique();
    let mut watcher = waits_for(&name);
    Raw::accepted(&hookline_mqtt::packet::Connect { will: Some(will(&name)), ..connect5() }).0.leave();
    watcher.nothing();
}

#[test]
fn mqtt_3_1_2_11_without_a_will_its_qos_must_be_zero() {
    refused(&connect_bytes(0x0A, &text("x")), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_2_12_a_will_of_qos_3_is_malformed() {
    refused(&connect_bytes(0x1E, &[&text("x")[..], &[0], &text("t"), &text("p")].concat()), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_2_13_without_a_will_its_retain_must_be_zero() {
    refused(&connect_bytes(0x22, &text("x")), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_2_14_and_15_a_will_is_retained_or_not_as_it_says() {
    for retain in [false, true] {
        let name = unique();
        let mut watcher = waits_for(&name);
        let options = hookline_mqtt::packet::Connect { will: Some(Will { retain, ..will(&name) }), ..connect5() };
        drop(Raw::accepted(&options));
        watcher.message();
        let mut later = v5();
        later.subscribe(&name, QoS::AtMostOnce);
        match later.next(if retain { SOON } else { NOT }) {
            Got::Publish(message) => assert!(retain && message.retain),
            other => assert_eq!((retain, other), (false, Got::Silence)),
        }
        v5().say_with(&name, b"", QoS::AtLeastOnce, true, Properties::default());
    }
}

#[test]
fn mqtt_3_1_2_16_to_19_the_login_flags_say_what_comes() {
    // User name flag without a user name, password flag without a password.
    refused(&connect_bytes(0x82, &text("x")), ReasonCode::MalformedPacket);
    refused(&connect_bytes(0x42, &text("x")), ReasonCode::MalformedPacket);
    // More than the flags say.
    refused(&connect_bytes(0x02, &[text("x"), text("somebody")].concat()), ReasonCode::MalformedPacket);
    let options = hookline_mqtt::packet::Connect { username: Some("u".into()), password: Some(b"p".to_vec()), ..connect5() };
    Raw::accepted(&options).0.lives();
}

#[test]
fn mqtt_3_1_2_22_who_is_silent_for_one_and_a_half_keep_alives_is_closed() {
    let (mut client, _) = Raw::accepted(&hookline_mqtt::packet::Connect { keep_alive_secs: 1, ..connect5() });
    assert_eq!(client.next(Duration::from_millis(1200)), Got::Silence);
    client.ends_with(ReasonCode::KeepAliveTimeout);
}

#[test]
fn mqtt_3_1_2_23_a_session_with_an_expiry_is_kept_after_the_connection() {
    let options = lasting(100);
    drop(Raw::accepted(&options));
    assert!(Raw::accepted(&options).1.session_present);
}

#[test]
fn mqtt_3_1_2_24_and_25_larger_packets_than_the_client_takes_are_not_sent() {
    let options = hookline_mqtt::packet::Connect { properties: numbers(&[(PropertyId::MaximumPacketSize, 100)]), ..connect5() };
    let (mut client, _) = Raw::accepted(&options);
    let name = unique();
    client.subscribe(&name, QoS::AtLeastOnce);
    let mut publisher = v5();
    publisher.say(&name, &[0; 200], QoS::AtLeastOnce);
    publisher.say(&name, b"small", QoS::AtLeastOnce);
    assert_eq!(client.message().payload, b"small", "as if the large one had been sent");
}

#[test]
fn mqtt_3_1_2_26_and_27_topic_aliases_are_used_as_far_as_the_client_allows() {
    for (most, topics) in [(0, 3), (2, 4)] {
        let options = hookline_mqtt::packet::Connect { properties: numbers(&[(PropertyId::TopicAliasMaximum, most)]), ..connect5() };
        let (mut client, _) = Raw::accepted(&options);
        let name = unique();
        client.subscribe(&format!("{name}/#"), QoS::AtMostOnce);
        let mut publisher = v5();
        let mut known = std::collections::HashMap::new();
        for n in 0..2 * topics {
            let topic = format!("{name}/{}", n % topics);
            publisher.say(&topic, b"x", QoS::AtLeastOnce);
            let message = client.message();
            let alias = message.properties.number(PropertyId::TopicAlias);
            assert!(alias.is_none_or(|alias| alias >= 1 && alias <= most), "{alias:?} of {most}");
            if let Some(alias) = alias.filter(|_| !message.topic.is_empty()) {
                known.insert(alias, message.topic.clone());
            }
            let meant = if message.topic.is_empty() { known[&alias.expect("an alias stands for it")].clone() } else { message.topic };
            assert_eq!(meant, topic);
        }
        assert_eq!(known.len(), most as usize);
    }
}

#[test]
fn mqtt_3_1_2_28_response_information_is_for_who_asks() {
    for (asked, expect) in [(None, None), (Some(0), None), (Some(1), Some("answers/"))] {
        let properties = asked.map_or_else(Properties::default, |asked| numbers(&[(PropertyId::RequestResponseInformation, asked)]));
        let (_, ack) = Raw::accepted(&hookline_mqtt::packet::Connect { properties, ..connect5() });
        assert_eq!(ack.properties.text(PropertyId::ResponseInformation), expect);
    }
}

#[test]
fn mqtt_3_1_2_29_without_problem_information_there_are_codes_only() {
    for (asked, told) in [(0, false), (1, true)] {
        let properties = numbers(&[(PropertyId::RequestProblemInformation, asked)]);
        let (mut client, _) = Raw::accepted(&hookline_mqtt::packet::Connect { properties, ..connect5() });
        client.publish(&Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: "$SYS/x",
            packet_id: 5,
            properties: Properties::default(),
            payload: b"",
        });
        assert!(client.ack().properties.is_empty());
        client.send(&[0xD0, 0]);
        match client.next(SOON) {
            Got::Disconnect(_, properties) => assert_eq!(properties.text(PropertyId::ReasonString).is_some(), told),
            other => panic!("no DISCONNECT: {other:?}"),
        }
    }
}

#[test]
fn mqtt_3_1_3_1_the_payload_has_its_order() {
    let payload = [text("order"), vec![0], text(&unique()), text("payload"), text("somebody"), text("password")].concat();
    let (mut raw, got) = answer(&connect_bytes(0xC6, &payload));
    assert!(matches!(got, Got::ConnAck(ack) if ack.reason == ReasonCode::Success));
    raw.lives();
}

#[test]
fn mqtt_3_1_3_2_and_3_the_identifier_names_the_session() {
    let options = lasting(100);
    drop(Raw::accepted(&options));
    assert!(!Raw::accepted(&lasting(100)).1.session_present, "another identifier, another session");
    assert!(Raw::accepted(&options).1.session_present);
}

#[test]
fn mqtt_3_1_3_4_the_identifier_must_be_utf_8() {
    refused(&connect_bytes(0x02, &[0, 2, 0xC3, 0x28]), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_3_5_identifiers_of_1_to_23_letters_and_digits_are_taken() {
    for id in ["0", "abcdefghijklmnopqrstuvw", "ABCDEFGHIJKLMNOPQRSTUVW", "01234567890xyzXYZ"] {
        Raw::accepted(&hookline_mqtt::packet::Connect { client_id: id.into(), ..connect5() }).0.leave();
    }
}

#[test]
fn mqtt_3_1_3_6_and_7_an_empty_identifier_is_replaced_and_told() {
    let options = hookline_mqtt::packet::Connect { client_id: String::new(), ..connect5() };
    let ((_first, one), (_second, two)) = (Raw::accepted(&options), Raw::accepted(&options));
    let assigned = |ack: &hookline_mqtt::packet::ConnAck| ack.properties.text(PropertyId::AssignedClientIdentifier).map(str::to_owned);
    assert!(assigned(&one).is_some_and(|id| !id.is_empty()) && assigned(&one) != assigned(&two));
}

#[test]
fn mqtt_3_1_3_9_who_is_back_before_the_will_delay_is_over_has_no_will_published() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let properties = numbers(&[(PropertyId::WillDelayInterval, 1)]);
    let options = hookline_mqtt::packet::Connect { will: Some(Will { properties, ..will(&name) }), ..lasting(100) };
    drop(Raw::accepted(&options));
    let (back, _) = Raw::accepted(&options);
    assert_eq!(watcher.next(Duration::from_millis(1500)), Got::Silence);
    drop(back);
    assert_eq!(watcher.next(Duration::from_millis(500)), Got::Silence, "not before the delay");
    assert_eq!(watcher.message().payload, b"will");
}

#[test]
fn mqtt_3_1_3_10_user_properties_of_a_will_keep_their_order() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let mut properties = Properties::default();
    let pairs = [("b", "2"), ("a", "1"), ("b", "3")];
    pairs.iter().for_each(|(key, value)| properties.push_user(key, value));
    drop(Raw::accepted(&hookline_mqtt::packet::Connect { will: Some(Will { properties, ..will(&name) }), ..connect5() }));
    assert_eq!(watcher.message().properties.user().collect::<Vec<_>>(), pairs);
}

#[test]
fn mqtt_3_1_3_11_and_12_will_topic_and_user_name_must_be_utf_8() {
    let broken = [0, 2, 0xC3, 0x28];
    refused(&connect_bytes(0x06, &[&text("x")[..], &[0], &broken, &text("p")].concat()), ReasonCode::MalformedPacket);
    refused(&connect_bytes(0x82, &[&text("x")[..], &broken].concat()), ReasonCode::MalformedPacket);
}

#[test]
fn mqtt_3_1_4_1_a_connect_that_is_not_as_specified_is_refused() {
    refused(&packet(0x10, &[&text("MQTT")[..], &[5, 2]].concat()), ReasonCode::MalformedPacket);
    // A receive maximum of zero, and authentication data without a method.
    for properties in [&[3, 33, 0, 0][..], &[4, 22, 0, 1, b'd']] {
        refused(&packet(0x10, &[&text("MQTT")[..], &[5, 2, 0, 60], properties, &text("x")].concat()), ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt_3_1_4_3_an_older_connection_of_the_client_ends_with_0x8e() {
    let options = connect5();
    let (mut older, _) = Raw::accepted(&options);
    let (mut newer, _) = Raw::accepted(&options);
    older.ends_with(ReasonCode::SessionTakenOver);
    newer.lives();
}

#[test]
fn mqtt_3_1_4_5_a_valid_connect_is_answered_with_connack_0() {
    let (_, ack) = Raw::accepted(&connect5());
    assert_eq!(ack.reason, ReasonCode::Success);
}

#[test]
fn mqtt_3_1_4_6_nothing_behind_a_refused_connect_is_processed() {
    let name = unique();
    let mut watcher = waits_for(&name);
    let mut bytes = connect_bytes(0x03, &text("x"));
    bytes.extend(packet(0x30, &[&text(&name)[..], &[0], b"x"].concat()));
    let (_, got) = answer(&bytes);
    assert!(!matches!(got, Got::ConnAck(ack) if ack.reason == ReasonCode::Success));
    watcher.nothing();
}
