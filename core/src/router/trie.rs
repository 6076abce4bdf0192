//! Wildcard filters, level by level. Empty branches are pruned, so that churn leaves nothing behind.

use super::Interest;
use crate::HashMap;

/// A node: what its filters are followed by, and who subscribes to exactly this one.
#[derive(Debug, Default)]
pub(super) struct Trie {
    children: HashMap<Box<str>, Trie>,
    plus: Option<Box<Trie>>,
    /// Who subscribes to this filter followed by `#`.
    hash: Interest,
    here: Interest,
}

impl Trie {
    /// Who is interested in a filter, to be changed. Where nobody is left, [`Trie::prune`] is to follow.
    pub(super) fn entry(&mut self, filter: &str) -> &mut Interest {
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

    /// Who is interested in exactly this filter.
    pub(super) fn get(&self, filter: &str) -> Option<&Interest> {
        let mut node = self;
        for level in filter.split('/') {
            node = match level {
                "#" => return Some(&node.hash),
                "+" => node.plus.as_deref()?,
                _ => node.children.get(level)?,
            };
        }
        Some(&node.here)
    }

    /// Calls `found` with each filter that somebody is interested in, until it says no. `path` is what leads here, with a slash behind it.
    pub(super) fn each_filter(&self, path: &mut String, found: &mut impl FnMut(&str) -> bool) -> bool {
        let length = path.len();
        if !self.hash.is_empty() {
            path.push('#');
            let goes_on = found(path);
            path.truncate(length);
            if !goes_on {
                return false;
            }
        }
        let children = self.children.iter().map(|(level, child)| (&**level, child));
        for (level, child) in children.chain(self.plus.as_deref().map(|plus| ("+", plus))) {
            path.push_str(level);
            let goes_on = child.here.is_empty() || found(path);
            path.push('/');
            let goes_on = goes_on && child.each_filter(path, found);
            path.truncate(length);
            if !goes_on {
                return false;
            }
        }
        true
    }

    /// Removes the part of a branch that leads to nobody any more.
    pub(super) fn prune(&mut self, filter: &str) {
        let (level, rest) = match filter.split_once('/') {
            Some((level, rest)) => (level, Some(rest)),
            None => (filter, None),
        };
        let child = match level {
            "#" => return,
            "+" => self.plus.as_deref_mut(),
            _ => self.children.get_mut(level),
        };
        let Some(child) = child else { return };
        if let Some(rest) = rest {
            child.prune(rest);
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

    /// Calls `found` with who is interested in each filter that matches `topic`.
    pub(super) fn matching(&self, topic: &str, found: &mut impl FnMut(&Interest)) {
        // [MQTT-4.7.2-1] Wildcards in the first level do not match topics that begin with a dollar sign.
        self.walk(Some(topic), !topic.starts_with('$'), found);
    }

    /// Recursion is bounded by the number of levels, which the broker bounds.
    fn walk(&self, rest: Option<&str>, wildcards: bool, found: &mut impl FnMut(&Interest)) {
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
