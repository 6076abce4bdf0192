//! The brokers, as processes: each started fresh on a free port, with its data in a temporary folder.

use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{QoS, Version};
use tempfile::TempDir;

/// A broker, set up for a scenario.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Peer {
    /// Without rules.
    Hookline,
    /// With a rule whose action has a sink that is away: every message is committed and stays in the store.
    HooklineQueueing,
    /// With the built-in rule: every message and event goes through the store into SQLite.
    HooklineAudit,
    /// With a durable session that is away and gets everything; acknowledged at that level.
    HooklineDurable(&'static str),
    /// Without persistence.
    Mosquitto,
    /// With persistence, and a durable session that is away and gets everything.
    MosquittoPersistent,
}

impl Peer {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Peer::Hookline => "hookline",
            Peer::HooklineQueueing | Peer::HooklineAudit => "hookline",
            Peer::HooklineDurable(level) => level,
            Peer::Mosquitto => "mosquitto (acknowledges from memory)",
            Peer::MosquittoPersistent => "mosquitto, persistence on (acknowledges from memory)",
        }
    }
}

/// A running broker. It is killed when this is dropped.
#[derive(Debug)]
pub(crate) struct Running {
    child: Child,
    address: SocketAddr,
    _folder: TempDir,
}

const QUEUEING: &str = r##"
[connectors.away]
type = "kafka"
bootstrap_hosts = "127.0.0.1:1"
[actions.queue]
connector = "away"
parameters = { topic = "t" }
[rules.all]
sql = 'SELECT clientid, topic, payload FROM "#"'
actions = ["queue"]
"##;

/// The queue of the session that is away takes all of a run.
const UNBOUNDED: &str = "[mqtt]\ndurable_queue_max = 1000000000\ndurable_queue_bytes_max = 1000000000000\n";

impl Running {
    pub(crate) fn start(peer: Peer) -> anyhow::Result<Running> {
        // Not in memory: a sync must cost what it costs.
        let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let mut command = match peer {
            Peer::Mosquitto | Peer::MosquittoPersistent => {
                let config = folder.path().join("mosquitto.conf");
                let port = address.port();
                let mut text = format!("listener {port} 127.0.0.1\nallow_anonymous true\nmax_queued_messages 0\nlog_type none\n");
                if peer == Peer::MosquittoPersistent {
                    text += &format!("persistence true\npersistence_location {}/\nuser root\n", folder.path().display());
                }
                std::fs::write(&config, text)?;
                let mut command = Command::new("mosquitto");
                command.arg("-c").arg(config);
                command
            }
            _ => {
                let mut command = Command::new(hookline()?);
                command.arg("serve").arg("--data").arg(folder.path().join("data"));
                command.args(["--set", &format!("listeners.tcp.default.bind={address}"), "--set", "log.level=error"]);
                if peer != Peer::HooklineAudit {
                    let config = folder.path().join("hookline.toml");
                    let text = match peer {
                        Peer::HooklineQueueing => QUEUEING.to_owned(),
                        Peer::HooklineDurable(level) => format!("{UNBOUNDED}[store]\nlevel = \"{level}\"\n"),
                        _ => String::new(),
                    };
                    std::fs::write(&config, text)?;
                    command.arg("--config").arg(config);
                }
                command
            }
        };
        let child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().with_context(|| format!("cannot start {}", peer.name()))?;
        let running = Running { child, address, _folder: folder };
        let deadline = Instant::now() + Duration::from_secs(10);
        while TcpStream::connect(address).is_err() {
            if Instant::now() > deadline {
                bail!("{} does not listen on {address}", peer.name());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        if matches!(peer, Peer::HooklineDurable(_) | Peer::MosquittoPersistent) {
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
