//! An HTTP server that does what a test wants, and remembers what it was asked: HTTP/1.1, with TLS where wanted.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig, ServerConnection, StreamOwned};

use crate::certificates::Certificates;
use crate::eventually;

/// A request as it arrived.
#[derive(Debug, Clone)]
pub struct Request {
    pub at: Instant,
    pub method: String,
    /// Path and query.
    pub target: String,
    /// By name, in small letters.
    pub headers: BTreeMap<String, String>,
    pub body: Vec<u8>,
}

/// What the server does with a request.
#[derive(Debug, Clone)]
pub enum Reply {
    /// A status, further header lines, and a body.
    Answer(u16, &'static str, String),
    /// Nothing, and the connection stays.
    Hang,
    /// Nothing, and the connection ends.
    HangUp,
}

/// The server. It ends with the test.
pub struct Webhook {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    reply: Box<dyn Fn(&Request) -> Reply + Send + Sync>,
    requests: Mutex<Vec<Request>>,
    streams: Mutex<Vec<TcpStream>>,
    is_open: AtomicBool,
    tls: Option<Arc<ServerConfig>>,
}

impl Request {
    /// The value of a header; empty where there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", String::as_str)
    }

    /// The body as JSON.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }
}

impl Webhook {
    /// Starts a server on a free port. `reply` decides about each request.
    pub fn start(reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Webhook {
        Webhook::start_with(None, reply)
    }

    /// As [`Webhook::start`], with TLS: clients must have a certificate of the same authority.
    pub fn start_tls(certificates: &Certificates, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Webhook {
        Webhook::start_with(Some(Arc::new(tls(certificates))), reply)
    }

    fn start_with(tls: Option<Arc<ServerConfig>>, reply: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Webhook {
        let shared =
            Shared { reply: Box::new(reply), requests: Mutex::default(), streams: Mutex::default(), is_open: AtomicBool::new(false), tls };
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let mut webhook = Webhook { address: listener.local_addr().expect("an address"), shared: Arc::new(shared), accepting: None };
        webhook.accept(listener);
        webhook
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it was asked until now.
    pub fn requests(&self) -> Vec<Request> {
        lock(&self.shared.requests).clone()
    }

    /// Ends the listener and all connections; [`Webhook::resume`] brings the listener back.
    pub fn pause(&mut self) {
        self.shared.is_open.store(false, Ordering::SeqCst);
        // Wakes the thread that accepts. It may have ended by itself.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the listener ends well");
        }
        for stream in lock(&self.shared.streams).drain(..) {
            // It may be gone already.
            drop(stream.shutdown(Shutdown::Both));
        }
    }

    /// See [`Webhook::pause`].
    pub fn resume(&mut self) {
        let listener = eventually("the port is free again", Duration::from_secs(10), || TcpListener::bind(self.address).ok());
        self.accept(listener);
    }

    fn accept(&mut self, listener: TcpListener) {
        self.shared.is_open.store(true, Ordering::SeqCst);
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if !shared.is_open.load(Ordering::SeqCst) {
                    return;
                }
                lock(&shared.streams).push(stream.try_clone().expect("a second handle"));
                let shared = Arc::clone(&shared);
                // It ends when its connection does, which `pause` sees to.
                drop(std::thread::spawn(move || shared.serve_and_end(stream)));
            }
        }));
    }
}

impl Drop for Webhook {
    fn drop(&mut self) {
        if self.accepting.is_some() {
            self.pause();
        }
    }
}

impl Shared {
    fn serve_and_end(&self, stream: TcpStream) {
        let handle = stream.try_clone().expect("a second handle");
        match &self.tls {
            None => self.serve(stream),
            Some(config) => {
                let connection = ServerConnection::new(Arc::clone(config)).expect("a TLS connection");
                self.serve(StreamOwned::new(connection, stream));
            }
        }
        // The handle in `streams` would keep it open. It may be gone already.
        drop(handle.shutdown(Shutdown::Both));
    }

    fn serve(&self, mut stream: impl Read + Write) {
        while let Some(request) = read(&mut stream) {
            lock(&self.requests).push(request.clone());
            match (self.reply)(&request) {
                Reply::Answer(status, headers, body) => {
                    let answer = format!("HTTP/1.1 {status} X\r\n{headers}Content-Length: {}\r\n\r\n{body}", body.len());
                    if stream.write_all(answer.as_bytes()).and_then(|()| stream.flush()).is_err() {
                        return;
                    }
                }
                // Until the other side gives up, or the test ends.
                Reply::Hang => drop(stream.read(&mut [0])),
                Reply::HangUp => return,
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// `None`: the connection has ended.
fn read(stream: &mut impl Read) -> Option<Request> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).ok()?;
        head.push(byte[0]);
    }
    let head = String::from_utf8_lossy(&head).into_owned();
    let mut lines = head.lines();
    let mut first = lines.next()?.split(' ').map(str::to_owned);
    let headers = lines.filter_map(|line| line.split_once(": "));
    let headers: BTreeMap<String, String> = headers.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let length = headers.get("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
    let mut body = vec![0; length];
    stream.read_exact(&mut body).ok()?;
    Some(Request { at: Instant::now(), method: first.next()?, target: first.next()?, headers, body })
}

fn chain(file: &Path) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_file_iter(file).expect("readable").map(|certificate| certificate.expect("PEM")).collect()
}

fn tls(certificates: &Certificates) -> ServerConfig {
    let mut roots = RootCertStore::empty();
    for authority in chain(&certificates.ca) {
        roots.add(authority).expect("an authority");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider)).build().expect("a verifier");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain(&certificates.server), PrivateKeyDer::from_pem_file(&certificates.server_key).expect("a key"))
        .expect("a certificate with its key")
}
