//! WebSocket (RFC 6455; MQTT 5.0, section 6): the upgrade, and MQTT as a stream in binary messages of any size.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::IpAddr;

use bytes::{Buf, Bytes};
use hookline_schemas::config::WebSocket as Settings;
use ipnet::IpNet;
use tungstenite::handshake::server::{ErrorResponse, Request, Response};
use tungstenite::http::{HeaderValue, StatusCode, header};
use tungstenite::protocol::{CloseFrame, Role, WebSocketConfig, frame::coding::CloseCode};
use tungstenite::{Message, WebSocket};

/// The longest upgrade request, bytes.
pub const REQUEST_BYTES_MAX: usize = 8 << 10;
/// What is read from the socket at once, and kept for each connection.
const READ_BYTES: usize = 4 << 10;
/// The largest message that is sent.
const MESSAGE_BYTES: usize = 64 << 10;
/// The subprotocols that mean MQTT; the first is the one of the specification ([MQTT-6.0.0-3]).
const SUBPROTOCOLS: [&str; 4] = ["mqtt", "mqttv3.1", "mqttv3.1.1", "mqttv5"];

/// MQTT in WebSocket messages, over a stream that does not block.
pub struct Framed<S> {
    socket: WebSocket<Metered<S>>,
    /// The rest of a message that was not asked for yet.
    rest: Bytes,
}

impl<S> fmt::Debug for Framed<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Framed").field("rest", &self.rest.len()).finish_non_exhaustive()
    }
}

/// A wire of which one call reads only so much: control frames and empty ones could go on for ever.
struct Metered<S> {
    wire: S,
    left: usize,
}

/// Bytes that one call reads at most.
const READ_MAX: usize = 64 << 10;

impl<S: Read> Read for Metered<S> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = buffer.len().min(self.left);
        if most == 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let count = self.wire.read(&mut buffer[..most])?;
        self.left -= count;
        Ok(count)
    }
}

impl<S: Write> Write for Metered<S> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.wire.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.wire.flush()
    }
}

/// The bytes of an answer, and where it refuses also why.
pub type Answer = Result<Vec<u8>, (Vec<u8>, String)>;

/// The answer to an upgrade request, and the client's address as the last proxy that is not one of `forwarders` has seen it.
pub fn answer(head: &[u8], settings: &Settings, forwarders: &[IpNet]) -> (Answer, Forwarded) {
    let mut memory = Memory { head, answer: Vec::new() };
    let mut forwarded = Forwarded::Nobody;
    #[allow(clippy::result_large_err, reason = "the type is the library's")]
    let check = |request: &Request, response: Response| {
        let lines = request.headers().get_all("x-forwarded-for").iter().map(HeaderValue::as_bytes);
        forwarded = client_address(&lines.collect::<Vec<_>>().join(&b','), forwarders);
        check(request, response, settings)
    };
    let result = tungstenite::accept_hdr(&mut memory, check).map(drop).map_err(|error| error.to_string());
    let bytes = if memory.answer.is_empty() { b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n".to_vec() } else { memory.answer };
    (result.map(|()| bytes.clone()).map_err(|problem| (bytes, problem)), forwarded)
}

/// Whom the proxies in front have seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Forwarded {
    /// They say nothing.
    Nobody,
    Client(IpAddr),
    /// What they say is no address.
    Broken,
}

/// From the right: what stands further to the left may be the client's own invention.
fn client_address(value: &[u8], forwarders: &[IpNet]) -> Forwarded {
    if value.is_empty() {
        return Forwarded::Nobody;
    }
    for part in value.rsplit(|byte| *byte == b',') {
        let Some(address) = std::str::from_utf8(part).ok().and_then(|text| text.trim().parse::<IpAddr>().ok()) else {
            return Forwarded::Broken;
        };
        if !forwarders.iter().any(|network| network.contains(&address.to_canonical())) {
            return Forwarded::Client(address);
        }
    }
    Forwarded::Nobody
}

