//! The broker, started as its user would: the binary, a configuration file, a data folder.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use hookline_mqtt::client::{Client, Options};

use crate::eventually;

/// How long a start may take.
const START: Duration = Duration::from_secs(30);

/// A running broker. It is killed when the test ends.
#[derive(Debug)]
pub struct Broker {
    child: Child,
    /// Of each listener, by names such as `tcp.default`.
    addresses: BTreeMap<String, SocketAddr>,
    folder: PathBuf,
}

/// The binary of this build.
pub fn binary() -> PathBuf {
    // The test's own binary is in target/<profile>/deps.
    let own = std::env::current_exe().expect("a test has a path");
    let folder = own.ancestors().nth(2).expect("target/<profile>/deps/<test>");
    let binary = folder.join("hookline");
    assert!(binary.exists(), "{} is missing; build it first: cargo build --release --workspace", binary.display());
    binary
}

impl Broker {
    /// Starts a broker with the configuration `config`, whose data is in `folder`. The port is a free one.
    pub fn start(folder: &Path, config: &str) -> Broker {
        let file = folder.join("hookline.toml");
        std::fs::write(&file, config).expect("the configuration is written");
        Broker::start_with(folder, &["--config", file.to_str().expect("a path in UTF-8")])
    }

    /// Starts a broker with further arguments.
    pub fn start_with(folder: &Path, arguments: &[&str]) -> Broker {
        Broker::start_in(folder, arguments, &[])
    }

    /// Starts a broker with further arguments and an environment.
    pub fn start_in(folder: &Path, arguments: &[&str], environment: &[(&str, &str)]) -> Broker {
        // The log of an earlier start must not be taken for this one's.
        let log = folder.join("log");
        let started_at = std::fs::metadata(&log).map_or(0, |log| log.len());
        let stderr = File::options().create(true).append(true).open(&log).expect("the log is opened");
        let child = Command::new(binary())
            .args(["serve", "--data", folder.join("data").to_str().expect("a path in UTF-8")])
            .args(["--set", "listeners.tcp.default.bind=127.0.0.1:0", "--set", "log.format=json"])
            .args(arguments)
            .envs(environment.iter().copied())
            .stdout(File::create(folder.join("output")).expect("the output is opened"))
            .stderr(stderr)
            .spawn()
            .expect("the broker starts");
        let mut broker = Broker { child, addresses: BTreeMap::new(), folder: folder.to_owned() };
        broker.addresses = eventually("the broker is ready", START, || {
            if let Ok(Some(status)) = broker.child.try_wait() {
                panic!("the broker ended: {status}\n{}", broker.log());
            }
            broker.ready_addresses(started_at)
        });
        broker
    }

    /// For a broker that all tests of a file share: it has no owner that is dropped, so a small process beside it waits for the
    /// end of this one, then ends the broker and removes its folder.
    #[must_use]
    pub fn shared(self, folder: tempfile::TempDir) -> Broker {
        let script = "while kill -0 \"$1\" 2>/dev/null; do sleep 0.2; done; kill -9 \"$2\" 2>/dev/null; rm -rf \"$3\"";
        let (own, broker) = (std::process::id().to_string(), self.pid().to_string());
        let watching = Command::new("sh")
            .args(["-c", script, "sh", &own, &broker])
            .arg(folder.keep())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        // It outlives this process, which therefore cannot wait for it.
        drop(watching.expect("sh runs"));
        self
    }

    fn ready_addresses(&self, from: u64) -> Option<BTreeMap<String, SocketAddr>> {
        let log = std::fs::read(self.folder.join("log")).ok()?;
        let new = log.get(usize::try_from(from).ok()?..)?;
        let line = BufReader::new(new).lines().map_while(Result::ok).find(|line| line.contains("hookline is ready"))?;
        let line: serde_json::Value = serde_json::from_str(&line).ok()?;
        let listeners = line["fields"]["listeners"].as_str()?;
        listeners.split(' ').map(|pair| pair.split_once('=').and_then(|(name, at)| Some((name.to_owned(), at.parse().ok()?)))).collect()
    }

