//! Hookline beside other brokers.

use std::time::{Duration, Instant};

use anyhow::ensure;
use hookline_bench::backlog;
use hookline_bench::cpu_time;
use hookline_bench::load::{Load, Login, Pace, Pattern};
use hookline_bench::sessions;
use hookline_mqtt::QoS;

use crate::peer::{Peer, Running, Setup};
use crate::spread;

/// What is compared: a task, and how Hookline is set up for it.
struct Scenario {
    name: &'static str,
    task: Task,
    setup: Setup,
    /// Whether others have something that can be compared.
    peers: &'static [Peer],
}

enum Task {
    Traffic(Load),
    /// Until the actions have delivered all of it.
    Delivery(Load),
    Idle {
        connections: usize,
    },
    Churn {
        sessions: usize,
    },
    Offline {
        duration: Duration,
    },
    Retained {
        topics: usize,
        subscribers: usize,
    },
}

/// A figure of a run; the same run gives the same names in the same order.
struct Figure {
    name: &'static str,
    unit: &'static str,
    value: f64,
}

/// How long a sink may take nothing.
const STALL_MAX: Duration = Duration::from_secs(20);
const OTHERS: &[Peer] = &[Peer::Mosquitto, Peer::Rumqttd, Peer::Rmqttd];

fn scenarios(duration: Duration) -> Vec<Scenario> {
    let load = |pattern, publishers, subscribers, qos, payload_bytes, pace| Load {
        login: Login::default(),
        pattern,
        publishers,
        subscribers,
        qos,
        payload_bytes,
        pace,
        duration,
    };
    let traffic = |name, pattern, publishers, subscribers, qos, payload_bytes, pace, setup, peers| Scenario {
        name,
        task: Task::Traffic(load(pattern, publishers, subscribers, qos, payload_bytes, pace)),
        setup,
        peers,
    };
    let delivery = |name, setup| Scenario {
        name,
        task: Task::Delivery(load(Pattern::Nobody, 10, 0, QoS::AtLeastOnce, 64, Pace::Window(64))),
        setup,
        peers: &[],
    };
    let (zero, one, two) = (QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce);
    let (plain, window) = (Setup::Plain, Pace::Window(64));
    vec![
        traffic("10 pairs, QoS 0", Pattern::Pairs, 10, 10, zero, 64, window, plain, OTHERS),
        traffic("10 pairs, QoS 1", Pattern::Pairs, 10, 10, one, 64, window, plain, OTHERS),
        traffic("10 pairs, QoS 2", Pattern::Pairs, 10, 10, two, 64, Pace::Window(16), plain, OTHERS),
        traffic("500 pairs, QoS 1", Pattern::Pairs, 500, 500, one, 64, Pace::Window(8), plain, OTHERS),
        traffic("10 pairs, QoS 0, 4 KiB", Pattern::Pairs, 10, 10, zero, 4096, window, plain, OTHERS),
        traffic("fan-out 1:500, QoS 0", Pattern::FanOut, 1, 500, zero, 64, window, plain, OTHERS),
        traffic("fan-out 1:500, QoS 1", Pattern::FanOut, 1, 500, one, 64, window, plain, OTHERS),
        traffic("fan-in 50:1, QoS 0", Pattern::FanIn, 50, 1, zero, 64, window, plain, OTHERS),
        traffic("fan-in 50:1, QoS 1", Pattern::FanIn, 50, 1, one, 64, window, plain, OTHERS),
        traffic("shared 50:4, QoS 1", Pattern::Shared, 50, 4, one, 64, window, plain, OTHERS),
        traffic("open loop, 2,000/s, QoS 1", Pattern::Pairs, 10, 10, one, 64, Pace::Rate(2e3), plain, OTHERS),
        traffic("open loop, 20,000/s, QoS 0", Pattern::Pairs, 10, 10, zero, 64, Pace::Rate(2e4), plain, OTHERS),
        Scenario { name: "idle connections, 10,000", task: Task::Idle { connections: 10_000 }, setup: plain, peers: OTHERS },
        Scenario { name: "churn, 20,000 sessions", task: Task::Churn { sessions: 20_000 }, setup: plain, peers: OTHERS },
        Scenario { name: "session away, level memory", task: Task::Offline { duration }, setup: Setup::Level("memory"), peers: OTHERS },
        Scenario { name: "session away, level process", task: Task::Offline { duration }, setup: Setup::Level("process"), peers: &[] },
        Scenario { name: "session away, level disk", task: Task::Offline { duration }, setup: Setup::Level("disk"), peers: &[] },
        Scenario {
            name: "10,000 retained to 20 subscribers",
            task: Task::Retained { topics: 10_000, subscribers: 20 },
            setup: plain,
            peers: OTHERS,
        },
        traffic("10 pairs, QoS 1, a rule reads a field", Pattern::Pairs, 10, 10, one, 64, window, Setup::Filter, &[]),
        traffic("10 pairs, QoS 1, 10,000 rules elsewhere", Pattern::Pairs, 10, 10, one, 64, window, Setup::Rules(10_000), &[]),
        traffic("10 publishers, QoS 1, action at level disk, its sink away", Pattern::Nobody, 10, 0, one, 64, window, Setup::Queueing, &[]),
        delivery("10 publishers, QoS 1, action at level disk, into SQLite", Setup::Audit),
        delivery("10 publishers, QoS 1, action at level disk, into Kafka", Setup::Kafka),
    ]
}

