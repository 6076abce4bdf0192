//! Wildcard filters, level by level. Empty branches are pruned, so that churn leaves nothing behind.

use super::{Address, Subscriber};
use crate::HashMap;

/// A node: what its filters are followed by, and who subscribes to exactly this one.
#[derive(Debug, Default)]
pub(super) struct Trie {
    children: HashMap<Box<str>, Trie>,
    plus: Option<Box<Trie>>,
    /// Subscribers of this filter followed by `#`.
    hash: Vec<Subscriber>,
    here: Vec<Subscriber>,
}

impl Trie {
    /// The subscribers of a filter, to add to.
    pub(super) fn entry(&mut self, filter: &str) -> &mut Vec<Subscriber> {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                "#" => return &mut node.hash,
                "+" => node.plus.get_or_insert_default(),
                _ => node.children.entry(level.into()).or_default(),
            };
        }
        &mut node.here
    }

    /// Removes a subscriber, and the branch where it was the last one.
    pub(super) fn remove(&mut self, filter: &str, address: Address) {
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        if level == "#" {
            self.hash.retain(|subscriber| subscriber.address != address);
            return;
        }
        let child = if level == "+" { self.plus.as_deref_mut() } else { self.children.get_mut(level) };
        let Some(child) = child else { return };
        match rest {
            Some(rest) => child.remove(rest, address),
            None => child.here.retain(|subscriber| subscriber.address != address),
        }
        if child.is_empty() {
            if level == "+" {
                self.plus = None;
            } else {
                self.children.remove(level);
            }
        }
    }

    fn is_empty(&self) -> bool {
        self.children.is_empty() && self.plus.is_none() && self.hash.is_empty() && self.here.is_empty()
    }

    /// Calls `found` with the subscribers of each filter that matches `topic`.
    pub(super) fn matching(&self, topic: &str, found: &mut impl FnMut(&[Subscriber])) {
        // [MQTT-4.7.2-1] Wildcards in the first level do not match topics that begin with a dollar sign.
        self.walk(Some(topic), !topic.starts_with('$'), found);
    }

    /// Recursion is bounded by the number of levels, which the broker bounds.
    fn walk(&self, rest: Option<&str>, wildcards: bool, found: &mut impl FnMut(&[Subscriber])) {
        if wildcards && !self.hash.is_empty() {
            found(&self.hash);
        }
        let Some(rest) = rest else {
            if !self.here.is_empty() {
                found(&self.here);
            }
            return;
        };
        let (level, rest) = match rest.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (rest, None),
        };
        if let Some(child) = self.children.get(level) {
            child.walk(rest, true, found);
        }
        if let Some(plus) = self.plus.as_deref().filter(|_| wildcards) {
            plus.walk(rest, true, found);
        }
    }
}
