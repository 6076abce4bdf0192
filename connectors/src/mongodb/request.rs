//! From records to an ordered write command. Pure.

use hookline_schemas::{Record, Template, Value};
use jiff::Timestamp;
use mongodb::bson::raw::cstr;
use mongodb::bson::spec::BinarySubtype;
use mongodb::bson::{Binary, Bson, DateTime, Document as BsonDocument, RawArrayBuf, RawDocumentBuf};

use super::config::{Bytes, Operation, Parameters};
use crate::document::{Document, anything, row};
use crate::kind::{PARAMETERS, SettingsError, template};

/// The largest document that MongoDB takes.
const DOCUMENT_BYTES_MAX: usize = 16 << 20;
/// How large a command becomes before the next one is begun.
const COMMAND_BYTES_MAX: usize = 8 << 20;

/// The templates of an action.
#[derive(Debug)]
pub(super) struct Request {
    collection: Template,
    change: Change,
    bytes: Bytes,
}

#[derive(Debug)]
enum Change {
    Insert(Document),
    /// Unless there is one of its `_id`.
    Ensure(Document),
    /// All that the filter finds.
    Delete(Document),
    Update {
        filter: Document,
        update: Document,
        /// The update is made of operators; otherwise it replaces the document.
        operators: bool,
        /// Where nothing is found, it is added.
        upsert: bool,
    },
}

/// Records that go in one command.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) collection: String,
    operations: Vec<RawDocumentBuf>,
    /// For each record the `_id` of its document, where something of that `_id` can only be the same document.
    own_ids: Vec<Option<String>>,
    /// The command, and what it calls its parts.
    verb: Verb,
}

#[derive(Debug, Clone, Copy)]
enum Verb {
    Insert,
    Update,
    Delete,
}

