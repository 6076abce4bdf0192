//! MQTT 5 properties (section 2.2.2): one table of identifier, wire type, name and the packets that may carry them.

use crate::{DecodeError, read::Reader, write};

/// The wire type of a property's value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PropertyType {
    Byte,
    U16,
    U32,
    Varint,
    Text,
    Binary,
    Pair,
}

/// The value of a property.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PropertyValue {
    /// A byte, a two-byte, four-byte or variable byte integer.
    Number(u32),
    /// A UTF-8 string.
    Text(Box<str>),
    /// Binary data.
    Binary(Box<[u8]>),
    /// A name and a value; only user properties have them.
    Pair(Box<str>, Box<str>),
}

/// One property with its value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Property {
    /// Which property.
    pub id: PropertyId,
    /// Its value, of the type that the table names.
    pub value: PropertyValue,
}

/// The packets that can carry properties, as bits of [`PropertyId::allowed_in`].
pub mod carrier {
    pub const CONNECT: u16 = 1;
    pub const CONNACK: u16 = 1 << 1;
    pub const PUBLISH: u16 = 1 << 2;
    pub const WILL: u16 = 1 << 3;
    pub const ACK: u16 = 1 << 4;
    pub const SUBSCRIBE: u16 = 1 << 5;
    pub const SUBACK: u16 = 1 << 6;
    pub const UNSUBSCRIBE: u16 = 1 << 7;
    pub const DISCONNECT: u16 = 1 << 8;
    pub const AUTH: u16 = 1 << 9;
    pub const ANY: u16 = 0xffff;
}

macro_rules! properties {
    ($($variant:ident = $id:literal, $ty:ident, $name:literal, $allowed:expr;)*) => {
        /// The properties of MQTT 5.0.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum PropertyId { $(#[doc = $name] $variant = $id,)* }

        impl PropertyId {
            /// Every property, in the order of its identifier.
            pub const ALL: &'static [PropertyId] = &[$(PropertyId::$variant),*];

            /// The property for its identifier.
            pub const fn from_number(id: u32) -> Option<PropertyId> {
                match id { $($id => Some(PropertyId::$variant),)* _ => None }
            }

            /// The name that rules see, such as `Message-Expiry-Interval`.
            pub const fn name(self) -> &'static str {
                match self { $(PropertyId::$variant => $name,)* }
            }

            /// The wire type of the value.
            pub const fn property_type(self) -> PropertyType {
                match self { $(PropertyId::$variant => PropertyType::$ty,)* }
            }

            /// The packets that may carry it, as bits of [`carrier`].
            pub const fn allowed_in(self) -> u16 {
                use carrier::*;
                match self { $(PropertyId::$variant => $allowed,)* }
            }
        }
    };
}

