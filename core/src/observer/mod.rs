//! Looks at a running broker, and acts on its clients, from outside of its workers.

mod banned;
mod carried;
mod listing;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookline_schemas::Message;
use hookline_schemas::config::TransportKind;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::oneshot;

pub use banned::BanOutcome;
pub(crate) use banned::restore as restore_bans;
pub use carried::CarriedIn;
pub use listing::{Listed, Place, SubscriptionFilter, TOPICS_SKIP_MAX};

use crate::alarms::Alarm;
use crate::clock;
use crate::listener::worker_of;
use crate::mailbox::{Inquiry, Mail};
use crate::metrics::{Counters, Totals, Turned};
use crate::store::Error;
use crate::sys::{ALIASES, Highest, STATS, Seen, resident_bytes};
use crate::worker::{Shared, Supplied, Worker};

/// Clients that a worker describes in one turn: its own clients wait meanwhile.
const AT_ONCE: usize = 500;
/// How long a worker may take to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// What is seen from outside. Copies look at the same broker.
#[derive(Clone)]
pub struct Observer {
    shared: Arc<Shared>,
    counters: Arc<[Arc<Counters>]>,
    highest: Arc<Mutex<Highest>>,
    listeners: Arc<[ListenerView]>,
    started: Instant,
}

/// A listener, as it is seen from outside.
#[derive(Debug, Clone)]
pub(crate) struct ListenerView {
    /// Such as `tcp:default`.
    pub(crate) name: Arc<str>,
    pub(crate) kind: TransportKind,
    pub(crate) address: SocketAddr,
    pub(crate) zone: Arc<str>,
    pub(crate) connections_max: usize,
    pub(crate) connections: Arc<AtomicUsize>,
}

impl std::fmt::Debug for Observer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Observer").field("node", &self.shared.node).finish_non_exhaustive()
    }
}

/// How many of something there are now, and the most that there have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// EMQX's name, with `/` between its parts.
    pub name: &'static str,
    pub count: u64,
    pub max: u64,
}

