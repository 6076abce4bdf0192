//! Every function's example is run, and the cases that one example does not show.

use serde_json::{Value as Json, json};

use super::*;
use crate::Statement;

fn sample() -> Value {
    Value::from_json(json!({
        "event": "message.publish", "id": "000617F6E2B0C1A2F4430000B29E0001", "clientid": "c1", "username": "u1", "topic": "a/b/c",
        "qos": 1, "flags": { "dup": false, "retain": true }, "peerhost": "10.0.0.7", "payload": "{\"a\": {\"b\": 7}, \"l\": [1, 2, 3]}",
    }))
}

fn run(expression: &str) -> Result<Json, String> {
    let sql = format!("SELECT {expression} AS x FROM \"#\"");
    let statement = Statement::compile(&sql).map_err(|error| error.to_string())?;
    let rows = statement.try_on(&sample()).map_err(|error| error.to_string())?;
    Ok(rows.as_slice().first().map_or(Json::Null, |row| row.path(["x"]).to_json()))
}

/// Expression and value as JSON, one case a line, with ` => ` between.
fn check(cases: &str) {
    for case in cases.lines().map(str::trim).filter(|case| !case.is_empty()) {
        let (expression, expect) = case.split_once(" => ").expect(case);
        assert_eq!(run(expression), Ok(serde_json::from_str(expect).expect(case)), "{case}");
    }
}

fn check_fails(expressions: &str) {
    for expression in expressions.lines().map(str::trim).filter(|expression| !expression.is_empty()) {
        assert!(run(expression).is_err(), "{expression} gives {:?}", run(expression));
    }
}

#[test]
fn every_example_gives_what_it_says() {
    crate::schema::function::install_examples();
    for Function { name, example: (expression, expect), .. } in all() {
        assert!(expression.contains(name), "the example of {name} does not call it");
        assert_eq!(run(expression), Ok(serde_json::from_str(expect).expect(name)), "{expression}");
    }
}

#[test]
fn names_are_unique_and_every_function_is_documented() {
    let mut names: Vec<&str> = all().map(|function| function.name).collect();
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]), "{names:?}");
    for function in all() {
        assert!(function.doc.ends_with('.'), "{}", function.name);
        assert!(function.name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_'), "{}", function.name);
        assert!(reference().contains(&format!("| `{}` |", function.name)));
    }
}

#[test]
fn texts() {
    check(
        r#"
        upper('straße') => "STRASSE"
        reverse('東京') => "京東"
        strlen('東京') => 2
        substr('hello', 10) => ""
        substr('hello', 1, 0) => ""
        concat('a', true, null()) => "atrueundefined"
        find('abc', '') => "abc"
        find('abc', 'x') => ""
        find('a.b.c', '.', 'trailing') => ".c"
        pad('ab', 5, 'both', '-') => "-ab--"
        pad('東', 3) => "東  "
        pad('ab', 6, 'leading', 'xy') => "xyxyxyxyab"
        pad('abc', 2) => "abc"
        split('/a/b/', '/') => ["a","b"]
        split('/a/b/', '/', 'notrim') => ["","a","b",""]
        split('a/b/c', '/', 'leading') => ["a","b/c"]
        split('a/b/', '/', 'trailing_notrim') => ["a/b",""]
        tokens(',,a,,b,,', ',') => ["a","b"]
        join_to_string(',', []) => ""
        replace('aaa', 'aa', 'b') => "ba"
        replace('abc', '', 'x') => "abc"
        replace('a-b-c', '-', '+', 'leading') => "a+b-c"
        replace('a-b-c', '-', '+', 'trailing') => "a-b+c"
        regex_match('abc', '(?<=a)b') => true
        regex_match('abc', '^b') => false
        regex_replace('a1b22', '([0-9]+)', '<\1>') => "a<1>b<22>"
        regex_replace('a1b22', '[0-9]+', '[&]') => "a[1]b[22]"
        regex_extract('abc', '([0-9])') => []
        trim('xxaxx', 'x') => "a"
        rtrim('4200', '0') => "42"
        unescape('a\tb\x41') => "a\tbA"
        "#,
    );
    check_fails(
        r"
        lower(5)
        lower(null())
        substr('hello', -1)
        substr('hello', '1')
        ascii('')
        find('abc', 'b', 'middle')
        pad(5, 3)
        pad('a', 99999999999)
        replace('abc', 'b', 5)
        regex_match(5, '5')
        regex_replace('abc', '(', 'y')
        unescape('a\qb')
        ",
    );
}

