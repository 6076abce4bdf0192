//! Certificates and permissions of files.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use hookline_core::{CertificateEnd, certificate_ends};
use hookline_schemas::config::{AuthenticatorType, Config};

use super::Finding;
use crate::config::Secrets;

const DAY_SECS: i64 = 86_400;

/// The certificates of the listeners.
pub(super) fn certificates(config: &Config, warn_days: u32) -> Vec<Finding> {
    const CHECK: &str = "certificates";
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| i64::try_from(since.as_secs()).unwrap_or(i64::MAX));
    let encrypted = config.listeners.enabled().filter(|(kind, ..)| kind.is_encrypted());
    let mut findings = Vec::new();
    for (kind, name, listener) in encrypted {
        let path = format!("listeners.{}.{name}", kind.name());
        match certificate_ends(&listener.tls) {
            Err(problem) => findings.push(Finding::problem(
                CHECK,
                format!("{path}.{problem}"),
                "put a certificate and its key there that are valid and belong together; a broker that runs takes them within ten seconds",
            )),
            Ok(ends) => findings.extend(ends.iter().map(|CertificateEnd { file, ends_at_secs }| {
                let days = (ends_at_secs - now).div_euclid(DAY_SECS);
                let message = format!("{path}: {} can be used, and ends in {days} days", file.display());
                if days < 0 {
                    Finding::problem(CHECK, format!("{path}: {} has ended {} days ago", file.display(), -days), "renew it")
                } else if days < i64::from(warn_days) {
                    Finding::warning(CHECK, message, "renew it; a broker that runs takes new files within ten seconds, without a restart")
                } else {
                    Finding::ok(CHECK, message)
                }
            })),
        }
    }
    if findings.is_empty() {
        findings.push(Finding::ok(CHECK, "no listener speaks TLS"));
    }
    findings
}

/// Who may read what is kept, and what is secret.
pub(super) fn permissions(config: &Config, secrets: &Secrets) -> Vec<Finding> {
    const CHECK: &str = "permissions";
    let mut findings = Vec::new();
    let data_dir = &config.node.data_dir;
    if let Ok(metadata) = std::fs::metadata(data_dir) {
        let mode = metadata.permissions().mode();
        let folder = data_dir.display();
        findings.push(if mode & 0o002 != 0 {
            Finding::problem(CHECK, format!("everybody may write into {folder}"), format!("chmod 750 {folder}"))
        } else if mode & 0o005 != 0 {
            let message = format!("everybody on this machine may read {folder}, and the messages in it");
            Finding::warning(CHECK, message, format!("chmod 750 {folder}"))
        } else {
            Finding::ok(CHECK, format!("{folder} is not open to others"))
        });
    }
    for file in secret_files(config, secrets) {
        let name = file.display();
        match std::fs::metadata(&file) {
            Err(error) => {
                findings.push(Finding::problem(CHECK, format!("cannot look at {name}: {error}"), "make it readable for the broker's user"))
            }
            Ok(metadata) if metadata.permissions().mode() & 0o007 != 0 => {
                let message = format!("everybody on this machine may open {name}, which is secret");
                findings.push(Finding::warning(CHECK, message, format!("chmod 640 {name}, and make it the broker's")));
            }
            Ok(_) => match std::fs::File::open(&file) {
                Ok(_) => findings.push(Finding::ok(CHECK, format!("{name} is not open to others"))),
                Err(error) => findings.push(Finding::problem(
                    CHECK,
                    format!("cannot read {name}: {error}"),
                    "make it readable for the broker's user, and run the doctor as that user",
                )),
            },
        }
    }
    findings
}

/// The files with keys, passwords and hashes.
fn secret_files(config: &Config, secrets: &Secrets) -> BTreeSet<PathBuf> {
    let listeners = config.listeners.enabled().filter(|(kind, ..)| kind.is_encrypted());
    let keys = listeners.flat_map(|(.., listener)| {
        std::iter::once(&listener.tls.key).chain(listener.tls.more.iter().map(|files| &files.key)).map(PathBuf::as_path)
    });
    let users = config.authentication.iter().filter(|one| one.kind == AuthenticatorType::File).filter_map(|one| one.path.as_deref());
    let connectors = config.connectors.values().filter_map(|connector| connector.settings.get("tls")?.get("key")?.as_str()).map(Path::new);
    let all = keys.chain(users).chain(connectors).chain(secrets.files());
    all.filter(|file| !file.as_os_str().is_empty()).map(Path::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_folder_that_others_may_read_or_write_is_told() {
        let folder = tempfile::tempdir().expect("a folder");
        let mut config = Config::default();
        config.node.data_dir = folder.path().to_owned();
        for (mode, expect) in [(0o700, Verdict::Ok), (0o750, Verdict::Ok), (0o755, Verdict::Warning), (0o777, Verdict::Problem)] {
            std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(mode)).expect("set");
            assert_eq!(permissions(&config, &Secrets::default())[0].verdict, expect, "{mode:o}");
        }
    }
}
