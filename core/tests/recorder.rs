//! The recorder by itself: what is selected is there after a restart, within its bounds, and nobody waits for it.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use hookline_core::store::{Recorded, Sample, SampleBounds, SampleKey, Store};
use hookline_core::{Recorder, RecorderStats};
use hookline_schemas::config::{DurabilityLevel, Recorder as Settings, Store as StoreSettings};
use hookline_schemas::event::About;
use hookline_schemas::ports::{Hook, Outcome};
use hookline_schemas::record::encode_row;
use hookline_schemas::{Client, Event, HookPoint, Message, Value};

fn open(folder: &Path) -> Arc<Store> {
    let settings = StoreSettings { level: DurabilityLevel::Process, free_bytes_min: 0, reserve_bytes: 0, ..StoreSettings::default() };
    Store::open(folder, "n", &settings).expect("opens").store
}

fn all(store: &Store) -> Vec<Recorded> {
    let (mut from, mut found) = (SampleKey::at(0), Vec::new());
    loop {
        let page = store.samples(from, u64::MAX, |_| true).expect("reads");
        assert_eq!(page.damaged, 0);
        found.extend(page.events);
        match page.next {
            Some(next) => from = next,
            None => return found,
        }
    }
}

fn sample(at_ms: u64) -> Sample {
    let mut row = Vec::new();
    encode_row(&mut row, &Value::unsigned(at_ms));
    Sample { at_ms, row }
}

fn publish(hook: &dyn Hook, topic: &str, payload: &str, at_ms: u64) {
    let client = Client::internal("c");
    let message = Message::internal(topic, payload);
    let about = About::Message(&message);
    let event = Event { point: HookPoint::MessagePublish, timestamp_ms: at_ms, node: "n", client: &client, about };
    let mut outcome = Outcome::default();
    hook.on(&event, &mut outcome);
    assert!(outcome.is_empty());
}

#[test]
fn samples_come_back_in_the_order_of_time_page_by_page_and_after_a_restart() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    for batch in [2000..3000, 0..1000, 1000..2000] {
        store.record_sample(&batch.map(sample).collect::<Vec<_>>()).expect("recorded");
    }
    store.close();
    drop(store);
    let store = open(folder.path());
    let found = all(&store);
    assert!(found.iter().map(|event| event.key.at_ms()).eq(0..3000));
    assert!(found.iter().all(|event| event.columns == Value::unsigned(event.key.at_ms())));
    // A second event of the same time takes the place of none.
    let totals = store.record_sample(&[sample(7)]).expect("recorded");
    assert_eq!((totals.records, all(&store).len()), (3001, 3001));
    let page = store.samples(SampleKey::at(10), 20, |columns| *columns == Value::Int(15)).expect("reads");
    assert_eq!((page.events.len(), page.looked, page.next), (1, 10, None));
    store.close();
}

#[test]
fn the_oldest_go_first_by_number_by_bytes_and_by_age() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let bounds = SampleBounds { records_max: 100, bytes_max: u64::MAX, keep_ms: u64::MAX };
    let first = || all(&store).first().map(|event| event.key.at_ms());
    store.record_sample(&(0..150).map(sample).collect::<Vec<_>>()).expect("recorded");
    assert_eq!(store.trim_samples(bounds, 150).expect("trimmed"), 55);
    assert_eq!((first(), store.trim_samples(bounds, 150).expect("trimmed")), (Some(55), 0));
    let half = store.sample_totals().expect("counted").bytes / 2;
    store.trim_samples(SampleBounds { bytes_max: half, ..bounds }, 150).expect("trimmed");
    assert!(store.sample_totals().expect("counted").bytes <= half);
    assert!(first() > Some(100), "{:?}", first());
    store.trim_samples(SampleBounds { keep_ms: 10, ..bounds }, 150).expect("trimmed");
    assert_eq!(first(), Some(140));
    store.trim_samples(SampleBounds { keep_ms: 10, ..bounds }, 1000).expect("trimmed");
    assert_eq!((first(), store.sample_totals().expect("counted").records), (None, 0));
    store.close();
}

#[test]
fn what_is_selected_is_recorded_and_the_rest_is_not() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let nothing = Recorder::start(&Settings::default(), &store).expect("no thread is needed");
    assert!(nothing.is_none());
    let settings = Settings { topics: vec!["a/#".into()], one_in: 2, ..Settings::default() };
    let recorder = Recorder::start(&settings, &store).expect("starts").expect("a topic is named");
    let hook = recorder.hook();
    assert!(hook.points().contains(HookPoint::MessagePublish) && !hook.points().contains(HookPoint::ClientConnected));
    let now_ms = u64::try_from(std::time::UNIX_EPOCH.elapsed().expect("after 1970").as_millis()).expect("before the end of time");
    for number in 0..10 {
        publish(&*hook, "a/b", &number.to_string(), now_ms);
        publish(&*hook, "b", "x", now_ms);
    }
    assert_eq!(recorder.stop(), RecorderStats { seen: 10, recorded: 5, dropped: 0 });
    let payloads: Vec<String> = all(&store).iter().map(|event| event.columns.path(["payload"]).to_string()).collect();
    assert_eq!(payloads, ["0", "2", "4", "6", "8"]);
    store.close();
}

#[test]
fn what_comes_too_fast_is_dropped_and_counted_and_holds_nobody_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let store = open(folder.path());
    let settings = Settings { topics: vec!["#".into()], ..Settings::default() };
    let recorder = Recorder::start(&settings, &store).expect("starts").expect("a topic is named");
    let (hook, payload, started) = (recorder.hook(), "x".repeat(1 << 20), Instant::now());
    for _ in 0..2000 {
        publish(&*hook, "t", &payload, 0);
    }
    // To write it all would take far longer: two gigabytes, of which forty megabytes a second may be written.
    assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    publish(&*hook, "t", &"x".repeat(5 << 20), 0);
    let stats = recorder.stop();
    assert_eq!((stats.seen, stats.recorded + stats.dropped), (2001, 2001));
    assert!(stats.dropped > 0 && stats.recorded > 0, "{stats:?}");
    store.close();
}
