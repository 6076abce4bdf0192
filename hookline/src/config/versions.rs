//! The file of the configuration and its versions. The file is the truth: what was changed in it by hand becomes a version, too, when that is seen.
//! Versions are kept in the data folder, each as the text that it was and what is known of it.

use std::fs::{self, File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, PermissionsExt};
use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{BUILT_IN_NAME, DEFAULT_FILE, Errors, Sources, check_text};

/// The folder in the data folder. It has the secrets that the file has: nobody else may look.
const FOLDER: &str = "configs";
/// Versions that are kept, the one in force among them.
const VERSIONS_MAX: usize = 50;
/// Who has changed the file where nobody has said it.
const BY_HAND: &str = "by hand";
/// The permissions of a file that only its owner reads.
const PRIVATE: u32 = 0o600;

/// A version of the configuration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Version {
    pub(crate) version: u64,
    pub(crate) changed_at: String,
    pub(crate) changed_by: String,
    pub(crate) summary: String,
}

/// The file, and its versions. Whoever calls it sees to it that nobody else does at the time.
#[derive(Debug, Clone)]
pub(crate) struct Versions {
    file: PathBuf,
    folder: PathBuf,
    sources: Sources,
}

impl Versions {
    /// The versions of the file that the broker was started with; `None`: there was no file.
    pub(crate) fn open(sources: &Sources, origin: &str, data_dir: &Path) -> Option<Versions> {
        if origin == BUILT_IN_NAME {
            return None;
        }
        let file = sources.file.clone().unwrap_or_else(|| DEFAULT_FILE.into());
        // Behind a link, so that the link stays one.
        let file = fs::canonicalize(&file).unwrap_or(file);
        let versions = Versions { file, folder: data_dir.join(FOLDER), sources: sources.clone() };
        versions.remove_halves();
        if let Err(error) = versions.current() {
            tracing::warn!(%error, "the version of the configuration cannot be kept");
        }
        Some(versions)
    }

    /// What stands in the file now. Where that is not what the last version was, it is a new one.
    pub(crate) fn current(&self) -> io::Result<(Version, String)> {
        let text = fs::read_to_string(&self.file)?;
        let last = self.numbers()?.last().map(|last| self.version(*last)).transpose()?;
        if let Some(last) = last.filter(|last| self.text(last.version).is_ok_and(|known| known.as_ref() == Some(&text))) {
            return Ok((last, text));
        }
        let changed = fs::metadata(&self.file)?.modified().ok().and_then(|time| jiff::Timestamp::try_from(time).ok());
        let before = self.numbers()?.last().and_then(|last| self.text(*last).ok().flatten());
        let summary = before.map_or_else(|| "the first that was seen".to_owned(), |before| summary(&before, &text));
        let version = self.keep(&text, changed.unwrap_or_else(jiff::Timestamp::now), BY_HAND, summary)?;
        Ok((version, text))
    }

    /// Everything that is wrong with a text that is to become the configuration.
    pub(crate) fn check(&self, text: &str) -> Result<(), Errors> {
        check_text(text, &self.sources)
    }

    /// Puts a text, which was checked, into the file.
    pub(crate) fn write(&self, text: &str, by: &str, summary: String) -> io::Result<Version> {
        let version = self.keep(text, jiff::Timestamp::now(), by, summary)?;
        let mode = fs::metadata(&self.file).map_or(PRIVATE, |known| known.permissions().mode());
        if let Err(error) = replace(&self.file, text, mode) {
            self.forget(version.version);
            return Err(error);
        }
        Ok(version)
    }

    /// Takes a version back that could not be put in force: `before` is what stood in the file.
    pub(crate) fn take_back(&self, version: u64, before: &str) -> io::Result<()> {
        let mode = fs::metadata(&self.file).map_or(PRIVATE, |known| known.permissions().mode());
        replace(&self.file, before, mode)?;
        self.forget(version);
        Ok(())
    }

