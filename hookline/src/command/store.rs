//! `hookline store` and `hookline dlq`: a look into the store of a broker that is not running.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use clap::{Args, Subcommand};
use hookline_core::store::{QueueKind, Store};
use hookline_schemas::ports::Ledger;
use serde::Serialize;

use super::ConfigArguments;
use crate::config;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The account of every queue: accepted = delivered + dead_lettered + dropped + expired + pending
    Stats {
        #[command(flatten)]
        config: ConfigArguments,
        /// Print JSON
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct DeadLetterArguments {
    #[command(subcommand)]
    command: DeadLetterCommand,
}

#[derive(Debug, Subcommand)]
enum DeadLetterCommand {
    /// Print the dead letters of an action, one JSON object a line, oldest first
    List {
        /// The action
        action: String,
        #[command(flatten)]
        config: ConfigArguments,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: usize,
    },
}

#[derive(Debug, Serialize)]
struct QueueStats {
    kind: &'static str,
    name: String,
    balances: bool,
    #[serde(flatten)]
    ledger: Ledger,
}

#[derive(Debug, Serialize)]
struct DeadLetter {
    sequence: u64,
    at: String,
    error: String,
    row: Option<serde_json::Value>,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Command::Stats { config, json } = arguments.command;
    let store = open(config)?;
    let mut stats: Vec<QueueStats> = store.queues().iter().map(|queue| stats_of(queue)).collect();
    store.close();
    stats.sort_by(|a, b| (a.kind, &a.name).cmp(&(b.kind, &b.name)));
    if json {
        println!("{}", serde_json::to_string_pretty(&stats)?);
    } else {
        println!(
            "{:8} {:32} {:>12} {:>12} {:>12} {:>10} {:>10} {:>10} {:>14}  balances",
            "kind", "name", "accepted", "delivered", "pending", "dead", "dropped", "expired", "pending bytes"
        );
        for QueueStats { kind, name, balances, ledger: l } in &stats {
            println!(
                "{kind:8} {name:32} {:>12} {:>12} {:>12} {:>10} {:>10} {:>10} {:>14}  {}",
                l.accepted,
                l.delivered,
                l.pending,
                l.dead_lettered,
                l.dropped,
                l.expired,
                l.pending_bytes,
                if *balances { "yes" } else { "NO" }
            );
        }
    }
    let all_balance = stats.iter().all(|stats| stats.balances);
    Ok(if all_balance { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn stats_of(queue: &hookline_core::store::Queue) -> QueueStats {
    let kind = match queue.kind() {
        QueueKind::Action => "action",
        QueueKind::Session => "session",
    };
    let ledger = queue.ledger();
    QueueStats { kind, name: queue.name().to_owned(), balances: ledger.balances(), ledger }
}

pub(crate) fn run_dead_letters(arguments: DeadLetterArguments) -> anyhow::Result<ExitCode> {
    let DeadLetterCommand::List { action, config, limit } = arguments.command;
    let store = open(config)?;
    let queue = store.queues().into_iter().find(|queue| queue.kind() == QueueKind::Action && queue.name() == action);
    let queue = queue.with_context(|| format!("the store has no queue of an action \"{action}\""))?;
    for letter in store.dead_letters(queue.id(), limit)? {
        let at = jiff::Timestamp::from_millisecond(i64::try_from(letter.at_ms)?)?.to_string();
        let row = letter.row.map(|row| row.to_json());
        println!("{}", serde_json::to_string(&DeadLetter { sequence: letter.sequence, at, error: letter.error, row })?);
    }
    store.close();
    Ok(ExitCode::SUCCESS)
}

fn open(arguments: ConfigArguments) -> anyhow::Result<Arc<Store>> {
    let config = config::load(arguments.sources()).map_err(|errors| anyhow::anyhow!("{errors}"))?.config;
    let folder: PathBuf = Store::folder(&config.node.data_dir);
    if !folder.exists() {
        anyhow::bail!("there is no store in {}; name its data folder with --data", folder.display());
    }
    Ok(Store::open(&config.node.data_dir, &config.node.name, &config.store)?.store)
}
