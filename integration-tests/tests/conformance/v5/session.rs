use std::time::Duration;

use hookline_mqtt::packet::{Ack, AckKind, Connect, Publish};
use hookline_mqtt::{Properties, PropertyId, QoS, ReasonCode, Version};

use crate::raw::{BROKER, Got, Raw, connect, numbers, unique};

fn v5() -> Raw {
    Raw::new(Version::V5)
}

/// A CONNECT whose session lives on for `secs`.
fn lasting(secs: u32) -> Connect {
    Connect { properties: numbers(&[(PropertyId::SessionExpiryInterval, secs)]), clean_start: false, ..connect(Version::V5) }
}

#[test]
fn mqtt_4_1_0_1_a_session_lives_at_least_as_long_as_its_connection() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&name, QoS::AtLeastOnce);
    std::thread::sleep(Duration::from_millis(300));
    v5().say(&name, b"x", QoS::AtLeastOnce);
    client.message();
}

#[test]
fn mqtt_4_1_0_2_a_session_ends_when_its_expiry_is_over() {
    let options = lasting(1);
    drop(Raw::accepted(&options));
    assert!(Raw::accepted(&options).1.session_present);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(!Raw::accepted(&options).1.session_present);
}

#[test]
fn mqtt_4_4_0_1_what_was_not_acknowledged_comes_again_under_its_identifier_after_a_reconnect() {
    let options = lasting(100);
    let (mut client, _) = Raw::accepted(&options);
    let name = unique();
    client.subscribe(&name, QoS::ExactlyOnce);
    let mut publisher = v5();
    publisher.say(&name, b"one", QoS::AtLeastOnce);
    publisher.say(&name, b"two", QoS::ExactlyOnce);
    let sent = [client.message(), client.message()];
    client.send_ack(AckKind::PubRec, sent[1].packet_id);
    client.ack();
    assert_eq!(client.next(Duration::from_millis(500)), Got::Silence, "never on the same connection");
    drop(client);
    let (mut client, _) = Raw::accepted(&options);
    let again = client.message();
    assert_eq!((again.packet_id, again.dup, &*again.payload), (sent[0].packet_id, true, &b"one"[..]));
    let release = client.ack();
    assert_eq!((release.kind, release.packet_id), (AckKind::PubRel, sent[1].packet_id));
}

#[test]
fn mqtt_4_4_0_2_an_acknowledgement_with_an_error_is_one() {
    let options = lasting(100);
    let (mut client, _) = Raw::accepted(&options);
    let name = unique();
    client.subscribe(&name, QoS::AtLeastOnce);
    v5().say(&name, b"x", QoS::AtLeastOnce);
    let mut out = Vec::new();
    Ack::new(AckKind::PubAck, client.message().packet_id, ReasonCode::UnspecifiedError).encode(&mut out, Version::V5);
    client.send(&out);
    client.lives();
    drop(client);
    Raw::accepted(&options).0.nothing();
}

#[test]
fn mqtt_4_5_0_1_a_message_is_added_to_every_session_that_wants_it() {
    let away = lasting(100);
    let (mut client, name) = (Raw::accepted(&away).0, unique());
    client.subscribe(&name, QoS::AtLeastOnce);
    drop(client);
    let mut here = v5();
    here.subscribe(&name, QoS::AtMostOnce);
    v5().say(&name, b"x", QoS::AtLeastOnce);
    here.message();
    Raw::accepted(&away).0.message();
}

#[test]
fn mqtt_4_6_0_1_what_comes_again_comes_in_its_order() {
    let options = lasting(100);
    let (mut client, _) = Raw::accepted(&options);
    let name = unique();
    client.subscribe(&name, QoS::AtLeastOnce);
    let mut publisher = v5();
    for n in 0..10u8 {
        publisher.say(&name, &[n], QoS::AtLeastOnce);
    }
    for n in 0..10 {
        assert_eq!(client.message().payload, [n]);
    }
    drop(client);
    let (mut client, _) = Raw::accepted(&options);
    for n in 0..10 {
        assert_eq!(client.message().payload, [n]);
    }
}