impl Request {
    pub(super) fn new(parameters: &Parameters) -> Result<Request, Vec<SettingsError>> {
        let wrong =
            |path: &str, problem: &str| Err(vec![SettingsError { path: format!("{PARAMETERS}.{path}"), problem: problem.to_owned() }]);
        let filter = parameters.filter.as_deref().map(|text| Document::parse("filter", text)).transpose()?;
        let update = parameters.update.as_deref().map(|text| Document::parse("update", text)).transpose()?;
        let names_operators = |update: &Document| update.keys().is_some_and(|mut keys| keys.all(|key| key.starts_with('$')));
        if update.as_ref().is_some_and(|update| !names_operators(update)) {
            return wrong("update", "must consist of operators such as \"$set\"; to replace the document, use `document` with \"upsert\"");
        }
        let document = Document::parse("document", &parameters.document)?;
        let change = match (parameters.operation, filter, update) {
            (Operation::Insert, None, None) => Change::Insert(document),
            (Operation::Ensure, None, None) => Change::Ensure(document),
            (Operation::Ensure, Some(_), _) => return wrong("filter", "belongs to the operations \"update\", \"upsert\" and \"delete\""),
            (Operation::Ensure, None, Some(_)) => return wrong("update", "belongs to the operations \"update\" and \"upsert\""),
            (Operation::Delete, Some(filter), None) => Change::Delete(filter),
            (Operation::Delete, None, _) => return wrong("filter", "missing: it finds what is deleted"),
            (Operation::Delete, _, Some(_)) => return wrong("update", "belongs to the operations \"update\" and \"upsert\""),
            (Operation::Insert, Some(_), _) => return wrong("filter", "belongs to the operations \"update\", \"upsert\" and \"delete\""),
            (Operation::Insert, None, Some(_)) => return wrong("update", "belongs to the operations \"update\" and \"upsert\""),
            (Operation::Update, None, _) => return wrong("filter", "missing: it finds the document that is updated"),
            (Operation::Update, _, None) => return wrong("update", "missing: it says what is changed"),
            (Operation::Update, Some(filter), Some(update)) => Change::Update { filter, update, operators: true, upsert: false },
            (Operation::Upsert, filter, update) => {
                let filter = filter.map_or_else(|| Document::parse("filter", r#"{"_id": "${hookline_id}"}"#), Ok)?;
                Change::Update { filter, operators: update.is_some(), update: update.unwrap_or(document), upsert: true }
            }
        };
        Ok(Request { collection: template("collection", &parameters.collection)?, change, bytes: parameters.bytes })
    }

    /// The first records, up to `most`, that go in one command. The problem is the first record's.
    pub(super) fn group(&self, records: &[Record], most: usize) -> Result<Group, String> {
        let mut group = Group {
            collection: String::new(),
            operations: Vec::new(),
            own_ids: Vec::new(),
            verb: match self.change {
                Change::Insert(_) | Change::Ensure(_) => Verb::Insert,
                Change::Update { .. } => Verb::Update,
                Change::Delete(_) => Verb::Delete,
            },
        };
        let mut bytes = 0;
        for record in records.iter().take(most.max(1)) {
            let (collection, operation, own_id) = match self.operation(record) {
                Ok(parts) => parts,
                Err(problem) if group.operations.is_empty() => return Err(problem),
                Err(_) => break,
            };
            bytes += operation.as_bytes().len();
            let fits = collection == group.collection && bytes <= COMMAND_BYTES_MAX;
            if !group.operations.is_empty() && !fits {
                break;
            }
            group.collection = collection;
            group.operations.push(operation);
            group.own_ids.push(own_id);
        }
        Ok(group)
    }

    /// The collection of a record, its part of the command, and whether its document has its own identifier.
    fn operation(&self, record: &Record) -> Result<(String, RawDocumentBuf, Option<String>), String> {
        let collection = self.collection.render_text(&row(&self.collection, record));
        if collection.is_empty() || collection.contains(['$', '\0']) {
            return Err(format!("mongodb: \"{}\" is no name of a collection", collection.escape_debug()));
        }
        let (operation, own_id) = match &self.change {
            Change::Insert(template) | Change::Ensure(template) => {
                let filled = map("document", self.bson(&template.fill(record, &anything)?))?;
                let mut document = BsonDocument::new();
                let own_id = match (filled.get("_id"), &self.change) {
                    (None, _) => {
                        document.insert("_id", record.hookline_id.as_str());
                        Some(record.hookline_id.clone())
                    }
                    (Some(id), Change::Ensure(_)) => id.as_str().map(str::to_owned),
                    (Some(_), _) => None,
                };
                document.extend(filled);
                (document, own_id)
            }
            Change::Delete(filter) => {
                let mut operation = BsonDocument::new();
                operation.insert("q", map("filter", self.bson(&filter.fill(record, &is_a_value)?))?);
                operation.insert("limit", 0);
                (operation, None)
            }
            Change::Update { filter, update, operators, upsert } => {
                let mut operation = BsonDocument::new();
                operation.insert("q", map("filter", self.bson(&filter.fill(record, &is_a_value)?))?);
                let check: &dyn Fn(&Value) -> Result<(), String> = if *operators { &is_no_operator } else { &anything };
                let update = map("document", self.bson(&update.fill(record, check)?))?;
                // One operator at the top, and the whole would be read as operators.
                if let Some(key) = update.keys().find(|key| !operators && key.starts_with('$')) {
                    return Err(is_operator(key));
                }
                operation.insert("u", update);
                operation.insert("upsert", *upsert);
                (operation, None)
            }
        };
        let operation = RawDocumentBuf::try_from(&operation).map_err(|error| format!("mongodb: {error}"))?;
        match operation.as_bytes().len() {
            length if length > DOCUMENT_BYTES_MAX => {
                Err(format!("mongodb: a document of {length} bytes is more than the 16 MiB it may have"))
            }
            _ => Ok((collection, operation, own_id)),
        }
    }

    fn bson(&self, value: &Value) -> Bson {
        match value {
            Value::Undefined | Value::Null => Bson::Null,
            Value::Bool(b) => Bson::Boolean(*b),
            Value::Int(int) => Bson::Int64(*int),
            Value::Float(float) => Bson::Double(*float),
            Value::Text(text) => Bson::String(text.to_string()),
            Value::Bytes(bytes) => match (self.bytes, std::str::from_utf8(bytes)) {
                (Bytes::Text, Ok(text)) => Bson::String(text.to_owned()),
                _ => Bson::Binary(Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() }),
            },
            Value::Array(items) => Bson::Array(items.iter().map(|item| self.bson(item)).collect()),
            Value::Map(map) => match date(map) {
                Some(date) => Bson::DateTime(date),
                None => Bson::Document(map.iter().map(|(key, value)| (key.to_owned(), self.bson(value))).collect()),
            },
        }
    }
}

impl Group {
    /// How many records it has.
    pub(super) fn len(&self) -> usize {
        self.operations.len()
    }

