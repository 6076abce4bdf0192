//! A worker's memory of answers: topic to targets, checked by version, so that a steady stream asks no lock.

use std::sync::Arc;

use super::{Router, Targets, Version};
use crate::HashMap;

/// Topics that a worker remembers. Devices publish to few topics each; beyond this the memory starts afresh.
const TOPICS_MAX: usize = 4096;

/// Answers that were given before.
#[derive(Debug, Default)]
pub(crate) struct RouteCache {
    answers: HashMap<Arc<str>, (Version, Arc<Targets>)>,
}

impl RouteCache {
    /// Everybody who wants `topic`, with the topic's shared text.
    pub(crate) fn targets(&mut self, router: &Router, topic: &str) -> (Arc<str>, Arc<Targets>) {
        let version = router.version(topic);
        if let Some((name, (_, targets))) = self.answers.get_key_value(topic).filter(|(_, (cached, _))| *cached == version) {
            return (Arc::clone(name), Arc::clone(targets));
        }
        if self.answers.len() >= TOPICS_MAX {
            self.answers.clear();
        }
        let name: Arc<str> = topic.into();
        let targets = Arc::new(router.targets(topic));
        self.answers.insert(Arc::clone(&name), (version, Arc::clone(&targets)));
        (name, targets)
    }
}
