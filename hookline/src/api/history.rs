//! How busy the broker is, and was: rates of the counters, and what there is. Kept in memory: a point each five seconds for an hour, and one each
//! minute for a day.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use hookline_core::Observer;
use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::answer::{Answer, Like};
use super::extract::{Json, Query};
use super::{Shared, shapes};
use crate::backtest::now_ms;

/// How often a point is taken.
const INTERVAL: Duration = Duration::from_secs(5);
/// Fine points that make a coarse one.
const FINE_PER_COARSE: u64 = 12;
/// Fine points that are kept: an hour.
const FINE_MAX: usize = 720;
/// Coarse ones: a day.
const COARSE_MAX: usize = 1440;
/// Ticks of the clock that Linux counts the work of a process in, for each second: the same on all machines.
const CPU_TICKS: f64 = 100.0;

/// What was counted at a moment.
#[derive(Debug, Clone, Copy)]
struct Count {
    at: Instant,
    received: u64,
    sent: u64,
    dropped: u64,
    /// Syncs of the store, and their time, microseconds.
    syncs: (u64, u64),
}

/// Messages a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Rates {
    received: f64,
    sent: f64,
    dropped: f64,
    /// How long a commit took to reach the disk, microseconds on average; `None`: there was none.
    commit_us: Option<f64>,
}

/// What there was at a moment, and the rates up to it.
#[derive(Debug, Clone, Copy)]
struct Point {
    at_ms: u64,
    connections: u64,
    subscriptions: u64,
    topics: u64,
    retained: u64,
    rates: Rates,
}

#[derive(Debug, Default)]
struct Points {
    fine: VecDeque<Point>,
    coarse: VecDeque<Point>,
    taken: u64,
    /// What was counted at the last fine, and at the last coarse one.
    last: Option<(Count, Count)>,
}

/// The points.
#[derive(Debug, Default)]
pub(super) struct History(Mutex<Points>);

impl Count {
    fn now(observer: &Observer) -> Count {
        let metrics = observer.metrics();
        let of = |name: &str| metrics.iter().find(|(other, _)| other == name).map_or(0, |(_, count)| *count);
        let (received, sent, dropped) = (of("messages/received"), of("messages/sent"), of("messages/dropped"));
        Count { at: Instant::now(), received, sent, dropped, syncs: observer.syncs() }
    }

    fn rates_since(&self, before: &Count) -> Rates {
        let secs = self.at.saturating_duration_since(before.at).as_secs_f64();
        let rate = |now: u64, before: u64| {
            if secs > 0.0 { (now.saturating_sub(before) as f64 / secs * 100.0).round() / 100.0 } else { 0.0 }
        };
        Rates {
            received: rate(self.received, before.received),
            sent: rate(self.sent, before.sent),
            dropped: rate(self.dropped, before.dropped),
            commit_us: (self.syncs.0 > before.syncs.0)
                .then(|| ((self.syncs.1 - before.syncs.1) as f64 / (self.syncs.0 - before.syncs.0) as f64).round()),
        }
    }
}

impl Point {
    fn now(observer: &Observer) -> Point {
        let stats = observer.stats();
        let of = |name: &str| stats.iter().find(|stat| stat.name == name).map_or(0, |stat| stat.count);
        Point {
            at_ms: now_ms(),
            connections: of("connections"),
            subscriptions: of("subscriptions"),
            topics: of("topics"),
            retained: of("retained"),
            rates: Rates::default(),
        }
    }

    fn describe(&self) -> Value {
        let Point { at_ms, connections, subscriptions, topics, retained, rates } = self;
        json!({
            "time_stamp": at_ms,
            "connections": connections,
            "live_connections": connections,
            "subscriptions": subscriptions,
            "topics": topics,
            "retained_msg_count": retained,
            "received_msg_rate": rates.received,
            "sent_msg_rate": rates.sent,
            "dropped_msg_rate": rates.dropped,
            "commit_latency_us": rates.commit_us,
        })
    }
}

impl Points {
    fn take(&mut self, count: Count, point: Point) {
        let Some((fine, coarse)) = &mut self.last else {
            self.last = Some((count, count));
            return;
        };
        push(&mut self.fine, Point { rates: count.rates_since(fine), ..point }, FINE_MAX);
        *fine = count;
        self.taken += 1;
        if self.taken.is_multiple_of(FINE_PER_COARSE) {
            push(&mut self.coarse, Point { rates: count.rates_since(coarse), ..point }, COARSE_MAX);
            *coarse = count;
        }
    }