#[test]
fn mqtt_4_6_0_2_to_4_acknowledgements_come_in_the_order_of_the_messages() {
    let mut client = v5();
    // Some of them wait for the store, some do not.
    let away = lasting(100);
    let (mut keeper, name) = (Raw::accepted(&away).0, unique());
    keeper.subscribe(&name, QoS::AtLeastOnce);
    drop(keeper);
    let send = |client: &mut Raw, qos, first: u16| {
        for n in 0..20u16 {
            let topic = if n % 3 == 0 { &*name } else { "nobody" };
            client.publish(&Publish {
                dup: false,
                qos,
                retain: false,
                topic,
                packet_id: first + n,
                properties: Properties::default(),
                payload: b"",
            });
        }
    };
    send(&mut client, QoS::AtLeastOnce, 100);
    for n in 0..20 {
        let ack = client.ack();
        assert_eq!((ack.kind, ack.packet_id), (AckKind::PubAck, 100 + n));
    }
    send(&mut client, QoS::ExactlyOnce, 200);
    for n in 0..20 {
        let ack = client.ack();
        assert_eq!((ack.kind, ack.packet_id), (AckKind::PubRec, 200 + n));
    }
}

#[test]
fn mqtt_4_6_0_4_pubrels_come_in_the_order_of_the_pubrecs() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&name, QoS::ExactlyOnce);
    let mut publisher = v5();
    for _ in 0..5 {
        publisher.say(&name, b"x", QoS::ExactlyOnce);
    }
    let identifiers: Vec<u16> = (0..5).map(|_| client.message().packet_id).collect();
    let order: Vec<u16> = [3, 1, 4, 0, 2].iter().map(|at| identifiers[*at]).collect();
    order.iter().for_each(|id| client.send_ack(AckKind::PubRec, *id));
    for id in order {
        assert_eq!(client.ack().packet_id, id);
    }
}

#[test]
fn mqtt_4_6_0_5_and_6_each_topic_is_ordered() {
    let (mut client, name) = (v5(), unique());
    client.subscribe(&name, QoS::ExactlyOnce);
    let mut publisher = v5();
    for n in 0..100u8 {
        publisher.publish(&Publish {
            dup: false,
            qos: QoS::AtLeastOnce,
            retain: false,
            topic: &name,
            packet_id: u16::from(n) + 1,
            properties: Properties::default(),
            payload: &[n],
        });
        if n % 50 == 49 {
            (0..50).for_each(|_| drop(publisher.ack()));
        }
    }
    for n in 0..100 {
        let message = client.message();
        assert_eq!(message.payload, [n]);
        client.send_ack(AckKind::PubAck, message.packet_id);
    }
}

/// Two members of a group, one of them with a session that lives on, and a message of QoS 2 that it has begun to take.
fn begun(secs: u32, name: &str) -> (Connect, Raw, u16) {
    let options = lasting(secs);
    let (mut member, _) = Raw::accepted(&options);
    member.subscribe(&format!("$share/g/{name}"), QoS::ExactlyOnce);
    v5().say(name, b"x", QoS::ExactlyOnce);
    let message = member.message();
    let mut other = v5();
    other.subscribe(&format!("$share/g/{name}"), QoS::ExactlyOnce);
    member.send_ack(AckKind::PubRec, message.packet_id);
    member.ack();
    drop(member);
    (options, other, message.packet_id)
}

#[test]
fn mqtt_4_8_2_4_qos_2_to_a_member_is_completed_when_it_is_back() {
    let name = unique();
    let (options, mut other, packet_id) = begun(100, &name);
    other.nothing();
    let (mut member, ack) = Raw::accepted(&options);
    assert!(ack.session_present);
    let release = member.ack();
    assert_eq!((release.kind, release.packet_id), (AckKind::PubRel, packet_id));
}

