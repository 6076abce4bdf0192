//! What one client may do: the permissions of every source, bound to it, and what was answered about single requests.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hookline_mqtt::QoS;
use hookline_schemas::Client;
use hookline_schemas::access::{Decision, Request, Rights};
use hookline_schemas::config::{DenyAction, Permission};
use hookline_schemas::event::Access;
use parking_lot::Mutex;

use crate::rule::{Bound, Rule};

/// Permissions of one source for one client.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    source: Arc<str>,
    rules: Vec<Arc<Bound>>,
    /// What its rules do not mention is denied.
    is_closed: bool,
    /// Where each request is asked about: what was answered.
    asked: Option<Arc<Mutex<Vec<Answered>>>>,
}

/// What a source says of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Says {
    /// Allowed, or denied.
    Verdict(bool),
    /// The next one is asked.
    Nothing,
    /// Somebody has to be asked first.
    Unasked,
}

/// Answers that are kept for one client, more than one packet asks for; then the oldest goes.
const ANSWERS_MAX: usize = 1024;
/// How long a refusal holds that comes from a failure.
const FAILURE_HOLDS: Duration = Duration::from_secs(1);

/// What was answered about one request.
#[derive(Debug, Clone)]
pub(crate) struct Answered {
    pub(crate) action: Access,
    pub(crate) topic: Box<str>,
    pub(crate) qos: QoS,
    pub(crate) retain: bool,
    /// `None`: it says nothing about it.
    verdict: Option<bool>,
    until: Option<Instant>,
}

impl Answered {
    fn is_about(&self, request: &Request<'_>) -> bool {
        let same =
            self.action == request.action && self.qos == request.qos && self.retain == request.retain && *self.topic == *request.topic;
        same && self.until.is_none_or(|until| Instant::now() < until)
    }
}

impl Group {
    pub(crate) fn new(source: &Arc<str>, rules: &[Rule], is_closed: bool, client: &Client) -> Group {
        Group { source: Arc::clone(source), rules: rules.iter().filter_map(|rule| rule.bind(client)).collect(), is_closed, asked: None }
    }

    /// One that is asked about each request.
    pub(crate) fn asking(source: &Arc<str>) -> Group {
        Group { source: Arc::clone(source), rules: Vec::new(), is_closed: false, asked: Some(Arc::default()) }
    }

    /// Whether it is asked about each request.
    pub(crate) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// What it says of a request.
    pub(crate) fn says(&self, request: &Request<'_>) -> Says {
        let verdict = match &self.asked {
            Some(asked) => match asked.lock().iter().find(|answered| answered.is_about(request)) {
                Some(answered) => answered.verdict,
                None => return Says::Unasked,
            },
            None => {
                let rule = self.rules.iter().find(|rule| rule.is_about(request));
                rule.map(|rule| rule.allow).or(self.is_closed.then_some(false))
            }
        };
        verdict.map_or(Says::Nothing, Says::Verdict)
    }

    /// Keeps an answer; an error is a refusal for a moment.
    pub(crate) fn keep<E>(&self, request: &Request<'_>, answer: Result<Option<bool>, E>) {
        let Some(asked) = &self.asked else { return };
        let until = answer.is_err().then(|| Instant::now() + FAILURE_HOLDS);
        let verdict = answer.unwrap_or(Some(false));
        let Request { action, topic, qos, retain } = *request;
        let mut asked = asked.lock();
        asked.retain(|other| !(other.is_about(request) || other.until.is_some_and(|until| Instant::now() >= until)));
        if asked.len() >= ANSWERS_MAX {
            asked.remove(0);
        }
        asked.push(Answered { action, topic: topic.into(), qos, retain, verdict, until });
    }
}

/// What one client may do.
#[derive(Debug)]
pub(crate) struct ClientRights {
    /// Those that came with its login: they hold as long as it is connected.
    pub(crate) own: Option<Group>,
    pub(crate) groups: Vec<Group>,
    /// One of them is asked about each request.
    pub(crate) asks_each: bool,
    pub(crate) no_match: Permission,
    pub(crate) deny_action: DenyAction,
    pub(crate) valid_secs: u32,
    /// How often permissions had changed before these were asked for.
    pub(crate) made_at: u64,
    /// How often they have changed.
    pub(crate) changes: Arc<AtomicU64>,
}

impl ClientRights {
    /// The source that has to be asked before a request can be decided.
    pub(crate) fn undecided(&self, request: &Request<'_>) -> Option<&Group> {
        // Mostly nobody has to be asked, and rules are looked at once, by what decides.
        if !self.asks_each {
            return None;
        }
        for group in self.own.iter().chain(&self.groups) {
            match group.says(request) {
                Says::Unasked => return Some(group),
                Says::Verdict(_) => return None,
                Says::Nothing => {}
            }
        }
        None
    }
}

impl Rights for ClientRights {
    fn decide(&self, request: &Request<'_>) -> (Decision, &str) {
        let denied = match self.deny_action {
            DenyAction::Ignore => Decision::Deny,
            DenyAction::Disconnect => Decision::Disconnect,
        };
        for group in self.own.iter().chain(&self.groups) {
            match group.says(request) {
                Says::Verdict(true) => return (Decision::Allow, &group.source),
                // What nobody has asked about is not known, and not allowed.
                Says::Verdict(false) | Says::Unasked => return (denied, &group.source),
                Says::Nothing => {}
            }
        }
        (if self.no_match == Permission::Allow { Decision::Allow } else { denied }, "default")
    }

    fn asks_each(&self) -> bool {
        self.asks_each
    }

    fn is_decided(&self, request: &Request<'_>) -> bool {
        self.undecided(request).is_none()
    }

    fn valid_secs(&self) -> u32 {
        self.valid_secs
    }

    fn is_current(&self) -> bool {
        self.made_at == self.changes.load(Ordering::SeqCst)
    }

    fn as_any(&self) -> &dyn Any {
        self
    }
}
