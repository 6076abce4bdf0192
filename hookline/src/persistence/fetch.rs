//! Brings what is kept to sessions that have subscribed to it: page by page, behind what is still to be written, and no faster than clients take it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::Bytes;
use hookline_core::{NoAnswer, Observer, Supplied};
use hookline_mqtt::{Properties, PropertyId, QoS, topic};
use hookline_schemas::config::Acks;
use hookline_schemas::ports::NewSubscription;
use hookline_schemas::{Client, Map, Message, MessageId, Value};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::statements::{PAGE, Patterns, question};
use super::{Part, number};

/// Questions at the same time.
const WORKERS: usize = 8;
/// Subscriptions that may wait; beyond, further ones are refused.
const WISHES_MAX: usize = 200_000;
/// How long something waits that cannot be done now, at first and at the most.
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(5);

/// How long a worker rests after a failure.
const FAILURE_PAUSE: Duration = Duration::from_millis(100);
/// How often failures are told.
const TELL_INTERVAL: Duration = Duration::from_secs(10);

/// What a subscription is to be brought.
#[derive(Debug, Clone)]
struct Wish {
    client_id: String,
    /// As the session has it.
    filter: String,
    routed: String,
    qos: QoS,
    messages: bool,
    retained: bool,
    /// What was to be written before the subscription was made: records before this one of the queue.
    behind: u64,
    /// Where the next page begins.
    after: Option<Value>,
    pause: Duration,
}

/// Those that wait, by when they are due.
#[derive(Debug, Default)]
struct Wishes {
    waiting: BTreeMap<(Instant, u64), Wish>,
    next: u64,
}

/// The wishes of one persistence, and who fulfils them.
#[derive(Default)]
pub(super) struct Fetcher {
    wishes: Mutex<Wishes>,
    changed: Notify,
    stopping: AtomicBool,
    /// When a failure was told last.
    told: Mutex<Option<Instant>>,
    tasks: tokio::sync::Mutex<JoinSet<()>>,
}

/// What became of a step.
enum Step {
    Done,
    /// There is more to bring.
    More,
    /// Not now.
    Later,
}

impl Fetcher {
    /// Takes over what waits for another one, which has stopped.
    pub(super) fn adopt(&self, other: &Fetcher) {
        let waiting = std::mem::take(&mut other.wishes.lock().waiting);
        waiting.into_values().for_each(|wish| self.put(wish, Duration::ZERO));
    }

    pub(super) fn start(&self, part: &Arc<Part>, observer: &Arc<OnceLock<Observer>>) {
        // Nobody else has it yet.
        if let Ok(mut tasks) = self.tasks.try_lock() {
            for _ in 0..WORKERS {
                tasks.spawn(work(Arc::clone(part), Arc::clone(observer)));
            }
        }
    }

    /// Ends when what is under way has: that is bounded by the deadlines of questions.
    pub(super) async fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
        self.changed.notify_waiters();
        let mut tasks = self.tasks.lock().await;
        while let Some(ended) = tasks.join_next().await {
            if let Err(error) = ended {
                tracing::error!(%error, "a fetch of kept messages has panicked");
            }
        }
    }

    pub(super) fn wake(&self) {
        self.changed.notify_waiters();
    }

    pub(super) fn is_full(&self) -> bool {
        self.wishes.lock().waiting.len() >= WISHES_MAX
    }

    pub(super) fn want(&self, new: &NewSubscription<'_>, messages: bool, retained: bool, behind: u64) {
        let wish = Wish {
            client_id: new.client_id.to_owned(),
            filter: new.filter.to_owned(),
            routed: new.routed.to_owned(),
            qos: new.qos,
            messages,
            retained,
            behind,
            after: None,
            pause: PAUSE_MIN,
        };
        self.put(wish, Duration::ZERO);
    }

    fn put(&self, wish: Wish, pause: Duration) {
        let mut wishes = self.wishes.lock();
        let number = wishes.next;
        wishes.next += 1;
        wishes.waiting.insert((Instant::now() + pause, number), wish);
        drop(wishes);
        self.changed.notify_one();
    }

    /// Tells of a failure, of many now and then one.
    fn tell(&self, persistence: &str, wish: &Wish, problem: &str) {
        let mut told = self.told.lock();
        if told.is_none_or(|told| told.elapsed() >= TELL_INTERVAL) {
            *told = Some(Instant::now());
            let waiting = self.wishes.lock().waiting.len();
            tracing::warn!(
                persistence,
                client = wish.client_id,
                filter = wish.filter,
                problem,
                waiting,
                "kept messages cannot be read yet"
            );
        }
    }

    /// The next wish that is due; otherwise when the first one is.
    fn take(&self) -> Result<Wish, Option<Instant>> {
        let mut wishes = self.wishes.lock();
        match wishes.waiting.first_entry() {
            Some(first) if first.key().0 <= Instant::now() => Ok(first.remove()),
            Some(first) => Err(Some(first.key().0)),
            None => Err(None),
        }
    }
}

