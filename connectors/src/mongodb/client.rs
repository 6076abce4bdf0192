//! The client: made, asked, and what errors mean.

use std::time::Duration;

use mongodb::bson::{Bson, Document, RawDocumentBuf, doc, serialize_to_document};
use mongodb::error::{Error, ErrorKind};
use mongodb::options::{Acknowledgment, ClientOptions, ConnectionString, ReadPreference, SelectionCriteria, WriteConcern};
use mongodb::{Client, Database};

use super::config::Connector;
use super::request::Group;
use crate::connector::Failure;
use crate::kind::{CONNECTOR, SettingsError};

/// How long a call waits for a server that can take it, where the URL says nothing.
const SELECTION_TIMEOUT: Duration = Duration::from_secs(5);

/// What the server says of bad values: their types, names, ids, sizes and nesting, and what the schema or an index of the
/// collection refuses.
const REJECTED: &[i64] = &[2, 9, 14, 15, 22, 28, 40, 52, 53, 54, 55, 56, 57, 66, 73, 121, 10334, DUPLICATE];
/// What may be over soon although it is told of one record: locks, time limits, rights, room, changes of the primary.
const PASSING: &[i64] = &[6, 7, 13, 24, 46, 50, 64, 89, 91, 112, 133, 134, 189, 262, 8000, 10107, 11600, 11601, 11602, 13435, 14031];
/// Another document has the same value in a unique index.
const DUPLICATE: i64 = 11000;

/// An action's connection.
pub(super) struct Connection {
    client: Client,
    database: Database,
    write_concern: RawDocumentBuf,
}

/// Where a command ended that did not write everything.
pub(super) struct Stopped {
    /// How many records were written before.
    pub(super) done: usize,
    pub(super) failure: Failure,
    /// Something like it is there already.
    pub(super) is_duplicate: bool,
}

