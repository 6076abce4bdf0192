//! The dashboard in a real browser: `dashboard/tests/walk.mjs` goes through every page of a broker with live traffic.

use std::path::Path;
use std::process::Command;

use hookline_integration_tests::broker::Broker;
use hookline_mqtt::QoS;
use hookline_mqtt::client::Options;

/// A request by curl: the head of the answer.
fn head(url: &str, arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "-D", "-", "-o", "/dev/null"]).args(arguments).arg(url).output().expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).to_lowercase()
}

/// Damages what the database begins with.
fn damage(store: &Path) {
    let files = std::fs::read_dir(store).expect("a store").map(|entry| entry.expect("read").path());
    let manifest = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("MANIFEST-")));
    manifest.for_each(|path| std::fs::write(path, "damaged").expect("written"));
}

#[test]
fn every_page_shows_what_is_there_and_does_what_it_says() {
    let dashboard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard");
    let config = std::fs::read_to_string(dashboard.join("tests/broker.toml")).expect("the configuration of the walk");
    // Another hall, from which something comes in.
    let hall_folder = tempfile::tempdir().expect("a folder");
    let hall = Broker::start(hall_folder.path(), "");
    let source = "[sources.hall]\nconnector = \"hall\"\nparameters = { topics = [\"hall/#\"] }";
    let config = format!("{config}\n[connectors.hall]\ntype = \"mqtt\"\nserver = \"{}\"\n{source}\n", hall.address());
    // A store that is mended at the start raises an alarm, which stays.
    let folder = tempfile::tempdir().expect("a folder");
    assert!(Broker::start(folder.path(), &config).stop().success());
    damage(&folder.path().join("data/store"));
    let broker = Broker::start(folder.path(), &config);
    hall.connect(&Options::new("clock")).publish("hall/clock", b"12:00", QoS::AtLeastOnce, false).expect("taken");
    let page = format!("http://{}/", broker.address_of("api"));
    // What everybody may have, as the browser wants it.
    let plain = head(&page, &[]);
    assert!(plain.starts_with("http/1.1 200") && plain.contains("content-security-policy: default-src 'self'"), "{plain}");
    assert!(plain.contains("cache-control: no-cache") && !plain.contains("content-encoding"), "{plain}");
    assert!(head(&page, &["-H", "Accept-Encoding: gzip"]).contains("content-encoding: gzip"));
    assert!(head(&format!("{page}assets/other.js"), &[]).starts_with("http/1.1 404"));
    assert!(head(&format!("{page}api/v5/other"), &["-u", "keeper:keeps everything"]).starts_with("http/1.1 404"));
    let walk = Command::new("node")
        .arg(dashboard.join("tests/walk.mjs"))
        .env("HOOKLINE_DASHBOARD", &page)
        .envs([("HOOKLINE_ALARM", "store_damaged"), ("HOOKLINE_SOURCE", "hall")])
        .env("HOOKLINE_WS", format!("ws://{}/mqtt", broker.address_of("ws.default")))
        .output()
        .expect("node runs; \"make build\" installs what the walk needs");
    let told = String::from_utf8_lossy(&walk.stdout);
    assert!(walk.status.success(), "{told}{}", String::from_utf8_lossy(&walk.stderr));
    println!("{told}");
}
