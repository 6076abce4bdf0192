//! What carries MQTT: TCP, TLS, WebSocket, or WebSocket in TLS. One type for all, without blocking and without a runtime
//! of its own: listeners drive it until the CONNECT is read, workers from then on.
//!
//! In: bytes of a socket.
//! Out: bytes of MQTT, and back.

/// The PROXY protocol.
pub(crate) mod proxy;
/// Certificates, and what clients show of theirs.
pub(crate) mod tls;
/// WebSocket: the upgrade, and MQTT in frames.
pub(crate) mod websocket;

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;

use hookline_wire::websocket::Framed;
use rustls::{ServerConnection, StreamOwned};

/// A connection's bytes.
#[derive(Debug)]
pub(crate) enum Transport {
    Plain(Wire),
    WebSocket(Box<Framed<Wire>>),
}

/// What is below WebSocket, or below MQTT itself.
#[derive(Debug)]
pub(crate) enum Wire {
    Tcp(Socket),
    Tls(Box<StreamOwned<ServerConnection, Socket>>),
}

/// A socket that never blocks: by itself, or with the runtime once that has to wait for it. Mostly a CONNECT is there when it is looked for, and
/// then the runtime never hears of the socket.
#[derive(Debug)]
pub(crate) enum Socket {
    Bare(std::net::TcpStream),
    Waited(tokio::net::TcpStream),
    /// Between the two, or where the runtime has not taken it.
    Gone,
    /// A peer in memory, which says nothing: it counts the bytes that it gets.
    #[cfg(test)]
    Silent(std::sync::Arc<std::sync::atomic::AtomicU64>),
}

impl From<UnixStream> for Socket {
    fn from(stream: UnixStream) -> Socket {
        // A worker only reads, writes and waits: any socket will do.
        Socket::Bare(std::net::TcpStream::from(OwnedFd::from(stream)))
    }
}

impl Transport {
    /// Reads bytes of MQTT; 0 is the end. `Interrupted`: much has come and none of it was MQTT; ask again, but not at once.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(wire) => wire.read(buffer),
            Transport::WebSocket(framed) => framed.read(buffer),
        }
    }

    /// Takes bytes of MQTT to be sent; what it takes may not have left yet: see [`Transport::flush`].
    pub(crate) fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Transport::Plain(wire) => wire.write(bytes),
            Transport::WebSocket(framed) => framed.write(bytes),
        }
    }

    /// Sends what was taken.
    pub(crate) fn flush(&mut self) -> io::Result<()> {
        match self {
            Transport::Plain(wire) => wire.flush(),
            Transport::WebSocket(framed) => framed.flush(),
        }
    }

    /// Whether there may be bytes to read that the socket does not show any more.
    pub(crate) fn reads_ahead(&self) -> bool {
        !matches!(self, Transport::Plain(Wire::Tcp(_)))
    }

    /// Says that nothing more will come, as far as the protocol below has a word for it.
    pub(crate) fn say_goodbye(&mut self) {
        if let Transport::WebSocket(framed) = self {
            framed.close();
        }
        if let Wire::Tls(tls) = self.wire_mut() {
            tls.conn.send_close_notify();
        }
        // A peer that does not take it learns it from the end of the connection.
        drop(self.flush());
    }

    /// Whether there is no socket any more.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self.wire().socket(), Socket::Gone)
    }

    pub(crate) fn wire(&self) -> &Wire {
        match self {
            Transport::Plain(wire) => wire,
            Transport::WebSocket(framed) => framed.wire(),
        }
    }

    fn wire_mut(&mut self) -> &mut Wire {
        match self {
            Transport::Plain(wire) => wire,
            Transport::WebSocket(framed) => framed.wire_mut(),
        }
    }

    /// Takes the socket from the runtime, for a worker's own epoll set.
    pub(crate) fn into_bare(mut self) -> io::Result<Transport> {
        let socket = self.wire_mut().socket_mut();
        *socket = match std::mem::replace(socket, Socket::Gone) {
            Socket::Waited(waited) => Socket::Bare(waited.into_std()?),
            other => other,
        };
        Ok(self)
    }
}

impl AsFd for Transport {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self.wire().socket() {
            Socket::Waited(socket) => socket.as_fd(),
            Socket::Bare(socket) => socket.as_fd(),
            Socket::Gone => unreachable!("a socket is gone only between the two"),
            #[cfg(test)]
            Socket::Silent(_) => unreachable!("nothing is waited for"),
        }
    }
}

impl Wire {
    pub(crate) fn socket(&self) -> &Socket {
        match self {
            Wire::Tcp(socket) => socket,
            Wire::Tls(tls) => &tls.sock,
        }
    }

