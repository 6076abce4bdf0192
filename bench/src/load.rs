//! Closed-loop load: each publisher keeps a window of messages on their way. One thread, one epoll set; one write for
//! everything that a turn has to say to a connection.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hookline_mqtt::client::Options;
use hookline_mqtt::packet::{PublishHeader, Subscribe, SubscribeFilter, SubscriptionOptions, encode_publish};
use hookline_mqtt::{Properties, QoS, Version};
use rustix::event::{Timespec, epoll};

/// What to do.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Load {
    pub(crate) pairs: usize,
    /// 0 or 1.
    pub(crate) qos: QoS,
    pub(crate) payload_bytes: usize,
    /// Messages on their way for each pair.
    pub(crate) window: usize,
    /// Whether somebody receives; otherwise an acknowledged message counts as delivered.
    pub(crate) subscribers: bool,
    pub(crate) duration: Duration,
}

/// What came of it.
#[derive(Debug, Clone)]
pub(crate) struct Outcome {
    messages: u64,
    elapsed: Duration,
    cpu: Duration,
    /// From sending to the acknowledgement, microseconds, sorted.
    latencies_us: Vec<u32>,
}

impl Outcome {
    pub(crate) fn rate(&self) -> f64 {
        self.messages as f64 / self.elapsed.as_secs_f64()
    }

    /// The latency that so many per mille of the acknowledgements do not exceed, microseconds.
    pub(crate) fn latency_us(&self, per_mille: usize) -> u32 {
        let last = self.latencies_us.len().saturating_sub(1);
        self.latencies_us.get(last * per_mille / 1000).copied().unwrap_or_default()
    }

    pub(crate) fn cpu_us(&self) -> f64 {
        self.cpu.as_secs_f64() * 1e6 / self.messages as f64
    }
}

/// One end of a pair.
struct End {
    stream: TcpStream,
    pair: usize,
    is_publisher: bool,
    input: Vec<u8>,
    output: Vec<u8>,
}

/// How far a pair is.
#[derive(Debug, Clone, Default)]
struct Pair {
    sent: u64,
    acknowledged: u64,
    received: u64,
    /// When those were sent that are not acknowledged.
    sent_at: VecDeque<Instant>,
    latencies_us: Vec<u32>,
}

/// What runs before the measurement, so that both sides are warm.
const WARM_UP: Duration = Duration::from_millis(500);

impl Load {
    /// Runs the load; `pid` is the process whose CPU time counts.
    pub(crate) fn run(&self, address: SocketAddr, pid: Option<u32>) -> anyhow::Result<Outcome> {
        let mut ends = Vec::new();
        for pair in 0..self.pairs {
            if self.subscribers {
                ends.push(self.connect(address, pair, false)?);
            }
            ends.push(self.connect(address, pair, true)?);
        }
        let poll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        for (index, end) in ends.iter().enumerate() {
            end.stream.set_nonblocking(true)?;
            epoll::add(&poll, end.stream.as_fd(), epoll::EventData::new_u64(index as u64), epoll::EventFlags::IN)?;
        }
        let mut pairs = vec![Pair::default(); self.pairs];
        let payload = vec![b'x'; self.payload_bytes];
        let mut events = Vec::with_capacity(256);
        let started = Instant::now();
        let mut measured: Option<(Instant, u64, Duration)> = None;
        loop {
            for end in ends.iter_mut().filter(|end| end.is_publisher) {
                self.publish(end, &mut pairs[end.pair], &payload);
            }
            for end in &mut ends {
                end.flush()?;
            }
            let timeout = Timespec { tv_sec: 1, tv_nsec: 0 };
            epoll::wait(&poll, rustix::buffer::spare_capacity(&mut events), Some(&timeout))?;
            if events.is_empty() {
                bail!("the broker has not answered for a second");
            }
            for event in events.drain(..) {
                let end = &mut ends[event.data.u64() as usize];
                self.read(end, &mut pairs)?;
            }
            let delivered = pairs.iter().map(|pair| if self.subscribers { pair.received } else { pair.acknowledged }).sum();
            match measured {
                None if started.elapsed() >= WARM_UP => {
                    pairs.iter_mut().for_each(|pair| pair.latencies_us.clear());
                    measured = Some((Instant::now(), delivered, cpu_time(pid)?));
                }
                Some((since, before, cpu)) if since.elapsed() >= self.duration => {
                    let (elapsed, cpu) = (since.elapsed(), cpu_time(pid)? - cpu);
                    let mut latencies_us: Vec<u32> = pairs.into_iter().flat_map(|pair| pair.latencies_us).collect();
                    latencies_us.sort_unstable();
                    return Ok(Outcome { messages: delivered - before, elapsed, cpu, latencies_us });
                }
                _ => {}
            }
        }
    }

