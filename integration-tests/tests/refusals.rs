//! What cannot be kept is refused: a store without room, a disk without room, and calls that fail. What was acknowledged stays, what
//! waits is still delivered, and nobody has to mend anything.

use std::collections::HashSet;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::eventually;
use hookline_integration_tests::faults::{Call, Fault, Faults, Names, Problem};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(10);
const NOT: Duration = Duration::from_millis(500);

/// Two actions whose sink is never there: `durable/#` must be kept, `accepted/#` need not.
const ACTIONS: &str = r#"
    [connectors.away]
    type = "sqlite"
    path = "no-such-folder/x.db"
    [actions.durable]
    connector = "away"
    [actions.accepted]
    connector = "away"
    ack = "accepted"
    [rules.durable]
    sql = 'SELECT * FROM "durable/#"'
    actions = ["durable"]
    [rules.accepted]
    sql = 'SELECT * FROM "accepted/#"'
    actions = ["accepted"]
"#;

/// More than any disk has.
const NO_ROOM: &str = "\n[store]\nfree_bytes_min = 1152921504606846976\n";

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

fn durable(id: &str) -> Options {
    v5(id).persistent(1000)
}

fn publish(client: &mut Client, topic: &str, payload: &[u8]) -> ReasonCode {
    client.publish(topic, payload, QoS::AtLeastOnce, false).expect("answered")
}

/// Makes a durable session that waits for `t/#`, and leaves.
fn waiter(broker: &Broker) {
    let mut client = broker.connect(&durable("waiter"));
    assert!(!client.subscribe(&[("t/#", QoS::AtLeastOnce)]).expect("answered")[0].is_error());
    client.disconnect().expect("leaves");
}

/// Payloads that wait for the durable session, each once, in their order; so many must come.
fn take(broker: &Broker, count: usize) -> Vec<Vec<u8>> {
    let mut client = broker.connect(&durable("waiter"));
    assert!(client.session_present(), "the session is still there");
    let (mut payloads, mut seen) = (Vec::new(), HashSet::new());
    while let Some(message) = client.receive(if payloads.len() < count { SOON } else { NOT }).expect("holds") {
        // What came before a crash may come again.
        if seen.insert(message.payload.clone()) {
            payloads.push(message.payload);
        }
    }
    client.disconnect().expect("leaves");
    payloads
}

/// Publishes numbers that are not used yet, and notes those that are acknowledged.
struct Numbers {
    client: Client,
    next: u32,
    acknowledged: Vec<Vec<u8>>,
}

impl Numbers {
    fn new(broker: &Broker) -> Numbers {
        Numbers { client: broker.connect(&v5("numbers")), next: 0, acknowledged: Vec::new() }
    }

    fn publish(&mut self) -> ReasonCode {
        let payload = self.next.to_string().into_bytes();
        self.next += 1;
        let reason = publish(&mut self.client, "t/x", &payload);
        if !reason.is_error() {
            self.acknowledged.push(payload);
        }
        reason
    }

    fn all_are_acknowledged(&mut self, count: usize) {
        (0..count).for_each(|_| assert_eq!(self.publish(), ReasonCode::Success));
    }
}

/// Nothing that has to be kept comes in, everything else goes on.
fn takes_nothing_new(broker: &Broker) {
    let (mut newer, mut live) = (broker.connect(&v5("newer")), broker.connect(&v5("live")));
    for topic in ["t/x", "durable/x"] {
        assert_eq!(publish(&mut newer, topic, b"{}"), ReasonCode::QuotaExceeded, "{topic}");
        // MQTT 3.1.1 has no word for it.
        let answer = broker.connect(&Options::new("older")).publish(topic, b"{}", QoS::AtLeastOnce, false);
        assert!(matches!(answer, Err(Error::Io(_))), "{topic}: {answer:?}");
    }
    assert_eq!(newer.publish("t/x", b"{}", QoS::ExactlyOnce, false).expect("answered"), ReasonCode::QuotaExceeded);
    assert_eq!(newer.publish("kept", b"x", QoS::AtLeastOnce, true).expect("answered"), ReasonCode::QuotaExceeded);
    assert!(matches!(Client::connect(broker.address(), &durable("new")), Err(Error::Refused(ReasonCode::QuotaExceeded))));
    let older = Options::new("new").persistent(0);
    assert!(matches!(Client::connect(broker.address(), &older), Err(Error::Refused(ReasonCode::ServerUnavailable))));
    // What needs no store.
    live.subscribe(&[("live", QoS::ExactlyOnce)]).expect("subscribed");
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        assert_eq!(newer.publish("live", &[qos as u8], qos, false).expect("answered"), ReasonCode::Success);
        assert_eq!(live.receive(SOON).expect("holds").expect("arrives").payload, [qos as u8]);
    }
    assert!(!publish(&mut newer, "accepted/x", b"{}").is_error());
    assert!(!publish(&mut newer, "nobody", b"{}").is_error());
    newer.send("t/x", b"at most once", QoS::AtMostOnce, false, &Properties::default()).expect("sent");
    newer.ping().expect("answers");
}

