//! A worker: one thread, one epoll set, and the sessions whose client identifiers hash to it.
//!
//! In: bytes from its connections, mail from other workers and listeners, word of durable commits.
//! Out: bytes to its connections, batches for the store, mail to other workers.
//!
//! A turn of the loop: read and handle, take the mail, commit what came together, release what has become durable,
//! post the mail, write. Nothing is written to a socket while packets are handled.

mod awaiting;
mod by_client;
mod connect;
mod connection;
mod deferred;
mod delayed;
mod deliver;
mod ends;
mod input;
mod inquiry;
mod listing;
mod publish;
mod resting;
mod retained;
mod rights;
mod shared;
mod subscribe;
mod sys;
mod timers;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use hookline_mqtt::packet::Will;
use hookline_schemas::config::{AutoSubscribe, Delayed, SlowSubscribers, Sys};
use hookline_schemas::event::{About, HookPoint};
use hookline_schemas::ports::Outcome;
use hookline_schemas::{Client, Message, QueueId};
use parking_lot::Mutex;
use rustix::event::{Timespec, epoll};
use tokio::sync::mpsc;

use crate::alarms::Alarms;
use crate::authentication::Methods;
use crate::bans::Bans;
use crate::clock;
use crate::hooks::Hooks;
use crate::mailbox::{Inquiry, Mail, Mailbox};
use crate::metrics::{Counters, Strangers};
use crate::renewal::Renewal;
use crate::retained::Retained;
use crate::rewrite::Rewrites;
use crate::router::{Address, Member, RouteCache, Router};
use crate::seldom::Seldom;
use crate::session::{Mqueue, Session, StoredState};
use crate::slab::{Key, Slab};
use crate::slow::Slow;
use crate::store::{Batch, ChunkCache, Queue, Store};
use crate::zone::{Zone, Zones};
use crate::{HashMap, HashSet};
use by_client::ByClient;
use connection::Connection;
use deferred::{Deferred, Pending};
use deliver::Encoded;
use publish::Admission;
use timers::Timers;

pub(crate) use delayed::{split as split_delayed, worker_of_delayed};
pub(crate) use inquiry::{describe_subscription, time};
pub(crate) use listing::Waiting;
pub use retained::Supplied;

/// What all workers share.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) node: Arc<str>,
    pub(crate) alarms: Alarms,
    pub(crate) zones: Zones,
    pub(crate) methods: Methods,
    pub(crate) bans: Bans,
    pub(crate) rewrites: Rewrites,
    pub(crate) auto_subscribe: Vec<AutoSubscribe>,
    pub(crate) delayed: Delayed,
    pub(crate) sys: Sys,
    pub(crate) slow: SlowSubscribers,
    pub(crate) slowest: Mutex<Slow>,
    pub(crate) strangers: Strangers,
    /// Sessions of all workers.
    pub(crate) sessions: AtomicUsize,
    /// Memory is at its bound.
    pub(crate) overload: AtomicBool,
    /// Who holds an exclusive subscription.
    pub(crate) exclusive: Mutex<HashMap<Box<str>, Address>>,
    pub(crate) store: Arc<Store>,
    pub(crate) router: Router,
    pub(crate) retained: Retained,
    pub(crate) hooks: Hooks,
    /// Asks anew what clients may do.
    pub(crate) renewals: mpsc::Sender<Renewal>,
    pub(crate) mailboxes: Vec<Arc<Mailbox>>,
    /// Distinguishes the message ids of this start from those of all others.
    pub(crate) boot: u32,
}

/// A session at home, with what connects it to the rest of the worker.
#[derive(Debug)]
pub(crate) struct Resident {
    pub(crate) session: Session,
    /// Its connection, once the CONNACK is on its way.
    connection: Option<Key>,
    /// A connection whose CONNACK waits for the store.
    arriving: Option<Key>,
    outbox: Outbox,
    zone: Arc<Zone>,
    /// What it is in shared subscriptions.
    memberships: Seldom<Vec<Arc<Member>>>,
    /// Retained messages that new subscriptions have still to get.
    scans: Seldom<VecDeque<retained::Scan>>,
    /// A subscription was taken from it: what still waits is looked at before it is sent. A restart of the broker forgets that.
    checks_deliveries: bool,
    takeovers: Seldom<Takeovers>,
    will: Option<Box<Will>>,
    /// What is due without a connection.
    away: Seldom<Away>,
}