properties! {
    PayloadFormatIndicator = 1, Byte, "Payload-Format-Indicator", PUBLISH | WILL;
    MessageExpiryInterval = 2, U32, "Message-Expiry-Interval", PUBLISH | WILL;
    ContentType = 3, Text, "Content-Type", PUBLISH | WILL;
    ResponseTopic = 8, Text, "Response-Topic", PUBLISH | WILL;
    CorrelationData = 9, Binary, "Correlation-Data", PUBLISH | WILL;
    SubscriptionIdentifier = 11, Varint, "Subscription-Identifier", PUBLISH | SUBSCRIBE;
    SessionExpiryInterval = 17, U32, "Session-Expiry-Interval", CONNECT | CONNACK | DISCONNECT;
    AssignedClientIdentifier = 18, Text, "Assigned-Client-Identifier", CONNACK;
    ServerKeepAlive = 19, U16, "Server-Keep-Alive", CONNACK;
    AuthenticationMethod = 21, Text, "Authentication-Method", CONNECT | CONNACK | AUTH;
    AuthenticationData = 22, Binary, "Authentication-Data", CONNECT | CONNACK | AUTH;
    RequestProblemInformation = 23, Byte, "Request-Problem-Information", CONNECT;
    WillDelayInterval = 24, U32, "Will-Delay-Interval", WILL;
    RequestResponseInformation = 25, Byte, "Request-Response-Information", CONNECT;
    ResponseInformation = 26, Text, "Response-Information", CONNACK;
    ServerReference = 28, Text, "Server-Reference", CONNACK | DISCONNECT;
    ReasonString = 31, Text, "Reason-String", CONNACK | ACK | SUBACK | DISCONNECT | AUTH;
    ReceiveMaximum = 33, U16, "Receive-Maximum", CONNECT | CONNACK;
    TopicAliasMaximum = 34, U16, "Topic-Alias-Maximum", CONNECT | CONNACK;
    TopicAlias = 35, U16, "Topic-Alias", PUBLISH;
    MaximumQoS = 36, Byte, "Maximum-QoS", CONNACK;
    RetainAvailable = 37, Byte, "Retain-Available", CONNACK;
    UserProperty = 38, Pair, "User-Property", ANY;
    MaximumPacketSize = 39, U32, "Maximum-Packet-Size", CONNECT | CONNACK;
    WildcardSubscriptionAvailable = 40, Byte, "Wildcard-Subscription-Available", CONNACK;
    SubscriptionIdentifierAvailable = 41, Byte, "Subscription-Identifier-Available", CONNACK;
    SharedSubscriptionAvailable = 42, Byte, "Shared-Subscription-Available", CONNACK;
}

/// The properties of one packet, in their order. Empty costs no allocation.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Properties(Vec<Property>);

