//! OpenTelemetry: a message is followed from its publisher through rules into Kafka and a webhook; metrics and the log go the same way;
//! a collector that is away holds nothing up.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use hookline_integration_tests::api::ask;
use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::certificates::Certificates;
use hookline_integration_tests::collector::{Collector, Span, attribute};
use hookline_integration_tests::webhook::{Reply, Webhook};
use hookline_integration_tests::{eventually, kafka, publish_all, services, unique};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{Properties, QoS, ReasonCode, Version};

const SOON: Duration = Duration::from_secs(30);
const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const DEVICE: &str = "b7ad6b7169203331";

fn v5(client_id: &str) -> Options {
    Options::new(client_id).version(Version::V5)
}

fn ok() -> Reply {
    Reply::Answer(200, "", String::new())
}

/// User properties with a trace context.
fn context(flags: &str) -> Properties {
    let mut properties = Properties::default();
    properties.push_user("site", "a");
    properties.push_user("traceparent", &format!("00-{TRACE}-{DEVICE}-{flags}"));
    properties.push_user("tracestate", "vendor=1");
    properties
}

fn publish(client: &mut Client, topic: &str, payload: &str, properties: &Properties) {
    let reason = client.publish_with(topic, payload.as_bytes(), QoS::AtLeastOnce, false, properties).expect("answered");
    assert!(!reason.is_error(), "{reason:?}");
}

fn find<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    spans.iter().find(|span| span.name == name).unwrap_or_else(|| panic!("there is no span {name}: {spans:#?}"))
}

/// The spans of a trace, once there are so many.
fn trace(collector: &Collector, trace: &str, count: usize) -> Vec<Span> {
    eventually("the spans are there", SOON, || {
        let spans: Vec<Span> = collector.spans().into_iter().filter(|span| span.trace == trace).collect();
        (spans.len() >= count).then_some(spans)
    })
}

fn webhook_config(collector: &Collector, webhook: &Webhook, more: &str) -> String {
    format!(
        r#"
        [telemetry]
        endpoint = "{}"
        metrics_interval_secs = 1
        {more}
        [connectors.hook]
        type = "http"
        url = "http://{}/in"
        [actions.hook]
        connector = "hook"
        delivery = {{ retry_initial_ms = 20, retry_max_ms = 200 }}
        [rules.hook]
        sql = 'SELECT payload.n AS n FROM "t/#" WHERE payload.n > 0'
        actions = ["hook"]
        "#,
        collector.endpoint(),
        webhook.address()
    )
}

