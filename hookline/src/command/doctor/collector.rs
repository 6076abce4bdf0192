//! The OpenTelemetry collector: an empty request is sent to each path that is in use.

use std::time::{Duration, Instant};

use hookline_schemas::config::Config;

use super::Finding;
use crate::telemetry::{Target, Trouble};

/// The name of the check.
const CHECK: &str = "telemetry";

/// Asks it, where there is one.
pub(super) fn ask(config: &Config, timeout: u64) -> anyhow::Result<Option<Finding>> {
    // What is wrong with the settings is told already.
    let Ok(Some(target)) = Target::new(config) else { return Ok(None) };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let timeout = Duration::from_secs(timeout.max(1));
    let started = Instant::now();
    let answered = runtime.block_on(async {
        for path in target.paths() {
            match tokio::time::timeout(timeout, target.post(path, Vec::new())).await {
                Ok(Ok(_)) => {}
                Ok(Err(Trouble::Passing(problem) | Trouble::Lasting(problem))) => return Err(problem),
                Err(_) => return Err(format!("{path}: no answer within {} s", timeout.as_secs())),
            }
        }
        Ok(())
    });
    Ok(Some(match answered {
        Ok(()) => Finding::ok(CHECK, format!("the collector answers, within {:.0} ms", started.elapsed().as_secs_f64() * 1000.0)),
        Err(problem) => {
            let advice = "see that the collector runs, takes OTLP over HTTP at telemetry.endpoint, and lets telemetry.headers in; the broker goes on without it";
            Finding::problem(CHECK, problem, advice)
        }
    }))
}
