//! `hookline pub`

use std::io::BufRead;
use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use hookline_mqtt::client::{Client, Error};

use super::{ClientArguments, qos};

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    client: ClientArguments,
    /// Topic to publish to
    #[arg(short, long)]
    topic: String,
    /// Payload; without it each line of standard input is published
    #[arg(short, long, allow_hyphen_values = true)]
    message: Option<String>,
    /// Quality of service
    #[arg(short, long, default_value_t = 1, value_parser = clap::value_parser!(u8).range(0..=2))]
    qos: u8,
    /// Keep it as the topic's retained message
    #[arg(short, long)]
    retain: bool,
}

pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let mut client = arguments.client.connect(&arguments.client.options())?;
    match &arguments.message {
        Some(message) => publish(&mut client, &arguments, message.as_bytes())?,
        None => {
            for line in std::io::stdin().lock().lines() {
                publish(&mut client, &arguments, line?.as_bytes())?;
            }
        }
    }
    client.disconnect()?;
    Ok(ExitCode::SUCCESS)
}

fn publish(client: &mut Client, arguments: &Arguments, payload: &[u8]) -> anyhow::Result<()> {
    let published = client.publish(&arguments.topic, payload, qos(arguments.qos), arguments.retain);
    let reason = match published {
        // Before version 5 that is the only word for a refusal.
        Err(Error::Io(error)) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            bail!("the broker closed the connection without an acknowledgement: it may have refused the message; -V 5 is told why")
        }
        published => published?,
    };
    if reason.is_error() {
        bail!("the broker refused the message: {}", reason.name());
    }
    Ok(())
}
