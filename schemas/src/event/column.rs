//! The columns of events: a name and how to get the value, combined into one list for each kind of event.

use hookline_mqtt::{Properties, PropertyId, PropertyValue, Version, property::PropertyType};

use super::{About, Alarm, Event};
use crate::{Client, Map, Message, Value};

/// A column that rules can name.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub name: &'static str,
    pub get: fn(&Event<'_>) -> Value,
}

const fn column(name: &'static str, get: fn(&Event<'_>) -> Value) -> Column {
    Column { name, get }
}

/// What every row has.
pub(super) const COMMON: &[Column] = &[
    column("event", |e| Value::text(e.point.name())),
    column("timestamp", |e| Value::unsigned(e.timestamp_ms)),
    column("node", |e| Value::text(e.node)),
];

const CLIENT_ID: Column = column("clientid", |e| Value::text(&e.client.client_id));
const USERNAME: Column = column("username", |e| Value::optional_text(e.client.username.as_deref()));
const CLIENT_ATTRS: Column = column("client_attrs", |e| attributes(e.client));
const PEERHOST: Column = column("peerhost", |e| Value::text(&e.client.peer.ip().to_string()));
const PEERNAME: Column = column("peername", |e| Value::text(&e.client.peer.to_string()));
const SOCKNAME: Column = column("sockname", |e| Value::text(&e.client.sock.to_string()));
const PROTO_NAME: Column = column("proto_name", |e| Value::text(e.client.version.name()));
const PROTO_VER: Column = column("proto_ver", |e| Value::Int(e.client.version.level().into()));
const KEEPALIVE: Column = column("keepalive", |e| Value::Int(e.client.keep_alive_secs.into()));
const CLEAN_START: Column = column("clean_start", |e| Value::Bool(e.client.clean_start));
const EXPIRY: Column = column("expiry_interval", |e| Value::Int(e.client.session_expiry_secs.into()));
const CONN_PROPS: Column = column("conn_props", |e| properties_value(&e.client.properties));
const CONNECTED_AT: Column = column("connected_at", |e| Value::unsigned(e.client.connected_at_ms));
const LISTENER: Column = column("listener", |e| Value::text(&e.client.listener));

const REASON: Column = column("reason", |e| match e.about {
    About::End { reason, .. } => Value::text(reason),
    About::Dropped { reason, .. } => Value::text(reason.name()),
    _ => Value::Undefined,
});
const REASON_CODE: Column = column("reason_code", |e| match e.about {
    About::Answer(reason) => Value::text(connack_name(reason, e.client.version)),
    About::Login { reason, .. } => Value::text(reason.name()),
    _ => Value::Undefined,
});
const DISCONN_PROPS: Column = column("disconn_props", |e| match e.about {
    About::End { properties, .. } => properties_value(properties),
    _ => Value::Undefined,
});

const ACTION: Column = column("action", |e| match e.about {
    About::Access { action, .. } | About::Decided { action, .. } => Value::text(action.name()),
    _ => Value::Undefined,
});
const TOPIC: Column = column("topic", |e| match e.about {
    About::Access { topic, .. } | About::Decided { topic, .. } => Value::text(topic),
    About::Subscription { filter, .. } => Value::text(filter),
    About::Message(message) | About::Dropped { message, .. } | About::Failed { message, .. } => Value::text(&message.topic),
    _ => Value::Undefined,
});
const QOS: Column = column("qos", |e| match e.about {
    About::Subscription { options, .. } => Value::Int(options.qos as i64),
    About::Message(message) | About::Dropped { message, .. } | About::Failed { message, .. } => Value::Int(message.qos as i64),
    _ => Value::Undefined,
});
const SUB_PROPS: Column = column("sub_props", subscription_properties);
const UNSUB_PROPS: Column = column("unsub_props", subscription_properties);

const ID: Column = column("id", |e| of_message(e, |m| Value::text(&m.id.to_string())));
const FROM_CLIENT_ID: Column = column("from_clientid", |e| of_message(e, |m| Value::text(&m.from.client_id)));
const FROM_USERNAME: Column = column("from_username", |e| of_message(e, |m| Value::optional_text(m.from.username.as_deref())));
const PAYLOAD: Column = column("payload", |e| of_message(e, |m| Value::Bytes(m.payload.clone())));
const PUB_PROPS: Column = column("pub_props", |e| of_message(e, |m| properties_value(&m.properties)));
const RECEIVED_AT: Column = column("publish_received_at", |e| of_message(e, |m| Value::unsigned(m.received_at_ms)));
const FLAGS: Column = column("flags", |e| {
    of_message(e, |m| {
        let mut flags = Map::new();
        flags.push_new("retain", Value::Bool(m.retain));
        flags.push_new("dup", Value::Bool(m.dup));
        Value::Map(flags)
    })
});

