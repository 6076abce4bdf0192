//! The upgrade to WebSocket: read within bounds, answered, and from then on frames.

use std::io::{self, Read, Write};

use hookline_schemas::config::WebSocket as Settings;
use hookline_wire::websocket::{Forwarded, Framed, REQUEST_BYTES_MAX, answer};
use ipnet::IpNet;

use super::Wire;

/// Takes the upgrade request of a connection. With whom the proxies in front have seen.
pub(crate) async fn accept(mut wire: Wire, settings: &Settings, forwarders: &[IpNet]) -> io::Result<(Framed<Wire>, Forwarded)> {
    let mut head = Vec::new();
    let end = loop {
        if let Some(end) = head.windows(4).position(|window| window == b"\r\n\r\n") {
            break end + 4;
        }
        if head.len() >= REQUEST_BYTES_MAX {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the upgrade request is too long"));
        }
        let mut bytes = [0u8; 1024];
        match wire.drive(|wire| wire.read(&mut bytes)).await? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => head.extend_from_slice(&bytes[..count]),
        }
    };
    let (answer, forwarded) = answer(&head[..end], settings, forwarders);
    let bytes = match &answer {
        Ok(bytes) | Err((bytes, _)) => bytes,
    };
    let mut sent = 0;
    while sent < bytes.len() {
        sent += wire.drive(|wire| wire.write(&bytes[sent..])).await?;
    }
    wire.drive(Write::flush).await?;
    answer.map_err(|(_, problem)| io::Error::new(io::ErrorKind::InvalidData, problem))?;
    let framed = Framed::new(wire, head.split_off(end), settings);
    Ok((framed, forwarded))
}