    /// The identifiers of documents from `first` on, up to the first that may be another's.
    pub(super) fn own_ids(&self, first: usize) -> Vec<&str> {
        self.own_ids[first..].iter().map_while(Option::as_deref).collect()
    }

    /// The command.
    pub(super) fn command(&self, write_concern: &RawDocumentBuf) -> RawDocumentBuf {
        let operations: RawArrayBuf = self.operations.iter().collect();
        let mut command = RawDocumentBuf::new();
        let (verb, parts) = match self.verb {
            Verb::Insert => (cstr!("insert"), cstr!("documents")),
            Verb::Update => (cstr!("update"), cstr!("updates")),
            Verb::Delete => (cstr!("delete"), cstr!("deletes")),
        };
        command.append(verb, self.collection.as_str());
        command.append(parts, operations);
        command.append(cstr!("ordered"), true);
        command.append(cstr!("writeConcern"), write_concern);
        command
    }
}

fn map(what: &str, bson: Bson) -> Result<BsonDocument, String> {
    match bson {
        Bson::Document(document) => Ok(document),
        other => Err(format!("mongodb: the {what} must be a map, and is {:?}", other.element_type())),
    }
}

/// The date that a map stands for in MongoDB's extended JSON.
fn date(map: &hookline_schemas::Map) -> Option<DateTime> {
    let date = map.get("$date").filter(|_| map.len() == 1)?;
    match date {
        Value::Int(ms) => Some(DateTime::from_millis(*ms)),
        Value::Map(long) => long.get("$numberLong")?.as_text()?.parse().ok().map(DateTime::from_millis),
        other => other.as_text()?.parse::<Timestamp>().ok().map(|time| DateTime::from_millis(time.as_millisecond())),
    }
}

/// For filters: there must be something, or the filter would find documents that lack it.
fn is_a_value(value: &Value) -> Result<(), String> {
    if *value == Value::Undefined {
        return Err("mongodb: a placeholder of the filter is missing in the row".into());
    }
    is_no_operator(value)
}

/// What a device sends must not become an operator.
fn is_no_operator(value: &Value) -> Result<(), String> {
    match value {
        Value::Map(entries) if date(entries).is_none() => entries.iter().try_for_each(|(key, value)| {
            if key.starts_with('$') {
                return Err(is_operator(key));
            }
            is_no_operator(value)
        }),
        Value::Array(items) => items.iter().try_for_each(is_no_operator),
        _ => Ok(()),
    }
}

fn is_operator(key: &str) -> String {
    format!("mongodb: \"{}\" in the row would be read as an operator", key.escape_debug())
}

#[cfg(test)]
mod tests {
    use hookline_schemas::Map;
    use mongodb::bson::doc;
    use serde_json::json;

    use super::*;

    fn request(parameters: serde_json::Value) -> Result<Request, Vec<SettingsError>> {
        Request::new(&serde_json::from_value(parameters).expect("settings"))
    }

    fn record(sequence: u64, row: serde_json::Value) -> Record {
        Record { sequence, hookline_id: format!("n:1:{sequence}"), bytes: 0, row: Value::from_json(row), trace: None }
    }

    /// The operations of the records, as documents.
    fn operations(request: &Request, records: &[Record]) -> Vec<BsonDocument> {
        let group = request.group(records, 100).expect("can be written");
        group.operations.iter().map(|operation| BsonDocument::try_from(operation).expect("valid")).collect()
    }

