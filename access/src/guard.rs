//! Asking an outside system without hurting it or us: deadlines, bounded numbers, pauses after failures, answers remembered.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use hookline_schemas::Value;
use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::config::Backend;
use moka::future::Cache;
use parking_lot::Mutex;
use serde_json::Value as Json;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::timeout;

/// What was found.
pub(crate) type Found = Arc<Vec<Value>>;

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unanswered {
    /// Too many wait already.
    #[error("too many questions wait")]
    Busy,
    #[error("{0}")]
    Failed(String),
    /// It cannot answer this question: others it may.
    #[error("{0}")]
    Question(String),
}

/// What a backend was asked since the start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct BackendStats {
    /// Questions, those that were answered from memory included.
    pub asked: u64,
    /// Those that were answered from memory, or together with another that asked the same at the time.
    #[serde(default)]
    pub remembered: u64,
    /// Those that the backend itself has answered.
    pub answered: u64,
    /// Those that it has not answered, or not in time.
    pub failed: u64,
    /// Those that were not put to it: too many waited, or it had failed too often just before.
    pub spared: u64,
    /// The time that its answers took, microseconds.
    pub answer_us: u64,
    /// The longest of them, microseconds.
    pub longest_us: u64,
}

/// What of a row a question is about: answers are remembered by that.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Asks {
    /// These fields, and the password where there is one.
    Fields(Vec<String>),
    /// All but the client's port, which is another at each connection.
    Everything,
}

impl Asks {
    /// What the placeholders in a question's parameters name. Over HTTP a question without a body of its own sends the whole row.
    pub(crate) fn of(kind: &str, parameters: &serde_json::Map<String, Json>) -> Asks {
        let sends_all = kind == "http" && !["json", "body"].iter().any(|name| parameters.contains_key(*name));
        let text = serde_json::to_string(parameters).unwrap_or_default();
        let mut fields = Vec::new();
        for place in text.split("${").skip(1) {
            let path = place.split('}').next().unwrap_or_default().trim();
            let first = path.strip_prefix('.').unwrap_or(path).split('.').next().unwrap_or_default().trim_matches('\'');
            fields.push(first.to_owned());
        }
        if sends_all || fields.iter().any(String::is_empty) { Asks::Everything } else { Asks::Fields(fields) }
    }

    /// Rows have passwords in them, which must not lie about in memory.
    fn key(&self, row: &Value) -> [u8; 32] {
        let mut about = row.to_json();
        if let Json::Object(about) = &mut about {
            match self {
                Asks::Fields(fields) => about.retain(|name, _| name == "password" || fields.contains(name)),
                Asks::Everything => drop(about.remove("peerport")),
            }
        }
        Sha256::digest(about.to_string()).into()
    }
}

/// An outside system behind its guard.
pub(crate) struct Guard {
    name: String,
    lookup: Arc<dyn Lookup>,
    asks: Asks,
    settings: Backend,
    room: Semaphore,
    /// Under way or waiting.
    entered: AtomicUsize,
    /// Failures in a row.
    failures: AtomicU32,
    /// Nothing is asked before.
    closed_until: Mutex<Option<Instant>>,
    cache: Option<Cache<[u8; 32], Found>>,
    asked: AtomicU64,
    remembered: AtomicU64,
    answered: AtomicU64,
    failed: AtomicU64,
    spared: AtomicU64,
    answer_us: AtomicU64,
    longest_us: AtomicU64,
}

impl Guard {
    pub(crate) fn new(name: &str, lookup: Arc<dyn Lookup>, asks: Asks, settings: &Backend) -> Guard {
        let memory = || {
            let cache = Cache::builder().max_capacity(settings.cache_max as u64);
            cache.time_to_live(Duration::from_secs(settings.cache_secs)).build()
        };
        let [asked, remembered, answered, failed, spared, answer_us, longest_us] = std::array::from_fn(|_| AtomicU64::new(0));
        Guard {
            name: name.to_owned(),
            lookup,
            asks,
            settings: settings.clone(),
            room: Semaphore::new(settings.concurrent_max.clamp(1, Semaphore::MAX_PERMITS)),
            entered: AtomicUsize::new(0),
            failures: AtomicU32::new(0),
            closed_until: Mutex::new(None),
            cache: (settings.cache_secs > 0).then(memory),
            asked,
            remembered,
            answered,
            failed,
            spared,
            answer_us,
            longest_us,
        }
    }

    pub(crate) fn stats(&self) -> BackendStats {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        BackendStats {
            asked: read(&self.asked),
            remembered: read(&self.remembered),
            answered: read(&self.answered),
            failed: read(&self.failed),
            spared: read(&self.spared),
            answer_us: read(&self.answer_us),
            longest_us: read(&self.longest_us),
        }
    }

