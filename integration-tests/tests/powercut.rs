//! The promise: power cuts at random moments under mixed load. Of what was not synced the disk keeps nothing, a part, or pieces in
//! any order; what was acknowledged is there all the same, as after a kill.
//!
//! `HOOKLINE_CUTS` sets the number of cuts, `HOOKLINE_SEED` the moments and what the disk keeps.

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::campaign::{Campaign, number};
use hookline_integration_tests::faults::{Faults, Names};

/// What the process ends with when the power is cut.
const CUT: i32 = 137;

#[test]
fn nothing_acknowledged_is_lost_when_the_power_is_cut() {
    let cuts = number("HOOKLINE_CUTS", 15);
    let folder = tempfile::tempdir().expect("a folder");
    let mut campaign = Campaign::new(folder.path(), number("HOOKLINE_SEED", 7));
    let config = campaign.config();
    campaign.prepare(&Broker::start(folder.path(), &config));
    let mut layers = [Names::Strict, Names::Keep].map(|names| (names, Faults::new(folder.path(), names)));
    for cut in 0..cuts {
        let (names, layer) = &mut layers[usize::from(cut % 2 == 1)];
        let broker = layer.start(&config);
        let seed = campaign.random();
        let mut left = String::new();
        campaign.round(&broker, || left = layer.cut(seed));
        println!("cut {cut}, names {names:?}, seed {seed}: {left}");
        assert_eq!(broker.ended().code(), Some(CUT), "it has ended before the power was cut");
        // Now and then the store is looked at before the broker mends anything.
        if cut % 3 == 2 {
            broker::ledgers(folder.path());
        }
    }
    let verdict = campaign.finish(Broker::start(folder.path(), &config));
    println!("cuts {cuts}, {verdict}");
    verdict.hold();
    assert!(verdict.acknowledged() as u64 > cuts * 20, "there was hardly any load: {verdict}");
}
