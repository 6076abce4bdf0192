//! The built-in functions: one table of name, arity, code, documentation and example. The examples are run as tests.

mod collection;
mod convert;
mod math;
mod string;
mod time;

use std::ops::RangeInclusive;

use hookline_schemas::Value;

use crate::error::EvalError;

/// A built-in function.
#[derive(Debug)]
pub struct Function {
    pub name: &'static str,
    /// How many arguments it takes.
    pub arity: RangeInclusive<usize>,
    /// Called with so many arguments as `arity` allows.
    pub(crate) call: fn(&[Value]) -> Result<Value, EvalError>,
    /// Its value depends on its arguments only.
    pub pure: bool,
    /// One line.
    pub doc: &'static str,
    /// An expression, and its value as JSON; empty where it varies.
    pub example: (&'static str, &'static str),
}

impl PartialEq for Function {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

const fn function(
    name: &'static str,
    arity: RangeInclusive<usize>,
    call: fn(&[Value]) -> Result<Value, EvalError>,
    doc: &'static str,
    example: (&'static str, &'static str),
) -> Function {
    Function { name, arity, call, pure: true, doc, example }
}

const fn varying(
    name: &'static str,
    arity: RangeInclusive<usize>,
    call: fn(&[Value]) -> Result<Value, EvalError>,
    doc: &'static str,
) -> Function {
    Function { name, arity, call, pure: false, doc, example: ("", "") }
}

/// All functions.
pub const TABLE: &[Function] = &[
    function("lower", 1..=1, string::lower, "The text in lower case.", ("lower('Ab')", "\"ab\"")),
    function("upper", 1..=1, string::upper, "The text in upper case.", ("upper('Ab')", "\"AB\"")),
    function("trim", 1..=1, string::trim, "The text without white space at both ends.", ("trim(' a ')", "\"a\"")),
    function("ltrim", 1..=1, string::ltrim, "The text without white space at its beginning.", ("ltrim(' a ')", "\"a \"")),
    function("rtrim", 1..=1, string::rtrim, "The text without white space at its end.", ("rtrim(' a ')", "\" a\"")),
    function("reverse", 1..=1, string::reverse, "The characters in reverse.", ("reverse('abc')", "\"cba\"")),
    function("strlen", 1..=1, string::strlen, "How many characters the text has.", ("strlen('äbc')", "3")),
    function(
        "substr",
        2..=3,
        string::substr,
        "The characters from a place (from 0) on, all or so many.",
        ("substr('abcdef', 2, 3)", "\"cde\""),
    ),
    function(
        "split",
        2..=2,
        string::split,
        "The parts between separators, empty ones left out.",
        ("split('a/b//c', '/')", "[\"a\",\"b\",\"c\"]"),
    ),
    function("concat", 1..=usize::MAX, string::concat, "Everything as one text.", ("concat('a', 1)", "\"a1\"")),
    function("replace", 3..=3, string::replace, "The text with every occurrence replaced.", ("replace('a-b-c', '-', '.')", "\"a.b.c\"")),
    function(
        "rm_prefix",
        2..=2,
        string::rm_prefix,
        "The text without a beginning, where it has it.",
        ("rm_prefix('dev-7', 'dev-')", "\"7\""),
    ),
    function(
        "join_to_string",
        1..=2,
        string::join_to_string,
        "The elements of a list as one text, with a separator (', ').",
        ("join_to_string('-', [1, 2])", "\"1-2\""),
    ),
    function("abs", 1..=1, math::abs, "The magnitude.", ("abs(-3)", "3")),
    function("ceil", 1..=1, math::ceil, "The next integer above.", ("ceil(1.2)", "2")),
    function("floor", 1..=1, math::floor, "The next integer below.", ("floor(-1.2)", "-2")),
    function("round", 1..=1, math::round, "The nearest integer, halves away from zero.", ("round(2.5)", "3")),
    function("sqrt", 1..=1, math::sqrt, "The square root.", ("sqrt(9)", "3.0")),
    function("exp", 1..=1, math::exp, "e to the power of x.", ("exp(0)", "1.0")),
    function("log", 1..=1, math::log, "The natural logarithm.", ("log(1)", "0.0")),
    function("log10", 1..=1, math::log10, "The logarithm to base 10.", ("log10(1000)", "3.0")),
    function("log2", 1..=1, math::log2, "The logarithm to base 2.", ("log2(8)", "3.0")),
    function("power", 2..=2, math::power, "x to the power of y.", ("power(2, 3)", "8.0")),
    function("mod", 2..=2, math::modulo, "The remainder of two integers.", ("mod(7, 3)", "1")),
    function("is_null", 1..=1, convert::is_null, "Whether there is no such value.", ("is_null(payload.nope)", "true")),
    function("is_not_null", 1..=1, convert::is_not_null, "Whether there is such a value.", ("is_not_null('a')", "true")),
    function("is_str", 1..=1, convert::is_str, "Whether it is a text.", ("is_str('a')", "true")),
    function("is_bool", 1..=1, convert::is_bool, "Whether it is true or false.", ("is_bool(1)", "false")),
    function("is_int", 1..=1, convert::is_int, "Whether it is an integer.", ("is_int(1.0)", "false")),
    function("is_float", 1..=1, convert::is_float, "Whether it is a float.", ("is_float(1.0)", "true")),
    function("is_num", 1..=1, convert::is_num, "Whether it is a number.", ("is_num(1)", "true")),
    function("is_map", 1..=1, convert::is_map, "Whether it is a map.", ("is_map(json_decode('{}'))", "true")),
    function("is_array", 1..=1, convert::is_array, "Whether it is an array.", ("is_array([1])", "true")),
    function("str", 1..=1, convert::str, "The value as text; maps and arrays as JSON.", ("str(1.50)", "\"1.5\"")),
    function("int", 1..=1, convert::int, "The value as an integer; floats are rounded down.", ("int('-3.14')", "-4")),
    function("float", 1..=1, convert::float, "The value as a float.", ("float('2')", "2.0")),
    function("bool", 1..=1, convert::bool, "true, false, 1, 0 and their texts as a boolean.", ("bool('true')", "true")),
    function("json_encode", 1..=1, convert::json_encode, "The value as a JSON document.", ("json_encode([1, 'a'])", "\"[1,\\\"a\\\"]\"")),
    function("json_decode", 1..=1, convert::json_decode, "The value of a JSON document.", ("json_decode('[1]')", "[1]")),
    function("coalesce", 1..=usize::MAX, convert::coalesce, "The first value that is there.", ("coalesce(payload.nope, 2)", "2")),
    function("nth", 2..=2, collection::nth, "The n-th element, from 1.", ("nth(2, ['a', 'b'])", "\"b\"")),
    function("length", 1..=1, collection::length, "How many elements an array has.", ("length([1, 2])", "2")),
    function("first", 1..=1, collection::first, "The first element.", ("first([1, 2])", "1")),
    function("last", 1..=1, collection::last, "The last element.", ("last([1, 2])", "2")),
    function("contains", 2..=2, collection::contains, "Whether an array has an element.", ("contains(2, [1, 2])", "true")),
    function(
        "sublist",
        2..=3,
        collection::sublist,
        "The first so many elements, or so many from a place (from 1) on.",
        ("sublist(2, 2, [1, 2, 3, 4])", "[2,3]"),
    ),
    function("mget", 2..=3, collection::mget, "The value of a key, or a default.", ("mget('a', json_decode('{\"a\": 1}'))", "1")),
    function(
        "map_get",
        2..=3,
        collection::map_get,
        "The value at a dotted path, or a default.",
        ("map_get('a.b', json_decode('{\"a\": {\"b\": 1}}'))", "1"),
    ),
    function("map_keys", 1..=1, collection::map_keys, "The keys of a map.", ("map_keys(json_decode('{\"a\": 1}'))", "[\"a\"]")),
    function("map_values", 1..=1, collection::map_values, "The values of a map.", ("map_values(json_decode('{\"a\": 1}'))", "[1]")),
    function("map_size", 1..=1, collection::map_size, "How many keys a map has.", ("map_size(json_decode('{\"a\": 1}'))", "1")),
    varying(
        "now_timestamp",
        0..=1,
        time::now_timestamp,
        "The time since 1970 in seconds, or in 'millisecond', 'microsecond' or 'nanosecond'.",
    ),
    varying("now_rfc3339", 0..=1, time::now_rfc3339, "The time as RFC 3339, to the second or to a smaller unit."),
    function(
        "unix_ts_to_rfc3339",
        1..=2,
        time::unix_ts_to_rfc3339,
        "A time since 1970 as RFC 3339 in UTC.",
        ("unix_ts_to_rfc3339(1700000000)", "\"2023-11-14T22:13:20Z\""),
    ),
    function(
        "rfc3339_to_unix_ts",
        1..=2,
        time::rfc3339_to_unix_ts,
        "The time since 1970 of an RFC 3339 text.",
        ("rfc3339_to_unix_ts('2023-11-14T22:13:20Z')", "1700000000"),
    ),
];

/// The function of that name, in lower case.
pub(crate) fn find(name: &str) -> Option<&'static Function> {
    TABLE.iter().find(|function| function.name == name)
}

