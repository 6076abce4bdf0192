//! EMQX's acl.conf: permissions as terms of Erlang.

use anyhow::{Context, bail, ensure};
use toml::{Table, Value};

/// A term.
#[derive(Debug, Clone, PartialEq)]
enum Term {
    Atom(String),
    Text(String),
    Number(i64),
    Tuple(Vec<Term>),
    List(Vec<Term>),
}

/// Reads the rules. What has no counterpart is told by `notes`, with the rule; such a rule is left out.
pub(super) fn parse(text: &str, notes: &mut Vec<String>) -> anyhow::Result<Vec<Table>> {
    let mut reader = Reader { rest: text };
    let mut rules = Vec::new();
    loop {
        reader.skip();
        if reader.rest.is_empty() {
            return Ok(rules);
        }
        let begin = reader.rest;
        let term = reader.term(0)?;
        let text = begin[..begin.len() - reader.rest.len()].split_whitespace().collect::<Vec<_>>().join(" ");
        reader.skip();
        reader.rest = reader.rest.strip_prefix('.').with_context(|| format!("a full stop must follow {text}"))?;
        match rule(&term) {
            Ok(mut made) => rules.append(&mut made),
            Err(error) => notes.push(format!("acl.conf: {text}: {error}; THIS RULE WAS LEFT OUT")),
        }
    }
}

fn rule(term: &Term) -> anyhow::Result<Vec<Table>> {
    let Term::Tuple(parts) = term else { bail!("it is no rule") };
    let permission = match parts.first() {
        Some(Term::Atom(word)) if word == "allow" || word == "deny" => word.as_str(),
        _ => bail!("it says neither allow nor deny"),
    };
    let mut rule = Table::from_iter([("permission".to_owned(), Value::from(permission))]);
    let whos = match parts.get(1) {
        None => bail!("it does not say for whom"),
        // Either is enough: a rule for each.
        Some(Term::Tuple(all)) if matches!(all.as_slice(), [Term::Atom(word), Term::List(_)] if word == "or") => {
            let [_, Term::List(list)] = all.as_slice() else { bail!("it is no list") };
            list.clone()
        }
        Some(who) => vec![who.clone()],
    };
    if let Some(action) = parts.get(2) {
        take_action(&mut rule, action)?;
    }
    if let Some(topics) = parts.get(3) {
        let Term::List(topics) = topics else { bail!("its topics are no list") };
        let topics = topics.iter().map(topic).collect::<anyhow::Result<Vec<_>>>()?;
        rule.insert("topics".into(), Value::Array(topics));
    }
    let for_each = |who: &Term| {
        let mut rule = rule.clone();
        take_who(&mut rule, who).map(|()| rule)
    };
    whos.iter().map(for_each).collect()
}

fn take_who(rule: &mut Table, who: &Term) -> anyhow::Result<()> {
    let (kind, value) = match who {
        Term::Atom(all) if all == "all" => return Ok(()),
        Term::Tuple(parts) => match parts.as_slice() {
            [Term::Atom(kind), value] => (kind.as_str(), value),
            _ => bail!("for whom it is, is not known here"),
        },
        _ => bail!("for whom it is, is not known here"),
    };
    let key = match kind {
        "user" | "username" => "username",
        "client" | "clientid" => "client_id",
        "ipaddr" => "address",
        "ipaddrs" => bail!("several addresses need a rule for each"),
        "and" => {
            let Term::List(all) = value else { bail!("it is no list") };
            return all.iter().try_for_each(|who| take_who(rule, who));
        }
        other => bail!("\"{other}\" has no counterpart"),
    };
    let text = match value {
        Term::Text(text) => text.clone(),
        Term::Tuple(parts) => match parts.as_slice() {
            [Term::Atom(re), Term::Text(text)] if re == "re" => format!("re:{text}"),
            _ => bail!("what its {kind} is, is not known here"),
        },
        _ => bail!("its {kind} is no text"),
    };
    ensure!(rule.insert(key.to_owned(), text.into()).is_none(), "it names the {kind} twice");
    Ok(())
}

fn take_action(rule: &mut Table, action: &Term) -> anyhow::Result<()> {
    let (name, options) = match action {
        Term::Atom(name) => (name.as_str(), None),
        Term::Tuple(parts) => match parts.as_slice() {
            [Term::Atom(name), Term::List(options)] => (name.as_str(), Some(options)),
            _ => bail!("what it is about is not known here"),
        },
        _ => bail!("what it is about is not known here"),
    };
    match name {
        "publish" | "subscribe" => drop(rule.insert("action".into(), name.into())),
        "all" | "pubsub" => {}
        other => bail!("\"{other}\" is not known here"),
    }
    for option in options.into_iter().flatten() {
        let Term::Tuple(parts) = option else { bail!("an option is not known here") };
        match parts.as_slice() {
            [Term::Atom(key), Term::Number(qos)] if key == "qos" => drop(rule.insert("qos".into(), Value::Array(vec![(*qos).into()]))),
            [Term::Atom(key), Term::List(list)] if key == "qos" => {
                let list =
                    list.iter().map(|qos| if let Term::Number(qos) = qos { Ok(Value::from(*qos)) } else { bail!("a QoS is no number") });
                rule.insert("qos".into(), Value::Array(list.collect::<anyhow::Result<_>>()?));
            }
            [Term::Atom(key), Term::Atom(retain)] if key == "retain" => match retain.as_str() {
                "all" => {}
                retain => drop(rule.insert("retain".into(), (retain == "true").into())),
            },
            _ => bail!("an option is not known here"),
        }
    }
    Ok(())
}

