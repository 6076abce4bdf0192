//! What is measured alone: one call is one message's share of the path.

use std::collections::BTreeMap;
use std::hint::black_box;

use hookline_core::measure::{Commits, Routes, Window};
use hookline_mqtt::packet::{Packet, Publish, PublishHeader, encode_publish};
use hookline_mqtt::{Properties, PropertyId, QoS, Version, decode};
use hookline_rules::{Engine, Targets};
use hookline_schemas::config::{Rule, RuleAction, RuleWindow};
use hookline_schemas::event::About;
use hookline_schemas::ports::{Hook, Outcome, Promise};
use hookline_schemas::{Event, HookPoint, Message, QueueId};

/// A part of the path.
pub(crate) struct Workload {
    pub(crate) name: String,
    /// Calls that belong together.
    pub(crate) messages: u64,
    pub(crate) make: Box<dyn Fn() -> Box<dyn FnMut()>>,
}

/// Messages of one commit.
const COMMIT: u64 = 64;

fn publish(version: Version) -> Vec<u8> {
    let mut properties = Properties::default();
    if version == Version::V5 {
        properties.push_number(PropertyId::MessageExpiryInterval, 3600);
        properties.push_text(PropertyId::ContentType, "application/json");
    }
    let payload = [b'x'; 64];
    let mut packet = Vec::new();
    Publish {
        dup: false,
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "site/1/device/1/state",
        packet_id: 1,
        properties,
        payload: &payload,
    }
    .encode(&mut packet, version);
    packet
}

/// All of them, with routers up to so many subscriptions.
pub(crate) fn all(subscriptions_max: usize) -> Vec<Workload> {
    let small = |name: &str, make: Box<dyn Fn() -> Box<dyn FnMut()>>| Workload { name: name.into(), messages: 1, make };
    let mut workloads = Vec::new();
    for (version, name) in [(Version::V311, "3.1.1"), (Version::V5, "5.0")] {
        let make = move || -> Box<dyn FnMut()> {
            let packet = publish(version);
            Box::new(move || {
                let decoded = decode(black_box(&packet), version, usize::MAX);
                assert!(matches!(black_box(decoded), Ok(Some((Packet::Publish(_), _)))));
            })
        };
        workloads.push(small(&format!("codec: decode a PUBLISH of {name}"), Box::new(make)));
    }
    let make = || -> Box<dyn FnMut()> {
        let mut out = Vec::with_capacity(1 << 10);
        Box::new(move || {
            out.clear();
            let header = PublishHeader { dup: false, qos: QoS::AtLeastOnce, retain: false, packet_id: 7 };
            encode_publish(&mut out, header, black_box("site/1/device/1/state"), &[], black_box(&[b'x'; 64]));
            black_box(&out);
        })
    };
    workloads.push(small("codec: encode a PUBLISH of 3.1.1", Box::new(make)));
    for subscriptions in [10, 10_000, 1_000_000].into_iter().filter(|subscriptions| *subscriptions <= subscriptions_max) {
        for (wildcards, kind) in [(false, "exact"), (true, "half wildcards")] {
            let make = move || -> Box<dyn FnMut()> {
                let (routes, mut number) = (Routes::new(subscriptions, wildcards), 0);
                Box::new(move || {
                    number += 1;
                    assert_eq!(black_box(routes.look_up(number)), 1);
                })
            };
            let name = format!("router: look up among {subscriptions}, {kind}");
            workloads.push(small(&name, Box::new(make)));
        }
    }
    let make = || -> Box<dyn FnMut()> {
        // Few, because making more varies with the seeds of the maps, and hides what is measured.
        let (mut routes, mut number) = (Routes::new(500, true), 0);
        Box::new(move || {
            number += 1;
            assert_eq!(black_box(routes.remembered(number)), 1);
        })
    };
    workloads.push(small("router: look up what is remembered", Box::new(make)));
    let make = || -> Box<dyn FnMut()> {
        let mut window = Window::new(32);
        Box::new(move || assert!(window.turn()))
    };
    workloads.push(small("session: send and acknowledge", Box::new(make)));
    let make = || -> Box<dyn FnMut()> {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut commits = Commits::open(folder.path()).expect("a new store");
        Box::new(move || {
            // The folder lives as long as the store.
            let _ = &folder;
            commits.turn(COMMIT).expect("a commit");
        })
    };
    workloads.push(Workload { messages: COMMIT, ..small("commit: a message of a durable session, 64 at once", Box::new(make)) });
    let make = || -> Box<dyn FnMut()> {
        let (engine, mut outcome) = (rule(), Outcome::default());
        let message =
            Message { payload: br#"{"temperature": 21.5, "battery": 87}"#.as_slice().into(), ..Message::internal("site/1/state", "") };
        Box::new(move || {
            outcome.clear();
            let (client, about) = (&message.from, About::Message(&message));
            engine.on(&Event { point: HookPoint::MessagePublish, timestamp_ms: 1, node: "n", client, about }, &mut outcome);
            assert_eq!(black_box(&outcome).records().count(), 1);
        })
    };
    workloads.push(small("rule: a condition on a field, a row for an action", Box::new(make)));
    workloads
}

fn rule() -> Engine {
    let sql = r#"SELECT clientid, payload.battery AS battery FROM "site/#" WHERE payload.temperature > 20"#.to_owned();
    let actions = vec![RuleAction::Named("a".into())];
    let rule = Rule { sql, actions, enable: true, description: String::new(), window: RuleWindow::default() };
    let targets = Targets::from([("a".to_owned(), (QueueId(1), Promise::default()))]);
    Engine::new(&BTreeMap::from([("r".to_owned(), rule)]), &targets, None).expect("a valid rule")
}
