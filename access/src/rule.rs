//! Permissions: read once, and bound to a client when it comes in.

use std::net::IpAddr;
use std::sync::Arc;

use hookline_mqtt::topic;
use hookline_schemas::access::Request;
use hookline_schemas::config::{AccessRule, Permission, RuleAccess};
use hookline_schemas::event::Access;
use hookline_schemas::{Client, Template};
use ipnet::IpNet;
use regex::Regex;

/// What a rule says of a name.
#[derive(Debug, Clone)]
enum Name {
    /// There must be none.
    Absent,
    Exact(String),
    Like(Regex),
}

impl Name {
    fn parse(text: &str) -> Result<Name, String> {
        match text.strip_prefix("re:") {
            Some(expression) => Regex::new(&format!("^(?:{expression})$")).map(Name::Like).map_err(|error| error.to_string()),
            None => Ok(Name::Exact(text.to_owned())),
        }
    }

    fn fits(&self, name: Option<&str>) -> bool {
        match (self, name) {
            (Name::Absent, name) => name.is_none_or(str::is_empty),
            (Name::Exact(wanted), Some(name)) => wanted == name,
            (Name::Like(expression), Some(name)) => expression.is_match(name),
            (_, None) => false,
        }
    }
}

/// A permission, read.
#[derive(Debug, Clone)]
pub(crate) struct Rule {
    username: Option<Name>,
    client_id: Option<Name>,
    network: Option<IpNet>,
    attributes: Vec<(String, String)>,
    /// Those without a placeholder.
    fixed: Arc<Bound>,
    /// Those with one.
    templates: Vec<FilterTemplate>,
}

/// A filter with places for what is known of a client.
#[derive(Debug, Clone)]
struct FilterTemplate {
    template: Template,
    is_exact: bool,
    /// It begins with such a place.
    begins_filled: bool,
}

/// A permission for one client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bound {
    pub(crate) allow: bool,
    publish: bool,
    subscribe: bool,
    /// One bit for each.
    qos: u8,
    retain: Option<bool>,
    filters: Vec<Filter>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Filter {
    /// This very text.
    Exact(Box<str>),
    Pattern(Box<str>),
}

impl Rule {
    /// Reads a permission.
    pub(crate) fn new(settings: &AccessRule) -> Result<Rule, String> {
        let name = |what: &str, text: &Option<String>| {
            text.as_deref().map(Name::parse).transpose().map_err(|problem| format!("{what}: {problem}"))
        };
        let mut fixed = Vec::new();
        let mut templates = Vec::new();
        for text in &settings.topics {
            let inner = text.strip_prefix("eq ").unwrap_or(text);
            if let Some(template) = FilterTemplate::parse(text).map_err(|problem| format!("topics: {problem}"))? {
                templates.push(template);
            } else if topic::filter_is_valid(inner, usize::MAX) {
                fixed.push(filter(text));
            } else {
                return Err(format!("topics: \"{inner}\" is no topic filter"));
            }
        }
        let mut qos = 0b111;
        if let Some(wanted) = &settings.qos {
            if wanted.iter().any(|qos| *qos > 2) {
                return Err("qos: must be 0, 1 or 2".to_owned());
            }
            qos = wanted.iter().fold(0, |bits, qos| bits | 1 << qos);
        }
        let network = settings.address.as_deref().map(network).transpose()?;
        Ok(Rule {
            username: name("username", &settings.username)?,
            client_id: name("client_id", &settings.client_id)?,
            network,
            attributes: settings.client_attrs.iter().map(|(name, value)| (name.clone(), value.clone())).collect(),
            fixed: Arc::new(Bound {
                allow: settings.permission == Permission::Allow,
                publish: settings.action != RuleAccess::Subscribe,
                subscribe: settings.action != RuleAccess::Publish,
                qos,
                retain: settings.retain,
                filters: fixed,
            }),
            templates,
        })
    }

    /// The same for clients without a user name alone.
    pub(crate) fn of_nobody(mut self) -> Rule {
        self.username = Some(Name::Absent);
        self
    }

