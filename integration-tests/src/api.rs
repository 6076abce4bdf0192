//! The API over the network, asked with nothing but a socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::broker::Broker;

const LIMIT: Duration = Duration::from_secs(60);

/// What came back.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    /// In lower case.
    pub head: String,
    pub body: String,
}

impl Answer {
    /// The body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

/// One request on a connection of its own.
pub fn ask(broker: &Broker, method: &str, path: &str, login: &str, body: &str) -> Answer {
    ask_with(broker, method, path, login, "Content-Type: application/json\r\n", body)
}

/// The same with other headers, each with the end of its line.
pub fn ask_with(broker: &Broker, method: &str, path: &str, login: &str, headers: &str, body: &str) -> Answer {
    let mut stream = TcpStream::connect(broker.address_of("api")).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    let login = if login.is_empty() { String::new() } else { format!("Authorization: {login}\r\n") };
    let length = body.len();
    let request =
        format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}{login}Content-Length: {length}\r\n\r\n{body}");
    stream.write_all(request.as_bytes()).expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: body.to_owned() }
}

/// A login by name and password.
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}
