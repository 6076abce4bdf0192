//! Puts the broker together, and takes it down in the order of the line: listeners, workers, store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::thread::JoinHandle;

use hookline_schemas::config::{Config, DurabilityLevel, Store as StoreSettings};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

use crate::alarms::Alarms;
use crate::authentication::Methods;
use crate::bans::{Bans, check_ban};
use crate::door::Door;
use crate::hooks::Hooks;
use crate::listener::{Listener, worker_of};
use crate::mailbox::{Mail, Mailbox};
use crate::metrics::{Counters, Strangers, Totals, Turned};
use crate::observer::{ListenerView, Observer, restore_bans};
use crate::renewal::{self, Renewal};
use crate::retained::Retained;
use crate::rewrite::Rewrites;
use crate::router::Router;
use crate::store::{Opened, Store};
use crate::sys::Highest;
use crate::sys::Reporter;
use crate::worker::{Shared, Worker, worker_of_delayed};
use crate::zone::Zones;

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("cannot listen on {address} (listeners.{name}): {problem}")]
    Listen { name: String, address: SocketAddr, problem: String },
    #[error("{0}")]
    Configuration(String),
    #[error("cannot start the workers: {0}")]
    Worker(#[from] std::io::Error),
}

/// A broker that serves.
pub struct Broker {
    store: Arc<Store>,
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    /// Listeners, and the reporter.
    listeners: JoinSet<()>,
    stop: watch::Sender<bool>,
    addresses: Vec<(String, SocketAddr)>,
    /// The most that there has been of each thing.
    highest: Arc<Mutex<Highest>>,
    views: Arc<[ListenerView]>,
}

impl std::fmt::Debug for Broker {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Broker").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

impl Broker {
    /// Starts workers and listeners over an open store. Must be called in a tokio runtime, which serves the listeners.
    ///
    /// # Errors
    /// An address cannot be listened on.
    pub fn start(config: &Config, opened: Opened, hooks: Hooks) -> Result<Broker, BrokerError> {
        let Opened { store, delayed } = opened;
        let count = match config.node.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let (renewals, questions) = renewal::channel();
        let access = hooks.access().cloned();
        let shared = share(config, &store, hooks, count, renewals)?;
        // Everything is bound before anything is served: a port in use stops the start as a whole.
        let listeners = open_listeners(config, &shared)?;
        let views: Result<Vec<_>, _> = listeners.iter().map(|(_, listener)| listener.view()).collect();
        let mut broker = Broker {
            store,
            counters: (0..count).map(|_| Arc::default()).collect(),
            workers: Vec::new(),
            listeners: JoinSet::new(),
            stop: watch::Sender::new(false),
            addresses: Vec::new(),
            highest: Arc::default(),
            views: views?.into(),
            shared,
        };
        let mut workers = Vec::new();
        for (number, counters) in broker.counters.iter().enumerate() {
            workers.push(Worker::new(number as u16, Arc::clone(&broker.shared), Arc::clone(counters))?);
        }
        let adopted = broker.store.each_session(|session| workers[worker_of(&session.client_id, count)].adopt(session));
        adopted.map_err(|error| BrokerError::Configuration(error.to_string()))?;
        for key in delayed {
            workers[worker_of_delayed(key, count)].adopt_delayed(key);
        }
        for (number, worker) in workers.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            broker.workers.push(thread.spawn(move || worker.run())?);
        }
        for (name, listener) in listeners {
            broker.addresses.push((name, listener.address()));
            broker.listeners.spawn(listener.run(broker.stop.subscribe()));
        }
        if let Some(access) = access {
            let mailboxes = broker.shared.mailboxes.clone();
            broker.listeners.spawn(renewal::run(access, mailboxes, questions, broker.stop.subscribe()));
        }
        let reporter = Reporter::new(config, Arc::clone(&broker.shared), broker.counters.clone(), Arc::clone(&broker.highest));
        broker.listeners.spawn(reporter.run(broker.stop.subscribe()));
        Ok(broker)
    }

