//! `hookline ctl`: what a running broker does, asked over the socket in its data folder.

use std::process::ExitCode;

use clap::{Args, Subcommand, ValueEnum};
use hookline_rules::window::WindowStats;
use serde::Serialize;

use super::ConfigArguments;
use super::configuration::{self, Configuration};
use super::data::{self, Data};
use super::people::{self, Admins, Clients};
use super::reach::{exit_code, running};
use super::report::{one_line, size};
use super::users::{self, Acl, Users};
use crate::api::actions::ActionInfo;
use crate::api::audit::Entry;
use crate::api::rule_metrics::{LastError, PAGE_MAX, RuleInfo, RuleMetrics, Rules};
use crate::api::sources::SourceInfo;
use crate::api::{Page, Way};
use crate::control::encode;
use crate::live::Changes;

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// The rules, and what they have done since the broker started
    Rules {
        /// One of them, also with its statement and its last errors
        name: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// The actions: whether their sinks take what comes, their accounts, their dead letters
    Actions {
        /// One of them
        name: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// Read the configuration again: connectors, actions, sources, rules and who may change while messages flow; where the file is wrong, nothing does
    Reload {
        #[command(flatten)]
        common: Common,
    },
    /// The configuration of the running broker: shown, compared, changed, taken back
    Config {
        #[command(subcommand)]
        command: Configuration,
    },
    /// What was set up, as a file for another broker: users, permissions, bans and retained messages beside the configuration
    Data {
        #[command(subcommand)]
        command: Data,
    },
    /// What was done by the API, by whom, and what it has changed; the newest first
    Audit {
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: usize,
        /// From a time on: 2026-01-31T12:00:00Z, or how long ago, such as 2h
        #[arg(long)]
        from: Option<String>,
        /// Before a time
        #[arg(long)]
        to: Option<String>,
        /// By somebody
        #[arg(long)]
        operator: Option<String>,
        /// With this in the path
        #[arg(long)]
        path: Option<String>,
        #[command(flatten)]
        common: Common,
    },
    /// The sources: whether they reach their systems, and what they have taken in
    Sources {
        #[command(flatten)]
        common: Common,
    },
    /// The clients that have a session here
    Clients {
        #[command(subcommand)]
        command: Clients,
    },
    /// Who may use the API over the network
    Admins {
        #[command(subcommand)]
        command: Admins,
    },
    /// The users in the store
    Users {
        #[command(subcommand)]
        command: Users,
    },
    /// Permissions in the store, for a source of `type = "built_in"`
    Acl {
        #[command(subcommand)]
        command: Acl,
    },
    /// What the systems were asked that know users and permissions
    Access {
        /// Ask for the permissions of all connected clients anew, now
        #[arg(long)]
        refresh: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Let an action rest: its records wait, also over a restart, until it is resumed
    Pause {
        /// The action
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Let a paused action go on
    Resume {
        /// The action
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Args)]
pub(super) struct Common {
    #[command(flatten)]
    pub(super) config: ConfigArguments,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    pub(super) output: Output,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Output {
    /// For people
    Table,
    /// As the API has it
    Json,
}

/// A rule with everything that is known of it.
#[derive(Debug, Serialize)]
struct OneRule {
    #[serde(flatten)]
    rule: RuleInfo,
    window: Option<WindowStats>,
    last_errors: Vec<LastError>,
}

/// Runs a command: 0 is well, 2 was not carried out.
pub(crate) fn run(arguments: Arguments) -> ExitCode {
    let done = match arguments.command {
        Command::Rules { name: None, common } => rules(common),
        Command::Rules { name: Some(name), common } => rule(common, &name),
        Command::Actions { name: None, common } => actions(common),
        Command::Actions { name: Some(name), common } => action(common, &name),
        Command::Reload { common } => reload(common),
        Command::Audit { limit, from, to, operator, path, common } => {
            audit(common, limit, [("from", from), ("to", to), ("operator", operator), ("path", path)])
        }
        Command::Config { command } => configuration::run(command),
        Command::Data { command } => data::run(command),
        Command::Sources { common } => sources(common),
        Command::Clients { command } => people::clients(command),
        Command::Admins { command } => people::admins(command),
        Command::Users { command } => users::users(command),
        Command::Acl { command } => users::acl(command),
        Command::Access { refresh, common } => users::access(common, refresh),
        Command::Pause { name, common } => set_paused(common, &name, "pause"),
        Command::Resume { name, common } => set_paused(common, &name, "resume"),
    };
    exit_code(done.map(|()| ExitCode::SUCCESS))
}

fn rules(Common { config, output }: Common) -> anyhow::Result<()> {
    let broker = running(config)?;
    let mut all = Vec::new();
    for page in 1.. {
        let Rules { data, meta } = broker.get(&format!("/rules?limit={PAGE_MAX}&page={page}"))?;
        all.extend(data);
        if !meta.hasnext {
            break;
        }
    }
    if output == Output::Json {
        return print_json(&all);
    }
    println!(
        "{:24} {:>12} {:>12} {:>12} {:>10} {:>12} {:>10}  from",
        "rule", "matched", "passed", "no result", "exception", "to actions", "failed"
    );
    for RuleInfo { name, enable, from, metrics: m, .. } in &all {
        let from = if *enable { from.join(", ") } else { "(off)".to_owned() };
        println!(
            "{name:24} {:>12} {:>12} {:>12} {:>10} {:>12} {:>10}  {}",
            m.matched,
            m.passed,
            m.no_result,
            m.exception,
            m.actions_total,
            m.actions_failed,
            one_line(&from, 80)
        );
    }
    Ok(())
}

fn rule(Common { config, output }: Common, name: &str) -> anyhow::Result<()> {
    let broker = running(config)?;
    let path = format!("/rules/{}", encode(name));
    let rule: RuleInfo = broker.get(&path)?;
    let RuleMetrics { window, last_errors, .. } = broker.get(&format!("{path}/metrics"))?;
    if output == Output::Json {
        return print_json(&OneRule { rule, window, last_errors });
    }
    let off = if rule.enable { "" } else { "  (off)" };
    println!("rule       {}{off}", rule.name);
    if !rule.description.is_empty() {
        println!("           {}", one_line(&rule.description, 100));
    }
    println!("sql        {}", rule.sql.trim().replace('\n', "\n           "));
    for action in &rule.actions {
        println!("action     {}", one_line(&serde_json::to_string(action)?, 200));
    }
    let m = rule.metrics;
    println!("events     {} matched: {} passed, {} no result, {} exceptions", m.matched, m.passed, m.no_result, m.exception);
    println!("rows       {} to actions: {} taken, {} failed", m.actions_total, m.actions_success, m.actions_failed);
    if let Some(w) = window {
        println!("window     {} taken, {} filtered, {} late, {} refused, {} rows failed", w.taken, w.filtered, w.late, w.refused, w.failed);
    }
    for LastError { at, error, event } in &last_errors {
        println!("error      {at}  {}", one_line(error, 200));
        if let Some(event) = event {
            println!("           {}", one_line(&event.to_string(), 1000));
        }
    }
    Ok(())
}

fn actions(Common { config, output }: Common) -> anyhow::Result<()> {
    let all: Vec<ActionInfo> = running(config)?.get("/actions")?;
    if output == Output::Json {
        return print_json(&all);
    }
    println!(
        "{:24} {:10} {:12} {:>10} {:>10} {:>12} {:>12} {:>10} {:>10} {:>8}  why",
        "action", "type", "status", "pending", "size", "accepted", "delivered", "dropped", "expired", "letters"
    );
    for action in &all {
        let ActionInfo { name, kind, status, ledger: l, dead_letters, .. } = action;
        let (status, size, why) = (status.name(), size(l.pending_bytes), one_line(&why(action), 80));
        println!(
            "{name:24} {kind:10} {status:12} {:>10} {size:>10} {:>12} {:>12} {:>10} {:>10} {dead_letters:>8}  {why}",
            l.pending, l.accepted, l.delivered, l.dropped, l.expired
        );
    }
    Ok(())
}

fn reload(Common { config, output }: Common) -> anyhow::Result<()> {
    let changes: Changes = running(config)?.post("/configs/reload", None)?;
    if output == Output::Json {
        print_json(&changes)?;
    } else {
        print_changes(&changes);
    }
    anyhow::ensure!(changes.failed.is_empty(), "changed, but this could not be started:\n  {}", changes.failed.join("\n  "));
    Ok(())
}

pub(super) fn print_changes(changes: &Changes) {
    for (what, names) in
        [("actions", &changes.actions), ("sources", &changes.sources), ("rules", &changes.rules), ("access", &changes.access)]
    {
        println!("{what:10} {}", if names.is_empty() { "as they were".to_owned() } else { names.join(", ") });
    }
    if changes.telemetry {
        println!("{:10} changed", "telemetry");
    }
    if !changes.restart.is_empty() {
        println!("{:10} needed for {}", "restart", changes.restart.join(", "));
    }
}

fn audit(Common { config, output }: Common, limit: usize, query: [(&str, Option<String>); 4]) -> anyhow::Result<()> {
    let query = query.into_iter().filter_map(|(key, value)| Some(format!("&{key}={}", encode(&value?))));
    let query: String = query.collect();
    let Page { data, meta, .. }: Page = running(config)?.get(&format!("/audit?limit={limit}{query}"))?;
    if output == Output::Json {
        return print_json(&data);
    }
    println!("{:>7} {:24} {:16} {:6} {:>6}  what", "number", "at", "by", "way", "status");
    for entry in data {
        let Entry { seq, created_at, operator, source, method, path, status, before, after, .. } = serde_json::from_value(entry)?;
        let way = if source == Way::Api { "api" } else { "socket" };
        println!("{seq:>7} {created_at:24} {:16} {way:6} {status:>6}  {method} {}", one_line(&operator, 16), one_line(&path, 100));
        let diff = after.as_ref().and_then(|after| after["diff"].as_str());
        if let Some(diff) = diff {
            diff.lines().for_each(|line| println!("{:8}{}", "", one_line(line, 200)));
            continue;
        }
        for (what, value) in [("before", before), ("after", after)] {
            if let Some(value) = value {
                println!("{:8}{what:7} {}", "", one_line(&value.to_string(), 200));
            }
        }
    }
    if meta.hasnext {
        eprintln!("there are more; --limit shows them");
    }
    Ok(())
}

fn sources(Common { config, output }: Common) -> anyhow::Result<()> {
    let all: Vec<SourceInfo> = running(config)?.get("/sources")?;
    if output == Output::Json {
        return print_json(&all);
    }
    println!("{:24} {:10} {:12} {:>12} {:>12} {:>12}  why", "source", "type", "status", "received", "published", "rejected");
    for SourceInfo { name, kind, status, status_reason, taken, .. } in &all {
        let why = one_line(status_reason.as_deref().unwrap_or_default(), 80);
        println!("{name:24} {kind:10} {:12} {:>12} {:>12} {:>12}  {why}", status.name(), taken.received, taken.published, taken.rejected);
    }
    Ok(())
}

fn action(Common { config, output }: Common, name: &str) -> anyhow::Result<()> {
    show(&running(config)?.get(&format!("/actions/{}", encode(name)))?, output)
}

fn set_paused(Common { config, output }: Common, name: &str, verb: &str) -> anyhow::Result<()> {
    show(&running(config)?.post(&format!("/actions/{}/{verb}", encode(name)), None)?, output)
}

fn show(action: &ActionInfo, output: Output) -> anyhow::Result<()> {
    if output == Output::Json {
        return print_json(action);
    }
    let name = &action.name;
    println!("action     {}  to {} ({})", action.name, action.connector, action.kind);
    println!("status     {}  {}", action.status.name(), one_line(&why(action), 400));
    println!("rules      {}", if action.rules.is_empty() { "none".to_owned() } else { action.rules.join(", ") });
    let l = action.ledger;
    let oldest = action.oldest_secs.map(|secs| format!(", the oldest for {secs} s")).unwrap_or_default();
    println!("waiting    {} ({}){oldest}", l.pending, size(l.pending_bytes));
    let balances = if action.balances { "it balances" } else { "IT DOES NOT BALANCE" };
    println!(
        "account    {} accepted: {} delivered, {} dead-lettered, {} dropped, {} expired; {balances}",
        l.accepted, l.delivered, l.dead_lettered, l.dropped, l.expired
    );
    let a = action.activity;
    if a.attempts > 0 {
        let (mean, longest) = (a.busy_us as f64 / a.attempts as f64 / 1000.0, a.longest_us as f64 / 1000.0);
        println!("attempts   {} batches, {} failed; {mean:.1} ms each, the longest {longest:.1} ms", a.attempts, a.attempts_failed);
    }
    if action.dead_letters > 0 {
        println!("letters    {} dead letters are there; hookline dlq list {name} shows them", action.dead_letters);
    }
    Ok(())
}

/// Why nothing is delivered, or that the account is wrong.
fn why(action: &ActionInfo) -> String {
    match &action.status_reason {
        _ if !action.balances => "its account DOES NOT BALANCE".to_owned(),
        Some(reason) => format!("{reason} (attempts: {})", action.attempts),
        None => String::new(),
    }
}

pub(super) fn print_json<T: Serialize>(value: &T) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string_pretty(value)?);
    Ok(())
}
