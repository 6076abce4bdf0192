use hookline_mqtt::packet::{Publish, Will};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode};

use super::{connect_bytes, connect5, lasting, refused, v5};
use crate::raw::{Raw, options, text, unique, will};

#[test]
fn mqtt_3_2_0_1_and_2_the_one_connack_comes_first() {
    let options = lasting(100);
    let (mut first, _) = Raw::accepted(&options);
    let name = unique();
    first.subscribe(&name, QoS::AtLeastOnce);
    drop(first);
    v5().say(&name, b"x", QoS::AtLeastOnce);
    let mut raw = Raw::open(&options);
    raw.connack();
    assert_eq!(raw.message().topic, name);
    raw.lives();
    raw.nothing();
}

#[test]
fn mqtt_3_2_2_1_the_reserved_bits_of_connack_are_zero() {
    // The decoder refuses everything but 0 and 1.
    drop(Raw::accepted(&connect5()));
}

#[test]
fn mqtt_3_2_2_2_and_3_session_present_says_whether_it_is() {
    let mut options = lasting(100);
    assert!(!Raw::accepted(&options).1.session_present);
    assert!(Raw::accepted(&options).1.session_present);
    options.clean_start = true;
    assert!(!Raw::accepted(&options).1.session_present);
}

#[test]
fn mqtt_3_2_2_6_and_7_a_refusal_has_no_session_and_closes() {
    refused(&connect_bytes(0x03, &text("x")), ReasonCode::MalformedPacket);
    let mut moved = Raw::open_at("tcp.moved", &lasting(10));
    let ack = moved.connack();
    assert_eq!((ack.reason, ack.session_present), (ReasonCode::UseAnotherServer, false));
    assert_eq!(ack.properties.text(PropertyId::ServerReference), Some("other.example:1883"));
    moved.closes();
}

#[test]
fn mqtt_3_2_2_8_an_unserved_authentication_method_is_0x8c() {
    let mut properties = Properties::default();
    properties.push_text(PropertyId::AuthenticationMethod, "UNKNOWN");
    let mut raw = Raw::open(&hookline_mqtt::packet::Connect { properties, ..connect5() });
    assert_eq!(raw.connack().reason, ReasonCode::BadAuthenticationMethod);
    raw.closes();
}

fn poor(options: &hookline_mqtt::packet::Connect) -> (Raw, hookline_mqtt::packet::ConnAck) {
    let mut raw = Raw::open_at("tcp.poor", options);
    let ack = raw.connack();
    (raw, ack)
}

#[test]
fn mqtt_3_2_2_9_what_is_not_served_is_told() {
    let (_, ack) = poor(&connect5());
    let told = |id| ack.properties.number(id);
    assert_eq!((told(PropertyId::MaximumQoS), told(PropertyId::RetainAvailable)), (Some(1), Some(0)));
    assert_eq!((told(PropertyId::WildcardSubscriptionAvailable), told(PropertyId::SharedSubscriptionAvailable)), (Some(0), Some(0)));
}

#[test]
fn mqtt_3_2_2_10_subscriptions_above_the_maximum_qos_are_granted_less() {
    let (mut raw, _) = poor(&connect5());
    let codes = raw.subscribe_with(&[(&unique(), options(QoS::ExactlyOnce))], Properties::default());
    assert_eq!(codes, [ReasonCode::GrantedQoS1]);
    let codes = raw.subscribe_with(&[("a/#", options(QoS::AtMostOnce)), ("$share/g/a", options(QoS::AtMostOnce))], Properties::default());
    assert_eq!(codes, [ReasonCode::WildcardSubscriptionsNotSupported, ReasonCode::SharedSubscriptionsNotSupported]);
}

#[test]
fn mqtt_3_2_2_11_a_publish_above_the_maximum_qos_ends_with_0x9b() {
    let (mut raw, _) = poor(&connect5());
    raw.publish(&Publish {
        dup: false,
        qos: QoS::ExactlyOnce,
        retain: false,
        topic: "t",
        packet_id: 1,
        properties: Properties::default(),
        payload: b"",
    });
    raw.ends_with(ReasonCode::QoSNotSupported);
}

#[test]
fn mqtt_3_2_2_12_a_will_above_the_maximum_qos_is_refused_with_0x9b() {
    let options = hookline_mqtt::packet::Connect { will: Some(Will { qos: QoS::ExactlyOnce, ..will("t") }), ..connect5() };
    assert_eq!(poor(&options).1.reason, ReasonCode::QoSNotSupported);
}

#[test]
fn mqtt_3_2_2_13_a_retained_will_is_refused_with_0x9a() {
    let options = hookline_mqtt::packet::Connect { will: Some(Will { retain: true, ..will("t") }), ..connect5() };
    assert_eq!(poor(&options).1.reason, ReasonCode::RetainNotSupported);
}

#[test]
fn mqtt_3_2_2_14_a_retained_publish_ends_with_0x9a() {
    let (mut raw, _) = poor(&connect5());
    raw.publish(&Publish {
        dup: false,
        qos: QoS::AtMostOnce,
        retain: true,
        topic: "t",
        packet_id: 0,
        properties: Properties::default(),
        payload: b"",
    });
    raw.ends_with(ReasonCode::RetainNotSupported);
}

#[test]
fn mqtt_3_2_2_15_a_packet_above_the_maximum_ends_with_0x95() {
    let (mut raw, ack) = Raw::accepted(&connect5());
    let most = ack.properties.number(PropertyId::MaximumPacketSize).expect("told");
    let mut head = vec![0x30];
    hookline_mqtt::write::varint(&mut head, most as usize);
    raw.send(&head);
    raw.ends_with(ReasonCode::PacketTooLarge);
}

#[test]
fn mqtt_3_2_2_16_an_assigned_identifier_is_new() {
    let options = hookline_mqtt::packet::Connect { client_id: String::new(), ..connect5() };
    let connections: Vec<_> = (0..20).map(|_| Raw::accepted(&options)).collect();
    let mut assigned: Vec<_> =
        connections.iter().filter_map(|(_, ack)| ack.properties.text(PropertyId::AssignedClientIdentifier)).collect();
    assigned.sort_unstable();
    assigned.dedup();
    assert_eq!(assigned.len(), 20);
}

#[test]
fn mqtt_3_2_2_21_the_servers_keep_alive_holds_where_it_is_told() {
    let (mut raw, ack) = poor(&hookline_mqtt::packet::Connect { keep_alive_secs: 0, ..connect5() });
    assert_eq!(ack.properties.number(PropertyId::ServerKeepAlive), Some(1));
    raw.ends_with(ReasonCode::KeepAliveTimeout);
}

#[test]
fn mqtt_3_2_2_22_else_the_clients_keep_alive_holds() {
    let (mut raw, ack) = Raw::accepted(&hookline_mqtt::packet::Connect { keep_alive_secs: 1, ..connect5() });
    assert_eq!(ack.properties.number(PropertyId::ServerKeepAlive), None);
    raw.ends_with(ReasonCode::KeepAliveTimeout);
}
