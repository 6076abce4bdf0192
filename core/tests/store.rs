//! The store by itself: what is committed is there after a restart, in order, and its account balances.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hookline_core::store::{ActionQueue, Batch, Bounds, Store};
use hookline_core::{Broker, Hooks};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, Version};
use hookline_schemas::config::{Config, DurabilityLevel, Listener, Store as Settings, WhenFull};
use hookline_schemas::ports::{Outcome, Promise, QueueReader};
use hookline_schemas::{QueueId, Record, Value};

const BOUNDS: Bounds = Bounds { records_max: u64::MAX, bytes_max: u64::MAX, when_full: WhenFull::Refuse };

fn settings(level: DurabilityLevel) -> Settings {
    Settings { level, ..Settings::default() }
}

fn commit(store: &Store, queue: QueueId, numbers: std::ops::Range<i64>) {
    let mut batch = Batch::default();
    let mut outcome = Outcome::default();
    for number in numbers {
        outcome.record(queue, Promise::default(), &Value::Int(number));
    }
    batch.records_of(outcome.records());
    let committed = store.commit(&mut batch).expect("written");
    while store.durable() < committed.ticket {
        std::thread::yield_now();
    }
}

fn all(reader: &ActionQueue) -> Vec<Record> {
    reader.read(0, usize::MAX, usize::MAX).expect("reads").into_iter().map(|record| record.expect("readable")).collect()
}

fn read(reader: &ActionQueue) -> Vec<(u64, Value)> {
    all(reader).into_iter().map(|record| (record.sequence, record.row)).collect()
}

#[test]
fn records_survive_a_restart_in_order_and_are_delivered_once() {
    for level in [DurabilityLevel::Disk, DurabilityLevel::Process] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut front = 0;
        for round in 0..5i64 {
            let store = Store::open(folder.path(), "n", &settings(level)).expect("opens").store;
            let queue = store.action_queue("a", BOUNDS).expect("a queue");
            commit(&store, queue.id(), round * 1000..round * 1000 + 1000);
            let reader = ActionQueue::new(Arc::clone(&store), Arc::clone(&queue));
            let records = read(&reader);
            assert_eq!(records.first().map(|(sequence, _)| *sequence), Some(front));
            for (sequence, row) in &records {
                assert_eq!(*row, Value::Int(*sequence as i64), "{level:?}, round {round}");
            }
            // Three quarters of what is there is delivered; one record goes to the dead letters.
            let until = front + records.len() as u64 * 3 / 4;
            reader.delivered(&all(&reader)[..(until - 1 - front) as usize]);
            reader.dead_letter(until - 1, 0, "poison").expect("stored");
            front = until;
            let ledger = reader.ledger();
            assert!(ledger.balances(), "{ledger:?}");
            assert_eq!((ledger.accepted, ledger.dead_lettered), (round as u64 * 1000 + 1000, round as u64 + 1));
            assert_eq!(store.dead_letters(queue.id(), 100).expect("reads").len() as i64, round + 1);
            store.close();
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_number_of_a_queue_never_comes_again_while_its_records_are_there() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut config = Config::default();
    let listener = Listener { bind: Some("127.0.0.1:0".parse().expect("an address")), ..Listener::default() };
    config.listeners.tcp = BTreeMap::from([("default".to_owned(), listener)]);
    for (round, (client_id, expiry)) in [("a", 1), ("b", 100), ("b", 100)].into_iter().enumerate() {
        let opened = Store::open(folder.path(), "n", &config.store).expect("opens");
        let store = Arc::clone(&opened.store);
        let broker = Broker::start(&config, opened, Hooks::new("n", Vec::new())).expect("starts");
        let address = broker.addresses()[0].1;
        let talk = tokio::task::spawn_blocking(move || {
            let options = |id: &str| Options::new(id).version(Version::V5);
            let mut client = Client::connect(address, &options(client_id).persistent(expiry)).expect("connects");
            client.subscribe(&[("t", QoS::AtLeastOnce)]).expect("subscribed");
            if round > 0 {
                let wrong = client.receive(Duration::from_millis(300)).expect("holds");
                assert_eq!(wrong, None, "a message of another client's session");
            }
            client.disconnect().expect("leaves");
            if round == 0 {
                let mut publisher = Client::connect(address, &options("p")).expect("connects");
                for _ in 0..10 {
                    publisher.publish("t", b"for a", QoS::AtLeastOnce, false).expect("published");
                }
                // The session expires with its messages.
                std::thread::sleep(Duration::from_millis(1500));
            }
        });
        talk.await.expect("all is said");
        broker.stop().await;
        store.close();
    }
}

#[test]
fn space_of_delivered_records_is_given_back() {
    let folder = tempfile::tempdir().expect("a folder");
    let open = || {
        Store::open(folder.path(), "n", &Settings { write_buffer_bytes: 1 << 20, ..settings(DurabilityLevel::Process) })
            .expect("opens")
            .store
    };
    let store = open();
    let queue = store.action_queue("a", BOUNDS).expect("a queue");
    let reader = ActionQueue::new(Arc::clone(&store), Arc::clone(&queue));
    let payload = "x".repeat(1000);
    for _ in 0..100 {
        let (mut batch, mut outcome) = (Batch::default(), Outcome::default());
        for _ in 0..1000 {
            outcome.record(queue.id(), Promise::default(), &Value::text(&payload));
        }
        batch.records_of(outcome.records());
        store.commit(&mut batch).expect("written");
        reader.delivered(&all(&reader));
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    std::thread::sleep(std::time::Duration::from_millis(300));
    store.close();
    drop((reader, queue, store));
    let size = |folder: &std::path::Path| -> u64 {
        std::fs::read_dir(folder).expect("a folder").flatten().filter_map(|entry| entry.metadata().ok()).map(|m| m.len()).sum()
    };
    let bytes = size(&Store::folder(folder.path()));
    assert!(bytes < 40 << 20, "100 MB were written and delivered, and {bytes} bytes are still there");
    let store = open();
    let queue = store.action_queue("a", BOUNDS).expect("a queue");
    let ledger = queue.ledger();
    assert!(ledger.balances() && ledger.pending == 0 && ledger.accepted == 100_000, "{ledger:?}");
    store.close();
}

#[test]
fn a_bounded_queue_drops_its_oldest_where_it_may() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), "n", &settings(DurabilityLevel::Process)).expect("opens").store;
    let queue = store.action_queue("a", Bounds { records_max: 10, when_full: WhenFull::DropOldest, ..BOUNDS }).expect("a queue");
    commit(&store, queue.id(), 0..25);
    let reader = ActionQueue::new(Arc::clone(&store), Arc::clone(&queue));
    let ledger = reader.ledger();
    assert!(ledger.balances() && (ledger.dropped, ledger.pending) == (15, 10), "{ledger:?}");
    assert_eq!(read(&reader).last(), Some(&(24, Value::Int(24))));
    store.close();
}
