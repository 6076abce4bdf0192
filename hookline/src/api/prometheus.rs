//! The metrics: what Prometheus scrapes, and what is sent by OTLP.

use std::fmt;

use axum::extract::State;
use hookline_core::Observer;
use hookline_core::store::Store;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::actions::{self, ActionInfo, Status};
use super::answer::OpenMetrics;
use super::extract::Json;
use super::running::Running;
use super::{Problem, Shared, rule_metrics};
use crate::telemetry::{Reason, Telemetry};

/// What all names begin with.
const PREFIX: &str = "hookline";

/// What tells the samples of a family apart.
pub(crate) type Labels = Vec<(&'static str, String)>;

/// One metric, with all its samples.
#[derive(Debug)]
pub(crate) struct Family {
    /// Without prefix, unit and the ending of counters.
    name: String,
    pub(crate) unit: Option<Measure>,
    pub(crate) help: String,
    pub(crate) samples: Samples,
}

/// The unit of a metric.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Measure {
    Seconds,
    Bytes,
}

/// The samples of a metric.
#[derive(Debug)]
pub(crate) enum Samples {
    /// They only grow, since the start.
    Counts(Vec<(Labels, u64)>),
    Levels(Vec<(Labels, f64)>),
}

impl Measure {
    /// As OpenTelemetry writes it.
    pub(crate) const fn symbol(self) -> &'static str {
        match self {
            Measure::Seconds => "s",
            Measure::Bytes => "By",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Measure::Seconds => "seconds",
            Measure::Bytes => "bytes",
        }
    }

    const fn unit(self) -> Unit {
        match self {
            Measure::Seconds => Unit::Seconds,
            Measure::Bytes => Unit::Bytes,
        }
    }
}

impl Samples {
    pub(crate) fn len(&self) -> usize {
        match self {
            Samples::Counts(counts) => counts.len(),
            Samples::Levels(levels) => levels.len(),
        }
    }
}

impl Family {
    fn counts(name: &str, help: impl Into<String>, counts: Vec<(Labels, u64)>) -> Family {
        Family { name: name.to_owned(), unit: None, help: help.into(), samples: Samples::Counts(counts) }
    }

    fn levels(name: &str, unit: Option<Measure>, help: impl Into<String>, levels: Vec<(Labels, f64)>) -> Family {
        Family { name: name.to_owned(), unit, help: help.into(), samples: Samples::Levels(levels) }
    }

    /// The name that a scrape shows.
    pub(crate) fn full_name(&self) -> String {
        let unit = self.unit.map(|unit| format!("_{}", unit.name())).unwrap_or_default();
        let end = if matches!(self.samples, Samples::Counts(_)) { "_total" } else { "" };
        format!("{PREFIX}_{}{unit}{end}", self.name)
    }

    fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let unit = self.unit.map(Measure::unit);
        match &self.samples {
            Samples::Counts(counts) => {
                let kind = ConstCounter::new(0u64).metric_type();
                let mut family = encoder.encode_descriptor(&self.name, &self.help, unit.as_ref(), kind)?;
                for (labels, count) in counts {
                    if labels.is_empty() {
                        return ConstCounter::new(*count).encode(family);
                    }
                    ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
                }
            }
            Samples::Levels(levels) => {
                let kind = ConstGauge::new(0f64).metric_type();
                let mut family = encoder.encode_descriptor(&self.name, &self.help, unit.as_ref(), kind)?;
                for (labels, level) in levels {
                    if labels.is_empty() {
                        return ConstGauge::new(*level).encode(family);
                    }
                    ConstGauge::new(*level).encode(family.encode_family(labels)?)?;
                }
            }
        }
        Ok(())
    }
}

/// All metrics, as they are now.
///
/// # Errors
/// The store cannot be read.
pub(crate) fn families(observer: &Observer, running: &Running, store: &Store, telemetry: &Telemetry) -> Result<Vec<Family>, Problem> {
    let alone = Labels::new;
    let mut families = Vec::new();
    let name = |name: &str| name.replace('/', "_");
    for stat in observer.stats() {
        let help = format!("What EMQX calls {}.count: how many there are now", stat.name.replace('/', "."));
        families.push(Family::levels(&name(stat.name), None, help, vec![(alone(), stat.count as f64)]));
    }
    for (topic, count) in observer.metrics() {
        let help = format!("What EMQX calls {}, since the start", topic.replace('/', "."));
        families.push(Family::counts(&name(&topic), help, vec![(alone(), count)]));
    }
    let uptime = observer.uptime().as_secs_f64();
    families.push(Family::levels("uptime", Some(Measure::Seconds), "Since the start", vec![(alone(), uptime)]));
    let used = store.used_bytes() as f64;
    families.push(Family::levels("store_used", Some(Measure::Bytes), "What the store takes on its disk", vec![(alone(), used)]));
    let alarms = observer.alarms(true).into_iter().map(|alarm| (vec![("name", alarm.name)], 1.0)).collect();
    families.push(Family::levels("alarm", None, "1 for each alarm that is active", alarms));
    families.extend(of_rules(running));
    families.extend(of_actions(&actions::all(running, store)?));
    families.extend(of_telemetry(telemetry));
    Ok(families)
}