async fn work(part: Arc<Part>, observer: Arc<OnceLock<Observer>>) {
    let fetcher = &part.fetcher;
    while !fetcher.stopping.load(Ordering::Relaxed) {
        let changed = fetcher.changed.notified();
        let Some(observer) = observer.get() else {
            changed.await;
            continue;
        };
        match fetcher.take() {
            Ok(mut wish) => {
                let step = match part.bring(&mut wish, observer).await {
                    Ok(step) => step,
                    Err(problem) => {
                        fetcher.tell(&part.name, &wish, &problem);
                        // Others that wait would find the same.
                        tokio::time::sleep(FAILURE_PAUSE).await;
                        Step::Later
                    }
                };
                match step {
                    Step::Done => {}
                    Step::More => {
                        wish.pause = PAUSE_MIN;
                        fetcher.put(wish, Duration::ZERO);
                    }
                    Step::Later => {
                        let pause = wish.pause;
                        wish.pause = (pause * 2).min(PAUSE_MAX);
                        fetcher.put(wish, pause);
                    }
                }
            }
            Err(Some(due)) => drop(tokio::time::timeout_at(due, changed).await),
            Err(None) => changed.await,
        }
    }
}

impl Part {
    /// Brings the next page of what is wished for.
    async fn bring(&self, wish: &mut Wish, observer: &Observer) -> Result<Step, String> {
        if supply(observer, wish, Vec::new()).await? == Supplied::Gone {
            return Ok(Step::Done);
        }
        // What was accepted before the subscription is to be in the answer.
        if self.target.as_ref().is_some_and(|target| target.account.front() < wish.behind) {
            return Ok(Step::Later);
        }
        let rows = self.page(wish).await?;
        let is_last = rows.len() < PAGE;
        let mut rows = rows.into_iter().peekable();
        let mut place = wish.after.clone();
        while rows.peek().is_some() {
            let mut messages = Vec::new();
            let mut places = Vec::new();
            for row in rows.by_ref().take(64) {
                let here = [row.path(["place"]), row.path(["_id"])].into_iter().find(|place| !place.is_null()).cloned();
                match self.message(&row, wish) {
                    Some(message) => {
                        messages.push(Arc::new(message));
                        places.push(here);
                    }
                    // It is passed over together with the one before it.
                    None if messages.is_empty() => place = here,
                    None => *places.last_mut().expect("as many as messages") = here,
                }
            }
            while !messages.is_empty() {
                match supply(observer, wish, messages.clone()).await? {
                    Supplied::Gone => return Ok(Step::Done),
                    Supplied::Taken(0) => {
                        wish.after = place;
                        return Ok(Step::Later);
                    }
                    Supplied::Taken(count) => {
                        place = places[count - 1].clone();
                        messages.drain(..count);
                        places.drain(..count);
                    }
                }
            }
        }
        let has_moved = place != wish.after;
        wish.after = place;
        if !is_last && has_moved {
            return Ok(Step::More);
        }
        wish.after = None;
        if wish.messages && wish.retained {
            wish.messages = false;
            return Ok(Step::More);
        }
        Ok(Step::Done)
    }