impl Task {
    fn run(&self, peer: Peer) -> anyhow::Result<Vec<Figure>> {
        let running = Running::start(peer)?;
        let (address, pid) = (running.address(), Some(running.pid()));
        let login = Login::default();
        let figure = |name, unit, value: Option<f64>| Figure { name, unit, value: value.unwrap_or(f64::NAN) };
        Ok(match self {
            Task::Traffic(load) => {
                let outcome = load.run(address, pid)?;
                let cpu = figure("", "CPU us/message", outcome.cpu_us());
                if matches!(load.pace, Pace::Rate(_)) {
                    let at = |name, per_cent| figure(name, "us", Some(outcome.latency_us(per_cent)));
                    vec![cpu, at("p50", 50.0), at("p99", 99.0), at("p99.9", 99.9)]
                } else {
                    vec![cpu, figure("", "messages/s", Some(outcome.rate()))]
                }
            }
            Task::Delivery(load) => {
                let (began, before) = (Instant::now(), cpu_time(running.pid())?);
                load.run(address, pid)?;
                let delivered = wait_for_delivery(&running)? as f64;
                let (elapsed, cpu) = (began.elapsed().as_secs_f64(), cpu_time(running.pid())?.saturating_sub(before));
                vec![
                    figure("delivered", "CPU us/message", Some(cpu.as_secs_f64() * 1e6 / delivered)),
                    figure("delivered", "messages/s", Some(delivered / elapsed)),
                ]
            }
            Task::Idle { connections } => {
                let idle = sessions::idle(address, &login, pid, *connections)?;
                let cpu = idle.connect_cpu.map(|cpu| cpu.as_secs_f64() * 1e4 / *connections as f64);
                vec![figure("one connection with a subscription", "bytes", idle.bytes_each), figure("connects", "CPU s/10,000", cpu)]
            }
            Task::Churn { sessions } => {
                let churn = sessions::churn(address, &login, pid, *sessions)?;
                let cpu = churn.cpu.map(|cpu| cpu.as_secs_f64() * 1e6 / *sessions as f64);
                vec![figure("", "CPU us/session", cpu)]
            }
            Task::Offline { duration } => {
                let offline = backlog::offline(address, &login, pid, *duration)?;
                vec![
                    figure("stored", "CPU us/message", offline.store_us),
                    figure("delivered on return", "CPU us/message", offline.drain_us),
                ]
            }
            Task::Retained { topics, subscribers } => {
                let retained = backlog::retained(address, &login, pid, *topics, *subscribers)?;
                vec![figure("", "CPU us/delivered", retained.cpu_us)]
            }
        })
    }
}

