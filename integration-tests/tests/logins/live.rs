//! Permissions that change while clients are connected, and storms of clients.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_integration_tests::{eventually, postgres, services, unique};
use hookline_mqtt::client::{Client, Error, Options};
use hookline_mqtt::packet::Will;
use hookline_mqtt::{Properties, QoS, ReasonCode};

use super::{log_in, may_publish, may_subscribe, options};

#[test]
fn a_permission_that_is_taken_away_stops_deliveries_also_of_what_waits() {
    let _server = services::stay();
    let acl = unique("mqtt_acl");
    postgres::execute(&format!(
        "CREATE TABLE {acl} (username text, permission text, action text, topic text);
         INSERT INTO {acl} VALUES ('alice', 'allow', 'all', 'plant/#'), ('bob', 'allow', 'all', '#')"
    ));
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        "[connectors.db]\ntype = \"postgres\"\nurl = \"{}\"\n[authorization]\nrefresh_secs = 1\n[[authorization.sources]]\nname = \"acl\"\nconnector = \"db\"\n\
         parameters = {{ query = \"SELECT permission, action, topic FROM {acl} WHERE username = ${{username}}\" }}",
        postgres::url()
    );
    let broker = Broker::start(folder.path(), &config);
    let durable = options("of-alice", "alice", "").persistent(3600);
    let mut alice = Client::connect(broker.address(), &durable).expect("in");
    let mut bob = log_in(&broker, "bob", "").expect("in");
    assert!(may_subscribe(&mut alice, "plant/x"));
    assert!(may_publish(&mut bob, "plant/x"));
    assert!(alice.receive(Duration::from_secs(5)).expect("connected").is_some(), "it is delivered");
    // While she is away, something waits for her, and then she may not have it any more.
    drop(alice);
    assert!(may_publish(&mut bob, "plant/x"));
    postgres::execute(&format!("DELETE FROM {acl} WHERE username = 'alice'"));
    let mut alice = Client::connect(broker.address(), &durable).expect("in");
    assert!(alice.receive(Duration::from_millis(700)).expect("connected").is_none(), "what waited is not delivered");
    assert!(!may_publish(&mut alice, "plant/x"));
    // And while she is connected.
    postgres::execute(&format!("INSERT INTO {acl} VALUES ('alice', 'allow', 'all', 'plant/#')"));
    eventually("she may again", Duration::from_secs(10), || may_subscribe(&mut alice, "plant/x").then_some(()));
    assert!(may_publish(&mut bob, "plant/x"));
    assert!(alice.receive(Duration::from_secs(5)).expect("connected").is_some());
    postgres::execute(&format!("DELETE FROM {acl} WHERE username = 'alice'"));
    let (code, ..) = run(&["ctl", "access", "--refresh", "--data", folder.path().join("data").to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0));
    eventually("her subscription has ended", Duration::from_secs(5), || {
        assert!(may_publish(&mut bob, "plant/x"));
        alice.receive(Duration::from_millis(100)).expect("connected").is_none().then_some(())
    });
    assert!(broker.log().contains("may not subscribe to this any more"));
    assert!(broker.stop().success());
    postgres::execute(&format!("DROP TABLE {acl}"));
}