    /// The permission for a client; `None`: it is not about it.
    pub(crate) fn bind(&self, client: &Client) -> Option<Arc<Bound>> {
        let fits = self.username.as_ref().is_none_or(|name| name.fits(client.username.as_deref()))
            && self.client_id.as_ref().is_none_or(|name| name.fits(Some(&client.client_id)))
            && self.network.is_none_or(|network| network.contains(&canonical(client.peer.ip())))
            && self.attributes.iter().all(|(name, wanted)| client.attributes.get(&**name).is_some_and(|value| **value == **wanted));
        if !fits {
            return None;
        }
        if self.templates.is_empty() {
            return Some(Arc::clone(&self.fixed));
        }
        let mut bound = (*self.fixed).clone();
        bound.filters.extend(self.templates.iter().filter_map(|template| template.fill(client)));
        (!bound.filters.is_empty()).then(|| Arc::new(bound))
    }
}

fn filter(text: &str) -> Filter {
    match text.strip_prefix("eq ") {
        Some(exact) => Filter::Exact(exact.into()),
        None => Filter::Pattern(text.into()),
    }
}

fn canonical(address: IpAddr) -> IpAddr {
    address.to_canonical()
}

fn network(text: &str) -> Result<IpNet, String> {
    let parsed = text.parse::<IpNet>().ok().or_else(|| text.parse::<IpAddr>().ok().map(IpNet::from));
    parsed.ok_or_else(|| format!("address: \"{text}\" is no address or network"))
}

impl FilterTemplate {
    /// Reads a filter; `None`: it has no placeholder. `%c` and `%u` are the short forms of `${clientid}` and `${username}`.
    fn parse(text: &str) -> Result<Option<FilterTemplate>, String> {
        let (text, is_exact) = text.strip_prefix("eq ").map_or((text, false), |inner| (inner, true));
        let text = text.replace("%c", "${clientid}").replace("%u", "${username}");
        if !text.contains("${") {
            return Ok(None);
        }
        let template = Template::parse(&text).map_err(|error| error.to_string())?;
        let is_known = |path: &[Box<str>]| match path {
            [name] => matches!(&**name, "clientid" | "username" | "cert_common_name" | "zone" | "listener"),
            [first, ..] => &**first == "client_attrs",
            [] => false,
        };
        if text.contains("${.}") || !template.paths().all(is_known) {
            let known = "${clientid}, ${username}, ${cert_common_name}, ${client_attrs.NAME}, ${zone}, ${listener} and ${$}";
            return Err(format!("\"{text}\" has a placeholder that is not known; there are {known}"));
        }
        let filled = template.rewrite(|_| "x".to_owned());
        if !topic::filter_is_valid(&filled, usize::MAX) {
            return Err(format!("\"{text}\" is no topic filter"));
        }
        Ok(Some(FilterTemplate { template, is_exact, begins_filled: text.starts_with("${") && !text.starts_with("${$}") }))
    }

    /// The filter for one client; `None` where the client lacks what it names, or has a name that would widen it. What is exact is said by the
    /// template, never by a name, and no name leads to what is the broker's own (`$SYS`).
    fn fill(&self, client: &Client) -> Option<Filter> {
        let certificate = client.certificate.as_deref();
        let value = |path: &[Box<str>]| match path {
            [name] => match &**name {
                "clientid" => Some(&*client.client_id),
                "username" => client.username.as_deref(),
                "cert_common_name" => certificate.and_then(|certificate| certificate.common_name.as_deref()),
                "zone" => Some(&*client.zone),
                "listener" => Some(&*client.listener),
                _ => None,
            },
            [_, attribute @ ..] => client.attributes.get(&*attribute.join(".")).map(|value| &**value),
            [] => None,
        };
        let is_harmless = |value: &&str| !value.is_empty() && !value.contains(['+', '#', '/', '\0']);
        let mut is_whole = true;
        let filled = self.template.rewrite(|placeholder| match placeholder.paths().next().and_then(value).filter(is_harmless) {
            Some(value) => value.to_owned(),
            None => {
                is_whole = false;
                String::new()
            }
        });
        if !is_whole || self.begins_filled && filled.starts_with('$') || !topic::filter_is_valid(&filled, usize::MAX) {
            return None;
        }
        let filled = filled.into_boxed_str();
        Some(if self.is_exact { Filter::Exact(filled) } else { Filter::Pattern(filled) })
    }
}