#[test]
fn a_message_is_followed_from_its_publisher_through_rules_into_kafka_and_a_webhook() {
    let _stay = services::stay();
    let topic = unique("traced");
    kafka::create_topic(&topic, 1);
    let collector = Collector::start();
    let webhook = Webhook::start(|_| ok());
    let folder = tempfile::tempdir().expect("a folder");
    let config = webhook_config(&collector, &webhook, "resource = { \"deployment.environment.name\" = \"test\" }")
        + &format!(
            r#"
            [connectors.kafka]
            type = "kafka"
            bootstrap_hosts = "{}"
            [actions.kafka]
            connector = "kafka"
            [actions.kafka.parameters]
            topic = "{topic}"
            headers_from = "${{properties}}"
            [rules.kafka]
            sql = '''SELECT payload.n AS n, clientid, timestamp, pub_props.'User-Property' AS properties FROM "t/#"'''
            actions = ["kafka"]
            [rules.again]
            sql = 'SELECT payload.n AS n FROM "t/#"'
            actions = [{{ function = "republish", topic = "again/1", payload = "${{n}}", qos = 1 }}]
            [rules.broken]
            sql = '''SELECT jq('.n | error', payload) AS x FROM "t/#"'''
            actions = []
            "#,
            kafka::hosts()
        );
    let broker = Broker::start(folder.path(), &config);
    let mut subscriber = broker.connect(&v5("subscriber"));
    subscriber.subscribe(&[("t/#", QoS::AtLeastOnce)]).expect("subscribed");
    let mut client = broker.connect(&v5("device-7"));
    publish(&mut client, "t/1", r#"{"n": 1}"#, &context("01"));
    // One that its publisher does not trace, and one that has no context: the ratio is 0.
    publish(&mut client, "t/1", r#"{"n": 2}"#, &context("00"));
    publish(&mut client, "t/1", r#"{"n": 3}"#, &Properties::default());

    // publish, three rules that select, one that fails, two deliveries, the publish of what was republished.
    let spans = trace(&collector, TRACE, 8);
    let published = spans.iter().find(|span| span.name == "publish" && span.parent == DEVICE).expect("the publisher's span is above it");
    let expect = [
        ("messaging.system", "mqtt"),
        ("messaging.operation.name", "publish"),
        ("messaging.destination.name", "t/1"),
        ("messaging.client.id", "device-7"),
        ("messaging.message.body.size", "8"),
        ("hookline.qos", "1"),
    ];
    for (key, value) in expect {
        assert_eq!(published.attribute(key), value, "{key}");
    }
    assert_eq!((published.kind, published.json["traceState"].as_str(), published.has_failed()), (2, Some("vendor=1"), false));
    for rule in ["hook", "kafka"] {
        let span = find(&spans, &format!("rule {rule}"));
        assert_eq!((&span.parent, span.attribute("hookline.rule").as_str()), (&published.id, rule));
        assert_eq!((span.attribute("hookline.rule.result"), span.attribute("hookline.rule.rows")), ("passed".into(), "1".into()));
        let delivery = find(&spans, &format!("deliver {rule}"));
        assert_eq!(delivery.parent, span.id);
        let told = ["hookline.connector", "hookline.delivery.outcome", "hookline.delivery.attempts"].map(|key| delivery.attribute(key));
        assert_eq!(told, [rule, "delivered", "1"].map(str::to_owned));
    }
    let broken = find(&spans, "rule broken");
    assert!(broken.has_failed() && broken.parent == published.id, "{broken:?}");
    let again = find(&spans, "rule again");
    let republished = spans.iter().find(|span| span.name == "publish" && span.parent == again.id).expect("the trace goes on");
    assert_eq!(republished.attribute("messaging.destination.name"), "again/1");

    // What goes out has the span of the delivery as its parent, in place of what came in.
    let records = kafka::consume(&topic, 1, SOON, |consumed| consumed.len() >= 3);
    let header = |n: u64, name: &str| {
        let record = records.iter().find(|record| record.value["n"] == n).expect("it is there");
        record.headers.iter().filter(|(other, _)| other == name).map(|(_, value)| value.clone()).collect::<Vec<_>>()
    };
    let delivery = find(&spans, "deliver kafka");
    assert_eq!(header(1, "traceparent"), [format!("00-{TRACE}-{}-01", delivery.id)]);
    assert_eq!((header(1, "tracestate"), header(1, "site")), (vec!["vendor=1".to_owned()], vec!["a".to_owned()]));
    let id = records.iter().find(|record| record.value["n"] == 1).map(|record| record.hookline_id.clone());
    assert_eq!(Some(delivery.attribute("hookline.id")), id);
    assert_eq!(header(2, "traceparent"), [format!("00-{TRACE}-{DEVICE}-00")], "what nobody traces goes on as the rule says");
    assert_eq!(header(3, "traceparent"), Vec::<String>::new());
    let requests = eventually("the webhook has them", SOON, || Some(webhook.requests()).filter(|requests| requests.len() >= 3));
    let sent = |n: u64| requests.iter().find(|request| request.json()["n"] == n).expect("it is there").header("traceparent").to_owned();
    let parents = [1, 2, 3].map(sent);
    assert_eq!(parents, [format!("00-{TRACE}-{}-01", find(&spans, "deliver hook").id), String::new(), String::new()]);

    // A subscriber gets what the publisher said.
    let received = subscriber.receive(SOON).expect("connected").expect("received");
    assert_eq!(received.properties, context("01"));

    // The others leave no trace, and the stop sends what waits.
    assert!(broker.stop().success());
    assert!(collector.spans().iter().all(|span| span.trace == TRACE) && collector.spans().len() == 8, "{:#?}", collector.spans());
    let resource = collector.resource();
    assert_eq!(attribute(&resource, "service.name"), "hookline");
    assert_eq!(attribute(&resource, "service.instance.id"), "hookline@127.0.0.1");
    assert_eq!(attribute(&resource, "deployment.environment.name"), "test");
    assert!(!attribute(&resource, "service.version").is_empty());
    assert!(collector.logs().iter().any(|record| record["body"]["stringValue"] == "stopped"), "the last word of the log is there");
}

#[test]
fn metrics_and_the_log_arrive_as_they_are_elsewhere() {
    let collector = Collector::start();
    let webhook = Webhook::start(|_| Reply::Answer(400, "", "not this".into()));
    let folder = tempfile::tempdir().expect("a folder");
    let more = "[api]\nbind = \"127.0.0.1:0\"\n";
    let broker = Broker::start(folder.path(), &webhook_config(&collector, &webhook, more));
    let mut client = broker.connect(&v5("device"));
    publish(&mut client, "t/1", r#"{"n": 1}"#, &context("01"));
    let spans = trace(&collector, TRACE, 3);
    let delivery = find(&spans, "deliver hook");
    assert!(delivery.has_failed() && delivery.attribute("hookline.delivery.outcome") == "dead_lettered", "{delivery:?}");

    // The names of a scrape, as far as they have samples.
    let scraped = ask(&broker, "GET", "/metrics", "", "").body;
    let samples = scraped.lines().filter(|line| !line.starts_with('#'));
    let names: BTreeSet<&str> = samples.filter_map(|line| line.split(['{', ' ']).next()).filter(|name| !name.is_empty()).collect();
    assert!(names.contains("hookline_action_dead_lettered_total") && names.contains("hookline_uptime_seconds"), "{names:?}");
    let name = |metric: &serde_json::Value| metric["name"].as_str().unwrap_or_default().to_owned();
    eventually("all of them arrive", SOON, || {
        let sent: BTreeSet<String> = collector.metrics().iter().map(name).collect();
        names.iter().all(|name| sent.contains(*name)).then_some(())
    });
    let newest = |wanted: &str| collector.metrics().into_iter().rev().find(|metric| name(metric) == wanted).expect("it is there");
    eventually("the dead letter is counted", SOON, || {
        let metric = newest("hookline_action_dead_lettered_total");
        let point = &metric["sum"]["dataPoints"][0];
        assert_eq!((attribute(&point["attributes"], "id"), metric["sum"]["isMonotonic"].as_bool()), ("hook".into(), Some(true)));
        (point["asInt"] == "1").then_some(())
    });
    assert_eq!(newest("hookline_store_used_bytes")["unit"], "By");
    eventually("what was sent is counted", SOON, || {
        let points = newest("hookline_telemetry_sent_total")["sum"]["dataPoints"].clone();
        let of_traces = points.as_array()?.iter().find(|point| attribute(&point["attributes"], "signal") == "traces")?;
        (of_traces["asInt"] == "3").then_some(())
    });

    let word = "record was rejected; it is in the dead-letter queue";
    let record = eventually("the log arrives", SOON, || collector.logs().into_iter().find(|record| record["body"]["stringValue"] == word));
    assert_eq!((record["severityText"].as_str(), record["severityNumber"].as_i64()), (Some("ERROR"), Some(17)));
    assert_eq!((attribute(&record["attributes"], "action"), attribute(&record["attributes"], "sequence")), ("hook".into(), "0".into()));
    assert!(broker.log().contains(word), "standard error has it, too");
}

#[test]
fn a_collector_that_is_away_holds_nothing_up_and_is_served_again() {
    const MESSAGES: usize = 20_000;
    let mut collector = Collector::start();
    let webhook = Webhook::start(|_| ok());
    let folder = tempfile::tempdir().expect("a folder");
    let more = "sample_ratio = 1.0\n[api]\nbind = \"127.0.0.1:0\"\n";
    let broker = Broker::start(folder.path(), &webhook_config(&collector, &webhook, more));
    let mut client = broker.connect(&v5("device"));
    publish(&mut client, "other", "first", &Properties::default());
    eventually("the first span", SOON, || (!collector.spans().is_empty()).then_some(()));
    collector.pause();
    let began = Instant::now();
    publish_all(&mut client, "other", (0..MESSAGES).map(|n| n.to_string()));
    assert!(began.elapsed() < Duration::from_secs(20), "{:?}", began.elapsed());
    let dropped = |signal: &str, reason: &str| {
        let sample = format!("hookline_telemetry_dropped_total{{signal=\"{signal}\",reason=\"{reason}\"}} ");
        let text = ask(&broker, "GET", "/metrics", "", "").body;
        text.lines().find_map(|line| line.strip_prefix(&sample)?.parse::<usize>().ok()).expect("it is counted")
    };
    let lost = dropped("traces", "queue_full");
    assert!(lost > 0 && lost < MESSAGES, "{lost}");
    let away = "the collector does not take telemetry; will try again";
    let about_traces = |log: &str, word: &str| log.lines().filter(|line| line.contains(word) && line.contains("/v1/traces")).count();
    eventually("the log says so", SOON, || (about_traces(&broker.log(), away) == 1).then_some(()));
    collector.resume();
    eventually("the log says so", SOON, || (about_traces(&broker.log(), "the collector takes telemetry again") == 1).then_some(()));
    publish(&mut client, "other", "last", &context("01"));
    trace(&collector, TRACE, 1);
    assert_eq!(about_traces(&broker.log(), away), 1, "it is told once");
    // The account: each publish has one span.
    eventually("all that waited is sent", SOON, || {
        let lost = dropped("traces", "queue_full") + dropped("traces", "unreachable");
        (collector.spans().len() + lost == MESSAGES + 2).then_some(())
    });
    assert!(collector.logs().iter().all(|record| !attribute(&record["attributes"], "target").starts_with("hookline::telemetry")));
    // The end does not wait for a collector that is not there.
    collector.pause();
    publish(&mut client, "other", "late", &context("01"));
    let began = Instant::now();
    assert!(broker.stop().success());
    assert!(began.elapsed() < Duration::from_secs(8), "{:?}", began.elapsed());
}

#[test]
fn a_delivery_after_a_restart_belongs_to_the_trace_of_its_message() {
    let collector = Collector::start();
    let mut webhook = Webhook::start(|_| ok());
    let folder = tempfile::tempdir().expect("a folder");
    let config = webhook_config(&collector, &webhook, "");
    webhook.pause();
    let broker = Broker::start(folder.path(), &config);
    let mut client = broker.connect(&v5("device"));
    publish(&mut client, "t/1", r#"{"n": 1}"#, &context("01"));
    let before = trace(&collector, TRACE, 2);
    broker.kill();
    webhook.resume();
    let broker = Broker::start(folder.path(), &config);
    let spans = trace(&collector, TRACE, 3);
    let delivery = find(&spans, "deliver hook");
    assert_eq!((&delivery.parent, delivery.attribute("hookline.delivery.outcome").as_str()), (&find(&before, "rule hook").id, "delivered"));
    let request = eventually("it is delivered", SOON, || webhook.requests().into_iter().next());
    assert_eq!(request.header("traceparent"), format!("00-{TRACE}-{}-01", delivery.id));
    assert!(broker.stop().success());
}

#[test]
fn what_is_refused_behind_the_rules_has_a_span_that_says_so() {
    let collector = Collector::start();
    let mut webhook = Webhook::start(|_| ok());
    webhook.pause();
    let folder = tempfile::tempdir().expect("a folder");
    let bound = "connector = \"hook\"\n        queue = { records_max = 1, when_full = \"refuse\" }";
    let broker = Broker::start(folder.path(), &webhook_config(&collector, &webhook, "").replace("connector = \"hook\"", bound));
    let mut client = broker.connect(&v5("device"));
    publish(&mut client, "t/1", r#"{"n": 1}"#, &Properties::default());
    let reason = client.publish_with("t/1", br#"{"n": 2}"#, QoS::AtLeastOnce, false, &context("01")).expect("answered");
    assert_eq!(reason, ReasonCode::QuotaExceeded);
    let spans = trace(&collector, TRACE, 3);
    let drop = find(&spans, "drop");
    assert_eq!((&drop.parent, drop.attribute("hookline.drop.reason").as_str()), (&find(&spans, "publish").id, "queue_full"));
    assert!(drop.has_failed() && broker.stop().success());
}

#[test]
fn it_goes_over_tls_with_a_certificate_and_a_login_from_a_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(folder.path());
    let receiver = Webhook::start_tls(&certificates, |_| ok());
    let Certificates { ca, client, client_key, .. } = &certificates;
    let token = folder.path().join("login");
    std::fs::write(&token, "Bearer s3cret\n").expect("written");
    let config = format!(
        r#"
        [telemetry]
        endpoint = "https://localhost:{}/otlp"
        headers = {{ Authorization = "file://{}" }}
        tls = {{ ca = "{}", cert = "{}", key = "{}" }}
        "#,
        receiver.address().port(),
        token.display(),
        ca.display(),
        client.display(),
        client_key.display()
    );
    let broker = Broker::start(folder.path(), &config);
    let took = |wanted: &str| receiver.requests().into_iter().find(|request| request.target == wanted);
    let of_log = eventually("the log arrives", SOON, || took("/otlp/v1/logs"));
    let heads = ["authorization", "content-type", "content-encoding"].map(|name| of_log.header(name).to_owned());
    assert_eq!(heads, ["Bearer s3cret", "application/x-protobuf", "gzip"].map(str::to_owned));
    eventually("the metrics arrive", SOON, || took("/otlp/v1/metrics"));
    assert!(broker.stop().success() && !broker_says(folder.path(), "s3cret"));
}

/// Whether that is in the log.
fn broker_says(folder: &std::path::Path, word: &str) -> bool {
    std::fs::read_to_string(folder.join("log")).expect("there is a log").contains(word)
}

#[test]
fn it_is_turned_on_while_the_broker_runs_and_doctor_asks_the_collector() {
    let collector = Collector::start();
    let webhook = Webhook::start(|_| ok());
    let folder = tempfile::tempdir().expect("a folder");
    let token = folder.path().join("token");
    std::fs::write(&token, "Bearer s3cret\n").expect("written");
    let config = webhook_config(&collector, &webhook, &format!("headers = {{ Authorization = \"file://{}\" }}", token.display()));
    let off = config.replace("endpoint =", "# endpoint =");
    let broker = Broker::start(folder.path(), &off);
    let mut client = broker.connect(&v5("device"));
    publish(&mut client, "t/1", r#"{"n": 1}"#, &context("01"));
    let file = folder.path().join("hookline.toml");
    std::fs::write(&file, &config).expect("written");
    let data = folder.path().join("data");
    let [file, data] = [&file, &data].map(|path| path.to_str().expect("UTF-8"));
    let (code, out, error) = run(&["ctl", "reload", "--data", data]);
    assert_eq!(code, Some(0), "{out}{error}");
    publish(&mut client, "t/1", r#"{"n": 2}"#, &context("01"));
    let spans = trace(&collector, TRACE, 3);
    let names: BTreeSet<&str> = spans.iter().map(|span| span.name.as_str()).collect();
    assert_eq!((spans.len(), names), (3, BTreeSet::from(["publish", "rule hook", "deliver hook"])));

    let doctor = || {
        let (_, out, error) = run(&["doctor", "-o", "json", "--config", file, "--data", data]);
        let told: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{problem}: {out}{error}"));
        let findings = told["findings"].as_array().expect("a list").clone();
        findings.into_iter().find(|finding| finding["check"] == "telemetry").expect("it is looked at")
    };
    assert_eq!(doctor()["verdict"], "ok");
    drop(collector);
    let finding = doctor();
    assert!(
        finding["verdict"] == "problem" && finding["advice"].as_str().is_some_and(|advice| advice.contains("telemetry.endpoint")),
        "{finding}"
    );

    let (code, _, error) = run(&["check", "--config", file, "--set", "telemetry.sample_ratio=2", "--set", "telemetry.endpoint=nowhere"]);
    assert!(
        code == Some(2) && error.contains("telemetry.sample_ratio: must be 0 to 1") && error.contains("telemetry.endpoint: "),
        "{error}"
    );
    assert!(broker.stop().success());
}
