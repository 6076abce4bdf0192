//! What rules cost for each message, beside functions by hand that do the same: as the broker calls them, with rows that are
//! encoded for the queue of an action. Before anything is measured, both must give the same bytes.

use std::collections::BTreeMap;
use std::hint::black_box;

use bytes::Bytes;
use criterion::Criterion;
use hookline_rules::{Engine, Statement, Targets};
use hookline_schemas::config::{Rule, RuleAction, RuleWindow};
use hookline_schemas::event::About;
use hookline_schemas::ports::{Hook, Outcome, Promise};
use hookline_schemas::{Event, HookPoint, Map, Message, QueueId, Value};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::{Value as Json, json};

const QUEUE: QueueId = QueueId(1);
const ACTION: &str = "readings";
const PAYLOAD_BYTES: usize = 1024;

/// What a function by hand makes of an event.
type ByHand<'a> = &'a dyn Fn(&Message, &mut Outcome);

/// A reading of one kilobyte; what rules ask for lies at its beginning, in its middle and at its end.
fn reading() -> String {
    let mut reading = json!({
        "id": "c0ffee00-0000-4000-8000-000000000001", "site": "north", "firmware": "2.4.1", "sent_at": 1_700_000_000_000_i64,
        "location": {"lat": 52.52, "lon": 13.405, "alt": 34, "floor": null}, "tags": ["a", "b", "c", "d", "e", "f"],
        "note": "", "signal": {"rssi": -71, "snr": 9.5, "channel": 11, "retries": [0, 1, 0, 2]},
        "battery": 87, "ok": true, "humidity": 40.5, "temperature": 21.5,
    });
    let missing = PAYLOAD_BYTES.saturating_sub(reading.to_string().len());
    reading["note"] = "n".repeat(missing).into();
    reading.to_string()
}

fn batch() -> String {
    let sensors: Vec<Json> = (0..20).map(|n| json!({"name": format!("s{n}"), "unit": "C", "value": f64::from(n) + 0.5})).collect();
    json!({"sent_at": 1_700_000_000_000_i64, "sensors": sensors}).to_string()
}

fn message(payload: String) -> Message {
    let mut message = Message::internal("devices/d7/data", "");
    message.payload = Bytes::from(payload);
    message
}

fn event(message: &Message) -> Event<'_> {
    Event {
        point: HookPoint::MessagePublish,
        timestamp_ms: 1_700_000_000_001,
        node: "n1",
        client: &message.from,
        about: About::Message(message),
    }
}

fn engine(statements: impl Iterator<Item = String>) -> Engine {
    let rule = |(number, sql): (usize, String)| {
        let (actions, description, window) = (vec![RuleAction::Named(ACTION.into())], String::new(), RuleWindow::default());
        (format!("r{number:05}"), Rule { sql, actions, enable: true, description, window })
    };
    let rules: BTreeMap<String, Rule> = statements.enumerate().map(rule).collect();
    let targets = Targets::from([(ACTION.to_owned(), (QUEUE, Promise::default()))]);
    Engine::new(&rules, &targets, None).unwrap_or_else(|errors| panic!("{errors:?}"))
}

fn single(sql: &str) -> Engine {
    engine(std::iter::once(sql.to_owned()))
}

fn records(outcome: &Outcome) -> Vec<Vec<u8>> {
    outcome.records().map(|(_, row)| row.to_vec()).collect()
}

/// Measures an engine and functions by hand on one message.
fn compare(criterion: &mut Criterion, title: &str, message: &Message, engines: &[(&str, &Engine)], by_hand: &[(&str, ByHand<'_>)]) {
    let mut group = criterion.benchmark_group(title);
    let mut outcome = Outcome::default();
    let event = event(message);
    let mut expected: Option<Vec<Vec<u8>>> = None;
    for (name, engine) in engines {
        engine.on(&event, &mut outcome);
        let found = records(&outcome);
        assert_eq!(*expected.get_or_insert_with(|| found.clone()), found, "{title}: {name}");
        outcome.clear();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                outcome.clear();
                engine.on(black_box(&event), &mut outcome);
            });
        });
        outcome.clear();
    }
    for (name, function) in by_hand {
        function(message, &mut outcome);
        assert_eq!(Some(records(&outcome)), expected, "{title}: {name}");
        outcome.clear();
        group.bench_function(*name, |bencher| {
            bencher.iter(|| {
                outcome.clear();
                function(black_box(message), &mut outcome);
            });
        });
        outcome.clear();
    }
    group.finish();
}

/// FROM by hand: whether the topic is `devices/+/data`.
fn is_for_me(message: &Message) -> bool {
    message.topic.strip_prefix("devices/").and_then(|rest| rest.strip_suffix("/data")).is_some_and(|device| !device.contains('/'))
}

fn add(outcome: &mut Outcome, fields: impl IntoIterator<Item = (&'static str, Value)>) {
    let mut row = Map::new();
    for (name, value) in fields {
        row.push_new(name, value);
    }
    outcome.record(QUEUE, Promise::default(), &Value::Map(row));
}

fn filter_on_the_topic(criterion: &mut Criterion) {
    let by_hand = |message: &Message, outcome: &mut Outcome| {
        if is_for_me(message) {
            add(outcome, [("topic", Value::text(&message.topic)), ("qos", Value::Int(message.qos as i64))]);
        }
    };
    let engine = single("SELECT topic, qos FROM \"devices/+/data\"");
    compare(criterion, "topic", &message(reading()), &[("rule", &engine)], &[("by hand", &by_hand)]);
}

/// Looks for the temperature and steps over everything else.
struct Temperature;

impl<'de> Visitor<'de> for Temperature {
    type Value = Option<f64>;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a reading")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Option<f64>, A::Error> {
        let mut found = None;
        while let Some(key) = access.next_key::<&str>()? {
            if key == "temperature" {
                found = Some(access.next_value()?);
            } else {
                access.next_value::<IgnoredAny>()?;
            }
        }
        Ok(found)
    }
}

