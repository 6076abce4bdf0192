//! Which rules a topic is for: topics without wildcards in a map, filters in a tree of their levels. The cost of a topic does not
//! grow with the number of rules.

use std::collections::HashMap;

/// Topic filters with the rules that have them.
#[derive(Debug, Default)]
pub(super) struct TopicIndex {
    exact: HashMap<Box<str>, Vec<usize>>,
    root: Node,
}

#[derive(Debug, Default)]
struct Node {
    children: HashMap<Box<str>, Node>,
    /// Below `+`.
    any: Option<Box<Node>>,
    /// Whose filter ends here.
    rules: Vec<usize>,
    /// Whose filter ends here with `#`.
    rest: Vec<usize>,
}

impl TopicIndex {
    pub(super) fn insert(&mut self, filter: &str, rule: usize) {
        if !hookline_mqtt::topic::has_wildcard(filter) {
            return self.exact.entry(filter.into()).or_default().push(rule);
        }
        let mut node = &mut self.root;
        for level in filter.split('/') {
            node = match level {
                "#" => return node.rest.push(rule),
                "+" => node.any.get_or_insert_default(),
                level => node.children.entry(level.into()).or_default(),
            };
        }
        node.rules.push(rule);
    }

    /// The rules of a topic, in their order, each once.
    pub(super) fn rules(&self, topic: &str) -> Vec<usize> {
        let mut found = self.exact.get(topic).cloned().unwrap_or_default();
        // [MQTT-4.7.2-1] Wildcards at the first level do not match topics that begin with "$".
        let is_own = topic.starts_with('$');
        let mut nodes = vec![&self.root];
        for (depth, level) in topic.split('/').enumerate() {
            let has_wildcards = depth > 0 || !is_own;
            let mut next = Vec::new();
            for node in nodes {
                if has_wildcards {
                    found.extend(&node.rest);
                    next.extend(node.any.as_deref());
                }
                next.extend(node.children.get(level));
            }
            nodes = next;
        }
        for node in nodes {
            // "a/#" is for "a", too.
            found.extend(node.rules.iter().chain(&node.rest));
        }
        found.sort_unstable();
        found.dedup();
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_finds_what_matching_one_by_one_finds() {
        let filters = ["a/b", "a/+", "a/#", "+/b", "#", "+", "+/+/c", "$SYS/#", "$SYS/+", "a//b", "/a", "+/#", "a/b/#"];
        let mut index = TopicIndex::default();
        filters.iter().enumerate().for_each(|(rule, filter)| index.insert(filter, rule));
        for topic in ["a", "a/b", "a/c", "b/b", "a/b/c", "$SYS/x", "$SYS", "a//b", "/a", "x/y/c", "a/b/c/d"] {
            let matching = |(rule, filter): (usize, &&str)| hookline_mqtt::topic::matches(filter, topic).then_some(rule);
            let expected: Vec<usize> = filters.iter().enumerate().filter_map(matching).collect();
            assert_eq!(index.rules(topic), expected, "{topic}");
        }
    }
}
