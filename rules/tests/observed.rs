//! What the broker whose rules move here does, as it was observed: the same comes out here, but for what `docs/rules.md` lists.

mod case;

use case::{difference, run};
use serde_json::Value as Json;

#[test]
fn every_observed_case_gives_the_same() {
    let file: Json = serde_json::from_str(include_str!("observed.json")).expect("JSON");
    let page = include_str!("../../docs/rules.md");
    let mut wrong = Vec::new();
    let mut agreed = 0;
    for case in file["cases"].as_array().expect("cases") {
        let id = case["id"].as_str().expect("an identifier");
        let outcome = run(case["sql"].as_str().expect("a statement"), &case["event"]);
        let accepted = case.get("accept").and_then(Json::as_array).into_iter().flatten();
        let expected: Vec<&Json> = [case.get("expect"), case.get("documented")].into_iter().flatten().chain(accepted).collect();
        let differences: Vec<String> = expected.iter().filter_map(|expect| difference(&outcome, expect)).collect();
        let agrees = differences.len() < expected.len();
        let is_listed = page.contains(&format!("`{id}`"));
        agreed += usize::from(agrees);
        match (agrees, is_listed) {
            (false, false) => wrong.push(format!("{id}: {}\n    {}", case["sql"], differences.join("\n    or "))),
            (true, true) => wrong.push(format!("{id} agrees, and docs/rules.md lists it as another")),
            _ => {}
        }
    }
    println!("{agreed} cases agree");
    assert!(wrong.is_empty(), "{} cases are wrong:\n{}", wrong.len(), wrong.join("\n"));
}
