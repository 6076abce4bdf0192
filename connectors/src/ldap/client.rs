//! Sessions with a directory, and what errors mean.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use ldap3::adapters::{Adapter, EntriesOnly, PagedResults};
use ldap3::{Ldap, LdapConnAsync, LdapConnSettings, LdapError, ResultEntry, SearchEntry, SearchOptions};
use tokio::task::JoinHandle;

use super::config::{Connector, Scope};
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};

/// How long one server may take to answer a connection; then the next one is tried.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Entries that are read where one is wanted: more than one is a mistake.
const ENTRIES_OF_ONE: i32 = 2;
/// Entries that are read where all are wanted.
const ENTRIES_MAX: usize = 10_000;
/// Entries in a page; directories mostly answer with 500 or 1,000 at a time.
const PAGE: i32 = 500;
/// Result codes (RFC 4511, appendix A).
const NO_SUCH_OBJECT: u32 = 32;
const CONSTRAINT_VIOLATION: u32 = 19;
const INVALID_CREDENTIALS: u32 = 49;
const UNWILLING_TO_PERFORM: u32 = 53;
const SIZE_LIMIT_EXCEEDED: u32 = 4;
const REFERRAL: u32 = 10;

/// How directories are reached.
pub(super) struct Servers {
    urls: Vec<String>,
    starttls: bool,
    tls: Arc<rustls::ClientConfig>,
    reader: Option<(String, String)>,
}

/// A session. It ends when this is dropped.
pub(super) struct Session {
    ldap: Ldap,
    carrying: JoinHandle<()>,
}

impl Drop for Session {
    fn drop(&mut self) {
        self.carrying.abort();
    }
}

/// An entry.
pub(super) struct Entry {
    pub(super) dn: String,
    pub(super) attributes: HashMap<String, Vec<String>>,
}

impl Entry {
    /// `None`: it is none, but a reference to another server.
    fn read(entry: ResultEntry) -> Option<Entry> {
        let is_real = !entry.is_ref() && !entry.is_intermediate();
        is_real.then(|| SearchEntry::construct(entry)).map(|entry| Entry { dn: entry.dn, attributes: entry.attrs })
    }
}

impl Servers {
    /// Reads the settings; nothing is connected yet.
    pub(super) fn new(connector: &Connector) -> Result<Servers, Vec<SettingsError>> {
        let wrong = |key: &str, problem: &str| vec![SettingsError { path: format!("{CONNECTOR}.{key}"), problem: problem.to_owned() }];
        let urls: Vec<String> = connector.servers.split(',').map(|url| url.trim().to_owned()).collect();
        if urls.iter().any(|url| !url.starts_with("ldap://") && !url.starts_with("ldaps://")) {
            return Err(wrong("servers", "must be ldap://host:port or ldaps://host:port, with a comma between several"));
        }
        let reader = match (&connector.bind_dn, &connector.bind_password) {
            (None, None) => None,
            (Some(dn), Some(password)) if !password.is_empty() => Some((dn.clone(), password.clone())),
            (Some(_), _) => {
                return Err(wrong("bind_password", "missing; a directory takes an empty password for a login that proves nothing"));
            }
            (None, Some(_)) => return Err(wrong("bind_dn", "missing; `bind_password` is its password")),
        };
        let tls = Arc::new(connector.tls.client()?);
        Ok(Servers { urls, starttls: connector.starttls, tls, reader })
    }

    /// A session with the first server that answers, nobody logged in.
    pub(super) async fn connect(&self) -> Result<Session, Failure> {
        let mut problems = Vec::new();
        for url in &self.urls {
            let settings = LdapConnSettings::new()
                .set_conn_timeout(CONNECT_TIMEOUT)
                .set_starttls(self.starttls && url.starts_with("ldap://"))
                .set_config(Arc::clone(&self.tls));
            match LdapConnAsync::with_settings(settings, url).await {
                Ok((connection, ldap)) => {
                    let carrying = tokio::spawn(async move {
                        // The session's calls tell of it, too.
                        drop(connection.drive().await);
                    });
                    return Ok(Session { ldap, carrying });
                }
                Err(error) => problems.push(format!("{url}: {error}")),
            }
        }
        Err(Failure::Reconnect(format!("ldap: {}", problems.join("; "))))
    }