pub(super) const CONNECTION: &[Column] = &[
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PEERHOST,
    PEERNAME,
    SOCKNAME,
    PROTO_NAME,
    PROTO_VER,
    KEEPALIVE,
    CLEAN_START,
    EXPIRY,
    CONN_PROPS,
    LISTENER,
];

pub(super) const CONNACK: &[Column] = &[
    REASON_CODE,
    CLIENT_ID,
    CLEAN_START,
    USERNAME,
    CLIENT_ATTRS,
    PEERNAME,
    SOCKNAME,
    PROTO_NAME,
    PROTO_VER,
    KEEPALIVE,
    EXPIRY,
    CONNECTED_AT,
    CONN_PROPS,
];

pub(super) const CONNECTED: &[Column] = &[
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PEERNAME,
    SOCKNAME,
    PROTO_NAME,
    PROTO_VER,
    KEEPALIVE,
    CLEAN_START,
    column("receive_maximum", |e| Value::Int(e.client.receive_maximum.into())),
    EXPIRY,
    column("is_bridge", |e| Value::Bool(e.client.is_bridge)),
    CONN_PROPS,
    CONNECTED_AT,
    LISTENER,
];

pub(super) const DISCONNECTED: &[Column] = &[
    REASON,
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PEERNAME,
    SOCKNAME,
    PROTO_NAME,
    PROTO_VER,
    DISCONN_PROPS,
    column("disconnected_at", |e| Value::unsigned(e.timestamp_ms)),
    CONNECTED_AT,
];

pub(super) const PING: &[Column] =
    &[CLIENT_ID, CLEAN_START, USERNAME, CLIENT_ATTRS, PEERNAME, SOCKNAME, PROTO_NAME, PROTO_VER, KEEPALIVE, EXPIRY, CONN_PROPS];

pub(super) const LOGIN: &[Column] = &[
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PEERNAME,
    REASON_CODE,
    column("is_superuser", |e| match e.about {
        About::Login { is_superuser, .. } => Value::Bool(is_superuser),
        _ => Value::Undefined,
    }),
    column("is_anonymous", |e| match e.about {
        About::Login { is_anonymous, .. } => Value::Bool(is_anonymous),
        _ => Value::Undefined,
    }),
];

pub(super) const DECIDED: &[Column] = &[
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PEERHOST,
    PEERNAME,
    TOPIC,
    ACTION,
    column("authz_source", |e| match e.about {
        About::Decided { source, .. } => Value::text(source),
        _ => Value::Undefined,
    }),
    column("result", |e| match e.about {
        About::Decided { is_allowed, .. } => Value::text(if is_allowed { "allow" } else { "deny" }),
        _ => Value::Undefined,
    }),
];

const ALARM_NAME: Column = column("name", |e| of_alarm(e, |alarm| Value::text(&alarm.name)));
const ALARM_MESSAGE: Column = column("message", |e| of_alarm(e, |alarm| Value::text(&alarm.message)));
const ALARM_DETAILS: Column = column("details", |e| of_alarm(e, |alarm| alarm.details.clone()));
const ACTIVATED_AT: Column = column("activated_at", |e| of_alarm(e, |alarm| Value::unsigned(alarm.activated_at_us)));
const DEACTIVATED_AT: Column =
    column("deactivated_at", |e| of_alarm(e, |alarm| alarm.deactivated_at_us.map_or(Value::Undefined, Value::unsigned)));

pub(super) const ALARM_ACTIVATED: &[Column] = &[ALARM_NAME, ALARM_DETAILS, ALARM_MESSAGE, ACTIVATED_AT];
pub(super) const ALARM_DEACTIVATED: &[Column] = &[ALARM_NAME, ALARM_DETAILS, ALARM_MESSAGE, ACTIVATED_AT, DEACTIVATED_AT];

pub(super) const ACCESS: &[Column] = &[CLIENT_ID, USERNAME, CLIENT_ATTRS, PEERHOST, PEERNAME, TOPIC, ACTION];
pub(super) const SUBSCRIPTION: &[Column] = &[CLIENT_ID, USERNAME, CLIENT_ATTRS, PEERHOST, PEERNAME, TOPIC, QOS, SUB_PROPS];
pub(super) const UNSUBSCRIPTION: &[Column] = &[CLIENT_ID, USERNAME, CLIENT_ATTRS, PEERHOST, PEERNAME, TOPIC, QOS, UNSUB_PROPS];
pub(super) const SESSION: &[Column] = &[CLIENT_ID, USERNAME, CLIENT_ATTRS, PEERHOST, PEERNAME, CLEAN_START, EXPIRY];
pub(super) const TERMINATED: &[Column] = &[REASON, CLIENT_ID, USERNAME, CLIENT_ATTRS, PEERHOST, PEERNAME];

