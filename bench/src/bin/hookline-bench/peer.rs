//! The brokers, as processes: each started fresh on a free port, with its data in a temporary folder.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, Version};
use tempfile::TempDir;

/// A broker, set up for a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Without rules, unless it is set up otherwise.
    Hookline(Setup),
    Mosquitto,
    /// With persistence, and a durable session that is away and gets everything.
    MosquittoPersistent,
    Rumqttd,
    Rmqttd,
}

/// How Hookline is set up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Setup {
    /// Without rules.
    Plain,
    /// Durable sessions are acknowledged at that level.
    Level(&'static str),
    /// That, and a durable session is away and gets everything.
    Durable(&'static str),
    /// With a rule whose action has a sink that is away: every message is committed and stays in the store.
    Queueing,
    /// With the built-in rule: every message and event goes through the store into SQLite.
    Audit,
    /// With a rule that puts every message into a topic of the Kafka that `HOOKLINE_TEST_KAFKA` names.
    Kafka,
    /// With a rule that reads a field of each message, and wants none of them.
    Filter,
    /// With so many rules, each for a topic that nobody publishes to.
    Rules(usize),
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Hookline(_) => "hookline",
            Peer::Mosquitto | Peer::MosquittoPersistent => "mosquitto",
            Peer::Rumqttd => "rumqttd",
            Peer::Rmqttd => "rmqttd",
        }
    }

    /// Whether its program can be started here.
    pub(crate) fn is_installed(self) -> bool {
        match self {
            Peer::Hookline(_) => true,
            _ => Command::new(self.name()).arg("--help").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok(),
        }
    }
}

/// A running broker. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    address: SocketAddr,
    folder: TempDir,
}

/// An action whose sink is away.
const AWAY: &str = r##"
[connectors.away]
type = "kafka"
bootstrap_hosts = "127.0.0.1:1"
[actions.queue]
connector = "away"
parameters = { topic = "t" }
"##;

/// Messages that a subscriber may have on their way: the same for all brokers, because their defaults lie between 20 and 500, and what one
/// turn carries decides what a message costs.
const INFLIGHT_MAX: u16 = 100;
/// The queue of the session that is away takes all of a run, and a client as many subscriptions as it is to hold.
const UNBOUNDED: &str = "subscriptions_max = 1000000\ndurable_queue_max = 1000000000\ndurable_queue_bytes_max = 1000000000000\n";

