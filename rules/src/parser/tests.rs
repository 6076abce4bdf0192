//! Statements that are read, and errors with their places.

use super::*;

#[test]
fn errors_point_at_the_column() {
    let cases = [
        ("SELEC * FROM \"t\"", 1, "expected SELECT"),
        ("SELECT * FROM t", 15, "topic filter in quotes"),
        ("SELECT uper(clientid) FROM \"t\"", 8, "did you mean \"upper\"?"),
        ("SELECT a + FROM \"t\"", 12, "expected a value"),
        ("SELECT upper() FROM \"t\"", 8, "takes 1 arguments, not 0"),
        ("SELECT a FROM \"t\" WHERE a = 'x", 29, "without its end"),
        ("SELECT a FROM \"t\" WHERE (a = 1", 31, "expected \")\""),
        ("SELECT ä, ? FROM \"t\"", 11, "unexpected character"),
        ("SELECT a FROM \"t\" b", 19, "expected the end"),
        ("SELECT 99999999999999999999 FROM \"t\"", 8, "too large"),
        ("SELECT 9223372036854775808 FROM \"t\"", 8, "too large"),
        ("SELECT * FROM", 14, "topic filter in quotes"),
        ("SELECT 1.5f AS x FROM \"t\"", 8, "no number"),
        ("SELECT a /* b FROM \"t\"", 10, "without its */"),
        ("SELECT payload.a[1.5] FROM \"t\"", 18, "an index is an integer"),
        ("SELECT payload.a['1'] FROM \"t\"", 18, "an index is an integer"),
        ("SELECT payload.a[] FROM \"t\"", 18, "expected a value"),
        ("SELECT a AS b[1..2] FROM \"t\"", 14, "cannot have a range"),
        ("SELECT mymod.func('a') FROM \"t\"", 8, "one plain name"),
        ("SELECT a FROM \"t\" WHERE a NOT 1", 31, "expected IN"),
        ("SELECT a FROM \"t\" WHERE a IN ()", 31, "is empty"),
        ("SELECT CASE ELSE 1 END FROM \"t\"", 13, "expected a value"),
        ("SELECT if FROM \"t\"", 8, "expected a value"),
        ("FOREACH * FROM \"t\"", 11, "needs a list"),
        ("FOREACH payload.a AS s.x FROM \"t\"", 9, "one plain name"),
        ("FOREACH payload.a INCASE item > 1 DO item FROM \"t\"", 35, "expected FROM"),
        ("SELECT a FROM \"t\" GROUP BY a", 29, "a window"),
        ("SELECT a FROM \"t\" GROUP BY a, TUMBLING(10)", 40, "a duration"),
        ("SELECT count() FROM \"t\"", 8, "needs a window"),
        ("SELECT a FROM \"t\" WHERE count() > 1", 25, "cannot stand in WHERE"),
        ("SELECT sum(count()) FROM \"t\" GROUP BY TUMBLING(1s)", 12, "another aggregate"),
        ("SELECT count() FROM \"t\" GROUP BY HOPPING(5s, 10s)", 34, "the second duration"),
        ("SELECT percentile(a, 95) FROM \"t\" GROUP BY TUMBLING(1s)", 8, "between 0 and 1"),
        ("FOREACH payload.a FROM \"t\" GROUP BY TUMBLING(1s)", 1, "do not go together"),
    ];
    for (sql, column, problem) in cases {
        let error = parse(sql).expect_err(sql);
        assert!(error.problem.contains(problem), "{sql}: {error}");
        assert_eq!(error.column, column, "{sql}: {error}");
    }
}

#[test]
fn deep_and_long_statements_are_errors_and_no_overflow() {
    let nested = |open: &str, close: &str| format!("SELECT {}1{} FROM \"t\"", open.repeat(5_000), close.repeat(5_000));
    for sql in [nested("(", ")"), nested("[", "]"), nested("upper(", ")"), nested("a[", "]"), nested("case when ", " then 1 end")] {
        assert!(parse(&sql).is_err(), "{}", &sql[..20]);
    }
    assert!(parse(&format!("SELECT {} FROM \"t\"", "a".repeat(100_000))).is_err());
    assert!(parse(&format!("SELECT a{} FROM \"t\"", ".a".repeat(1_000))).is_err());
}

#[test]
fn long_chains_are_flat() {
    for chain in ["1 + ", "1 * ", "- ", "NOT ", "a = 1 AND ", "a = 1 OR "] {
        let sql = format!("SELECT {}1 AS x FROM \"t\"", chain.repeat(5_000));
        assert!(parse(&sql).is_ok(), "{chain}");
    }
}

#[test]
fn the_same_in_other_words_is_the_same() {
    let cases = [
        ("select a from 't'", "SELECT a FROM \"t\""),
        ("SELECT a AS b FROM \"t\"", "SELECT a /* x */ b FROM \"t\" -- end"),
        ("SELECT a FROM \"t\" WHERE NOT NOT NOT b", "SELECT a FROM \"t\" WHERE NOT b"),
        ("SELECT a[1..2] AS x FROM \"t\"", "SELECT a[ 1 .. 2 ] AS x FROM \"t\""),
        ("SELECT a.'b'.1 AS x FROM \"t\"", "SELECT a.b.'1' AS x FROM \"t\""),
        ("SELECT -1 AS x FROM \"t\"", "SELECT - - -1 AS x FROM \"t\""),
    ];
    for (one, other) in cases {
        let strip = |sql: &str| {
            let mut query = parse(sql).unwrap_or_else(|error| panic!("{sql}: {error}"));
            for field in &mut query.fields {
                if let Field::Expr { offset, .. } = field {
                    *offset = 0;
                }
            }
            query.from.iter_mut().for_each(|source| source.offset = 0);
            query
        };
        assert_eq!(strip(one), strip(other), "{one}");
    }
}
