//! `hookline bench`: every task on a broker that runs, and what it says where it cannot go on.

use hookline_integration_tests::broker::{Broker, run};
use serde_json::Value;

fn bench(broker: &Broker, task: &[&str]) -> Value {
    let (port, pid) = (broker.address().port().to_string(), broker.pid().to_string());
    let (code, out, error) = run(&[&["bench"], task, &["-p", &port, "--pid", &pid, "-o", "json"]].concat());
    assert_eq!(code, Some(0), "{task:?}: {out}{error}");
    serde_json::from_str(&out).unwrap_or_else(|problem| panic!("{task:?}: {problem}: {out}"))
}

fn is_positive(figures: &Value, name: &str) {
    assert!(figures[name].as_f64().is_some_and(|figure| figure > 0.0), "{name}: {figures}");
}

#[test]
fn every_task_has_its_figures() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[mqtt]\ndurable_queue_max = 100000000\ndurable_queue_bytes_max = 10000000000\n");
    let traffic = |more: &[&str]| bench(&broker, &[&["traffic", "--seconds", "1"], more].concat());
    for (pattern, publishers, subscribers) in [("pairs", "4", "4"), ("fan-out", "1", "20"), ("fan-in", "4", "1"), ("shared", "4", "2")] {
        for qos in ["0", "1", "2"] {
            // More than that at QoS 2 would be more than a client may have on its way.
            let figures =
                traffic(&["--pattern", pattern, "--publishers", publishers, "--subscribers", subscribers, "-q", qos, "--window", "16"]);
            is_positive(&figures, "messages");
            is_positive(&figures, "cpu_us_each");
            assert!(figures.get("latency_us_p50").is_none(), "{figures}");
        }
    }
    is_positive(&traffic(&["--pattern", "nobody"]), "messages_per_second");
    let open = traffic(&["--rate", "1000"]);
    is_positive(&open, "latency_us_p99_9");
    let rate = open["messages_per_second"].as_f64().expect("a rate");
    assert!((500.0..1500.0).contains(&rate), "{open}");

    is_positive(&bench(&broker, &["churn", "--sessions", "3000"]), "cpu_us_each");
    let retained = bench(&broker, &["retained", "--topics", "300", "--subscribers", "2"]);
    assert_eq!(retained["messages"], 600, "{retained}");
    is_positive(&bench(&broker, &["offline", "--seconds", "1"]), "delivered_per_second");

    // A broker that has had load has memory to use again, and connections may then cost it none.
    let folder = tempfile::tempdir().expect("a folder");
    let fresh = Broker::start(folder.path(), "");
    let idle = bench(&fresh, &["idle", "--connections", "3000"]);
    is_positive(&idle, "memory_bytes_each");
    // With huge pages it is above 3000.
    assert!(idle["memory_bytes_each"].as_f64().is_some_and(|bytes| bytes < 2500.0), "{idle}");
}

#[test]
fn what_cannot_be_measured_is_said() {
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), "[mqtt]\nqos_max = 0\n");
    let port = broker.address().port().to_string();
    let refused = |task: &[&str], what: &str| {
        let (code, _, error) = run(&[&["bench"], task, &["-p", &port]].concat());
        assert!(code != Some(0) && error.contains(what), "{task:?}: {error}");
    };
    refused(&["traffic", "--pattern", "pairs", "--publishers", "2", "--subscribers", "3"], "as many subscribers as publishers");
    refused(&["traffic", "--pattern", "nobody", "-q", "0"], "QoS 0 has none");
    // The broker closes on who publishes above its maximum.
    refused(&["traffic", "-q", "1", "--seconds", "1"], "broker");
    let full = tempfile::tempdir().expect("a folder");
    let small = Broker::start(full.path(), "[mqtt]\ndurable_queue_max = 100\n");
    let (code, _, error) = run(&["bench", "offline", "--seconds", "1", "-p", &small.address().port().to_string()]);
    assert!(code != Some(0) && error.contains("mqtt.durable_queue_max"), "{error}");
    let (code, _, error) = run(&["bench", "traffic", "-p", "1"]);
    assert!(code != Some(0) && error.contains("cannot connect to 127.0.0.1:1"), "{error}");
}