#[test]
fn formats() {
    check(
        r#"
        sprintf('~p', 5) => "5"
        sprintf('~w', 'b') => "<<98>>"
        sprintf('~.16B', 255) => "FF"
        sprintf('~-5s|', 'ab') => "ab   |"
        sprintf('~5s|', 'ab') => "   ab|"
        sprintf('~5.10.0b', 42) => "00042"
        sprintf('~s', 'é') => "é"
        sprintf('~p', ['a', 1]) => "[<<\"a\">>,1]"
        sprintf('~p', null()) => "undefined"
        sprintf('~.2f~n', 3.14159) => "3.14\n"
        sprintf('100~~') => "100~"
        sprintf_s('~s-~b', ['a', 7]) => "a-7"
        "#,
    );
    check_fails(
        "
        sprintf('~s', 5)
        sprintf('%s', 'a')
        sprintf('~s')
        sprintf('~q', 1)
        sprintf('~99999999999s', 'a')
        sprintf_s('~s', 'a')
        ",
    );
}

#[test]
fn conversions() {
    check(
        r#"
        str(1.0) => "1.0"
        str(-0.0) => "-0.0"
        str(0.1234567890123456789) => "0.123456789"
        str(100000000000000000000.0) => "100000000000000000000.0"
        str_utf8([233]) => "é"
        int('+5') => 5
        int('-3.14') => -4
        int('3.1e2') => 310
        int(true) => 1
        float('3.14159', 3) => 3.142
        float2str(3.10, 5) => "3.1"
        float2str(3.7, 0) => "4"
        map([]) => {}
        bool(0) => false
        hexstr2bin('') => ""
        bin2hexstr(base64_decode('/wA=')) => "FF00"
        bin2hexstr(str_utf16_le('hi')) => "68006900"
        base64_decode('YWI', 'no_padding') => "ab"
        json_decode('{"a":1,"a":2}') => {"a":2}
        is_empty([]) => true
        is_null_var('') => false
        "#,
    );
    check_fails(
        "
        int(' 5')
        int('')
        int('99999999999999999999')
        int(1.0e20)
        float(true)
        float('nan')
        float2str(3, 2)
        bool('TRUE')
        bool(null())
        map('[1]')
        map([[1, 2]])
        map(5)
        bin2hexstr(5)
        hexstr2bin('xy')
        base64_decode('_wA=')
        json_decode('')
        json_decode(5)
        ",
    );
}

#[test]
fn numbers_and_bits() {
    check(
        r#"
        ceil(3) => 3
        round(-1.5) => -2
        fmod(-10, 3) => -1.0
        eq(1, 1.0) => true
        asinh(1) => 0.881373587019543
        bitsl(16, -2) => 4
        bitsr(-9, 1) => -5
        subbits('abc', 1, 4) => 6
        subbits('abc', 5, 4) => 1
        subbits('abc', 25, 8) => null
        subbits('abc', 20, 8) => 3
        subbits(hexstr2bin('FF01'), 1, 16, 'integer', 'unsigned', 'little') => 511
        subbits(hexstr2bin('FF01'), 1, 8, 'integer', 'signed', 'big') => -1
        subbits(hexstr2bin('41280000'), 1, 32, 'float', 'unsigned', 'big') => 10.5
        bin2hexstr(subbits(hexstr2bin('ABCDEF'), 5, 16, 'bits', 'unsigned', 'big')) => "BCDE"
        "#,
    );
    check_fails(
        "
        mod(7.5, 2)
        mod(7, 0)
        exp(1000)
        log(-1)
        asin(2)
        floor('1.5')
        bitsl(1, 70)
        bitand('1', 1)
        bitsize(5)
        subbits(5, 8)
        subbits('abc', '8')
        ",
    );
}

