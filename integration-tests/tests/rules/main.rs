//! What rules do, told by stories: the real binary, real clients, and the tables that SQLite has in the end.

/// Rows and what takes them: FOREACH, conditions, republish, fallback, missing values.
mod actions;
/// Events as rows: logins, permissions, pings, sessions, alarms.
mod events;
/// What the API and `hookline ctl` tell of rules and actions.
mod figures;
/// Validations, transformations and schemas.
mod ingress;
/// What rules remember: windows and `kv_store`.
mod memory;

use std::fmt::Debug;
use std::path::Path;
use std::time::{Duration, Instant};

use hookline_mqtt::client::{Client, Options, Received};
use hookline_mqtt::{QoS, Version};
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags, Row};
use serde_json::Value;

const SOON: Duration = Duration::from_secs(20);
/// For what has to wait for the clock, too.
const LONG: Duration = Duration::from_secs(60);
/// Long enough for what must not come.
const NOT: Duration = Duration::from_millis(300);

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().expect("a folder")
}

fn v5(id: &str) -> Options {
    Options::new(id).version(Version::V5)
}

/// Publishes at QoS 1; the message must be taken.
fn publish(client: &mut Client, topic: &str, payload: impl AsRef<[u8]>) {
    let reason = client.publish(topic, payload.as_ref(), QoS::AtLeastOnce, false).expect("answered");
    assert!(!reason.is_error(), "{topic}: {reason:?}");
}

fn subscribe(client: &mut Client, filter: &str) {
    let codes = client.subscribe(&[(filter, QoS::ExactlyOnce)]).expect("answered");
    assert!(!codes[0].is_error(), "{filter}: {codes:?}");
}

fn next(client: &mut Client) -> Received {
    client.receive(SOON).expect("holds").expect("arrives")
}

/// An action, with a connector of its own, that writes the table `t` of `data/NAME.db`: a column for each of these fields of the row.
fn table(name: &str, fields: &[&str]) -> String {
    table_with(name, fields, "")
}

/// As [`table`], with further settings of the action.
fn table_with(name: &str, fields: &[&str], settings: &str) -> String {
    let columns: String = fields.iter().map(|field| format!(", \"{field}\"")).collect();
    let values: String = fields.iter().map(|field| format!(", ${{{field}}}")).collect();
    format!(
        r#"
        [connectors.{name}]
        type = "sqlite"
        path = "{name}.db"
        [actions.{name}]
        connector = "{name}"
        {settings}
        [actions.{name}.parameters]
        setup = 'CREATE TABLE IF NOT EXISTS t (hookline_id TEXT PRIMARY KEY{columns})'
        sql = 'INSERT INTO t VALUES (${{hookline_id}}{values}) ON CONFLICT DO NOTHING'
        "#
    )
}

/// What an action has written into its table, the oldest first: an array of each row.
fn rows(folder: &Path, name: &str) -> Vec<Value> {
    let file = folder.join(format!("data/{name}.db"));
    // File and table are made when the action has reached them.
    let Ok(file) = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_WRITE) else { return Vec::new() };
    file.busy_timeout(SOON).expect("set");
    let Ok(mut query) = file.prepare("SELECT * FROM t ORDER BY hookline_id") else { return Vec::new() };
    let columns = query.column_count();
    let values = |row: &Row<'_>| (1..columns).map(|column| row.get_ref(column).map(json_of)).collect::<rusqlite::Result<Value>>();
    let found = query.query_map([], values).expect("asked").collect::<rusqlite::Result<_>>();
    found.expect("read")
}

fn json_of(value: ValueRef<'_>) -> Value {
    match value {
        ValueRef::Null => Value::Null,
        ValueRef::Integer(int) => int.into(),
        ValueRef::Real(float) => float.into(),
        ValueRef::Text(bytes) | ValueRef::Blob(bytes) => String::from_utf8_lossy(bytes).into_owned().into(),
    }
}

/// Waits until an action has written these rows, and no others.
fn has_rows(folder: &Path, name: &str, expect: &Value) {
    becomes(name, SOON, expect, || Value::from(rows(folder, name)));
}

/// Asks until it is what it should be.
fn becomes<T: PartialEq + Debug>(what: &str, limit: Duration, expect: &T, mut ask: impl FnMut() -> T) {
    let deadline = Instant::now() + limit;
    loop {
        let found = ask();
        if found == *expect {
            return;
        }
        assert!(Instant::now() < deadline, "{what}: after {limit:?} it is {found:?}, and should be {expect:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