pub(super) const PUBLISH: &[Column] =
    &[ID, CLIENT_ID, USERNAME, CLIENT_ATTRS, PAYLOAD, PEERHOST, PEERNAME, TOPIC, QOS, FLAGS, PUB_PROPS, RECEIVED_AT];
pub(super) const DROPPED: &[Column] =
    &[ID, REASON, CLIENT_ID, USERNAME, CLIENT_ATTRS, PAYLOAD, PEERHOST, PEERNAME, TOPIC, QOS, FLAGS, PUB_PROPS, RECEIVED_AT];
pub(super) const VALIDATION_FAILED: &[Column] = &[
    ID,
    column("validation", failed_name),
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PAYLOAD,
    PEERNAME,
    TOPIC,
    QOS,
    FLAGS,
    PUB_PROPS,
    RECEIVED_AT,
];
pub(super) const TRANSFORMATION_FAILED: &[Column] = &[
    ID,
    column("transformation", failed_name),
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PAYLOAD,
    PEERNAME,
    TOPIC,
    QOS,
    FLAGS,
    PUB_PROPS,
    RECEIVED_AT,
];
pub(super) const DELIVERED: &[Column] = &[
    ID,
    FROM_CLIENT_ID,
    FROM_USERNAME,
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PAYLOAD,
    PEERHOST,
    PEERNAME,
    TOPIC,
    QOS,
    FLAGS,
    PUB_PROPS,
    RECEIVED_AT,
];
pub(super) const DELIVERY_DROPPED: &[Column] = &[
    ID,
    REASON,
    FROM_CLIENT_ID,
    FROM_USERNAME,
    CLIENT_ID,
    USERNAME,
    CLIENT_ATTRS,
    PAYLOAD,
    PEERHOST,
    PEERNAME,
    TOPIC,
    QOS,
    FLAGS,
    PUB_PROPS,
    RECEIVED_AT,
];

/// What is known of a client beside its names; undefined where that is nothing.
fn attributes(client: &Client) -> Value {
    if client.attributes.is_empty() {
        return Value::Undefined;
    }
    let mut map = Map::new();
    client.attributes.iter().for_each(|(name, value)| map.push_new(name, Value::text(value)));
    Value::Map(map)
}

fn of_message(event: &Event<'_>, get: impl FnOnce(&Message) -> Value) -> Value {
    event.message().map_or(Value::Undefined, get)
}

fn of_alarm(event: &Event<'_>, get: impl FnOnce(&Alarm) -> Value) -> Value {
    match event.about {
        About::Alarm(alarm) => get(alarm),
        _ => Value::Undefined,
    }
}

fn failed_name(event: &Event<'_>) -> Value {
    match event.about {
        About::Failed { name, .. } => Value::text(name),
        _ => Value::Undefined,
    }
}

fn subscription_properties(event: &Event<'_>) -> Value {
    match event.about {
        About::Subscription { properties, .. } => properties_value(properties),
        _ => Value::Undefined,
    }
}

/// Properties as rules see them: by name; user properties as a map (the last of one name wins) and as a list of pairs.
fn properties_value(properties: &Properties) -> Value {
    let mut map = Map::new();
    let mut user = Map::new();
    let mut pairs = Vec::new();
    for property in properties.iter() {
        match &property.value {
            PropertyValue::Number(number) if property.id.property_type() == PropertyType::Varint => {
                map.insert(property.id.name(), Value::Array(vec![Value::Int((*number).into())]));
            }
            PropertyValue::Number(number) => map.insert(property.id.name(), Value::Int((*number).into())),
            PropertyValue::Text(text) => map.insert(property.id.name(), Value::text(text)),
            PropertyValue::Binary(bytes) => map.insert(property.id.name(), Value::Bytes(bytes.to_vec().into())),
            PropertyValue::Pair(name, value) => {
                user.insert(name, Value::text(value));
                let mut pair = Map::new();
                pair.push_new("key", Value::text(name));
                pair.push_new("value", Value::text(value));
                pairs.push(Value::Map(pair));
            }
        }
    }
    map.insert(PropertyId::UserProperty.name(), Value::Map(user));
    if !pairs.is_empty() {
        map.insert("User-Property-Pairs", Value::Array(pairs));
    }
    Value::Map(map)
}

/// The name of a CONNACK's code; versions before 5.0 have names of their own.
fn connack_name(reason: hookline_mqtt::ReasonCode, version: Version) -> &'static str {
    match (version, reason.connack_v3()) {
        (Version::V5, _) | (_, None) => reason.name(),
        (_, Some(0)) => "connection_accepted",
        (_, Some(1)) => "unacceptable_protocol_version",
        (_, Some(2)) => "client_identifier_not_valid",
        // Spelt as the rules of this field's users expect it.
        (_, Some(3)) => "server_unavaliable",
        (_, Some(4)) => "malformed_username_or_password",
        (_, Some(_)) => "unauthorized_client",
    }
}
