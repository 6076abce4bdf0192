//! The command line.

mod bench;
mod configuration;
mod ctl;
mod data;
mod dead_letter;
mod demo;
mod doctor;
mod import;
mod people;
mod publish;
mod reach;
mod report;
mod rule;
mod store;
mod subscribe;
mod top;
mod users;

pub(crate) use rule::events as rule_events;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use clap::{Args, CommandFactory, Parser, Subcommand};
use hookline_core::authentication::scram::{Hash, verifier};

use crate::config::{self, Sources};
use crate::serve;

/// Hookline, the MQTT broker whose acknowledgement is a promise.
#[derive(Debug, Parser)]
#[command(version, about)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the broker
    Serve {
        #[command(flatten)]
        config: ConfigArguments,
        /// Write this file when the broker serves, and remove it when it stops: for whoever has to wait for it
        #[arg(long, value_name = "FILE")]
        ready_file: Option<PathBuf>,
    },
    /// Check the configuration: every error with its path, or a summary of what would run
    Check(ConfigArguments),
    /// Start a broker with a fleet of devices that publish, in a folder that goes away with it: to see what is there
    Demo(demo::Arguments),
    /// Look for what is wrong around the broker (limits, ports, disk, certificates, outside systems), and say what to do; works while it runs and while it does not
    Doctor(doctor::Arguments),
    /// What a running broker does, live: rates, drops, queues, connectors
    Top(top::Arguments),
    /// Make a configuration of the one of another broker
    Import(import::Arguments),
    /// Publish a message, or each line of standard input
    #[command(disable_help_flag = true)]
    Pub(publish::Arguments),
    /// Subscribe, and print the messages that come
    #[command(disable_help_flag = true)]
    Sub(subscribe::Arguments),
    /// Load a broker that runs, and measure it
    Bench(bench::Arguments),
    /// Try rules: on events of your own, and on what was recorded
    Rule(rule::Arguments),
    /// What a running broker does: its rules with their last errors, its actions with their accounts
    Ctl(ctl::Arguments),
    /// Look after the store: check, figures, compaction, backup, restore. Works while the broker runs and while it does not
    Store(store::Arguments),
    /// Look after the dead letters of an action: list, show, edit, replay, purge. Works while the broker runs and while it does not
    Dlq(dead_letter::Arguments),
    /// Make a SCRAM verifier of the password on standard input, for [scram.users]
    Scram {
        /// The method
        #[arg(long, default_value = "SCRAM-SHA-256", value_parser = ["SCRAM-SHA-256", "SCRAM-SHA-512"])]
        method: String,
        /// How often the password is hashed: more makes guessing, and each login of a client, slower
        #[arg(long, default_value = "4096")]
        iterations: std::num::NonZeroU32,
    },
    /// Print what completes commands in a shell: source <(hookline completions bash)
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write man pages, one for each command, into a folder
    Man {
        /// The folder; it is made where it is missing
        folder: PathBuf,
    },
    /// Write the JSON Schemas of the configuration into a folder
    Schema {
        /// The folder
        #[arg(default_value = "schemas/json")]
        folder: PathBuf,
    },
}

/// Where the configuration comes from. What is named later wins: file, environment (`HOOKLINE__A__B=…`), --data, --set.
#[derive(Debug, Args)]
pub(crate) struct ConfigArguments {
    /// The configuration file [default: hookline.toml where it is there, else the built-in one]
    #[arg(long, value_name = "FILE", env = "HOOKLINE_CONFIG")]
    config: Option<PathBuf>,
    /// The folder for everything that is kept [default: data]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Set a key, as in --set listeners.tcp.default.bind=127.0.0.1:1883
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
}

impl ConfigArguments {
    pub(crate) fn sources(self) -> Sources {
        Sources { file: self.config, data_dir: self.data, set: self.set }
    }
}