    /// What it has printed.
    pub fn output(&self) -> String {
        std::fs::read_to_string(self.folder.join("output")).unwrap_or_default()
    }

    /// What it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address_of("tcp.default")
    }

    /// Where a listener listens, such as `tls.default`.
    pub fn address_of(&self, listener: &str) -> SocketAddr {
        *self.addresses.get(listener).unwrap_or_else(|| panic!("there is no listener {listener}: {:?}", self.addresses))
    }

    /// A client with that identifier.
    pub fn connect(&self, options: &Options) -> Client {
        Client::connect(self.address(), options).unwrap_or_else(|error| panic!("connects: {error}\n{}", self.log()))
    }

    /// The process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// SIGKILL.
    pub fn kill(mut self) {
        // Killing what is dead already is no error.
        self.child.kill().expect("the broker can be killed");
        self.child.wait().expect("the broker ends");
    }

    /// Waits until it ends by itself; what it ended with.
    pub fn ended(mut self) -> ExitStatus {
        eventually("the broker ends", START, || self.child.try_wait().expect("the broker can be waited for"))
    }

    /// SIGTERM, and what it ended with.
    pub fn stop(mut self) -> ExitStatus {
        let pid = self.child.id().to_string();
        let killed = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
        assert!(killed.success());
        eventually("the broker stops", Duration::from_secs(30), || self.child.try_wait().expect("the broker can be waited for"))
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Runs the binary with arguments: its exit code, and what it printed.
pub fn run(arguments: &[&str]) -> (Option<i32>, String, String) {
    let output = Command::new(binary()).args(arguments).output().expect("the binary runs");
    let text = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).into_owned();
    (output.status.code(), text(output.stdout), text(output.stderr))
}

/// Runs the binary with arguments and something to read: its exit code, and what it printed.
pub fn run_with_input(arguments: &[&str], input: &str) -> (Option<i32>, String) {
    let mut command = Command::new(binary());
    let mut child = command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("the binary runs");
    child.stdin.take().expect("piped").write_all(input.as_bytes()).expect("written");
    let output = child.wait_with_output().expect("it ends");
    (output.status.code(), String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The accounts in a store whose broker is not running: `(kind, name)` and the account.
pub fn ledgers(folder: &Path) -> Vec<serde_json::Value> {
    let data = folder.join("data");
    let (code, out, error) = run(&["store", "stats", "--json", "--limit", "0", "--data", data.to_str().expect("a path in UTF-8")]);
    let mut stats: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|e| panic!("{e}: {out}\n{error}"));
    assert_eq!(code, Some(0), "a ledger does not balance: {out}");
    let mut ledgers: Vec<serde_json::Value> = serde_json::from_value(stats["queues"].take()).expect("a list");
    ledgers.sort_by_key(|ledger| [&ledger["kind"], &ledger["name"]].map(|text| text.as_str().unwrap_or_default().to_owned()));
    ledgers
}

/// The account of an action whose broker has ended: what was delivered, what is a dead letter, what waits.
pub fn account(folder: &Path, action: &str) -> [u64; 3] {
    let ledgers = ledgers(folder);
    let ledger = ledgers.iter().find(|ledger| ledger["name"] == action).expect("the action has an account");
    ["delivered", "dead_lettered", "pending"].map(|key| ledger[key].as_u64().expect("a number"))
}

/// The dead letters of an action, oldest first.
pub fn dead_letters(folder: &Path, action: &str) -> Vec<serde_json::Value> {
    let data = folder.join("data");
    let (code, out, error) = run(&["dlq", "list", action, "--json", "--data", data.to_str().expect("UTF-8")]);
    assert_eq!(code, Some(0), "{error}");
    out.lines().map(|line| serde_json::from_str(line).expect("a letter is JSON")).collect()
}
