//! Bytes and values as texts, and back.

use base64::Engine as _;
use base64::engine::general_purpose::{GeneralPurpose, STANDARD, STANDARD_NO_PAD_INDIFFERENT, URL_SAFE, URL_SAFE_NO_PAD_INDIFFERENT};
use hookline_schemas::Value;

use super::argument::{bounded, bytes, choice, text, text_of, within};
use super::{Function, pure};
use crate::context::parse_json;
use crate::error::EvalError;

pub(super) const TABLE: &[Function] = &[
    pure(
        "base64_encode",
        1..=3,
        base64_encode,
        "The bytes in base64; 'urlsafe' takes the alphabet for URLs, 'no_padding' leaves out the padding.",
        ("base64_encode('ab', 'no_padding')", r#""YWI""#),
    ),
    pure(
        "base64_decode",
        1..=3,
        base64_decode,
        "The bytes that base64 stands for; options as in base64_encode.",
        ("base64_decode('YWI=')", r#""ab""#),
    ),
    pure("json_encode", 1..=1, json_encode, "The value as a JSON document.", ("json_encode([1, 'a'])", r#""[1,\"a\"]""#)),
    pure("json_decode", 1..=1, json_decode, "The value of a JSON document.", ("json_decode('[1]')", "[1]")),
    pure(
        "bin2hexstr",
        1..=2,
        bin2hexstr,
        "The bytes in hexadecimal, upper case, behind a prefix if one is given.",
        ("bin2hexstr('ab', '0x')", r#""0x6162""#),
    ),
    pure(
        "hexstr2bin",
        1..=2,
        hexstr2bin,
        "The bytes that hexadecimal digits stand for; a prefix that is given must be there.",
        ("hexstr2bin('0x6162', '0x')", r#""ab""#),
    ),
    pure("sqlserver_bin2hexstr", 1..=1, sqlserver_bin2hexstr, "As bin2hexstr with '0x'.", ("sqlserver_bin2hexstr('ab')", r#""0x6162""#)),
    pure("int2hexstr", 1..=1, int2hexstr, "The integer in hexadecimal, upper case.", ("int2hexstr(255)", r#""FF""#)),
    pure(
        "str_utf16_le",
        1..=1,
        str_utf16_le,
        "The value as text in UTF-16, low bytes first.",
        ("bin2hexstr(str_utf16_le('hi'))", r#""68006900""#),
    ),
];

/// The base64 that the options behind the first argument select.
fn base64(args: &[Value]) -> Result<&'static GeneralPurpose, EvalError> {
    #[derive(Clone, Copy, PartialEq)]
    enum Flag {
        UrlSafe,
        NoPadding,
    }
    const OPTIONS: &[(&str, Flag)] = &[("urlsafe", Flag::UrlSafe), ("no_padding", Flag::NoPadding)];
    let options = args[1..].iter().map(|option| choice(option, OPTIONS)).collect::<Result<Vec<_>, _>>()?;
    Ok(match (options.contains(&Flag::UrlSafe), options.contains(&Flag::NoPadding)) {
        (false, false) => &STANDARD,
        (false, true) => &STANDARD_NO_PAD_INDIFFERENT,
        (true, false) => &URL_SAFE,
        (true, true) => &URL_SAFE_NO_PAD_INDIFFERENT,
    })
}

fn base64_encode(args: &[Value]) -> Result<Value, EvalError> {
    let data = bytes(&args[0])?;
    bounded(base64(args)?.encode(data))
}

fn base64_decode(args: &[Value]) -> Result<Value, EvalError> {
    let decoded = base64(args)?.decode(bytes(&args[0])?);
    decoded.map(|data| Value::Bytes(data.into())).map_err(|error| EvalError::new(format!("the text is not base64: {error}")))
}

fn json_encode(args: &[Value]) -> Result<Value, EvalError> {
    bounded(args[0].to_json().to_string())
}

fn json_decode(args: &[Value]) -> Result<Value, EvalError> {
    bytes(&args[0])?;
    parse_json(&args[0]).ok_or_else(|| EvalError::new("the text is not JSON"))
}

fn bin2hexstr(args: &[Value]) -> Result<Value, EvalError> {
    let prefix = args.get(1).map_or(Ok(""), text)?;
    let data = bytes(&args[0])?;
    within(data.len().saturating_mul(2).saturating_add(prefix.len()))?;
    let mut out = String::with_capacity(prefix.len() + 2 * data.len());
    out.push_str(prefix);
    out.extend(data.iter().flat_map(|byte| [byte >> 4, byte & 15]).map(|nibble| char::from(b"0123456789ABCDEF"[usize::from(nibble)])));
    Ok(Value::Text(out.into_boxed_str()))
}

fn sqlserver_bin2hexstr(args: &[Value]) -> Result<Value, EvalError> {
    bin2hexstr(&[args[0].clone(), Value::text("0x")])
}

fn int2hexstr(args: &[Value]) -> Result<Value, EvalError> {
    let int = super::argument::int(&args[0])?;
    let sign = if int < 0 { "-" } else { "" };
    Ok(Value::text(&format!("{sign}{:X}", int.unsigned_abs())))
}

fn hexstr2bin(args: &[Value]) -> Result<Value, EvalError> {
    let prefix = args.get(1).map_or(Ok(""), text)?;
    let digits = text(&args[0])?.strip_prefix(prefix);
    let digits = digits.ok_or_else(|| EvalError::new(format!("the text does not begin with \"{prefix}\"")))?;
    if digits.len() % 2 != 0 {
        return Err(EvalError::new("the number of hexadecimal digits is odd"));
    }
    let nibble = |digit: u8| char::from(digit).to_digit(16);
    let pairs = digits.as_bytes().chunks_exact(2).map(|pair| Some((nibble(pair[0])? << 4 | nibble(pair[1])?) as u8));
    let data = pairs.collect::<Option<Vec<u8>>>().ok_or_else(|| EvalError::new("the text is not hexadecimal"))?;
    Ok(Value::Bytes(data.into()))
}

fn str_utf16_le(args: &[Value]) -> Result<Value, EvalError> {
    let text = text_of(&args[0]);
    within(text.len().saturating_mul(2))?;
    let data: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    Ok(Value::Bytes(data.into()))
}
