//! A worker's memory of answers: topic to targets, checked by version, so that a steady stream asks no lock.

use std::sync::Arc;

use super::{Router, Targets, Version};
use crate::HashMap;

/// Topics that a worker remembers. Devices publish to few topics each; beyond this the memory starts afresh.
const TOPICS_MAX: usize = 4096;

/// Answers that were given before.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    answers: HashMap<Arc<str>, Answer>,
    /// The topic that was asked for last: a client's messages come several at a time.
    last: Option<(Arc<str>, Answer)>,
}

#[derive(Debug, Clone)]
struct Answer {
    /// What of the router's it depends on beside the wildcards.
    shard: usize,
    version: Version,
    targets: Arc<Targets>,
}

impl RouteCache {
    /// Everybody who wants `topic`, with the topic's shared text.
    pub(crate) fn targets(&mut self, router: &Router, topic: &str) -> (Arc<str>, Arc<Targets>) {
        let is_current = |answer: &Answer| answer.version == router.version(answer.shard);
        if let Some((name, answer)) = self.last.as_ref().filter(|(name, answer)| **name == *topic && is_current(answer)) {
            return (Arc::clone(name), Arc::clone(&answer.targets));
        }
        let (name, answer) = match self.answers.get_key_value(topic).filter(|(_, answer)| is_current(answer)) {
            Some((name, answer)) => (Arc::clone(name), answer.clone()),
            None => self.ask(router, topic),
        };
        self.last = Some((Arc::clone(&name), answer.clone()));
        (name, answer.targets)
    }

    fn ask(&mut self, router: &Router, topic: &str) -> (Arc<str>, Answer) {
        if self.answers.len() >= TOPICS_MAX {
            self.answers.clear();
        }
        let shard = router.shard(topic);
        // First the version: what changes meanwhile makes it old.
        let version = router.version(shard);
        let answer = Answer { shard, version, targets: Arc::new(router.targets(topic)) };
        let name: Arc<str> = topic.into();
        self.answers.insert(Arc::clone(&name), answer.clone());
        (name, answer)
    }
}