impl Properties {
    /// How many properties one packet may carry: far above honest use, far below what hurts.
    pub const COUNT_MAX: usize = 1024;

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in their order.
    pub fn iter(&self) -> std::slice::Iter<'_, Property> {
        self.0.iter()
    }

    /// The number that `id` has, where it is there.
    pub fn number(&self, id: PropertyId) -> Option<u32> {
        self.0.iter().find_map(|p| match &p.value {
            PropertyValue::Number(number) if p.id == id => Some(*number),
            _ => None,
        })
    }

    /// The text that `id` has, where it is there.
    pub fn text(&self, id: PropertyId) -> Option<&str> {
        self.0.iter().find_map(|p| match &p.value {
            PropertyValue::Text(text) if p.id == id => Some(&**text),
            _ => None,
        })
    }

    /// The binary data that `id` has, where it is there.
    pub fn binary(&self, id: PropertyId) -> Option<&[u8]> {
        self.0.iter().find_map(|p| match &p.value {
            PropertyValue::Binary(bytes) if p.id == id => Some(&**bytes),
            _ => None,
        })
    }

    /// The user properties, in their order, duplicates included.
    pub fn user(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().filter_map(|p| match &p.value {
            PropertyValue::Pair(name, value) => Some((&**name, &**value)),
            _ => None,
        })
    }

    /// Adds a number.
    pub fn push_number(&mut self, id: PropertyId, number: u32) {
        self.0.push(Property { id, value: PropertyValue::Number(number) });
    }

    /// Adds a text.
    pub fn push_text(&mut self, id: PropertyId, text: &str) {
        self.0.push(Property { id, value: PropertyValue::Text(text.into()) });
    }

    /// Adds binary data.
    pub fn push_binary(&mut self, id: PropertyId, bytes: &[u8]) {
        self.0.push(Property { id, value: PropertyValue::Binary(bytes.into()) });
    }

    /// Adds a user property.
    pub fn push_user(&mut self, name: &str, value: &str) {
        self.0.push(Property { id: PropertyId::UserProperty, value: PropertyValue::Pair(name.into(), value.into()) });
    }

    /// Keeps the properties for which `keep` says so.
    pub fn retain(&mut self, keep: impl FnMut(&Property) -> bool) {
        self.0.retain(keep);
    }

    /// Reads the properties of a packet of kind `carrier` (a bit of [`carrier`]): each at most once, but for user properties,
    /// and subscription identifiers in a PUBLISH.
    pub fn decode(reader: &mut Reader<'_>, carrier: u16) -> Result<Properties, DecodeError> {
        let length = reader.varint()? as usize;
        let mut reader = Reader::new(reader.take(length)?);
        let mut properties = Properties::default();
        let mut seen = 0u64;
        while !reader.is_empty() {
            let id = PropertyId::from_number(reader.varint()?).ok_or(DecodeError::malformed("unknown property"))?;
            if id.allowed_in() & carrier == 0 {
                return Err(DecodeError::protocol("property is not allowed in this packet"));
            }
            let repeatable = id == PropertyId::UserProperty || (id == PropertyId::SubscriptionIdentifier && carrier == carrier::PUBLISH);
            if seen & (1 << id as u8) != 0 && !repeatable {
                return Err(DecodeError::protocol("property appears twice"));
            }
            seen |= 1 << id as u8;
            if properties.0.len() == Self::COUNT_MAX {
                return Err(DecodeError::with(crate::ReasonCode::QuotaExceeded, "too many properties"));
            }
            let value = decode_value(&mut reader, id)?;
            properties.0.push(Property { id, value });
        }
        Ok(properties)
    }

    /// Appends the properties with their length.
    pub fn encode(&self, out: &mut Vec<u8>) {
        if self.0.is_empty() {
            out.push(0);
            return;
        }
        let mut body = Vec::with_capacity(64);
        for property in &self.0 {
            body.push(property.id as u8);
            match (&property.value, property.id.property_type()) {
                (PropertyValue::Number(n), PropertyType::Byte) => body.push(*n as u8),
                (PropertyValue::Number(n), PropertyType::U16) => write::u16(&mut body, *n as u16),
                (PropertyValue::Number(n), PropertyType::Varint) => write::varint(&mut body, *n as usize),
                (PropertyValue::Number(n), _) => body.extend_from_slice(&n.to_be_bytes()),
                (PropertyValue::Text(text), _) => write::string(&mut body, text),
                (PropertyValue::Binary(bytes), _) => write::binary(&mut body, bytes),
                (PropertyValue::Pair(name, value), _) => {
                    write::string(&mut body, name);
                    write::string(&mut body, value);
                }
            }
        }
        write::varint(out, body.len());
        out.extend_from_slice(&body);
    }
}

fn decode_value(reader: &mut Reader<'_>, id: PropertyId) -> Result<PropertyValue, DecodeError> {
    let value = match id.property_type() {
        PropertyType::Byte => PropertyValue::Number(reader.u8()?.into()),
        PropertyType::U16 => PropertyValue::Number(reader.u16()?.into()),
        PropertyType::U32 => PropertyValue::Number(reader.u32()?),
        PropertyType::Varint => PropertyValue::Number(reader.varint()?),
        PropertyType::Text => PropertyValue::Text(reader.string()?.into()),
        PropertyType::Binary => PropertyValue::Binary(reader.binary()?.into()),
        PropertyType::Pair => PropertyValue::Pair(reader.string()?.into(), reader.string()?.into()),
    };
    match (&value, id) {
        (PropertyValue::Number(0), PropertyId::SubscriptionIdentifier | PropertyId::ReceiveMaximum | PropertyId::MaximumPacketSize) => {
            Err(DecodeError::protocol("property must not be zero"))
        }
        (PropertyValue::Number(0), PropertyId::TopicAlias) => {
            Err(DecodeError::with(crate::ReasonCode::TopicAliasInvalid, "topic alias is zero"))
        }
        // Every property of type byte is a flag, or knows the values 0 and 1 only.
        (PropertyValue::Number(2..), _) if id.property_type() == PropertyType::Byte => {
            Err(DecodeError::protocol("property must be 0 or 1"))
        }
        _ => Ok(value),
    }
}
