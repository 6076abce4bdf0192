//! Texts to arrays of their parts.

use hookline_schemas::Value;

use super::argument::{bounded_array, choice, text};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure(
        "split",
        2..=3,
        split,
        "The parts between separators. Empty ones are left out, but not with 'notrim'; 'leading' and 'trailing' split at the first or last \
         separator only, and 'leading_notrim' and 'trailing_notrim' keep what is empty.",
        ("split('a/b//c', '/')", r#"["a","b","c"]"#),
    ),
    pure(
        "tokens",
        2..=3,
        tokens,
        "The parts between any of the given characters, and line breaks with 'nocrlf', without empty ones.",
        ("tokens('a;b,c', ';,')", r#"["a","b","c"]"#),
    ),
];

#[derive(Clone, Copy)]
enum At {
    All,
    First,
    Last,
}

#[derive(Clone, Copy, PartialEq)]
enum Empty {
    Drop,
    Keep,
}

fn split(args: &[Value]) -> Result<Value, EvalError> {
    const MODES: &[(&str, (At, Empty))] = &[
        ("notrim", (At::All, Empty::Keep)),
        ("leading", (At::First, Empty::Drop)),
        ("leading_notrim", (At::First, Empty::Keep)),
        ("trailing", (At::Last, Empty::Drop)),
        ("trailing_notrim", (At::Last, Empty::Keep)),
    ];
    let (whole, separator) = (text(&args[0])?, text(&args[1])?);
    let (at, empty) = args.get(2).map_or(Ok((At::All, Empty::Drop)), |mode| choice(mode, MODES))?;
    let keeps = |part: &&str| empty == Empty::Keep || !part.is_empty();
    let once = match at {
        // An empty separator stands nowhere.
        _ if separator.is_empty() => None,
        At::All => return bounded_array(whole.split(separator).filter(keeps).map(Value::text)),
        At::First => whole.split_once(separator),
        At::Last => whole.rsplit_once(separator),
    };
    let parts = once.map_or(vec![whole], |(before, after)| vec![before, after]);
    Ok(Value::Array(parts.into_iter().filter(keeps).map(Value::text).collect()))
}

fn tokens(args: &[Value]) -> Result<Value, EvalError> {
    let (whole, separators) = (text(&args[0])?, text(&args[1])?);
    let breaks = args.get(2).map_or(Ok(""), |option| choice(option, &[("nocrlf", "\r\n")]))?;
    let separates = |c: char| separators.contains(c) || breaks.contains(c);
    let parts = whole.split(separates).filter(|part| !part.is_empty());
    bounded_array(parts.map(Value::text))
}
