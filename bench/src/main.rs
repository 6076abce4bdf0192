//! A load generator for MQTT brokers, and a comparison of Hookline with mosquitto: same machine, same run, interleaved.
//!
//! The yardstick is the broker's CPU time for each delivered message, user and system, as the operating system accounts
//! for it: it is steadier than throughput where cores are shared.

/// The load: pairs of publishers and subscribers in one thread.
mod load;
/// Logins.
mod logins;
/// The brokers, as processes.
mod peer;
/// A restart with much in the store.
mod restart;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hookline_mqtt::QoS;

use load::{Load, Outcome};
use logins::Logins;
use peer::{Peer, Running};
use restart::Backlog;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure Hookline and mosquitto side by side, a fresh broker for every run
    Compare {
        /// Seconds of each run
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Runs of each broker in each scenario; medians are reported
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Measure acknowledgements: how many a second, how soon, and what they cost, by level, publishers and payload
    Acks {
        /// Seconds of each run
        #[arg(long, default_value_t = 2)]
        seconds: u64,
    },
    /// Measure a restart with durable sessions that are away, and messages that wait for them
    Restart {
        #[arg(long, default_value_t = 100_000)]
        sessions: usize,
        /// Messages that wait, of all sessions together
        #[arg(long, default_value_t = 10_000_000)]
        messages: usize,
        /// Sessions that each message waits for
        #[arg(long, default_value_t = 1)]
        fan_out: usize,
        #[arg(long, default_value_t = 64)]
        payload_bytes: usize,
    },
    /// Log clients in to a broker that is running already
    Logins {
        /// Its address
        #[arg(long, default_value = "127.0.0.1:1883")]
        address: SocketAddr,
        #[arg(long)]
        username: Option<String>,
        #[arg(long)]
        password: Option<String>,
        #[arg(long, default_value_t = 10_000)]
        clients: usize,
        /// Logins under way at a time
        #[arg(long, default_value_t = 200)]
        concurrent: usize,
    },
    /// Load a broker that is running already
    Load {
        /// Its address
        #[arg(long, default_value = "127.0.0.1:1883")]
        address: SocketAddr,
        /// Its process, for the CPU time
        #[arg(long)]
        pid: Option<u32>,
        #[arg(long, default_value_t = 10)]
        pairs: usize,
        #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=1))]
        qos: u8,
        #[arg(long, default_value_t = 64)]
        payload_bytes: usize,
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Messages on their way for each pair
        #[arg(long, default_value_t = 64)]
        window: usize,
    },
}

/// What is compared: a load, and how each broker is set up for it.
struct Scenario {
    name: &'static str,
    load: Load,
    peers: &'static [Peer],
}

fn scenarios(duration: Duration) -> Vec<Scenario> {
    let load = |qos, subscribers| Load { pairs: 10, qos, payload_bytes: 64, window: 64, subscribers, duration };
    vec![
        Scenario { name: "10 pairs, QoS 0", load: load(QoS::AtMostOnce, true), peers: &[Peer::Hookline, Peer::Mosquitto] },
        Scenario { name: "10 pairs, QoS 1, in memory", load: load(QoS::AtLeastOnce, true), peers: &[Peer::Hookline, Peer::Mosquitto] },
        Scenario {
            name: "10 publishers, QoS 1, durable action at level disk (its sink away)",
            load: load(QoS::AtLeastOnce, false),
            peers: &[Peer::HooklineQueueing, Peer::Mosquitto],
        },
        Scenario {
            name: "10 publishers, QoS 1, durable action at level disk, into SQLite",
            load: load(QoS::AtLeastOnce, false),
            peers: &[Peer::HooklineAudit, Peer::Mosquitto],
        },
    ]
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().command {
        Command::Compare { seconds, rounds } => compare(Duration::from_secs(seconds), rounds),
        Command::Acks { seconds } => acknowledgements(Duration::from_secs(seconds)),
        Command::Restart { sessions, messages, fan_out, payload_bytes } => Backlog { sessions, messages, fan_out, payload_bytes }.run(),
        Command::Logins { address, username, password, clients, concurrent } => {
            logins::run(&Logins { address, username, password, clients, concurrent });
            Ok(())
        }
        Command::Load { address, pid, pairs, qos, payload_bytes, seconds, window } => {
            let qos = QoS::from_bits(qos).unwrap_or_default();
            let load = Load { pairs, qos, payload_bytes, window, subscribers: true, duration: Duration::from_secs(seconds) };
            let outcome = load.run(address, pid)?;
            println!("{:.0} messages/s, {:.3} us of CPU for each", outcome.rate(), outcome.cpu_us());
            Ok(())
        }
    }
}