/// The text of an argument.
fn text(value: &Value) -> Result<&str, EvalError> {
    value.as_text().ok_or_else(|| wrong("a string", value))
}

/// The integer of an argument.
fn int(value: &Value) -> Result<i64, EvalError> {
    match value {
        Value::Int(int) => Ok(*int),
        other => Err(wrong("an integer", other)),
    }
}

/// The array of an argument.
fn array(value: &Value) -> Result<&[Value], EvalError> {
    match value {
        Value::Array(items) => Ok(items),
        other => Err(wrong("an array", other)),
    }
}

fn wrong(expected: &str, found: &Value) -> EvalError {
    EvalError::new(format!("expected {expected}, found {}", found.type_name()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Statement;

    #[test]
    fn every_example_gives_what_it_says() {
        for function in TABLE.iter().filter(|function| function.pure) {
            let (expr, expect) = function.example;
            let sql = format!("SELECT {expr} AS x FROM \"#\"");
            let row = Statement::compile(&sql).expect(expr).try_on(&Value::Map(hookline_schemas::Map::new())).expect(expr);
            let expect: serde_json::Value = serde_json::from_str(expect).expect(expect);
            assert_eq!(row.map(|row| row.path(["x"]).to_json()), Some(expect), "{expr}");
        }
    }

    #[test]
    fn names_are_unique_and_every_function_is_documented() {
        for (index, function) in TABLE.iter().enumerate() {
            assert!(!TABLE[..index].contains(function), "{} is there twice", function.name);
            assert!(function.doc.ends_with('.'), "{}", function.name);
        }
    }
}
