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

fn levels_within(topic: &str, levels_max: usize) -> bool {
    topic.len() < levels_max || topic.bytes().filter(|b| *b == b'/').count() < levels_max
}

#[cfg(test)]
mod tests {
    use super::*;

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
    fn wildcards_stand_alone_and_hash_is_last() {
        for good in ["#", "+", "a/+/b", "a/#", "/", "//", "$share"] {
            assert!(filter_is_valid(good, 128), "{good}");
        }
        for bad in ["", "a#", "a/#/b", "a+", "a/+b", "a\0"] {
            assert!(!filter_is_valid(bad, 128), "{bad}");
        }
        assert!(!name_is_valid(&"/".repeat(65_535), 128));
        assert!(name_is_valid("a/b", 2) && !name_is_valid("a/b/c", 2));
    }
}
