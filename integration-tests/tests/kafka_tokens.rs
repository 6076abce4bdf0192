//! Kafka with tokens (SASL OAUTHBEARER): a secret that is wrong at first, tokens that end every few seconds, and an endpoint that is away for longer
//! than a token lasts. Out, out by transactions, and in.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, account, run};
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_integration_tests::{eventually, kafka, publish_all, services, unique};
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;

const LIMIT: Duration = Duration::from_secs(60);
/// How long a token lasts, seconds.
const LIFETIME: u64 = 5;
static IS_AWAY: AtomicBool = AtomicBool::new(false);

fn endpoint() -> Webhook {
    Webhook::start(|request| if IS_AWAY.load(Ordering::SeqCst) { Reply::HangUp } else { kafka::grant_token(request, LIFETIME) })
}

/// An action while the broker runs.
fn shown(folder: &Path, action: &str) -> serde_json::Value {
    let data = folder.join("data");
    let (_, shown, error) = run(&["ctl", "actions", action, "-o", "json", "--data", data.to_str().expect("UTF-8")]);
    serde_json::from_str(&shown).unwrap_or_else(|_| panic!("{error}"))
}

fn problem(folder: &Path) -> Option<String> {
    shown(folder, "out")["status_reason"].as_str().map(str::to_owned)
}

fn delivered(folder: &Path) -> Option<u64> {
    shown(folder, "out")["ledger"]["delivered"].as_u64()
}

#[test]
fn tokens_are_renewed_and_no_record_is_lost_with_them() {
    let _server = services::stay();
    let Ok(server) = std::env::var("HOOKLINE_TEST_KAFKA_TOKEN") else { return };
    let (topic, once) = (unique("tokens"), unique("tokens"));
    kafka::create_topic(&topic, 1);
    kafka::create_topic(&once, 1);
    let endpoint = endpoint();
    let folder = tempfile::tempdir().expect("a folder");
    let secret = folder.path().join("secret");
    std::fs::write(&secret, "wrong\n").expect("written");
    let config = format!(
        r#"
        [connectors.kafka]
        type = "kafka"
        bootstrap_hosts = "{server}"
        [connectors.kafka.authentication]
        mechanism = "oauthbearer"
        token_url = "http://{}/token"
        client_id = "hookline"
        client_secret = "file://{}"
        scope = "kafka"
        [actions.out]
        connector = "kafka"
        parameters = {{ topic = "{topic}" }}
        delivery = {{ retry_max_ms = 500 }}
        [actions.once]
        connector = "kafka"
        parameters = {{ topic = "{once}", transactional_id = "{once}" }}
        delivery = {{ retry_max_ms = 500 }}
        [sources.back]
        connector = "kafka"
        parameters = {{ topics = ["{topic}"], group_id = "{topic}", offset_reset = "earliest", topic = "back", payload = "${{value}}" }}
        [rules.all]
        sql = 'SELECT payload.n AS n FROM "numbers"'
        actions = ["out", "once"]
        "#,
        endpoint.address(),
        secret.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let mut reader = broker.connect(&Options::new("reader"));
    reader.subscribe(&[("back", QoS::AtLeastOnce)]).expect("subscribed");
    let mut client = broker.connect(&Options::new("c"));
    let mut next = 0..;
    let mut publish = |count: usize, pause: Duration| {
        for n in next.by_ref().take(count) {
            publish_all(&mut client, "numbers", [format!(r#"{{"n": {n}}}"#)]);
            std::thread::sleep(pause);
        }
    };
    publish(1, Duration::ZERO);
    let said = eventually("the reason is told", LIMIT, || problem(folder.path()));
    let expect =
        format!("no token from http://{}/token: answered 401 Unauthorized: {{\"error\": \"invalid_client\"}}; look at", endpoint.address());
    assert!(said.contains(&expect) && said.contains("client_secret") && !said.contains("wrong"), "{said}");

    // The secret is replaced, and nobody says so.
    std::fs::write(&secret, format!("{}\n", kafka::CLIENT_SECRET)).expect("written");
    eventually("the first record is in Kafka", LIMIT, || (delivered(folder.path()) == Some(1)).then_some(()));
    let asked = endpoint.requests().len();
    publish(120, Duration::from_millis(100));
    assert!(endpoint.requests().len() >= asked + 6, "three clients have had two more tokens each");
    eventually("all are in Kafka", LIMIT, || (delivered(folder.path()) == Some(121)).then_some(()));

    // The endpoint is away until Kafka ends the connections.
    IS_AWAY.store(true, Ordering::SeqCst);
    publish(50, Duration::from_millis(100));
    std::thread::sleep(Duration::from_secs(LIFETIME));
    publish(9, Duration::ZERO);
    let said = eventually("the reason is told", LIMIT, || problem(folder.path()).filter(|said| said.contains("no token from")));
    assert!(said.contains("/token"), "{said}");
    IS_AWAY.store(false, Ordering::SeqCst);

    let total = 180;
    for topic in [&topic, &once] {
        let consumed = kafka::consume(topic, 1, LIMIT, |consumed| consumed.len() >= total);
        let numbers: Vec<u64> = consumed.iter().map(|record| record.value["n"].as_u64().expect("a number")).collect();
        let expect: Vec<u64> = (0..total as u64).collect();
        assert_eq!(numbers, expect, "{topic}: all, in their order, and none twice");
    }
    let mut back = BTreeSet::new();
    while back.len() < total {
        let message = reader.receive(LIMIT).expect("connected");
        let message = message.unwrap_or_else(|| panic!("{} came back: {}", back.len(), broker.log()));
        back.insert(message.payload);
    }
    assert!(broker.stop().success());
    assert_eq!(account(folder.path(), "out"), [total as u64, 0, 0]);
    assert_eq!(account(folder.path(), "once"), [total as u64, 0, 0]);
}
