//! Delayed messages: what is published to `$delayed/SECONDS/TOPIC` waits in the store, and is published when its time has
//! come. In memory there is only when, and which.

use std::time::Duration;

use hookline_mqtt::{ReasonCode, topic};
use hookline_schemas::Message;

use super::Worker;
use super::deferred::{Deferred, Publisher};
use super::sys::SYS;
use crate::clock;
use crate::metrics::Counters;
use crate::slab::Key;
use crate::store::{DelayedKey, encode_message};

/// What delayed topics begin with.
pub(super) const PREFIX: &str = "$delayed/";
/// The longest delay, seconds; larger numbers are times, in seconds since the Unix epoch, that are not further away.
const DELAY_SECS_MAX: u64 = 42_949_670;
/// How often is looked whether the store has room again for what is due.
const FULL_PAUSE: Duration = Duration::from_millis(200);
/// Messages that are published in one turn.
const DUE_MAX: usize = 256;

/// When a message is due, and its real topic.
#[derive(Debug)]
pub(super) struct Delay {
    due_ms: u64,
    topic: Box<str>,
}

impl Worker {
    /// The delay that a topic asks for; `None` where delays are off, and it is a topic like others.
    pub(super) fn delay_of(&self, message: &Message) -> Result<Option<Delay>, ReasonCode> {
        let settings = &self.shared.delayed;
        if !settings.enable {
            return Ok(None);
        }
        let delay = parse(&message.topic, clock::now_ms()).ok_or(ReasonCode::TopicNameInvalid)?;
        if delay.topic.starts_with(SYS) {
            return Err(ReasonCode::NotAuthorized);
        }
        if self.shared.store.delayed_count() >= settings.messages_max || self.shared.store.is_full() {
            return Err(ReasonCode::QuotaExceeded);
        }
        Ok(Some(delay))
    }

    /// Stores a message for later.
    pub(super) fn delay(&mut self, mut message: Message, delay: Delay, publisher: Option<Publisher>, session: Option<Key>) {
        message.topic = delay.topic.into();
        let key = self.shared.store.new_delayed(delay.due_ms);
        let mut bytes = Vec::with_capacity(message.payload.len() + 128);
        encode_message(&mut bytes, &message);
        self.batch.put_delayed(key, bytes);
        Counters::count(&self.counters.delayed);
        if let Some(publisher) = publisher {
            self.store_received(session, publisher);
        }
        self.defer(Deferred::Delay { publisher, key });
    }

    /// One could not be stored.
    pub(super) fn forget_delayed(&self) {
        self.shared.store.forget_delayed();
    }

    /// Takes in a message that waited when the broker ended. Before the worker runs.
    pub(crate) fn adopt_delayed(&mut self, key: DelayedKey) {
        self.delayed.insert(key);
    }

    /// How long until the next one is due.
    pub(super) fn next_delayed(&self) -> Option<Duration> {
        let next = self.delayed.first()?;
        let wait = Duration::from_millis(next.due_ms().saturating_sub(clock::now_ms()));
        Some(if self.shared.store.is_full() { wait.max(FULL_PAUSE) } else { wait })
    }

    /// Publishes what is due: in the commit that takes it from where it waited.
    pub(super) fn publish_delayed(&mut self) {
        // What is due was acknowledged: it waits until its queues can take it.
        if self.shared.store.is_full() {
            return;
        }
        let now_ms = self.now_ms;
        for _ in 0..DUE_MAX {
            let Some(key) = self.delayed.first().copied().filter(|key| key.due_ms() <= now_ms) else { return };
            self.delayed.pop_first();
            match self.shared.store.delayed(key) {
                Ok(Some(mut message)) => {
                    message.received_at_ms = now_ms;
                    self.internal.push_back(message);
                }
                Ok(None) => tracing::error!("a delayed message in the store is damaged, and lost"),
                Err(error) => {
                    tracing::error!(%error, "a delayed message cannot be read; it is tried again after a restart");
                    continue;
                }
            }
            self.batch.delete_delayed(key);
            self.due.push(key);
            self.forget_delayed();
        }
    }

    /// The commit that was to publish what is due has failed: it is due again.
    pub(super) fn take_back_due(&mut self) {
        for key in self.due.drain(..) {
            self.shared.store.remember_delayed();
            self.delayed.insert(key);
        }
    }
}

/// What says that a topic is delayed, and the topic itself.
pub(crate) fn split(name: &str) -> (&str, &str) {
    let inner = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('/')).map(|(_, inner)| inner);
    inner.filter(|inner| !inner.is_empty()).map_or(("", name), |inner| name.split_at(name.len() - inner.len()))
}

/// Reads `$delayed/SECONDS/TOPIC`.
fn parse(name: &str, now_ms: u64) -> Option<Delay> {
    let (secs, topic) = name.strip_prefix(PREFIX)?.split_once('/')?;
    if !topic::name_is_valid(topic, usize::MAX) || !secs.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let secs: u64 = secs.parse().ok()?;
    let due_ms = if secs <= DELAY_SECS_MAX { now_ms + secs * 1000 } else { secs.checked_mul(1000)? };
    let is_near = due_ms.saturating_sub(now_ms) <= DELAY_SECS_MAX * 1000;
    is_near.then(|| Delay { due_ms, topic: topic.into() })
}

/// Which worker publishes a message that waited over a restart.
pub(crate) fn worker_of_delayed(key: DelayedKey, workers: usize) -> usize {
    (key.number() % workers as u64) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_delayed_topic_has_two_parts() {
        assert_eq!(split("$delayed/5/a/b"), ("$delayed/5/", "a/b"));
        for whole in ["a/b", "$delayed/5", "$delayed/5/"] {
            assert_eq!(split(whole), ("", whole));
        }
    }

    #[test]
    fn delays_are_seconds_or_times() {
        let now = 1_700_000_000_000;
        let due = |name: &str| parse(name, now).map(|delay| (delay.due_ms, delay.topic.into_string()));
        assert_eq!(due("$delayed/5/a/b"), Some((now + 5000, "a/b".into())));
        assert_eq!(due("$delayed/1700000060/a"), Some((now + 60_000, "a".into())));
        assert_eq!(due("$delayed/1600000000/a"), Some((1_600_000_000_000, "a".into())), "a time that is over is due at once");
        for wrong in
            ["$delayed/x/a", "$delayed/5", "$delayed/5/", "$delayed/-1/a", "$delayed/1900000000/a", "$delayed/99999999999999999999/a"]
        {
            assert_eq!(due(wrong), None, "{wrong}");
        }
    }
}
