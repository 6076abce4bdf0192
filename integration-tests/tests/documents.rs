//! The examples of the documents are what they say.

use hookline_integration_tests::broker::run;
use hookline_integration_tests::certificates::Certificates;

#[test]
fn every_example_configuration_is_valid() {
    let folder = tempfile::tempdir().expect("a folder");
    let certificates = Certificates::make(folder.path());
    let text = [
        include_str!("../../docs/broker.md"),
        include_str!("../../docs/rules.md"),
        include_str!("../../docs/access.md"),
        include_str!("../../docs/connectors.md"),
        include_str!("../../docs/api.md"),
        include_str!("../../docs/dashboard.md"),
        include_str!("../../docs/persistence.md"),
    ]
    .concat();
    let examples: Vec<&str> = text.split("```toml\n").skip(1).filter_map(|rest| rest.split("```").next()).collect();
    assert!(examples.len() >= 9);
    for example in examples {
        let example = example
            .replace("/etc/hookline/server.pem", &certificates.server.display().to_string())
            .replace("/etc/hookline/server.key", &certificates.server_key.display().to_string())
            .replace("/etc/hookline/ca.pem", &certificates.ca.display().to_string());
        let file = folder.path().join("example.toml");
        std::fs::write(&file, &example).expect("written");
        let (code, _, error) = run(&["check", "--config", file.to_str().expect("a path in UTF-8")]);
        assert_eq!(code, Some(0), "{error}\n{example}");
    }
}

#[test]
fn shells_complete_commands_and_each_has_a_page() {
    let folder = tempfile::tempdir().expect("a folder");
    let (code, script, _) = run(&["completions", "bash"]);
    let file = folder.path().join("hookline.bash");
    std::fs::write(&file, script).expect("written");
    let completes = format!(
        "source {}; COMP_WORDS=(hookline ctl re) COMP_CWORD=2; _hookline hookline re ctl; echo \"${{COMPREPLY[@]}}\"",
        file.display()
    );
    let output = std::process::Command::new("bash").args(["-c", &completes]).output().expect("bash runs");
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(code == Some(0) && words.contains("reload") && words.contains("resume"), "{words}{}", String::from_utf8_lossy(&output.stderr));
    let pages = folder.path().join("man");
    assert_eq!(run(&["man", pages.to_str().expect("UTF-8")]).0, Some(0));
    let page = std::fs::read_to_string(pages.join("hookline-dlq-edit.1")).expect("there is one for each command");
    assert!(page.contains("merge patch"), "{page}");
}
