//! Reason codes (MQTT 5.0, section 2.4), and what MQTT 3.1.1 has in their place.

macro_rules! reason_codes {
    ($($(#[$doc:meta])* $variant:ident = $code:literal, $name:literal;)*) => {
        /// A reason code of MQTT 5.0. The names are the ones that rules and logs see.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u8)]
        pub enum ReasonCode { $($(#[$doc])* $variant = $code,)* }

        impl ReasonCode {
            /// Every code, in the order of its number.
            pub const ALL: &'static [ReasonCode] = &[$(ReasonCode::$variant),*];

            /// The code for its byte on the wire.
            pub const fn from_byte(byte: u8) -> Option<ReasonCode> {
                match byte { $($code => Some(ReasonCode::$variant),)* _ => None }
            }

            /// The name in lower case with underscores, as events carry it.
            pub const fn name(self) -> &'static str {
                match self { $(ReasonCode::$variant => $name,)* }
            }
        }
    };
}

reason_codes! {
    /// Success, normal disconnection, or QoS 0 granted.
    Success = 0x00, "success";
    /// QoS 1 granted.
    GrantedQoS1 = 0x01, "granted_qos1";
    /// QoS 2 granted.
    GrantedQoS2 = 0x02, "granted_qos2";
    /// The client leaves and wants its will published.
    DisconnectWithWill = 0x04, "disconnect_with_will_message";
    /// Accepted, but nobody subscribes to it.
    NoMatchingSubscribers = 0x10, "no_matching_subscribers";
    /// There was no such subscription.
    NoSubscriptionExisted = 0x11, "no_subscription_existed";
    /// The authentication exchange goes on.
    ContinueAuthentication = 0x18, "continue_authentication";
    /// The client starts a re-authentication.
    ReAuthenticate = 0x19, "re_authenticate";
    /// An error with no code of its own.
    UnspecifiedError = 0x80, "unspecified_error";
    /// Bytes that are no MQTT packet.
    MalformedPacket = 0x81, "malformed_packet";
    /// A packet that is not allowed here.
    ProtocolError = 0x82, "protocol_error";
    /// Valid, but refused by this implementation.
    ImplementationSpecificError = 0x83, "implementation_specific_error";
    /// The protocol version is not served.
    UnsupportedProtocolVersion = 0x84, "unsupported_protocol_version";
    /// The client identifier is not allowed.
    ClientIdentifierNotValid = 0x85, "client_identifier_not_valid";
    /// User name or password are wrong.
    BadUserNameOrPassword = 0x86, "bad_username_or_password";
    /// The client may not do this.
    NotAuthorized = 0x87, "not_authorized";
    /// The server cannot serve now.
    ServerUnavailable = 0x88, "server_unavailable";
    /// The server has too much to do.
    ServerBusy = 0x89, "server_busy";
    /// The client is banned.
    Banned = 0x8A, "banned";
    /// The server is going down.
    ServerShuttingDown = 0x8B, "server_shutting_down";
    /// The authentication method is not served.
    BadAuthenticationMethod = 0x8C, "bad_authentication_method";
    /// Nothing was heard for one and a half times the keep-alive.
    KeepAliveTimeout = 0x8D, "keepalive_timeout";
    /// Another connection took the session.
    SessionTakenOver = 0x8E, "session_taken_over";
    /// The topic filter is not allowed.
    TopicFilterInvalid = 0x8F, "topic_filter_invalid";
    /// The topic name is not allowed.
    TopicNameInvalid = 0x90, "topic_name_invalid";
    /// The packet identifier is already in use.
    PacketIdentifierInUse = 0x91, "packet_identifier_inuse";
    /// The packet identifier is not known.
    PacketIdentifierNotFound = 0x92, "packet_identifier_not_found";
    /// More unacknowledged publications than the receive maximum.
    ReceiveMaximumExceeded = 0x93, "receive_maximum_exceeded";
    /// A topic alias of zero, above the maximum, or never set.
    TopicAliasInvalid = 0x94, "topic_alias_invalid";
    /// The packet is larger than the maximum.
    PacketTooLarge = 0x95, "packet_too_large";
    /// Too many messages for their time.
    MessageRateTooHigh = 0x96, "message_rate_too_high";
    /// A limit of the server, or the bound of a queue, is reached.
    QuotaExceeded = 0x97, "quota_exceeded";
    /// The operator ended the connection.
    AdministrativeAction = 0x98, "administrative_action";
    /// The payload is not what its format indicator says.
    PayloadFormatInvalid = 0x99, "payload_format_invalid";
    /// Retained messages are not served.
    RetainNotSupported = 0x9A, "retain_not_supported";
    /// The QoS is above the maximum.
    QoSNotSupported = 0x9B, "qos_not_supported";
    /// The client should use another server for now.
    UseAnotherServer = 0x9C, "use_another_server";
    /// The client should use another server from now on.
    ServerMoved = 0x9D, "server_moved";
    /// Shared subscriptions are not served.
    SharedSubscriptionsNotSupported = 0x9E, "shared_subscriptions_not_supported";
    /// Too many connections for their time.
    ConnectionRateExceeded = 0x9F, "connection_rate_exceeded";
    /// The longest time for this connection is over.
    MaximumConnectTime = 0xA0, "maximum_connect_time";
    /// Subscription identifiers are not served.
    SubscriptionIdentifiersNotSupported = 0xA1, "subscription_identifiers_not_supported";
    /// Wildcard subscriptions are not served.
    WildcardSubscriptionsNotSupported = 0xA2, "wildcard_subscriptions_not_supported";
}

impl ReasonCode {
    /// Codes from 0x80 on say that something failed.
    pub const fn is_error(self) -> bool {
        self as u8 >= 0x80
    }

    /// The CONNACK return code of MQTT 3.1.1 (section 3.2.2.3); `None` where that version closes without a word.
    pub const fn connack_v3(self) -> Option<u8> {
        match self {
            ReasonCode::Success => Some(0),
            ReasonCode::UnsupportedProtocolVersion => Some(1),
            ReasonCode::ClientIdentifierNotValid => Some(2),
            ReasonCode::ServerUnavailable
            | ReasonCode::ServerBusy
            | ReasonCode::QuotaExceeded
            | ReasonCode::ConnectionRateExceeded
            | ReasonCode::UseAnotherServer
            | ReasonCode::ServerMoved
            | ReasonCode::UnspecifiedError => Some(3),
            ReasonCode::BadUserNameOrPassword => Some(4),
            ReasonCode::NotAuthorized | ReasonCode::Banned => Some(5),
            _ => None,
        }
    }

    /// The reason code for a CONNACK return code of MQTT 3.1.1.
    pub const fn from_connack_v3(code: u8) -> Option<ReasonCode> {
        match code {
            0 => Some(ReasonCode::Success),
            1 => Some(ReasonCode::UnsupportedProtocolVersion),
            2 => Some(ReasonCode::ClientIdentifierNotValid),
            3 => Some(ReasonCode::ServerUnavailable),
            4 => Some(ReasonCode::BadUserNameOrPassword),
            5 => Some(ReasonCode::NotAuthorized),
            _ => None,
        }
    }
}
