//! Permissions as mosquitto's `acl_file` has them.

use std::collections::BTreeMap;

use hookline_schemas::config::{AccessRule, Permission, RuleAccess};

use crate::rule::Rule;

/// Reads the file: `topic` lines for the user named before them, those before the first one for clients without a user name; `pattern` lines for
/// everybody.
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
        let rule = if user.is_none() && !is_pattern { rule.of_nobody() } else { rule };
        // Denials go first there, wherever they stand.
        if access == "deny" { denied.push(rule) } else { allowed.push(rule) }
    }
    denied.append(&mut allowed);
    Ok(denied)
}

#[cfg(test)]
mod tests {
    use hookline_mqtt::QoS;
    use hookline_schemas::Client;
    use hookline_schemas::access::Request;
    use hookline_schemas::event::Access;

    use super::*;
    use crate::rights::{Group, Says};

    #[test]
    fn topics_before_the_first_user_are_for_clients_without_a_name() {
        let rules = read("topic a/#\nuser bob\ntopic b/#\npattern c/%u/#").expect("read");
        let may = |username: Option<&str>, topic: &str| {
            let mut client = Client::internal("c1");
            client.username = username.map(Into::into);
            let request = Request { action: Access::Publish, topic, qos: QoS::AtMostOnce, retain: false };
            Group::new(&"acl".into(), &rules, true, &client).says(&request) == Says::Verdict(true)
        };
        assert!(may(None, "a/x") && may(Some(""), "a/x") && !may(Some("bob"), "a/x"));
        assert!(may(Some("bob"), "b/x") && !may(None, "b/x") && !may(Some("eve"), "b/x"));
        assert!(may(Some("eve"), "c/eve/x") && !may(Some("eve"), "c/bob/x") && !may(None, "c//x"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_line() {
        assert!(read("user bob\nallow x").expect_err("wrong").starts_with("line 2: \"allow\" is not known"));
        assert!(read("# one\n\ntopic read a/#/b").expect_err("wrong").starts_with("line 3: topics"));
    }
}