/// What went wrong.
pub(super) enum Problem<'a> {
    /// A call as a whole.
    Call(&'a Error),
    /// The writing of one record.
    Write { code: i64, message: &'a str },
    /// The servers did not confirm what was written.
    Unconfirmed { message: &'a str },
}

/// The name of the database; what is wrong with the URL.
pub(super) fn check(connector: &Connector) -> Result<String, Vec<SettingsError>> {
    let wrong = |problem: String| vec![SettingsError { path: format!("{CONNECTOR}.url"), problem }];
    let url = ConnectionString::parse(&connector.url).map_err(|error| wrong(error.kind.to_string()))?;
    if url.write_concern.is_some_and(|concern| concern.w == Some(Acknowledgment::Nodes(0))) {
        return Err(wrong("with w=0 nothing is ever confirmed; leave it out, or use w=1".into()));
    }
    let named = connector.database.clone().or(url.default_database);
    named
        .filter(|name| !name.is_empty())
        .ok_or_else(|| wrong("names no database; add \"/name\" behind the hosts, or set `database`".into()))
}

/// Connects, and asks whether the server is well.
pub(super) async fn open(url: &str, database: &str) -> Result<Connection, Failure> {
    let mut options = ClientOptions::parse(url).await.map_err(|error| cannot_open(&error))?;
    options.app_name.get_or_insert_with(|| "hookline".into());
    options.server_selection_timeout.get_or_insert(SELECTION_TIMEOUT);
    let mut concern = options.write_concern.clone().unwrap_or_default();
    concern.w.get_or_insert(Acknowledgment::Majority);
    let write_concern = raw(&concern).map_err(|error| Failure::Reconnect(format!("mongodb: {error}")))?;
    let client = Client::with_options(options).map_err(|error| cannot_open(&error))?;
    let connection = Connection { database: client.database(database), client, write_concern };
    connection.ping().await?;
    Ok(connection)
}

fn raw(concern: &WriteConcern) -> mongodb::bson::error::Result<RawDocumentBuf> {
    RawDocumentBuf::try_from(&serialize_to_document(concern)?)
}

/// Nothing about opening is a record's fault.
fn cannot_open(error: &Error) -> Failure {
    Failure::Reconnect(format!("mongodb: {}", error.kind))
}

impl Connection {
    pub(super) async fn ping(&self) -> Result<(), Failure> {
        self.database.run_command(doc! {"ping": 1}).await.map(drop).map_err(|error| cannot_open(&error))
    }

    /// The documents that a filter finds, sorted by a field.
    pub(super) async fn find(
        &self,
        collection: &str,
        filter: &serde_json::Value,
        sort: Option<&str>,
        most: i64,
    ) -> Result<Vec<Document>, Failure> {
        let failed = |error: Error| classify(&Problem::Call(&error));
        let filter = serialize_to_document(filter).map_err(|error| Failure::Reject(format!("mongodb: {error}")))?;
        let collection = self.database.collection::<Document>(collection);
        let found = collection.find(filter).limit(most).sort(sort.map_or_else(Document::new, |field| doc! {field: 1}));
        let mut cursor = found.await.map_err(failed)?;
        let mut found = Vec::new();
        while cursor.advance().await.map_err(failed)? {
            found.push(cursor.deserialize_current().map_err(failed)?);
        }
        Ok(found)
    }

    /// Writes a group, in its order, up to the first error.
    pub(super) async fn write(&self, group: &Group) -> Result<(), Stopped> {
        match self.database.run_raw_command(group.command(&self.write_concern)).await {
            Ok(reply) => outcome(&reply, group.len()),
            Err(error) => Err(Stopped { done: 0, failure: classify(&Problem::Call(&error)), is_duplicate: false }),
        }
    }

    /// How many of the documents, from the first one on, are there.
    pub(super) async fn present(&self, collection: &str, ids: &[&str]) -> Result<usize, Failure> {
        let failed = |error: Error| classify(&Problem::Call(&error));
        let primary = SelectionCriteria::ReadPreference(ReadPreference::Primary);
        let collection = self.database.collection::<RawDocumentBuf>(collection);
        let found = collection.find(doc! {"_id": {"$in": ids}}).projection(doc! {"_id": 1}).selection_criteria(primary);
        let mut cursor = found.await.map_err(failed)?;
        let mut there = std::collections::HashSet::new();
        while cursor.advance().await.map_err(failed)? {
            there.extend(cursor.current().get_str("_id").map(str::to_owned));
        }
        Ok(ids.iter().take_while(|id| there.contains(**id)).count())
    }

    pub(super) async fn close(self) {
        drop(self.database);
        self.client.shutdown().immediate(true).await;
    }
}

/// What the reply to an ordered write of so many records says.
fn outcome(reply: &Document, records: usize) -> Result<(), Stopped> {
    let text = |document: &Document| document.get_str("errmsg").unwrap_or("no reason given").to_owned();
    // First, because it is about what was written before an error, too.
    if let Ok(error) = reply.get_document("writeConcernError") {
        return Err(Stopped { done: 0, failure: classify(&Problem::Unconfirmed { message: &text(error) }), is_duplicate: false });
    }
    let Some(Bson::Document(error)) = reply.get_array("writeErrors").ok().and_then(|errors| errors.first()) else { return Ok(()) };
    let code = number(error, "code");
    let failure = classify(&Problem::Write { code, message: &text(error) });
    let done = usize::try_from(number(error, "index")).unwrap_or_default().min(records.saturating_sub(1));
    Err(Stopped { done, failure, is_duplicate: code == DUPLICATE })
}

fn number(document: &Document, key: &str) -> i64 {
    match document.get(key) {
        Some(Bson::Int32(int)) => (*int).into(),
        Some(Bson::Int64(int)) => *int,
        Some(Bson::Double(float)) => *float as i64,
        _ => 0,
    }
}

/// What an error means. Only what is wrong with a record itself is rejected: rights can still be given, disks emptied.
pub(super) fn classify(problem: &Problem<'_>) -> Failure {
    match problem {
        // Told of one record, so it is the record's, but for what passes.
        Problem::Write { code, message } => {
            let text = format!("mongodb: {message} (code {code})");
            if PASSING.contains(code) { Failure::Retry(text) } else { Failure::Reject(text) }
        }
        Problem::Unconfirmed { message } => Failure::Retry(format!("mongodb: written, but not confirmed: {message}")),
        Problem::Call(error) => {
            let text = format!("mongodb: {}", error.kind);
            match &*error.kind {
                ErrorKind::Command(command) if REJECTED.contains(&command.code.into()) => Failure::Reject(text),
                ErrorKind::Command(_) => Failure::Retry(text),
                ErrorKind::Bson(_) | ErrorKind::InvalidArgument { .. } => Failure::Reject(text),
                _ => Failure::Reconnect(text),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stopped(reply: &Document) -> (usize, Failure, bool) {
        let stopped = outcome(reply, 3).expect_err("not everything was written");
        (stopped.done, stopped.failure, stopped.is_duplicate)
    }

    #[test]
    fn a_reply_tells_how_far_it_came_and_whose_fault_it_was() {
        assert!(outcome(&doc! {"ok": 1.0, "n": 3}, 3).is_ok());
        let error = |code: i32| doc! {"ok": 1.0, "n": 2, "writeErrors": [{"index": 2, "code": code, "errmsg": "why"}]};
        assert_eq!(stopped(&error(121)), (2, Failure::Reject("mongodb: why (code 121)".into()), false));
        assert_eq!(stopped(&error(11000)), (2, Failure::Reject("mongodb: why (code 11000)".into()), true));
        assert_eq!(stopped(&error(10107)), (2, Failure::Retry("mongodb: why (code 10107)".into()), false));
        let unconfirmed = doc! {"ok": 1.0, "n": 3, "writeConcernError": {"code": 64, "errmsg": "waiting for replication timed out"}};
        assert!(matches!(stopped(&unconfirmed), (0, Failure::Retry(_), false)));
    }

    #[test]
    fn a_url_is_judged_before_anything_is_opened() {
        let check = |url: &str, database: Option<&str>| check(&Connector { url: url.into(), database: database.map(Into::into) });
        assert_eq!(check("mongodb://u:p@a:1,b:2/plant?replicaSet=r&tls=true", None), Ok("plant".into()));
        assert_eq!(check("mongodb://a/plant", Some("other")), Ok("other".into()));
        for url in ["mongodb://a", "mongodb://a/plant?w=0", "postgres://a/plant", "mongodb://a/plant?tls=perhaps"] {
            assert_eq!(check(url, None).expect_err(url)[0].path, "connector.url", "{url}");
        }
    }

    #[test]
    fn a_write_waits_for_the_majority_where_the_url_says_nothing_else() {
        let concern = WriteConcern::majority();
        let document = Document::try_from(&raw(&concern).expect("valid")).expect("valid");
        assert_eq!(document, doc! {"w": "majority"});
    }
}
