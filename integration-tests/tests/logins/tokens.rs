//! Tokens: signed by a secret, by a published key; what they allow, and when they end.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, RSA_PKCS1_SHA256};
use aws_lc_rs::{hmac, rand, rsa};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_mqtt::ReasonCode;
use hookline_mqtt::client::{Client, Error};
use serde_json::{Value as Json, json};

use super::{may_publish, may_subscribe, options};

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

fn encoded(json: &Json) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn signed_by_secret(claims: &Json) -> String {
    let text = format!("{}.{}", encoded(&json!({"alg": "HS256", "typ": "JWT"})), encoded(claims));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, b"shared secret"), text.as_bytes());
    format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag))
}

fn refusal(broker: &Broker, username: &str, token: &str) -> Option<ReasonCode> {
    match Client::connect(broker.address(), &options("device", username, token)) {
        Ok(_) => None,
        Err(Error::Refused(reason)) => Some(reason),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_token_lets_in_says_what_is_allowed_and_ends_the_connection_with_it() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[mqtt]\nallow_anonymous = false\n[[authentication]]\nname = \"tokens\"\ntype = \"jwt\"\n\
                  jwt = { secret = \"shared secret\", verify_claims = { sub = \"${username}\" }, attributes = [\"site\"] }\n\
                  [[authorization.sources]]\nname = \"sites\"\nrules = [{ permission = \"allow\", topics = [\"sites/${client_attrs.site}/#\"] }]";
    let broker = Broker::start(folder.path(), config);
    let acl = json!([{"permission": "allow", "action": "publish", "topic": "up/${clientid}"}]);
    let claims = json!({"sub": "alice", "exp": now() + 3600, "site": "north", "acl": acl});
    let token = signed_by_secret(&claims);
    let mut client = Client::connect(broker.address(), &options("device", "alice", &token)).expect("a good token");
    assert!(may_publish(&mut client, "up/device") && may_subscribe(&mut client, "sites/north/x"));
    assert!(!may_publish(&mut client, "up/other") && !may_subscribe(&mut client, "sites/south/x"));
    drop(client);
    let wrong = Some(ReasonCode::BadUserNameOrPassword);
    assert_eq!(refusal(&broker, "bob", &token), wrong, "another's token");
    assert_eq!(refusal(&broker, "alice", &format!("{}x", &token[..token.len() - 1])), wrong, "another signature");
    assert_eq!(refusal(&broker, "alice", "no token"), Some(ReasonCode::NotAuthorized));
    assert_eq!(refusal(&broker, "alice", &signed_by_secret(&json!({"sub": "alice", "exp": now() - 5}))), wrong, "over");
    let unsigned = format!("{}.{}.", encoded(&json!({"alg": "none"})), encoded(&claims));
    assert!(refusal(&broker, "alice", &unsigned).is_some(), "no signature at all");
    let brief = signed_by_secret(&json!({"sub": "alice", "exp": now() + 2}));
    let mut client = Client::connect(broker.address(), &options("brief", "alice", &brief)).expect("still good");
    let ended = client.receive(Duration::from_secs(10));
    assert!(matches!(ended, Err(Error::Closed(ReasonCode::NotAuthorized))), "{ended:?}");
    assert!(broker.stop().success());
}

#[test]
fn attributes_come_from_what_a_token_says_by_expressions() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = "[mqtt]\nallow_anonymous = false\n\
                  [client_attributes]\nsite = \"lower(claims.org.site)\"\nbrand = \"nth(1, tokens(clientid, '-'))\"\n\
                  [[authentication]]\nname = \"tokens\"\ntype = \"jwt\"\njwt = { secret = \"shared secret\" }\n\
                  [[authorization.sources]]\nname = \"sites\"\n\
                  rules = [{ permission = \"allow\", topics = [\"${client_attrs.site}/${client_attrs.brand}/#\"] }]";
    let broker = Broker::start(folder.path(), config);
    let token = signed_by_secret(&json!({"exp": now() + 60, "org": {"site": "NORTH"}}));
    let mut client = Client::connect(broker.address(), &options("acme-1", "alice", &token)).expect("a good token");
    assert!(
        may_publish(&mut client, "north/acme/x") && !may_publish(&mut client, "NORTH/acme/x") && !may_publish(&mut client, "south/acme/x")
    );
    let token = signed_by_secret(&json!({"exp": now() + 60, "org": "none"}));
    let mut client = Client::connect(broker.address(), &options("acme-2", "alice", &token)).expect("a good token");
    assert!(!may_publish(&mut client, "/acme/x") && !may_publish(&mut client, "north/acme/x"));
    assert!(broker.stop().success());
}

