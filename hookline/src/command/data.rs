//! `hookline ctl data`: what was set up on a running broker, put into a file, and taken over by another one.

use std::fs::File;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use clap::Subcommand;

use super::ctl::{Common, Output, print_changes, print_json};
use super::reach::running;
use super::report::{one_line, size};
use crate::api::Page;
use crate::api::data::{FileInfo, Imported, Skipped, Wanted};
use crate::control::{Control, encode};
use crate::export::{Part, is_name};

#[derive(Debug, Subcommand)]
pub(crate) enum Data {
    /// Put the configuration, users, permissions, bans, paused actions and retained messages into a file in the data folder; there are secrets in it
    Export {
        #[command(flatten)]
        common: Common,
    },
    /// List the files
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Take over what is in a file; it is looked at as a whole before, and where it is wrong, nothing changes
    Import {
        /// A file of this machine, or the name of one that is in the list
        file: PathBuf,
        /// Only these parts
        #[arg(long, value_enum, value_delimiter = ',')]
        only: Vec<Part>,
        #[command(flatten)]
        common: Common,
    },
    /// Take a file away
    Delete {
        /// Its name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

pub(super) fn run(command: Data) -> anyhow::Result<()> {
    match command {
        Data::Export { common: Common { config, output } } => {
            let broker = running(config)?;
            let made: FileInfo = broker.post("/data/export", None)?;
            if output == Output::Json {
                return print_json(&made);
            }
            println!("{}", broker.exports().join(&made.filename).display());
            eprintln!("There are secrets in it: whoever can read it can log in as everybody whose password is weak.");
            Ok(())
        }
        Data::List { common: Common { config, output } } => {
            let Page { data, .. }: Page = running(config)?.get("/data/files?limit=1000")?;
            if output == Output::Json {
                return print_json(&data);
            }
            println!("{:24} {:>10}  file", "at", "size");
            for one in data {
                let FileInfo { filename, created_at, size: bytes, .. } = serde_json::from_value(one)?;
                println!("{created_at:24} {:>10}  {filename}", size(bytes));
            }
            Ok(())
        }
        Data::Import { file, only, common: Common { config, output } } => {
            let broker = running(config)?;
            let filename = bring(&broker, &file)?;
            let wanted = Wanted { filename, parts: (!only.is_empty()).then_some(only) };
            show(&broker.post("/data/import", Some(&serde_json::to_value(wanted)?))?, output)
        }
        Data::Delete { name, common: Common { config, .. } } => {
            let () = running(config)?.delete(&format!("/data/files/{}", encode(&name)))?;
            println!("{name} is gone");
            Ok(())
        }
    }
}

/// Brings a file to the broker, unless it is there; its name there.
fn bring(broker: &Control, file: &Path) -> anyhow::Result<String> {
    let name = file.file_name().and_then(|name| name.to_str()).filter(|name| is_name(name));
    let name = name.with_context(|| {
        format!("{} must have a name of letters, digits, \".\", \"_\" and \"-\", with the ending .tar.gz", file.display())
    })?;
    let is_there = file.parent().is_some_and(|folder| folder == Path::new("")) && !file.exists();
    let is_in_its_folder = || Some(file.canonicalize().ok()? == broker.exports().join(name).canonicalize().ok()?);
    if !is_there && is_in_its_folder() != Some(true) {
        let opened = File::open(file).with_context(|| format!("cannot read {}", file.display()))?;
        let () = broker.post_file("/data/files", "filename", name, opened)?;
    }
    Ok(name.to_owned())
}

fn show(imported: &Imported, output: Output) -> anyhow::Result<()> {
    let Imported { node, version, created_at, imported: counts, skipped, skipped_count, configuration, .. } = imported;
    if output == Output::Json {
        print_json(imported)?;
    } else {
        println!("of         {node}, Hookline {version}, {created_at}");
        for (part, count) in counts {
            println!("{:13} {count}", part.name());
        }
        if let Some(changed) = configuration {
            println!("version    {}  {}", changed.version.version, changed.version.summary);
            print_changes(&changed.applied);
        }
        for Skipped { part, what, reason } in skipped {
            println!("skipped    {} {}: {reason}", part.name(), one_line(what, 60));
        }
        if *skipped_count > skipped.len() as u64 {
            println!("skipped    {skipped_count} in all");
        }
    }
    let failed = configuration.as_ref().map_or(&[][..], |changed| &changed.applied.failed);
    ensure!(failed.is_empty(), "imported, but this could not be started:\n  {}", failed.join("\n  "));
    Ok(())
}