    /// A session for searches.
    pub(super) async fn connect_reader(&self) -> Result<Session, Failure> {
        let mut session = self.connect().await?;
        if let Some((dn, password)) = &self.reader
            && !session.bind(dn, password).await?
        {
            return Err(Failure::Reconnect(format!("ldap: the directory does not know {dn} by that password")));
        }
        Ok(session)
    }
}

impl Session {
    /// Whether the password is this entry's.
    pub(super) async fn bind(&mut self, dn: &str, password: &str) -> Result<bool, Failure> {
        let result = self.ldap.simple_bind(dn, password).await.map_err(|error| broken(&error))?;
        match result.rc {
            0 => Ok(true),
            // Also what a directory says of an account that is locked or has run out.
            INVALID_CREDENTIALS | CONSTRAINT_VIOLATION | UNWILLING_TO_PERFORM => Ok(false),
            _ => Err(Failure::Reconnect(format!("ldap: {result}"))),
        }
    }

    /// The entries that a filter finds, two at the most.
    pub(super) async fn search(&mut self, base: &str, scope: Scope, filter: &str, attributes: &[String]) -> Result<Vec<Entry>, Failure> {
        let options = SearchOptions::new().sizelimit(ENTRIES_OF_ONE);
        let found = self.ldap.with_search_options(options).search(base, scope.of_protocol(), filter, attributes.to_vec()).await;
        let ldap3::SearchResult(entries, result) = found.map_err(|error| broken(&error))?;
        match result.rc {
            // Active Directory points to its other partitions beside what it finds.
            0 | SIZE_LIMIT_EXCEEDED | REFERRAL | NO_SUCH_OBJECT => {}
            _ => return Err(Failure::Reconnect(format!("ldap: {result}"))),
        }
        Ok(entries.into_iter().filter_map(Entry::read).collect())
    }

    /// All entries that a filter finds, page by page.
    pub(super) async fn search_all(
        &mut self,
        base: &str,
        scope: Scope,
        filter: &str,
        attributes: &[String],
    ) -> Result<Vec<Entry>, Failure> {
        let pages: Vec<Box<dyn Adapter<_, _>>> = vec![Box::new(EntriesOnly::new()), Box::new(PagedResults::new(PAGE))];
        let searched = self.ldap.streaming_search_with(pages, base, scope.of_protocol(), filter, attributes.to_vec()).await;
        let mut stream = searched.map_err(|error| broken(&error))?;
        let mut found = Vec::new();
        while let Some(entry) = stream.next().await.map_err(|error| broken(&error))? {
            if found.len() == ENTRIES_MAX {
                // What is still to come is not read by anybody.
                let handle = stream.ldap_handle();
                let message_id = handle.last_id();
                let abandoned = handle.abandon(message_id).await;
                abandoned.map_err(|error| broken(&error))?;
                return Err(Failure::Reject(format!("ldap: {filter} finds more than {ENTRIES_MAX} entries below \"{base}\"")));
            }
            found.extend(Entry::read(entry));
        }
        let result = stream.finish().await;
        match result.rc {
            0 | REFERRAL | NO_SUCH_OBJECT => Ok(found),
            _ => Err(Failure::Reconnect(format!("ldap: {result}"))),
        }
    }
}

impl Scope {
    fn of_protocol(self) -> ldap3::Scope {
        match self {
            Scope::Base => ldap3::Scope::Base,
            Scope::One => ldap3::Scope::OneLevel,
            Scope::Subtree => ldap3::Scope::Subtree,
        }
    }
}

fn broken(error: &LdapError) -> Failure {
    match error {
        LdapError::FilterParsing => Failure::Reject("ldap: the filter cannot be read".into()),
        other => Failure::Reconnect(format!("ldap: {other}")),
    }
}