#[test]
fn published_keys_are_fetched_and_a_new_one_is_found() {
    let random = rand::SystemRandom::new();
    let pair = || {
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).expect("a key");
        EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref()).expect("a key")
    };
    let published = |key: &EcdsaKeyPair, id: &str| {
        // The uncompressed point: 4, then x and y.
        let point = key.public_key().as_ref();
        let (x, y) = (URL_SAFE_NO_PAD.encode(&point[1..33]), URL_SAFE_NO_PAD.encode(&point[33..65]));
        json!({"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": id, "x": x, "y": y})
    };
    let (one, two) = (pair(), pair());
    let keys = std::sync::Arc::new(std::sync::Mutex::new(vec![published(&one, "one")]));
    let shown = std::sync::Arc::clone(&keys);
    let server = Webhook::start(move |request| {
        assert_eq!(request.target, "/jwks.json");
        Reply::Answer(200, "", json!({"keys": *shown.lock().expect("lock")}).to_string())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        "[mqtt]\nallow_anonymous = false\n[connectors.keys]\ntype = \"http\"\nurl = \"http://{}\"\n[[authentication]]\nname = \"tokens\"\ntype = \"jwt\"\n\
         jwt = {{ jwks = {{ connector = \"keys\", path = \"/jwks.json\" }} }}",
        server.address()
    );
    let broker = Broker::start(folder.path(), &config);
    let token = |key: &EcdsaKeyPair, id: &str| {
        let text = format!("{}.{}", encoded(&json!({"alg": "ES256", "kid": id})), encoded(&json!({"exp": now() + 60})));
        let signature = key.sign(&random, text.as_bytes()).expect("signed");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    assert_eq!(refusal(&broker, "alice", &token(&one, "one")), None);
    assert!(refusal(&broker, "alice", &token(&two, "one")).is_some(), "another key under that name");
    assert!(refusal(&broker, "alice", &token(&two, "two")).is_some(), "a key that is not published");
    keys.lock().expect("lock").push(published(&two, "two"));
    hookline_integration_tests::eventually("the new key is found", Duration::from_secs(20), || {
        refusal(&broker, "alice", &token(&two, "two")).is_none().then_some(())
    });
    assert!(server.requests().len() < 10, "keys are fetched now and then, and not for each client");
    assert!(broker.stop().success());
}

#[test]
fn a_public_key_in_a_file_checks_what_its_private_one_has_signed() {
    let random = rand::SystemRandom::new();
    let key = rsa::KeyPair::generate(rsa::KeySize::Rsa2048).expect("a key");
    let der: aws_lc_rs::encoding::PublicKeyX509Der<'_> = key.public_key().as_der().expect("encoded");
    let pem = format!(
        "-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n",
        base64::engine::general_purpose::STANDARD.encode(der.as_ref())
    );
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("key.pem");
    std::fs::write(&file, pem).expect("written");
    let config = format!(
        "[mqtt]\nallow_anonymous = false\n[[authentication]]\nname = \"tokens\"\ntype = \"jwt\"\njwt = {{ public_key = \"{}\", from = \"username\" }}",
        file.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let signed = |algorithm: &str| {
        let text = format!("{}.{}", encoded(&json!({"alg": algorithm})), encoded(&json!({"exp": now() + 60})));
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(&RSA_PKCS1_SHA256, &random, text.as_bytes(), &mut signature).expect("signed");
        format!("{text}.{}", URL_SAFE_NO_PAD.encode(signature))
    };
    assert_eq!(refusal(&broker, &signed("RS256"), ""), None, "{}", broker.log());
    assert!(refusal(&broker, &signed("RS512"), "").is_some(), "another function than the token says");
    // The public key as a secret: an old trick.
    let text = format!("{}.{}", encoded(&json!({"alg": "HS256"})), encoded(&json!({"exp": now() + 60})));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &std::fs::read(&file).expect("read")), text.as_bytes());
    assert!(refusal(&broker, &format!("{text}.{}", URL_SAFE_NO_PAD.encode(tag)), "").is_some(), "a secret is not asked for here");
    assert!(broker.stop().success());
}
