//! Parameters, settings and judgements, without a server.

use bytes::Bytes;
use hookline_schemas::Value;
use mysql_async::{DriverError, Error, ServerError, Value as Parameter};
use serde_json::json;

use super::client::{classify, options};
use super::request::parameter;
use crate::connector::Failure;

#[test]
fn values_keep_their_types() {
    let text = |text: &str| Parameter::Bytes(text.as_bytes().to_vec());
    for (value, expect) in [
        (Value::Undefined, Parameter::NULL),
        (Value::Null, Parameter::NULL),
        (Value::Float(f64::NAN), Parameter::NULL),
        (Value::Bool(true), Parameter::Int(1)),
        (Value::Int(i64::MIN), Parameter::Int(i64::MIN)),
        (Value::Float(1.5), Parameter::Double(1.5)),
        (Value::text("ü"), text("ü")),
        (Value::Bytes(Bytes::from_static(b"\xff\0")), Parameter::Bytes(vec![0xff, 0])),
        (Value::from_json(json!([1, {"a": null}])), text(r#"[1,{"a":null}]"#)),
    ] {
        assert_eq!(parameter(value), expect);
    }
}

#[test]
fn what_is_wrong_with_a_connector_is_told_with_its_key() {
    let problem = |connector: serde_json::Value| {
        let connector = serde_json::from_value(connector).expect("the form is right");
        options(&connector).err().map(|errors| errors[0].path.clone())
    };
    assert_eq!(problem(json!({"url": "mysql://u:p@localhost:3306/d"})), None);
    assert_eq!(problem(json!({"url": "mysql://u:p@localhost/d", "tls": {}})), None);
    assert_eq!(problem(json!({"url": "postgres://u:p@localhost/d"})).as_deref(), Some("connector.url"));
    assert_eq!(problem(json!({"url": "mysql://h/d", "tls": {"cert": "/no/such/file"}})).as_deref(), Some("connector.tls.key"));
}

#[test]
fn errors_are_judged_by_code_and_sqlstate() {
    let judged = |code: u16, state: &str| match classify(&Error::Server(ServerError { code, state: state.into(), message: "m".into() })) {
        Failure::Retry(_) => "retry",
        Failure::Reconnect(_) => "reconnect",
        Failure::Reject(_) => "reject",
    };
    for (code, state, expect) in [
        (1213, "40001", "retry"),
        (1205, "HY000", "retry"),
        (1114, "HY000", "retry"),
        (1142, "42000", "retry"),
        (1040, "08004", "reconnect"),
        (1053, "08S01", "reconnect"),
        (1290, "HY000", "reconnect"),
        (1146, "42S02", "reconnect"),
        (1048, "23000", "reject"),
        (1062, "23000", "reject"),
        (1406, "22001", "reject"),
        (1366, "HY000", "reject"),
        (3819, "HY000", "reject"),
        (4025, "23000", "reject"),
        (1644, "45000", "reject"),
        (1054, "42S22", "reject"),
    ] {
        assert_eq!(judged(code, state), expect, "{code} {state}");
    }
    assert!(matches!(classify(&Error::Driver(DriverError::ConnectionClosed)), Failure::Reconnect(_)));
}
