//! Rules with their figures, under the paths and names that EMQX has for them; and the last errors, with what they were about.

use std::collections::BTreeMap;

use axum::extract::State;
use hookline_rules::window::WindowStats;
use hookline_rules::{Failure, RuleStats};
use hookline_schemas::Value;
use hookline_schemas::config::RuleAction;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Shared;
use super::answer::Answer;
use super::extract::{Json, Path, Query};
use super::running::{Running, RunningRule};
use crate::backtest::time;

/// A rule.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RuleInfo {
    /// The same as the name.
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) enable: bool,
    pub(crate) description: String,
    pub(crate) sql: String,
    /// The topic filters and events behind FROM.
    pub(crate) from: Vec<String>,
    pub(crate) actions: Vec<RuleAction>,
    pub(crate) metrics: Metrics,
}

/// Rules, by name.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Rules {
    pub(crate) data: Vec<RuleInfo>,
    pub(crate) meta: Meta,
}

/// Which rules they are.
#[derive(Debug, Clone, Copy, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RulesMeta")]
pub(crate) struct Meta {
    pub(crate) page: usize,
    pub(crate) limit: usize,
    /// All that there are.
    pub(crate) count: usize,
    /// There are more behind them.
    pub(crate) hasnext: bool,
}

/// What a rule has done since the broker started.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Metrics {
    /// Events that were for it.
    pub(crate) matched: u64,
    /// Of those, what gave at least one row or went into a window.
    pub(crate) passed: u64,
    /// Both kinds below together.
    pub(crate) failed: u64,
    /// What could not be computed.
    #[serde(rename = "failed.exception")]
    pub(crate) exception: u64,
    /// WHERE did not hold, or FOREACH had no item.
    #[serde(rename = "failed.no_result")]
    pub(crate) no_result: u64,
    /// Rows that were given to an action, for each action.
    #[serde(rename = "actions.total")]
    pub(crate) actions_total: u64,
    /// Of those, what went into the queue of the action, or on its way as a message.
    #[serde(rename = "actions.success")]
    pub(crate) actions_success: u64,
    /// Both kinds below together.
    #[serde(rename = "actions.failed")]
    pub(crate) actions_failed: u64,
    /// Always 0: the queue of an action takes rows while its sink is away.
    #[serde(rename = "actions.failed.out_of_service")]
    pub(crate) out_of_service: u64,
    /// What the action could not make anything of.
    #[serde(rename = "actions.failed.unknown")]
    pub(crate) unknown: u64,
    /// Always 0: a rule whose action is not there does not start.
    #[serde(rename = "actions.discarded")]
    pub(crate) discarded: u64,
}

/// The figures of a rule, with what its failures were about.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct RuleMetrics {
    pub(crate) id: String,
    pub(crate) metrics: Metrics,
    pub(crate) node_metrics: Vec<NodeMetrics>,
    /// `None`: its statement has no window.
    pub(crate) window: Option<WindowStats>,
    /// The oldest first; of a flood of them some.
    pub(crate) last_errors: Vec<LastError>,
}

/// The figures on one node.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct NodeMetrics {
    pub(crate) node: String,
    pub(crate) metrics: Metrics,
}

/// A failure.
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
pub(crate) struct LastError {
    pub(crate) at: String,
    pub(crate) error: String,
    /// The columns of the event, or the row that an action could not take; `None`: it is too large to be kept, or a window's.
    pub(crate) event: Option<serde_json::Value>,
}

/// Which rules are asked for.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Page {
    /// From 1 on.
    page: usize,
    limit: usize,
}

impl Default for Page {
    fn default() -> Self {
        Page { page: 1, limit: 100 }
    }
}

/// Rules that are answered at once.
pub(crate) const PAGE_MAX: usize = 1000;

impl From<&RuleStats> for Metrics {
    fn from(stats: &RuleStats) -> Metrics {
        Metrics {
            matched: stats.matched,
            passed: stats.passed,
            failed: stats.exception + stats.no_result,
            exception: stats.exception,
            no_result: stats.no_result,
            actions_total: stats.actions_total,
            actions_success: stats.actions_success,
            actions_failed: stats.actions_failed,
            out_of_service: 0,
            unknown: stats.actions_failed,
            discarded: 0,
        }
    }
}

impl From<Failure> for LastError {
    fn from(failure: Failure) -> LastError {
        let event = (failure.event != Value::Undefined).then(|| failure.event.to_json());
        LastError { at: time(failure.at_ms), error: failure.error, event }
    }
}

