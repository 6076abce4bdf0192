//! The traits through which the crates meet. Only plain data crosses them.

use std::pin::Pin;
use std::time::Duration;

use bytes::Bytes;
use hookline_mqtt::{Properties, QoS, ReasonCode};

use crate::config::DurabilityLevel;
use crate::event::{Event, HookSet};
use crate::record::{QueueId, Record, encode_record};
use crate::trace::{Trace, TraceContext};
use crate::value::Value;

/// A boxed future: what an async method of a port returns.
pub type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Somebody who is told of events, may add records to the commit, and may refuse.
///
/// The broker calls `on` in the thread of the client concerned, for the points in `points` only. Calls for different
/// clients overlap. It must not block: everything behind it waits.
pub trait Hook: Send + Sync {
    /// The points it wants to hear of. Asked once, when the hook is registered.
    fn points(&self) -> HookSet;

    /// One event. What is to follow from it goes into `outcome`.
    fn on(&self, event: &Event<'_>, outcome: &mut Outcome);

    /// Whether time alone makes something follow. Asked once, when the hook is registered.
    fn has_clock(&self) -> bool {
        false
    }

    /// What has become due by now, milliseconds since the Unix epoch. Called about ten times a second where [`Hook::has_clock`]
    /// says so, by one thread.
    fn tick(&self, _now_ms: u64, _outcome: &mut Outcome) {}
}

/// A key and its value.
pub type KeyValue = (Vec<u8>, Vec<u8>);

/// A place for what hooks want to keep over a restart: small values, by key. Writes wait for no disk.
pub trait StateStore: Send + Sync {
    /// All keys that begin so, with their values.
    ///
    /// # Errors
    /// They cannot be read.
    fn load(&self, prefix: &[u8]) -> Result<Vec<KeyValue>, QueueError>;

    /// Sets a key; without a value it is removed.
    ///
    /// # Errors
    /// It cannot be written.
    fn keep(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), QueueError>;
}

/// What hooks want to follow from an event. Reused from event to event, so that steady state allocates nothing.
#[derive(Debug, Default)]
pub struct Outcome {
    bytes: Vec<u8>,
    records: Vec<PendingRecord>,
    republish: Vec<Republish>,
    refused: Option<ReasonCode>,
    trace: Option<Box<Trace>>,
}

/// A record that a hook has added: it becomes part of the commit of its event.
#[derive(Debug, Clone, Copy)]
pub struct PendingRecord {
    pub queue: QueueId,
    pub promise: Promise,
    start: usize,
    end: usize,
}

/// What an acknowledgement to the publisher waits for, for one action.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum AckMode {
    /// Nothing: the record is stored as soon as may be.
    Accepted,
    /// The record is in the store at the durability level in force.
    #[default]
    Durable,
    /// The sink has confirmed the record, or it is a dead letter. At the deadline the publisher is refused; the record stays in
    /// its queue, so what the publisher sends again may reach the sink twice.
    Delivered,
}

/// What the publisher of a record may rely on when it is acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Promise {
    pub ack: AckMode,
    /// What is durable; `None`: what the publisher's zone says.
    pub level: Option<DurabilityLevel>,
    /// How long the acknowledgement may wait for the sink.
    pub deadline: Duration,
}

impl From<AckMode> for Promise {
    fn from(ack: AckMode) -> Self {
        Promise { ack, ..Promise::default() }
    }
}

/// A message that a hook wants published.
#[derive(Debug, Clone)]
pub struct Republish {
    /// Stands as the origin of the message, such as the rule's name.
    pub from: Box<str>,
    pub topic: Box<str>,
    pub payload: Bytes,
    pub qos: QoS,
    pub retain: bool,
    pub properties: Properties,
    /// Rules that have republished it in a row, this one included.
    pub hops: u8,
    /// The span that it comes from, where the event is traced. [`Outcome::republish`] sets it.
    pub trace: Option<Box<TraceContext>>,
}

impl Outcome {
    /// Adds a row for the queue of an action, with the span that is open.
    pub fn record(&mut self, queue: QueueId, promise: Promise, row: &Value) {
        let start = self.bytes.len();
        encode_record(&mut self.bytes, self.trace.as_deref().map(Trace::current), row);
        self.records.push(PendingRecord { queue, promise, start, end: self.bytes.len() });
    }

    /// Adds a message.
    pub fn republish(&mut self, mut republish: Republish) {
        republish.trace = self.trace.as_ref().map(|trace| Box::new(trace.current().clone()));
        self.republish.push(republish);
    }

    /// The event is traced from here on: what is added carries the context of the span that is open. A later hook takes the trace out.
    pub fn begin_trace(&mut self, trace: Box<Trace>) {
        self.trace = Some(trace);
    }

    /// The trace, where the event is traced.
    pub fn trace(&mut self) -> Option<&mut Trace> {
        self.trace.as_deref_mut()
    }

    /// Takes the trace out: the event is traced no more.
    pub fn end_trace(&mut self) -> Option<Box<Trace>> {
        self.trace.take()
    }

    /// Refuses what the event is about, where its hook point may. The first refusal counts.
    pub fn refuse(&mut self, reason: ReasonCode) {
        self.refused.get_or_insert(reason);
    }

    /// The records with their encoded rows.
    pub fn records(&self) -> impl ExactSizeIterator<Item = (PendingRecord, &[u8])> {
        self.records.iter().map(|record| (*record, &self.bytes[record.start..record.end]))
    }

    /// Takes the messages out.
    pub fn take_republish(&mut self) -> Vec<Republish> {
        std::mem::take(&mut self.republish)
    }

