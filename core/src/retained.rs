//! Retained messages: the last one of each topic, in memory; the store keeps them over restarts.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use hookline_mqtt::topic;
use hookline_schemas::Message;
use parking_lot::RwLock;

/// All retained messages, by topic.
#[derive(Debug, Default)]
pub(crate) struct Retained {
    messages: RwLock<BTreeMap<Arc<str>, Arc<Message>>>,
}

impl Retained {
    pub(crate) fn new(messages: Vec<Message>) -> Retained {
        let by_topic = messages.into_iter().map(|message| (Arc::clone(&message.topic), Arc::new(message)));
        Retained { messages: RwLock::new(by_topic.collect()) }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.messages.read().len()
    }

    pub(crate) fn contains(&self, topic: &str) -> bool {
        self.messages.read().contains_key(topic)
    }

    /// Takes the place of what the topic had.
    pub(crate) fn set(&self, message: Arc<Message>) {
        self.messages.write().insert(Arc::clone(&message.topic), message);
    }

    pub(crate) fn clear(&self, topic: &str) {
        self.messages.write().remove(topic);
    }

    /// Those that a filter matches, in the order of their topics. Only topics with the filter's beginning are looked at.
    pub(crate) fn matching(&self, filter: &str) -> Vec<Arc<Message>> {
        let messages = self.messages.read();
        let Some(wildcard) = filter.find(['+', '#']) else {
            return messages.get(filter).cloned().into_iter().collect();
        };
        // "a/#" matches "a", too, so the slash before the wildcard does not belong to the common beginning.
        let beginning = filter[..wildcard].trim_end_matches('/');
        let range = messages.range::<str, _>((Bound::Included(beginning), Bound::Unbounded));
        let near = range.take_while(|(name, _)| name.starts_with(beginning));
        near.filter(|(name, _)| topic::matches(filter, name)).map(|(_, message)| Arc::clone(message)).collect()
    }
}
