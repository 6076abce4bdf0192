//! What may lie around MQTT on the wire, as data: the PROXY protocol before it, and WebSocket below it. No socket of its own and
//! no clock: over anything that reads and writes.

/// The PROXY protocol.
pub mod proxy;
/// WebSocket: the upgrade, and MQTT in frames.
pub mod websocket;