impl Setup {
    /// The configuration file; none for the built-in one.
    fn configuration(self) -> anyhow::Result<Option<String>> {
        let rule = |name: &str, sql: &str| format!("[rules.{name}]\nsql = '{sql}'\nactions = [\"queue\"]\n");
        let all = || rule("all", r##"SELECT clientid, topic, payload FROM "#""##);
        let more = match self {
            Setup::Plain => String::new(),
            Setup::Level(level) | Setup::Durable(level) => format!("{UNBOUNDED}[store]\nlevel = \"{level}\"\n"),
            Setup::Queueing => AWAY.to_owned() + &all(),
            Setup::Audit => return Ok(None),
            Setup::Kafka => {
                let hosts = std::env::var("HOOKLINE_TEST_KAFKA");
                let hosts = hosts.context("no Kafka is named: set HOOKLINE_TEST_KAFKA, which \"integration-tests/services env\" prints")?;
                AWAY.replace("127.0.0.1:1", &hosts).replace("topic = \"t\"", "topic = \"bench\"") + &all()
            }
            Setup::Filter => AWAY.to_owned() + &rule("hot", r##"SELECT payload FROM "bench/#" WHERE payload.temperature > 50"##),
            Setup::Rules(count) => {
                let elsewhere = |number| rule(&format!("r{number}"), &format!(r#"SELECT payload FROM "fleet/{number}/+/state""#));
                (0..count).fold(AWAY.to_owned(), |text, number| text + &elsewhere(number))
            }
        };
        Ok(Some(format!("[mqtt]\ninflight_max = {INFLIGHT_MAX}\n{more}")))
    }
}

fn mosquitto(address: SocketAddr, folder: &Path, persistent: bool) -> std::io::Result<Command> {
    let config = folder.join("mosquitto.conf");
    let port = address.port();
    let mut text = format!(
        "listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type none\n\
         max_inflight_messages {INFLIGHT_MAX}\nset_tcp_nodelay true\n"
    );
    if persistent {
        text += &format!("persistence true\npersistence_location {}/\nuser root\n", folder.display());
    }
    std::fs::write(&config, text)?;
    let mut command = Command::new("mosquitto");
    command.arg("-c").arg(config);
    Ok(command)
}

/// With bounds that hold what a run needs, and without its pause between connections. It has no switch for Nagle's algorithm.
fn rumqttd(address: SocketAddr, folder: &Path) -> std::io::Result<Command> {
    let config = folder.join("rumqttd.toml");
    std::fs::write(
        &config,
        format!(
            "id = 0\n[router]\nid = 0\nmax_connections = 20000\nmax_outgoing_packet_count = 200\nmax_segment_size = 104857600\n\
             max_segment_count = 10\n[v4.1]\nname = \"v4\"\nlisten = \"{address}\"\nnext_connection_delay_ms = 0\n\
             [v4.1.connections]\nconnection_timeout_ms = 60000\nmax_payload_size = 1048576\nmax_inflight_count = {INFLIGHT_MAX}\ndynamic_filters = true\n"
        ),
    )?;
    let mut command = Command::new("rumqttd");
    command.arg("--config").arg(config).arg("--quiet");
    Ok(command)
}

fn rmqttd(address: SocketAddr, folder: &Path) -> std::io::Result<Command> {
    let config = folder.join("rmqtt.toml");
    std::fs::write(
        &config,
        format!(
            "[node]\nid = 1\n[log]\nto = \"off\"\nlevel = \"error\"\n[plugins]\ndir = \"{}\"\ndefault_startups = []\n\
             [listener.tcp.external]\naddr = \"{address}\"\nmax_connections = 100000\nmax_handshaking_limit = 10000\nhandshake_timeout = \"60s\"\n\
             allow_anonymous = true\nnodelay = true\nmax_inflight = {INFLIGHT_MAX}\nmax_mqueue_len = 1000000\nmqueue_rate_limit = \"1000000,1s\"\n",
            folder.display()
        ),
    )?;
    let mut command = Command::new("rmqttd");
    command.arg("-f").arg(config).current_dir(folder);
    Ok(command)
}

impl Running {
    pub(crate) fn start(peer: Peer) -> anyhow::Result<Running> {
        // Not in memory: a sync must cost what it costs.
        let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = match peer {
            Peer::Mosquitto => mosquitto(address, folder.path(), false)?,
            Peer::MosquittoPersistent => mosquitto(address, folder.path(), true)?,
            Peer::Rumqttd => rumqttd(address, folder.path())?,
            Peer::Rmqttd => rmqttd(address, folder.path())?,
            Peer::Hookline(setup) => {
                let mut command = Command::new(hookline()?);
                command.arg("serve").arg("--data").arg(folder.path().join("data"));
                command.args(["--set", &format!("listeners.tcp.default.bind={address}"), "--set", "log.level=error"]);
                if let Some(text) = setup.configuration()? {
                    let config = folder.path().join("hookline.toml");
                    std::fs::write(&config, text)?;
                    command.arg("--config").arg(config);
                }
                command
            }
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().with_context(|| format!("cannot start {}", peer.name()))?;
        let running = Running { child, address, folder };
        let deadline = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}", peer.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if matches!(peer, Peer::Hookline(Setup::Durable(_)) | Peer::MosquittoPersistent) {
            let mut away = Client::connect(address, &Options::new("away").version(Version::V5).persistent(u32::MAX))?;
            away.subscribe(&[("bench/#", QoS::AtLeastOnce)])?;
            away.disconnect()?;
        }
        Ok(running)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What Hookline's actions have delivered, and what waits for them.
    pub(crate) fn ledger(&self) -> anyhow::Result<(u64, u64)> {
        let mut command = Command::new(hookline()?);
        command.args(["ctl", "actions", "-o", "json", "--data"]).arg(self.folder.path().join("data"));
        let actions: serde_json::Value =
            serde_json::from_slice(&command.output()?.stdout).context("the broker does not tell its accounts")?;
        let sum = |name: &str| actions.as_array().into_iter().flatten().filter_map(|action| action["ledger"][name].as_u64()).sum();
        Ok((sum("delivered"), sum("pending")))
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// The binary beside this one.
pub(crate) fn hookline() -> anyhow::Result<std::path::PathBuf> {
    let binary = std::env::current_exe()?.with_file_name("hookline");
    if !binary.exists() {
        bail!("{} is missing; build it first with \"make build\"", binary.display());
    }
    Ok(binary)
}
