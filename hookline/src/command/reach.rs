//! Where a command finds the store: with the broker that runs on it, or, where none runs, on the disk.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{anyhow, bail};
use hookline_core::store::Store;
use hookline_schemas::config::Config;

use super::ConfigArguments;
use crate::config;
use crate::control::{self, Control};

/// What a command that was not carried out ends with. 1 is for findings.
const NOT_DONE: u8 = 2;

/// The store, reached.
#[derive(Debug)]
pub(super) enum Reached {
    Broker(Control),
    Store(Arc<Store>),
}

impl Reached {
    pub(super) fn open(arguments: ConfigArguments) -> anyhow::Result<Reached> {
        Reached::of(&load(arguments)?)
    }

    /// The same, where the configuration is loaded already.
    pub(super) fn of(config: &Config) -> anyhow::Result<Reached> {
        let data_dir = &config.node.data_dir;
        if let Some(broker) = Control::connect(data_dir)? {
            return Ok(Reached::Broker(broker));
        }
        let folder = Store::folder(data_dir);
        if !folder.exists() {
            bail!("there is no store in {}; name its data folder with --data", folder.display());
        }
        let opened = Store::open(data_dir, &config.node.name, &hookline_core::store_settings(config));
        let opened = opened.map_err(|error| match control::too_long(&control::socket(data_dir)) {
            Some(problem) => anyhow!("{error}; a broker that runs there cannot be reached: {problem}"),
            None => error.into(),
        })?;
        Ok(Reached::Store(opened.store))
    }
}

impl Drop for Reached {
    fn drop(&mut self) {
        if let Reached::Store(store) = self {
            store.close();
        }
    }
}

/// The broker that runs on the data folder, for what nobody else knows.
pub(super) fn running(arguments: ConfigArguments) -> anyhow::Result<Control> {
    // Where the folder is named, the file may be wrong: a command may be there to mend it.
    let data_dir = match arguments.data.clone() {
        Some(data_dir) => data_dir,
        None => load(arguments)?.node.data_dir,
    };
    if let Some(problem) = control::too_long(&control::socket(&data_dir)) {
        bail!("a broker that runs there cannot be reached: {problem}");
    }
    Control::connect(&data_dir)?.ok_or_else(|| {
        anyhow!("no broker runs on {}; start it with \"hookline serve\", or name its data folder with --data", data_dir.display())
    })
}

/// The configuration that a command is about.
pub(super) fn load(arguments: ConfigArguments) -> anyhow::Result<Config> {
    Ok(config::load(arguments.sources()).map_err(|errors| anyhow!("{errors}"))?.config)
}

/// What a command ends with. Why it was not carried out is told.
pub(super) fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| {
        eprintln!("hookline: {error:#}");
        ExitCode::from(NOT_DONE)
    })
}
