//! MQTT 5.0.

/// Section 4.12.
mod auth;
/// Sections 3.1, 3.2, 3.14 and 3.15: beginning and end of a connection.
mod connection;
/// Sections 3.3 to 3.7: messages and their acknowledgements.
mod publish;
/// Section 4: sessions, order, flow, shared subscriptions; section 6: WebSocket.
mod session;
/// Sections 3.8 to 3.11.
mod subscribe;
/// Sections 1 and 2: the form of packets.
mod wire;