#[test]
fn a_server_is_asked_about_each_request_and_once_for_the_same() {
    let allowed = Arc::new(Mutex::new(vec!["publish a/x", "subscribe a/#"]));
    let list = Arc::clone(&allowed);
    let server = Webhook::start(move |request| {
        let body = request.json();
        let asked = format!("{} {}", body["action"].as_str().expect("a text"), body["topic"].as_str().expect("a text"));
        if asked == "publish broken" {
            return Reply::Answer(500, "", String::new());
        }
        let result = if list.lock().expect("lock").contains(&&*asked) { "allow" } else { "deny" };
        Reply::Answer(200, "", format!("{{\"result\": \"{result}\"}}"))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        "[connectors.h]\ntype = \"http\"\nurl = \"http://{}\"\n[authorization]\nrefresh_secs = 1\n[[authorization.sources]]\nname = \"h\"\nconnector = \"h\"\n\
         parameters = {{ json = '{{\"clientid\": \"${{clientid}}\", \"action\": \"${{action}}\", \"topic\": \"${{topic}}\"}}' }}",
        server.address()
    );
    let broker = Broker::start(folder.path(), &config);
    let mut client = log_in(&broker, "alice", "").expect("in");
    assert!(may_subscribe(&mut client, "a/#") && !may_subscribe(&mut client, "b/#"));
    for _ in 0..50 {
        assert!(may_publish(&mut client, "a/x") && !may_publish(&mut client, "a/y"));
    }
    assert!(!may_publish(&mut client, "broken"), "a failure is a refusal");
    let asked = server.requests().len();
    assert!(asked < 40, "{asked} questions for 103 requests");
    // Messages that wait for their decision keep their order, and those behind them.
    for number in 0..20 {
        let topic = if number % 2 == 0 { "a/x".to_owned() } else { format!("a/{number}") };
        client.send(&topic, number.to_string().as_bytes(), QoS::AtLeastOnce, false, &Properties::default()).expect("sent");
    }
    let reasons: Vec<bool> =
        (0..20).map(|_| client.next_ack(Duration::from_secs(20)).expect("connected").expect("answered").1.is_error()).collect();
    assert_eq!(reasons, (0..20).map(|number| number % 2 == 1).collect::<Vec<_>>());
    // What is asked about anew ends a subscription.
    allowed.lock().expect("lock").clear();
    eventually("the subscription has ended", Duration::from_secs(10), || {
        broker.log().contains("may not subscribe to this any more").then_some(())
    });
    assert!(!may_publish(&mut client, "a/x"));
    assert!(broker.stop().success());
}

#[test]
fn a_server_of_permissions_that_fails_takes_nothing_away_and_opens_nothing() {
    let broken = Arc::new(AtomicBool::new(false));
    let fails = Arc::clone(&broken);
    let server = Webhook::start(move |_| match fails.load(Ordering::SeqCst) {
        true => Reply::Answer(502, "", "<html>".into()),
        false => {
            Reply::Answer(200, "", r#"[{"permission": "deny", "topic": "secret/#"}, {"permission": "allow", "topic": "plant/#"}]"#.into())
        }
    });
    for no_match in ["allow", "deny"] {
        broken.store(false, Ordering::SeqCst);
        let folder = tempfile::tempdir().expect("a folder");
        let config = format!(
            "[delayed]\nenable = true\n[connectors.h]\ntype = \"http\"\nurl = \"http://{}\"\n[authorization]\nrefresh_secs = 1\nno_match = \"{no_match}\"\n\
             [[authorization.sources]]\nname = \"h\"\nconnector = \"h\"\nparameters = {{ json = '{{\"clientid\": \"${{clientid}}\"}}' }}",
            server.address()
        );
        let broker = Broker::start(folder.path(), &config);
        let mut alice = Client::connect(broker.address(), &options("of-alice", "alice", "").persistent(3600)).expect("in");
        assert!(may_subscribe(&mut alice, "plant/#") && !may_publish(&mut alice, "secret/x"));
        broken.store(true, Ordering::SeqCst);
        let asked = server.requests().len();
        eventually("it was asked again", Duration::from_secs(10), || (server.requests().len() > asked + 1).then_some(()));
        assert!(may_publish(&mut alice, "plant/x") && !may_publish(&mut alice, "secret/x"), "{no_match}: what it said last holds");
        assert!(alice.receive(Duration::from_secs(5)).expect("connected").is_some(), "{no_match}: the subscription is still there");
        assert!(log_in(&broker, "bob", "").is_err(), "{no_match}: nobody comes in whose permissions are not known");
        broken.store(false, Ordering::SeqCst);
        // A will is a message as any other.
        let mut will = options("of-eve", "eve", "");
        will.connect.will = Some(Will {
            topic: "$delayed/0/secret/x".into(),
            payload: b"boo".to_vec(),
            qos: QoS::AtLeastOnce,
            retain: false,
            properties: Properties::default(),
        });
        let refused = eventually("the server is back", Duration::from_secs(20), || match Client::connect(broker.address(), &will) {
            Err(Error::Refused(ReasonCode::ServerUnavailable | ReasonCode::ServerBusy)) => None,
            other => Some(other.err()),
        });
        assert!(matches!(refused, Some(Error::Refused(ReasonCode::NotAuthorized))), "{refused:?}");
        assert!(broker.stop().success());
    }
}

#[test]
fn what_is_taken_away_takes_nothing_else_with_it_and_a_large_subscribe_is_decided() {
    let server = Webhook::start(|request| {
        let body = request.json();
        let is_allowed = body["topic"].as_str().is_some_and(|topic| topic.starts_with("many/") || topic == "inbox/own");
        Reply::Answer(200, "", format!("{{\"result\": \"{}\"}}", if is_allowed { "allow" } else { "deny" }))
    });
    let folder = tempfile::tempdir().expect("a folder");
    let users = folder.path().join("acl");
    let all = "[[rules]]\npermission = 'allow'\ntopics = ['a/#', 'eq b/#', 'inbox/x']\nqos = [1]\n";
    std::fs::write(&users, all).expect("written");
    let config = format!(
        "[[auto_subscribe]]\ntopic = \"inbox/${{clientid}}\"\nqos = 1\n[connectors.h]\ntype = \"http\"\nurl = \"http://{}\"\n\
         [[authorization.sources]]\nname = \"f\"\ntype = \"file\"\npath = '{}'\n[[authorization.sources]]\nname = \"h\"\nconnector = \"h\"\n\
         parameters = {{ json = '{{\"topic\": \"${{topic}}\"}}' }}",
        server.address(),
        users.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let durable = options("x", "alice", "").persistent(3600);
    let mut alice = Client::connect(broker.address(), &durable).expect("in");
    assert!(may_subscribe(&mut alice, "a/#") && may_subscribe(&mut alice, "b/#"));
    let filters: Vec<String> =
        (0..200).map(|number| if number % 2 == 0 { format!("many/{number}") } else { format!("no/{number}") }).collect();
    let wanted: Vec<(&str, QoS)> = filters.iter().map(|filter| (filter.as_str(), QoS::AtLeastOnce)).collect();
    let reasons = alice.subscribe(&wanted).expect("answered");
    assert!(reasons.iter().enumerate().all(|(number, reason)| reason.is_error() == (number % 2 == 1)), "{reasons:?}");
    // One permission goes: what the other subscriptions bring still comes, also what nobody asked for and what is exact.
    std::fs::write(&users, all.replace("'a/#', ", "")).expect("written");
    eventually("the subscription has ended", Duration::from_secs(10), || {
        broker.log().contains("may not subscribe to this any more").then_some(())
    });
    assert!(may_publish(&mut alice, "inbox/x"));
    assert_eq!(alice.receive(Duration::from_secs(5)).expect("connected").map(|message| message.topic), Some("inbox/x".into()));
    std::fs::write(&users, all).expect("written");
    eventually("it may again", Duration::from_secs(10), || may_publish(&mut alice, "a/1").then_some(()));
    drop(alice);
    let mut bob = Client::connect(broker.address(), &options("own", "bob", "")).expect("in");
    assert!(may_publish(&mut bob, "inbox/x"));
    let mut alice = Client::connect(broker.address(), &durable).expect("in");
    assert_eq!(
        alice.receive(Duration::from_secs(5)).expect("connected").map(|message| message.topic),
        Some("inbox/x".into()),
        "{}",
        broker.log()
    );
    assert!(broker.stop().success());
}

#[test]
fn who_logs_in_while_permissions_change_does_not_keep_the_old_ones() {
    let server = Webhook::start(|_| {
        std::thread::sleep(Duration::from_secs(3));
        Reply::Answer(200, "", "[]".into())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let rules = folder.path().join("acl");
    let write = |topic: &str| std::fs::write(&rules, format!("[[rules]]\npermission = 'allow'\ntopics = ['{topic}']\n")).expect("written");
    write("plant/#");
    let config = format!(
        "[connectors.h]\ntype = \"http\"\nurl = \"http://{}\"\n[[authorization.sources]]\nname = \"f\"\ntype = \"file\"\npath = '{}'\n\
         [[authorization.sources]]\nname = \"h\"\nconnector = \"h\"\nparameters = {{ json = '{{\"clientid\": \"${{clientid}}\"}}' }}",
        server.address(),
        rules.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let mut client = std::thread::scope(|scope| {
        let coming = scope.spawn(|| log_in(&broker, "alice", "").expect("in"));
        eventually("its permissions are asked for", Duration::from_secs(10), || server.requests().pop());
        write("other/#");
        coming.join().expect("in")
    });
    eventually("what the file says now holds", Duration::from_secs(20), || (!may_publish(&mut client, "plant/x")).then_some(()));
    assert!(may_publish(&mut client, "other/x"));
    assert!(broker.stop().success());
}

#[test]
fn attributes_of_names_are_seen_by_permissions_rules_and_mountpoints() {
    let folder = tempfile::tempdir().expect("a folder");
    let acl = folder.path().join("acl.toml");
    std::fs::write(
        &acl,
        "[[rules]]\npermission = \"deny\"\ntopics = [\"x/#\"]\nclient_attrs = { site = \"south\" }\n\
         [[rules]]\npermission = \"allow\"\ntopics = [\"x/${client_attrs.site}/#\"]\n",
    )
    .expect("written");
    let config = format!(
        r#"
        [client_attributes]
        site = "nth(1, tokens(clientid, '-'))"
        nothing = "nth(9, tokens(clientid, '-'))"
        [listeners.tcp.sites]
        bind = "127.0.0.1:0"
        mountpoint = "of/${{client_attrs.site}}/"
        [[authorization.sources]]
        name = "file"
        type = "file"
        path = "{}"
        [rules.sites]
        sql = 'SELECT client_attrs.site AS site FROM "of/north/x/#"'
        actions = [{{ function = "republish", topic = "x/north/rule", payload = "${{site}}" }}]
        "#,
        acl.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let connect = |listener: &str, id: &str| Client::connect(broker.address_of(listener), &options(id, "", "")).expect("in");
    let (mut north, mut south) = (connect("tcp.default", "north-1"), connect("tcp.default", "south-1"));
    assert!(may_subscribe(&mut north, "x/north/rule") && !may_publish(&mut north, "x/south/a") && !may_publish(&mut south, "x/south/a"));
    let mut mounted = connect("tcp.sites", "north-2");
    assert!(may_publish(&mut mounted, "x/north/t"));
    let message = north.receive(Duration::from_secs(5)).expect("connected").expect("the rule has published");
    assert_eq!(message.payload, b"north");
    assert!(broker.stop().success());
}

#[test]
fn a_storm_of_clients_against_a_slow_backend_hurts_neither() {
    const CLIENTS: usize = 1500;
    let (under_way, most) =
        (std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)), std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0)));
    let (now, peak) = (std::sync::Arc::clone(&under_way), std::sync::Arc::clone(&most));
    let server = Webhook::start(move |_| {
        use std::sync::atomic::Ordering::SeqCst;
        peak.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
        std::thread::sleep(Duration::from_millis(100));
        now.fetch_sub(1, SeqCst);
        Reply::Answer(200, "", r#"{"result": "allow"}"#.into())
    });
    let folder = tempfile::tempdir().expect("a folder");
    let config = format!(
        "[mqtt]\nallow_anonymous = false\nidle_timeout_secs = 60\n[listeners.tcp.default]\nhalf_open_per_address_max = 100000\n\
         [connectors.h]\ntype = \"http\"\nurl = \"http://{}\"\n[[authentication]]\nname = \"h\"\nconnector = \"h\"\n\
         backend = {{ concurrent_max = 20, waiting_max = 200, timeout_ms = 5000 }}\n\
         [[authentication]]\nname = \"own\"\ntype = \"client_id\"\nclient_ids = [\"witness\"]\n[listeners.tcp.witness]\nbind = \"127.0.0.1:0\"\nauthentication = [\"own\"]",
        server.address()
    );
    let broker = Broker::start(folder.path(), &config);
    let witness = options("witness", "", "");
    let mut witness = Client::connect(broker.address_of("tcp.witness"), &witness).expect("in");
    let (mut let_in, mut refused, mut slowest) = (0, 0, Duration::ZERO);
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..50)
            .map(|thread| {
                let broker = &broker;
                scope.spawn(move || {
                    let each = (0..CLIENTS / 50).map(|number| {
                        let options = Options { timeout: Duration::from_secs(30), ..options(&format!("c-{thread}-{number}"), "u", "p") };
                        Client::connect(broker.address(), &options).is_ok()
                    });
                    each.filter(|is_in| *is_in).count()
                })
            })
            .collect();
        while clients.iter().any(|client| !client.is_finished()) {
            let began = Instant::now();
            witness.publish("t", b"x", QoS::AtLeastOnce, false).expect("published");
            slowest = slowest.max(began.elapsed());
            std::thread::sleep(Duration::from_millis(20));
        }
        for client in clients {
            let count = client.join().expect("joined");
            let_in += count;
            refused += CLIENTS / 50 - count;
        }
    });
    println!("{let_in} let in, {refused} refused, slowest acknowledgement of the others {slowest:?}");
    assert_eq!(let_in, CLIENTS, "who waits its turn comes in");
    assert!(most.load(std::sync::atomic::Ordering::SeqCst) <= 20, "the backend is asked by few at a time");
    assert!(slowest < Duration::from_secs(1), "others do not notice: {slowest:?}");
    assert!(broker.stop().success());
}
