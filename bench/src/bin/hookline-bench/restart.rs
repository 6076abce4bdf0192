//! A restart with much in the store: durable sessions that are away, and messages that wait for them.

use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use hookline_bench::resident_bytes;
use hookline_mqtt::client::{Client, Options};
use hookline_mqtt::{Properties, QoS, Version};

use crate::peer::hookline;

/// What is in the store when the broker starts again.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Backlog {
    pub(crate) sessions: usize,
    /// Queue entries, of all sessions together.
    pub(crate) messages: usize,
    /// Sessions that each message waits for.
    pub(crate) fan_out: usize,
    pub(crate) payload_bytes: usize,
}

/// Clients that work at the same time.
const THREADS: usize = 8;
/// Messages of each publisher on their way.
const WINDOW: usize = 1000;
const TIMEOUT: Duration = Duration::from_secs(60);
const START_TIMEOUT: Duration = Duration::from_secs(120);

impl Backlog {
    pub(crate) fn run(self) -> anyhow::Result<()> {
        ensure!(self.sessions.is_multiple_of(self.fan_out), "the sessions must be a multiple of the fan-out");
        let folder = tempfile::tempdir_in(std::env::current_dir()?)?;
        let started = Instant::now();
        let first = Process::start(folder.path())?;
        in_threads(|thread| self.make_sessions(first.address, thread))?;
        println!(
            "{} sessions made in {:.1} s; {} MB resident",
            self.sessions,
            started.elapsed().as_secs_f64(),
            first.resident_bytes()? / 1_000_000
        );
        let started = Instant::now();
        in_threads(|thread| self.publish(first.address, thread))?;
        println!(
            "{} messages queued in {:.1} s; {} MB resident",
            self.messages,
            started.elapsed().as_secs_f64(),
            first.resident_bytes()? / 1_000_000
        );
        // As a crash leaves it.
        drop(first);
        println!("store: {} MB on disk", disk_bytes(&folder.path().join("data"))? / 1_000_000);
        for restart in 1..=3 {
            let again = Process::start(folder.path())?;
            println!(
                "restart {restart}: listening after {:.2} s, {} MB resident",
                again.listening_after.as_secs_f64(),
                again.resident_bytes()? / 1_000_000
            );
        }
        let last = Process::start(folder.path())?;
        let mut client = Client::connect(last.address, &durable(&client_id(0)))?;
        let mut received = 0;
        while received < self.messages / self.sessions && client.receive(Duration::from_secs(10))?.is_some() {
            received += 1;
        }
        println!("the first session has got {received} of its {} messages", self.messages / self.sessions);
        ensure!(received == self.messages / self.sessions, "messages are missing");
        Ok(())
    }

    fn make_sessions(self, address: SocketAddr, thread: usize) -> anyhow::Result<()> {
        for session in (thread..self.sessions).step_by(THREADS) {
            let mut client = Client::connect(address, &durable(&client_id(session)))?;
            client.subscribe(&[(&topic(session / self.fan_out), QoS::AtLeastOnce)])?;
            client.disconnect()?;
        }
        Ok(())
    }

    fn publish(self, address: SocketAddr, thread: usize) -> anyhow::Result<()> {
        let topics = self.sessions / self.fan_out;
        let payload = vec![b'x'; self.payload_bytes];
        let mut client = Client::connect(address, &patient(Options::new(&format!("publisher-{thread}"))))?;
        let mut under_way = 0;
        let acknowledged = |client: &mut Client, down_to: usize, under_way: &mut usize| -> anyhow::Result<()> {
            while *under_way > down_to {
                let (_, reason) = client.next_ack(TIMEOUT)?.context("no acknowledgement came")?;
                ensure!(!reason.is_error(), "a message was refused: {}", reason.name());
                *under_way -= 1;
            }
            Ok(())
        };
        for _round in 0..self.messages / self.sessions {
            for n in (thread..topics).step_by(THREADS) {
                client.send(&topic(n), &payload, QoS::AtLeastOnce, false, &Properties::default())?;
                under_way += 1;
                if under_way == WINDOW {
                    acknowledged(&mut client, WINDOW / 2, &mut under_way)?;
                }
            }
        }
        acknowledged(&mut client, 0, &mut under_way)?;
        Ok(client.disconnect()?)
    }
}

fn in_threads(work: impl Fn(usize) -> anyhow::Result<()> + Sync) -> anyhow::Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS)
            .map(|thread| {
                scope.spawn({
                    let work = &work;
                    move || work(thread)
                })
            })
            .collect();
        threads.into_iter().try_for_each(|thread| thread.join().map_err(|_| anyhow::anyhow!("a client panicked"))?)
    })
}

fn client_id(session: usize) -> String {
    format!("sensor-{session:07}")
}

fn topic(n: usize) -> String {
    format!("backlog/{n}")
}

fn patient(options: Options) -> Options {
    Options { timeout: TIMEOUT, ..options }
}

fn durable(client_id: &str) -> Options {
    patient(Options::new(client_id).version(Version::V5).persistent(u32::MAX))
}

fn disk_bytes(folder: &Path) -> anyhow::Result<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        bytes += if entry.file_type()?.is_dir() { disk_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// A broker over a data folder. It is killed when this is dropped.
struct Process {
    child: Child,
    address: SocketAddr,
    /// From its start until a client was let in.
    listening_after: Duration,
}

impl Process {
    fn start(folder: &Path) -> anyhow::Result<Process> {
        let address = TcpListener::bind("127.0.0.1:0")?.local_addr()?;
        let config = folder.join("hookline.toml");
        std::fs::write(&config, "[store]\nlevel = \"process\"\n")?;
        let log = File::options().create(true).append(true).open(folder.join("log"))?;
        let started = Instant::now();
        let child = Command::new(hookline()?)
            .args(["serve", "--set", &format!("listeners.tcp.default.bind={address}"), "--data"])
            .arg(folder.join("data"))
            .arg("--config")
            .arg(config)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()?;
        let mut process = Process { child, address, listening_after: Duration::ZERO };
        while Client::connect(address, &Options::new("probe")).is_err() {
            if started.elapsed() > START_TIMEOUT {
                bail!("the broker does not listen");
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        process.listening_after = started.elapsed();
        Ok(process)
    }

    fn resident_bytes(&self) -> anyhow::Result<u64> {
        resident_bytes(self.child.id())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}
