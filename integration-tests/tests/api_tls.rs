//! The API and the dashboard over HTTPS: certificates, client certificates, and new ones without a restart.

use std::process::Command;
use std::time::Duration;

use hookline_integration_tests::broker::{Broker, run};
use hookline_integration_tests::certificates::Certificates;
use hookline_integration_tests::eventually;

/// By curl: the status, the body, and whether there was an answer at all.
fn curl(broker: &Broker, path: &str, arguments: &[&str]) -> Option<(String, String)> {
    let port = broker.address_of("api").port();
    let output = Command::new("curl")
        .args(["-sS", "--max-time", "20", "-w", "\n%{http_code}", "-u", "chief:long enough"])
        .args(arguments)
        .arg(format!("https://localhost:{port}{path}"))
        .output()
        .expect("curl runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let (body, status) = told.rsplit_once('\n')?;
    output.status.success().then(|| (status.to_owned(), body.to_owned()))
}

fn config(certificates: &Certificates, more: &str) -> String {
    format!(
        "[api]\nbind = \"127.0.0.1:0\"\nkeys = [{{ key = \"chief\", secret = \"long enough\", role = \"administrator\" }}]\n[api.tls]\n{}{more}",
        certificates.toml()
    )
}

#[test]
fn the_api_and_the_dashboard_speak_https() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(folder.path());
    let broker = Broker::start(folder.path(), &config(&certificates, ""));
    let ca = certificates.ca.to_str().expect("UTF-8").to_owned();
    let (status, body) = curl(&broker, "/api/v5/nodes", &["--cacert", &ca]).expect("answered");
    assert!(status == "200" && body.contains("running"), "{status} {body}");
    let (status, body) = curl(&broker, "/", &["--cacert", &ca]).expect("answered");
    assert!(status == "200" && body.contains("<title>"), "{status} {body}");
    assert!(curl(&broker, "/api/v5/nodes", &[]).is_none(), "the certificate is of nobody that curl knows");
    // Who does not speak TLS, or nothing, holds up nobody.
    let silent: Vec<_> = (0..20).map(|_| std::net::TcpStream::connect(broker.address_of("api")).expect("connects")).collect();
    let plain =
        Command::new("curl").args(["-s", "--max-time", "10", &format!("http://{}/", broker.address_of("api"))]).output().expect("curl");
    assert!(!plain.status.success());
    assert_eq!(curl(&broker, "/api/v5/nodes", &["--cacert", &ca]).expect("answered").0, "200");
    drop(silent);
    // The commands on the same machine go by their socket, as ever.
    assert_eq!(run(&["ctl", "clients", "list", "--data", folder.path().join("data").to_str().expect("UTF-8")]).0, Some(0));
    // Certificates of another authority are used before long, without a restart; broken ones are not.
    let other = folder.path().join("other");
    std::fs::create_dir(&other).expect("made");
    let new = Certificates::make(&other);
    std::fs::copy(&new.server_key, &certificates.server_key).expect("copied");
    std::fs::copy(&new.server, &certificates.server).expect("copied");
    let new_ca = new.ca.to_str().expect("UTF-8").to_owned();
    eventually("the new certificate is in use", Duration::from_secs(30), || curl(&broker, "/api/v5/nodes", &["--cacert", &new_ca]));
    assert!(curl(&broker, "/api/v5/nodes", &["--cacert", &ca]).is_none());
    std::fs::write(&certificates.server, "nonsense").expect("written");
    eventually("that is said", Duration::from_secs(30), || broker.log().contains("cannot be used").then_some(()));
    assert_eq!(curl(&broker, "/api/v5/nodes", &["--cacert", &new_ca]).expect("answered").0, "200");
    assert!(broker.stop().success());
}

#[test]
fn clients_must_show_a_certificate_where_that_is_wanted() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(folder.path());
    let more = format!("client_ca = \"{}\"\nclient_auth = \"required\"\n", certificates.ca.display());
    let broker = Broker::start(folder.path(), &config(&certificates, &more));
    let text = |path: &std::path::Path| path.to_str().expect("UTF-8").to_owned();
    let (ca, cert, key) = (text(&certificates.ca), text(&certificates.client), text(&certificates.client_key));
    assert!(curl(&broker, "/api/v5/nodes", &["--cacert", &ca]).is_none());
    let shown = ["--cacert", &ca, "--cert", &cert, "--key", &key];
    assert_eq!(curl(&broker, "/api/v5/nodes", &shown).expect("answered").0, "200");
    let wrong = [&shown[..], &["-u", "chief:something else"]].concat();
    assert_eq!(curl(&broker, "/api/v5/nodes", &wrong).expect("answered").0, "401", "a certificate is no login");
    assert!(broker.stop().success());
    // What is wrong is told with its place, before anything starts.
    let file = folder.path().join("wrong.toml");
    std::fs::write(&file, config(&certificates, "").replace("server.key", "client.key")).expect("written");
    let (code, _, error) = run(&["check", "--config", file.to_str().expect("UTF-8")]);
    assert!(code != Some(0) && error.contains("api.tls.key: "), "{code:?} {error}");
}
