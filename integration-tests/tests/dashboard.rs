//! The dashboard in a real browser: `dashboard/tests/walk.mjs` goes through every page of a broker with live traffic.

use std::path::Path;
use std::process::Command;

use hookline_integration_tests::broker::Broker;

/// A request by curl: the head of the answer.
fn head(url: &str, arguments: &[&str]) -> String {
    let output = Command::new("curl").args(["-sS", "-D", "-", "-o", "/dev/null"]).args(arguments).arg(url).output().expect("curl runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).to_lowercase()
}

#[test]
fn every_page_shows_what_is_there_and_does_what_it_says() {
    let dashboard = Path::new(env!("CARGO_MANIFEST_DIR")).join("../dashboard");
    let config = std::fs::read_to_string(dashboard.join("tests/broker.toml")).expect("the configuration of the walk");
    let folder = tempfile::tempdir().expect("a folder");
    let broker = Broker::start(folder.path(), &config);
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
        .env("HOOKLINE_WS", format!("ws://{}/mqtt", broker.address_of("ws.default")))
        .output()
        .expect("node runs; \"make build\" installs what the walk needs");
    let told = String::from_utf8_lossy(&walk.stdout);
    assert!(walk.status.success(), "{told}{}", String::from_utf8_lossy(&walk.stderr));
    println!("{told}");
}
