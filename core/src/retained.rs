//! Retained messages: the last one of each topic, in memory; the store keeps them over restarts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use hookline_mqtt::{PropertyId, topic};
use hookline_schemas::Message;
use hookline_schemas::config::Mqtt;
use parking_lot::RwLock;

use crate::clock;

/// All retained messages, by topic.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    table: RwLock<Table>,
}

#[derive(Debug, Default)]
struct Table {
    messages: BTreeMap<Arc<str>, Kept>,
    bytes: usize,
    /// Those of the broker itself, which take nobody's place.
    own: usize,
}

#[derive(Debug)]
struct Kept {
    message: Arc<Message>,
    /// Milliseconds since the Unix epoch; `u64::MAX` is never.
    expires_at_ms: u64,
}

/// A part of what a filter matches.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) messages: Vec<Arc<Message>>,
    /// Where the next page begins; `None`: there is none.
    pub(crate) next: Option<Arc<str>>,
}

/// Topics that are looked at for one page: what a filter that matches little may cost at a time.
const LOOK_MAX: usize = 2048;
/// What a message costs beside its topic and payload, bytes.
const OVERHEAD: usize = 256;

impl Retained {
    /// Takes in what the store has kept, and whose time is not over.
    pub(crate) fn new(messages: Vec<Message>) -> Retained {
        let retained = Retained::default();
        let now_ms = clock::now_ms();
        for message in messages.into_iter().filter(|message| expires_at_ms(message) > now_ms) {
            retained.set(Arc::new(message));
        }
        retained
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        let table = self.table.read();
        table.messages.len() - table.own
    }

    /// Whether a message can be kept within the limits.
    pub(crate) fn has_room(&self, message: &Message, limits: &Mqtt) -> bool {
        let table = self.table.read();
        let before = table.messages.get(&message.topic).map(|kept| size(&kept.message));
        let has_place = before.is_some() || table.messages.len() - table.own < limits.retained_max;
        let bytes = table.bytes - before.unwrap_or(0) + size(message);
        has_place && bytes <= limits.retained_bytes_max && message.payload.len() <= limits.retained_payload_bytes_max
    }

    /// Takes the place of what the topic had.
    pub(crate) fn set(&self, message: Arc<Message>) {
        let expires_at_ms = expires_at_ms(&message);
        let mut table = self.table.write();
        let is_own = message.topic.starts_with("$SYS/");
        table.own += usize::from(is_own && !table.messages.contains_key(&message.topic));
        table.bytes += size(&message);
        if let Some(before) = table.messages.insert(Arc::clone(&message.topic), Kept { message, expires_at_ms }) {
            table.bytes -= size(&before.message);
        }
    }

    pub(crate) fn clear(&self, topic: &str) {
        let mut table = self.table.write();
        if let Some(kept) = table.messages.remove(topic) {
            table.bytes -= size(&kept.message);
        }
    }

    /// Removes those whose time is over, looking at `count` topics from `from` on: their topics, and where to go on.
    pub(crate) fn expire(&self, from: &str, count: usize) -> (Vec<Arc<str>>, Option<Arc<str>>) {
        let now_ms = clock::now_ms();
        let mut table = self.table.write();
        let range = || (Bound::Included(from), Bound::Unbounded);
        let next = table.messages.range::<str, _>(range()).nth(count).map(|(topic, _)| Arc::clone(topic));
        let looked = table.messages.range::<str, _>(range()).take(count);
        let over: Vec<Arc<str>> = looked.filter(|(_, kept)| kept.expires_at_ms <= now_ms).map(|(topic, _)| Arc::clone(topic)).collect();
        for topic in &over {
            if let Some(kept) = table.messages.remove(topic) {
                table.bytes -= size(&kept.message);
            }
        }
        (over, next)
    }

