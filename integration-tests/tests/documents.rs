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
