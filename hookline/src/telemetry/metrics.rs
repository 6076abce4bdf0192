//! The metrics of `/metrics`, sent at an interval.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::metrics::v1::number_data_point::Value;
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Metric, NumberDataPoint, ResourceMetrics, ScopeMetrics, Sum, metric,
};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::attribute::{attribute, scope};
use super::exporter::Exporter;
use super::{Metrics, now_ns};
use crate::api::{Family, Labels, Samples};

/// How often it is looked whether it is time: the interval may change.
const TICK: Duration = Duration::from_secs(1);

/// Reports at each interval, and at the end.
pub(super) async fn run(mut exporter: Exporter, metrics: Metrics) {
    let began_ns = now_ns();
    let mut reported: Option<Instant> = None;
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let is_last = tokio::select! {
            _ = ticks.tick() => false,
            () = exporter.stopped() => true,
        };
        let target = exporter.shared.target.load_full();
        if let Some(target) = target.filter(|target| target.metrics)
            && (is_last || reported.is_none_or(|at| at.elapsed() >= target.metrics_interval))
        {
            reported = Some(Instant::now());
            let seen = Arc::clone(&metrics);
            match tokio::task::spawn_blocking(move || seen()).await {
                Ok(families) => {
                    let points = families.iter().map(|family| family.samples.len()).sum();
                    let message = request(target.resource.clone(), families, began_ns);
                    let shared = Arc::clone(&exporter.shared);
                    exporter.send(&message, points, &shared.metrics).await;
                }
                Err(error) => tracing::error!(%error, "the metrics cannot be seen"),
            }
        }
        if is_last {
            return;
        }
    }
}

/// A report, as the collector takes it.
fn request(resource: Resource, families: Vec<Family>, began_ns: u64) -> Vec<u8> {
    let now = now_ns();
    let metrics = families.into_iter().filter(|family| family.samples.len() > 0).map(|family| metric(family, began_ns, now)).collect();
    let scope_metrics = vec![ScopeMetrics { scope: Some(scope()), metrics, ..ScopeMetrics::default() }];
    let resource_metrics = vec![ResourceMetrics { resource: Some(resource), scope_metrics, ..ResourceMetrics::default() }];
    ExportMetricsServiceRequest { resource_metrics }.encode_to_vec()
}

fn metric(family: Family, began_ns: u64, now: u64) -> Metric {
    let (name, unit) = (family.full_name(), family.unit.map_or("1", |unit| unit.symbol()));
    let point = |labels: Labels, value, start_time_unix_nano| NumberDataPoint {
        attributes: labels.iter().map(|(key, value)| attribute(key, value.as_str())).collect(),
        start_time_unix_nano,
        time_unix_nano: now,
        value: Some(value),
        ..NumberDataPoint::default()
    };
    let data = match family.samples {
        Samples::Counts(counts) => {
            let count = |count: u64| Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX));
            let data_points = counts.into_iter().map(|(labels, value)| point(labels, count(value), began_ns)).collect();
            let aggregation_temporality = AggregationTemporality::Cumulative.into();
            metric::Data::Sum(Sum { data_points, aggregation_temporality, is_monotonic: true })
        }
        Samples::Levels(levels) => {
            let data_points = levels.into_iter().map(|(labels, level)| point(labels, Value::AsDouble(level), 0)).collect();
            metric::Data::Gauge(Gauge { data_points })
        }
    };
    Metric { name, description: family.help, unit: unit.to_owned(), data: Some(data), ..Metric::default() }
}
