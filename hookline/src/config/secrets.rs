//! Secrets that stand in files of their own, as Kubernetes, systemd and Docker hand them over: `password = "file:///run/secrets/db"`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::Value;

/// What names a file in the place of a secret.
const SCHEME: &str = "file://";
/// The settings that may be in files, by the ends of their names.
const SECRET: [&str; 5] = ["password", "secret", "token", "url", "private_key"];
/// A table whose values may all be in files.
const SECRET_TABLE: &str = "telemetry.headers.";
/// No secret is longer, bytes.
const BYTES_MAX: usize = 64 << 10;

/// The files that secrets came from, with what they said.
#[derive(Debug, Clone, Default)]
pub(crate) struct Secrets(BTreeMap<PathBuf, Digest>);

/// What stands for what a file says: the secret itself need not be kept a second time.
type Digest = u64;

impl Secrets {
    /// Puts what the files say in the place of their names.
    pub(super) fn read(config: &mut Value, errors: &mut Vec<String>) -> Secrets {
        let mut secrets = Secrets::default();
        secrets.fill(config, "", errors);
        secrets
    }

    fn fill(&mut self, value: &mut Value, path: &str, errors: &mut Vec<String>) {
        match value {
            Value::Object(table) => {
                for (name, value) in table {
                    let path = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                    let is_secret = SECRET.iter().any(|end| name.ends_with(end)) || path.starts_with(SECRET_TABLE);
                    match value.as_str().and_then(|text| text.strip_prefix(SCHEME)).filter(|_| is_secret) {
                        Some(file) => {
                            let file = PathBuf::from(file);
                            match said_by(&file) {
                                Ok(secret) => {
                                    self.0.insert(file, digest(&secret));
                                    *value = Value::String(secret);
                                }
                                Err(problem) => errors.push(format!("{path}: {problem}")),
                            }
                        }
                        None => self.fill(value, &path, errors),
                    }
                }
            }
            Value::Array(list) => {
                list.iter_mut().enumerate().for_each(|(place, value)| self.fill(value, &format!("{path}[{place}]"), errors))
            }
            _ => {}
        }
    }

    /// The files.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Path> {
        self.0.keys().map(PathBuf::as_path)
    }

    /// Whether one says something else than when it was looked at last. One that cannot be read has not changed: it may be about to be replaced.
    pub(crate) fn have_changed(&mut self) -> bool {
        let mut changed = false;
        for (file, known) in &mut self.0 {
            if let Ok(said) = said_by(file).map(|secret| digest(&secret))
                && said != *known
            {
                *known = said;
                changed = true;
            }
        }
        changed
    }
}

/// What a file says, without the end of its line.
fn said_by(file: &Path) -> Result<String, String> {
    let text = std::fs::read_to_string(file).map_err(|error| format!("cannot read {}: {error}", file.display()))?;
    let secret = text.trim_end_matches(['\r', '\n']);
    if secret.is_empty() {
        return Err(format!("{} is empty", file.display()));
    }
    if secret.len() > BYTES_MAX {
        return Err(format!("{} is longer than {BYTES_MAX} bytes, which is no secret", file.display()));
    }
    Ok(secret.to_owned())
}

fn digest(secret: &str) -> Digest {
    use std::hash::{BuildHasher, RandomState};
    static STATE: std::sync::LazyLock<RandomState> = std::sync::LazyLock::new(RandomState::new);
    STATE.hash_one(secret)
}
