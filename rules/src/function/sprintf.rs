//! Formatted texts, with the directives `~s ~p ~w ~b ~B ~f ~e ~g ~c ~n ~~` that users of rule SQL know, as in `~8.2.0f`:
//! width (negative: to the left), precision, padding character.

use hookline_schemas::Value;

use super::argument::{BYTES_MAX, array, int, number, text, within};
use super::{Function, pure};
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure(
        "sprintf",
        1..=usize::MAX,
        sprintf,
        "A text with values at its directives: ~s a text, ~b an integer, ~.2f a float, ~p any value, ~n a line break, ~~ the sign itself.",
        ("sprintf('~s: ~.2f', 'temp', 21.456)", r#""temp: 21.46""#),
    ),
    pure("sprintf_s", 2..=2, sprintf_s, "As sprintf, with the values in an array.", ("sprintf_s('~s-~b', ['a', 7])", r#""a-7""#)),
];

/// A directive: `~ width . precision . padding letter`.
#[derive(Default)]
struct Directive {
    width: Option<usize>,
    to_the_left: bool,
    precision: Option<usize>,
    padding: Option<char>,
    letter: char,
}

fn sprintf(args: &[Value]) -> Result<Value, EvalError> {
    formatted(text(&args[0])?, &args[1..])
}

fn sprintf_s(args: &[Value]) -> Result<Value, EvalError> {
    formatted(text(&args[0])?, array(&args[1])?)
}

fn formatted(format: &str, values: &[Value]) -> Result<Value, EvalError> {
    let mut values = values.iter();
    let mut out = String::with_capacity(format.len());
    let mut rest = format;
    while let Some(place) = rest.find('~') {
        out.push_str(&rest[..place]);
        let (directive, after) = directive(&rest[place + 1..], &mut values)?;
        rest = after;
        let repeated = directive.width.unwrap_or(1);
        match directive.letter {
            '~' => out.push('~'),
            'n' => {
                within(repeated)?;
                out.push_str(&"\n".repeat(repeated));
            }
            // Passed over.
            'i' => {
                next(&mut values)?;
            }
            _ => out.push_str(&directive.render(next(&mut values)?)?),
        }
        within(out.len())?;
    }
    out.push_str(rest);
    match values.len() {
        0 => Ok(Value::Text(out.into_boxed_str())),
        more => Err(EvalError::new(format!("the format has no place for {more} of the values"))),
    }
}

fn next<'a>(values: &mut std::slice::Iter<'a, Value>) -> Result<&'a Value, EvalError> {
    values.next().ok_or_else(|| EvalError::new("the format has more places than there are values"))
}

/// Reads a directive behind its `~`, and gives what comes after it.
fn directive<'a>(format: &'a str, values: &mut std::slice::Iter<'_, Value>) -> Result<(Directive, &'a str), EvalError> {
    let mut directive = Directive::default();
    let mut rest = format;
    if let Some(after) = rest.strip_prefix('-') {
        directive.to_the_left = true;
        rest = after;
    }
    (directive.width, rest) = size(rest, values)?;
    if let Some(after) = rest.strip_prefix('.') {
        (directive.precision, rest) = size(after, values)?;
        if let Some(after) = rest.strip_prefix('.') {
            directive.padding = after.chars().next();
            rest = &after[directive.padding.map_or(0, char::len_utf8)..];
        }
    }
    // The modifiers for Unicode and for long numbers change nothing: texts are Unicode always.
    rest = rest.trim_start_matches(['t', 'l']);
    directive.letter = rest.chars().next().ok_or_else(|| EvalError::new("the format ends within a directive"))?;
    let rest = &rest[directive.letter.len_utf8()..];
    Ok((directive, rest))
}

/// A number in a directive; `*` takes it from the values.
fn size<'a>(format: &'a str, values: &mut std::slice::Iter<'_, Value>) -> Result<(Option<usize>, &'a str), EvalError> {
    if let Some(rest) = format.strip_prefix('*') {
        return Ok((Some(super::argument::count(next(values)?)?), rest));
    }
    let rest = format.trim_start_matches(|c: char| c.is_ascii_digit());
    let digits = &format[..format.len() - rest.len()];
    let size = digits.parse().ok().filter(|size| *size <= BYTES_MAX);
    if size.is_none() && !digits.is_empty() {
        return Err(EvalError::new(format!("the size {digits} in the format is too large")));
    }
    Ok((size, rest))
}