fn temperature(payload: &[u8]) -> Option<f64> {
    serde_json::Deserializer::from_slice(payload).deserialize_map(Temperature).ok()?
}

fn filter_on_a_field(criterion: &mut Criterion) {
    let by_visitor = |message: &Message, outcome: &mut Outcome| {
        if is_for_me(message) && temperature(&message.payload).is_some_and(|temperature| temperature > 30.0) {
            add(outcome, [("clientid", Value::text(&message.from.client_id))]);
        }
    };
    let by_document = |message: &Message, outcome: &mut Outcome| {
        let Ok(document) = serde_json::from_slice::<Json>(&message.payload) else { return };
        if is_for_me(message) && document["temperature"].as_f64().is_some_and(|temperature| temperature > 30.0) {
            add(outcome, [("clientid", Value::text(&message.from.client_id))]);
        }
    };
    let engine = single("SELECT clientid FROM \"devices/+/data\" WHERE payload.temperature > 30");
    let by_hand: [(&str, ByHand<'_>); 2] = [("by hand", &by_visitor), ("by hand, the whole document", &by_document)];
    compare(criterion, "field of 1 KB", &message(reading()), &[("rule", &engine)], &by_hand);
}

/// The five fields that are selected.
#[derive(Deserialize)]
struct Reading<'a> {
    site: &'a str,
    firmware: &'a str,
    battery: i64,
    humidity: f64,
    temperature: f64,
}

fn projection(criterion: &mut Criterion) {
    let by_hand = |message: &Message, outcome: &mut Outcome| {
        let Ok(reading) = serde_json::from_slice::<Reading<'_>>(&message.payload) else { return };
        let fields = [
            ("site", Value::text(reading.site)),
            ("firmware", Value::text(reading.firmware)),
            ("battery", Value::Int(reading.battery)),
            ("humidity", Value::Float(reading.humidity)),
            ("temperature", Value::Float(reading.temperature)),
        ];
        if is_for_me(message) {
            add(outcome, fields);
        }
    };
    let sql = "SELECT payload.site AS site, payload.firmware AS firmware, payload.battery AS battery, payload.humidity AS humidity, \
               payload.temperature AS temperature FROM \"devices/+/data\"";
    compare(criterion, "five fields of 1 KB", &message(reading()), &[("rule", &single(sql))], &[("by hand", &by_hand)]);
    criterion.bench_function("compile five fields", |bencher| bencher.iter(|| Statement::compile(black_box(sql))));
}

#[derive(Deserialize)]
struct Batch<'a> {
    #[serde(borrow)]
    sensors: Vec<Sensor<'a>>,
}

#[derive(Deserialize)]
struct Sensor<'a> {
    name: &'a str,
    value: f64,
}

fn foreach(criterion: &mut Criterion) {
    let by_hand = |message: &Message, outcome: &mut Outcome| {
        let Ok(batch) = serde_json::from_slice::<Batch<'_>>(&message.payload) else { return };
        for sensor in batch.sensors.iter().filter(|sensor| is_for_me(message) && sensor.value > 5.0) {
            let client = Value::text(&message.from.client_id);
            add(outcome, [("clientid", client), ("name", Value::text(sensor.name)), ("value", Value::Float(sensor.value))]);
        }
    };
    let sql = "FOREACH payload.sensors AS s DO clientid, s.name AS name, s.value AS value INCASE s.value > 5 FROM \"devices/+/data\"";
    compare(criterion, "20 items", &message(batch()), &[("rule", &single(sql))], &[("by hand", &by_hand)]);
}

fn many_rules(criterion: &mut Criterion) {
    let by_hand = |message: &Message, outcome: &mut Outcome| {
        let Some(temperature) = temperature(&message.payload).filter(|_| is_for_me(message)) else { return };
        for _ in (0..10).filter(|number| temperature > 15.0 + f64::from(*number)) {
            add(outcome, [("temperature", Value::Float(temperature))]);
        }
    };
    // The last ten are for this message.
    let statement = |topic: String, limit: usize| {
        format!("SELECT payload.temperature AS temperature FROM \"{topic}\" WHERE payload.temperature > {limit}")
    };
    let matching = || (0..10).map(|number| statement("devices/+/data".to_owned(), 15 + number));
    let others = (0..9_990).map(|number| match number % 3 {
        0 => statement(format!("devices/other{number}/data"), 0),
        1 => statement(format!("sites/{number}/+/data"), 0),
        _ => statement(format!("gateways/{number}/#"), 0),
    });
    let (many, few) = (engine(others.chain(matching())), engine(matching()));
    let engines = [("10 rules of 10", &few), ("10 rules of 10,000", &many)];
    compare(criterion, "10 rules", &message(reading()), &engines, &[("by hand", &by_hand)]);
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    for benchmark in [filter_on_the_topic, filter_on_a_field, projection, foreach, many_rules] {
        benchmark(&mut criterion);
    }
    criterion.final_summary();
}
