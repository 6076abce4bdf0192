//! Puts the broker together, and takes it down in the order of the line: listeners, workers, store.

use std::net::SocketAddr;
use std::sync::Arc;
use std::thread::JoinHandle;

use hookline_schemas::config::Config;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::hooks::Hooks;
use crate::listener::{Listener, worker_of};
use crate::mailbox::{Mail, Mailbox};
use crate::metrics::{Counters, Totals};
use crate::retained::Retained;
use crate::router::Router;
use crate::store::{Opened, Store};
use crate::worker::{Shared, Worker};

/// Why the broker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("cannot listen on {address} (listeners.{name}): {problem}")]
    Listen { name: String, address: SocketAddr, problem: String },
    #[error("cannot start the workers: {0}")]
    Worker(#[from] std::io::Error),
}

/// A broker that serves.
pub struct Broker {
    store: Arc<Store>,
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    workers: Vec<JoinHandle<std::io::Result<()>>>,
    listeners: JoinSet<()>,
    stop: watch::Sender<bool>,
    addresses: Vec<(String, SocketAddr)>,
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
        let Opened { store, sessions, retained } = opened;
        let count = match config.node.workers {
            0 => std::thread::available_parallelism().map_or(1, usize::from),
            count => count,
        };
        let mailboxes = (0..count).map(|_| Mailbox::new().map(Arc::new)).collect::<Result<Vec<_>, _>>()?;
        for mailbox in &mailboxes {
            let mailbox = Arc::clone(mailbox);
            store.add_waker(Arc::new(move || mailbox.post(Mail::Durable)));
        }
        let shared = Arc::new(Shared {
            limits: config.mqtt.clone(),
            store: Arc::clone(&store),
            router: Router::default(),
            retained: Retained::new(retained),
            hooks,
            mailboxes,
            boot: std::process::id() ^ crate::clock::now_ms() as u32,
        });
        // Everything is bound before anything is served: a port in use stops the start as a whole.
        let listeners = open_listeners(config, &shared)?;
        let mut broker = Broker {
            store,
            counters: (0..count).map(|_| Arc::default()).collect(),
            workers: Vec::new(),
            listeners: JoinSet::new(),
            stop: watch::Sender::new(false),
            addresses: Vec::new(),
            shared,
        };
        let mut workers = Vec::new();
        for (number, counters) in broker.counters.iter().enumerate() {
            workers.push(Worker::new(number as u16, Arc::clone(&broker.shared), Arc::clone(counters))?);
        }
        for session in sessions {
            workers[worker_of(&session.client_id, count)].adopt(session);
        }
        for (number, worker) in workers.into_iter().enumerate() {
            let thread = std::thread::Builder::new().name(format!("worker-{number}"));
            broker.workers.push(thread.spawn(move || worker.run())?);
        }
        for (name, listener) in listeners {
            broker.addresses.push((name, listener.address()?));
            broker.listeners.spawn(listener.run(broker.stop.subscribe()));
        }
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
        totals
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

fn open_listeners(config: &Config, shared: &Arc<Shared>) -> Result<Vec<(String, Listener)>, BrokerError> {
    let mut listeners = Vec::new();
    for (name, settings) in config.listeners.tcp.iter().filter(|(_, settings)| settings.enable) {
        let name = format!("tcp.{name}");
        let listener = Listener::open(&name.replace('.', ":"), settings, Arc::clone(shared));
        let listener = listener.map_err(|error| {
            let way_out = match error.kind() {
                std::io::ErrorKind::AddrInUse => format!(
                    "the port is in use; stop the program that has it, or choose another with --set listeners.{name}.bind=127.0.0.1:1884"
                ),
                _ => error.to_string(),
            };
            BrokerError::Listen { name: name.clone(), address: settings.bind, problem: way_out }
        })?;
        listeners.push((name, listener));
    }
    Ok(listeners)
}
