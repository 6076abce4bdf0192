//! The broker: what devices talk to.
//!
//! In the order of the line:

/// What an operator should know now.
mod alarms;
/// Enhanced authentication.
pub mod authentication;
/// Who may not connect, and from where one may.
mod bans;
/// Puts the parts together, and takes them down in order.
mod broker;
/// The time of day.
mod clock;
/// The way in for parts of this process.
mod door;
/// Hooks and the set of points that somebody listens to.
mod hooks;
/// How fast clients may send.
mod limiter;
/// Accepts connections and reads their CONNECT.
pub mod listener;
/// What workers send each other.
mod mailbox;
/// What benches reach.
#[doc(hidden)]
pub mod measure;
/// Counters.
mod metrics;
/// Looks at a running broker from outside of its workers.
mod observer;
/// Records messages and events.
mod recorder;
/// Asks what connected clients may do.
mod renewal;
/// Retained messages.
mod retained;
/// Changes of topics.
mod rewrite;
/// Which sessions want a topic.
mod router;
/// A table whose places are reused, and notice stale references.
mod seldom;
/// The session: in-flight windows and packet identifiers. Pure.
mod session;
/// Random schedules of clients, crashes and faults, from one seed, against a model.
#[cfg(test)]
mod simulation;
mod slab;
/// The slowest subscribers.
mod slow;
/// The durable store.
pub mod store;
/// What the broker tells about itself.
mod sys;
/// TCP, TLS and WebSocket.
mod transport;
/// Serves connections: one thread, one epoll set, many sessions.
mod worker;
/// Limits and behaviour, by listener.
mod zone;

pub use alarms::{Alarm, Alarms};
pub use bans::{BanInfo, BanOrigin, Banned};
pub use broker::{Broker, BrokerError, check, store_settings};
pub use hooks::Hooks;
pub use metrics::{Counters, Totals, Turned};
pub use observer::{BanOutcome, CarriedIn, ClientFilter, Listed, NoAnswer, Observer, Place, Stat, SubscriptionFilter, TOPICS_SKIP_MAX};
pub use recorder::{Recorder, RecorderStats};
pub use transport::tls::{CertificateEnd, TlsServer, certificate_ends};
pub use worker::Supplied;

/// The allocator of the binary, so that what tests weigh is what it weighs there.
#[cfg(test)]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The maps of this crate: keys are not chosen by strangers to collide, thanks to a random seed.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// See [`HashMap`].
pub(crate) type HashSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
