//! Permissions as mosquitto's `acl_file` has them.

use std::collections::BTreeMap;

use hookline_schemas::config::{AccessRule, Permission, RuleAccess};

use crate::rule::Rule;

/// Reads the file: `topic` lines for everybody, or for the user named before them; `pattern` lines for everybody.
pub(crate) fn read(text: &str) -> Result<Vec<Rule>, String> {
    let mut denied = Vec::new();
    let mut allowed = Vec::new();
    let mut user: Option<String> = None;
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let at = |problem: &str| format!("line {}: {problem}", number + 1);
        let (word, rest) = line.split_once(char::is_whitespace).ok_or_else(|| at("something must follow"))?;
        let rest = rest.trim();
        let is_pattern = word == "pattern";
        match word {
            "user" => {
                user = Some(rest.to_owned());
                continue;
            }
            "topic" | "pattern" => {}
            other => return Err(at(&format!("\"{other}\" is not known; there are user, topic and pattern"))),
        }
        let (access, topic) = match rest.split_once(char::is_whitespace) {
            Some((access @ ("read" | "write" | "readwrite" | "deny"), topic)) => (access, topic.trim()),
            _ => ("readwrite", rest),
        };
        let settings = AccessRule {
            permission: if access == "deny" { Permission::Deny } else { Permission::Allow },
            action: match access {
                "read" => RuleAccess::Subscribe,
                "write" => RuleAccess::Publish,
                _ => RuleAccess::All,
            },
            topics: vec![topic.to_owned()],
            qos: None,
            retain: None,
            username: user.clone().filter(|_| !is_pattern),
            client_id: None,
            address: None,
            client_attrs: BTreeMap::new(),
        };
        let rule = Rule::new(&settings).map_err(|problem| at(&problem))?;
        // Denials go first there, wherever they stand.
        if access == "deny" { denied.push(rule) } else { allowed.push(rule) }
    }
    denied.append(&mut allowed);
    Ok(denied)
}