#[allow(clippy::result_large_err, reason = "the type is the library's")]
fn check(request: &Request, mut response: Response, settings: &Settings) -> Result<Response, ErrorResponse> {
    let refuse = |status, text: &str| {
        let mut response = ErrorResponse::new(Some(text.to_owned()));
        *response.status_mut() = status;
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
        Err(response)
    };
    if request.uri().path() != settings.path {
        return refuse(StatusCode::NOT_FOUND, &format!("MQTT is served at {}", settings.path));
    }
    if let Some(origin) = request.headers().get(header::ORIGIN).filter(|_| !settings.origins.is_empty()) {
        let allowed = origin.to_str().is_ok_and(|origin| settings.origins.iter().any(|allowed| allowed.eq_ignore_ascii_case(origin)));
        if !allowed {
            return refuse(StatusCode::FORBIDDEN, "pages of this origin may not connect");
        }
    }
    let offered = request.headers().get_all(header::SEC_WEBSOCKET_PROTOCOL).iter().filter_map(|value| value.to_str().ok());
    let mut offered = offered.flat_map(|value| value.split(',')).map(str::trim);
    // [MQTT-6.0.0-4] The name that is chosen is one that was offered.
    match offered.find(|name| SUBPROTOCOLS.contains(name)).and_then(|name| HeaderValue::from_str(name).ok()) {
        Some(name) => drop(response.headers_mut().insert(header::SEC_WEBSOCKET_PROTOCOL, name)),
        // [MQTT-6.0.0-3]
        None if settings.require_subprotocol => return refuse(StatusCode::BAD_REQUEST, "offer the WebSocket subprotocol \"mqtt\""),
        None => {}
    }
    Ok(response)
}

/// An upgrade request that is there as a whole, and room for its answer.
struct Memory<'a> {
    head: &'a [u8],
    answer: Vec<u8>,
}

impl Read for Memory<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.head.read(buffer)
    }
}

impl Write for Memory<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.answer.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: Read + Write> Framed<S> {
    /// Frames from here on; `early` are bytes that came behind the upgrade request.
    pub fn new(wire: S, early: Vec<u8>, settings: &Settings) -> Framed<S> {
        let mut config = WebSocketConfig::default();
        config.read_buffer_size = READ_BYTES;
        config.write_buffer_size = 0;
        config.max_write_buffer_size = 2 * MESSAGE_BYTES;
        config.max_message_size = Some(settings.message_bytes_max);
        config.max_frame_size = Some(settings.message_bytes_max);
        let wire = Metered { wire, left: READ_MAX };
        let socket = WebSocket::from_partially_read(wire, early, Role::Server, Some(config));
        Framed { socket, rest: Bytes::new() }
    }

    /// The stream below.
    pub fn wire(&self) -> &S {
        &self.socket.get_ref().wire
    }

    /// The stream below.
    pub fn wire_mut(&mut self) -> &mut S {
        &mut self.socket.get_mut().wire
    }

    /// Reads bytes of MQTT; 0 is the end. `Interrupted`: much has come and none of it was MQTT; ask again, but not at once.
    ///
    /// # Errors
    /// `InvalidData` where the peer broke the protocol; it was told so.
    pub fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.socket.get_mut().left = READ_MAX;
        while self.rest.is_empty() {
            match self.socket.read() {
                Ok(Message::Binary(bytes)) => self.rest = bytes,
                // The library has its answer ready.
                Ok(Message::Ping(_) | Message::Pong(_) | Message::Frame(_)) => self.flush_if_possible()?,
                // [MQTT-6.0.0-1] MQTT comes in binary messages only.
                Ok(Message::Text(_)) => {
                    self.close_with(CloseCode::Unsupported);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, "a text message"));
                }
                Ok(Message::Close(_)) => {
                    self.flush_if_possible()?;
                    return Ok(0);
                }
                Err(tungstenite::Error::Io(_)) if self.socket.get_ref().left == 0 => return Err(io::ErrorKind::Interrupted.into()),
                Err(tungstenite::Error::Io(error)) => return Err(error),
                Err(tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed) => return Ok(0),
                Err(error) => {
                    let code = if matches!(error, tungstenite::Error::Capacity(_)) { CloseCode::Size } else { CloseCode::Protocol };
                    self.close_with(code);
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string()));
                }
            }
        }
        let count = self.rest.len().min(buffer.len());
        self.rest.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }

    /// Takes bytes to be sent; what it takes may not have left yet.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        // What was taken before goes first: so no more than one message waits here.
        self.flush()?;
        let count = bytes.len().min(MESSAGE_BYTES);
        match self.socket.write(Message::Binary(Bytes::copy_from_slice(&bytes[..count]))) {
            Ok(()) => Ok(count),
            // It is taken, and waits for the socket.
            Err(tungstenite::Error::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(count),
            Err(error) => Err(into_io(error)),
        }
    }

    /// Sends what was taken.
    pub fn flush(&mut self) -> io::Result<()> {
        self.socket.flush().map_err(into_io)
    }

    fn flush_if_possible(&mut self) -> io::Result<()> {
        match self.flush() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            other => other,
        }
    }

    /// Says that nothing more will come.
    pub fn close(&mut self) {
        self.close_with(CloseCode::Normal);
    }

    fn close_with(&mut self, code: CloseCode) {
        // What the peer does not take it learns from the end of the connection.
        drop(self.socket.close(Some(CloseFrame { code, reason: "".into() })));
        drop(self.flush());
    }
}

