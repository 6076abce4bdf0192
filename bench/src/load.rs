//! Traffic: publishers and subscribers in one thread with one epoll set, nothing allocated for a message.
//!
//! In a closed loop each publisher keeps a window of messages on their way, and fills it when half of it is free. In an open loop messages leave at a rate, and latency
//! counts from the moment at which each was due, so that a broker that stalls does not hide what waited meanwhile (Tene:
//! "coordinated omission").

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use clap::ValueEnum;
use hdrhistogram::Histogram;
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;
use hookline_mqtt::packet::{Connect, PublishHeader, encode_publish};
use rustix::event::{Timespec, epoll};

use crate::link::Link;
use crate::process::cpu_time;

/// Who gets what is published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Pattern {
    /// Each publisher has a subscriber of its own
    Pairs,
    /// Every subscriber gets everything, by one topic
    FanOut,
    /// Every subscriber gets everything, by a wildcard over the topics of all publishers
    FanIn,
    /// Subscribers share the topics of all publishers, as one group
    Shared,
    /// Nobody: what is counted are acknowledgements
    Nobody,
}

/// How fast messages leave.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Pace {
    /// Messages that each publisher has on their way.
    Window(u64),
    /// Messages a second, of all publishers together.
    Rate(f64),
}

/// What to log in with.
#[derive(Debug, Clone, Default)]
pub struct Login {
    pub username: Option<String>,
    pub password: Option<String>,
}

impl Login {
    /// The CONNECT of a client that keeps no session.
    pub(crate) fn connect(&self, client_id: &str) -> Connect {
        let mut connect = Options::new(client_id).connect;
        connect.username.clone_from(&self.username);
        connect.password = self.password.clone().map(String::into_bytes);
        // No client sends pings: it must be long.
        connect.keep_alive_secs = 3600;
        connect
    }
}

/// What to do.
#[derive(Debug, Clone)]
pub struct Load {
    pub login: Login,
    pub pattern: Pattern,
    pub publishers: usize,
    /// As many as publishers with [`Pattern::Pairs`].
    pub subscribers: usize,
    pub qos: QoS,
    /// At least 16, which the generator's own marks take.
    pub payload_bytes: usize,
    pub pace: Pace,
    pub duration: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Messages delivered, or acknowledged with [`Pattern::Nobody`].
    pub messages: u64,
    pub elapsed: Duration,
    /// The broker's.
    pub cpu: Option<Duration>,
    /// From the sending (closed loop) or the moment at which it was due (open loop) to the delivery, or to the acknowledgement with
    /// [`Pattern::Nobody`]; nanoseconds.
    pub latency: Histogram<u64>,
}

impl Outcome {
    /// Messages a second.
    pub fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// The broker's CPU time for each message, microseconds.
    pub fn cpu_us(&self) -> Option<f64> {
        Some(self.cpu?.as_secs_f64() * 1e6 / self.messages as f64)
    }

    /// The latency that so many per cent do not exceed, microseconds.
    pub fn latency_us(&self, per_cent: f64) -> f64 {
        self.latency.value_at_quantile(per_cent / 100.0) as f64 / 1000.0
    }
}

/// How far a publisher is.
#[derive(Debug, Default)]
struct Publisher {
    topic: String,
    sent: u64,
    acknowledged: u64,
    /// Copies of its messages that came.
    copies: u64,
    /// When those were sent that are not acknowledged, nanoseconds since the start; with [`Pattern::Nobody`] only.
    sent_at: VecDeque<u64>,
    is_touched: bool,
}

/// What runs before the measurement, so that both sides are warm.
const WARM_UP: Duration = Duration::from_millis(500);
/// How long a broker may be silent.
const SILENCE_MAX: Duration = Duration::from_secs(5);
/// The number of the publisher, four bytes, and the time of sending, eight, in every payload.
const MARK_BYTES: usize = 12;
/// Bytes that one read takes at most, and the largest packet.
const READ_BYTES: usize = 1 << 20;

impl Load {
    /// Runs the load; `pid` is the process whose CPU time counts.
    pub fn run(&self, address: SocketAddr, pid: Option<u32>) -> anyhow::Result<Outcome> {
        Traffic::connect(self, address)?.run(pid)
    }

    /// Copies of each message that come.
    fn copies(&self) -> u64 {
        match self.pattern {
            Pattern::Pairs | Pattern::Shared => 1,
            Pattern::FanOut | Pattern::FanIn => self.subscribers as u64,
            Pattern::Nobody => 0,
        }
    }

    fn topic(&self, publisher: usize) -> String {
        format!("bench/{}", if self.pattern == Pattern::FanOut { 0 } else { publisher })
    }

