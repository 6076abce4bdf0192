//! The outside systems: every connector is asked by the health check that it has, all at the same time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hookline_connectors::{Failure, Sink, registry};
use hookline_schemas::Value;
use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::config::Config;
use serde_json::{Map as JsonMap, Value as Json, json};

use super::Finding;
use super::broker::Running;
use crate::api::actions::Status;
use crate::{access, serve};

/// Who is asked about where logins come from: nobody.
const NOBODY: &str = "hookline-doctor";

/// How a connector is asked.
enum Probe {
    /// A connection is made, and its health check is run.
    Sink(Box<dyn Sink>),
    /// It is asked about nobody.
    Lookup(std::sync::Arc<dyn Lookup>),
    /// It is no outside system: what the broker says of it counts.
    Inside,
    /// Nothing uses it, and nothing is written there: what to ask is not known.
    Unused,
    /// What uses it is wrong, which is told already.
    Wrong,
}

/// Asks all of them.
pub(super) fn ask(config: &Config, running: Option<&Running>, timeout: u64) -> anyhow::Result<Vec<Finding>> {
    // Connectors that are no outside systems are known by the broker only.
    let actions = running.and_then(|running| running.actions().ok()).unwrap_or_default();
    let timeout = Duration::from_secs(timeout.max(1));
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    let findings = runtime.block_on(async {
        let mut asked: BTreeMap<&str, tokio::task::JoinHandle<Finding>> = BTreeMap::new();
        let mut findings = BTreeMap::new();
        for (name, connector) in &config.connectors {
            let check = format!("connector {name}");
            let kind = connector.kind.clone();
            match probe(config, name) {
                Probe::Sink(sink) => drop(asked.insert(name, tokio::spawn(ask_sink(check, kind, sink, timeout)))),
                Probe::Lookup(lookup) => drop(asked.insert(name, tokio::spawn(ask_lookup(check, kind, lookup, timeout)))),
                Probe::Inside => {
                    let away = actions.iter().find(|action| action.connector == *name && action.status == Status::Disconnected);
                    // What is wrong with an action is told with it.
                    findings.extend(away.is_none().then(|| (name.as_str(), Finding::ok(check, format!("{kind}: below the data folder")))));
                }
                Probe::Unused => {
                    let message = format!("{kind}: nothing uses it, so it was not asked");
                    drop(findings.insert(
                        name,
                        Finding::warning(check, message, "remove it, or name it in an action, a source or an authenticator"),
                    ));
                }
                Probe::Wrong => {}
            }
        }
        for (name, asked) in asked {
            let finding = asked.await.unwrap_or_else(|error| {
                Finding::problem(format!("connector {name}"), error.to_string(), "report it: the check itself has failed")
            });
            findings.insert(name, finding);
        }
        findings
    });
    // A client that hangs must not hold up the end.
    runtime.shutdown_background();
    Ok(findings.into_values().collect())
}

/// How a connector can be asked: by what uses it.
fn probe(config: &Config, name: &str) -> Probe {
    let connector = &config.connectors[name];
    let Some(kind) = registry::find(&connector.kind) else { return Probe::Wrong };
    if matches!(kind.name, "sqlite" | "file") {
        return Probe::Inside;
    }
    let of_action = config.actions.iter().find(|(_, action)| action.connector == name);
    if let Some((action, _)) = of_action {
        let mut harmless = config.clone();
        if let Some(action) = harmless.actions.get_mut(action) {
            leave_alone(&mut action.parameters);
        }
        return serve::sink(&harmless, action).map_or(Probe::Wrong, Probe::Sink);
    }
    let mut questions = config.authentication.iter().map(|one| (&one.connector, &one.parameters));
    let mut permissions = config.authorization.sources.iter().map(|one| (&one.connector, &one.parameters));
    let is_it = |(connector, _): &(&Option<String>, &JsonMap<String, Json>)| connector.as_deref() == Some(name);
    if let Some((_, parameters)) = questions.find(is_it).or_else(|| permissions.find(is_it)) {
        return access::question(config, name, parameters).map_or(Probe::Wrong, |made| Probe::Lookup(made.lookup));
    }
    let Some(make) = kind.sink else { return Probe::Unused };
    // The system is the same, whichever way messages go.
    make(&connector.settings, &least(kind.name), &config.node.data_dir).map_or(Probe::Wrong, Probe::Sink)
}

