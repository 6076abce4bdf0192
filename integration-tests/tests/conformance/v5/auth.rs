use aws_lc_rs::{digest, hmac, pbkdf2};
use base64::prelude::{BASE64_STANDARD, Engine};
use hookline_mqtt::packet::{Auth, Connect};
use hookline_mqtt::{Properties, PropertyId, ReasonCode, Version};

use crate::raw::{Got, Raw, SOON, connect};

const METHOD: &str = "SCRAM-SHA-256";

/// A client's side of SCRAM: what it says first, and what it says to the challenge.
struct Scram {
    password: &'static str,
    bare: String,
}

impl Scram {
    fn new(user: &str, password: &'static str) -> Scram {
        Scram { password, bare: format!("n={user},r=clientnonce") }
    }

    fn first(&self) -> String {
        format!("n,,{}", self.bare)
    }

    /// The last message, and what the server must prove itself with.
    fn last(&self, challenge: &str) -> (String, String) {
        let part = |name: &str| challenge.split(',').find_map(|part| part.strip_prefix(name)).expect("it is there").to_owned();
        let (nonce, salt, iterations) = (part("r="), part("s="), part("i="));
        assert!(nonce.starts_with("clientnonce") && nonce.len() > 20);
        let salt = BASE64_STANDARD.decode(salt).expect("base64");
        let mut salted = [0u8; 32];
        let iterations = iterations.parse().expect("a number");
        pbkdf2::derive(pbkdf2::PBKDF2_HMAC_SHA256, iterations, &salt, self.password.as_bytes(), &mut salted);
        let sign = |key: &[u8], data: &[u8]| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data).as_ref().to_vec();
        let client_key = sign(&salted, b"Client Key");
        let stored = digest::digest(&digest::SHA256, &client_key);
        let without_proof = format!("c=biws,r={nonce}");
        let message = format!("{},{challenge},{without_proof}", self.bare);
        let signature = sign(stored.as_ref(), message.as_bytes());
        let proof: Vec<u8> = client_key.iter().zip(&signature).map(|(a, b)| a ^ b).collect();
        let server = sign(&sign(&salted, b"Server Key"), message.as_bytes());
        (format!("{without_proof},p={}", BASE64_STANDARD.encode(proof)), format!("v={}", BASE64_STANDARD.encode(server)))
    }
}

fn properties(method: &str, data: &str) -> Properties {
    let mut properties = Properties::default();
    properties.push_text(PropertyId::AuthenticationMethod, method);
    properties.push_binary(PropertyId::AuthenticationData, data.as_bytes());
    properties
}

fn begin(scram: &Scram) -> Raw {
    Raw::open(&Connect { properties: properties(METHOD, &scram.first()), ..connect(Version::V5) })
}

fn say(raw: &mut Raw, reason: ReasonCode, method: &str, data: &str) {
    let mut out = Vec::new();
    Auth { reason, properties: properties(method, data) }.encode(&mut out);
    raw.send(&out);
}

/// The data of an AUTH that asks to go on.
fn challenge(raw: &mut Raw) -> String {
    match raw.next(SOON) {
        Got::Auth(ReasonCode::ContinueAuthentication, properties) => {
            assert_eq!(properties.text(PropertyId::AuthenticationMethod), Some(METHOD));
            String::from_utf8(properties.binary(PropertyId::AuthenticationData).expect("data").to_vec()).expect("text")
        }
        other => panic!("no AUTH: {other:?}"),
    }
}

/// A client that has authenticated.
fn authenticated() -> Raw {
    let scram = Scram::new("user", "pencil");
    let mut raw = begin(&scram);
    let (last, server) = scram.last(&challenge(&mut raw));
    say(&mut raw, ReasonCode::ContinueAuthentication, METHOD, &last);
    let ack = raw.connack();
    assert_eq!(ack.reason, ReasonCode::Success);
    assert_eq!(ack.properties.text(PropertyId::AuthenticationMethod), Some(METHOD));
    assert_eq!(ack.properties.binary(PropertyId::AuthenticationData), Some(server.as_bytes()), "the server proves itself, too");
    raw
}

