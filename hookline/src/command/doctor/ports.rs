//! The addresses that a broker listens on: free, its own, or somebody else's.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};

use hookline_schemas::config::Config;

use super::Finding;
use super::broker::Running;

/// In `/proc/net/tcp`: the state of a socket that listens.
const LISTENS: &str = "0A";

pub(super) fn look(config: &Config, running: Option<&Running>) -> Vec<Finding> {
    let listeners = config.listeners.enabled();
    let listeners = listeners.map(|(kind, name, listener)| (format!("listeners.{}.{name}", kind.name()), listener.address(kind)));
    let all = listeners.chain(config.api.bind.map(|bind| ("api".to_owned(), bind)));
    let own = running.and_then(Running::process);
    all.map(|(path, address)| of_address(&path, address, running.is_some(), own)).collect()
}

fn of_address(path: &str, address: SocketAddr, runs: bool, own: Option<u32>) -> Finding {
    const CHECK: &str = "ports";
    if address.port() == 0 {
        return Finding::ok(CHECK, format!("{path}: {address} takes any free port"));
    }
    match TcpListener::bind(address) {
        Ok(_) if runs => Finding::warning(
            CHECK,
            format!("{path}: nobody listens on {address}, although the broker runs"),
            "the broker that runs has another configuration; listeners change when it is started anew",
        ),
        Ok(_) => Finding::ok(CHECK, format!("{path}: {address} is free")),
        Err(error) if error.kind() == ErrorKind::AddrInUse => {
            let owner = owner(address.port());
            match owner {
                Some((process, _)) if Some(process) == own => Finding::ok(CHECK, format!("{path}: the broker listens on {address}")),
                // Whose socket it is only its user and root can see.
                None if runs => Finding::ok(CHECK, format!("{path}: {address} is taken, as by the broker that runs")),
                owner => {
                    let whose = owner.map_or_else(
                        || "a process that cannot be seen from here".to_owned(),
                        |(process, name)| format!("{name} (process {process})"),
                    );
                    let advice = format!("end that process, or set {path}.bind to another address");
                    Finding::problem(CHECK, format!("{path}: {address} is taken by {whose}"), advice)
                }
            }
        }
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Finding::problem(
            CHECK,
            format!("{path}: {address} is not for this user: {error}"),
            "ports below 1024 need CAP_NET_BIND_SERVICE; choose a higher one, or give the broker that capability",
        ),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => Finding::problem(
            CHECK,
            format!("{path}: this machine has no address {address}"),
            format!("set {path}.bind to one that it has, or to 0.0.0.0"),
        ),
        Err(error) => {
            Finding::problem(CHECK, format!("{path}: cannot listen on {address}: {error}"), format!("set {path}.bind to another address"))
        }
    }
}

/// The process that listens on a port, and its name.
fn owner(port: u16) -> Option<(u32, String)> {
    let tables = ["/proc/net/tcp", "/proc/net/tcp6"].map(|path| std::fs::read_to_string(path).unwrap_or_default());
    let sockets: Vec<String> =
        tables.iter().flat_map(|table| table.lines().skip(1)).filter_map(|line| listening_inode(line, port)).collect();
    let processes: BTreeMap<u32, std::path::PathBuf> = std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .filter_map(|entry| Some((entry.file_name().to_str()?.parse().ok()?, entry.path())))
        .collect();
    let has = |folder: &std::path::Path| {
        let files = std::fs::read_dir(folder.join("fd")).into_iter().flatten().flatten();
        files.filter_map(|file| std::fs::read_link(file.path()).ok()).any(|target| {
            let inode = target.to_str().and_then(|target| target.strip_prefix("socket:[")?.strip_suffix(']'));
            inode.is_some_and(|inode| sockets.iter().any(|socket| socket == inode))
        })
    };
    let (process, folder) = processes.into_iter().find(|(_, folder)| has(folder))?;
    let name = std::fs::read_to_string(folder.join("comm")).unwrap_or_default();
    Some((process, name.trim().to_owned()))
}

/// The inode of a socket that listens on the port, from a line of `/proc/net/tcp`.
fn listening_inode(line: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = line.split_whitespace().collect();
    let (local, state, inode) = (fields.get(1)?, fields.get(3)?, fields.get(9)?);
    let (_, hex) = local.rsplit_once(':')?;
    (*state == LISTENS && u16::from_str_radix(hex, 16).ok()? == port).then(|| (*inode).to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_that_is_taken_names_its_process() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("an address");
        assert_eq!(owner(address.port()).map(|(process, _)| process), Some(std::process::id()));
        let finding = of_address("listeners.tcp.default", address, false, None);
        assert_eq!(finding.verdict, super::super::Verdict::Problem);
        assert!(finding.message.contains(&format!("process {}", std::process::id())), "{finding:?}");
        drop(listener);
        assert_eq!(of_address("x", address, false, None).verdict, super::super::Verdict::Ok);
    }
}