/// Runs a command.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    match arguments.command {
        Command::Serve { config, ready_file } => serve::run(config.sources(), ready_file),
        Command::Check(arguments) => check(arguments.sources()),
        Command::Demo(arguments) => demo::run(arguments),
        Command::Doctor(arguments) => doctor::run(arguments),
        Command::Top(arguments) => top::run(arguments),
        Command::Import(arguments) => import::run(arguments),
        Command::Pub(arguments) => publish::run(arguments),
        Command::Sub(arguments) => subscribe::run(arguments),
        Command::Bench(arguments) => bench::run(arguments),
        Command::Rule(arguments) => rule::run(arguments),
        Command::Ctl(arguments) => Ok(ctl::run(arguments)),
        Command::Store(arguments) => Ok(store::run(arguments)),
        Command::Dlq(arguments) => Ok(dead_letter::run(arguments)),
        Command::Scram { method, iterations } => {
            let mut password = String::new();
            std::io::stdin().read_line(&mut password).context("cannot read the password from standard input")?;
            let password = password.trim_end_matches(['\r', '\n']);
            anyhow::ensure!(!password.is_empty(), "the password is empty");
            let hash = if method == "SCRAM-SHA-512" { Hash::Sha512 } else { Hash::Sha256 };
            println!("{}", verifier(hash, password, iterations));
            Ok(ExitCode::SUCCESS)
        }
        Command::Completions { shell } => {
            clap_complete::generate(shell, &mut Arguments::command(), "hookline", &mut std::io::stdout());
            Ok(ExitCode::SUCCESS)
        }
        Command::Man { folder } => {
            std::fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
            clap_mangen::generate_to(Arguments::command(), &folder).with_context(|| format!("cannot write into {}", folder.display()))?;
            println!("man -l {}", folder.join("hookline.1").display());
            Ok(ExitCode::SUCCESS)
        }
        Command::Schema { folder } => {
            for (name, schema) in config::schemas() {
                let path = folder.join(name);
                std::fs::write(&path, schema).with_context(|| format!("cannot write {}", path.display()))?;
                println!("{}", path.display());
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(sources: Sources) -> anyhow::Result<ExitCode> {
    let loaded = config::load(sources).and_then(|loaded| {
        serve::check(&loaded.config)?;
        Ok(loaded)
    });
    match loaded {
        Ok(loaded) => {
            let config = loaded.config;
            println!("{} is valid", loaded.origin);
            for (kind, name, listener) in config.listeners.enabled() {
                let zone = listener.zone.as_ref().map(|zone| format!(", zone {zone}")).unwrap_or_default();
                println!("  listener {}.{name} on {}{zone}", kind.name(), listener.address(kind));
            }
            for (name, connector) in &config.connectors {
                println!("  connector {name} ({})", connector.kind);
            }
            for (name, action) in &config.actions {
                println!("  action {name} to {}", action.connector);
            }
            for (name, rule) in config.rules.iter().filter(|(_, rule)| rule.enable) {
                println!("  rule {name} with {} actions", rule.actions.len());
            }
            Ok(ExitCode::SUCCESS)
        }
        Err(errors) => {
            eprintln!("{errors}");
            Ok(ExitCode::from(2))
        }
    }
}

/// How to reach a broker, for the small clients.
#[derive(Debug, Args)]
struct ClientArguments {
    /// Host of the broker
    #[arg(short = 'h', long, default_value = "127.0.0.1", env = "HOOKLINE_HOST")]
    host: String,
    /// Print help
    #[arg(long, action = clap::ArgAction::Help)]
    help: Option<bool>,
    /// Port of the broker
    #[arg(short, long, default_value_t = 1883, env = "HOOKLINE_PORT")]
    port: u16,
    /// Client identifier [default: the broker assigns one]
    #[arg(short, long, default_value = "", hide_default_value = true)]
    id: String,
    /// User name
    #[arg(short, long)]
    username: Option<String>,
    /// Password
    #[arg(short = 'P', long, requires = "username")]
    password: Option<String>,
    /// Protocol version
    #[arg(short = 'V', long, default_value = "5", value_parser = ["3.1.1", "5"])]
    mqtt: String,
}

impl ClientArguments {
    fn options(&self) -> hookline_mqtt::client::Options {
        let version = if self.mqtt == "5" { hookline_mqtt::Version::V5 } else { hookline_mqtt::Version::V311 };
        let mut options = hookline_mqtt::client::Options::new(&self.id).version(version);
        options.connect.username.clone_from(&self.username);
        options.connect.password = self.password.clone().map(String::into_bytes);
        options
    }

    fn connect(&self, options: &hookline_mqtt::client::Options) -> anyhow::Result<hookline_mqtt::client::Client> {
        let address = (self.host.as_str(), self.port);
        hookline_mqtt::client::Client::connect(address, options).map_err(|error| {
            let where_to = format!("{}:{}", self.host, self.port);
            match error {
                hookline_mqtt::client::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                    anyhow::anyhow!("nobody listens on {where_to}; is the broker running? \"hookline serve\" starts one")
                }
                error => anyhow::Error::from(error).context(format!("cannot connect to {where_to}")),
            }
        })
    }
}

fn qos(level: u8) -> hookline_mqtt::QoS {
    hookline_mqtt::QoS::from_bits(level).expect("the argument parser admits 0 to 2")
}
