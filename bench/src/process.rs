//! What the operating system says of the broker's process.

use std::time::Duration;

use anyhow::Context;

/// User and system time of a process, from `/proc/<pid>/stat`, fields 14 and 15 in ticks of 10 ms.
pub fn cpu_time(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("the broker is gone")?;
    let behind_name = stat.rsplit_once(')').map_or("", |(_, rest)| rest);
    let ticks: u64 = behind_name.split_whitespace().skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}

/// Memory of a process that is resident, bytes, from `/proc/<pid>/status`.
pub fn resident_bytes(pid: u32) -> anyhow::Result<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).context("the broker is gone")?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib: u64 = line.and_then(|line| line.split_whitespace().next()).and_then(|kib| kib.parse().ok()).context("no VmRSS")?;
    Ok(kib << 10)
}

/// Lets this process and those that it starts open as many files as it may.
pub fn raise_file_limit() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let all = rustix::process::Rlimit { current: limit.maximum, maximum: limit.maximum };
    // Where that is refused, connecting says so.
    rustix::process::setrlimit(rustix::process::Resource::Nofile, all).ok();
}
