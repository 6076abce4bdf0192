//! The statements of the manual can be read.

use hookline_rules::Statement;

#[test]
fn every_statement_of_the_manual_compiles() {
    let page = include_str!("../../docs/rules.md");
    let statements: Vec<&str> = page.split("```sql\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(statements.len() >= 5, "only {}", statements.len());
    for sql in statements {
        if let Err(error) = Statement::compile(sql) {
            panic!("{sql}\n{error}");
        }
    }
}

#[test]
fn every_function_stands_in_the_manual() {
    let page = include_str!("../../docs/rules.md");
    let missing: Vec<&str> =
        hookline_rules::function::all().map(|function| function.name).filter(|name| !page.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "{missing:?}");
}
