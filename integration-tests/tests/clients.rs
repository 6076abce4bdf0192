//! Clients of others, each in its own language and library, over every transport that it has.

use std::process::{Command, Stdio};
use std::sync::LazyLock;
use std::time::Duration;

use hookline_integration_tests::broker::Broker;
use hookline_integration_tests::certificates::Certificates;

struct Fixture {
    broker: Broker,
    certificates: Certificates,
}

static FIXTURE: LazyLock<Fixture> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(folder.path());
    let tls = certificates.toml();
    let bind = "bind = \"127.0.0.1:0\"";
    let config = format!(
        "[listeners.tls.default]\n{bind}\n[listeners.tls.default.tls]\n{tls}[listeners.ws.default]\n{bind}\n[listeners.wss.default]\n{bind}\n[listeners.wss.default.tls]\n{tls}"
    );
    Fixture { broker: Broker::start(folder.path(), &config).shared(folder), certificates }
});

fn url(scheme: &str) -> String {
    let listener = match scheme {
        "mqtt" => "tcp.default",
        "mqtts" => "tls.default",
        "ws" => "ws.default",
        _ => "wss.default",
    };
    format!("{scheme}://localhost:{}", FIXTURE.broker.address_of(listener).port())
}

/// Runs a program with arguments, which must end with 0.
fn run(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap_or_else(|error| panic!("{program} runs: {error}"));
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{}{}\n{}",
        output.status,
        text(&output.stdout),
        text(&output.stderr),
        FIXTURE.broker.log()
    );
    text(&output.stdout)
}

fn ca() -> &'static str {
    FIXTURE.certificates.ca.to_str().expect("a path in UTF-8")
}

/// The folder into which `setup test` has installed the clients.
fn installed(path: &str) -> String {
    let folder = std::env::var("HOOKLINE_TEST_CLIENTS").expect("HOOKLINE_TEST_CLIENTS is what \"setup test\" prints");
    format!("{folder}/{path}")
}

const SCHEMES: [&str; 4] = ["mqtt", "mqtts", "ws", "wss"];

#[test]
fn paho_for_python_over_every_transport() {
    let python = std::env::var("HOOKLINE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/roundtrip.py");
    for scheme in SCHEMES {
        for version in ["4", "5"] {
            run(&python, &[script, &url(scheme), version, ca()]);
        }
    }
}

#[test]
fn mqtt_js_over_every_transport() {
    for scheme in SCHEMES {
        for version in ["4", "5"] {
            run("node", &[&installed("node/roundtrip.mjs"), &url(scheme), version, ca()]);
        }
    }
}

#[test]
fn paho_for_go_over_every_transport() {
    for scheme in SCHEMES {
        let url = url(scheme).replace("mqtts:", "ssl:").replace("mqtt:", "tcp:");
        run(&installed("go/roundtrip"), &[&url, "4", ca()]);
    }
}

#[test]
fn paho_for_java_over_every_transport() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/java/Roundtrip.java");
    let jars = installed("java/jars/*");
    for scheme in SCHEMES {
        for version in ["4", "5"] {
            run("java", &["-cp", &jars, source, &url(scheme), version, ca()]);
        }
    }
}

#[test]
fn a_page_in_a_browser() {
    run("node", &[&installed("node/browser.mjs"), &url("ws").replace("localhost", "127.0.0.1")]);
}

