//! The binary: reads the configuration, puts the parts together, and has the small tools around the broker.

/// The command line.
mod command;
/// The configuration: file, environment, command line.
mod config;
/// The broker, put together and taken down.
mod serve;

use std::process::ExitCode;

use clap::Parser;

/// Many small messages are allocated and freed: this allocator does it fastest. RocksDB keeps the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    match command::run(command::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hookline: {error:#}");
            ExitCode::FAILURE
        }
    }
}