fn into_io(error: tungstenite::Error) -> io::Error {
    match error {
        tungstenite::Error::Io(error) => error,
        tungstenite::Error::ConnectionClosed | tungstenite::Error::AlreadyClosed => io::ErrorKind::BrokenPipe.into(),
        other => io::Error::other(other.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(path: &str, headers: &str) -> Vec<u8> {
        let fixed = "Host: h\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
        format!("GET {path} HTTP/1.1\r\n{fixed}{headers}\r\n").into_bytes()
    }

    #[test]
    fn the_upgrade_says_what_is_wrong() {
        let settings = Settings { origins: vec!["https://good.example".into()], ..Settings::default() };
        let cases = [
            ("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\n", "101", Some("sec-websocket-protocol: mqtt\r\n")),
            ("/mqtt", "Sec-WebSocket-Protocol: other, mqttv3.1\r\n", "101", Some("sec-websocket-protocol: mqttv3.1\r\n")),
            ("/mqtt", "", "400", None),
            ("/other", "Sec-WebSocket-Protocol: mqtt\r\n", "404", None),
            ("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://evil.example\r\n", "403", None),
            ("/mqtt", "Sec-WebSocket-Protocol: mqtt\r\nOrigin: https://good.example\r\n", "101", None),
        ];
        for (path, headers, status, header) in cases {
            let (answer, _) = answer(&request(path, headers), &settings, &[]);
            let bytes = match &answer {
                Ok(bytes) | Err((bytes, _)) => String::from_utf8_lossy(bytes).into_owned(),
            };
            assert!(bytes.starts_with(&format!("HTTP/1.1 {status}")), "{path} {headers}: {bytes}");
            assert_eq!(answer.is_ok(), status == "101");
            assert!(header.is_none_or(|header| bytes.to_ascii_lowercase().contains(header)), "{bytes}");
        }
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        let (_, forwarded) = answer(&request("/mqtt", "X-Forwarded-For: 192.0.2.66, 203.0.113.9, 10.0.0.1\r\n"), &settings, &proxies);
        assert_eq!(forwarded, Forwarded::Client("203.0.113.9".parse().expect("an address")));
        let (_, forwarded) =
            answer(&request("/mqtt", "X-Forwarded-For: 192.0.2.66\r\nX-Forwarded-For: 203.0.113.9\r\n"), &settings, &proxies);
        assert_eq!(forwarded, Forwarded::Client("203.0.113.9".parse().expect("an address")), "the line that was added last");
        let (_, forwarded) = answer(&request("/mqtt", "X-Forwarded-For: 192.0.2.66, me\r\n"), &settings, &proxies);
        assert_eq!(forwarded, Forwarded::Broken);
        let (refused, _) = answer(b"\x10\x0c\x00\x04MQTT\r\n\r\n", &settings, &[]);
        assert!(refused.is_err());
    }
}
