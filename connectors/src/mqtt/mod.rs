//! Another MQTT server: a bridge out (an action), and in (a source).
//!
//! Out, a record is delivered when the server has acknowledged its message. In, a message is acknowledged to the server when the broker has
//! taken it; the server keeps the session meanwhile. With MQTT 5 what has come from this node does not come in again: messages carry the node's name.

mod client;
mod config;
/// The client's side of MQTT.
pub(crate) mod session;
mod sink;
mod source;

use crate::kind::{self, Kind};

/// The line of the registry.
pub(crate) const KIND: Kind = Kind {
    name: "mqtt",
    sink: Some(|connector, parameters, _| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Parameters>(parameters))?;
        let (server, request) = kind::both_valid(client::Server::new(connector), sink::Request::new(&parameters))?;
        Ok(Box::new(sink::MqttSink::new(server, request)))
    }),
    source: Some(|connector, parameters, node| {
        let (connector, parameters) =
            kind::both(kind::settings::<config::Connector>(connector), kind::settings::<config::Intake>(parameters))?;
        Ok(Box::new(source::MqttSource::new(client::Server::new(connector)?, parameters, node)?))
    }),
    lookup: None,
    connector_schema: || schemars::schema_for!(config::Connector),
    parameters_schema: Some(|| schemars::schema_for!(config::Parameters)),
    source_schema: Some(|| schemars::schema_for!(config::Intake)),
    question_schema: None,
};
