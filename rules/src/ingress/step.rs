//! What validations and transformations have in common: topics, counters, and what a failure leads to.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use hookline_mqtt::{ReasonCode, topic};
use hookline_schemas::config::{FailureAction, FailureLog};
use hookline_schemas::gate::Verdict;

use crate::error::EvalError;

/// A validation or a transformation, without what it does.
#[derive(Debug)]
pub(super) struct Step {
    name: Arc<str>,
    topics: Vec<String>,
    failure_action: FailureAction,
    log_failure: FailureLog,
    matched: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
}

/// Which of the two a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepKind {
    Validation,
    Transformation,
}

/// What a validation or transformation has done so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StepStats {
    pub kind: StepKind,
    pub name: String,
    /// Messages that were for it.
    pub matched: u64,
    /// Those that passed.
    pub succeeded: u64,
    /// Those that did not.
    pub failed: u64,
}

impl Step {
    /// What is wrong goes into `problems`, with its key.
    pub(super) fn new(
        name: &str,
        topics: &[String],
        failure_action: FailureAction,
        log_failure: FailureLog,
        problems: &mut Vec<(String, String)>,
    ) -> Step {
        if topics.is_empty() {
            problems.push(("topics".to_owned(), "missing; name at least one topic filter, such as \"sensors/#\"".to_owned()));
        }
        for filter in topics.iter().filter(|filter| !topic::filter_is_valid(filter, usize::MAX)) {
            let problem = format!("\"{filter}\" is no topic filter: \"#\" must be last, and wildcards must stand alone in their level");
            problems.push(("topics".to_owned(), problem));
        }
        Step {
            name: name.into(),
            topics: topics.to_vec(),
            failure_action,
            log_failure,
            matched: AtomicU64::new(0),
            succeeded: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(super) fn name(&self) -> &str {
        &self.name
    }

    pub(super) fn is_for(&self, name: &str) -> bool {
        self.topics.iter().any(|filter| topic::matches(filter, name))
    }

    pub(super) fn count_matched(&self) {
        self.matched.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_succeeded(&self) {
        self.succeeded.fetch_add(1, Ordering::Relaxed);
    }

    /// Counts and logs a failure; the verdict that it leads to, where it leads to one.
    pub(super) fn fail(&self, problem: &EvalError, kind: StepKind) -> Option<Verdict> {
        let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
        // The first, and then ever more rarely: a bad device must not fill the log.
        if failed.is_power_of_two() {
            self.log(problem, kind, failed);
        }
        let name = Arc::clone(&self.name);
        match (self.failure_action, kind) {
            (FailureAction::Ignore, _) => None,
            (FailureAction::Drop, _) => Some(Verdict::Drop { name }),
            (FailureAction::Reject, StepKind::Validation) => Some(Verdict::Reject { name, reason: ReasonCode::PayloadFormatInvalid }),
            (FailureAction::Reject, StepKind::Transformation) => {
                Some(Verdict::Reject { name, reason: ReasonCode::ImplementationSpecificError })
            }
        }
    }

    fn log(&self, problem: &EvalError, kind: StepKind, failed: u64) {
        let (name, kind) = (&*self.name, kind.name());
        match self.log_failure {
            FailureLog::Error => tracing::error!(kind, name, %problem, failed, "message failed"),
            FailureLog::Warning => tracing::warn!(kind, name, %problem, failed, "message failed"),
            FailureLog::Info => tracing::info!(kind, name, %problem, failed, "message failed"),
            FailureLog::Debug => tracing::debug!(kind, name, %problem, failed, "message failed"),
            FailureLog::None => {}
        }
    }

    pub(super) fn stats(&self, kind: StepKind) -> StepStats {
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        StepStats {
            kind,
            name: self.name.to_string(),
            matched: load(&self.matched),
            succeeded: load(&self.succeeded),
            failed: load(&self.failed),
        }
    }
}

impl StepKind {
    /// The word in logs and counters.
    pub const fn name(self) -> &'static str {
        match self {
            StepKind::Validation => "validation",
            StepKind::Transformation => "transformation",
        }
    }
}