/// GET /rules?page=&limit=
pub(super) async fn get_all(State(shared): State<Shared>, Query(page): Query<Page>) -> Json<Rules> {
    let (page, limit) = (page.page.max(1), page.limit.clamp(1, PAGE_MAX));
    let running = shared.running();
    let rules = running.rules();
    let stats: BTreeMap<String, RuleStats> = shared.running().engine.stats().into_iter().map(|stats| (stats.rule.clone(), stats)).collect();
    let before = limit.saturating_mul(page - 1);
    let data: Vec<RuleInfo> = rules.iter().skip(before).take(limit).map(|(name, rule)| shown(name, rule, stats.get(name))).collect();
    let meta = Meta { page, limit, count: rules.len(), hasnext: before.saturating_add(data.len()) < rules.len() };
    Json(Rules { data, meta })
}

/// GET /rules/{id}
pub(super) async fn get_one(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<RuleInfo> {
    let running = shared.running();
    let rule = running.rule(&name)?;
    Ok(Json(shown(&name, rule, running.engine.stats_of(&name).as_ref())))
}

/// GET /rules/{id}/metrics
pub(super) async fn get_metrics(State(shared): State<Shared>, Path(name): Path<String>) -> Answer<RuleMetrics> {
    shared.running().rule(&name)?;
    Ok(Json(metrics(&shared.running(), name)))
}

fn shown(name: &str, rule: &RunningRule, stats: Option<&RuleStats>) -> RuleInfo {
    let RunningRule { settings, from } = rule;
    RuleInfo {
        id: name.to_owned(),
        name: name.to_owned(),
        enable: settings.enable,
        description: settings.description.clone(),
        sql: settings.sql.clone(),
        from: from.clone(),
        actions: settings.actions.clone(),
        // What does not run has done nothing.
        metrics: stats.map(Metrics::from).unwrap_or_default(),
    }
}

fn metrics(running: &Running, name: String) -> RuleMetrics {
    let stats = running.engine.stats_of(&name);
    let metrics = stats.as_ref().map(Metrics::from).unwrap_or_default();
    let (window, failures) = stats.map_or((None, Vec::new()), |stats| (stats.window, stats.failures));
    RuleMetrics {
        id: name,
        metrics,
        node_metrics: vec![NodeMetrics { node: running.node.clone(), metrics }],
        window,
        last_errors: failures.into_iter().map(LastError::from).collect(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use hookline_schemas::config::Config;
    use serde_json::json;

    use super::*;
    use crate::api::Code;

    fn running(sql: &str, enable: bool) -> Running {
        let config = json!({ "rules": { "hot": { "sql": sql, "actions": [{ "function": "console" }], "enable": enable } } });
        let config: Config = serde_json::from_value(config).expect("valid");
        let engine = hookline_rules::Engine::new(&config.rules, &BTreeMap::new(), None).expect("compiles");
        Running::new(&config, Arc::new(engine), std::iter::empty(), &BTreeMap::new())
    }

    #[test]
    fn the_figures_have_the_names_that_users_of_emqx_know() {
        let running = running("SELECT * FROM \"t/#\"", true);
        let told = serde_json::to_value(metrics(&running, "hot".into())).expect("plain JSON");
        let names: Vec<&String> = told["metrics"].as_object().expect("a map").keys().collect();
        let expect = [
            "matched",
            "passed",
            "failed",
            "failed.exception",
            "failed.no_result",
            "actions.total",
            "actions.success",
            "actions.failed",
            "actions.failed.out_of_service",
            "actions.failed.unknown",
            "actions.discarded",
        ];
        assert_eq!(names, expect);
        assert_eq!(told["node_metrics"][0]["metrics"], told["metrics"]);
        assert_eq!(running.rule("hit").expect_err("unknown").code, Code::NotFound);
    }

    #[test]
    fn a_rule_comes_back_as_it_was_told_also_one_that_is_off_and_wrong() {
        let (both, none): (&[&str], &[&str]) = (&["a", "$events/client/+"], &[]);
        for (sql, enable, from) in [("SELECT * FROM \"a\", \"$events/client/+\"", true, both), ("nonsense", false, none)] {
            let running = running(sql, enable);
            let told = shown("hot", running.rule("hot").expect("is there"), running.engine.stats_of("hot").as_ref());
            assert_eq!(told.from, from);
            assert_eq!(told.enable, enable);
            let text = serde_json::to_string(&told).expect("plain JSON");
            let back: RuleInfo = serde_json::from_str(&text).expect("comes back");
            assert_eq!(serde_json::to_string(&back).expect("plain JSON"), text);
        }
    }
}
