//! What benches reach of the inside: the router, the in-flight window, the commit path. No part of the broker.

use std::path::Path;
use std::sync::Arc;

use hookline_mqtt::QoS;
use hookline_mqtt::packet::SubscriptionOptions;
use hookline_schemas::Message;
use hookline_schemas::config::{DurabilityLevel, Store as Settings};

use crate::router::{Address, RouteCache, Router, Subscriber};
use crate::session::{Entry, Inflight};
use crate::slab::Key;
use crate::store::{Batch, Opened, Queue, QueueKind, QueueTarget, Rank, Settlement, Store};

/// A router with subscriptions, one for each topic.
#[derive(Debug)]
pub struct Routes {
    router: Router,
    cache: RouteCache,
    topics: Vec<String>,
}

/// Topics that are asked for in turn.
const TOPICS: usize = 1000;

impl Routes {
    /// With so many subscriptions; every other one has a wildcard, where that is wanted.
    pub fn new(subscriptions: usize, wildcards: bool) -> Routes {
        let router = Router::default();
        for number in 0..subscriptions {
            let is_wildcard = wildcards && number % 2 == 0;
            let filter = format!("site/{}/device/{number}/{}", number % 100, if is_wildcard { "+" } else { "state" });
            let session = Key { index: number as u32, generation: 0 };
            router.subscribe(
                &filter,
                Subscriber {
                    address: Address { worker: (number % 2) as u16, session },
                    options: SubscriptionOptions { qos: QoS::AtLeastOnce, ..SubscriptionOptions::default() },
                    identifier: 0,
                    queue: None,
                    upgrade: false,
                },
            );
        }
        let step = (subscriptions / TOPICS).max(1);
        let topics = (0..subscriptions).step_by(step).map(|number| format!("site/{}/device/{number}/state", number % 100));
        Routes { router, cache: RouteCache::default(), topics: topics.collect() }
    }

    /// Looks up the topic of that number, without memory; how many workers get it.
    pub fn look_up(&self, number: usize) -> usize {
        self.router.targets(&self.topics[number % self.topics.len()]).workers.len()
    }

    /// As [`Routes::look_up`], with a worker's memory.
    pub fn remembered(&mut self, number: usize) -> usize {
        let (_, targets) = self.cache.targets(&self.router, &self.topics[number % self.topics.len()]);
        targets.workers.len()
    }
}

/// The in-flight window of a session.
#[derive(Debug)]
pub struct Window {
    inflight: Inflight,
    message: Arc<Message>,
}

impl Window {
    /// With so many messages on their way.
    pub fn new(on_their_way: usize) -> Window {
        let mut window = Window { inflight: Inflight::starting_at(0), message: Arc::new(Message::internal("t", "x")) };
        for _ in 0..on_their_way {
            window.push();
        }
        window
    }

    fn push(&mut self) -> u16 {
        let message = Arc::clone(&self.message);
        self.inflight.push(Entry::Sent { message, qos: QoS::AtLeastOnce, bytes: 64, flags: 1, at_ms: 0, lease: None })
    }

    /// One message leaves, and one is acknowledged; whether it was known.
    pub fn turn(&mut self) -> bool {
        let newest = u32::from(self.push()) - 1;
        // Identifiers run from 1 to 65,535.
        let oldest = ((newest + 65_535 - (self.inflight.active() as u32 - 1)) % 65_535 + 1) as u16;
        self.inflight.acknowledge(oldest).is_some()
    }
}

/// A store with one durable session's queue.
#[derive(Debug)]
pub struct Commits {
    store: Arc<Store>,
    queue: Arc<Queue>,
    batch: Batch,
    message: Message,
    next: u64,
}

impl Commits {
    /// A new one in that folder, at level process.
    ///
    /// # Errors
    /// The folder cannot be written.
    pub fn open(folder: &Path) -> Result<Commits, crate::store::Error> {
        let settings = Settings { level: DurabilityLevel::Process, ..Settings::default() };
        let Opened { store, .. } = Store::open(folder, "measure", &settings)?;
        let mut batch = Batch::default();
        let queue = store.new_queue(&mut batch, QueueKind::Session, "measure");
        store.commit(&mut batch)?;
        Ok(Commits { store, queue, batch, message: Message::internal("bench/0", &"x".repeat(64)), next: 0 })
    }

    /// Commits so many messages at once, and settles them.
    ///
    /// # Errors
    /// The commit failed.
    pub fn turn(&mut self, messages: u64) -> Result<(), crate::store::Error> {
        for _ in 0..messages {
            let target = QueueTarget { queue: self.queue.id(), flags: 1, rank: Rank::NONE };
            self.batch.message(&[target], &self.message);
        }
        self.store.commit(&mut self.batch)?;
        let settled = (self.next..self.next + messages).map(|sequence| (sequence, 64));
        self.store.settle(&self.queue, settled, Settlement::Delivered);
        self.next += messages;
        Ok(())
    }
}
