//! The API over the network, asked with nothing but a socket.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::Path;
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
    /// As text, where it is one.
    pub body: String,
    pub bytes: Vec<u8>,
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
    ask_bytes(broker, method, path, login, headers, body.as_bytes())
}

/// The same with a body that need not be text.
pub fn ask_bytes(broker: &Broker, method: &str, path: &str, login: &str, headers: &str, body: &[u8]) -> Answer {
    let mut stream = TcpStream::connect(broker.address_of("api")).expect("connects");
    stream.set_read_timeout(Some(LIMIT)).expect("set");
    let login = if login.is_empty() { String::new() } else { format!("Authorization: {login}\r\n") };
    let length = body.len();
    let head = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n{headers}{login}Content-Length: {length}\r\n\r\n");
    stream.write_all(&[head.as_bytes(), body].concat()).expect("sent");
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).expect("answered");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n").expect("a head");
    let (head, bytes) = (String::from_utf8_lossy(&answer[..end]).into_owned(), answer[end + 4..].to_vec());
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    Answer { status, head: head.to_ascii_lowercase(), body: String::from_utf8_lossy(&bytes).into_owned(), bytes }
}

/// A file as a form has it: what stands in the head, and the body.
pub fn form(field: &str, name: &str, content: &[u8]) -> (String, Vec<u8>) {
    let boundary = "----a-boundary-that-is-nowhere-else";
    let head = format!("--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\n\r\n");
    let body = [head.as_bytes(), content, format!("\r\n--{boundary}--\r\n").as_bytes()].concat();
    (format!("Content-Type: multipart/form-data; boundary={boundary}\r\n"), body)
}

/// A login by name and password.
pub fn basic(name: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{name}:{password}")))
}

/// Asks the API over the socket in the data folder: the status and the answer.
pub fn over_socket(folder: &Path, path: &str) -> (u16, Value) {
    let mut socket = UnixStream::connect(folder.join("data/hookline.sock")).expect("the broker listens");
    let request = format!("GET /api/v5{path} HTTP/1.1\r\nHost: hookline\r\nConnection: close\r\n\r\n");
    socket.write_all(request.as_bytes()).expect("asked");
    let mut answer = String::new();
    socket.read_to_string(&mut answer).expect("answered");
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no body: {answer}"));
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
    let status = status.unwrap_or_else(|| panic!("no status: {head}"));
    (status, serde_json::from_str(body).unwrap_or_else(|error| panic!("{path}: {error}: {answer}")))
}
