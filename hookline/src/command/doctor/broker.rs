//! The broker that runs on the data folder, and what it says of itself.

use std::path::Path;

use hookline_core::store::Stats;
use serde_json::Value;

use super::Finding;
use crate::api::Page;
use crate::api::actions::{ActionInfo, Status};
use crate::api::sources::SourceInfo;
use crate::control::{self, Control};

/// A broker that runs.
pub(super) struct Running {
    control: Control,
    /// Its process, where the system tells.
    process: Option<u32>,
}

impl Running {
    /// The one on that folder.
    pub(super) fn find(data_dir: &Path, findings: &mut Vec<Finding>) -> Option<Running> {
        let socket = control::socket(data_dir);
        if let Some(problem) = control::too_long(&socket) {
            findings.push(Finding::warning("broker", "it cannot be reached by commands", problem));
            return None;
        }
        match Control::connect(data_dir) {
            Ok(Some(control)) => {
                let process = peer(&socket);
                let who = process.map_or_else(String::new, |process| format!(" (process {process})"));
                findings.push(Finding::ok("broker", format!("it runs on {}{who}", data_dir.display())));
                Some(Running { control, process })
            }
            Ok(None) => {
                findings.push(Finding::ok("broker", format!("none runs on {}", data_dir.display())));
                None
            }
            Err(error) => {
                findings.push(Finding::problem("broker", format!("{error:#}"), "run the doctor as the user that the broker runs as"));
                None
            }
        }
    }

    pub(super) fn process(&self) -> Option<u32> {
        self.process
    }

    /// The actions that run.
    pub(super) fn actions(&self) -> anyhow::Result<Vec<ActionInfo>> {
        self.control.get("/actions")
    }

    /// What it says of itself.
    pub(super) fn look(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        let mut tell = |told: anyhow::Result<()>| {
            if let Err(error) = told {
                findings.push(Finding::problem(
                    "broker",
                    format!("{error:#}"),
                    "look at its log; where it does not answer at all, start it anew",
                ));
            }
        };
        let mut told = Vec::new();
        tell(self.alarms().map(|alarms| told.extend(alarms)));
        tell(self.actions().map(|actions| told.extend(actions.iter().filter_map(of_action))));
        tell(self.control.get::<Vec<SourceInfo>>("/sources").map(|sources| told.extend(sources.iter().filter_map(of_source))));
        tell(self.control.get::<Stats>("/store").map(|stats| told.extend(of_store(&stats))));
        findings.append(&mut told);
        findings
    }

    fn alarms(&self) -> anyhow::Result<Vec<Finding>> {
        let Page::<Value> { data, .. } = self.control.get("/alarms?activated=true&limit=100")?;
        if data.is_empty() {
            return Ok(vec![Finding::ok("alarms", "none is active")]);
        }
        let text = |alarm: &Value, key: &str| alarm[key].as_str().unwrap_or_default().to_owned();
        let one = |alarm: &Value| {
            let advice = match text(alarm, "name").as_str() {
                "memory_high" => "raise node.memory_high_bytes or give it more memory; \"hookline top\" shows whose queues are long",
                "store_full" => "free space on the disk of the data folder, raise store.bytes_max, or let the sinks work off what waits",
                "store_damaged" | "store_lost" => "\"hookline store check\" says what; \"hookline store restore\" brings a backup back",
                _ => "the broker's log has the details",
            };
            Finding::problem("alarms", format!("{}: {}", text(alarm, "name"), text(alarm, "message")), advice)
        };
        Ok(data.iter().map(one).collect())
    }
}

fn of_action(action: &ActionInfo) -> Option<Finding> {
    let check = format!("action {}", action.name);
    let name = &action.name;
    if !action.balances {
        return Some(Finding::problem(check, "its account does not balance", "keep the store and its log, and report it"));
    }
    if matches!(action.status, Status::Disconnected | Status::Retrying) {
        let waiting = format!("{} records wait", action.ledger.pending);
        let why = action.status_reason.as_deref().unwrap_or("no reason is known");
        return Some(Finding::problem(
            check,
            format!("{}: {why}; {waiting}", action.status.name()),
            "nothing is lost while it waits: bring its system back, or mend the connector and run \"hookline ctl reload\"",
        ));
    }
    if action.status == Status::Paused {
        let advice = format!("\"hookline ctl resume {name}\" lets it go on");
        return Some(Finding::warning(check, format!("it is paused; {} records wait", action.ledger.pending), advice));
    }
    (action.dead_letters > 0).then(|| {
        let advice = format!("\"hookline dlq list {name}\" shows why; \"hookline dlq replay {name}\" delivers them again");
        Finding::warning(check, format!("{} dead letters are there", action.dead_letters), advice)
    })
}

fn of_source(source: &SourceInfo) -> Option<Finding> {
    let is_away = matches!(source.status, Status::Disconnected | Status::Retrying);
    is_away.then(|| {
        let why = source.status_reason.as_deref().unwrap_or("no reason is known");
        let advice = "bring its system back, or mend the connector and run \"hookline ctl reload\"";
        Finding::problem(format!("source {}", source.name), format!("{}: {why}", source.status.name()), advice)
    })
}

fn of_store(stats: &Stats) -> Option<Finding> {
    (stats.unbalanced > 0).then(|| {
        Finding::problem(
            "store",
            format!("{} accounts do not balance", stats.unbalanced),
            "\"hookline store check\" says what does not fit together",
        )
    })
}

/// The process at the other end of a socket.
fn peer(socket: &Path) -> Option<u32> {
    let stream = std::os::unix::net::UnixStream::connect(socket).ok()?;
    let credentials = rustix::net::sockopt::socket_peercred(&stream).ok()?;
    u32::try_from(credentials.pid.as_raw_nonzero().get()).ok()
}
