//! What workers send each other: entries gathered in a mailbox, one wake-up for many.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use hookline_mqtt::packet::Connect;
use hookline_schemas::access::Rights;
use hookline_schemas::config::AutoSubscribe;
use hookline_schemas::event::Alarm;
use hookline_schemas::ports::Outcome;
use hookline_schemas::{Client, Message};
use parking_lot::Mutex;
use rustix::event::{EventfdFlags, eventfd};

use crate::limiter::SharedThrottle;
use crate::router::{Member, Target};
use crate::slab::Key;
use crate::store::Position;
use crate::transport::{Socket, Transport, Wire};
use crate::worker::Worker;
use crate::zone::Zone;

/// One entry.
#[derive(Debug)]
pub(crate) enum Mail {
    /// A connection whose login is decided.
    Connection(Box<NewConnection>),
    /// A message for sessions that live here, with its place in the store where it has one.
    Deliver { message: Arc<Message>, targets: Arc<[Target]>, position: Option<Position> },
    /// A message for one member of a group, whose session lives here.
    DeliverShared { message: Arc<Message>, member: Arc<Member>, position: Option<Position>, repeated: bool },
    /// A message of the broker's own, to be published from here.
    Publish(Box<Message>),
    /// An alarm has begun or ended: hooks are to be told.
    Alarm(Box<Alarm>),
    /// What a client may do is another by now.
    Rights { connection: Key, rights: Arc<dyn Rights> },
    /// What a connection waits for is decided, by these rights.
    Decided { connection: Key, rights: Arc<dyn Rights> },
    /// What clients may do is to be asked for anew.
    RenewRights,
    /// Somebody outside wants to know something, or to have it done.
    Inquiry(Inquiry),
    /// Commits have become durable.
    Durable,
    /// Take the connections down in good order, then end.
    Stop,
}

/// What is to be asked, or done.
pub(crate) struct Inquiry(pub(crate) Box<dyn FnOnce(&mut Worker) + Send>);

impl std::fmt::Debug for Inquiry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inquiry")
    }
}

/// A connection that has sent its CONNECT and may come in.
#[derive(Debug)]
pub(crate) struct NewConnection {
    pub(crate) transport: Transport,
    pub(crate) connect: Connect,
    pub(crate) client: Arc<Client>,
    pub(crate) zone: Arc<Zone>,
    /// What all clients of the listener may send together.
    pub(crate) throttle: Option<Arc<SharedThrottle>>,
    /// The client identifier was chosen by the broker.
    pub(crate) assigned: bool,
    /// What it may do; `None`: everything.
    pub(crate) rights: Option<Arc<dyn Rights>>,
    /// It may everything, whatever is configured.
    pub(crate) is_superuser: bool,
    /// When it has to go, milliseconds since the Unix epoch.
    pub(crate) expires_at_ms: Option<u64>,
    /// What it is subscribed to by the broker, beside what all are.
    pub(crate) subscriptions: Vec<AutoSubscribe>,
    /// Where it has authenticated in steps.
    pub(crate) proof: Option<Proof>,
    /// What the client sent behind its CONNECT.
    pub(crate) input: Vec<u8>,
    /// What the hooks so far want written.
    pub(crate) outcome: Outcome,
    /// Given back when the connection ends.
    pub(crate) permit: ConnectionPermit,
}

impl NewConnection {
    /// A connection of this process: without a network, a login or a bound on their number.
    pub(crate) fn within(socket: Socket, connect: Connect, client: Client, zone: &Arc<Zone>) -> NewConnection {
        NewConnection {
            transport: Transport::Plain(Wire::Tcp(socket)),
            connect,
            client: Arc::new(client),
            zone: Arc::clone(zone),
            throttle: None,
            assigned: false,
            rights: None,
            is_superuser: true,
            expires_at_ms: None,
            subscriptions: Vec::new(),
            proof: None,
            input: Vec::new(),
            outcome: Outcome::default(),
            permit: ConnectionPermit::default(),
        }
    }
}

/// What an authentication in steps has come to.
#[derive(Debug)]
pub(crate) struct Proof {
    /// The name that was proven.
    pub(crate) username: String,
    /// The last data for the client.
    pub(crate) data: Vec<u8>,
}

/// A place among the connections of a listener; by default one among none.
#[derive(Debug, Default)]
pub(crate) struct ConnectionPermit(Arc<AtomicUsize>);

impl ConnectionPermit {
    /// Takes a place, where fewer than `max` are taken.
    pub(crate) fn take(places: &Arc<AtomicUsize>, max: usize) -> Option<ConnectionPermit> {
        let taken = places.fetch_add(1, Ordering::Relaxed);
        // From here on the place is given back when it is dropped, also at the bound.
        let permit = ConnectionPermit(Arc::clone(places));
        (taken < max).then_some(permit)
    }
}

impl Drop for ConnectionPermit {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The sending end, shared.
#[derive(Debug)]
pub(crate) struct Mailbox {
    entries: Mutex<Vec<Mail>>,
    /// What waits, for back-pressure.
    waiting: AtomicUsize,
    /// The worker is about to wait, or does.
    sleeping: AtomicBool,
    event: OwnedFd,
}

/// Entries that may wait for a worker. Beyond it the others stop reading from their connections until it has caught up.
pub(crate) const MAIL_MAX: usize = 100_000;

impl Mailbox {
    pub(crate) fn new() -> io::Result<Mailbox> {
        let event = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Mailbox { entries: Mutex::default(), waiting: AtomicUsize::new(0), sleeping: AtomicBool::new(false), event })
    }

    /// What epoll is to watch, for edges: each wake-up is one, and the counter is never read.
    pub(crate) fn event(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }

    /// Posts entries, and wakes the worker where it sleeps.
    pub(crate) fn post_all(&self, mail: &mut Vec<Mail>) {
        {
            let mut entries = self.entries.lock();
            entries.append(mail);
            self.waiting.store(entries.len(), Ordering::Relaxed);
        }
        self.wake();
    }

    /// Posts one entry.
    pub(crate) fn post(&self, mail: Mail) {
        {
            let mut entries = self.entries.lock();
            entries.push(mail);
            self.waiting.store(entries.len(), Ordering::Relaxed);
        }
        self.wake();
    }

    /// Wakes the worker, where it sleeps.
    pub(crate) fn wake(&self) {
        // The flag is cleared before the write, so that one wake-up serves all senders.
        if self.sleeping.swap(false, Ordering::SeqCst) {
            // The counter takes 2^64 of them.
            let _written = rustix::io::write(&self.event, &1u64.to_ne_bytes());
        }
    }

    /// Whether senders should hold back.
    pub(crate) fn is_full(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) >= MAIL_MAX
    }

    /// Announces that the worker is going to wait; `false` where there is mail already.
    pub(crate) fn fall_asleep(&self) -> bool {
        self.sleeping.store(true, Ordering::SeqCst);
        if self.entries.lock().is_empty() {
            return true;
        }
        self.sleeping.store(false, Ordering::SeqCst);
        false
    }

    /// The worker is awake.
    pub(crate) fn awake(&self) {
        self.sleeping.store(false, Ordering::SeqCst);
    }

    /// Takes all entries; `into` gives its memory in exchange.
    pub(crate) fn take(&self, into: &mut Vec<Mail>) {
        debug_assert!(into.is_empty(), "the last mail was handled");
        std::mem::swap(&mut *self.entries.lock(), into);
        self.waiting.store(0, Ordering::Relaxed);
    }
}