#[test]
fn without_free_room_nothing_new_is_taken_and_what_waits_is_delivered() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), ACTIONS);
    waiter(&broker);
    let mut numbers = Numbers::new(&broker);
    numbers.all_are_acknowledged(100);
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), &format!("{ACTIONS}{NO_ROOM}"));
    assert!(broker.log().contains("the store takes nothing new"), "it is told");
    takes_nothing_new(&broker);
    let mut resumed = broker.connect(&durable("waiter"));
    assert!(resumed.session_present());
    let codes = resumed.subscribe(&[("more", QoS::AtLeastOnce)]).expect("answered");
    assert_eq!(codes, [ReasonCode::QuotaExceeded], "a subscription would have to be kept");
    drop(resumed);
    assert_eq!(take(&broker, numbers.acknowledged.len()), numbers.acknowledged);
    assert!(broker.stop().success());
    // With room again all is as it was: nothing of the refused is there, and what was taken does not come again.
    let broker = Broker::start(folder.path(), ACTIONS);
    assert_eq!(take(&broker, 0), Vec::<Vec<u8>>::new());
    assert_eq!(publish(&mut broker.connect(&v5("newer")), "t/x", b"again"), ReasonCode::Success);
    assert_eq!(take(&broker, 1), [b"again"]);
    assert!(broker.stop().success());
    let ledgers = broker::ledgers(folder.path());
    let of = |name: &str| ledgers.iter().find(|ledger| ledger["name"] == name).expect("has an account");
    assert_eq!((&of("durable")["accepted"], &of("waiter")["pending"]), (&0.into(), &0.into()), "{ledgers:?}");
    assert_eq!((&of("accepted")["accepted"], &of("accepted")["dropped"]), (&1.into(), &1.into()), "{ledgers:?}");
}

#[test]
fn without_free_room_a_message_for_later_is_refused_as_well() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), NO_ROOM);
    assert_eq!(publish(&mut broker.connect(&v5("newer")), "$delayed/60/t", b"x"), ReasonCode::QuotaExceeded);
    let answer = broker.connect(&Options::new("older")).publish("$delayed/60/t", b"x", QoS::AtLeastOnce, false);
    assert!(matches!(answer, Err(Error::Io(_))), "{answer:?}");
}

#[test]
fn at_its_bound_in_bytes_the_store_takes_nothing_new_and_what_waits_is_delivered() {
    let folder = tempfile::tempdir().expect("a folder");
    let config = |bytes_max: u64| format!("{ACTIONS}\n[store]\nreserve_bytes = 0\nwrite_buffer_bytes = 1048576\nbytes_max = {bytes_max}\n");
    let broker = Broker::start(folder.path(), &config(40 << 20));
    waiter(&broker);
    let count = fill(&broker, 4000);
    assert!(broker.stop().success());
    // Well below what it takes by now: compactions must not bring it back under the bound.
    let broker = Broker::start(folder.path(), &config(1 << 20));
    takes_nothing_new(&broker);
    assert_eq!(take(&broker, count).len(), count);
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), &config(0));
    assert_eq!(publish(&mut broker.connect(&v5("newer")), "t/x", b"again"), ReasonCode::Success);
    assert!(broker.stop().success());
    broker::ledgers(folder.path());
}

/// Publishes to the durable session until that is refused; how many were acknowledged.
fn fill(broker: &Broker, count_max: usize) -> usize {
    let mut client = broker.connect(&v5("fills"));
    let mut random = 1u64;
    for n in 0..count_max {
        // Nothing that could be compressed.
        let numbers = std::iter::repeat_with(|| {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            random
        });
        let payload: Vec<u8> = numbers.take(4096).flat_map(u64::to_le_bytes).collect();
        match publish(&mut client, "t/x", &payload) {
            ReasonCode::Success => {}
            reason => {
                assert_eq!(reason, ReasonCode::QuotaExceeded);
                return n;
            }
        }
        // The store looks once a second how much room there is: it must not be passed by.
        std::thread::sleep(Duration::from_millis(3));
    }
    panic!("{count_max} messages of 32 KB were taken, and there was no room for them");
}