impl Bound {
    pub(crate) fn is_about(&self, request: &Request<'_>) -> bool {
        let is_action = match request.action {
            Access::Publish => self.publish && self.retain.is_none_or(|retain| retain == request.retain),
            Access::Subscribe => self.subscribe,
        };
        is_action
            && self.qos & 1 << request.qos as u8 != 0
            && self.filters.iter().any(|filter| match (filter, request.action) {
                (Filter::Exact(text), _) => **text == *request.topic,
                (Filter::Pattern(filter), Access::Publish) => topic::matches(filter, request.topic),
                // What is allowed must be allowed whole; what is denied must not be reached by a wildcard.
                (Filter::Pattern(filter), Access::Subscribe) if self.allow => covers(filter, request.topic),
                (Filter::Pattern(filter), Access::Subscribe) => topic::overlaps(filter, request.topic),
            })
    }
}

/// Whether a wildcard in the first level of one filter would have to match the `$` of the other.
fn differ_by_dollar(a: &str, b: &str) -> bool {
    a.starts_with(['+', '#']) && b.starts_with('$') || b.starts_with(['+', '#']) && a.starts_with('$')
}

/// Whether every topic that `inner` matches is matched by `outer`, too.
fn covers(outer: &str, inner: &str) -> bool {
    if differ_by_dollar(outer, inner) {
        return false;
    }
    let (mut outer, mut inner) = (outer.split('/'), inner.split('/'));
    loop {
        match (outer.next(), inner.next()) {
            (Some("#"), _) | (None, None) => return true,
            (Some("+"), Some(level)) if level != "#" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use hookline_schemas::Certificate;

    use hookline_mqtt::QoS;
    use hookline_schemas::access::{Decision, Rights};
    use hookline_schemas::config::DenyAction;

    use super::*;
    use crate::rights::{ClientRights, Group};

    fn rules(toml: &str) -> Vec<Rule> {
        #[derive(serde::Deserialize)]
        struct File {
            rules: Vec<AccessRule>,
        }
        let file: File = toml::from_str(toml).expect("valid");
        file.rules.iter().map(|rule| Rule::new(rule).expect("valid")).collect()
    }

    fn client(client_id: &str, username: Option<&str>) -> Client {
        Client { username: username.map(Into::into), ..Client::internal(client_id) }
    }

    /// Whether the client may, where nothing else is said.
    fn may(rules: &[Rule], client: &Client, action: Access, topic: &str) -> bool {
        let rights = ClientRights {
            own: None,
            groups: vec![Group::new(&"test".into(), rules, false, client)],
            no_match: Permission::Deny,
            deny_action: DenyAction::Ignore,
            asks_each: false,
            valid_secs: 0,
            made_at: 0,
            changes: Arc::default(),
        };
        rights.decide(&Request { action, topic, qos: QoS::AtLeastOnce, retain: false }).0 == Decision::Allow
    }

    #[test]
    fn the_first_that_is_about_it_decides() {
        let rules = rules(
            r##"rules = [
                { permission = "deny", action = "subscribe", topics = ["eq #", "$SYS/#"] },
                { permission = "deny", topics = ["secret/#"] },
                { permission = "allow", action = "publish", topics = ["up/${clientid}/+"], qos = [1], retain = false },
                { permission = "allow", action = "subscribe", topics = ["down/#"] },
                { permission = "allow", username = "re:adm.*", topics = ["#"] },
            ]"##,
        );
        let device = client("d1", Some("u"));
        for (action, topic, expect) in [
            (Access::Publish, "up/d1/t", true),
            (Access::Publish, "up/d2/t", false),
            (Access::Publish, "up/d1/t/x", false),
            (Access::Subscribe, "down/x/+", true),
            (Access::Subscribe, "down", true),
            (Access::Subscribe, "+/x", false),
            (Access::Subscribe, "up/d1/t", false),
        ] {
            assert_eq!(may(&rules, &device, action, topic), expect, "{action:?} {topic}");
        }
        let admin = client("d1", Some("admin"));
        assert!(may(&rules, &admin, Access::Publish, "anything"));
        assert!(!may(&rules, &admin, Access::Publish, "secret/x"));
        assert!(!may(&rules, &admin, Access::Subscribe, "#"));
        assert!(!may(&rules, &admin, Access::Subscribe, "+/#"), "a wildcard does not get around what is denied");
        assert!(may(&rules, &admin, Access::Subscribe, "a/#"));
        assert!(!may(&rules, &client("d1", None), Access::Publish, "anything"), "without a name no rule about names fits");
    }

    #[test]
    fn a_name_with_wildcards_or_levels_never_widens_a_pattern() {
        let rules = rules(
            r#"rules = [{ permission = "allow", topics = ["u/${username}/#", "c/%c", "n/${cert_common_name}", "a/${client_attrs.site}"] }]"#,
        );
        for evil in ["+", "#", "a/b", "", "+/x", "\0"] {
            let client = client(evil, Some(evil));
            for topic in ["u/x/y", "u/a/b", "c/x", "c/+", "u/+/x", "u//x"] {
                assert!(!may(&rules, &client, Access::Publish, topic), "{evil:?} {topic}");
                assert!(!may(&rules, &client, Access::Subscribe, topic), "{evil:?} {topic}");
            }
        }
        let first = self::rules(r#"rules = [{ permission = "allow", topics = ["${clientid}/#", "${clientid}"] }]"#);
        for (evil, topics) in [("eq bob", ["bob/#", "bob"]), ("$SYS", ["$SYS/#", "$SYS"]), ("eq #", ["#", "x"])] {
            for topic in topics {
                assert!(!may(&first, &client(evil, None), Access::Publish, topic), "{evil:?} {topic}");
                assert!(!may(&first, &client(evil, None), Access::Subscribe, topic), "{evil:?} {topic}");
            }
        }
        assert!(may(&first, &client("eq bob", None), Access::Publish, "eq bob/x"), "its own it has");
        let mut good = client("c1", Some("u1"));
        good.certificate = Some(Box::new(Certificate { common_name: Some("cn".into()), subject: "CN=cn".into(), alt_name: None }));
        good.attributes.insert("site".into(), "s1".into());
        for topic in ["u/u1/x", "c/c1", "n/cn", "a/s1"] {
            assert!(may(&rules, &good, Access::Publish, topic), "{topic}");
        }
    }

    #[test]
    fn covering() {
        for (outer, inner, expect) in [
            ("a/#", "a", true),
            ("a/#", "a/+/b", true),
            ("a/+", "a/#", false),
            ("+", "#", false),
            ("#", "$SYS/x", false),
            ("$SYS/#", "$SYS/+", true),
            ("a/+/c", "a/b/c", true),
            ("a/b", "a/+", false),
        ] {
            assert_eq!(covers(outer, inner), expect, "{outer} covers {inner}");
        }
    }

    #[test]
    fn addresses_qos_and_retain() {
        let rules = rules(r#"rules = [{ permission = "allow", topics = ["t"], address = "10.0.0.0/8", qos = [0], retain = true }]"#);
        let mut inside = client("c", None);
        inside.peer = "[::ffff:10.1.2.3]:1".parse().expect("an address");
        let decide = |client: &Client, qos, retain| {
            let rights = ClientRights {
                own: None,
                groups: vec![Group::new(&"test".into(), &rules, false, client)],
                no_match: Permission::Deny,
                deny_action: DenyAction::Disconnect,
                asks_each: false,
                valid_secs: 0,
                made_at: 0,
                changes: Arc::default(),
            };
            rights.decide(&Request { action: Access::Publish, topic: "t", qos, retain }).0
        };
        assert_eq!(decide(&inside, QoS::AtMostOnce, true), Decision::Allow);
        assert_eq!(decide(&inside, QoS::AtLeastOnce, true), Decision::Disconnect);
        assert_eq!(decide(&inside, QoS::AtMostOnce, false), Decision::Disconnect);
        inside.peer = "192.168.0.1:1".parse().expect("an address");
        assert_eq!(decide(&inside, QoS::AtMostOnce, true), Decision::Disconnect);
    }

    #[test]
    fn what_is_wrong_with_a_rule_is_told() {
        let wrong = |toml: &str| {
            let rule: AccessRule = toml::from_str(toml).expect("read");
            Rule::new(&rule).expect_err(toml)
        };
        assert!(wrong("permission = 'allow'\ntopics = ['a/#/b']").contains("no topic filter"));
        for (topic, problem) in
            [("a/${clentid}", "not known"), ("a/${clientid", "without its"), ("${.}/x", "not known"), ("x/#/${zone}", "no topic filter")]
        {
            let told = wrong(&format!("permission = 'deny'\ntopics = ['{topic}']"));
            assert!(told.starts_with("topics: ") && told.contains(problem), "{told}");
        }
        assert!(wrong("permission = 'allow'\nqos = [3]").starts_with("qos"));
        assert!(wrong("permission = 'allow'\naddress = 'here'").starts_with("address"));
        assert!(wrong("permission = 'allow'\nusername = 're:('").starts_with("username"));
    }
}
