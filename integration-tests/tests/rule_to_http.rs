//! Webhooks: what each status means, order, signatures, logins, a server that hangs, hangs up, or is away for a while.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use aws_lc_rs::hmac;
use base64::prelude::{BASE64_STANDARD, Engine};
use hookline_integration_tests::broker::{Broker, account, dead_letters};
use hookline_integration_tests::certificates::Certificates;
use hookline_integration_tests::eventually;
use hookline_integration_tests::webhook::{Reply, Request, Webhook};
use hookline_mqtt::QoS;
use hookline_mqtt::client::{Client, Options};

const SOON: Duration = Duration::from_secs(30);

/// A connector with these settings, an action with these parameters, and its rule.
fn config(connector: &str, parameters: &str, sql: &str) -> String {
    format!(
        r#"
        [connectors.hook]
        type = "http"
        {connector}
        [actions.hook]
        connector = "hook"
        delivery = {{ retry_initial_ms = 20, retry_max_ms = 200 }}
        [actions.hook.parameters]
        {parameters}
        [rules.hook]
        sql = '''{sql}'''
        actions = ["hook"]
        "#
    )
}

fn publish(client: &mut Client, payload: &str) {
    assert!(!client.publish("w", payload.as_bytes(), QoS::AtLeastOnce, false).expect("answered").is_error());
}

fn ok() -> Reply {
    Reply::Answer(200, "", String::new())
}

