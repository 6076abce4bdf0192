//! One file for each construct, function and edge: statement, event, and what comes of them.

mod case;

use std::path::{Path, PathBuf};

use case::{Outcome, difference, run};
use serde_json::{Value as Json, json};

/// Statement, event, expectation.
fn parse(text: &str) -> (String, Json, Json) {
    let (statement, rest) = text.split_once("\n== event\n").expect("an event");
    let (_title, sql) = statement.split_once('\n').expect("a title and a statement");
    let (event, expect) = rest.split_once("\n== ").expect("an expectation");
    let event = serde_json::from_str(event).expect("the event is JSON");
    let expect = match expect.split_once('\n').unwrap_or((expect, "")) {
        ("rows", rows) => json!({ "rows": serde_json::from_str::<Json>(rows).expect("the rows are JSON") }),
        ("error", phase) => json!({ "error": phase.trim() }),
        ("no match", _) => json!({ "no_match": true }),
        (other, _) => panic!("there is no expectation {other:?}"),
    };
    (sql.to_owned(), event, expect)
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            files(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "case") {
            found.push(path);
        }
    }
}

#[test]
fn every_golden_case_holds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden");
    let mut paths = Vec::new();
    files(&folder, &mut paths);
    paths.sort();
    assert!(paths.len() >= 600, "only {} cases", paths.len());
    let mut wrong = Vec::new();
    for path in &paths {
        let (sql, event, expect) = parse(&std::fs::read_to_string(path).expect("a case"));
        let outcome = run(&sql, &event);
        let phase = |phase| matches!(&outcome, Outcome::Error(found, _) if *found == phase);
        // What is wrong with a statement is said before anything runs.
        let is_late = expect.get("error") == Some(&Json::from("parse")) && !phase("parse");
        let problem = difference(&outcome, &expect).or(is_late.then(|| "it compiles".to_owned()));
        wrong.extend(problem.map(|problem| format!("{}: {sql}\n    {problem}", path.strip_prefix(&folder).expect("inside").display())));
    }
    println!("{} cases", paths.len());
    assert!(wrong.is_empty(), "{} of {} cases are wrong:\n{}", wrong.len(), paths.len(), wrong.join("\n"));
}