    fn connect(&self, address: SocketAddr, pair: usize, is_publisher: bool) -> anyhow::Result<End> {
        let mut stream = TcpStream::connect(address).with_context(|| format!("cannot connect to {address}"))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(Duration::from_secs(10)))?;
        let mut out = Vec::new();
        Options::new(&format!("bench-{}-{pair}", if is_publisher { "p" } else { "s" })).connect.encode(&mut out);
        stream.write_all(&out)?;
        let mut connack = [0; 4];
        stream.read_exact(&mut connack)?;
        if connack[3] != 0 {
            bail!("the broker refused a connection: code {}", connack[3]);
        }
        if !is_publisher {
            let options = SubscriptionOptions { qos: self.qos, ..SubscriptionOptions::default() };
            let filters = vec![SubscribeFilter { filter: topic(pair), options }];
            out.clear();
            Subscribe { packet_id: 1, properties: Properties::default(), filters }.encode(&mut out, Version::V311);
            stream.write_all(&out)?;
            let mut suback = [0; 5];
            stream.read_exact(&mut suback)?;
        }
        Ok(End { stream, pair, is_publisher, input: Vec::new(), output: Vec::new() })
    }

    /// Fills the window.
    fn publish(&self, end: &mut End, pair: &mut Pair, payload: &[u8]) {
        let done = match (self.subscribers, self.qos) {
            (true, QoS::AtMostOnce) => pair.received,
            (true, _) => pair.acknowledged.min(pair.received),
            (false, _) => pair.acknowledged,
        };
        while pair.sent - done < self.window as u64 {
            let packet_id = (pair.sent % 65_535 + 1) as u16;
            let header = PublishHeader { dup: false, qos: self.qos, retain: false, packet_id };
            encode_publish(&mut end.output, header, &topic(end.pair), &[], payload);
            pair.sent += 1;
            if self.qos > QoS::AtMostOnce {
                pair.sent_at.push_back(Instant::now());
            }
        }
    }

    /// Takes what has come: counts messages and acknowledgements, and acknowledges.
    fn read(&self, end: &mut End, pairs: &mut [Pair]) -> anyhow::Result<()> {
        let mut buffer = [0u8; 64 << 10];
        match end.stream.read(&mut buffer) {
            Ok(0) => bail!("the broker closed a connection"),
            Ok(count) => end.input.extend_from_slice(&buffer[..count]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error.into()),
        }
        let mut at = 0;
        while let Some((length, header)) = hookline_mqtt::read::varint(end.input.get(at + 1..).unwrap_or_default())? {
            let body = at + 1 + header;
            let Some(packet) = end.input.get(body..body + length as usize) else { break };
            match end.input[at] >> 4 {
                3 => {
                    pairs[end.pair].received += 1;
                    if end.input[at] & 0x06 != 0 {
                        let id = 2 + usize::from(u16::from_be_bytes([packet[0], packet[1]]));
                        end.output.extend_from_slice(&[0x40, 2, packet[id], packet[id + 1]]);
                    }
                }
                4 => {
                    let pair = &mut pairs[end.pair];
                    pair.acknowledged += 1;
                    let since = pair.sent_at.pop_front();
                    pair.latencies_us.extend(since.map(|since| since.elapsed().as_micros() as u32));
                }
                _ => {}
            }
            at = body + length as usize;
        }
        end.input.drain(..at);
        Ok(())
    }
}

impl End {
    /// One write. What the socket does not take now it takes in the next turn.
    fn flush(&mut self) -> io::Result<()> {
        if self.output.is_empty() {
            return Ok(());
        }
        match self.stream.write(&self.output) {
            Ok(count) => drop(self.output.drain(..count)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
        Ok(())
    }
}

fn topic(pair: usize) -> String {
    format!("bench/{pair}")
}

/// User and system time of a process, from `/proc/<pid>/stat`, fields 14 and 15 in ticks of 10 ms.
fn cpu_time(pid: Option<u32>) -> anyhow::Result<Duration> {
    let Some(pid) = pid else { return Ok(Duration::ZERO) };
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the broker is gone")?;
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
