//! `hookline dlq`: list, show, edit, replay and purge the dead letters of an action, while the broker runs or while it does not.

use std::num::NonZeroUsize;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use hookline_core::store::Replayed;

use super::ConfigArguments;
use super::reach::{Reached, exit_code};
use super::report::one_line;
use crate::api::dead_letters::{self, Letter, Letters, PAGE_MAX, Purged};
use crate::control::encode;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the dead letters of an action, oldest first
    List {
        #[command(flatten)]
        common: Common,
        /// At most so many
        #[arg(short = 'n', long, default_value = "100")]
        limit: NonZeroUsize,
    },
    /// Show one dead letter in full
    Show {
        #[command(flatten)]
        common: Common,
        /// Its number
        sequence: u64,
    },
    /// Change values in the record of a dead letter, before it is replayed
    Edit {
        #[command(flatten)]
        common: Common,
        /// Its number
        sequence: u64,
        /// What is to change, as JSON (a merge patch, RFC 7396): '{"v": 5, "unit": null}' sets `v` and takes `unit` away
        #[arg(value_name = "CHANGE", value_parser = |text: &str| serde_json::from_str::<serde_json::Value>(text))]
        change: serde_json::Value,
    },
    /// Put dead letters into the queue of the action again, at its end, when the cause of the error is mended
    #[command(override_usage = "hookline dlq replay [OPTIONS] <ACTION> <SEQUENCE|--all>")]
    Replay {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
    },
    /// Remove dead letters, and their records with them
    #[command(override_usage = "hookline dlq purge [OPTIONS] <ACTION> <SEQUENCE|--all>")]
    Purge {
        #[command(flatten)]
        common: Common,
        #[command(flatten)]
        which: Which,
    },
}

#[derive(Debug, Args)]
struct Common {
    /// The action
    action: String,
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON; a list as one object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct Which {
    /// The number of one dead letter
    sequence: Option<u64>,
    /// All that are there now
    #[arg(long)]
    all: bool,
}

impl Which {
    /// The one that was chosen; `None`: all.
    fn one(&self) -> Option<u64> {
        self.sequence.filter(|_| !self.all)
    }
}

/// Runs a command: 0 is well, 1 has left something, 2 was not carried out.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    exit_code(match arguments.command {
        Command::List { common, limit } => list(common, limit.get()),
        Command::Show { common, sequence } => show(common, sequence),
        Command::Edit { common, sequence, change } => edit(common, sequence, change),
        Command::Replay { common, which } => replay(common, which.one()),
        Command::Purge { common, which } => purge(common, which.one()),
    })
}

fn list(common: Common, limit: usize) -> anyhow::Result<ExitCode> {
    let reached = Reached::open(common.config)?;
    let mut from = 0;
    let mut left = limit;
    let has_more = loop {
        let count = left.min(PAGE_MAX);
        let Letters { data, meta } = match &reached {
            Reached::Broker(broker) => broker.get(&format!("{}?limit={count}&from={from}", path(&common.action)))?,
            Reached::Store(store) => dead_letters::list(store, &common.action, from, count)?,
        };
        if from == 0 && !common.json {
            println!("{:>12} {:24} {:48} row", "sequence", "at", "error");
        }
        for letter in &data {
            print_one(letter, common.json)?;
        }
        left -= data.len().min(left);
        from = data.last().map_or(from, |letter| letter.sequence + 1);
        if left == 0 || !meta.hasnext {
            break meta.hasnext;
        }
    };
    if has_more {
        eprintln!("there are more; --limit shows them");
    }
    Ok(ExitCode::SUCCESS)
}

fn print_one(letter: &Letter, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(letter)?);
    } else {
        let row = letter.row.as_ref().map_or_else(|| "(damaged)".to_owned(), ToString::to_string);
        println!("{:>12} {:24} {:48} {}", letter.sequence, letter.at, one_line(&letter.error, 47), one_line(&row, 80));
    }
    Ok(())
}

fn show(common: Common, sequence: u64) -> anyhow::Result<ExitCode> {
    let letter: Letter = match &Reached::open(common.config)? {
        Reached::Broker(broker) => broker.get(&format!("{}/{sequence}", path(&common.action)))?,
        Reached::Store(store) => dead_letters::show(store, &common.action, sequence)?,
    };
    print_whole(&letter, common.json)
}

fn edit(common: Common, sequence: u64, change: serde_json::Value) -> anyhow::Result<ExitCode> {
    let letter: Letter = match &Reached::open(common.config)? {
        Reached::Broker(broker) => broker.patch(&format!("{}/{sequence}", path(&common.action)), &change)?,
        Reached::Store(store) => dead_letters::edit(store, &common.action, sequence, change)?,
    };
    print_whole(&letter, common.json)
}

fn print_whole(letter: &Letter, json: bool) -> anyhow::Result<ExitCode> {
    if json {
        println!("{}", serde_json::to_string(letter)?);
    } else {
        println!("sequence  {}\nat        {}\nerror     {}", letter.sequence, letter.at, one_line(&letter.error, usize::MAX));
        match &letter.row {
            Some(row) => println!("row       {}", serde_json::to_string_pretty(row)?),
            None => println!("row       is damaged; the letter can only be purged"),
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn replay(common: Common, sequence: Option<u64>) -> anyhow::Result<ExitCode> {
    let (reached, path) = (Reached::open(common.config)?, path(&common.action));
    let done: Replayed = match (&reached, sequence) {
        (Reached::Broker(broker), Some(sequence)) => broker.post(&format!("{path}/{sequence}/replay"), None)?,
        (Reached::Broker(broker), None) => broker.post(&format!("{path}/replay"), None)?,
        (Reached::Store(store), Some(sequence)) => dead_letters::replay(store, &common.action, sequence)?,
        (Reached::Store(store), None) => dead_letters::replay_all(store, &common.action)?,
    };
    if common.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        let when = if matches!(reached, Reached::Store(_)) { "; the broker delivers them when it runs" } else { "" };
        println!("{} replayed, {} kept{when}", done.replayed, done.kept);
    }
    if let Some(problem) = &done.problem {
        eprintln!("{problem}");
    }
    Ok(if done.kept == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn purge(common: Common, sequence: Option<u64>) -> anyhow::Result<ExitCode> {
    let (reached, path) = (Reached::open(common.config)?, path(&common.action));
    let done: Purged = match (&reached, sequence) {
        (Reached::Broker(broker), Some(sequence)) => broker.delete(&format!("{path}/{sequence}"))?,
        (Reached::Broker(broker), None) => broker.delete(&path)?,
        (Reached::Store(store), Some(sequence)) => dead_letters::purge(store, &common.action, sequence)?,
        (Reached::Store(store), None) => dead_letters::purge_all(store, &common.action)?,
    };
    if common.json {
        println!("{}", serde_json::to_string(&done)?);
    } else {
        println!("{} removed", done.purged);
    }
    Ok(ExitCode::SUCCESS)
}

fn path(action: &str) -> String {
    format!("/actions/{}/dead_letters", encode(action))
}
