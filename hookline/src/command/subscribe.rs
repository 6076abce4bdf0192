//! `hookline sub`

use std::io::Write;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args;

use super::{ClientArguments, qos};

/// How often the connection is kept alive; half of what was promised in CONNECT.
const PING_INTERVAL: Duration = Duration::from_secs(30);

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientArguments,
    /// Topic filter; may be given several times
    #[arg(short, long, required = true)]
    topic: Vec<String>,
    /// Quality of service
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Leave after so many messages
    #[arg(short, long)]
    count: Option<u64>,
    /// Leave after so many seconds
    #[arg(short = 'W', long, value_name = "SECONDS")]
    wait: Option<u64>,
    /// Keep the session for so many seconds after leaving; needs --id
    #[arg(long, value_name = "SECONDS", requires = "id")]
    session_expiry: Option<u32>,
    /// Print the topic before each payload
    #[arg(short, long)]
    verbose: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut options = arguments.client.options();
    if let Some(expiry) = arguments.session_expiry {
        options = options.persistent(expiry);
    }
    let mut client = arguments.client.connect(&options)?;
    let filters: Vec<_> = arguments.topic.iter().map(|topic| (topic.as_str(), qos(arguments.qos))).collect();
    for (reason, (topic, _)) in client.subscribe(&filters)?.iter().zip(&filters) {
        if reason.is_error() {
            bail!("the broker refused the subscription to {topic}: {}", reason.name());
        }
    }
    let deadline = arguments.wait.map(|secs| Instant::now() + Duration::from_secs(secs));
    let mut left = arguments.count;
    while left != Some(0) {
        let wait = deadline.map_or(PING_INTERVAL, |deadline| deadline.saturating_duration_since(Instant::now()).min(PING_INTERVAL));
        if wait.is_zero() {
            eprintln!("hookline: no more messages within the time");
            return Ok(ExitCode::from(27));
        }
        match client.receive(wait)? {
            Some(message) => {
                print(&message.topic, &message.payload, arguments.verbose)?;
                left = left.map(|left| left - 1);
            }
            None => client.send_ping()?,
        }
    }
    client.disconnect()?;
    Ok(ExitCode::SUCCESS)
}

fn print(topic: &str, payload: &[u8], verbose: bool) -> std::io::Result<()> {
    let mut out = std::io::stdout().lock();
    if verbose {
        write!(out, "{topic} ")?;
    }
    out.write_all(payload)?;
    out.write_all(b"\n")?;
    out.flush()
}
