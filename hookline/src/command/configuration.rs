//! `hookline ctl config`: the configuration of a running broker, and its versions.

use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Subcommand;
use serde_json::json;

use super::ctl::{Common, Output, print_changes, print_json};
use super::reach::running;
use super::report::one_line;
use crate::api::configs::{Changed, Difference, Text};
use crate::config::Version;

#[derive(Debug, Subcommand)]
pub(crate) enum Configuration {
    /// Print what stands in its file
    Show {
        /// A version that is kept, in place of the one in force
        #[arg(long)]
        version: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// List the versions that are kept, the newest first
    History {
        #[command(flatten)]
        common: Common,
    },
    /// Compare two versions: the one in force with the one before it, where nothing is said
    Diff {
        /// The older one
        #[arg(long)]
        from: Option<u64>,
        /// The newer one
        #[arg(long)]
        to: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
    /// Make an older version the configuration again
    Rollback {
        /// Its number
        version: u64,
        #[command(flatten)]
        common: Common,
    },
    /// Check a file, and make it the configuration; where it is wrong, nothing changes
    Apply {
        /// The file; - is standard input
        file: PathBuf,
        /// Only where this version is still in force
        #[arg(long)]
        if_version: Option<u64>,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn run(command: Configuration) -> anyhow::Result<()> {
    match command {
        Configuration::Show { version, common: Common { config, output } } => {
            let path = version.map_or_else(|| "/configs".to_owned(), |version| format!("/configs/history/{version}"));
            let text: Text = running(config)?.get(&path)?;
            if output == Output::Json {
                return print_json(&text);
            }
            print!("{}", text.content);
            Ok(())
        }
        Configuration::History { common: Common { config, output } } => {
            let all: Vec<Version> = running(config)?.get("/configs/history")?;
            if output == Output::Json {
                return print_json(&all);
            }
            println!("{:>8} {:24} {:20} what", "version", "at", "by");
            for Version { version, changed_at, changed_by, summary } in &all {
                println!("{version:>8} {changed_at:24} {:20} {}", one_line(changed_by, 20), one_line(summary, 120));
            }
            Ok(())
        }
        Configuration::Diff { from, to, common: Common { config, output } } => {
            let query = [("from", from), ("to", to)].map(|(key, number)| number.map(|number| format!("{key}={number}")));
            let query: Vec<String> = query.into_iter().flatten().collect();
            let difference: Difference = running(config)?.get(&format!("/configs/diff?{}", query.join("&")))?;
            if output == Output::Json {
                return print_json(&difference);
            }
            print!("{}", difference.diff);
            Ok(())
        }
        Configuration::Rollback { version, common: Common { config, output } } => {
            show(&running(config)?.post("/configs/rollback", Some(&json!({ "version": version })))?, output)
        }
        Configuration::Apply { file, if_version, common: Common { config, output } } => {
            show(&running(config)?.put_text("/configs", read(&file)?, if_version)?, output)
        }
    }
}

fn read(file: &Path) -> anyhow::Result<String> {
    if file == Path::new("-") {
        let mut text = String::new();
        std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
        return Ok(text);
    }
    std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))
}

fn show(changed: &Changed, output: Output) -> anyhow::Result<()> {
    let Changed { version, applied } = changed;
    if output == Output::Json {
        print_json(changed)?;
    } else {
        println!("version    {}  {}", version.version, version.summary);
        print_changes(applied);
    }
    ensure!(applied.failed.is_empty(), "changed, but this could not be started:\n  {}", applied.failed.join("\n  "));
    Ok(())
}