    /// The refusal, where there was one.
    pub fn refused(&self) -> Option<ReasonCode> {
        self.refused
    }

    /// Whether nothing follows.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty() && self.republish.is_empty() && self.refused.is_none()
    }

    /// Forgets everything and keeps the memory.
    pub fn clear(&mut self) {
        self.bytes.clear();
        self.records.clear();
        self.republish.clear();
        self.refused = None;
        self.trace = None;
    }
}

/// What the client identifiers of sources begin with. No client from outside gets one of them: it would take the session over.
pub const SOURCE_CLIENT: &str = "$source/";

/// The way into the broker for a part of its own process: a session of MQTT 5 over a stream.
pub trait Door: Send + Sync {
    /// Lets a session in, for the source of that name. Its client identifier is [`SOURCE_CLIENT`] and the name; its CONNACK is on its way; the stream does not block.
    ///
    /// # Errors
    /// The system has no stream left.
    fn open(&self, source: &str) -> std::io::Result<std::os::unix::net::UnixStream>;

    /// How many levels a topic may have at the most.
    fn topic_levels_max(&self) -> usize;
}

/// Who keeps messages outside for subscribers that are yet to come, and is told when one has.
pub trait Archive: Send + Sync {
    /// Whether so many wait already that no further subscription can be served now.
    fn is_full(&self) -> bool;

    /// A session has a subscription that it did not have before. Called by workers, so it waits for nothing.
    fn subscribed(&self, new: &NewSubscription<'_>);
}

/// A subscription that was just made.
#[derive(Debug, Clone, Copy)]
pub struct NewSubscription<'a> {
    pub client_id: &'a str,
    /// As the session has it.
    pub filter: &'a str,
    /// The filter of topics, with the mountpoint.
    pub routed: &'a str,
    pub qos: QoS,
    /// Whether it gets retained messages.
    pub wants_retained: bool,
}

/// A durable queue, as the delivery sees it. One delivery reads a queue; appends overlap with it. Records are settled in any order.
pub trait QueueReader: Send + Sync {
    /// The number of the first record that is not settled.
    fn front(&self) -> u64;

    /// Records from the number `from` on that are not settled, oldest first, up to both bounds, at least one where there is one.
    /// A record that cannot be decoded comes with its error, for the dead-letter queue.
    fn read(&self, from: u64, records_max: usize, bytes_max: usize) -> Result<Vec<Result<Record, Unreadable>>, QueueError>;

    /// Completes when there is a record to read from that number on.
    fn wait(&self, from: u64) -> BoxFuture<'_, ()>;

    /// The sink has confirmed these records.
    fn delivered(&self, records: &[Record]);

    /// Moves a record into the dead-letter queue: there first, then out of the queue.
    fn dead_letter(&self, sequence: u64, bytes: u64, error: &str) -> Result<(), QueueError>;

    /// Moves a record with its trace context to the queues of other actions, which get it in place of the dead letters.
    fn hand_over(&self, record: &Record, queues: &[QueueId]) -> Result<(), QueueError>;

    /// The account of the queue.
    fn ledger(&self) -> Ledger;
}

/// Who is told what became of traced records. Called by delivery workers, so it waits for nothing.
pub trait DeliveryTracer: Send + Sync {
    /// A record that has a trace context is about to be delivered: the span of its delivery. `None`: nobody asks for it.
    fn begin(&self, context: &TraceContext) -> Option<TraceContext>;

    /// A record has left its queue whose delivery has begun with that span.
    fn settled(&self, record: &Record, context: &TraceContext, delivery: &Settled<'_>);
}

/// How a record left its queue.
#[derive(Debug, Clone, Copy)]
pub struct Settled<'a> {
    /// When the batch was taken up for the first time since the start, nanoseconds since the Unix epoch.
    pub began_ns: u64,
    /// Records of the call that settled it.
    pub batch: usize,
    /// Calls that it took, the last one included.
    pub attempts: u32,
    pub outcome: SettledAs<'a>,
}

/// Where a record went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SettledAs<'a> {
    /// The sink has confirmed it.
    Delivered,
    /// The sink refuses it for good, for this reason: it is a dead letter.
    DeadLettered(&'a str),
    /// The sink refuses it for good, for this reason: other actions have it.
    HandedOver(&'a str),
}

/// A record whose bytes make no sense.
#[derive(Debug, Clone, thiserror::Error)]
#[error("record {sequence}: {problem}")]
pub struct Unreadable {
    pub sequence: u64,
    pub bytes: u32,
    pub problem: String,
}

/// The store could not do it.
#[derive(Debug, Clone, thiserror::Error)]
#[error("store: {0}")]
pub struct QueueError(pub String);

/// The account of a queue: `accepted = delivered + dead_lettered + pending + dropped`, at any moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
pub struct Ledger {
    /// Records that were ever appended.
    pub accepted: u64,
    /// Confirmed by the sink, or acknowledged by the subscriber.
    pub delivered: u64,
    /// Moved to the dead-letter queue.
    pub dead_lettered: u64,
    /// Dropped to stay within the bound.
    pub dropped: u64,
    /// Dropped because their time was over.
    pub expired: u64,
    /// Waiting.
    pub pending: u64,
    /// What waits, in bytes.
    pub pending_bytes: u64,
}

impl Ledger {
    /// Whether the account is right.
    pub fn balances(&self) -> bool {
        self.accepted == self.delivered + self.dead_lettered + self.dropped + self.expired + self.pending
    }
}