    fn socket_mut(&mut self) -> &mut Socket {
        match self {
            Wire::Tcp(socket) => socket,
            Wire::Tls(tls) => &mut tls.sock,
        }
    }

    /// Runs `step` until it does not ask to wait any more. Only in the runtime.
    pub(crate) async fn drive<T>(&mut self, mut step: impl FnMut(&mut Wire) -> io::Result<T>) -> io::Result<T> {
        loop {
            match step(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.ready().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    /// Waits until the socket has or takes bytes.
    async fn ready(&mut self) -> io::Result<()> {
        let wants_write = matches!(self, Wire::Tls(tls) if tls.conn.wants_write());
        let socket = self.socket_mut().waited()?;
        let interest =
            if wants_write { tokio::io::Interest::READABLE | tokio::io::Interest::WRITABLE } else { tokio::io::Interest::READABLE };
        socket.ready(interest).await.map(drop)
    }

    /// Waits until the socket takes bytes.
    async fn writable(&mut self) -> io::Result<()> {
        self.socket_mut().waited()?.writable().await
    }
}

impl Socket {
    /// The runtime's; from now on it is.
    fn waited(&mut self) -> io::Result<&tokio::net::TcpStream> {
        *self = match std::mem::replace(self, Socket::Gone) {
            Socket::Bare(bare) => Socket::Waited(tokio::net::TcpStream::from_std(bare)?),
            other => other,
        };
        match self {
            Socket::Waited(socket) => Ok(socket),
            _ => Err(io::ErrorKind::NotConnected.into()),
        }
    }
}

impl Transport {
    /// Reads, and waits for it. Only in the runtime.
    pub(crate) async fn read_waiting(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        loop {
            match self.read(buffer) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wire_mut().ready().await?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => tokio::task::yield_now().await,
                other => return other,
            }
        }
    }

    /// Writes all, and waits for it. Only in the runtime.
    pub(crate) async fn write_waiting(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        loop {
            let result = if bytes.is_empty() { self.flush().map(|()| 0) } else { self.write(bytes) };
            match result {
                Ok(_) if bytes.is_empty() => return Ok(()),
                Ok(count) => bytes = &bytes[count..],
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.wire_mut().writable().await?,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(socket) => socket.read(buffer),
            Wire::Tls(tls) => read_tls(tls, buffer),
        }
    }
}

/// Reads of TLS records in a row that bring nothing.
const RECORD_READS_MAX: usize = 64;

/// Reads, and never because of what is to be written: each side is waited for by itself.
fn read_tls(tls: &mut StreamOwned<ServerConnection, Socket>, buffer: &mut [u8]) -> io::Result<usize> {
    for _ in 0..RECORD_READS_MAX {
        match tls.conn.reader().read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            // The peer has closed without saying so in TLS.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Ok(0),
            other => return other,
        }
        if tls.conn.read_tls(&mut tls.sock)? == 0 {
            return Ok(0);
        }
        let processed = tls.conn.process_new_packets().map(drop);
        // Answers of TLS itself, such as an alert; what the socket does not take now goes with the next write.
        match write_tls(tls) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            _ => {}
        }
        processed.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error.to_string()))?;
    }
    // Empty records could go on for ever.
    Err(io::ErrorKind::Interrupted.into())
}

/// Sends what TLS has ready.
fn write_tls(tls: &mut StreamOwned<ServerConnection, Socket>) -> io::Result<()> {
    while tls.conn.wants_write() {
        if tls.conn.write_tls(&mut tls.sock)? == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

impl Write for Wire {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Wire::Tcp(socket) => socket.write(bytes),
            Wire::Tls(tls) => {
                // What was taken before goes first, so that there is room.
                write_tls(tls)?;
                let count = tls.conn.writer().write(bytes)?;
                match write_tls(tls) {
                    Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
                    _ => Ok(count),
                }
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Wire::Tcp(_) => Ok(()),
            Wire::Tls(tls) => write_tls(tls),
        }
    }
}

impl Read for Socket {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Socket::Waited(socket) => socket.try_read(buffer),
            Socket::Bare(socket) => socket.read(buffer),
            Socket::Gone => Err(io::ErrorKind::NotConnected.into()),
            #[cfg(test)]
            Socket::Silent(_) => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Socket {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Socket::Waited(socket) => socket.try_write(bytes),
            Socket::Bare(socket) => socket.write(bytes),
            Socket::Gone => Err(io::ErrorKind::NotConnected.into()),
            #[cfg(test)]
            Socket::Silent(written) => {
                written.fetch_add(bytes.len() as u64, std::sync::atomic::Ordering::Relaxed);
                Ok(bytes.len())
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