#[test]
fn collections() {
    check(
        r#"
        sublist(0, [1, 2]) => []
        sublist(9, [1, 2]) => [1,2]
        sublist(2, 9, [1, 2, 3]) => [2,3]
        contains(1.0, [1, 2]) => false
        contains(payload.nope, [1]) => false
        map_get('a', 5) => null
        map_get('c', payload.nope, 'def') => "def"
        map_get('a.b', payload) => 7
        map_get('', payload) => null
        map_put('a.b', 1, map_new()) => {"a":{"b":1}}
        mput('a.b', 1, map_new()) => {"a.b":1}
        mget('x', map_new(), 'def') => "def"
        jq('.a.b', payload) => [7]
        jq('.nope', payload) => [null]
        jq('.l[]', payload) => [1,2,3]
        jq('[range(3)], [range(3; 0; -1)]', '{}') => [[0,1,2],[3,2,1]]
        jq('.a.b += 1 | .a.b * 2.5', payload) => [20.0]
        jq('"\(.a.b)-" + "x" * 3', payload) => ["7-xxx"]
        jq('.l | map(. + 1) | add', payload) => [9]
        "#,
    );
    check_fails(
        r#"
        nth(4, [1])
        nth(0, [1])
        last([])
        sublist(-1, [1])
        sublist(0, 1, [1])
        mget('a', '{"a":1}')
        jq('syntax error (', '{}')
        jq('def f: 1 + f; f', '{}')
        jq('[repeat(1)]', '{}')
        jq('halt', '{}')
        jq('.s * .n', '{"s":"x","n":1000000000000}')
        jq('reduce range(60) as $i ("ab"; . + .)', '{}')
        jq('reduce range(60) as $i ("ab"; . += .)', '{}')
        jq('[range(1000000000)]', '{}')
        "#,
    );
}

#[test]
fn digests_and_compression() {
    check(
        r#"
        md5('') => "d41d8cd98f00b204e9800998ecf8427e"
        hash('sha3_256', 'abc') => "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532"
        hash('md4', 'abc') => "a448017aaf21d8525fc10ae87aa6729d"
        hash('shake128', '') => "7f9c2ba4e88f827d616045507605853e"
        gunzip(gzip('')) => ""
        strlen(unzip(zip('abc'))) => 3
        "#,
    );
    check_fails("gunzip('junk')\nunzip('')\nzip_uncompress('junk')\nmd5(5)\nhash('crc', 'a')");
}

#[test]
fn times() {
    check(
        r#"
        rfc3339_to_unix_ts('2023-11-15T06:13:20+08:00') => 1700000000
        rfc3339_to_unix_ts('2023-11-14 22:13:20Z') => 1700000000
        format_date('second', '-05:30', '%H:%M %z %:z %::z', 1700000000) => "16:43 -0530 -05:30 -05:30:00"
        format_date('second', 3600, '%H:%M:%S %z', 1700000000) => "23:13:20 +0100"
        format_date('millisecond', 'Z', '%S.%6N', 1700000000123) => "20.123000"
        format_date('second', 'Z', 'year %Y 100%% %q', 1700000000) => "year 2023 100%% %q"
        date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S%:z', '2023-11-15 06:13:20+08:00') => 1700000000
        date_to_unix_ts('nanosecond', '%Y-%m-%d %H:%M:%S.%N', '2023-11-14 22:13:20.123456789') => 1700000000123456789
        date_to_unix_ts('second', '%Y-%m-%d %H:%M:%S.%3N', '2023-11-14 22:13:20.999') => 1700000000
        date_to_unix_ts('second', '-02:00', '%Y-%m-%d', '1970-01-01') => 7200
        timezone_to_offset_seconds('-0230') => -9000
        "#,
    );
    check_fails(
        "
        unix_ts_to_rfc3339(1.5)
        rfc3339_to_unix_ts('2023-11-14')
        rfc3339_to_unix_ts('2023-02-29T00:00:00Z')
        format_date('second', 'Z', '%Y', '0')
        format_date('fortnight', 'Z', '%Y', 0)
        date_to_unix_ts('second', '%Y-%m-%d', 'junk')
        ",
    );
}

#[test]
fn errors_name_both_types() {
    assert_eq!(run("lower(5)"), Err("lower: expected a string, found an integer".into()));
}