#[test]
fn mqtt_4_12_0_1_an_unserved_method_closes_the_connection() {
    let mut raw = Raw::open(&Connect { properties: properties("GS2-KRB5", ""), ..connect(Version::V5) });
    assert_eq!(raw.connack().reason, ReasonCode::BadAuthenticationMethod);
    raw.closes();
}

#[test]
fn mqtt_4_12_0_2_to_5_and_3_15_2_1_the_exchange_goes_on_in_auth_packets_of_one_method() {
    authenticated().lives();
    let scram = Scram::new("user", "pencil");
    for (reason, method) in [(ReasonCode::ReAuthenticate, METHOD), (ReasonCode::ContinueAuthentication, "SCRAM-SHA-512")] {
        let mut raw = begin(&scram);
        let (last, _) = scram.last(&challenge(&mut raw));
        say(&mut raw, reason, method, &last);
        assert_eq!(raw.connack().reason, ReasonCode::ProtocolError);
        raw.closes();
    }
}

#[test]
fn mqtt_3_1_2_30_nothing_but_auth_may_come_before_the_connack() {
    let mut raw = begin(&Scram::new("user", "pencil"));
    challenge(&mut raw);
    raw.send(&hookline_mqtt::packet::PINGREQ);
    assert_eq!(raw.connack().reason, ReasonCode::ProtocolError);
    raw.closes();
}

#[test]
fn mqtt_4_12_0_4_who_cannot_prove_it_is_refused() {
    for (user, password) in [("user", "pencil2"), ("nobody", "pencil")] {
        let scram = Scram::new(user, password);
        let mut raw = begin(&scram);
        let (last, _) = scram.last(&challenge(&mut raw));
        say(&mut raw, ReasonCode::ContinueAuthentication, METHOD, &last);
        assert_eq!(raw.connack().reason, ReasonCode::NotAuthorized);
        raw.closes();
    }
}

#[test]
fn mqtt_4_12_0_4_a_name_that_can_be_proven_cannot_just_be_said() {
    let mut raw = Raw::open(&Connect { username: Some("user".into()), password: Some(b"pencil".to_vec()), ..connect(Version::V5) });
    assert_eq!(raw.connack().reason, ReasonCode::NotAuthorized);
    raw.closes();
}

#[test]
fn mqtt_4_12_0_6_and_7_without_a_method_there_is_no_auth() {
    let mut raw = Raw::new(Version::V5);
    raw.nothing();
    say(&mut raw, ReasonCode::ReAuthenticate, METHOD, "n,,n=user,r=x");
    raw.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_4_12_1_1_a_client_may_authenticate_again_by_its_method() {
    let mut raw = authenticated();
    let scram = Scram::new("user", "pencil");
    say(&mut raw, ReasonCode::ReAuthenticate, METHOD, &scram.first());
    let (last, server) = scram.last(&challenge(&mut raw));
    raw.lives();
    say(&mut raw, ReasonCode::ContinueAuthentication, METHOD, &last);
    match raw.next(SOON) {
        Got::Auth(ReasonCode::Success, properties) => {
            assert_eq!(properties.binary(PropertyId::AuthenticationData), Some(server.as_bytes()))
        }
        other => panic!("no AUTH: {other:?}"),
    }
    raw.lives();
    say(&mut raw, ReasonCode::ReAuthenticate, "SCRAM-SHA-512", "");
    raw.ends_with(ReasonCode::ProtocolError);
}

#[test]
fn mqtt_4_12_1_2_who_fails_to_is_disconnected() {
    let mut raw = authenticated();
    let scram = Scram::new("user", "wrong");
    say(&mut raw, ReasonCode::ReAuthenticate, METHOD, &scram.first());
    let (last, _) = scram.last(&challenge(&mut raw));
    say(&mut raw, ReasonCode::ContinueAuthentication, METHOD, &last);
    raw.ends_with(ReasonCode::NotAuthorized);
}