    /// The listeners with their addresses.
    pub fn addresses(&self) -> &[(String, SocketAddr)] {
        &self.addresses
    }

    /// The counters of all workers.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        self.counters.iter().for_each(|counters| totals.add(counters));
        totals.add_strangers(&self.shared.strangers);
        totals
    }

    /// What an operator should know now, and what was before.
    pub fn alarms(&self) -> &Alarms {
        &self.shared.alarms
    }

    /// Looks at it from outside, also while it is in use elsewhere.
    pub fn observer(&self) -> Observer {
        Observer::new(Arc::clone(&self.shared), self.counters.clone(), Arc::clone(&self.highest), Arc::clone(&self.views))
    }

    /// The way in for parts of this process.
    pub fn door(&self) -> Arc<dyn hookline_schemas::ports::Door> {
        Arc::new(Door(Arc::clone(&self.shared)))
    }

    /// Has the permissions of all connected clients asked for anew, now.
    pub fn renew_rights(&self) -> impl Fn() + Send + Sync + 'static {
        let mailboxes = self.shared.mailboxes.clone();
        move || mailboxes.iter().for_each(|mailbox| mailbox.post(Mail::RenewRights))
    }

    /// How many connections ended for that reason before they had a session.
    pub fn turned_away(&self, turned: Turned) -> u64 {
        self.shared.strangers.turned(turned)
    }

    /// Stops accepting, takes the connections down, and waits until what they were promised is kept. The store stays open.
    pub async fn stop(mut self) {
        self.stop.send_replace(true);
        while let Some(joined) = self.listeners.join_next().await {
            if let Err(error) = joined {
                tracing::error!(%error, "a listener panicked");
            }
        }
        for mailbox in &self.shared.mailboxes {
            mailbox.post(Mail::Stop);
        }
        for worker in std::mem::take(&mut self.workers) {
            // Joining blocks, so it is done beside the runtime's own threads.
            match tokio::task::spawn_blocking(move || worker.join()).await {
                Ok(Ok(Ok(()))) => {}
                Ok(Ok(Err(error))) => tracing::error!(%error, "a worker ended with an error"),
                Ok(Err(_)) | Err(_) => tracing::error!("a worker panicked"),
            }
        }
    }

    /// The store.
    pub fn store(&self) -> &Arc<Store> {
        &self.store
    }
}

/// What all workers share, over an open store.
pub(crate) fn share(
    config: &Config,
    store: &Arc<Store>,
    hooks: Hooks,
    workers: usize,
    renewals: mpsc::Sender<Renewal>,
) -> Result<Arc<Shared>, BrokerError> {
    let mailboxes = (0..workers).map(|_| Mailbox::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
    for mailbox in &mailboxes {
        let mailbox = Arc::clone(mailbox);
        store.add_waker(Arc::new(move || mailbox.post(Mail::Durable)));
    }
    let zones = Zones::new(config).map_err(|errors| BrokerError::Configuration(errors.join("; ")))?;
    let rewrites = Rewrites::new(&config.rewrite).map_err(|errors| BrokerError::Configuration(errors.join("; ")))?;
    let methods = Methods::new(&config.scram).map_err(|errors| BrokerError::Configuration(errors.join("; ")))?;
    let bans = Bans::new(&config.banned);
    restore_bans(&bans, store).map_err(|error| BrokerError::Configuration(error.to_string()))?;
    let node: Arc<str> = config.node.name.as_str().into();
    Ok(Arc::new(Shared {
        methods,
        alarms: Alarms::new(Arc::clone(&node), Arc::clone(&mailboxes[0])),
        node,
        bans,
        rewrites,
        auto_subscribe: config.auto_subscribe.clone(),
        delayed: config.delayed.clone(),
        sys: config.sys.clone(),
        slow: config.slow_subscribers.clone(),
        slowest: Mutex::default(),
        strangers: Strangers::default(),
        sessions: AtomicUsize::new(0),
        overload: AtomicBool::new(false),
        exclusive: Mutex::default(),
        store: Arc::clone(store),
        router: Router::default(),
        retained: Retained::new(Arc::clone(store)),
        zones,
        hooks,
        renewals,
        mailboxes,
        boot: std::process::id() ^ crate::clock::now_ms() as u32,
    }))
}

fn open_listeners(config: &Config, shared: &Arc<Shared>) -> Result<Vec<(String, Listener)>, BrokerError> {
    let mut listeners = Vec::new();
    for (kind, name, settings) in config.listeners.enabled() {
        let path = format!("{}.{name}", kind.name());
        let address = settings.address(kind);
        let listener = Listener::open(kind, name, settings, Arc::clone(shared)).map_err(|error| {
            let way_out = match error.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "the port is in use; stop the program that has it, or choose another with --set listeners.{path}.bind={}:{}",
                    address.ip(),
                    address.port().saturating_add(1)
                ),
                std::io::ErrorKind::PermissionDenied => format!("{error}; ports below 1024 need a right that this user does not have"),
                _ => error.to_string(),
            };
            BrokerError::Listen { name: path.clone(), address, problem: way_out }
        })?;
        listeners.push((path, listener));
    }
    Ok(listeners)
}

