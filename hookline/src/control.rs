//! How a command reaches the broker that runs on a data folder: HTTP over the socket in that folder.

use std::error::Error;
use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use bytes::{Bytes, BytesMut};
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, Full};
use hyper::body::Body;
use hyper::client::conn::http1;
use hyper::http::request::Builder;
use hyper::{Method, Request, StatusCode, header};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::io::AsyncReadExt;
use tokio::net::UnixStream;
use tokio::runtime::Runtime;

use crate::api::Problem;
use crate::export;

/// The socket's name in the data folder.
const SOCKET: &str = "hookline.sock";
/// The longest path that a socket can have, bytes; a zero follows it.
const PATH_MAX: usize = 107;
/// How long an answer may take.
const ANSWER: Duration = Duration::from_secs(60);
/// How long an answer may take that needs the whole store to be read or written.
const LONG_ANSWER: Duration = Duration::from_secs(24 * 3600);
/// Bytes of a file that are sent at a time, and parts that may wait for the broker.
const PART_BYTES: usize = 64 << 10;
const PARTS_WAITING: usize = 4;

/// The socket of the broker that runs on a data folder.
pub(crate) fn socket(data_dir: &Path) -> PathBuf {
    data_dir.join(SOCKET)
}

/// What to say where a path is too long for a socket.
pub(crate) fn too_long(socket: &Path) -> Option<String> {
    let bytes = socket.as_os_str().len();
    let path = socket.display();
    (bytes > PATH_MAX).then(|| {
        format!("{path} has {bytes} bytes, and the path of a socket at most {PATH_MAX}; name the data folder by a shorter path, such as one relative to a folder near it, for the broker and for the command")
    })
}

/// A broker that runs.
#[derive(Debug)]
pub(crate) struct Control {
    runtime: Runtime,
    socket: PathBuf,
    data_dir: PathBuf,
}