/// When something becomes of a session whose client stays away.
#[derive(Debug, Default)]
struct Away {
    /// A delayed will is due.
    will_at: Option<Instant>,
    /// The session ends.
    expires_at: Option<Instant>,
}

impl Away {
    fn next(&self) -> Option<Instant> {
        self.will_at.into_iter().chain(self.expires_at).min()
    }
}

/// How often a session was taken over.
#[derive(Debug, Default)]
struct Takeovers {
    /// When the current second began.
    began: Option<Instant>,
    /// How often since.
    count: u32,
}

/// Where messages wait that the in-flight window has no room for.
#[derive(Debug)]
enum Outbox {
    /// In memory, for a session that ends with its connection.
    Memory(Mqueue),
    /// In the store.
    Durable {
        queue: Arc<Queue>,
        state: Box<StoredState>,
        /// Messages just committed, so that they need not be read back.
        ahead: Seldom<VecDeque<(crate::store::Position, Arc<Message>, u8)>>,
        cache: Seldom<ChunkCache>,
        /// Messages below it may have been sent before the broker's last end.
        maybe_sent_below: u64,
    },
}

/// One worker.
pub(crate) struct Worker {
    number: u16,
    shared: Arc<Shared>,
    mailbox: Arc<Mailbox>,
    counters: Arc<Counters>,
    poll: OwnedFd,
    connections: Slab<Connection>,
    sessions: Slab<Resident>,
    by_client: ByClient,
    /// Sessions that are only in the store and the router, by their queues.
    resting: HashSet<QueueId>,
    routes: RouteCache,
    timers: Timers,
    /// What this turn will commit.
    batch: Batch,
    /// What waits for this turn's commit.
    turn: Vec<Deferred>,
    /// What waits for earlier commits to become durable.
    pending: VecDeque<Pending>,
    /// Connections with acknowledgements that wait for a sink.
    awaiting: Vec<Key>,
    /// Connections with bytes to write, or to be closed, at the end of the turn.
    dirty: Vec<Key>,
    /// Buffers for what connections write: one that has nothing to write has none.
    buffers: Vec<Vec<u8>>,
    /// The message that was encoded last.
    encoded: Encoded,
    /// Connections whose transport has more than its socket shows.
    more: Vec<Key>,
    /// The session whose acknowledgements are being read, where its window may have room.
    acknowledged: Option<Key>,
    /// Sessions with retained messages to get.
    scanning: VecDeque<Key>,
    /// Messages that wait for their time, by it.
    delayed: std::collections::BTreeSet<crate::store::DelayedKey>,
    /// Of them, those that this turn publishes.
    due: Vec<crate::store::DelayedKey>,
    outgoing: Vec<Vec<Mail>>,
    /// Messages that hooks or the broker itself want published.
    internal: VecDeque<Message>,
    /// Messages of the broker about itself.
    own: VecDeque<Message>,
    outcome: Outcome,
    next_message: u32,
    random: u64,
    now: Instant,
    /// The time of day of this turn, milliseconds since the Unix epoch.
    now_ms: u64,
    stopping: bool,
}

/// What turns use again.
pub(crate) struct Scratch {
    events: Vec<epoll::Event>,
    buffer: Box<[u8]>,
    mail: Vec<Mail>,
}

impl Default for Scratch {
    fn default() -> Self {
        Scratch { events: Vec::with_capacity(256), buffer: vec![0; READ_BYTES].into(), mail: Vec::new() }
    }
}

/// Bytes that one read takes at most.
const READ_BYTES: usize = 64 << 10;
/// The epoll token of the mailbox.
const MAILBOX: u64 = u64::MAX;
/// How long a worker waits for other workers to catch up before it looks again.
const BACK_PRESSURE_PAUSE: Duration = Duration::from_millis(1);

