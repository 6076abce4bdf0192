//! What must hold: a small account of what was promised to whom, and what came.

use std::collections::{BTreeMap, BTreeSet};

/// A message, by its number. Numbers grow with each publish.
pub(super) type Number = u64;

/// What is known of a message.
#[derive(Debug)]
struct Published {
    publisher: usize,
    topic: usize,
    qos: u8,
    /// When it was sent first.
    sent_at: u64,
    attempts: u32,
    refused: bool,
}

/// A subscription as its client knows it.
#[derive(Debug)]
struct Subscribed {
    /// When the SUBACK came.
    confirmed_at: u64,
    qos: u8,
}

/// The account.
#[derive(Debug, Default)]
pub(super) struct Model {
    /// Counts events: earlier and later.
    time: u64,
    published: BTreeMap<Number, Published>,
    /// By subscriber and topic.
    subscribed: BTreeMap<(usize, usize), Subscribed>,
    /// Who must get what.
    required: BTreeSet<(usize, Number)>,
    /// What came, how often.
    delivered: BTreeMap<(usize, Number), u32>,
    /// The last new message of each subscriber, publisher and topic.
    last: BTreeMap<(usize, usize, usize), Number>,
    pub(super) acknowledged: u64,
    pub(super) refused: u64,
    /// Publishes that the broker has refused, whether or not their clients have heard of it.
    pub(super) refused_by_broker: u64,
    /// What should not have happened.
    pub(super) violations: Vec<String>,
}

impl Model {
    /// With `HOOKLINE_TRACE` everything is told.
    pub(super) fn trace(&self, what: impl FnOnce() -> String) {
        if std::env::var_os("HOOKLINE_TRACE").is_some() {
            println!("{}", what());
        }
    }

    fn tick(&mut self) -> u64 {
        self.time += 1;
        self.time
    }

    pub(super) fn publish(&mut self, number: Number, publisher: usize, topic: usize, qos: u8) {
        let sent_at = self.tick();
        let new = Published { publisher, topic, qos, sent_at, attempts: 0, refused: false };
        self.published.entry(number).or_insert(new).attempts += 1;
        self.trace(|| format!("{publisher} publishes {number} to {topic} at QoS {qos}"));
    }

    /// PUBACK or PUBREC with success: from now on it is promised.
    pub(super) fn acknowledge(&mut self, number: Number) {
        self.acknowledged += 1;
        self.trace(|| format!("{number} is acknowledged"));
        let Some(published) = self.published.get(&number) else { return };
        let subscribed = self.subscribed.iter();
        let owed = subscribed.filter(|((_, topic), held)| *topic == published.topic && held.confirmed_at < published.sent_at);
        self.required.extend(owed.map(|((subscriber, _), _)| (*subscriber, number)));
    }

    /// PUBACK or PUBREC with an error.
    pub(super) fn refuse(&mut self, number: Number) {
        self.refused += 1;
        self.trace(|| format!("{number} is refused"));
        if let Some(published) = self.published.get_mut(&number) {
            // An attempt before may have been taken without its acknowledgement.
            published.refused = published.attempts == 1;
        }
        let came = self.delivered.keys().any(|(_, other)| *other == number);
        if came && self.published.get(&number).is_some_and(|published| published.refused) {
            self.violations.push(format!("message {number} was delivered, and refused after that"));
        }
    }

    pub(super) fn subscribe(&mut self, subscriber: usize, topic: usize, qos: u8) {
        let confirmed_at = self.tick();
        self.subscribed.insert((subscriber, topic), Subscribed { confirmed_at, qos });
    }

    /// The UNSUBSCRIBE is on its way: nothing is owed any more.
    pub(super) fn unsubscribe(&mut self, subscriber: usize, topic: usize) {
        self.subscribed.remove(&(subscriber, topic));
    }

    pub(super) fn has(&self, subscriber: usize, topic: usize) -> bool {
        self.subscribed.contains_key(&(subscriber, topic))
    }

    pub(super) fn deliver(&mut self, subscriber: usize, number: Number, qos: u8, dup: bool) {
        let count = self.delivered.entry((subscriber, number)).or_default();
        *count += 1;
        let count = *count;
        self.trace(|| format!("{subscriber} gets {number} at QoS {qos}, DUP {dup}"));
        let Some(published) = self.published.get(&number) else {
            return self.violations.push(format!("message {number} was never published"));
        };
        if published.refused {
            self.violations.push(format!("message {number} was refused, and came to {subscriber}"));
        }
        if count > 1 {
            if published.qos == 2 && qos == 2 {
                self.violations.push(format!("message {number} came {count} times to {subscriber} at QoS 2"));
            }
            return;
        }
        // What may be lost waits for no commit, and may come before what does.
        if published.qos == 0 {
            return;
        }
        let key = (subscriber, published.publisher, published.topic);
        // What is sent again may come behind what was taken after it: where its refusal was not heard, or where the subscription was
        // made between the two.
        let held = self.subscribed.get(&(subscriber, published.topic));
        let is_late = held.is_none_or(|held| held.confirmed_at > published.sent_at);
        if published.attempts > 1 && (is_late || self.refused_by_broker > self.refused) {
            return;
        }
        if let Some(last) = self.last.insert(key, number).filter(|last| *last > number) {
            let text = format!(
                "message {number} came to {subscriber} behind {last} (DUP {dup}): {published:?}, refused {} {}",
                self.refused, self.refused_by_broker
            );
            self.violations.push(text);
        }
    }

    /// What was promised and has not come.
    pub(super) fn missing(&self) -> Vec<String> {
        let missing = self.required.iter().filter(|key| !self.delivered.contains_key(key));
        missing.map(|(subscriber, number)| format!("message {number} was acknowledged, and never came to {subscriber}")).collect()
    }

    /// The QoS that a subscriber has of a topic, for the trace.
    pub(super) fn qos(&self, subscriber: usize, topic: usize) -> Option<u8> {
        self.subscribed.get(&(subscriber, topic)).map(|held| held.qos)
    }
}
