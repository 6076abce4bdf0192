//! What rules remember: windows, also over kill -9 and a restart, and `kv_store`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::eventually;
use serde_json::{Value, json};

use super::{LONG, SOON, becomes, folder, next, publish, rows, subscribe, table, v5};

fn now_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970");
    u64::try_from(since.as_millis()).expect("not that far in the future")
}

fn number(value: &Value) -> u64 {
    value.as_u64().unwrap_or_else(|| panic!("{value} is no number"))
}

#[test]
fn a_window_gives_a_row_of_each_group_when_it_has_closed() {
    const SIZE_MS: u64 = 2000;
    let folder = folder();
    let rule = r#"
        [rules.rooms]
        sql = '''
        SELECT payload.room AS room, count() AS n, sum(payload.t) AS total, max(payload.t) AS most, window_start AS since, window_end AS until
        FROM "rooms/#" WHERE payload.t >= 0
        GROUP BY payload.room, TUMBLING(2s)
        '''
        actions = ["rooms"]
    "#;
    let fields = ["room", "n", "total", "most", "since", "until"];
    let broker = Broker::start(folder.path(), &[&table("rooms", &fields), rule].concat());
    let mut client = broker.connect(&v5("c"));
    for t in 0..30 {
        let room = if t % 3 == 0 { "a" } else { "b" };
        publish(&mut client, "rooms/x", json!({ "room": room, "t": t }).to_string());
        publish(&mut client, "rooms/x", json!({ "room": room, "t": -1 }).to_string());
    }
    let found = eventually("all events are in windows that have closed", LONG, || {
        let found = rows(folder.path(), "rooms");
        let now_ms = now_ms();
        assert!(found.iter().all(|row| number(&row[5]) <= now_ms), "no row comes before its window has closed: {found:?}");
        (found.iter().map(|row| number(&row[1])).sum::<u64>() == 30).then_some(found)
    });
    // They may have fallen into two windows or more.
    let (mut totals, mut windows) = (BTreeMap::new(), BTreeSet::new());
    for row in &found {
        let (room, since, until) = (row[0].as_str().expect("a room"), number(&row[4]), number(&row[5]));
        assert!(since % SIZE_MS == 0 && until == since + SIZE_MS, "{row}");
        assert!(windows.insert((room, since)), "one row of a window: {found:?}");
        let (n, total, most) = totals.entry(room).or_insert((0, 0, 0));
        (*n, *total, *most) = (*n + number(&row[1]), *total + number(&row[2]), number(&row[3]).max(*most));
    }
    assert_eq!(totals, BTreeMap::from([("a", (10, 135, 27)), ("b", (20, 300, 29))]));
}

/// The size of a window that is still open while the broker is killed and comes back.
const KEPT_MS: u64 = 8000;
const ROOMS: [&str; 2] = ["a", "b"];

/// So many events in each room.
fn happen(broker: &Broker, count: u64) {
    let mut client = broker.connect(&v5("rooms"));
    for _ in 0..count {
        ROOMS.iter().for_each(|room| publish(&mut client, "rooms", json!({ "room": room }).to_string()));
    }
}

/// How many events of each room are in windows that have closed.
fn closed(folder: &Path) -> BTreeMap<String, u64> {
    // Rows are repeated where the crash came between a window's end and the next time that windows were kept.
    let windows: BTreeMap<(String, u64), u64> =
        rows(folder, "kept").iter().map(|row| ((row[0].as_str().expect("a room").to_owned(), number(&row[2])), number(&row[1]))).collect();
    windows.into_iter().fold(BTreeMap::new(), |mut sums, ((room, _), n)| {
        *sums.entry(room).or_default() += n;
        sums
    })
}

#[test]
fn a_durable_window_goes_on_after_kill_9_and_after_a_clean_end() {
    let folder = folder();
    // Rules are told the time in the order of their names: when "mark" gives a row, "kept" has been asked before it.
    let rules = r#"
        [rules.kept]
        sql = 'SELECT payload.room AS room, count() AS n, window_start AS since FROM "rooms" GROUP BY payload.room, TUMBLING(8s)'
        actions = ["kept"]
        window = { durable = true }
        [rules.mark]
        sql = 'SELECT window_end AS until, count() AS n FROM "mark" GROUP BY TUMBLING(500ms)'
        actions = ["mark"]
    "#;
    let config = [table("kept", &["room", "n", "since"]), table("mark", &["until"]), rules.to_owned()].concat();
    let broker = Broker::start(folder.path(), &config);
    eventually("a window begins", SOON, || (now_ms() % KEPT_MS < KEPT_MS / 4).then_some(()));
    happen(&broker, 10);
    // Windows are kept once a second.
    let kept_ms = now_ms() + 2000;
    let mut marker = broker.connect(&v5("marker"));
    eventually("the window was kept", LONG, || {
        publish(&mut marker, "mark", "{}");
        rows(folder.path(), "mark").iter().any(|row| number(&row[0]) >= kept_ms).then_some(())
    });
    broker.kill();
    let broker = Broker::start(folder.path(), &config);
    happen(&broker, 3);
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), &config);
    happen(&broker, 7);
    let expect = BTreeMap::from(ROOMS.map(|room| (room.to_owned(), 20)));
    becomes("events in windows that have closed", LONG, &expect, || closed(folder.path()));
    assert!(broker.stop().success());
}

#[test]
fn what_a_rule_remembers_is_there_after_kill_9_and_after_a_clean_end() {
    let folder = folder();
    let config = r#"
        [rule_engine]
        kv_store_durable = true
        [rules.remember]
        sql = 'SELECT kv_store_put(payload.k, payload.v) AS ok FROM "remember"'
        actions = []
        [rules.forget]
        sql = 'SELECT kv_store_del(payload.k) AS ok FROM "forget"'
        actions = []
        [rules.recall]
        sql = '''SELECT kv_store_get(payload.k, 'nothing') AS v FROM "recall"'''
        actions = [{ function = "republish", topic = "recalled", payload = "${v}" }]
    "#;
    let recall = |broker: &Broker| {
        let mut client = broker.connect(&v5("c"));
        subscribe(&mut client, "recalled");
        ["limit", "site"].map(|key| {
            publish(&mut client, "recall", json!({ "k": key }).to_string());
            String::from_utf8(next(&mut client).payload).expect("text")
        })
    };
    let broker = Broker::start(folder.path(), config);
    assert_eq!(recall(&broker), ["nothing", "nothing"]);
    let mut client = broker.connect(&v5("writer"));
    publish(&mut client, "remember", r#"{"k": "limit", "v": 41}"#);
    publish(&mut client, "remember", r#"{"k": "limit", "v": 42}"#);
    publish(&mut client, "remember", r#"{"k": "site", "v": {"name": "north"}}"#);
    broker.kill();
    let broker = Broker::start(folder.path(), config);
    assert_eq!(recall(&broker), ["42", r#"{"name":"north"}"#]);
    publish(&mut broker.connect(&v5("writer")), "forget", r#"{"k": "limit"}"#);
    assert!(broker.stop().success());
    let broker = Broker::start(folder.path(), config);
    assert_eq!(recall(&broker), ["nothing", r#"{"name":"north"}"#]);
}
