//! Replacing parts of texts, and regular expressions. Those without look-around and back-references take linear time; what
//! others may try is bounded. Compiled ones are kept.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock};

use fancy_regex::{Captures, Regex, RegexBuilder};
use hookline_schemas::Value;
use parking_lot::RwLock;

use super::argument::{choice, text, within};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure(
        "replace",
        3..=4,
        replace,
        "The text with 'all' occurrences of a part replaced, or the 'leading' or 'trailing' one.",
        ("replace('a-b-c', '-', '.')", r#""a.b.c""#),
    ),
    pure(
        "regex_match",
        2..=2,
        regex_match,
        "Whether the regular expression matches anywhere in the text.",
        ("regex_match('ab12', '[0-9]+$')", "true"),
    ),
    pure(
        "regex_replace",
        3..=3,
        regex_replace,
        r"The text with every match replaced; in the replacement \1 is the first group, & the match, and \& the sign itself.",
        ("regex_replace('a1b22', '[0-9]+', '#')", r##""a#b#""##),
    ),
    pure(
        "regex_extract",
        2..=2,
        regex_extract,
        "The groups of the first match; empty where there is none.",
        ("regex_extract('id=77;lot=x9', '([a-z]+)=([0-9]+)')", r#"["id","77"]"#),
    ),
];

/// Compiled expressions that are kept; beyond it the memory starts afresh.
const KEPT_MAX: usize = 256;
/// What one compiled expression may take, bytes.
const COMPILED_BYTES_MAX: usize = 1024 * 1024;
/// How often an expression with look-around or back-references may try another way.
const BACKTRACKS_MAX: usize = 100_000;

type Kept = HashMap<Box<str>, Arc<Regex>>;

static KEPT: LazyLock<RwLock<Kept>> = LazyLock::new(RwLock::default);

fn replace(args: &[Value]) -> Result<Value, EvalError> {
    #[derive(Clone, Copy)]
    enum Which {
        All,
        First,
        Last,
    }
    const WHICH: &[(&str, Which)] = &[("all", Which::All), ("leading", Which::First), ("trailing", Which::Last)];
    let (whole, part, new) = (text(&args[0])?, text(&args[1])?, text(&args[2])?);
    let which = args.get(3).map_or(Ok(Which::All), |which| choice(which, WHICH))?;
    let once = match which {
        _ if part.is_empty() => None,
        Which::All => {
            let mut out = String::with_capacity(whole.len());
            for (index, piece) in whole.split(part).enumerate() {
                if index > 0 {
                    out.push_str(new);
                }
                out.push_str(piece);
                within(out.len())?;
            }
            return Ok(Value::Text(out.into_boxed_str()));
        }
        Which::First => whole.split_once(part),
        Which::Last => whole.rsplit_once(part),
    };
    let Some((before, after)) = once else { return Ok(Value::text(whole)) };
    within(before.len() + new.len() + after.len())?;
    Ok(Value::Text(format!("{before}{new}{after}").into()))
}

fn regex_match(args: &[Value]) -> Result<Value, EvalError> {
    let whole = text(&args[0])?;
    compiled(text(&args[1])?)?.is_match(whole).map(Value::Bool).map_err(failed)
}

fn regex_replace(args: &[Value]) -> Result<Value, EvalError> {
    let whole = text(&args[0])?;
    let regex = compiled(text(&args[1])?)?;
    let replacement = pieces(text(&args[2])?)?;
    let mut out = String::with_capacity(whole.len());
    let mut done = 0;
    for captures in regex.captures_iter(whole) {
        let captures: Captures<'_, str> = captures.map_err(failed)?;
        let Some(matched) = captures.get(0) else { continue };
        out.push_str(&whole[done..matched.start()]);
        done = matched.end();
        for piece in &replacement {
            match piece {
                Piece::Char(c) => out.push(*c),
                Piece::Group(group) => out.push_str(captures.get(*group).map_or("", |found| found.as_str())),
            }
            within(out.len())?;
        }
    }
    out.push_str(&whole[done..]);
    within(out.len())?;
    Ok(Value::Text(out.into_boxed_str()))
}

fn regex_extract(args: &[Value]) -> Result<Value, EvalError> {
    let whole = text(&args[0])?;
    let regex = compiled(text(&args[1])?)?;
    let captures: Option<Captures<'_, str>> = regex.captures(whole).map_err(failed)?;
    let Some(captures) = captures else { return Ok(Value::Array(Vec::new())) };
    let groups = (1..captures.len()).map(|group| Value::text(captures.get(group).map_or("", |found| found.as_str())));
    Ok(Value::Array(groups.collect()))
}

/// A part of a replacement.
enum Piece {
    Char(char),
    Group(usize),
}

/// The parts of a replacement: `\1`, `\g1`, `\g{1}` and `&` stand for what was matched, a backslash before another character for that one.
fn pieces(replacement: &str) -> Result<Vec<Piece>, EvalError> {
    let mut pieces = Vec::new();
    let mut rest = replacement;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first == '&' {
            pieces.push(Piece::Group(0));
            continue;
        }
        let Some(second) = rest.chars().next().filter(|_| first == '\\') else {
            pieces.push(Piece::Char(first));
            continue;
        };
        let number = match second {
            '1'..='9' => rest,
            'g' => rest[1..].strip_prefix('{').unwrap_or(&rest[1..]),
            other => {
                rest = &rest[other.len_utf8()..];
                pieces.push(Piece::Char(other));
                continue;
            }
        };
        let after = number.trim_start_matches(|c: char| c.is_ascii_digit());
        let group = number[..number.len() - after.len()].parse();
        pieces.push(Piece::Group(group.map_err(|_| EvalError::new("a group in the replacement has no number"))?));
        rest = if rest.starts_with("g{") { after.strip_prefix('}').unwrap_or(after) } else { after };
    }
    Ok(pieces)
}

fn compiled(pattern: &str) -> Result<Arc<Regex>, EvalError> {
    if let Some(regex) = KEPT.read().get(pattern) {
        return Ok(Arc::clone(regex));
    }
    let mut builder = RegexBuilder::new(pattern);
    builder.backtrack_limit(BACKTRACKS_MAX).delegate_size_limit(COMPILED_BYTES_MAX).delegate_dfa_size_limit(COMPILED_BYTES_MAX);
    let regex = Arc::new(builder.build().map_err(|error| EvalError::new(format!("no regular expression: {error}")))?);
    let mut kept = KEPT.write();
    if kept.len() >= KEPT_MAX {
        kept.clear();
    }
    kept.insert(pattern.into(), Arc::clone(&regex));
    Ok(regex)
}

fn failed(error: fancy_regex::Error) -> EvalError {
    EvalError::new(format!("the regular expression takes too long on this text: {error}"))
}
