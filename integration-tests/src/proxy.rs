//! A TCP proxy between the broker and a server, that does what networks do.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

/// How often a connection looks whether the weather has changed.
const LOOK: Duration = Duration::from_millis(20);

/// What happens to connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// They work.
    Fair,
    /// Those that are there end, and new ones are refused.
    Refuse,
    /// Each ends when so many bytes have gone to the server: in the middle of what is sent.
    Cut(usize),
    /// Nothing goes through and nothing ends, for those that are there for ever; new ones are accepted and not answered.
    Hang,
    /// So many bytes a second, in each direction.
    Slow(usize),
    /// Everything that the server says comes as other bytes.
    Garbled,
}

/// The proxy. It ends with the test.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    accepting: Option<JoinHandle<()>>,
}

struct Shared {
    server: SocketAddr,
    weather: Mutex<Weather>,
}

fn lock(weather: &Mutex<Weather>) -> MutexGuard<'_, Weather> {
    weather.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Proxy {
    /// In front of a server, on a free port.
    pub fn start(server: SocketAddr) -> Proxy {
        Proxy::start_at("127.0.0.1:0".parse().expect("an address"), server)
    }

    /// On a port that the server tells its clients.
    pub fn start_at(address: SocketAddr, server: SocketAddr) -> Proxy {
        let listener = TcpListener::bind(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        let address = listener.local_addr().expect("an address");
        let shared = Arc::new(Shared { server, weather: Mutex::new(Weather::Fair) });
        let mut proxy = Proxy { address, shared, accepting: None };
        proxy.accept(listener);
        proxy
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// What it stands in front of.
    pub fn server(&self) -> SocketAddr {
        self.shared.server
    }

    /// Changes what happens.
    pub fn set(&mut self, weather: Weather) {
        let before = std::mem::replace(&mut *lock(&self.shared.weather), weather);
        if matches!(weather, Weather::Hang | Weather::Refuse | Weather::Garbled) {
            // What was being read when it changed has gone through.
            std::thread::sleep(3 * LOOK);
        }
        if weather == Weather::Refuse && before != Weather::Refuse {
            self.end_listener();
        } else if weather != Weather::Refuse && before == Weather::Refuse {
            let listener = crate::eventually("the port is free again", Duration::from_secs(10), || TcpListener::bind(self.address).ok());
            self.accept(listener);
        }
    }

    fn end_listener(&mut self) {
        // Wakes the thread that accepts. It may have ended by itself.
        drop(TcpStream::connect(self.address));
        if let Some(accepting) = self.accepting.take() {
            accepting.join().expect("the listener ends well");
        }
    }

    fn accept(&mut self, listener: TcpListener) {
        let shared = Arc::clone(&self.shared);
        self.accepting = Some(std::thread::spawn(move || {
            for client in listener.incoming() {
                if *lock(&shared.weather) == Weather::Refuse {
                    return;
                }
                if let Ok(client) = client {
                    let shared = Arc::clone(&shared);
                    std::thread::spawn(move || carry(client, &shared));
                }
            }
        }));
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        *lock(&self.shared.weather) = Weather::Refuse;
        self.end_listener();
    }
}

/// Carries one connection, until one side or the weather ends it.
fn carry(client: TcpStream, shared: &Arc<Shared>) {
    // Without its server a connection ends at once, as it would without the proxy.
    let Ok(server) = TcpStream::connect(shared.server) else { return };
    let (Ok(client_in), Ok(server_in)) = (client.try_clone(), server.try_clone()) else { return };
    let back = Arc::clone(shared);
    let answering = std::thread::spawn(move || pass(server_in, client_in, &back, false));
    pass(client, server, shared, true);
    answering.join().expect("a direction ends well");
}

fn pass(mut from: TcpStream, mut to: TcpStream, shared: &Shared, to_server: bool) {
    let mut buffer = [0; 4096];
    let mut passed = 0;
    let mut hangs = false;
    drop(from.set_read_timeout(Some(LOOK)));
    drop(to.set_write_timeout(Some(Duration::from_secs(10))));
    loop {
        let weather = *lock(&shared.weather);
        hangs |= weather == Weather::Hang;
        if weather == Weather::Refuse {
            break;
        }
        if hangs {
            // Neither side hears of the other's end.
            std::thread::sleep(LOOK);
            continue;
        }
        let most = match weather {
            Weather::Slow(bytes) => (bytes / 50).clamp(1, buffer.len()),
            Weather::Cut(bytes) if to_server => (bytes.saturating_sub(passed)).min(buffer.len()),
            _ => buffer.len(),
        };
        if most == 0 {
            break;
        }
        match from.read(&mut buffer[..most]) {
            Ok(0) => break,
            Ok(read) => {
                passed += read;
                if weather == Weather::Garbled && !to_server {
                    buffer[..read].iter_mut().for_each(|byte| *byte ^= 0xa5);
                }
                if to.write_all(&buffer[..read]).is_err() {
                    break;
                }
                if matches!(weather, Weather::Slow(_)) {
                    std::thread::sleep(Duration::from_millis(20));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted) => {}
            Err(_) => break,
        }
    }
    // The other direction ends with this one; either may be closed already.
    drop(from.shutdown(Shutdown::Both));
    drop(to.shutdown(Shutdown::Both));
}
