//! Retained messages: the last one of each topic. Those of clients are in the store, and only there; the broker's own, which are
//! said anew after each start, are in memory.

use std::collections::BTreeMap;
use std::sync::Arc;

use hookline_mqtt::{PropertyId, topic};
use hookline_schemas::Message;
use hookline_schemas::config::Mqtt;
use parking_lot::RwLock;

use crate::clock;
use crate::store::{RetainedPage, Store};

/// What topics of the broker's own begin with.
const OWN: &str = "$SYS/";

/// All retained messages, by topic.
#[derive(Debug)]
pub(crate) struct Retained {
    store: Arc<Store>,
    own: RwLock<BTreeMap<Arc<str>, Arc<Message>>>,
}

/// A part of what a filter matches.
#[derive(Debug, Default)]
pub(crate) struct Page {
    pub(crate) messages: Vec<Arc<Message>>,
    /// Where the next page begins; `None`: there is none.
    pub(crate) next: Option<Box<str>>,
}

impl Retained {
    pub(crate) fn new(store: Arc<Store>) -> Retained {
        Retained { store, own: RwLock::default() }
    }

    /// How many clients have.
    pub(crate) fn len(&self) -> u64 {
        self.store.retained_count()
    }

    /// Whether a message can be kept within the limits. Where the store cannot say what the topic has, it has nothing.
    pub(crate) fn has_room(&self, message: &Message, limits: &Mqtt) -> bool {
        if message.payload.len() > limits.retained_payload_bytes_max {
            return false;
        }
        let (count, bytes) = (self.store.retained_count(), self.store.retained_bytes());
        let new = crate::store::encoded_len(message) + message.topic.len();
        let fits = |count: u64, bytes: u64| count < limits.retained_max as u64 && bytes + new as u64 <= limits.retained_bytes_max as u64;
        if fits(count, bytes) {
            return true;
        }
        // It may take the place of another one.
        let before = self.store.retained_size(&message.topic).ok().flatten();
        before.is_some_and(|before| fits(count.saturating_sub(1), bytes.saturating_sub(before)))
    }

    /// Whether a topic has one.
    pub(crate) fn has(&self, topic: &str) -> bool {
        self.store.retained_size(topic).is_ok_and(|size| size.is_some())
    }

    /// Keeps a message of the broker's own.
    pub(crate) fn set_own(&self, message: Arc<Message>) {
        self.own.write().insert(Arc::clone(&message.topic), message);
    }

    /// Those that a filter matches, in the order of their topics, from `from` on: at most `count`, and no more when they have
    /// `bytes_max`.
    pub(crate) fn page(&self, filter: &str, from: Option<&str>, count: usize, bytes_max: usize) -> Page {
        if filter.starts_with(OWN) {
            let own = self.own.read();
            let messages = own.iter().filter(|(name, _)| topic::matches(filter, name)).map(|(_, message)| Arc::clone(message));
            return Page { messages: messages.collect(), next: None };
        }
        match self.store.retained_page(filter, from, count, bytes_max, clock::now_ms()) {
            Ok(RetainedPage { messages, next }) => Page { messages: messages.into_iter().map(Arc::new).collect(), next },
            Err(error) => {
                tracing::error!(filter, %error, "retained messages cannot be read; a subscriber goes without them");
                Page::default()
            }
        }
    }
}

/// Milliseconds since the Unix epoch; `u64::MAX` is never.
pub(crate) fn expires_at_ms(message: &Message) -> u64 {
    let secs = message.properties.number(PropertyId::MessageExpiryInterval);
    secs.map_or(u64::MAX, |secs| message.received_at_ms + u64::from(secs) * 1000)
}

#[cfg(test)]
mod tests {
    use hookline_schemas::config::Store as Settings;

    use super::*;
    use crate::store::Batch;

    fn open(folder: &std::path::Path) -> Retained {
        Retained::new(Store::open(folder, "n", &Settings::default()).expect("the store").store)
    }

    fn set(retained: &Retained, messages: &[Message]) {
        let mut batch = Batch::default();
        messages.iter().for_each(|message| batch.put_retained(message));
        retained.store.commit(&mut batch).expect("written");
    }

    fn message(topic: &str) -> Message {
        Message { received_at_ms: clock::now_ms(), ..Message::internal(topic, "x") }
    }

    #[test]
    fn pages_hold_together_what_matches() {
        let folder = tempfile::tempdir().expect("a folder");
        let retained = open(folder.path());
        let topics = (0..5000).map(|n| format!("a/{n:04}/{}", if n % 1000 == 0 { "hit" } else { "miss" }));
        let all: Vec<Message> = topics.chain(["a".to_owned(), "b".to_owned()]).map(|topic| message(&topic)).collect();
        set(&retained, &all);
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
    fn totals_are_counted_also_over_a_restart_and_what_is_over_is_removed() {
        let folder = tempfile::tempdir().expect("a folder");
        let retained = open(folder.path());
        set(&retained, &[message("a"), message("a"), message("b")]);
        let bytes = retained.store.retained_bytes();
        let limits = Mqtt { retained_max: 3, retained_bytes_max: bytes as usize + 100, ..Mqtt::default() };
        assert_eq!(retained.len(), 2);
        assert!(retained.has_room(&message("c"), &limits));
        let large = Message { payload: vec![0; 200].into(), ..message("c") };
        assert!(!retained.has_room(&large, &limits));
        let mut old = Message { received_at_ms: 1, ..message("old") };
        old.properties.push_number(PropertyId::MessageExpiryInterval, 5);
        set(&retained, &[old]);
        assert!(!retained.has_room(&message("d"), &limits) && retained.has_room(&message("a"), &limits));
        assert!(retained.page("old", None, 1, 1).messages.is_empty(), "its time is over");
        retained.store.close();
        drop(retained);
        let retained = open(folder.path());
        assert_eq!(retained.len(), 3);
        assert_eq!(retained.store.expire_retained(10, clock::now_ms()).ok(), Some(1));
        assert_eq!((retained.len(), retained.store.retained_bytes()), (2, bytes));
        let mut batch = Batch::default();
        batch.delete_retained("a");
        batch.delete_retained("a");
        batch.delete_retained("b");
        retained.store.commit(&mut batch).expect("written");
        assert_eq!((retained.len(), retained.store.retained_bytes()), (0, 0));
        retained.store.close();
    }

    #[test]
    fn the_own_messages_are_apart() {
        let folder = tempfile::tempdir().expect("a folder");
        let retained = open(folder.path());
        retained.set_own(Arc::new(message("$SYS/brokers")));
        assert_eq!(retained.page("$SYS/#", None, 1, 1).messages.len(), 1);
        assert_eq!((retained.page("#", None, 10, 10).messages.len(), retained.len()), (0, 0));
        retained.store.close();
    }
}
