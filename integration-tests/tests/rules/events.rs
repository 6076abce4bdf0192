//! Events as rows: logins, permissions, pings, the life of sessions, alarms.

use hookline_integration_tests::broker::{self, Broker};
use hookline_integration_tests::eventually;
use hookline_mqtt::ReasonCode;
use hookline_mqtt::client::{Client, Error};
use serde_json::json;

use super::{SOON, folder, has_rows, publish, subscribe, table, v5};

#[test]
fn logins_permissions_and_pings_become_rows() {
    let folder = folder();
    let rules = r#"
        [[banned]]
        clientid = "thief"
        [rules.access]
        sql = '''
        SELECT event, clientid, topic, action, result, authz_source, reason_code, is_anonymous
        FROM "$events/client/ping", "$events/auth/check_authn_complete", "$events/client_check_authz_complete"
        '''
        actions = ["access"]
    "#;
    let fields = ["event", "clientid", "topic", "action", "result", "authz_source", "reason_code", "is_anonymous"];
    let broker = Broker::start(folder.path(), &[&table("access", &fields), rules].concat());
    let refused = Client::connect(broker.address(), &v5("thief"));
    assert!(matches!(refused, Err(Error::Refused(ReasonCode::Banned))), "{refused:?}");
    let mut client = broker.connect(&v5("device"));
    subscribe(&mut client, "a/#");
    publish(&mut client, "a/b", "x");
    client.ping().expect("answers");
    let (login, decided) = ("client.check_authn_complete", "client.check_authz_complete");
    let expect = json!([
        [login, "thief", null, null, null, null, "banned", 1],
        [login, "device", null, null, null, null, "success", 1],
        [decided, "device", "a/#", "subscribe", "allow", "default", null, null],
        [decided, "device", "a/b", "publish", "allow", "default", null, null],
        ["client.ping", "device", null, null, null, null, null, null],
    ]);
    has_rows(folder.path(), "access", &expect);
}

#[test]
fn the_life_of_a_session_becomes_rows() {
    let folder = folder();
    let rules = r#"
        [rules.life]
        sql = '''
        SELECT event, clientid, reason
        FROM "$events/session/created", "$events/session/resumed", "$events/session/takenover",
          "$events/session/discarded", "$events/session/terminated"
        '''
        actions = ["life"]
    "#;
    let broker = Broker::start(folder.path(), &[&table("life", &["event", "clientid", "reason"]), rules].concat());
    let first = broker.connect(&v5("device").persistent(1000));
    let second = broker.connect(&v5("device").persistent(1000));
    assert!(second.session_present() && !first.session_present());
    second.disconnect().expect("leaves");
    broker.connect(&v5("device")).disconnect().expect("leaves");
    let mut expect = vec![
        json!(["session.created", "device", null]),
        json!(["session.takenover", "device", null]),
        json!(["session.resumed", "device", null]),
        json!(["session.discarded", "device", null]),
        json!(["session.created", "device", null]),
        json!(["session.terminated", "device", "normal"]),
    ];
    has_rows(folder.path(), "life", &expect.clone().into());
    // One whose client stays away for longer than it was to be kept.
    broker.connect(&v5("short").persistent(1)).disconnect().expect("leaves");
    expect.push(json!(["session.created", "short", null]));
    expect.push(json!(["session.terminated", "short", "expired"]));
    has_rows(folder.path(), "life", &expect.into());
}

#[test]
fn an_alarm_becomes_a_row() {
    let folder = folder();
    let config = r#"
        [node]
        name = "n"
        memory_high_bytes = 1
        [rules.alarms]
        sql = 'SELECT event, name, node, details.bytes_max AS bytes_max FROM "$events/sys/alarm_activated"'
        actions = ["alarms"]
    "#;
    let _broker = Broker::start(folder.path(), &[&table("alarms", &["event", "name", "node", "bytes_max"]), config].concat());
    has_rows(folder.path(), "alarms", &json!([["alarm.activated", "memory_high", "n", 1]]));
}

#[test]
fn that_the_store_is_full_goes_to_the_log_and_for_a_table_there_is_no_room() {
    let folder = folder();
    // More than any disk has.
    let config = r#"
        [store]
        free_bytes_min = 1152921504606846976
        [rules.alarms]
        sql = 'SELECT name FROM "$events/sys/alarm_activated"'
        actions = [{ function = "console" }, "alarms"]
    "#;
    let broker = Broker::start(folder.path(), &[&table("alarms", &["name"]), config].concat());
    eventually("the rule has the alarm", SOON, || {
        broker.log().lines().any(|line| line.contains("\"console\"") && line.contains("store_full")).then_some(())
    });
    assert!(broker.stop().success());
    let ledgers = broker::ledgers(folder.path());
    let ledger = ledgers.iter().find(|ledger| ledger["name"] == "alarms").expect("has an account");
    let account = ["accepted", "dropped", "delivered", "pending"].map(|field| ledger[field].clone());
    assert_eq!(account, [json!(1), json!(1), json!(0), json!(0)], "what has no room is counted: {ledger}");
}