/// Waits until nothing waits for the actions: how many messages they have delivered.
fn wait_for_delivery(running: &Running) -> anyhow::Result<u64> {
    let (mut last, mut progress) = (0, Instant::now());
    loop {
        let (delivered, pending) = running.ledger()?;
        if pending == 0 {
            ensure!(delivered > 0, "nothing was delivered");
            return Ok(delivered);
        }
        if delivered > last {
            (last, progress) = (delivered, Instant::now());
        }
        ensure!(progress.elapsed() < STALL_MAX, "{pending} messages wait, and none is delivered");
        // Asking takes a process: more often, and it would be part of what is measured.
        std::thread::sleep(Duration::from_millis(250));
    }
}

/// Prints the table, row by row as they come. What a broker fails at is said on standard error.
pub(crate) fn run(duration: Duration, rounds: usize, only: &str, alone: bool) -> anyhow::Result<()> {
    let others: Vec<Peer> = OTHERS.iter().copied().filter(|peer| !alone && peer.is_installed()).collect();
    let heads: String = others.iter().map(|peer| format!(" {} |", peer.name())).collect();
    let ratios: String = others.iter().map(|peer| format!(" to {} |", peer.name())).collect();
    println!("| scenario | unit | hookline |{heads}{ratios}");
    println!("|---|---|---|{}", "---|".repeat(2 * others.len()));
    for scenario in scenarios(duration).iter().filter(|scenario| scenario.name.contains(only)) {
        let peers: Vec<Peer> = std::iter::once(Peer::Hookline(scenario.setup)).chain(others.iter().copied()).collect();
        let mut figures: Vec<Vec<Vec<Figure>>> = peers.iter().map(|_| Vec::new()).collect();
        for round in 0..rounds {
            for (peer, figures) in peers.iter().zip(&mut figures) {
                let takes_part = matches!(peer, Peer::Hookline(_)) || scenario.peers.contains(peer);
                // One failure tells enough.
                if !takes_part || figures.len() < round {
                    continue;
                }
                match scenario.task.run(*peer) {
                    Ok(run) => figures.push(run),
                    Err(error) => eprintln!("{}: {} fails: {error:#}", scenario.name, peer.name()),
                }
            }
        }
        for row in 0..figures.first().and_then(|runs| runs.first()).map_or(0, Vec::len) {
            print_row(scenario.name, &figures, row);
        }
    }
    Ok(())
}

/// `figures` by broker, run and row.
fn print_row(scenario: &str, figures: &[Vec<Vec<Figure>>], row: usize) {
    let spreads: Vec<[f64; 3]> = figures.iter().map(|runs| spread(runs.iter().map(|run| run[row].value).collect())).collect();
    let Figure { name, unit, .. } = figures[0][0][row];
    let separator = if name.is_empty() { "" } else { ": " };
    let number = |value: f64| match value {
        value if value >= 100.0 => format!("{value:.0}"),
        value if value >= 10.0 => format!("{value:.1}"),
        value => format!("{value:.2}"),
    };
    let cells: String = spreads
        .iter()
        .map(|[min, median, max]| match median.is_nan() {
            true => " – |".to_owned(),
            false => format!(" {} ({} to {}) |", number(*median), number(*min), number(*max)),
        })
        .collect();
    let ratios: String = spreads[1..]
        .iter()
        .map(|[_, median, _]| match median.is_nan() {
            true => " – |".to_owned(),
            false => format!(" {:.2} |", spreads[0][1] / median),
        })
        .collect();
    println!("| {scenario}{separator}{name} | {unit} |{cells}{ratios}");
}