    /// The next rows, without those that the client has acknowledged.
    async fn page(&self, wish: &Wish) -> Result<Vec<Value>, String> {
        let Patterns { first, like, regex, lua: [pattern, pattern_below] } = Patterns::new(&wish.routed);
        let retention = self.settings.retention_secs;
        let since = if retention == 0 { 0 } else { now_secs().saturating_sub(retention) };
        let start = || if wish.messages && self.is_sql { Value::Int(0) } else { Value::text("") };
        let mut row = Map::new();
        for (name, value) in [
            ("clientid", Value::text(&wish.client_id)),
            ("topic", Value::text(&wish.routed)),
            ("like", Value::text(&like)),
            ("regex", Value::text(&regex)),
            ("first", Value::text(&first)),
            ("pattern", Value::text(&pattern)),
            ("pattern_below", Value::text(&pattern_below)),
            ("after", wish.after.clone().unwrap_or_else(start)),
            ("since", Value::unsigned(since)),
        ] {
            row.push_new(name, value);
        }
        let question = match (wish.messages, topic::has_wildcard(&wish.routed)) {
            (true, false) => question::MESSAGES,
            (true, true) => question::MATCHING,
            (false, false) => question::RETAINED,
            (false, true) => question::MATCHING_RETAINED,
        };
        let mut rows = self.ask(question, row).await?;
        if wish.messages && self.settings.acks == Acks::Note && self.questions.contains_key(question::ACKED) && !rows.is_empty() {
            let mut row = Map::new();
            row.push_new("clientid", Value::text(&wish.client_id));
            row.push_new("msgids", Value::Array(rows.iter().map(|row| row.path(["msgid"]).clone()).collect()));
            let acked = self.ask(question::ACKED, row).await?;
            let acked: std::collections::HashSet<String> = acked.iter().map(|row| row.path(["msgid"]).to_string()).collect();
            // Their places count all the same.
            for row in &mut rows {
                if acked.contains(&row.path(["msgid"]).to_string())
                    && let Value::Map(row) = row
                {
                    row.insert("topic", Value::Null);
                }
            }
        }
        Ok(rows)
    }

    /// The message of a row; `None` where it is none for this subscription.
    fn message(&self, row: &Value, wish: &Wish) -> Option<Message> {
        let topic = row.path(["topic"]).as_text()?;
        if !topic::matches(&wish.routed, topic) || !topic::name_is_valid(topic, usize::MAX) {
            return None;
        }
        let id = row.path(["msgid"]).as_text().and_then(|id| u128::from_str_radix(id, 16).ok()).map(MessageId);
        let qos = number(row.path(["qos"])).and_then(|qos| QoS::from_bits(u8::try_from(qos).ok()?));
        let (Some(id), Some(qos)) = (id, qos) else {
            tracing::warn!(
                persistence = self.name,
                topic,
                "a message in the database has no msgid of 32 hexadecimal digits, or another QoS; left out"
            );
            return None;
        };
        let arrived = number(row.path(["arrived"])).and_then(|secs| u64::try_from(secs).ok()).unwrap_or_default();
        let mut properties = Properties::default();
        if let Some(expires_at) = number(row.path(["expires_at"])).and_then(|secs| u64::try_from(secs).ok()) {
            if expires_at <= now_secs() {
                return None;
            }
            properties
                .push_number(PropertyId::MessageExpiryInterval, u32::try_from(expires_at.saturating_sub(arrived)).unwrap_or(u32::MAX));
        }
        let payload = match row.path(["payload"]) {
            Value::Bytes(bytes) => bytes.clone(),
            Value::Undefined | Value::Null => Bytes::new(),
            Value::Text(text) => Bytes::copy_from_slice(text.as_bytes()),
            // A document in place of bytes.
            other => other.to_json().to_string().into(),
        };
        Some(Message {
            id,
            received_at_ms: arrived * 1000,
            from: Arc::new(Client::internal(&row.path(["sender"]).to_string())),
            topic: topic.into(),
            payload,
            qos: if wish.messages { qos.max(QoS::AtLeastOnce).min(wish.qos) } else { qos },
            retain: !wish.messages,
            dup: false,
            properties,
            hops: 0,
            trace: None,
        })
    }
}

/// Gives messages to the session.
async fn supply(observer: &Observer, wish: &Wish, messages: Vec<Arc<Message>>) -> Result<Supplied, String> {
    let supplied = observer.supply(&wish.client_id, &wish.filter, messages, !wish.messages).await;
    supplied.map_err(|error: NoAnswer| error.to_string())
}

fn now_secs() -> u64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).map_or(0, |time| time.as_secs())
}