    /// Those that a filter matches, in the order of their topics, from `from` on: at most `count`, and no more when they have
    /// `bytes_max`. Only topics with the filter's beginning are looked at, and of them a bounded number.
    pub(crate) fn page(&self, filter: &str, from: Option<&str>, count: usize, bytes_max: usize) -> Page {
        let now_ms = clock::now_ms();
        let table = self.table.read();
        let live = |kept: &Kept| (kept.expires_at_ms > now_ms).then(|| Arc::clone(&kept.message));
        let Some(wildcard) = filter.find(['+', '#']) else {
            return Page { messages: table.messages.get(filter).and_then(live).into_iter().collect(), next: None };
        };
        // "a/#" matches "a", too, so the slash before the wildcard does not belong to the common beginning.
        let beginning = filter[..wildcard].trim_end_matches('/');
        let range = table.messages.range::<str, _>((Bound::Included(from.unwrap_or(beginning)), Bound::Unbounded));
        let near = range.take_while(|(name, _)| name.starts_with(beginning));
        let mut page = Page { messages: Vec::new(), next: None };
        let mut bytes = 0;
        for (looked, (name, kept)) in near.enumerate() {
            if looked == LOOK_MAX || page.messages.len() == count || bytes >= bytes_max {
                page.next = Some(Arc::clone(name));
                break;
            }
            if topic::matches(filter, name) {
                bytes += size(&kept.message);
                page.messages.extend(live(kept));
            }
        }
        page
    }
}

/// Milliseconds since the Unix epoch; `u64::MAX` is never.
pub(crate) fn expires_at_ms(message: &Message) -> u64 {
    let secs = message.properties.number(PropertyId::MessageExpiryInterval);
    secs.map_or(u64::MAX, |secs| message.received_at_ms + u64::from(secs) * 1000)
}

fn size(message: &Message) -> usize {
    message.topic.len() + message.payload.len() + OVERHEAD
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str) -> Arc<Message> {
        Arc::new(Message { received_at_ms: clock::now_ms(), ..Message::internal(topic, "x") })
    }

    #[test]
    fn pages_hold_together_what_matches() {
        let retained = Retained::default();
        for n in 0..5000 {
            retained.set(message(&format!("a/{n:04}/{}", if n % 1000 == 0 { "hit" } else { "miss" })));
        }
        retained.set(message("a"));
        retained.set(message("b"));
        let collect = |filter: &str, count| {
            let (mut found, mut pages, mut from) = (Vec::new(), 0, None);
            loop {
                let page = retained.page(filter, from.as_deref(), count, usize::MAX);
                assert!(page.messages.len() <= count);
                found.extend(page.messages.iter().map(|message| message.topic.to_string()));
                pages += 1;
                from = page.next;
                if from.is_none() {
                    return (found, pages);
                }
            }
        };
        let (hits, pages) = collect("a/+/hit", 100);
        assert_eq!(hits, ["a/0000/hit", "a/1000/hit", "a/2000/hit", "a/3000/hit", "a/4000/hit"]);
        assert!(pages > 1, "not all topics are looked at for one page");
        assert_eq!(collect("a/#", 64).0.len(), 5001);
        assert_eq!(collect("#", 64).0.len(), 5002);
        assert_eq!(collect("b", 64), (vec!["b".to_owned()], 1));
    }

    #[test]
    fn bytes_are_counted_and_what_is_over_is_removed() {
        let retained = Retained::default();
        let limits = Mqtt { retained_max: 2, retained_bytes_max: 600, ..Mqtt::default() };
        retained.set(message("a"));
        retained.set(message("a"));
        assert!(retained.has_room(&message("a"), &limits) && retained.has_room(&message("b"), &limits));
        let large = Message { payload: vec![0; 200].into(), ..Message::internal("b", "") };
        assert!(!retained.has_room(&large, &limits));
        let mut old = Message { received_at_ms: 1, ..Message::internal("old", "x") };
        old.properties.push_number(PropertyId::MessageExpiryInterval, 5);
        retained.set(Arc::new(old));
        assert!(!retained.has_room(&message("c"), &limits));
        assert!(retained.page("old", None, 1, 1).messages.is_empty(), "its time is over");
        let (over, next) = retained.expire("", 10);
        assert_eq!((over.len(), next, retained.len()), (1, None, 1));
        retained.clear("a");
        assert_eq!(retained.table.read().bytes, 0);
    }
}