impl Control {
    /// The broker that runs on a data folder; `None`: none answers there.
    pub(crate) fn connect(data_dir: &Path) -> anyhow::Result<Option<Control>> {
        let socket = socket(data_dir);
        if too_long(&socket).is_some() {
            return Ok(None);
        }
        match std::os::unix::net::UnixStream::connect(&socket) {
            Ok(_) => {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
                Ok(Some(Control { runtime, socket, data_dir: data_dir.to_owned() }))
            }
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory | ErrorKind::ConnectionRefused) => Ok(None),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                bail!("the broker belongs to another user ({} cannot be opened); run the command as that user", socket.display())
            }
            Err(error) => Err(error).with_context(|| format!("cannot reach the broker by {}", socket.display())),
        }
    }

    /// Where its exports lie.
    pub(crate) fn exports(&self) -> PathBuf {
        export::folder(&self.data_dir)
    }

    pub(crate) fn get<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask_json(Method::GET, path, None, ANSWER)
    }

    pub(crate) fn post<T: DeserializeOwned>(&self, path: &str, body: Option<&serde_json::Value>) -> anyhow::Result<T> {
        self.ask_json(Method::POST, path, body, LONG_ANSWER)
    }

    pub(crate) fn put<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<T> {
        self.ask_json(Method::PUT, path, Some(body), ANSWER)
    }

    /// Puts a text; with the version of what it is to take the place of, only if that is still there.
    pub(crate) fn put_text<T: DeserializeOwned>(&self, path: &str, text: String, version: Option<u64>) -> anyhow::Result<T> {
        let mut request = Request::builder().method(Method::PUT).header(header::CONTENT_TYPE, "text/plain");
        if let Some(version) = version {
            request = request.header(header::IF_MATCH, format!("\"{version}\""));
        }
        self.ask(request, path, Full::new(text.into()), LONG_ANSWER)
    }

    /// Posts a file as a field of a form.
    pub(crate) fn post_file<T: DeserializeOwned>(&self, path: &str, field: &str, name: &str, file: File) -> anyhow::Result<T> {
        // Nothing that a file can have in it.
        let mut random = [0; 16];
        aws_lc_rs::rand::fill(&mut random).context("the system has no random numbers")?;
        let boundary = format!("hookline-{:032x}", u128::from_be_bytes(random));
        let request =
            Request::builder().method(Method::POST).header(header::CONTENT_TYPE, format!("multipart/form-data; boundary={boundary}"));
        let head = format!(
            "--{boundary}\r\nContent-Disposition: form-data; name=\"{field}\"; filename=\"{name}\"\r\nContent-Type: application/octet-stream\r\n\r\n"
        );
        let (mut sender, body) = Channel::new(PARTS_WAITING);
        // It sends while the request below is under way.
        self.runtime.spawn(async move {
            let mut file = tokio::fs::File::from_std(file);
            sender.send_data(Bytes::from(head)).await?;
            loop {
                let mut part = BytesMut::with_capacity(PART_BYTES);
                match file.read_buf(&mut part).await {
                    Ok(0) => break,
                    Ok(_) => sender.send_data(part.freeze()).await?,
                    Err(error) => {
                        sender.abort(error);
                        return Ok(());
                    }
                }
            }
            sender.send_data(format!("\r\n--{boundary}--\r\n").into()).await
        });
        self.ask(request, path, body, LONG_ANSWER)
    }

    pub(crate) fn patch<T: DeserializeOwned>(&self, path: &str, body: &serde_json::Value) -> anyhow::Result<T> {
        self.ask_json(Method::PATCH, path, Some(body), ANSWER)
    }

    pub(crate) fn delete<T: DeserializeOwned>(&self, path: &str) -> anyhow::Result<T> {
        self.ask_json(Method::DELETE, path, None, LONG_ANSWER)
    }

    fn ask_json<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&serde_json::Value>,
        wait: Duration,
    ) -> anyhow::Result<T> {
        let request = Request::builder().method(method).header(header::CONTENT_TYPE, "application/json");
        self.ask(request, path, Full::new(body.map(|body| Bytes::from(body.to_string())).unwrap_or_default()), wait)
    }

    fn ask<T: DeserializeOwned, B>(&self, request: Builder, path: &str, body: B, wait: Duration) -> anyhow::Result<T>
    where
        B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
    {
        let request =
            request.uri(format!("/api/v5{path}")).header(header::HOST, "hookline").header(header::ACCEPT, "application/json").body(body)?;
        let asked = async { tokio::time::timeout(wait, exchange(&self.socket, request)).await };
        let answered = self.runtime.block_on(asked).with_context(|| format!("the broker has not answered within {wait:?}"))?;
        let (status, body) = answered.context("the broker went away before it answered; see its log, and run the command again")?;
        if status.is_success() {
            let body = if body.is_empty() { &b"null"[..] } else { &body[..] };
            return serde_json::from_slice(body).context("the broker answers as another version of Hookline does; use its own command");
        }
        match serde_json::from_slice::<Problem>(&body) {
            Ok(problem) => Err(problem.into()),
            Err(_) => bail!("the broker answers {status}: {}", String::from_utf8_lossy(&body)),
        }
    }
}

async fn exchange<B>(socket: &Path, request: Request<B>) -> anyhow::Result<(StatusCode, Bytes)>
where
    B: Body<Data = Bytes, Error: Into<Box<dyn Error + Send + Sync>>> + Send + 'static,
{
    let stream = UnixStream::connect(socket).await?;
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
    let carrying = tokio::spawn(connection);
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    carrying.abort();
    Ok((status, body))
}

/// A name as a part of a path.
pub(crate) fn encode(name: &str) -> String {
    let mut encoded = String::new();
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(encode("readings-1"), "readings-1");
        assert_eq!(encode("a/b ä?"), "a%2Fb%20%C3%A4%3F");
    }

    #[test]
    fn without_a_broker_there_is_nobody_to_reach() {
        let folder = tempfile::tempdir().expect("a folder");
        assert!(Control::connect(folder.path()).expect("no error").is_none(), "no socket");
        assert!(Control::connect(&folder.path().join("missing")).expect("no error").is_none(), "no folder");
        drop(std::os::unix::net::UnixListener::bind(socket(folder.path())).expect("binds"));
        assert!(Control::connect(folder.path()).expect("no error").is_none(), "a socket that nobody listens on");
        assert!(Control::connect(&folder.path().join("x".repeat(120))).expect("no error").is_none(), "a path that is too long");
    }
}