fn of_rules(running: &Running) -> impl Iterator<Item = Family> {
    type Count = fn(&rule_metrics::Metrics) -> u64;
    let counts: [(&str, &str, Count); 4] = [
        ("rule_matched", "Events that were for a rule", |metrics| metrics.matched),
        ("rule_passed", "Of those, what gave a row", |metrics| metrics.passed),
        ("rule_failed_exception", "Events that a rule could not compute", |metrics| metrics.exception),
        ("rule_actions", "Rows that a rule has handed to its actions", |metrics| metrics.actions_total),
    ];
    let rules: Vec<_> = running.engine.stats().iter().map(|stats| (stats.rule.clone(), rule_metrics::Metrics::from(stats))).collect();
    counts.into_iter().map(move |(name, help, count)| {
        let counts = rules.iter().map(|(rule, metrics)| (vec![("id", rule.clone())], count(metrics))).collect();
        Family::counts(name, help, counts)
    })
}

fn of_actions(actions: &[ActionInfo]) -> Vec<Family> {
    let id = |action: &ActionInfo| vec![("id", action.name.clone())];
    type Count = fn(&ActionInfo) -> u64;
    let counts: [(&str, &str, Count); 5] = [
        ("action_accepted", "Records that were put into the queue of an action", |action| action.ledger.accepted),
        ("action_delivered", "Records that its sink has confirmed", |action| action.ledger.delivered),
        ("action_dead_lettered", "Records that its sink refused for good", |action| action.ledger.dead_lettered),
        ("action_dropped", "Records that were dropped because the queue was full, or lost with a damaged store", |action| {
            action.ledger.dropped
        }),
        ("action_expired", "Records that were too old", |action| action.ledger.expired),
    ];
    type Level = fn(&ActionInfo) -> f64;
    let levels: [(&str, Option<Measure>, &str, Level); 4] = [
        ("action_pending", None, "Records that wait in the queue of an action", |action| action.ledger.pending as f64),
        ("action_dead_letters", None, "Dead letters that are there", |action| action.dead_letters as f64),
        ("action_oldest", Some(Measure::Seconds), "How long the oldest record has waited", |action| {
            action.oldest_secs.unwrap_or_default() as f64
        }),
        ("action_connected", None, "1 where the sink takes what comes", |action| f64::from(u8::from(action.status == Status::Connected))),
    ];
    let counted = counts.into_iter().map(|(name, help, count)| {
        let counts = actions.iter().map(|action| (id(action), count(action))).collect();
        Family::counts(name, help, counts)
    });
    let measured = levels.into_iter().map(|(name, unit, help, level)| {
        let levels = actions.iter().map(|action| (id(action), level(action))).collect();
        Family::levels(name, unit, help, levels)
    });
    counted.chain(measured).collect()
}

fn of_telemetry(telemetry: &Telemetry) -> [Family; 2] {
    let accounts = telemetry.accounts();
    let sent = accounts.iter().map(|(signal, account)| (vec![("signal", (*signal).to_owned())], account.sent()));
    let dropped = accounts.iter().flat_map(|(signal, account)| {
        let labels = |reason: Reason| vec![("signal", (*signal).to_owned()), ("reason", reason.name().to_owned())];
        Reason::ALL.map(|reason| (labels(reason), account.dropped(reason)))
    });
    [
        Family::counts("telemetry_sent", "Spans, data points and log records that the collector has taken", sent.collect()),
        Family::counts("telemetry_dropped", "Spans, data points and log records that were not sent", dropped.collect()),
    ]
}

/// What a scrape gets.
#[derive(Debug)]
struct Seen(Vec<Family>);

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|family| family.encode(&mut encoder))
    }
}

/// GET /metrics at the root, and GET /prometheus/stats
pub(super) async fn get(State(shared): State<Shared>) -> Result<OpenMetrics, Problem> {
    let (running, observer, telemetry) = (shared.running(), shared.observer.clone(), shared.telemetry.clone());
    let text = shared.run(move |store| {
        let seen = Seen(families(&observer, &running, store, &telemetry)?);
        let mut registry = Registry::with_prefix(PREFIX);
        registry.register_collector(Box::new(seen));
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| Problem::new(super::Code::InternalError, error.to_string()))?;
        Ok(text)
    });
    let Json(text) = text.await?;
    Ok(OpenMetrics(text))
}
