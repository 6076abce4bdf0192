//! Takes the header of the PROXY protocol from a connection.

use std::io;

use hookline_wire::proxy::{HEADER_BYTES_MAX, Proxied, parse};
use rustix::net::{RecvFlags, recv};

use super::Socket;

/// Takes the header from a connection, and nothing behind it.
pub(crate) async fn take(socket: &mut Socket) -> io::Result<Proxied> {
    let stream = socket.waited()?;
    let mut bytes = [0u8; HEADER_BYTES_MAX];
    let interest = tokio::io::Interest::READABLE;
    let proxied = stream.async_io(interest, || {
        // Only looked at: what is behind the header belongs to TLS, WebSocket or MQTT.
        let (count, _) = recv(stream, &mut bytes, RecvFlags::PEEK)?;
        if count == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        match parse(&bytes[..count]) {
            Ok(Some(proxied)) => Ok(proxied),
            // The next bytes that come wake it again.
            Ok(None) => Err(io::ErrorKind::WouldBlock.into()),
            Err(problem) => Err(io::Error::new(io::ErrorKind::InvalidData, problem)),
        }
    });
    let proxied = proxied.await?;
    let mut left = proxied.length;
    while left > 0 {
        left -= stream.async_io(interest, || Ok(recv(stream, &mut bytes[..left], RecvFlags::empty())?.0)).await?;
    }
    Ok(proxied)
}
