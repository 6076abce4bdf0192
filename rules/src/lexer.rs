//! Text to tokens, each with its place.

use crate::error::SqlError;

/// A token and the byte it begins at.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    pub(crate) offset: usize,
}

/// What a token is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Kind {
    /// A name or keyword, as it was written; behind a dot it may begin with a digit.
    Word(String),
    /// `'…'`
    Single(String),
    /// `"…"`
    Double(String),
    /// Without a sign, so that the smallest integer can be written too.
    Int(u64),
    Float(f64),
    /// `10s`, in milliseconds.
    Duration(u64),
    /// An operator or a mark.
    Symbol(&'static str),
    End,
}

/// Operators and marks; longer ones before their beginnings.
const SYMBOLS: &[&str] = &["!=", "<>", "<=", ">=", "=~", "..", "=", "<", ">", "+", "-", "*", "/", "(", ")", "[", "]", ",", "."];

/// Units of a duration, in milliseconds.
const UNITS: &[(&str, u64)] = &[("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl std::fmt::Display for Kind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Kind::Word(word) => write!(f, "\"{word}\""),
            Kind::Single(text) => write!(f, "'{text}'"),
            Kind::Double(text) => write!(f, "\"{text}\""),
            Kind::Int(int) => write!(f, "{int}"),
            Kind::Float(float) => write!(f, "{float}"),
            Kind::Duration(millis) => write!(f, "a duration of {millis}ms"),
            Kind::Symbol(symbol) => write!(f, "\"{symbol}\""),
            Kind::End => f.write_str("the end of the statement"),
        }
    }
}

/// All tokens of a statement; the last one is [`Kind::End`].
pub(crate) fn tokens(sql: &str) -> Result<Vec<Token>, SqlError> {
    let mut tokens: Vec<Token> = Vec::new();
    let mut at = 0;
    while let Some(first) = sql[at..].chars().next() {
        let rest = &sql[at..];
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        if rest.starts_with("--") {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if let Some(comment) = rest.strip_prefix("/*") {
            let end = comment.find("*/").ok_or_else(|| SqlError::at(sql, at, "/* without its */"))?;
            at += end + 4;
            continue;
        }
        let is_behind_dot = tokens.last().is_some_and(|token| token.kind == Kind::Symbol("."));
        let (kind, length) = match first {
            '\'' | '"' => quoted(sql, at, first)?,
            '0'..='9' if !is_behind_dot => number(sql, at)?,
            c if is_word(c) => {
                let length = word_len(rest);
                (Kind::Word(rest[..length].to_owned()), length)
            }
            _ => {
                let symbol = SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol));
                let symbol = symbol.ok_or_else(|| SqlError::at(sql, at, format!("unexpected character \"{first}\"")))?;
                (Kind::Symbol(symbol), symbol.len())
            }
        };
        tokens.push(Token { kind, offset: at });
        at += length;
    }
    tokens.push(Token { kind: Kind::End, offset: sql.len() });
    Ok(tokens)
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_' || c == '$'
}

/// How many bytes at the beginning belong to a word.
fn word_len(text: &str) -> usize {
    text.find(|c: char| !is_word(c)).unwrap_or(text.len())
}

/// A quoted text. There are no escapes: a backslash is a backslash, and a quote that is written twice stays in the text twice.
fn quoted(sql: &str, at: usize, quote: char) -> Result<(Kind, usize), SqlError> {
    let text = &sql[at + 1..];
    let mut from = 0;
    while let Some(end) = text[from..].find(quote).map(|found| from + found) {
        if text[end + 1..].starts_with(quote) {
            from = end + 2;
            continue;
        }
        let content = text[..end].to_owned();
        let kind = if quote == '\'' { Kind::Single(content) } else { Kind::Double(content) };
        return Ok((kind, end + 2));
    }
    Err(SqlError::at(sql, at, format!("{quote} without its end")))
}

fn number(sql: &str, at: usize) -> Result<(Kind, usize), SqlError> {
    let rest = &sql.as_bytes()[at..];
    let digits = |from: usize| rest.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut length = digits(0);
    let mut is_float = false;
    // "1..9" is a range, not a fraction.
    if rest.get(length) == Some(&b'.') && digits(length + 1) > 0 {
        is_float = true;
        length += 1 + digits(length + 1);
    }
    if matches!(rest.get(length), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(rest.get(length + 1), Some(b'+' | b'-')));
        let exponent = digits(length + 1 + sign);
        if exponent > 0 {
            is_float = true;
            length += 1 + sign + exponent;
        }
    }
    let text = &sql[at..at + length];
    let unit = &sql[at + length..][..word_len(&sql[at + length..])];
    if !unit.is_empty() {
        let millis = if is_float { None } else { duration(text, unit) };
        let problem = format!("\"{text}{unit}\" is no number; a name that begins with a digit stands in quotes");
        return millis.map(|millis| (Kind::Duration(millis), length + unit.len())).ok_or_else(|| SqlError::at(sql, at, problem));
    }
    let kind = match is_float {
        true => text.parse().ok().filter(|float: &f64| float.is_finite()).map(Kind::Float),
        false => text.parse().ok().map(Kind::Int),
    };
    kind.map(|kind| (kind, length)).ok_or_else(|| SqlError::at(sql, at, format!("the number {text} is too large")))
}

fn duration(count: &str, unit: &str) -> Option<u64> {
    let (_, millis) = UNITS.iter().find(|(name, _)| *name == unit)?;
    count.parse::<u64>().ok()?.checked_mul(*millis)
}
