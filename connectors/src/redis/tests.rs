//! Requests and judgements, without a server.

use bytes::Bytes;
use hookline_schemas::{Record, Value};
use serde_json::json;

use super::client::{self, judge};
use super::config::Parameters;
use super::request::Request;
use crate::connector::Failure;

fn request(parameters: serde_json::Value) -> Result<Request, String> {
    let parameters: Parameters = serde_json::from_value(parameters).expect("the form is right");
    Request::new(&parameters).map_err(|errors| errors[0].to_string())
}

fn record(sequence: u64, row: serde_json::Value) -> Record {
    Record { sequence, hookline_id: format!("n:1:{sequence:x}"), bytes: 0, row: Value::from_json(row), trace: None }
}

fn arguments(parameters: serde_json::Value, record: &Record) -> Vec<Bytes> {
    request(parameters).expect("valid").arguments(record)
}

#[test]
fn every_argument_is_a_template_and_bytes_stay_bytes() {
    let mut record = record(10, json!({"d": "x y", "t": 21.5, "m": {"a": 1}}));
    if let Value::Map(map) = &mut record.row {
        map.insert("raw", Value::Bytes(Bytes::from_static(b"\xff\r\n\0")));
    }
    let command =
        json!({"command": ["HSET", "device:${d}", "t", "${t}", "raw", "${raw}", "m", "${m}", "none", "${none}", "id", "<${hookline_id}>"]});
    let expect: [&[u8]; 12] =
        [b"HSET", b"device:x y", b"t", b"21.5", b"raw", b"\xff\r\n\0", b"m", br#"{"a":1}"#, b"none", b"", b"id", b"<n:1:a>"];
    assert_eq!(arguments(command, &record), expect);
}

#[test]
fn an_entry_of_a_stream_carries_the_identifier() {
    let record = record(1, json!({"site": "a", "t": 3}));
    let stream = json!({"stream": {"key": "s:${site}", "maxlen": 100, "fields": {"t": "${t}", "site": "${site}"}}});
    let expect = ["XADD", "s:a", "MAXLEN", "~", "100", "*", "hookline_id", "n:1:1", "site", "a", "t", "3"];
    assert_eq!(arguments(stream, &record), expect);
    let expect = ["XADD", "s", "*", "hookline_id", "n:1:1", "value", r#"{"site":"a","t":3}"#];
    assert_eq!(arguments(json!({"stream": {"key": "s"}}), &record), expect);
}

#[test]
fn what_cannot_be_a_command_is_told() {
    for (parameters, expect) in [
        (json!({}), "parameters.command: missing; give it, or `stream`"),
        (json!({"command": ["PING"], "stream": {"key": "s"}}), "parameters.command: stands beside"),
        (json!({"command": []}), "parameters.command: must begin"),
        (json!({"command": ["${c}", "k"]}), "parameters.command: must begin"),
        (json!({"command": ["multi"]}), "parameters.command: MULTI is about the connection"),
        (json!({"command": ["GET", "${k"]}), "parameters.command[1]: template"),
        (json!({"stream": {"key": "s", "fields": {"a": "${"}}}), "parameters.stream.fields.a: template"),
    ] {
        let problem = request(parameters).expect_err(expect);
        assert!(problem.starts_with(expect), "{problem}");
    }
}

#[test]
fn a_cluster_gets_a_transaction_for_each_slot_in_the_order_of_the_records() {
    let request = request(json!({"command": ["RPUSH", "{${d}}:list", "${n}"]})).expect("valid");
    let records: Vec<Record> = (0..30).map(|n| record(n, json!({"d": format!("d{}", n % 3), "n": n}))).collect();
    let of = |by_slot: bool| {
        let mut sequences: Vec<Vec<u64>> = request.transactions(records.iter(), by_slot).into_iter().map(|t| t.sequences).collect();
        sequences.sort();
        sequences
    };
    assert_eq!(of(false), [(0..30).collect::<Vec<u64>>()]);
    let expect: Vec<Vec<u64>> = (0..3).map(|d| (0..30).filter(|n| n % 3 == d).collect()).collect();
    assert_eq!(of(true), expect);
    let transactions = request.transactions(records[..1].iter(), false);
    let bytes = transactions[0].pipeline.get_packed_pipeline();
    assert_eq!(bytes, b"*1\r\n$5\r\nMULTI\r\n*3\r\n$5\r\nRPUSH\r\n$9\r\n{d0}:list\r\n$1\r\n0\r\n*1\r\n$4\r\nEXEC\r\n");
}

/// Judges replies to the records 1, 2 and so on.
fn judged(replies: &str) -> (client::Answers, Option<Failure>) {
    let text = replies.replace('\n', "\r\n");
    let redis::Value::Array(replies) = redis::parse_redis_value(text.as_bytes()).expect("replies") else { panic!("a list: {text}") };
    let sequences: Vec<u64> = (1..=replies.len() as u64 - 2).collect();
    judge(&sequences, replies)
}

#[test]
fn each_command_of_a_transaction_is_judged_alone() {
    let (answers, failure) = judged("*5\n+OK\n+QUEUED\n+QUEUED\n+QUEUED\n*3\n:1\n-WRONGTYPE other kind\n$-1\n");
    assert_eq!(answers, [(1, Ok(())), (2, Err("redis: WRONGTYPE other kind".into())), (3, Ok(()))]);
    assert_eq!(failure, None);
}

#[test]
fn of_a_discarded_transaction_nothing_is_done_and_who_is_to_blame_is_known() {
    let (answers, failure) = judged("*5\n+OK\n+QUEUED\n-ERR wrong number of arguments\n+QUEUED\n-EXECABORT discarded\n");
    assert_eq!(answers, [(2, Err("redis: ERR wrong number of arguments".into()))]);
    assert_eq!(failure, None);
    for (error, reconnect) in [("OOM x", false), ("LOADING x", false), ("CLUSTERDOWN x", false), ("READONLY x", true), ("NOAUTH x", true)] {
        let (answers, failure) = judged(&format!("*4\n+OK\n+QUEUED\n-{error}\n-EXECABORT discarded\n"));
        assert!(answers.is_empty(), "{answers:?}");
        assert_eq!(failure.map(|failure| matches!(failure, Failure::Reconnect(_))), Some(reconnect), "{error}");
    }
    // Refused as a whole.
    let (answers, failure) = judged("*3\n+OK\n+QUEUED\n-EXECABORT Transaction discarded because of: READONLY\n");
    assert!(answers.is_empty(), "{answers:?}");
    assert!(matches!(failure, Some(Failure::Reconnect(_))));
}

#[test]
fn without_transactions_commands_were_executed_one_by_one() {
    let (answers, failure) = judged("*4\n-ERR unknown command 'MULTI'\n:1\n-WRONGTYPE x\n-ERR EXEC without MULTI\n");
    assert_eq!(answers, [(1, Ok(())), (2, Err("redis: WRONGTYPE x".into()))]);
    assert_eq!(failure, None);
}

#[test]
fn servers_are_read_with_their_mode() {
    let problem = |connector: serde_json::Value| {
        let connector = serde_json::from_value(connector).expect("the form is right");
        client::open(&connector).err().map(|errors| errors[0].path.clone())
    };
    assert_eq!(problem(json!({"servers": "localhost"})), None);
    assert_eq!(problem(json!({"servers": "[::1]:6379", "username": "u", "password": "p", "database": 3, "tls": {}})), None);
    assert_eq!(problem(json!({"servers": "a:1, b:2, [::1]", "mode": "cluster"})), None);
    assert_eq!(problem(json!({"servers": "a, b", "mode": "sentinel", "master": "m", "tls": {}})), None);
    assert_eq!(problem(json!({"servers": "a, b", "mode": "sentinel"})).as_deref(), Some("connector.master"));
    for servers in ["", "a:b", "a,b", ":6379"] {
        assert_eq!(problem(json!({"servers": servers})).as_deref(), Some("connector.servers"), "{servers}");
    }
    assert_eq!(problem(json!({"servers": "a", "tls": {"ca": "/no/such/file"}})).as_deref(), Some("connector.tls.ca"));
}