fn compare(duration: Duration, rounds: usize) -> anyhow::Result<()> {
    println!("| scenario (64 B, window 64) | broker | messages/s (min, median, max) | CPU us/message (min, median, max) | to mosquitto |");
    println!("|---|---|---|---|---|");
    for scenario in scenarios(duration) {
        let mut outcomes: Vec<Vec<Outcome>> = scenario.peers.iter().map(|_| Vec::new()).collect();
        for _ in 0..rounds {
            for (peer, outcomes) in scenario.peers.iter().zip(&mut outcomes) {
                let running = Running::start(*peer)?;
                outcomes.push(scenario.load.run(running.address(), Some(running.pid()))?);
            }
        }
        let cpu: Vec<[f64; 3]> = outcomes.iter().map(|outcomes| spread(outcomes, Outcome::cpu_us)).collect();
        let reference = cpu.last().map_or(f64::NAN, |cpu| cpu[1]);
        for ((peer, outcomes), cpu) in scenario.peers.iter().zip(&outcomes).zip(&cpu) {
            let [min, median, max] = spread(outcomes, Outcome::rate);
            println!(
                "| {} | {} | {min:.0}, {median:.0}, {max:.0} | {:.2}, {:.2}, {:.2} | {:.2} |",
                scenario.name,
                peer.name(),
                cpu[0],
                cpu[1],
                cpu[2],
                cpu[1] / reference
            );
        }
    }
    Ok(())
}

fn acknowledgements(duration: Duration) -> anyhow::Result<()> {
    const PEERS: &[(&str, Peer)] = &[
        ("hookline, no durable session", Peer::Hookline),
        ("hookline, level memory", Peer::HooklineDurable("memory")),
        ("hookline, level process", Peer::HooklineDurable("process")),
        ("hookline, level disk", Peer::HooklineDurable("disk")),
        ("mosquitto, persistence on", Peer::MosquittoPersistent),
    ];
    println!("| payload | publishers | broker | acknowledged/s | p50 us | p99 us | p99.9 us | CPU us/message |");
    println!("|---|---|---|---|---|---|---|---|");
    for payload_bytes in [64, 1024, 16 << 10] {
        for pairs in [1, 10, 100, 1000] {
            for (name, peer) in PEERS {
                let running = Running::start(*peer)?;
                let load = Load { pairs, qos: QoS::AtLeastOnce, payload_bytes, window: 1, subscribers: false, duration };
                let outcome = load.run(running.address(), Some(running.pid()))?;
                println!(
                    "| {payload_bytes} B | {pairs} | {name} | {:.0} | {} | {} | {} | {:.2} |",
                    outcome.rate(),
                    outcome.latency_us(500),
                    outcome.latency_us(990),
                    outcome.latency_us(999),
                    outcome.cpu_us()
                );
            }
        }
    }
    Ok(())
}

/// Minimum, median and maximum.
fn spread(outcomes: &[Outcome], figure: impl Fn(&Outcome) -> f64) -> [f64; 3] {
    let mut figures: Vec<f64> = outcomes.iter().map(figure).collect();
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => [f64::NAN; 3],
        [min, ..] => [*min, figures[figures.len() / 2], figures[figures.len() - 1]],
    }
}
