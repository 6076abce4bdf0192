//! Measurements of Hookline, beside other brokers on the same machine in the same run, interleaved, a fresh broker for every run.

/// The comparison.
mod compare;
/// How cost grows.
mod growth;
/// Logins.
mod logins;
/// What memory is taken.
mod memory;
/// The brokers, as processes.
mod peer;
/// A restart with much in the store.
mod restart;

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Parser, Subcommand};
use hookline_bench::load::{Load, Login, Pace, Pattern};
use hookline_mqtt::QoS;

use logins::Logins;
use peer::{Peer, Running, Setup};
use restart::Backlog;

#[derive(Debug, Parser)]
#[command(version, about)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure Hookline beside mosquitto, rumqttd and rmqttd, those of them that are installed
    Compare {
        /// Seconds of each run
        #[arg(long, default_value_t = 4)]
        seconds: u64,
        /// Runs of each broker in each scenario; medians are reported
        #[arg(long, default_value_t = 3)]
        rounds: usize,
        /// Only scenarios whose name has this in it
        #[arg(long, default_value = "")]
        only: String,
        /// Hookline alone
        #[arg(long)]
        alone: bool,
    },
    /// Measure how the cost of a message grows with connections, subscriptions, payload and rules
    Growth {
        /// Seconds of each run
        #[arg(long, default_value_t = 2)]
        seconds: u64,
        /// Runs at each point; medians are reported
        #[arg(long, default_value_t = 3)]
        rounds: usize,
    },
    /// Measure what memory a connection, a subscription and a durable session take
    Memory {
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
        #[arg(long, default_value_t = 1_000_000)]
        subscriptions: usize,
        /// Durable sessions whose clients have left
        #[arg(long, default_value_t = 200_000)]
        sessions: usize,
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
}

fn main() -> anyhow::Result<()> {
    hookline_bench::raise_file_limit();
    match Arguments::parse().command {
        Command::Compare { seconds, rounds, only, alone } => compare::run(Duration::from_secs(seconds), rounds, &only, alone),
        Command::Growth { seconds, rounds } => growth::run(Duration::from_secs(seconds), rounds),
        Command::Memory { connections, subscriptions, sessions } => memory::run(connections, subscriptions, sessions),
        Command::Acks { seconds } => acknowledgements(Duration::from_secs(seconds)),
        Command::Restart { sessions, messages, fan_out, payload_bytes } => Backlog { sessions, messages, fan_out, payload_bytes }.run(),
        Command::Logins { address, username, password, clients, concurrent } => {
            logins::run(&Logins { address, username, password, clients, concurrent });
            Ok(())
        }
    }
}

fn acknowledgements(duration: Duration) -> anyhow::Result<()> {
    const PEERS: &[(&str, Peer)] = &[
        ("hookline, no durable session", Peer::Hookline(Setup::Plain)),
        ("hookline, level memory", Peer::Hookline(Setup::Durable("memory"))),
        ("hookline, level process", Peer::Hookline(Setup::Durable("process"))),
        ("hookline, level disk", Peer::Hookline(Setup::Durable("disk"))),
        ("mosquitto, persistence on", Peer::MosquittoPersistent),
    ];
    println!("| payload | publishers | broker | acknowledged/s | p50 us | p99 us | p99.9 us | CPU us/message |");
    println!("|---|---|---|---|---|---|---|---|");
    for payload_bytes in [64, 1024, 16 << 10] {
        for publishers in [1, 10, 100, 1000] {
            for (name, peer) in PEERS {
                let running = Running::start(*peer)?;
                let load = Load {
                    login: Login::default(),
                    pattern: Pattern::Nobody,
                    publishers,
                    subscribers: 0,
                    qos: QoS::AtLeastOnce,
                    payload_bytes,
                    pace: Pace::Window(1),
                    duration,
                };
                let outcome = load.run(running.address(), Some(running.pid()))?;
                println!(
                    "| {payload_bytes} B | {publishers} | {name} | {:.0} | {:.0} | {:.0} | {:.0} | {:.2} |",
                    outcome.rate(),
                    outcome.latency_us(50.0),
                    outcome.latency_us(99.0),
                    outcome.latency_us(99.9),
                    outcome.cpu_us().unwrap_or(f64::NAN)
                );
            }
        }
    }
    Ok(())
}

/// Minimum, median and maximum.
fn spread(mut figures: Vec<f64>) -> [f64; 3] {
    figures.sort_by(f64::total_cmp);
    match figures.as_slice() {
        [] => [f64::NAN; 3],
        [min, ..] => [*min, figures[figures.len() / 2], figures[figures.len() - 1]],
    }
}
