//! Topic names and topic filters (MQTT 5.0, section 4.7): what is valid, and what matches what.

/// Whether `name` may be published to: not empty, no wildcard, no U+0000, at most 65,535 bytes and `levels_max` levels.
pub fn name_is_valid(name: &str, levels_max: usize) -> bool {
    let well_formed = !name.is_empty() && name.len() <= usize::from(u16::MAX);
    well_formed && !name.bytes().any(|b| matches!(b, b'+' | b'#' | 0)) && levels_within(name, levels_max)
}

/// Whether `filter` may be subscribed to: `+` and `#` stand alone in their level, `#` is last.
pub fn filter_is_valid(filter: &str, levels_max: usize) -> bool {
    let well_formed = !filter.is_empty() && filter.len() <= usize::from(u16::MAX) && !filter.contains('\0');
    if !well_formed || !levels_within(filter, levels_max) {
        return false;
    }
    let mut levels = filter.split('/').peekable();
    while let Some(level) = levels.next() {
        let wildcard_with_text = level.len() > 1 && level.contains(['+', '#']);
        let hash_before_the_end = level == "#" && levels.peek().is_some();
        if wildcard_with_text || hash_before_the_end {
            return false;
        }
    }
    true
}

/// What a client subscribes to, as its filter says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscription<'a> {
    /// For itself.
    Own(&'a str),
    /// `$share/group/filter`: each message goes to one member of the group ([MQTT-4.8.2]). `$queue/filter` is the group `$queue`.
    Shared { group: &'a str, filter: &'a str },
    /// `$exclusive/filter`: one client at a time.
    Exclusive(&'a str),
}

impl<'a> Subscription<'a> {
    /// Reads a filter; `None` where it begins as a shared or exclusive one and is none ([MQTT-4.8.2-1], [MQTT-4.8.2-2]).
    pub fn parse(filter: &'a str) -> Option<Subscription<'a>> {
        let found = Subscription::parse_once(filter)?;
        // One inside another would match nothing.
        let is_nested =
            !matches!(found, Subscription::Own(_)) && !matches!(Subscription::parse_once(found.filter()), Some(Subscription::Own(_)));
        (!is_nested).then_some(found)
    }

    fn parse_once(filter: &'a str) -> Option<Subscription<'a>> {
        if let Some(rest) = filter.strip_prefix("$share/") {
            let (group, filter) = rest.split_once('/')?;
            let valid = !group.is_empty() && !group.contains(['+', '#']) && !filter.is_empty();
            valid.then_some(Subscription::Shared { group, filter })
        } else if let Some(filter) = filter.strip_prefix("$queue/") {
            (!filter.is_empty()).then_some(Subscription::Shared { group: "$queue", filter })
        } else if let Some(filter) = filter.strip_prefix("$exclusive/") {
            (!filter.is_empty()).then_some(Subscription::Exclusive(filter))
        } else if filter == "$share" {
            None
        } else {
            Some(Subscription::Own(filter))
        }
    }

    /// What is matched against topics.
    pub fn filter(self) -> &'a str {
        match self {
            Subscription::Own(filter) | Subscription::Exclusive(filter) | Subscription::Shared { filter, .. } => filter,
        }
    }
}

/// Whether the filter has a `+` or `#`.
pub fn has_wildcard(filter: &str) -> bool {
    filter.contains(['+', '#'])
}

/// Whether `filter` matches `name`. A wildcard in the first level does not match a name that begins with `$` ([MQTT-4.7.2-1]).
pub fn matches(filter: &str, name: &str) -> bool {
    if name.starts_with('$') && filter.starts_with(['+', '#']) {
        return false;
    }
    let mut names = name.split('/');
    for level in filter.split('/') {
        if level == "#" {
            return true;
        }
        match names.next() {
            Some(part) if level == "+" || level == part => {}
            _ => return false,
        }
    }
    names.next().is_none()
}

/// Whether there may be a topic that both filters match.
pub fn overlaps(a: &str, b: &str) -> bool {
    let is_hidden = |a: &str, b: &str| a.starts_with('$') && b.starts_with(['+', '#']);
    if is_hidden(a, b) || is_hidden(b, a) {
        return false;
    }
    let (mut a, mut b) = (a.split('/'), b.split('/'));
    loop {
        match (a.next(), b.next()) {
            (Some("#"), _) | (_, Some("#")) | (None, None) => return true,
            (Some("+"), Some(_)) | (Some(_), Some("+")) => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

fn levels_within(topic: &str, levels_max: usize) -> bool {
    topic.len() < levels_max || topic.bytes().filter(|b| *b == b'/').count() < levels_max
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_overlap_where_one_topic_could_match_both() {
        for (a, b, expect) in [
            ("a/+", "+/b", true),
            ("a/b", "a/c", false),
            ("a/#", "a", true),
            ("#", "$SYS/x", false),
            ("x/+/y", "x/#", true),
            ("x/y/z", "x/y", false),
        ] {
            assert_eq!(overlaps(a, b), expect, "{a} and {b}");
            assert_eq!(overlaps(b, a), expect, "{b} and {a}");
        }
    }

    #[test]
    fn filters_match_as_the_specification_says() {
        let cases = [
            ("sport/tennis/player1/#", "sport/tennis/player1", true),
            ("sport/tennis/player1/#", "sport/tennis/player1/ranking", true),
            ("sport/#", "sport", true),
            ("#", "a/b", true),
            ("#", "$SYS/x", false),
            ("+/x", "$SYS/x", false),
            ("$SYS/#", "$SYS/x", true),
            ("+", "finance", true),
            ("+", "/finance", false),
            ("/+", "/finance", true),
            ("+/+", "/finance", true),
            ("sport/+", "sport/", true),
            ("sport/+", "sport", false),
            ("a/b", "a/b/c", false),
            ("a//b", "a//b", true),
        ];
        for (filter, name, expect) in cases {
            assert_eq!(matches(filter, name), expect, "{filter} against {name}");
        }
    }

    #[test]
    fn shared_and_exclusive_filters_are_told_apart() {
        let shared = |group, filter| Some(Subscription::Shared { group, filter });
        let cases = [
            ("a/+", Some(Subscription::Own("a/+"))),
            ("$share/g/a/#", shared("g", "a/#")),
            ("$share/g//a", shared("g", "/a")),
            ("$queue/a", shared("$queue", "a")),
            ("$exclusive/a/b", Some(Subscription::Exclusive("a/b"))),
            ("$shared/g/a", Some(Subscription::Own("$shared/g/a"))),
            ("$share//a", None),
            ("$share/g", None),
            ("$share/g/", None),
            ("$share/g+/a", None),
            ("$share/#/a", None),
            ("$share/g/$queue/a", None),
            ("$exclusive/$share/g/a", None),
        ];
        for (filter, expect) in cases {
            assert_eq!(Subscription::parse(filter), expect, "{filter}");
        }
    }

    #[test]
    fn wildcards_stand_alone_and_hash_is_last() {
        for good in ["#", "+", "a/+/b", "a/#", "/", "//"] {
            assert!(filter_is_valid(good, 128), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "a+", "a/+b", "a\0"] {
            assert!(!filter_is_valid(bad, 128), "{bad}");
        }
        assert!(!name_is_valid(&"/".repeat(65_535), 128));
        assert!(name_is_valid("a/b", 2) && !name_is_valid("a/b/c", 2));
    }
}
