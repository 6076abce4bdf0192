//! Questions: one entry, with its password checked by the directory where that is wanted.

use std::borrow::Cow;
use std::sync::Arc;

use hookline_schemas::access::{Lookup, LookupError};
use hookline_schemas::ports::BoxFuture;
use hookline_schemas::{Map, Template, Value};
use ldap3::{dn_escape, ldap_escape};

use super::client::{Entry, Servers, Session};
use super::config::{Connector, Method, Question, Scope};
use crate::connector::Failure;
use crate::idle::{Idle, Task};
use crate::kind::{PARAMETERS, SettingsError, template};

struct LdapLookup {
    servers: Servers,
    question: Question,
    base_dn: Template,
    filter: Template,
    /// Sessions for searches.
    readers: Idle<Session>,
    /// Sessions that entries are logged in by: who is logged in changes with each.
    binders: Idle<Session>,
}

pub(super) fn open(connector: &Connector, question: &Question) -> Result<Arc<dyn Lookup>, Vec<SettingsError>> {
    let servers = Servers::new(connector)?;
    let (base_dn, filter) = (template("base_dn", &question.base_dn)?, template("filter", &question.filter)?);
    if ldap3::parse_filter(filter.rewrite(|_| "x".to_owned())).is_err() {
        return Err(vec![SettingsError { path: format!("{PARAMETERS}.filter"), problem: "is no filter of LDAP (RFC 4515)".into() }]);
    }
    let (readers, binders) = (Idle::default(), Idle::default());
    Ok(Arc::new(LdapLookup { servers, question: question.clone(), base_dn, filter, readers, binders }))
}

/// A template whose placeholders cannot change what is around them.
fn fill(template: &Template, row: &Value, escape: fn(String) -> String) -> String {
    template.rewrite(|placeholder| escape(placeholder.render_text(row)))
}

impl LdapLookup {
    async fn answer(&self, row: &Value) -> Result<Vec<Value>, Failure> {
        let base = fill(&self.base_dn, row, |text| dn_escape(text).into_owned());
        let filter = fill(&self.filter, row, |text| ldap_escape(text).into_owned());
        let question = &self.question;
        // About permissions no password is said.
        let password = row.path(["password"]).as_text();
        if question.all_entries && password.is_some() {
            return Err(Failure::Reject("ldap: all_entries is for permissions; a login is one entry".into()));
        }
        let password = password.unwrap_or_default().to_owned();
        let found = self.readers.run(&Search { lookup: self, base, filter }).await?;
        if question.all_entries {
            let members = found.into_iter().filter(|(_, is_member)| *is_member);
            return Ok(members.map(|(entry, _)| Value::Map(described(&entry))).collect());
        }
        let Some((entry, is_member)) = found.into_iter().next() else { return Ok(Vec::new()) };
        let is_bind = question.method == Method::Bind;
        if !is_member && (!is_bind || password.is_empty()) {
            return Ok(Vec::new());
        }
        let mut answer = described(&entry);
        if is_bind {
            // Without a password a directory lets in everybody, as nobody.
            let is_right = !password.is_empty() && self.binders.run(&Bind { lookup: self, dn: entry.dn, password }).await?;
            answer.insert("authenticated", Value::Bool(is_right && is_member));
        }
        Ok(vec![Value::Map(answer)])
    }