#[test]
fn each_status_does_what_it_says_and_order_is_kept() {
    const MESSAGES: u64 = 70;
    const BUSY: u64 = 10;
    const PAUSE: u64 = 20;
    const REFUSED: u64 = 30;
    const HANGS: u64 = 40;
    const HANGS_UP: u64 = 50;
    const INJECTION: u64 = 60;
    let seen = Mutex::new(HashSet::new());
    let webhook = Webhook::start(move |request| {
        let seq = request.json()["seq"].as_u64().expect("a number");
        let is_first = seen.lock().expect("lock").insert(seq);
        match seq {
            REFUSED => Reply::Answer(400, "", "no such device".into()),
            BUSY if is_first => Reply::Answer(503, "", "busy".into()),
            PAUSE if is_first => Reply::Answer(429, "Retry-After: 1\r\n", String::new()),
            HANGS if is_first => Reply::Hang,
            HANGS_UP if is_first => Reply::HangUp,
            _ => ok(),
        }
    });
    let connector = format!("url = \"http://{}/in\"\ntimeout_secs = 1\nsignature = {{ secret = \"s3cret\" }}", webhook.address());
    let parameters = r#"
        path = "/${device}?seq=${seq}"
        headers = { "X-Note" = "${note}" }
        json = '{"seq": ${seq}, "text": "no ${seq}"}'"#;
    let sql = r#"SELECT clientid AS device, payload.seq AS seq, payload.note AS note FROM "w""#;
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&connector, parameters, sql));
    let mut client = broker.connect(&Options::new("a/b"));
    for seq in 0..MESSAGES {
        let note = if seq == INJECTION { r"x\r\nX-Admin: 1" } else { "fine" };
        publish(&mut client, &format!(r#"{{"seq": {seq}, "note": "{note}"}}"#));
    }
    let seq = |request: &Request| request.json()["seq"].as_u64().expect("a number");
    eventually("the last one is there", SOON, || webhook.requests().iter().any(|request| seq(request) == MESSAGES - 1).then_some(()));
    assert!(broker.stop().success());

    let requests = webhook.requests();
    let mut numbers: Vec<u64> = requests.iter().map(seq).collect();
    let times = |n: u64| requests.iter().filter(|request| seq(request) == n).map(|request| request.at).collect::<Vec<_>>();
    for again in [BUSY, PAUSE, HANGS, HANGS_UP] {
        assert_eq!(times(again).len(), 2, "{again} is sent again");
    }
    assert_eq!(times(REFUSED).len(), 1, "what was refused is not sent again");
    let pause = times(PAUSE);
    assert!(pause[1] - pause[0] >= Duration::from_millis(990), "the server asked for a second: {:?}", pause[1] - pause[0]);
    numbers.dedup();
    assert_eq!(numbers, (0..MESSAGES).filter(|n| *n != INJECTION).collect::<Vec<u64>>());

    let key = hmac::Key::new(hmac::HMAC_SHA256, b"s3cret");
    let mut keys = HashMap::new();
    for request in &requests {
        let tag: String = hmac::sign(&key, &request.body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(request.header("x-hookline-signature"), format!("sha256={tag}"));
        assert_eq!((request.method.as_str(), request.target.as_str()), ("POST", &*format!("/in/a%2Fb?seq={}", seq(request))));
        assert_eq!((request.header("x-note"), request.header("x-admin")), ("fine", ""));
        assert_eq!(
            (request.header("content-type"), request.json()["text"].as_str()),
            ("application/json", Some(&*format!("no {}", seq(request))))
        );
        let first = keys.entry(seq(request)).or_insert_with(|| request.header("idempotency-key").to_owned());
        assert_eq!(first, request.header("idempotency-key"), "an attempt has the key of the first one");
    }
    assert_eq!(keys.values().collect::<HashSet<_>>().len(), keys.len());
    assert_eq!(account(folder.path(), "hook"), [MESSAGES - 2, 2, 0]);
    let errors: Vec<String> =
        dead_letters(folder.path(), "hook").iter().map(|letter| letter["error"].as_str().unwrap_or_default().to_owned()).collect();
    assert!(errors.len() == 2 && errors[0].contains("400 Bad Request: no such device") && errors[1].contains("line break"), "{errors:?}");
}

#[test]
fn arrays_arrive_whole_and_in_order_across_a_restart_of_the_server() {
    const MESSAGES: u64 = 400;
    let mut webhook = Webhook::start(|_| ok());
    let connector = format!("url = \"http://{}\"", webhook.address());
    let parameters = "batch = \"array\"\njson = '{\"id\": \"${hookline_id}\", \"seq\": ${seq}}'";
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&connector, parameters, r#"SELECT payload.seq AS seq FROM "w""#));
    let mut client = broker.connect(&Options::new("c"));
    let items = |webhook: &Webhook| -> Vec<(String, u64)> {
        let mut seen = HashSet::new();
        let arrays = webhook.requests();
        let items = arrays.iter().flat_map(|request| request.json().as_array().cloned().unwrap_or_default());
        let items = items.map(|item| (item["id"].as_str().unwrap_or_default().to_owned(), item["seq"].as_u64().expect("a number")));
        // What came again after the restart has the identifier that it had.
        items.filter(|(id, _)| seen.insert(id.clone())).collect()
    };
    for seq in 0..MESSAGES / 2 {
        publish(&mut client, &format!(r#"{{"seq": {seq}}}"#));
    }
    eventually("the first ones arrive", SOON, || (!items(&webhook).is_empty()).then_some(()));
    webhook.pause();
    for seq in MESSAGES / 2..MESSAGES {
        publish(&mut client, &format!(r#"{{"seq": {seq}}}"#));
    }
    eventually("the broker sees that the server is away", SOON, || broker.log().contains("not delivered; will try again").then_some(()));
    webhook.resume();
    eventually("all are there", SOON, || (items(&webhook).len() as u64 == MESSAGES).then_some(()));
    assert!(broker.stop().success());
    assert_eq!(items(&webhook).iter().map(|(_, seq)| *seq).collect::<Vec<u64>>(), (0..MESSAGES).collect::<Vec<u64>>());
    let requests = webhook.requests();
    let together = requests.iter().find(|request| request.json().as_array().is_some_and(|items| items.len() > 1)).expect("a batch");
    let expect = format!("{}+{}", together.json()[0]["id"].as_str().expect("a text"), together.json().as_array().map_or(0, Vec::len));
    assert_eq!(together.header("idempotency-key"), expect);
    assert_eq!(account(folder.path(), "hook"), [MESSAGES, 0, 0]);
}

#[test]
fn oauth2_tokens_are_fetched_and_replaced_when_the_server_takes_them_no_more() {
    static VALID: AtomicU64 = AtomicU64::new(1);
    let webhook = Webhook::start(|request| match request.target.as_str() {
        "/token" => {
            let token = VALID.load(Ordering::SeqCst);
            Reply::Answer(200, "Content-Type: application/json\r\n", format!(r#"{{"access_token": "t{token}", "expires_in": 3600}}"#))
        }
        _ if request.header("authorization") == format!("Bearer t{}", VALID.load(Ordering::SeqCst)) => ok(),
        _ => Reply::Answer(401, "", String::new()),
    });
    let connector = format!(
        r#"
        url = "http://{0}/in"
        [connectors.hook.auth]
        type = "oauth2"
        token_url = "http://{0}/token"
        client_id = "hookline"
        client_secret = "a b"
        scope = "write""#,
        webhook.address()
    );
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config(&connector, "", r#"SELECT payload.seq AS seq FROM "w""#));
    let mut client = broker.connect(&Options::new("c"));
    // What the server took, in order: each came with the token of its time.
    let taken = |token: u64| -> Vec<u64> {
        let is_taken = |request: &&Request| request.target == "/in" && request.header("authorization") == format!("Bearer t{token}");
        webhook.requests().iter().filter(is_taken).map(|request| request.json()["seq"].as_u64().expect("a number")).collect()
    };
    for seq in 0..5 {
        publish(&mut client, &format!(r#"{{"seq": {seq}}}"#));
    }
    eventually("the first ones arrive", SOON, || (taken(1).len() == 5).then_some(()));
    VALID.store(2, Ordering::SeqCst);
    for seq in 5..10 {
        publish(&mut client, &format!(r#"{{"seq": {seq}}}"#));
    }
    eventually("the others arrive", SOON, || (taken(2).len() == 5).then_some(()));
    assert!(broker.stop().success());
    assert_eq!(taken(2), [5, 6, 7, 8, 9]);
    assert_eq!(account(folder.path(), "hook"), [10, 0, 0]);
    let requests = webhook.requests();
    let asked: Vec<&Request> = requests.iter().filter(|request| request.target == "/token").collect();
    assert_eq!(asked.len(), 2, "a token is kept while it is taken");
    assert_eq!(asked[0].body, b"grant_type=client%5Fcredentials&scope=write");
    assert_eq!(asked[0].header("authorization"), format!("Basic {}", BASE64_STANDARD.encode("hookline:a%20b")));
}

#[test]
fn an_event_without_a_payload_goes_over_tls_with_a_certificate_and_a_password() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(folder.path());
    let webhook = Webhook::start_tls(&certificates, |_| Reply::Answer(204, "", String::new()));
    let Certificates { ca, client, client_key, .. } = &certificates;
    let connector = format!(
        r#"
        url = "https://localhost:{}"
        auth = {{ type = "basic", username = "hookline", password = "secret" }}
        tls = {{ ca = "{}", cert = "{}", key = "{}" }}"#,
        webhook.address().port(),
        ca.display(),
        client.display(),
        client_key.display()
    );
    let parameters = r#"
        method = "put"
        path = "/devices/${clientid}"
        json = '{"online": false, "why": "${reason}", "since": ${timestamp}}'"#;
    let sql = r#"SELECT clientid, reason, timestamp FROM "$events/client/disconnected""#;
    let broker = Broker::start(folder.path(), &config(&connector, parameters, sql));
    broker.connect(&Options::new("pump-7")).disconnect().expect("leaves");
    let request = eventually("the event is there", SOON, || webhook.requests().pop());
    assert_eq!((request.method.as_str(), request.target.as_str()), ("PUT", "/devices/pump-7"));
    assert_eq!((request.json()["online"].as_bool(), request.json()["why"].as_str()), (Some(false), Some("normal")));
    assert!(request.json()["since"].is_i64());
    assert_eq!(request.header("authorization"), format!("Basic {}", BASE64_STANDARD.encode("hookline:secret")));
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "hook"), [1, 0, 0]);
}
