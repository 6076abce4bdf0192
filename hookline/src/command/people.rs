//! `hookline ctl clients` and `hookline ctl admins`: who is connected, and who may use the API.

use clap::{Subcommand, ValueEnum};
use hookline_schemas::config::Role;
use serde_json::Value;

use super::ctl::{Common, Output, print_json};
use super::reach::running;
use super::users::password;
use crate::api::access::Done;
use crate::api::{NewPerson, Page, PersonInfo};
use crate::control::encode;

#[derive(Debug, Subcommand)]
pub(crate) enum Clients {
    /// List clients, with or without a connection
    List {
        /// Those with this in their identifiers
        #[arg(long)]
        like: Option<String>,
        /// Those that are connected now
        #[arg(long)]
        connected: bool,
        /// At most so many
        #[arg(short = 'n', long, default_value_t = 100)]
        limit: usize,
        #[command(flatten)]
        common: Common,
    },
    /// Show a client, and what it subscribes to
    Show {
        /// Its identifier
        clientid: String,
        #[command(flatten)]
        common: Common,
    },
    /// End the connection of a client, and its session with everything that waits in it
    Kick {
        /// Its identifier
        clientid: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum Admins {
    /// List them
    List {
        #[command(flatten)]
        common: Common,
    },
    /// Add one, or set another password and role; the password is read from standard input
    Set {
        /// The name
        name: String,
        /// What they may do
        #[arg(long, value_enum, default_value_t = RoleName::Administrator)]
        role: RoleName,
        #[command(flatten)]
        common: Common,
    },
    /// Remove one
    Remove {
        /// The name
        name: String,
        #[command(flatten)]
        common: Common,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum RoleName {
    /// Everything
    Administrator,
    /// Look, and run what is there; not users, permissions or the configuration
    Operator,
    /// Look
    Viewer,
}

impl From<RoleName> for Role {
    fn from(name: RoleName) -> Role {
        match name {
            RoleName::Administrator => Role::Administrator,
            RoleName::Operator => Role::Operator,
            RoleName::Viewer => Role::Viewer,
        }
    }
}

pub(super) fn clients(command: Clients) -> anyhow::Result<()> {
    match command {
        Clients::List { like, connected, limit, common: Common { config, output } } => {
            let like = like.map(|like| format!("&like_clientid={}", encode(&like))).unwrap_or_default();
            let state = if connected { "&conn_state=connected" } else { "" };
            let Page { data, meta, .. }: Page = running(config)?.get(&format!("/clients?limit={limit}{like}{state}"))?;
            if output == Output::Json {
                return print_json(&data);
            }
            println!("{:32} {:20} {:9} {:24} {:>6} {:>8} {:>8}", "client", "user", "connected", "address", "subs", "waiting", "inflight");
            for client in &data {
                let text = |name: &str| client[name].as_str().unwrap_or_default().to_owned();
                let number = |name: &str| client[name].as_u64().map(|number| number.to_string()).unwrap_or_default();
                let address = if client["port"].is_null() { String::new() } else { format!("{}:{}", text("ip_address"), number("port")) };
                let connected = if client["connected"] == Value::Bool(true) { "yes" } else { "no" };
                println!(
                    "{:32} {:20} {connected:9} {address:24} {:>6} {:>8} {:>8}",
                    text("clientid"),
                    text("username"),
                    number("subscriptions_cnt"),
                    number("mqueue_len"),
                    number("inflight_cnt")
                );
            }
            if meta.hasnext {
                eprintln!("there are more; --limit shows them");
            }
            Ok(())
        }
        Clients::Show { clientid, common: Common { config, output } } => {
            let broker = running(config)?;
            let mut client: Value = broker.get(&format!("/clients/{}", encode(&clientid)))?;
            client["subscriptions"] = broker.get(&format!("/clients/{}/subscriptions", encode(&clientid)))?;
            match output {
                Output::Json => print_json(&client),
                Output::Table => {
                    println!("{}", serde_json::to_string_pretty(&client)?);
                    Ok(())
                }
            }
        }
        Clients::Kick { clientid, common: Common { config, .. } } => {
            let () = running(config)?.delete(&format!("/clients/{}", encode(&clientid)))?;
            println!("{clientid} is gone");
            Ok(())
        }
    }
}

pub(super) fn admins(command: Admins) -> anyhow::Result<()> {
    match command {
        Admins::List { common: Common { config, output } } => {
            let people: Vec<PersonInfo> = running(config)?.get("/users")?;
            if output == Output::Json {
                return print_json(&people);
            }
            for PersonInfo { username, role } in &people {
                println!("{username:24} {}", serde_json::to_value(role)?.as_str().unwrap_or_default());
            }
            Ok(())
        }
        Admins::Set { name, role, common: Common { config, .. } } => {
            let broker = running(config)?;
            let new = NewPerson { username: name.clone(), password: password()?, role: role.into() };
            let _: PersonInfo = broker.post("/users", Some(&serde_json::to_value(new)?))?;
            println!("{name} may come in");
            Ok(())
        }
        Admins::Remove { name, common: Common { config, .. } } => {
            let _: Done = running(config)?.delete(&format!("/users/{}", encode(&name)))?;
            println!("{name} is removed");
            Ok(())
        }
    }
}
