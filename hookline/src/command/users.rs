//! `hookline ctl users` and `hookline ctl access`: who may connect, and how the backends do that know it.

use std::collections::BTreeMap;
use std::io::IsTerminal;

use anyhow::{Context, ensure};
use clap::{Args, Subcommand};
use hookline_access::BackendStats;

use super::ctl::{Common, Output, print_json};
use super::reach::running;
use crate::api::access::{Done, NewUser, RULES, USERS, UserInfo};
use crate::control::encode;

#[derive(Debug, Subcommand)]
pub(crate) enum Users {
    /// The users in the store
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Add a user, or give one another password: it is read from standard input
    Set {
        /// The user's name
        name: String,
        /// The user may do everything
        #[arg(long)]
        superuser: bool,
        #[command(flatten)]
        common: Common,
    },
    /// Remove a user; clients that are connected by its name stay until they leave
    Remove {
        /// The user's name
        name: String,
        #[command(flatten)]
        common: Common,
    },
    /// Print a line for a file of users: the password is read from standard input, and no broker is needed
    Hash {
        /// The user's name
        name: String,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Acl {
    /// Show permissions
    Show {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        common: Common,
    },
    /// Set permissions, in place of those that are there: a JSON list, read from standard input, such as
    /// [{"permission": "allow", "action": "publish", "topic": "a/#"}]
    Set {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        common: Common,
    },
    /// Remove permissions
    Remove {
        #[command(flatten)]
        of: Of,
        #[command(flatten)]
        common: Common,
    },
}

/// Whose permissions: those of all, where nobody is named.
#[derive(Debug, Args)]
pub(crate) struct Of {
    /// Of this user
    #[arg(long, conflicts_with = "client")]
    user: Option<String>,
    /// Of the client with this identifier
    #[arg(long)]
    client: Option<String>,
}

impl Of {
    fn path(&self) -> String {
        match (&self.user, &self.client) {
            (Some(user), _) => format!("{RULES}/users/{}", encode(user)),
            (None, Some(client)) => format!("{RULES}/clients/{}", encode(client)),
            (None, None) => format!("{RULES}/all"),
        }
    }
}

pub(super) fn acl(command: Acl) -> anyhow::Result<()> {
    let shown: serde_json::Value = match command {
        Acl::Show { of, common } => running(common.config)?.get(&of.path())?,
        Acl::Set { of, common } => {
            let broker = running(common.config)?;
            let rules: serde_json::Value = serde_json::from_reader(std::io::stdin()).context("standard input is no JSON")?;
            broker.put(&of.path(), &rules)?
        }
        Acl::Remove { of, common } => running(common.config)?.delete(&of.path())?,
    };
    print_json(&shown)
}

pub(super) fn users(command: Users) -> anyhow::Result<()> {
    match command {
        Users::List { common: Common { config, output } } => {
            let users: Vec<UserInfo> = running(config)?.get(USERS)?;
            if output == Output::Json {
                return print_json(&users);
            }
            for user in users {
                println!("{}{}", user.user_id, if user.is_superuser { "  (superuser)" } else { "" });
            }
            Ok(())
        }
        Users::Set { name, superuser, common: Common { config, output } } => {
            let broker = running(config)?;
            let new = NewUser { user_id: name, password: password()?, is_superuser: superuser };
            let user: UserInfo = broker.post(USERS, Some(&serde_json::to_value(new)?))?;
            if output == Output::Json {
                return print_json(&user);
            }
            println!("{} may log in", user.user_id);
            Ok(())
        }
        Users::Remove { name, common: Common { config, output } } => {
            let done: Done = running(config)?.delete(&format!("{USERS}/{}", encode(&name)))?;
            if output == Output::Json {
                return print_json(&done);
            }
            println!("{name} is gone");
            Ok(())
        }
        Users::Hash { name } => {
            ensure!(!name.contains([':', '\n']), "a name in a file of users has no colon");
            println!("{name}:{}", hookline_access::hash(password()?.as_bytes())?);
            Ok(())
        }
    }
}

/// A password from standard input.
pub(super) fn password() -> anyhow::Result<String> {
    if std::io::stdin().is_terminal() {
        eprint!("password (it is shown while you type): ");
    }
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).context("cannot read the password from standard input")?;
    let password = line.trim_end_matches(['\r', '\n']).to_owned();
    ensure!(!password.is_empty(), "the password is empty");
    Ok(password)
}

/// What the backends were asked; with `refresh`, permissions are asked for anew first.
pub(super) fn access(Common { config, output }: Common, refresh: bool) -> anyhow::Result<()> {
    let broker = running(config)?;
    if refresh {
        let _: Done = broker.delete("/authorization/cache")?;
    }
    let stats: BTreeMap<String, BackendStats> = broker.get("/access")?;
    if output == Output::Json {
        return print_json(&stats);
    }
    println!(
        "{:24} {:>12} {:>12} {:>12} {:>10} {:>10} {:>10} {:>12}",
        "backend", "asked", "remembered", "answered", "failed", "spared", "mean ms", "longest ms"
    );
    for (name, s) in &stats {
        let mean_ms = s.answer_us as f64 / s.answered.max(1) as f64 / 1000.0;
        let longest_ms = s.longest_us as f64 / 1000.0;
        println!(
            "{name:24} {:>12} {:>12} {:>12} {:>10} {:>10} {mean_ms:>10.1} {longest_ms:>12.1}",
            s.asked, s.remembered, s.answered, s.failed, s.spared
        );
    }
    Ok(())
}
