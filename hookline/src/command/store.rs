//! `hookline store`: check, figures, compaction, backup and restore. All but restore work while the broker runs, too.

use std::fmt::Display;
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use hookline_core::store::{BackedUp, Backup, CheckReport, Compacted, QueueStats, Stats, Store, restore_backup};
use serde::Serialize;
use serde_json::json;

use super::ConfigArguments;
use super::reach::{Reached, exit_code, load};
use super::report::{self, size};
use crate::control::Control;

/// How often a check says how far it is.
const PROGRESS: Duration = Duration::from_secs(2);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Read the whole store and tell what does not fit together; ends with 1 where something does not
    Check {
        #[command(flatten)]
        common: Common,
    },
    /// What the store holds and takes, and the account of each queue: accepted = delivered + dead + dropped + expired + pending
    Stats {
        #[command(flatten)]
        common: Common,
        /// So many queues, the largest first; 0 is all
        #[arg(short = 'n', long, default_value_t = 20)]
        limit: usize,
    },
    /// Give the space of what is deleted back to the disk
    Compact {
        #[command(flatten)]
        common: Common,
    },
    /// Make a backup of the store into a new folder
    Backup {
        /// The folder, which must not exist
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        common: Common,
    },
    /// Put a backup in the place of the store, while no broker runs, and check it; the store that is there is kept beside it
    Restore {
        /// The folder of the backup
        #[arg(value_name = "DIR")]
        folder: PathBuf,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
struct Common {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct StatsAndQueues {
    #[serde(flatten)]
    stats: Stats,
    queues: Vec<QueueStats>,
}

/// Runs a command: 0 is well, 1 has findings, 2 was not carried out.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    exit_code(match arguments.command {
        Command::Check { common } => check(common),
        Command::Stats { common, limit } => stats(common, limit),
        Command::Compact { common } => compact(common),
        Command::Backup { folder, common } => backup(&folder, common),
        Command::Restore { folder, common } => restore(&folder, common),
    })
}

fn check(common: Common) -> anyhow::Result<ExitCode> {
    let report: CheckReport = match &Reached::open(common.config)? {
        Reached::Broker(broker) => broker.post("/store/check", None)?,
        Reached::Store(store) => check_aloud(store),
    };
    print(common.json, &report, || report::check(&report))?;
    Ok(findings(report.is_clean()))
}

/// Checks, and says now and then how far it is.
fn check_aloud(store: &Store) -> CheckReport {
    let mut said = Instant::now();
    store.check(&mut |so_far| {
        if said.elapsed() >= PROGRESS {
            said = Instant::now();
            eprintln!("checking: {} chunks with {}, findings: {}", so_far.chunks, size(so_far.chunk_bytes), so_far.problem_count);
        }
        ControlFlow::Continue(())
    })
}

fn stats(common: Common, limit: usize) -> anyhow::Result<ExitCode> {
    let all = match &Reached::open(common.config)? {
        Reached::Broker(broker) => {
            StatsAndQueues { stats: broker.get("/store")?, queues: broker.get(&format!("/store/queues?limit={limit}"))? }
        }
        Reached::Store(store) => {
            StatsAndQueues { stats: store.stats()?, queues: store.queue_stats(if limit == 0 { usize::MAX } else { limit })? }
        }
    };
    print(common.json, &all, || report::stats(&all.stats, &all.queues))?;
    Ok(findings(all.stats.unbalanced == 0))
}

fn compact(common: Common) -> anyhow::Result<ExitCode> {
    let done: Compacted = match &Reached::open(common.config)? {
        Reached::Broker(broker) => broker.post("/store/compact", None)?,
        Reached::Store(store) => store.compact(|| true),
    };
    print(common.json, &done, || {
        format!("the store took {} on the disk, and takes {} now", size(done.bytes_before), size(done.bytes_after))
    })?;
    Ok(ExitCode::SUCCESS)
}

fn backup(folder: &Path, common: Common) -> anyhow::Result<ExitCode> {
    // The broker may be in another folder.
    let folder = std::path::absolute(folder).with_context(|| format!("{} is no folder", folder.display()))?;
    let text = folder.to_str().with_context(|| format!("{} is not UTF-8; choose another name", folder.display()))?;
    let made: BackedUp = match &Reached::open(common.config)? {
        Reached::Broker(broker) => broker.post("/store/backup", Some(&json!({"folder": text})))?,
        Reached::Store(store) => store.backup(&folder)?,
    };
    print(common.json, &made, || format!("{} has the store as of {}, {}", made.folder, made.backup.at, size(made.bytes)))?;
    Ok(ExitCode::SUCCESS)
}

fn restore(folder: &Path, common: Common) -> anyhow::Result<ExitCode> {
    let config = load(common.config)?;
    let data_dir = &config.node.data_dir;
    if Control::connect(data_dir)?.is_some() {
        bail!("a broker runs on {}; stop it first", data_dir.display());
    }
    let restored = restore_backup(data_dir, folder, &config.node.name, &hookline_core::store_settings(&config))?;
    let Backup { node, at, .. } = &restored.backup;
    if *node != config.node.name {
        eprintln!(
            "the backup is of the node \"{node}\", and this configuration names \"{}\": set node.name to the old name, so that sinks know what they have seen already",
            config.node.name
        );
    }
    let report = check_aloud(&restored.store);
    restored.store.close();
    let before = restored.before.as_ref().map(|before| before.display().to_string());
    let all = json!({"backup": restored.backup, "before": before, "check": report});
    print(common.json, &all, || {
        let kept = before.as_ref().map_or_else(String::new, |before| format!("; what was there before is in {before}"));
        format!("{} is as it was at {at}{kept}\n{}", Store::folder(data_dir).display(), report::check(&report))
    })?;
    Ok(findings(report.is_clean()))
}

/// Prints something as JSON or as text.
fn print<T: Serialize, D: Display>(json: bool, value: &T, text: impl FnOnce() -> D) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(value)?);
    } else {
        println!("{}", text());
    }
    Ok(())
}

fn findings(is_clean: bool) -> ExitCode {
    if is_clean { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
