//! Column families and keys. Numbers in keys are big-endian, so that they sort.

use hookline_schemas::QueueId;

/// Records, by chunk number.
pub(super) const CHUNK: &str = "chunk";
/// The directories of the chunks, by chunk number: what opening the store reads.
pub(super) const DIRECTORY: &str = "directory";
/// How far a queue is, by queue.
pub(super) const CURSOR: &str = "cursor";
/// What a queue is, by queue.
pub(super) const QUEUE: &str = "queue";
/// Durable sessions, by client identifier.
pub(super) const SESSION: &str = "session";
/// Subscriptions of durable sessions, by queue and filter.
pub(super) const SUBSCRIPTION: &str = "subscription";
/// QoS 2 packet identifiers that wait for their PUBREL, by queue and identifier.
pub(super) const RECEIVED: &str = "received";
/// Retained messages, by topic.
pub(super) const RETAINED: &str = "retained";
/// Retained messages that have an end, by it and their topic.
pub(super) const RETAINED_EXPIRY: &str = "retained_expiry";
/// Messages that wait for their time, by it.
pub(super) const DELAYED: &str = "delayed";
/// Dead letters, by queue and sequence.
pub(super) const DEAD: &str = "dead";
/// What hooks keep over a restart, by their keys.
pub(super) const STATE: &str = "state";
/// What was recorded of messages and events, by time and number.
pub(super) const SAMPLE: &str = "sample";
/// What was done by the API, by number.
pub(super) const AUDIT: &str = "audit";
/// Single values.
pub(super) const META: &str = "meta";

/// All of them.
pub(super) const FAMILIES: &[&str] = &[
    CHUNK,
    CURSOR,
    QUEUE,
    SESSION,
    SUBSCRIPTION,
    RECEIVED,
    RETAINED,
    DELAYED,
    DEAD,
    META,
    DIRECTORY,
    RETAINED_EXPIRY,
    STATE,
    SAMPLE,
    AUDIT,
];

/// In `meta`: the first chunk that may still be needed.
pub(super) const FLOOR: &[u8] = b"floor";
/// In `meta`: chunk numbers below it may have been used.
pub(super) const CHUNK_LIMIT: &[u8] = b"chunk_limit";
/// In `meta`: how many retained messages there are, and their bytes.
pub(super) const RETAINED_TOTALS: &[u8] = b"retained_totals";
/// In `meta`: the version of all formats here.
pub(super) const FORMAT: &[u8] = b"format";
/// The version that this code writes. 2 has delayed messages, and the zone, mountpoint and will of sessions. 3 has directories,
/// and counts retained messages. 4 has ranks in chunks, directories and cursors. Older ones are brought up when they are opened.
pub(super) const FORMAT_VERSION: u64 = 4;
/// The first version that has all that [`Store::rebuild`](super::Store) makes.
pub(super) const FORMAT_WITH_DIRECTORIES: u64 = 3;

/// The key of a queue.
pub(super) fn queue(id: QueueId) -> [u8; 8] {
    id.0.to_be_bytes()
}

/// The key of something that belongs to a queue.
pub(super) fn in_queue(id: QueueId, rest: &[u8]) -> Vec<u8> {
    [&id.0.to_be_bytes()[..], rest].concat()
}

/// The first key behind everything that belongs to a queue.
pub(super) fn behind_queue(id: QueueId) -> [u8; 8] {
    (id.0 + 1).to_be_bytes()
}

/// A number from the start of a key or value.
pub(super) fn number(bytes: &[u8]) -> Option<u64> {
    bytes.first_chunk::<8>().map(|bytes| u64::from_be_bytes(*bytes))
}
