//! Changes of topics, before they are routed or subscribed to.

use std::borrow::Cow;

use hookline_mqtt::topic;
use hookline_schemas::Client;
use hookline_schemas::config::{Rewrite as Settings, RewriteAction};
use regex::Regex;

/// The rules, ready to run.
#[derive(Debug, Default)]
pub(crate) struct Rewrites(Vec<Rewrite>);

#[derive(Debug)]
struct Rewrite {
    action: RewriteAction,
    source: String,
    expression: Regex,
    destination: String,
}

/// Memory that a compiled expression may take, bytes.
const EXPRESSION_BYTES_MAX: usize = 1 << 20;

impl Rewrites {
    /// Compiles the rules.
    ///
    /// # Errors
    /// All that is wrong, with the place in the list.
    pub(crate) fn new(rules: &[Settings]) -> Result<Rewrites, Vec<String>> {
        let mut errors = Vec::new();
        let mut compiled = Vec::new();
        for (index, rule) in rules.iter().enumerate() {
            if !topic::filter_is_valid(&rule.source_topic, usize::MAX) {
                errors.push(format!("rewrite[{index}].source_topic: \"{}\" is no topic filter", rule.source_topic));
            }
            match regex::RegexBuilder::new(&rule.re).size_limit(EXPRESSION_BYTES_MAX).build() {
                Ok(expression) => compiled.push(Rewrite {
                    action: rule.action,
                    source: rule.source_topic.clone(),
                    expression,
                    destination: rule.dest_topic.clone(),
                }),
                Err(error) => errors.push(format!("rewrite[{index}].re: {error}")),
            }
        }
        if errors.is_empty() { Ok(Rewrites(compiled)) } else { Err(errors) }
    }

    /// The topic that is used in place of `name`. `action` is publish or subscribe.
    pub(crate) fn apply<'a>(&self, action: RewriteAction, name: &'a str, client: &Client) -> Cow<'a, str> {
        // The first whose filter matches decides, also where its expression then does not.
        let applies = |rule: &&Rewrite| (rule.action == RewriteAction::All || rule.action == action) && covers(&rule.source, name);
        let Some(rule) = self.0.iter().find(applies) else { return Cow::Borrowed(name) };
        let Some(groups) = rule.expression.captures(name) else { return Cow::Borrowed(name) };
        let mut new = rule.destination.clone();
        for index in (1..10).rev() {
            new = new.replace(&format!("${index}"), groups.get(index).map_or("", |group| group.as_str()));
        }
        Cow::Owned(new.replace("${clientid}", &client.client_id).replace("${username}", client.username.as_deref().unwrap_or("")))
    }
}

/// Whether everything that `filter`, a name or a filter, can match is matched by `source`.
fn covers(source: &str, filter: &str) -> bool {
    let mut levels = filter.split('/');
    for part in source.split('/') {
        match (part, levels.next()) {
            ("#", _) => return true,
            ("+", Some(level)) if level != "#" => {}
            (part, Some(level)) if part == level => {}
            _ => return false,
        }
    }
    levels.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(text: &str) -> Settings {
        serde_json::from_str(text).expect("valid JSON")
    }

    #[test]
    fn the_first_rule_that_covers_the_topic_decides() {
        let rules = [
            rule(r#"{"action": "publish", "source_topic": "y/+/z/#", "re": "^y/(.+)/z/(.+)$", "dest_topic": "y/z/$2"}"#),
            rule(r#"{"source_topic": "x/#", "re": "^x/y/(.+)$", "dest_topic": "z/y/x/$1"}"#),
            rule(r##"{"source_topic": "x/#", "re": "^x/(.+)$", "dest_topic": "never"}"##),
            rule(r#"{"source_topic": "me/+", "re": "^me/(.+)$", "dest_topic": "of/${clientid}/${username}/$1"}"#),
        ];
        let rewrites = Rewrites::new(&rules).expect("valid");
        let client = Client { username: Some("u".into()), ..Client::internal("c") };
        let cases = [
            (RewriteAction::Publish, "y/a/z/b", "y/z/b"),
            (RewriteAction::Publish, "y/def", "y/def"),
            (RewriteAction::Subscribe, "y/a/z/b", "y/a/z/b"),
            (RewriteAction::Subscribe, "x/y/+", "z/y/x/+"),
            (RewriteAction::Publish, "x/1/2", "x/1/2"),
            (RewriteAction::Publish, "me/t", "of/c/u/t"),
        ];
        for (action, name, expect) in cases {
            assert_eq!(rewrites.apply(action, name, &client), expect, "{name}");
        }
        let errors = Rewrites::new(&[rule(r#"{"source_topic": "a#", "re": "(", "dest_topic": "x"}"#)]).expect_err("wrong");
        assert_eq!(errors.len(), 2, "{errors:?}");
    }
}
