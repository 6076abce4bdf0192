//! The broker, its workers, its store and its clock in one thread: what happens follows from a seed. Clients publish, subscribe, take
//! their time and vanish; writes fail, the process is killed, the power goes. Whatever happens, what was acknowledged comes to
//! everybody to whom it must, in order, at QoS 2 once; and what was refused comes to nobody.
//!
//! `HOOKLINE_SEED` and `HOOKLINE_SEEDS` say where to begin, and how many.

mod client;
mod crowd;
mod model;
mod random;

use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hookline_mqtt::packet::Connect;
use hookline_mqtt::{Properties, PropertyId, Version};
use hookline_schemas::config::{Config, DurabilityLevel, Store as Settings};

use crate::broker::share;
use crate::clock::simulated;
use crate::hooks::Hooks;
use crate::listener::worker_of;
use crate::mailbox::{Mail, NewConnection};
use crate::metrics::{Counters, Totals};
use crate::store::{Opened, Store, SyncedLogs};
use crate::worker::{Scratch, Shared, Worker};
use client::Client;
use model::Model;
use random::Random;

const CLIENTS: usize = 5;
const TOPICS: usize = 3;
const WORKERS: usize = 2;
/// Things that happen in one simulation.
const STEPS: usize = 1500;
/// Rounds after which everything that was promised must have come.
const ROUNDS: usize = 3000;

/// The broker, as it runs between two ends.
struct Broker {
    store: Arc<Store>,
    shared: Arc<Shared>,
    counters: Vec<Arc<Counters>>,
    workers: Vec<Worker>,
    scratch: Scratch,
}