    /// Whether an entry is in one of the groups: as it says itself, or as a group says.
    async fn is_member(&self, session: &mut Session, entry: &Entry) -> Result<bool, Failure> {
        let said = entry.attributes.iter().filter(|(name, _)| name.eq_ignore_ascii_case("memberOf")).flat_map(|(_, groups)| groups);
        let wanted = &self.question.member_of;
        if said.into_iter().any(|group| wanted.iter().any(|wanted| same_dn(wanted, group))) {
            return Ok(true);
        }
        let dn = ldap_escape(entry.dn.as_str());
        let uid = entry.attributes.iter().find(|(name, _)| name.eq_ignore_ascii_case("uid")).and_then(|(_, values)| values.first());
        let by_uid = uid.map(|uid| format!("(memberUid={})", ldap_escape(Cow::Borrowed(uid.as_str())))).unwrap_or_default();
        let filter = format!("(|(member={dn})(uniqueMember={dn}){by_uid})");
        for group in wanted {
            if !session.search(group, Scope::Base, &filter, &["1.1".to_owned()]).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// An entry's attributes, and its name, for which no attribute may stand.
fn described(entry: &Entry) -> Map {
    let mut described = Map::new();
    for (name, values) in &entry.attributes {
        described.insert(name, Value::Array(values.iter().map(|value| Value::text(value)).collect()));
    }
    described.insert("dn", Value::text(&entry.dn));
    described
}

/// A search for one entry or all, and whether each is in one of the groups.
struct Search<'a> {
    lookup: &'a LdapLookup,
    base: String,
    filter: String,
}

impl Task for Search<'_> {
    type Session = Session;
    type Result = Vec<(Entry, bool)>;

    async fn connect(&self) -> Result<Session, Failure> {
        self.lookup.servers.connect_reader().await
    }

    async fn run(&self, session: &mut Session) -> Result<Vec<(Entry, bool)>, Failure> {
        let (Search { lookup, base, filter }, question) = (self, &self.lookup.question);
        let found = if question.all_entries {
            session.search_all(base, question.scope, filter, &question.attributes).await?
        } else {
            session.search(base, question.scope, filter, &question.attributes).await?
        };
        if found.len() > 1 && !question.all_entries {
            return Err(Failure::Reject(format!("ldap: {filter} finds several entries below \"{base}\"")));
        }
        let mut entries = Vec::with_capacity(found.len());
        for entry in found {
            let is_member = question.member_of.is_empty() || lookup.is_member(session, &entry).await?;
            entries.push((entry, is_member));
        }
        Ok(entries)
    }
}

/// A login of an entry.
struct Bind<'a> {
    lookup: &'a LdapLookup,
    dn: String,
    password: String,
}

impl Task for Bind<'_> {
    type Session = Session;
    type Result = bool;

    async fn connect(&self) -> Result<Session, Failure> {
        self.lookup.servers.connect().await
    }

    async fn run(&self, session: &mut Session) -> Result<bool, Failure> {
        session.bind(&self.dn, &self.password).await
    }
}

/// Whether two names are one: case and the spaces behind commas mean nothing.
fn same_dn(a: &str, b: &str) -> bool {
    let plain = |dn: &str| dn.split(',').map(|part| part.trim().to_lowercase()).collect::<Vec<_>>();
    plain(a) == plain(b)
}

impl Lookup for LdapLookup {
    fn ask<'a>(&'a self, row: &'a Value) -> BoxFuture<'a, Result<Vec<Value>, LookupError>> {
        Box::pin(async move { self.answer(row).await.map_err(LookupError::from) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_says_stays_within_its_place() {
        let row = Value::from_json(serde_json::json!({"username": "*)(uid=*))(|(uid=*"}));
        let filter = Template::parse("(&(objectClass=person)(uid=${username}))").expect("valid");
        let filled = fill(&filter, &row, |text| ldap_escape(text).into_owned());
        assert_eq!(filled, r"(&(objectClass=person)(uid=\2a\29\28uid=\2a\29\29\28|\28uid=\2a))");
        let row = Value::from_json(serde_json::json!({"username": "a,ou=admins"}));
        let base = Template::parse("uid=${username},ou=people").expect("valid");
        assert_eq!(fill(&base, &row, |text| dn_escape(text).into_owned()), r"uid=a\2cou\3dadmins,ou=people");
        assert!(same_dn("cn=A, ou=b", "CN=a,OU=B") && !same_dn("cn=a", "cn=b"));
    }
}