/// Which clients are wanted.
#[derive(Debug, Clone, Default)]
pub struct ClientFilter {
    /// A part of the client identifier.
    pub like_client_id: Option<String>,
    /// A part of the user name.
    pub like_username: Option<String>,
    pub username: Option<String>,
    /// Whether they are connected.
    pub connected: Option<bool>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum NoAnswer {
    /// A worker is overloaded, or the broker stops.
    #[error("the broker has not answered in time; try again")]
    Late,
    #[error(transparent)]
    Store(#[from] Error),
}

impl Observer {
    pub(crate) fn new(
        shared: Arc<Shared>,
        counters: Vec<Arc<Counters>>,
        highest: Arc<Mutex<Highest>>,
        listeners: Arc<[ListenerView]>,
    ) -> Observer {
        Observer { shared, counters: counters.into(), highest, listeners, started: Instant::now() }
    }

    /// The name of the node.
    pub fn node(&self) -> &str {
        &self.shared.node
    }

    /// How long it has been running.
    pub fn uptime(&self) -> Duration {
        self.started.elapsed()
    }

    /// The counters of all workers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals.add_strangers(&self.shared.strangers);
        totals
    }

    /// What there is now.
    pub fn stats(&self) -> Vec<Stat> {
        let totals = self.totals();
        let seen = Seen { totals: &totals, shared: &self.shared };
        let highest = self.highest.lock();
        let stats = STATS.iter().zip(highest.counts());
        stats
            .map(|((name, count), max)| (*name, count(&seen), *max))
            .map(|(name, count, max)| Stat { name, count, max: max.max(count) })
            .collect()
    }

    /// Everything that is counted since the start, by EMQX's names with `/` between their parts.
    pub fn metrics(&self) -> Vec<(String, u64)> {
        let totals = self.totals();
        let seen = Seen { totals: &totals, shared: &self.shared };
        let mut metrics = totals.metrics();
        metrics.extend(ALIASES.iter().map(|(name, count)| ((*name).to_owned(), count(&seen))));
        metrics.extend(
            Turned::ALL.iter().map(|turned| (format!("client/turned_away/{}", turned.name()), self.shared.strangers.turned(*turned))),
        );
        metrics
    }

    /// The memory of this process, bytes, where that is known.
    pub fn memory_bytes(&self) -> Option<u64> {
        resident_bytes()
    }

    /// The listeners, in the form that EMQX has.
    pub fn listeners(&self) -> Vec<Value> {
        let describe = |listener: &ListenerView| {
            json!({
                "id": &*listener.name,
                "type": listener.kind.name(),
                "name": listener.name.split_once(':').map(|(_, name)| name),
                "bind": listener.address.to_string(),
                "running": true,
                "current_connections": listener.connections.load(Ordering::Relaxed),
                "max_connections": listener.connections_max,
                "zone": &*listener.zone,
            })
        };
        self.listeners.iter().map(describe).collect()
    }

    /// The slowest deliveries, the slowest first.
    pub fn slow_subscriptions(&self) -> Vec<Value> {
        let mut slowest = self.shared.slowest.lock();
        let list = slowest.list(clock::now_ms(), &self.shared.slow).iter();
        let describe = list.map(|slow| {
            json!({
                "clientid": &*slow.client_id,
                "node": &*self.shared.node,
                "topic": &*slow.topic,
                "timespan": slow.latency_ms,
                "last_update_time": crate::worker::time(slow.at_ms),
            })
        });
        describe.collect()
    }

    /// Forgets them.
    pub fn forget_slow_subscriptions(&self) {
        self.shared.slowest.lock().clear();
    }

    /// How many times the store has synced since the start, and how long that took together, microseconds.
    pub fn syncs(&self) -> (u64, u64) {
        self.shared.store.syncs()
    }

    /// Alarms that are active, or those that are over, the newest first.
    pub fn alarms(&self, active: bool) -> Vec<Alarm> {
        if active { self.shared.alarms.active() } else { self.shared.alarms.history() }
    }

    /// Clients with a session here, with or without a connection, by their identifiers: `limit` of them from the place `skip` on.
    ///
    /// # Errors
    /// A worker has not answered.
    pub async fn clients(&self, filter: ClientFilter, Place { skip, limit }: Place) -> Result<Listed, NoAnswer> {
        let mut found = Vec::new();
        for worker in 0..self.shared.mailboxes.len() {
            let filter = filter.clone();
            let here = self.ask(worker, move |worker| worker.find_clients(&filter)).await?;
            found.extend(here.into_iter().map(|client| (client, worker)));
        }
        found.sort_unstable_by(|((a, _), _), ((b, _), _)| a.cmp(b));
        let count = found.len() as u64;
        let has_more = found.len() > skip.saturating_add(limit);
        let page: Vec<_> = found.into_iter().skip(skip).take(limit).collect();
        let mut clients = Vec::with_capacity(page.len());
        for worker in 0..self.shared.mailboxes.len() {
            let here: Vec<_> = page.iter().filter(|(_, home)| *home == worker).map(|(client, _)| client.clone()).collect();
            for some in here.chunks(AT_ONCE) {
                let some = some.to_vec();
                clients.extend(self.ask(worker, move |worker| worker.describe_found(&some)).await?);
            }
        }
        clients.sort_by(|a, b| a["clientid"].as_str().cmp(&b["clientid"].as_str()));
        Ok(Listed { entries: clients, count: Some(count), has_more })
    }

    /// One client.
    ///
    /// # Errors
    /// Its worker has not answered, or the store cannot be read.
    pub async fn client(&self, client_id: &str) -> Result<Option<Value>, NoAnswer> {
        let wanted = client_id.to_owned();
        self.ask(self.worker_of(client_id), move |worker| worker.describe_client(&wanted)).await?.map_err(NoAnswer::from)
    }

    /// The subscriptions of one client.
    ///
    /// # Errors
    /// Its worker has not answered, or the store cannot be read.
    pub async fn subscriptions(&self, client_id: &str) -> Result<Option<Vec<Value>>, NoAnswer> {
        let wanted = client_id.to_owned();
        self.ask(self.worker_of(client_id), move |worker| worker.describe_subscriptions(&wanted)).await?.map_err(NoAnswer::from)
    }

    /// Ends the connection of a client and its session. `false`: there is none.
    ///
    /// # Errors
    /// Its worker has not answered, or the store cannot be read.
    pub async fn kick(&self, client_id: &str) -> Result<bool, NoAnswer> {
        let wanted = client_id.to_owned();
        self.ask(self.worker_of(client_id), move |worker| worker.kick(&wanted)).await?.map_err(NoAnswer::from)
    }

    /// Puts messages from outside into the session of a client, for one of its subscriptions: at QoS 1 and 2 as far as there is room now.
    ///
    /// # Errors
    /// Its worker has not answered; they may have been taken.
    pub async fn supply(&self, client_id: &str, filter: &str, messages: Vec<Arc<Message>>, retained: bool) -> Result<Supplied, NoAnswer> {
        let (client, filter) = (client_id.to_owned(), filter.to_owned());
        self.ask(self.worker_of(client_id), move |worker| worker.supply(&client, &filter, &messages, retained)).await
    }

    fn worker_of(&self, client_id: &str) -> usize {
        worker_of(client_id, self.shared.mailboxes.len())
    }

    async fn ask<T: Send + 'static>(&self, worker: usize, question: impl FnOnce(&mut Worker) -> T + Send + 'static) -> Result<T, NoAnswer> {
        let (answer, answered) = oneshot::channel();
        let inquiry = Inquiry(Box::new(move |worker| {
            // Who has asked may have given up.
            drop(answer.send(question(worker)));
        }));
        self.shared.mailboxes[worker].post(Mail::Inquiry(inquiry));
        match tokio::time::timeout(ANSWER_TIMEOUT, answered).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(_)) | Err(_) => Err(NoAnswer::Late),
        }
    }
}