/// Writes to the store fail for a while.
fn check_failing_writes(fault: &Fault) {
    let folder = tempfile::tempdir().expect("a folder");
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let broker = faults.start(ACTIONS);
    waiter(&broker);
    let mut numbers = Numbers::new(&broker);
    numbers.all_are_acknowledged(20);
    for round in 0..2 {
        faults.fail(fault);
        for _ in 0..30 {
            assert_eq!(numbers.publish(), ReasonCode::QuotaExceeded);
            std::thread::sleep(Duration::from_millis(50));
        }
        let answer = broker.connect(&Options::new("older")).publish("t/x", b"older", QoS::AtLeastOnce, false);
        assert!(matches!(answer, Err(Error::Io(_))), "{answer:?}");
        assert!(matches!(Client::connect(broker.address(), &durable("new")), Err(Error::Refused(ReasonCode::QuotaExceeded))));
        assert!(!publish(&mut numbers.client, "nobody", b"x").is_error(), "what needs no store goes on");
        assert!(faults.hits() > round, "the calls were made to fail");
        faults.clear();
        eventually("the store takes writes again", SOON, || (!numbers.publish().is_error()).then_some(()));
        assert!(broker.log().contains("the store takes writes again"));
        numbers.all_are_acknowledged(20);
    }
    broker.kill();
    let broker = Broker::start(folder.path(), ACTIONS);
    assert_eq!(take(&broker, numbers.acknowledged.len()), numbers.acknowledged, "what was acknowledged, and nothing that was refused");
    assert!(broker.stop().success());
    broker::ledgers(folder.path());
}

#[test]
fn a_full_disk_refuses_until_there_is_room() {
    check_failing_writes(&Fault::new(Call::Write, "store/*", Problem::NoSpace).until_cleared());
}

#[test]
fn a_disk_that_takes_half_of_a_write_refuses_until_there_is_room() {
    check_failing_writes(&Fault::new(Call::Write, "store/*", Problem::NoSpace).until_cleared().short());
}

#[test]
fn a_log_that_takes_no_writes_refuses_until_it_does() {
    check_failing_writes(&Fault::new(Call::Write, "store/*.log", Problem::NoSpace).until_cleared());
}

#[test]
fn a_log_whose_writes_fail_refuses_until_they_do_not() {
    check_failing_writes(&Fault::new(Call::Write, "store/*.log", Problem::Io).until_cleared());
}

#[test]
fn many_publishers_at_once_are_refused_by_one_failed_write_and_nothing_is_half_done() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut faults = Faults::new(folder.path(), Names::Keep);
    let broker = faults.start(ACTIONS);
    waiter(&broker);
    faults.slow(Call::Fsync, "store/", Duration::from_millis(5));
    let (taken, is_over) = (AtomicU64::new(0), AtomicBool::new(false));
    let mut acknowledged = std::thread::scope(|scope| {
        let (broker, taken, is_over) = (&broker, &taken, &is_over);
        let publishers: Vec<_> = (0..4).map(|number| scope.spawn(move || pipelined(broker, number, taken, is_over))).collect();
        for round in 1..=6 {
            faults.fail(&Fault::new(Call::Write, "store/*.log", Problem::NoSpace).after(5 * round));
            eventually("a write fails", SOON, || (faults.hits() == u64::from(round)).then_some(()));
            let before = taken.load(Ordering::Relaxed);
            eventually("the store takes messages again", SOON, || (taken.load(Ordering::Relaxed) > before + 10).then_some(()));
        }
        is_over.store(true, Ordering::Relaxed);
        publishers.into_iter().flat_map(|publisher| publisher.join().expect("is answered")).collect::<Vec<_>>()
    });
    broker.kill();
    let broker = Broker::start(folder.path(), ACTIONS);
    let mut there = take(&broker, acknowledged.len());
    there.sort();
    acknowledged.sort();
    assert_eq!(there, acknowledged, "what was acknowledged, and nothing that was refused");
}