    #[test]
    fn an_inserted_document_keeps_the_types_of_the_row() {
        let mut row = Map::new();
        row.insert("n", Value::Int(5));
        row.insert("f", Value::Float(5.0));
        row.insert("raw", Value::Bytes(bytes::Bytes::from_static(b"text")));
        row.insert("missing", Value::Undefined);
        row.insert("at", Value::from_json(json!({"$date": "2023-11-14T22:13:20.123Z"})));
        row.insert("list", Value::from_json(json!([1, {"ok": true}, null])));
        let record = Record { sequence: 1, hookline_id: "n:1:1".into(), bytes: 0, row: Value::Map(row), trace: None };
        let binary = |bytes: &[u8]| Binary { subtype: BinarySubtype::Generic, bytes: bytes.to_vec() };
        let at = DateTime::from_millis(1_700_000_000_123);
        let expect = doc! {
            "_id": "n:1:1", "n": 5_i64, "f": 5.0, "raw": binary(b"text"), "missing": null, "at": at, "list": [1_i64, {"ok": true}, null],
        };
        let binary_request = request(json!({"collection": "c"})).expect("valid");
        assert_eq!(operations(&binary_request, std::slice::from_ref(&record)), [expect]);

        let template = r#"{"_id": "${n}", "raw": "${raw}", "made": {"$date": ${n}}, "long": {"$date": {"$numberLong": "7"}}}"#;
        let text_request = request(json!({"collection": "c", "document": template, "bytes": "text"})).expect("valid");
        let expect = doc! { "_id": 5_i64, "raw": "text", "made": DateTime::from_millis(5), "long": DateTime::from_millis(7) };
        assert_eq!(operations(&text_request, &[record]), [expect]);
    }

    #[test]
    fn a_command_takes_the_records_of_one_collection() {
        let by_site = request(json!({"collection": "t-${site}"})).expect("valid");
        let records = ["a", "a", "b", "a"].map(|site| record(1, json!({"site": site})));
        let group = by_site.group(&records, 100).expect("valid");
        assert_eq!((group.len(), group.collection.as_str(), group.own_ids(1).len()), (2, "t-a", 1));
        assert_eq!(by_site.group(&records, 1).expect("valid").len(), 1);
        let command = BsonDocument::try_from(group.command(&RawDocumentBuf::new())).expect("valid");
        let documents = [doc! {"_id": "n:1:1", "site": "a"}, doc! {"_id": "n:1:1", "site": "a"}];
        assert_eq!(command, doc! {"insert": "t-a", "documents": documents.to_vec(), "ordered": true, "writeConcern": {}});
        for name in ["", "a$b", "a\0b"] {
            let named = request(json!({"collection": name})).expect("valid");
            assert!(named.group(&records, 1).is_err(), "{name:?}");
        }
    }

    #[test]
    fn updates_have_their_filter_and_operators_come_from_the_template_only() {
        let parameters = json!({
            "collection": "c", "operation": "update", "filter": r#"{"device": "${d}"}"#, "update": r#"{"$set": {"v": "${v}"}}"#,
        });
        let update = request(parameters).expect("valid");
        let expect = doc! {"q": {"device": "x"}, "u": {"$set": {"v": {"a": 1_i64}}}, "upsert": false};
        assert_eq!(operations(&update, &[record(1, json!({"d": "x", "v": {"a": 1}}))]), [expect]);
        for row in [json!({"v": 1}), json!({"d": {"$ne": 1}, "v": 1}), json!({"d": "x", "v": [{"$where": "1"}]})] {
            assert!(update.group(&[record(1, row.clone())], 1).is_err(), "{row}");
        }
        let upsert = request(json!({"collection": "c", "operation": "upsert"})).expect("valid");
        let expect = doc! {"q": {"_id": "n:1:1"}, "u": {"v": 1_i64}, "upsert": true};
        assert_eq!(operations(&upsert, &[record(1, json!({"v": 1}))]), [expect]);
        assert!(upsert.group(&[record(1, json!({"$set": {"admin": true}}))], 1).is_err());
    }

    #[test]
    fn settings_that_do_not_belong_together_are_told() {
        let cases = [
            (json!({"collection": "c", "filter": "{}"}), "parameters.filter"),
            (json!({"collection": "c", "update": r#"{"$set": {}}"#}), "parameters.update"),
            (json!({"collection": "c", "operation": "update", "update": r#"{"$set": {}}"#}), "parameters.filter"),
            (json!({"collection": "c", "operation": "update", "filter": "{}"}), "parameters.update"),
            (json!({"collection": "c", "operation": "upsert", "update": r#"{"v": 1}"#}), "parameters.update"),
            (json!({"collection": "c", "operation": "upsert", "update": "${change}"}), "parameters.update"),
            (json!({"collection": "c", "document": "{"}), "parameters.document"),
            (json!({"collection": "${"}), "parameters.collection"),
        ];
        for (parameters, path) in cases {
            assert_eq!(request(parameters.clone()).expect_err("wrong")[0].path, path, "{parameters}");
        }
    }
}