impl Worker {
    pub(crate) fn new(number: u16, shared: Arc<Shared>, counters: Arc<Counters>) -> io::Result<Worker> {
        let mailbox = Arc::clone(&shared.mailboxes[usize::from(number)]);
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&poll, mailbox.event(), epoll::EventData::new_u64(MAILBOX), epoll::EventFlags::IN | epoll::EventFlags::ET)?;
        let outgoing = shared.mailboxes.iter().map(|_| Vec::new()).collect();
        Ok(Worker {
            number,
            shared,
            mailbox,
            counters,
            poll,
            connections: Slab::default(),
            sessions: Slab::default(),
            by_client: ByClient::default(),
            resting: HashSet::default(),
            routes: RouteCache::default(),
            timers: Timers::default(),
            batch: Batch::default(),
            turn: Vec::new(),
            pending: VecDeque::new(),
            awaiting: Vec::new(),
            dirty: Vec::new(),
            buffers: Vec::new(),
            encoded: Encoded::default(),
            more: Vec::new(),
            acknowledged: None,
            scanning: VecDeque::new(),
            delayed: std::collections::BTreeSet::new(),
            due: Vec::new(),
            random: 0x9E37_79B9_7F4A_7C15 ^ u64::from(number),
            outgoing,
            internal: VecDeque::new(),
            own: VecDeque::new(),
            outcome: Outcome::default(),
            next_message: 0,
            now: clock::now(),
            now_ms: clock::now_ms(),
            stopping: false,
        })
    }

    /// Serves until it is told to stop and has taken its connections down.
    pub(crate) fn run(mut self) -> io::Result<()> {
        if self.number == 0 {
            self.timers.set(self.now, timers::Due::Tick);
        }
        let mut scratch = Scratch::default();
        loop {
            let may_read = self.wait(&mut scratch.events)?;
            self.turn(&mut scratch, may_read);
            self.counters.note_turn(self.now.elapsed());
            if self.stopping && self.batch.is_empty() && self.turn.is_empty() && self.pending.is_empty() {
                return Ok(());
            }
        }
    }

    /// What holds it up: for the report of a simulation.
    #[cfg(test)]
    pub(crate) fn state(&self) -> String {
        let connections = self.connections.keys();
        let connections: Vec<String> = connections
            .into_iter()
            .filter_map(|key| Some((key, self.connections.get(key).filter(|connection| connection.ending.is_none())?)))
            .map(|(key, c)| {
                let resident = self.sessions.get(c.session);
                let roles = resident.map(|resident| (resident.connection == Some(key), resident.arriving == Some(key)));
                format!("{} deferred {} (in, arriving) {roles:?}", c.client.client_id, c.deferred)
            })
            .collect();
        format!("pending {}, awaiting {}, connections {connections:?}", self.pending.len(), self.awaiting.len())
    }

    /// One turn, without waiting: for a simulation.
    #[cfg(test)]
    pub(crate) fn step(&mut self, scratch: &mut Scratch) -> io::Result<()> {
        let nothing = Timespec { tv_sec: 0, tv_nsec: 0 };
        epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut scratch.events), Some(&nothing))?;
        self.turn(scratch, true);
        Ok(())
    }

    fn turn(&mut self, scratch: &mut Scratch, may_read: bool) {
        let Scratch { events, buffer, mail } = scratch;
        self.now = clock::now();
        self.now_ms = clock::now_ms();
        for event in events.drain(..) {
            let token = event.data.u64();
            if token != MAILBOX {
                self.ready(Key::from_u64(token), event.flags, buffer);
            }
        }
        for key in if may_read { std::mem::take(&mut self.more) } else { Vec::new() } {
            self.ready(key, epoll::EventFlags::IN, buffer);
        }
        self.mailbox.take(mail);
        for entry in mail.drain(..) {
            self.handle_mail(entry);
        }
        self.run_timers();
        self.publish_delayed();
        self.publish_internal();
        self.commit();
        // The store has what this turn retained: whoever subscribed in it gets that.
        self.scan_retained();
        self.release_durable();
        self.release_delivered();
        // Deliveries may have raised events of their own: they are committed with what follows.
        self.publish_internal();
        self.post();
        self.write_dirty();
    }

    /// Waits for something to do. While another worker has too much mail, nothing is read that could become more of it: then it
    /// says so.
    fn wait(&mut self, events: &mut Vec<epoll::Event>) -> io::Result<bool> {
        let mut others = self.shared.mailboxes.iter().enumerate().filter(|(other, _)| *other != usize::from(self.number));
        if others.any(|(_, mailbox)| mailbox.is_full()) {
            std::thread::sleep(BACK_PRESSURE_PAUSE);
            return Ok(false);
        }
        let waiting = [&self.dirty, &self.more].iter().any(|keys| !keys.is_empty()) || !self.scanning.is_empty();
        let busy = waiting
            || !self.batch.is_empty()
            || !self.turn.is_empty()
            || !self.internal.is_empty()
            || !self.own.is_empty()
            || self.stopping;
        let timeout = if busy {
            Some(Duration::from_micros(if self.stopping { 500 } else { 0 }))
        } else {
            let timer = self.timers.next().map(|at| at.saturating_duration_since(clock::now()));
            timer.into_iter().chain(self.next_delayed()).min()
        };
        let timeout = if self.mailbox.fall_asleep() { timeout } else { Some(Duration::ZERO) };
        let timespec = timeout.map(|timeout| Timespec { tv_sec: timeout.as_secs() as i64, tv_nsec: timeout.subsec_nanos().into() });
        let result = epoll::wait(&self.poll, rustix::buffer::spare_capacity(events), timespec.as_ref());
        self.mailbox.awake();
        match result {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(true),
            Err(error) => Err(error.into()),
        }
    }

    fn handle_mail(&mut self, mail: Mail) {
        match mail {
            Mail::Connection(new) => self.arrive(*new),
            Mail::Deliver { message, targets, position } => {
                for target in targets.iter() {
                    self.deliver(target, &message, position);
                }
            }
            Mail::DeliverShared { message, member, position, repeated } => self.deliver_shared(&member, &message, position, repeated),
            Mail::Publish(message) => self.own.push_back(*message),
            Mail::Alarm(alarm) => {
                let over = alarm.deactivated_at_us.is_some();
                let point = if over { HookPoint::AlarmDeactivated } else { HookPoint::AlarmActivated };
                let nobody = Client::internal("$alarms");
                self.tell(point, &nobody, About::Alarm(&alarm));
            }
            Mail::Rights { connection, rights } => self.set_rights(connection, rights),
            Mail::Decided { connection, rights } => self.go_on_decided(connection, &rights),
            Mail::RenewRights => self.renew_all_rights(),
            Mail::Inquiry(Inquiry(ask)) => ask(self),
            Mail::Durable => {}
            Mail::Stop => self.stop(),
        }
    }

    /// Sends the mail that this turn has gathered.
    fn post(&mut self) {
        for (mailbox, mail) in self.shared.mailboxes.iter().zip(&mut self.outgoing) {
            if !mail.is_empty() {
                mailbox.post_all(mail);
            }
        }
    }

    /// Tells hooks, and takes what follows into the batch. For events that nobody can refuse.
    fn tell(&mut self, point: HookPoint, client: &Client, about: About<'_>) {
        if self.shared.hooks.wants(point) {
            let mut outcome = std::mem::take(&mut self.outcome);
            self.shared.hooks.tell(point, client, about, &mut outcome);
            drop(self.take_outcome(&mut outcome, Admission::Open));
            self.outcome = outcome;
        }
    }

    /// Asks hooks: the reason, where one of them refuses.
    fn ask(&mut self, point: HookPoint, client: &Client, about: About<'_>) -> Option<hookline_mqtt::ReasonCode> {
        if !self.shared.hooks.wants(point) {
            return None;
        }
        let mut outcome = std::mem::take(&mut self.outcome);
        self.shared.hooks.tell(point, client, about, &mut outcome);
        let refused = outcome.refused();
        drop(self.take_outcome(&mut outcome, Admission::Open));
        self.outcome = outcome;
        refused
    }

    /// The session of a client, where it has one here that does not rest.
    fn session_of(&self, client_id: &str) -> Option<Key> {
        self.by_client.find(&self.sessions, client_id)
    }

    /// Watches the socket of a connection.
    fn watch(&self, connection: &Connection, key: Key, flags: epoll::EventFlags) -> io::Result<()> {
        #[cfg(test)]
        if matches!(connection.transport.wire().socket(), crate::transport::Socket::Silent(_)) {
            return Ok(());
        }
        Ok(epoll::add(&self.poll, connection.transport.as_fd(), epoll::EventData::new_u64(key.to_u64()), flags)?)
    }

    /// A number that nobody needs to be unable to guess (SplitMix64).
    fn next_random(&mut self) -> u64 {
        self.random = self.random.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mixed = (self.random ^ self.random >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        let mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ mixed >> 31
    }
}
