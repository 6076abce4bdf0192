//! The promise: SIGKILL at random moments under mixed load. What was acknowledged is in the hands of the durable subscriber and of
//! the group, in Kafka and in SQLite; duplicates say that they are; the ledger balances.
//!
//! `HOOKLINE_KILLS` sets the number of kills, `HOOKLINE_SEED` the moments.

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::campaign::{Campaign, number};

#[test]
fn nothing_acknowledged_is_lost() {
    let kills = number("HOOKLINE_KILLS", 20);
    let folder = tempfile::tempdir().expect("a folder");
    let mut campaign = Campaign::new(folder.path(), number("HOOKLINE_SEED", 7));
    let config = campaign.config();
    campaign.prepare(&Broker::start(folder.path(), &config));
    for _ in 0..kills {
        let broker = Broker::start(folder.path(), &config);
        campaign.round(&broker, || kill_process(&broker));
        broker.kill();
    }
    let verdict = campaign.finish(Broker::start(folder.path(), &config));
    println!("kills {kills}, {verdict}");
    verdict.hold();
    assert!(verdict.acknowledged() as u64 > kills * 20, "there was hardly any load: {verdict}");
}

/// SIGKILL, while the clients still hold their connections.
fn kill_process(broker: &Broker) {
    let pid = broker.pid().to_string();
    assert!(std::process::Command::new("kill").args(["-KILL", &pid]).status().expect("kill runs").success());
}
