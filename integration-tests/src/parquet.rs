//! Parquet files, read by pyarrow.

use std::path::Path;
use std::process::Command;

/// The rows of all files of a folder that are complete, the oldest file first.
pub fn rows(folder: &Path) -> Vec<serde_json::Value> {
    let python = std::env::var("HOOKLINE_TEST_PYTHON").unwrap_or_else(|_| "python3".into());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/clients/python/parquet.py");
    let output = Command::new(python).arg(script).arg(folder).output().expect("python runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}