impl Directive {
    fn render(&self, value: &Value) -> Result<String, EvalError> {
        let body = match self.letter {
            's' => self.truncated(text(value)?),
            'p' => term(value, Strings::Readable),
            'w' => term(value, Strings::Numbers),
            'b' => self.integer(value)?,
            'B' => self.integer(value)?.to_uppercase(),
            'f' => fixed(number(value)?, self.digits()?),
            'e' => exponent(number(value)?, self.digits()?),
            'g' => general(number(value)?, self.digits()?),
            'c' => {
                let code = u32::try_from(int(value)?).ok().and_then(char::from_u32);
                let c = code.ok_or_else(|| EvalError::new("there is no such character"))?;
                let times = self.precision.or(self.width).unwrap_or(1);
                within(times.saturating_mul(c.len_utf8()))?;
                c.to_string().repeat(times)
            }
            other => return Err(EvalError::new(format!("unknown directive ~{other}; to write the sign itself, write ~~"))),
        };
        self.padded(body)
    }

    /// Filled to the width; what does not fit is cut for texts and is stars for numbers.
    fn padded(&self, body: String) -> Result<String, EvalError> {
        let Some(width) = self.width else { return Ok(body) };
        let padding = self.padding.unwrap_or(' ');
        let length = body.chars().count();
        if length > width {
            let is_number = matches!(self.letter, 'b' | 'B' | 'f' | 'e' | 'g');
            return Ok(if is_number { "*".repeat(width) } else { body.chars().take(width).collect() });
        }
        within((width - length).saturating_mul(padding.len_utf8()).saturating_add(body.len()))?;
        let filling = padding.to_string().repeat(width - length);
        Ok(if self.to_the_left { body + &filling } else { filling + &body })
    }

    fn truncated(&self, text: &str) -> String {
        text.chars().take(self.precision.unwrap_or(usize::MAX)).collect()
    }

    /// The precision of a float.
    fn digits(&self) -> Result<usize, EvalError> {
        let digits = self.precision.unwrap_or(6);
        if digits <= 253 { Ok(digits) } else { Err(EvalError::new("a float has at most 253 digits")) }
    }

    /// The integer in the base that the precision tells.
    fn integer(&self, value: &Value) -> Result<String, EvalError> {
        let base = self.precision.unwrap_or(10);
        let Some(base) = u32::try_from(base).ok().filter(|base| (2..=36).contains(base)) else {
            return Err(EvalError::new(format!("the base is between 2 and 36, not {base}")));
        };
        let int = int(value)?;
        let mut digits = Vec::new();
        let mut rest = int.unsigned_abs();
        loop {
            digits.extend(char::from_digit((rest % u64::from(base)) as u32, base));
            rest /= u64::from(base);
            if rest == 0 {
                break;
            }
        }
        if int < 0 {
            digits.push('-');
        }
        Ok(digits.into_iter().rev().collect())
    }
}

fn fixed(float: f64, decimals: usize) -> String {
    format!("{float:.decimals$}")
}

/// A float of so many digits with an exponent, such as `1.50000e+3`.
fn exponent(float: f64, digits: usize) -> String {
    let decimals = digits.saturating_sub(1).max(1);
    let plain = format!("{float:.decimals$e}");
    let Some((mantissa, power)) = plain.split_once('e') else { return plain };
    let sign = if power.starts_with('-') { "" } else { "+" };
    format!("{mantissa}e{sign}{power}")
}

/// A float of so many digits, with an exponent only where it is very large or very small.
fn general(float: f64, digits: usize) -> String {
    let whole_digits = match float.abs() {
        size if size < 0.1 && size != 0.0 => return exponent(float, digits),
        size if size < 1.0 => 0,
        size if size < 10.0 => 1,
        size if size < 100.0 => 2,
        size if size < 1000.0 => 3,
        size if size < 10_000.0 => 4,
        _ => return exponent(float, digits),
    };
    fixed(float, digits.saturating_sub(whole_digits).max(1))
}

/// How `~p` and `~w` write texts.
#[derive(Clone, Copy, PartialEq)]
enum Strings {
    Readable,
    Numbers,
}

/// A value in the notation of terms: `<<"a">>`, `[1,2]`, `#{<<"k">> => 1}`.
fn term(value: &Value, strings: Strings) -> String {
    let list = |parts: Vec<String>| parts.join(",");
    match value {
        Value::Array(items) => format!("[{}]", list(items.iter().map(|item| term(item, strings)).collect())),
        Value::Map(map) => {
            let entry = |(key, value): (&str, &Value)| format!("{} => {}", term(&Value::text(key), strings), term(value, strings));
            format!("#{{{}}}", list(map.iter().map(entry).collect()))
        }
        _ => match (value.as_text(), value.as_bytes()) {
            (Some(text), _) if strings == Strings::Readable => format!("<<{text:?}>>"),
            (_, Some(bytes)) => format!("<<{}>>", list(bytes.iter().map(ToString::to_string).collect())),
            _ => value.to_string(),
        },
    }
}
