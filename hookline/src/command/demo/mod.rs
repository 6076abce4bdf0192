//! `hookline demo`: a broker with everything that `serve` has, in a folder that goes away with it, and a fleet of devices that use it.

mod fleet;

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args;

use crate::config::Sources;
use crate::serve;
use fleet::Fleet;

/// The configuration, without addresses.
const CONFIG: &str = include_str!("../../../demo.toml");
/// How often it is looked whether the broker is ready.
const LOOK: Duration = Duration::from_millis(50);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Keep everything in this folder [default: a temporary one, which is removed at the end]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Devices of the fleet
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u16).range(1..=500))]
    devices: u16,
}

/// Runs until it is told to end.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let temporary = match &arguments.data {
        Some(_) => None,
        None => Some(
            tempfile::Builder::new().prefix("hookline-demo-").tempdir().context("cannot make a temporary folder; name one with --data")?,
        ),
    };
    let folder = arguments.data.clone().or_else(|| temporary.as_ref().map(|folder| folder.path().to_owned())).unwrap_or_default();
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o750)
        .create(&folder)
        .with_context(|| format!("cannot make {}; name another folder with --data", folder.display()))?;
    let (mqtt, websocket, api) = (free(1883)?, free(8083)?, free(18083)?);
    let file = folder.join("hookline.toml");
    let addresses = format!(
        "[api]\nbind = \"{api}\"\n\n[listeners.tcp.default]\nbind = \"{mqtt}\"\n\n[listeners.ws.default]\nbind = \"{websocket}\"\n\n\
         # The dead letters of the demo are no news.\n[log]\nlevel = \"error,hookline_connectors::delivery=off\"\n\n"
    );
    std::fs::write(&file, addresses + CONFIG).with_context(|| format!("cannot write {}", file.display()))?;
    let is_kept = temporary.is_none();
    let (ready, stop) = (folder.join("ready"), Arc::new(AtomicBool::new(false)));
    let devices = std::thread::Builder::new().name("demo".into()).spawn({
        let (folder, ready, stop) = (folder.clone(), ready.clone(), Arc::clone(&stop));
        let count = usize::from(arguments.devices);
        move || {
            if came_up(&ready, &stop) {
                introduce(&folder, count, is_kept);
                Fleet::start(mqtt, count, &stop).join();
            }
        }
    })?;
    let sources = Sources { file: Some(file), data_dir: Some(folder.clone()), set: Vec::new() };
    let served = serve::run(sources, Some(ready));
    stop.store(true, Ordering::Relaxed);
    if devices.join().is_err() {
        eprintln!("hookline: the fleet has panicked");
    }
    if let Some(temporary) = temporary {
        temporary.close().with_context(|| format!("cannot remove {}", folder.display()))?;
        println!("{} is removed", folder.display());
    } else {
        println!("{} is kept: \"hookline demo --data {}\" goes on with it", folder.display(), folder.display());
    }
    served
}

/// An address of this machine: the usual port where nobody has it, else a free one.
fn free(port: u16) -> anyhow::Result<SocketAddr> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).and_then(|listener| listener.local_addr());
    bind(port).or_else(|_| bind(0)).context("there is no free port on 127.0.0.1")
}

/// Waits until the broker serves; `false`: it has ended before.
fn came_up(ready: &Path, stop: &AtomicBool) -> bool {
    while !ready.exists() {
        if stop.load(Ordering::Relaxed) {
            return false;
        }
        std::thread::sleep(LOOK);
    }
    true
}

/// Says what goes on, behind what the broker itself has said.
fn introduce(folder: &Path, count: usize, is_kept: bool) {
    let own = std::env::args().next().unwrap_or_else(|| "hookline".into());
    let folder = folder.display();
    println!(
        "The demo: {count} pumps in three places tell their readings each second; every tenth goes away without a word and comes back."
    );
    println!("  pump-07   sends words for numbers (dead letters of the action readings), and messages that nobody wants (drops)");
    println!("  room      is a control room that reads all of it, and closes now and then: what comes meanwhile waits for it");
    println!("See it: the dashboard above, and");
    println!("  {own} top --data {folder}");
    println!("  {own} dlq list readings --data {folder}");
    println!("  {own} doctor --config {folder}/hookline.toml --data {folder}");
    println!("  sqlite3 {folder}/plant.db \"SELECT site, count(*), round(avg(celsius), 1) FROM readings GROUP BY site\"");
    if is_kept {
        println!(
            "Where this folder has been used before, the dashboard's password is the one from then; {own} ctl admins set admin --data {folder} sets another."
        );
    }
    println!("Ctrl-C ends it{}.\n", if is_kept { "; the folder stays" } else { " and removes everything" });
}