    /// From a moment on: coarse ones up to where the fine ones begin.
    fn since(&self, from_ms: u64) -> impl Iterator<Item = &Point> {
        let fine_ms = self.fine.front().map_or(u64::MAX, |point| point.at_ms);
        let coarse = self.coarse.iter().filter(move |point| point.at_ms < fine_ms);
        coarse.chain(&self.fine).filter(move |point| point.at_ms >= from_ms)
    }
}

fn push(points: &mut VecDeque<Point>, point: Point, count_max: usize) {
    if points.len() == count_max {
        points.pop_front();
    }
    points.push_back(point);
}

/// Takes points until it is told to stop.
pub(super) async fn run(history: Arc<History>, observer: Observer, mut stop: watch::Receiver<bool>) {
    let mut ticks = interval(INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => history.0.lock().take(Count::now(&observer), Point::now(&observer)),
        }
    }
}

/// GET /monitor_current
pub(super) async fn get_current(State(shared): State<Shared>) -> Answer<Like<shapes::MonitorNow>> {
    let (count, mut point) = (Count::now(&shared.observer), Point::now(&shared.observer));
    point.rates = shared.history.0.lock().fine.back().map(|last| last.rates).unwrap_or_default();
    let mut described = point.describe();
    if let Some(described) = described.as_object_mut() {
        described.remove("time_stamp");
        described.insert("node".into(), shared.observer.node().into());
        described.insert("received".into(), count.received.into());
        described.insert("sent".into(), count.sent.into());
        described.insert("dropped".into(), count.dropped.into());
        described.insert("memory_bytes".into(), shared.observer.memory_bytes().into());
        described.insert("cpu_seconds".into(), cpu_seconds().into());
    }
    Ok(Json(Like::new(described)))
}

/// How far back is asked.
#[derive(Debug, Deserialize, JsonSchema)]
pub(super) struct Latest {
    /// Seconds.
    latest: Option<u64>,
}

/// GET /monitor?latest=SECONDS
pub(super) async fn get(State(shared): State<Shared>, Query(Latest { latest }): Query<Latest>) -> Answer<Vec<Like<shapes::MonitorPoint>>> {
    let from_ms = latest.map_or(0, |secs| now_ms().saturating_sub(secs.saturating_mul(1000)));
    Ok(Json(shared.history.0.lock().since(from_ms).map(|point| Like::new(point.describe())).collect()))
}

/// The work that this process has done, in seconds of one processor; `None`: the system does not say.
fn cpu_seconds() -> Option<f64> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    // The name of the process, in parentheses, may have anything in it.
    let (_, rest) = stat.rsplit_once(')')?;
    let mut fields = rest.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok();
    Some((f64::from(ticks()?) + f64::from(ticks()?)) / CPU_TICKS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_are_fine_for_an_hour_and_coarse_for_a_day() {
        let (mut points, begin) = (Points::default(), Instant::now());
        let point = |at_ms| Point { at_ms, connections: 1, subscriptions: 2, topics: 3, retained: 4, rates: Rates::default() };
        let days = 2 * 24 * 3600 / 5;
        for tick in 0..=days {
            let count = Count {
                at: begin + INTERVAL * tick,
                received: u64::from(tick) * 50,
                sent: u64::from(tick) * 5,
                dropped: 7,
                syncs: (u64::from(tick), u64::from(tick) * 300),
            };
            points.take(count, point(u64::from(tick) * 5000));
        }
        let now_ms = u64::from(days) * 5000;
        assert_eq!((points.fine.len(), points.coarse.len()), (FINE_MAX, COARSE_MAX));
        assert!(
            points
                .fine
                .iter()
                .chain(&points.coarse)
                .all(|point| point.rates == Rates { received: 10.0, sent: 1.0, dropped: 0.0, commit_us: Some(300.0) })
        );
        assert_eq!(points.since(now_ms - 60_000).count(), 13);
        let all: Vec<u64> = points.since(0).map(|point| point.at_ms).collect();
        assert!(all.is_sorted_by(|a, b| a < b) && all.len() == FINE_MAX + COARSE_MAX - 60, "{}", all.len());
        assert!(now_ms - all[0] < 24 * 3_600_000 && now_ms - all[0] > 23 * 3_600_000);
    }

    #[test]
    fn the_work_of_the_process_is_known() {
        assert!(cpu_seconds().is_some_and(|seconds| seconds >= 0.0));
    }
}