    /// Forgets what is remembered.
    pub(crate) fn forget(&self) {
        if let Some(cache) = &self.cache {
            cache.invalidate_all();
        }
    }

    /// Asks. Those who ask the same at the same time get one answer.
    pub(crate) async fn ask(&self, row: &Value) -> Result<Found, Unanswered> {
        self.asked.fetch_add(1, Ordering::Relaxed);
        let Some(cache) = &self.cache else { return self.ask_outside(row).await };
        let mut is_asked = false;
        let ask = async {
            is_asked = true;
            self.ask_outside(row).await
        };
        let answer = cache.try_get_with(self.asks.key(row), ask).await.map_err(|error: Arc<Unanswered>| (*error).clone());
        if !is_asked && answer.is_ok() {
            self.remembered.fetch_add(1, Ordering::Relaxed);
        }
        answer
    }

    async fn ask_outside(&self, row: &Value) -> Result<Found, Unanswered> {
        let entered = Entered::new(&self.entered);
        let all = self.settings.concurrent_max + self.settings.waiting_max;
        if entered.count > all {
            self.spared.fetch_add(1, Ordering::Relaxed);
            return Err(Unanswered::Busy);
        }
        let limit = Duration::from_millis(self.settings.timeout_ms.max(1));
        let began = Instant::now();
        let answered = timeout(limit, async {
            // The semaphore is never closed.
            let _room = self.room.acquire().await;
            self.may_ask()?;
            self.lookup.ask(row).await.map_err(|error| match error {
                LookupError::Backend(problem) => Unanswered::Failed(problem),
                LookupError::Question(problem) => Unanswered::Question(problem),
            })
        });
        let answer = answered.await.unwrap_or_else(|_| Err(Unanswered::Failed(format!("no answer within {} ms", limit.as_millis()))));
        let us = u64::try_from(began.elapsed().as_micros()).unwrap_or(u64::MAX);
        match answer {
            Ok(found) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
                self.answer_us.fetch_add(us, Ordering::Relaxed);
                self.longest_us.fetch_max(us, Ordering::Relaxed);
                if self.failures.swap(0, Ordering::Relaxed) > 0 {
                    *self.closed_until.lock() = None;
                    tracing::info!(backend = self.name, "it answers again");
                }
                Ok(Arc::new(found))
            }
            Err(Unanswered::Busy) => Err(Unanswered::Busy),
            // What one client says must not make it unreachable for the others.
            Err(Unanswered::Question(problem)) => {
                let failed = self.failed.fetch_add(1, Ordering::Relaxed) + 1;
                if failed.is_power_of_two() {
                    tracing::warn!(backend = self.name, problem, failed, "a question about a client that cannot be answered");
                }
                Err(Unanswered::Question(problem))
            }
            Err(Unanswered::Failed(problem)) => {
                self.failed.fetch_add(1, Ordering::Relaxed);
                let failures = self.failures.fetch_add(1, Ordering::Relaxed) + 1;
                // The first failure, and then ever more rarely.
                if failures.is_power_of_two() {
                    tracing::warn!(backend = self.name, problem, failures, "no answer about a client");
                }
                if failures >= self.settings.failures_max.max(1) {
                    *self.closed_until.lock() = Some(Instant::now() + Duration::from_millis(self.settings.pause_ms));
                }
                Err(Unanswered::Failed(problem))
            }
        }
    }

    /// After too many failures in a row one question at a time finds out whether it is back.
    fn may_ask(&self) -> Result<(), Unanswered> {
        let mut closed_until = self.closed_until.lock();
        match *closed_until {
            Some(until) if Instant::now() < until => {
                self.spared.fetch_add(1, Ordering::Relaxed);
                Err(Unanswered::Busy)
            }
            Some(_) => {
                *closed_until = Some(Instant::now() + Duration::from_millis(self.settings.pause_ms));
                Ok(())
            }
            None => Ok(()),
        }
    }
}

/// One that is under way or waits. It counts until it is dropped.
struct Entered<'a> {
    all: &'a AtomicUsize,
    count: usize,
}