/// Publishes several at a time until it is over; what was acknowledged.
fn pipelined(broker: &Broker, number: usize, taken: &AtomicU64, is_over: &AtomicBool) -> Vec<Vec<u8>> {
    let mut client = broker.connect(&v5(&format!("publisher-{number}")));
    let mut acknowledged = Vec::new();
    // Also where the test has failed.
    let end = Instant::now() + 12 * SOON;
    for burst in 0.. {
        if is_over.load(Ordering::Relaxed) || Instant::now() > end {
            break;
        }
        let send = |n: usize| {
            let payload = format!("{number}/{burst}/{n}").into_bytes();
            (client.send("t/x", &payload, QoS::AtLeastOnce, false, &Properties::default()).expect("sent"), payload)
        };
        let sent: Vec<_> = (0..8).map(send).collect();
        for (packet_id, payload) in sent {
            let (found, reason) = client.next_ack(SOON).expect("holds").expect("is answered");
            assert_eq!(found, packet_id, "in the order of the messages");
            match reason {
                ReasonCode::Success => acknowledged.push(payload),
                reason => assert_eq!(reason, ReasonCode::QuotaExceeded),
            }
            taken.fetch_add(u64::from(reason == ReasonCode::Success), Ordering::Relaxed);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    acknowledged
}

#[test]
fn after_a_failed_sync_the_process_ends_and_the_next_one_has_what_was_acknowledged() {
    for problem in [Problem::Io, Problem::NoSpace] {
        let folder = tempfile::tempdir().expect("a folder");
        let mut faults = Faults::new(folder.path(), Names::Strict);
        let broker = faults.start(ACTIONS);
        waiter(&broker);
        let mut numbers = Numbers::new(&broker);
        numbers.all_are_acknowledged(50);
        // What the failed sync was to save is lost for good.
        faults.cut_at_exit(7);
        faults.fail(&Fault::new(Call::Fsync, "store/*.log", problem));
        let answer = numbers.client.publish("t/x", b"not kept", QoS::AtLeastOnce, false);
        assert!(matches!(answer, Err(Error::Io(_))), "no acknowledgement: {answer:?}");
        assert_eq!(broker.ended().code(), Some(74), "an error of input or output");
        let broker = Broker::start(folder.path(), ACTIONS);
        let there = take(&broker, numbers.acknowledged.len());
        assert_eq!(&there[..there.len().min(50)], &numbers.acknowledged[..]);
        assert_eq!(publish(&mut broker.connect(&v5("newer")), "t/x", b"more"), ReasonCode::Success);
        assert!(broker.stop().success());
        broker::ledgers(folder.path());
    }
}

/// A small disk in memory. It goes with the test.
struct SmallDisk(PathBuf);

impl SmallDisk {
    /// `None`, with the reason printed: nothing can be mounted here.
    fn mount(at: &Path, size: &str) -> Option<SmallDisk> {
        std::fs::create_dir_all(at).expect("made");
        let options = format!("size={size}");
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", &options, "tmpfs"]).arg(at).output();
        match mounted {
            Ok(output) if output.status.success() => Some(SmallDisk(at.to_owned())),
            Ok(output) => {
                println!("skipped: no tmpfs can be mounted: {}", String::from_utf8_lossy(&output.stderr).trim());
                None
            }
            Err(error) => {
                println!("skipped: mount does not run: {error}");
                None
            }
        }
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        // Lazily: a broker of a test that failed may still be ending.
        drop(Command::new("umount").arg("-l").arg(&self.0).status());
    }
}

#[test]
fn on_a_disk_that_is_really_full_the_broker_starts_and_works_off_what_waits() {
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    let Some(_disk) = SmallDisk::mount(&data, "96m") else { return };
    let config = "[store]\nwrite_buffer_bytes = 1048576\nreserve_bytes = 16777216\nfree_bytes_min = 16777216\n";
    let broker = Broker::start(folder.path(), config);
    let reserve = data.join("store.reserve");
    eventually("the reserve is kept", SOON, || reserve.exists().then_some(()));
    waiter(&broker);
    let count = fill(&broker, 4000);
    assert!(count > 100, "most of the disk could be used: {count}");
    assert!(reserve.exists(), "the bound has kept the disk from being full");
    broker.kill();
    // Somebody else takes the rest.
    let filler = data.join("filler");
    fill_disk(&filler);
    let broker = Broker::start(folder.path(), config);
    assert!(broker.log().contains("the reserve of the store is given up"), "{}", broker.log());
    assert!(!reserve.exists(), "it has its room from the reserve");
    let mut client = broker.connect(&v5("newer"));
    assert_eq!(publish(&mut client, "t/x", b"x"), ReasonCode::QuotaExceeded);
    assert_eq!(take(&broker, count).len(), count, "all that was acknowledged");
    std::fs::remove_file(&filler).expect("removed");
    eventually("there is room again", SOON, || (!publish(&mut client, "t/x", b"x").is_error()).then_some(()));
    assert_eq!(take(&broker, 1), [b"x"]);
    assert!(broker.stop().success());
    let file = folder.path().join("hookline.toml");
    let paths = [&file, &data].map(|path| path.to_str().expect("a path in UTF-8"));
    let (code, out, error) = broker::run(&["store", "stats", "--json", "--config", paths[0], "--data", paths[1]]);
    assert_eq!(code, Some(0), "a ledger does not balance: {out}{error}");
}

/// Writes a file until the disk has no room left, not even for one page.
fn fill_disk(path: &Path) {
    use std::io::Write;
    let mut file = std::fs::File::create(path).expect("made");
    for size in [1 << 20, 4096] {
        while file.write_all(&vec![7; size]).is_ok() {}
    }
}