/// The least that an action of a kind needs to say: nothing is written by it.
fn least(kind: &str) -> JsonMap<String, Json> {
    let parameters = match kind {
        "kafka" => json!({ "topic": NOBODY }),
        "mongodb" => json!({ "collection": NOBODY }),
        "mysql" | "postgres" => json!({ "setup": "" }),
        "redis" => json!({ "command": ["PING"] }),
        _ => json!({}),
    };
    parameters.as_object().cloned().unwrap_or_default()
}

/// Takes out of an action's parameters what would change something: statements that make tables, and the name by which the running
/// broker's own producer would be shut out.
fn leave_alone(parameters: &mut JsonMap<String, Json>) {
    parameters.remove("transactional_id");
    if parameters.contains_key("sql") {
        parameters.insert("setup".into(), "".into());
    }
    // Those of persistence are one level down.
    for case in parameters.values_mut().filter_map(Json::as_object_mut).filter(|case| case.contains_key("sql")) {
        case.insert("setup".into(), "".into());
    }
}

async fn ask_sink(check: String, kind: String, mut sink: Box<dyn Sink>, timeout: Duration) -> Finding {
    let started = Instant::now();
    let answered = tokio::time::timeout(timeout, async {
        sink.connect().await?;
        let checked = sink.check().await;
        sink.close().await;
        checked
    });
    match answered.await {
        Ok(Ok(())) => Finding::ok(check, well(&kind, started)),
        Ok(Err(Failure::Retry(why) | Failure::Reconnect(why) | Failure::Reject(why))) => away(check, &kind, &why),
        Err(_) => late(check, &kind, timeout),
    }
}

async fn ask_lookup(check: String, kind: String, lookup: std::sync::Arc<dyn Lookup>, timeout: Duration) -> Finding {
    let started = Instant::now();
    let names = ["clientid", "username", "password", "topic", "action", "peerhost"];
    let row = Value::from_json(names.iter().map(|name| ((*name).to_owned(), Json::from(NOBODY))).collect::<JsonMap<_, _>>().into());
    let answered = tokio::time::timeout(timeout, lookup.ask(&row)).await;
    match answered {
        // Who has an objection to the question has heard it.
        Ok(Ok(_) | Err(LookupError::Question(_))) => Finding::ok(check, well(&kind, started)),
        Ok(Err(LookupError::Backend(why))) => away(check, &kind, &why),
        Err(_) => late(check, &kind, timeout),
    }
}

fn well(kind: &str, started: Instant) -> String {
    format!("{kind}: answers, within {:.0} ms", started.elapsed().as_secs_f64() * 1000.0)
}

fn away(check: String, kind: &str, why: &str) -> Finding {
    let name = check.trim_start_matches("connector ").to_owned();
    let advice = format!(
        "see that it runs and that address, login and TLS in connectors.{name} fit; records for it wait meanwhile, logins by it are refused"
    );
    let why = why.lines().next().unwrap_or_default();
    // Most of them begin with it.
    let why = if why.starts_with(&format!("{kind}:")) { why.to_owned() } else { format!("{kind}: {why}") };
    Finding::problem(check, why, advice)
}

fn late(check: String, kind: &str, timeout: Duration) -> Finding {
    let advice = "see that the network lets it through (a firewall that drops looks so); --timeout waits longer";
    Finding::problem(check, format!("{kind}: no answer within {} s", timeout.as_secs()), advice)
}
