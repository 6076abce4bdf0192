//! `hookline bench`

use std::net::{SocketAddr, ToSocketAddrs};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use hookline_bench::load::{Load, Login, Outcome, Pace, Pattern};
use hookline_bench::{backlog, sessions};
use serde_json::{Value, json};

use super::qos;

#[derive(Debug, Args)]
#[command(disable_help_flag = true)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Task,
    /// Host of the broker
    #[arg(short = 'h', long, default_value = "127.0.0.1", env = "HOOKLINE_HOST", global = true)]
    host: String,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help, global = true)]
    help: Option<bool>,
    /// Port of the broker
    #[arg(short, long, default_value_t = 1883, env = "HOOKLINE_PORT", global = true)]
    port: u16,
    /// User name
    #[arg(short, long, global = true)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long, env = "HOOKLINE_PASSWORD", hide_env_values = true, global = true)]
    password: Option<String>,
    /// The broker's process, where it runs on this machine: its CPU time and memory are told
    #[arg(long, global = true)]
    pid: Option<u32>,
    /// Form of the output
    #[arg(short, long, default_value = "text", value_parser = ["text", "json"], global = true)]
    output: String,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Publish and receive, as fast as the broker goes or at a rate
    Traffic {
        /// Who gets what is published
        #[arg(long, value_enum, default_value = "pairs")]
        pattern: Pattern,
        /// Clients that publish
        #[arg(long, default_value_t = 10)]
        publishers: usize,
        /// Clients that receive [default: as many as publish]
        #[arg(long)]
        subscribers: Option<usize>,
        /// Quality of service
        #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
        qos: u8,
        /// Bytes of each payload, 16 at least
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(16..1_000_000))]
        payload_bytes: u32,
        /// Messages that each publisher has on their way
        #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u64).range(1..60_000))]
        window: u64,
        /// Messages a second of all publishers together, whatever the broker does; instead of the window
        #[arg(long, conflicts_with = "window")]
        rate: Option<f64>,
        /// How long to measure, after half a second of warming up
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Connect clients that do nothing, each with a subscription. Measure memory on a broker that has just started:
    /// one that has had load uses again what it has
    Idle {
        /// How many
        #[arg(long, default_value_t = 10_000)]
        connections: usize,
    },
    /// Clients that connect, subscribe, publish, receive and leave
    Churn {
        /// How many, 100 at a time
        #[arg(long, default_value_t = 10_000)]
        sessions: usize,
    },
    /// Publish at QoS 1 while a durable session is away, and let it come back. The session stays in the broker
    Offline {
        /// How long to publish
        #[arg(long, default_value_t = 5)]
        seconds: u64,
    },
    /// Retain messages below retained/ in the broker, where they stay, and let clients subscribe to all of them
    Retained {
        /// Topics
        #[arg(long, default_value_t = 10_000)]
        topics: usize,
        /// Clients, one after the other
        #[arg(long, default_value_t = 10)]
        subscribers: usize,
    },
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    hookline_bench::raise_file_limit();
    let Arguments { task, host, port, username, password, pid, output, .. } = arguments;
    let address = (host.as_str(), port).to_socket_addrs().with_context(|| format!("cannot find {host}"))?;
    let address: SocketAddr = address.into_iter().next().with_context(|| format!("{host} has no address"))?;
    let login = Login { username, password };
    let figures = match task {
        Task::Traffic { pattern, publishers, subscribers, qos: level, payload_bytes, window, rate, seconds } => {
            let subscribers = subscribers.unwrap_or(publishers);
            let closed = rate.is_none();
            ensure!(publishers > 0 && (subscribers > 0 || pattern == Pattern::Nobody), "there must be a publisher and a subscriber");
            ensure!(pattern != Pattern::Pairs || subscribers == publishers, "pairs need as many subscribers as publishers");
            ensure!(pattern != Pattern::Nobody || level > 0, "without subscribers acknowledgements are counted, which QoS 0 has none of");
            ensure!(rate.is_none_or(|rate| rate > 0.0), "the rate must be above 0");
            let pace = rate.map_or(Pace::Window(window), Pace::Rate);
            let payload_bytes = payload_bytes as usize;
            let duration = Duration::from_secs(seconds);
            let load = Load { login, pattern, publishers, subscribers, qos: qos(level), payload_bytes, pace, duration };
            traffic(&load.run(address, pid)?, closed)
        }
        Task::Idle { connections } => {
            let idle = sessions::idle(address, &login, pid, connections)?;
            vec![
                ("connections", json!(connections)),
                ("connects_per_second", json!((connections as f64 / idle.elapsed.as_secs_f64()).round())),
                ("connect_cpu_us", number(idle.connect_cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / connections as f64))),
                ("memory_bytes_each", number(idle.bytes_each)),
            ]
        }
        Task::Churn { sessions } => {
            let churn = sessions::churn(address, &login, pid, sessions)?;
            vec![
                ("sessions", json!(sessions)),
                ("sessions_per_second", json!((sessions as f64 / churn.elapsed.as_secs_f64()).round())),
                ("cpu_us_each", number(churn.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / sessions as f64))),
            ]
        }
        Task::Offline { seconds } => {
            let offline = backlog::offline(address, &login, pid, Duration::from_secs(seconds))?;
            vec![
                ("messages", json!(offline.messages)),
                ("delivered_per_second", json!((offline.messages as f64 / offline.drained_in.as_secs_f64()).round())),
                ("store_cpu_us_each", number(offline.store_us)),
                ("delivery_cpu_us_each", number(offline.drain_us)),
            ]
        }
        Task::Retained { topics, subscribers } => {
            let retained = backlog::retained(address, &login, pid, topics, subscribers)?;
            vec![
                ("messages", json!(retained.messages)),
                ("delivered_per_second", json!((retained.messages as f64 / retained.elapsed.as_secs_f64()).round())),
                ("cpu_us_each", number(retained.cpu_us)),
            ]
        }
    };
    print(&figures, &output);
    Ok(ExitCode::SUCCESS)
}

fn traffic(outcome: &Outcome, closed: bool) -> Vec<(&'static str, Value)> {
    let latency = |per_cent| number(Some(outcome.latency_us(per_cent)));
    let mut figures = vec![
        ("messages", json!(outcome.messages)),
        ("messages_per_second", json!(outcome.rate().round())),
        ("cpu_us_each", number(outcome.cpu_us())),
        ("latency_us_p50", latency(50.0)),
        ("latency_us_p99", latency(99.0)),
        ("latency_us_p99_9", latency(99.9)),
        ("latency_us_max", latency(100.0)),
    ];
    if closed {
        // A full window waits for itself: that is no latency of the broker.
        figures.retain(|(name, _)| !name.starts_with("latency"));
    }
    figures
}

/// To a hundredth; null where it is not known.
fn number(value: Option<f64>) -> Value {
    value.map_or(Value::Null, |value| json!((value * 100.0).round() / 100.0))
}

fn print(figures: &[(&'static str, Value)], output: &str) {
    if output == "json" {
        println!("{}", Value::Object(figures.iter().map(|(name, value)| ((*name).to_owned(), value.clone())).collect()));
        return;
    }
    for (name, value) in figures.iter().filter(|(_, value)| !value.is_null()) {
        println!("{:<22} {value}", name.replace('_', " "));
    }
}
