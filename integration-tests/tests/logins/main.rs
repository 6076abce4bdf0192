//! Who may connect and what they may do, asked of real servers: right and wrong passwords, superusers, permissions, and backends that are
//! away, hang, answer nonsense and come back.

mod backends;
mod directory;
mod files;
mod live;
mod rates;
mod tokens;

use hookline_integration_tests::broker::Broker;
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{QoS, ReasonCode, Version};

/// An MQTT 5 client with that name and password.
fn options(client_id: &str, username: &str, password: &str) -> Options {
    let mut options = Options::new(client_id).version(Version::V5);
    options.connect.username = Some(username.to_owned()).filter(|name| !name.is_empty());
    options.connect.password = Some(password.as_bytes().to_vec()).filter(|password| !password.is_empty());
    options
}

/// Logs in, or the reason for which that is refused.
fn log_in(broker: &Broker, username: &str, password: &str) -> Result<Client, ReasonCode> {
    match Client::connect(broker.address(), &options(&format!("of-{username}"), username, password)) {
        Ok(client) => Ok(client),
        Err(Error::Refused(reason)) => Err(reason),
        Err(error) => panic!("{username}: {error}\n{}", broker.log()),
    }
}

fn refusal(broker: &Broker, username: &str, password: &str) -> Option<ReasonCode> {
    log_in(broker, username, password).err()
}

/// Whether a client may publish to a topic.
fn may_publish(client: &mut Client, topic: &str) -> bool {
    match client.publish(topic, b"x", QoS::AtLeastOnce, false).expect("answered") {
        ReasonCode::NotAuthorized => false,
        reason if reason.is_error() => panic!("{topic}: {reason:?}"),
        _ => true,
    }
}

/// Whether a client may subscribe to a filter.
fn may_subscribe(client: &mut Client, filter: &str) -> bool {
    let reasons = client.subscribe(&[(filter, QoS::AtLeastOnce)]).expect("answered");
    assert!(matches!(reasons[..], [ReasonCode::NotAuthorized | ReasonCode::GrantedQoS1]), "{filter}: {reasons:?}");
    reasons == [ReasonCode::GrantedQoS1]
}
