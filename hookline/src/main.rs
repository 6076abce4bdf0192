//! The binary: reads the configuration, puts the parts together, and has the small tools around the broker.

/// The REST API.
mod access;
mod api;
/// A statement over what was recorded.
mod backtest;
/// The command line.
mod command;
/// The configuration: file, environment, command line.
mod config;
/// How a command reaches a running broker.
mod control;
/// What an operator has set up, as a file.
mod export;
/// The broker, put together and taken down.
mod live;
mod persistence;
mod serve;
mod telemetry;
mod trace;

use std::process::ExitCode;

use clap::Parser;

/// Many small messages are allocated and freed: this allocator does it fastest. RocksDB keeps the system's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// A thread that serves must not be missing: the process ends, and whoever watches over it starts it anew. What was acknowledged is
/// in the store.
fn end_with_a_panicked_thread() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        let thread = std::thread::current();
        if thread.name().is_some_and(|name| name.starts_with("worker-") || name == "store") {
            eprintln!("hookline: a thread that serves has panicked; the process ends");
            std::process::exit(70);
        }
    }));
}

/// The allocator asks for huge pages, in which a connection took twice the memory that it needs (10,000 idle: 3.5 kB each, 1.9 kB without).
fn decline_huge_pages() {
    // Where it cannot be had, more memory is taken.
    rustix::thread::disable_transparent_huge_pages(true).ok();
}

fn main() -> ExitCode {
    decline_huge_pages();
    end_with_a_panicked_thread();
    match command::run(command::Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("hookline: {error:#}");
            ExitCode::FAILURE
        }
    }
}
