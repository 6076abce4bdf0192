//! Functions of texts. Lengths and places count characters as readers see them: grapheme clusters.

use hookline_schemas::Value;
use unicode_segmentation::UnicodeSegmentation;

use super::argument::{array, bounded, bytes, choice, count, listed, text, text_of, within};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure("lower", 1..=1, lower, "The text in lower case.", ("lower('Ab')", r#""ab""#)),
    pure("upper", 1..=1, upper, "The text in upper case.", ("upper('Ab')", r#""AB""#)),
    pure("trim", 1..=2, trim, "The text without white space, or without given characters, at both ends.", ("trim(' a ')", r#""a""#)),
    pure("ltrim", 1..=2, ltrim, "The text without white space, or given characters, at its beginning.", ("ltrim('007', '0')", r#""7""#)),
    pure("rtrim", 1..=2, rtrim, "The text without white space, or given characters, at its end.", ("rtrim(' a ')", r#"" a""#)),
    pure("reverse", 1..=1, reverse, "The characters in reverse.", ("reverse('añb')", r#""bña""#)),
    pure("strlen", 1..=1, strlen, "How many characters the text has.", ("strlen('äbc')", "3")),
    pure("substr", 2..=3, substr, "The characters from a place (from 0) on, all or so many.", ("substr('abcdef', 2, 3)", r#""cde""#)),
    pure(
        "concat",
        1..=usize::MAX,
        concat,
        "All arguments, or all elements of an array, as one text.",
        ("concat('a', 1, true)", r#""a1true""#),
    ),
    pure(
        "pad",
        2..=4,
        pad,
        "The text filled to a length: at its 'trailing', 'leading' or 'both' ends, with blanks or a given text for each place.",
        ("pad('7', 3, 'leading', '0')", r#""007""#),
    ),
    pure("ascii", 1..=1, ascii, "The first byte of the text.", ("ascii('a')", "97")),
    pure(
        "find",
        2..=3,
        find,
        "The text from the first ('leading') or last ('trailing') occurrence of another on; empty where there is none.",
        ("find('a.b.c', '.', 'trailing')", r#"".c""#),
    ),
    pure("rm_prefix", 2..=2, rm_prefix, "The text without a beginning, where it has it.", ("rm_prefix('dev-7', 'dev-')", r#""7""#)),
    pure(
        "unescape",
        1..=1,
        unescape,
        r#"The text with the escapes \n, \r, \t, \v, \b, \f, \a, \\, \', \", \? and \x with hexadecimal digits resolved."#,
        (r"unescape('a\tb')", r#""a\tb""#),
    ),
    pure(
        "join_to_string",
        1..=2,
        join_to_string,
        "The elements of an array as one text, with a separator (', ').",
        ("join_to_string('-', [1, 2])", r#""1-2""#),
    ),
    pure(
        "join_to_sql_values_string",
        1..=1,
        join_to_sql_values_string,
        "The elements of an array as SQL literals, with commas between.",
        ("join_to_sql_values_string(['a', 1])", r#""'a', 1""#),
    ),
];

enum Ends {
    Both,
    First,
    Last,
}

fn lower(args: &[Value]) -> Result<Value, EvalError> {
    bounded(text(&args[0])?.to_lowercase())
}

fn upper(args: &[Value]) -> Result<Value, EvalError> {
    bounded(text(&args[0])?.to_uppercase())
}

fn trim(args: &[Value]) -> Result<Value, EvalError> {
    cut(args, Ends::Both)
}

fn ltrim(args: &[Value]) -> Result<Value, EvalError> {
    cut(args, Ends::First)
}

fn rtrim(args: &[Value]) -> Result<Value, EvalError> {
    cut(args, Ends::Last)
}

fn cut(args: &[Value], ends: Ends) -> Result<Value, EvalError> {
    let whole = text(&args[0])?;
    let given = args.get(1).map(text).transpose()?;
    let goes = |c: char| given.map_or_else(|| c.is_whitespace(), |given| given.contains(c));
    Ok(Value::text(match ends {
        Ends::Both => whole.trim_matches(goes),
        Ends::First => whole.trim_start_matches(goes),
        Ends::Last => whole.trim_end_matches(goes),
    }))
}

fn reverse(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::text(&text(&args[0])?.graphemes(true).rev().collect::<String>()))
}

fn strlen(args: &[Value]) -> Result<Value, EvalError> {
    Ok(Value::Int(text(&args[0])?.graphemes(true).count() as i64))
}

fn substr(args: &[Value]) -> Result<Value, EvalError> {
    let start = count(&args[1])?;
    let length = args.get(2).map_or(Ok(usize::MAX), count)?;
    Ok(Value::text(&text(&args[0])?.graphemes(true).skip(start).take(length).collect::<String>()))
}

fn concat(args: &[Value]) -> Result<Value, EvalError> {
    joined("", listed(args).iter().map(text_of))
}

fn pad(args: &[Value]) -> Result<Value, EvalError> {
    #[derive(Clone, Copy)]
    enum Side {
        Leading,
        Trailing,
        Both,
    }
    const SIDES: &[(&str, Side)] = &[("trailing", Side::Trailing), ("leading", Side::Leading), ("both", Side::Both)];
    let whole = text(&args[0])?;
    let length = count(&args[1])?;
    let side = args.get(2).map_or(Ok(Side::Trailing), |side| choice(side, SIDES))?;
    let filling = args.get(3).map_or(Ok(" "), text)?;
    let missing = length.saturating_sub(whole.graphemes(true).count());
    within(missing.saturating_mul(filling.len()).saturating_add(whole.len()))?;
    let before = match side {
        Side::Leading => missing,
        Side::Trailing => 0,
        Side::Both => missing / 2,
    };
    // Without a filling nothing can be filled, however much is missing.
    let (before, after) = if filling.is_empty() { (0, 0) } else { (before, missing - before) };
    bounded(format!("{}{whole}{}", filling.repeat(before), filling.repeat(after)))
}

fn ascii(args: &[Value]) -> Result<Value, EvalError> {
    let first = bytes(&args[0])?.first().ok_or_else(|| EvalError::new("the text is empty"))?;
    Ok(Value::Int((*first).into()))
}

fn find(args: &[Value]) -> Result<Value, EvalError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Which {
        First,
        Last,
    }
    const WHICH: &[(&str, Which)] = &[("leading", Which::First), ("trailing", Which::Last)];
    let (whole, part) = (text(&args[0])?, text(&args[1])?);
    let which = args.get(2).map_or(Ok(Which::First), |which| choice(which, WHICH))?;
    let place = match which {
        _ if part.is_empty() => Some(0),
        Which::First => whole.find(part),
        Which::Last => whole.rfind(part),
    };
    Ok(Value::text(place.map_or("", |place| &whole[place..])))
}

fn rm_prefix(args: &[Value]) -> Result<Value, EvalError> {
    let whole = text(&args[0])?;
    Ok(Value::text(whole.strip_prefix(text(&args[1])?).unwrap_or(whole)))
}

fn unescape(args: &[Value]) -> Result<Value, EvalError> {
    let mut rest = text(&args[0])?;
    let mut out = String::with_capacity(rest.len());
    while let Some(place) = rest.find('\\') {
        out.push_str(&rest[..place]);
        rest = &rest[place + 1..];
        let escape = rest.chars().next().ok_or_else(|| EvalError::new("the text ends in a backslash"))?;
        rest = &rest[escape.len_utf8()..];
        out.push(match escape {
            'n' => '\n',
            'r' => '\r',
            't' => '\t',
            'v' => '\u{b}',
            'b' => '\u{8}',
            'f' => '\u{c}',
            'a' => '\u{7}',
            '\\' | '\'' | '"' | '?' => escape,
            'x' => {
                let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_hexdigit()).len();
                let code = u32::from_str_radix(&rest[..digits], 16).ok().and_then(char::from_u32);
                rest = &rest[digits..];
                code.ok_or_else(|| EvalError::new("\\x is not followed by the digits of a character"))?
            }
            other => return Err(EvalError::new(format!("unknown escape \\{other}"))),
        });
    }
    out.push_str(rest);
    bounded(out)
}

fn join_to_string(args: &[Value]) -> Result<Value, EvalError> {
    let (separator, items) = match args {
        [separator, items] => (text(separator)?, items),
        _ => (", ", &args[0]),
    };
    joined(separator, array(items)?.iter().map(text_of))
}

fn join_to_sql_values_string(args: &[Value]) -> Result<Value, EvalError> {
    joined(", ", array(&args[0])?.iter().map(sql_literal))
}

fn sql_literal(value: &Value) -> String {
    match value {
        Value::Undefined | Value::Null => "NULL".to_owned(),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => text_of(value),
        _ => format!("'{}'", text_of(value).replace('\'', "''")),
    }
}

/// Texts with a separator between them.
fn joined(separator: &str, parts: impl Iterator<Item = String>) -> Result<Value, EvalError> {
    let mut out = String::new();
    for (index, part) in parts.enumerate() {
        if index > 0 {
            out.push_str(separator);
        }
        out.push_str(&part);
        within(out.len())?;
    }
    Ok(Value::Text(out.into_boxed_str()))
}
