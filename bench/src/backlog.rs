//! Messages that come in one burst: what waited for a client that was away, and what was retained.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use hookline_mqtt::QoS;
use hookline_mqtt::packet::{PublishHeader, encode_publish};

use crate::link::Link;
use crate::load::{Load, Login, Pace, Pattern};
use crate::process::cpu_time;

/// What a durable session costs whose client is away, and comes back.
#[derive(Debug, Clone, Copy)]
pub struct Offline {
    /// Messages that waited.
    pub messages: u64,
    /// The broker's CPU time for each message that it stored, microseconds.
    pub store_us: Option<f64>,
    /// The broker's CPU time for each message that it delivered then, microseconds.
    pub drain_us: Option<f64>,
    /// How long the delivery took.
    pub drained_in: Duration,
}

/// Publishes at QoS 1 for that long while a durable session is away that gets everything, and receives it then.
pub fn offline(address: SocketAddr, login: &Login, pid: Option<u32>, duration: Duration) -> anyhow::Result<Offline> {
    let mut connect = login.connect("away");
    connect.clean_start = false;
    let mut away = Link::connect(address, &connect)?;
    away.ask_for(&["bench/#"], QoS::AtLeastOnce)?;
    away.subscribed(1)?;
    away.output().extend_from_slice(&[0xE0, 0]);
    away.flush()?;
    drop(away);
    std::thread::sleep(Duration::from_millis(200));
    let load = Load {
        login: login.clone(),
        pattern: Pattern::Nobody,
        publishers: 10,
        subscribers: 0,
        qos: QoS::AtLeastOnce,
        payload_bytes: 64,
        pace: Pace::Window(64),
        duration,
    };
    let stored = load.run(address, pid).context(
        "while the session was away; where its queue is full the broker refuses: publish for fewer --seconds, or raise mqtt.durable_queue_max",
    )?;

    let cpu = pid.map(cpu_time).transpose()?;
    let began = Instant::now();
    let mut link = Link::connect(address, &connect)?;
    // The load warmed up before it counted, so that more came than it says.
    let messages = receive(&mut link, stored.messages)?;
    let drained_in = began.elapsed();
    let cpu = pid.map(cpu_time).transpose()?.zip(cpu).map(|(now, before)| now - before);
    Ok(Offline { messages, store_us: stored.cpu_us(), drain_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages as f64), drained_in })
}

/// What retained messages cost that go to new subscribers.
#[derive(Debug, Clone, Copy)]
pub struct Retained {
    pub messages: u64,
    pub elapsed: Duration,
    /// The broker's, for each message delivered, microseconds.
    pub cpu_us: Option<f64>,
}

/// Retains a message on each of so many topics, and then lets so many clients subscribe to all of them, one after the other.
pub fn retained(address: SocketAddr, login: &Login, pid: Option<u32>, topics: usize, subscribers: usize) -> anyhow::Result<Retained> {
    let mut publisher = Link::connect(address, &login.connect("retain"))?;
    let mut buffer = vec![0; 1 << 20];
    for first in (0..topics).step_by(100) {
        let numbers = first..(first + 100).min(topics);
        let mut missing = numbers.len();
        for number in numbers {
            let header = PublishHeader { dup: false, qos: QoS::AtLeastOnce, retain: true, packet_id: (number % 65_535 + 1) as u16 };
            encode_publish(publisher.output(), header, &format!("retained/{number}"), &[], &[b'x'; 64]);
        }
        publisher.flush()?;
        while missing > 0 {
            publisher.wait(&mut buffer, |first, _, _| missing -= usize::from(first >> 4 == 4))?;
        }
    }
    let cpu = pid.map(cpu_time).transpose()?;
    let began = Instant::now();
    let mut messages = 0;
    for number in 0..subscribers {
        let mut link = Link::connect(address, &login.connect(&format!("burst-{number}")))?;
        link.ask_for(&["retained/#"], QoS::AtLeastOnce)?;
        messages += receive(&mut link, topics as u64)?;
    }
    let elapsed = began.elapsed();
    let cpu = pid.map(cpu_time).transpose()?.zip(cpu).map(|(now, before)| now - before);
    Ok(Retained { messages, elapsed, cpu_us: cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / messages as f64) })
}

/// Receives and acknowledges until so many messages have come: how many did.
fn receive(link: &mut Link, wanted: u64) -> anyhow::Result<u64> {
    let mut buffer = vec![0; 1 << 20];
    let mut received = 0;
    while received < wanted {
        link.wait(&mut buffer, |first, body, answer| {
            if first >> 4 == 3 {
                received += 1;
                if first & 0x06 != 0 {
                    let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                    answer.extend_from_slice(&[0x40, 2, body[id], body[id + 1]]);
                }
            }
        })?;
        ensure!(link.flush()?, "the broker does not take acknowledgements");
    }
    Ok(received)
}