/// Everything.
struct World {
    random: Random,
    config: Config,
    folder: tempfile::TempDir,
    broker: Option<Broker>,
    synced: SyncedLogs,
    clients: Vec<Client>,
    model: Model,
    number: u64,
    ends: usize,
    /// Refusals of the brokers that have ended.
    refused: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let store = Settings { level: DurabilityLevel::Disk, reserve_bytes: 0, free_bytes_min: 0, ..Settings::default() };
        let mut config = Config { store, ..Config::default() };
        config.mqtt.inflight_max = 5;
        // A bound that is met now and then: there is no more than a refusal.
        config.mqtt.durable_queue_max = 60;
        if seed.is_multiple_of(2) {
            prioritize(&mut config);
        }
        let memory = PathBuf::from("/dev/shm");
        let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
        let mut world = World {
            random: Random(seed),
            config,
            folder: folder.expect("a folder"),
            broker: None,
            synced: SyncedLogs::new(),
            clients: (0..CLIENTS).map(Client::new).collect(),
            model: Model::default(),
            number: 0,
            ends: 0,
            refused: 0,
        };
        world.start();
        world
    }

    fn start(&mut self) {
        let Opened { store, delayed } = Store::open_stepped(self.folder.path(), "sim", &self.config.store).expect("every start succeeds");
        assert_eq!(store.findings().set_aside, [], "nothing was damaged");
        if store.findings().lost_writes > 0 || store.findings().lost_records > 0 {
            self.model.violations.push(format!("the store has lost what was synced: {:?}", store.findings()));
        }
        let shared = share(&self.config, &store, Hooks::new("sim", Vec::new()), WORKERS, crate::renewal::channel().0)
            .expect("a valid configuration");
        let counters: Vec<Arc<Counters>> = (0..WORKERS).map(|_| Arc::default()).collect();
        let worker = |number: usize| Worker::new(number as u16, Arc::clone(&shared), Arc::clone(&counters[number])).expect("a worker");
        let mut workers: Vec<Worker> = (0..WORKERS).map(worker).collect();
        store.each_session(|session| workers[worker_of(&session.client_id, WORKERS)].adopt(session)).expect("sessions are read");
        assert!(delayed.is_empty());
        self.synced = store.logs();
        self.broker = Some(Broker { store, shared, counters, workers, scratch: Scratch::default() });
    }

    /// Ends the process. Of what was written since the last sync there is so much left.
    fn end(&mut self, survives: f64) {
        self.model.trace(|| format!("the broker ends; of what is not synced {survives} survives"));
        self.note_refusals();
        self.refused = self.model.refused_by_broker;
        self.broker = None;
        // Now and then with other priorities: what waits keeps those that it has.
        if self.random.chance(20) {
            self.config.mqtt.mqueue_priorities.clear();
        } else if self.random.chance(20) {
            prioritize(&mut self.config);
        }
        Store::cut_power(self.folder.path(), &self.synced, survives);
        self.ends += 1;
        self.start();
    }

    fn connect(&mut self, index: usize) {
        self.model.trace(|| format!("{index} connects"));
        let Some(broker) = &self.broker else { return };
        let (ours, theirs) = UnixStream::pair().expect("a pair of sockets");
        ours.set_nonblocking(true).and_then(|()| theirs.set_nonblocking(true)).expect("they do not block");
        let client = &mut self.clients[index];
        let id = client.id();
        let mut properties = Properties::default();
        properties.push_number(PropertyId::SessionExpiryInterval, u32::MAX);
        let mut arriving = hookline_schemas::Client::internal(&id);
        arriving.clean_start = false;
        arriving.session_expiry_secs = u32::MAX;
        arriving.receive_maximum = 5;
        let connect = Connect {
            version: Version::V5,
            clean_start: false,
            keep_alive_secs: 0,
            client_id: id.clone(),
            username: None,
            password: None,
            will: None,
            properties,
            is_bridge: false,
        };
        let new = NewConnection::within(theirs.into(), connect, arriving, &broker.shared.zones.default);
        broker.shared.mailboxes[worker_of(&id, WORKERS)].post(Mail::Connection(Box::new(new)));
        client.connect(ours);
    }

    fn step_worker(&mut self, number: usize) {
        if let Some(Broker { workers, scratch, .. }) = &mut self.broker {
            workers[number].step(scratch).expect("a turn");
        }
        self.note_refusals();
    }

    fn note_refusals(&mut self) {
        let counted = self.broker.iter().flat_map(|broker| &broker.counters).map(|counters| {
            let mut totals = Totals::default();
            totals.add(counters);
            totals.refused
        });
        self.model.refused_by_broker = self.refused + counted.sum::<u64>();
    }

    fn step_store(&mut self) {
        if let Some(broker) = &self.broker {
            self.synced = broker.store.step();
        }
    }

    /// One thing happens.
    fn happen(&mut self) {
        let who = self.random.below(CLIENTS);
        match self.random.below(1000) {
            0..=39 if !self.clients[who].has_stream() => self.connect(who),
            40..=49 => self.clients[who].lose(),
            50..=59 => self.clients[who].disconnect(),
            60..=299 => self.clients[who].act(&mut self.random, &mut self.number, TOPICS, &mut self.model),
            300..=449 => {
                let count = 1 + self.random.below(4);
                self.clients[who].acknowledge(count);
            }
            450..=599 => self.clients[who].read(&mut self.model),
            600..=859 => {
                let number = self.random.below(WORKERS);
                self.step_worker(number);
            }
            860..=969 => self.step_store(),
            970..=979 => {
                let passed = Duration::from_millis(self.random.below(200) as u64);
                simulated::advance(passed);
            }
            980..=987 => {
                let count = 1 + self.random.below(2) as u32;
                self.model.trace(|| format!("{count} writes are to fail"));
                self.broker.iter().for_each(|broker| broker.store.fail_writes(count));
            }
            988..=991 => self.end(1.0),
            992..=995 => {
                let survives = if self.random.chance(50) { 0.0 } else { self.random.share() };
                self.end(survives);
            }
            _ => simulated::advance(Duration::from_millis(25)),
        }
    }

    /// Everybody comes back, and nothing fails any more.
    fn heal(&mut self) {
        self.broker.iter().for_each(|broker| broker.store.fail_writes(0));
        for round in 0..ROUNDS {
            for who in 0..CLIENTS {
                if !self.clients[who].has_stream() {
                    self.connect(who);
                }
                self.clients[who].read(&mut self.model);
                self.clients[who].acknowledge(usize::MAX >> 8);
            }
            (0..WORKERS).for_each(|number| self.step_worker(number));
            self.step_store();
            simulated::advance(Duration::from_millis(1));
            let broker = self.broker.as_ref().expect("it runs");
            let is_empty = broker.store.queues().iter().all(|queue| queue.pending() == 0);
            if round > 20 && is_empty && self.clients.iter().all(Client::is_done) {
                return;
            }
        }
        let queues = self.broker.iter().flat_map(|broker| broker.store.queues());
        let waiting: Vec<String> = queues.map(|queue| format!("{} {}+{}", queue.name(), queue.front(), queue.pending())).collect();
        let clients: Vec<String> = self.clients.iter().map(Client::state).collect();
        let workers: Vec<String> = self.broker.iter().flat_map(|broker| broker.workers.iter().map(Worker::state)).collect();
        let problem = format!("what waits does not end: queues {waiting:?}, clients {clients:?}, workers {workers:?}");
        self.model.violations.push(problem);
    }

    fn judge(mut self) -> (Model, usize) {
        let missing = self.model.missing();
        self.model.violations.extend(missing);
        let broker = self.broker.take().expect("it runs");
        for queue in broker.store.queues() {
            let ledger = queue.ledger();
            if !ledger.balances() {
                self.model.violations.push(format!("the account of {} does not balance: {ledger:?}", queue.name()));
            }
        }
        (self.model, self.ends)
    }
}

/// Gives two of the three topics priorities.
fn prioritize(config: &mut Config) {
    config.mqtt.mqueue_priorities = [(1, 5), (2, 9)].map(|(topic, priority)| (client::topic_name(topic), priority)).into();
}

fn simulate(seed: u64) -> (Model, usize) {
    simulated::begin();
    let mut world = World::new(seed);
    for _ in 0..STEPS {
        world.happen();
    }
    world.heal();
    world.judge()
}

#[test]
fn what_was_promised_holds_whatever_happens() {
    let number = |name: &str, default: u64| std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default);
    let (first, count) = (number("HOOKLINE_SEED", 1), number("HOOKLINE_SEEDS", 40));
    let (mut acknowledged, mut refused, mut ends) = (0, 0, 0);
    for seed in first..first + count {
        let (model, ended) = simulate(seed);
        assert!(
            model.violations.is_empty(),
            "seed {seed}: {}\nagain: HOOKLINE_SEED={seed} HOOKLINE_SEEDS=1 cargo test --release --workspace what_was_promised_holds",
            model.violations.join("\n  ")
        );
        acknowledged += model.acknowledged;
        refused += model.refused;
        ends += ended;
    }
    println!("seeds {count}, acknowledged {acknowledged}, refused {refused}, ends {ends}, lost 0");
    assert!(acknowledged > 20 * count, "something happens");
}
