//! What memory one of each kind takes: the growth of the broker's resident memory, by the number that was added.

use hookline_bench::load::Login;
use hookline_bench::resident_bytes;
use hookline_bench::sessions::{self, Held};

use crate::peer::{Peer, Running, Setup};

/// Clients that hold subscriptions.
const HOLDERS: usize = 100;

pub(crate) fn run(connections: usize, subscriptions: usize, sessions: usize) -> anyhow::Result<()> {
    println!("| one of | added | bytes each |\n|---|---|---|");
    let login = Login::default();
    let start = || Running::start(Peer::Hookline(Setup::Level("process")));

    let running = start()?;
    let idle = sessions::idle(running.address(), &login, Some(running.pid()), connections)?;
    println!("| connections with a session and a subscription | {connections} | {:.0} |", idle.bytes_each.unwrap_or(f64::NAN));

    for (name, last) in [("subscriptions to a topic of their own", "state"), ("subscriptions with a wildcard", "+")] {
        let running = start()?;
        let mut held = Held::connect(running.address(), &login, HOLDERS)?;
        held.subscribe(HOLDERS * 100, |number| format!("warm/{number}/{last}"))?;
        let before = resident_bytes(running.pid())?;
        held.subscribe(subscriptions, |number| format!("held/{number}/{last}"))?;
        print(name, subscriptions, before, resident_bytes(running.pid())?);
    }

    let running = start()?;
    sessions::leave(running.address(), &login, 0..1000)?;
    let before = resident_bytes(running.pid())?;
    sessions::leave(running.address(), &login, 1000..1000 + sessions)?;
    print("durable sessions that are away, with a subscription", sessions, before, resident_bytes(running.pid())?);
    Ok(())
}

fn print(name: &str, count: usize, before: u64, after: u64) {
    println!("| {name} | {count} | {:.0} |", after.saturating_sub(before) as f64 / count as f64);
}
