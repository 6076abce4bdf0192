//! `hookline doctor`: looks at everything around a broker that may be wrong, whether one runs or not, and says what to do.

mod backends;
mod broker;
mod collector;
mod files;
mod machine;
mod ports;

use std::path::Path;
use std::process::ExitCode;

use clap::Args;
use hookline_schemas::config::Config;
use serde::Serialize;
use serde_json::json;

use super::ConfigArguments;
use super::ctl::{Output, print_json};
use crate::config::{self, Loaded, Secrets};
use crate::serve;

/// The check of the configuration itself.
const CONFIGURATION: &str = "configuration";

#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The form of what is printed
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
    /// End with 1 where there are warnings
    #[arg(long)]
    strict: bool,
    /// Seconds that an outside system may take to answer
    #[arg(long, value_name = "SECS", default_value_t = 5)]
    timeout: u64,
    /// Warn of certificates that end within so many days
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    certificate_days: u32,
}

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    Ok,
    /// It works, and may not for long, or not for everybody.
    Warning,
    /// It does not work.
    Problem,
}

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Finding {
    /// What it is about, such as `disk` or `connector kafka`.
    check: String,
    verdict: Verdict,
    message: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    advice: Option<String>,
}

impl Finding {
    fn ok(check: impl Into<String>, message: impl Into<String>) -> Finding {
        Finding { check: check.into(), verdict: Verdict::Ok, message: message.into(), advice: None }
    }

    fn warning(check: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: check.into(), verdict: Verdict::Warning, message: message.into(), advice: Some(advice.into()) }
    }

    fn problem(check: impl Into<String>, message: impl Into<String>, advice: impl Into<String>) -> Finding {
        Finding { check: check.into(), verdict: Verdict::Problem, message: message.into(), advice: Some(advice.into()) }
    }
}

/// Runs it: 0 is well, 2 has problems; with `--strict` 1 has warnings.
pub(crate) fn run(arguments: Arguments) -> anyhow::Result<ExitCode> {
    let Arguments { config, output, strict, timeout, certificate_days } = arguments;
    let named = config.data.clone();
    let mut findings = Vec::new();
    match load(config, &mut findings) {
        Some(Loaded { config, secrets, .. }) => look(&config, &secrets, timeout, certificate_days, &mut findings)?,
        // The folder is what is known.
        None => findings.extend(named.as_deref().map(machine::disk).unwrap_or_default()),
    }
    // What a check of its own tells has the better advice.
    let told: Vec<String> =
        findings.iter().filter(|finding| finding.check != CONFIGURATION).map(|finding| finding.message.clone()).collect();
    findings.retain(|finding| finding.check != CONFIGURATION || !told.contains(&finding.message));
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (well, warnings, problems) = (count(Verdict::Ok), count(Verdict::Warning), count(Verdict::Problem));
    if output == Output::Json {
        print_json(&json!({"findings": findings, "ok": well, "warnings": warnings, "problems": problems}))?;
    } else {
        findings.iter().for_each(print);
        println!("{well} ok, {warnings} warnings, {problems} problems");
    }
    Ok(match (problems, warnings) {
        (0, 0) => ExitCode::SUCCESS,
        (0, _) if !strict => ExitCode::SUCCESS,
        (0, _) => ExitCode::from(1),
        _ => ExitCode::from(2),
    })
}

/// Reads the configuration, and tells of it as `hookline check` does; `None`: it cannot be read.
fn load(arguments: ConfigArguments, findings: &mut Vec<Finding>) -> Option<Loaded> {
    let mut tell = |errors: config::Errors| {
        for error in errors.errors {
            findings.push(Finding::problem(
                "configuration",
                error,
                format!("mend it in {}; \"hookline check\" tells the same", errors.origin),
            ));
        }
    };
    let loaded = config::load(arguments.sources()).map_err(&mut tell).ok()?;
    match serve::check(&loaded.config) {
        Ok(()) => findings.push(Finding::ok(CONFIGURATION, format!("{} is valid", loaded.origin))),
        Err(errors) => tell(config::Errors { origin: loaded.origin.clone(), ..errors }),
    }
    Some(loaded)
}

fn look(config: &Config, secrets: &Secrets, timeout: u64, certificate_days: u32, findings: &mut Vec<Finding>) -> anyhow::Result<()> {
    let data_dir = &config.node.data_dir;
    let running = broker::Running::find(data_dir, findings);
    findings.extend(machine::limits(config, running.as_ref().and_then(broker::Running::process)));
    findings.extend(ports::look(config, running.as_ref()));
    let newest = newest_record(data_dir, findings);
    findings.extend(machine::clock(newest));
    findings.extend(machine::disk(data_dir));
    findings.extend(machine::space(config));
    findings.extend(files::certificates(config, certificate_days));
    findings.extend(files::permissions(config, secrets));
    findings.extend(backends::ask(config, running.as_ref(), timeout)?);
    findings.extend(collector::ask(config, timeout)?);
    if let Some(running) = &running {
        findings.extend(running.look());
    }
    Ok(())
}

/// When the newest record was written, as far as can be seen. A store that this version cannot read is told.
fn newest_record(data_dir: &Path, findings: &mut Vec<Finding>) -> Option<u64> {
    match hookline_core::store::glance(data_dir) {
        Ok(None) => {
            findings.push(Finding::ok("store", format!("there is none in {} yet; the first start makes it", data_dir.display())));
            None
        }
        Ok(Some(glance)) => {
            let known = glance.format_known;
            findings.push(match glance.format {
                Some(format) if format > known => Finding::problem(
                    "store",
                    format!("it is in format {format}, and this version of Hookline knows formats up to {known}"),
                    "use the newer version that has written it, or restore a backup that this version has made",
                ),
                Some(format) if format < known => {
                    Finding::ok("store", format!("it is in format {format}; the next start makes it format {known}"))
                }
                Some(format) => Finding::ok("store", format!("it is in format {format}, which this version writes")),
                None => {
                    Finding::warning("store", "it was never opened to its end", "start the broker: it makes the store anew or mends it")
                }
            });
            glance.newest_at_ms
        }
        Err(error) => {
            let advice = "run it as the broker's user; where that helps nothing, \"hookline store check\" says what is damaged";
            findings.push(Finding::warning("store", format!("cannot look into it: {error}"), advice));
            None
        }
    }
}

fn print(finding: &Finding) {
    let word = match finding.verdict {
        Verdict::Ok => "ok",
        Verdict::Warning => "warning",
        Verdict::Problem => "PROBLEM",
    };
    println!("{word:8} {:20} {}", finding.check, finding.message);
    if let Some(advice) = &finding.advice {
        println!("{:29} -> {advice}", "");
    }
}
