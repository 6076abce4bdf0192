//! How the cost of a message grows with what is there beside it. The figures come as CSV: `bench/plot` draws them.

use std::time::Duration;

use hookline_bench::load::{Load, Login, Pace, Pattern};
use hookline_bench::sessions::Held;
use hookline_mqtt::QoS;

use crate::peer::{Peer, Running, Setup};
use crate::spread;

/// Clients that hold subscriptions which nobody publishes to.
const HOLDERS: usize = 100;

pub(crate) fn run(duration: Duration, rounds: usize) -> anyhow::Result<()> {
    println!("what,at,cpu_us_min,cpu_us,cpu_us_max,messages_per_second");
    let pairs = |pairs, payload_bytes, window| Load {
        login: Login::default(),
        pattern: Pattern::Pairs,
        publishers: pairs,
        subscribers: pairs,
        qos: QoS::AtLeastOnce,
        payload_bytes,
        pace: Pace::Window(window),
        duration,
    };
    for connections in [100, 300, 1000, 3000, 10_000, 15_000] {
        // Each message is a read and a write of its own, however many connections there are.
        point("connections", connections, rounds, Setup::Plain, 0, &pairs(connections / 2, 64, 1))?;
    }
    for subscriptions in [10, 100, 1000, 10_000, 100_000, 1_000_000] {
        point("subscriptions", subscriptions, rounds, Setup::Plain, subscriptions, &pairs(10, 64, 64))?;
    }
    for payload_bytes in [16, 64, 256, 1024, 4096, 16_384, 65_536] {
        point("payload bytes", payload_bytes, rounds, Setup::Plain, 0, &pairs(10, payload_bytes, 16))?;
    }
    for rules in [0, 10, 100, 1000, 10_000] {
        point("rules", rules, rounds, Setup::Rules(rules), 0, &pairs(10, 64, 64))?;
    }
    Ok(())
}

fn point(what: &str, at: usize, rounds: usize, setup: Setup, subscriptions: usize, load: &Load) -> anyhow::Result<()> {
    let (mut cpu, mut rate) = (Vec::new(), Vec::new());
    for _ in 0..rounds {
        let running = Running::start(Peer::Hookline(setup))?;
        let mut held = Held::connect(running.address(), &load.login, HOLDERS.min(subscriptions))?;
        // Every other one has a wildcard.
        held.subscribe(subscriptions, |number| format!("held/{number}/{}", if number % 2 == 0 { "state" } else { "+" }))?;
        let outcome = load.run(running.address(), Some(running.pid()))?;
        cpu.extend(outcome.cpu_us());
        rate.push(outcome.rate());
    }
    let [min, median, max] = spread(cpu);
    println!("{what},{at},{min:.3},{median:.3},{max:.3},{:.0}", spread(rate)[1]);
    Ok(())
}
