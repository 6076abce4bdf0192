//! The broker: what devices talk to.
//!
//! In the order of the line:

/// Puts the parts together, and takes them down in order.
mod broker;
/// The time of day.
mod clock;
/// Hooks and the set of points that somebody listens to.
mod hooks;
/// Accepts connections and reads their CONNECT.
pub mod listener;
/// What workers send each other.
mod mailbox;
/// Counters.
mod metrics;
/// Retained messages.
mod retained;
/// Which sessions want a topic.
mod router;
/// The session: in-flight windows and packet identifiers. Pure.
mod session;
/// A table whose places are reused, and notice stale references.
mod slab;
/// The durable store.
pub mod store;
/// Serves connections: one thread, one epoll set, many sessions.
mod worker;

pub use broker::{Broker, BrokerError};
pub use hooks::Hooks;
pub use metrics::{Counters, Totals};

/// The maps of this crate: keys are not chosen by strangers to collide, thanks to a random seed.
pub(crate) type HashMap<K, V> = std::collections::HashMap<K, V, foldhash::fast::RandomState>;
/// See [`HashMap`].
pub(crate) type HashSet<K> = std::collections::HashSet<K, foldhash::fast::RandomState>;
