//! Clients that come, stay and go: what a connect costs, what a connection weighs that does nothing, what a short session costs.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::{Duration, Instant};

use hookline_mqtt::QoS;
use hookline_mqtt::packet::{PublishHeader, encode_publish};

use crate::link::{FILTERS_MAX, Link};
use crate::load::Login;
use crate::process::{cpu_time, resident_bytes};

/// Clients at a time of those that do the same step.
const WAVE: usize = 100;
/// Clients that come before what is measured.
const WARM_UP: usize = 1000;
/// What the broker gets to come to rest in.
const REST: Duration = Duration::from_millis(500);

/// What connections cost that stay and do nothing.
#[derive(Debug, Clone, Copy)]
pub struct Idle {
    pub elapsed: Duration,
    /// The broker's, from the first connect to the last CONNACK.
    pub connect_cpu: Option<Duration>,
    /// Growth of the broker's resident memory, with a subscription for each.
    pub bytes_each: Option<f64>,
}

/// Connects so many clients, each with a subscription of its own, after some that do not count: a broker that has served nobody yet
/// has much of its program still on disk.
pub fn idle(address: SocketAddr, login: &Login, pid: Option<u32>, connections: usize) -> anyhow::Result<Idle> {
    let first = connect_subscribed(address, login, 0..WARM_UP)?;
    std::thread::sleep(REST);
    let before = pid.map(resident_bytes).transpose()?;
    let cpu = pid.map(cpu_time).transpose()?;
    let began = Instant::now();
    let mut links = connect(address, login, WARM_UP..WARM_UP + connections)?;
    let elapsed = began.elapsed();
    let connect_cpu = pid.map(cpu_time).transpose()?.zip(cpu).map(|(now, before)| now - before);
    subscribe(&mut links, WARM_UP)?;
    std::thread::sleep(REST);
    let after = pid.map(resident_bytes).transpose()?;
    let bytes_each = after.zip(before).map(|(after, before)| after.saturating_sub(before) as f64 / connections as f64);
    drop(first);
    Ok(Idle { elapsed, connect_cpu, bytes_each })
}

fn connect_subscribed(address: SocketAddr, login: &Login, numbers: Range<usize>) -> anyhow::Result<Vec<Link>> {
    let first = numbers.start;
    let mut links = connect(address, login, numbers)?;
    subscribe(&mut links, first)?;
    Ok(links)
}

fn connect(address: SocketAddr, login: &Login, numbers: Range<usize>) -> anyhow::Result<Vec<Link>> {
    let mut links = Vec::with_capacity(numbers.len());
    for first in numbers.clone().step_by(WAVE) {
        let start = links.len();
        for number in first..(first + WAVE).min(numbers.end) {
            links.push(Link::open(address, &login.connect(&format!("idle-{number}")))?);
        }
        for link in &mut links[start..] {
            link.accepted()?;
        }
    }
    Ok(links)
}

fn subscribe(links: &mut [Link], first: usize) -> anyhow::Result<()> {
    for (number, link) in links.iter_mut().enumerate() {
        link.ask_for(&[&format!("idle/{}", first + number)], QoS::AtMostOnce)?;
        link.subscribed(1)?;
    }
    Ok(())
}

/// What short sessions cost.
#[derive(Debug, Clone, Copy)]
pub struct Churn {
    pub sessions: usize,
    pub elapsed: Duration,
    /// The broker's.
    pub cpu: Option<Duration>,
}

/// So many clients connect, subscribe, publish one message at QoS 1, receive it, and leave.
pub fn churn(address: SocketAddr, login: &Login, pid: Option<u32>, sessions: usize) -> anyhow::Result<Churn> {
    drop(connect_subscribed(address, login, 0..WARM_UP)?);
    std::thread::sleep(REST);
    let cpu = pid.map(cpu_time).transpose()?;
    let began = Instant::now();
    let mut buffer = vec![0; 4096];
    for first in (0..sessions).step_by(WAVE) {
        let numbers = first..(first + WAVE).min(sessions);
        let topics: Vec<String> = numbers.clone().map(|number| format!("churn/{number}")).collect();
        let mut links = Vec::with_capacity(WAVE);
        for number in numbers {
            links.push(Link::open(address, &login.connect(&format!("churn-{number}")))?);
        }
        for (link, topic) in links.iter_mut().zip(&topics) {
            link.accepted()?;
            link.ask_for(&[topic], QoS::AtLeastOnce)?;
        }
        for (link, topic) in links.iter_mut().zip(&topics) {
            link.subscribed(1)?;
            let header = PublishHeader { dup: false, qos: QoS::AtLeastOnce, retain: false, packet_id: 1 };
            encode_publish(link.output(), header, topic, &[], &[b'x'; 64]);
            link.flush()?;
        }
        for link in &mut links {
            let (mut acknowledged, mut received) = (false, false);
            while !(acknowledged && received) {
                link.wait(&mut buffer, |first, body, answer| match first >> 4 {
                    3 => {
                        let id = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                        answer.extend_from_slice(&[0x40, 2, body[id], body[id + 1]]);
                        received = true;
                    }
                    4 => acknowledged = true,
                    _ => {}
                })?;
            }
            link.output().extend_from_slice(&[0xE0, 0]);
            link.flush()?;
        }
    }
    let elapsed = began.elapsed();
    std::thread::sleep(REST);
    let cpu = pid.map(cpu_time).transpose()?.zip(cpu).map(|(now, before)| now - before);
    Ok(Churn { sessions, elapsed, cpu })
}

/// Clients of those numbers make durable sessions, each with a subscription, and leave.
pub fn leave(address: SocketAddr, login: &Login, numbers: Range<usize>) -> anyhow::Result<()> {
    for first in numbers.clone().step_by(WAVE) {
        let mut links = Vec::with_capacity(WAVE);
        for number in first..(first + WAVE).min(numbers.end) {
            let mut connect = login.connect(&format!("away-{number}"));
            connect.clean_start = false;
            links.push(Link::open(address, &connect)?);
        }
        for (number, link) in links.iter_mut().enumerate() {
            link.accepted()?;
            link.ask_for(&[&format!("away/{}", first + number)], QoS::AtLeastOnce)?;
        }
        for link in &mut links {
            link.subscribed(1)?;
            link.output().extend_from_slice(&[0xE0, 0]);
            link.flush()?;
        }
    }
    std::thread::sleep(REST);
    Ok(())
}

/// Connections that are kept.
#[derive(Debug)]
pub struct Held(Vec<Link>);

impl Held {
    /// Connects so many clients that do nothing.
    pub fn connect(address: SocketAddr, login: &Login, connections: usize) -> anyhow::Result<Held> {
        let client = |number| Link::connect(address, &login.connect(&format!("held-{number}")));
        Ok(Held((0..connections).map(client).collect::<anyhow::Result<_>>()?))
    }

    /// Subscribes to the filters that a function gives for the numbers below `count`, spread over the clients.
    pub fn subscribe(&mut self, count: usize, filter: impl Fn(usize) -> String) -> anyhow::Result<()> {
        let clients = self.0.len();
        for (turn, first) in (0..count).step_by(FILTERS_MAX).enumerate() {
            let filters: Vec<String> = (first..(first + FILTERS_MAX).min(count)).map(&filter).collect();
            let link = &mut self.0[turn % clients];
            link.ask_for(&filters.iter().map(String::as_str).collect::<Vec<_>>(), QoS::AtLeastOnce)?;
            link.subscribed(filters.len())?;
        }
        Ok(())
    }
}
