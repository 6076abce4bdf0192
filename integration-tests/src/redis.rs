//! Redis, asked by its own command-line client.

use std::process::Command;
use std::time::Duration;

use crate::eventually;

/// How long a server that was started again may take.
const BACK: Duration = Duration::from_secs(60);

fn address(variable: &str) -> String {
    let missing = format!("{variable} names no Redis; run: eval \"$(integration-tests/services env)\"");
    std::env::var(variable).expect(&missing)
}

/// The server's address, as `integration-tests/services env` tells it.
pub fn server() -> String {
    address("HOOKLINE_TEST_REDIS")
}

/// A node of the cluster.
pub fn cluster() -> String {
    address("HOOKLINE_TEST_REDIS_CLUSTER")
}

/// Two sentinels, which watch a master of the name `hookline`.
pub fn sentinels() -> String {
    address("HOOKLINE_TEST_REDIS_SENTINEL")
}

/// The lines of what a command answers on the master that the sentinels have chosen.
pub fn master_lines(arguments: &[&str]) -> Vec<String> {
    let sentinels = sentinels();
    let sentinel = sentinels.split(',').next().expect("one");
    eventually("a master answers", BACK, || {
        let master = text_lines(&run(sentinel, &[], &["SENTINEL", "GET-MASTER-ADDR-BY-NAME", "hookline"]));
        // While they have not seen that it is gone, they name the old one.
        try_once(&master.join(":"), &[], arguments).map(|answer| text_lines(&answer))
    })
}

/// What a command answers, as bytes.
pub fn ask(arguments: &[&str]) -> Vec<u8> {
    run(&server(), &[], arguments)
}

/// The lines of what a command answers.
pub fn lines(arguments: &[&str]) -> Vec<String> {
    text_lines(&ask(arguments))
}

/// The lines of what a command answers in a numbered database.
pub fn lines_in(database: u16, arguments: &[&str]) -> Vec<String> {
    text_lines(&run(&server(), &["-n", &database.to_string()], arguments))
}

/// The lines of what a command answers in the cluster.
pub fn cluster_lines(arguments: &[&str]) -> Vec<String> {
    text_lines(&run(&cluster(), &["-c"], arguments))
}

fn text_lines(bytes: &[u8]) -> Vec<String> {
    String::from_utf8_lossy(bytes).lines().map(str::to_owned).collect()
}

fn run(server: &str, options: &[&str], arguments: &[&str]) -> Vec<u8> {
    eventually("redis answers", BACK, || try_once(server, options, arguments))
}

/// What a command answers; `None`: the server is away.
fn try_once(server: &str, options: &[&str], arguments: &[&str]) -> Option<Vec<u8>> {
    let (host, port) = server.rsplit_once(':').expect("host:port");
    let mut command = Command::new("redis-cli");
    let output = command.args(["-e", "--raw", "-h", host, "-p", port]).args(options).args(arguments).output().expect("redis-cli runs");
    let told = String::from_utf8_lossy(&[&output.stdout[..], &output.stderr[..]].concat()).into_owned();
    let is_back = !["Could not connect", "LOADING", "Server closed the connection"].iter().any(|away| told.contains(away));
    assert!(output.status.success() || !is_back, "{arguments:?}: {told}");
    let mut answer = output.stdout;
    if answer.last() == Some(&b'\n') {
        answer.pop();
    }
    is_back.then_some(answer)
}