    fn filter(&self, subscriber: usize) -> String {
        match self.pattern {
            Pattern::Shared => "$share/bench/bench/+".to_owned(),
            Pattern::FanIn => "bench/+".to_owned(),
            Pattern::Pairs | Pattern::FanOut | Pattern::Nobody => self.topic(subscriber),
        }
    }
}

/// A load under way.
struct Traffic<'a> {
    load: &'a Load,
    poll: OwnedFd,
    /// Publishers first, then subscribers.
    links: Vec<Link>,
    publishers: Vec<Publisher>,
    /// Publishers that may send more.
    touched: Vec<usize>,
    /// Links with output.
    dirty: Vec<usize>,
    payload: Vec<u8>,
    started: Instant,
    delivered: u64,
    latency: Histogram<u64>,
}

impl<'a> Traffic<'a> {
    fn connect(load: &'a Load, address: SocketAddr) -> anyhow::Result<Traffic<'a>> {
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let subscribers = if load.pattern == Pattern::Nobody { 0 } else { load.subscribers };
        let mut links = Vec::with_capacity(load.publishers + subscribers);
        let run = std::process::id();
        for number in 0..load.publishers + subscribers {
            let role = if number < load.publishers { "p" } else { "s" };
            let mut link = Link::connect(address, &load.login.connect(&format!("bench-{run}-{role}-{number}")))?;
            if let Some(subscriber) = number.checked_sub(load.publishers) {
                link.ask_for(&[&load.filter(subscriber)], load.qos)?;
                link.subscribed(1)?;
            }
            link.set_nonblocking()?;
            epoll::add(&poll, link.stream().as_fd(), epoll::EventData::new_u64(number as u64), epoll::EventFlags::IN)?;
            links.push(link);
        }
        let publishers = (0..load.publishers).map(|number| Publisher { topic: load.topic(number), ..Publisher::default() }).collect();
        Ok(Traffic {
            load,
            poll,
            links,
            publishers,
            touched: Vec::new(),
            dirty: Vec::new(),
            payload: vec![b'x'; load.payload_bytes.max(16)],
            started: Instant::now(),
            delivered: 0,
            latency: Histogram::new_with_bounds(1, 60_000_000_000, 3).expect("bounds that a histogram can have"),
        })
    }

    fn run(mut self, pid: Option<u32>) -> anyhow::Result<Outcome> {
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; READ_BYTES];
        let mut measured: Option<(Instant, u64, Option<Duration>)> = None;
        let mut last_word = Instant::now();
        self.started = last_word;
        let mut due = 0u64;
        loop {
            match self.load.pace {
                Pace::Window(window) => {
                    self.fill_windows(window, due == 0);
                    due = 1;
                }
                Pace::Rate(rate) => {
                    // The first is due at once.
                    let wanted = (self.started.elapsed().as_secs_f64() * rate) as u64 + 1;
                    for number in due..wanted {
                        self.publish((number % self.load.publishers as u64) as usize, (number as f64 * 1e9 / rate) as u64);
                    }
                    due = wanted;
                }
            }
            self.flush()?;
            // An open loop does not sleep: a timer would be later than what is measured.
            let patience = if matches!(self.load.pace, Pace::Window(_)) { 1 } else { 0 };
            let timeout = Timespec { tv_sec: patience, tv_nsec: 0 };
            epoll::wait(&self.poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
            let now = Instant::now();
            if !events.is_empty() {
                last_word = now;
            } else if now - last_word > SILENCE_MAX {
                self.complain()?;
            }
            let now_ns = (now - self.started).as_nanos() as u64;
            for event in events.drain(..) {
                self.read(event.data.u64() as usize, &mut buffer, now_ns)?;
            }
            match measured {
                None if now - self.started >= WARM_UP => {
                    self.latency.clear();
                    measured = Some((now, self.delivered, pid.map(cpu_time).transpose()?));
                }
                Some((since, before, cpu)) if now - since >= self.load.duration => {
                    let now_cpu = pid.map(cpu_time).transpose()?;
                    ensure!(self.delivered > before, "the broker delivered nothing");
                    return Ok(Outcome {
                        messages: self.delivered - before,
                        elapsed: since.elapsed(),
                        cpu: now_cpu.zip(cpu).map(|(now, before)| now - before),
                        latency: self.latency,
                    });
                }
                _ => {}
            }
        }
    }

    /// Nothing has come for long.
    fn complain(&self) -> anyhow::Result<()> {
        let sent: u64 = self.publishers.iter().map(|publisher| publisher.sent).sum();
        let acknowledged: u64 = self.publishers.iter().map(|publisher| publisher.acknowledged).sum();
        bail!(
            "the broker has been silent for {SILENCE_MAX:?}: {sent} messages sent, {acknowledged} acknowledged, {} delivered; it may have \
             dropped some, which its log or metrics tell",
            self.delivered
        );
    }

    fn fill_windows(&mut self, window: u64, all: bool) {
        if all {
            self.touched = (0..self.publishers.len()).collect();
        }
        let now = self.started.elapsed().as_nanos() as u64;
        let touched = std::mem::take(&mut self.touched);
        for &number in &touched {
            let publisher = &mut self.publishers[number];
            publisher.is_touched = false;
            let copied = publisher.copies.checked_div(self.load.copies());
            let done = match (copied, self.load.qos) {
                (Some(copied), QoS::AtMostOnce) => copied,
                (Some(copied), _) => copied.min(publisher.acknowledged),
                (None, QoS::AtMostOnce) => publisher.sent,
                (None, _) => publisher.acknowledged,
            };
            let room = window.saturating_sub(publisher.sent - done);
            // Not one by one: what comes in batches is not to leave in single messages.
            for _ in 0..if room * 2 < window { 0 } else { room } {
                self.publish(number, now);
            }
        }
        self.touched = touched;
        self.touched.clear();
    }

    fn publish(&mut self, number: usize, at_ns: u64) {
        let publisher = &mut self.publishers[number];
        let packet_id = (publisher.sent % 65_535 + 1) as u16;
        publisher.sent += 1;
        if self.load.pattern == Pattern::Nobody {
            publisher.sent_at.push_back(at_ns);
        }
        self.payload[..4].copy_from_slice(&(number as u32).to_be_bytes());
        self.payload[4..MARK_BYTES].copy_from_slice(&at_ns.to_be_bytes());
        let output = self.links[number].output();
        if output.is_empty() {
            self.dirty.push(number);
        }
        let header = PublishHeader { dup: false, qos: self.load.qos, retain: false, packet_id };
        encode_publish(output, header, &publisher.topic, &[], &self.payload);
    }

    fn flush(&mut self) -> anyhow::Result<()> {
        let mut kept = 0;
        for at in 0..self.dirty.len() {
            let number = self.dirty[at];
            if !self.links[number].flush()? {
                self.dirty[kept] = number;
                kept += 1;
            }
        }
        self.dirty.truncate(kept);
        Ok(())
    }

    /// Takes what has come on a link: counts, and answers.
    fn read(&mut self, number: usize, buffer: &mut [u8], now_ns: u64) -> anyhow::Result<()> {
        let Traffic { links, publishers, touched, dirty, latency, delivered, load, .. } = self;
        let had_output = !links[number].output().is_empty();
        let mut touch = |publisher: &mut Publisher, number: usize| {
            if !publisher.is_touched {
                publisher.is_touched = true;
                touched.push(number);
            }
        };
        links[number].read(buffer, |first, body, answer| match first >> 4 {
            // PUBLISH
            3 => {
                let topic = 2 + usize::from(u16::from_be_bytes([body[0], body[1]]));
                let qos = first >> 1 & 3;
                if qos > 0 {
                    let kind = if qos == 1 { 0x40 } else { 0x50 };
                    answer.extend_from_slice(&[kind, 2, body[topic], body[topic + 1]]);
                }
                let Some((mark, _)) = body[topic + if qos > 0 { 2 } else { 0 }..].split_first_chunk::<MARK_BYTES>() else { return };
                let from = u32::from_be_bytes([mark[0], mark[1], mark[2], mark[3]]) as usize;
                let sent = u64::from_be_bytes([mark[4], mark[5], mark[6], mark[7], mark[8], mark[9], mark[10], mark[11]]);
                if let Some(publisher) = publishers.get_mut(from) {
                    publisher.copies += 1;
                    *delivered += 1;
                    latency.saturating_record(now_ns.saturating_sub(sent));
                    touch(publisher, from);
                }
            }
            // PUBACK, PUBCOMP
            4 | 7 => {
                let publisher = &mut publishers[number];
                publisher.acknowledged += 1;
                if load.pattern == Pattern::Nobody {
                    *delivered += 1;
                    let sent = publisher.sent_at.pop_front().unwrap_or(now_ns);
                    latency.saturating_record(now_ns.saturating_sub(sent));
                }
                touch(publisher, number);
            }
            // PUBREC, PUBREL
            5 => answer.extend_from_slice(&[0x62, 2, body[0], body[1]]),
            6 => answer.extend_from_slice(&[0x70, 2, body[0], body[1]]),
            _ => {}
        })?;
        if !had_output && !links[number].output().is_empty() {
            dirty.push(number);
        }
        Ok(())
    }
}