/// What is wrong with a configuration as far as the broker itself goes, each with its path.
pub fn check(config: &Config) -> Vec<String> {
    let mut errors = Zones::new(config).err().unwrap_or_default();
    errors.extend(Rewrites::new(&config.rewrite).err().unwrap_or_default());
    errors.extend(crate::zone::check(config));
    errors.extend(Methods::new(&config.scram).err().unwrap_or_default());
    errors.extend(crate::recorder::check(&config.recorder));
    for (index, ban) in config.banned.iter().enumerate() {
        errors.extend(check_ban(ban).err().map(|problem| format!("banned[{index}]: {problem}")));
    }
    for (index, auto) in config.auto_subscribe.iter().enumerate() {
        if auto.qos > 2 || auto.retain_handling > 2 {
            errors.push(format!("auto_subscribe[{index}]: qos and retain_handling are 0, 1 or 2"));
        }
        let filled = auto.topic.replace("${", "").replace('}', "");
        if !hookline_mqtt::topic::filter_is_valid(&filled, usize::MAX) {
            errors.push(format!("auto_subscribe[{index}].topic: \"{}\" is no topic filter", auto.topic));
        }
    }
    if config.listeners.enabled().next().is_none() {
        errors.push("listeners: none is enabled; nobody could connect".to_owned());
    }
    if config.node.name.contains(['+', '#', '/']) {
        errors.push("node.name: must not contain \"+\", \"#\" or \"/\", because it is a level of the topics below $SYS".to_owned());
    }
    let mut taken: std::collections::BTreeMap<SocketAddr, String> = std::collections::BTreeMap::new();
    for (kind, name, listener) in config.listeners.enabled() {
        let path = format!("listeners.{}.{name}", kind.name());
        let address = listener.address(kind);
        if let Some(other) = taken.insert(address, path.clone()).filter(|_| address.port() != 0) {
            errors.push(format!("{path}.bind: {address} is {other}'s already"));
        }
        errors.extend(crate::listener::check(kind, listener).into_iter().map(|problem| format!("{path}.{problem}")));
        if let Some(zone) = listener.zone.as_ref().filter(|zone| !config.zones.contains_key(*zone) && *zone != "default") {
            errors.push(format!("{path}.zone: there is no \"{zone}\" in [zones]"));
        }
    }
    errors
}

/// The store's settings for a configuration: it does what the zone or action that asks for most needs.
pub fn store_settings(config: &Config) -> StoreSettings {
    let of_zones = Zones::new(config).map_or(config.store.level, |zones| zones.strongest());
    let of_actions = config.actions.values().filter_map(|action| action.level);
    let level = of_actions.fold(config.store.level.strongest(of_zones), DurabilityLevel::strongest);
    StoreSettings { level, ..config.store.clone() }
}