#[test]
fn mqtt_4_8_2_5_qos_2_to_a_member_whose_session_has_ended_goes_to_nobody_else() {
    let name = unique();
    let (_, mut other, _) = begun(1, &name);
    assert_eq!(other.next(Duration::from_millis(1800)), Got::Silence);
}

#[test]
fn mqtt_4_9_0_1_to_3_the_quota_is_the_receive_maximum_and_acks_raise_it() {
    let (mut client, _) = Raw::accepted(&Connect { properties: numbers(&[(PropertyId::ReceiveMaximum, 1)]), ..connect(Version::V5) });
    let name = unique();
    client.subscribe(&name, QoS::ExactlyOnce);
    let mut publisher = v5();
    publisher.say(&name, b"1", QoS::AtLeastOnce);
    publisher.say(&name, b"2", QoS::ExactlyOnce);
    publisher.say(&name, b"3", QoS::AtLeastOnce);
    publisher.say(&name, b"0", QoS::AtMostOnce);
    let first = client.message();
    assert_eq!(first.payload, b"1");
    assert_eq!(client.message().payload, b"0", "QoS 0 needs no quota");
    client.nothing();
    // An acknowledgement of nothing raises nothing.
    client.send_ack(AckKind::PubAck, first.packet_id + 100);
    client.nothing();
    client.send_ack(AckKind::PubAck, first.packet_id);
    let second = client.message();
    let mut out = Vec::new();
    Ack::new(AckKind::PubRec, second.packet_id, ReasonCode::QuotaExceeded).encode(&mut out, Version::V5);
    client.send(&out);
    assert_eq!(client.message().payload, b"3");
}

#[test]
fn mqtt_4_13_1_1_malformed_packets_and_protocol_errors_end_the_connection() {
    let mut client = v5();
    client.send(&[0x00, 0]);
    client.ends_with(ReasonCode::MalformedPacket);
    for first in [0x20, 0x90, 0xB0, 0xD0] {
        let mut client = v5();
        client.send(&match first {
            0x20 => vec![0x20, 3, 0, 0, 0],
            0xD0 => vec![0xD0, 0],
            first => vec![first, 4, 0, 1, 0, 0],
        });
        client.ends_with(ReasonCode::ProtocolError);
    }
}

#[test]
fn mqtt_6_0_0_1_to_4_over_websocket() {
    use std::net::TcpStream;
    let address = BROKER.address_of("ws.default");
    let open = |protocol: Option<&str>| {
        let request = tungstenite::http::Request::builder().uri(format!("ws://{address}/mqtt"));
        let fixed = [
            ("Host", "h"),
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let request = fixed.iter().fold(request, |request, (name, value)| request.header(*name, *value));
        let request = protocol.into_iter().fold(request, |request, name| request.header("Sec-WebSocket-Protocol", name));
        tungstenite::client(request.body(()).expect("a request"), TcpStream::connect(address).expect("connects")).ok()
    };
    assert!(open(None).is_none(), "the subprotocol must be asked for");
    let (mut socket, answer) = open(Some("mqtt")).expect("upgraded");
    assert_eq!(answer.headers()["sec-websocket-protocol"], "mqtt");
    let mut bytes = Vec::new();
    connect(Version::V5).encode(&mut bytes);
    let (one, two) = bytes.split_at(7);
    for part in [one, two] {
        socket.send(tungstenite::Message::binary(part.to_vec())).expect("sent");
    }
    assert!(matches!(socket.read().expect("answered"), tungstenite::Message::Binary(bytes) if bytes[0] == 0x20));
    socket.send(tungstenite::Message::text("no MQTT")).expect("sent");
    let ended =
        std::iter::from_fn(|| Some(socket.read())).take(5).any(|read| read.is_err() || matches!(read, Ok(tungstenite::Message::Close(_))));
    assert!(ended);
}