    /// All versions that are kept, the newest first.
    pub(crate) fn all(&self) -> io::Result<Vec<Version>> {
        self.numbers()?.into_iter().rev().map(|number| self.version(number)).collect()
    }

    /// A version that is kept.
    pub(crate) fn version(&self, number: u64) -> io::Result<Version> {
        serde_json::from_slice(&fs::read(self.path(number, "json"))?).map_err(io::Error::other)
    }

    /// The text of a version; `None`: it is not kept.
    pub(crate) fn text(&self, number: u64) -> io::Result<Option<String>> {
        match fs::read_to_string(self.path(number, "toml")) {
            Ok(text) => Ok(Some(text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes what an end in the middle of a write has left.
    fn remove_halves(&self) {
        let found = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let is_half = |file: &PathBuf| {
            let is_new = file.file_name().is_some_and(|name| name.to_string_lossy().starts_with('.'));
            is_new || file.extension().is_some_and(|kind| kind == "toml") && !file.with_extension("json").exists()
        };
        for half in found.map(|entry| entry.path()).filter(is_half) {
            if let Err(error) = fs::remove_file(&half) {
                tracing::warn!(%error, file = %half.display(), "the half of a version cannot be removed");
            }
        }
    }

    fn path(&self, number: u64, kind: &str) -> PathBuf {
        self.folder.join(format!("{number}.{kind}"))
    }

    /// The numbers of the versions that are kept, in their order.
    fn numbers(&self) -> io::Result<Vec<u64>> {
        let found = match fs::read_dir(&self.folder) {
            Ok(found) => found,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut numbers = Vec::new();
        for entry in found {
            let name = entry?.file_name();
            numbers.extend(name.to_str().and_then(|name| name.strip_suffix(".json")).and_then(|number| number.parse::<u64>().ok()));
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn keep(&self, text: &str, at: jiff::Timestamp, by: &str, summary: String) -> io::Result<Version> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.folder)?;
        let numbers = self.numbers()?;
        let number = numbers.last().map_or(1, |last| last + 1);
        let version = Version { version: number, changed_at: format!("{at:.3}"), changed_by: by.to_owned(), summary };
        // The text first: a version is there when both are.
        replace(&self.path(number, "toml"), text, PRIVATE)?;
        replace(&self.path(number, "json"), &serde_json::to_string(&version)?, PRIVATE)?;
        let beyond = (numbers.len() + 1).saturating_sub(VERSIONS_MAX);
        numbers.iter().take(beyond).for_each(|old| self.forget(*old));
        Ok(version)
    }

    fn forget(&self, number: u64) {
        for kind in ["json", "toml"] {
            if let Err(error) = fs::remove_file(self.path(number, kind)) {
                tracing::warn!(%error, number, "a version of the configuration cannot be removed");
            }
        }
    }
}

/// Puts a text into a file, as a whole or not at all.
fn replace(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::other("it has no name"))?;
    let new = folder.join(format!(".{}.new", name.to_string_lossy()));
    let write = || {
        let mut file = File::options().write(true).create(true).truncate(true).open(&new)?;
        file.set_permissions(Permissions::from_mode(mode & 0o7777))?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(folder)?.sync_all()
    };
    write().inspect_err(|_| drop(fs::remove_file(&new)))
}

/// Parts that a summary names.
const NAMED_MAX: usize = 10;

/// What one text changes in another, in a few words.
pub(crate) fn summary(before: &str, after: &str) -> String {
    let read = |text: &str| text.parse::<toml::Table>().ok();
    let (Some(before), Some(after)) = (read(before), read(after)) else { return "what is no TOML".into() };
    let mut parts = Vec::new();
    let sections: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for section in sections {
        match (before.get(section), after.get(section)) {
            (Some(toml::Value::Table(before)), Some(toml::Value::Table(after))) => compare(section, before, after, &mut parts),
            (Some(before), Some(after)) if before != after => parts.push(format!("{section} changed")),
            (None, Some(toml::Value::Table(after))) => compare(section, &toml::Table::new(), after, &mut parts),
            (Some(toml::Value::Table(before)), None) => compare(section, before, &toml::Table::new(), &mut parts),
            (None, Some(_)) => parts.push(format!("{section} added")),
            (Some(_), None) => parts.push(format!("{section} removed")),
            _ => {}
        }
    }
    if parts.is_empty() {
        return "form and comments".into();
    }
    let more = parts.len().saturating_sub(NAMED_MAX);
    parts.truncate(NAMED_MAX);
    let more = if more > 0 { format!(", and {more} more") } else { String::new() };
    format!("{}{more}", parts.join(", "))
}

fn compare(section: &str, before: &toml::Table, after: &toml::Table, parts: &mut Vec<String>) {
    let keys: std::collections::BTreeSet<&String> = before.keys().chain(after.keys()).collect();
    for key in keys {
        let what = match (before.get(key), after.get(key)) {
            (None, _) => "added",
            (_, None) => "removed",
            (before, after) if before != after => "changed",
            _ => continue,
        };
        parts.push(format!("{section}.{key} {what}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(folder: &Path) -> Versions {
        let sources = Sources { file: Some(folder.join("t.toml")), ..Sources::default() };
        Versions::open(&sources, "t.toml", &folder.join("data")).expect("there is a file")
    }

    #[test]
    fn versions_are_kept_within_a_bound_and_what_is_changed_by_hand_is_one() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("t.toml");
        fs::write(&file, "a = 1 # one").expect("written");
        fs::set_permissions(&file, Permissions::from_mode(0o640)).expect("set");
        let versions = open(folder.path());
        let version = versions.write("a = 2", "eve", "two".into()).expect("written");
        assert_eq!((version.version, fs::read_to_string(&file).expect("is there").as_str()), (2, "a = 2"));
        assert_eq!(fs::metadata(&file).expect("is there").permissions().mode() & 0o777, 0o640);
        fs::write(&file, "a = 2\n[rules.b]\nsql = 1").expect("written");
        let (current, text) = versions.current().expect("reads");
        assert_eq!((current.version, current.changed_by.as_str(), current.summary.as_str()), (3, BY_HAND, "rules.b added"));
        assert_eq!(versions.current().expect("reads"), (current, text), "once");
        let version = versions.write("a = 4", "eve", "four".into()).expect("written");
        versions.take_back(version.version, "a = 3").expect("taken back");
        assert_eq!(versions.current().expect("reads").0.version, 4, "numbers go on");
        for n in 0..60 {
            versions.write(&format!("a = 1{n}"), "eve", String::new()).expect("written");
        }
        let halves = [".65.toml.new", "3.toml"].map(|name| folder.path().join("data/configs").join(name));
        halves.iter().for_each(|half| fs::write(half, "half").expect("written"));
        let all = open(folder.path()).all().expect("reads");
        assert!(halves.iter().all(|half| !half.exists()) && folder.path().join("data/configs/64.toml").exists());
        assert_eq!((all.len(), all[0].version, all[49].version), (50, 64, 15));
        assert_eq!((versions.text(14).expect("reads"), versions.text(64).expect("reads").as_deref()), (None, Some("a = 159")));
        let secret = fs::metadata(folder.path().join("data/configs/64.toml")).expect("is there").permissions().mode();
        assert_eq!(secret & 0o777, 0o600);
        assert!(
            fs::read_dir(folder.path()).expect("reads").all(|entry| !entry.expect("reads").file_name().to_string_lossy().contains("new"))
        );
    }

    #[test]
    fn a_summary_names_what_has_changed() {
        for (before, after, expect) in [
            ("a = 1", "a = 1 # one", "form and comments"),
            (
                "a = 1\n[rules.x]\ns = 1\n[rules.y]\ns = 1",
                "a = 2\n[rules.x]\ns = 2\n[actions.z]\nt = 1",
                "a changed, actions.z added, rules.x changed, rules.y removed",
            ),
            ("b = [1]", "", "b removed"),
            ("", "[b", "what is no TOML"),
        ] {
            assert_eq!(summary(before, after), expect);
        }
    }
}
