//! The message on its way through the broker, and the client that it came from.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use hookline_mqtt::{Properties, QoS, Version};

use crate::TraceContext;

/// Identifies a message for its whole life: time, node and a counter, so that ids of one node sort by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MessageId(pub u128);

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:032X}", self.0)
    }
}

/// A message that a publisher gave to the broker.
#[derive(Debug, Clone)]
pub struct Message {
    pub id: MessageId,
    /// When the broker took it, milliseconds since the Unix epoch.
    pub received_at_ms: u64,
    /// The client that published it; a rule's name where a rule did.
    pub from: Arc<Client>,
    pub topic: Arc<str>,
    pub payload: Bytes,
    pub qos: QoS,
    /// As the publisher set it.
    pub retain: bool,
    /// The publisher may have sent it before.
    pub dup: bool,
    /// The MQTT 5 properties that go on to subscribers.
    pub properties: Properties,
    /// How many rules have republished it on its way here; bounded, so that loops end.
    pub hops: u8,
    /// The span that it comes from, where a rule has republished a traced message. What a publisher says is in `properties`.
    pub trace: Option<Box<TraceContext>>,
}

impl Message {
    /// A message of QoS 0 that the broker itself publishes. Identifier and time are left to the caller.
    pub fn internal(topic: &str, payload: &str) -> Message {
        Message {
            id: MessageId(0),
            received_at_ms: 0,
            from: Arc::new(Client::internal("hookline")),
            topic: topic.into(),
            payload: Bytes::copy_from_slice(payload.as_bytes()),
            qos: QoS::AtMostOnce,
            retain: false,
            dup: false,
            properties: Properties::default(),
            hops: 0,
            trace: None,
        }
    }
}

/// Who a client is: fixed from its CONNECT to its end, and shared by everything it causes.
#[derive(Debug, Clone)]
pub struct Client {
    pub client_id: Arc<str>,
    pub username: Option<Box<str>>,
    /// The address of the peer.
    pub peer: SocketAddr,
    /// The address it connected to.
    pub sock: SocketAddr,
    /// The listener it came by, such as `tcp:default`.
    pub listener: Arc<str>,
    pub version: Version,
    pub clean_start: bool,
    /// Seconds, as in force for the connection.
    pub keep_alive_secs: u16,
    /// Seconds that the session outlives its connection; `u32::MAX` is for ever.
    pub session_expiry_secs: u32,
    pub receive_maximum: u16,
    pub is_bridge: bool,
    /// The zone of its listener.
    pub zone: Arc<str>,
    /// What stands before all its topics; mostly empty.
    pub mountpoint: Box<str>,
    /// What is known of it beside its names.
    pub attributes: BTreeMap<Box<str>, Box<str>>,
    /// What its certificate says, where it has shown one.
    pub certificate: Option<Box<Certificate>>,
    /// The CONNECT's properties.
    pub properties: Properties,
    /// Milliseconds since the Unix epoch.
    pub connected_at_ms: u64,
}

/// What a client's certificate says of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The common name of the subject.
    pub common_name: Option<String>,
    /// The whole subject, such as `CN=device-7,O=Example`.
    pub subject: String,
    /// The first of its other names: a host, a URI or an e-mail address.
    pub alt_name: Option<String>,
}

impl Client {
    /// A client that exists only as the origin of messages, such as a rule or the broker itself.
    pub fn internal(name: &str) -> Client {
        let nowhere = SocketAddr::from(([0, 0, 0, 0], 0));
        Client {
            client_id: name.into(),
            username: None,
            peer: nowhere,
            sock: nowhere,
            listener: "internal".into(),
            version: Version::V5,
            clean_start: true,
            keep_alive_secs: 0,
            session_expiry_secs: 0,
            receive_maximum: u16::MAX,
            is_bridge: false,
            zone: "default".into(),
            mountpoint: "".into(),
            attributes: BTreeMap::new(),
            certificate: None,
            properties: Properties::default(),
            connected_at_ms: 0,
        }
    }
}