impl Entered<'_> {
    fn new(all: &AtomicUsize) -> Entered<'_> {
        let count = all.fetch_add(1, Ordering::Relaxed) + 1;
        Entered { all, count }
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        self.all.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::ports::BoxFuture;

    use super::*;

    /// Answers after a while, or fails.
    struct Slow {
        asked: AtomicUsize,
        takes: Duration,
        fails: std::sync::atomic::AtomicBool,
    }

    impl Lookup for Slow {
        fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
            Box::pin(async move {
                self.asked.fetch_add(1, Ordering::Relaxed);
                tokio::time::sleep(self.takes).await;
                if self.fails.load(Ordering::Relaxed) { Err(LookupError::Backend("broken".into())) } else { Ok(vec![row.clone()]) }
            })
        }
    }

    fn slow(takes_ms: u64) -> Arc<Slow> {
        Arc::new(Slow { asked: AtomicUsize::new(0), takes: Duration::from_millis(takes_ms), fails: false.into() })
    }

    #[tokio::test]
    async fn the_same_question_is_asked_once_and_remembered() {
        let lookup = slow(50);
        let guard =
            Arc::new(Guard::new("b", Arc::<Slow>::clone(&lookup), Asks::Everything, &Backend { cache_secs: 60, ..Backend::default() }));
        let mut asking = tokio::task::JoinSet::new();
        for _ in 0..100 {
            let guard = Arc::clone(&guard);
            asking.spawn(async move { guard.ask(&Value::text("alice")).await });
        }
        while let Some(answer) = asking.join_next().await {
            assert_eq!(answer.expect("joined").expect("answered")[0], Value::text("alice"));
        }
        assert!(guard.ask(&Value::text("alice")).await.is_ok());
        assert!(guard.ask(&Value::text("bob")).await.is_ok());
        assert_eq!(lookup.asked.load(Ordering::Relaxed), 2);
        let stats = guard.stats();
        assert_eq!((stats.asked, stats.remembered, stats.answered), (102, 100, 2));
        guard.forget();
        assert!(guard.ask(&Value::text("alice")).await.is_ok());
        assert_eq!(lookup.asked.load(Ordering::Relaxed), 3);
    }

    #[test]
    fn answers_are_remembered_by_what_was_asked() {
        let asks = |kind: &str, parameters: Json| match parameters {
            Json::Object(parameters) => Asks::of(kind, &parameters),
            other => panic!("{other}"),
        };
        let row = |client: &str, port: u16| {
            Value::from_json(
                serde_json::json!({"username": "u", "password": "p", "clientid": client, "peerport": port, "client_attrs": {"a": client}}),
            )
        };
        let is_one = |asks: &Asks| asks.key(&row("a", 1)) == asks.key(&row("b", 2));
        assert!(is_one(&asks("postgres", serde_json::json!({"query": "SELECT x FROM t WHERE u = ${username}"}))));
        assert!(is_one(&asks("ldap", serde_json::json!({"filter": "(uid=${ username })"}))));
        for of_client in ["${clientid}", "${.}", "${username} ${.client_attrs.a}", "${'clientid'}"] {
            assert!(!is_one(&asks("redis", serde_json::json!({"command": of_client}))), "{of_client}");
        }
        let everything = asks("http", serde_json::json!({"path": "/auth"}));
        assert!(everything == Asks::Everything && everything.key(&row("a", 1)) == everything.key(&row("a", 2)) && !is_one(&everything));
        let other = Value::from_json(serde_json::json!({"username": "u", "password": "q", "clientid": "a"}));
        let by_name = asks("ldap", serde_json::json!({"filter": "(uid=${username})"}));
        assert_ne!(by_name.key(&row("a", 1)), by_name.key(&other), "a password is always part of the question");
    }

    #[tokio::test]
    async fn what_hangs_ends_and_who_would_wait_too_long_is_told_at_once() {
        let settings = Backend { timeout_ms: 50, concurrent_max: 1, waiting_max: 2, failures_max: 100, ..Backend::default() };
        let guard = Arc::new(Guard::new("b", slow(60_000), Asks::Everything, &settings));
        let mut asking = tokio::task::JoinSet::new();
        for number in 0..10 {
            let guard = Arc::clone(&guard);
            asking.spawn(async move { guard.ask(&Value::Int(number)).await });
        }
        let mut busy = 0;
        while let Some(answer) = asking.join_next().await {
            let problem = answer.expect("joined").expect_err("it hangs");
            busy += usize::from(problem == Unanswered::Busy);
        }
        assert_eq!(busy, 7);
    }

    #[tokio::test]
    async fn after_failures_in_a_row_it_rests_and_comes_back() {
        let lookup = slow(0);
        lookup.fails.store(true, Ordering::Relaxed);
        let settings = Backend { failures_max: 3, pause_ms: 100, ..Backend::default() };
        let guard = Guard::new("b", Arc::<Slow>::clone(&lookup), Asks::Everything, &settings);
        for _ in 0..20 {
            assert!(guard.ask(&Value::Null).await.is_err());
        }
        assert_eq!(lookup.asked.load(Ordering::Relaxed), 3, "then it is left alone");
        lookup.fails.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_millis(150)).await;
        assert!(guard.ask(&Value::Null).await.is_ok(), "it is back");
        assert!(guard.ask(&Value::Null).await.is_ok());
    }
}
