//! `hookline import`: a configuration of Hookline, made of the one of another broker. What has no counterpart is told.

mod acl_conf;
mod emqx;
mod hocon;
mod mosquitto;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use toml::{Table, Value};

use crate::config::{Sources, check_text};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Of mosquitto: listeners, passwords, permissions, limits, bridges
    Mosquitto {
        /// The file mosquitto.conf
        file: PathBuf,
        #[command(flatten)]
        to: To,
    },
    /// Of EMQX 5 and later: listeners, limits, logins, permissions, rules, connectors, actions
    Emqx {
        /// emqx.conf or cluster.hocon, a data export (emqx-export-….tar.gz), or the configuration as JSON
        file: PathBuf,
        /// The built-in users, as EMQX imports them: a CSV or JSON file with user_id, password_hash, salt and is_superuser
        #[arg(long, value_name = "FILE")]
        users: Option<PathBuf>,
        #[command(flatten)]
        to: To,
    },
}

/// Where the configuration goes.
#[derive(Debug, Args)]
struct To {
    /// The file to write; - is standard output. Files that belong to it come beside it
    #[arg(long, value_name = "FILE", default_value = "hookline.toml")]
    to: PathBuf,
    /// Write over a file that is there
    #[arg(long)]
    force: bool,
}

/// What was made of the other configuration.
#[derive(Debug, Default)]
pub(super) struct Imported {
    config: Table,
    /// What has no counterpart, or means something else here.
    notes: Vec<String>,
    /// Files that belong to it, by their names.
    files: Vec<(String, Vec<u8>)>,
}

impl Imported {
    fn note(&mut self, note: impl Into<String>) {
        let note = note.into();
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    /// Sets a value; tables on the way are made.
    fn set(&mut self, path: &[&str], value: impl Into<Value>) {
        let Some((last, folders)) = path.split_last() else { return };
        let mut table = &mut self.config;
        for name in folders {
            let entry = table.entry(*name).or_insert_with(|| Value::Table(Table::new()));
            if !entry.is_table() {
                *entry = Value::Table(Table::new());
            }
            let Value::Table(next) = entry else { unreachable!("it was made a table above") };
            table = next;
        }
        table.insert((*last).to_owned(), value.into());
    }

    /// Adds to a list.
    fn push(&mut self, path: &[&str], value: impl Into<Value>) {
        let mut list = match self.get(path) {
            Some(Value::Array(list)) => list.clone(),
            _ => Vec::new(),
        };
        list.push(value.into());
        self.set(path, Value::Array(list));
    }

    fn get(&self, path: &[&str]) -> Option<&Value> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(self.config.get(*first)?, |value, name| value.get(name))
    }
}

/// Runs it: 0 is well, 2 means that what was made is not valid.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Mosquitto { file, to } => write(mosquitto::import(&file)?, &file, "mosquitto", &to),
        Command::Emqx { file, users, to } => write(emqx::import(&file, users.as_deref(), &beside(&to.to))?, &file, "EMQX", &to),
    }
}

/// The folder for files that belong to a configuration: its name, without the ending.
fn beside(to: &Path) -> PathBuf {
    let name = if to == Path::new("-") { Path::new("hookline.toml") } else { to };
    let absolute = std::path::absolute(name).unwrap_or_else(|_| name.to_owned());
    absolute.with_extension("imported")
}

fn write(imported: Imported, from: &Path, broker: &str, To { to, force }: &To) -> anyhow::Result<ExitCode> {
    let Imported { config, notes, files } = imported;
    let mut text = format!("# Made by \"hookline import\" from {} of {broker}.\n", from.display());
    if !notes.is_empty() {
        text.push_str("#\n# What has no counterpart here, or means something else:\n");
        notes.iter().for_each(|note| text.push_str(&format!("# - {}\n", note.replace('\n', " "))));
    }
    text.push('\n');
    text.push_str(&toml::to_string_pretty(&config).context("the configuration cannot be written as TOML")?);
    let folder = beside(to);
    let to_stdout = to == Path::new("-");
    if to_stdout {
        print!("{text}");
    } else if to.exists() && !force {
        bail!("{} is there already; --to names another file, --force writes over it", to.display());
    }
    for (name, content) in &files {
        let file = folder.join(name);
        if let Some(parent) = file.parent() {
            std::fs::create_dir_all(parent).with_context(|| format!("cannot make {}", parent.display()))?;
        }
        write_secret(&file, content)?;
        eprintln!("{} is written", file.display());
    }
    if !to_stdout {
        // There may be passwords in it.
        write_secret(to, text.as_bytes())?;
        eprintln!("{} is written", to.display());
    }
    if !notes.is_empty() {
        eprintln!("What has no counterpart here, or means something else:");
        notes.iter().for_each(|note| eprintln!("  - {note}"));
    }
    match check_text(&text, &Sources::default()) {
        Ok(()) => {
            eprintln!("It is valid.");
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            eprintln!("It is not valid yet; mend it, and \"hookline check\" looks again:");
            errors.errors.iter().for_each(|error| eprintln!("  {error}"));
            Ok(ExitCode::from(2))
        }
    }
}

/// Writes a file that only its user and group may read.
fn write_secret(file: &Path, content: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
    let written = std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o640).open(file).and_then(|mut opened| {
        std::io::Write::write_all(&mut opened, content)?;
        opened.set_permissions(std::fs::Permissions::from_mode(0o640))
    });
    written.with_context(|| format!("cannot write {}", file.display()))
}