#[test]
fn mosquitto_in_every_version_and_over_tls() {
    for (scheme, more) in [("mqtt", &[][..]), ("mqtts", &["--cafile", ca()][..])] {
        let port = url(scheme).rsplit(':').next().expect("a port").to_owned();
        for version in ["31", "311", "5"] {
            let topic = format!("m/{scheme}/{version}");
            let id = format!("sub-{scheme}-{version}");
            let mut sub = Command::new("mosquitto_sub");
            sub.args(["-h", "localhost", "-p", &port, "-V", version, "-t", &topic, "-q", "2", "-C", "3", "-W", "20", "-i", &id]).args(more);
            let sub = sub.stdout(Stdio::piped()).spawn().expect("mosquitto_sub runs");
            std::thread::sleep(Duration::from_millis(500));
            for qos in ["0", "1", "2"] {
                let fixed = ["-h", "localhost", "-p", &port, "-V", version, "-t", &topic, "-q", qos, "-m", qos];
                run("mosquitto_pub", &[&fixed[..], more].concat());
            }
            let output = sub.wait_with_output().expect("mosquitto_sub ends");
            assert_eq!(String::from_utf8_lossy(&output.stdout), "0\n1\n2\n", "version {version}");
        }
    }
}

#[test]
fn mosquitto_rr_gets_its_response() {
    let port = url("mqtt").rsplit(':').next().expect("a port").to_owned();
    let mut request = Command::new("mosquitto_rr");
    request.args(["-p", &port, "-t", "rr/ask", "-e", "rr/answer", "-m", "question", "-W", "20"]).stdout(Stdio::piped());
    let mut listener = FIXTURE.broker.connect(&hookline_mqtt::client::Options::new("rr").version(hookline_mqtt::Version::V5));
    listener.subscribe(&[("rr/ask", hookline_mqtt::QoS::AtLeastOnce)]).expect("subscribed");
    let request = request.spawn().expect("mosquitto_rr runs");
    let asked = listener.receive(Duration::from_secs(10)).expect("holds").expect("the request arrives");
    let answer_to = asked.properties.text(hookline_mqtt::PropertyId::ResponseTopic).expect("a response topic").to_owned();
    listener.publish(&answer_to, b"answer", hookline_mqtt::QoS::AtLeastOnce, false).expect("published");
    let output = request.wait_with_output().expect("mosquitto_rr ends");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "answer\n");
}

#[test]
fn rumqttc_over_tcp_and_tls() {
    // The library asks the process for the cryptography.
    let _installed_before = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    for scheme in ["mqtt", "mqtts"] {
        let port = url(scheme).rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port");
        runtime.block_on(rumqttc_v4(scheme, port));
        runtime.block_on(rumqttc_v5(scheme, port));
    }
}

macro_rules! rumqttc_roundtrip {
    ($name:ident, $version:literal, $($library:ident)::+) => {
        async fn $name(scheme: &str, port: u16) {
            use $($library)::+::mqttbytes::QoS;
            use $($library)::+::{AsyncClient, Event, MqttOptions};
            let mut options = MqttOptions::new(format!("rumqttc-{scheme}-{}", $version), "localhost", port);
            if scheme == "mqtts" {
                let ca = std::fs::read(ca()).expect("the authority");
                options.set_transport(rumqttc::Transport::tls(ca, None, None));
            }
            let (client, mut events) = AsyncClient::new(options, 10);
            let topic = format!("rumqttc/{scheme}/{}", $version);
            client.subscribe(format!("{topic}/#"), QoS::ExactlyOnce).await.expect("asked");
            for (name, qos) in [("0", QoS::AtMostOnce), ("1", QoS::AtLeastOnce), ("2", QoS::ExactlyOnce)] {
                client.publish(format!("{topic}/{name}"), qos, false, name).await.expect("asked");
            }
            let mut got = Vec::new();
            while got.len() < 3 {
                let event = tokio::time::timeout(Duration::from_secs(10), events.poll()).await.expect("in time").expect("holds");
                if let Event::Incoming($($library)::+::Incoming::Publish(message)) = event {
                    got.push(String::from_utf8_lossy(&message.payload).into_owned());
                }
            }
            assert_eq!(got, ["0", "1", "2"]);
        }
    };
}

rumqttc_roundtrip!(rumqttc_v4, "4", rumqttc);
rumqttc_roundtrip!(rumqttc_v5, "5", rumqttc::v5);
