//! Connections from the network: so many at a time, and none that says nothing for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::serve::Listener;
use hookline_core::TlsServer;
use hookline_schemas::config::Tls;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, Sleep, interval, sleep};
use tokio_rustls::server::TlsStream;
use tokio_rustls::{Accept, TlsAcceptor};

/// Connections at a time; others wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// How long a connection may say nothing.
const IDLE: Duration = Duration::from_secs(75);

/// How often the files of certificates are looked at.
const RELOAD_INTERVAL: Duration = Duration::from_secs(10);
/// What is spoken above TLS.
const ALPN: &[&[u8]] = &[b"http/1.1"];

/// Accepts connections within the bound.
pub(super) struct Bounded {
    listener: TcpListener,
    tls: Option<Arc<TlsServer>>,
    room: Arc<Semaphore>,
}

/// A connection. Its place is free again when it is dropped.
pub(super) struct Connection {
    wire: Wire,
    idle: Pin<Box<Sleep>>,
    _place: OwnedSemaphorePermit,
}

/// What the bytes go by.
enum Wire {
    Plain(TcpStream),
    /// The first read brings the handshake to its end, so that nobody else waits for it.
    Greeting(Box<Accept<TcpStream>>),
    Tls(Box<TlsStream<TcpStream>>),
}

/// The TLS of the API.
///
/// # Errors
/// The key of the configuration that is at fault, and why.
pub(crate) fn open_tls(settings: &Tls) -> Result<Arc<TlsServer>, String> {
    TlsServer::open(settings, ALPN).map(Arc::new).map_err(|problem| format!("api.{problem}"))
}

/// Takes new certificates into use, until it is told to stop.
pub(super) async fn renew(tls: Arc<TlsServer>, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(RELOAD_INTERVAL);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => match tls.reload() {
                Some(Ok(())) => tracing::info!(listener = "api", "new certificates are in use"),
                Some(Err(problem)) => {
                    tracing::error!(listener = "api", problem, "the changed certificates cannot be used; the ones before stay in use");
                }
                None => {}
            },
        }
    }
}

impl Bounded {
    pub(super) fn new(listener: TcpListener, tls: Option<Arc<TlsServer>>) -> Bounded {
        Bounded { listener, tls, room: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }
    }
}

impl Wire {
    /// Goes on with the handshake, where it has not ended.
    fn poll_greeting(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        if let Wire::Greeting(accept) = self {
            let stream = ready!(Pin::new(&mut **accept).poll(context))?;
            *self = Wire::Tls(Box::new(stream));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_read(&mut self, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        ready!(self.poll_greeting(context))?;
        match self {
            Wire::Plain(stream) => Pin::new(stream).poll_read(context, buffer),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_read(context, buffer),
            Wire::Greeting(_) => unreachable!("the handshake has ended above"),
        }
    }
}

impl Listener for Bounded {
    type Io = Connection;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Connection, SocketAddr) {
        let place = Arc::clone(&self.room).acquire_owned().await.expect("the semaphore is never closed");
        // It tries again by itself where there are no files left.
        let (stream, peer) = Listener::accept(&mut self.listener).await;
        let wire = match &self.tls {
            Some(tls) => Wire::Greeting(Box::new(TlsAcceptor::from(tls.config()).accept(stream))),
            None => Wire::Plain(stream),
        };
        (Connection { wire, idle: Box::pin(sleep(IDLE)), _place: place }, peer)
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }
}

impl AsyncRead for Connection {
    fn poll_read(mut self: Pin<&mut Self>, context: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if let Poll::Ready(read) = self.wire.poll_read(context, buffer) {
            self.idle.as_mut().reset(Instant::now() + IDLE);
            return Poll::Ready(read);
        }
        ready!(self.idle.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, context: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        ready!(self.wire.poll_greeting(context))?;
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_write(context, bytes),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_write(context, bytes),
            Wire::Greeting(_) => unreachable!("the handshake has ended above"),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_flush(context),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_flush(context),
            // Nothing was written.
            Wire::Greeting(_) => Poll::Ready(Ok(())),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.wire {
            Wire::Plain(stream) => Pin::new(stream).poll_shutdown(context),
            Wire::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(context),
            // Whoever has not greeted gets no goodbye.
            Wire::Greeting(_) => Poll::Ready(Ok(())),
        }
    }
}
