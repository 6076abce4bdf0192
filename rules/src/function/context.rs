//! Functions of the event that a statement runs for, of topics, and of the broker's environment.

use hookline_schemas::Value;

use super::argument::{array, bounded_array, int, text, within};
use super::{Function, of_event, pure};
use crate::context::Context;
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    of_event("msgid", 0..=0, msgid, "The identifier of the message.", ("msgid()", r#""000617F6E2B0C1A2F4430000B29E0001""#)),
    of_event("qos", 0..=0, qos, "The QoS of the message.", ("qos()", "1")),
    of_event("topic", 0..=1, topic, "The topic, or its n-th level, from 1.", ("topic(2)", r#""b""#)),
    of_event("flags", 0..=0, flags, "The flags of the message.", ("flags()", r#"{"dup":false,"retain":true}"#)),
    of_event("flag", 1..=1, flag, "One flag of the message: 'retain' or 'dup'.", ("flag('retain')", "true")),
    of_event("clientid", 0..=0, clientid, "The client's identifier.", ("clientid()", r#""c1""#)),
    of_event("username", 0..=0, username, "The client's user name.", ("username()", r#""u1""#)),
    of_event("clientip", 0..=0, peerhost, "The client's address.", ("clientip()", r#""10.0.0.7""#)),
    of_event("peerhost", 0..=0, peerhost, "The client's address.", ("peerhost()", r#""10.0.0.7""#)),
    of_event("payload", 0..=1, payload, "The payload, or the value at a dotted path in it.", ("payload('a.b')", "7")),
    pure(
        "contains_topic",
        2..=3,
        contains_topic,
        "Whether a topic (with a QoS) is in an array of topics, or of maps with topic and qos.",
        ("contains_topic(['t/a', 't/b'], 't/a')", "true"),
    ),
    pure(
        "contains_topic_match",
        2..=3,
        contains_topic_match,
        "Whether a topic (with a QoS) matches a filter of an array, which has texts, or maps with topic and qos.",
        ("contains_topic_match(['t/+'], 't/a')", "true"),
    ),
    pure("topic_match", 2..=2, topic_match, "Whether a topic matches a filter (topic, filter).", ("topic_match('t/a', 't/+')", "true")),
    pure("topic_join", 1..=1, topic_join, "The topic of these levels.", ("topic_join(['a', 'b'])", r#""a/b""#)),
    pure("topic_split", 1..=1, topic_split, "The levels of a topic, empty ones too.", ("topic_split('a//b')", r#"["a","","b"]"#)),
    pure(
        "getenv",
        1..=1,
        getenv,
        "The variable HOOKLINEVAR_name of the broker's environment, or else EMQXVAR_name.",
        ("getenv('THERE_IS_NONE_OF_THIS_NAME')", "null"),
    ),
];

fn msgid(context: &Context<'_>, _: &[Value]) -> Result<Value, EvalError> {
    Ok(context.column("id"))
}

fn qos(context: &Context<'_>, _: &[Value]) -> Result<Value, EvalError> {
    Ok(context.column("qos"))
}

fn topic(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    let topic = context.column("topic");
    let Some(level) = args.first() else { return Ok(topic) };
    let level = int(level)?;
    let index = level.checked_sub(1).and_then(|index| usize::try_from(index).ok());
    let found = index.and_then(|index| text(&topic).ok()?.split('/').nth(index));
    found.map(Value::text).ok_or_else(|| EvalError::new(format!("the topic has no level {level}")))
}

fn flags(context: &Context<'_>, _: &[Value]) -> Result<Value, EvalError> {
    Ok(context.column("flags"))
}

fn flag(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    Ok(context.column("flags").path([text(&args[0])?]).clone())
}

fn clientid(context: &Context<'_>, _: &[Value]) -> Result<Value, EvalError> {
    Ok(context.column("clientid"))
}

fn username(context: &Context<'_>, _: &[Value]) -> Result<Value, EvalError> {
    Ok(context.column("username"))
}

/// The address without its port; some events have only both together.
fn peerhost(context: &Context<'_>, _: &[Value]) -> Result<Value, EvalError> {
    let host = context.column("peerhost");
    if host != Value::Undefined {
        return Ok(host);
    }
    let name = context.column("peername");
    let host = name.as_text().and_then(|name| name.rsplit_once(':')).map(|(host, _)| host.trim_matches(['[', ']']));
    Ok(Value::optional_text(host))
}

fn payload(context: &Context<'_>, args: &[Value]) -> Result<Value, EvalError> {
    match args.first() {
        Some(path) => Ok(context.payload()?.path(text(path)?.split('.')).clone()),
        None => Ok(context.column("payload")),
    }
}

fn contains_topic(args: &[Value]) -> Result<Value, EvalError> {
    any_filter(args, |filter, topic| filter == topic)
}

fn contains_topic_match(args: &[Value]) -> Result<Value, EvalError> {
    any_filter(args, hookline_mqtt::topic::matches)
}

/// Whether a filter of the first argument suits the topic of the second, and the QoS of the third.
fn any_filter(args: &[Value], suits: fn(&str, &str) -> bool) -> Result<Value, EvalError> {
    let topic = text(&args[1])?;
    for entry in array(&args[0])? {
        let (filter, qos) = match entry {
            Value::Map(entry) => (entry.get("topic").unwrap_or(&Value::Undefined), entry.get("qos")),
            filter => (filter, None),
        };
        if suits(text(filter)?, topic) && args.get(2).is_none_or(|wanted| qos == Some(wanted)) {
            return Ok(Value::Bool(true));
        }
    }
    Ok(Value::Bool(false))
}

fn topic_match(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Bool(hookline_mqtt::topic::matches(text(&args[1])?, text(&args[0])?)))
}

fn topic_join(args: &[Value]) -> Result<Value, EvalError> {
    let levels = array(&args[0])?.iter().map(text).collect::<Result<Vec<_>, _>>()?;
    within(levels.iter().map(|level| level.len() + 1).sum())?;
    Ok(Value::text(&levels.join("/")))
}

fn topic_split(args: &[Value]) -> Result<Value, EvalError> {
    bounded_array(text(&args[0])?.split('/').map(Value::text))
}

fn getenv(args: &[Value]) -> Result<Value, EvalError> {
    let name = text(&args[0])?;
    // No variable has such a name, and some systems panic when asked for one.
    if name.contains(['\0', '=']) {
        return Err(EvalError::new("the name of a variable has no = in it"));
    }
    let found = ["HOOKLINEVAR_", "EMQXVAR_"].iter().find_map(|prefix| std::env::var(format!("{prefix}{name}")).ok());
    Ok(Value::optional_text(found.as_deref()))
}
