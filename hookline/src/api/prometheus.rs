//! What Prometheus scrapes.

use std::fmt;

use axum::extract::State;
use hookline_core::Observer;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::{Registry, Unit};

use super::actions::{self, ActionInfo, Status};
use super::answer::OpenMetrics;
use super::extract::Json;
use super::rule_metrics;
use super::{Problem, Shared};

/// What is seen at one moment.
#[derive(Debug)]
struct Seen {
    observer: Observer,
    rules: Vec<(String, rule_metrics::Metrics)>,
    actions: Vec<ActionInfo>,
    store_bytes: u64,
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, of: &[(Vec<(&str, &str)>, u64)]) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, None, ConstCounter::new(0u64).metric_type())?;
    for (labels, count) in of {
        if labels.is_empty() {
            return ConstCounter::new(*count).encode(family);
        }
        ConstCounter::new(*count).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

fn gauge(
    encoder: &mut DescriptorEncoder<'_>,
    (name, unit): (&str, Option<&Unit>),
    help: &str,
    of: &[(Vec<(&str, &str)>, f64)],
) -> fmt::Result {
    let mut family = encoder.encode_descriptor(name, help, unit, ConstGauge::new(0f64).metric_type())?;
    for (labels, value) in of {
        if labels.is_empty() {
            return ConstGauge::new(*value).encode(family);
        }
        ConstGauge::new(*value).encode(family.encode_family(labels)?)?;
    }
    Ok(())
}

impl Collector for Seen {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let name = |name: &str| name.replace('/', "_");
        for stat in self.observer.stats() {
            let help = format!("What EMQX calls {}.count: how many there are now", stat.name.replace('/', "."));
            gauge(&mut encoder, (&name(stat.name), None), &help, &[(vec![], stat.count as f64)])?;
        }
        for (topic, count) in self.observer.metrics() {
            let help = format!("What EMQX calls {}, since the start", topic.replace('/', "."));
            counter(&mut encoder, &name(&topic), &help, &[(vec![], count)])?;
        }
        gauge(&mut encoder, ("uptime", Some(&Unit::Seconds)), "Since the start", &[(vec![], self.observer.uptime().as_secs_f64())])?;
        gauge(&mut encoder, ("store_used", Some(&Unit::Bytes)), "What the store takes on its disk", &[(vec![], self.store_bytes as f64)])?;
        let alarms = self.observer.alarms(true);
        let alarms: Vec<_> = alarms.iter().map(|alarm| (vec![("name", alarm.name.as_str())], 1.0)).collect();
        gauge(&mut encoder, ("alarm", None), "1 for each alarm that is active", &alarms)?;
        self.encode_rules(&mut encoder)?;
        self.encode_actions(&mut encoder)
    }
}

impl Seen {
    fn encode_rules(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        type Count = fn(&rule_metrics::Metrics) -> u64;
        let counts: [(&str, &str, Count); 4] = [
            ("rule_matched", "Events that were for a rule", |metrics| metrics.matched),
            ("rule_passed", "Of those, what gave a row", |metrics| metrics.passed),
            ("rule_failed_exception", "Events that a rule could not compute", |metrics| metrics.exception),
            ("rule_actions", "Rows that a rule has handed to its actions", |metrics| metrics.actions_total),
        ];
        for (name, help, count) in counts {
            let of: Vec<_> = self.rules.iter().map(|(rule, metrics)| (vec![("id", rule.as_str())], count(metrics))).collect();
            counter(encoder, name, help, &of)?;
        }
        Ok(())
    }

    fn encode_actions(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
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
        for (name, help, count) in counts {
            let of: Vec<_> = self.actions.iter().map(|action| (vec![("id", action.name.as_str())], count(action))).collect();
            counter(encoder, name, help, &of)?;
        }
        type Level = fn(&ActionInfo) -> f64;
        let levels: [(&str, Option<&Unit>, &str, Level); 4] = [
            ("action_pending", None, "Records that wait in the queue of an action", |action| action.ledger.pending as f64),
            ("action_dead_letters", None, "Dead letters that are there", |action| action.dead_letters as f64),
            ("action_oldest", Some(&Unit::Seconds), "How long the oldest record has waited", |action| {
                action.oldest_secs.unwrap_or_default() as f64
            }),
            ("action_connected", None, "1 where the sink takes what comes", |action| {
                f64::from(u8::from(action.status == Status::Connected))
            }),
        ];
        for (name, unit, help, level) in levels {
            let of: Vec<_> = self.actions.iter().map(|action| (vec![("id", action.name.as_str())], level(action))).collect();
            gauge(encoder, (name, unit), help, &of)?;
        }
        Ok(())
    }
}

/// GET /metrics at the root, and GET /prometheus/stats
pub(super) async fn get(State(shared): State<Shared>) -> Result<OpenMetrics, Problem> {
    let (running, observer) = (shared.running(), shared.observer.clone());
    let text = shared.run(move |store| {
        let rules = running.engine.stats().iter().map(|stats| (stats.rule.clone(), rule_metrics::Metrics::from(stats))).collect();
        let seen = Seen { observer, rules, actions: actions::all(&running, store)?, store_bytes: store.used_bytes() };
        let mut registry = Registry::with_prefix("hookline");
        registry.register_collector(Box::new(seen));
        let mut text = String::new();
        encode(&mut text, &registry).map_err(|error| Problem::new(super::Code::InternalError, error.to_string()))?;
        Ok(text)
    });
    let Json(text) = text.await?;
    Ok(OpenMetrics(text))
}