fn topic(term: &Term) -> anyhow::Result<Value> {
    let fill = |text: &str| text.replace("%c", "${clientid}").replace("%u", "${username}");
    Ok(match term {
        Term::Text(text) => fill(text).into(),
        Term::Tuple(parts) => match parts.as_slice() {
            [Term::Atom(eq), Term::Text(text)] if eq == "eq" => format!("eq {text}").into(),
            _ => bail!("a topic is not known here"),
        },
        _ => bail!("a topic is no text"),
    })
}

struct Reader<'a> {
    rest: &'a str,
}

impl Reader<'_> {
    fn skip(&mut self) {
        loop {
            self.rest = self.rest.trim_start();
            if !self.rest.starts_with('%') {
                return;
            }
            self.rest = &self.rest[self.rest.find('\n').unwrap_or(self.rest.len())..];
        }
    }

    fn term(&mut self, depth: usize) -> anyhow::Result<Term> {
        ensure!(depth < 32, "it goes too deep");
        self.skip();
        if let Some(rest) = self.rest.strip_prefix("<<") {
            self.rest = rest;
            let text = self.term(depth + 1)?;
            self.skip();
            self.rest = self.rest.trim_start_matches("/utf8").strip_prefix(">>").context("\">>\" is missing")?;
            return Ok(text);
        }
        match self.rest.chars().next().context("it ends in the middle of a rule")? {
            '{' => Ok(Term::Tuple(self.several('}', depth)?)),
            '[' => Ok(Term::List(self.several(']', depth)?)),
            quote @ ('"' | '\'') => {
                let end = self.rest[1..].find(quote).context("a quote is not closed")? + 1;
                let text = self.rest[1..end].replace("\\\\", "\\");
                self.rest = &self.rest[end + 1..];
                Ok(if quote == '"' { Term::Text(text) } else { Term::Atom(text) })
            }
            _ => {
                let end = self.rest.find(|c: char| !c.is_alphanumeric() && c != '_' && c != '-').unwrap_or(self.rest.len());
                ensure!(end > 0, "\"{}\" is not understood", self.rest.chars().next().unwrap_or_default());
                let word = &self.rest[..end];
                self.rest = &self.rest[end..];
                Ok(word.parse().map_or_else(|_| Term::Atom(word.to_owned()), Term::Number))
            }
        }
    }

    fn several(&mut self, end: char, depth: usize) -> anyhow::Result<Vec<Term>> {
        self.rest = &self.rest[1..];
        let mut terms = Vec::new();
        loop {
            self.skip();
            if let Some(rest) = self.rest.strip_prefix(end) {
                self.rest = rest;
                return Ok(terms);
            }
            terms.push(self.term(depth + 1)?);
            self.skip();
            self.rest = self.rest.strip_prefix(',').unwrap_or(self.rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_that_comes_with_emqx_is_understood() {
        let text = r##"
%% -type(ipaddr() :: {ipaddr, string()}).
{allow, {username, {re, "^dashboard$"}}, subscribe, ["$SYS/#"]}.
{allow, {ipaddr, "127.0.0.1"}, all, ["$SYS/#", "#"]}.
{deny, all, subscribe, ["$SYS/#", {eq, "#"}, {eq, "+/#"}]}.
{allow, {'and', [{user, "a"}, {clientid, <<"c">>}]}, {publish, [{qos, [0, 1]}, {retain, false}]}, ["t/%c", "u/${username}"]}.
{deny, {zone, "x"}}.
{allow, all}.
"##;
        let mut notes = Vec::new();
        let rules = parse(text, &mut notes).expect("read");
        let made = rules.iter().map(|rule| serde_json::to_value(rule).expect("JSON")).collect::<Vec<_>>();
        let expect = serde_json::json!([
            {"permission": "allow", "action": "subscribe", "topics": ["$SYS/#"], "username": "re:^dashboard$"},
            {"permission": "allow", "topics": ["$SYS/#", "#"], "address": "127.0.0.1"},
            {"permission": "deny", "action": "subscribe", "topics": ["$SYS/#", "eq #", "eq +/#"]},
            {"permission": "allow", "action": "publish", "qos": [0, 1], "retain": false, "topics": ["t/${clientid}", "u/${username}"],
             "username": "a", "client_id": "c"},
            {"permission": "allow"},
        ]);
        assert_eq!(serde_json::Value::Array(made), expect);
        assert!(notes.len() == 1 && notes[0].contains("{zone, \"x\"}"), "{notes:?}");
    }
}
